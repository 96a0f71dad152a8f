import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { idOf, MIXES, type Mix, virtualHosts } from "../../bench/mixes.ts";
import type { Balancing } from "../../src/compile/cluster.ts";
import { compile, withEndpoints } from "../../src/compile/compile.ts";
import { guardsOf } from "../../src/compile/guards.ts";
import { httpChains } from "../../src/model/chains.ts";
import type { Cluster, Config, HttpChain, Normalisation } from "../../src/model/config.ts";
import { matchRoute, type RequestHead } from "../../src/route/match.ts";
import { diff } from "../../src/sync/sync.ts";
import type { Tables } from "../../src/tables/compiled.ts";
import { callsOf } from "./calls.ts";
import { interpretPlace, interpretRoute, lookups } from "./interpret.ts";
import { compileConfig, configOf, only } from "./tables.ts";

/** What a match costs over the number of rules, in looks into the tables as the hook has them; how large those are. */

const requestFor = (id: string): RequestHead => ({
  method: "GET",
  authority: `${id}.example`,
  path: `/match/${id}/v1/item?route=${id}`,
  headers: [["x-route", id]],
});

/** What the tables say, as the reference has it, and how often the virtual host was looked into for it. */
function follow(tables: Tables, request: RequestHead) {
  const { headerNames } = tables;
  const listener = only(tables);
  const names = new Map(headerNames.map(({ name, index }) => [name, index]));
  const place = interpretPlace(listener.hosts, request.authority)!;
  const before = lookups.count;
  const found = interpretRoute(listener.virtualHosts[place]!, request, names);
  assert.ok(found !== "slow");
  return { place, route: found?.routeIndex, cost: lookups.count - before };
}

function expected({ listeners: [listener] }: Config, request: RequestHead) {
  const [{ routes }] = httpChains(listener!) as [HttpChain];
  const match = matchRoute(routes, request);
  if ("none" in match) return { place: 0, route: undefined };
  return { place: routes.virtualHosts.indexOf(match.virtualHost), route: match.routeIndex };
}

const bytesOf = (tables: Tables) =>
  [only(tables).hosts.blob((at) => at + 1), ...only(tables).virtualHosts].reduce(
    (sum, blob) => sum + (blob?.byteLength ?? 0),
    0,
  );

const COUNTS: readonly number[] = [1, 10, 100, 10_000];

interface Cost {
  readonly most: number;
  readonly mean: number;
}

/** The looks that a match costs, by the number of rules. */
function costsOf(mix: Mix, counts: readonly number[], normalisation?: Normalisation): Cost[] {
  const guards = guardsOf(normalisation ?? {}).length;
  return counts.map((routes) => {
    const config = configOf(virtualHosts(mix, routes, "c"), normalisation);
    const tables = compileConfig(config);
    assert.deepEqual([tables.slow, tables.long], [[], []]);
    assert.ok(bytesOf(tables) < 64 << 20, `${bytesOf(tables)} bytes`);
    const costs: number[] = [];
    /* All of them would take the reference minutes. */
    for (let i = 0; i < routes; i += Math.max(1, Math.floor(routes / 41))) {
      const request = requestFor(idOf(i));
      const { cost, place, route } = follow(tables, request);
      assert.deepEqual({ place, route: route && route - guards }, expected(config, request));
      costs.push(cost);
    }
    return { most: Math.max(...costs), mean: costs.reduce((sum, cost) => sum + cost) / costs.length };
  });
}

/** Looks that a trie needs more once it has more than a few states: one for the number by which they are scattered. */
const FIXED = 2;

/** Looks for ten thousand rules, of the request that has most of them; docs/decisions/0014 has others. */
const MOST_LOOKS: Readonly<Record<Mix, number>> = {
  prefix: 5,
  exact: 5,
  regex: 10,
  "regex-inner": 20,
  header: 7,
  query: 7,
  mixed: 19,
  hosts: 3,
};

describe("ten thousand rules cost what one does", () => {
  for (const mix of MIXES) {
    test(mix, { timeout: 120_000 }, (t) => {
      const costs = costsOf(mix, COUNTS).map(({ most }) => most);
      t.diagnostic(`${costs.join(", ")} looks for ${COUNTS.join(", ")} rules`);
      /* Of ten, some are still asked one after the other. */
      assert.ok(costs.at(-1)! <= Math.max(costs[0]!, costs[1]!) * 1.25 + FIXED, String(costs));
      assert.ok(costs.at(-1)! <= costs.at(-2)! + FIXED, String(costs));
      assert.ok(costs.at(-1)! <= MOST_LOOKS[mix], String(costs));
    });
  }
});

test("where rules ask for several texts, ten thousand cost little more than ten", (t) => {
  const means = costsOf("mixed", COUNTS).map(({ mean }) => mean);
  t.diagnostic(`${means.map((mean) => mean.toFixed(1)).join(", ")} looks for ${COUNTS.join(", ")} rules`);
  assert.ok(means.at(-1)! <= means[1]! * 1.25, String(means));
  assert.ok(means.at(-1)! <= 14.5, String(means));
});

test("what a rule's own conditions have said of a text is not asked again, and an earlier rule still wins", () => {
  const asks = (value: string) => [{ name: "x-route", string_match: { exact: value } }];
  const route = { cluster: "c" };
  const earlier = [..."abcdef"].map((value) => ({ match: { prefix: "/", headers: asks(value) }, route }));
  const own = ["z", "a", "aa"].map((value) => ({ match: { prefix: `/own/${value}/`, headers: asks(value) }, route }));
  const config = configOf([{ name: "v", domains: ["*"], routes: [...earlier, ...own] }]);
  const tables = compileConfig(config);
  const ask = (path: string, value: string) => {
    const request = { ...requestFor("x"), path, headers: [["x-route", value]] as const };
    const { place, route, cost } = follow(tables, request);
    assert.deepEqual({ place, route }, expected(config, request), `${path} ${value}`);
    return cost;
  };
  const [alone, other] = [ask("/own/z/", "z"), ask("/own/z/", "q")];
  assert.ok(alone < other, `${alone} looks, ${other} where its header has another value`);
  for (const of of ["z", "a", "aa"]) for (const value of ["z", "a", "aa", "f", ""]) ask(`/own/${of}/`, value);
});

