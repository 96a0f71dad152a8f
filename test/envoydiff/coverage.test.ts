import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { DescMessage } from "@bufbuild/protobuf";
import { descriptors, messageNamed } from "../../src/envoy/descriptors.ts";
import { makeConfig, PER_START } from "./config.ts";
import { bootstrap, SOME_PORTS } from "./places.ts";

/**
 * Every field that makes a difference to XLB is in configurations that are compared with Envoy's. Which those are, and
 * what becomes of them, docs/fields.md says, which is made by trying them; see tools/fieldpage.ts.
 */

const TLS =
  "the requests of this comparison are none of TLS: test/chains/against-envoy.test.ts, test/chains/tls.test.ts";
const TCP = "the same is asked of Envoy by test/e2e/tcp.test.ts";
const UPGRADES = "each of its cases is asked of Envoy by test/chains/upgrades.test.ts";

/** Fields that no generator writes, and what proves them instead; with a dot at its end: all of a message. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  "envoy.config.bootstrap.v3.Bootstrap.cluster_manager": "holds the next one alone",
  "envoy.config.bootstrap.v3.ClusterManager.local_cluster_name":
    "speaks of all clusters of a bootstrap at once: test/balancing/cases.ts, test/compile/compile.test.ts",
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
  "envoy.config.listener.v3.Listener.use_original_dst":
    "Envoy sees what iptables redirected, XLB what the hook did: test/e2e/tcp.test.ts",
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

/** The same of each that a message in JSON has, and the messages within. */
function collect(desc: DescMessage, json: unknown, found: Set<string>): void {
  if (typeof json !== "object" || json === null) return;
  for (const [key, value] of Object.entries(json)) {
    const field = desc.fields.find(({ name, jsonName }) => name === key || jsonName === key);
    if (field === undefined) continue;
    found.add(`${desc.typeName}.${field.name}`);
    const inner = field.fieldKind === "scalar" || field.fieldKind === "enum" ? undefined : field.message;
    if (!inner) continue;
    const values = Array.isArray(value) ? value : field.fieldKind === "map" ? Object.values(value as object) : [value];
    for (const each of values) collect(packed(each) ?? inner, each, found);
  }
}

function packed(value: unknown): DescMessage | undefined {
  const type = (value as { readonly "@type"?: string } | null)?.["@type"];
  return type === undefined ? undefined : descriptors().getMessage(type.split("/")[1]!);
}

function generated(): Set<string> {
  const found = new Set<string>();
  const desc = messageNamed("envoy.config.bootstrap.v3.Bootstrap");
  for (let at = 0; at < CONFIGS; at += PER_START) {
    const specs = Array.from({ length: PER_START }, (_, i) => makeConfig(1, at + i).spec);
    collect(desc, bootstrap(specs, "127.0.0.1", SOME_PORTS), found);
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
