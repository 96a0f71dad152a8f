import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { PATIENCE, SUITE_PATIENCE } from "./harness.ts";
import { get, PATHS, type Seen, type Step, World, withoutKernel } from "./world.ts";

const body = (seen: Seen) => seen.text.slice(seen.text.indexOf("\r\n\r\n") + 4);
const starts = (text: string) => (seen: Seen) =>
  assert.ok(seen.text.startsWith(text), `${text} … but got ${seen.text}`);
const open = (seen: Seen) => assert.equal(seen.end, "open");
const eof = (seen: Seen) => assert.equal(seen.end, "eof");
const cut = (seen: Seen) => assert.ok(seen.end === "eof" || seen.end === "ECONNRESET", seen.end);
const says = (text: string) => (seen: Seen) => assert.equal(body(seen), text);

/** What is sent, what must come. `again`: the same connection must serve another request afterwards. */
interface Case {
  readonly name: string;
  readonly steps: readonly Step[];
  readonly expect: readonly ((seen: Seen) => void)[];
}

const QUIET = ["read", 400] as const;
const nonce = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n/nonce/b";

/** A response that leaves the connection open, and a request after it. */
function twice(name: string, request: string, answer: string): Case {
  return {
    name,
    steps: [["send", request], ["until", answer.length, 30_000], ["send", get("/nonce/b")], QUIET],
    expect: [open, (seen) => assert.equal(seen.text, answer + nonce)],
  };
}

