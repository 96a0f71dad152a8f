import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  type Act,
  Bed,
  backendFor,
  eventually,
  head,
  KERNEL_WAYS,
  type Outcome,
  PATIENCE,
  request,
  type Step,
  SUITE_PATIENCE,
  send,
  type Way,
  withoutKernel,
} from "./harness.ts";

/** Upgrades: from the 101 on the two connections are one, byte for byte and end for end. */

const SWITCH: Act = ["send", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"];
const WANTED = ["Connection: Upgrade", "Upgrade: websocket"];

function suite(title: string, kernel: boolean, ways: readonly Way[]): void {
  describe(`upgrades, ${title}`, { skip: kernel && withoutKernel(), timeout: SUITE_PATIENCE }, () => {
    const bed = new Bed(kernel);
    before(
      async () => {
        await bed.open({ upgrades: ["websocket"], timeout: "0.5s" });
        await bed.script("/echo", [SWITCH, ["send", "hello"], ["echo"]]);
        await bed.script("/client-first", [SWITCH, ["eof"], ["send", "bye {rest}"], ["close"]]);
        await bed.script("/server-first", [SWITCH, ["send", "bye"], ["shut"], ["eof"]]);
        await bed.script("/reset", [SWITCH, ["send", "half"], ["pause", 50], ["reset"]]);
        await bed.script("/stream", [SWITCH, ["fill", 1_000_000], ["eof"], ["send", "END"], ["close"]]);
        await bed.script("/body", [SWITCH, ["body"], ["send", "body {length} {pattern}."], ["echo"]], { early: true });
      },
      { timeout: PATIENCE },
    );
    after(() => bed.close(), { timeout: PATIENCE });

    const ask = (way: Way, path: string): readonly Step[] => [
      ...send(way, request(way, path, { headers: WANTED })),
      ["response"],
    ];
    const switched = (outcome: Outcome, i = 0) => {
      const r = outcome.responses[i];
      assert.equal(r?.status, 101, JSON.stringify(outcome));
      assert.equal(r?.headers.upgrade, "websocket");
    };

    for (const way of ways) {
      for (const first of [false, true]) {
        const opening: readonly Step[] = first ? [...send(way, request(way, "/x")), ["response"]] : [];
        const at = first ? 1 : 0;
        const where = first ? ", behind a request" : "";

        test(`${way}: bytes cross both ways${where}`, { timeout: PATIENCE }, async () => {
          const words = Array.from({ length: 20 }, (_, i) => `GET /${i} HTTP/1.1\r\nHost: near\r\n\r\n`);
          let n = "hello".length;
          const talk = words.flatMap((word): Step[] => {
            n += word.length;
            return [
              ["send", word],
              ["read", n, 15_000],
            ];
          });
          /* Longer than the route's timeout. */
          const outcome = await bed.client.play([...opening, ...ask(way, "/echo"), ...talk, ["pause", 700], ["close"]]);
          switched(outcome, at);
          assert.equal(outcome.rest, `hello${words.join("")}`);
          assert.equal(outcome.end, "open");
        });

        test(`${way}: the client ends first${where}`, { timeout: PATIENCE }, async () => {
          const outcome = await bed.client.play([
            ...opening,
            ...ask(way, "/client-first"),
            ["send", "last words"],
            ["shut"],
            ["eof", 15_000],
          ]);
          switched(outcome, at);
          assert.equal(outcome.rest, "bye last words");
          assert.equal(outcome.end, "eof");
        });

        test(`${way}: the server ends first${where}`, { timeout: PATIENCE }, async () => {
          const backend = backendFor(bed, way);
          await backend.seen(true);
          const outcome = await bed.client.play([
            ...opening,
            ...ask(way, "/server-first"),
            ["eof", 15_000],
            ["send", "late "],
            ["pause", 50],
            ["send", "words"],
            ["close"],
          ]);
          switched(outcome, at);
          assert.equal(outcome.rest, "bye");
          const last = async () => (await backend.seen()).requests.at(-1)?.text;
          assert.equal(await eventually(last, (text) => text === "late words"), "late words");
        });

        test(`${way}: a reset crosses as one${where}`, { timeout: PATIENCE }, async () => {
          const outcome = await bed.client.play([...opening, ...ask(way, "/reset"), ["eof", 15_000]]);
          switched(outcome, at);
          assert.equal(outcome.rest, "half");
          assert.equal(outcome.end, "ECONNRESET");
        });
      }

      test(`${way}: a million bytes, then both ends`, { timeout: PATIENCE }, async () => {
        const outcome = await bed.client.play([...ask(way, "/stream"), ["pause", 100], ["shut"], ["eof", 15_000]]);
        switched(outcome);
        assert.equal(outcome.end, "eof");
        const top = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert.equal(outcome.total, top.length + 1_000_000 + "END".length);
      });

      test(`${way}: the body comes before the tunnel's bytes`, { timeout: PATIENCE }, async () => {
        const n = 300_000;
        const top = head(way, "/body", { method: "POST", headers: [...WANTED, "Transfer-Encoding: chunked"] });
        const outcome = await bed.client.play([
          ...send(way, `${top}${n.toString(16)}\r\n`),
          ["fill", 0, 100_000, 10_000],
          ["response"],
          ["pause", 20],
          ["fill", 100_000, 200_000, 10_000],
          ["send", "\r\n0\r\n\r\nfirst bytes"],
          ["read", `body ${n} true.first bytes`.length, 15_000],
        ]);
        switched(outcome);
        assert.equal(outcome.rest, `body ${n} true.first bytes`);
      });

      test(`${way}: a server that does not switch just answers`, { timeout: PATIENCE }, async () => {
        const outcome = await bed.client.play([...ask(way, "/x"), ...send(way, request(way, "/y")), ["response"]]);
        assert.deepEqual(
          outcome.responses.map((r) => r.status),
          [200, 200],
        );
      });
    }
  });
}

suite("kernel path", true, KERNEL_WAYS);
suite("user space", false, ["userspace"]);
