import type { BlobBuilder } from "../tables/blob.ts";
import { XLB_LINE_WORDS } from "../tables/layout.gen.ts";
import type { Dfa, UnionDfa } from "./dfa.ts";

/** A walk's place in the rows is a number of 16 bits. */
const MOST_PLACES = 0x10000;

/** So few states fit, whatever their classes. */
export const PLAIN_STATES = MOST_PLACES / 256;

export const fits = ({ states, classCount }: Dfa) => states * classCount <= MOST_PLACES;

/** Of ASCII alone, in two lines: a walk looks for them once, not for each byte. */
const writeClasses = (blob: BlobBuilder, classes: Uint8Array) => blob.bytes(classes.subarray(0, 128), XLB_LINE_WORDS);

/** Writes an automaton as `walk_table` of bpf/steps/match.h reads it, and gives its head word: docs/tables.md. */
export function writeTable(blob: BlobBuilder, { classes, classCount, states, next, start, accepts }: Dfa): number {
  /* The dead state stays first, those that accept come last: one comparison tells them. */
  const order = Array.from({ length: states }, (_, state) => state).sort((a, b) => accepts[a]! - accepts[b]! || a - b);
  const place = new Array<number>(states);
  order.forEach((state, row) => {
    place[state] = row * classCount;
  });
  const rows = Buffer.alloc(states * classCount * 2);
  order.forEach((state, row) => {
    for (let c = 0; c < classCount; c++) {
      rows.writeUInt16LE(place[next[state * classCount + c]!]!, (row * classCount + c) * 2);
    }
  });
  const refusing = accepts.reduce((count, accepting) => count + (accepting ? 0 : 1), 0);
  const head = blob.reserve(1);
  blob.put(head, place[start]!, writeClasses(blob, classes), blob.bytes(rows), refusing * classCount);
  return head;
}

/**
 * Writes an automaton of several patterns as `walk_union` of bpf/steps/match.h reads it, and gives its head word.
 * `values` has what the walk gives where a text ends, by state; 0: none of the patterns.
 */
export function writeUnion(
  blob: BlobBuilder,
  { classes, classCount, states, next, start }: UnionDfa,
  values: readonly number[],
): number {
  const width = classCount + 1;
  const rows = new Uint32Array(states * width);
  for (let state = 0; state < states; state++) {
    for (let c = 0; c < classCount; c++) rows[state * width + c] = next[state * classCount + c]! * width;
    rows[state * width + classCount] = values[state]!;
  }
  const head = blob.reserve(1);
  blob.put(head, start * width, writeClasses(blob, classes), blob.bytes(new Uint8Array(rows.buffer)), classCount);
  return head;
}
