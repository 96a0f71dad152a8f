import { Dice } from "../dice.ts";
import { ACTIONS } from "./actions.ts";
import { someEdits } from "./edits.ts";
import { besideTemplate, CLUSTER, CONDITIONS, LISTENER, nameEndpoints, PATHS } from "./fields.ts";
import { makeFront } from "./fronts.ts";
import { hashingOptions } from "./hashing.ts";
import { limitedEndpoints, limitedOptions, limitsOfHost, someMirrors } from "./limits.ts";
import {
  type ActionPart,
  type ClusterSpec,
  type Clusters,
  type ConditionPart,
  choose,
  type EndpointSpec,
  type Json,
  type OptionPart,
  type PathPart,
  type RouteSpec,
  type Spec,
  type VirtualHostSpec,
  written,
} from "./spec.ts";
import { divide } from "./subsets.ts";
import { someLocal, spread } from "./zones.ts";

/** A route with the parts that it was made of, which know where its edges are. */
export interface MadeRoute {
  readonly route: RouteSpec;
  readonly domains: readonly string[];
  readonly path: PathPart;
  readonly conditions: readonly (readonly [ConditionPart, Json])[];
  readonly action: ActionPart;
}

export interface Made {
  readonly index: number;
  readonly spec: Spec;
  readonly routes: readonly MadeRoute[];
  readonly options: readonly OptionPart<Spec>[];
  /** Names of virtual hosts that the kernel path leaves to the slow path. */
  readonly slowHosts: ReadonlySet<string>;
}

/** Configurations of one start have different numbers: they name the clusters. */
export const PER_START = 20;
/** So many have a listener with several filter chains. */
const FRONTS = 0.15;
/** As many as an address has room for; see `places.ts`. */
const MAX_CLUSTERS = 40;
const MAX_ENDPOINTS = 4;

/**
 * Configuration `index` of this seed; it does not depend on the others. Names of routes' actions hold `actions`, and
 * among the options of its listener is `option`.
 */
