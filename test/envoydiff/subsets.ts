import type { Dice } from "../dice.ts";
import { type ActionPart, type ClusterSpec, type EndpointSpec, type Json, written } from "./spec.ts";

/** Clusters in subsets, and routes that ask for one: few keys and values, so that most that is asked for is there. */

const LB = "type.googleapis.com/envoy.extensions.load_balancing_policies";

const KEYS = ["v", "stage", "w"];
const VALUES: Readonly<Record<string, readonly unknown[]>> = {
  v: ["1", "1", "2", "2", 1, ["1", "2"], ["2"], []],
  stage: ["prod", "prod", "test", { a: 1, b: [null] }, { b: [null], a: 1 }],
  w: [true, true, "true", ["1"]],
};
/** Some that are the same to who reads YAML, and some that only look so. */
const WRITTEN: Readonly<Record<string, readonly unknown[]>> = {
  v: [
    written("1.5"),
    "1.5",
    written("1.50"),
    written("0x1"),
    written("01"),
    written('"1"'),
    "1",
    1,
    written("08"),
    "08",
  ],
  stage: [written("~"), null, written("Null"), "null", written("nULL"), "nULL", written("3000000000"), "3000000000"],
  w: [written("yes"), written("On"), written("yEs"), "yEs", written("n"), false, written("'yes'"), "yes", true],
};
/** What no endpoint has. */
const NOWHERE = ["none", 7];

const some = (of: readonly string[], dice: Dice): string[] => {
  const kept = of.filter(() => dice.chance(0.6));
  return kept.length === 0 ? [dice.one(of)] : dice.chance(0.5) ? kept : kept.toReversed();
};

const filtered = (metadata: Json, dice: Dice): Json => ({
  filter_metadata: { "envoy.lb": metadata, ...(dice.chance(0.2) ? { other: { v: "2", stage: "none" } } : {}) },
});

const anyValue = (key: string, dice: Dice) =>
  dice.one(dice.chance(0.2) ? WRITTEN[key]! : dice.chance(0.15) ? NOWHERE : VALUES[key]!);

const valuesOf = (keys: readonly string[], dice: Dice): Json =>
  Object.fromEntries(keys.map((key) => [key, anyValue(key, dice)]));

/** `metadata_match` */
export function someCriteria(dice: Dice): Json {
  const criteria = dice.chance(0.1) ? {} : valuesOf(some(KEYS, dice), dice);
  if (!dice.chance(0.25)) return { metadata_match: filtered(criteria, dice) };
  const fallback_list = dice.chance(0.1)
    ? dice.one<unknown>([[], "no list", [7]])
    : Array.from({ length: dice.between(1, 3) }, () => valuesOf(some(KEYS, dice), dice));
  return { metadata_match: filtered({ ...criteria, fallback_list }, dice) };
}

function anySelector(dice: Dice): Json {
  const keys = dice.chance(0.03) ? [] : some(KEYS, dice);
  const single = dice.chance(0.15) ? { single_host_per_subset: dice.chance(0.9) } : {};
  const fallback_policy = dice.one(["NOT_DEFINED", "NO_FALLBACK", "ANY_ENDPOINT", "DEFAULT_SUBSET", "KEYS_SUBSET"]);
  if (dice.chance(0.4)) return { keys, ...single };
  if (fallback_policy !== "KEYS_SUBSET") return { keys, ...single, fallback_policy };
  const fewer = keys.slice(1);
  return fewer.length === 0 ? { keys, ...single } : { keys, ...single, fallback_policy, fallback_keys_subset: fewer };
}

function anySubsets(dice: Dice): Json {
  const flag = (name: string, chance: number) => (dice.chance(chance) ? { [name]: dice.chance(0.9) } : {});
  return {
    subset_selectors: Array.from({ length: dice.one([1, 1, 2, 2, 3]) }, () => anySelector(dice)),
    ...(dice.chance(0.7) ? { fallback_policy: dice.one(["NO_FALLBACK", "ANY_ENDPOINT", "DEFAULT_SUBSET"]) } : {}),
    ...(dice.chance(0.7) ? { default_subset: dice.chance(0.2) ? {} : valuesOf([dice.one(KEYS)], dice) } : {}),
    ...flag("locality_weight_aware", 0.4),
    ...flag("scale_locality_weight", 0.4),
    ...flag("panic_mode_any", 0.3),
    ...flag("list_as_any", 0.4),
    ...(dice.chance(0.4) ? { metadata_fallback_policy: dice.one(["METADATA_NO_FALLBACK", "FALLBACK_LIST"]) } : {}),
  };
}

const HASHING: readonly Json[] = [
  { lb_policy: "RING_HASH" },
  { lb_policy: "RING_HASH", ring_hash_lb_config: { minimum_ring_size: 10 } },
  { lb_policy: "MAGLEV", maglev_lb_config: { table_size: 251 } },
];

const policyList = (type: string, config: Json): Json => ({
  policies: [{ typed_extension_config: { name: "x", typed_config: { "@type": `${LB}.${type}`, ...config } } }],
});

/** Puts subsets into a cluster that has no policy yet, and metadata to its endpoints. `isPlain`: it does not hash. */
export function divide(
  cluster: Omit<ClusterSpec, "endpoints"> & { readonly endpoints: EndpointSpec[] },
  isPlain: boolean,
  dice: Dice,
): void {
  const { options, endpoints } = cluster;
  for (const endpoint of endpoints)
    if (dice.chance(0.9)) endpoint.metadata = filtered(valuesOf(some(KEYS, dice), dice), dice);
  const { locality_weighted_lb_config, zone_aware_lb_config, ...common } = (options.common_lb_config ?? {}) as Json;
  if (dice.chance(0.65)) {
    const { locality_weight_aware, ...subsets } = anySubsets(dice);
    // Envoy refuses it where localities have no weights.
    const aware = locality_weighted_lb_config === undefined ? {} : { locality_weight_aware };
    options.lb_subset_config = { ...subsets, ...aware };
    if (!isPlain && dice.chance(0.3)) Object.assign(options, dice.one(HASHING));
    else if (dice.chance(0.7)) options.lb_policy = dice.one(["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"]);
    return;
  }
  const localities = locality_weighted_lb_config
    ? { locality_lb_config: { locality_weighted_lb_config } }
    : zone_aware_lb_config
      ? { locality_lb_config: { zone_aware_lb_config } }
      : {};
  options.common_lb_config = common;
  const child = dice.one(["round_robin.v3.RoundRobin", "least_request.v3.LeastRequest", "random.v3.Random"]);
  options.load_balancing_policy = policyList("subset.v3.Subset", {
    ...anySubsets(dice),
    ...(dice.chance(0.5) ? { allow_redundant_keys: dice.chance(0.9) } : {}),
    subset_lb_policy: policyList(child, localities),
  });
}

export const SUBSETS: readonly ActionPart[] = [
  {
    name: "route.metadata_match",
    kernel: true,
    weight: 2.5,
    make: (dice, { divided }) => ({ route: { cluster: divided(false), ...someCriteria(dice) } }),
  },
  {
    name: "weighted_clusters.clusters.metadata_match",
    kernel: true,
    weight: 1.5,
    make(dice, { divided, fresh }) {
      const cluster = divided(false);
      const clusters = Array.from({ length: dice.between(1, 3) }, () => ({
        name: dice.chance(0.8) ? cluster : fresh(),
        weight: dice.between(1, 4),
        ...(dice.chance(0.7) ? someCriteria(dice) : {}),
      }));
      return { route: { weighted_clusters: { clusters }, ...(dice.chance(0.6) ? someCriteria(dice) : {}) } };
    },
  },
];
