/**
 * Clusters in Envoy's words, and what part of the requests each of their endpoints is to get: worked out by hand from
 * Envoy's documentation, for the reference, the kernel's tables and a real Envoy alike.
 */
export interface Case {
  readonly name: string;
  readonly cluster: Json;
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

/** Numbers of endpoints, with what there is to say of one: a weight, or a letter for its health. */
type Member = number | readonly [number: number, ...notes: (number | "u" | "d" | "r")[]];

const HEALTH = { u: "UNHEALTHY", d: "DEGRADED", r: "DRAINING" } as const;

const member = (written: Member): Json => {
  const [number, ...notes] = typeof written === "number" ? [written] : written;
  const said = notes.map((note) =>
    typeof note === "number" ? { load_balancing_weight: note } : { health_status: HEALTH[note] },
  );
  return Object.assign({}, place(number), ...said);
};

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
];

/** The cluster `c` of a case, and what else of a bootstrap it needs. */
export function bootstrapOf({ cluster, local }: Case): Json {
  const members = Object.entries(local ?? {}).flatMap(([name, count], i) => zone(name, range(201 + 10 * i, count)));
  const own = { name: "local", ...assigned(members) };
  return {
    static_resources: { clusters: [{ name: "c", ...cluster }, ...(local ? [own] : [])] },
    ...(local
      ? {
          node: { id: "one", cluster: "local", locality: { region: "r", zone: "a" } },
          cluster_manager: { local_cluster_name: "local" },
        }
      : {}),
  };
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
