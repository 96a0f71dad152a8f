import type {
  Address,
  Edited,
  FormatPart,
  ForwardAction,
  HeaderAddition,
  HeaderEdits,
  HostRewrite,
  PathMatch,
  RouteConfig,
  WeightedCluster,
} from "../model/config.ts";
import { addressText } from "../tables/address.ts";
import { JOINED_IN_REQUESTS, JOINED_IN_RESPONSES, joinLines } from "../tables/joined.ts";
import { lowerCase, textBytes } from "../tables/text.ts";
import { Headers, type RequestHead, type RouteMatched, withoutQuery } from "./match.ts";
import { replaceAll, rewritePath } from "./rewrite.ts";

/**
 * How heads change on their way, as in Envoy: finalizeRequestHeaders and finalizeResponseHeaders in
 * source/common/router/config_impl.cc, evaluateHeaders in header_parser.cc.
 */

export type Field = readonly [name: string, value: string];

/** What of a request, beside its head, a header's value may speak of. */
export interface Occasion {
  /** Missing: it is not known any more. */
  readonly client: Address | undefined;
  /** What the client connected to; missing as above. */
  readonly local?: Address | undefined;
  readonly protocol: "HTTP/1.0" | "HTTP/1.1";
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  readonly hostname: string;
}

/** Of one request that a route has matched. */
export class Editor {
  readonly #routes: RouteConfig;
  readonly #matched: RouteMatched;
  readonly #entry: WeightedCluster | undefined;
  readonly #occasion: Occasion;

  /** `entry` is the one that the request goes to, if it goes anywhere. */
  constructor(routes: RouteConfig, matched: RouteMatched, entry: WeightedCluster | undefined, occasion: Occasion) {
    this.#routes = routes;
    this.#matched = matched;
    this.#entry = entry;
    this.#occasion = occasion;
  }

