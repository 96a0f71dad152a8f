import { allChains, httpChains } from "../model/chains.ts";
import type {
  Address,
  Cluster,
  Config,
  FilterChain,
  HttpChain,
  Listener,
  OwnHeaders,
  Route,
  RouteConfig,
  TcpChain,
  VirtualHost,
  WeightedCluster,
} from "../model/config.ts";
import type { Metadata } from "../model/metadata.ts";
import { endpointName } from "../tables/address.ts";
import { BlobBuilder } from "../tables/blob.ts";
import type {
  CompiledCluster,
  ConnectWay,
  Ids,
  LongRule,
  OtherWay,
  SlowRoute,
  SlowRule,
  Tables,
} from "../tables/compiled.ts";
import {
  ACTION_ANSWER,
  ACTION_BY_HASH,
  DIRECT_BY_SOURCE,
  XLB_MAX_HEAD,
  XLB_MAX_HEADER_COUNT,
} from "../tables/layout.gen.ts";
import { isAscii } from "../tables/text.ts";
import { type AnswerProgram, answerProgramOf, writeAnswer } from "./answers.ts";
import { type Balancing, compileCluster } from "./cluster.ts";
import { conditionsOf, isKept, MAX_CONDITIONS, whyNotHeader, whyNotQuery } from "./conditions.ts";
import { answerEditsOf, type Edits, programOf, writeEdits } from "./edits.ts";
import { chainFacts, type Entry, type Facts, recognise, withoutIdle } from "./facts.ts";
import { ANY_PATH, GO_SLOW, guardsOf } from "./guards.ts";
import { hashingClusters, whyNotHash, writePolicies } from "./hash.ts";
import { HostTable } from "./hosts.ts";
import { boundOf, whyNotDownstream, whyNotLimits } from "./limits.ts";
import { type NameIndex, Names } from "./names.ts";
import { cut, hasAutomaton, TOO_LARGE } from "./pattern.ts";
import { MOST_WORDS, Planner } from "./plan.ts";
import { type ClusterRecord, keyOf, recordsOf } from "./records.ts";
import { type CompiledVirtualHost, Sources } from "./sources.ts";

/** What can be said of all plain connections to a listener when they are made. */
export type Entrance =
  | { readonly kind: "chain"; readonly chain: FilterChain; readonly inspects: boolean }
  | { readonly kind: "each"; readonly why: string }
  | { readonly kind: "none" };

/**
 * Compiles a configuration for the kernel. Pure: equal input gives equal bytes. `balancing` says who takes part where
 * requests have these criteria, `entrance` which filter chain connections take; without it, listeners have one that
 * takes all. What did not change since the tables of `previous` keeps its numbers, and virtual hosts that did not are
 * not made again.
 */
export function compile(
  config: Config,
  balancing: BalancingOf,
  previous?: Tables,
  entrance: EntranceOf = soleChain,
): Tables {
  const before = previous?.sources instanceof Sources ? previous.sources : new Sources();
  recognise(hostsOf(config), before);
  const ids = assignIds(config, previous?.ids);
  const slow: SlowRule[] = [];
  const long: LongRule[] = [];
  const hashing = hashingClusters(config);
  const names = new Names(keptNames(config, previous, hashing));
  const sources = new Sources();
  const byName = new Map(config.clusters.map((cluster) => [cluster.name, cluster]));
  const clusterId = (entry: Entry) => ids.clusters.get(keyOf(entry, byName.get(entry.name)));
  const context = { ids, clusterId, names, slow, long, hashing, sources, before, previous };
  const listeners = config.listeners.map((listener) => {
    const { name, address } = listener;
    const way = compileEntrance(config, listener, entrance(listener, address), context);
    const others = [
      ...(listener.more ?? []).map((address) => ({
        address,
        way: compileMore(config, listener, address, entrance, context),
      })),
      ...(listener.takesRest ? compileRest(config, listener, entrance, context) : []),
    ];
    return { name, id: ids.listeners.get(name)!, address, way, others };
  });
  const clusters = recordsOf(config).map((record) => compiledCluster(record, balancing, ids));
  const endpoints = directEndpoints(config, ids);
  return { ids, listeners, clusters, endpoints, headerNames: names.list(), slow, long, sources };
}

