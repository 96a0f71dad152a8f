import assert from "node:assert/strict";
import { test } from "node:test";
import type { Cluster, Endpoint, Group, Health } from "../../src/model/config.ts";
import { hostSets } from "../../src/route/health.ts";
import { partsOf } from "../../src/route/parts.ts";

type Numbers = Partial<Record<Health, number>>;

/** A cluster with so many endpoints of each health in each priority. */
function cluster(priorities: readonly Numbers[], more: Partial<Cluster> = {}): Cluster {
  const locality = { region: "", zone: "", subZone: "" };
  const groups = priorities.map((_, priority): Group => ({ priority, locality, weight: 0 }));
  const endpoints = priorities.flatMap((numbers, group) =>
    Object.entries(numbers).flatMap(([health, count]) =>
      Array.from(
        { length: count },
        (_, i): Endpoint => ({
          address: { ip: `10.0.${group}.1`, port: i + 1 },
          weight: 1,
          health: health as Health,
          group,
        }),
      ),
    ),
  );
  const policy = { kind: "roundRobin" } as const;
  return { name: "c", policy, connectTimeoutMs: 1, maxConnections: 1, endpoints, groups, ...more };
}

const alone = { clusters: [] };

/** `percent priority kind endpoints`, a part each. */
const told = (some: Cluster) =>
  partsOf(some, alone).map(
    ({ percent, priority, kind, lists }) =>
      `${percent} p${priority} ${kind} ${lists.map(({ hosts }) => hosts.length).join("+")}`,
  );

test("one priority: panic below half, degraded endpoints for what healthy ones cannot bear", () => {
  const cases: [Numbers, ...string[]][] = [
    [{}, "100 p0 panic 0"],
    [{ healthy: 4 }, "100 p0 healthy 4"],
    [{ healthy: 2, unhealthy: 2 }, "100 p0 healthy 2"],
    [{ healthy: 1, unhealthy: 2 }, "100 p0 panic 3"],
    [{ healthy: 49, timeout: 51 }, "100 p0 panic 100"],
    [{ unhealthy: 3 }, "100 p0 panic 3"],
    // Those that are draining do not count, but panic takes them.
    [{ healthy: 1, unhealthy: 1, draining: 1 }, "100 p0 healthy 1"],
    [{ healthy: 1, unhealthy: 2, draining: 1 }, "100 p0 panic 4"],
    [{ draining: 2 }, "100 p0 panic 2"],
    [{ healthy: 72, degraded: 28 }, "100 p0 healthy 72"],
    [{ healthy: 71, degraded: 29 }, "99 p0 healthy 71", "1 p0 degraded 29"],
    [{ healthy: 60, degraded: 40 }, "84 p0 healthy 60", "16 p0 degraded 40"],
    [{ healthy: 10, degraded: 40, unhealthy: 50 }, "20 p0 healthy 10", "80 p0 degraded 40"],
    [{ healthy: 9, degraded: 40, unhealthy: 51 }, "100 p0 panic 100"],
    [{ degraded: 50, unhealthy: 50 }, "100 p0 degraded 50"],
    [{ degraded: 3 }, "100 p0 degraded 3"],
  ];
  for (const [numbers, ...expected] of cases)
    assert.deepEqual(told(cluster([numbers])), expected, JSON.stringify(numbers));
});

test("priorities: Envoy's worked numbers", () => {
  const cases: [Numbers[], ...string[]][] = [
    [[{ healthy: 71, unhealthy: 29 }, { healthy: 1 }], "99 p0 healthy 71", "1 p1 healthy 1"],
    [[{ healthy: 50, unhealthy: 50 }, { healthy: 1 }], "70 p0 healthy 50", "30 p1 healthy 1"],
    [
      [
        { healthy: 25, unhealthy: 75 },
        { healthy: 25, unhealthy: 75 },
      ],
      "50 p0 panic 100",
      "50 p1 panic 100",
    ],
    [[{ healthy: 1 }, { healthy: 1 }], "100 p0 healthy 1"],
    [[{ unhealthy: 1 }, { healthy: 1 }], "100 p1 healthy 1"],
    [[{ unhealthy: 1 }, {}, { healthy: 1 }], "100 p2 healthy 1"],
    // All in panic: by the number of endpoints, and the first has what rounding leaves.
    [
      [
        { healthy: 1, unhealthy: 3 },
        { healthy: 1, unhealthy: 4 },
      ],
      "45 p0 panic 4",
      "55 p1 panic 5",
    ],
    // One in panic: the load is by health all the same, 14 and 70 of 84, and rounding leaves 1.
    [
      [
        { healthy: 1, unhealthy: 9 },
        { healthy: 1, unhealthy: 1 },
      ],
      "17 p0 panic 10",
      "83 p1 healthy 1",
    ],
    [[{ unhealthy: 1 }, { unhealthy: 2 }], "34 p0 panic 1", "66 p1 panic 2"],
    [
      [
        { healthy: 1, degraded: 2, unhealthy: 7 },
        { healthy: 2, degraded: 1, unhealthy: 7 },
        { healthy: 1, unhealthy: 9 },
      ],
      "34 p0 panic 10",
      "33 p1 panic 10",
      "33 p2 panic 10",
    ],
    [[{ healthy: 1, unhealthy: 1 }, { degraded: 1 }], "70 p0 healthy 1", "30 p1 degraded 1"],
  ];
  for (const [priorities, ...expected] of cases)
    assert.deepEqual(told(cluster(priorities)), expected, JSON.stringify(priorities));
});

test("thresholds and factors of the configuration", () => {
  const thirds = cluster([{ healthy: 1, unhealthy: 2 }], { panicPercent: 33 });
  assert.deepEqual(told(thirds), ["100 p0 healthy 1"]);
  assert.deepEqual(told({ ...thirds, panicPercent: 34 }), ["100 p0 panic 3"]);
  assert.deepEqual(told(cluster([{ unhealthy: 2 }], { panicPercent: 0 })), ["100 p0 healthy 0"]);
  const half = cluster([{ healthy: 1, unhealthy: 1 }, { healthy: 1 }], { overprovisioning: 100 });
  assert.deepEqual(told(half), ["50 p0 healthy 1", "50 p1 healthy 1"]);
  // The numbers of a comment in Envoy's source.
  const many = [
    { healthy: 1, degraded: 2, unhealthy: 7 },
    { healthy: 2, degraded: 1, unhealthy: 7 },
    { healthy: 1, unhealthy: 9 },
  ];
  assert.deepEqual(told(cluster(many, { overprovisioning: 100, panicPercent: 0 })), [
    "16 p0 healthy 1",
    "28 p1 healthy 2",
    "14 p2 healthy 1",
    "28 p0 degraded 2",
    "14 p1 degraded 1",
  ]);
  const failing = { kind: "zoneAware", percent: 100, minClusterSize: 6, failsOnPanic: true } as const;
  assert.deepEqual(told(cluster([{ healthy: 1, unhealthy: 2 }], { localities: failing })), ["100 p0 panic 0"]);
});

test("weighted_priority_health counts weights, not endpoints", () => {
  const weighed = cluster([{ healthy: 1, unhealthy: 1 }, { healthy: 1 }], { weighsHealth: true });
  const [first, second, third] = weighed.endpoints;
  const endpoints = [{ ...first!, weight: 3 }, { ...second!, weight: 7 }, third!];
  assert.deepEqual(
    hostSets({ ...weighed, endpoints }).map(({ healthyLoad }) => healthyLoad),
    [42, 58],
  );
});
