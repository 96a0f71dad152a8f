import assert from "node:assert/strict";
import { test } from "node:test";
import { EVERYTHING } from "../../src/model/chains.ts";
import type { ChainMatch, FilterChain, Listener } from "../../src/model/config.ts";
import {
  type Connection,
  chooseChain,
  entranceOf,
  holds,
  inspectedOf,
  plainConnection,
} from "../../src/route/chain.ts";
import { lowestAddress } from "../../src/tables/address.ts";

const chain = (label: string, match: Partial<ChainMatch> = {}): FilterChain => ({
  kind: "tcp",
  listener: "l",
  label,
  match: { ...EVERYTHING, ...match },
  statPrefix: "",
  clusters: [{ name: "c", weight: 1 }],
  maxConnectAttempts: 1,
});
const listener = (chains: readonly FilterChain[], more: Partial<Listener> = {}): Listener => ({
  name: "l",
  address: { ip: "10.0.0.1", port: 80 },
  chains,
  ...more,
});
const range = (text: string) => {
  const [ip = "", bits = ""] = text.split("/");
  return { ip, bits: Number(bits) };
};
const from = (ip: string, port = 1_024, more: Partial<Connection> = {}): Connection => ({
  ...plainConnection({ ip: "10.0.0.1", port: 80 }, { ip, port }),
  ...more,
});
const chosen = (chains: readonly FilterChain[], connection: Connection, more: Partial<Listener> = {}) =>
  chooseChain(listener(chains, more), connection)?.label;

test("none matches: the default chain, or none", () => {
  const chains = [chain("other", { destinationPort: 81 })];
  assert.equal(chosen(chains, from("10.1.1.1")), undefined);
  assert.equal(chosen(chains, from("10.1.1.1"), { otherwise: chain("rest") }), "rest");
});

test("an earlier criterion decides for good: there is no way back to a chain that asks for less", () => {
  const chains = [
    chain("port", { destinationPort: 80, sources: [range("192.168.0.0/16")] }),
    chain("any", { sources: [range("10.0.0.0/8")] }),
  ];
  assert.equal(chosen(chains, from("192.168.1.1")), "port");
  assert.equal(chosen(chains, from("10.1.1.1")), undefined);
});

test("the longest range of the destination", () => {
  const chains = [
    chain("all"),
    chain("eight", { destinations: [range("10.0.0.0/8"), range("11.0.0.0/30")] }),
    chain("exact", { destinations: [range("10.0.0.1/32")] }),
  ];
  const to = (ip: string) => ({ ...from("10.1.1.1"), destination: { ip, port: 80 } });
  assert.deepEqual(
    ["10.0.0.1", "10.0.0.2", "11.0.0.3", "11.0.0.4", "2001:db8::1"].map((ip) => chosen(chains, to(ip))),
    ["exact", "eight", "eight", "all", "all"],
  );
});

test("server names: the name itself, then the longest of its endings, then none", () => {
  const chains = [
    chain("exact", { serverNames: ["a.b.c"] }),
    chain("longer", { serverNames: ["*.b.c"] }),
    chain("shorter", { serverNames: ["*.c"] }),
    chain("none"),
  ];
  const names = ["a.b.c", "x.b.c", "x.a.b.c", "x.c", "c", ""];
  assert.deepEqual(
    names.map((serverName) => chosen(chains, from("10.1.1.1", 1, { serverName }))),
    ["exact", "longer", "longer", "shorter", "none", "none"],
  );
});

test("a dot at the end of a name begins no ending, one at its beginning does", () => {
  const chains = [chain("b", { serverNames: ["*.b"] }), chain("dot", { serverNames: ["*."] }), chain("none")];
  const by = (serverName: string) => chosen(chains, from("10.1.1.1", 1, { serverName }));
  assert.deepEqual(["a.b", ".b", "a.b.", "a."].map(by), ["b", "b", "none", "none"]);
});

test("the transport protocol comes before application protocols, and behind the name", () => {
  const chains = [
    chain("name", { serverNames: ["a"], transportProtocol: "raw_buffer" }),
    chain("tls", { transportProtocol: "tls" }),
    chain("h2", { applicationProtocols: ["h2"] }),
  ];
  const by = (serverName: string, transportProtocol: string, ...applicationProtocols: string[]) =>
    chosen(chains, from("10.1.1.1", 1, { serverName, transportProtocol, applicationProtocols }));
  assert.deepEqual(
    [by("a", "tls", "h2"), by("b", "tls", "h2"), by("", "raw_buffer", "h2"), by("a", "raw_buffer", "h2")],
    [undefined, "tls", "h2", "name"],
  );
});

test("application protocols: the first of the connection's that a chain asks for", () => {
  const chains = [
    chain("http", { transportProtocol: "raw_buffer", applicationProtocols: ["http/1.1", "h2c"] }),
    chain("raw", { transportProtocol: "raw_buffer" }),
    chain("old", { applicationProtocols: ["http/1.0"] }),
  ];
  const spoken = ["http/1.1", "h2c", "http/1.0"].map((name) =>
    chosen(chains, from("10.1.1.1", 1, { applicationProtocols: [name] })),
  );
  assert.deepEqual([...spoken, chosen(chains, from("10.1.1.1"))], ["http", "http", "raw", "raw"]);
});

