import { RE2JS } from "re2js";

/**
 * Regular expressions as Envoy has them, RE2's. Texts are those of a head, a character for each byte, and are taken for
 * UTF-8.
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
  const compiled = RE2JS.compile(pattern);
  return { matches: (text) => compiled.matches(decode(text)) };
}

/**
 * Throws an Error that says what is wrong with the pattern or with the substitution, where `\1` stands for the first
 * group, `\0` for all that matched and `\\` for a backslash.
 */
export function compileRewrite(pattern: string, substitution: string): Rewrite {
  const compiled = RE2JS.compile(pattern);
  const parts = parseSubstitution(substitution, compiled.groupCount());
  return { replaceAll: (text) => encode(replaceAll(compiled, parts, decode(text))) };
}

/** Text, or the number of a group. */
type Part = string | number;

function parseSubstitution(substitution: string, groups: number): Part[] {
  return [...substitution.matchAll(/\\(.?)|[^\\]+/gs)].map(([whole, escaped]) => {
    if (escaped === undefined) return whole;
    if (escaped === "\\") return escaped;
    if (!/[0-9]/.test(escaped))
      throw new Error("a backslash in the substitution must be followed by a digit or another");
    if (Number(escaped) > groups)
      throw new Error(`the substitution asks for group ${escaped}, the pattern has ${groups}`);
    return Number(escaped);
  });
}

/** As RE2::GlobalReplace does it. */
function replaceAll(compiled: RE2JS, parts: readonly Part[], text: string): string {
  const matcher = compiled.matcher(text);
  let out = "";
  let at = 0;
  let lastEnd = -1;
  while (at <= text.length && matcher.find(at)) {
    const [start, end] = [matcher.start(), matcher.end()];
    out += text.slice(at, start);
    if (start === end && start === lastEnd) {
      // Nothing, right behind a match, is no further match.
      out += text.slice(start, start + 1);
      at = start + 1;
      continue;
    }
    for (const part of parts) out += typeof part === "string" ? part : (matcher.group(part) ?? "");
    at = lastEnd = end;
  }
  return out + text.slice(at);
}

const decode = (text: string) => Buffer.from(text, "latin1").toString("utf8");
const encode = (text: string) => Buffer.from(text, "utf8").toString("latin1");
