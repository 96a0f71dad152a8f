import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { virtualHosts } from "../../bench/mixes.ts";
import { bootstrap } from "../../bench/systems/bootstrap.ts";
import { compile } from "../../src/compile/compile.ts";
import { formatRejections, parseBootstrap } from "../../src/envoy/parse.ts";
import type { Config, HttpChain, Route, VirtualHost } from "../../src/model/config.ts";
import { diff } from "../../src/sync/sync.ts";
import type { CompiledListener, Tables } from "../../src/tables/compiled.ts";
import { callsOf } from "./calls.ts";
import { compileConfig, configOf, only } from "./tables.ts";

/** What a change of a configuration costs, in work that is counted; and that the outcome is as if all were new. */

type Bootstrap = { static_resources: { clusters: object[] } };

const CLUSTERS = ["a", "b", "c"] as const;
const at = (port: number) => ({ ip: "10.0.0.1", port });

/** Three listeners with these virtual hosts. Of the clusters some are absent, some go by hashes, some have subsets. */
function parsed(hosts: readonly object[], clusters: readonly (object | undefined)[]): Config {
  const whole = bootstrap(
    CLUSTERS.map((name, i) => ({ name, listen: at(i + 1), backend: at(i + 4) })),
    () => ({ route_config: { name: "r", validate_clusters: false, virtual_hosts: hosts } }),
  ) as Bootstrap;
  const all = whole.static_resources.clusters.flatMap((cluster, i) => {
    const more = clusters[i];
    return more === undefined ? [] : [{ ...cluster, ...more }];
  });
  const read = parseBootstrap(JSON.stringify({ static_resources: { ...whole.static_resources, clusters: all } }));
  assert.ok(read.ok, read.ok ? "" : formatRejections(read.rejections, "config").join("\n"));
  return read.value.config;
}

const anyCluster = fc.constantFrom(
  undefined,
  {},
  {},
  { lb_policy: "RING_HASH" },
  { lb_policy: "MAGLEV" },
  { lb_subset_config: { subset_selectors: [{ keys: ["v"] }] } },
);
const anyName = fc.nat({ max: 15 }).map((n) => `x-${n}`);
const anyRoute = fc
  .record({
    prefix: fc.constantFrom("/", "/a", "/a/b"),
    asked: fc.array(fc.tuple(anyName, fc.constantFrom("1", "2")), { maxLength: 2 }),
    query: fc.constantFrom(undefined, "q", "r"),
    cluster: fc.constantFrom(...CLUSTERS),
    hashed: fc.option(anyName, { nil: undefined }),
    version: fc.constantFrom(undefined, undefined, "1", "2"),
  })
  .map(({ prefix, asked, query, cluster, hashed, version }) => ({
    match: {
      prefix,
      headers: asked.map(([name, exact]) => ({ name, string_match: { exact } })),
      ...(query && { query_parameters: [{ name: query, present_match: true }] }),
    },
    route: {
      cluster,
      ...(hashed && { hash_policy: [{ header: { header_name: hashed } }] }),
      ...(version && { metadata_match: { filter_metadata: { "envoy.lb": { v: version } } } }),
    },
  }));
const anyHosts = fc
  .uniqueArray(fc.tuple(fc.nat({ max: 4 }), fc.array(anyRoute, { maxLength: 3 })), {
    selector: ([n]) => n,
    maxLength: 4,
  })
  .map((all) => all.map(([n, routes]) => ({ name: `v${n}`, domains: [`v${n}.example`, `*.v${n}.example`], routes })));
const anyStep = fc.record({
  hosts: fc.option(anyHosts, { nil: undefined, freq: 2 }),
  clusters: fc.tuple(anyCluster, anyCluster, anyCluster),
});

/** With the numbers and names of tables, but none of their parts. */
const numbersOf = (tables: Tables): Tables => ({ ...tables, sources: {}, listeners: [] });

const saidBy = ({ listeners }: Tables) =>
  listeners.map(({ way, ...listener }: CompiledListener) =>
    way.kind === "requests"
      ? { ...listener, rules: way.virtualHosts, hosts: way.hosts.blob((place) => place + 7) }
      : { ...listener, way },
  );

test("from one configuration to the next, tables are what they are without the parts of those before", () => {
  let [kept, made] = [0, 0];
  fc.assert(
    fc.property(fc.array(anyStep, { minLength: 2, maxLength: 5 }), (steps) => {
      let before: Tables | undefined;
      let hosts: readonly object[] = [];
      let last: Config | undefined;
      for (const step of steps) {
        const fresh = parsed(step.hosts ?? hosts, step.clusters);
        /* Where virtual hosts stay, so do their objects, every other time. */
        const config: Config =
          step.hosts === undefined && last && kept % 2 === 0 ? { ...fresh, listeners: last.listeners } : fresh;
        const tables = compileConfig(config, before);
        const expected = compileConfig(config, before && numbersOf(before));
        assert.deepEqual(saidBy(tables), saidBy(expected));
        const { sources: _, listeners: __, ...rest } = tables;
        const { sources: _s, listeners: _l, ...others } = expected;
        assert.deepEqual(rest, others);
        const blobs = new Set(
          before?.listeners.flatMap(({ way }) => (way.kind === "requests" ? way.virtualHosts : [])),
        );
        for (const { way } of tables.listeners) {
          if (way.kind !== "requests") continue;
          for (const blob of way.virtualHosts) if (blob !== undefined) blobs.has(blob) ? kept++ : made++;
        }
        [before, last, hosts] = [tables, config, step.hosts ?? hosts];
      }
    }),
    { numRuns: Number(process.env.RUNS ?? 150) },
  );
  /* Some 300 are kept; it is chance that says how many. */
  assert.ok(kept > 100 && made > 300, `${kept} kept, ${made} made`);
});

