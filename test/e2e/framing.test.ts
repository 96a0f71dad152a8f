import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  type Act,
  Bed,
  echoed,
  head,
  hostFor,
  KERNEL_WAYS,
  type Outcome,
  PATIENCE,
  type RequestOptions,
  type Response,
  request,
  type Step,
  SUITE_PATIENCE,
  send,
  type Way,
  withoutKernel,
} from "./harness.ts";

/** RFC 9112 framing, each kind on each path, and on connections that change path between requests. */

interface Case {
  readonly name: string;
  /** What the server does; without it the server echoes. */
  readonly script?: readonly Act[];
  readonly how?: { readonly early?: boolean; readonly silent?: boolean };
  readonly request?: RequestOptions;
  readonly check: (response: Response) => void;
  /** The client's connection ends behind the response. */
  readonly ends?: boolean;
}

const status = (n: number) => (r: Response) => assert.equal(r.status, n);
const text = (s: string) => (r: Response) => assert.equal(r.text, s);
const all =
  (...checks: readonly ((r: Response) => void)[]) =>
  (r: Response) => {
    assert.equal(r.broken, undefined);
    for (const check of checks) check(r);
  };
const patterned = (n: number) => (r: Response) => {
  assert.equal(r.length, n);
  assert.equal(r.pattern, true);
};

const RESPONSE = `HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Long: ${"v".repeat(40)}\r\n\r\nhello world`;
const CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNKS = '5;a=b;c="d"\r\nhello\r\n1 ; x\r\n \r\n00005\r\nworld\r\n0;last\r\nX-One: 1\r\nX-Two: 2\r\n\r\n';

const sizes = (seed: number) =>
  Array.from({ length: 40 }, (_, i) => 1 + (((seed * (i + 7) * 2_654_435_761) >>> 7) % 19));

