import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { RouteConfig } from "../../src/model/config.ts";
import { decide } from "../../src/route/outcome.ts";
import { Dice } from "../dice.ts";
import {
  type Act,
  Bed,
  type EditsSpec,
  hostFor,
  KERNEL_WAYS,
  later,
  type Outcome,
  PATIENCE,
  type Response,
  type RouteSpec,
  type Step,
  SUITE_PATIENCE,
  send,
  type VirtualHostSpec,
  type Way,
  withoutKernel,
} from "./harness.ts";
import { ACTIONS, routesOf, spaced } from "./routes.ts";

/**
 * Edits of servers' answers: what the client gets must be what the reference says, whatever way the request took and in
 * whatever pieces the answer came.
 */

const SEED = Number(process.env.EDITS_SEED ?? 4);
const HOSTS = Number(process.env.EDITS_HOSTS ?? 40);
const ANSWERS = Number(process.env.EDITS_REQUESTS ?? 60);

const NAMES = ["x-a", "x-b", "x-much-longer-name", "vary", "server", "set-cookie", "via", "location"];
const VALUES = ["v", "", "some, value", "x".repeat(33), "over %PROTOCOL%", "ä"];

function editsOf(dice: Dice): EditsSpec {
  if (dice.chance(0.4)) return {};
  const add = Array.from({ length: dice.between(0, 4) }, () => ({
    header: { key: dice.one(NAMES), value: dice.one(VALUES) },
    append_action: dice.one(ACTIONS),
    keep_empty_value: dice.chance(0.5),
  }));
  const remove = Array.from({ length: dice.between(0, 2) }, () => dice.one(NAMES));
  return {
    ...(add.length > 0 && { response_headers_to_add: add }),
    ...(remove.length > 0 && { response_headers_to_remove: remove }),
    ...(dice.chance(0.2) && { request_headers_to_add: [{ header: { key: "x-asked", value: "too" } }] }),
  };
}

function routeOf(dice: Dice, cluster: string): RouteSpec {
  const entry = { name: cluster, weight: 1, ...editsOf(dice) };
  const to = dice.chance(0.5) ? { cluster } : { weighted_clusters: { clusters: [entry] } };
  return { match: { prefix: "/" }, route: { ...to, timeout: "15s" }, ...editsOf(dice) };
}

const hostName = (way: Way, at: number) => `${hostFor(way)}-${at}.test`;

function hostsOf(dice: Dice): VirtualHostSpec[] {
  return Array.from({ length: HOSTS }, (_, at) => at).flatMap((at) => {
    const seed = dice.between(0, 1e9);
    return ["near", "far"].map((cluster): VirtualHostSpec => {
      const same = new Dice(seed);
      const name = `${cluster}-${at}`;
      const tells = same.chance(0.2) && { include_attempt_count_in_response: true };
      return { name, domains: [`${name}.test`], routes: [routeOf(same, cluster)], ...editsOf(same), ...tells };
    });
  });
}

interface Answered {
  readonly lines: readonly string[];
  readonly acts: readonly Act[];
  readonly length: number;
  /** Not a byte stands behind its head. */
  readonly isBare: boolean;
  readonly interim: readonly number[];
  /** In one piece, of which the hook makes all. */
  readonly isWhole: boolean;
}

const HINTS = "HTTP/1.1 103 Early Hints\r\nX-A: not this one\r\n\r\n";

function answerOf(dice: Dice): Answered {
  const isBare = dice.chance(0.15);
  const length = isBare ? 0 : dice.one([0, 1, 700, 20_000]);
  const body = "b".repeat(length);
  const isChunked = !isBare && dice.chance(0.3);
  const headers = Array.from({ length: dice.between(0, 8) }, () => {
    const value = dice.one(["", "1", "value", "y".repeat(dice.between(1, 100)), "a, b"]);
    const name = dice.one([...NAMES, "VIA", "X-a", "Set-Cookie", "x-other", `x-${dice.text(3, "abcd")}`]);
    return `${name}:${dice.one([" ", "", "  "])}${value}`;
  });
  if (dice.chance(0.1)) headers.push(`X-Long: ${"l".repeat(9_000)}`);
  if (!isBare) {
    const framing = isChunked ? "Transfer-Encoding: chunked" : `Content-Length: ${length}`;
    headers.splice(dice.between(0, headers.length), 0, framing);
  }
  const lines = [`HTTP/1.1 ${isBare ? dice.one(["204 No Content", "304 Not Modified"]) : "200 OK"}`, ...headers];
  const chunks = `${length > 0 ? `${length.toString(16)}\r\n${body}\r\n` : ""}0\r\nX-Trailer: x\r\n\r\n`;
  const text = `${lines.join("\r\n")}\r\n\r\n${isChunked ? chunks : body}`;
  const sizes = Array.from({ length: dice.between(1, 20) }, () => dice.between(1, 90));
  const how = dice.between(0, 9);
  const made = { lines, length, isBare: length === 0 && !isChunked };
  if (how === 0) return { ...made, interim: [103], isWhole: false, acts: [["send", HINTS + text]] };
  const hinted: Act[] =
    how === 1
      ? [
          ["send", HINTS],
          ["pause", 5],
        ]
      : [];
  const isSplit = how >= 8;
  const acts: Act[] = [...hinted, isSplit ? ["split", text, [...sizes, 65_536], 1] : ["send", text]];
  /* Two heads that come at once are one packet to a busy machine. */
  const isWhole = !isSplit && hinted.length === 0 && text.indexOf("\r\n\r\n") < 4_000;
  return { ...made, interim: hinted.length > 0 ? [103] : [], isWhole, acts };
}

