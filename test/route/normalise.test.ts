import assert from "node:assert/strict";
import { test } from "node:test";
import { guardsOf } from "../../src/compile/guards.ts";
import type { Normalisation } from "../../src/model/config.ts";
import { Headers, matchHeader, matchPath, type RequestHead, withoutQuery } from "../../src/route/match.ts";
import { normalise } from "../../src/route/normalise.ts";
import { Dice } from "../dice.ts";

const headOf = (path: string, authority = "a.test"): RequestHead => ({
  method: "GET",
  authority,
  path,
  headers: [["Host", authority]],
});

/** What rules see; `→ path` where the client is sent there, 400 where it is refused. */
function seen(options: Normalisation, path: string, authority?: string): string | number {
  const normalised = normalise(headOf(path, authority), options);
  switch (normalised.kind) {
    case "head":
      return authority === undefined ? normalised.head.path : normalised.head.authority;
    case "moved":
      return `→ ${normalised.path}`;
    case "refused":
      return 400;
    default:
      return normalised satisfies never;
  }
}

/* All as Envoy 1.40 answered. */
const PATHS: Readonly<Record<string, string | number>> = {
  "/a/./b": "/a/b",
  "/a/../b": "/b",
  "/a/..": "/",
  "/a/.": "/a/",
  "/..": "/",
  "/../..": "/",
  "/a//b": "/a//b",
  "/a//../b": "/a/b",
  "/a/.../b": "/a/.../b",
  "/.a": "/.a",
  "/a/..b": "/a/..b",
  "/a/%2e/b": "/a/b",
  "/a/%2E%2e/b": "/b",
  "/a/.%2e": "/",
  "/a%2Fb/../c": "/c",
  "/a\\b": "/a/b",
  "/a/..\\;b": "/;b",
  "/%": "/%",
  "/%2": "/%2",
  "/%zz": "/%zz",
  "/a?b/../c": "/a?b/../c",
  "/a/b/../../c/./d?x=%41": "/c/d?x=%41",
  "/%41%7e": "/A~",
  "//": "//",
  "/a/b/..": "/a/",
  "/%5c": "/%5c",
  "/a/%2e%2e%2fb": "/a/..%2fb",
  "/%c3%a9": "/%c3%a9",
  "/a/..;/b": "/b",
  "/a/.;x/b": "/a/b",
  "/a/%2e%2e;/b": "/a/..;/b",
  "/a/...;/b": "/a/...;/b",
  "/a/..%3b/b": "/a/..%3b/b",
  "/a/b;c/..;d": "/a/",
  "/a/b/c/..;x\\../d": "/a/b/d",
  "/a\\..;x": "/a/..;x",
  "/a/b//..;x/..": "/a/",
  "/%00": 400,
  "/a%00/../b": 400,
  "/.;%00x": "/",
  "/%%4141/b": "/%25A41/b",
  "/%4%411": "/%254A1",
  "/%%41z": "/%Az",
  '/x"<>^`{|}y': "/x%22%3C%3E%5E%60%7B%7C%7Dy",
};
for (const [path, expected] of Object.entries(PATHS))
  test(`normalize_path: ${path}`, () => assert.equal(seen({ path: true }, path), expected));

test("slashes are merged behind that, and escaped ones are unescaped before", () => {
  assert.equal(seen({ mergeSlashes: true }, "///a//?x//y"), "/a/?x//y");
  assert.equal(seen({ mergeSlashes: true }, "//"), "//");
  assert.equal(seen({ mergeSlashes: true }, "/a//../b"), "/a/../b");
  assert.equal(seen({ mergeSlashes: true, path: true }, "/a//../b"), "/a/b");
  assert.equal(seen({ escapedSlashes: "reject" }, "/a%2f?x"), 400);
  assert.equal(seen({ escapedSlashes: "reject" }, "/a%252f?%2f"), "/a%252f?%2f");
  assert.equal(seen({ escapedSlashes: "forward" }, "/a%2f../b%5Cc?%2f"), "/a/../b\\c?%2f");
  assert.equal(seen({ escapedSlashes: "forward", path: true, mergeSlashes: true }, "/a%2f%2F../b"), "/a/b");
  assert.equal(seen({ escapedSlashes: "redirect" }, "/a%5Cb?c=%2f"), "→ /a\\b?c=%2f");
  assert.equal(seen({ escapedSlashes: "redirect", path: true }, "/a%2f../b"), "→ /b");
  assert.equal(seen({ escapedSlashes: "redirect" }, "/a"), "/a");
});

