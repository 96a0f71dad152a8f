/**
 * `make verify`: loads the BPF object, attaches nothing, and holds what it costs against bpf/budgets.json. What has
 * grown by more than a tenth, or comes near the verifier's limit, fails. `UPDATE=1` writes the file anew.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { table } from "../src/cli/table.ts";
import { objectPath } from "../src/kernel/datapath.ts";
import * as native from "../src/kernel/native.ts";
import type { Budgets, Measured } from "./budgets.ts";
import { budgetsOf, change, compare, measure, totalBytes, VERIFIER_LIMIT } from "./budgets.ts";

/** The environment's: a test's own, so that it need not touch the one that is checked in. */
const FILE = process.env.XLB_BUDGETS ?? fileURLToPath(new URL("../bpf/budgets.json", import.meta.url));
const LOG_LINES = 20;

function fail(why: string): never {
  process.stderr.write(`verify: ${why}\n`);
  process.exit(1);
}

function measured(): Measured {
  const missing = native.unavailable();
  if (missing) fail(missing.message.split("\n")[0] ?? "");
  if (process.getuid?.() !== 0) fail("loading programs needs root");
  try {
    return measure(native, objectPath());
  } catch (error) {
    const log = native.isNativeError(error) ? (error.log ?? "").trimEnd().split("\n").slice(-LOG_LINES) : [];
    const why = error instanceof Error ? error.message : String(error);
    return fail([why, ...log].filter((line) => line !== "").join("\n"));
  }
}

function show({ programs, maps }: Measured, budgets: Budgets | undefined): string {
  const beside = (now: number, recorded: number | undefined) =>
    recorded === undefined ? ["none", ""] : [String(recorded), now === recorded ? "" : change(now, recorded)];
  const rows = programs.map((p) => [
    p.name,
    p.verifiedInsns,
    ...beside(p.verifiedInsns, budgets?.programs[p.name]),
    `${((p.verifiedInsns / VERIFIER_LIMIT) * 100).toFixed(1)} %`,
    p.xlated,
    p.jited,
  ]);
  const recorded = budgets && Object.values(budgets.maps).reduce((a, b) => a + b, 0);
  const total = totalBytes(maps);
  return [
    table(["program", "verified", "recorded", "change", "of limit", "xlated bytes", "jited bytes"], rows),
    table(
      ["map", "entries", "value bytes", "memory", "recorded", "change"],
      maps.map((m) => [m.name, m.maxEntries, m.valueSize, m.bytes, ...beside(m.bytes, budgets?.maps[m.name])]),
    ),
    `maps in all: ${total} bytes${recorded === undefined ? "" : `, ${recorded} recorded (${change(total, recorded)})`}`,
  ].join("\n\n");
}

const now = measured();
if (process.env.UPDATE === "1") writeFileSync(FILE, `${JSON.stringify(budgetsOf(now), undefined, 2)}\n`);
const budgets = existsSync(FILE) ? (JSON.parse(readFileSync(FILE, "utf8")) as Budgets) : undefined;
process.stdout.write(`${show(now, budgets)}\n\n`);
if (budgets === undefined) fail(`there is no ${FILE}: run \`make verify UPDATE=1\``);
const { notes, failures } = compare(now, budgets);
for (const note of notes) process.stdout.write(`note: ${note}\n`);
for (const failure of failures) process.stderr.write(`FAILED ${failure}\n`);
if (failures.length > 0) process.exit(1);
process.stdout.write("within the budgets\n");
