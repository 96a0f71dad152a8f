import { allChains, httpChains } from "../model/chains.ts";
import type {
  Address,
  Cluster,
  Config,
  FilterChain,
  HeaderMatch,
  HttpChain,
  Listener,
  PathMatch,
  Route,
  RouteAction,
  RouteConfig,
  TcpChain,
  VirtualHost,
  WeightedCluster,
} from "../model/config.ts";
import { addressText } from "../tables/address.ts";
import { BlobBuilder } from "../tables/blob.ts";
import type { ConnectWay, HostBlob, Ids, PlainWay, SlowRoute, SlowRule, Tables } from "../tables/compiled.ts";
import {
  CONDITION_IGNORE_CASE,
  CONDITION_INVERT,
  CONDITION_MISSING_AS_EMPTY,
  ConditionKind,
  HEADER_AUTHORITY,
  HEADER_FIRST,
  HEADER_METHOD,
  HEADER_PATH,
  HEADER_PATH_ALONE,
  HOSTS_HEADERS,
  HOSTS_STRIP_PORT,
  RULES_NONE,
  XLB_MAX_HEAD,
  XLB_MAX_HEADER_COUNT,
  XLB_MAX_HEADER_NAME,
  XLB_MAX_HEADERS,
} from "../tables/layout.gen.ts";
import { isAscii } from "../tables/text.ts";
import { packTrie, Trie } from "../tables/trie.ts";
import { type Balancing, compileCluster } from "./cluster.ts";
import { type Dfa, toDfa } from "./dfa.ts";
import { type EditProgram, programOf, writeProgram } from "./edits.ts";
import { whyNotDownstream, whyNotLimits } from "./limits.ts";
import { fits, writeTable } from "./table.ts";

class HostTable implements HostBlob {
  readonly #routes: RouteConfig;
  readonly #asksHeaders: boolean;

  constructor(routes: RouteConfig, asksHeaders: boolean) {
    this.#routes = routes;
    this.#asksHeaders = asksHeaders;
  }

  blob(rulesOf: (place: number) => number): Uint32Array {
    const forward = new Trie<{ exact: number; prefix: number }>(() => ({ exact: RULES_NONE, prefix: RULES_NONE }));
    const backward = new Trie<{ suffix: number }>(() => ({ suffix: RULES_NONE }));
    let any: number = RULES_NONE;
    let [hasForward, hasBackward] = [false, false];
    this.#routes.virtualHosts.forEach((vhost, place) => {
      const rules = rulesOf(place);
      for (const domain of vhost.domains) {
        const bytes = Buffer.from(domain.toLowerCase(), "latin1");
        if (domain === "*") {
          any = rules;
        } else if (domain.startsWith("*")) {
          backward.at([...bytes.subarray(1)].reverse()).value.suffix = rules;
          hasBackward = true;
        } else if (domain.endsWith("*")) {
          forward.at(bytes.subarray(0, -1)).value.prefix = rules;
          hasForward = true;
        } else {
          forward.at(bytes).value.exact = rules;
          hasForward = true;
        }
      }
    });
    const blob = new BlobBuilder();
    blob.reserve(1);
    const f = hasForward ? packTrie(blob, forward, (v) => [v.exact, v.prefix]) : 0;
    const b = hasBackward ? packTrie(blob, backward, (v) => [RULES_NONE, v.suffix]) : 0;
    const flags =
      (this.#routes.ignorePortInHostMatching ? HOSTS_STRIP_PORT : 0) | (this.#asksHeaders ? HOSTS_HEADERS : 0);
    blob.put(0, flags, f, b, any);
    return blob.finish();
  }
}

/** All candidates of one virtual host may not be more: nested prefixes with many conditions multiply. */
const MAX_CANDIDATES = 262_144;
const MAX_CONDITIONS = 64;
const MAX_VALUE = 1_024;
const LAST = 0x80000000;
const PSEUDO: Readonly<Record<string, number>> = {
  ":method": HEADER_METHOD,
  ":authority": HEADER_AUTHORITY,
  host: HEADER_AUTHORITY,
  ":path": HEADER_PATH,
};

