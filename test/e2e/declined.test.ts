import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { declineHead } from "../../src/daemon/declined.ts";
import { Dice } from "../dice.ts";
import { Bed, later, PATIENCE, SUITE_PATIENCE, withoutKernel } from "./harness.ts";

/**
 * What `xlb explain` says of a request head that the kernel path declines must be what the hook does: random heads,
 * each on a connection of its own, and the reason that the hook counted.
 */

const SEED = Number(process.env.DECLINED_SEED ?? 7);
const HEADS = Number(process.env.DECLINED_HEADS ?? 200);

/** The reasons that a head itself may be declined for. */
const REASONS: ReadonlySet<string> = new Set([
  "method",
  "target_form",
  "bad_request",
  "not_http11",
  "head_too_large",
  "transfer_encoding",
  "upgrade",
  "expect",
  "connection_header",
  "body_too_large",
  "multi_valued_header",
]);

const FIELDS: readonly ((dice: Dice) => string)[] = [
  () => "X-A: 1",
  (dice) => `x-a: ${dice.text(3, "ab")}`,
  () => "X-B: 2",
  () => "x-b:",
  (dice) => `X-Long: ${"l".repeat(dice.one([10, 1_000, 4_000, 8_100]))}`,
  () => "x-b: \xe9",
  () => "x-b: a\tb",
  () => "x-b: a\x01b",
  () => "Host: other.test",
  () => "Content-Length: 0",
  (dice) =>
    `Content-Length: ${dice.one(["262144", "262145", "300000", "1000000", "1x", "+1", "", "1234567890123456789"])}`,
  () => "Transfer-Encoding: chunked",
  () => "Upgrade: websocket",
  () => "HTTP2-Settings: x",
  () => "Expect: 100-continue",
  () => "TE: trailers",
  () => "Proxy-Connection: close",
  () => "Keep-Alive: timeout=5",
  (dice) => `Connection: ${dice.one(["close", "keep-alive", "Close", "KEEP-ALIVE", "x-b", "close, x-b", ""])}`,
  (dice) => Array.from({ length: dice.one([90, 98, 99, 100, 101]) }, () => "f: 1").join("\r\n"),
];

function headOf(dice: Dice): string {
  const method = dice.chance(0.85) ? dice.one(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"]) : "TRACE";
  const odd = ["*", "http://near/x", "x", "/\xe9", "/a#b", "/a\x7f", `/${"p".repeat(2_000)}`, `/${"p".repeat(9_000)}`];
  const target = dice.chance(0.85) ? dice.one(["/", "/x", "/x?y=z", "/%2F"]) : dice.one(odd);
  const version = dice.chance(0.9)
    ? "HTTP/1.1"
    : dice.one(["HTTP/1.0", "HTTP/1.2", "http/1.1", "x HTTP/1.1", "HTTP/1.1 x", "HTTP/1.1x"]);
  const fields = Array.from({ length: dice.one([0, 0, 1, 1, 2, 3]) }, () => dice.one(FIELDS)(dice));
  const host = dice.chance(0.95) ? [`Host: ${dice.one(["near", "near", "h".repeat(255), "h".repeat(256), ""])}`] : [];
  const all = [...fields];
  all.splice(dice.between(0, all.length), 0, ...host);
  return `${[`${method} ${target} ${version}`, ...all].join("\r\n")}\r\n\r\n`;
}

describe("declined heads", { skip: withoutKernel(), timeout: SUITE_PATIENCE }, () => {
  const bed = new Bed(true);
  before(
    async () => {
      const asks = { prefix: "/", headers: [{ name: "x-a", string_match: { exact: "never" } }] };
      await bed.open({
        hosts: [{ name: "asks", domains: ["asks.test"], routes: [{ match: asks, route: { cluster: "near" } }] }],
      });
    },
    { timeout: PATIENCE },
  );
  after(() => bed.close(), { timeout: PATIENCE });

  /** What the hook counted of those reasons. */
  const counted = async () => {
    const { reasons } = await bed.stats();
    return Object.entries(reasons).filter(([reason, count]) => REASONS.has(reason) && count > 0);
  };

  test(`the hook declines as explain says, seed ${SEED}`, { timeout: PATIENCE }, async (t) => {
    const dice = new Dice(SEED);
    const wrong: string[] = [];
    const seen = new Map<string, number>();
    let before = new Map(await counted());
    for (let i = 0; i < HEADS; i++) {
      const head = headOf(dice);
      const said = declineHead(Buffer.from(head, "latin1"), new Set(["x-a"]))?.reason;
      await bed.client.play([
        ["send", head],
        ["pause", 5],
      ]);
      /* The counts are read without waiting for whoever counts: a moment, and once more where they disagree. */
      let now = before;
      const added = () => [...now].filter(([reason, count]) => count !== (before.get(reason) ?? 0)).map(([r]) => r);
      for (let tries = 0; tries < 20; tries++) {
        now = new Map(await counted());
        if (String(added()) === String(said === undefined ? [] : [said])) break;
        await later(5);
      }
      if (String(added()) !== String(said === undefined ? [] : [said]))
        wrong.push(`${JSON.stringify(head.slice(0, 300))}: ${added()}, not ${said}`);
      before = now;
      seen.set(said ?? "none", (seen.get(said ?? "none") ?? 0) + 1);
    }
    t.diagnostic(JSON.stringify([...seen]));
    assert.deepEqual(wrong, []);
    assert.deepEqual(
      [...REASONS].filter((reason) => !seen.has(reason)),
      [],
    );
  });
});
