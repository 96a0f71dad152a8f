import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { BlobBuilder } from "../../src/tables/blob.ts";
import { statesOf, Trie, writeTrie } from "../../src/tables/trie.ts";
import { Blob, lookups, walk } from "./interpret.ts";

/** What a text has in a table: the longest prefix that goes on, and the one that it is. */

interface Value {
  goesOn: number;
  ends: number;
}

interface Row {
  readonly text: string;
  readonly goesOn: boolean;
}

function written(rows: readonly Row[], backward: boolean) {
  const trie = new Trie<Value>(() => ({ goesOn: 0, ends: 0 }));
  rows.forEach(({ text, goesOn }, i) => {
    const bytes = Buffer.from(text, "latin1");
    trie.at(backward ? [...bytes].reverse() : bytes).value[goesOn ? "goesOn" : "ends"] = i + 1;
  });
  const blob = new BlobBuilder();
  blob.reserve(1);
  const root = writeTrie(blob, trie, {
    backward,
    isEmpty: ({ goesOn, ends }) => goesOn === 0 && ends === 0,
    write: (value) => ({ ...value, own: undefined }),
  });
  return { root, words: blob.finish() };
}

function expected(rows: readonly Row[], text: string, backward: boolean) {
  const begins = (row: string) => (backward ? text.endsWith(row) : text.startsWith(row));
  const last = <T>(all: readonly T[], is: (one: T) => boolean) => all.findLastIndex(is) + 1;
  const lengths = rows.flatMap((row) =>
    row.goesOn && row.text.length < text.length && begins(row.text) ? [row.text.length] : [],
  );
  const longest = Math.max(...lengths);
  return {
    goesOn: last(rows, (row) => row.goesOn && row.text.length === longest && begins(row.text)),
    ends: last(rows, (row) => !row.goesOn && row.text === text),
  };
}

const anyText = fc
  .tuple(fc.constantFrom("", "shared by some of them ", "s"), fc.array(fc.constantFrom(..."abÿ"), { maxLength: 20 }))
  .map(([first, rest]) => first + rest.join(""));

test("a walk finds what a look at each text finds, forward and backward", () => {
  const anyRow = fc.record({ text: anyText, goesOn: fc.boolean() });
  fc.assert(
    fc.property(fc.array(anyRow, { minLength: 1, maxLength: 60 }), anyText, fc.boolean(), (rows, other, backward) => {
      const { root, words } = written(rows, backward);
      const texts = rows.flatMap(({ text }) => [text, `${text}a`, `b${text}`, text.slice(1), text.slice(0, -1)]);
      for (const text of [...texts, other])
        assert.deepEqual(
          walk(new Blob(words), root, Buffer.from(text, "latin1"), backward),
          expected(rows, text, backward),
        );
    }),
    { numRuns: 400 },
  );
});

for (const length of [1, 2, 3, 5, 8, 9, 17]) {
  const count = Math.min(20_000, 200 ** length);
  test(`${count} texts of ${length} bytes: all are found, none of others, in no more looks than a few have`, () => {
    const at = (i: number) => {
      const bytes = Buffer.alloc(length, 0x61);
      /* They differ in their last bytes. */
      for (let n = 1, rest = i; n <= Math.min(length, 3); n++, rest = Math.floor(rest / 200))
        bytes[length - n] = 1 + (rest % 200);
      return bytes;
    };
    const rows = Array.from({ length: count }, (_, i) => ({ text: at(i).toString("latin1"), goesOn: false }));
    const { root, words } = written(rows, false);
    const blob = new Blob(words);
    const before = lookups.count;
    for (let i = 0; i < count; i++) assert.equal(walk(blob, root, at(i)).ends, i + 1);
    /* The root, what all begin with, three bytes in two steps at most. */
    assert.ok((lookups.count - before) / count <= 7, `${(lookups.count - before) / count} looks`);
    const strange = Buffer.alloc(length, 0xfe);
    assert.deepEqual(walk(blob, root, strange), { goesOn: 0, ends: 0 });
    assert.ok(words.byteLength < count * 128 + 1_024, `${words.byteLength} bytes for ${count}`);
    assert.ok(statesOf(words, root).length <= count * 2 + 1);
  });
}