const fieldsOf = (lines: readonly string[]) =>
  spaced(lines)
    .slice(1)
    .map((line): [string, string] => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]);

/** What the reference says that the client gets. */
function expected(routes: RouteConfig, authority: string, { lines }: Answered): string[] {
  const request = { method: "GET", path: "/", authority, headers: [["Host", authority] as const] };
  const matched = routes.virtualHosts.find(({ domains }) => domains.includes(authority))!.routes[0]!.action;
  const tells = matched.kind === "forward" && matched.tellsAttempts;
  const fields = fieldsOf(lines).filter(([name]) => !tells || name !== "x-envoy-attempt-count");
  const told: [string, string][] = tells ? [["x-envoy-attempt-count", "1"]] : [];
  const outcome = decide(routes, { request, responseHeaders: [...fields, ...told], ticket: 0, repeated: "each" });
  assert.ok("kind" in outcome && outcome.kind === "forward");
  return [lines[0]!, ...outcome.responseHeaders.map(([name, value]) => `${name}: ${value}`)];
}

const headOf = ({ head }: Response) => spaced(head.split("\r\n").filter((line) => line !== ""));

/** How often the daemon has edited a head, for want of a whole one. */
const editedLate = async (bed: Bed) => (await bed.stats()).reasons.response_edited_late ?? 0;

function suite(name: string, kernel: boolean, ways: readonly Way[]): void {
  describe(`edits of answers, ${name}`, { skip: kernel && withoutKernel(), timeout: SUITE_PATIENCE }, () => {
    const bed = new Bed(kernel);
    const answers = Array.from({ length: ANSWERS }, (_, at) => answerOf(new Dice(SEED, at + 10)));
    let routes: RouteConfig;
    before(
      async () => {
        await bed.open({ hosts: hostsOf(new Dice(SEED)) });
        routes = routesOf(bed);
        for (const [at, { acts }] of answers.entries()) await bed.script(`/${at}`, acts);
      },
      { timeout: PATIENCE },
    );
    after(() => bed.close(), { timeout: PATIENCE });

    for (const way of ways) {
      test(`${way}: clients get what the reference says`, { timeout: PATIENCE }, async () => {
        const warm: Step[] = [["send", `GET /warm HTTP/1.1\r\nHost: ${hostFor(way)}\r\n\r\n`], ["response"]];
        await bed.client.play(warm);
        await later(300);
        const before = await bed.paths();
        const lateBefore = await editedLate(bed);
        const dice = new Dice(SEED, 2);
        let wholes = 0;
        for (let at = 0; at < HOSTS; at++) {
          const asked = Array.from({ length: 8 }, () => ({
            place: dice.between(0, ANSWERS - 1),
            method: dice.chance(0.1) ? "HEAD" : "GET",
          })).filter(({ place, method }) => method === "GET" || answers[place]!.isBare);
          const host = hostName(way, at);
          const steps = asked.flatMap(({ place, method }): Step[] => [
            ...send(way, `${method} /${place} HTTP/1.1\r\nHost: ${host}\r\n\r\n`),
            ["response", method],
          ]);
          const { responses, end } = await bed.client.play(steps);
          const what = `virtual host ${at}, seed ${SEED}`;
          assert.equal(end, "open", `${what}: ${JSON.stringify(asked[responses.length])}`);
          assert.equal(responses.length, asked.length, what);
          responses.forEach((response, i) => {
            const answered = answers[asked[i]!.place]!;
            const which = `${what}, ${JSON.stringify(asked[i])}: ${JSON.stringify(answered.acts).slice(0, 600)}`;
            assert.deepEqual(headOf(response), expected(routes, host, answered), which);
            assert.deepEqual([response.length, response.broken], [answered.length, undefined], which);
            assert.deepEqual(response.interim, answered.interim, which);
            if (answered.isWhole) wholes++;
          });
        }
        if (way !== "same_host" && way !== "cross_host") return;
        const now = await bed.paths();
        const late = (await editedLate(bed)) - lateBefore;
        const byHook = now[way] - before[way];
        assert.ok(byHook >= HOSTS * 5, `${byHook} on the kernel path`);
        assert.ok(late > 0 && late <= byHook - wholes, `${late} heads edited late, of ${byHook}; ${wholes} came whole`);
      });
    }
  });
}

