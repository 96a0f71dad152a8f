import assert from "node:assert/strict";
import { test } from "node:test";
import { withMark } from "../../src/slowpath/mirror.ts";

test("a mirror's host is marked before its last colon, but not within an IPv6 address", () => {
  const marked = ["a.test", "a.test:80", "a.test:", "a.test:x", "a:0:", "[::1]", "[::1]:80", "x--[::1"].map(withMark);
  assert.deepEqual(marked, [
    "a.test-shadow",
    "a.test-shadow:80",
    "a.test-shadow:",
    "a.test-shadow:x",
    "a:0-shadow:",
    "[::1]-shadow",
    "[::1]-shadow:80",
    "x--[:-shadow:1",
  ]);
});
