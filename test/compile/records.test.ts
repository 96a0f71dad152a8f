import assert from "node:assert/strict";
import { test } from "node:test";
import { compile } from "../../src/compile/compile.ts";
import { keyOf, recordsOf } from "../../src/compile/records.ts";
import { kernelBalancing, slowClusters } from "../../src/daemon/balancing.ts";
import { formatRejections, parseBootstrap } from "../../src/envoy/parse.ts";
import { httpChains } from "../../src/model/chains.ts";
import type { Config, Endpoint, NamedCluster } from "../../src/model/config.ts";
import { withAddresses } from "../../src/route/names.ts";
import { addressText } from "../../src/tables/address.ts";
import type { Tables } from "../../src/tables/compiled.ts";
import { cluster, tcpProxy } from "../e2e/tcp.ts";
import { interpretEndpoint } from "./interpret.ts";
import { only } from "./tables.ts";

/** Records of clusters in the kernel: one for each of the criteria that ways to a cluster with subsets have. */

const address = (ip: string, port = 80) => ({ socket_address: { address: ip, port_value: port } });
const lb = (metadata: object) => ({ filter_metadata: { "envoy.lb": metadata } });
const route = (prefix: string, more: object) => ({ match: { prefix }, route: { cluster: "c", ...more } });
const SUBSETS = { lb_subset_config: { subset_selectors: [{ keys: ["v"] }] } };
const member = (ip: string, v: string) => ({ endpoint: { address: address(ip) }, metadata: lb({ v }) });
const MEMBERS = [member("10.0.0.1", "1"), member("10.0.0.2", "2"), member("10.0.0.3", "2")];

