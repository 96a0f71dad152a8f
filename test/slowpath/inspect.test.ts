import assert from "node:assert/strict";
import { test } from "node:test";
import { type Spoken, whatSpeaks } from "../../src/slowpath/inspect.ts";

const CASES: readonly (readonly [text: string, spoken: Spoken])[] = [
  ["", "more"],
  ["G", "more"],
  ["GET /a HTTP/1.1", "more"],
  ["GET /a HTTP/1.1\r\n", "http/1.1"],
  ["GET /a HTTP/1.1\nHost: x", "http/1.1"],
  ["GET /a HTTP/1.0\r\n", "http/1.0"],
  ["GET /a HTTP/2.0\r\n", "http/1.0"],
  ["CUSTOM-METHOD * HTTP/1.1\r\n", "http/1.1"],
  ["GET /a\r\n", "other"],
  ["GET  /a \tHTTP/1.1 \r\n", "http/1.1"],
  ["GET /a b HTTP/1.1\r\n", "other"],
  ["SSH-2.0-OpenSSH_9.2\r\n", "other"],
  ["\r\nGET / HTTP/1.1\r\n", "other"],
  ["\x16\x03\x01", "other"],
  ["PRI * HTTP/2.0\r\n", "more"],
  ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", "h2c"],
];

for (const [text, spoken] of CASES) {
  test(`${JSON.stringify(text)}: ${spoken}`, () => {
    assert.equal(whatSpeaks(Buffer.from(text, "latin1")), spoken);
  });
}
