import type {
  HeaderMatch,
  PathMatch,
  Route,
  RouteAction,
  RouteConfig,
  StringMatch,
  VirtualHost,
} from "../model/config.ts";

/**
 * The meaning of routing rules, as Envoy gives it (source/common/router/config_impl.cc). The slow path runs this; the
 * kernel's tables and programs must agree with it.
 */

export interface RequestHead {
  readonly method: string;
  /** The Host header, or the authority of an absolute request target. */
  readonly authority: string;
  /** With query; for CONNECT it is not looked at. */
  readonly path: string;
  /** In the order of arrival; names in any case. */
  readonly headers: HeaderList;
  /** Missing: http, as all that reaches a listener. */
  readonly scheme?: "http" | "https";
}

export type HeaderList = readonly (readonly [name: string, value: string])[];

export type RouteMatched = { readonly virtualHost: VirtualHost; readonly route: Route; readonly routeIndex: number };
export type Match = RouteMatched | { readonly none: "no_virtual_host" | "no_route" };

/**
 * What a rule sees of a header that a request carries several times: all values as one, joined by commas, as Envoy had
 * it for years; or each by itself, any of which may match, as Envoy 1.40 does unless its runtime feature
 * `match_headers_individually` is off.
 */
export type Repeated = "joined" | "each";

export function matchRoute(routes: RouteConfig, request: RequestHead, repeated: Repeated = "joined"): Match {
  const virtualHost = matchVirtualHost(routes, request.authority);
  if (virtualHost === undefined) return { none: "no_virtual_host" };
  // A CONNECT request has no path, and only a connect_matcher (not supported) takes such requests.
  if (request.method === "CONNECT") return { none: "no_route" };
  const path = withoutQuery(request.path);
  const headers = new Headers(request, repeated);
  const routeIndex = virtualHost.routes.findIndex(
    (route) => matchPath(route.path, path) && route.headers.every((header) => matchHeader(header, headers)),
  );
  return routeIndex === -1 ? { none: "no_route" } : { virtualHost, route: virtualHost.routes[routeIndex]!, routeIndex };
}

/** Exact names first, then the longest `*suffix`, then the longest `prefix*`, then `*`. */
export function matchVirtualHost(routes: RouteConfig, authority: string): VirtualHost | undefined {
  const hosts = indexRoutes(routes);
  const host = lowerCase(routes.ignorePortInHostMatching ? withoutPort(authority) : authority);
  return (
    hosts.exact.get(host) ??
    longest(hosts.suffixes, host, (length) => host.slice(-length)) ??
    longest(hosts.prefixes, host, (length) => host.slice(0, length)) ??
    hosts.fallback
  );
}

/** `ticket` is a random whole number, not negative; `clusters` of a configuration that was accepted have a weight. */
export function pickCluster(action: RouteAction, ticket: number): string {
  return action.clusters[pickClusterIndex(action, ticket)]!.name;
}

export function pickClusterIndex({ clusters }: RouteAction, ticket: number): number {
  let left = ticket % clusters.reduce((sum, cluster) => sum + cluster.weight, 0);
  for (const [index, { weight }] of clusters.entries()) {
    if (left < weight) return index;
    left -= weight;
  }
  throw new Error("a route without weights");
}

/** The virtual hosts of a route configuration by what their domains are. */
export interface HostIndex {
  readonly exact: ReadonlyMap<string, VirtualHost>;
  readonly suffixes: Wildcards;
  readonly prefixes: Wildcards;
  /** Of the domain `*`. */
  readonly fallback: VirtualHost | undefined;
}

/** The text beside the star, by its length, the longest first. */
type Wildcards = readonly (readonly [length: number, byText: ReadonlyMap<string, VirtualHost>])[];

const indexes = new WeakMap<RouteConfig, HostIndex>();

/** Made once for a route configuration; what it costs afterwards does not grow with the number of virtual hosts. */
export function indexRoutes(routes: RouteConfig): HostIndex {
  let index = indexes.get(routes);
  if (index === undefined) {
    index = makeIndex(routes);
    indexes.set(routes, index);
  }
  return index;
}

function makeIndex(routes: RouteConfig): HostIndex {
  const exact = new Map<string, VirtualHost>();
  const suffixes = new Map<number, Map<string, VirtualHost>>();
  const prefixes = new Map<number, Map<string, VirtualHost>>();
  let fallback: VirtualHost | undefined;
  for (const host of routes.virtualHosts) {
    for (const domain of host.domains) {
      if (domain === "*") fallback = host;
      else if (domain.startsWith("*")) add(suffixes, domain.slice(1), host);
      else if (domain.endsWith("*")) add(prefixes, domain.slice(0, -1), host);
      else exact.set(domain, host);
    }
  }
  return { exact, suffixes: longestFirst(suffixes), prefixes: longestFirst(prefixes), fallback };
}