const cases: readonly Case[] = [
  { name: "Content-Length", check: all(status(200)) },
  { name: "Content-Length 0", script: [["send", "HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n"]], check: all(text("")) },
  {
    name: "a length with white space around it",
    script: [["send", "HTTP/1.1 200 OK\r\ncOnTeNt-LeNgTh:\t 5 \t\r\n\r\nhello"]],
    check: all(text("hello")),
  },
  {
    name: "no reason phrase",
    script: [["send", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"]],
    check: all(text("ok")),
  },
  {
    name: "chunks with extensions and trailers",
    script: [["send", CHUNKED + CHUNKS]],
    check: all(text("hello world"), (r) => assert.deepEqual(r.trailers, ["X-One: 1", "X-Two: 2"])),
  },
  {
    name: "chunks byte by byte",
    script: [["split", CHUNKED + CHUNKS, [1], 0]],
    check: all(text("hello world")),
  },
  ...[1, 2, 3, 4].map(
    (seed): Case => ({
      name: `chunks in random pieces, ${seed}`,
      script: [["split", CHUNKED + CHUNKS, sizes(seed), seed % 2]],
      check: all(text("hello world")),
    }),
  ),
  { name: "a response byte by byte", script: [["split", RESPONSE, [1], 0]], check: all(text("hello world")) },
  { name: "a response byte by byte, slowly", script: [["split", RESPONSE, [1], 1]], check: all(text("hello world")) },
  ...[1, 2, 3, 4].map(
    (seed): Case => ({
      name: `a response in random pieces, ${seed}`,
      script: [["split", RESPONSE, sizes(seed), 1]],
      check: all(text("hello world")),
    }),
  ),
  {
    name: "HEAD with a length",
    script: [["send", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"]],
    request: { method: "HEAD" },
    check: all((r) => assert.equal(r.headers["content-length"], "1000")),
  },
  {
    name: "HEAD of chunks",
    script: [["send", CHUNKED]],
    request: { method: "HEAD" },
    check: all(status(200)),
  },
  { name: "204", script: [["send", "HTTP/1.1 204 No Content\r\n\r\n"]], check: all(status(204)) },
  {
    name: "304 with a length",
    script: [["send", "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: x\r\n\r\n"]],
    check: all(status(304)),
  },
  {
    name: "103 and 102 before the answer",
    script: [
      ["send", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"],
      ["pause", 5],
      ["send", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
    ],
    check: all(text("ok"), (r) => assert.deepEqual(r.interim, [103, 102])),
  },
  {
    name: "read until close",
    script: [["send", "HTTP/1.1 200 OK\r\n\r\n"], ["fill", 300_000], ["close"]],
    check: all(patterned(300_000)),
    ends: true,
  },
  {
    name: "read until close, small",
    script: [["send", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ntail"], ["close"]],
    check: all(text("tail")),
    ends: true,
  },
  {
    name: "Connection: close by the server",
    script: [["send", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"], ["close"]],
    check: all(text("ok")),
    ends: true,
  },
  {
    name: "Connection: close by the client",
    request: { headers: ["Connection: close"] },
    check: all(status(200), (r) => assert.match(r.headers.connection ?? "close", /close/)),
    ends: true,
  },
  {
    name: "HTTP/1.0 server",
    script: [["send", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"], ["close"]],
    check: all(text("ok")),
    ends: true,
  },
  {
    name: "HTTP/1.0 server, read until close",
    script: [["send", "HTTP/1.0 200 OK\r\n\r\nok"], ["close"]],
    check: all(text("ok")),
    ends: true,
  },
  {
    name: "HTTP/1.0 server that keeps the connection",
    script: [["send", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"]],
    check: all(text("ok")),
  },
  {
    name: "an answer before the request is complete",
    script: [["send", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"], ["send", "early"], ["body"]],
    how: { early: true },
    request: { method: "POST", body: "b".repeat(30_000) },
    check: all(text("early")),
  },
  {
    name: "Expect: 100-continue",
    request: { method: "POST", body: "0123456789", headers: ["Expect: 100-continue"] },
    check: all(status(200), (r) => assert.deepEqual(r.interim, [100])),
  },
  {
    name: "a chunked request with extensions and trailers",
    script: [["reply", "{length}"]],
    request: {
      method: "POST",
      headers: ["Transfer-Encoding: chunked"],
      body: undefined as never,
    },
    check: all(text("11")),
  },
  ...[1_000, 65_536, 1_000_000].map(
    (n): Case => ({
      name: `a body of ${n} bytes`,
      script: [
        ["send", `HTTP/1.1 200 OK\r\nContent-Length: ${n}\r\n\r\n`],
        ["fill", n],
      ],
      check: all(patterned(n)),
    }),
  ),
  {
    name: "400 headers in a response",
    script: [
      [
        "send",
        `HTTP/1.1 200 OK\r\n${"X-Filler: yyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(400)}Content-Length: 1\r\n\r\nx`,
      ],
    ],
    check: all(text("x")),
  },
];

const pathOf = (name: string) => `/${name.replace(/[^a-z0-9]+/gi, "-")}`;

function say(way: Way, c: Case): readonly Step[] {
  const path = pathOf(c.name);
  if (c.request?.headers?.includes("Transfer-Encoding: chunked")) {
    const { body: _, ...rest } = c.request;
    return send(way, head(way, path, rest) + CHUNKS);
  }
  return send(way, request(way, path, c.request));
}

function right(outcome: Outcome, i = 0): Response {
  const found = outcome.responses[i];
  assert.ok(found, `no response ${i}: ${JSON.stringify(outcome)}`);
  return found;
}

function suite(title: string, kernel: boolean, ways: readonly Way[]): void {
  describe(`framing, ${title}`, { skip: kernel && withoutKernel(), timeout: SUITE_PATIENCE }, () => {
    const bed = new Bed(kernel);
    before(
      async () => {
        await bed.open();
        for (const c of cases) if (c.script) await bed.script(pathOf(c.name), c.script, c.how);
        await bed.script("/length", [["reply", "{length} {pattern}"]]);
      },
      { timeout: PATIENCE },
    );
    after(() => bed.close(), { timeout: PATIENCE });

    for (const way of ways) {
      for (const c of cases) {
        test(`${way}: ${c.name}`, { timeout: PATIENCE }, async () => {
          const method = c.request?.method ?? "GET";
          const steps: Step[] = [...say(way, c), ["response", method]];
          if (c.ends) steps.push(["eof", 15_000]);
          else steps.push(...send(way, request(way, "/again", { nonce: "n1" })), ["response"]);
          const outcome = await bed.client.play(steps);
          c.check(right(outcome));
          if (c.ends) assert.equal(outcome.end, "eof", JSON.stringify(outcome));
          else assert.equal(right(outcome, 1).text, `${echoed(way, "/again", "n1")} 0`, "what came after");
          assert.equal(outcome.rest, "");
        });
      }

      for (const n of [0, 1, 511, 513, 4_096, 16_384, 65_536, 100_000, 262_144, 300_000]) {
        for (const [how, piece] of [
          ["one send", 1 << 20],
          ["sends of 1,000 bytes", 1_000],
          ["sends of 70,001 bytes", 70_001],
        ] as const) {
          test(`${way}: a request body of ${n} bytes in ${how}`, { timeout: PATIENCE }, async () => {
            const top = `${head(way, "/length", { method: "POST", headers: [`Content-Length: ${n}`] })}`;
            const outcome = await bed.client.play([
              ...send(way, top),
              ["fill", 0, n, piece],
              ["response"],
              ...send(way, request(way, "/again")),
              ["response"],
            ]);
            assert.equal(right(outcome).text, `${n} true`);
            assert.equal(right(outcome, 1).status, 200);
          });
        }
      }

      test(`${way}: a request and its body in one send`, async () => {
        for (const n of [1, 100, 5_000, 60_000, 200_000]) {
          const body = "q".repeat(n);
          const outcome = await bed.client.play([
            ...send(way, request(way, "/length", { method: "PUT", body })),
            ["response"],
          ]);
          assert.equal(right(outcome).text, `${n} false`);
        }
      });

      test(`${way}: sendfile`, async () => {
        for (const n of [10, 5_000, 200_000, 300_000]) {
          const top = head(way, "/length", { method: "POST", headers: [`Content-Length: ${n}`] });
          const outcome = await bed.client.play([["sendfile", top, n], ["response"]]);
          assert.equal(right(outcome).text, `${n} true`);
        }
      });

      test(`${way}: writev of 1,000 pieces`, async () => {
        const whole = request(way, "/length", { method: "POST", body: "w".repeat(20_000) });
        const pieces = Array.from({ length: 1_000 }, (_, i) => {
          const at = (j: number) => Math.floor((whole.length * j) / 1_000);
          return whole.slice(at(i), at(i + 1));
        });
        const outcome = await bed.client.play([["writev", pieces], ["response"]]);
        assert.equal(right(outcome).text, "20000 false");
        const tiny = [...request(way, "/again", { nonce: "v" })];
        const small = await bed.client.play([["writev", tiny], ["response"]]);
        assert.equal(right(small).status, 200);
      });

      test(`${way}: a head cut at every offset`, { timeout: PATIENCE }, async () => {
        const whole = request(way, "/cut", { method: "POST", body: "abc", nonce: "c" });
        const outcomes = await Promise.all(
          Array.from({ length: whole.length - 1 }, (_, i) =>
            bed.client.play([
              ["send", whole.slice(0, i + 1)],
              ["pause", 10],
              ["send", whole.slice(i + 1)],
              ["response"],
            ]),
          ),
        );
        for (const [i, outcome] of outcomes.entries()) {
          assert.match(right(outcome).text, /^\w+ \/cut c 3 /, `cut at ${i + 1}`);
        }
      });

      test(`${way}: a request byte by byte`, async () => {
        const outcome = await bed.client.play([
          ["split", request(way, "/bytes", { method: "POST", body: "xyz", nonce: "b" }), [1], 0],
          ["response"],
        ]);
        assert.match(right(outcome).text, /^\w+ \/bytes b 3 /);
      });

      for (const n of [2, 3, 10, 100]) {
        test(`${way}: ${n} pipelined requests in one send`, { timeout: PATIENCE }, async () => {
          const text = Array.from({ length: n }, (_, i) => request(way, "/p", { nonce: String(i) })).join("");
          const outcome = await bed.client.play([...send(way, text), ["responses", n]]);
          const nonces = outcome.responses.map((r) => r.text.split(" ")[2]);
          assert.deepEqual(
            nonces,
            Array.from({ length: n }, (_, i) => String(i)),
          );
        });
      }
    }

    test("pipelined requests of different routes and kinds in one send", { timeout: PATIENCE }, async () => {
      const ask = (i: number) => {
        const way: Way = i % 2 ? "same_host" : "cross_host";
        const body = i % 3 === 0 ? "z".repeat(i * 50) : undefined;
        return request(way, `/mix${i}`, { method: body ? "POST" : "GET", nonce: String(i), ...(body ? { body } : {}) });
      };
      const outcome = await bed.client.play([
        ["send", Array.from({ length: 60 }, (_, i) => ask(i)).join("")],
        ["responses", 60],
      ]);
      const expected = Array.from({ length: 60 }, (_, i) => `${i % 2 ? "near" : "far"} /mix${i} ${i}`);
      assert.deepEqual(
        outcome.responses.map((r) => r.text.split(" ").slice(0, 3).join(" ")),
        expected,
      );
    });

    test("a bad request behind pipelined good ones", async () => {
      const good = request("same_host", "/g", { nonce: "1" });
      const outcome = await bed.client.play([
        ["send", `${good}${good}GET / HTTP/1.1\r\nBad Header: x\r\n\r\n${good}`],
        ["responses", 3],
        ["eof", 15_000],
      ]);
      assert.deepEqual(
        outcome.responses.map((r) => r.status),
        [200, 200, 400],
      );
      assert.equal(outcome.end, "eof");
    });

    test("one connection changes path with every request", { timeout: PATIENCE }, async () => {
      const usual = cases.filter((c) => !c.ends);
      for (let turn = 0; turn < 6; turn++) {
        const chosen = usual.map((c, i) => [c, ways[(i * (turn + 1) + turn) % ways.length]!] as const);
        const steps = chosen.flatMap(([c, way]): Step[] => [
          ...say(way, c),
          ["response", c.request?.method ?? "GET"],
          ...send(way, request(way, "/again", { nonce: c.name.length.toString() })),
          ["response"],
        ]);
        const outcome = await bed.client.play(steps);
        for (const [i, [c, way]] of chosen.entries()) {
          c.check(right(outcome, i * 2));
          assert.match(right(outcome, i * 2 + 1).text, new RegExp(`^${hostFor(way)} /again ${c.name.length} `));
        }
      }
    });

    if (kernel) {
      test("each request takes the path that was meant", async () => {
        for (const way of KERNEL_WAYS) {
          const key = way === "declined" ? "slow" : way;
          const counts = await bed.counted(
            () =>
              bed.client.play(
                Array.from({ length: 10 }, (): Step[] => [...send(way, request(way, "/path")), ["response"]]).flat(),
              ),
            10,
          );
          assert.deepEqual(counts, { same_host: 0, cross_host: 0, slow: 0, [key]: 10 }, way);
        }
      });
    }
  });
}

suite("kernel path", true, KERNEL_WAYS);
suite("user space", false, ["userspace"]);
