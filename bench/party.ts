import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { WITH_US } from "../tools/with-us.ts";
import type { Scope } from "./scope.ts";

/** The processes that a run starts, each party in a cgroup of its own so that its CPU time can be told. */

const PREFIX = "xlb-bench-";
const ENTER = 'echo $$ >"$0/cgroup.procs" && exec "$@"';
const OUTPUT_KEPT = 64 << 10;

export function cgroupMount(): string | undefined {
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n")) {
    const [, target, type] = line.split(" ");
    if (type === "cgroup2") return target;
  }
  return undefined;
}

/** The run's own corner of the cgroup tree; the corners of runs that were killed go at the same time. */
export async function makeCgroups(scope: Scope): Promise<(party: string) => Cgroup> {
  const mount = cgroupMount();
  if (mount === undefined) throw new Error("no cgroup v2 file system is mounted");
  for (const name of readdirSync(mount)) {
    if (isLeftOver(name)) await removeTree(join(mount, name));
  }
  const root = join(mount, `${PREFIX}${process.pid}`);
  mkdirSync(root);
  scope.add(() => removeTree(root));
  return (party) => {
    const path = join(root, party);
    mkdirSync(path, { recursive: true });
    return new Cgroup(path);
  };
}

/** Named after a run whose process is no more. */
export function isLeftOver(name: string): boolean {
  const pid = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : Number.NaN;
  return Number.isInteger(pid) && !existsSync(`/proc/${pid}`);
}

export const nameOfRun = () => `${PREFIX}${process.pid}`;

async function removeTree(path: string): Promise<void> {
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeTree(join(path, entry.name));
  }
  // A cgroup stays busy for a moment after its last process has gone.
  for (let attempt = 0; attempt < 50; attempt++) {
    for (const pid of pidsOf(path)) kill(pid, "SIGKILL");
    try {
      rmdirSync(path);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      await sleep(20);
    }
  }
  throw new Error(`cannot remove ${path}`);
}

function pidsOf(cgroup: string): number[] {
  try {
    return readFileSync(join(cgroup, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it has just ended
  }
}

export class Cgroup {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Microseconds that its processes have used, those that have ended included. */
  cpuMicros(): number {
    const found = /^usage_usec (\d+)$/m.exec(readFileSync(join(this.path, "cpu.stat"), "utf8"));
    return Number(found?.[1] ?? 0);
  }
}

/** Microseconds that the whole machine was busy: what kernel workers do is in no cgroup of ours. Ticks of 10 ms. */
export function machineMicros(): number {
  const [, user, nice, system, , , irq, softirq] = readFileSync("/proc/stat", "utf8").split("\n", 1)[0]!.split(/ +/);
  return [user, nice, system, irq, softirq].reduce((sum, ticks) => sum + Number(ticks), 0) * 10_000;
}

export interface Start {
  readonly cgroup?: Cgroup;
  readonly namespace?: string;
  readonly environment?: Readonly<Record<string, string>>;
}

/** A process that stays. Its output is kept to explain an early end. */
export class Party {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  #output = "";
  #ended: string | undefined;
  #stopping = false;

  constructor(scope: Scope, name: string, command: readonly string[], start: Start = {}) {
    this.name = name;
    this.#child = launch(command, start, "ignore");
    const keep = (chunk: Buffer) => {
      this.#output = (this.#output + chunk.toString("utf8")).slice(-OUTPUT_KEPT);
    };
    this.#child.stdout?.on("data", keep);
    this.#child.stderr?.on("data", keep);
    this.#exited = new Promise((resolve) => {
      this.#child.once("error", (error) => {
        this.#ended = error.message;
        resolve();
      });
      this.#child.once("exit", (code, signal) => {
        this.#ended = signal === null ? `status ${code}` : signal;
        if (!this.#stopping) process.stderr.write(`\n${this.explain("ended")}\n`);
        resolve();
      });
    });
    scope.add(() => this.stop());
  }

  get output(): string {
    return this.#output;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  explain(what: string): string {
    const last = this.#output.trim().split("\n").slice(-12).join("\n  ");
    return `${this.name} ${what} (${this.#ended ?? "running"}): ${last}`;
  }

  /** Resolves when it has printed this, throws when it ends or takes too long. */
  async says(text: string, timeoutMs = 15_000): Promise<void> {
    await until(
      () => this.#check() && this.#output.includes(text),
      timeoutMs,
      () => this.explain(`did not say "${text}"`),
    );
  }

  /** Resolves when something listens there. Asked from this process: not for addresses in a namespace. */
  async listens(host: string, port: number, timeoutMs = 15_000): Promise<void> {
    const where = `${host}:${port}`;
    await until(
      () => this.#check() && canConnect(host, port),
      timeoutMs,
      () => this.explain(`does not listen on ${where}`),
    );
  }

  #check(): true {
    if (this.#ended !== undefined) throw new Error(this.explain("ended early"));
    return true;
  }

  async stop(patienceMs = 5_000): Promise<void> {
    this.#stopping = true;
    if (this.#ended !== undefined || this.#child.pid === undefined) return;
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => {
      process.stderr.write(`${this.name} does not end on SIGTERM: killed\n`);
      this.#child.kill("SIGKILL");
    }, patienceMs);
    await this.#exited;
    clearTimeout(timer);
  }
}

export interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process that ends by itself, within `timeoutMs`. */
export function run(
  scope: Scope,
  command: readonly string[],
  start: Start & { readonly timeoutMs?: number; readonly input?: string } = {},
): Promise<Finished> {
  const child = launch(command, start, start.input === undefined ? "ignore" : "pipe");
  let running = true;
  scope.add(() => {
    if (running) child.kill("SIGTERM");
  });
  child.stdin?.on("error", () => undefined); // its status tells why it stopped to read
  child.stdin?.end(start.input);
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      stderr.push(Buffer.from(`\n${command[0]}: killed after ${start.timeoutMs} ms\n`));
      child.kill("SIGKILL");
    }, start.timeoutMs ?? 60_000);
    child.once("error", reject);
    child.once("close", (status) => {
      running = false;
      clearTimeout(timer);
      resolve({
        status,
        stdout: Buffer.concat(stdout).toString("utf8"),
        stderr: Buffer.concat(stderr).toString("utf8"),
      });
    });
  });
}

function launch(command: readonly string[], start: Start, stdin: "ignore" | "pipe"): ChildProcess {
  let full = [...WITH_US, ...command];
  if (start.namespace !== undefined) full = ["ip", "netns", "exec", start.namespace, ...full];
  if (start.cgroup !== undefined) full = ["/bin/sh", "-c", ENTER, start.cgroup.path, ...full];
  // A group of its own: Ctrl-C is for us, we end the others in order.
  const env = { ...process.env, ...start.environment };
  return spawn(full[0]!, full.slice(1), { stdio: [stdin, "pipe", "pipe"], detached: true, env });
}

export async function until(
  test: () => boolean | Promise<boolean>,
  timeoutMs: number,
  explain: () => string,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await test())) {
    if (Date.now() > deadline) throw new Error(explain());
    await sleep(25);
  }
}

function canConnect(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const done = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(1000, () => done(false));
    socket.once("connect", () => done(true));
    socket.once("error", () => done(false));
  });
}

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Where a program is, or undefined. */
export function findProgram(name: string): string | undefined {
  const found = spawnSync("/bin/sh", ["-c", 'command -v "$0"', name], { encoding: "utf8" });
  const path = found.stdout.trim();
  if (path !== "") return path;
  return existsSync(`/usr/sbin/${name}`) ? `/usr/sbin/${name}` : undefined;
}
