import assert from "node:assert/strict";
import { test } from "node:test";
import { parseUriRewrite, parseUriTemplate } from "../../src/envoy/uri-template.ts";
import { compileRegex } from "../../src/route/regex.ts";
import { rewritePath } from "../../src/route/rewrite.ts";

/** URI templates as Envoy's source/extensions/path takes, matches and rewrites them. */

const takes: readonly (readonly [template: string, yes: readonly string[], no: readonly string[]])[] = [
  ["/", ["/"], ["/a", ""]],
  ["/a/", ["/a/"], ["/a", "/a//"]],
  ["/videos/*/*/*.m4s", ["/videos/1/hls/1080p5_01.m4s"], ["/videos/1/1080p5_01.m4s", "/videos/1/2/3/4.m4s"]],
  ["/videos/{file}", ["/videos/a.m4s", "/videos/%41:@~", "/videos/a=b*"], ["/videos/", "/videos/a/b", "/videos/a|b"]],
  ["/**.mpd", ["/content/123/manifest.mpd", "/.mpd"], ["/content/mpd", "/a.mpd/"]],
  ["/{all=**}", ["/", "/a", "/a/b//", "/a=b"], ['/a"b']],
  ["/{x=*/**}/end", ["/a//end", "/a/b/c/end"], ["/a/end"]],
  ["/{x=videos/*}/y", ["/videos/1/y"], ["/videos/y", "/audio/1/y"]],
  ["/a$b+(c).d", ["/a$b+(c).d"], ["/a$b+(c)xd"]],
  ["/*/", ["/a/"], ["/a", "//"]],
];

for (const [template, yes, no] of takes) {
  test(`${template} takes ${yes[0]}, not ${no[0]}`, () => {
    const parsed = parseUriTemplate(template);
    assert.ok(parsed.ok, JSON.stringify(parsed));
    const regex = compileRegex(parsed.value.pattern);
    assert.deepEqual(
      [...yes, ...no].filter((path) => regex.matches(path)),
      yes,
    );
  });
}

test("what Envoy refuses is refused", () => {
  const long = "abcdefghijklmnopq";
  for (const template of [
    ...["", "a", "/a b", "//", "/a//b", "/a*b", "/***", "/ä", "/a?b", "/{a}{b}", "/*{b}", "/{a}.b/c"],
    ...["/{a", "/a}", "/{}", "/{1}", "/{a-b}", "/{a=}", "/{a=x/}", "/{a=/x}", "/{a=x*}", `/{${long}}`],
    ...["/**/*", "/**/{x}", "/**/{x=*}", "/{x=**}/*", "/{x=**/*}", "/{a}/{a}", "/{a}/{b}/{c}/{d}/{e}/{f}"],
  ]) {
    assert.equal(parseUriTemplate(template).ok, false, template);
  }
  const names = ["a", "b"];
  for (const rewrite of ["", "x", "//", "/x{", "/}", "/{c}", "/{}", "/{a}?b", "/*"])
    assert.equal(parseUriRewrite(rewrite, names).ok, false, rewrite);
});

test("a rewrite puts in what the variables matched, and keeps the query", () => {
  const parsed = parseUriTemplate("/{lang}/docs/{rest=**}");
  assert.ok(parsed.ok);
  const rewrite = parseUriRewrite("/site/{rest}.{lang}/{lang}", parsed.value.names);
  assert.ok(rewrite.ok);
  const pattern = `^${parsed.value.pattern}$`;
  const match = { kind: "regex", pattern: parsed.value.pattern } as const;
  const path = (old: string) => rewritePath({ kind: "regex", pattern, substitution: rewrite.value }, match, old);
  assert.equal(path("/de/docs/a/b?x=/y"), "/site/a/b.de/de?x=/y");
  assert.equal(path("/de/docs/"), "/site/.de/de");
});
