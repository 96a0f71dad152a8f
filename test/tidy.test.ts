import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

/** The house rules of STYLE.md, as far as a machine can see them. */

const root = fileURLToPath(new URL("..", import.meta.url));

/** A room imports only rooms of a lower rank. */
const RANKS: Readonly<Record<string, number>> = {
  model: 0,
  tables: 0,
  envoy: 1,
  route: 1,
  compile: 1,
  sync: 1,
  admin: 1,
  xds: 2,
  kernel: 2,
  pool: 2,
  slowpath: 2,
  health: 2,
  stats: 2,
  daemon: 3,
  cli: 3,
};
/** `cli` knows the daemon by its messages alone; its main.ts, a composition root, loads the rest when asked to. */
const COMPOSITION_ROOT = "src/cli/main.ts";
const MAX_LINE = 120;
/** Protobuf is known to those who read Envoy's bytes. */
const PROTOBUF_ROOMS = new Set(["envoy", "xds"]);

/** The checkout may belong to somebody else than root, who runs the tests. */
const TRUST = ["-c", "safe.directory=*"];

interface Source {
  readonly path: string;
  readonly lines: readonly string[];
}

const tracked = listFiles().map((path) => ({ path, lines: readFileSync(join(root, path), "utf8").split("\n") }));
const inFolder = (...folders: string[]) => tracked.filter(({ path }) => folders.some((f) => path.startsWith(`${f}/`)));
const typescript = inFolder("src", "test", "tools", "bench", "examples").filter(({ path }) => /\.m?[tj]s$/.test(path));
const product = typescript.filter(({ path }) => path.startsWith("src/"));
const headers = inFolder("bpf", "native").filter(({ path }) => /\.[ch]$/.test(path));
const written = (sources: readonly Source[]) => sources.filter(({ path }) => !/\.gen\.|\/gen\//.test(path));

/** What git has or would take: what is ignored is not ours to judge. */
function listFiles(): string[] {
  const list = execFileSync("git", [...TRUST, "ls-files", "-coz", "--exclude-standard"], {
    cwd: root,
    encoding: "utf8",
  });
  return list.split("\0").filter((path) => /\.(m?[tj]s|[ch]|sh)$/.test(path) && existsSync(join(root, path)));
}

/** `path:line: why` for each line that offends. */
function offences(sources: readonly Source[], judge: (line: string, source: Source) => string | undefined): string[] {
  return sources.flatMap((source) =>
    source.lines.flatMap((line, i) => {
      const why = judge(line, source);
      return why === undefined ? [] : [`${source.path}:${i + 1}: ${why}`];
    }),
  );
}

const none = (found: readonly string[]) => assert.deepEqual(found, [], `\n${found.join("\n")}\n`);

const room = (path: string) => /^src\/([^/]+)\//.exec(path)?.[1];

/** What a line imports, by its path from the root; undefined where it imports nothing of ours. */
function importOf(line: string, from: string): { readonly path: string; readonly lazy: boolean } | undefined {
  const found = /(?:\bfrom\s+|^\s*import\s+)"(\.[^"]+)"/.exec(line) ?? /\bimport\("(\.[^"]+)"\)/.exec(line);
  if (found?.[1] === undefined) return undefined;
  return { path: relative(root, join(root, dirname(from), found[1])), lazy: found[0].includes("(") };
}

test("every room has a rank", () => {
  const rooms = new Set(product.map(({ path }) => room(path)));
  none([...rooms].filter((name) => name === undefined || !(name in RANKS)).map((name) => `src/${name ?? "*.ts"}`));
});

