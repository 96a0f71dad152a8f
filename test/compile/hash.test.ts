import assert from "node:assert/strict";
import { test } from "node:test";
import { compile } from "../../src/compile/compile.ts";
import { kernelBalancing } from "../../src/daemon/balancing.ts";
import type {
  Cluster,
  Config,
  Endpoint,
  ForwardAction,
  HashPolicy,
  HashSource,
  Health,
  Policy,
} from "../../src/model/config.ts";
import { createBalancer } from "../../src/route/balancer.ts";
import { xxHash64 } from "../../src/route/hash.ts";
import type { Tables } from "../../src/tables/compiled.ts";
import { interpretHash } from "./interpret.ts";
import { listener } from "./tables.ts";

/** What the hook finds in the tables is what the reference picks. */

const RING: Policy = { kind: "ringHash", minimumSize: 100, maximumSize: 8_388_608, hash: "xxHash64" };
const MAGLEV: Policy = { kind: "maglev", tableSize: 251 };

const endpoint = (host: number, rest: Partial<Endpoint> = {}): Endpoint => ({
  address: { ip: `10.0.0.${host}`, port: 80 },
  weight: 1,
  health: "healthy",
  ...rest,
});
const cluster = (policy: Policy, endpoints: readonly Endpoint[], rest: Partial<Cluster> = {}): Cluster => ({
  name: "c",
  policy,
  connectTimeoutMs: 5_000,
  maxConnections: 1_024,
  endpoints,
  ...rest,
});
const configOf = (cluster: Cluster): Config => ({ listeners: [], clusters: [cluster] });

/** The last number of the endpoint's address, for many hashes: by the tables, and by the reference. */
function both(one: Cluster): { readonly kernel: readonly string[]; readonly reference: readonly string[] } {
  const config = configOf(one);
  const tables = compile(config, kernelBalancing(config));
  const names = new Map([...tables.ids.endpoints].map(([name, id]) => [id, name.split(/[ :]/)[1]!]));
  const balance = createBalancer(one, config);
  const hashes = Array.from({ length: 500 }, (_, i) => xxHash64(`request ${i}`));
  return {
    kernel: hashes.map((hash) => names.get(interpretHash(tables.clusters[0]!.blob, hash) ?? 0) ?? "none"),
    reference: hashes.map((hash) => balance({ random: () => 0, active: () => 0, hash })?.address.ip ?? "none"),
  };
}

const WELL = ["healthy", "healthy", "unhealthy", "degraded", "healthy", "healthy"] as const satisfies readonly Health[];
const group = (priority: number, weight = 1, zone = "") => ({
  priority,
  weight,
  locality: { region: "", zone, subZone: "" },
});
const CASES: [string, (policy: Policy) => Cluster, number][] = [
  [
    "equal hosts",
    (policy) =>
      cluster(
        policy,
        [1, 2, 3].map((host) => endpoint(host)),
      ),
    3,
  ],
  [
    "weights and keys",
    (policy) =>
      cluster(
        policy,
        [1, 2, 3, 4].map((host) => endpoint(host, { weight: host, hashKey: `key ${host % 3}${host}` })),
      ),
    4,
  ],
  [
    "healthy hosts alone",
    (policy) =>
      cluster(
        policy,
        WELL.map((health, i) => endpoint(i + 1, { health })),
      ),
    4,
  ],
  [
    "all of them in panic",
    (policy) =>
      cluster(
        policy,
        [1, 2, 3].map((host) => endpoint(host, { health: host === 1 ? "healthy" : "unhealthy" })),
      ),
    3,
  ],
  [
    "two priorities",
    (policy) =>
      cluster(
        policy,
        [1, 2, 3, 4, 5, 6].map((host) =>
          endpoint(host, { group: host > 4 ? 1 : 0, health: host === 1 || host === 2 ? "unhealthy" : "healthy" }),
        ),
        { groups: [group(0), group(1)] },
      ),
    4,
  ],
  [
    "localities by weight",
    (policy) =>
      cluster(
        policy,
        [1, 2, 3, 4].map((host) => endpoint(host, { group: host % 2 })),
        {
          groups: [group(0, 1, "a"), group(0, 5, "b")],
          localities: { kind: "weighted" },
        },
      ),
    4,
  ],
  ["nobody", (policy) => cluster(policy, []), 0],
  [
    "degraded ones only",
    (policy) =>
      cluster(
        policy,
        [1, 2].map((host) => endpoint(host, { health: "degraded" })),
      ),
    0,
  ],
];
for (const policy of [RING, MAGLEV]) {
  for (const [name, make, hosts] of CASES) {
    test(`${policy.kind}: ${name}`, () => {
      const { kernel, reference } = both(make(policy));
      assert.deepEqual(kernel, reference);
      assert.equal(new Set(kernel.filter((host) => host !== "none")).size, hosts);
    });
  }
}

test("localities take their parts", () => {
  const { reference } = both(CASES[5]![1](RING));
  const first = reference.filter((host) => /[24]$/.test(host)).length / reference.length;
  assert.ok(Math.abs(first - 1 / 6) < 0.08, String(first));
});

