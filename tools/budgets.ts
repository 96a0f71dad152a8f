import { readFileSync } from "node:fs";
import { release } from "node:os";
import type { Native } from "../src/kernel/native.ts";

/** What the programs cost the verifier and the maps cost in memory, and how much of either they may. */

export interface Measured extends Setting {
  readonly programs: readonly Program[];
  readonly maps: readonly Memory[];
}

/** Where something was measured: elsewhere, the same sources give other figures. */
export interface Setting {
  readonly kernel: string;
  /** The one that compiled the object. */
  readonly clang: string;
  /** Possible ones: per-CPU maps grow with them. */
  readonly cpus: number;
}

export interface Program {
  readonly name: string;
  readonly verifiedInsns: number;
  /** Bytes of BPF instructions, and of machine code. */
  readonly xlated: number;
  readonly jited: number;
}

export interface Memory {
  readonly name: string;
  readonly maxEntries: number;
  readonly valueSize: number;
  /** As the kernel charges it. */
  readonly bytes: number;
}

/** The file: verified instructions of each program, bytes of each map. */
export interface Budgets extends Setting {
  readonly programs: Readonly<Record<string, number>>;
  readonly maps: Readonly<Record<string, number>>;
}

/** BPF_COMPLEXITY_LIMIT_INSNS of the kernel. */
export const VERIFIER_LIMIT = 1_000_000;
/** The next kernel's verifier may walk more paths than this one's: room for that. */
const MOST_OF_LIMIT = 70; // per cent
const MOST_GROWTH = 10; // per cent
const MEND = "run `make verify UPDATE=1`";

/** Loads the object, attaches nothing, and lets go of it again. */
export function measure(native: Native, path: string): Measured {
  const object = native.objOpen(path);
  try {
    native.objLoad(object);
    return {
      kernel: release(),
      clang: clangOf(readFileSync(path, "latin1")),
      cpus: native.possibleCpus(),
      programs: native
        .objProgs(object)
        .map((p) => ({ name: p.name, verifiedInsns: p.verifiedInsns, xlated: p.xlatedLen, jited: p.jitedLen })),
      maps: native
        .objMaps(object)
        .map(({ name, fd, maxEntries, valueSize }) => ({ name, maxEntries, valueSize, bytes: memoryOf(fd) })),
    };
  } finally {
    native.objClose(object);
  }
}

/** Not the clang that is installed: the object may be older. */
function clangOf(object: string): string {
  return /clang version (\d[\w.]*)/.exec(object)?.[1] ?? "unknown";
}

function memoryOf(fd: number): number {
  const bytes = /^memlock:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1];
  if (bytes === undefined) throw new Error("the kernel does not tell a map's memory");
  return Number(bytes);
}

export function budgetsOf({ kernel, clang, cpus, programs, maps }: Measured): Budgets {
  return {
    ...{ kernel, clang, cpus },
    programs: Object.fromEntries(programs.map(({ name, verifiedInsns }) => [name, verifiedInsns])),
    maps: Object.fromEntries(maps.map(({ name, bytes }) => [name, bytes])),
  };
}

export const totalBytes = (maps: readonly Memory[]): number => maps.reduce((sum, { bytes }) => sum + bytes, 0);

export interface Verdict {
  /** What was not compared, and why. */
  readonly notes: readonly string[];
  readonly failures: readonly string[];
}

export function compare(measured: Measured, budgets: Budgets): Verdict {
  const notes: string[] = [];
  const failures: string[] = [];
  for (const { name, verifiedInsns } of measured.programs) {
    if (verifiedInsns * 100 <= MOST_OF_LIMIT * VERIFIER_LIMIT) continue;
    const bound = `${MOST_OF_LIMIT} % of the verifier's ${VERIFIER_LIMIT}`;
    failures.push(`program ${name}: ${verifiedInsns} verified instructions, over ${bound}`);
  }
  if (measured.kernel !== budgets.kernel || measured.clang !== budgets.clang) {
    const here = `Linux ${measured.kernel}, clang ${measured.clang}`;
    const there = `Linux ${budgets.kernel}, clang ${budgets.clang}`;
    notes.push(
      `here ${here}, recorded with ${there}: only the rule of ${MOST_OF_LIMIT} % of the verifier's limit applies`,
    );
    return { notes, failures };
  }

  failures.push(...strangers("program", measured.programs, budgets.programs));
  for (const { name, verifiedInsns } of measured.programs) {
    const recorded = budgets.programs[name];
    if (recorded !== undefined && grewTooMuch(verifiedInsns, recorded)) {
      failures.push(`program ${name}: ${growth("verified instructions", verifiedInsns, recorded)}`);
    }
  }

  failures.push(...strangers("map", measured.maps, budgets.maps));
  const [bytes, recorded] = [totalBytes(measured.maps), Object.values(budgets.maps).reduce((a, b) => a + b, 0)];
  if (measured.cpus !== budgets.cpus) {
    notes.push(`here ${measured.cpus} CPUs, recorded with ${budgets.cpus}: the maps' memory is not compared`);
  } else if (grewTooMuch(bytes, recorded)) {
    failures.push(`maps: ${growth("bytes", bytes, recorded)}`);
  }
  return { notes, failures };
}

function strangers(
  kind: string,
  there: readonly { readonly name: string }[],
  recorded: Readonly<Record<string, number>>,
): string[] {
  const names = new Set(there.map(({ name }) => name));
  return [
    ...[...names]
      .filter((name) => recorded[name] === undefined)
      .map((name) => `${kind} ${name} is not in the file: ${MEND}`),
    ...Object.keys(recorded)
      .filter((name) => !names.has(name))
      .map((name) => `${kind} ${name} is in the file, but not in the object: ${MEND}`),
  ];
}

const grewTooMuch = (now: number, recorded: number) => (now - recorded) * 100 > MOST_GROWTH * recorded;

const growth = (what: string, now: number, recorded: number) =>
  `${now} ${what}, ${recorded} recorded: grown by ${change(now, recorded)}, over ${MOST_GROWTH} %; ` +
  `if that is meant, ${MEND}`;

/** `+12.3 %` */
export function change(now: number, recorded: number): string {
  const percent = ((now - recorded) / recorded) * 100;
  return `${percent < 0 ? "" : "+"}${percent.toFixed(1)} %`;
}
