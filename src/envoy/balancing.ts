import type {
  Cluster,
  Discovery,
  HashingPolicy,
  LeastRequestPolicy,
  LocalityPolicy,
  Policy,
  SlowStart,
} from "../model/config.ts";
import type { Fields } from "./fields.ts";
import { readMaglev, readRingHash } from "./hashing.ts";
import { readSubsets } from "./subsets.ts";

/** How a cluster's requests are shared among its endpoints. */
type Balancing = Pick<Cluster, "policy" | "localities" | "panicPercent" | "subsets">;

/** By `load_balancing_policy` where it is written, else by `lb_policy` and the fields that go with it. */
export function readBalancing(cluster: Fields, discovery: Discovery | undefined): Balancing {
  const common = cluster.message("common_lb_config");
  // Nobody checks health, and what outlier detection or DNS changes is taken in at once.
  common?.skip("update_merge_window", "ignore_new_hosts_until_first_hc", "close_connections_on_host_set_change");
  const panicPercent = common && readPercent(common, "healthy_panic_threshold");
  const panic = panicPercent === undefined ? {} : { panicPercent };
  if (!cluster.lacks("load_balancing_policy")) return { ...readTyped(cluster, common), ...panic };
  const subsets = cluster.message("lb_subset_config");
  const localities = common === undefined ? {} : localitiesOf(common);
  return {
    policy: readPolicy(cluster, common, discovery),
    ...localities,
    ...panic,
    ...(subsets && subsetsOf(subsets, localities)),
  };
}

/** Without a selector the rest of it is nothing to Envoy. */
function subsetsOf(config: Fields, { localities }: Pick<Cluster, "localities">): Pick<Cluster, "subsets"> {
  const subsets = readSubsets(config, false);
  if (subsets.weighsLocalities && localities?.kind !== "weighted")
    config.reject("locality_weight_aware", `needs ${WEIGHTED}`, "write it into common_lb_config");
  return config.lacks("subset_selectors") ? {} : { subsets };
}

/** Whole percent, rounded down as Envoy does. */
function readPercent(fields: Fields, name: string): number | undefined {
  const percent = fields.message(name);
  return percent && Math.floor(percent.number("value") ?? 0);
}

const WEIGHTED = "locality_weighted_lb_config";
const ZONE_AWARE = "zone_aware_lb_config";

function localitiesOf(config: Fields): Pick<Cluster, "localities"> {
  const weighted = config.message(WEIGHTED);
  const zones = config.message(ZONE_AWARE);
  const localities: LocalityPolicy | undefined = weighted
    ? { kind: "weighted" }
    : zones && {
        kind: "zoneAware",
        percent: readPercent(zones, "routing_enabled") ?? 100,
        minClusterSize: zones.number("min_cluster_size") ?? 6,
        failsOnPanic: zones.boolean("fail_traffic_on_panic") ?? false,
      };
  return localities === undefined ? {} : { localities };
}

const POLICY_NAMES = ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"] as const;

function readPolicy(cluster: Fields, common: Fields | undefined, discovery: Discovery | undefined): Policy {
  const policy = cluster.oneOf("lb_policy", ...POLICY_NAMES);
  const leastRequest = configFor(cluster, policy, "LEAST_REQUEST", "least_request_lb_config");
  const roundRobin = configFor(cluster, policy, "ROUND_ROBIN", "round_robin_lb_config");
  const ring = configFor(cluster, policy, "RING_HASH", "ring_hash_lb_config");
  const maglev = configFor(cluster, policy, "MAGLEV", "maglev_lb_config");
  switch (policy) {
    case "RING_HASH":
      return { ...readRingHash(ring), ...readBounds(common, discovery, true) };
    case "MAGLEV":
      return { ...readMaglev(maglev), ...readBounds(common, discovery, true) };
    case "LEAST_REQUEST":
      return leastRequestOf(leastRequest);
    case "ROUND_ROBIN":
      return { kind: "roundRobin", ...slowStartOf(roundRobin) };
    case "RANDOM":
      return { kind: "random" };
    default:
      return policy satisfies never;
  }
}

function configFor(cluster: Fields, policy: string, needed: string, name: string): Fields | undefined {
  if (policy === needed || !cluster.has(name)) return cluster.message(name);
  cluster.message(name)?.skipRest();
  cluster.reject(name, `has an effect with lb_policy ${needed} only`, `remove it, or write lb_policy: ${needed}`);
  return undefined;
}

function leastRequestOf(config: Fields | undefined): LeastRequestPolicy {
  const bias = config && readDouble(config, "active_request_bias");
  if (bias !== undefined && bias < 0) config?.reject("active_request_bias", "must not be negative");
  return {
    kind: "leastRequest",
    choiceCount: config?.number("choice_count") ?? 2,
    ...(bias === undefined ? {} : { bias }),
    ...slowStartOf(config),
  };
}

/** There is no runtime: the default is what holds. */
function readDouble(fields: Fields, name: string): number | undefined {
  const value = fields.message(name);
  value?.skip("runtime_key");
  return value && (value.number("default_value") ?? 0);
}

function slowStartOf(config: Fields | undefined): { slowStart?: SlowStart } {
  const fields = config?.message("slow_start_config");
  const windowMs = fields?.milliseconds("slow_start_window") ?? 0;
  const aggression = (fields && readDouble(fields, "aggression")) ?? 1;
  if (aggression <= 0) fields?.reject("aggression", "must be more than 0");
  const leastPercent = fields?.message("min_weight_percent")?.number("value") ?? 10;
  return windowMs === 0 ? {} : { slowStart: { windowMs, aggression, leastShare: leastPercent / 100 } };
}