function read(routes: readonly object[], more: object = SUBSETS, members: readonly object[] = MEMBERS): Config {
  const types = "type.googleapis.com/envoy.extensions.filters";
  const manager = {
    "@type": `${types}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "x",
    route_config: { name: "r", virtual_hosts: [{ name: "v", domains: ["*"], routes }] },
    http_filters: [{ name: "router", typed_config: { "@type": `${types}.http.router.v3.Router` } }],
  };
  const listener = { name: "l", address: address("10.9.0.1"), filter_chains: [filters("hcm", manager)] };
  const load_assignment = { cluster_name: "c", endpoints: [{ lb_endpoints: members }] };
  const clusters = [{ name: "c", load_assignment, ...more }, cluster("d", [])];
  const parsed = parseBootstrap(JSON.stringify({ static_resources: { listeners: [listener], clusters } }));
  assert.ok(parsed.ok, parsed.ok ? "" : formatRejections(parsed.rejections, "config").join("\n"));
  return parsed.value.config;
}

const filters = (name: string, typed_config: object) => ({ filters: [{ name, typed_config }] });

const tablesOf = (config: Config, before?: Tables) => compile(config, kernelBalancing(config), before);

const entriesOf = ({ listeners }: Config): NamedCluster[] =>
  listeners
    .flatMap(httpChains)
    .flatMap(({ routes }) => routes.virtualHosts.flatMap((host) => host.routes))
    .flatMap(({ action }) => (action.kind === "forward" ? (action.clusters as readonly NamedCluster[]) : []));

/** The addresses that a way leads to, in turn. */
function servers(config: Config, { ids, clusters }: Tables, entry: NamedCluster): string[] {
  const to = config.clusters.find(({ name }) => name === entry.name)!;
  const id = ids.clusters.get(keyOf(entry, to));
  const { blob } = clusters.find((record) => record.id === id)!;
  const byId = new Map(
    to.endpoints.map((endpoint: Endpoint) => {
      const text = addressText(endpoint.address);
      return [ids.endpoints.get(`c ${text}`)!, text];
    }),
  );
  let turn = 0;
  const picks = Array.from({ length: 4 }, () =>
    interpretEndpoint(
      blob,
      () => turn++,
      () => 0,
    ),
  );
  return [...new Set(picks.flatMap((pick) => (pick === undefined ? [] : [byId.get(pick)!])))].sort();
}

test("one record for each of the criteria, and none where a cluster has no subsets", () => {
  const routes = [
    route("/a", { metadata_match: lb({ v: "1" }) }),
    route("/b", { metadata_match: lb({ v: "2", w: [1] }) }),
    route("/c", { metadata_match: lb({ w: [1], v: "2" }) }),
    route("/d", {}),
    route("/e", { metadata_match: lb({}) }),
  ];
  const titles = (config: Config) => recordsOf(config).map(({ title }) => title);
  assert.deepEqual(titles(read(routes)), ["c", "d", 'c {"v":"1"}', 'c {"v":"2","w":[1]}']);
  assert.deepEqual(titles(read(routes, {})), ["c", "d"]);
});

test("routes and entries lead to their subsets, whose endpoints keep the cluster's own numbers", () => {
  const weighted_clusters = {
    clusters: [
      { name: "c", weight: 1, metadata_match: lb({ v: "1" }) },
      { name: "c", weight: 3, metadata_match: lb({ v: "2" }) },
    ],
  };
  const config = read([{ match: { prefix: "/" }, route: { weighted_clusters } }, route("/none", {})]);
  const tables = tablesOf(config);
  assert.deepEqual(
    entriesOf(config).map((entry) => servers(config, tables, entry)),
    [["10.0.0.1:80"], ["10.0.0.2:80", "10.0.0.3:80"], []],
  );
  assert.deepEqual([...tables.ids.endpoints.keys()], ["c 10.0.0.1:80", "c 10.0.0.2:80", "c 10.0.0.3:80"]);
  assert.deepEqual(tables.slow, []);
});

test("tcp_proxy leads to subsets too", () => {
  const types = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
  const { typed_config } = tcpProxy("c", { metadata_match: lb({ v: "1" }) }) as { typed_config: object };
  assert.equal((typed_config as { "@type": string })["@type"], types);
  const listeners = [{ name: "l", address: address("10.9.0.1"), filter_chains: [filters("tcp", typed_config)] }];
  const load_assignment = { cluster_name: "c", endpoints: [{ lb_endpoints: MEMBERS }] };
  const clusters = [{ name: "c", load_assignment, ...SUBSETS }];
  const parsed = parseBootstrap(JSON.stringify({ static_resources: { listeners, clusters } }));
  assert.ok(parsed.ok);
  const { config } = parsed.value;
  const tables = tablesOf(config);
  const { way } = tables.listeners[0]!;
  assert.ok(way.kind === "direct");
  assert.equal(way.blob[4], tables.ids.clusters.get(keyOf({ name: "c", criteria: { v: "1" } }, config.clusters[0])));
});

test("endpoints that DNS tells have the metadata of their name, and a subset's record stays the same one", () => {
  const named = [member("one.test", "1"), member("two.test", "2")];
  const routes = [route("/a", { metadata_match: lb({ v: "1" }) }), route("/b", { metadata_match: lb({ v: "2" }) })];
  const told = read(routes, { type: "STRICT_DNS", ...SUBSETS }, named);
  const at = (one: string[], two: string[]) =>
    withAddresses(told, (_, name) => ({ "one.test": one, "two.test": two })[name]);
  const [before, after] = [at([], ["10.0.0.2"]), at(["10.0.0.1", "10.0.0.4"], [])];
  const [first, second] = entriesOf(told) as [NamedCluster, NamedCluster];
  const old = tablesOf(before);
  assert.deepEqual(
    [first, second].map((entry) => servers(before, old, entry)),
    [[], ["10.0.0.2:80"]],
  );
  const tables = tablesOf(after, old);
  assert.deepEqual(
    [first, second].map((entry) => servers(after, tables, entry)),
    [["10.0.0.1:80", "10.0.0.4:80"], []],
  );
  assert.deepEqual(tables.ids.clusters, old.ids.clusters);
  assert.deepEqual(only(tables).virtualHosts, only(old).virtualHosts);
});

test("a virtual host is made again when a route asks for another subset", () => {
  const asking = (v: string) => read([route("/", { metadata_match: lb({ v }) })]);
  const [one, two] = [asking("1"), asking("2")];
  const before = tablesOf(one);
  assert.deepEqual(only(tablesOf(two, before)).virtualHosts, only(tablesOf(two)).virtualHosts);
  assert.deepEqual(servers(two, tablesOf(two, before), entriesOf(two)[0]!), ["10.0.0.2:80", "10.0.0.3:80"]);
});

test("a subset that the kernel cannot balance is named, and the rest of the cluster stays on the kernel path", () => {
  const sick = [1, 2, 3].map((i) => ({ ...member(`10.1.0.${i}`, "1"), health_status: "UNHEALTHY" }));
  const members = [...sick, member("10.1.0.4", "1"), ...MEMBERS.slice(1)];
  const slowStart = { round_robin_lb_config: { slow_start_config: { slow_start_window: "9s" } } };
  const routes = ["1", "2"].map((v) => route(`/${v}`, { metadata_match: lb({ v }) }));
  assert.deepEqual(slowClusters(read(routes, { ...SUBSETS, ...slowStart }, members)), [
    { where: 'cluster c {"v":"1"}', reason: "healthy endpoints start slowly beside others, in panic" },
  ]);
});
