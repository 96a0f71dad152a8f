import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import fc from "fast-check";
import { parse } from "yaml";
import { descriptors, messageNamed } from "../../src/envoy/descriptors.ts";
import { formatRejections, parseBootstrap } from "../../src/envoy/parse.ts";

/**
 * good/NAME.yaml gives NAME.expected.json, bad/NAME.yaml gives NAME.expected.txt. `UPDATE=1` writes what came out.
 * A first line `# overlay: TEXT` is --config-yaml.
 */
const folder = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const inputs = (name: string) =>
  readdirSync(folder(name)).filter((file) => /\.(yaml|json)$/.test(file) && !file.includes(".expected."));

for (const file of inputs("good")) {
  test(`good/${file}`, () => {
    const result = parseFile(`good/${file}`);
    assert.ok(result.ok, result.ok ? "" : formatRejections(result.rejections, file).join("\n"));
    expectFile(`good/${file}.expected.json`, `${JSON.stringify(result.value, null, 2)}\n`);
  });
}

for (const file of inputs("bad")) {
  test(`bad/${file}`, () => {
    const result = parseFile(`bad/${file}`);
    assert.ok(!result.ok);
    expectFile(`bad/${file}.expected.txt`, `${formatRejections(result.rejections, file).join("\n")}\n`);
  });
}

test("every rejection has a place in the text", () => {
  for (const file of inputs("bad")) {
    const lines = readFileSync(folder(`bad/${file}`), "utf8").split("\n");
    const result = parseFile(`bad/${file}`);
    for (const { line, column, file: other } of result.ok ? [] : result.rejections) {
      if (other !== undefined) continue;
      assert.ok(line !== undefined && line >= 1 && line <= lines.length, `${file}: line ${line}`);
      assert.ok(
        column !== undefined && column >= 1 && column <= lines[line - 1]!.length + 1,
        `${file}: column ${column}`,
      );
    }
  }
});

test("bytes are told from the character that stands for broken ones", () => {
  const whole = Buffer.from('node: { id: "\uFFFD" }');
  assert.deepEqual(parseBootstrap(whole), {
    ok: true,
    value: { config: { listeners: [], clusters: [] }, node: { id: "\uFFFD", cluster: "" } },
  });
  const broken = parseBootstrap(Buffer.concat([Buffer.from("node:\n  id: "), Buffer.of(0xe9)]));
  assert.ok(!broken.ok);
  assert.deepEqual(formatRejections(broken.rejections, "file"), [
    "file:2:7: bytes that are not UTF-8 (save the file as UTF-8)",
  ]);
});

test("no text makes it throw", () => {
  const base = readFileSync(folder("good/everything.yaml"), "utf8");
  const lines = base.split("\n");
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(lines.length - 1), fc.constantFrom("drop", "indent", "null", "list", "text", "number"))),
      (edits) => {
        const edited = [...lines];
        for (const [at, edit] of edits) edited[at] = mutate(edited[at]!, edit);
        parseBootstrap(edited.join("\n"));
      },
    ),
    { numRuns: 300 },
  );
  fc.assert(fc.property(fc.string(), (text) => void parseBootstrap(text)));
  fc.assert(fc.property(fc.json(), (text) => void parseBootstrap(text)));
});