export function makeConfig(seed: number, index: number, actions = "", option?: string): Made {
  const dice = new Dice(seed, index, 1);
  const clusters: ClusterSpec[] = [];
  const add = (make: (name: string) => ClusterSpec): string => {
    if (clusters.length === MAX_CLUSTERS) return dice.one(clusters.filter(({ quiet }) => quiet !== true)).name;
    const cluster = make(`c${index % PER_START}-${clusters.length}`);
    clusters.push(cluster);
    return cluster.name;
  };
  const local = someLocal(seed, Math.floor(index / PER_START));
  const fresh = () =>
    add((name) => (local.local && dice.chance(0.35) ? makeSpreadCluster(name, dice) : makeCluster(name, dice)));
  const named = () => add((name) => makeNamedCluster(name, dice));
  const hashing = () => add((name) => makeHashingCluster(name, dice));
  const divided = (isPlain: boolean) => add((name) => makeDividedCluster(name, isPlain, dice));
  const limited = () => add((name) => ({ name, options: limitedOptions(dice), endpoints: limitedEndpoints(dice) }));
  const quiet = () =>
    add((name) => ({ name, options: {}, endpoints: [{ near: dice.chance(0.6), dead: false }], quiet: true }));
  fresh();
  const choice = ACTIONS.filter(({ name }) => name.includes(actions));
  const from: Clusters = {
    fresh,
    named,
    hashing,
    divided,
    limited,
    quiet,
    known: () => dice.one(clusters.filter((each) => each.quiet !== true)).name,
  };

  const taken = new Set<string>();
  const hosts: VirtualHostSpec[] = [];
  const made: MadeRoute[] = [];
  const slowHosts = new Set<string>();
  for (let left = dice.between(1, 4); left > 0; left--) {
    const domains = Array.from({ length: dice.between(1, 3) }, () => anyDomain(dice)).filter((domain) => {
      const twin = taken.has(domain.toLowerCase());
      taken.add(domain.toLowerCase());
      return !twin;
    });
    if (domains.length === 0) continue;
    const name = `v${hosts.length}`;
    const routes = Array.from({ length: dice.between(1, 5) }, () => makeRoute(domains, from, choice, dice));
    if (dice.chance(0.05)) routes.length = 0;
    else if (dice.chance(0.4)) routes.push(makeRoute(domains, from, choice, dice, CATCH_ALL));
    if (routes.some(({ path, conditions, action }) => [path, action, ...conditions.map(([c]) => c)].some(isSlow)))
      slowHosts.add(name);
    const edits = dice.chance(0.06) ? someEdits(dice) : {};
    const limits = dice.chance(0.12) ? limitsOfHost(dice, from) : {};
    if (Object.keys({ ...edits, ...limits }).length > 0) slowHosts.add(name);
    hosts.push({ name, domains, routes: routes.map(({ route }) => route), ...edits, ...limits });
    made.push(...routes);
  }
  /* What a route configuration says for all: they are left to the slow path then. */
  const mirrors = dice.chance(0.06) ? someMirrors(dice, from) : {};
  if ("request_mirror_policies" in mirrors) for (const { name } of hosts) slowHosts.add(name);
  const nowhere = made.some(({ action }) => action.name === "a cluster that is not there");
  const routes = { ...(nowhere ? { validate_clusters: false } : {}), ...mirrors, virtual_hosts: hosts };
  const isRest = takesRest(seed, index);
  const front = dice.chance(FRONTS) || isRest ? { front: makeFront(from, isRest, dice) } : {};
  const spec: Spec = { manager: {}, filters: [], router: {}, routes, clusters, ...front, ...local };
  const options = LISTENER.filter(({ name, chance }) => dice.chance(chance) || name === option);
  for (const each of options) each.put(spec, dice);
  // XLB refuses the two together.
  if (isRest) delete spec.manager.strip_matching_host_port;
  if (options.some(isSlow) || spec.front !== undefined) for (const { name } of hosts) slowHosts.add(name);
  return { index, spec, routes: made, options, slowHosts };
}

/** Is it the one of its start whose listener takes the rest? */
function takesRest(seed: number, index: number): boolean {
  const dice = new Dice(seed, Math.floor(index / PER_START), 4);
  return dice.chance(0.8) && dice.between(0, PER_START - 1) === index % PER_START;
}

const isSlow = ({ kernel }: { readonly kernel: boolean }) => !kernel;

/** What many a virtual host ends with. */
const CATCH_ALL: Json = { prefix: "/" };

function makeRoute(
  domains: readonly string[],
  clusters: Clusters,
  actions: readonly ActionPart[],
  dice: Dice,
  all?: Json,
): MadeRoute {
  const path = all === undefined ? choose(PATHS, dice) : PATHS[0]!;
  const match: Json = all === undefined ? path.make(dice) : { ...all };
  const conditions: [ConditionPart, Json][] = [];
  for (let left = all === undefined ? dice.one([0, 0, 0, 1, 1, 2, 3]) : 0; left > 0; left--) {
    const condition = choose(CONDITIONS, dice);
    const entry = condition.make(dice);
    const { list, single } = condition;
    if (list !== undefined) match[list] = [...((match[list] as Json[] | undefined) ?? []), entry];
    else match[single!] = entry;
    conditions.push([condition, entry]);
  }
  const action = choose(actions, dice);
  const made = besideTemplate(match, action.make(dice, clusters), dice);
  const named = dice.chance(0.1) ? { name: `r-${dice.between(0, 9)}` } : {};
  return { route: { ...named, match, ...made }, domains, path, conditions, action };
}

function makeCluster(name: string, dice: Dice): ClusterSpec {
  const count = dice.one([1, 1, 1, 1, 2, 2, 3, MAX_ENDPOINTS, dice.chance(0.3) ? 0 : 1]);
  const endpoints: EndpointSpec[] = Array.from({ length: count }, () => ({
    near: dice.chance(0.6),
    dead: dice.chance(0.01),
  }));
  const cluster = { name, options: {}, endpoints };
  for (const option of CLUSTER) if (dice.chance(option.chance)) option.put(cluster, dice);
  return cluster;
}

