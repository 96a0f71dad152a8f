import type {
  ForwardAction,
  Fraction,
  HeaderMatch,
  HeaderValueMatch,
  PathMatch,
  QueryMatch,
  RangeMatch,
  RegexMatch,
  Route,
  RouteConfig,
  StringMatch,
  VirtualHost,
  WeightedCluster,
} from "../model/config.ts";
import { ALWAYS_JOINED, joinLines } from "../tables/joined.ts";
import { lowerCase, textBytes } from "../tables/text.ts";
import { compileRegex, type Regex } from "./regex.ts";

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
  /** Its x-forwarded-proto is empty: Envoy finds no route for it. */
  readonly isLost?: true;
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

/** `chance` is the request's random number, whole and not negative, by which fractions and weights decide. */
export function matchRoute(
  routes: RouteConfig,
  request: RequestHead,
  repeated: Repeated = "joined",
  chance = 0,
): Match {
  const virtualHost = matchVirtualHost(routes, request.authority);
  if (virtualHost === undefined) return { none: "no_virtual_host" };
  // A CONNECT request has no path, and only a connect_matcher (not supported) takes such requests.
  if (request.method === "CONNECT" || request.isLost) return { none: "no_route" };
  const path = withoutQuery(request.path);
  const headers = new Headers(request, repeated);
  const routeIndex = virtualHost.routes.findIndex(
    (route) =>
      matchPath(route.path, path) &&
      route.headers.every((header) => matchHeader(header, headers)) &&
      matchQuery(route.query, request.path) &&
      (route.fraction === undefined || isWithin(route.fraction, chance)) &&
      (route.grpc !== true || isGrpc(headers)),
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

/** `chance` as above, or a hash; the clusters of a configuration that was accepted have a weight. */
export function pickCluster(action: ForwardAction, chance: number | bigint): WeightedCluster {
  return pickEntry(action.clusters, chance);
}

/** The entry of a weighted choice that a chance, of any size, falls to. */
export function pickEntry<T extends { readonly weight: number }>(clusters: readonly T[], chance: number | bigint): T {
  return clusters[pickClusterIndex({ clusters }, chance)]!;
}

export function pickClusterIndex(
  { clusters }: { readonly clusters: readonly { readonly weight: number }[] },
  chance: number | bigint,
): number {
  const total = clusters.reduce((sum, cluster) => sum + cluster.weight, 0);
  let left = typeof chance === "bigint" ? Number(chance % BigInt(total)) : chance % total;
  for (const [index, { weight }] of clusters.entries()) {
    if (left < weight) return index;
    left -= weight;
  }
  throw new Error("a route without weights");
}

/** The name of the cluster that an entry leads to; "" where the request does not say. */
export function clusterName(entry: WeightedCluster, request: RequestHead): string {
  if ("name" in entry) return entry.name;
  // Names are text, heads are bytes.
  return Buffer.from(new Headers(request, "each").get(entry.header)?.[0] ?? "", "latin1").toString("utf8");
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

export function matchPath(match: PathMatch, path: string): boolean {
  if (match.kind === "regex") return regexOf(match).matches(path);
  const [have, want] = match.caseSensitive ? [path, match.value] : [lowerCase(path), lowerCase(match.value)];
  switch (match.kind) {
    case "path":
      return have === want;
    case "prefix":
      return have.startsWith(want);
    case "pathSeparatedPrefix":
      return have.startsWith(want) && (have.length === want.length || have[want.length] === "/");
    default:
      return match satisfies never;
  }
}

export function matchHeader({ name, invert, missingIsEmpty, value }: HeaderMatch, headers: HeaderValues): boolean {
  const values = headers.get(name) ?? (missingIsEmpty ? [""] : undefined);
  if (value.kind === "present") return ((values !== undefined) === value.present) !== invert;
  // Whatever asks for a value fails where there is none, inverted or not.
  return values !== undefined && values.some((have) => matchValue(value, have)) !== invert;
}

function matchValue(match: Exclude<HeaderValueMatch, { kind: "present" }>, text: string): boolean {
  return match.kind === "range" ? isInRange(match, text) : matchString(match, text);
}

/** As absl::SimpleAtoi reads a number of 64 bits. */
function isInRange({ start, end }: RangeMatch, text: string): boolean {
  if (!/^[\t-\r ]*[-+]?\d+[\t-\r ]*$/.test(text)) return false;
  const value = BigInt(text.trim().replace(/^\+/, ""));
  return BigInt.asIntN(64, value) === value && value >= start && value < end;
}

function matchString(match: StringMatch, text: string): boolean {
  if (match.kind === "regex") return regexOf(match).matches(text);
  const value = textBytes(match.value);
  const [have, want] = match.ignoreCase ? [lowerCase(text), lowerCase(value)] : [text, value];
  switch (match.kind) {
    case "exact":
      return have === want;
    case "prefix":
      return have.startsWith(want);
    case "suffix":
      return have.endsWith(want);
    case "contains":
      return have.includes(want);
    default:
      return match satisfies never;
  }
}

/** The values that a rule about a header sees; `name` is lower case. */
export interface HeaderValues {
  get(name: string): readonly string[] | undefined;
}

const regexes = new WeakMap<RegexMatch, Regex>();

/** Compiled once for each place in a configuration. */
function regexOf(match: RegexMatch): Regex {
  let regex = regexes.get(match);
  if (regex === undefined) {
    regex = compileRegex(match.pattern);
    regexes.set(match, regex);
  }
  return regex;
}

export function matchQuery(matches: readonly QueryMatch[] | undefined, path: string): boolean {
  if (matches === undefined || matches.length === 0) return true;
  const parameters = queryParameters(path);
  return matches.every(({ name, value }) => {
    const have = parameters.get(name);
    if (value.kind === "present") return (have !== undefined) === value.present;
    return have !== undefined && matchString(value, have);
  });
}

/** As they are written, nothing decoded; of several of one name the first. */
export function queryParameters(path: string): Map<string, string> {
  const parameters = new Map<string, string>();
  const start = path.indexOf("?");
  for (const parameter of start === -1 ? [] : path.slice(start + 1).split("&")) {
    const equals = parameter.indexOf("=");
    const name = equals === -1 ? parameter : parameter.slice(0, equals);
    if (!parameters.has(name)) parameters.set(name, equals === -1 ? "" : parameter.slice(equals + 1));
  }
  return parameters;
}

const isWithin = ({ share, outOf }: Fraction, chance: number) => chance % outOf < share;

export const isGrpc = (headers: HeaderValues) =>
  /^application\/grpc(?:$|\+)/.test(headers.get("content-type")?.[0] ?? "");

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
    else if (ALWAYS_JOINED.has(name)) values[0] = joinLines(values[0]!, value);
    else if (repeated === "each") values.push(value);
    else values[0] += `,${value}`;
  }
  return byName;
}
