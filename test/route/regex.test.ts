import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { compileRegex, compileRewrite } from "../../src/route/regex.ts";
import { anyBytes, anyPattern, commonText, flatPattern, re2Matches, re2Replace } from "./patterns.ts";

const latin1 = (text: string) => Buffer.from(text, "utf8").toString("latin1");
const matches = (pattern: string, text: string) => compileRegex(pattern).matches(latin1(text));
const rewrite = (pattern: string, substitution: string, text: string) =>
  Buffer.from(compileRewrite(pattern, substitution).replaceAll(latin1(text)), "latin1").toString("utf8");

test("a pattern matches the whole text, or not at all", () => {
  assert.ok(matches("/v[0-9]+/users/[^/]+", "/v2/users/me"));
  assert.ok(!matches("/v[0-9]+/users/[^/]+", "/v2/users/me/too"));
  assert.ok(!matches("/v[0-9]+/users/[^/]+", "x/v2/users/me"));
  assert.ok(matches("a|ab", "ab"));
  assert.ok(matches("^/api/(foo|bar)/.*$", "/api/bar/"));
  assert.ok(!matches("^/api/(foo|bar)/.*$", "/api/baz/"));
  assert.ok(matches("(?i)chrome.*", "CHROME/1"));
  assert.ok(matches("", ""));
  assert.ok(!matches("", "a"));
  assert.ok(!matches("a.b", "a\nb"));
  assert.ok(matches("(?s)a.b", "a\nb"));
  assert.ok(!matches("a$", "a\n"));
  assert.ok(matches("(?m)a$\n^b", "a\nb"));
});

test("characters are those of UTF-8", () => {
  assert.ok(matches("caf.", "café"));
  assert.ok(!matches("caf..", "café"));
  assert.ok(matches("(?i)CAFÉ", "café"));
  assert.ok(matches("(?i)k", "\u212a"));
  assert.ok(matches("\\pL+", "жук"));
  assert.ok(matches(".", "😀"));
});

test("bytes that are no UTF-8 match nothing, but what RE2 lets pass", () => {
  const dot = compileRegex("(?s).");
  for (const text of ["\x80", "\xff", "\xc3", "\xc0\x80", "\xe2\x82", "\xf5\x80\x80\x80"])
    assert.ok(!dot.matches(text));
  assert.ok(!compileRegex("(?s).*").matches("/a\xffb"));
  assert.ok(!compileRegex("[^a]").matches("\xff"));
  assert.ok(!compileRegex("\xff").matches("\xff"));
  for (const lax of ["\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80"]) {
    assert.ok(dot.matches(lax));
    assert.ok(!compileRegex("[\\x{80}-\\x{10fffe}]").matches(lax) || lax === "\xed\xa0\x80");
  }
});

test("what is wrong with a pattern is said", () => {
  const wrong: readonly (readonly [string, RegExp])[] = [
    ["[a", /missing closing \]/],
    ["(a", /missing closing \)/],
    ["a)", /unexpected \)|missing/],
    ["*a", /missing argument to repetition operator/],
    ["a**", /invalid nested repetition operator/],
    ["a{1001}", /invalid repeat count/],
    ["(a{100}){100}", /invalid repeat count/],
    ["\\", /trailing backslash/],
    ["\\8", /invalid escape sequence/],
    ["[z-a]", /invalid character class range/],
    ["(?=a)", /invalid or unsupported Perl syntax/],
    ["(?<=a)b", /./],
    ["(?<!a)b", /./],
    ["\\pX", /invalid character class range/],
    ["(?P<n>a)(?P<n>b)", /duplicate/],
    ["\\C", /./],
  ];
  for (const [pattern, message] of wrong) assert.throws(() => compileRegex(pattern), { message });
});

test("RE2 takes the same patterns, and finds that the same texts match", () => {
  let matched = 0;
  const pairs = fc.tuple(anyPattern, fc.array(anyBytes, { minLength: 8, maxLength: 8 }));
  fc.assert(
    fc.property(pairs, ([pattern, texts]) => {
      const expected = re2Matches(pattern, texts);
      if (expected === undefined) return assert.throws(() => compileRegex(pattern));
      const regex = compileRegex(pattern);
      assert.deepEqual(
        texts.map((text) => regex.matches(text.toString("latin1"))),
        expected,
      );
      matched += expected.filter((yes) => yes).length;
    }),
    { numRuns: 1_500 },
  );
  assert.ok(matched > 500, `${matched} matched`);
});

test("substitution, as RE2::GlobalReplace does it", () => {
  assert.equal(rewrite("^/service/([^/]+)(/.*)$", "\\2/instance/\\1", "/service/foo/v1/api"), "/v1/api/instance/foo");
  assert.equal(rewrite("one", "two", "/xxx/one/yyy/one/zzz"), "/xxx/two/yyy/two/zzz");
  assert.equal(rewrite("^(.*?)one(.*)$", "\\1two\\2", "/xxx/one/yyy/one/zzz"), "/xxx/two/yyy/one/zzz");
  assert.equal(rewrite("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb"), "/aaa/yyy/bbb");
  assert.equal(rewrite("a", "\\\\\\0", "banana"), "b\\an\\an\\a");
  assert.equal(rewrite("(a)|(b)", "[\\1\\2]", "abc"), "[a][b]c");
  assert.equal(rewrite("a|ab", "x", "ab"), "xb");
  assert.equal(rewrite("\\bb", "x", "bb b"), "xb x");
  assert.equal(rewrite("^a", "x", "aaa"), "xaa");
  assert.equal(rewrite("é", "ü", "caféé"), "cafüü");
});

test("empty matches: one between two characters, none right behind a match", () => {
  // These are of re2_test.cc.
  assert.equal(rewrite("a*", "(\\0)", "baaac"), "()b(aaa)c()");
  assert.equal(rewrite("b*", "bb", "ababab"), "bbabbabbabb");
  assert.equal(rewrite("b*", "bb", "bbbbbb"), "bb");
  assert.equal(rewrite("b*", "bb", "aaaaa"), "bbabbabbabbabbabb");
  assert.equal(rewrite("b", "bb", "aaaaa"), "aaaaa");
  assert.equal(rewrite("", "-", "ab"), "-a-b-");
  assert.equal(rewrite("a*", "-", "é€"), "-é-€-");
  assert.equal(rewrite("a*", "-", ""), "-");
  assert.equal(compileRewrite("a*", "-").replaceAll("\xffé"), "-\xff-é-");
});

test("what is wrong with a substitution is said", () => {
  assert.throws(() => compileRewrite("(a)", "\\2"), { message: /asks for group 2, the pattern has 1/ });
  assert.throws(() => compileRewrite("a", "x\\"), { message: /followed by a digit or a backslash/ });
  assert.throws(() => compileRewrite("a", "\\x"), { message: /followed by a digit or a backslash/ });
  assert.throws(() => compileRewrite("(a", "x"), { message: /missing closing \)/ });
  assert.equal(compileRewrite("(a)", "\\1\\0").replaceAll("a"), "aa");
});

test("RE2 finds the same matches, and the same groups in them", () => {
  fc.assert(
    fc.property(flatPattern, commonText, (pattern, text) => {
      const expected = re2Replace(pattern, text);
      assert.ok(expected);
      const substitution = `<${Array.from({ length: expected.groups + 1 }, (_, i) => `\\${i}`).join(";")}>`;
      assert.equal(compileRewrite(pattern, substitution).replaceAll(text), expected.replaced);
    }),
    { numRuns: 3_000 },
  );
});