test("a room imports only rooms of a lower rank", () => {
  const judge = (line: string, { path }: Source) => {
    const imported = importOf(line, path);
    const mine = room(path);
    if (imported === undefined || mine === undefined) return undefined;
    const theirs = room(imported.path);
    if (theirs === undefined) return imported.path.startsWith("src/") ? undefined : `imports ${imported.path}`;
    if (theirs === mine) return undefined;
    if (path === COMPOSITION_ROOT) {
      return imported.lazy || theirs === "admin" ? undefined : `loads ${theirs} before it is needed`;
    }
    if (mine === "cli" && theirs !== "admin") return `cli imports ${theirs}; it may know admin alone`;
    return (RANKS[theirs] ?? 9) < (RANKS[mine] ?? 0) ? undefined : `${mine} imports ${theirs}`;
  };
  none(offences(product, judge));
});

test("only the rooms that read Envoy's bytes know protobuf", () => {
  const judge = (line: string, { path }: Source) =>
    /from "@bufbuild\//.test(line) && !PROTOBUF_ROOMS.has(room(path) ?? "") ? "protobuf outside of envoy/" : undefined;
  none(offences(product, judge));
});

test("no default exports, no barrels", () => {
  const judge = (line: string) =>
    /^export default\b/.test(line) || /^export \* from\b/.test(line) ? line.trim() : undefined;
  none(offences(written(product), judge));
});

test("nothing is printed but by the command line", () => {
  const talkative = product.filter(({ path }) => room(path) !== "cli" && path !== "src/daemon/main.ts");
  none(offences(talkative, (line) => (/\bconsole\.\w+\(/.test(line) ? line.trim() : undefined)));
});

test("no work is left in comments", () => {
  const mark = new RegExp(["TO", "DO|FIX", "ME|\\bX", "XX\\b"].join("")); // spelt so that this file passes
  none(offences(tracked, (line) => (mark.test(line) ? line.trim() : undefined)));
});

test(`no line is longer than ${MAX_LINE} characters`, () => {
  const judge = (line: string) => ([...line].length > MAX_LINE ? `${[...line].length} characters` : undefined);
  none(offences(written([...typescript, ...headers]), judge));
});

test("no line ends in white space", () => {
  none(offences(written(tracked), (line) => (/\s$/.test(line) ? "white space at the end" : undefined)));
});

test("bpf: hooks include steps, steps include no other step, and the contract includes nothing", () => {
  const judge = (line: string, { path }: Source) => {
    const included = /^\s*#\s*include\s+"([^"]+)"/.exec(line)?.[1];
    if (included === undefined || !path.startsWith("bpf/")) return undefined;
    if (path === "bpf/contract.h") return `the contract includes ${included}`;
    if (/hooks\//.test(included) && path !== "bpf/xlb.bpf.c") return `${included} is for xlb.bpf.c alone`;
    const target = join(dirname(path), included);
    // text.h holds bytes' own arithmetic; it is below the steps.
    const toStep = target.startsWith("bpf/steps/") && target !== "bpf/steps/text.h";
    return toStep && !/^bpf\/(hooks\/|xlb\.bpf\.c)/.test(path) ? `includes the step ${included}` : undefined;
  };
  none(offences(headers, judge));
});

test("bpf: a step does not know from which hook it is called", () => {
  const steps = headers.filter(({ path }) => path.startsWith("bpf/steps/"));
  const judge = (line: string) => /\b(sk_msg_md|__sk_buff|bpf_sock_addr|bpf_sock_ops)\b/.exec(line)?.[0];
  none(offences(steps, judge));
});

test("src/tables/layout.gen.ts says what bpf/contract.h says", (t) => {
  if (!existsSync(join(root, "tools/layoutgen.ts"))) return t.skip("no layoutgen yet");
  if (!existsSync(join(root, "build/vmlinux.h")))
    return t.skip("no build/vmlinux.h: needs make, and a kernel with BTF");
  if (!has("bpftool") || !(has("clang-19") || has("clang"))) return t.skip("needs clang and bpftool");
  const tsx = join(root, "node_modules/.bin/tsx");
  execFileSync(tsx, ["tools/layoutgen.ts", "--check"], { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
});

function has(program: string): boolean {
  const path = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`.split(":");
  return path.some((folder) => existsSync(join(folder, program)));
}
