import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as native from "../src/kernel/native.ts";
import { run } from "./party.ts";
import type { Scope } from "./scope.ts";

/** Where the time of a cell goes: kernel and user functions by perf, XLB's own programs by the kernel's statistics. */

const SHOWN = 60;

interface Program {
  readonly id: number;
  readonly name?: string;
  readonly run_time_ns?: number;
  readonly run_cnt?: number;
}

/**
 * Runs `load` under perf and writes what it saw to `directory/name.txt`: one line for each function that used at least
 * a thousandth of the machine (`swapper` is idle time), then nanoseconds per run of each BPF program.
 */
export async function profiled<T>(
  scope: Scope,
  directory: string,
  name: string,
  seconds: number,
  load: () => Promise<T>,
): Promise<T> {
  mkdirSync(directory, { recursive: true });
  const record = join(directory, `${name}.data`);
  const before = new Map(programs().map((each) => [each.id, each]));
  const perf = [
    "perf",
    "record",
    "-q",
    "-a",
    "-e",
    "cpu-clock",
    "-F",
    "2999",
    "-o",
    record,
    "--",
    "sleep",
    `${seconds}`,
  ];
  const [result] = await Promise.all([load(), run(scope, perf, { timeoutMs: (seconds + 20) * 1000 })]);
  const rows = programs().flatMap((program) => {
    const runs = (program.run_cnt ?? 0) - (before.get(program.id)?.run_cnt ?? 0);
    const time = (program.run_time_ns ?? 0) - (before.get(program.id)?.run_time_ns ?? 0);
    return runs > 0 ? [`${program.name ?? program.id}  ${runs} runs  ${(time / runs).toFixed(0)} ns each`] : [];
  });
  const report = ["perf", "report", "-i", record, "--stdio", "--sort", "comm,dso,symbol", "--percent-limit", "0.1"];
  const parties = await run(scope, [...report.slice(0, 5), "--sort", "comm", "--percent-limit", "0.5"], {
    timeoutMs: 60_000,
  });
  const told = await run(scope, report, { timeoutMs: 60_000 });
  const lines = [parties, told].flatMap((each) => [...rowsOf(each.stdout).slice(0, SHOWN), ""]);
  writeFileSync(join(directory, `${name}.txt`), `${[...lines, ...rows].join("\n")}\n`);
  spawnSync("rm", ["-f", record]);
  return result;
}

function rowsOf(report: string): string[] {
  const rows = report.split("\n").filter((line) => /^ +\d/.test(line));
  return rows.map((line) => line.replace(/[ -]+$/, "").replace(/ {2,}/g, "  "));
}

function programs(): Program[] {
  const told = spawnSync("bpftool", ["-j", "prog", "show"], { encoding: "utf8" });
  return told.status === 0 ? (JSON.parse(told.stdout) as Program[]) : [];
}

/** The kernel counts the time of BPF programs only while it is asked to: that costs some 2 % itself. */
export function countPrograms(scope: Scope): void {
  const fd = native.countPrograms();
  scope.add(() => native.close(fd));
}