/**
 * What {@link compile} gives where a configuration differs from that of `previous` in endpoints of its clusters only:
 * no rule is compiled. A cluster that `stands` keeps its blob; such has the endpoints that it had, and shares them as
 * it did.
 */
export function withEndpoints(
  config: Config,
  balancing: BalancingOf,
  previous: Tables,
  stands: (cluster: Cluster) => boolean,
): Tables {
  const ids = { ...previous.ids, endpoints: assignEndpoints(config, previous.ids) };
  const had = new Map(previous.clusters.map((cluster) => [cluster.id, cluster]));
  const clusters = recordsOf(config).map((record) => {
    const was = stands(record.cluster) ? had.get(ids.clusters.get(record.key)!) : undefined;
    return was ?? compiledCluster(record, balancing, ids);
  });
  return { ...previous, ids, clusters, endpoints: directEndpoints(config, ids) };
}

function compiledCluster(
  { key, title, cluster, criteria }: ClusterRecord,
  balancing: BalancingOf,
  ids: Ids,
): CompiledCluster {
  const maxRequests = boundOf(cluster);
  return {
    name: title,
    id: ids.clusters.get(key)!,
    ...(maxRequests !== undefined && { limit: { breaker: ids.clusters.get(cluster.name)!, maxRequests } }),
    blob: compileCluster(
      balancing(cluster, criteria),
      (endpoint) => ids.endpoints.get(endpointName(cluster.name, endpoint))!,
    ),
  };
}

type BalancingOf = (cluster: Cluster, criteria?: Metadata) => Balancing;

type EntranceOf = (listener: Listener, at: Address) => Entrance;

/** For connections to another of its addresses: those that have the same chain go by the same rules. */
function compileMore(
  config: Config,
  listener: Listener,
  address: Address,
  entrance: EntranceOf,
  context: Context,
): OtherWay {
  const [first, here] = [entrance(listener, listener.address), entrance(listener, address)];
  if (here.kind !== "chain" || here.chain.kind !== "http") return compileOther(config, listener, here, context);
  if (first.kind === "chain" && first.chain === here.chain) return { kind: "requests", inspected: here.inspects };
  return { kind: "anchor" };
}

function compileOther(config: Config, listener: Listener, entrance: Entrance, context: Context): OtherWay {
  const way = compileEntrance(config, listener, entrance, context);
  /* Requests have one set of rules for each listener: the slow path knows those of all ports. */
  return way.kind === "requests" ? { kind: "anchor" } : way;
}

/** For connections to no other listener: by the ports that its chains name, and any other. */
function compileRest(config: Config, listener: Listener, entrance: EntranceOf, context: Context) {
  const named = listener.chains.flatMap(({ match }) => match.destinationPort ?? []);
  const addresses = config.listeners.flatMap(({ address, more = [] }) => [address, ...more]);
  const taken = (port: number) => addresses.some((address) => address.port === port && isAny(address));
  const ports = [...new Set(named)].filter((port) => !taken(port));
  return [...ports, 0].flatMap((port) => {
    const ips = ["0.0.0.0", "::"];
    const way = compileOther(config, listener, entrance(listener, { ip: listener.address.ip, port }), context);
    return ips.map((ip) => ({ address: { ip, port }, way }));
  });
}

const isAny = ({ ip }: Address) => ip === "0.0.0.0" || ip === "::";

/** The one chain of a listener, whatever it matches. */
function soleChain(listener: Listener): Entrance {
  const [chain, second] = allChains(listener);
  if (chain === undefined) return { kind: "none" };
  return second === undefined ? { kind: "chain", chain, inspects: false } : { kind: "each", why: "it has many chains" };
}

type ClusterId = (entry: Entry) => number | undefined;

/** What the parts of a configuration are compiled into. */
interface Context {
  readonly ids: Ids;
  /** Of the record that a way leads to; undefined: there is no such cluster. */
  readonly clusterId: ClusterId;
  readonly names: Names;
  readonly slow: SlowRule[];
  readonly long: LongRule[];
  /** Names of the clusters that go by hashes. */
  readonly hashing: ReadonlySet<string>;
  /** Parts of virtual hosts: these, and those of the tables before. */
  readonly sources: Sources;
  readonly before: Sources;
  readonly previous: Tables | undefined;
}

