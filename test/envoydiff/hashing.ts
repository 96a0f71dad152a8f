import type { Dice } from "../dice.ts";
import type { ActionPart, Draft, Json, RouteSpec } from "./spec.ts";

/** Hash policies of routes: what the comparison makes of them, and requests that have something to hash. */

/** Of the names that conditions ask for: there is room for no more. */
const HEADERS = ["x-a", "X-B", "accept", "user-agent", ":path", ":authority", ":method"];
const COOKIES = ["sid", "a"];
const PARAMETERS = ["k", "a"];

function anyPolicy(dice: Dice): Json {
  const terminal = dice.chance(0.25) ? { terminal: dice.chance(0.8) } : {};
  const source = dice.one<() => Json>([
    () => ({ header: { header_name: dice.one(HEADERS) } }),
    () => ({ header: { header_name: dice.one(HEADERS) } }),
    () => ({ cookie: { name: dice.one(COOKIES), ...(dice.chance(0.3) ? given(dice) : {}) } }),
    () => ({ cookie: { name: dice.one(COOKIES) } }),
    () => ({ connection_properties: { source_ip: dice.chance(0.8) } }),
    () => ({ query_parameter: { name: dice.one(PARAMETERS) } }),
  ])();
  return { ...source, ...terminal };
}

/** Of a cookie that who has none is given. */
const given = (dice: Dice): Json => ({
  ttl: dice.one(["0s", "60s"]),
  ...(dice.chance(0.4) ? { path: dice.one(["/", "/a"]) } : {}),
  ...(dice.chance(0.4)
    ? { attributes: [{ name: "SameSite", value: "Strict" }, { name: "Secure" }].slice(0, dice.between(1, 2)) }
    : {}),
});

const anyPolicies = (dice: Dice) => Array.from({ length: dice.one([1, 1, 1, 2, 3]) }, () => anyPolicy(dice));

const REWRITES: readonly Json[] = [
  { pattern: { regex: "^([^a]*)a.*" }, substitution: "\\1" },
  { pattern: { regex: "[0-9]+" }, substitution: "" },
];

/** Short and long ones: xxHash64 takes 32, 8, 4 and 1 bytes at a time. */
const anyText = (dice: Dice) => dice.text(dice.one([0, 1, 3, 4, 7, 9, 15, 31, 32, 33, 64, 75, 200]), "abc019-_.~");

function aim({ route }: RouteSpec, draft: Draft, dice: Dice): void {
  const { hash_policy } = route as { hash_policy: Json[] };
  for (const { header, cookie, query_parameter, connection_properties } of hash_policy) {
    if (dice.chance(0.15)) continue;
    if (connection_properties !== undefined && dice.chance(0.5))
      draft.headers.push(["X-Forwarded-For", dice.one(["192.0.2.7", "192.0.2.7, 2001:db8::1", "nobody"])]);
    const name = ((header as Json | undefined)?.header_name as string | undefined) ?? "";
    if (header !== undefined && !name.startsWith(":")) {
      for (let left = dice.one([1, 1, 1, 2, 3]); left > 0; left--) draft.headers.push([name, anyText(dice)]);
    }
    if (cookie !== undefined) draft.headers.push(["Cookie", anyCookie((cookie as Json).name as string, dice)]);
    if (query_parameter !== undefined) draft.suffix = anyQuery((query_parameter as Json).name as string, dice);
  }
}

function anyCookie(name: string, dice: Dice): string {
  const crumbs = Array.from({ length: dice.between(1, 3) }, () =>
    dice.one([
      `${name}=${anyText(dice)}`,
      `${name}=${anyText(dice)}`,
      `${name}="${anyText(dice)}"`,
      `  ${name}=${anyText(dice)}`,
      `${name} =${anyText(dice)}`,
      `${name}=a=b`,
      `${name}="`,
      `${name}=`,
      name,
      `x${name}=${anyText(dice)}`,
      name.toUpperCase(),
      "",
    ]),
  );
  return crumbs.join(dice.one(["; ", ";", " ; "]));
}

function anyQuery(name: string, dice: Dice): string {
  const parts = Array.from({ length: dice.between(1, 3) }, () =>
    dice.one([
      `${name}=${anyText(dice)}`,
      `${name}=${anyText(dice)}`,
      `${name}=`,
      name,
      `${name}=a=b`,
      `x${name}=1`,
      `%41=${name}`,
      "",
    ]),
  );
  return `?${parts.join("&")}`;
}