test("a field that good/everything.yaml and balancing.yaml do not show is refused, or told to have no effect", () => {
  type Json = { [name: string]: unknown };
  const whole: Json = parse(
    readFileSync(folder("good/everything.yaml"), "utf8")
      .replace("upgradeType", "upgrade_type")
      .replace(": yes", ": true"),
  );
  const balancing: Json = parse(readFileSync(folder("good/balancing.yaml"), "utf8"));
  whole.cluster_manager = balancing.cluster_manager;
  (whole.static_resources as { clusters: unknown[] }).clusters.push(
    ...(balancing.static_resources as { clusters: unknown[] }).clusters,
  );
  const shown = new Map<string, Set<string>>();
  const places: { desc: DescMessage; node: Json; path: string }[] = [];
  const walk = (desc: DescMessage, node: Json, path: string): void => {
    places.push({ desc, node, path });
    const seen = shown.get(desc.typeName) ?? new Set();
    shown.set(desc.typeName, seen);
    for (const [name, value] of Object.entries(node)) {
      const at = path === "" ? name : `${path}.${name}`;
      seen.add(name);
      const field = desc.fields.find((field) => field.name === name);
      const inner = field?.message;
      if (inner === undefined || ["Node", "Locality"].includes(inner.name)) continue;
      const below = (value: unknown, at: string) => {
        const type = inner.typeName === "google.protobuf.Any" ? (value as Json)["@type"] : undefined;
        const packed = typeof type === "string" ? descriptors().getMessage(type.split("/")[1]!) : undefined;
        if (packed !== undefined) walk(packed, value as Json, at);
        else if (!inner.typeName.startsWith("google.protobuf.")) walk(inner, value as Json, at);
      };
      if (field?.fieldKind === "list")
        for (const [i, item] of (value as unknown[]).entries()) below(item, `${at}[${i}]`);
      else if (field?.fieldKind === "map")
        for (const [key, item] of Object.entries(value as Json)) below(item, `${at}["${key}"]`);
      else below(value, at);
    }
  };
  walk(messageNamed("envoy.config.bootstrap.v3.Bootstrap"), whole, "");
  assert.ok(parseBootstrap(JSON.stringify(whole)).ok);
  const tries = places.flatMap(({ desc, node, path }) =>
    desc.fields
      .filter(({ name }) => !shown.get(desc.typeName)?.has(name))
      .map((field, round) => ({ field, node, round, at: path === "" ? field.name : `${path}.${field.name}` })),
  );
  /** What the reader says of it with these fields too, which go again. */
  const withFields = (some: readonly (typeof tries)[number][]) => {
    const before = some.map(({ node }) => ({ ...node }));
    for (const { field, node } of some) {
      for (const member of field.oneof?.fields ?? []) delete node[member.name];
      node[field.name] = sample(field);
    }
    const result = parseBootstrap(JSON.stringify(whole));
    for (const [i, { node }] of some.entries()) {
      for (const name of Object.keys(node)) delete node[name];
      Object.assign(node, before[i]);
    }
    return result;
  };
  const isRefused = (result: ReturnType<typeof parseBootstrap>, at: string) =>
    !result.ok &&
    result.rejections.some(({ path }) => path === at || path.startsWith(`${at}.`) || path.startsWith(`${at}[`));
  /* One of each message at once, as all that is refused is told at once; alone, what was not refused then. */
  const rounds = Array.from({ length: Math.max(...tries.map(({ round }) => round)) + 1 }, (_, round) =>
    tries.filter((each) => each.round === round),
  );
  const left = rounds.flatMap((some) => {
    const result = withFields(some);
    return some.filter(({ at }) => !isRefused(result, at));
  });
  for (const each of left) {
    const { at } = each;
    const result = withFields([each]);
    if (result.ok)
      assert.ok(
        result.idle?.some((line) => line.startsWith(`${at} has no effect`)),
        `${at} is ignored`,
      );
    else assert.ok(isRefused(result, at), `${at}: ${formatRejections(result.rejections, "").join("; ")}`);
  }
  const tried = tries.length;
  assert.ok(parseBootstrap(JSON.stringify(whole)).ok);
  assert.ok(tried > 300, `${tried} fields tried`);
});

test("an INBOUND listener is taken whatever it holds, left alone, and named", () => {
  const listener = (direction: string) => `
    - name: in
      traffic_direction: ${direction}
      address: { socket_address: { address: 0.0.0.0, port_value: 15006 } }
      filter_chains:
        - filters:
            - name: rbac
              typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC }
          transport_socket:
            name: tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext`;
  const inbound = parseBootstrap(`static_resources:\n  listeners:${listener("INBOUND")}`);
  assert.deepEqual(inbound, {
    ok: true,
    value: { config: { listeners: [], clusters: [] } },
    idle: [
      "static_resources.listeners[0] has no effect: INBOUND is the server's side: XLB balances what clients send, " +
        "and enforces no policy of a server's",
    ],
  });
  assert.equal(parseBootstrap(`static_resources:\n  listeners:${listener("OUTBOUND")}`).ok, false);
});