function compileEntrance(config: Config, { name }: Listener, entrance: Entrance, context: Context): ConnectWay {
  const toAnchor = (reason: string): ConnectWay => {
    context.slow.push({ listener: name, virtualHost: "", where: `${name}: each connection`, reason });
    return { kind: "anchor" };
  };
  if (entrance.kind === "each") return toAnchor(entrance.why);
  if (entrance.kind === "none") return { kind: "anchor" };
  const { chain, inspects } = entrance;
  if (chain.kind === "http") return { ...compileHttp(chain, context), inspected: inspects };
  if (inspects) return toAnchor("the first bytes of each decide what serves it");
  const clusters = chain.clusters.map(({ name }) => config.clusters.find((cluster) => cluster.name === name));
  const reason = whyNotDirect(chain, clusters);
  if (reason !== undefined) return toAnchor(reason);
  const goesOn = clusters.filter((cluster) => cluster?.discovery?.kind === "originalDst");
  if (goesOn.length === clusters.length) return { kind: "leave" };
  if (goesOn.length > 0) return toAnchor("some of them go where the client wants");
  const blob = new BlobBuilder();
  const first = blob.reserve(1 + chain.clusters.length);
  const sum = writeClusters(blob, first + 1, chain.clusters, context.clusterId);
  blob.put(first, chain.clusters.length, sum, chain.hashesSource ? DIRECT_BY_SOURCE : 0, 0);
  return { kind: "direct", blob: blob.finish() };
}

/** Why a connection cannot go to its endpoint without somebody between. */
function whyNotDirect(
  { idleTimeoutMs, maxDurationMs, maxConnectAttempts }: TcpChain,
  clusters: readonly (Cluster | undefined)[],
): string | undefined {
  if (idleTimeoutMs !== undefined && idleTimeoutMs !== 0) return "idle_timeout has to be watched";
  if (maxDurationMs !== undefined) return "max_downstream_connection_duration has to be watched";
  if (maxConnectAttempts > 1) return "max_connect_attempts has to be followed";
  const limited = clusters.find((cluster) => cluster !== undefined && isLimited(cluster.maxConnections));
  if (limited !== undefined) return `max_connections of cluster ${limited.name} has to be kept`;
  /* The client's socket is the client's own. */
  const own = clusters.find((cluster) => cluster?.sockets !== undefined);
  if (own === undefined) return undefined;
  const field = own.sockets?.keepalive === undefined ? "upstream_bind_config" : "tcp_keepalive";
  return `${field} of cluster ${own.name} is for its own connections`;
}

/** The endpoints that connections may be made to: of clusters that a chain with tcp_proxy leads to. */
function directEndpoints({ listeners, clusters }: Config, ids: Ids): { id: number; address: Address }[] {
  const names = new Set(
    listeners
      .flatMap(allChains)
      .flatMap((chain) => (chain.kind === "tcp" ? chain.clusters.map(({ name }) => name) : [])),
  );
  return clusters
    .filter(({ name }) => names.has(name))
    .flatMap(({ name, endpoints }) =>
      endpoints.map((one) => ({ id: ids.endpoints.get(endpointName(name, one))!, address: one.address })),
    );
}

/** Envoy's own default is there to protect Envoy. */
const isLimited = (maxConnections: number) => maxConnections !== 1_024 && maxConnections < 2 ** 32 - 1;

function compileHttp(chain: HttpChain, context: Context) {
  const { own } = chain.http;
  const given = chainFacts(chain.routes.virtualHosts).hosts;
  const facts = given.map((each) => withoutIdle(each, context.hashing));
  const way = context.previous?.listeners.find(({ name }) => name === chain.listener)?.way;
  const before = way?.kind === "requests" ? way.hosts : undefined;
  const hosts = new HostTable(chain.routes, facts, own !== undefined, before);
  if (own !== undefined) {
    const { listener } = chain;
    context.slow.push({ listener, virtualHost: "", where: `${listener}: each request`, reason: whyOwn(own) });
    return { kind: "requests" as const, hosts, virtualHosts: facts.map(() => undefined) };
  }
  const around = aroundOf(chain);
  return {
    kind: "requests" as const,
    hosts,
    virtualHosts: facts.map(({ vhost }, place) => {
      const { blob, slow, longest } = sameOrCompiled(chain, around, given[place]!, vhost, context);
      const where = `${chain.listener}: virtual host ${vhost.name}`;
      for (const { route, reason } of slow) {
        const rule = { listener: chain.listener, virtualHost: vhost.name, reason };
        if (route === undefined) context.slow.push({ ...rule, where });
        else context.slow.push({ ...rule, where: `${where}: route ${vhost.routes[route.place]!.name}`, route });
      }
      const reason = `up to ${longest} of its rules are asked one after the other`;
      if (longest > LONG) context.long.push({ where, reason });
      return blob;
    }),
  };
}

