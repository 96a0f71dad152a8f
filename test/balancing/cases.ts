/**
 * Clusters in Envoy's words, and what part of the requests each of their endpoints is to get: worked out by hand from
 * Envoy's documentation, for the reference, the kernel's tables and a real Envoy alike.
 */
export interface Case {
  readonly name: string;
  readonly cluster: Json;
  /** Where requests go; missing: to cluster `c`, which has no subsets then. */
  readonly route?: Json;
  /** By the number of the endpoint; those that are not named get nothing, and what is missing to 1 is answered 503. */
  readonly shares: Readonly<Record<number, number>>;
  /** XLB itself is in zone `a` of a cluster with so many members in each zone. */
  readonly local?: Readonly<Record<string, number>>;
  /** Only the slow path can follow it. */
  readonly slow?: string;
}

type Json = { readonly [field: string]: unknown };

export const PORT = 18_090;
export const addressOf = (number: number) => `127.0.78.${number}`;

const place = (number: number) => ({
  endpoint: { address: { socket_address: { address: addressOf(number), port_value: PORT } } },
});

/** Numbers of endpoints, with what there is to say of one: a weight, a letter for its health, or its metadata. */
type Member = number | readonly [number: number, ...notes: (number | "u" | "d" | "r" | Json)[]];

const HEALTH = { u: "UNHEALTHY", d: "DEGRADED", r: "DRAINING" } as const;

const member = (written: Member): Json => {
  const [number, ...notes] = typeof written === "number" ? [written] : written;
  const said = notes.map((note) => {
    if (typeof note === "number") return { load_balancing_weight: note };
    return typeof note === "string" ? { health_status: HEALTH[note] } : { metadata: lb(note) };
  });
  return Object.assign({}, place(number), ...said);
};

const lb = (metadata: Json): Json => ({ filter_metadata: { "envoy.lb": metadata, other: { v: "other" } } });

const group = (members: readonly Member[], more: Json = {}) => ({ lb_endpoints: members.map(member), ...more });
const zone = (name: string, members: readonly Member[], more: Json = {}) =>
  group(members, { locality: { region: "r", zone: name }, ...more });
const assigned = (endpoints: readonly Json[], policy?: Json): Json => ({
  load_assignment: { cluster_name: "c", endpoints, ...(policy ? { policy } : {}) },
});
const range = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);
const sick = (first: number, count: number) => range(first, count).map((number): Member => [number, "u"]);
const each = (numbers: readonly number[], share: number) => Object.fromEntries(numbers.map((n) => [n, share]));

const TYPES = "type.googleapis.com/envoy.extensions.load_balancing_policies";
const typed = (type: string, more: Json): Json => ({
  load_balancing_policy: {
    policies: [{ typed_extension_config: { name: "x", typed_config: { "@type": `${TYPES}.${type}`, ...more } } }],
  },
});
const LEAST = { lb_policy: "LEAST_REQUEST" };
const WEIGHTED = { common_lb_config: { locality_weighted_lb_config: {} } };
const zones = (more: Json) => ({ common_lb_config: { zone_aware_lb_config: more } });
const panic = (value: number) => ({ common_lb_config: { healthy_panic_threshold: { value } } });
const bias = (value: number) => ({
  least_request_lb_config: { active_request_bias: { default_value: value, runtime_key: "k" } },
});
const slowStart = { slow_start_config: { slow_start_window: "600s" } };

