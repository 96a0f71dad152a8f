import assert from "node:assert/strict";
import { test } from "node:test";
import { explainConfig } from "../../src/daemon/explain.ts";
import { explainRequest, formatExplanation, readQuestion } from "../../src/daemon/explain-request.ts";
import { formatRejections, parseBootstrap } from "../../src/envoy/parse.ts";
import type { Config } from "../../src/model/config.ts";
import type { Metadata } from "../../src/model/metadata.ts";
import { address, cluster, httpAnswer, inspector, tcpProxy } from "../e2e/tcp.ts";

function configOf(more: object): Config {
  const listener = { name: "l", address: address("10.0.0.1", 80), ...more };
  const clusters = [
    cluster("one", [{ ip: "10.1.0.1", port: 9 }]),
    cluster("empty", []),
    { name: "there", type: "ORIGINAL_DST", lb_policy: "CLUSTER_PROVIDED" },
  ];
  const parsed = parseBootstrap(JSON.stringify({ static_resources: { listeners: [listener], clusters } }));
  if (!parsed.ok) throw new Error(formatRejections(parsed.rejections, "config").join("\n"));
  return parsed.value.config;
}

function explain(more: object): string {
  const config = configOf(more);
  const asked = readQuestion("GET http://x/", []);
  if ("problem" in asked) throw new Error(asked.problem);
  return formatExplanation(explainRequest(config, config.listeners[0]!, asked));
}

const only = (filter: object) => ({ filter_chains: [{ filters: [filter] }] });

test("tcp_proxy: the cluster, its endpoint, and that XLB is not between", () => {
  assert.equal(
    explain(only(tcpProxy("one"))),
    `listener   l at 10.0.0.1:80
cluster    one: ROUND_ROBIN, each in turn
             10.1.0.1:9, healthy, weight 1: 100 %
served by  the endpoint itself: the connection is made to it, as far as rules say
`,
  );
});

test("tcp_proxy: what needs the slow path, what leads nowhere, and what is left alone", () => {
  assert.match(
    explain(only(tcpProxy("one", { idle_timeout: "1s" }))),
    /served by +the slow path \(rules\): .*idle_timeout/,
  );
  assert.match(explain(only(tcpProxy("gone"))), /cluster +gone: not there: the connection is closed/);
  assert.match(explain(only(tcpProxy("empty"))), /no endpoint to use: the connection is closed/);
  assert.match(explain(only(tcpProxy("there"))), /served by +whoever the client asked for/);
});

test("which subset of a cluster, by which criteria, and what lacks an endpoint", () => {
  const lb = (metadata: object) => ({ filter_metadata: { "envoy.lb": metadata } });
  const config = configOf(only(tcpProxy("one", { metadata_match: lb({ v: "2", a: 1 }) })));
  const subsets = { fallback: "none", defaultSubset: { v: "1" }, selectors: [{ keys: ["a", "v"] }] } as const;
  const told = (metadata: object, more: object = {}) => {
    const clusters = config.clusters.map((cluster) => ({
      ...cluster,
      subsets: { ...subsets, ...more },
      endpoints: cluster.endpoints.map((endpoint) => ({ ...endpoint, metadata: metadata as Metadata })),
    }));
    const asked = readQuestion("GET http://x/", []);
    assert.ok(!("problem" in asked));
    return formatExplanation(explainRequest({ ...config, clusters }, config.listeners[0]!, asked));
  };
  assert.match(
    told({ v: "2", a: 1 }),
    /^cluster +one: a=1, v="2", by metadata_match {"a":1,"v":"2"}; ROUND_ROBIN, each in turn$/m,
  );
  assert.match(
    told({ v: "2" }, { fallback: "any" }),
    /^cluster +one: any endpoint, by metadata_match {"a":1,"v":"2"};/m,
  );
  assert.match(told({ v: "2" }), /one: cluster one has no endpoint for metadata_match {"a":1,"v":"2"}: the connection/);
  assert.match(told({ v: "2" }, { fallback: "default" }), /: there is none in the default subset: the connection is/);
});

test("which filter chain a request takes, of several", () => {
  const http = { filter_chain_match: { application_protocols: ["http/1.1"] }, filters: [httpAnswer("x")] };
  const rest = { default_filter_chain: { filters: [tcpProxy("one")] } };
  assert.match(
    explain({ listener_filters: [inspector], filter_chains: [{ name: "web", ...http }], ...rest }),
    /^filter chain +web, told by the first bytes$/m,
  );
  assert.match(explain({ filter_chains: [http], ...rest }), /^filter chain +default_filter_chain$/m);
  const other = { filter_chain_match: { destination_port: 81 }, filters: [httpAnswer("x")] };
  assert.match(explain({ filter_chains: [other, http] }), /^served by +nobody: the connection is closed$/m);
});

test("validate: a chain that needs the slow path, and a cluster that is not there", () => {
  const byPort = { filter_chain_match: { source_ports: [7] }, filters: [tcpProxy("one")] };
  assert.deepEqual(explainConfig(configOf({ filter_chains: [byPort, { filters: [tcpProxy("gone")] }] })), [
    "l: each connection needs the slow path: its filter chain depends on where a connection comes from",
    "cluster there needs the slow path: its endpoint is where the client wants to go",
    "l: filter_chains[1]: there is no cluster gone: connections close",
  ]);
});
