import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { describe, test } from "node:test";
import { connect } from "node:tls";
import { MAX_CLIENT_HELLO, readClientHello } from "../../src/slowpath/client-hello.ts";
import { hear } from "../../src/slowpath/inspect.ts";
import { anyHello, hello, helloMessage, protocols, record, records, serverName, versions } from "../chains/hellos.ts";
import { Dice } from "../dice.ts";

/** What Node's own TLS says first. */
async function saidByNode(options: object): Promise<Buffer> {
  const [near, far] = duplexPair();
  connect({ socket: near, ...options }).on("error", () => {});
  const said = await new Promise<Buffer>((resolve) => far.once("data", resolve));
  near.destroy();
  return said;
}

const FULL = { extensions: [serverName("Www.Example.com"), protocols("h2", "http/1.1"), versions(0x0a0a, 0x0304)] };
const HEARD = { kind: "tls", serverName: "www.example.com", protocols: ["h2", "http/1.1"] };

describe("a ClientHello", () => {
  test("as Node sends it, by its name and protocols", async () => {
    const said = await saidByNode({ servername: "a.test", ALPNProtocols: ["h2", "x"] });
    assert.deepEqual(readClientHello(said), { kind: "tls", serverName: "a.test", protocols: ["h2", "x"] });
    assert.deepEqual(readClientHello(await saidByNode({ maxVersion: "TLSv1.2" })), {
      kind: "tls",
      serverName: "",
      protocols: [],
    });
  });

  test("in one record or in one for each byte, and before its last byte it says nothing", () => {
    for (const size of [16_384, 100, 1]) {
      const bytes = records(helloMessage(FULL), size);
      assert.deepEqual(readClientHello(bytes), HEARD, String(size));
      for (let length = 0; length < bytes.length; length++)
        assert.equal(readClientHello(bytes.subarray(0, length)).kind, "more", `${size}: ${length} bytes`);
    }
  });

  test("what stands behind it in another record does not matter, in its own it does", () => {
    assert.deepEqual(readClientHello(Buffer.concat([hello(FULL), Buffer.from("anything")])), HEARD);
    assert.equal(readClientHello(record(Buffer.concat([helloMessage(FULL), Buffer.from("x")]))).kind, "other");
  });

  test("without extensions, without any, with one that nobody knows", () => {
    for (const extensions of [undefined, [], [[0x1a1a, Buffer.alloc(3)] as const]])
      assert.deepEqual(readClientHello(hello({ extensions })), { kind: "tls", serverName: "", protocols: [] });
  });

  test("is over where it is too long to be looked at, or of a version that there is not", () => {
    const padded = hello({ extensions: [[21, Buffer.alloc(16_370)]] });
    assert.equal(Math.max(padded.length, MAX_CLIENT_HELLO + 1), padded.length);
    assert.equal(readClientHello(padded.subarray(0, MAX_CLIENT_HELLO - 1)).kind, "more");
    assert.equal(readClientHello(padded.subarray(0, MAX_CLIENT_HELLO)).kind, "over");
    assert.equal(readClientHello(hello(FULL), 100).kind, "over");
    for (const version of [0x0300, 0x0305, 0x0203])
      assert.equal(readClientHello(hello({ version })).kind, "over", String(version));
  });

  const wrong: readonly (readonly [what: string, bytes: Buffer])[] = [
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    ["an alert", record(Buffer.from([2, 40]), 21)],
    ["data", record(Buffer.from("hello"), 23)],
    ["another message", record(Buffer.from([2, 0, 0, 1, 0]))],
    ["33 empty records", Buffer.concat(Array.from({ length: 33 }, () => record(Buffer.alloc(0))))],
    ["a message too long", record(Buffer.from([1, 0, 0x40, 1]))],
    ["a session id too long", hello({ session: Buffer.alloc(33) })],
    ["no cipher", hello({ ciphers: [] })],
    ["no compression", hello({ compressions: [] })],
    ["an extension twice", hello({ extensions: [protocols("a"), protocols("b")] })],
    ["a name of another kind", hello({ extensions: [serverName("a", 1)] })],
    ["an empty name", hello({ extensions: [serverName("")] })],
    ["a name of 256 bytes", hello({ extensions: [serverName("a".repeat(256))] })],
    ["a name with a zero", hello({ extensions: [serverName("a\0b")] })],
  ];
  for (const [what, bytes] of wrong)
    test(`${what} is none`, () => assert.deepEqual(readClientHello(bytes), { kind: "other", protocols: [] }));

  test("protocols whose list is wrong count for nothing", () => {
    for (const body of [Buffer.from([0, 3, 2, 104]), Buffer.from([0, 2, 0, 0]), Buffer.from([0, 0]), Buffer.alloc(0)])
      assert.deepEqual(readClientHello(hello({ extensions: [[16, body]] })), {
        ...HEARD,
        serverName: "",
        protocols: [],
      });
  });

  test("warnings before it are passed over, four of them; a close ends the connection", () => {
    const warning = record(Buffer.from([1, 90]), 21);
    const after = (count: number) => Buffer.concat([...Array.from({ length: count }, () => warning), hello(FULL)]);
    assert.deepEqual(readClientHello(after(4)), HEARD);
    assert.equal(readClientHello(after(5)).kind, "other");
    assert.equal(readClientHello(record(Buffer.from([1, 0]), 21)).kind, "over");
  });

  test("whatever comes, piece by piece: it throws nothing, and never takes back what it has said", () => {
    for (let seed = 0; seed < 400; seed++) {
      const bytes = anyHello(new Dice(seed));
      const last = readClientHello(bytes);
      for (let length = 1; length < bytes.length; length += 1 + (length >> 4)) {
        const early = readClientHello(bytes.subarray(0, length));
        if (early.kind !== "more") assert.deepEqual(early, last, `seed ${seed}: ${length} of ${bytes.length} bytes`);
      }
    }
  });

  test("records of one byte cost little: 16 KiB that come in many pieces take less than two seconds", () => {
    const bytes = records(helloMessage({ extensions: [[21, Buffer.alloc(3_000)]] }), 1).subarray(0, MAX_CLIENT_HELLO);
    const before = performance.now();
    for (let length = 0; length < bytes.length; length += 32) readClientHello(bytes.subarray(0, length));
    assert.ok(performance.now() - before < 2_000, `${performance.now() - before} ms`);
  });
});

