import { spawn } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync, statSync } from "node:fs";
import { constants as os } from "node:os";
import { delimiter, join } from "node:path";
import { CgroupError, dropRoot, makeLeaf, removeCgroup, type WorkloadDatapath } from "../admin/workloads.ts";

/** As env(1): 125 for our own failure, 126 for a command that cannot be run, 127 for one that is not there. */
const FAILED = 125;
const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;

const TENANT_PATIENCE_MS = 500;
const REMOVAL_TRIES = 5;
const REMOVAL_PAUSE_MS = 20;

/** Sent to us, meant for the command. */
const PASSED_ON = [
  "SIGTERM",
  "SIGINT",
  "SIGHUP",
  "SIGQUIT",
  "SIGUSR1",
  "SIGUSR2",
  "SIGALRM",
  "SIGWINCH",
  "SIGCONT",
] as const;
/** The terminal sends these to the whole foreground group: the command has had its own already. */
const FROM_TERMINAL: ReadonlySet<NodeJS.Signals> = new Set(["SIGINT", "SIGQUIT", "SIGTSTP", "SIGWINCH"]);

/**
 * The command joins the cgroup before it becomes itself, so that not one of its connections is missed.
 * $0 is the cgroup; "-" stands for signals that were ignored when we were started, as by nohup.
 */
const ENTER = `echo $$ >"$0/cgroup.procs" || exit ${FAILED}; [ "$1" = - ] || trap '' $1; shift; exec "$@"`;
/** Should we be killed outright, the command goes with us, as if it were us. */
const SETPRIV = "/usr/bin/setpriv";

/** Resolves with the exit status, or does not return: a command killed by a signal takes us with it. */
export async function execInWorkload(
  command: readonly string[],
  adminSocket: string,
  datapath: WorkloadDatapath,
): Promise<number> {
  const ignored = takeIgnoredSignals();
  const found = findProgram(command[0] ?? "");
  if (found !== "found") {
    complain(`${command[0]}: ${found === "missing" ? "No such file or directory" : "Permission denied"}`);
    return found === "missing" ? NOT_FOUND : NOT_EXECUTABLE;
  }
  let leaf: string;
  try {
    leaf = makeLeaf(datapath);
  } catch (error) {
    if (!(error instanceof CgroupError)) throw error;
    complain(error.message);
    return FAILED;
  }
  const status = announce(leaf, adminSocket).then(() => runInside(leaf, command, ignored));
  const { code, signal } = await status.finally(() => leave(leaf));
  if (signal === null) return code ?? FAILED;
  return dieBy(signal);
}

function complain(message: string): void {
  process.stderr.write(`xlb exec: ${message}\n`);
}

/** The pools for this cgroup are best warm before its first connection. No daemon is no reason to wait. */
async function announce(leaf: string, adminSocket: string): Promise<void> {
  if (!existsSync(adminSocket)) return;
  const { askTenant } = await import("../admin/client.ts");
  await askTenant(adminSocket, leaf, TENANT_PATIENCE_MS);
}

/** Children often end with their parent, a moment later. Those that live on keep their cgroup, until `xlb cleanup`. */
async function leave(leaf: string): Promise<void> {
  for (let tries = 1; !removeCgroup(leaf) && tries < REMOVAL_TRIES; tries++) {
    await new Promise((resolve) => setTimeout(resolve, REMOVAL_PAUSE_MS));
  }
  dropRoot();
}

interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

function runInside(leaf: string, command: readonly string[], ignored: readonly NodeJS.Signals[]): Promise<Ending> {
  const names = ignored.map((signal) => signal.slice(3)).join(" ") || "-";
  return new Promise((resolve, reject) => {
    const bound = existsSync(SETPRIV) ? [SETPRIV, "--pdeathsig", "KILL", "--"] : [];
    const child = spawn("/bin/sh", ["-c", ENTER, leaf, names, ...bound, ...command], { stdio: "inherit" });
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve({ code, signal }));
    passSignals((signal) => child.kill(signal), ignored);
  });
}

function passSignals(send: (signal: NodeJS.Signals) => void, ignored: readonly NodeJS.Signals[]): void {
  const pass = (signal: NodeJS.Signals) => {
    if (!(FROM_TERMINAL.has(signal) && isForeground())) send(signal);
  };
  for (const signal of PASSED_ON) process.on(signal, ignored.includes(signal) ? () => undefined : pass);
  process.on("SIGTSTP", (signal) => {
    pass(signal);
    // The shell that watches us must see a stopped job.
    process.kill(process.pid, "SIGSTOP");
  });
}

/** Whether our process group is the one that the terminal talks to. */
function isForeground(): boolean {
  const stat = readFileSync("/proc/self/stat", "utf8");
  const [, , group, , terminal, foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return terminal !== "0" && group === foreground;
}

/** From the launcher, see bin/xlb: a mask in hex, bit n-1 for signal n. */
function takeIgnoredSignals(): NodeJS.Signals[] {
  const mask = BigInt(`0x${process.env.XLB_IGNORED_SIGNALS?.trim() || "0"}`);
  delete process.env.XLB_IGNORED_SIGNALS;
  const names = [...PASSED_ON, "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGPIPE"] as const;
  return names.filter((name) => (mask >> BigInt(os.signals[name] - 1)) & 1n);
}

/** What execvp(3) would say: a place that we may not look into, or a file that may not run, does not end the search. */
function findProgram(name: string): "found" | "missing" | "forbidden" {
  const path = (process.env.PATH ?? "").split(delimiter);
  const places = name.includes("/") ? [name] : path.map((folder) => join(folder || ".", name));
  let answer: "missing" | "forbidden" = "missing";
  for (const place of name === "" ? [] : places) {
    try {
      accessSync(place, constants.X_OK);
      if (statSync(place).isFile()) return "found";
      answer = "forbidden";
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EACCES") answer = "forbidden";
    }
  }
  return answer;
}

/** Ends us as the command ended, so that whoever waits sees the same. */
function dieBy(signal: NodeJS.Signals): Promise<number> {
  if (signal !== "SIGKILL") {
    process.on(signal, () => undefined); // taking a listener away restores the default, also for what node ignores
    process.removeAllListeners(signal);
  }
  process.kill(process.pid, signal);
  const status = 128 + os.signals[signal];
  return new Promise((resolve) => setTimeout(resolve, 100, status)); // should the signal not have been deadly to us
}