const present = { kind: "present", present: true } as const;
const asking = (route: Route): Route => ({ ...route, headers: [{ name: "x-new", invert: false, value: present }] });

/** One virtual host is another object, the others are those that they were. */
function changed(config: Config, place: number): Config {
  const other = (vhost: VirtualHost): VirtualHost => ({ ...vhost, routes: vhost.routes.map(asking) });
  const inChain = (chain: HttpChain): HttpChain => ({
    ...chain,
    routes: {
      ...chain.routes,
      virtualHosts: chain.routes.virtualHosts.map((vhost, i) => (i === place ? other(vhost) : vhost)),
    },
  });
  const listeners = config.listeners.map((listener) => ({
    ...listener,
    chains: listener.chains.map((chain) => (chain.kind === "http" ? inChain(chain) : chain)),
  }));
  return { ...config, listeners };
}

const hostsWith = (routes: number) =>
  virtualHosts("hosts", 1_000, "c").map((host, i) => ({
    ...host,
    routes: Array.from({ length: routes }, (_, n) => ({ match: { path: `/${i}/${n}` }, route: { cluster: "c" } })),
  }));

/** Calls of functions for a change of one of a thousand virtual hosts, which has so many routes as all of them. */
async function costOf(routes: number): Promise<{ whole: number; one: number; again: number }> {
  const rooms = ["compile", "tables", "model", "sync"];
  const config = configOf(hostsWith(routes));
  let tables: Tables | undefined;
  const whole = await callsOf(rooms, () => {
    tables = compileConfig(config);
  });
  const { installed } = diff(undefined, tables!);
  const cost = (next: Config) =>
    callsOf(rooms, () => {
      const after = compileConfig(next, tables);
      diff(installed, after);
      const same = only(after).virtualHosts.map((blob, i) => blob === only(tables!).virtualHosts[i]);
      assert.deepEqual(
        same.flatMap((isSame, i) => (isSame ? [] : [i])),
        [7],
      );
    });
  return { whole, one: await cost(changed(config, 7)), again: await cost(structuredClone(changed(config, 7))) };
}

test("a change costs what the virtual host costs that it is in, whatever the others hold", {
  timeout: 120_000,
}, async (t) => {
  const [few, many] = [await costOf(1), await costOf(40)];
  t.diagnostic(`calls: ${JSON.stringify(few)} of hosts with one route, ${JSON.stringify(many)} with 40`);
  /* For each of the others a constant; that of the changed one may be 40 times more. */
  assert.ok(few.one <= 30 * 1_000, `${few.one} calls`);
  assert.ok(many.one - few.one <= 40 * 200, `${many.one} calls, not ${few.one}`);
  assert.ok(many.one <= many.whole / 100, `${many.one} of ${many.whole} calls`);
  /* A configuration that was parsed anew is compared, object by object: that is no work of any other kind. */
  assert.ok(many.again - many.one <= 45 * 40 * 1_000, `${many.again} calls, not ${many.one}`);
});

test("not a route of the others is read, where they are the same objects", () => {
  const config = configOf(hostsWith(2));
  const tables = compileConfig(config);
  const next = changed(config, 7);
  const reads: number[] = [];
  for (const { chains } of next.listeners)
    for (const chain of chains as HttpChain[])
      chain.routes.virtualHosts.forEach((vhost, place) => {
        const { routes } = vhost;
        const get = () => {
          reads.push(place);
          return routes;
        };
        Object.defineProperty(vhost, "routes", { get });
      });
  const after = compile(next, () => ({ lists: [] }), tables);
  assert.notEqual(only(after).virtualHosts[7], only(tables).virtualHosts[7]);
  assert.deepEqual([...new Set(reads)], [7]);
});

test("of ten thousand virtual hosts one is compiled, and told to the kernel", { timeout: 120_000 }, (t) => {
  const config = configOf(virtualHosts("hosts", 10_000, "c"));
  const timed = <T>(work: () => T) => {
    const begun = process.cpuUsage();
    const done = work();
    return { done, ms: Math.round(process.cpuUsage(begun).user / 1_000) };
  };
  const whole = timed(() => compileConfig(config));
  const first = timed(() => diff(undefined, whole.done));
  for (const next of [changed(config, 7), structuredClone(changed(config, 8))]) {
    const { done: after, ms } = timed(() => compileConfig(next, whole.done));
    const { done: told, ms: telling } = timed(() => diff(first.done.installed, after));
    t.diagnostic(`${ms} + ${telling} ms for one of 10000, ${whole.ms} + ${first.ms} ms for all`);
    const isOther = (blob: Uint32Array | undefined, i: number) => blob !== only(whole.done).virtualHosts[i];
    assert.equal(only(after).virtualHosts.filter(isOther).length, 1);
    assert.deepEqual(only(after).virtualHosts, only(compileConfig(next)).virtualHosts);
    /* The one blob, that of the hosts which leads to it, and the entries of both. */
    assert.equal(told.ops.map(({ op }) => op).join(), "putBlob,putBlob,set,set,dropBlob,dropBlob");
  }
});
