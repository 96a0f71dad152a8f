import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { parse } from "yaml";
import { messageNamed } from "../src/envoy/descriptors.ts";
import { reasonWords } from "../src/tables/layout.gen.ts";
import { fieldPage } from "../tools/fieldpage.ts";
import { collectWritten } from "./envoy/written.ts";

/** The documents name what the program has, and lead to what is there. */

const root = fileURLToPath(new URL("..", import.meta.url));
const readText = (path: string) => readFileSync(join(root, path), "utf8");

/** The checkout may belong to somebody else than root, who runs the tests. */
const TRUST = ["-c", "safe.directory=*"];

function documents(): string[] {
  const listed = execFileSync("git", [...TRUST, "ls-files", "-coz", "--exclude-standard", "*.md"], {
    cwd: root,
    encoding: "utf8",
  });
  return listed.split("\0").filter((path) => path !== "" && existsSync(join(root, path)));
}

/** The words that begin a row of docs/reasons.md. */
const rows = () => [...readText("docs/reasons.md").matchAll(/^\| `(\w+)` \|/gm)].map(([, word = ""]) => word);

test("docs/reasons.md has one row for each reason, and no other", () => {
  const reasons = Object.values(reasonWords).filter((word) => word !== "count");
  assert.deepEqual(rows().sort(), reasons.sort());
});

const MAIN = join(root, "src/cli/main.ts");
const run = promisify(execFile);

/** What `--help` says of a command, and of those below it. */
async function helpOf(command: readonly string[]): Promise<{ command: string; text: string }[]> {
  const { stdout } = await run(process.execPath, ["--import", "tsx", MAIN, ...command, "--help"], { cwd: root });
  const listed = /^Commands:\n((?: .*\n)*)/m.exec(stdout)?.[1] ?? "";
  const below = [...listed.matchAll(/^ {2}([a-z-]+)/gm)].map(([, name = ""]) => name).filter((name) => name !== "help");
  const helps = await Promise.all(below.map((name) => helpOf([...command, name])));
  return [{ command: ["xlb", ...command].join(" "), text: stdout }, ...helps.flat()];
}

test("README.md or docs/cli.md names every command and every long flag", { timeout: 300_000 }, async () => {
  const text = readText("README.md") + readText("docs/cli.md");
  const helps = await helpOf([]);
  assert.ok(helps.length > 5, `only ${helps.map(({ command }) => command)} found`);
  const missing = helps.flatMap(({ command, text: help }) => {
    const flags = [...help.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm)].map(([, flag = ""]) => flag);
    const absent = flags.filter((flag) => !new RegExp(`${flag}(?![\\w-])`).test(text));
    return [
      ...(new RegExp(`${command}(?![\\w-])`).test(text) ? [] : [command]),
      ...absent.map((flag) => `${command} ${flag}`),
    ];
  });
  assert.deepEqual(missing, []);
});

test("docs/fields.md is what `make fields` writes", () => {
  assert.equal(readText("docs/fields.md"), fieldPage(), "run `make fields`");
});

test("docs/fields.md calls nothing refused that one of the configurations in test/envoy/good has", () => {
  const folder = join(root, "test/envoy/good");
  const written = new Set<string>();
  const texts = readdirSync(folder).filter((name) => /^[\w-]+\.(?:yaml|json)$/.test(name));
  for (const name of texts)
    collectWritten(
      messageNamed("envoy.config.bootstrap.v3.Bootstrap"),
      parse(readText(join("test/envoy/good", name)), { logLevel: "error" }),
      written,
    );
  assert.ok(written.size > 250, `only ${written.size} fields`);
  const taken = new Set<string>();
  const refused = new Set<string>();
  for (const section of readText("docs/fields.md").split(/^## /m).slice(1)) {
    const type = /^`(envoy\.[\w.]+)`/m.exec(section)?.[1];
    for (const [, field] of section.matchAll(/^\| `(\w+)` \|/gm)) taken.add(`${type}.${field}`);
    const list = /^Refused: ([\s\S]*?)\.$/m.exec(section)?.[1] ?? "";
    for (const [, field] of list.matchAll(/`(\w+)`/g)) refused.add(`${type}.${field}`);
  }
  assert.deepEqual(
    [...written].filter((name) => refused.has(name) && !taken.has(name)),
    [],
  );
});

/** As GitHub makes them of headings. */
function anchorsOf(markdown: string): Set<string> {
  const headings = [...withoutCode(markdown).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => heading);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}

const withoutCode = (markdown: string) => markdown.replace(/^```.*?^```/gms, "");

test("relative links of all documents lead somewhere", () => {
  const broken = documents().flatMap((path) => {
    const links = [...withoutCode(readText(path)).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = ""]) => link);
    return links
      .filter((link) => !/^[a-z]+:/.test(link))
      .filter((link) => {
        const [file = "", anchor] = link.split("#");
        const target = file === "" ? path : join(dirname(path), file);
        if (!existsSync(join(root, target))) return true;
        return anchor !== undefined && !anchorsOf(readText(target)).has(anchor);
      })
      .map((link) => `${path}: ${link}`);
  });
  assert.deepEqual(broken, []);
});