test("what has no effect is told once for each field, and what the message holds does not matter", () => {
  const listener = (name: string, port: number) => ({
    name,
    address: { socket_address: { address: "127.0.0.1", port_value: port } },
    default_filter_chain: { filters: [], metadata: { filter_metadata: { any: { thing: [1] } } } },
    access_log: [{ name: "x", typed_config: { "@type": "type.googleapis.com/some.Type", at: 1 } }],
    tcp_backlog_size: 7,
  });
  const listeners = [listener("a", 1), listener("b", 2), listener("c", 3)].map((one) => ({
    ...one,
    default_filter_chain: { ...one.default_filter_chain, filters: [TCP] },
  }));
  const read = parseBootstrap(JSON.stringify({ stats_config: {}, static_resources: { listeners } }));
  assert.ok(read.ok, read.ok ? "" : formatRejections(read.rejections, "").join("\n"));
  assert.deepEqual(read.idle, [
    "stats_config has no effect: it is about Envoy's statistics",
    "static_resources.listeners[0].access_log has no effect, as 2 more Listener.access_log: XLB writes no access log",
    "static_resources.listeners[0].tcp_backlog_size has no effect, as 2 more Listener.tcp_backlog_size: " +
      "it is about a socket or a buffer of Envoy's",
    "static_resources.listeners[0].default_filter_chain.metadata has no effect, as 2 more FilterChain.metadata: " +
      "nothing that XLB does asks for it",
  ]);
});

const TCP = {
  name: "tcp",
  typed_config: {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    stat_prefix: "x",
    cluster: "c",
  },
};

/** Some value of a field's type, not its default. */
function sample(field: DescField): unknown {
  const one = () => {
    if (field.enum !== undefined) return field.enum.values[1]?.name ?? field.enum.values[0]!.name;
    if (field.scalar === ScalarType.STRING || field.scalar === ScalarType.BYTES) return "text";
    if (field.scalar !== undefined) return field.scalar === ScalarType.BOOL ? true : 7;
    const type = field.message!.typeName;
    if (type === "google.protobuf.Any") return { "@type": "type.googleapis.com/some.Type" };
    if (type === "google.protobuf.Duration") return "7s";
    if (type === "google.protobuf.BoolValue") return false;
    if (type === "google.protobuf.StringValue") return "text";
    return type.endsWith("Value") && type.startsWith("google.protobuf.") ? 7 : {};
  };
  return field.fieldKind === "list" ? [one()] : field.fieldKind === "map" ? { key: one() } : one();
}

test("aliases of aliases end", () => {
  const levels = Array.from({ length: 30 }, (_, i) => `!ignore a${i + 1}: &a${i + 1} {policies: [*a${i}, *a${i}]}`);
  const text = [
    "!ignore a0: &a0 {x: y}",
    ...levels,
    "node: {metadata: *a30}",
    "overload_manager: *a30",
    "watchdogs: *a30",
  ];
  assert.equal(parseBootstrap(text.join("\n")).ok, false);
  const circle = parseBootstrap("static_resources: &s {clusters: [{load_assignment: *s}], secrets: *s}");
  assert.equal(circle.ok, false);
});

function mutate(line: string, edit: string): string {
  const [, key] = /^(\s*(?:- )?\S+:)/.exec(line) ?? [];
  switch (edit) {
    case "drop":
      return "";
    case "indent":
      return `  ${line}`;
    default:
      return key === undefined
        ? line
        : `${key} ${{ null: "~", list: "[1, {a: b}]", text: "abc", number: "-1.5" }[edit]}`;
  }
}

function parseFile(name: string) {
  const text = readFileSync(folder(name), "utf8");
  const [, overlay] = /^# overlay: (.*)\n/.exec(text) ?? [];
  return parseBootstrap(text, name, overlay);
}

function expectFile(name: string, actual: string): void {
  if (process.env.UPDATE === "1") writeFileSync(folder(name), actual);
  assert.equal(actual, readFileSync(folder(name), "utf8"));
}
