import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RE2JS } from "re2js";
import { type Dfa, isPlainlySmall, runDfa, toDfa, toUnionDfa, walk } from "../../src/compile/dfa.ts";
import { anyBytes, anyPattern, commonPattern, commonText, re2Matches } from "../route/patterns.ts";

const bytes = (text: string) => Buffer.from(text, "utf8");
const made = (pattern: string, maxStates = 10_000): Dfa => {
  const dfa = toDfa(pattern, maxStates);
  assert.ok(dfa, `${pattern} has too many states`);
  return dfa;
};
const matches = (pattern: string, text: string) => runDfa(made(pattern), bytes(text));

/** A text that does not die before its end, by these random numbers. */
function wander(dfa: Dfa, choices: readonly number[]): Buffer {
  let state = dfa.start;
  const text: number[] = [];
  for (const choice of choices) {
    const to = (byte: number) => dfa.next[state * dfa.classCount + dfa.classes[byte]!]!;
    const alive = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => to(byte) !== 0);
    if (alive.length === 0) break;
    const byte = alive[choice % alive.length]!;
    text.push(byte);
    state = to(byte);
  }
  return Buffer.from(text);
}

const choices = fc.array(fc.nat(), { maxLength: 12 });

test("typical patterns, and how large they get", (t) => {
  const typical: readonly (readonly [pattern: string, yes: readonly string[], no: readonly string[]])[] = [
    ["/v[0-9]+/users/[^/]+", ["/v1/users/a", "/v12/users/é"], ["/v/users/a", "/v1/users/", "/v1/users/a/"]],
    [".*\\.html", [".html", "/a.html.html"], ["/a.htm", "/a.html?", "/\n.html"]],
    ["^/api/(foo|bar)/.*$", ["/api/foo/", "/api/bar/a/b"], ["/api/foo", "/api/foobar/"]],
    ["(?i)chrome.*", ["Chrome", "cHROME/1"], ["Mozilla"]],
    ["/api/v[0-9]+/.*", ["/api/v1/"], ["/api/v1"]],
    ["/items/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}", ["/items/0123abcd-0123-abcd"], ["/items/0123abcd-0123-abcg"]],
    ["(.*\\.)?example\\.com(:[0-9]+)?", ["example.com", "a.b.example.com:80"], ["xexample.com"]],
    ["^(GET|POST|PUT)$", ["GET", "PUT"], ["GE", "GETPOST"]],
    [".*Android.*Mobile.*", ["x Android y Mobile"], ["Mobile Android"]],
    ["(?i).*(iphone|ipad|ipod).*", ["an iPad", "IPHONE"], ["phone"]],
    ["^(.*?;)?(user=jason)(;.*)?$", ["user=jason", "a=b;user=jason;c"], ["auser=jason", "user=jasonx"]],
    ["/static/.+\\.(css|js|png|jpe?g)", ["/static/a.js", "/static/a/b.jpg"], ["/static/.js", "/static/a.gif"]],
    ["/(en|de|fr)(/.*)?", ["/en", "/de/a"], ["/it", "/enx"]],
    ["Bearer [A-Za-z0-9._~+/-]+=*", ["Bearer a.b.c=="], ["Bearer ", "bearer a"]],
    ["/\\pL+/\\d{4}-\\d{2}", ["/été/2024-01"], ["/1/2024-01"]],
  ];
  for (const [pattern, yes, no] of typical) {
    const dfa = made(pattern);
    t.diagnostic(`${String(dfa.states).padStart(4)} states, ${String(dfa.classCount).padStart(3)} classes  ${pattern}`);
    for (const text of yes) assert.ok(runDfa(dfa, bytes(text)), `${pattern} on ${text}`);
    for (const text of no) assert.ok(!runDfa(dfa, bytes(text)), `${pattern} not on ${text}`);
  }
});

test("state 0 is dead", () => {
  for (const pattern of ["", "a", ".*", "[^\\x00-\\x{10ffff}]", "a\\bb"]) {
    const { next, classCount, accepts, states, classes } = made(pattern);
    assert.ok(next.subarray(0, classCount).every((state) => state === 0));
    assert.equal(accepts[0], 0);
    assert.deepEqual([next.length, accepts.length, classes.length], [states * classCount, states, 256]);
  }
});

test("a pattern that nothing matches is its dead state", () => {
  for (const pattern of ["[^\\x00-\\x{10ffff}]", "a\\bb", "a^", "\\b"]) {
    assert.deepEqual([made(pattern).states, made(pattern).start], [1, 0], pattern);
  }
});

