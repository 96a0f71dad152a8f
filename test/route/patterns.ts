import fc from "fast-check";
import wasm from "re2-wasm/build/wasm/re2.js";

/** Random regular expressions of RE2, texts for them, and Google's RE2 to say what is right. */

/** Few characters, among them such whose case is no matter of ASCII, and such of two, three and four bytes. */
const CHARACTERS = ["a", "b", "k", "K", "s", "/", "0", "_", "-", "\n", "é", "É", "€", "ſ", "😀"];
const CLASSES = [
  ".",
  "[a-c]",
  "[^a]",
  "[^/]",
  "[^é]",
  "[à-ÿ]",
  "[a-kÀ-ÿ€]",
  "[^\\x{80}-\\x{10ffff}]",
  "\\d",
  "\\w",
  "\\W",
];
const UNICODE = [
  "\\s",
  "\\p{Thai}",
  "\\P{Thai}",
  "\\p{Greek}",
  "[[:alpha:]]",
  "[^[:upper:]]",
  "\\x{10ffff}",
  "[\\x{d7ff}-\\x{e000}]",
];
const ASSERTIONS = ["^", "$", "\\A", "\\z", "\\b", "\\B"];
const REPEATS = ["*", "+", "?", "*?", "+?", "??", "{2}", "{0,2}", "{1,}", "{2,3}?"];
const GROUPS = ["(", "(?:", "(?P<name>", "(?i:", "(?s:", "(?m:", "(?ims:", "(?U:"];

/** Patterns of these parts; if `flat`, no group is repeated. */
function patternOf(atoms: readonly string[], groups: readonly string[], flat = false): fc.Arbitrary<string> {
  const { pattern } = fc.letrec<{ pattern: string; piece: string; node: string }>((tie) => ({
    pattern: fc.array(tie("piece"), { maxLength: 3 }).map((pieces) => pieces.join("")),
    piece: fc.oneof(
      { weight: 3, arbitrary: tie("node") },
      {
        weight: 2,
        arbitrary: fc
          .tuple(flat ? fc.constantFrom(...atoms) : tie("node"), fc.constantFrom(...REPEATS))
          .map(([node, repeat]) => node + repeat),
      },
    ),
    node: fc.oneof(
      { depthSize: "xsmall", withCrossShrink: true },
      { weight: 5, arbitrary: fc.constantFrom(...atoms) },
      {
        weight: 2,
        arbitrary: fc
          .tuple(fc.constantFrom(...groups), fc.array(tie("pattern"), { minLength: 1, maxLength: 3 }))
          .map(([open, ways]) => `${open}${ways.join("|")})`),
      },
    ),
  }));
  return pattern;
}

export const anyPattern = patternOf([...CHARACTERS, ...CLASSES, ...UNICODE, ...ASSERTIONS], GROUPS);

/** JavaScript repeats assertions in groups only. */
const COMMON = [
  "a",
  "b",
  "k",
  "K",
  "/",
  "0",
  "_",
  "\\.",
  ".",
  "[a-c]",
  "[^a]",
  "\\d",
  "\\w",
  "\\W",
  "(?:^)",
  "(?:$)",
  "(?:\\b)",
  "(?:\\B)",
];

/** What RE2 and JavaScript understand alike, on ASCII and with the flag `s`. */
export const commonPattern = patternOf(COMMON, ["(", "(?:"]);

/** Which of several matches RE2 prefers where what is repeated may be empty was changed in 2021, after re2-wasm. */
export const flatPattern = patternOf(COMMON, ["(", "(?:"], true);

/** Bytes that are no UTF-8, but for some of them in the right company. */
const STRAY = [0x80, 0xbf, 0xc0, 0xc3, 0xe0, 0xed, 0xf0, 0xf4, 0xf5, 0xff];

/** Mostly UTF-8. */
export const anyBytes: fc.Arbitrary<Buffer> = fc
  .array(
    fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom(...CHARACTERS).map((c) => Buffer.from(c, "utf8")) },
      { weight: 1, arbitrary: fc.constantFrom(...STRAY).map((byte) => Buffer.from([byte])) },
      {
        weight: 1,
        arbitrary: fc.constantFrom("eda080", "e08080", "f0808080", "f4908080").map((hex) => Buffer.from(hex, "hex")),
      },
    ),
    { maxLength: 8 },
  )
  .map((parts) => Buffer.concat(parts));

export const commonText = fc
  .array(fc.constantFrom("a", "b", "k", "K", "/", "0", "_", ".", "\n"), { maxLength: 7 })
  .map((letters) => letters.join(""));

/** What `use` makes of a pattern that Google's RE2 compiled; undefined if it does not take it. */
function withRe2<T>(pattern: string, use: (compiled: InstanceType<typeof wasm.WrappedRE2>) => T): T | undefined {
  const compiled = new wasm.WrappedRE2(pattern, false, false, false) as InstanceType<typeof wasm.WrappedRE2> & {
    delete(): void;
  };
  try {
    return compiled.ok() ? use(compiled) : undefined;
  } finally {
    compiled.delete();
  }
}

/** Whether Google's RE2 takes each of the texts as a whole; undefined if it does not take the pattern. */
export function re2Matches(pattern: string, texts: readonly Uint8Array[]): boolean[] | undefined {
  // RE2 takes a name twice, re2js does not.
  if (pattern.split("(?P<name>").length > 2) return undefined;
  if (withRe2(pattern, () => true) === undefined) return undefined;
  // It takes bytes, too, whatever its types say.
  return withRe2(`\\A(?:${pattern})\\z`, (whole) =>
    texts.map((text) => whole.match(text as unknown as string, 0, false).index >= 0),
  );
}

/** What Google's RE2::GlobalReplace makes of an ASCII text if each match is replaced by its groups, and how many. */
export function re2Replace(pattern: string, text: string): { replaced: string; groups: number } | undefined {
  return withRe2(pattern, (compiled) => {
    let [replaced, at, lastEnd, groups] = ["", 0, -1, 0];
    while (at <= text.length) {
      const found = compiled.match(text, at, true);
      if (found.index < 0) break;
      replaced += text.slice(at, found.index);
      if (found.match === "" && found.index === lastEnd) {
        replaced += text.slice(at, ++at);
        continue;
      }
      const shown = [found.match, ...found.groups].slice(0, 10).map((group) => group ?? "");
      groups = shown.length - 1;
      replaced += `<${shown.join(";")}>`;
      at = lastEnd = found.index + found.match.length;
    }
    return { replaced: replaced + text.slice(at), groups };
  });
}