/** What can be said of all plain connections to a listener when they are made. */
export type Entrance =
  | { readonly kind: "chain"; readonly chain: FilterChain; readonly inspects: boolean }
  | { readonly kind: "each"; readonly why: string }
  | { readonly kind: "none" };

/**
 * Compiles a configuration for the kernel. Pure: equal input gives equal bytes. `balancing` says who takes part,
 * `entrance` which filter chain connections take; without it, listeners have one that takes all.
 */
export function compile(
  config: Config,
  balancing: (cluster: Cluster) => Balancing,
  previous?: Ids,
  entrance: EntranceOf = soleChain,
): Tables {
  const ids = assignIds(config, previous);
  const slow: SlowRule[] = [];
  const names = new HeaderNames();
  const listeners = config.listeners.map((listener) => {
    const { name, address } = listener;
    const context = { ids, names, slow };
    const way = compileEntrance(config, listener, entrance(listener, address.port), context);
    const others = listener.takesRest ? compileRest(config, listener, entrance, context) : [];
    return { name, id: ids.listeners.get(name)!, address, way, others };
  });
  const clusters = config.clusters.map((cluster) => ({
    name: cluster.name,
    id: ids.clusters.get(cluster.name)!,
    blob: compileCluster(
      balancing(cluster),
      (endpoint) => ids.endpoints.get(`${cluster.name} ${addressText(endpoint.address)}`)!,
    ),
  }));
  return { ids, listeners, clusters, endpoints: directEndpoints(config, ids), headerNames: names.list(), slow };
}

type EntranceOf = (listener: Listener, port: number) => Entrance;

/** For connections to no other listener: by the ports that its chains name, and any other. */
function compileRest(config: Config, listener: Listener, entrance: EntranceOf, context: Context) {
  const named = listener.chains.flatMap(({ match }) => match.destinationPort ?? []);
  const taken = (port: number) => config.listeners.some(({ address }) => address.port === port && isAny(address));
  const ports = [...new Set(named)].filter((port) => !taken(port));
  return [...ports, 0].flatMap((port) => {
    const way = compileEntrance(config, listener, entrance(listener, port), context);
    /* Requests have one set of rules for each listener: the slow path knows those of all ports. */
    const plain: PlainWay = way.kind === "requests" ? { kind: "anchor" } : way;
    return ["0.0.0.0", "::"].map((ip) => ({ address: { ip, port }, way: plain }));
  });
}

const isAny = ({ ip }: Address) => ip === "0.0.0.0" || ip === "::";

/** The one chain of a listener, whatever it matches. */
function soleChain(listener: Listener): Entrance {
  const [chain, second] = allChains(listener);
  if (chain === undefined) return { kind: "none" };
  return second === undefined ? { kind: "chain", chain, inspects: false } : { kind: "each", why: "it has many chains" };
}

/** What the parts of a configuration are compiled into. */
interface Context {
  readonly ids: Ids;
  readonly names: HeaderNames;
  readonly slow: SlowRule[];
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
  const sum = writeClusters(blob, first + 1, chain.clusters, context.ids);
  blob.put(first, chain.clusters.length, sum, 0, 0);
  return { kind: "direct", blob: blob.finish() };
}

/** Why a connection cannot go to its endpoint without somebody between. */
function whyNotDirect(
  { idleTimeoutMs, maxConnectAttempts }: TcpChain,
  clusters: readonly (Cluster | undefined)[],
): string | undefined {
  if (idleTimeoutMs !== undefined && idleTimeoutMs !== 0) return "idle_timeout has to be watched";
  if (maxConnectAttempts > 1) return "max_connect_attempts has to be followed";
  const limited = clusters.find((cluster) => cluster !== undefined && isLimited(cluster.maxConnections));
  return limited === undefined ? undefined : `max_connections of cluster ${limited.name} has to be kept`;
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
      endpoints.map(({ address }) => ({ id: ids.endpoints.get(`${name} ${addressText(address)}`)!, address })),
    );
}

/** Envoy's own default is there to protect Envoy. */
const isLimited = (maxConnections: number) => maxConnections !== 1_024 && maxConnections < 2 ** 32 - 1;