export const HASHING: readonly ActionPart[] = [
  {
    name: "route.hash_policy",
    kernel: true,
    weight: 3,
    make: (dice, { fresh, hashing }) => ({
      route: { cluster: dice.chance(0.85) ? hashing() : fresh(), hash_policy: anyPolicies(dice) },
    }),
    aim,
  },
  {
    name: "weighted_clusters.use_hash_policy",
    kernel: true,
    make: (dice, { fresh, hashing }) => ({
      route: {
        hash_policy: anyPolicies(dice),
        weighted_clusters: {
          use_hash_policy: dice.chance(0.9),
          clusters: Array.from({ length: dice.between(2, 4) }, () => ({
            name: dice.chance(0.5) ? hashing() : fresh(),
            weight: dice.between(1, 5),
          })),
        },
      },
    }),
    aim,
  },
  {
    name: "hash_policy.header.regex_rewrite",
    kernel: false,
    weight: 0.5,
    make: (dice, { hashing }) => ({
      route: {
        cluster: hashing(),
        hash_policy: [
          { header: { header_name: "x-a", regex_rewrite: dice.one(REWRITES) } },
          ...(dice.chance(0.5) ? anyPolicies(dice) : []),
        ],
      },
    }),
    aim,
  },
];

/** Each request is alone at its endpoint: no bound is ever reached, but the endpoint must be the same. */
const bounds = (dice: Dice): Json => (dice.chance(0.5) ? { hash_balance_factor: dice.between(100, 200) } : {});

/** As often as not: endpoints have names, which say something else than their addresses. */
const byName = (dice: Dice): Json => (dice.chance(0.6) ? { use_hostname_for_hashing: dice.chance(0.9) } : {});

/** In `load_balancing_policy`, by its newer and its older fields. */
function typedOptions(dice: Dice): Json {
  const consistent = dice.chance(0.4) ? { consistent_hashing_lb_config: { ...bounds(dice), ...byName(dice) } } : {};
  const weighted = dice.chance(0.2) ? { locality_weighted_lb_config: {} } : {};
  const [type, more] = dice.chance(0.5)
    ? (["maglev.v3.Maglev", dice.chance(0.7) ? { table_size: dice.one([7, 251, 1_021, 65_537]) } : {}] as const)
    : ([
        "ring_hash.v3.RingHash",
        {
          ...(dice.chance(0.5) ? { minimum_ring_size: dice.one([1, 10, 100, 3_000]), maximum_ring_size: 3_000 } : {}),
          ...(dice.chance(0.5) ? { hash_function: dice.one(["XX_HASH", "MURMUR_HASH_2"]) } : {}),
          ...(dice.chance(0.2) ? bounds(dice) : {}),
          ...(dice.chance(0.3) ? byName(dice) : {}),
        },
      ] as const);
  const name = `type.googleapis.com/envoy.extensions.load_balancing_policies.${type}`;
  const typed_config = { "@type": name, ...more, ...consistent, ...weighted };
  return { load_balancing_policy: { policies: [{ typed_extension_config: { name: "x", typed_config } }] } };
}

/** `lb_policy` and what belongs to it, or a typed policy. */
export function hashingOptions(dice: Dice): Json {
  if (dice.chance(0.4)) return typedOptions(dice);
  if (!dice.chance(0.3)) return plainOptions(dice);
  /* Only there Envoy believes names in common_lb_config. */
  const named = dice.chance(0.5);
  const consistent_hashing_lb_config = { ...bounds(dice), ...(named ? byName(dice) : {}) };
  const type = named ? { type: "STRICT_DNS" } : {};
  return { ...plainOptions(dice), ...type, common_lb_config: { consistent_hashing_lb_config } };
}

function plainOptions(dice: Dice): Json {
  if (dice.chance(0.5)) {
    const size = dice.chance(0.7) ? { table_size: dice.one([7, 251, 1_021, 65_537]) } : {};
    return { lb_policy: "MAGLEV", ...(dice.chance(0.8) ? { maglev_lb_config: size } : {}) };
  }
  const sizes = dice.chance(0.6)
    ? { minimum_ring_size: dice.one([1, 10, 100, 3_000]), maximum_ring_size: dice.one([3_000, 8_388_608]) }
    : {};
  const hash = dice.chance(0.5) ? { hash_function: dice.one(["XX_HASH", "MURMUR_HASH_2"]) } : {};
  return { lb_policy: "RING_HASH", ...(dice.chance(0.8) ? { ring_hash_lb_config: { ...sizes, ...hash } } : {}) };
}
