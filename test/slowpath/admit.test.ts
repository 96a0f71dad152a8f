import assert from "node:assert/strict";
import { test } from "node:test";
import type { HttpOptions } from "../../src/model/config.ts";
import { admit } from "../../src/slowpath/admit.ts";
import { Malformed } from "../../src/slowpath/http1.ts";

const HTTP: HttpOptions = {
  acceptHttp10: true,
  defaultHostForHttp10: undefined,
  maxRequestHeadersKb: 60,
  maxHeadersCount: 100,
  upgrades: [],
};

const admitted = (first: string, lines: readonly string[] = [], http = HTTP) =>
  admit(Buffer.from(`${[first, "Host: a.test", ...lines].join("\r\n")}\r\n\r\n`), http);

/** The path and host that rules see; 404 where none can take it; or the status of the refusal. */
function seen(first: string): string | number {
  try {
    const { routed } = admitted(first);
    return routed === undefined ? 404 : `${routed.authority} ${routed.path}`;
  } catch (error) {
    if (error instanceof Malformed) return error.status;
    throw error;
  }
}

/* As Envoy 1.40 answered, with a route for everything. */
const TARGETS: readonly (readonly [first: string, expected: string | number])[] = [
  ["GET /a?b HTTP/1.1", "a.test /a?b"],
  ["OPTIONS * HTTP/1.1", 404],
  ["OPTIONS *x HTTP/1.1", 404],
  ["GET * HTTP/1.1", 400],
  ["CONNECT b.test:80 HTTP/1.1", 404],
  ["CONNECT [::1]:80 HTTP/1.1", 404],
  ["CONNECT b.test HTTP/1.1", 400],
  ["CONNECT b.test: HTTP/1.1", 400],
  ["CONNECT b_b:80 HTTP/1.1", 400],
  ["CONNECT [x]:80 HTTP/1.1", 400],
  ["CONNECT / HTTP/1.1", 400],
  ["GET http://b.test HTTP/1.1", "b.test /"],
  ["GET HTTP://b.test/c?d HTTP/1.1", "b.test /c?d"],
  ["GET https://b.test/ HTTP/1.1", "b.test /"],
  ["GET http://b.test?c HTTP/1.1", 404],
  ["GET http://b.test:080/ HTTP/1.1", "b.test:080 /"],
  ["GET http://[::ffff:1.2.3.4]:80/ HTTP/1.1", "[::ffff:1.2.3.4]:80 /"],
  ["GET http://[1.2.3.4]/ HTTP/1.1", "[1.2.3.4] /"],
  ["GET http://[]/ HTTP/1.1", 400],
  ["GET http://[::g]/ HTTP/1.1", 400],
  ["GET http://b.test:65536/ HTTP/1.1", 400],
  ["GET http://b.test:/ HTTP/1.1", 400],
  ["GET http://b:b:80/ HTTP/1.1", 400],
  ["GET http://b_b/ HTTP/1.1", 400],
  ["GET http://*/ HTTP/1.1", 400],
  ["GET http:/// HTTP/1.1", 400],
  ["GET ftp://b.test/ HTTP/1.1", 400],
];

for (const [first, expected] of TARGETS) test(first, () => assert.equal(seen(first), expected));

test("the host and scheme of an absolute target take the place of what else is said", () => {
  assert.equal(admitted("GET https://b.test/ HTTP/1.1").routed?.scheme, "https");
  assert.deepEqual(admitted("GET http://b.test/ HTTP/1.1").routed?.headers, [["Host", "b.test"]]);
});

test("the rules do not see what Connection names, but in an upgrade", () => {
  const names = (connection: string, ...more: string[]) =>
    admitted("GET / HTTP/1.1", [`Connection: ${connection}`, "X-A: 1", "x-b: 2", ...more]).routed?.headers.map(
      ([name]) => name,
    );
  assert.deepEqual(names("close"), ["Host", "Connection", "X-A", "x-b"]);
  assert.deepEqual(names("close, x-a"), ["Host", "Connection", "x-b"]);
  assert.deepEqual(names("upgrade, x-a", "Upgrade: a"), ["Host", "Connection", "X-A", "x-b", "Upgrade"]);
  assert.deepEqual(names("upgrade, x-a", "Upgrade: h2c"), ["Host", "Connection", "x-b"]);
});

test("an upgrade is all of Upgrade, where Connection says so", () => {
  const upgrade = (...lines: string[]) => admitted("GET / HTTP/1.1", lines).upgrade;
  assert.equal(upgrade("Connection: keep-alive, Upgrade", "Upgrade: WebSocket"), "websocket");
  assert.equal(upgrade("Connection: upgrade", "Upgrade: a", "Upgrade: b"), "a,b");
  assert.equal(upgrade("Connection: upgrade", "Upgrade: h2c, a"), "h2c, a");
  assert.equal(upgrade("Connection: upgrade", "Upgrade:"), "");
  assert.equal(upgrade("Connection: upgrade", "Upgrade: h2c"), undefined);
  assert.equal(upgrade("Connection: upgrade"), undefined);
  assert.equal(upgrade("Upgrade: websocket"), undefined);
  assert.equal(admitted("GET / HTTP/1.0", ["Connection: upgrade", "Upgrade: a"]).upgrade, "a");
});

test("headers that Envoy keeps as one count once", () => {
  const http = { ...HTTP, maxHeadersCount: 3 };
  admitted("GET / HTTP/1.1", ["accept: 1", "Accept: 2", "accept: 3", "x-a: 4"], http);
  assert.throws(
    () => admitted("GET / HTTP/1.1", ["x-a: 1", "x-a: 2", "x-a: 3"], http),
    (error: unknown) => error instanceof Malformed && error.status === 431,
  );
});