const asks = (criteria: Json): Json => ({ cluster: "c", metadata_match: lb(criteria) });
const asksNothing: Json = { cluster: "c" };
const subsets = (more: Json): Json => ({ lb_subset_config: more });
const keys = (...names: string[]) => ({ keys: names });
const ROUND_ROBIN = {
  policies: [
    { typed_extension_config: { name: "y", typed_config: { "@type": `${TYPES}.round_robin.v3.RoundRobin` } } },
  ],
};
const V = { subset_selectors: [keys("v")] };
/** Two of one version, one of another, one of none. */
const VERSIONS = [group([[1, { v: "1" }], [2, { v: "1" }], [3, { v: "2" }], 4])];
/** Of two versions and two stages. */
const STAGES = [
  group([
    [1, { v: "1", stage: "prod" }],
    [2, { v: "1", stage: "test" }],
    [3, { v: "2", stage: "prod" }],
    [4, { v: "2" }],
  ]),
];
const WEIGHTED_ZONES = [
  zone(
    "a",
    [
      [1, { v: "1" }],
      [2, { v: "2" }],
      [3, { v: "2" }],
      [4, { v: "2" }],
    ],
    { load_balancing_weight: 4 },
  ),
  zone(
    "b",
    [
      [5, { v: "1" }],
      [6, { v: "1" }],
    ],
    { load_balancing_weight: 1 },
  ),
];

const THREE = [group([1, 2, 3])];
const BY_WEIGHT = [
  group([
    [1, 1],
    [2, 2],
    [3, 5],
  ]),
];
const WEIGHTS = { 1: 1 / 8, 2: 2 / 8, 3: 5 / 8 };
const SIX = [zone("a", [1, 2]), zone("b", [3, 4, 5, 6])];
const THREE_ZONES = [zone("a", [1, 2]), zone("b", [3, 4, 5, 6]), zone("c", [7, 8])];