const HOSTS: readonly (readonly [host: string, any: string, own: string, dot: string])[] = [
  ["a.test", "a.test", "a.test", "a.test"],
  ["a.test:80", "a.test", "a.test:80", "a.test:80"],
  ["a.test:8080", "a.test", "a.test", "a.test:8080"],
  ["a.test:08080", "a.test", "a.test", "a.test:08080"],
  ["a.test:", "a.test:", "a.test:", "a.test:"],
  ["a.test:x", "a.test:x", "a.test:x", "a.test:x"],
  ["[::1]", "[::1]", "[::1]", "[::1]"],
  ["[::1]:80", "[::1]", "[::1]:80", "[::1]:80"],
  ["a.test.", "a.test.", "a.test.", "a.test"],
  ["a.test.:80", "a.test.", "a.test.:80", "a.test:80"],
  ["a.test..", "a.test..", "a.test..", "a.test."],
  ["[::1].:80", "[::1].", "[::1].:80", "[::1]:80"],
  ["a.test.:x", "a.test.:x", "a.test.:x", "a.test:x"],
  [":80", "", ":80", ":80"],
];
for (const [host, any, own, dot] of HOSTS) {
  test(`without port and dot: ${host}`, () => {
    assert.equal(seen({ port: "any" }, "/", host), any);
    assert.equal(seen({ port: 8080 }, "/", host), own);
    assert.equal(seen({ dot: true }, "/", host), dot);
  });
}

test("Host says what the rules see", () => {
  const normalised = normalise(headOf("/", "a.test.:80"), { port: "any", dot: true });
  assert.deepEqual(normalised.kind === "head" && normalised.head.headers, [["Host", "a.test"]]);
});

test("the kernel path leaves exactly what changes to the slow path", () => {
  const dice = new Dice(7);
  const options: readonly Normalisation[] = [
    { path: true },
    { mergeSlashes: true },
    { escapedSlashes: "forward" },
    { port: "any" },
    { port: 80 },
    { dot: true },
    { path: true, mergeSlashes: true, escapedSlashes: "reject", port: "any", dot: true },
  ];
  let changed = 0;
  for (let i = 0; i < 4_000; i++) {
    const parts = ["/", "/", ".", "..", ";", "a", "%2e", "%2F", "%5c", "%41", "%7F", "%", "\\", "^", "%00", "%2d"];
    const tail = dice.one(["", "?/../"]);
    const path = `/${Array.from({ length: dice.between(0, 5) }, () => dice.one(parts)).join("")}${tail}`;
    const host = Array.from({ length: dice.between(1, 4) }, () =>
      dice.one(["a", ".", ":", "80", "[", "]", ":80"]),
    ).join("");
    const head = headOf(path, host);
    const asked = dice.one(options);
    const normalised = normalise(head, asked);
    const same = normalised.kind === "head" && normalised.head === head;
    const guarded = guardsOf(asked).some(
      (guard) =>
        matchPath(guard.path, withoutQuery(path)) &&
        guard.headers.every((header) => matchHeader(header, new Headers(head))),
    );
    if (!same) changed++;
    /* Merged, two slashes are two slashes. */
    if (asked.mergeSlashes && withoutQuery(path) === "//") continue;
    assert.equal(guarded, !same, `${JSON.stringify(asked)} ${host} ${path}`);
  }
  assert.ok(changed > 1_000, `${changed}`);
});