/** Of functions of the rooms that compile: what a rule costs. Without automata it is a fourth of this. */
const MOST_CALLS = 420;

describe("ten thousand rules are compiled in calls by the rule, and are small", () => {
  for (const mix of MIXES) {
    test(mix, { timeout: 120_000 }, async (t) => {
      const config = configOf(virtualHosts(mix, 10_000, "c"));
      let tables: Tables | undefined;
      const calls = await callsOf(["compile", "tables"], () => {
        tables = compileConfig(config);
      });
      const bytes = bytesOf(tables!);
      t.diagnostic(`${(calls / 10_000).toFixed(1)} calls and ${(bytes / 10_000).toFixed(1)} bytes a rule`);
      assert.ok(calls <= MOST_CALLS * 10_000, `${calls} calls`);
      assert.ok(bytes <= 2 << 20, `${bytes} bytes`);
    });
  }
});

describe("what normalisation asks of each request costs the same for all numbers of rules", () => {
  const all: Normalisation = { path: true, mergeSlashes: true, escapedSlashes: "forward", port: "any", dot: true };
  for (const mix of ["regex-inner", "mixed", "hosts"] as const) {
    test(mix, { timeout: 120_000 }, (t) => {
      const [plain, guarded] = [costsOf(mix, [100]), costsOf(mix, [100, 10_000], all)].map((costs) =>
        costs.map(({ most }) => most),
      ) as [number[], number[]];
      t.diagnostic(`${guarded.join(", ")} looks for 100, 10000 rules, ${plain[0]} without it`);
      assert.ok(guarded[1]! <= guarded[0]! + FIXED, String(guarded));
    });
  }
});

test("where endpoints change, their cluster is compiled alone, and no rule", () => {
  const { listeners, clusters } = configOf(virtualHosts("mixed", 1_000, "c"));
  const other = { ...clusters[0]!, name: "d" };
  const config = { listeners, clusters: [...clusters, other] };
  const endpoints = [{ ...other.endpoints[0]!, address: { ip: "10.0.0.9", port: 1 } }, ...other.endpoints];
  const next = { listeners, clusters: [...clusters, { ...other, endpoints }] };
  const turns = ({ endpoints: hosts }: Cluster): Balancing => ({
    lists: [{ share: 1, policy: "roundRobin", hosts, schedule: hosts.map((_, i) => i) }],
  });
  const before = compile(config, turns);
  const after = withEndpoints(next, turns, before, (cluster) => config.clusters.includes(cluster));
  const { listeners: _, ...rest } = compile(next, turns, before);
  assert.deepEqual({ ...after, listeners: undefined }, { ...rest, listeners: undefined });
  assert.equal(after.listeners, before.listeners);
  assert.equal(after.clusters[0], before.clusters[0]);
  const { ops } = diff(diff(undefined, before).installed, after);
  assert.deepEqual(
    ops.map((op) => [op.op, "index" in op && op.index]),
    [["putBlob", after.ids.clusters.get("d")]],
  );
});

test("names that are still asked for keep their indexes, those of others are given away", () => {
  const asking = (...names: string[]) =>
    configOf(
      names.map((name) => ({
        ...{ name, domains: [name] },
        routes: [{ match: { prefix: "/", headers: [{ name, present_match: true }] }, route: { cluster: "c" } }],
      })),
    );
  const index = (tables: Tables, name: string) => tables.headerNames.find((each) => each.name === name)?.index;
  const first = compileConfig(asking("x-a", "x-b", "x-c"));
  const second = compileConfig(asking("x-c", "x-d"), first);
  assert.equal(index(second, "x-c"), index(first, "x-c"));
  assert.deepEqual(second.headerNames.map(({ name }) => name).sort(), ["x-c", "x-d"]);
  assert.notEqual(index(second, "x-d"), index(second, "x-c"));
  const twelve = Array.from({ length: 12 }, (_, i) => `x-${i}`);
  const full = compileConfig(asking(...twelve, "x-more"));
  assert.deepEqual(
    full.slow.map(({ virtualHost }) => virtualHost),
    ["x-more"],
  );
  /* There is room now: what was left to the slow path then is not any more. */
  assert.deepEqual(compileConfig(asking(...twelve.slice(1), "x-more"), full).slow, []);
});

test("expressions that do not combine are asked one after the other, which is said", () => {
  const contains = (i: number) => ({ name: "x", string_match: { contains: `v${i}` } });
  const routes = (n: number) =>
    Array.from({ length: n }, (_, i) => ({ match: { prefix: "/", headers: [contains(i)] }, route: { cluster: "c" } }));
  const compiledWith = (n: number) => compileConfig(configOf([{ name: "v", domains: ["*"], routes: routes(n) }]));
  assert.deepEqual(compiledWith(8).long, []);
  const tables = compiledWith(400);
  assert.match(
    tables.long.map(({ where, reason }) => `${where} ${reason}`).join(),
    /^c: virtual host v up to \d+ of its/,
  );
  const { route } = follow(tables, { ...requestFor("x"), headers: [["x", "av377b"]] });
  assert.equal(route, 3, "v3 is in it too");
  assert.equal(follow(tables, { ...requestFor("x"), headers: [["x", "v"]] }).route, undefined);
});