export const CASES: readonly Case[] = [
  { name: "round robin", cluster: assigned(THREE), shares: each([1, 2, 3], 1 / 3) },
  { name: "round robin by weight", cluster: assigned(BY_WEIGHT), shares: WEIGHTS },
  {
    name: "random takes no notice of weights",
    cluster: { ...assigned(BY_WEIGHT), lb_policy: "RANDOM" },
    shares: each([1, 2, 3], 1 / 3),
  },
  { name: "least request", cluster: { ...assigned(THREE), ...LEAST }, shares: each([1, 2, 3], 1 / 3) },
  { name: "least request by weight", cluster: { ...assigned(BY_WEIGHT), ...LEAST }, shares: WEIGHTS },
  { name: "least request without bias", cluster: { ...assigned(BY_WEIGHT), ...LEAST, ...bias(0) }, shares: WEIGHTS },
  {
    name: "least request with half the bias",
    cluster: { ...assigned(BY_WEIGHT), ...LEAST, ...bias(0.5) },
    shares: WEIGHTS,
    slow: "its active_request_bias is neither 0 nor 1",
  },
  {
    name: "least request of all",
    cluster: { ...assigned(THREE), ...typed("least_request.v3.LeastRequest", { selection_method: "FULL_SCAN" }) },
    shares: each([1, 2, 3], 1 / 3),
  },
  {
    name: "least request of all by weight",
    cluster: { ...assigned(BY_WEIGHT), ...typed("least_request.v3.LeastRequest", { selection_method: "FULL_SCAN" }) },
    shares: WEIGHTS,
  },
  {
    name: "half of a priority is well",
    cluster: assigned([group([1, [2, "u"]]), group([3, 4], { priority: 1 })]),
    shares: { 1: 0.7, 3: 0.15, 4: 0.15 },
  },
  {
    name: "71 of 100 are well",
    cluster: assigned([group([...range(1, 71), ...sick(72, 29)]), group([101], { priority: 1 })]),
    shares: { ...each(range(1, 71), 0.99 / 71), 101: 0.01 },
  },
  {
    name: "a quarter of each of two priorities is well: panic in both",
    cluster: assigned([group([1, ...sick(2, 3)]), group([5, ...sick(6, 3)], { priority: 1 })]),
    shares: each(range(1, 8), 1 / 8),
  },
  {
    name: "panic in one of two priorities",
    cluster: assigned([group([1, ...sick(2, 9)]), group([11, [12, "u"]], { priority: 1 })]),
    shares: { ...each(range(1, 10), 0.017), 11: 0.83 },
  },
  {
    name: "a priority is left out",
    cluster: assigned([group(sick(1, 1)), group([2], { priority: 2 })]),
    shares: { 2: 1 },
  },
  { name: "degraded", cluster: assigned([group([1, [2, "d"], [3, "d"]])]), shares: { 1: 0.46, 2: 0.27, 3: 0.27 } },
  {
    name: "degraded in three priorities, as Envoy's own comment counts",
    cluster: {
      ...assigned(
        [
          group([1, [2, "d"], [3, "d"], ...sick(4, 7)]),
          group([11, 12, [13, "d"], ...sick(14, 7)], { priority: 1 }),
          group([21, ...sick(22, 9)], { priority: 2 }),
        ],
        { overprovisioning_factor: 100 },
      ),
      ...panic(0),
    },
    shares: { 1: 0.16, 11: 0.14, 12: 0.14, 21: 0.14, 2: 0.14, 3: 0.14, 13: 0.14 },
  },
  { name: "those that drain do not count", cluster: assigned([group([1, [2, "u"], [3, "r"]])]), shares: { 1: 1 } },
  {
    name: "panic takes those that drain",
    cluster: assigned([group([1, [2, "u"], [3, "u"], [4, "r"]])]),
    shares: each(range(1, 4), 1 / 4),
  },
  {
    name: "no panic: a lower threshold",
    cluster: { ...assigned([group([1, ...sick(2, 2)])]), ...panic(33.9) },
    shares: { 1: 1 },
  },
  { name: "no panic: none is well", cluster: { ...assigned([group(sick(1, 2))]), ...panic(0) }, shares: {} },
  {
    name: "another overprovisioning",
    cluster: assigned([group([1, [2, "u"]]), group([3], { priority: 1 })], { overprovisioning_factor: 100 }),
    shares: { 1: 0.5, 3: 0.5 },
  },
  {
    name: "weights count for health",
    cluster: assigned(
      [
        group([
          [1, 3],
          [2, 7, "u"],
        ]),
        group([3], { priority: 1 }),
      ],
      { weighted_priority_health: true },
    ),
    shares: { 1: 0.42, 3: 0.58 },
  },
  {
    name: "localities by weight",
    cluster: {
      ...assigned([
        zone("a", [1, 2], { load_balancing_weight: 1 }),
        zone("b", [3, [4, "u"]], { load_balancing_weight: 3 }),
        zone("c", [5]),
      ]),
      ...WEIGHTED,
    },
    shares: { 1: 0.5 / 3.1, 2: 0.5 / 3.1, 3: 2.1 / 3.1 },
  },
  {
    name: "localities by weight, in the policy; the last weight of a locality holds",
    cluster: {
      ...assigned([
        zone("a", [1], { load_balancing_weight: 1 }),
        zone(
          "b",
          [
            [3, 1],
            [4, 4],
          ],
          { load_balancing_weight: 1 },
        ),
        zone("a", [2], { load_balancing_weight: 4 }),
      ]),
      ...typed("round_robin.v3.RoundRobin", { locality_lb_config: { locality_weighted_lb_config: {} } }),
    },
    shares: { 1: 0.4, 2: 0.4, 3: 0.04, 4: 0.16 },
  },
  {
    name: "localities without a weight",
    cluster: { ...assigned([zone("a", [1, 2]), zone("b", [3])]), ...WEIGHTED },
    shares: each([1, 2, 3], 1 / 3),
  },
  {
    name: "localities by weight in two priorities",
    cluster: {
      ...assigned([
        zone("a", [1], { load_balancing_weight: 1 }),
        zone("b", [2, ...sick(3, 3)], { load_balancing_weight: 1 }),
        zone("a", [6], { load_balancing_weight: 1, priority: 1 }),
      ]),
      ...WEIGHTED,
    },
    shares: { 1: 0.56 / 1.35, 2: (0.56 * 0.35) / 1.35, 6: 0.44 },
  },
  { name: "by zone: not without a local cluster", cluster: assigned(SIX), shares: each(range(1, 6), 1 / 6) },
  {
    name: "by zone: as many stay as there is room for",
    cluster: assigned(SIX),
    local: { a: 2, b: 2 },
    shares: { ...each([1, 2], 1 / 3), ...each(range(3, 4), 1 / 12) },
  },
  {
    name: "by zone: all stay",
    cluster: assigned([zone("a", [1, 2, 3, 4]), zone("b", [5, 6])]),
    local: { a: 2, b: 2 },
    shares: each([1, 2, 3, 4], 1 / 4),
  },
  {
    name: "by zone: half of the requests",
    cluster: { ...assigned(SIX), ...zones({ routing_enabled: { value: 50 } }) },
    local: { a: 2, b: 2 },
    shares: { ...each([1, 2], 1 / 4), ...each(range(3, 4), 1 / 8) },
  },
  {
    name: "by zone: the others go where there is more room",
    cluster: { ...assigned(THREE_ZONES), ...LEAST },
    local: { a: 2, b: 2, c: 1 },
    shares: { ...each([1, 2], 0.625 / 2), ...each(range(3, 4), 0.25 / 4), ...each([7, 8], 0.125 / 2) },
  },
  {
    name: "by zone: too few endpoints",
    cluster: { ...assigned(SIX), ...zones({ min_cluster_size: 7 }) },
    local: { a: 2, b: 2 },
    shares: each(range(1, 6), 1 / 6),
  },
  {
    name: "panic that fails",
    cluster: { ...assigned([group([1, ...sick(2, 2)])]), ...zones({ fail_traffic_on_panic: true }) },
    shares: {},
  },
  {
    name: "panic that fails in one of two priorities",
    cluster: {
      ...assigned([group([1, ...sick(2, 9)]), group([11, [12, "u"]], { priority: 1 })]),
      ...zones({ fail_traffic_on_panic: true }),
    },
    shares: { 11: 0.83 },
    slow: "a part of its requests has no endpoint",
  },
  {
    name: "slow start where all are new",
    cluster: { ...assigned(BY_WEIGHT), round_robin_lb_config: slowStart },
    shares: WEIGHTS,
  },
  {
    name: "slow start beside endpoints that are not well",
    cluster: { ...assigned([group([1, ...sick(2, 2)])]), round_robin_lb_config: slowStart },
    shares: { 1: 0.1 / 2.1, 2: 1 / 2.1, 3: 1 / 2.1 },
    slow: "healthy endpoints start slowly beside others, in panic",
  },
  {
    name: "a subset",
    cluster: { ...assigned(VERSIONS), ...subsets(V) },
    route: asks({ v: "1" }),
    shares: each([1, 2], 1 / 2),
  },
  {
    name: "no subset without criteria, nor an endpoint",
    cluster: { ...assigned(VERSIONS), ...subsets(V) },
    route: asksNothing,
    shares: {},
  },
  {
    name: "no subset without criteria, so any endpoint",
    cluster: { ...assigned(VERSIONS), ...subsets({ ...V, fallback_policy: "ANY_ENDPOINT" }) },
    route: asksNothing,
    shares: each([1, 2, 3, 4], 1 / 4),
  },
  {
    name: "no subset of that value, so the default one",
    cluster: {
      ...assigned(VERSIONS),
      ...subsets({ ...V, fallback_policy: "DEFAULT_SUBSET", default_subset: { v: "2" } }),
    },
    route: asks({ v: "3" }),
    shares: { 3: 1 },
  },
  {
    name: "a default subset of nothing is all",
    cluster: { ...assigned(VERSIONS), ...subsets({ ...V, fallback_policy: "DEFAULT_SUBSET" }) },
    route: asks({ v: "1", w: "1" }),
    shares: each([1, 2, 3, 4], 1 / 4),
  },
  {
    name: "values are equal by what they are",
    cluster: {
      ...assigned([
        group([
          [1, { v: 1 }],
          [2, { v: "1" }],
          [3, { v: { a: [1, true, null], b: "x" } }],
          [4, { v: { b: "x", a: [1, true, null] } }],
          [5, { v: { b: "x", a: [1, null, true] } }],
        ]),
      ]),
      ...subsets(V),
    },
    route: asks({ v: { b: "x", a: [1, true, null] } }),
    shares: each([3, 4], 1 / 2),
  },
  {
    name: "two keys, in whatever order they are written",
    cluster: { ...assigned(STAGES), ...subsets({ subset_selectors: [keys("v", "stage")] }) },
    route: asks({ v: "1", stage: "prod" }),
    shares: { 1: 1 },
  },
  {
    name: "a key less than the selector has",
    cluster: {
      ...assigned(STAGES),
      ...subsets({ subset_selectors: [keys("v", "stage")], fallback_policy: "ANY_ENDPOINT" }),
    },
    route: asks({ stage: "prod" }),
    shares: each([1, 2, 3, 4], 1 / 4),
  },
  {
    name: "a key more than the selector has",
    cluster: { ...assigned(STAGES), ...subsets({ subset_selectors: [keys("v")] }) },
    route: asks({ v: "1", stage: "prod" }),
    shares: {},
  },
  {
    name: "fewer keys, where there is no subset of all",
    cluster: {
      ...assigned(STAGES),
      ...subsets({
        subset_selectors: [
          { ...keys("stage", "v"), fallback_policy: "KEYS_SUBSET", fallback_keys_subset: ["v"] },
          keys("v"),
        ],
      }),
    },
    route: asks({ v: "1", stage: "none" }),
    shares: each([1, 2], 1 / 2),
  },
  {
    name: "fewer keys, of which no selector knows",
    cluster: {
      ...assigned(STAGES),
      ...subsets({
        subset_selectors: [{ ...keys("stage", "v"), fallback_policy: "KEYS_SUBSET", fallback_keys_subset: ["v"] }],
        fallback_policy: "DEFAULT_SUBSET",
        default_subset: { stage: "prod" },
      }),
    },
    route: asks({ v: "1", stage: "none" }),
    shares: each([1, 3], 1 / 2),
  },
  {
    name: "a selector's fallback goes before the cluster's",
    cluster: {
      ...assigned(STAGES),
      ...subsets({
        subset_selectors: [{ ...keys("stage"), fallback_policy: "NO_FALLBACK" }],
        fallback_policy: "ANY_ENDPOINT",
      }),
    },
    route: asks({ stage: "none" }),
    shares: {},
  },
  {
    name: "a selector's default subset",
    cluster: {
      ...assigned(STAGES),
      ...subsets({
        subset_selectors: [{ ...keys("stage"), fallback_policy: "DEFAULT_SUBSET" }],
        default_subset: { v: "2" },
      }),
    },
    route: asks({ stage: "none" }),
    shares: each([3, 4], 1 / 2),
  },
  {
    name: "a selector's fallback behind a longer one that begins with its keys is lost",
    cluster: {
      ...assigned(STAGES),
      ...subsets({ subset_selectors: [keys("v", "stage"), { ...keys("stage"), fallback_policy: "ANY_ENDPOINT" }] }),
    },
    route: asks({ stage: "none" }),
    shares: {},
  },
  {
    name: "a selector's fallback before a longer one that begins with its keys",
    cluster: {
      ...assigned(STAGES),
      ...subsets({ subset_selectors: [{ ...keys("stage"), fallback_policy: "ANY_ENDPOINT" }, keys("v", "stage")] }),
    },
    route: asks({ stage: "none" }),
    shares: each([1, 2, 3, 4], 1 / 4),
  },
  {
    name: "one endpoint of a subset, the first of the first priority, well or not",
    cluster: {
      ...assigned([
        group([[1, { v: "1" }]], { priority: 1 }),
        group([
          [2, "u", { v: "1" }],
          [3, { v: "1" }],
          [4, { v: "2" }],
        ]),
      ]),
      ...subsets({ subset_selectors: [{ ...keys("v"), single_host_per_subset: true }] }),
    },
    route: asks({ v: "1" }),
    shares: { 2: 1 },
  },
  {
    name: "a list of values is each of them",
    cluster: {
      ...assigned([
        group([
          [1, { v: ["1", "2"] }],
          [2, { v: "1" }],
          [3, { v: ["2"] }],
        ]),
      ]),
      ...subsets({ ...V, list_as_any: true }),
    },
    route: asks({ v: "1" }),
    shares: each([1, 2], 1 / 2),
  },
  {
    name: "a list of values is one, where nothing is said",
    cluster: {
      ...assigned([
        group([
          [1, { v: ["1", "2"] }],
          [2, { v: "1" }],
          [3, { v: ["2"] }],
        ]),
      ]),
      ...subsets(V),
    },
    route: asks({ v: ["1", "2"] }),
    shares: { 1: 1 },
  },
  {
    name: "lists of values in two keys and in the default subset",
    cluster: {
      ...assigned([
        group([
          [1, { v: ["1", "2"], w: ["3", "4"] }],
          [2, { v: ["1"], w: "4" }],
          [3, { w: ["4"] }],
        ]),
      ]),
      ...subsets({
        subset_selectors: [keys("v", "w"), keys("w")],
        list_as_any: true,
        fallback_policy: "DEFAULT_SUBSET",
        default_subset: { v: "1" },
      }),
    },
    route: asks({ v: "2", w: "4" }),
    shares: { 1: 1 },
  },
  {
    name: "an endpoint with an empty list counts by its other keys",
    cluster: {
      ...assigned([
        group([
          [1, { v: [], w: "1" }],
          [2, { v: "1", w: "1" }],
          [3, { w: "1" }],
        ]),
      ]),
      ...subsets({ subset_selectors: [keys("v", "w")], list_as_any: true }),
    },
    route: asks({ w: "1" }),
    shares: { 1: 1 },
  },
  {
    name: "panic to any endpoint, where the default subset has none",
    cluster: {
      ...assigned(VERSIONS),
      ...subsets({ ...V, fallback_policy: "DEFAULT_SUBSET", default_subset: { v: "none" }, panic_mode_any: true }),
    },
    route: asksNothing,
    shares: each([1, 2, 3, 4], 1 / 4),
  },
  {
    name: "panic to any endpoint is no fallback by itself",
    cluster: { ...assigned(VERSIONS), ...subsets({ ...V, panic_mode_any: true }) },
    route: asks({ v: "3" }),
    shares: {},
  },
  {
    name: "a subset in panic is used whole",
    cluster: {
      ...assigned([
        group([
          [1, "u", { v: "1" }],
          [2, "u", { v: "1" }],
          [3, { v: "2" }],
        ]),
      ]),
      ...subsets({ ...V, fallback_policy: "ANY_ENDPOINT" }),
    },
    route: asks({ v: "1" }),
    shares: each([1, 2], 1 / 2),
  },
  {
    name: "a subset without a healthy endpoint, and without panic, is no reason to fall back",
    cluster: {
      ...assigned([
        group([
          [1, "u", { v: "1" }],
          [2, "u", { v: "1" }],
          [3, { v: "2" }],
        ]),
      ]),
      ...panic(0),
      ...subsets({ ...V, fallback_policy: "ANY_ENDPOINT" }),
    },
    route: asks({ v: "1" }),
    shares: {},
  },
  {
    name: "panic to any endpoint for the part of the default subset's requests that fails",
    cluster: {
      ...assigned([
        group([[1, { v: "1" }], ...range(2, 9).map((number): Member => [number, "u", { v: "1" }])]),
        group(
          [
            [11, { v: "1" }],
            [12, "u", { v: "1" }],
          ],
          { priority: 1 },
        ),
        group(range(21, 14), { priority: 2 }),
      ]),
      ...zones({ fail_traffic_on_panic: true }),
      ...subsets({ ...V, fallback_policy: "DEFAULT_SUBSET", default_subset: { v: "1" }, panic_mode_any: true }),
    },
    route: asksNothing,
    // 17 % fall back; with priority 2 there is no panic, so of all endpoints priority 0 has 14 %, 1 has 70 %.
    shares: { 1: 0.17 * 0.14, 11: 0.83 + 0.17 * 0.7, ...each(range(21, 14), (0.17 * 0.16) / 14) },
    slow: "a part of its requests has no endpoint",
  },
  {
    name: "priorities of a subset",
    cluster: {
      ...assigned([
        group([[1, { v: "1" }], [2, "u", { v: "1" }], 3, 4, 5]),
        group([[6, { v: "1" }], 7], { priority: 1 }),
      ]),
      ...subsets(V),
    },
    route: asks({ v: "1" }),
    shares: { 1: 0.7, 6: 0.3 },
  },
  {
    name: "localities by weight do not count in subsets",
    cluster: { ...assigned(WEIGHTED_ZONES), ...WEIGHTED, ...subsets(V) },
    route: asks({ v: "1" }),
    shares: each([1, 5, 6], 1 / 3),
  },
  {
    name: "nor where any endpoint will do",
    cluster: { ...assigned(WEIGHTED_ZONES), ...WEIGHTED, ...subsets({ ...V, fallback_policy: "ANY_ENDPOINT" }) },
    route: asksNothing,
    shares: each(range(1, 6), 1 / 6),
  },
  {
    name: "localities by weight in a subset that is to know of them",
    cluster: { ...assigned(WEIGHTED_ZONES), ...WEIGHTED, ...subsets({ ...V, locality_weight_aware: true }) },
    route: asks({ v: "1" }),
    shares: { 1: 0.8, ...each([5, 6], 0.1) },
  },
  {
    name: "localities by weight, by the part of their endpoints in the subset",
    cluster: {
      ...assigned(WEIGHTED_ZONES),
      ...WEIGHTED,
      ...subsets({ ...V, locality_weight_aware: true, scale_locality_weight: true }),
    },
    route: asks({ v: "1" }),
    shares: { 1: 0.5, ...each([5, 6], 0.25) },
  },
  {
    name: "by zone in a subset",
    cluster: {
      ...assigned([
        zone("a", [[1, { v: "1" }], [2, { v: "1" }], 3, 4]),
        zone("b", [...range(5, 4).map((number): Member => [number, { v: "1" }]), 9]),
      ]),
      ...subsets(V),
    },
    route: asks({ v: "1" }),
    local: { a: 2, b: 2 },
    shares: { ...each([1, 2], 1 / 3), ...each(range(5, 4), 1 / 12) },
  },
  {
    name: "a list of criteria, of which the second has a subset",
    cluster: {
      ...assigned(STAGES),
      ...subsets({ subset_selectors: [keys("v", "stage")], metadata_fallback_policy: "FALLBACK_LIST" }),
    },
    route: asks({ v: "2", fallback_list: [{ stage: "test" }, { v: "1", stage: "test" }, { stage: "prod" }] }),
    shares: { 2: 1 },
  },
  {
    name: "a list of criteria is a key like others, where nothing is said",
    cluster: {
      ...assigned(STAGES),
      ...subsets({ subset_selectors: [keys("v", "stage")], fallback_policy: "ANY_ENDPOINT" }),
    },
    route: asks({ v: "2", fallback_list: [{ stage: "prod" }] }),
    shares: each([1, 2, 3, 4], 1 / 4),
  },
  {
    name: "an empty list of criteria leaves the others",
    cluster: { ...assigned(VERSIONS), ...subsets({ ...V, metadata_fallback_policy: "FALLBACK_LIST" }) },
    route: asks({ v: "2", fallback_list: [] }),
    shares: { 3: 1 },
  },
  {
    name: "criteria of an entry above those of its route",
    cluster: { ...assigned(STAGES), ...subsets({ subset_selectors: [keys("v", "stage")] }) },
    route: {
      metadata_match: lb({ v: "1", stage: "prod" }),
      weighted_clusters: { clusters: [{ name: "c", weight: 1, metadata_match: lb({ v: "2" }) }] },
    },
    shares: { 3: 1 },
  },
  {
    name: "subsets by the list of policies, with their own",
    cluster: {
      ...assigned([
        group([
          [1, 1, { v: "1" }],
          [2, 3, { v: "1" }],
          [3, { v: "2" }],
        ]),
      ]),
      ...typed("subset.v3.Subset", { ...V, subset_lb_policy: ROUND_ROBIN }),
    },
    route: asks({ v: "1" }),
    shares: { 1: 0.25, 2: 0.75 },
  },
  {
    name: "subsets by the list of policies, without a selector",
    cluster: { ...assigned(VERSIONS), ...typed("subset.v3.Subset", { subset_lb_policy: ROUND_ROBIN }) },
    route: asksNothing,
    shares: {},
  },
  {
    name: "criteria that no selector knows, where they do no harm",
    cluster: {
      ...assigned(STAGES),
      ...typed("subset.v3.Subset", {
        subset_selectors: [keys("stage"), keys("stage", "v")],
        allow_redundant_keys: true,
        subset_lb_policy: ROUND_ROBIN,
      }),
    },
    route: asks({ v: "1", stage: "test", w: "1" }),
    shares: { 2: 1 },
  },
];