/** `given`: the virtual host before what nobody asks for was taken away. */
function sameOrCompiled(
  chain: HttpChain,
  around: string,
  given: Facts,
  vhost: VirtualHost,
  context: Context,
): CompiledVirtualHost {
  const { names, before, sources, clusterId } = context;
  const from = { vhost, around, clusters: given.ways.map(clusterId) };
  const known = sources.find(given.vhost, from, names);
  if (known !== undefined) return known;
  const kept = before.find(given.vhost, from, names);
  const part = kept ?? { ...compileVirtualHost(chain, vhost, context), ...from };
  sources.add(given.vhost, part);
  return part;
}

const hostsOf = ({ listeners }: Config) => listeners.flatMap(httpChains).map(({ routes }) => routes.virtualHosts);

/** So many rules, asked one after the other, are worth a word. */
const LONG = 32;

/** Names that rules still ask for keep their indexes: a hook may be reading a head by the old ones. */
function keptNames(
  config: Config,
  previous: Tables | undefined,
  hashing: ReadonlySet<string>,
): ReadonlyMap<string, number> {
  if (previous === undefined) return new Map();
  const facts = hostsOf(config).flatMap((vhosts) => chainFacts(vhosts).hosts);
  const asked = new Set(facts.flatMap((each) => withoutIdle(each, hashing).asked));
  return new Map(previous.headerNames.filter(({ name }) => asked.has(name)).map(({ name, index }) => [name, index]));
}

/** What all virtual hosts of a chain are compiled by. */
const aroundOf = (chain: HttpChain) =>
  JSON.stringify([tooStrict(chain), chain.http.normalisation ?? null, { ...chain.routes, virtualHosts: [] }]);

function compileVirtualHost(chain: HttpChain, vhost: VirtualHost, context: Context): CompiledVirtualHost {
  const { names: all } = context;
  const whole = tooStrict(chain) ?? whyNotDomains(vhost);
  if (whole !== undefined) return { blob: undefined, slow: [{ reason: whole }], names: [], longest: 0 };
  const asked = new Map<string, number | undefined>();
  const names: NameIndex = {
    index(name) {
      const index = all.index(name);
      asked.set(name, index);
      return index;
    },
  };
  const seen = vhost.routes.map((route, place) => seenBy(chain.routes, vhost, route, place, names));
  const blob = new BlobBuilder();
  blob.reserve(1);
  const actions = new Map<Route, number>();
  const programs = new Map(seen.map(({ route, programs }) => [route, programs]));
  const written = new Map<string, number>();
  const programOfEntry = (route: Route) => (entry: WeightedCluster) => {
    const program = programs.get(route)?.get(entry);
    if (program === undefined) return 0;
    const key = JSON.stringify(program);
    const place = written.get(key) ?? writeEdits(blob, program);
    written.set(key, place);
    return place;
  };
  const answers = new Map(seen.map(({ route, answer }) => [route, answer]));
  const write = (route: Route) => {
    const answer = answers.get(route);
    if (answer === undefined) return writeAction(blob, route, context, names, programOfEntry(route));
    const first = blob.reserve(1);
    blob.put(first, ACTION_ANSWER, writeAnswer(blob, answer), 0, context.ids.routes.get(route.name) ?? 0);
    return first;
  };
  const planner = new Planner(blob, (route) => {
    const at = actions.get(route) ?? write(route);
    actions.set(route, at);
    return at;
  });
  const guards = guardsOf(chain.http.normalisation ?? {});
  const candidate = (route: Route, order: number) => ({ order, route, left: conditionsOf(route, names) });
  const plan = planner.write(
    seen.map(({ route }, place) => candidate(route, guards.length + place)),
    guards.map(candidate),
  );
  if (plan === undefined) {
    const reason = `its routes combine to more than ${MOST_WORDS >> 16} MiB of tables`;
    return { blob: undefined, slow: [{ reason }], names: [...asked], longest: 0 };
  }
  blob.put(0, plan.exact, plan.fold, plan.foldLow, 0);
  const slow = seen.flatMap(({ slowly }) => {
    if (slowly === undefined) return [];
    const { whyNot: reason, ...route } = slowly;
    return [{ route, reason }];
  });
  return { blob: blob.finish(), slow, names: [...asked], longest: plan.longest };
}