test("where it comes from: kind, range and port", () => {
  const chains = [
    chain("near", { sourceType: "local" }),
    chain("far", { sourceType: "external", sources: [range("10.1.0.0/16")] }),
    chain("port", { sourceType: "external", sources: [range("10.1.0.0/16")], sourcePorts: [7, 8] }),
  ];
  const sources: [string, number][] = [
    ["127.0.0.1", 7],
    ["::1", 7],
    ["127.0.0.9", 7],
    ["10.0.0.1", 7],
    ["10.1.1.1", 7],
    ["10.1.1.1", 9],
    ["10.2.1.1", 7],
  ];
  assert.deepEqual(
    sources.map(([ip, port]) => chosen(chains, from(ip, port))),
    ["near", "near", undefined, "near", "port", "far", undefined],
  );
});

test("ranges by their bits", () => {
  assert.ok(holds(range("10.128.0.0/9"), "10.255.1.1"));
  assert.ok(!holds(range("10.128.0.0/9"), "10.127.1.1"));
  assert.ok(holds(range("2001:db8:8000::/33"), "2001:db8:ffff::1"));
  assert.ok(!holds(range("2001:db8:8000::/33"), "2001:db8:7fff::1"));
  assert.ok(!holds(range("::/0"), "10.0.0.1"));
});

test("what is known when a connection is made", () => {
  const plain = chain("plain");
  assert.deepEqual(entranceOf(listener([plain])), { kind: "chain", chain: plain, inspects: false });
  assert.deepEqual(entranceOf(listener([chain("x", { destinationPort: 81 })])), { kind: "none" });
  const bySource = entranceOf(listener([plain, chain("s", { sourcePorts: [1] })]));
  assert.equal(bySource.kind, "each");
  const anywhere = { address: { ip: "0.0.0.0", port: 80 } };
  const byAddress = [plain, chain("d", { destinations: [range("10.0.0.0/8")] })];
  assert.equal(entranceOf(listener(byAddress, anywhere)).kind, "each");
  assert.deepEqual(entranceOf(listener(byAddress)), { kind: "chain", chain: byAddress[1], inspects: false });
  const http = chain("h", { applicationProtocols: ["http/1.1"] });
  const inspection = { http: {}, timeoutMs: 0, continues: true };
  const tls = { mostBytes: 16_384, closesOthers: false };
  const secret = chain("s", { transportProtocol: "tls" });
  assert.deepEqual(entranceOf(listener([secret], { inspection: { ...inspection, tls }, otherwise: plain })), {
    kind: "chain",
    chain: plain,
    inspects: true,
  });
  /* Istio's pair: HTTP keeps its chain, whether TLS is looked for or not. */
  const pair = [chain("h", { transportProtocol: "raw_buffer", applicationProtocols: ["http/1.1", "h2c"] })];
  for (const more of [{}, { tls }])
    assert.deepEqual(entranceOf(listener(pair, { inspection: { ...inspection, ...more }, otherwise: plain })), {
      kind: "chain",
      chain: pair[0],
      inspects: true,
    });
  assert.deepEqual(entranceOf(listener([http], { inspection, otherwise: plain })), {
    kind: "chain",
    chain: http,
    inspects: true,
  });
  assert.deepEqual(entranceOf(listener([http], { otherwise: plain })), {
    kind: "chain",
    chain: plain,
    inspects: false,
  });
});

test("who looks at a connection depends on its port, and on what chains ask for", () => {
  const tls = { mostBytes: 16_384, closesOthers: false, ports: [{ start: 10, end: 20 }] };
  const inspection = { http: { ports: [{ start: 1, end: 11 }] }, tls, timeoutMs: 0, continues: true };
  const asks = (match: Partial<ChainMatch>, port: number) =>
    inspectedOf(listener([chain("x", match)], { inspection }), port);
  assert.deepEqual(asks({ applicationProtocols: ["h2"] }, 9), { http: true, tls: undefined });
  assert.deepEqual(asks({ applicationProtocols: ["h2"] }, 10), { http: true, tls });
  assert.deepEqual(asks({ serverNames: ["a"] }, 10), { http: false, tls });
  assert.deepEqual(asks({ transportProtocol: "raw_buffer" }, 19), { http: false, tls });
  assert.equal(asks({ transportProtocol: "raw_buffer" }, 20), undefined);
  assert.equal(asks({ sourcePorts: [1] }, 10), undefined);
  const rest = listener([chain("x", { serverNames: ["a"] })], { inspection, takesRest: true });
  assert.equal(entranceOf(rest, { ip: "10.0.0.1", port: 0 }).kind, "each");
});

test("a range of IPv6 stays one, be it of addresses that stand for IPv4", () => {
  const range = { ip: lowestAddress("::ffff:a01:203", 104), bits: 104 };
  assert.equal(range.ip, "::ffff:10.0.0.0");
  assert.deepEqual(
    ["::ffff:10.9.9.9", "::ffff:11.0.0.0", "10.9.9.9"].map((ip) => holds(range, ip)),
    [true, false, false],
  );
});
