import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { RouteConfig } from "../../src/model/config.ts";
import { decide } from "../../src/route/outcome.ts";
import { Dice } from "../dice.ts";
import {
  Bed,
  backendFor,
  type EditsSpec,
  hostFor,
  KERNEL_WAYS,
  later,
  type RouteSpec,
  type SeenRequest,
  type Step,
  send,
  type VirtualHostSpec,
  type Way,
  withoutKernel,
} from "./harness.ts";
import { ACTIONS, routesOf, spaced } from "./routes.ts";

/**
 * Random edits and rewrites of random requests: what the server saw must be what the reference says, whatever way the
 * request took; and on the kernel path it must have been the hook that made it.
 */

const SEED = Number(process.env.EDITS_SEED ?? 4);
const HOSTS = Number(process.env.EDITS_HOSTS ?? 60);
const REQUESTS = Number(process.env.EDITS_REQUESTS ?? 4);

const NAMES = ["x-a", "x-b", "x-much-longer-name", "via", "accept", "user-agent", "x-envoy-original-path"];
const VALUES = ["v", "", "some, value", "x".repeat(33), "%REQ(:path)%", "by %REQ(:METHOD)% for %REQ(:authority)%", "ä"];

function editsOf(dice: Dice): EditsSpec {
  if (dice.chance(0.4)) return {};
  const add = Array.from({ length: dice.between(0, 4) }, () => ({
    header: { key: dice.one(NAMES), value: dice.one(VALUES) },
    append_action: dice.one(ACTIONS),
    keep_empty_value: dice.chance(0.5),
  }));
  const remove = Array.from({ length: dice.between(0, 2) }, () => dice.one(NAMES));
  return {
    ...(add.length > 0 && { request_headers_to_add: add }),
    ...(remove.length > 0 && { request_headers_to_remove: remove }),
  };
}

function routeOf(dice: Dice, cluster: string): RouteSpec {
  const match = dice.one([
    { prefix: "/p" },
    { prefix: "/" },
    { path_separated_prefix: "/p/q" },
    { path: "/p/q" },
    { safe_regex: { regex: "/p/[a-z]+" } },
  ]);
  const host = dice.one([{}, {}, { host_rewrite_literal: dice.one(["h", "a.much.longer.host.example:8080"]) }]);
  const path = dice.one([{}, { prefix_rewrite: dice.one(["/", "/x", `/${"long".repeat(50)}`]) }]);
  const entry = { name: cluster, weight: 1, ...editsOf(dice), ...(dice.chance(0.2) && { host_rewrite_literal: "e" }) };
  const to = dice.chance(0.5) ? { cluster } : { weighted_clusters: { clusters: [entry] } };
  return { match, route: { ...to, ...host, ...path, timeout: "15s" }, ...editsOf(dice) };
}

const hostName = (way: Way, at: number) => `${hostFor(way)}-${at}.test`;

function hostsOf(dice: Dice): VirtualHostSpec[] {
  return Array.from({ length: HOSTS }, (_, at) => at).flatMap((at) => {
    const seed = dice.between(0, 1e9);
    return ["near", "far"].map((cluster): VirtualHostSpec => {
      const same = new Dice(seed);
      const routes = [routeOf(same, cluster), routeOf(same, cluster), { match: { prefix: "/" }, route: { cluster } }];
      return { name: `${cluster}-${at}`, domains: [`${cluster}-${at}.test`], routes, ...editsOf(same) };
    });
  });
}

interface Asked {
  readonly method: string;
  readonly target: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
}

function askedOf(dice: Dice, host: string): Asked {
  const method = dice.one(["GET", "POST", "PUT", "HEAD", "DELETE"]);
  const body = method === "POST" || method === "PUT" ? "b".repeat(dice.one([0, 1, 700, 5_000, 20_000])) : "";
  const headers: (readonly [string, string])[] = Array.from({ length: dice.between(0, 8) }, () => [
    dice.one([...NAMES, "VIA", "X-a", "x-other", `x-${dice.text(3, "abcd")}`]),
    dice.one(["", "1", "value", "y".repeat(dice.between(1, 100)), "a, b"]),
  ]);
  headers.splice(dice.between(0, headers.length), 0, ["Host", host]);
  if (method === "POST" || method === "PUT") headers.push(["Content-Length", String(body.length)]);
  if (dice.chance(0.2)) headers.splice(dice.between(0, headers.length), 0, ["Connection", "keep-alive"]);
  return { method, target: dice.one(["/p", "/p/q", "/p/q/r?s=/p", "/pq?", "/else"]), headers, body };
}