/** Why the requests of a listener get headers of Envoy's own, which the hooks do not set. */
export const whyOwn = ({ askedBy }: OwnHeaders) => `${askedBy} asks for headers that Envoy sets itself`;

/** The kernel path knows Envoy's default limits of a head only. */
function tooStrict({ http, routes }: HttpChain): string | undefined {
  if (routes.internalOnly !== undefined) return "internal_only_headers has to look at each name";
  if (http.maxHeadersCount < XLB_MAX_HEADER_COUNT) return `max_headers_count is below ${XLB_MAX_HEADER_COUNT}`;
  if (http.normalisation?.underscores !== undefined) return "headers_with_underscores_action has to look at each name";
  if (http.maxRequestHeadersKb * 1_024 < XLB_MAX_HEAD) return "max_request_headers_kb is below 8";
  return whyNotDownstream(http);
}

const whyNotDomains = ({ domains }: VirtualHost) => (domains.every(isAscii) ? undefined : "a domain is not ASCII");

/**
 * A route as the hook sees it. What it cannot ask is left out: then it takes more requests than the route does, and
 * has to leave them all to the slow path, which judges anew.
 */
interface SeenRoute {
  readonly route: Route;
  readonly programs: Programs;
  /** What it answers by itself. */
  readonly answer?: AnswerProgram;
  readonly slowly?: SlowRoute & { readonly whyNot: string };
}

function seenBy(routes: RouteConfig, vhost: VirtualHost, route: Route, place: number, names: NameIndex): SeenRoute {
  const isTooLarge = route.path.kind === "regex" && !hasAutomaton(cut(route.path.pattern).rest);
  const { headers: asked, query = [] } = route;
  const ofHeaders = asked.map((header, at) =>
    at < MAX_CONDITIONS ? whyNotHeader(header, names) : `more than ${MAX_CONDITIONS} header conditions`,
  );
  const { programs, answer, whyNot: whyNotActing } = programsOf(routes, vhost, route);
  const ofQuery = query.map((parameter, at) =>
    at < MAX_CONDITIONS ? whyNotQuery(parameter, names) : `more than ${MAX_CONDITIONS} query conditions`,
  );
  const whyNot =
    (isTooLarge ? TOO_LARGE : undefined) ??
    [...ofHeaders, ...ofQuery].find((reason) => reason !== undefined) ??
    whyNotConditions(route) ??
    whyNotActing ??
    whyNotHashing(route, programs, names);
  if (whyNot === undefined) return { route, programs, ...(answer && { answer }) };
  const can = (reasons: readonly (string | undefined)[]) =>
    reasons.flatMap((reason, at) => (reason === undefined ? [at] : []));
  const [asksHeaders, asksQuery] = [can(ofHeaders), can(ofQuery)];
  return {
    route: {
      ...{ ...route, path: isTooLarge ? ANY_PATH : route.path, action: GO_SLOW },
      ...{ headers: asksHeaders.map((at) => asked[at]!), query: asksQuery.map((at) => query[at]!) },
    },
    programs: new Map(),
    slowly: { place, asksPath: !isTooLarge, asksHeaders, asksQuery, whyNot },
  };
}

function whyNotConditions({ path, fraction, grpc, fault }: Route): string | undefined {
  if (path.kind !== "regex" && !isAscii(path.value)) return "its path is not ASCII";
  if (fraction !== undefined) return "it takes a fraction of the requests";
  if (fault !== undefined) return "the fault filter is there for its requests";
  return grpc ? "it asks for gRPC" : undefined;
}

/** The hook hashes the request as it came. */
function whyNotHashing({ action }: Route, programs: Programs, names: NameIndex): string | undefined {
  if (action.kind !== "forward" || action.hashPolicies === undefined) return undefined;
  if ([...programs.values()].some(({ request }) => request !== undefined)) return "its hash policy sees what it edits";
  return whyNotHash(action, (name) => (isKept(name) ? names.index(name) : undefined));
}

