import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { objectPath } from "../../src/kernel/datapath.ts";
import * as native from "../../src/kernel/native.ts";
import type { Budgets, Measured, Program } from "../../tools/budgets.ts";
import { budgetsOf, compare, measure } from "../../tools/budgets.ts";

/** What `make verify` lets pass, and that this kernel's verifier takes the programs within their budgets. */

const missing = native.unavailable()?.message ?? (process.getuid?.() === 0 ? undefined : "it needs root");
/** Where it has to work (CI), the tests fail instead of being skipped. */
const skip = process.env.CI === "true" ? false : (missing ?? false);

const program = (name: string, verifiedInsns: number): Program => ({ name, verifiedInsns, xlated: 8, jited: 8 });
const map = (name: string, bytes: number) => ({ name, maxEntries: 1, valueSize: 4, bytes });
const recorded: Measured = {
  ...{ kernel: "6.18.44", clang: "19.1.7", cpus: 2 },
  programs: [program("xlb_request", 10_000), program("xlb_response", 500)],
  maps: [map("slots", 900), map("conns", 100)],
};
const file: Budgets = budgetsOf(recorded);
const failuresOf = (changes: Partial<Measured>) => compare({ ...recorded, ...changes }, file).failures;

describe("budgets", () => {
  test("what is as it was passes", () => {
    assert.deepEqual(compare(recorded, file), { notes: [], failures: [] });
  });

  test("a program may grow by 10 %, and no further", () => {
    const grown = (n: number) => failuresOf({ programs: [program("xlb_request", n), program("xlb_response", 500)] });
    assert.deepEqual(grown(1), []);
    assert.deepEqual(grown(11_000), []);
    assert.deepEqual(grown(11_001), [
      "program xlb_request: 11001 verified instructions, 10000 recorded: grown by +10.0 %, over 10 %; " +
        "if that is meant, run `make verify UPDATE=1`",
    ]);
  });

  test("no program may use more than 70 % of the verifier's limit, recorded or not", () => {
    const heavy = (n: number) => {
      const measured = { ...recorded, programs: [program("xlb_request", n)] };
      return compare(measured, budgetsOf(measured)).failures;
    };
    assert.deepEqual(heavy(700_000), []);
    assert.deepEqual(heavy(700_001), [
      "program xlb_request: 700001 verified instructions, over 70 % of the verifier's 1000000",
    ]);
  });

  test("the maps in all may grow by 10 %, and no further", () => {
    assert.deepEqual(failuresOf({ maps: [map("slots", 900), map("conns", 200)] }), []);
    assert.deepEqual(failuresOf({ maps: [map("slots", 800), map("conns", 300)] }), [], "one grew, another shrank");
    assert.match(failuresOf({ maps: [map("slots", 900), map("conns", 201)] }).join(), /^maps: 1101 bytes, 1000 record/);
  });

  test("what is new, and what has gone, is named with the mend", () => {
    const mend = "run `make verify UPDATE=1`";
    assert.deepEqual(failuresOf({ programs: [...recorded.programs, program("xlb_new", 1)] }), [
      `program xlb_new is not in the file: ${mend}`,
    ]);
    assert.deepEqual(failuresOf({ programs: recorded.programs.slice(1) }), [
      `program xlb_request is in the file, but not in the object: ${mend}`,
    ]);
    assert.deepEqual(failuresOf({ maps: [...recorded.maps, map("new", 1)] }), [`map new is not in the file: ${mend}`]);
    assert.deepEqual(failuresOf({ maps: recorded.maps.slice(1) }), [
      `map slots is in the file, but not in the object: ${mend}`,
    ]);
  });

  test("on another kernel, or by another clang, only the verifier's limit counts", () => {
    for (const elsewhere of [{ kernel: "7.2.12" }, { clang: "20.1.0" }]) {
      const programs = [program("xlb_request", 20_000), program("xlb_huge", 700_001)];
      const { notes, failures } = compare({ ...recorded, ...elsewhere, programs, maps: [] }, file);
      assert.equal(notes.length, 1);
      assert.match(notes[0]!, /recorded with Linux 6\.18\.44, clang 19\.1\.7: only the rule of 70 %/);
      assert.equal(failures.length, 1);
      assert.match(failures[0]!, /^program xlb_huge: 700001/);
    }
  });

  test("with other CPUs the maps' memory is not compared, the programs are", () => {
    const measured = { ...recorded, cpus: 64, maps: [map("slots", 900), map("conns", 9_000)] };
    const { notes, failures } = compare({ ...measured, programs: [program("xlb_request", 20_000)] }, file);
    assert.match(notes.join(), /^here 64 CPUs, recorded with 2/);
    assert.deepEqual(
      failures.map((line) => line.split(":")[0]),
      ["program xlb_response is in the file, but not in the object", "program xlb_request"],
    );
  });
});

const root = fileURLToPath(new URL("../..", import.meta.url));

function verify(env: Readonly<Record<string, string>> = {}) {
  const run = spawnSync(process.execPath, ["--import", "tsx", "tools/verifydiff.ts"], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, UPDATE: "", ...env },
  });
  return { status: run.status, stdout: run.stdout, stderr: run.stderr };
}

/** What the kernel holds for us: programs, maps and whatever else of BPF. */
const bpfFds = () =>
  readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)].filter((target) => target.includes("bpf"));
    } catch {
      return []; // the folder's own
    }
  });

describe("verify", { skip }, () => {
  test("the programs are within their budgets", () => {
    const { status, stdout, stderr } = verify();
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^xlb_request +\d+ /m);
    assert.match(stdout, /^slots +\d+ /m);
    assert.match(stdout, /^within the budgets$/m);
  });

  test("each program is measured, each map's memory too, and nothing stays loaded", () => {
    const { programs, maps, clang } = measure(native, objectPath());
    assert.deepEqual(bpfFds(), []);
    assert.match(clang, /^\d+\.\d/);
    assert.ok(programs.length > 5 && maps.length > 20);
    for (const { name, verifiedInsns, xlated } of programs) assert.ok(verifiedInsns > 0 && xlated > 0, name);
    for (const { name, bytes } of maps) assert.ok(bytes > 0, name);
  });

  test("UPDATE=1 writes a file that passes; one that allows less fails by name", () => {
    const folder = mkdtempSync(join(tmpdir(), "xlb-verify-"));
    try {
      const XLB_BUDGETS = join(folder, "budgets.json");
      assert.match(verify({ XLB_BUDGETS }).stderr, /there is no .*UPDATE=1/);
      const written = verify({ XLB_BUDGETS, UPDATE: "1" });
      assert.equal(written.status, 0, written.stderr);
      const budgets = JSON.parse(readFileSync(XLB_BUDGETS, "utf8")) as Budgets;
      assert.deepEqual(Object.keys(budgets), ["kernel", "clang", "cpus", "programs", "maps"]);

      const programs = { ...budgets.programs, xlb_request: Math.floor(budgets.programs.xlb_request! / 2) };
      writeFileSync(XLB_BUDGETS, JSON.stringify({ ...budgets, programs }));
      const { status, stdout, stderr } = verify({ XLB_BUDGETS });
      assert.equal(status, 1);
      assert.match(stderr, /^FAILED program xlb_request: /);
      assert.doesNotMatch(stdout, /within/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("without the shim it says so in one line", () => {
    const { status, stderr } = verify({ XLB_NATIVE: "/nowhere/xlb_native.node" });
    assert.equal(status, 1);
    assert.match(stderr, /^verify: [^\n]*nowhere[^\n]*\n$/);
  });
});