const textOf = ({ method, target, headers }: Asked) =>
  `${[`${method} ${target} HTTP/1.1`, ...headers.map(([name, value]) => `${name}: ${value}`)].join("\r\n")}\r\n\r\n`;

/** Whose connection a head is on is not what edits are about. */
const CONNECTION = /^connection:/i;

const linesOf = (head: string) =>
  spaced(
    head
      .split("\r\n")
      .slice(0, -2)
      .filter((line) => !CONNECTION.test(line)),
  );

/** What the reference says that the server gets. */
function expected(routes: RouteConfig, { method, target, headers }: Asked): string[] {
  const authority = headers.find(([name]) => name === "Host")![1];
  const request = { method, path: target, authority, headers };
  const outcome = decide(routes, { request, responseHeaders: [], ticket: 0, repeated: "each" });
  assert.ok("kind" in outcome && outcome.kind === "forward");
  const { path, headers: sent } = outcome.request;
  return [
    `${method} ${path} HTTP/1.1`,
    ...sent.filter(([name]) => name !== "Connection").map(([name, value]) => `${name}: ${value}`),
  ];
}

function suite(name: string, kernel: boolean, ways: readonly Way[]): void {
  describe(`edits, ${name}`, { skip: kernel && withoutKernel(), timeout: 180_000 }, () => {
    const bed = new Bed(kernel);
    let routes: RouteConfig;
    before(
      async () => {
        await bed.open({ hosts: hostsOf(new Dice(SEED)) });
        routes = routesOf(bed);
      },
      { timeout: 30_000 },
    );
    after(() => bed.close(), { timeout: 30_000 });

    for (const way of ways) {
      test(`${way}: servers get what the reference says`, { timeout: 120_000 }, async () => {
        const dice = new Dice(SEED, 1);
        const backend = backendFor(bed, way);
        const warm: Step[] = [["send", `GET / HTTP/1.1\r\nHost: ${hostFor(way)}\r\n\r\n`], ["response"]];
        await bed.client.play(warm);
        await later(300);
        const before = await bed.paths();
        for (let at = 0; at < HOSTS; at++) {
          const asked = Array.from({ length: REQUESTS }, () => askedOf(dice, hostName(way, at)));
          await backend.seen(true);
          const steps = asked.flatMap((one): Step[] => [
            ...send(way, textOf(one) + one.body),
            ["response", one.method],
          ]);
          const { responses, end } = await bed.client.play(steps);
          const { requests } = await backend.seen();
          const what = `virtual host ${at}, seed ${SEED}`;
          assert.deepEqual([end, responses.map(({ status }) => status)], ["open", asked.map(() => 200)], what);
          assert.equal(requests.length, asked.length, what);
          requests.forEach((seen: SeenRequest, i) => {
            const one = asked[i]!;
            assert.deepEqual(linesOf(seen.head!), expected(routes, one), `${what}: ${JSON.stringify(one)}`);
            assert.equal(seen.length, one.body.length, what);
          });
        }
        if (way !== "same_host" && way !== "cross_host") return;
        const now = await bed.paths();
        const byHook = now[way] - before[way];
        assert.ok(byHook > (HOSTS * REQUESTS) / 2, `${byHook} of ${HOSTS * REQUESTS} on the kernel path`);
      });
    }
  });
}

// ---- what edits must leave alone ----

const EDITED: readonly VirtualHostSpec[] = ["near", "far"].map((cluster) => ({
  name: `edited-${cluster}`,
  domains: [`edited-${cluster}`],
  routes: [
    { match: { prefix: "/old" }, route: { cluster, prefix_rewrite: "/new", host_rewrite_literal: "server" } },
    { match: { prefix: "/" }, route: { cluster } },
  ],
  request_headers_to_add: [{ header: { key: "x-added", value: "by the rules" } }],
  request_headers_to_remove: ["x-removed"],
}));