test("anchors and boundaries", () => {
  assert.ok(matches("", "") && !matches("", "a"));
  assert.ok(matches("^$", "") && matches("\\A\\z", ""));
  assert.ok(matches("^a$", "a") && !matches("^a$", "a\n"));
  assert.ok(matches("(?m)a$\\n^b", "a\nb") && !matches("a$\\n^b", "a\nb"));
  assert.ok(matches("(?m)(^a$\\n?)*", "a\na\na") && !matches("(?m)(^a$\\n?)*", "aa"));
  assert.ok(matches("\\bfoo\\b.*", "foo bar") && !matches("\\bfoo\\b.*", "foobar"));
  assert.ok(matches(".*\\Bo", "foo") && !matches(".*\\Bo", "f o"));
  assert.ok(matches("é\\b\\w", "éa") && !matches("é\\bé", "éé"));
  assert.ok(matches("\\B", "") && !matches("\\b", ""));
});

test("cases, classes, repetitions", () => {
  assert.ok(matches("(?i)straße", "STRAßE") && matches("(?i)ſ", "S") && matches("(?i)é", "É"));
  assert.ok(matches("(?i)\\x00\\x01", "\0\x01") && matches("(?i)1\\x{10ffff}", "1\u{10ffff}"));
  assert.ok(matches("a(?i)b", "aB") && !matches("a(?i)b", "AB") && !matches("(?i:a)b", "aB"));
  assert.ok(matches("[\\p{Greek}0-9]+", "α1") && !matches("[[:^alpha:]]", "a"));
  assert.ok(!matches(".", "\n") && matches("(?s).", "\n"));
  assert.ok(matches("a{2,3}", "aaa") && !matches("a{2,3}", "aaaa") && matches("a{0}", ""));
  assert.ok(matches("(|a)+", "aa") && matches("(a*)*", "") && matches("(a|b|)c", "c"));
  assert.ok(matches("\\Qa.b\\E+", "a.bb") && !matches("\\Qa.b\\E", "axb"));
});

test("the automaton is the smallest: equal meanings give equal automata", () => {
  const same: readonly (readonly [string, string])[] = [
    ["a|b", "[ab]"],
    ["(a*)*", "a*"],
    ["a{2,}", "aa+"],
    ["a.*?b", "a.*b"],
    ["(?:ab|ac|ad)", "a[b-d]"],
    ["(?i)ab", "[aA][bB]"],
    ["^\\bfoo\\b$", "foo"],
    ["(x|y)*x(x|y)", "[xy]*x[xy]"],
    ["(?s).*", "(?s)(.|..)*"],
  ];
  for (const [one, other] of same) assert.deepEqual(made(one), made(other), `${one} and ${other}`);
  assert.equal(made("(a|b)*a(a|b){7}").states, 2 ** 8 + 1);
});

test("what explodes is given up in time", () => {
  assert.equal(toDfa("(a|b)*a(a|b){20}", 4_096), undefined);
  assert.throws(() => toDfa("(\\pL|\\d)*a(\\pL|\\d){300}", 4_096), { message: /more than 100000 steps/ });
  assert.equal(toDfa("(.*foo.*){30}(.*a.{20}){30}", 65_536), undefined);
  const slow = Array.from({ length: 40 }, (_, i) => `.*${String.fromCharCode(97 + (i % 26))}${i}.*`);
  assert.equal(toUnionDfa(slow, 4_096), undefined);
  assert.equal(toDfa("abc", 4), undefined);
  assert.equal(toDfa("abc", 5)?.states, 5);
});

test("RE2, re2js and the automaton agree", () => {
  let [matched, texts, skipped] = [0, 0, 0];
  const samples = fc.tuple(
    anyPattern,
    fc.array(anyBytes, { minLength: 6, maxLength: 6 }),
    fc.array(choices, { minLength: 6, maxLength: 6 }),
  );
  fc.assert(
    fc.property(samples, ([pattern, random, walks]) => {
      if (re2Matches(pattern, []) === undefined) return assert.throws(() => toDfa(pattern, 1));
      const dfa = toDfa(pattern, 4_096);
      if (dfa === undefined) {
        skipped++;
        return;
      }
      const all = [...random, ...walks.map((walked) => wander(dfa, walked))];
      const expected = re2Matches(pattern, all);
      assert.deepEqual(
        all.map((text) => runDfa(dfa, text)),
        expected,
      );
      const port = RE2JS.compile(pattern);
      all.forEach((text, i) => {
        texts++;
        if (expected![i]) matched++;
        const utf8 = text.toString("utf8");
        if (Buffer.from(utf8, "utf8").equals(text)) assert.equal(port.testExact(utf8), expected![i], "re2js");
      });
    }),
    { numRuns: 1_500 },
  );
  assert.ok(matched > texts / 10 && skipped < 150, `${matched} of ${texts} matched, ${skipped} too large`);
});

