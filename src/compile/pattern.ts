import { type Dfa, isPlainlySmall, toDfa } from "./dfa.ts";
import { fits, PLAIN_STATES } from "./table.ts";

/** A regular expression as the text with which all that it matches begins, and an expression for what follows. */
export interface Pattern {
  readonly literal: string;
  readonly rest: string;
}

/** Letters that mean themselves, whatever stands around them. */
const PLAIN = /^(?:[\w/\-~%!@&=:;,<>"'# ]|\\[.\-/+*?()[\]{}|^$])*/;
/** What looks back over the cut, or makes one side of it an alternative. */
const LOOKS_BACK = /(?:^|[^[\\])\^|\\[bBAQ]/;

/**
 * Cuts off what is plainly a text. It reads the pattern's letters only: ten thousand patterns that differ in where they
 * begin have one `rest`, which is compiled once.
 */
export function cut(pattern: string): Pattern {
  const whole = pattern.startsWith("^") ? pattern.slice(1) : pattern;
  const uncut = { literal: "", rest: pattern };
  if (LOOKS_BACK.test(whole) || hasAlternatives(whole)) return uncut;
  let end = PLAIN.exec(whole)![0].length;
  /* What may be repeated or left out is no part of it. */
  if (/^[*+?{]/.test(whole.slice(end))) end -= whole[end - 2] === "\\" ? 2 : 1;
  if (end <= 0) return uncut;
  return { literal: whole.slice(0, end).replace(/\\(.)/g, "$1"), rest: whole.slice(end) };
}

/** Is there a bar outside of all brackets? Where that is not plain, it is said to be. */
function hasAlternatives(pattern: string): boolean {
  let depth = 0;
  for (let at = 0; at < pattern.length; at++) {
    const letter = pattern[at]!;
    if (letter === "\\") at++;
    else if (letter === "[") {
      const close = pattern.indexOf("]", at + (pattern[at + 1] === "^" ? 3 : 2));
      const inner = pattern.slice(at + 1, close);
      if (close < 0 || /[\\[]/.test(inner)) return pattern.includes("|");
      at = close;
    } else if (letter === "(") depth++;
    else if (letter === ")") depth--;
    else if (letter === "|" && depth === 0) return true;
  }
  return false;
}

/** Of a regular expression in the kernel: one beyond it takes the slow path. */
export const MAX_STATES = 1_024;
export const TOO_LARGE = `its regular expression needs more than ${MAX_STATES} states, or too large a table`;

const usable = new Map<string, boolean>();

/** Is there an {@link automaton} of the pattern? Mostly told without making it: one of many is better asked by all. */
export function hasAutomaton(pattern: string): boolean {
  let known = usable.get(pattern);
  if (known === undefined) {
    if (usable.size >= MOST_REMEMBERED) usable.clear();
    known = isPlainlySmall(pattern, PLAIN_STATES) || automaton(pattern) !== undefined;
    usable.set(pattern, known);
  }
  return known;
}

const MOST_REMEMBERED = 16_384;
const automata = new Map<string, Dfa | undefined>();

/**
 * The same for equal patterns; some are remembered, for the next configuration is much like this one. It knows ASCII
 * only: a head with any other byte is declined by the hook before it is matched.
 */
export function automaton(pattern: string): Dfa | undefined {
  if (automata.has(pattern)) return automata.get(pattern);
  if (automata.size >= MOST_REMEMBERED) automata.clear();
  const dfa = toDfa(pattern, MAX_STATES, "ascii");
  const fitting = dfa && fits(dfa) ? dfa : undefined;
  automata.set(pattern, fitting);
  return fitting;
}
