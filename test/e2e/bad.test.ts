import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  Bed,
  echoed,
  hostFor,
  PATIENCE,
  request,
  type Step,
  SUITE_PATIENCE,
  send,
  type Way,
  withoutKernel,
} from "./harness.ts";

/**
 * What is malformed or ambiguous is answered by the slow path, its connection is closed, and no byte of it reaches a
 * server: however it is cut, and whatever came before it on the connection.
 */

type Line = readonly [name: string, text: string, status?: number];

/**
 * Wrong only behind content that was right: in one send nothing of them reaches a server. In pieces a server gets what
 * was right when it came, as from any proxy that does not hold bodies back, but never a whole request.
 */
const LATE = new Set(["a chunk longer than it said", "a trailer that is none"]);

const get = (fields: string) => `GET /bad HTTP/1.1\r\nHost: HOST\r\n${fields}\r\n`;
const post = (fields: string, body = "") => `POST /bad HTTP/1.1\r\nHost: HOST\r\n${fields}\r\n${body}`;
const coded = (body: string) => post("Transfer-Encoding: chunked\r\n", body);

const bad: readonly Line[] = [
  ["both lengths", post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")],
  ["both lengths, the other way round", post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n")],
  ["two lengths", post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd")],
  ["two lengths that agree", post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc")],
  ["a list of lengths", post("Content-Length: 3, 3\r\n", "abc")],
  ["a length with a plus", post("Content-Length: +3\r\n", "abc")],
  ["a negative length", post("Content-Length: -3\r\n", "abc")],
  ["a length in hex", post("Content-Length: 0x3\r\n", "abc")],
  ["an empty length", post("Content-Length:\r\n", "abc")],
  ["a length of 2^64", post("Content-Length: 18446744073709551616\r\n", "abc")],
  ["a length with a space in it", post("Content-Length: 1 0\r\n", "abcdefghij")],
  ["chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 501],
  ["chunked, then identity", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 501],
  ["xchunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 501],
  ["a vertical tab before chunked", post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n")],
  ["a folded header", get("X: b\r\n c\r\n")],
  ["a header that begins with a tab", get("\tX: b\r\n")],
  ["bare line feeds", "GET /bad HTTP/1.1\nHost: HOST\n\n"],
  ["one bare line feed", "GET /bad HTTP/1.1\r\nHost: HOST\nX: y\r\n\r\n"],
  ["a bare line feed at the end", "GET /bad HTTP/1.1\r\nHost: HOST\r\n\n"],
  ["a bare carriage return in a value", get("X: b\rc\r\n")],
  ["a bare carriage return in the first line", "GET /bad\r HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a NUL in a value", get("X: b\0c\r\n")],
  ["a NUL in a name", get("X\0: b\r\n")],
  ["a control in a value", get("X: b\x01c\r\n")],
  ["a DEL in a value", get("X: b\x7fc\r\n")],
  ["a NUL in the target", "GET /b\0ad HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a space in the target", "GET /b ad HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a byte above ASCII in the target", "GET /b\xe4d HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["two spaces", "GET  /bad HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a tab for a space", "GET\t/bad HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a space before the colon", get("X : b\r\n")],
  ["a space before the colon of a length", post("Content-Length : 3\r\n", "abc")],
  ["a name that is no token", get("X(y): b\r\n")],
  ["no name", get(": b\r\n")],
  ["no colon", get("Bad\r\n")],
  ["an unknown method", "FOO /bad HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a method in lower case", "get /bad HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["no method", " /bad HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["an unknown version", "GET /bad HTTP/1.2\r\nHost: HOST\r\n\r\n"],
  ["HTTP/2.0", "GET /bad HTTP/2.0\r\nHost: HOST\r\n\r\n"],
  ["a version in lower case", "GET /bad http/1.1\r\nHost: HOST\r\n\r\n"],
  ["HTTP/0.9", "GET /bad\r\n\r\n"],
  ["a version with a zero too many", "GET /bad HTTP/1.10\r\nHost: HOST\r\n\r\n"],
  ["HTTP/1.0", "GET /bad HTTP/1.0\r\nHost: HOST\r\n\r\n", 426],
  ["HTTP/1.0 with a coding", "POST /bad HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
  ["no host", "GET /bad HTTP/1.1\r\nX: y\r\n\r\n"],
  ["two hosts", get("Host: far\r\n")],
  ["a host with a space", "GET /bad HTTP/1.1\r\nHost: HOST x\r\n\r\n"],
  ["a host that is a path", "GET /bad HTTP/1.1\r\nHost: HOST/x\r\n\r\n"],
  ["a relative target", "GET bad HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a star for GET", "GET * HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a TLS hello", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03abcdefghijklmnopqrstuvwxyz"],
  ["an HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"],
  ["no HTTP at all", "EHLO example.org\r\n"],
  ["a chunk size that is none", coded("xyz\r\n")],
  ["no chunk size", coded("\r\nabc")],
  ["a chunk size with a sign", coded("+3\r\nabc\r\n0\r\n\r\n")],
  ["a chunk size in 0x", coded("0x3\r\nabc\r\n0\r\n\r\n")],
  ["a chunk size beyond 64 bits", coded("10000000000000003\r\nabc\r\n0\r\n\r\n")],
  ["a chunk size and a bare line feed", coded("3\nabc\r\n0\r\n\r\n")],
  ["a bare line feed in a chunk extension", coded("3;x\ny\r\nabc\r\n0\r\n\r\n")],
  ["a chunk longer than it said", coded("3\r\nabcd\r\n0\r\n\r\n")],
  ["a trailer that is none", coded("3\r\nabc\r\n0\r\nX y\r\n\r\n")],
  ["a head of 70 KiB", get(`X: ${"y".repeat(70_000)}\r\n`), 431],
  ["a target of 61 KiB", `GET /${"y".repeat(62_000)} HTTP/1.1\r\nHost: HOST\r\n\r\n`, 431],
  ["a name of 61 KiB", get(`${"y".repeat(62_000)}: x\r\n`), 431],
  ["101 headers", get("X: y\r\n".repeat(101)), 431],
  ["10,000 headers", get("X: y\r\n".repeat(10_000)), 431],
  ["CONNECT", "CONNECT HOST:80 HTTP/1.1\r\nHost: HOST:80\r\n\r\n", 404],
  ...[
    "content-length",
    "Content-Length",
    "close, content-length",
    "transfer-encoding",
    "host",
    "trailer",
    "expect",
    "authorization",
    "keep-alive, cookie",
    "content-type",
    "content-encoding",
    "cache-control",
    "x-forwarded-for",
    "x-forwarded-anything",
    ":path",
    ":",
  ].map(
    (words): Line => [`Connection nominates ${words}`, post(`Connection: ${words}\r\nContent-Length: 3\r\n`, "abc")],
  ),
  [
    "Connection nominates a coding",
    post("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
  ],
  ["Connection nominates a host in a second field", get("Connection: keep-alive\r\nConnection: x-y, Host\r\n")],
  ["10 nominated fields", get(`Connection: ${Array.from({ length: 10 }, (_, i) => `x-${i}`).join(", ")}\r\n`)],
  ["a fragment", "GET /bad#part HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a fragment behind a query", "GET /bad?x=y#part HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a fragment of an absolute target", "GET http://HOST/bad#part HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["an upgrade that is not allowed", get("Connection: Upgrade\r\nUpgrade: websocket\r\n"), 403],
];

/** Odd, but sound: these must be served. */
const good: readonly Line[] = [
  ["an absolute target", "GET http://HOST/good HTTP/1.1\r\nHost: other\r\n\r\n"],
  ["a tab in a value", "GET /good HTTP/1.1\r\nHost: HOST\r\nX: a\tb\r\n\r\n"],
  ["bytes above ASCII in a value", "GET /good HTTP/1.1\r\nHost: HOST\r\nX: \xe4\xf6\r\n\r\n"],
  ["an empty value", "GET /good HTTP/1.1\r\nHost: HOST\r\nX:\r\n\r\n"],
  ["white space around a value", "GET /good HTTP/1.1\r\nHost: \t HOST \t \r\nX: \t y \t \r\n\r\n"],
  ["a query", "GET /good?a=b%20c&d=%00 HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["every mark in a target", "GET /good/-._~!$&'()*+,;=:@%zz\"<>[]^`{|} HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["100 headers", `GET /good HTTP/1.1\r\nHost: HOST\r\n${"X: y\r\n".repeat(99)}\r\n`],
  ["a head of 50 KiB", `GET /good HTTP/1.1\r\nHost: HOST\r\nX: ${"y".repeat(51_200)}\r\n\r\n`],
  ["a target of 5 KiB", `GET /good/${"y".repeat(5_000)} HTTP/1.1\r\nHost: HOST\r\n\r\n`],
  ["GET with a body", "GET /good HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\r\nabc"],
  ["DELETE with a body", "DELETE /good HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\r\nabc"],
  ["a length with leading zeros", "POST /good HTTP/1.1\r\nHost: HOST\r\nContent-Length: 003\r\n\r\nabc"],
  ["OPTIONS of a path", "OPTIONS /good HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["PATCH", "PATCH /good HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\n\r\na"],
  ["PROPFIND", "PROPFIND /good HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a header in odd case", "POST /good HTTP/1.1\r\nhOsT: HOST\r\ncOnTeNt-LeNgTh: 3\r\n\r\nabc"],
  [
    "leading zeros of a chunk size",
    "POST /good HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0003\r\nabc\r\n000\r\n\r\n",
  ],
  [
    "Chunked in odd case",
    "POST /good HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: cHuNkEd\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
  ],
  ["Connection: keep-alive", "GET /good HTTP/1.1\r\nHost: HOST\r\nConnection: keep-alive\r\n\r\n"],
  [
    "Connection nominates what is of one hop",
    "GET /good HTTP/1.1\r\nHost: HOST\r\nConnection: keep-alive, te, trailers, http2-settings, proxy-connection\r\n" +
      "TE: trailers\r\nHTTP2-Settings: x\r\nProxy-Connection: keep-alive\r\n\r\n",
  ],
  ["Connection nominates a header", "GET /good HTTP/1.1\r\nHost: HOST\r\nConnection: x-foo\r\nX-Foo: 1\r\n\r\n"],
];

const cuts: readonly (readonly [string, (text: string) => readonly Step[]])[] = [
  ["in one send", (text) => [["send", text]]],
  ["byte by byte", (text) => [["split", text, text.length > 2_000 ? [100, 500, 1, 1_400] : [1], 0]]],
  ["in pieces", (text) => [["split", text, [7, 3, 19, 1, 30], 1]]],
];

function suite(title: string, kernel: boolean, ways: readonly Way[]): void {
  describe(`refusals, ${title}`, { skip: kernel && withoutKernel(), timeout: SUITE_PATIENCE }, () => {
    const bed = new Bed(kernel);
    before(() => bed.open(), { timeout: PATIENCE });
    after(() => bed.close(), { timeout: PATIENCE });

    /** What servers have got beside the good request in front; forgets it. */
    const leaked = async () => {
      const seen = await Promise.all([bed.near.seen(true), bed.far.seen(true)]);
      return seen.flatMap(({ requests }) => requests).filter(({ target }) => target !== "/first");
    };

    for (const [i, [name, template, status = 400]] of bad.entries()) {
      test(`${status}: ${name}`, { timeout: PATIENCE }, async () => {
        for (const way of ways) {
          const text = template.replaceAll("HOST", hostFor(way));
          for (const [how, cut] of cuts) {
            if (text.length > 2_000 && how === "in pieces") continue;
            for (const first of [false, true]) {
              const what = `${way}, ${how}${first ? ", behind a good one" : ""}`;
              await leaked();
              const opening: Step[] = first ? [...send(way, request(way, "/first", { nonce: "f" })), ["response"]] : [];
              const outcome = await bed.client.play([...opening, ...cut(text), ["response"], ["eof", 15_000]]);
              const answer = outcome.responses.at(-1);
              assert.equal(outcome.responses.length, first ? 2 : 1, `${what}: ${JSON.stringify(outcome)}`);
              assert.equal(answer!.status, status, what);
              assert.ok(["eof", "ECONNRESET", "EPIPE"].includes(outcome.end), `${what}: ends with ${outcome.end}`);
              const got = await leaked();
              const late = LATE.has(name) && how !== "in one send";
              /* Trailers, if only an empty list, are known of a whole chunked request. */
              const wrong = late ? got.filter(({ trailers }) => trailers !== undefined) : got;
              assert.deepEqual(wrong, [], `${what}: at a server`);
            }
            if (i % 3 !== 0 && how === "byte by byte") break;
          }
        }
      });
    }

    for (const [name, template] of good) {
      test(`served: ${name}`, { timeout: PATIENCE }, async () => {
        for (const way of ways) {
          const text = template.replaceAll("HOST", hostFor(way));
          for (const [how, cut] of cuts) {
            const more = [...send(way, request(way, "/more", { nonce: "m" })), ["response"]] as Step[];
            const outcome = await bed.client.play([...cut(text), ["response"], ...more]);
            assert.equal(outcome.responses[0]?.status, 200, `${way}, ${how}: ${JSON.stringify(outcome)}`);
            assert.equal(outcome.responses[1]?.text, `${echoed(way, "/more", "m")} 0`, `${way}, ${how}`);
          }
        }
      });
    }

    test("bytes behind a POST without a length are the next request", async () => {
      for (const way of ways) {
        const text = `POST /bare HTTP/1.1\r\nHost: ${hostFor(way)}\r\n\r\n${request(way, "/hidden", { nonce: "h" })}`;
        const outcome = await bed.client.play([
          ["send", text],
          ["responses", 2],
        ]);
        assert.match(outcome.responses[1]!.text, / \/hidden h 0/);
      }
    });

    test("no route is 404, and the connection stays", async () => {
      for (const way of ways) {
        const outcome = await bed.client.play([
          ["send", "GET / HTTP/1.1\r\nHost: nobody\r\n\r\n"],
          ["response"],
          ...send(way, request(way, "/more", { nonce: "m" })),
          ["response"],
        ]);
        assert.equal(outcome.responses[0]?.status, 404);
        assert.equal(outcome.responses[0]?.headers.server !== undefined, true);
        assert.equal(outcome.responses[1]?.status, 200);
      }
    });

    test("HEAD of a local reply has no body", async () => {
      const outcome = await bed.client.play([
        ["send", "HEAD / HTTP/1.1\r\nHost: down\r\n\r\n"],
        ["response", "HEAD"],
        ["quiet", 100],
      ]);
      assert.equal(outcome.responses[0]?.status, 503);
      assert.equal(outcome.rest, "");
    });
  });
}

suite("kernel path", true, ["same_host", "cross_host", "declined"]);
suite("user space", false, ["userspace"]);
