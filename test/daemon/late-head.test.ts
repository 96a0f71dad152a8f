import assert from "node:assert/strict";
import { test } from "node:test";
import { LateHead } from "../../src/daemon/late-head.ts";
import type { Field } from "../../src/slowpath/http1.ts";
import { Dice } from "../dice.ts";

const HINTS = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
const FINAL = `HTTP/1.1 200 OK\r\nX-Long: ${"l".repeat(3_000)}\r\nX-A: a\r\nContent-Length: 4\r\n\r\n`;

const edit = (fields: readonly Field[]) => fields.map(([name, value]): Field => [name, name === "X-A" ? "b" : value]);

/** What the client gets when the answer comes in these pieces. */
function edited(pieces: readonly Buffer[]): string {
  const late = new LateHead(edit, "GET", false);
  let head = "";
  for (const [i, piece] of pieces.entries()) {
    const { out, body } = late.take(piece);
    head += out.toString("latin1");
    if (body === undefined) continue;
    const rest = Buffer.concat([body.rest, ...pieces.slice(i + 1)]);
    return head + rest.toString("latin1", 0, body.follower.take(rest));
  }
  return `${head} and no more`;
}

const cut = (text: string, sizes: () => number): Buffer[] => {
  const pieces: Buffer[] = [];
  for (let left = Buffer.from(text, "latin1"); left.length > 0; ) {
    const size = sizes();
    pieces.push(left.subarray(0, size));
    left = left.subarray(size);
  }
  return pieces;
};

test("a head that the daemon edits is the same in whatever pieces it comes, with interim ones before it or not", () => {
  const dice = new Dice(1);
  for (const before of ["", HINTS, HINTS + HINTS]) {
    const answer = `${before}${FINAL}body`;
    const wanted = answer.replace("X-A: a", "X-A: b");
    assert.equal(edited([Buffer.from(answer)]), wanted);
    assert.equal(edited(cut(answer, () => 1)), wanted);
    for (let i = 0; i < 200; i++)
      assert.equal(edited(cut(answer, () => dice.between(1, dice.one([3, 100, 4_000])))), wanted);
  }
});