/** What becomes of a route's requests on their way, and of their answers, by the entry of its clusters. */
type Programs = ReadonlyMap<WeightedCluster, Edits>;

function programsOf(
  routes: RouteConfig,
  vhost: VirtualHost,
  route: Route,
): { readonly programs: Programs; readonly answer?: AnswerProgram; readonly whyNot?: string } {
  const { action } = route;
  const programs = new Map<WeightedCluster, Edits>();
  if (action.kind !== "forward") {
    const answer = answerProgramOf(routes, vhost, route, action);
    return "whyNot" in answer ? { programs, ...answer } : { programs, answer };
  }
  if (action.clusters.some((cluster) => "header" in cluster))
    return { programs, whyNot: "a header says which cluster" };
  const limited = whyNotLimits(action);
  if (limited !== undefined) return { programs, whyNot: limited };
  for (const entry of action.clusters) {
    const leading = { routes, vhost, route, action, entry };
    const request = programOf(leading);
    if (request && "whyNot" in request) return { programs, ...request };
    const answer = answerEditsOf(leading);
    if (answer && "whyNot" in answer) return { programs, ...answer };
    if (request || answer) programs.set(entry, { request, answer });
  }
  return { programs };
}

/** A rule that {@link seenBy} leaves to the slow path has come to the tables all the same. */
const forSlowPath = (what: string) => new Error(`${what} is for the slow path`);

function writeAction(
  blob: BlobBuilder,
  { name, action }: Route,
  { ids, clusterId }: Context,
  names: NameIndex,
  programOfEntry: (entry: WeightedCluster) => number,
): number {
  if (action.kind !== "forward") throw forSlowPath("an answer");
  const entries = action.clusters.filter((c) => c.weight > 0);
  const policies = writePolicies(blob, action.hashPolicies ?? [], (name) => names.index(name));
  const first = blob.reserve(1 + entries.length);
  const sum = writeClusters(blob, first + 1, entries, clusterId, programOfEntry, policies);
  /* A route with a duration of its own has no other timeout. */
  const timeoutMs = action.stream?.duration === undefined ? action.timeoutMs : 0;
  const number = (entries.length | (action.clusterByHash ? ACTION_BY_HASH : 0)) >>> 0;
  blob.put(first, number, sum, timeoutMs, ids.routes.get(name) ?? 0);
  return first;
}

/** Entries of a weighted choice, from the word `first` on; gives the sum of their weights. */
function writeClusters(
  blob: BlobBuilder,
  first: number,
  entries: readonly WeightedCluster[],
  clusterId: ClusterId,
  programOfEntry: (entry: WeightedCluster) => number = () => 0,
  policies = 0,
): number {
  let sum = 0;
  entries.forEach((entry, i) => {
    sum += entry.weight;
    if ("header" in entry) throw forSlowPath("a cluster by header");
    blob.put(first + i, clusterId(entry) ?? 0, sum, programOfEntry(entry), policies);
  });
  return sum;
}

/** New names get the lowest free numbers; 0 stays free, because a word of 0 means "none". */
function assignIds(config: Config, previous: Ids | undefined): Ids {
  return {
    listeners: assign(
      config.listeners.map((l) => l.name),
      previous?.listeners,
    ),
    routes: assign(
      hostsOf(config).flatMap((vhosts) => chainFacts(vhosts).routeNames),
      previous?.routes,
    ),
    clusters: assign(
      recordsOf(config).map(({ key }) => key),
      previous?.clusters,
    ),
    endpoints: assignEndpoints(config, previous),
  };
}

function assignEndpoints({ clusters }: Config, previous: Ids | undefined): Map<string, number> {
  const names = clusters.flatMap((c) => c.endpoints.map((e) => endpointName(c.name, e)));
  return assign(names, previous?.endpoints, previous?.retired);
}

function assign(
  names: readonly string[],
  previous: ReadonlyMap<string, number> | undefined,
  retired: ReadonlySet<number> = new Set(),
): Map<string, number> {
  const out = new Map<string, number>();
  for (const name of names) {
    const kept = previous?.get(name);
    if (kept !== undefined) out.set(name, kept);
  }
  const taken = new Set([...out.values(), ...retired]);
  let next = 1;
  for (const name of names) {
    if (out.has(name)) continue;
    while (taken.has(next)) next++;
    out.set(name, next);
    taken.add(next);
  }
  return out;
}