/** More of them than a cluster needs, by default, for its zones to count. */
const SPREAD_ENDPOINTS = 7;

function makeSpreadCluster(name: string, dice: Dice): ClusterSpec {
  const endpoints: EndpointSpec[] = Array.from({ length: dice.between(2, SPREAD_ENDPOINTS) }, () => ({
    near: dice.chance(0.6),
    dead: false,
  }));
  const cluster = { name, options: {}, endpoints };
  for (const option of CLUSTER) if (dice.chance(option.chance)) option.put(cluster, dice);
  spread(cluster, dice);
  return cluster;
}

function makeNamedCluster(name: string, dice: Dice): ClusterSpec {
  const cluster = makeCluster(name, dice);
  const endpoints = cluster.endpoints.map((endpoint) => ({ ...endpoint, dead: dice.chance(0.1) }));
  nameEndpoints(endpoints, dice);
  return { ...cluster, endpoints };
}

function makeHashingCluster(name: string, dice: Dice): ClusterSpec {
  const endpoints: EndpointSpec[] = Array.from({ length: dice.between(2, MAX_ENDPOINTS) }, () => ({
    near: dice.chance(0.6),
    dead: false,
  }));
  const cluster = { name, options: hashingOptions(dice), endpoints };
  for (const option of CLUSTER)
    if (!/^(lb|load_balancing)_policy$/.test(option.name) && dice.chance(option.chance)) option.put(cluster, dice);
  /* Of one name they would be one to the table, and chance would say which. */
  const nameless = dice.between(0, MAX_ENDPOINTS);
  for (const [i, endpoint] of endpoints.entries()) endpoint.hostname = i === nameless ? "" : `e${i}.test`;
  if (dice.chance(0.3)) {
    for (const [i, endpoint] of endpoints.entries())
      if (dice.chance(0.7))
        endpoint.metadata = {
          filter_metadata: { "envoy.lb": { hash_key: dice.one([`key-${i}`, i, written(`${i}.5`), written("yes")]) } },
        };
  }
  return cluster;
}

function makeDividedCluster(name: string, isPlain: boolean, dice: Dice): ClusterSpec {
  const endpoints: EndpointSpec[] = Array.from({ length: dice.between(2, MAX_ENDPOINTS) }, () => ({
    near: dice.chance(0.6),
    dead: false,
  }));
  const cluster = { name, options: {}, endpoints };
  for (const option of CLUSTER)
    if (!/^(lb|load_balancing)_policy$/.test(option.name) && dice.chance(option.chance)) option.put(cluster, dice);
  divide(cluster, isPlain, dice);
  return cluster;
}

const LABELS = ["a", "b", "c", "A", "x-y", "shop", "1"];
const PORTS = [":80", ":8080", ":0", ":"];

export function anyHost(dice: Dice): string {
  if (dice.chance(0.06)) return dice.one(["127.0.0.1", "[::1]", "[::1]:80", "localhost", "[::ffff:1.2.3.4]"]);
  const labels = Array.from({ length: dice.between(1, 3) }, () => dice.one(LABELS));
  return [...labels, dice.one(["test", "test", "Test", "io"])].join(".");
}

function anyDomain(dice: Dice): string {
  const host = anyHost(dice);
  switch (dice.one(["exact", "exact", "port", "suffix", "dash", "bare", "prefix", "open", "any", "any"])) {
    case "exact":
      return host;
    case "port":
      return `${host}${dice.one(PORTS)}`;
    case "suffix":
      return `*.${host}`;
    case "dash":
      return `*-${host}`;
    case "bare":
      return `*${host}${dice.chance(0.2) ? dice.one(PORTS) : ""}`;
    case "prefix":
      return `${host.slice(0, host.lastIndexOf("."))}.*`;
    case "open":
      return `${host}*`;
    default:
      return "*";
  }
}
