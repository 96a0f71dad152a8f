import { compile, whyOwn } from "../compile/compile.ts";
import { askedHeaders } from "../compile/facts.ts";
import { hashingClusters, withoutIdlePolicies } from "../compile/hash.ts";
import { allChains } from "../model/chains.ts";
import type {
  Cluster,
  Config,
  Endpoint,
  ForwardAction,
  HeaderMatch,
  HeaderValueMatch,
  Health,
  HttpChain,
  Listener,
  PathMatch,
  PlainPolicy,
  PresentMatch,
  QueryMatch,
  Route,
  TcpChain,
  VirtualHost,
} from "../model/config.ts";
import { isHashing } from "../model/hash-table.ts";
import { type Metadata, valueText } from "../model/metadata.ts";
import { chooseChain, entranceOf, inspectedOf, plainConnection, protocolsOfHttp } from "../route/chain.ts";
import { clusterChance } from "../route/hash-policy.ts";
import {
  clusterName,
  Headers,
  type HeaderValues,
  isGrpc,
  matchHeader,
  matchPath,
  matchQuery,
  matchVirtualHost,
  pickClusterIndex,
  type RequestHead,
  withoutQuery,
} from "../route/match.ts";
import { decide } from "../route/outcome.ts";
import { type Ends, receive } from "../route/own-headers.ts";
import { type Part, partsOf } from "../route/parts.ts";
import { goesByDeadlines } from "../route/pick.ts";
import { subsetsOf } from "../route/subset.ts";
import { allowsUpgrade } from "../route/upgrade.ts";
import { type Admitted, admit } from "../slowpath/admit.ts";
import { type Field, HeadScanner, hostOf, Malformed } from "../slowpath/http1.ts";
import { addressText } from "../tables/address.ts";
import type { Tables } from "../tables/compiled.ts";
import { XLB_MAX_PATH } from "../tables/layout.gen.ts";
import { kernelBalancing } from "./balancing.ts";
import { type Declined, declined, declineHead } from "./declined.ts";
import { type BalancingWords, explainHash, type Hashed } from "./explain-hash.ts";

/** What would become of one request, and why; as it stands it is what `xlb explain --json` prints. */
export interface Explanation {
  readonly listener: { readonly name: string; readonly address: string };
  /** Which filter chain the connection takes, where there are several. */
  readonly filterChain?: string;
  readonly virtualHost?: { readonly name: string; readonly domain: string };
  /** The routes before the one that matched, or all of them. */
  readonly passedOver: readonly { readonly route: string; readonly why: string }[];
  readonly route?: { readonly name: string; readonly matches: string };
  /** As the server gets it, where rules rewrite it. */
  readonly sentOn?: { readonly authority: string; readonly path: string };
  readonly clusters: readonly ClusterPart[];
  /** What XLB answers by itself. */
  readonly answer?: { readonly status: number; readonly why: string; readonly mend?: string };
  readonly servedBy: {
    readonly path: "kernel path" | "slow path" | "direct connection" | "no part of XLB" | "nobody";
    readonly declined?: Declined;
  };
}

/** One of the clusters that a route leads to. */
export interface ClusterPart {
  readonly name: string;
  /** Of the route's requests. */
  readonly percent: number;
  readonly policy?: string;
  /** Which of its endpoints are asked, where it has subsets. */
  readonly subset?: string;
  readonly note?: string;
  readonly endpoints: readonly EndpointPart[];
  /** What is answered for want of an endpoint. */
  readonly answer?: { readonly status: number; readonly why: string; readonly mend: string };
  readonly declined?: Declined;
}

export interface EndpointPart {
  readonly address: string;
  readonly health: Health;
  readonly weight: number;
  /** Of the cluster's requests; missing where it depends on the requests in service. */
  readonly percent?: number;
}

export interface AskedRequest {
  readonly method: string;
  readonly target: string;
  readonly version: string;
  readonly headers: readonly Field[];
}

