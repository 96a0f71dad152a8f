import { RE2JS, RE2JSException } from "re2js";

/**
 * Regular expressions of RE2 as programs over bytes, which is what RE2 itself makes of them: re2js reads the pattern,
 * and what it says of characters is said here of the bytes of their UTF-8.
 */

/** One step of a program. A fork prefers `next` to `other`. */
export type Step =
  | { readonly op: "byte"; readonly low: number; readonly high: number; readonly next: number }
  | { readonly op: "fork"; readonly next: number; readonly other: number }
  | { readonly op: "capture"; readonly slot: number; readonly next: number }
  | { readonly op: "assert"; readonly what: number; readonly next: number }
  | { readonly op: "match" }
  | { readonly op: "fail" };

export interface Program {
  readonly steps: readonly Step[];
  readonly start: number;
  /** Of the pattern's groups; group n is captured in the slots 2n and 2n + 1. */
  readonly groups: number;
}

/** What an `assert` step asks of the place between two bytes; the numbers are re2js's. */
const BEGIN_LINE = 0x01;
const END_LINE = 0x02;
const BEGIN_TEXT = 0x04;
const END_TEXT = 0x08;
const WORD_BOUNDARY = 0x10;
const NO_WORD_BOUNDARY = 0x20;

/** What assertions tell apart in a neighbour of that place. */
export const Neighbour = { EDGE: 0, NEWLINE: 1, WORD: 2, OTHER: 3 } as const;
export type Neighbour = (typeof Neighbour)[keyof typeof Neighbour];

/** Far more than Envoy takes: 100, unless its runtime says otherwise. */
const MAX_STEPS = 100_000;
const MAX_RUNE = 0x10ffff;
/** The last character whose UTF-8 takes 1, 2, 3 and 4 bytes. */
export const LAST_OF_ASCII = 0x7f;
const LAST_OF_LENGTH = [LAST_OF_ASCII, 0x7ff, 0xffff, MAX_RUNE];

/** What kind of neighbour a byte is; `undefined`: there is none. Words are of ASCII, as RE2 has it. */
export function neighbour(byte: number | undefined): Neighbour {
  if (byte === undefined) return Neighbour.EDGE;
  if (byte === 0x0a) return Neighbour.NEWLINE;
  const isDigit = byte >= 0x30 && byte <= 0x39;
  const isLetter = (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a;
  return isDigit || isLetter || byte === 0x5f ? Neighbour.WORD : Neighbour.OTHER;
}

/** All that may be asserted of the place between two neighbours. */
export function assertable(before: Neighbour, after: Neighbour): number {
  return (
    (before === Neighbour.EDGE ? BEGIN_TEXT | BEGIN_LINE : 0) |
    (before === Neighbour.NEWLINE ? BEGIN_LINE : 0) |
    (after === Neighbour.EDGE ? END_TEXT | END_LINE : 0) |
    (after === Neighbour.NEWLINE ? END_LINE : 0) |
    ((before === Neighbour.WORD) === (after === Neighbour.WORD) ? NO_WORD_BOUNDARY : WORD_BOUNDARY)
  );
}

/** What is wrong with a pattern. */
export class PatternError extends Error {}

/**
 * Compiles a pattern; throws a {@link PatternError}. Characters above `last`, which no text has then, are left out: of
 * ASCII alone a program has a fraction of the steps.
 */
export function compileProgram(pattern: string, last: number = MAX_RUNE): Program {
  const { prog, numSubexp } = parse(pattern);
  const builder = new Builder(prog.inst.length, last);
  prog.inst.forEach((inst, at) => {
    builder.steps[at] = builder.translate(inst);
  });
  return { steps: builder.steps, start: prog.start, groups: numSubexp };
}

/** re2js's own program, over characters: as far as we look into it. */
interface Inst {
  readonly op: number;
  readonly out: number;
  readonly arg: number;
  readonly runes: readonly number[] | null;
}
interface Compiled {
  readonly prog: { readonly inst: readonly Inst[]; readonly start: number };
  readonly numSubexp: number;
}
const Op = {
  ALT: 1,
  ALT_MATCH: 2,
  CAPTURE: 3,
  EMPTY_WIDTH: 4,
  FAIL: 5,
  MATCH: 6,
  NOP: 7,
  RUNE: 8,
  RUNE1: 9,
  RUNE_ANY: 10,
  RUNE_ANY_NOT_NL: 11,
} as const;
const FOLD_CASE = 1;

function parse(pattern: string): Compiled {
  try {
    return (RE2JS.compile(pattern) as unknown as { readonly re2Input: Compiled }).re2Input;
  } catch (error) {
    if (!(error instanceof RE2JSException)) throw error;
    throw new PatternError(error.message.replace(/^error parsing regexp: /, ""));
  }
}

type Range = readonly [low: number, high: number];

class Builder {
  readonly steps: Step[];
  /** Equal steps of classes are one: the classes of Unicode have hundreds of ranges. */
  readonly #known = new Map<string, number>();

  readonly #last: number;

  constructor(reserved: number, last: number) {
    this.#last = last;
    this.steps = new Array(reserved).fill({ op: "fail" });
    this.#check();
  }

  translate(inst: Inst): Step {
    switch (inst.op) {
      case Op.ALT:
      case Op.ALT_MATCH:
        return { op: "fork", next: inst.out, other: inst.arg };
      case Op.CAPTURE:
        return { op: "capture", slot: inst.arg, next: inst.out };
      case Op.EMPTY_WIDTH:
        return { op: "assert", what: inst.arg, next: inst.out };
      case Op.NOP:
        return { op: "assert", what: 0, next: inst.out };
      case Op.FAIL:
        return { op: "fail" };
      case Op.MATCH:
        return { op: "match" };
      case Op.RUNE:
      case Op.RUNE1:
        return this.#characters(rangesOf(inst), inst.out);
      case Op.RUNE_ANY:
        return this.#characters([[0, MAX_RUNE]], inst.out);
      case Op.RUNE_ANY_NOT_NL:
        return this.#characters(
          [
            [0, 0x09],
            [0x0b, MAX_RUNE],
          ],
          inst.out,
        );
      default:
        throw new PatternError("it asks for what RE2 does not know");
    }
  }

  #characters(ranges: readonly Range[], next: number): Step {
    const last = this.#last;
    const [[low, high] = [0, MAX_RUNE], second] = ranges;
    /* Most are one letter: of ten thousand expressions that is most of the work. */
    if (second === undefined && high <= LAST_OF_ASCII) return { op: "byte", low, high, next };
    return this.#ways(
      ranges.flatMap(([low, high]) => (low > last ? [] : utf8(low, Math.min(high, last)))),
      next,
    );
  }

  /** A step that takes one of these sequences, which ascend; such as begin alike have their begin in common. */
  #ways(ways: readonly (readonly Range[])[], next: number): Step {
    const begins: { first: Range; rests: (readonly Range[])[] }[] = [];
    for (const [first, ...rest] of ways) {
      const last = begins.at(-1);
      if (last?.first[0] === first![0] && last.first[1] === first![1]) last.rests.push(rest);
      else begins.push({ first: first!, rests: [rest] });
    }
    let step: Step = { op: "fail" };
    begins.reverse().forEach(({ first: [low, high], rests }, i) => {
      const after = rests[0]!.length === 0 ? next : this.#put(this.#ways(rests, next));
      const byte: Step = { op: "byte", low, high, next: after };
      step = i === 0 ? byte : { op: "fork", next: this.#put(byte), other: this.#put(step) };
    });
    return step;
  }

  #put(step: Step): number {
    const key = Object.values(step).join();
    let at = this.#known.get(key);
    if (at === undefined) {
      this.#check();
      at = this.steps.push(step) - 1;
      this.#known.set(key, at);
    }
    return at;
  }

  #check(): void {
    if (this.steps.length >= MAX_STEPS) throw new PatternError(`it needs more than ${MAX_STEPS} steps`);
  }
}

