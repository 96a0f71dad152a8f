import assert from "node:assert/strict";
import { test } from "node:test";
import { explainConfig } from "../../src/daemon/explain.ts";
import { parseBootstrap } from "../../src/envoy/parse.ts";

const at = (port_value: number) => ({ socket_address: { address: "127.0.0.1", port_value } });
const EXTENSION = "type.googleapis.com/envoy.extensions.filters";

/** What `xlb validate` says of the slow path, of one cluster with these fields, one route and one virtual host. */
function slowLines(cluster: object, route: object = {}, host: object = {}): string[] {
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
  const parsed = parseBootstrap(
    JSON.stringify({
      static_resources: {
        listeners: [
          { name: "l", address: at(80), filter_chains: [{ filters: [{ name: "manager", typed_config: manager }] }] },
        ],
        clusters: [{ name: "c", load_assignment: { cluster_name: "c", endpoints }, ...cluster }],
      },
    }),
  );
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return explainConfig(parsed.value.config).filter((line) => line.includes("needs the slow path"));
}

const thresholds = (fields: object) => ({ circuit_breakers: { thresholds: [fields] } });

test("max_requests takes a cluster to the slow path where it is neither the default nor out of reach", () => {
  for (const max_requests of [0, 1, 1_023, 1_025, 32_767]) {
    const lines = slowLines(thresholds({ max_requests }));
    assert.equal(lines.length, 1, `${max_requests}: ${lines}`);
    assert.match(lines[0]!, /max_requests bounds its requests/);
  }
  for (const max_requests of [1_024, 32_768, 4_294_967_295])
    assert.deepEqual(slowLines(thresholds({ max_requests })), [], `${max_requests}`);
  assert.deepEqual(slowLines({}), []);
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
