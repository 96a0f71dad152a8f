import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";

/**
 * Where enrolled processes live: `<cgroup2 mount>/xlb/<leaf>`. The daemon attaches its hooks to `xlb`, `xlb exec` makes
 * the leaves, and both may come first: so a leaf's name says which datapath its processes get. No cgroup outside of
 * `xlb` is ever touched.
 */

export class CgroupError extends Error {}

/** What balances a workload: the kernel path where it can, or the slow path alone. */
export const WORKLOAD_DATAPATHS = ["auto", "userspace"] as const;
export type WorkloadDatapath = (typeof WORKLOAD_DATAPATHS)[number];

const PREFIX: Readonly<Record<WorkloadDatapath, string>> = { auto: "exec", userspace: "exec-userspace" };
const LEAF = /^exec-(?:userspace-)?(\d+)-[0-9a-z]+$/;
/** An empty cgroup beside the leaves: while a daemon has one, `xlb` with its hooks cannot be removed. */
const HOLD = /^daemon-(\d+)$/;
/** An empty leaf this young may be one that `xlb exec` is about to enter. */
const GRACE_MS = 10_000;

/** The first cgroup2 file system that is mounted here. */
export function findCgroupMount(): string {
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n")) {
    const [, target, type] = line.split(" ");
    if (type === "cgroup2" && target !== undefined) return unescapeMount(target);
  }
  throw new CgroupError("no cgroup v2 file system is mounted (try: mount -t cgroup2 none /sys/fs/cgroup/unified)");
}

/** Octal escapes stand for white space in /proc/mounts. */
function unescapeMount(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The cgroup under which all workloads are; it need not exist. */
export function workloadsRoot(): string {
  return join(findCgroupMount(), "xlb");
}

/** What `xlb exec` wants for the processes in this leaf. */
export function datapathOfLeaf(leaf: string): WorkloadDatapath {
  return basename(leaf).startsWith(`${PREFIX.userspace}-`) ? "userspace" : "auto";
}

/** Makes an empty leaf for one command, and `xlb` itself where it is missing. */
export function makeLeaf(datapath: WorkloadDatapath): string {
  const root = workloadsRoot();
  const leaf = join(root, `${PREFIX[datapath]}-${process.pid}-${Math.random().toString(36).slice(2, 8)}`);
  try {
    mkdirSync(leaf, { recursive: true });
  } catch (error) {
    throw new CgroupError(explainMake(leaf, error as NodeJS.ErrnoException));
  }
  return leaf;
}

function explainMake(leaf: string, error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case "EACCES":
    case "EPERM":
      return `may not make ${leaf}: xlb exec needs root (or an xlb cgroup that was delegated to you)`;
    case "EROFS":
      return `may not make ${leaf}: the cgroup file system is mounted read-only, as in most containers`;
    default:
      return `cannot make ${leaf}: ${error.message}`;
  }
}

/** For a daemon: makes `xlb`, and sees to it that nobody removes it before `leaveRoot`. */
export function holdRoot(): string {
  const root = workloadsRoot();
  mkdirSync(join(root, `daemon-${process.pid}`), { recursive: true });
  return root;
}

/** A daemon ends: whoever leaves last, it or an `xlb exec`, takes `xlb` away. */
export function leaveRoot(): void {
  removeCgroup(join(workloadsRoot(), `daemon-${process.pid}`));
  sweepLeaves();
  dropRoot();
}

/** Removes `xlb` if nothing is in it, and it was not delegated. False: it is there still. */
export function dropRoot(): boolean {
  const root = workloadsRoot();
  try {
    if (statSync(root).uid !== process.getuid?.()) return false;
    rmdirSync(root);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}

/** The daemons that live, and hold `xlb`. */
export const holders = (): number[] => holdsOf(workloadsRoot()).flatMap(({ pid, lives }) => (lives ? [pid] : []));

function holdsOf(root: string): { readonly path: string; readonly pid: number; readonly lives: boolean }[] {
  return childrenOf(root).flatMap((path) => {
    const pid = HOLD.exec(basename(path))?.[1];
    return pid === undefined ? [] : [{ path, pid: Number(pid), lives: existsSync(`/proc/${pid}`) }];
  });
}

/** The cgroups in which `xlb exec` runs commands. */
export function leavesOf(root: string): string[] {
  return childrenOf(root).filter((path) => !HOLD.test(basename(path)));
}

/** Every process in the cgroup and below it. */
export function pidsIn(cgroup: string): number[] {
  const own = read(join(cgroup, "cgroup.procs")).split("\n").filter(Boolean).map(Number);
  return own.concat(...childrenOf(cgroup).map(pidsIn));
}

function isPopulated(cgroup: string): boolean {
  return /^populated 1$/m.test(read(join(cgroup, "cgroup.events")));
}

function childrenOf(cgroup: string): string[] {
  try {
    const entries = readdirSync(cgroup, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => join(cgroup, entry.name));
  } catch {
    return []; // it went away between two looks
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

/** Removes a cgroup and the ones that its processes made below it. False: somebody still lives in it. */
export function removeCgroup(cgroup: string): boolean {
  if (isPopulated(cgroup)) return false;
  for (const child of childrenOf(cgroup)) removeCgroup(child);
  try {
    rmdirSync(cgroup);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}

export interface Swept {
  readonly removed: readonly string[];
  /** Leaves with processes in them. */
  readonly populated: readonly { readonly cgroup: string; readonly pids: readonly number[] }[];
}

/** Removes every empty leaf, and what dead daemons held `xlb` by. Kills nothing, and leaves `xlb` itself. */
export function sweepLeaves(now: number = Date.now()): Swept {
  const removed: string[] = [];
  const populated: { cgroup: string; pids: number[] }[] = [];
  const root = workloadsRoot();
  for (const { path, lives } of holdsOf(root)) if (!lives) removeCgroup(path);
  for (const leaf of leavesOf(root)) {
    if (isAboutToStart(leaf, now)) continue;
    if (removeCgroup(leaf)) removed.push(leaf);
    else populated.push({ cgroup: leaf, pids: pidsIn(leaf) });
  }
  return { removed, populated };
}

function isAboutToStart(leaf: string, now: number): boolean {
  const pid = LEAF.exec(basename(leaf))?.[1];
  if (pid === undefined || !existsSync(`/proc/${pid}`)) return false;
  const made = statSync(leaf, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return now - made < GRACE_MS;
}
