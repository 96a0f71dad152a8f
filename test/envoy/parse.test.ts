import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { formatRejections, parseBootstrap } from "../../src/envoy/parse.ts";

/**
 * good/NAME.yaml gives NAME.expected.json, bad/NAME.yaml gives NAME.expected.txt. `UPDATE=1` writes what came out.
 * A first line `# overlay: TEXT` is --config-yaml.
 */
const folder = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const inputs = (name: string) =>
  readdirSync(folder(name)).filter((file) => /\.(yaml|json)$/.test(file) && !file.includes(".expected."));

for (const file of inputs("good")) {
  test(`good/${file}`, () => {
    const result = parseFile(`good/${file}`);
    assert.ok(result.ok, result.ok ? "" : formatRejections(result.rejections, file).join("\n"));
    expectFile(`good/${file}.expected.json`, `${JSON.stringify(result.value, null, 2)}\n`);
  });
}

for (const file of inputs("bad")) {
  test(`bad/${file}`, () => {
    const result = parseFile(`bad/${file}`);
    assert.ok(!result.ok);
    expectFile(`bad/${file}.expected.txt`, `${formatRejections(result.rejections, file).join("\n")}\n`);
  });
}

test("every rejection has a place in the text", () => {
  for (const file of inputs("bad")) {
    const lines = readFileSync(folder(`bad/${file}`), "utf8").split("\n");
    const result = parseFile(`bad/${file}`);
    for (const { line, column, file: other } of result.ok ? [] : result.rejections) {
      if (other !== undefined) continue;
      assert.ok(line !== undefined && line >= 1 && line <= lines.length, `${file}: line ${line}`);
      assert.ok(
        column !== undefined && column >= 1 && column <= lines[line - 1]!.length + 1,
        `${file}: column ${column}`,
      );
    }
  }
});

test("no text makes it throw", () => {
  const base = readFileSync(folder("good/everything.yaml"), "utf8");
  const lines = base.split("\n");
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(lines.length - 1), fc.constantFrom("drop", "indent", "null", "list", "text", "number"))),
      (edits) => {
        const edited = [...lines];
        for (const [at, edit] of edits) edited[at] = mutate(edited[at]!, edit);
        parseBootstrap(edited.join("\n"));
      },
    ),
    { numRuns: 300 },
  );
  fc.assert(fc.property(fc.string(), (text) => void parseBootstrap(text)));
  fc.assert(fc.property(fc.json(), (text) => void parseBootstrap(text)));
});

test("every field of every message, set to an empty mapping, is refused or read but never throws", () => {
  const base = readFileSync(folder("good/everything.yaml"), "utf8");
  for (const path of ["static_resources:", "  clusters:", "        route_config:", "              routes:"]) {
    assert.ok(base.includes(path));
    parseBootstrap(base.replace(path, `${path} {}\nignored:`));
  }
});

test("aliases of aliases end", () => {
  const levels = Array.from({ length: 30 }, (_, i) => `!ignore a${i + 1}: &a${i + 1} {policies: [*a${i}, *a${i}]}`);
  const text = [
    "!ignore a0: &a0 {x: y}",
    ...levels,
    "node: {metadata: *a30}",
    "overload_manager: *a30",
    "watchdogs: *a30",
  ];
  assert.equal(parseBootstrap(text.join("\n")).ok, false);
  const circle = parseBootstrap("static_resources: &s {clusters: [{load_assignment: *s}], secrets: *s}");
  assert.equal(circle.ok, false);
});

function mutate(line: string, edit: string): string {
  const [, key] = /^(\s*(?:- )?\S+:)/.exec(line) ?? [];
  switch (edit) {
    case "drop":
      return "";
    case "indent":
      return `  ${line}`;
    default:
      return key === undefined
        ? line
        : `${key} ${{ null: "~", list: "[1, {a: b}]", text: "abc", number: "-1.5" }[edit]}`;
  }
}

function parseFile(name: string) {
  const text = readFileSync(folder(name), "utf8");
  const [, overlay] = /^# overlay: (.*)\n/.exec(text) ?? [];
  return parseBootstrap(text, name, overlay);
}

function expectFile(name: string, actual: string): void {
  if (process.env.UPDATE === "1") writeFileSync(folder(name), actual);
  assert.equal(actual, readFileSync(folder(name), "utf8"));
}