test("an automaton over ASCII says the same of its texts, and is small where that is said to be plain", () => {
  const ascii = fc.uint8Array({ max: 0x7f, maxLength: 8 });
  const samples = fc.tuple(
    anyPattern,
    fc.array(ascii, { minLength: 6, maxLength: 6 }),
    fc.array(choices, { minLength: 6, maxLength: 6 }),
    fc.integer({ min: 2, max: 64 }),
  );
  let [plain, walked] = [0, 0];
  fc.assert(
    fc.property(samples, ([pattern, random, walks, size]) => {
      if (re2Matches(pattern, []) === undefined) return;
      const [small, whole] = [toDfa(pattern, 4_096, "ascii"), toDfa(pattern, 4_096)];
      if (isPlainlySmall(pattern, size)) {
        plain++;
        assert.ok(small!.states <= size, `${pattern}: ${small?.states} states, not ${size}`);
      }
      if (small === undefined || whole === undefined) return;
      assert.ok(small.states <= whole.states, pattern);
      for (const text of [...random, ...walks.map((walk) => wander(small, walk))]) {
        if (runDfa(small, text)) walked++;
        assert.equal(runDfa(small, text), runDfa(whole, text), `${pattern} on ${Buffer.from(text).toString("hex")}`);
      }
    }),
    { numRuns: 1_000 },
  );
  assert.ok(plain > 100 && walked > 500, `${plain} plainly small, ${walked} texts matched`);
});

test("many patterns are told to be small, and combined, in work that is theirs alone", () => {
  const patterns = Array.from({ length: 10_000 }, (_, i) => `[a-z]+/svc-${String(i).padStart(5, "0")}(/.*)?`);
  assert.ok(patterns.every((pattern) => isPlainlySmall(pattern, 256)));
  const work = 100 * patterns.length;
  const union = toUnionDfa(patterns, 0x10000, work, "ascii");
  assert.ok(union);
  assert.ok(union.next.length <= 40 * patterns.length, `${union.next.length} places`);
});

test("JavaScript's own expressions agree", () => {
  const flags = fc.constantFrom(["s", "(?s)"], ["si", "(?si)"], ["sm", "(?sm)"]);
  const samples = fc.tuple(commonPattern, flags, fc.array(commonText, { minLength: 6, maxLength: 6 }));
  fc.assert(
    fc.property(samples, ([pattern, [theirs, ours], texts]) => {
      // With the flag m `^` and `$` are of lines; the lookarounds hold the whole text even so.
      const expected = new RegExp(`(?<![^])(?:${pattern})(?![^])`, theirs);
      const dfa = toDfa(`${ours}${pattern}`, 4_096);
      for (const text of dfa === undefined ? [] : texts) {
        assert.equal(runDfa(dfa!, bytes(text)), expected.test(text), `${ours}${pattern} on ${JSON.stringify(text)}`);
      }
    }),
    { numRuns: 2_000 },
  );
});

test("a union tells which of its patterns match", () => {
  const union = toUnionDfa(["/a/.*", "/a/b", "(?i)/A/.", "/[^/]+/b"], 1_000);
  assert.ok(union);
  const which = (text: string) => union.accepting[walk(union, bytes(text))];
  assert.deepEqual(which("/a/b"), [0, 1, 2, 3]);
  assert.deepEqual(which("/A/b"), [2, 3]);
  assert.deepEqual(which("/a/bc"), [0]);
  assert.deepEqual(which("/"), []);
  assert.deepEqual(union.accepting[0], []);
  assert.equal(which("/a/xy"), which("/a/"));
  assert.deepEqual(toUnionDfa([], 10)?.states, 1);
});

test("a union agrees with its patterns' own automata", () => {
  const samples = fc.tuple(
    fc.array(anyPattern, { minLength: 1, maxLength: 5 }),
    fc.array(anyBytes, { minLength: 10, maxLength: 10 }),
  );
  fc.assert(
    fc.property(samples, ([all, texts]) => {
      const patterns = all.filter((pattern) => re2Matches(pattern, []) !== undefined);
      const alone = patterns.map((pattern) => toDfa(pattern, 4_096));
      const union = toUnionDfa(patterns, 4_096);
      if (union === undefined) return;
      assert.equal(new Set(union.accepting).size, new Set(union.accepting.map(String)).size);
      for (const text of texts) {
        const expected = alone.flatMap((dfa, i) => (dfa !== undefined && runDfa(dfa, text) ? [i] : []));
        assert.deepEqual(
          union.accepting[walk(union, text)],
          expected,
          `${patterns.join(" , ")} on ${text.toString("hex")}`,
        );
      }
    }),
    { numRuns: 250 },
  );
});

test("many routes are one walk: 1,000 patterns", (t) => {
  const patterns = Array.from({ length: 1_000 }, (_, i) => `/service-${i}/v[0-9]+/.*`);
  const union = toUnionDfa(patterns, 16_384);
  assert.ok(union);
  t.diagnostic(`${union.states} states, ${union.classCount} classes, ${union.next.byteLength} bytes of table`);
  assert.deepEqual(union.accepting[walk(union, bytes("/service-421/v2/a"))], [421]);
  assert.deepEqual(union.accepting[walk(union, bytes("/service-1000/v2/a"))], []);
});
