import assert from "node:assert/strict";
import { test } from "node:test";
import { explainConfig } from "../../src/daemon/explain.ts";
import { parseBootstrap } from "../../src/envoy/parse.ts";
import type { Config } from "../../src/model/config.ts";
import { compileConfig } from "./tables.ts";

const at = (port_value: number) => ({ socket_address: { address: "127.0.0.1", port_value } });
const EXTENSION = "type.googleapis.com/envoy.extensions.filters";

/** One cluster with these fields, one route and one virtual host. */
function parsed(cluster: object, route: object = {}, host: object = {}): Config {
  const manager = {
    "@type": `${EXTENSION}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "web",
    route_config: {
      virtual_hosts: [
        { name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "c", ...route } }], ...host },
      ],
    },
    http_filters: [{ name: "router", typed_config: { "@type": `${EXTENSION}.http.router.v3.Router` } }],
  };
  const endpoints = [{ lb_endpoints: [{ endpoint: { address: at(9_000) } }] }];
  const read = parseBootstrap(
    JSON.stringify({
      static_resources: {
        listeners: [
          { name: "l", address: at(80), filter_chains: [{ filters: [{ name: "manager", typed_config: manager }] }] },
        ],
        clusters: [{ name: "c", load_assignment: { cluster_name: "c", endpoints }, ...cluster }],
      },
    }),
  );
  assert.ok(read.ok, JSON.stringify(read));
  return read.value.config;
}

/** What `xlb validate` says of the slow path. */
const slowLines = (cluster: object, route: object = {}, host: object = {}): string[] =>
  explainConfig(parsed(cluster, route, host)).filter((line) => line.includes("needs the slow path"));

const thresholds = (fields: object) => ({ circuit_breakers: { thresholds: [fields] } });

test("max_requests is the hook's to count where it is neither the default nor out of reach", () => {
  const limitOf = (fields: object) => {
    const config = parsed(thresholds(fields));
    return compileConfig(config).clusters.map(({ limit }) => limit?.maxRequests);
  };
  for (const max_requests of [0, 1, 1_023, 1_025, 32_767]) {
    assert.deepEqual(limitOf({ max_requests }), [max_requests]);
    assert.deepEqual(slowLines(thresholds({ max_requests })), [], `${max_requests}`);
  }
  for (const max_requests of [1_024, 32_768, 4_294_967_295])
    assert.deepEqual(limitOf({ max_requests }), [undefined], `${max_requests}`);
  assert.deepEqual(limitOf({ priority: "HIGH", max_requests: 1 }), [undefined]);
});

test("of priority HIGH it is the route that takes the slow path", () => {
  assert.deepEqual(slowLines(thresholds({ priority: "HIGH", max_requests: 1 })), []);
  assert.match(slowLines({}, { priority: "HIGH" })[0]!, /its priority is HIGH/);
});

test("limits that the kernel path keeps, or has no use for", () => {
  for (const fields of [{ max_connections: 1 }, { max_pending_requests: 0 }, { max_retries: 0 }])
    assert.deepEqual(slowLines(thresholds(fields)), [], JSON.stringify(fields));
  assert.deepEqual(slowLines({}, { retry_policy: { retry_on: "connect-failure" }, timeout: "1s" }), []);
  assert.deepEqual(slowLines({}, {}, { include_request_attempt_count: true }), []);
});

test("those that it does not", () => {
  const policy = (fields: object) => ({ retry_policy: { retry_on: "connect-failure", ...fields } });
  for (const route of [
    policy({ retry_on: "5xx" }),
    policy({ per_try_timeout: "1s" }),
    policy({ retry_on: "retriable-status-codes", retriable_status_codes: [503] }),
    { idle_timeout: "1s" },
    { max_stream_duration: { max_stream_duration: "1s" } },
    { request_mirror_policies: [{ cluster: "c" }] },
  ])
    assert.equal(slowLines({}, route).length, 1, JSON.stringify(route));
});