describe("what first bytes tell", () => {
  const tls = { mostBytes: MAX_CLIENT_HELLO, closesOthers: false };
  const RAW = { transportProtocol: "raw_buffer", serverName: "" };
  const request = Buffer.from("GET / HTTP/1.1\r\n");

  test("TLS, HTTP or neither", () => {
    assert.deepEqual(hear(hello(FULL), { tls, http: true }), {
      kind: "known",
      known: { transportProtocol: "tls", serverName: "www.example.com", applicationProtocols: ["h2", "http/1.1"] },
    });
    const http = { kind: "known", known: { ...RAW, applicationProtocols: ["http/1.1"] } };
    assert.deepEqual(hear(request, { tls, http: true }), http);
    assert.deepEqual(hear(request, { tls: undefined, http: true }), http);
    const none = { kind: "known", known: { ...RAW, applicationProtocols: [] } };
    assert.deepEqual(hear(request, { tls, http: false }), none);
    assert.deepEqual(hear(Buffer.from("SSH-2.0"), { tls, http: true }).kind, "more");
    assert.deepEqual(hear(Buffer.from("\x01binary"), { tls, http: true }), none);
  });

  test("who wants TLS alone has all else closed", () => {
    assert.equal(hear(request, { tls: { ...tls, closesOthers: true }, http: true }).kind, "over");
    assert.equal(hear(hello(), { tls: { ...tls, closesOthers: true }, http: true }).kind, "known");
  });

  test("a request line that never ends is over after 64 KiB", () => {
    const endless = Buffer.alloc(65_536, "G");
    assert.equal(hear(endless.subarray(1), { tls, http: true }).kind, "more");
    assert.equal(hear(endless, { tls, http: true }).kind, "over");
  });
});
