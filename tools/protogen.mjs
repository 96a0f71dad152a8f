// Builds src/envoy/gen/envoy.binpb: the descriptors of every Envoy message that a configuration for XLB may name.
// `buf` compiles the .proto files that @grpc/grpc-js-xds ships, offline; only what the roots below import is taken,
// so that the daemon loads little. The same input gives the same bytes.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** What a bootstrap may hold directly, then what it holds inside an Any. */
const ROOTS = [
  "envoy/config/bootstrap/v3/bootstrap.proto",
  "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
  "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
  "envoy/extensions/filters/http/router/v3/router.proto",
  "envoy/extensions/filters/http/fault/v3/fault.proto",
  "envoy/extensions/filters/http/stateful_session/v3/stateful_session.proto",
  "udpa/type/v1/typed_struct.proto",
  "xds/type/v3/typed_struct.proto",
  "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
  "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
  "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
  "envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.proto",
  "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
  ...["round_robin", "least_request", "random", "ring_hash", "maglev", "subset"].map(
    (policy) => `envoy/extensions/load_balancing_policies/${policy}/v3/${policy}.proto`,
  ),
  "envoy/extensions/path/match/uri_template/v3/uri_template_match.proto",
  "envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite.proto",
  "envoy/extensions/request_id/uuid/v3/uuid.proto",
  "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
];

const OUTPUT = fileURLToPath(new URL("../src/envoy/gen/envoy.binpb", import.meta.url));

const require = createRequire(import.meta.url);
const DEPS = join(dirname(require.resolve("@grpc/grpc-js-xds/package.json")), "deps");
const FOLDERS = ["envoy-api", "xds", "protoc-gen-validate", "googleapis"].map((name) => join(DEPS, name));

/** What the shipped copies are too old to know: an option that Envoy's files use, and newer fields. */
const PATCHES = {
  "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto": (text) => {
    if (text.includes("max_client_hello_size")) return text;
    const anchor = "google.protobuf.UInt32Value initial_read_buffer_size = 2";
    if (!text.includes(anchor)) throw new Error(`tls_inspector.proto has changed: "${anchor}" is gone`);
    const newer = [
      "google.protobuf.BoolValue enable_ja4_fingerprinting = 3;",
      "bool close_connection_on_client_hello_parsing_errors = 4;",
      "google.protobuf.UInt32Value max_client_hello_size = 5 [(validate.rules).uint32 = {lte: 16384 gt: 255}];",
    ];
    return text.replace(anchor, [...newer, anchor].join("\n  "));
  },
  "envoy/config/route/v3/route_components.proto": (text) => {
    if (text.includes("use_hash_policy")) return text;
    const anchor = "oneof random_value_specifier {";
    if (!text.includes(anchor)) throw new Error(`route_components.proto has changed: "${anchor}" is gone`);
    return text.replace(anchor, `${anchor}\n    google.protobuf.BoolValue use_hash_policy = 5;`);
  },
  "envoy/config/cluster/v3/cluster.proto": (text) => {
    if (text.includes("dns_jitter")) return text;
    const anchor = "bool respect_dns_ttl = 39;";
    if (!text.includes(anchor)) throw new Error(`cluster.proto has changed: "${anchor}" is gone`);
    return text.replace(anchor, `${anchor}\n  google.protobuf.Duration dns_jitter = 58;`);
  },
  "validate/validate.proto": (text) => {
    if (text.includes("ignore_empty = 26")) return text;
    const anchor = "optional bool strict = 25 [default = true];";
    if (!text.includes(anchor)) throw new Error(`validate.proto has changed: "${anchor}" is gone`);
    return text.replace(anchor, `${anchor}\n  optional bool ignore_empty = 26;`);
  },
};

/** The roots and all that they import, by name; google/protobuf/* comes with buf. */
function closure(roots) {
  const texts = new Map();
  const waiting = [...roots];
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (texts.has(name) || name.startsWith("google/protobuf/")) continue;
    const folder = FOLDERS.find((folder) => existsSync(join(folder, name)));
    if (folder === undefined) throw new Error(`${name}: not in ${DEPS}`);
    const text = readFileSync(join(folder, name), "utf8");
    texts.set(name, PATCHES[name]?.(text) ?? text);
    for (const [, imported] of text.matchAll(/^import\s+(?:public\s+)?"([^"]+)";/gm)) waiting.push(imported);
  }
  return texts;
}

const work = mkdtempSync(join(tmpdir(), "xlb-protogen-"));
try {
  const texts = closure(ROOTS);
  writeFileSync(join(work, "buf.yaml"), "version: v2\n");
  for (const [name, text] of texts) {
    mkdirSync(join(work, dirname(name)), { recursive: true });
    writeFileSync(join(work, name), text);
  }
  mkdirSync(dirname(OUTPUT), { recursive: true });
  const buf = join(dirname(require.resolve("@bufbuild/buf/package.json")), "bin", "buf");
  const options = ["--as-file-descriptor-set", "--exclude-source-info", "-o", OUTPUT];
  execFileSync(process.execPath, [buf, "build", work, ...options], { stdio: "inherit" });
  console.log(`${OUTPUT}: ${texts.size} files, ${readFileSync(OUTPUT).length} bytes`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