/** `[METHOD] URL-or-target [VERSION]`, and lines `name: value`, as curl takes them. */
export function readQuestion(request: string, lines: readonly string[]): AskedRequest | { readonly problem: string } {
  const headers = lines.map(readHeaderLine);
  for (const header of headers) if ("problem" in header) return header;
  const words = request.trim().split(/\s+/);
  const [method, written, version = "HTTP/1.1", ...more] = words.length === 1 ? ["GET", ...words] : words;
  if (method === undefined || !written || more.length > 0 || /[:/]/.test(method))
    return { problem: `${JSON.stringify(request)} is no request: write it as 'GET http://host/path'` };
  if (/^https:/i.test(written)) return { problem: `${written}: XLB takes no TLS: write http://` };
  const [, authority, rest] = /^http:\/\/([^/?#]+)([^#]*)/i.exec(written) ?? [];
  const named = headers.filter((header): header is Field => !("problem" in header));
  const hasHost = named.some(([name]) => name.toLowerCase() === "host");
  if (authority === undefined && !hasHost && written.startsWith("/"))
    return { problem: `${written} has no host: write http://host${written}, or add -H 'Host: host'` };
  const target = authority === undefined ? written : rest!.startsWith("/") ? rest! : `/${rest}`;
  const host: Field[] = authority === undefined || hasHost ? [] : [["Host", authority]];
  return { method, target, version, headers: [...host, ...named] };
}

function readHeaderLine(line: string): Field | { readonly problem: string } {
  const [, name, value] = /^([^:\s]+):[ \t]*([^\r\n]*)$/.exec(line) ?? [];
  return name === undefined ? { problem: `${JSON.stringify(line)} is no header: write 'name: value'` } : [name, value!];
}

/** Pure: nothing of what runs is asked. What pools and connections are at may still send a request to the slow path. */
export function explainRequest(config: Config, listener: Listener, asked: AskedRequest): Explanation {
  const head = Buffer.from(headText(asked));
  const tables = compile(config, () => ({ lists: [] }), undefined, entranceOf);
  const { chain, ...where } = enter(listener);
  if (chain === undefined) return { ...where, passedOver: [], clusters: [], servedBy: CLOSED };
  if (chain.kind === "tcp") return { ...where, ...explainTcp(config, listener, chain, tables) };
  const { own } = chain.http;
  const byHead = own ? declined("ownHeaders", whyOwn(own)) : declineHead(head, askedNames(config, chain, tables));
  const slowPath = (otherwise: Declined) => ({ path: "slow path" as const, declined: byHead ?? otherwise });

  const admission = read(head, chain);
  if ("status" in admission) {
    const servedBy = slowPath(declined("badRequest", "the slow path refuses it"));
    return { ...where, passedOver: [], clusters: [], answer: admission, servedBy };
  }
  const { request, upgrade } = admission;
  const { head: admitted } = receive(own, chain.routes.internalOnly ?? [], admission.routed, NOBODY);
  if (admitted.isLost) {
    const answer = { status: 404, why: "its x-forwarded-proto is empty, and Envoy finds no route then" };
    return { ...where, passedOver: [], clusters: [], answer, servedBy: slowPath(declined("noRoute", answer.why)) };
  }
  const { routes } = chain;
  const virtualHost = matchVirtualHost(routes, admitted.authority);
  if (virtualHost === undefined) {
    const answer = noVirtualHost(chain, admitted.authority);
    const servedBy = slowPath(declined("noVirtualHost", answer.why));
    return { ...where, passedOver: [], clusters: [], answer, servedBy };
  }
  const path = withoutQuery(admitted.path);
  const byPath =
    path.length > XLB_MAX_PATH ? declined("headTooLarge", `its path is over ${XLB_MAX_PATH} bytes`) : undefined;
  const outcome = decide(routes, { request: admitted, responseHeaders: [], ticket: 0, repeated: "each" });
  const place = "none" in outcome ? virtualHost.routes.length : outcome.routeIndex;
  const values = new Headers(admitted, "each");
  const isPlain = request.target === admitted.path && hostOf(request) === admitted.authority;
  const byRules =
    declinedAtEntrance(listener, tables) ??
    (isPlain ? undefined : declined("route", "its path or host is rewritten before a route is looked for")) ??
    declineByRules(tables, listener, virtualHost, place, admitted.path, values);
  const found = {
    ...where,
    virtualHost: { name: virtualHost.name, domain: domainOf(chain, virtualHost, admitted.authority) },
    passedOver: virtualHost.routes.slice(0, place).map((route) => ({
      route: route.name,
      why: whyPassedOver(route, admitted.path, values),
    })),
  };
  if ("none" in outcome) {
    const why = `no route of virtual host ${virtualHost.name} matches`;
    const answer = { status: 404, why, mend: "add a route to it" };
    return { ...found, clusters: [], answer, servedBy: slowPath(byRules ?? byPath ?? declined("noRoute", why)) };
  }
  const route = { name: outcome.route.name, matches: describeMatch(outcome.route) };
  if (upgrade !== undefined && !allowsUpgrade(chain, outcome.route.action, upgrade)) {
    const why = `upgrades to ${upgrade} are not enabled`;
    const answer = { status: 403, why, mend: "name it in upgrade_configs" };
    return { ...found, route, clusters: [], answer, servedBy: slowPath(declined("upgrade", why)) };
  }
  switch (outcome.kind) {
    case "answer": {
      const moved = outcome.status >= 300 && outcome.status < 400;
      const answer = { status: outcome.status, why: moved ? `it moved to ${outcome.location}` : "the route says so" };
      const refused = byHead ?? byRules ?? byPath ?? declineToAnswer(values);
      const servedBy = refused === undefined ? { path: "kernel path" as const } : slowPath(refused);
      return { ...found, route, clusters: [], answer, servedBy };
    }
    case "forward": {
      const { action } = outcome.route;
      const clusters = action.kind === "forward" ? explainClusters(config, action, admitted, outcome.request) : [];
      const { authority, path: pathSent } = outcome.request;
      const changed = authority !== admitted.authority || pathSent !== admitted.path;
      const live = clusters.filter(({ percent }) => percent > 0);
      const byCluster = live.every((cluster) => cluster.declined !== undefined) ? live[0]?.declined : undefined;
      const refused = byHead ?? byRules ?? byPath ?? byCluster;
      return {
        ...found,
        route,
        ...(changed ? { sentOn: { authority, path: pathSent } } : {}),
        clusters,
        servedBy: refused === undefined ? { path: "kernel path" } : slowPath(refused),
      };
    }
    default:
      return outcome satisfies never;
  }
}

/** What a hook answers by itself is whole, and leaves the connection open. */
function declineToAnswer(values: Headers): Declined | undefined {
  const hasBody = (values.get("content-length")?.[0] ?? "0") !== "0";
  const closes = values.get("connection")?.[0]?.toLowerCase() === "close";
  if (hasBody) return declined("route", "it answers a request with a body");
  return closes ? declined("route", "it answers a request that closes the connection") : undefined;
}

/** Nobody has sent the request. */
const NOBODY: Ends = {
  client: { ip: "127.0.0.1", port: 0 },
  local: undefined,
  machineIp: "127.0.0.1",
  makeId: () => "00000000-0000-4000-8000-000000000000",
};

const CLOSED = { path: "nobody" } as const;

/** Where an HTTP/1.1 connection to a listener's own address comes in, from somewhere else. */
function enter(listener: Listener) {
  const { address } = listener;
  const inspected = inspectedOf(listener, address.port);
  const applicationProtocols = protocolsOfHttp(inspected);
  const chain = chooseChain(listener, { ...plainConnection(address, undefined), applicationProtocols });
  const names = inspected === undefined ? "" : ", told by the first bytes";
  return {
    listener: { name: listener.name, address: addressText(address) },
    chain,
    ...(allChains(listener).length === 1
      ? {}
      : { filterChain: chain === undefined ? "none matches: the connection is closed" : `${chain.label}${names}` }),
  };
}

/** Why its connections do not go by the hooks' rules. */
function declinedAtEntrance({ name }: Listener, { slow }: Tables): Declined | undefined {
  const rule = slow.find(({ listener, virtualHost }) => listener === name && virtualHost === "");
  return rule && declined("rules", `each connection: ${rule.reason}`);
}

function explainTcp(config: Config, listener: Listener, { clusters }: TcpChain, tables: Tables) {
  const sum = clusters.reduce((sum, { weight }) => sum + weight, 0);
  const refused = declinedAtEntrance(listener, tables);
  const leaves = tables.listeners.some(({ name, way }) => name === listener.name && way.kind === "leave");
  const direct = { path: leaves ? ("no part of XLB" as const) : ("direct connection" as const) };
  return {
    passedOver: [],
    clusters: clusters.map(({ name, weight, criteria }): ClusterPart => {
      const cluster = config.clusters.find((cluster) => cluster.name === name);
      const percent = (100 * weight) / sum;
      if (cluster === undefined) return { name, percent, note: "not there: the connection is closed", endpoints: [] };
      const { answer, declined, ...part } = explainCluster(config, cluster, criteria);
      return { name, percent, ...part, ...(answer ? { note: `${answer.why}: the connection is closed` } : {}) };
    }),
    servedBy: refused === undefined ? direct : { path: "slow path" as const, declined: refused },
  };
}

/** With every character as the bytes that a shell's argument has. */
const headText = ({ method, target, version, headers }: AskedRequest) =>
  `${[`${method} ${target} ${version}`, ...headers.map(([name, value]) => `${name}: ${value}`)].join("\r\n")}\r\n\r\n`;

/** The header names that the hook keeps for the rules; none where this listener's rules ask for none of them. */
function askedNames(config: Config, { routes }: HttpChain, { headerNames }: Tables): ReadonlySet<string> {
  const names = new Set(headerNames.map(({ name }) => name));
  const hashing = hashingClusters(config);
  const asked = (route: Route) => askedHeaders(withoutIdlePolicies(route, hashing));
  const asks = routes.virtualHosts.some((host) =>
    host.routes.some((route) => asked(route).some((name) => names.has(name))),
  );
  return asks ? names : new Set();
}

/** The hook stops at the first route that it can only take for a match; `place` is that of the route that matches. */
function declineByRules(
  { slow }: Tables,
  listener: Listener,
  { name, routes }: VirtualHost,
  place: number,
  target: string,
  values: HeaderValues,
): Declined | undefined {
  for (const { route: slowly, reason, ...rule } of slow) {
    if (rule.listener !== listener.name || rule.virtualHost !== name) continue;
    if (slowly === undefined) return declined("rules", `virtual host ${name}: ${reason}`);
    const route = routes[slowly.place]!;
    const mayMatch =
      slowly.place <= place &&
      (!slowly.asksPath || matchPath(route.path, withoutQuery(target))) &&
      slowly.asksHeaders.every((at) => matchHeader(route.headers[at]!, values)) &&
      matchQuery(
        slowly.asksQuery.map((at) => route.query![at]!),
        target,
      );
    if (mayMatch) return declined("route", `route ${route.name}: ${reason}`);
  }
  return undefined;
}

type Refusal = NonNullable<Explanation["answer"]>;

/** What the slow path makes of a head before it looks for a route. */
function read(head: Buffer, { http }: HttpChain): (Admitted & { readonly routed: RequestHead }) | Refusal {
  try {
    new HeadScanner(http.maxRequestHeadersKb * 1_024).scan(head);
    const admitted = admit(head, http);
    const { request, routed, moved } = admitted;
    if (moved !== undefined) return { status: 307, why: `its path has escaped slashes, without them it is ${moved}` };
    if (routed !== undefined) return { ...admitted, routed };
    const what = request.method === "CONNECT" ? "a CONNECT request" : `the target ${request.target}`;
    return { status: 404, why: `${what} has no path for a route to take` };
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    if (error.status !== 426) return { status: error.status, why: error.message };
    return { status: 426, why: "HTTP/1.0 is not accepted", mend: "write http_protocol_options.accept_http_10: true" };
  }
}

function noVirtualHost({ listener: name, routes }: HttpChain, authority: string) {
  const why = `no domain of listener ${name} matches host ${JSON.stringify(authority)}`;
  const butForPort = matchVirtualHost({ ...routes, ignorePortInHostMatching: true }, authority);
  const mend =
    butForPort === undefined
      ? "add it to the domains of a virtual host"
      : `without its port it is virtual host ${butForPort.name}'s: write ignore_port_in_host_matching: true`;
  return { status: 404, why, mend };
}

/** Which of a virtual host's domains takes this host, in the order of the search: the reference is asked for each. */
function domainOf({ routes }: HttpChain, virtualHost: VirtualHost, authority: string): string {
  const takes = (domain: string) =>
    matchVirtualHost({ ...routes, virtualHosts: [{ ...virtualHost, domains: [domain] }] }, authority) !== undefined;
  const rank = (domain: string) => (domain === "*" ? 3 : domain.startsWith("*") ? 1 : domain.endsWith("*") ? 2 : 0);
  const [first] = virtualHost.domains.filter(takes).sort((a, b) => rank(a) - rank(b) || b.length - a.length);
  return first ?? "";
}

function whyPassedOver({ path, headers, query, fraction, grpc }: Route, target: string, values: HeaderValues): string {
  const have = withoutQuery(target);
  if (!matchPath(path, have)) return `path ${quote(have)} is not one that ${describePath(path)}`;
  const header = headers.find((header) => !matchHeader(header, values));
  if (header === undefined) {
    const parameter = query?.find((one) => !matchQuery([one], target));
    if (parameter !== undefined) return `${describeQuery(parameter)}, but it is not so in ${quote(target)}`;
    if (grpc && !isGrpc(values)) return GRPC;
    return fraction === undefined ? "another of its conditions does not hold" : describeFraction(fraction);
  }
  const found = values.get(header.name);
  const is = found === undefined ? "is not there" : `is ${found.map(quote).join(" and ")}`;
  return `${describeHeader(header)}, but ${is}`;
}

function describeMatch({ path, headers, query = [], fraction, grpc }: Route): string {
  const conditions = [`path ${describePath(path)}`, ...headers.map(describeHeader), ...query.map(describeQuery)];
  if (fraction !== undefined) conditions.push(describeFraction(fraction));
  if (grpc) conditions.push(GRPC);
  return conditions.join("; ");
}

const GRPC = "content-type must be that of gRPC";
const describeFraction = ({ share, outOf }: NonNullable<Route["fraction"]>) => `takes ${share} of ${outOf} requests`;

function describeQuery({ name, value }: QueryMatch): string {
  return `query parameter ${name} must ${describeValue(value)}`;
}

function describePath(match: PathMatch): string {
  if (match.kind === "regex") return `the expression ${quote(match.pattern)} takes whole`;
  const { kind, value, caseSensitive } = match;
  const end = caseSensitive ? "" : ", in any case";
  switch (kind) {
    case "path":
      return `is ${quote(value)}${end}`;
    case "prefix":
      return `begins with ${quote(value)}${end}`;
    case "pathSeparatedPrefix":
      return `is ${quote(value)} or below it${end}`;
    default:
      return kind satisfies never;
  }
}

function describeHeader({ name, invert, missingIsEmpty, value }: HeaderMatch): string {
  if (value.kind === "present") return `header ${name} must ${value.present !== invert ? "" : "not "}be there`;
  // Inverted or not, a rule about a value fails where there is none, unless none counts as an empty one.
  const not = invert ? (missingIsEmpty ? "not " : "be there and not ") : "";
  return `header ${name}${missingIsEmpty ? " (empty where it is missing)" : ""} must ${not}${describeValue(value)}`;
}

function describeValue(match: HeaderValueMatch | PresentMatch): string {
  switch (match.kind) {
    case "present":
      return match.present ? "be there" : "not be there";
    case "range":
      return `be a number from ${match.start} to ${match.end - 1}`;
    case "regex":
      return `be one that the expression ${quote(match.pattern)} takes whole`;
    default: {
      const words = { exact: "be", prefix: "begin with", suffix: "end with", contains: "contain" } as const;
      return `${words[match.kind]} ${quote(match.value)}${match.ignoreCase ? " in any case" : ""}`;
    }
  }
}

const quote = (text: string) => JSON.stringify(text);

/** `sent` is the request as the endpoint gets it. */
function explainClusters(
  config: Config,
  action: ForwardAction,
  request: RequestHead,
  sent: RequestHead,
): ClusterPart[] {
  const total = action.clusters.reduce((sum, cluster) => sum + cluster.weight, 0);
  const chance = clusterChance(action, request, { client: undefined }, -1);
  const byHash = chance === -1 ? undefined : pickClusterIndex(action, chance);
  return action.clusters.map((entry, place) => {
    const percent = byHash === undefined ? (100 * entry.weight) / total : byHash === place ? 100 : 0;
    const name = clusterName(entry, request);
    const cluster = config.clusters.find((cluster) => cluster.name === name);
    if (cluster !== undefined) {
      const hashed = { policies: action.hashPolicies ?? [], sent };
      return { name, percent, ...explainCluster(config, cluster, entry.criteria, hashed) };
    }
    const why = `there is no cluster ${name}`;
    const answer = { status: action.notFoundStatus ?? 503, why, mend: "define it under static_resources.clusters" };
    return { name, percent, endpoints: [], answer, declined: declined("noCluster", why) };
  });
}

type ToldCluster = Omit<ClusterPart, "name" | "percent">;

/** Of the subsets that a request with these criteria may come to, the first that has an endpoint to use. */
function explainCluster(
  config: Config,
  cluster: Cluster,
  criteria: Metadata | undefined,
  hashed?: Hashed,
): ToldCluster {
  if (cluster.discovery?.kind === "originalDst") {
    const note = "the address that the client asked for";
    return { note, endpoints: [], declined: declined("balancing", `cluster ${cluster.name}: ${note}`) };
  }
  if (cluster.subsets === undefined) return explainEndpoints(config, cluster, hashed);
  const asked = criteria === undefined ? "no metadata_match" : `metadata_match ${valueText(criteria)}`;
  const subsets = subsetsOf(cluster, criteria);
  for (const { label, cluster: some } of subsets) {
    const { answer, ...told } = explainEndpoints(config, some, hashed);
    if (answer === undefined) return { subset: `${label}, by ${asked}`, ...told };
  }
  const tried = subsets.length === 0 ? "" : `: there is none in ${subsets.map(({ label }) => label).join(", nor in ")}`;
  const why = `cluster ${cluster.name} has no endpoint for ${asked}${tried}`;
  const mend =
    "look at its subset_selectors and fallback_policy, and at the metadata and health_status of its endpoints";
  return { endpoints: [], answer: { status: 503, why, mend }, declined: declined("noEndpoint", why) };
}

function explainEndpoints(config: Config, cluster: Cluster, hashed: Hashed | undefined): ToldCluster {
  const { policy } = cluster;
  const {
    parts,
    shares,
    words,
    declined: byHash,
  } = isHashing(policy) ? explainHash(cluster, policy, config, hashed) : explainTurns(policy, partsOf(cluster, config));
  const endpoints = cluster.endpoints.map((endpoint): EndpointPart => {
    const { address, health, weight } = endpoint;
    const percent = shares.has(endpoint) ? shares.get(endpoint) : 0;
    return { address: addressText(address), health, weight, ...(percent === undefined ? {} : { percent }) };
  });
  const common = { policy: words, endpoints };
  if (parts.every(({ lists }) => lists.every(({ hosts }) => hosts.length === 0))) {
    const why = `cluster ${cluster.name} has no endpoint to use`;
    const answer = { status: 503 as const, why, mend: "look at its endpoints and their health_status" };
    return { ...common, answer, declined: declined("noEndpoint", why) };
  }
  const note = parts.length === 1 && parts[0]!.kind === "healthy" ? undefined : parts.map(describePart).join(", ");
  const noted = note === undefined ? common : { ...common, note };
  const how = kernelBalancing(config)(cluster);
  const whyNot = "slow" in how ? declined("balancing", `cluster ${cluster.name}: ${how.slow}`) : byHash;
  return whyNot === undefined ? noted : { ...noted, declined: whyNot };
}

function explainTurns(policy: PlainPolicy, parts: readonly Part[]): BalancingWords {
  const lists = parts.flatMap(({ lists }) => lists.map(({ hosts }) => hosts));
  return { words: describePolicy(policy, lists), parts, shares: sharesOf(policy, parts) };
}

function describePart({ percent, priority, kind, lists }: Part): string {
  const who = {
    healthy: "healthy endpoints",
    degraded: "degraded endpoints, for too few are healthy",
    panic: "panic, for too few endpoints are well: all are used",
  }[kind];
  const nobody = lists.every(({ hosts }) => hosts.length === 0) ? ", but there is none to use" : "";
  return `${percent} % by priority ${priority} (${who}${nobody})`;
}

/** The long run's part of each endpoint; undefined where it depends on the requests in service. */
function sharesOf(policy: PlainPolicy, parts: readonly Part[]): Map<Endpoint, number | undefined> {
  const shares = new Map<Endpoint, number | undefined>();
  for (const { percent, lists } of parts) {
    const total = lists.reduce((sum, { weight }) => sum + weight, 0);
    for (const { hosts, weight } of lists) {
      for (const [host, own] of share(policy, hosts, (percent * weight) / total)) {
        const before = shares.has(host) ? shares.get(host) : 0;
        shares.set(host, own === undefined || before === undefined ? undefined : before + own);
      }
    }
  }
  return shares;
}

function share(policy: PlainPolicy, hosts: readonly Endpoint[], percent: number): [Endpoint, number | undefined][] {
  const weights = hosts.reduce((sum, host) => sum + host.weight, 0);
  return hosts.map((host) => {
    switch (policy.kind) {
      case "roundRobin":
        return [host, (percent * host.weight) / weights];
      case "random":
        return [host, percent / hosts.length];
      case "leastRequest":
        return [host, hosts.length === 1 ? percent : undefined];
      default:
        return policy satisfies never;
    }
  });
}

function describePolicy(policy: PlainPolicy, lists: readonly (readonly Endpoint[])[]): string {
  if (policy.kind === "random") return "RANDOM, weights do not count";
  const byWeight = lists.some((hosts) =>
    goesByDeadlines(
      policy,
      hosts.map(({ weight }) => weight),
    ),
  );
  switch (policy.kind) {
    case "roundRobin":
      return byWeight ? "ROUND_ROBIN, in turn by weight" : "ROUND_ROBIN, each in turn";
    case "leastRequest":
      if (byWeight) return "LEAST_REQUEST, in turn by weight divided by requests in service";
      return policy.fullScan
        ? "LEAST_REQUEST, the one with the fewest requests of all"
        : `LEAST_REQUEST, the one with fewer requests of ${policy.choiceCount} drawn`;
    default:
      return policy satisfies never;
  }
}

/** Rows of a label and its text; a label stands once. */
export function formatExplanation(explanation: Explanation): string {
  const { listener, filterChain, virtualHost, passedOver, route, sentOn, clusters, answer, servedBy } = explanation;
  const rows: (readonly [label: string, text: string])[] = [["listener", `${listener.name} at ${listener.address}`]];
  if (filterChain) rows.push(["filter chain", filterChain]);
  if (virtualHost)
    rows.push(["virtual host", `${virtualHost.name}, by its domain ${describeDomain(virtualHost.domain)}`]);
  for (const { route, why } of passedOver) rows.push(["passed over", `route ${route}: ${why}`]);
  if (route) rows.push(["route", `${route.name}: ${route.matches}`]);
  if (sentOn) rows.push(["sent on as", `${sentOn.path} to host ${sentOn.authority}`]);
  for (const cluster of clusters) {
    const odds = clusters.length === 1 ? "" : `, ${percentage(cluster.percent)} of the requests`;
    const rest = [cluster.subset, cluster.policy, cluster.note].filter((text) => text !== undefined).join("; ");
    rows.push(["cluster", `${cluster.name}${odds}${rest === "" ? "" : `: ${rest}`}`]);
    for (const { address, health, weight, percent } of cluster.endpoints) {
      const share = percent === undefined ? "" : `: ${percentage(percent)}`;
      rows.push(["", `  ${address}, ${health}, weight ${weight}${share}`]);
    }
    if (cluster.answer) rows.push(["", `  ${describeAnswer(cluster.answer)}`]);
  }
  if (answer) rows.push(["answer", describeAnswer(answer)]);
  rows.push(["served by", describeServed(servedBy)]);
  if (servedBy.path === "kernel path")
    for (const { name, declined } of clusters)
      if (declined) rows.push(["", `but for cluster ${name} ${describeDeclined(declined)}`]);
  const width = Math.max(...rows.map(([label]) => label.length));
  let before = "";
  const lines = rows.map(([label, text]) => {
    const shown = label === before ? "" : label;
    if (label !== "") before = label;
    return `${shown.padEnd(width)}  ${text}\n`;
  });
  return lines.join("");
}

function describeDomain(domain: string): string {
  if (domain === "*") return '"*", which takes any host';
  if (domain.startsWith("*")) return `${quote(domain)}, which its end matches`;
  return domain.endsWith("*") ? `${quote(domain)}, which its beginning matches` : `${quote(domain)}, exactly`;
}

const describeAnswer = ({ status, why, mend }: NonNullable<Explanation["answer"]>) =>
  `${status}: ${why}${mend === undefined ? "" : ` (${mend})`}`;

const describeDeclined = ({ reason, why }: Declined) => `the slow path (${reason}): ${why}`;

function describeServed({ path, declined }: Explanation["servedBy"]): string {
  if (declined !== undefined) return describeDeclined(declined);
  if (path === "nobody") return "nobody: the connection is closed";
  if (path === "direct connection") return "the endpoint itself: the connection is made to it, as far as rules say";
  if (path === "no part of XLB") return "whoever the client asked for: the connection is left alone";
  return "the kernel path, as far as request and rules say";
}

const percentage = (percent: number) => `${Number(percent.toPrecision(3))} %`;