const TYPES = "envoy.extensions.load_balancing_policies";

type TypedBalancing = Omit<Balancing, "panicPercent">;

/** What each type of policy in the list means; the first that is here is taken, as Envoy takes the first it knows. */
const PLAIN: { readonly [typeName: string]: (config: Fields) => TypedBalancing } = {
  [`${TYPES}.round_robin.v3.RoundRobin`]: plain((config) => ({ kind: "roundRobin", ...slowStartOf(config) })),
  [`${TYPES}.least_request.v3.LeastRequest`]: plain((config) => {
    const method = config.oneOf("selection_method", "N_CHOICES", "FULL_SCAN");
    return { ...leastRequestOf(config), ...(method === "FULL_SCAN" ? { fullScan: true } : {}) };
  }),
  [`${TYPES}.random.v3.Random`]: plain(() => ({ kind: "random" })),
  [`${TYPES}.ring_hash.v3.RingHash`]: (config) => {
    const older = boundsOf(config);
    // The newer message stands for both older fields, whatever it says.
    const bounds = config.has(CONSISTENT) ? readBounds(config) : older;
    return { policy: { ...readRingHash(config), ...bounds }, ...weightedOf(config) };
  },
  [`${TYPES}.maglev.v3.Maglev`]: (config) => ({
    policy: { ...readMaglev(config), ...readBounds(config) },
    ...weightedOf(config),
  }),
};

/** The same, with that of subsets, which has a list of its own for what balances in each of them. */
const TYPED: typeof PLAIN = {
  ...PLAIN,
  [`${TYPES}.subset.v3.Subset`]: (config) => ({
    ...readPolicies(config, "subset_lb_policy", PLAIN),
    subsets: readSubsets(config, true),
  }),
};

function plain(read: (config: Fields) => Policy): (typeof PLAIN)[string] {
  return (config) => {
    const localities = config.message("locality_lb_config");
    return { policy: read(config), ...(localities && localitiesOf(localities)) };
  };
}

const weightedOf = (config: Fields): Pick<Cluster, "localities"> =>
  config.message(WEIGHTED) === undefined ? {} : { localities: { kind: "weighted" } };

const CONSISTENT = "consistent_hashing_lb_config";

type Bounds = Pick<HashingPolicy, "balanceFactor" | "byHostname">;

/** `consistent_hashing_lb_config`, of a typed policy or, with `isCommon`, of `common_lb_config`. */
function readBounds(owner: Fields | undefined, discovery?: Discovery, isCommon = false): Bounds {
  const hashing = owner?.message(CONSISTENT);
  if (hashing === undefined) return {};
  const bounds = boundsOf(hashing);
  /* As in Envoy: names that were looked up alone are believed there, and anybody's in a typed policy. */
  if (isCommon && bounds.byHostname && !(discovery?.kind === "dns" && !discovery.logical))
    hashing.reject("use_hostname_for_hashing", "needs a STRICT_DNS cluster", "write it into load_balancing_policy");
  return bounds;
}

function boundsOf(config: Fields): Bounds {
  const balanceFactor = config.number("hash_balance_factor");
  const byHostname = config.boolean("use_hostname_for_hashing");
  return { ...(balanceFactor === undefined ? {} : { balanceFactor }), ...(byHostname ? { byHostname } : {}) };
}

function readTyped(cluster: Fields, common: Fields | undefined): TypedBalancing {
  // What it says does not count any more; that it is a value was seen to when it was read.
  cluster.skip("lb_policy");
  for (const name of [WEIGHTED, ZONE_AWARE])
    if (common?.has(name)) {
      common.skip(name);
      common.reject(name, "cannot be combined with load_balancing_policy", "write it inside the policy");
    }
  if (cluster.has("lb_subset_config")) {
    cluster.message("lb_subset_config")?.skipRest();
    const mend = "write a policy of subsets, with this one in its subset_lb_policy";
    cluster.reject("lb_subset_config", "cannot be combined with load_balancing_policy", mend);
  }
  return readPolicies(cluster, "load_balancing_policy", TYPED);
}

/** A list of policies, of which the first that is of one of these types is taken. */
function readPolicies(owner: Fields, field: string, types: typeof PLAIN): TypedBalancing {
  const list = owner.message(field)?.messages("policies") ?? [];
  const extensions = list.map((entry) => entry.message("typed_extension_config"));
  const at = extensions.findIndex((extension) => types[extension?.packedType("typed_config") ?? ""] !== undefined);
  for (const [i, extension] of extensions.entries()) {
    extension?.skip("name");
    if (i !== at && at >= 0) extension?.skip("typed_config");
  }
  const typeName = extensions[at]?.packedType("typed_config");
  const config = typeName === undefined ? undefined : extensions[at]!.packed("typed_config", typeName);
  if (typeName === undefined || config === undefined) {
    const names = Object.keys(types).map((name) => name.slice(name.lastIndexOf(".") + 1));
    for (const extension of extensions) extension?.skip("typed_config");
    owner.reject(field, "names no policy that is supported yet", `XLB takes ${names.join(", ")}`);
    return { policy: { kind: "roundRobin" } };
  }
  return types[typeName]!(config);
}
