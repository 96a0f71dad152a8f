import { RE2JS } from "re2js";
import { assertable, compileProgram, neighbour, type Program } from "../tables/re2.ts";
import { isAscii } from "../tables/text.ts";

/**
 * Envoy's regular expressions (type.matcher.v3.RegexMatcher, RegexMatchAndSubstitute): RE2's, over bytes. A text is as
 * Node gives it: one character for each byte. RE2 reads UTF-8 in them; what is none, no pattern takes, `.` neither.
 */

export interface Regex {
  /** Whether all of the text matches. */
  matches(text: string): boolean;
}

export interface Rewrite {
  /** The text with every match replaced; the matches do not overlap. */
  replaceAll(text: string): string;
}

/** Throws an Error that says what is wrong with the pattern. */
export function compileRegex(pattern: string): Regex {
  const program = compileProgram(pattern);
  const ascii = RE2JS.compile(pattern);
  return {
    matches(text) {
      // Bytes are characters then, and re2js is several times faster.
      if (isAscii(text)) return ascii.testExact(text);
      return search(program, Buffer.from(text, "latin1"), 0, "full", 0) !== undefined;
    },
  };
}

/**
 * Throws an Error that says what is wrong with the pattern or with the substitution, where `\1` stands for the first
 * group, `\0` for all that matched and `\\` for a backslash.
 */
export function compileRewrite(pattern: string, substitution: string): Rewrite {
  const program = compileProgram(pattern);
  const parts = parseSubstitution(substitution, program.groups);
  return { replaceAll: (text) => replaceAll(program, parts, text) };
}

/** Text, or the number of a group. */
type Part = string | number;

/** As RE2::CheckRewriteString takes it. */
function parseSubstitution(substitution: string, groups: number): Part[] {
  const parts: Part[] = [];
  const bytes = Buffer.from(substitution, "utf8").toString("latin1");
  for (const [whole, escaped] of bytes.matchAll(/\\(.?)|[^\\]+/gs)) {
    if (escaped === undefined) parts.push(whole);
    else if (escaped === "\\") parts.push("\\");
    else if (/[0-9]/.test(escaped)) parts.push(Number(escaped));
    else throw new Error("a backslash in the substitution must be followed by a digit or a backslash");
  }
  const highest = Math.max(0, ...parts.filter((part) => typeof part === "number"));
  if (highest > groups) throw new Error(`the substitution asks for group ${highest}, the pattern has ${groups}`);
  return parts;
}

/** As RE2::GlobalReplace does it. */
function replaceAll(program: Program, parts: readonly Part[], text: string): string {
  const bytes = Buffer.from(text, "latin1");
  let replaced = "";
  let lastEnd = -1;
  for (let at = 0; at <= bytes.length; ) {
    const found = search(program, bytes, at, "leftmost", program.groups);
    if (found === undefined) return replaced + text.slice(at);
    const [start, end] = [found[0]!, found[1]!];
    replaced += text.slice(at, start);
    if (start === end && end === lastEnd) {
      // Nothing, right behind a match, is no further match.
      const next = at + characterLength(bytes, at);
      replaced += text.slice(at, next);
      at = next;
      continue;
    }
    for (const part of parts) {
      replaced += typeof part === "string" ? part : text.slice(found[2 * part], found[2 * part + 1]);
    }
    at = lastEnd = end;
  }
  return replaced;
}

/** Of the UTF-8 sequence there; 1 where there is none. */
function characterLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at] ?? 0;
  const length = first < 0xc2 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 1;
  for (let i = 1; i < length; i++) {
    if (((bytes[at + i] ?? 0) & 0xc0) !== 0x80) return 1;
  }
  const second = bytes[at + 1] ?? 0;
  const overlong = (first === 0xe0 && second < 0xa0) || (first === 0xf0 && second < 0x90);
  return overlong || (first === 0xf4 && second > 0x8f) ? 1 : length;
}

/** Where a pattern's program has got to, and which places it captured on its way. */
interface Thread {
  readonly at: number;
  readonly captures: Int32Array;
}

/**
 * The captures of the match that RE2 prefers: the leftmost one from `from` on, or the one of all bytes from there.
 * All ways through the program are followed at once, the preferred ones first, so the time is linear in the bytes.
 */
function search(
  program: Program,
  bytes: Uint8Array,
  from: number,
  kind: "leftmost" | "full",
  groups: number,
): Int32Array | undefined {
  const { steps } = program;
  /* By step: the last place where a thread was at it. */
  const seen = new Int32Array(steps.length).fill(-1);

  /* Follows the steps that take no byte. */
  const enter = (threads: Thread[], thread: Thread, place: number): void => {
    const held = assertable(neighbour(bytes[place - 1]), neighbour(bytes[place]));
    const stack = [thread];
    for (let top = stack.pop(); top; top = stack.pop()) {
      const { at, captures } = top;
      if (seen[at] === place) continue;
      seen[at] = place;
      const step = steps[at]!;
      switch (step.op) {
        case "fork":
          stack.push({ at: step.other, captures }, { at: step.next, captures });
          break;
        case "capture":
          stack.push({ at: step.next, captures: put(captures, step.slot, place) });
          break;
        case "assert":
          if ((step.what & ~held) === 0) stack.push({ at: step.next, captures });
          break;
        case "byte":
        case "match":
          threads.push(top);
          break;
        case "fail":
          break;
        default:
          step satisfies never;
      }
    }
  };

  let found: Int32Array | undefined;
  let threads: Thread[] = [];
  for (let place = from; ; place++) {
    if (place === from || (kind === "leftmost" && found === undefined)) {
      enter(threads, { at: program.start, captures: put(new Int32Array(2 * groups + 2).fill(-1), 0, place) }, place);
    }
    const next: Thread[] = [];
    for (const { at, captures } of threads) {
      const step = steps[at]!;
      if (step.op === "byte") {
        const byte = bytes[place];
        if (byte !== undefined && step.low <= byte && byte <= step.high)
          enter(next, { at: step.next, captures }, place + 1);
      } else if (kind === "leftmost" || place === bytes.length) {
        found = put(captures, 1, place);
        // All threads behind this one are less preferred.
        break;
      }
    }
    threads = next;
    const over = threads.length === 0 && (kind === "full" || found !== undefined);
    if (over || place === bytes.length) return found;
  }
}

/** A copy, for threads share what they captured; unless nobody asks for this slot. */
function put(captures: Int32Array, slot: number, place: number): Int32Array {
  if (slot >= captures.length) return captures;
  const changed = captures.slice();
  changed[slot] = place;
  return changed;
}
