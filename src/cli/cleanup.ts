import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { askReady } from "../admin/client.ts";
import { CgroupError, holders, pidsIn, removeCgroup, sweepLeaves, workloadsRoot } from "../admin/workloads.ts";

const PINS = "/sys/fs/bpf";

/** What `xlb cleanup` did, line by line, and whether nothing of XLB is left. */
export interface Cleaning {
  readonly done: readonly string[];
  readonly left: readonly string[];
}

/** Removes every trace that dead runs left. Kills nothing, and takes nothing from a daemon that lives. */
export async function cleanUp(adminSocket: string): Promise<Cleaning> {
  const done: string[] = [];
  const left: string[] = [];
  const ready = await askReady(adminSocket);
  const deserted = !ready.ok && ready.why === "absent";

  cleanWorkloads(deserted, done, left);
  if (deserted) {
    if (existsSync(adminSocket)) remove(adminSocket, "socket", done, left);
    for (const pin of findPins()) remove(pin, "pin", done, left);
  } else {
    const who = ready.ok ? `a daemon is running (pid ${ready.value.pid})` : ready.message;
    left.push(`${who}: its programs, maps and cgroups stay; stop it first`);
  }
  return { done, left };
}

function cleanWorkloads(deserted: boolean, done: string[], left: string[]): void {
  try {
    const { removed, populated } = sweepLeaves();
    for (const leaf of removed) done.push(`removed cgroup ${leaf}`);
    for (const { cgroup, pids } of populated) left.push(inhabited(cgroup, pids));
    const root = workloadsRoot();
    if (!deserted || !existsSync(root)) return;
    const daemons = holders();
    if (daemons.length > 0) left.push(`cgroup ${root} is held by another daemon: ${daemons.join(" ")}`);
    else if (removeCgroup(root)) done.push(`removed cgroup ${root}`);
    else if (populated.length === 0) left.push(inhabited(root, pidsIn(root)));
  } catch (error) {
    // No cgroup v2 here: then no XLB run made one either.
    if (!(error instanceof CgroupError)) throw error;
  }
}

function inhabited(cgroup: string, pids: readonly number[]): string {
  if (pids.length === 0) return `cgroup ${cgroup} cannot be removed: are you root?`;
  return `cgroup ${cgroup} has living processes: ${pids.join(" ")}`;
}

function findPins(): string[] {
  try {
    return readdirSync(PINS)
      .filter((name) => name.startsWith("xlb"))
      .map((name) => join(PINS, name));
  } catch {
    return []; // no bpf file system
  }
}

function remove(path: string, what: string, done: string[], left: string[]): void {
  try {
    rmSync(path, { recursive: true });
    done.push(`removed ${what} ${path}`);
  } catch (error) {
    left.push(`${what} ${path} cannot be removed: ${(error as Error).message}`);
  }
}