const ok = (text: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
const chunks = (n: number) =>
  Array.from({ length: n }, (_, i) => `${(i + 1).toString(16)};x=y\r\n${"z".repeat(i + 1)}\r\n`).join("");

const framing: readonly Case[] = [
  twice("Content-Length", get("/nonce/a"), ok("/nonce/a")),
  twice(
    "HEAD has no body",
    "HEAD / HTTP/1.1\r\nHost: test\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
  ),
  twice("204 has no body", get("/empty"), "HTTP/1.1 204 No Content\r\n\r\n"),
  twice("304 has no body", get("/unmodified"), "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n"),
  twice("a response byte by byte", get("/bytewise"), ok("hello")),
  twice("103 before the answer", get("/interim"), `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${ok("ok")}`),
  {
    name: "chunks with extensions and trailers",
    steps: [["send", get("/chunks/20")], ["read", 500], ["send", get("/nonce/b")], QUIET],
    expect: [
      open,
      starts("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
      (seen) => assert.ok(seen.text.endsWith(`0\r\nX-Trailer: 1\r\n\r\n${nonce}`), seen.text),
      (seen) => assert.equal(seen.text.replace(/;x=y/g, "").match(/z/g)?.length, 210),
      (seen) => assert.ok(seen.text.includes(chunks(3)) || seen.text.includes(chunks(3).replace(/;x=y/g, ""))),
    ],
  },
  {
    name: "read until close",
    steps: [
      ["send", get("/until-close/100000")],
      ["read", 800],
    ],
    expect: [eof, (seen) => assert.equal(seen.length, 100_000 + "HTTP/1.1 200 OK\r\n\r\n".length)],
  },
  {
    name: "Connection: close by the server",
    steps: [
      ["send", get("/close")],
      ["read", 800],
    ],
    expect: [eof, says("ok")],
  },
  {
    name: "Connection: close by the client",
    steps: [
      ["send", get("/nonce/a", "Connection: close\r\n")],
      ["read", 800],
    ],
    expect: [eof, says("/nonce/a")],
  },
  {
    name: "an HTTP/1.0 server",
    steps: [
      ["send", get("/http10")],
      ["read", 800],
    ],
    expect: [says("ok")],
  },
  {
    name: "a head in pieces",
    steps: [
      ["send", "GET /non"],
      ["pause", 20],
      ["send", "ce/a HTTP/1.1\r\nHost: t"],
      ["pause", 20],
      ["send", "est\r\n\r\n"],
      QUIET,
    ],
    expect: [open, says("/nonce/a")],
  },
  {
    name: "a body in many sends",
    steps: [
      ["pause", 20],
      ["send", "POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: 200000\r\n\r\n"],
      ...Array.from({ length: 20 }, () => ["many", 10_000] as const),
      ["read", 600],
    ],
    expect: [open, says("200000")],
  },
  {
    name: "a body too large for the kernel path",
    steps: [
      ["send", "POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: 5000000\r\n\r\n"],
      ["many", 5_000_000],
      ["read", 1_500],
    ],
    expect: [open, says("5000000")],
  },
  {
    name: "a chunked body",
    steps: [["send", "POST /nonce/a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello"], QUIET],
    expect: [open, says("/nonce/a")],
  },
  {
    name: "Expect: 100-continue",
    steps: [
      ["send", "POST /length HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"],
      ["pause", 50],
      ["send", "hello"],
      QUIET,
    ],
    expect: [open, starts(`HTTP/1.1 100 Continue\r\n\r\n${ok("5")}`)],
  },
  {
    name: "fifty pipelined requests in one send",
    steps: [
      ["send", Array.from({ length: 50 }, (_, i) => get(`/nonce/${i}`)).join("")],
      ["read", 800],
    ],
    expect: [open, (seen) => assert.equal(seen.text, Array.from({ length: 50 }, (_, i) => ok(`/nonce/${i}`)).join(""))],
  },
  {
    name: "a request while an answer is due",
    steps: [
      ["send", get("/pause/150")],
      ["pause", 30],
      ["send", get("/nonce/b")],
      ["read", 600],
    ],
    expect: [open, (seen) => assert.equal(seen.text, ok("ok") + nonce)],
  },
  {
    name: "a body's tail with the next request",
    steps: [
      ["pause", 20],
      ["send", "POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n"],
      ["pause", 5],
      ["send", `0123456789${get("/nonce/b")}`],
      ["read", 600],
    ],
    expect: [open, (seen) => assert.equal(seen.text, ok("10") + nonce)],
  },
  {
    name: "a client that half-closes",
    steps: [["send", get("/pause/100")], ["shut"], ["read", 800]],
    expect: [eof, says("ok")],
  },
  {
    name: "a large response, read late",
    steps: [["send", get("/big/20000000")], ["pause", 500], ["until", 20_000_000, 60_000], QUIET],
    expect: [
      open,
      (seen) => assert.equal(seen.length, 20_000_000 + "HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n".length),
    ],
  },
];

const unavailable = (seen: Seen) => starts("HTTP/1.1 503 Service Unavailable\r\n")(seen);

const faults: readonly Case[] = [
  {
    name: "the server closes without an answer",
    steps: [
      ["send", get("/die")],
      ["read", 800],
    ],
    expect: [unavailable],
  },
  {
    name: "the server resets without an answer",
    steps: [
      ["send", get("/reset")],
      ["read", 800],
    ],
    expect: [unavailable],
  },
  {
    name: "a POST loses its server",
    steps: [
      ["send", "POST /die HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi"],
      ["read", 800],
    ],
    expect: [unavailable],
  },
  {
    name: "the server closes in the middle of a body",
    steps: [
      ["send", get("/half")],
      ["read", 1_500],
    ],
    expect: [cut, says("half")],
  },
  {
    name: "bytes after a response",
    steps: [["send", get("/extra")], ["pause", 100], ["send", get("/nonce/b")], QUIET],
    expect: [open, (seen) => assert.equal(seen.text, ok("ok") + nonce)],
  },
  {
    name: "a 408 on an idle connection",
    steps: [["send", get("/late")], ["pause", 150], ["send", get("/nonce/b")], QUIET],
    expect: [open, (seen) => assert.equal(seen.text, ok("ok") + nonce)],
  },
  {
    name: "a response with two lengths",
    steps: [
      ["send", get("/two-lengths")],
      ["read", 800],
    ],
    expect: [starts("HTTP/1.1 502 Bad Gateway\r\n")],
  },
  {
    name: "an endpoint that refuses",
    steps: [
      ["send", get("/nowhere")],
      ["read", 800],
    ],
    expect: [unavailable],
  },
];

const bad: readonly (readonly [string, string, number])[] = [
  [
    "both lengths",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    400,
  ],
  ["two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400],
  ["a length with a sign", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400],
  ["a folded header", "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400],
  ["bare line feeds", "GET / HTTP/1.1\nHost: a\n\n", 400],
  ["a NUL", "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", 400],
  ["a space before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400],
  ["a bad chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400],
  ["no method known", "FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 400],
  ["no version known", "GET / HTTP/3.7\r\nHost: a\r\n\r\n", 400],
  ["no host", "GET / HTTP/1.1\r\n\r\n", 400],
  ["two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400],
  ["a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400],
  ["an HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400],
  ["an unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501],
  ["HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", 426],
  ["a head of 70 KiB", `GET / HTTP/1.1\r\nHost: a\r\nX: ${"y".repeat(70_000)}\r\n\r\n`, 431],
  ["101 headers", `GET / HTTP/1.1\r\nHost: a\r\n${"X: y\r\n".repeat(101)}\r\n`, 431],
];

for (const path of PATHS) {
  const skip = path === "slow path" ? false : withoutKernel();
  describe(`relay, ${path}`, { skip, timeout: SUITE_PATIENCE }, () => {
    const world = new World(path);
    before(() => world.start(), { timeout: PATIENCE });
    after(() => world.stop(), { timeout: PATIENCE });

    for (const { name, steps, expect } of [...framing, ...faults]) {
      test(name, { timeout: PATIENCE }, async () => {
        const seen = await world.play(...steps);
        for (const check of expect) check(seen);
      });
    }

    for (const [name, text, status] of bad) {
      test(`refused: ${name}`, { timeout: PATIENCE }, async () => {
        const requests = async () => (await world.stats()).clusters[0]!.endpoints[0]!.requests;
        const before = await requests();
        const seen = await world.play(["send", text], ["read", 1_200]);
        starts(`HTTP/1.1 ${status} `)(seen);
        cut(seen);
        assert.equal(await requests(), before, "a byte of it reached a server");
      });
    }

    test("clients that abort leave nothing to the next one", { timeout: PATIENCE }, async () => {
      for (let i = 0; i < 40; i++) {
        const verb = i % 2 === 0 ? (["reset"] as const) : (["close"] as const);
        const aborted = world.play(["send", get("/pause/30")], ["pause", i % 20], verb);
        const next = await world.play(["send", get(`/nonce/${i}`)], ["until", ok(`/nonce/${i}`).length, 30_000]);
        assert.equal(next.text, ok(`/nonce/${i}`));
        await aborted;
      }
    });

    test("the path is the one that was meant, and getpeername answers the virtual address", async () => {
      const seen = await world.play(["send", get("/nonce/a")], QUIET);
      assert.equal(seen.peer, `${world.ip}:${world.port}`);
      const [listener] = (await world.stats()).listeners;
      if (path === "same host") assert.ok(listener!.same_host > 20 && listener!.cross_host === 0);
      if (path === "cross host") assert.ok(listener!.cross_host > 20 && listener!.same_host === 0);
      if (path === "slow path") assert.ok(listener!.slow > 20);
    });

    test("SIGTERM ends the daemon in time", { timeout: PATIENCE }, async () => {
      const gone = new Promise<number | null>((r) => world.daemon!.once("exit", (code) => r(code)));
      world.daemon!.kill("SIGTERM");
      assert.equal(await gone, 0);
    });
  });
}
