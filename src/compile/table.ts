import type { BlobBuilder } from "../tables/blob.ts";
import { SETTLED, SETTLED_RUN, XLB_LINE_WORDS } from "../tables/layout.gen.ts";
import type { Automaton, Dfa, UnionDfa } from "./dfa.ts";

/** A walk's place in the rows is a number of 16 bits. */
const MOST_PLACES = 0x10000;

/** So few states fit, whatever their classes. */
export const PLAIN_STATES = MOST_PLACES / 256;

export const fits = ({ states, classCount }: Dfa) => states * classCount <= MOST_PLACES;

/** Of ASCII alone, in two lines: a walk looks for them once, not for each byte. */
const writeClasses = (blob: BlobBuilder, classes: Uint8Array) => blob.bytes(classes.subarray(0, 128), XLB_LINE_WORDS);

/** What ends a header line is in no text that the hook asks: a dot of an expression takes all other bytes. */
const NEW_LINE = 0x0a;

/** Does each byte lead from a state to itself, so that a walk that came there is done? */
function isSettled({ classes, classCount, next }: Automaton, state: number): boolean {
  for (let byte = 0; byte < 128; byte++)
    if (byte !== NEW_LINE && next[state * classCount + classes[byte]!] !== state) return false;
  return true;
}

/** Writes an automaton as `walk_table` of bpf/steps/match.h reads it, and gives its head word: docs/tables.md. */
export function writeTable(blob: BlobBuilder, dfa: Dfa): number {
  const { classes, classCount, states, next, start, accepts } = dfa;
  const place = new Array<number>(states).fill(SETTLED);
  /* The dead state stays first, those that accept come last: one comparison tells them. */
  const order = Array.from({ length: states }, (_, state) => state)
    .filter((state) => accepts[state] === 0 || !isSettled(dfa, state))
    .sort((a, b) => accepts[a]! - accepts[b]! || a - b);
  order.forEach((state, row) => {
    place[state] = row * classCount;
  });
  const rows = Buffer.alloc(order.length * classCount * 2);
  order.forEach((state, row) => {
    for (let c = 0; c < classCount; c++) {
      rows.writeUInt16LE(place[next[state * classCount + c]!]!, (row * classCount + c) * 2);
    }
  });
  const refusing = accepts.reduce((count, accepting) => count + (accepting ? 0 : 1), 0);
  const head = blob.reserve(1);
  const lines = blob.bytes(rows, XLB_LINE_WORDS);
  blob.put(head, place[start]!, writeClasses(blob, classes), lines, refusing * classCount);
  return head;
}

/**
 * Writes an automaton of several patterns as `walk_union` of bpf/steps/match.h reads it, and gives its head word.
 * `values` has what the walk gives where a text ends, by state; 0: none of the patterns.
 */
export function writeUnion(blob: BlobBuilder, union: UnionDfa, values: readonly number[]): number {
  const { classes, classCount, states, next, start } = union;
  const width = classCount + 1;
  let length = 0;
  const place = new Uint32Array(states);
  for (let state = 0; state < states; state++) {
    if (values[state] !== 0 && isSettled(union, state)) place[state] = SETTLED_RUN | values[state]!;
    else {
      place[state] = length;
      length += width;
    }
  }
  const rows = new Uint32Array(length);
  for (let state = 0; state < states; state++) {
    const first = place[state]!;
    if (first >= SETTLED_RUN) continue;
    for (let c = 0; c < classCount; c++) rows[first + c] = place[next[state * classCount + c]!]!;
    rows[first + classCount] = values[state]!;
  }
  const head = blob.reserve(1);
  const lines = blob.bytes(new Uint8Array(rows.buffer), XLB_LINE_WORDS);
  blob.put(head, place[start]!, writeClasses(blob, classes), lines, classCount);
  return head;
}