suite("kernel path", true, KERNEL_WAYS);
suite("user space", false, ["userspace"]);

// ---- what edits must leave alone, and whom they must not forget ----

const EDITED: readonly VirtualHostSpec[] = ["near", "far"].map((cluster) => ({
  name: `edited-${cluster}`,
  domains: [`edited-${cluster}`],
  routes: [
    { match: { prefix: "/short" }, route: { cluster, timeout: "0.5s" } },
    { match: { prefix: "/" }, route: { cluster } },
  ],
  response_headers_to_add: [{ header: { key: "x-added", value: "by the rules" } }],
  response_headers_to_remove: ["x-removed"],
  include_attempt_count_in_response: true,
}));

const HEAD = "HTTP/1.1 200 OK\r\nX-Removed: x\r\nX-Kept: x\r\n";
const WHOLE = `${HEAD}Content-Length: 2\r\n\r\nok`;

function messages(name: string, kernel: boolean, ways: readonly Way[]): void {
  describe(`edited answers, ${name}`, { skip: kernel && withoutKernel(), timeout: SUITE_PATIENCE }, () => {
    const bed = new Bed(kernel);
    before(() => bed.open({ hosts: EDITED }), { timeout: PATIENCE });
    after(() => bed.close(), { timeout: PATIENCE });

    const get = (way: Way, path: string, method = "GET", more = "") =>
      send(way, `${method} ${path} HTTP/1.1\r\nHost: edited-${hostFor(way)}\r\n${more}\r\n`);

    function assertEdited({ headers, head }: Response): void {
      assert.equal(headers["x-added"], "by the rules", head);
      assert.equal(headers["x-envoy-attempt-count"], "1", head);
      assert.equal(headers["x-removed"], undefined, head);
      assert.equal(head.match(/x-added/g)!.length, 1, head);
    }

    const warmed = new Set<Way>();
    async function warm(way: Way): Promise<void> {
      if (warmed.has(way)) return;
      warmed.add(way);
      await bed.script("/warm", [["send", WHOLE]]);
      await bed.client.play([...get(way, "/warm"), ["response"]]);
      await later(300);
    }

    /** Plays one answer, with a request behind it that has to be answered, too, unless the connection ends. */
    async function answered(way: Way, path: string, acts: readonly Act[], method = "GET", more = ""): Promise<Outcome> {
      await bed.script(path, acts);
      await bed.script("/next", [["send", WHOLE]]);
      await warm(way);
      const played = await bed.client.play([
        ...get(way, path, method, more),
        ["response", method],
        ["quiet", 20],
        ...get(way, "/next"),
        ["response"],
      ]);
      for (const response of played.responses) assertEdited(response);
      return played;
    }

    /** Plays behind a first request, whose connection was accepted meanwhile: so a body may come in pieces. */
    async function onKernelPath(way: Way, steps: () => readonly Step[]) {
      const before = await bed.paths();
      return {
        before,
        played: await bed.client.play([...get(way, "/warm"), ["response"], ["pause", 300], ...steps()]),
      };
    }

    const texts = ({ responses }: Outcome) => responses.map(({ text }) => text);

    for (const way of ways) {
      test(`${way}: whole heads are the hook's, others the daemon's`, { timeout: PATIENCE }, async () => {
        const before = await editedLate(bed);
        const whole = await answered(way, "/whole", [["send", WHOLE]]);
        assert.deepEqual([whole.end, texts(whole)], ["open", ["ok", "ok"]]);
        assert.equal(await editedLate(bed), before);
        const pieces = await answered(way, "/pieces", [["split", WHOLE, [7, 20, 1, 1, 30], 1]]);
        assert.deepEqual([pieces.end, texts(pieces)], ["open", ["ok", "ok"]]);
        const isHook = way === "same_host" || way === "cross_host";
        assert.equal(await editedLate(bed), before + (isHook ? 1 : 0));
      });

      test(`${way}: a large body behind an edited head`, { timeout: PATIENCE }, async () => {
        const size = 5_000_000;
        const header = `${HEAD}Content-Length: ${size}\r\n\r\n`;
        for (const acts of [[["send", header]], [["split", header, [9, 50], 1]]] as const) {
          const { responses, end } = await answered(way, "/large", [...acts, ["fill", size]]);
          assert.deepEqual([end, responses[0]!.length, responses[0]!.pattern], ["open", size, true]);
        }
      });

      test(`${way}: chunks, no body, HEAD`, { timeout: PATIENCE }, async () => {
        const chunked = `${HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Removed: trailer\r\n\r\n`;
        for (const sizes of [[65_536], [12, 30, 9, 1]]) {
          const chunks = await answered(way, "/chunks", [["split", chunked, sizes, 1]]);
          assert.deepEqual([chunks.end, texts(chunks)], ["open", ["ok", "ok"]]);
          assert.deepEqual(chunks.responses[0]!.trailers, ["X-Removed: trailer"]);
          const empty = `HTTP/1.1 204 No Content\r\nX-Removed: x\r\n\r\n`;
          const none = await answered(way, "/none", [["split", empty, sizes, 1]]);
          assert.deepEqual([none.end, texts(none)], ["open", ["", "ok"]]);
          const length = `${HEAD}Content-Length: 12345\r\n\r\n`;
          const head = await answered(way, "/head", [["split", length, sizes, 1]], "HEAD");
          assert.deepEqual([head.end, texts(head)], ["open", ["", "ok"]]);
        }
      });

      test(`${way}: interim heads go on as they came`, { timeout: PATIENCE }, async () => {
        for (const acts of [
          [["send", HINTS + WHOLE]],
          [
            ["send", HINTS],
            ["pause", 20],
            ["send", WHOLE],
          ],
          [
            ["send", HINTS.slice(0, 20)],
            ["pause", 5],
            ["send", HINTS.slice(20)],
            ["pause", 20],
            ["send", WHOLE],
          ],
          [
            ["send", HINTS],
            ["pause", 5],
            ["split", HINTS + WHOLE, [33, 30, 10], 1],
          ],
        ] as const) {
          const { end, responses } = await answered(way, "/interim", acts);
          assert.deepEqual([end, responses.map(({ status }) => status)], ["open", [200, 200]]);
          assert.ok(responses[0]!.interim.length > 0);
        }
      });

      test(`${way}: the end of a connection, whoever wants it`, { timeout: PATIENCE }, async () => {
        const keeps = `${HEAD}Connection: keep-alive\r\nContent-Length: 2\r\n\r\nok`;
        for (const sizes of [[65_536], [12, 30, 9, 1]]) {
          const endless = await answered(way, "/endless", [["split", `${HEAD}\r\nall of it`, sizes, 1], ["close"]]);
          assert.deepEqual([endless.end, texts(endless)], ["eof", ["all of it"]]);
          const closes = `${HEAD}Connection: close\r\nContent-Length: 2\r\n\r\nok`;
          const closing = await answered(way, "/closes", [["split", closes, sizes, 1], ["close"]]);
          assert.deepEqual([closing.end, texts(closing)], ["eof", ["ok"]]);
          const wish = await answered(way, "/wish", [["split", keeps, sizes, 1]], "GET", "Connection: close\r\n");
          assert.deepEqual([wish.end, texts(wish), wish.responses[0]!.headers.connection], ["eof", ["ok"], "close"]);
        }
      });

      test(`${way}: more than the answer`, { timeout: PATIENCE }, async () => {
        const { responses } = await answered(way, "/more", [["send", `${WHOLE}more`]]);
        assert.equal(responses[0]!.text, "ok");
      });

      test(`${way}: local replies are edited`, { timeout: PATIENCE }, async () => {
        const cut: readonly Act[] = [["send", "HTTP/1.1 200 OK\r\nX-Re"], ["close"]];
        const bad: readonly Act[] = [
          ["send", "HTTP/1.1 200 OK\r\nX-Re"],
          ["pause", 20],
          ["send", "moved x\r\n\r\n"],
        ];
        for (const [path, acts, status] of [
          ["/gone", [["close"]], 503],
          ["/cut", cut, 503],
          ["/cut/long", [["send", `${HEAD}X-Long: ${"l".repeat(3_000)}`], ["close"]], 503],
          ["/bad", bad, 502],
          ["/short", [["pause", 2_000]], 504],
          [
            "/short/cut",
            [
              ["send", HEAD],
              ["pause", 2_000],
            ],
            504,
          ],
        ] as const) {
          await bed.script(path, acts);
          await warm(way);
          /* A GET without an answer may be repeated; the slow path does so even if there is some of its head. */
          for (const method of path === "/gone" ? ["POST"] : ["POST", "GET"]) {
            const more = method === "POST" ? "Content-Length: 0\r\n" : "";
            const { responses } = await bed.client.play([...get(way, path, method, more), ["response"]]);
            assert.equal(responses[0]?.status, status, path);
            if (method === "POST") assertEdited(responses[0]!);
            else assert.equal(responses[0]!.headers["x-added"], "by the rules");
          }
        }
      });

      test(`${way}: a head that is too long for the hook, or in too many parts`, { timeout: PATIENCE }, async () => {
        const long = `${HEAD}X-Long: ${"l".repeat(20_000)}\r\nContent-Length: 2\r\n\r\nok`;
        const many = Array.from({ length: 90 }, (_, i) => `X-Removed: ${i}\r\nX-Other: ${i}\r\n`).join("");
        for (const answer of [long, `${HEAD}${many}Content-Length: 2\r\n\r\nok`]) {
          const played = await answered(way, "/long", [["send", answer]]);
          assert.deepEqual([played.end, texts(played)], ["open", ["ok", "ok"]]);
        }
      });

      test(`${way}: an answer before all of its request`, { timeout: PATIENCE }, async () => {
        await warm(way);
        for (const sizes of [[65_536], [20, 10]]) {
          await bed.script("/early", [["split", WHOLE, sizes, 1], ["body"]], { early: true });
          const { before, played } = await onKernelPath(way, () => [
            ...get(way, "/early", "POST", "Content-Length: 20\r\n"),
            ["pause", 50],
            ["send", "0123456789"],
            ["pause", 50],
            ["send", "0123456789"],
            ["response"],
            ["pause", 20],
            ...get(way, "/warm"),
            ["response"],
          ]);
          assert.deepEqual([played.end, texts(played)], ["open", ["ok", "ok", "ok"]]);
          for (const response of played.responses) assertEdited(response);
          /* The i-sock is given back behind such a request, too. */
          if (way === "same_host" || way === "cross_host") assert.equal((await bed.paths())[way] - before[way], 3);
        }
      });

      test(`${way}: the client's wish to close, and more than the answer`, { timeout: PATIENCE }, async () => {
        await warm(way);
        for (const sizes of [[65_536], [20, 10, 20, 500]]) {
          await bed.script("/more", [["split", `${WHOLE}more`, sizes, 1]]);
          const wish = await bed.client.play([
            ...get(way, "/more", "GET", "Connection: close\r\n"),
            ["response"],
            ["eof", 5_000],
          ]);
          assert.deepEqual([wish.end, texts(wish)], ["eof", ["ok"]]);
        }
      });

      test(`${way}: a server that closes behind a body that is read slowly`, { timeout: PATIENCE }, async () => {
        const size = 6_000_000;
        const header = `${HEAD}Connection: close\r\nContent-Length: ${size}\r\n\r\n`;
        await warm(way);
        await bed.script("/closes", [["send", header], ["fill", size], ["close"]]);
        const steps: Step[] = [...get(way, "/closes"), ["pause", 300], ["response"], ["eof", 5_000]];
        const { end, responses } = await bed.client.play(steps, { rcvbuf: 100_000 });
        assert.deepEqual([end, responses[0]!.length, responses[0]!.pattern], ["eof", size, true]);
      });

      test(`${way}: no answer overtakes one that the daemon has written`, { timeout: PATIENCE }, async () => {
        await warm(way);
        for (const [size, sizes, prefix] of [
          [600_000, [9, 50, 65_536], "edited-"],
          [1_000_000, [9, 50, 65_536], "edited-"],
          [1_000_000, [65_536], ""],
          [3_000_000, [65_536], ""],
        ] as const) {
          const header = `${HEAD}Content-Length: ${size}\r\n\r\n`;
          await bed.script("/large", [
            ["split", header, sizes, 1],
            ["fill", size],
          ]);
          const { end, responses } = await bed.client.play(
            [
              ...send(way, `GET /large HTTP/1.1\r\nHost: ${prefix}${hostFor(way)}\r\n\r\n`),
              ["pause", 500],
              ...get(way, "/warm"),
              ["pause", 200],
              ["response"],
              ["response"],
            ],
            { rcvbuf: 300_000 },
          );
          const seen = responses.map(({ length, pattern }) => [length, pattern])[0];
          assert.deepEqual([end, seen, responses[1]?.text], ["open", [size, true], "ok"], `${prefix}${size}`);
        }
      });
    }
  });
}

messages("kernel path", true, KERNEL_WAYS);
messages("user space", false, ["userspace"]);