function compileHttp(chain: HttpChain, { ids, names, slow }: Context) {
  const asksHeaders = chain.routes.virtualHosts.some((v) =>
    v.routes.some((r) => r.headers.some((h) => PSEUDO[h.name] === undefined)),
  );
  return {
    kind: "requests" as const,
    hosts: new HostTable(chain.routes, asksHeaders),
    virtualHosts: chain.routes.virtualHosts.map((vhost) => {
      const where = { listener: chain.listener, virtualHost: vhost.name };
      const text = `${chain.listener}: virtual host ${vhost.name}`;
      const whole = tooStrict(chain) ?? whyNotDomains(vhost);
      const seen =
        whole === undefined ? vhost.routes.map((route, place) => seenBy(chain.routes, vhost, route, place, names)) : [];
      const routes = seen.map(({ route }) => route);
      const programs = new Map(seen.map(({ route, programs }) => [route, programs]));
      const blob = whole === undefined ? compileVirtualHost({ ...vhost, routes }, ids, names, programs) : undefined;
      if (!blob) {
        const reason = whole ?? `its routes combine to more than ${MAX_CANDIDATES} candidates`;
        slow.push({ ...where, where: text, reason });
        return undefined;
      }
      for (const { route, slowly } of seen) {
        if (slowly === undefined) continue;
        const { whyNot: reason, ...how } = slowly;
        slow.push({ ...where, route: how, where: `${text}: route ${route.name}`, reason });
      }
      return blob;
    }),
  };
}

class HeaderNames {
  readonly #index = new Map<string, number>();

  /** The index of an ordinary header; undefined when there are too many, or its name is too long. */
  index(name: string): number | undefined {
    const found = PSEUDO[name] ?? this.#index.get(name);
    if (found !== undefined) return found;
    const next = HEADER_FIRST + this.#index.size;
    if (name.startsWith(":") || name.length > XLB_MAX_HEADER_NAME || next >= XLB_MAX_HEADERS) return undefined;
    this.#index.set(name, next);
    return next;
  }

