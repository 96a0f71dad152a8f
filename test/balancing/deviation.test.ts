import assert from "node:assert/strict";
import { test } from "node:test";
import { compileCluster } from "../../src/compile/cluster.ts";
import { kernelBalancing } from "../../src/daemon/balancing.ts";
import type { Cluster, PlainPolicy } from "../../src/model/config.ts";
import { createPicker } from "../../src/route/pick.ts";
import { interpretEndpoint } from "../compile/interpret.ts";
import { Dice } from "../dice.ts";

/**
 * How far the kernel is from Envoy where it cannot be the same: the largest difference of an endpoint's share, over a
 * million picks. docs/configuration.md has the numbers, and these tests hold them.
 */
const PICKS = 1_000_000;

type PlainCluster = Cluster & { readonly policy: PlainPolicy };

function clusterOf(policy: PlainPolicy, weights: readonly number[]): PlainCluster {
  const endpoints = weights.map((weight, i) => ({
    address: { ip: `10.0.0.${i}`, port: 80 },
    weight,
    health: "healthy" as const,
  }));
  return { name: "c", policy, connectTimeoutMs: 1, maxConnections: 1, endpoints };
}

type Pick = (active: readonly number[]) => number;

function reference({ policy, endpoints }: PlainCluster, dice: Dice): Pick {
  const pick = createPicker(
    policy,
    endpoints.map(({ weight }) => weight),
  );
  const random = (below: number) => Math.floor(dice.random() * below);
  return (active) => pick(random, (host) => active[host]!)!;
}

function tables(cluster: Cluster, dice: Dice): Pick {
  const how = kernelBalancing({ listeners: [], clusters: [cluster] })(cluster);
  const blob = compileCluster(how, (endpoint) => cluster.endpoints.indexOf(endpoint));
  let cursor = 0;
  const next = (at: number | undefined) => (at === undefined ? Math.floor(dice.random() * 2 ** 32) : cursor++);
  return (active) => interpretEndpoint(blob, next, (at) => active[at]!)!;
}

/** Shares of the requests while `inService` of them are: when one ends, any with the same chance, comes the next. */
function shares(pick: Pick, count: number, inService: number, dice: Dice): number[] {
  const active = new Array<number>(count).fill(0);
  const counts = new Array<number>(count).fill(0);
  const served: number[] = [];
  for (let i = 0; i < PICKS; i++) {
    if (served.length === inService && inService > 0) {
      const at = dice.between(0, served.length - 1);
      active[served[at]!]!--;
      served[at] = served.at(-1)!;
      served.pop();
    }
    const host = pick(active);
    counts[host]!++;
    if (inService === 0) continue;
    active[host]!++;
    served.push(host);
  }
  return counts.map((count) => count / PICKS);
}

function difference(policy: PlainPolicy, weights: readonly number[], inService = 0): number {
  const cluster = clusterOf(policy, weights);
  const [here, there] = [tables, reference].map((make) =>
    shares(make(cluster, new Dice(1)), weights.length, inService, new Dice(2)),
  );
  return Math.max(...here!.map((share, i) => Math.abs(share - there![i]!)));
}

const ROUND_ROBIN: PlainPolicy = { kind: "roundRobin" };
const LEAST: PlainPolicy = { kind: "leastRequest", choiceCount: 2 };
/** More of them than the hook weighs. */
const MANY = Array.from({ length: 20 }, (_, i) => 1 + (i % 4));

/** What, in service, and the most that a share may be off. */
const CASES: readonly [name: string, PlainPolicy, weights: readonly number[], inService: number, most: number][] = [
  ["ROUND_ROBIN, a round that fits the table", ROUND_ROBIN, [1, 2, 5], 0, 0.00001],
  ["ROUND_ROBIN, a round longer than the table", ROUND_ROBIN, [1_013, 2_027, 4_051, 8_101, 16_067], 0, 1 / 4_096],
  ["ROUND_ROBIN, a share smaller than a turn", ROUND_ROBIN, [1, 1_000_000], 0, 1 / 4_096],
  ["LEAST_REQUEST, equal weights", LEAST, [1, 1, 1, 1], 16, 0.005],
  ["LEAST_REQUEST, weights, nothing in service", LEAST, [1, 2, 5], 0, 0.005],
  ["LEAST_REQUEST, weights, 4 in service", LEAST, [1, 2, 5], 4, 0.01],
  ["LEAST_REQUEST, weights, 64 in service", LEAST, [1, 2, 5], 64, 0.005],
  ["LEAST_REQUEST, weights of 20 endpoints, 64 in service", LEAST, MANY, 64, 0.01],
];

for (const [name, policy, weights, inService, most] of CASES) {
  test(`${name}: off by no more than ${most.toPrecision(2)}`, (t) => {
    const off = difference(policy, weights, inService);
    t.diagnostic(`off by ${off.toFixed(6)}`);
    assert.ok(off <= most, String(off));
  });
}
