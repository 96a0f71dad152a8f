import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { messageNamed } from "../../src/envoy/descriptors.ts";
import { collectWritten } from "../envoy/written.ts";
import { makeConfig, PER_START } from "./config.ts";
import { bootstrap, SOME_PORTS } from "./places.ts";

/**
 * Every field that makes a difference to XLB is in configurations that are compared with Envoy's. Which those are, and
 * what becomes of them, docs/fields.md says, which is made by trying them; see tools/fieldpage.ts.
 */

const TLS =
  "the requests of this comparison are none of TLS: test/chains/against-envoy.test.ts, test/chains/tls.test.ts";
const TCP = "the same is asked of Envoy by test/e2e/tcp.test.ts";
const DNS = "Envoy and XLB would ask a server of names, each in its own time: test/daemon/names.test.ts";
const SOCKETS = "no request shows it: test/e2e/sockets.test.ts, test/native.test.ts";
const OUTLIERS = "what counts there is the order of requests: test/e2e/outlier.test.ts";
const UPGRADES = "each of its cases is asked of Envoy by test/chains/upgrades.test.ts";

/** Fields that no generator writes, and what proves them instead; with a dot at its end: all of a message. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  "envoy.config.cluster.v3.Cluster.RefreshRate.": DNS,
  "envoy.config.cluster.v3.Cluster.upstream_connection_options": SOCKETS,
  "envoy.config.cluster.v3.UpstreamConnectionOptions.": SOCKETS,
  "envoy.config.bootstrap.v3.ClusterManager.upstream_bind_config": SOCKETS,
  "envoy.config.cluster.v3.Cluster.upstream_bind_config": SOCKETS,
  "envoy.config.core.v3.BindConfig.": SOCKETS,
  "envoy.config.core.v3.ExtraSourceAddress.": SOCKETS,
  "envoy.config.cluster.v3.Cluster.outlier_detection": OUTLIERS,
  "envoy.config.cluster.v3.OutlierDetection.": OUTLIERS,
  "envoy.config.cluster.v3.Cluster.preconnect_policy": "no request shows it: test/pool/pools.test.ts",
  "envoy.config.cluster.v3.Cluster.PreconnectPolicy.": "no request shows it: test/pool/pools.test.ts",
  "envoy.config.core.v3.TcpKeepalive.": SOCKETS,
  "envoy.config.cluster.v3.Cluster.dns_failure_refresh_rate": DNS,
  "envoy.config.cluster.v3.Cluster.dns_lookup_family": DNS,
  "envoy.config.cluster.v3.Cluster.dns_refresh_rate": DNS,
  "envoy.config.cluster.v3.Cluster.respect_dns_ttl": DNS,
  "envoy.config.cluster.v3.Cluster.dns_jitter": DNS,
  "envoy.config.cluster.v3.Cluster.typed_dns_resolver_config": DNS,
  "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig.": DNS,
  "envoy.config.listener.v3.AdditionalAddress.": TCP,
  "envoy.config.listener.v3.FilterChainMatch.server_names": TLS,
  "envoy.config.listener.v3.Listener.additional_addresses": TCP,
  "envoy.config.listener.v3.ListenerFilter.filter_disabled": TLS,
  "envoy.config.listener.v3.ListenerFilterChainMatchPredicate.": TLS,
  "envoy.config.route.v3.RouteAction.UpgradeConfig.": UPGRADES,
  "envoy.config.route.v3.RouteAction.upgrade_configs": UPGRADES,
  "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector.": TLS,
  "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig.enabled": UPGRADES,
  "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.hash_policy": TCP,
  "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.max_downstream_connection_duration": TCP,
  "envoy.type.v3.Int32Range.": TLS,
  "envoy.config.listener.v3.Listener.traffic_direction":
    "a server's listener is none of XLB's: test/envoy/parse.test.ts",
};

const isOf = (name: string, key: string) => (key.endsWith(".") ? name.startsWith(key) : name === key);

const CONFIGS = 600;

/** `Message.field` of each that the page calls kernel or slow path. */
function honoured(): Set<string> {
  const page = readFileSync(join(import.meta.dirname, "../../docs/fields.md"), "utf8");
  const found = new Set<string>();
  for (const section of page.split(/^## /m).slice(1)) {
    const type = /^`(envoy\.[\w.]+)`/m.exec(section)?.[1];
    if (type === undefined) continue;
    for (const [, field, fate] of section.matchAll(/^\| `(\w+)` \| (.*) \|$/gm)) {
      if (/kernel|slow path/.test(fate!)) found.add(`${type}.${field}`);
    }
  }
  return found;
}

function generated(): Set<string> {
  const found = new Set<string>();
  const desc = messageNamed("envoy.config.bootstrap.v3.Bootstrap");
  for (let at = 0; at < CONFIGS; at += PER_START) {
    const specs = Array.from({ length: PER_START }, (_, i) => makeConfig(1, at + i).spec);
    collectWritten(desc, bootstrap(specs, "127.0.0.1", SOME_PORTS), found);
  }
  return found;
}

test("every field that XLB honours is compared with Envoy, or named with what proves it instead", () => {
  const [all, made] = [honoured(), generated()];
  assert.ok(all.size > 150, `the page has ${all.size}`);
  const elsewhere = (name: string) => Object.keys(ELSEWHERE).some((key) => isOf(name, key));
  const missing = [...all].filter((name) => !made.has(name) && !elsewhere(name));
  assert.deepEqual(missing.sort(), []);
});

test("what is proven elsewhere is honoured, and no generator writes it", () => {
  const [all, made] = [honoured(), generated()];
  for (const [key, where] of Object.entries(ELSEWHERE)) {
    assert.ok(
      [...all].some((name) => isOf(name, key)),
      `${key} is no such field`,
    );
    const written = [...made].find((name) => isOf(name, key));
    assert.equal(written, undefined, `${written} is generated by now`);
    assert.ok(where.length > 10, key);
  }
});