/** The characters that an instruction takes. */
function rangesOf({ runes, arg }: Inst): readonly Range[] {
  const all = runes ?? [];
  if (all.length === 1) return (arg & FOLD_CASE) !== 0 ? foldsOf(all[0]!) : [[all[0]!, all[0]!]];
  return Array.from({ length: all.length / 2 }, (_, i) => [all[2 * i]!, all[2 * i + 1]!] as const);
}

/** A character and those that differ from it by case only: what re2js makes of a class of it, and NUL, tells. */
function foldsOf(rune: number): readonly Range[] {
  const { prog } = parse(`(?i)[\\x00\\x{${rune.toString(16)}}]`);
  const folded = prog.inst.find(({ op }) => op === Op.RUNE || op === Op.RUNE1)!;
  return rangesOf(folded).filter(([low]) => low !== 0 || rune === 0);
}

/**
 * For a class that holds all above ASCII RE2 takes any first byte with as many others as it announces: overlong
 * sequences, too, and what is beyond the last character. That keeps its programs small.
 */
const ALL_ABOVE_ASCII: readonly (readonly Range[])[] = [
  [
    [0xc2, 0xdf],
    [0x80, 0xbf],
  ],
  [
    [0xe0, 0xef],
    [0x80, 0xbf],
    [0x80, 0xbf],
  ],
  [
    [0xf0, 0xf4],
    [0x80, 0xbf],
    [0x80, 0xbf],
    [0x80, 0xbf],
  ],
];

/** The byte sequences of the characters from `low` to `high`: each a range for every byte. */
function utf8(low: number, high: number): (readonly Range[])[] {
  const splitBefore = (at: number) => [...utf8(low, at - 1), ...utf8(at, high)];
  if (low === 0x80 && high === MAX_RUNE) return [...ALL_ABOVE_ASCII];
  const last = LAST_OF_LENGTH.find((end) => low <= end)!;
  if (high > last) return splitBefore(last + 1);
  /* Sequences whose first bytes differ make a range only if all the bytes behind these are free. */
  for (let bits = 6; last > 0x7f && bits <= 18; bits += 6) {
    const free = (1 << bits) - 1;
    if ((low & ~free) === (high & ~free)) break;
    if ((low & free) !== 0) return splitBefore((low | free) + 1);
    if ((high & free) !== free) return splitBefore(high & ~free);
  }
  const ends = encode(high);
  return [encode(low).map((byte, i) => [byte, ends[i]!] as const)];
}

/** The UTF-8 of a character; that of a surrogate too, which RE2 does not except. */
function encode(rune: number): number[] {
  const rest = (bits: number) => 0x80 | ((rune >> bits) & 0x3f);
  if (rune <= 0x7f) return [rune];
  if (rune <= 0x7ff) return [0xc0 | (rune >> 6), rest(0)];
  if (rune <= 0xffff) return [0xe0 | (rune >> 12), rest(6), rest(0)];
  return [0xf0 | (rune >> 18), rest(12), rest(6), rest(0)];
}