/** The cluster `c` of a case, and what else of a bootstrap it needs. */
export function bootstrapOf({ cluster, route = asksNothing, local }: Case, address: Json): Json {
  const members = Object.entries(local ?? {}).flatMap(([name, count], i) => zone(name, range(201 + 10 * i, count)));
  const own = { name: "local", ...assigned(members) };
  return {
    static_resources: {
      listeners: [listener(address, route)],
      clusters: [{ name: "c", ...cluster }, ...(local ? [own] : [])],
    },
    ...(local
      ? {
          node: { id: "one", cluster: "local", locality: { region: "r", zone: "a" } },
          cluster_manager: { local_cluster_name: "local" },
        }
      : {}),
  };
}

function listener(address: Json, route: Json): Json {
  const types = "type.googleapis.com/envoy.extensions.filters";
  const manager = {
    "@type": `${types}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "x",
    route_config: {
      name: "r",
      virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, route }] }],
    },
    http_filters: [{ name: "router", typed_config: { "@type": `${types}.http.router.v3.Router` } }],
  };
  return { name: "l", address, filter_chains: [{ filters: [{ name: "hcm", typed_config: manager }] }] };
}

/**
 * Asserts nothing: how far counts are from what was to be expected, as multiples of what chance may do. Above 1 they
 * are not of that distribution, but for one time in 1 / (1 - normal(z)) of them. `undefined` counts 503s.
 */
export function misfit(counts: ReadonlyMap<number | undefined, number>, { shares }: Case, z: number): number {
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  const rest = 1 - Object.values(shares).reduce((sum, share) => sum + share, 0);
  const expected = new Map<number | undefined, number>(Object.entries(shares).map(([n, share]) => [Number(n), share]));
  if (rest > 1e-9) expected.set(undefined, rest);
  for (const number of counts.keys()) if (!expected.has(number)) return Number.POSITIVE_INFINITY;
  let chiSquare = 0;
  for (const [number, share] of expected)
    chiSquare += ((counts.get(number) ?? 0) - share * total) ** 2 / (share * total);
  const freedom = expected.size - 1;
  return freedom === 0 ? chiSquare : chiSquare / quantile(freedom, z);
}

/** Of chi-square, by Wilson and Hilferty's cube. */
function quantile(freedom: number, z: number): number {
  const part = 2 / (9 * freedom);
  return freedom * (1 - part + z * Math.sqrt(part)) ** 3;
}