function add(wildcards: Map<number, Map<string, VirtualHost>>, text: string, host: VirtualHost): void {
  const sameLength = wildcards.get(text.length) ?? new Map<string, VirtualHost>();
  wildcards.set(text.length, sameLength.set(text, host));
}

const longestFirst = (wildcards: Map<number, Map<string, VirtualHost>>): Wildcards =>
  [...wildcards].sort(([a], [b]) => b - a);

function longest(wildcards: Wildcards, host: string, part: (length: number) => string): VirtualHost | undefined {
  for (const [length, byText] of wildcards) {
    // The star stands for one character at least: *.foo.com does not match .foo.com.
    const found = length < host.length ? byText.get(part(length)) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Envoy's HeaderUtility::getPortStart: what follows the last colon goes, whatever it is, unless brackets hold it. */
function withoutPort(authority: string): string {
  const colon = authority.lastIndexOf(":");
  return colon === -1 || authority.lastIndexOf("]") > colon ? authority : authority.slice(0, colon);
}

export function withoutQuery(path: string): string {
  const end = path.search(/[?#]/);
  return end === -1 ? path : path.slice(0, end);
}

export function matchPath({ kind, value, caseSensitive }: PathMatch, path: string): boolean {
  const [have, want] = caseSensitive ? [path, value] : [lowerCase(path), lowerCase(value)];
  switch (kind) {
    case "path":
      return have === want;
    case "prefix":
      return have.startsWith(want);
    case "pathSeparatedPrefix":
      return have.startsWith(want) && (have.length === want.length || have[want.length] === "/");
    default:
      return kind satisfies never;
  }
}

export function matchHeader({ name, invert, value }: HeaderMatch, headers: HeaderValues): boolean {
  const values = headers.get(name);
  if (value.kind === "present") return ((values !== undefined) === value.present) !== invert;
  // Whatever asks for a value fails where there is none, inverted or not.
  return values !== undefined && values.some((have) => matchString(value, have)) !== invert;
}

function matchString({ kind, value, ignoreCase }: StringMatch, text: string): boolean {
  const [have, want] = ignoreCase ? [lowerCase(text), lowerCase(value)] : [text, value];
  switch (kind) {
    case "exact":
      return have === want;
    case "prefix":
      return have.startsWith(want);
    case "suffix":
      return have.endsWith(want);
    case "contains":
      return have.includes(want);
    default:
      return kind satisfies never;
  }
}

/** The values that a rule about a header sees; `name` is lower case. */
export interface HeaderValues {
  get(name: string): readonly string[] | undefined;
}

/** A request's headers by name. */
export class Headers implements HeaderValues {
  readonly #request: RequestHead;
  readonly #repeated: Repeated;
  #byName: Map<string, string[]> | undefined;

  constructor(request: RequestHead, repeated: Repeated = "joined") {
    this.#request = request;
    this.#repeated = repeated;
  }

  get(name: string): readonly string[] | undefined {
    switch (name) {
      case ":method":
        return [this.#request.method];
      case ":path":
        return [this.#request.path];
      case ":scheme":
        return [this.#request.scheme ?? "http"];
      case ":authority":
      case "host":
        return [this.#request.authority];
      default:
        this.#byName ??= headersByName(this.#request.headers, this.#repeated);
        return this.#byName.get(name);
    }
  }
}

export function headersByName(headers: HeaderList, repeated: Repeated): Map<string, string[]> {
  const byName = new Map<string, string[]>();
  for (const [written, value] of headers) {
    const name = lowerCase(written);
    const values = byName.get(name);
    if (values === undefined) byName.set(name, [value]);
    else if (repeated === "each" && !ALWAYS_JOINED.has(name)) values.push(value);
    else values[0] += `,${value}`;
  }
  return byName;
}

/** Headers of which Envoy keeps one line only: its inline headers, as Envoy 1.40 showed them, but those it rewrites. */
const ALWAYS_JOINED: ReadonlySet<string> = new Set([
  "accept",
  "accept-encoding",
  "access-control-request-headers",
  "access-control-request-method",
  "access-control-request-private-network",
  "authorization",
  "cache-control",
  "content-encoding",
  "content-type",
  "grpc-accept-encoding",
  "grpc-timeout",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-range",
  "if-unmodified-since",
  "origin",
  "pragma",
  "proxy-status",
  "referer",
  "user-agent",
  "via",
  "x-client-trace-id",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-port",
]);

/** As Envoy does it: ASCII letters only. */
function lowerCase(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}