function messages(name: string, kernel: boolean, ways: readonly Way[]): void {
  describe(`edits and messages, ${name}`, { skip: kernel && withoutKernel(), timeout: 120_000 }, () => {
    const bed = new Bed(kernel);
    before(() => bed.open({ hosts: EDITED }), { timeout: 30_000 });
    after(() => bed.close(), { timeout: 30_000 });

    const head = (way: Way, method: string, path: string, more: readonly string[] = []) => {
      const lines = [`${method} /old/${way}/${path} HTTP/1.1`, `Host: edited-${hostFor(way)}`, "X-Removed: x", ...more];
      return `${lines.join("\r\n")}\r\n\r\n`;
    };

    /** What the server saw of paths that begin so, each edited once. */
    async function seenOf(way: Way, path: string): Promise<SeenRequest[]> {
      const { requests } = await backendFor(bed, way).seen();
      const seen = requests.filter(({ target }) => target?.startsWith(`/new/${way}/${path}`));
      for (const { target, headers, head: written } of seen) {
        assert.equal(headers!["x-added"], "by the rules", written);
        assert.equal(headers!["x-envoy-original-path"], target!.replace("/new", "/old"));
        assert.equal(headers!["x-envoy-original-host"], `edited-${hostFor(way)}`);
        assert.deepEqual([headers!.host, headers!["x-removed"]], ["server", undefined]);
      }
      return seen;
    }

    for (const way of ways) {
      const warm: Step[] = [["send", head(way, "GET", "warm")], ["response"]];

      test(`${way}: bodies whole, in pieces, and with the next request behind them`, { timeout: 20_000 }, async () => {
        await bed.client.play(warm);
        await later(300);
        const body = "0123456789".repeat(300);
        const post = head(way, "POST", "piece", [`Content-Length: ${body.length}`]);
        const next = head(way, "GET", "piece/next");
        const played = await bed.client.play([
          ["send", post + body],
          ["response"],
          ["send", post],
          ["pause", 20],
          ["send", body.slice(0, 7)],
          ["pause", 20],
          ["send", body.slice(7)],
          ["response"],
          ["send", post + body.slice(0, 1_000)],
          ["pause", 20],
          ["send", body.slice(1_000) + next],
          ["responses", 2],
        ]);
        assert.deepEqual([played.end, played.responses.map(({ status }) => status)], ["open", [200, 200, 200, 200]]);
        const seen = await seenOf(way, "piece");
        assert.deepEqual(
          seen.map(({ method, length }) => [method, length]),
          [...Array.from({ length: 3 }, () => ["POST", body.length]), ["GET", 0]],
        );
      });

      test(`${way}: requests that come together`, { timeout: 20_000 }, async () => {
        await bed.client.play(warm);
        const three = [1, 2, 3].map((i) => head(way, "GET", `together/${i}`)).join("");
        const played = await bed.client.play([
          ["send", three],
          ["responses", 3],
        ]);
        assert.deepEqual(
          played.responses.map(({ text }) => text.split(" ")[1]),
          [1, 2, 3].map((i) => `/new/${way}/together/${i}`),
        );
        assert.equal((await seenOf(way, "together")).length, 3);
      });

      test(`${way}: the client's wish to close, in the middle of its head`, { timeout: 20_000 }, async () => {
        await bed.client.play(warm);
        const asked = head(way, "GET", "close", ["Connection: close", "X-Last: 1"]);
        const played = await bed.client.play([...send(way, asked), ["response"], ["eof", 5_000]]);
        assert.deepEqual([played.responses.map(({ status }) => status), played.end], [[200], "eof"]);
        const [seen] = await seenOf(way, "close");
        assert.equal(seen?.headers?.["x-last"], "1");
        assert.ok(!/close/i.test(seen?.headers?.connection ?? ""), seen?.head);
      });

      test(`${way}: a request that its server lost is repeated as it came, and edited anew`, {
        timeout: 20_000,
      }, async () => {
        await bed.script(`/new/${way}/lost`, [["once"], ["reply", "{name}"]]);
        for (const _ of [0, 1]) await bed.client.play(warm);
        await later(200);
        const played = await bed.client.play([...send(way, head(way, "GET", "lost")), ["response"]]);
        assert.deepEqual(
          played.responses.map(({ status }) => status),
          [200],
        );
        assert.equal((await seenOf(way, "lost")).length, 2);
      });

      test(`${way}: a head that grows beyond what the hook takes`, { timeout: 20_000 }, async () => {
        await bed.client.play(warm);
        const long = `X-Long: ${"l".repeat(8_000)}`;
        const played = await bed.client.play([...send(way, head(way, "GET", "long", [long])), ["response"]]);
        assert.equal(played.responses[0]?.status, 200);
        const [seen] = await seenOf(way, "long");
        assert.equal(seen?.headers?.["x-long"]?.length, 8_000);
      });

      test(`${way}: a head in very many pieces`, { timeout: 20_000 }, async () => {
        await bed.client.play(warm);
        const asked = head(way, "POST", "writev", ["Content-Length: 300"]) + "p".repeat(300);
        const pieces = asked.match(/.{1,3}/gs)!;
        const played = await bed.client.play([["writev", pieces], ["response"]]);
        assert.equal(played.responses[0]?.status, 200);
        const [seen] = await seenOf(way, "writev");
        assert.equal(seen?.length, 300);
      });
    }
  });
}

suite("kernel path", true, KERNEL_WAYS);
messages("kernel path", true, KERNEL_WAYS);
messages("user space", false, ["userspace"]);
suite("user space", false, ["userspace"]);