test("what the kernel cannot hold or count is left to the slow path", () => {
  const three = [1, 2, 3].map((host) => endpoint(host));
  const slowOf = (policy: Policy) => {
    const one = cluster(policy, three);
    const how = kernelBalancing(configOf(one))(one);
    return "slow" in how ? how.slow : undefined;
  };
  assert.equal(slowOf(RING), undefined);
  assert.match(slowOf({ ...MAGLEV, balanceFactor: 120 } as Policy)!, /hash_balance_factor/);
  assert.match(slowOf({ ...RING, minimumSize: 70_000 } as Policy)!, /70002 entries|over|more than/);
  assert.match(slowOf({ kind: "maglev", tableSize: 524_309 })!, /524309 entries/);
});

function routeWith(policies: readonly HashPolicy[], target: Cluster, change: Partial<ForwardAction> = {}): Config {
  const action: ForwardAction = {
    kind: "forward",
    clusters: [{ name: target.name, weight: 1 }],
    timeoutMs: 0,
    hashPolicies: policies,
    ...change,
  };
  return {
    clusters: [target],
    listeners: [
      listener({
        name: "r",
        ignorePortInHostMatching: false,
        virtualHosts: [
          {
            name: "v",
            domains: ["*"],
            routes: [{ name: "one", path: { kind: "prefix", value: "/", caseSensitive: true }, headers: [], action }],
          },
        ],
      }),
    ],
  };
}

const wordsOf = ({ listeners }: Tables) =>
  listeners.map(({ way }) => {
    assert.ok(way.kind === "requests");
    return [way.hosts.blob((place) => place + 1), ...way.virtualHosts];
  });

test("policies that no cluster asks for cost nothing: the tables are those without them", () => {
  const plain = cluster({ kind: "roundRobin" }, [endpoint(1)]);
  const policies: HashPolicy[] = [{ source: { kind: "header", name: "x-a" }, terminal: false }];
  const tablesOf = (config: Config) => compile(config, kernelBalancing(config));
  const [idle, none] = [policies, []].map((each) => tablesOf(routeWith(each, plain)));
  assert.deepEqual(wordsOf(idle!), wordsOf(none!));
  assert.deepEqual(idle!.headerNames, []);
  const asked = tablesOf(routeWith(policies, cluster(RING, [endpoint(1)])));
  assert.notDeepEqual(wordsOf(asked), wordsOf(none!));
  assert.deepEqual(
    asked.headerNames.map(({ name }) => name),
    ["x-a"],
  );
});

test("a virtual host is made again when its cluster begins or ceases to ask for hashes", () => {
  const policies: HashPolicy[] = [
    { source: { kind: "header", name: "x-a" }, terminal: false },
    { source: { kind: "cookie", name: "sid", path: "", attributes: [] }, terminal: true },
  ];
  const [plain, ring] = [{ kind: "roundRobin" } as const, RING].map((policy) =>
    routeWith(policies, cluster(policy, [endpoint(1)])),
  );
  let before: Tables | undefined;
  for (const config of [plain!, ring!, ring!, plain!, ring!]) {
    const after: Tables = compile(config, kernelBalancing(config), before);
    const fresh = compile(config, kernelBalancing(config));
    assert.deepEqual(wordsOf(after), wordsOf(fresh));
    assert.deepEqual(after.headerNames, fresh.headerNames);
    before = after;
  }
});

test("a hash policy that the hook cannot ask makes its route slow, where anybody asks it", () => {
  const ring = cluster(RING, [endpoint(1)]);
  const plain = cluster({ kind: "roundRobin" }, [endpoint(1)]);
  const by = (source: HashSource, count = 1) => Array.from({ length: count }, () => ({ source, terminal: false }));
  const header: HashSource = { kind: "header", name: "x-a" };
  const cases: [readonly HashPolicy[], RegExp | undefined][] = [
    [by(header), undefined],
    [by({ kind: "sourceIp" }), undefined],
    [by({ kind: "cookie", name: "sid", ttlSeconds: 1, path: "", attributes: [] }), undefined],
    [by({ kind: "query", name: "k" }), undefined],
    [by(header, 16), undefined],
    [by(header, 17), /more than 16 hash policies/],
    [by({ ...header, rewrite: { kind: "regex", pattern: "a", substitution: "" } }), /rewrites x-a/],
    [by({ kind: "header", name: "content-length" }), /header content-length of its hash policy/],
    [by({ kind: "header", name: ":scheme" }), /header :scheme of its hash policy/],
    [by({ kind: "query", name: "ü" }), /the parameter of its hash policy/],
    [by({ kind: "cookie", name: "ü", path: "", attributes: [] }), /the cookie of its hash policy/],
  ];
  const slowOf = (config: Config) => compile(config, kernelBalancing(config)).slow.map(({ reason }) => reason);
  for (const [policies, reason] of cases) {
    const [found] = slowOf(routeWith(policies, ring));
    if (reason === undefined) assert.equal(found, undefined);
    else assert.match(found!, reason);
    assert.deepEqual(slowOf(routeWith(policies, plain)), [], "no cluster asks for the hash");
    assert.equal(slowOf(routeWith(policies, plain, { clusterByHash: true })).length, reason === undefined ? 0 : 1);
  }
});