  list(): { name: string; index: number }[] {
    return [...this.#index].map(([name, index]) => ({ name, index }));
  }
}

/** Headers that the kernel path reads for itself and never keeps for the rules. */
const NOT_KEPT = ["content-length", "transfer-encoding", "connection", "upgrade", "expect", "te"];

/** The kernel path knows Envoy's default limits of a head only. */
function tooStrict({ http }: HttpChain): string | undefined {
  if (http.maxHeadersCount < XLB_MAX_HEADER_COUNT) return `max_headers_count is below ${XLB_MAX_HEADER_COUNT}`;
  if (http.maxRequestHeadersKb * 1_024 < XLB_MAX_HEAD) return "max_request_headers_kb is below 8";
  return whyNotDownstream(http);
}

const whyNotDomains = ({ domains }: VirtualHost) => (domains.every(isAscii) ? undefined : "a domain is not ASCII");

/** No cluster, no weight: the hook leaves such a route's requests to the slow path. */
const GO_SLOW: RouteAction = { kind: "forward", clusters: [], timeoutMs: 0 };

/**
 * A route as the hook sees it. What it cannot ask is left out: then it takes more requests than the route does, and
 * has to leave them all to the slow path, which judges anew.
 */
interface SeenRoute {
  readonly route: Route;
  readonly programs: Programs;
  readonly slowly?: SlowRoute & { readonly whyNot: string };
}

function seenBy(routes: RouteConfig, vhost: VirtualHost, route: Route, place: number, names: HeaderNames): SeenRoute {
  const isTooLarge = route.path.kind === "regex" && automaton(route.path.pattern) === undefined;
  const ofHeaders = route.headers.map((header, at) =>
    at < MAX_CONDITIONS ? whyNotHeader(header, names) : `more than ${MAX_CONDITIONS} header conditions`,
  );
  const { programs, whyNot: whyNotActing } = programsOf(routes, vhost, route);
  const whyNot =
    (isTooLarge ? TOO_LARGE : undefined) ??
    ofHeaders.find((reason) => reason !== undefined) ??
    whyNotConditions(route) ??
    whyNotActing;
  if (whyNot === undefined) return { route, programs };
  const asksHeaders = ofHeaders.flatMap((reason, at) => (reason === undefined ? [at] : []));
  const headers = asksHeaders.map((at) => route.headers[at]!);
  return {
    route: { ...route, path: isTooLarge ? ANY_PATH : route.path, headers, action: GO_SLOW },
    programs: new Map(),
    slowly: { place, asksPath: !isTooLarge, asksHeaders, whyNot },
  };
}

const ANY_PATH: PathMatch = { kind: "prefix", value: "", caseSensitive: true };

function whyNotConditions({ path, query, fraction, grpc }: Route): string | undefined {
  if (path.kind !== "regex" && !isAscii(path.value)) return "its path is not ASCII";
  if (query !== undefined && query.length > 0) return "it asks for query parameters";
  if (fraction !== undefined) return "it takes a fraction of the requests";
  return grpc ? "it asks for gRPC" : undefined;
}

/** What becomes of a route's requests on their way, by the entry of its clusters. */
type Programs = ReadonlyMap<WeightedCluster, EditProgram>;

function programsOf(
  routes: RouteConfig,
  vhost: VirtualHost,
  route: Route,
): { readonly programs: Programs; readonly whyNot?: string } {
  const { action } = route;
  const programs = new Map<WeightedCluster, EditProgram>();
  if (action.kind === "redirect") return { programs, whyNot: "it redirects" };
  if (action.kind === "direct") return { programs, whyNot: "it answers by itself" };
  if (action.clusters.some((cluster) => "header" in cluster))
    return { programs, whyNot: "a header says which cluster" };
  const limited = whyNotLimits(action);
  if (limited !== undefined) return { programs, whyNot: limited };
  if ([routes, vhost, route, ...action.clusters].some(({ responseEdits }) => responseEdits !== undefined))
    return { programs, whyNot: "it edits headers of responses" };
  for (const entry of action.clusters) {
    const program = programOf(routes, vhost, route, action, entry);
    if (program && "whyNot" in program) return { programs, ...program };
    if (program) programs.set(entry, program);
  }
  return { programs };
}

function whyNotHeader({ name, value }: HeaderMatch, names: HeaderNames): string | undefined {
  if (NOT_KEPT.includes(name)) return `the kernel path does not match ${name}`;
  if (value.kind === "range") return `it matches ${name} by a range of numbers`;
  if (names.index(name) === undefined) return `header ${name} is a name too many, too long or not for the kernel path`;
  if (value.kind === "present") return undefined;
  if (value.kind === "regex")
    return automaton(value.pattern) === undefined ? `header ${name}: ${TOO_LARGE}` : undefined;
  return isAscii(value.value) && value.value.length <= MAX_VALUE
    ? undefined
    : `the value asked of ${name} is not ASCII or too long`;
}

/** Of a regular expression in the kernel: one beyond it takes the slow path. */
const MAX_STATES = 1_024;
const TOO_LARGE = `its regular expression needs more than ${MAX_STATES} states, or too large a table`;

const automata = new Map<string, Dfa | undefined>();

/** The same for equal patterns; a few thousand are remembered, for the next configuration is much like this one. */
function automaton(pattern: string): Dfa | undefined {
  if (automata.has(pattern)) return automata.get(pattern);
  if (automata.size >= 4_096) automata.clear();
  const dfa = toDfa(pattern, MAX_STATES);
  const usable = dfa && fits(dfa) ? dfa : undefined;
  automata.set(pattern, usable);
  return usable;
}

/** A rule that {@link seenBy} leaves to the slow path has come to the tables all the same. */
const forSlowPath = (what: string) => new Error(`${what} is for the slow path`);

interface Candidate {
  readonly order: number;
  readonly route: Route;
}

/** Routes whose path matches in a state: if the text goes on below it, and if it ends there. */
interface PathState {
  below: Candidate[];
  exact: Candidate[];
}

function addPath(trie: Trie<PathState>, path: PathMatch, candidate: Candidate): void {
  if (path.kind === "regex") {
    /* Any path comes to it; a condition asks. */
    trie.root.value.below.push(candidate);
    return;
  }
  const value = path.caseSensitive ? path.value : path.value.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
  const bytes = Buffer.from(value);
  switch (path.kind) {
    case "path":
      trie.at(bytes).value.exact.push(candidate);
      return;
    case "prefix":
      trie.at(bytes).value.below.push(candidate);
      return;
    case "pathSeparatedPrefix":
      trie.at(bytes).value.exact.push(candidate);
      trie.at([...bytes, 0x2f]).value.below.push(candidate);
      return;
    default:
      path satisfies never;
  }
}

const conditionsOf = ({ path, headers }: Route) => headers.length + (path.kind === "regex" ? 1 : 0);

/** Both ascend; what follows the first candidate without conditions can never be asked. */
function merge(a: readonly Candidate[], b: readonly Candidate[]): Candidate[] {
  const all = b.length === 0 ? a : [...a, ...b].sort((x, y) => x.order - y.order);
  const last = all.findIndex((c) => conditionsOf(c.route) === 0);
  return last < 0 ? [...all] : all.slice(0, last + 1);
}

/** The virtual host's blob; undefined when its lists would grow out of hand. */
function compileVirtualHost(
  vhost: VirtualHost,
  ids: Ids,
  names: HeaderNames,
  programs: ReadonlyMap<Route, Programs>,
): Uint32Array | undefined {
  const exactTrie = new Trie<PathState>(() => ({ below: [], exact: [] }));
  const foldTrie = new Trie<PathState>(() => ({ below: [], exact: [] }));
  let folds = false;
  vhost.routes.forEach((route, order) => {
    const anyCase = route.path.kind !== "regex" && !route.path.caseSensitive;
    if (anyCase) folds = true;
    addPath(anyCase ? foldTrie : exactTrie, route.path, { order, route });
  });
  let total = 0;
  const inherit = (trie: Trie<PathState>): boolean => {
    const stack = [{ node: trie.root, above: [] as Candidate[] }];
    for (let top = stack.pop(); top; top = stack.pop()) {
      const { node, above } = top;
      const own = node.value.below.length > 0;
      const below = own ? merge(above, node.value.below) : above;
      const ends = node.value.exact.length > 0;
      const exact = ends ? merge(below, node.value.exact) : below;
      total += (own ? below.length : 0) + (ends ? exact.length : 0);
      if (total > MAX_CANDIDATES) return false;
      node.value = { below, exact };
      for (const child of node.children.values()) stack.push({ node: child, above: below });
    }
    return true;
  };
  if (!inherit(exactTrie) || !inherit(foldTrie)) return undefined;

  const blob = new BlobBuilder();
  blob.reserve(1);
  const tables = new Map<string, number>();
  const writtenPrograms = new Map<string, number>();
  const programOfEntry = (route: Route) => (entry: WeightedCluster) => {
    const program = programs.get(route)?.get(entry);
    if (program === undefined) return 0;
    const key = JSON.stringify(program);
    const place = writtenPrograms.get(key) ?? writeProgram(blob, program);
    writtenPrograms.set(key, place);
    return place;
  };
  const written = new Map<Route, readonly [action: number, conditions: number]>();
  const candidate = (route: Route): readonly [number, number] => {
    let at = written.get(route);
    if (!at) {
      at = [writeAction(blob, route, ids, programOfEntry(route)), writeConditions(blob, route, names, tables)];
      written.set(route, at);
    }
    return at;
  };
  const lists = new Map<Candidate[], number>();
  const list = (candidates: Candidate[]): number => {
    if (candidates.length === 0) return 0;
    let first = lists.get(candidates);
    if (first === undefined) {
      const rows = candidates.map(({ route, order }) => ({ order, count: conditionsOf(route), at: candidate(route) }));
      first = blob.reserve(rows.length);
      rows.forEach(({ order, count, at }, i) => {
        blob.put(first! + i, at[0], order, at[1], (count | (i === rows.length - 1 ? LAST : 0)) >>> 0);
      });
      lists.set(candidates, first);
    }
    return first;
  };
  /* The lists are written first: a trie takes the end of the blob. */
  const values = new Map<PathState, readonly [number, number]>();
  const visit = (trie: Trie<PathState>) => {
    const stack = [trie.root];
    for (let node = stack.pop(); node; node = stack.pop()) {
      values.set(node.value, [list(node.value.below), list(node.value.exact)]);
      for (const child of node.children.values()) stack.push(child);
    }
  };
  visit(exactTrie);
  if (folds) visit(foldTrie);
  const root = packTrie(blob, exactTrie, (v) => values.get(v)!);
  const foldRoot = folds ? packTrie(blob, foldTrie, (v) => values.get(v)!) : 0;
  blob.put(0, root, foldRoot, 0, 0);
  return blob.finish();
}

/** `tables` are those that lie in the blob already, by their patterns. */
function writeConditions(
  blob: BlobBuilder,
  { path, headers }: Route,
  names: HeaderNames,
  tables: Map<string, number>,
): number {
  if (path.kind !== "regex" && headers.length === 0) return 0;
  const table = (pattern: string): number => {
    const head = tables.get(pattern) ?? writeTable(blob, automaton(pattern)!);
    tables.set(pattern, head);
    return head;
  };
  const ofPath =
    path.kind === "regex" ? [[HEADER_PATH_ALONE | (ConditionKind.regex << 8), table(path.pattern), 0] as const] : [];
  const ofHeaders = headers.map((header) => {
    const index = names.index(header.name)!;
    const flags = (header.invert ? CONDITION_INVERT : 0) | (header.missingIsEmpty ? CONDITION_MISSING_AS_EMPTY : 0);
    const value = header.value;
    if (value.kind === "present") {
      return [index | (ConditionKind.present << 8) | (flags << 16), 0, value.present ? 1 : 0] as const;
    }
    if (value.kind === "range") throw forSlowPath("a range");
    if (value.kind === "regex")
      return [index | (ConditionKind.regex << 8) | (flags << 16), table(value.pattern), 0] as const;
    const fold = value.ignoreCase ? CONDITION_IGNORE_CASE : 0;
    const bytes = Buffer.from(value.ignoreCase ? value.value.toLowerCase() : value.value, "latin1");
    const kind = ConditionKind[value.kind];
    return [index | (kind << 8) | ((flags | fold) << 16), blob.bytes(bytes), bytes.length] as const;
  });
  const rows = [...ofPath, ...ofHeaders];
  const first = blob.reserve(rows.length);
  rows.forEach(([a, b, c], i) => {
    blob.put(first + i, a, b, c, 0);
  });
  return first;
}

function writeAction(
  blob: BlobBuilder,
  { name, action }: Route,
  ids: Ids,
  programOfEntry: (entry: WeightedCluster) => number,
): number {
  if (action.kind !== "forward") throw forSlowPath("an answer");
  const entries = action.clusters.filter((c) => c.weight > 0);
  const first = blob.reserve(1 + entries.length);
  const sum = writeClusters(blob, first + 1, entries, ids, programOfEntry);
  /* A route with a duration of its own has no other timeout. */
  const timeoutMs = action.stream?.duration === undefined ? action.timeoutMs : 0;
  blob.put(first, entries.length, sum, timeoutMs, ids.routes.get(name) ?? 0);
  return first;
}

/** Entries of a weighted choice, from the word `first` on; gives the sum of their weights. */
function writeClusters(
  blob: BlobBuilder,
  first: number,
  entries: readonly WeightedCluster[],
  ids: Ids,
  programOfEntry: (entry: WeightedCluster) => number = () => 0,
): number {
  let sum = 0;
  entries.forEach((entry, i) => {
    sum += entry.weight;
    if ("header" in entry) throw forSlowPath("a cluster by header");
    blob.put(first + i, ids.clusters.get(entry.name) ?? 0, sum, programOfEntry(entry), 0);
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
      config.listeners
        .flatMap(httpChains)
        .flatMap(({ routes }) => routes.virtualHosts.flatMap((v) => v.routes.map((r) => r.name))),
      previous?.routes,
    ),
    clusters: assign(
      config.clusters.map((c) => c.name),
      previous?.clusters,
    ),
    endpoints: assign(
      config.clusters.flatMap((c) => c.endpoints.map((e) => `${c.name} ${addressText(e.address)}`)),
      previous?.endpoints,
      previous?.retired,
    ),
  };
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
