import type { DirectResponse, PathMatch, PathRewrite, RedirectAction, RegexRewrite } from "../model/config.ts";
import { hasLocation } from "../tables/status.ts";
import { textBytes } from "../tables/text.ts";
import { Headers, type RequestHead, withoutQuery } from "./match.ts";
import { compileRewrite, type Rewrite } from "./regex.ts";

/** New paths and locations out of old ones, as in Envoy's config_impl.cc and Utility::newUri. */

/** Undefined where nothing is left of the path. */
export function rewritePath(rewrite: PathRewrite, match: PathMatch, path: string): string | undefined {
  const plain = withoutQuery(path);
  switch (rewrite.kind) {
    case "prefix": {
      const matched = match.kind === "regex" ? plain.length : textBytes(match.value).length;
      return textBytes(rewrite.value) + path.slice(matched);
    }
    case "regex": {
      const replaced = replaceAll(rewrite, plain);
      return replaced === "" ? undefined : replaced + path.slice(plain.length);
    }
    default:
      return rewrite satisfies never;
  }
}

const rewrites = new WeakMap<RegexRewrite, Rewrite>();

/** The text with every match replaced. */
export const replaceAll = (rewrite: RegexRewrite, text: string): string => compiled(rewrite).replaceAll(text);

/** Once for each place in a configuration. */
function compiled(rewrite: RegexRewrite): Rewrite {
  let found = rewrites.get(rewrite);
  if (found === undefined) {
    found = compileRewrite(rewrite.pattern, rewrite.substitution);
    rewrites.set(rewrite, found);
  }
  return found;
}

/**
 * Where a redirect sends a request whose path was rewritten already; without an action, where the request is. What is
 * not said stays as it is.
 */
export function locationOf(action: Partial<RedirectAction>, head: RequestHead): string {
  const old = new Headers(head).get(":scheme")?.[0] ?? "http";
  const scheme = action.scheme ?? old;
  const port = action.port === undefined ? "" : `:${action.port}`;
  // It goes where there is a new one, or where it was the old scheme's own and that is another now.
  const isObsolete = (written: string) => port !== "" || (scheme !== old && written === OWN_PORTS[old]);
  const host = action.host === undefined ? withoutPort(head.authority, isObsolete) : textBytes(action.host);
  return `${scheme}://${host}${port}${redirectedPath(action, head.path)}`;
}

/** What is answered in place of an endpoint. */
export interface Answer {
  readonly status: number;
  readonly fields: readonly (readonly [name: string, value: string])[];
  /** A character for each byte. */
  readonly body: string;
}

export function answerOf(action: RedirectAction | DirectResponse, head: RequestHead): Answer {
  const { status } = action;
  const location = locationOf(action.kind === "redirect" ? action : {}, head);
  return {
    status,
    fields: hasLocation(status) ? [["location", location]] : [],
    body: action.kind === "redirect" ? "" : action.body,
  };
}

const OWN_PORTS: { readonly [scheme: string]: string } = { http: ":80", https: ":443" };

function withoutPort(authority: string, isObsolete: (port: string) => boolean): string {
  const colon = authority.startsWith("[") ? authority.lastIndexOf("]:") + 1 : authority.lastIndexOf(":");
  return colon > 0 && isObsolete(authority.slice(colon)) ? authority.slice(0, colon) : authority;
}

function redirectedPath({ path: rewrite, stripQuery }: Partial<RedirectAction>, old: string): string {
  const whole = rewrite?.kind === "whole" ? textBytes(rewrite.value) : undefined;
  // A query that the configuration wrote displaces the request's, and is not stripped.
  if (whole?.includes("?")) return absolute(whole);
  const query = old.includes("?") ? old.slice(old.indexOf("?")) : "";
  const path = absolute(whole === undefined ? old : whole + query);
  return stripQuery ? path.replace(/\?.*/, "") : path;
}

const absolute = (path: string) => (path.startsWith("/") ? path : `/${path}`);