  /** The head that the endpoint gets, or that a redirect starts from. */
  request(head: RequestHead): RequestHead {
    const { action, path } = this.#matched.route;
    const tells = this.#routes.suppressesOwn !== true;
    switch (action.kind) {
      case "direct":
        return head;
      case "redirect":
        if (action.path === undefined || action.path.kind === "whole") return head;
        return { ...head, path: rewritePath(action.path, path, head.path) ?? head.path };
      case "forward":
        return withNewPath(action, path, withNewHost(action, this.#withEditedHeaders(head), tells), tells);
      default:
        return action satisfies never;
    }
  }

  /**
   * The head as it goes to an endpoint of that name, at a connection that is there. `head` is as it went to the
   * endpoint before, if that was not content with it: Envoy puts a new name in the place of the last one.
   */
  atEndpoint(head: RequestHead, hostname: string): RequestHead {
    const { action } = this.#matched.route;
    if (action.kind !== "forward" || action.host?.kind !== "endpoint") return head;
    return withHost(action, textBytes(hostname), head, this.#routes.suppressesOwn !== true);
  }

  #withEditedHeaders(head: RequestHead): RequestHead {
    const entry = this.#entry;
    return this.#levels().reduce((before, level) => {
      const edited = editRequest(level.requestEdits, before, this.#occasion);
      const host = level === entry ? entry?.host : undefined;
      return host === undefined ? edited : withAuthority(edited, textBytes(host));
    }, head);
  }

  /** The fields that the client gets; `request` is the head as it was when it went on, or was answered. */
  response(fields: readonly Field[], request: RequestHead): readonly Field[] {
    let edited = fields;
    for (const { responseEdits } of this.#levels()) {
      edited = applyEdits(responseEdits, edited, JOINED_IN_RESPONSES, (parts) =>
        format(parts, new Headers(request, "each"), this.#occasion),
      );
    }
    return edited;
  }

  /** In the order in which they edit. */
  #levels(): readonly Edited[] {
    const { route, virtualHost } = this.#matched;
    const others = [route, virtualHost, this.#routes];
    if (this.#routes.mostSpecificWins) others.reverse();
    return this.#entry === undefined ? others : [this.#entry, ...others];
  }
}

function withNewHost(action: ForwardAction, head: RequestHead, tells: boolean): RequestHead {
  return action.host === undefined ? head : withHost(action, newHost(action.host, head), head, tells);
}

/** Empty where there is none. */
function newHost(host: HostRewrite, head: RequestHead): string {
  switch (host.kind) {
    case "literal":
      return textBytes(host.value);
    case "header":
      return new Headers(head, "each").get(host.name)?.[0] ?? "";
    case "path":
      return replaceAll(host.rewrite, withoutQuery(head.path));
    case "endpoint":
      /* Nobody knows yet which one: see atEndpoint. */
      return "";
    default:
      return host satisfies never;
  }
}

function withHost(action: ForwardAction, host: string, head: RequestHead, tells: boolean): RequestHead {
  if (host === "") return head;
  const kept = action.keepsForwardedHost ? withForwardedHost(head) : head;
  return withAuthority(tells ? withSet(kept, ORIGINAL_HOST, head.authority) : kept, host);
}

/** What Envoy keeps of what it rewrites, where its router is to tell. */
const ORIGINAL_HOST = "x-envoy-original-host";
const ORIGINAL_PATH = "x-envoy-original-path";

function withNewPath(
  { path: rewrite }: ForwardAction,
  match: PathMatch,
  head: RequestHead,
  tells: boolean,
): RequestHead {
  if (rewrite === undefined) return head;
  // Where nothing would be left, Envoy rewrites nothing.
  const path = rewritePath(rewrite, match, head.path);
  if (path === undefined) return head;
  return { ...(tells ? withSet(head, ORIGINAL_PATH, head.path) : head), path };
}

function editRequest(edits: HeaderEdits | undefined, head: RequestHead, occasion: Occasion): RequestHead {
  const headers = applyEdits(edits, head.headers, JOINED_IN_REQUESTS, (parts, now) =>
    format(parts, new Headers({ ...head, headers: now }, "each"), occasion),
  );
  return headers === head.headers ? head : { ...head, headers };
}

/** All values are made out of what is there after the removals, before the first is set. */
function applyEdits(
  edits: HeaderEdits | undefined,
  fields: readonly Field[],
  joined: ReadonlySet<string>,
  make: (parts: readonly FormatPart[], now: readonly Field[]) => string,
): readonly Field[] {
  if (edits === undefined) return fields;
  const kept = edits.remove.reduce(without, fields);
  const names = new Set(kept.map(([name]) => lowerCase(name)));
  const made = edits.add
    .map(({ name, value, action, keepEmpty }) => ({ name, action, keepEmpty, value: make(value, kept) }))
    .filter(({ name, value, action, keepEmpty }) => (value !== "" || keepEmpty) && concerns(action, names.has(name)));
  const overwrites = made.filter(({ action }) => action === "overwrite" || action === "overwriteIfExists");
  const additions = made.filter((one) => !overwrites.includes(one));
  const overwritten = overwrites.reduce(
    (now, { name, value }): readonly Field[] => [...without(now, name), [name, value]],
    kept,
  );
  return additions.reduce((now, { name, value }) => withAdded(now, name, value, joined), overwritten);
}

function concerns(action: HeaderAddition["action"], isThere: boolean): boolean {
  switch (action) {
    case "append":
    case "overwrite":
      return true;
    case "addIfAbsent":
      return !isThere;
    case "overwriteIfExists":
      return isThere;
    default:
      return action satisfies never;
  }
}

function without(fields: readonly Field[], name: string): readonly Field[] {
  return fields.filter(([other]) => lowerCase(other) !== name);
}

/** A header of which Envoy keeps one line only gets its new value there, behind a comma. */
function withAdded(
  fields: readonly Field[],
  name: string,
  value: string,
  joined: ReadonlySet<string>,
): readonly Field[] {
  const at = joined.has(name) ? fields.findLastIndex(([other]) => lowerCase(other) === name) : -1;
  if (at === -1) return [...fields, [name, value]];
  const [written, before] = fields[at]!;
  return fields.with(at, [written, joinLines(before, value)]);
}

function withSet(head: RequestHead, name: string, value: string): RequestHead {
  return { ...head, headers: [...without(head.headers, name), [name, value]] };
}

function withAuthority(head: RequestHead, authority: string): RequestHead {
  const headers = head.headers.map(([name, value]): Field => [name, lowerCase(name) === "host" ? authority : value]);
  return { ...head, authority, headers };
}

const FORWARDED_HOST = "x-forwarded-host";

/** The host before the rewrite goes behind those that are there already, unless it is the last of them. */
function withForwardedHost(head: RequestHead): RequestHead {
  const before = new Headers(head, "each").get(FORWARDED_HOST)?.[0] ?? "";
  const last = before.split(",").findLast((host) => host !== "");
  if (before !== "" && (last === undefined || last === head.authority)) return head;
  const value = before === "" ? head.authority : `${before},${head.authority}`;
  return withSet(head, FORWARDED_HOST, value);
}

function format(parts: readonly FormatPart[], headers: Headers, occasion: Occasion): string {
  return parts.map((part) => formatPart(part, headers, occasion)).join("");
}

function formatPart(part: FormatPart, headers: Headers, { client, protocol, startedMs, hostname }: Occasion): string {
  switch (part.kind) {
    case "text":
      return textBytes(part.text);
    case "request": {
      const found = headers.get(part.name) ?? (part.otherwise === undefined ? undefined : headers.get(part.otherwise));
      return (found?.[0] ?? "").slice(0, part.limit);
    }
    case "clientAddress":
      return client === undefined ? "" : addressText(client);
    case "clientIp":
      return client?.ip ?? "";
    case "protocol":
      return protocol;
    case "startTime":
      return new Date(startedMs).toISOString();
    case "hostname":
      return textBytes(hostname);
    default:
      return part satisfies never;
  }
}
