import type { Normalisation } from "../model/config.ts";
import type { RequestHead } from "./match.ts";

/**
 * What Envoy's connection manager makes of path and host before it looks for a route: PathUtil in
 * source/common/http/path_utility.cc, ConnectionManagerUtility::maybeNormalizePath and maybeNormalizeHost. Every answer
 * here is one that Envoy 1.40 gave.
 */

export type Normalised =
  | { readonly kind: "head"; readonly head: RequestHead }
  /** The client is to ask for this path. */
  | { readonly kind: "moved"; readonly path: string }
  /** 400 */
  | { readonly kind: "refused"; readonly why: string };

export function normalise(head: RequestHead, options: Normalisation): Normalised {
  const end = head.path.indexOf("?");
  const [plain, query] = end < 0 ? [head.path, ""] : [head.path.slice(0, end), head.path.slice(end)];
  const unescaped = options.escapedSlashes === undefined ? plain : withoutEscapedSlashes(plain);
  if (options.escapedSlashes === "reject" && unescaped !== plain)
    return { kind: "refused", why: "its path holds an escaped slash" };
  const canonical = options.path ? canonicalPath(unescaped) : unescaped;
  if (canonical === undefined) return { kind: "refused", why: "its path holds an escaped NUL" };
  const path = (options.mergeSlashes ? mergeSlashes(canonical) : canonical) + query;
  if (options.escapedSlashes === "redirect" && unescaped !== plain) return { kind: "moved", path };
  const authority = plainHost(head.authority, options);
  if (authority === head.authority) return { kind: "head", head: path === head.path ? head : { ...head, path } };
  const headers = head.headers.map(([name, value]) =>
    name.toLowerCase() === "host" ? ([name, authority] as const) : ([name, value] as const),
  );
  return { kind: "head", head: { ...head, path, authority, headers } };
}

const withoutEscapedSlashes = (path: string) => path.replace(/%2f/gi, "/").replace(/%5c/gi, "\\");

/** A single dot or two, as they are or escaped. */
const DOT = /^(?:\.|%2e)$/i;
const DOTS = /^(?:\.|%2e){2}$/i;

/** Parameters behind plain dots: from a slash to a slash, and what stands there is not looked at. */
const PARAMETERS = /(?<=\/\.\.?);[^/]*/g;

/** Without dot segments, what need not be escaped as it is, what must be, escaped. Undefined: it holds a NUL. */
function canonicalPath(path: string): string | undefined {
  const segments = path.replace(PARAMETERS, "").split(/[/\\]/).slice(1);
  const kept: string[] = [];
  for (const [at, segment] of segments.entries()) {
    const [one, two] = [DOT.test(segment), DOTS.test(segment)];
    if (two) kept.pop();
    if (!one && !two && segment.includes("%00")) return undefined;
    if (!one && !two) kept.push(canonicalSegment(segment));
    else if (at === segments.length - 1) kept.push("");
  }
  return `/${kept.join("/")}`;
}

/** Stands for a percent sign that begins no escape; no path holds it. */
const STRAY = "\0";

const canonicalSegment = (segment: string) =>
  segment
    .replace(/%([0-9a-f]{2})?/gi, (escaped, hex: string | undefined) => {
      if (hex === undefined) return STRAY;
      const letter = String.fromCharCode(Number.parseInt(hex, 16));
      return /[A-Za-z0-9\-._~]/.test(letter) ? letter : escaped;
    })
    /* What was unescaped must not make a new escape out of a percent sign that is none. */
    .replaceAll(STRAY, (_, at: number, all: string) => (/^[0-9a-f]{2}/i.test(all.slice(at + 1)) ? "%25" : "%"))
    .replace(/["<>^`{|}]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`);

function mergeSlashes(path: string): string {
  if (!path.includes("//")) return path;
  const merged = path.split("/").filter((segment) => segment !== "");
  return `/${merged.join("/")}${path.endsWith("/") ? "/" : ""}`;
}

function plainHost(authority: string, { dot, port }: Normalisation): string {
  const host = dot ? withoutDot(authority) : authority;
  const colon = portStart(host);
  const written = colon < 0 ? "" : host.slice(colon + 1);
  if (port === undefined || !/^\d+$/.test(written)) return host;
  return port === "any" || Number(written) === port ? host.slice(0, colon) : host;
}

function withoutDot(host: string): string {
  if (host.endsWith(".")) return host.slice(0, -1);
  const colon = portStart(host);
  return colon > 0 && host[colon - 1] === "." ? host.slice(0, colon - 1) + host.slice(colon) : host;
}

/** Of the colon before the port; -1: there is none. */
function portStart(host: string): number {
  const colon = host.lastIndexOf(":");
  return host.lastIndexOf("]") > colon ? -1 : colon;
}
