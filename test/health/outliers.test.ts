import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as later, setImmediate as turn } from "node:timers/promises";
import { Outliers, type Tally } from "../../src/health/outliers.ts";
import type { Cluster } from "../../src/model/config.ts";
import { DEFAULT_OUTLIER_DETECTION, type OutlierDetection } from "../../src/model/outlier.ts";
import { endpointName } from "../../src/tables/address.ts";

/** What Outliers makes of what hooks and slow path tell it; nobody is asked. */

function followed(settings: Partial<OutlierDetection>, size: number) {
  const endpoints = Array.from({ length: size }, (_, i) => ({ address: { ip: "10.0.0.1", port: i + 1 } }));
  const outlierDetection = { ...DEFAULT_OUTLIER_DETECTION, ...settings };
  const cluster = { name: "c", endpoints, outlierDetection } as unknown as Cluster;
  const names = cluster.endpoints.map((endpoint) => endpointName("c", endpoint));
  const seen = { changes: 0, looks: 0, counts: [] as string[] };
  const tally: Tally = {
    streaks: (name) => {
      assert.ok(names.includes(name), name);
      return { add: () => 1, end: () => {}, length: () => 0 };
    },
    totals: () => {
      seen.looks++;
      return { answers: 0, errors: 0, requests: 0, connections: 0 };
    },
    watch: () => {},
  };
  const outliers = new Outliers({
    now: () => 0,
    changed: () => {
      seen.changes++;
    },
    count: (_, what) => seen.counts.push(what),
    log: () => {},
  });
  outliers.follow([cluster], tally);
  return { outliers, cluster, names, seen };
}

test("endpoints that are ejected together change the cluster once", async () => {
  const { outliers, cluster, names, seen } = followed({ maxEjectionPercent: 100 }, 500);
  for (const name of names) outliers.grown("c", name, ["errors"]);
  assert.ok(cluster.endpoints.every((endpoint) => outliers.isEjected("c", endpoint)));
  await turn();
  assert.equal(seen.changes, 1);
  outliers.stop();
});

test("what was found out before a stop changes nothing behind it", async () => {
  const { outliers, names, seen } = followed({ maxEjectionPercent: 100 }, 1);
  outliers.grown("c", names[0]!, ["errors"]);
  outliers.stop();
  await turn();
  assert.equal(seen.changes, 0);
});

test("a hook's word of an endpoint that has left the cluster counts for nothing", () => {
  const { outliers, seen } = followed({ maxEjectionPercent: 100 }, 1);
  outliers.grown("c", "c 10.0.0.2:1", ["errors"]);
  assert.deepEqual(seen.counts, []);
  outliers.stop();
});

test("an interval of a month is none of a millisecond", async () => {
  const { outliers, seen } = followed({ intervalMs: 30 * 86_400_000 }, 1);
  const { looks } = seen;
  await later(60);
  assert.equal(seen.looks, looks);
  outliers.stop();
});
