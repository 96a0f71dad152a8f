import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { askStats } from "../../src/admin/client.ts";
import type { Stats } from "../../src/admin/messages.ts";
import { findCgroupMount } from "../../src/admin/workloads.ts";
import { WITH_US } from "../../tools/with-us.ts";

/**
 * A bed for end-to-end tests: a daemon, raw servers on 127.0.98.x (in an enrolled cgroup: reached on the same host; or
 * in none: across hosts), and raw clients in enrolled cgroups. peer.py plays clients and servers.
 */

const ROOT = process.env.XLB_TEST_ROOT ?? fileURLToPath(new URL("../..", import.meta.url));
const BUNDLE = join(ROOT, "dist/xlb.mjs");
const PEER = fileURLToPath(new URL("peer.py", import.meta.url));

export const later = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/**
 * How long a test, and a suite, may take where the machine is slow and others work on it too: a bound for what hangs,
 * no measure of speed. Milliseconds.
 */
export const PATIENCE = 180_000;
export const SUITE_PATIENCE = 1_800_000;

/**
 * Looks again and again until it is so, for half a minute: longer than what is due within a second may take on a busy
 * machine. Gives what was seen last, so or not.
 */
export async function eventually<T>(look: () => Promise<T>, isSo: (seen: T) => boolean, ms = 30_000): Promise<T> {
  for (const until = performance.now() + ms; ; ) {
    const seen = await look();
    if (isSo(seen) || performance.now() > until) return seen;
    await later(50);
  }
}

// ---- what can be tested here ----

/** Why there is no kernel path to test; false where there is one. Under CI there must be. */
export function withoutKernel(): string | false {
  if (process.env.CI === "true") return false;
  if (process.getuid?.() !== 0) return "the kernel path needs root";
  if (!existsSync("/sys/kernel/btf/vmlinux")) return "this kernel has no BTF";
  if (!existsSync(join(ROOT, "build/xlb.bpf.o"))) return "the BPF object is not built";
  try {
    findCgroupMount();
  } catch {
    return "no cgroup v2 is mounted";
  }
  return false;
}

// ---- cgroups ----

const made = new Set<string>();

export function makeCgroup(name: string): string {
  const mount = findCgroupMount();
  if (made.size === 0) removeLeftOver(mount);
  const path = join(mount, `xlb-test-${process.pid}-${name}`);
  mkdirSync(path, { recursive: true });
  made.add(path);
  return path;
}

/** Those of tests that were killed outright. */
function removeLeftOver(mount: string): void {
  for (const name of readdirSync(mount)) {
    const [, pid] = /^xlb-test-(\d+)-/.exec(name) ?? [];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) removeCgroup(join(mount, name));
  }
}

/** Whoever is still in it is moved out, so that it can go. */
export function removeCgroup(path: string): void {
  const procs = join(path, "cgroup.procs");
  for (let tries = 0; tries < 500 && existsSync(path); tries++) {
    for (const pid of readFileSync(procs, "utf8").split("\n").filter(Boolean)) {
      try {
        writeFileSync(join(findCgroupMount(), "cgroup.procs"), pid);
      } catch {
        /* it has ended */
      }
    }
    try {
      rmdirSync(path);
    } catch {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    }
  }
  made.delete(path);
}

/** The command line that runs a command in a cgroup, or as it is. */
export const inCgroup = (cgroup: string | undefined, command: readonly string[]): string[] =>
  cgroup === undefined ? [...command] : ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', cgroup, ...command];

// ---- processes ----

const alive = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of alive) child.kill("SIGKILL");
  for (const path of made) removeCgroup(path);
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

export function start(command: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const [file = "", ...args] = [...WITH_US, ...command];
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env } });
  alive.add(child);
  child.once("exit", () => alive.delete(child));
  child.stdin!.on("error", () => {});
  return child;
}

export async function stop(child: ChildProcess, signal: NodeJS.Signals = "SIGTERM", graceMs = 60_000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
  await gone;
  clearTimeout(timer);
}

/** A process that answers JSON lines with JSON lines. */
class Peer {
  readonly child: ChildProcess;
  readonly ready: Promise<void>;
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  #next = 0;

  /** `within`: the command line that a command is put behind. */
  constructor(cgroup: string | undefined, args: readonly string[], within: readonly string[] = []) {
    this.child = start([...within, ...inCgroup(cgroup, ["python3", PEER, ...args])]);
    let complaints = "";
    this.child.stderr!.on("data", (d) => {
      complaints += d;
    });
    this.ready = new Promise((resolve, reject) => {
      if (args[0] === "client") resolve();
      createInterface({ input: this.child.stdout! }).on("line", (line) => {
        const said = JSON.parse(line) as { ready?: boolean; id: number; result: never };
        if (said.ready) return resolve();
        this.#waiting.get(said.id)?.resolve(said.result);
        this.#waiting.delete(said.id);
      });
      this.child.once("exit", (code) => {
        const error = new Error(`${args.join(" ")} ended with ${code}: ${complaints}`);
        reject(error);
        for (const w of this.#waiting.values()) w.reject(error);
      });
    });
    this.ready.catch(() => {});
  }

  ask<T>(question: object): Promise<T> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.child.stdin!.write(`${JSON.stringify({ id, ...question })}\n`);
    });
  }
}

// ---- clients ----

/** See step() in peer.py. Times are in milliseconds. */
export type Step =
  | readonly ["send", string]
  | readonly ["split", string, readonly number[], number]
  | readonly ["fill", number, number, number?]
  | readonly ["writev", readonly string[]]
  | readonly ["sendfile", string, number]
  | readonly ["pause", number]
  | readonly ["response", string?, number?]
  | readonly ["responses", number]
  | readonly ["read", number, number]
  | readonly ["eof", number]
  | readonly ["quiet", number]
  | readonly ["buffers"]
  | readonly ["flood", bytes: number, ms: number, edge: boolean]
  | readonly ["peername"]
  | readonly ["shut"]
  | readonly ["reset"]
  | readonly ["close"];

export interface Response {
  readonly status: number;
  readonly interim: readonly number[];
  readonly headers: Readonly<Record<string, string>>;
  readonly head: string;
  readonly trailers: readonly string[];
  readonly length: number;
  readonly crc: number;
  /** The first 64 KiB of the body. */
  readonly text: string;
  /** Is the body the pattern that `fill` sends, or where is it wrong? */
  readonly pattern: true | string;
  /** Why the body is not whole. */
  readonly broken?: string;
}

export interface Outcome {
  /** "open", "eof", "timeout" or an errno's name. */
  readonly end: string;
  /** The step at which it ended early. */
  readonly at: string | null;
  readonly responses: readonly Response[];
  /** Bytes that came and belong to no response. */
  readonly rest: string;
  readonly total: number;
  readonly peer?: string;
  readonly buffers?: Buffers;
  /** What a non-blocking sender did in its first milliseconds. */
  readonly flood?: { readonly turns: number; readonly again: number; readonly sent: number };
  readonly ms: number;
}

/** As getsockopt gives them, in bytes. */
export interface Buffers {
  readonly rcvbuf: number;
  readonly sndbuf: number;
}

export class Client {
  readonly #peer: Peer;
  readonly #to: { readonly ip: string; readonly port: number };

  constructor(cgroup: string | undefined, to: { ip: string; port: number }, within: readonly string[] = []) {
    this.#peer = new Peer(cgroup, ["client"], within);
    this.#to = to;
  }

  get child(): ChildProcess {
    return this.#peer.child;
  }

  play(steps: readonly Step[], options: { ip?: string; port?: number; rcvbuf?: number; nonblocking?: boolean } = {}) {
    return this.#peer.ask<Outcome>({ ...this.#to, ...options, steps });
  }

  /** One connection after another, with these pauses (ms) in turn; {round} in what is sent is its number. */
  again(steps: readonly Step[], options: { rounds: number; gaps?: readonly number[]; from?: number }) {
    return this.#peer.ask<Outcome[]>({ ...this.#to, gaps: [0], ...options, steps });
  }
}

// ---- servers ----

/** See Server in peer.py. */
export type Act =
  | readonly ["reply", string, string?]
  | readonly ["send", string]
  | readonly ["split", string, readonly number[], number]
  | readonly ["fill", number, number?]
  | readonly ["pause", number]
  | readonly ["body" | "arrived" | "hurry" | "echo" | "eof" | "once" | "hold" | "shut" | "reset" | "close" | "die"];

export interface SeenRequest {
  /** As it came, with the empty line. */
  readonly head?: string;
  readonly method?: string;
  readonly target?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly peer?: string;
  readonly length?: number;
  readonly pattern?: true | string;
  readonly trailers?: readonly string[];
  readonly broken?: string;
  readonly text?: string;
}

export class Backend {
  readonly ip: string;
  readonly port: number;
  readonly name: string;
  readonly #cgroup: string | undefined;
  readonly #kind: "server" | "crowd";
  readonly #scripts = new Map<string, object>();
  #peer: Peer | undefined;

  constructor(ip: string, port: number, name: string, cgroup: string | undefined, kind: "server" | "crowd" = "server") {
    this.ip = ip;
    this.port = port;
    this.name = name;
    this.#cgroup = cgroup;
    this.#kind = kind;
  }

  get child(): ChildProcess {
    return this.#peer!.child;
  }

  async start(): Promise<void> {
    this.#peer = new Peer(this.#cgroup, [this.#kind, this.ip, String(this.port), this.name]);
    await this.#peer.ready;
    for (const script of this.#scripts.values()) await this.#peer.ask(script);
  }

  async script(path: string, steps: readonly Act[], how: { early?: boolean; silent?: boolean } = {}): Promise<void> {
    const script = { cmd: "script", path, steps, ...how };
    this.#scripts.set(path, script);
    await this.#peer!.ask(script);
  }

  seen(clear = false): Promise<{ requests: SeenRequest[]; bytes: number; accepted: number; open: number }> {
    return this.#peer!.ask({ cmd: "seen", clear });
  }

  /** Of the connections that are in the middle of a request. */
  buffers(): Promise<Buffers[]> {
    return this.#peer!.ask({ cmd: "buffers" });
  }

  idle(how: "close" | "reset"): Promise<number> {
    return this.#peer!.ask({ cmd: "idle", how });
  }

  /** Sends these bytes on every connection that waits for a request. */
  sayUnasked(text: string, close = false): Promise<number> {
    return this.#peer!.ask({ cmd: "idle", how: "text", text, close });
  }

  kill(): Promise<void> {
    return stop(this.child, "SIGKILL");
  }
}

// ---- configuration ----

export interface EndpointSpec {
  readonly ip: string;
  readonly port: number;
  readonly weight?: number;
  readonly health?: string;
}

export interface ClusterSpec {
  readonly name: string;
  readonly policy?: "ROUND_ROBIN" | "LEAST_REQUEST" | "RANDOM";
  readonly endpoints: readonly EndpointSpec[];
  /** In Envoy's words, instead of what the others come to. */
  readonly fields?: { readonly [field: string]: unknown };
}

/** What Envoy calls `request_headers_to_add`: `header` and `append_action`. */
export interface EditsSpec {
  readonly request_headers_to_add?: readonly object[];
  readonly request_headers_to_remove?: readonly string[];
  readonly response_headers_to_add?: readonly object[];
  readonly response_headers_to_remove?: readonly string[];
}

export interface RouteSpec extends EditsSpec {
  readonly match: object;
  readonly route?: object;
  readonly redirect?: object;
  readonly direct_response?: object;
}

export interface VirtualHostSpec extends EditsSpec {
  readonly name: string;
  readonly domains: readonly string[];
  readonly routes: readonly RouteSpec[];
  readonly include_request_attempt_count?: boolean;
  readonly include_attempt_count_in_response?: boolean;
}

export interface ListenerSpec {
  readonly name: string;
  readonly ip: string;
  readonly port: number;
  readonly hosts: readonly VirtualHostSpec[];
  readonly upgrades?: readonly string[];
  /** Further options of the connection manager, in Envoy's words. */
  readonly manager?: { readonly [field: string]: unknown };
}

const TYPE = "type.googleapis.com/envoy.extensions.filters";

/** An Envoy bootstrap, as JSON (which is YAML too). */
export function bootstrap(listeners: readonly ListenerSpec[], clusters: readonly ClusterSpec[]): string {
  const address = (ip: string, port: number) => ({ socket_address: { address: ip, port_value: port } });
  return JSON.stringify({
    static_resources: {
      listeners: listeners.map(({ name, ip, port, hosts, upgrades, manager = {} }) => ({
        name,
        address: address(ip, port),
        filter_chains: [
          {
            filters: [
              {
                name: "envoy.filters.network.http_connection_manager",
                typed_config: {
                  "@type": `${TYPE}.network.http_connection_manager.v3.HttpConnectionManager`,
                  stat_prefix: name,
                  route_config: { name, virtual_hosts: hosts },
                  ...(upgrades ? { upgrade_configs: upgrades.map((upgrade_type) => ({ upgrade_type })) } : {}),
                  ...manager,
                  http_filters: [
                    { name: "envoy.filters.http.router", typed_config: { "@type": `${TYPE}.http.router.v3.Router` } },
                  ],
                },
              },
            ],
          },
        ],
      })),
      clusters: clusters.map(({ name, policy, endpoints, fields = {} }) => ({
        name,
        connect_timeout: "1s",
        ...(policy ? { lb_policy: policy } : {}),
        load_assignment: {
          cluster_name: name,
          endpoints: [
            {
              lb_endpoints: endpoints.map((e) => ({
                endpoint: { address: address(e.ip, e.port) },
                ...(e.weight === undefined ? {} : { load_balancing_weight: e.weight }),
                ...(e.health === undefined ? {} : { health_status: e.health }),
              })),
            },
          ],
        },
        ...fields,
      })),
    },
  });
}

// ---- the daemon ----

export class Daemon {
  readonly directory = mkdtempSync(join(tmpdir(), "xlb-bed-"));
  readonly socket = join(this.directory, "admin.sock");
  child: ChildProcess | undefined;
  log = "";
  readyMs = 0;
  /** Of that, its own time on a processor. */
  readyCpuMs = 0;

  async start(
    config: string,
    datapath: "kernel" | "userspace",
    cgroups: readonly string[],
    userspaceCgroups: readonly string[] = [],
    within: readonly string[] = [],
  ): Promise<void> {
    const file = join(this.directory, "bootstrap.yaml");
    writeFileSync(file, config);
    const program = existsSync(BUNDLE)
      ? [process.execPath, BUNDLE]
      : [process.execPath, "--import", "tsx", join(ROOT, "src/cli/main.ts")];
    const enrol = [
      ...cgroups.flatMap((path) => ["--cgroup", path]),
      ...userspaceCgroups.flatMap((path) => ["--userspace-cgroup", path]),
    ];
    const flags = ["-c", file, "--datapath", datapath, "--admin-socket", this.socket, ...enrol];
    const level = ["--log-level", process.env.XLB_TEST_LOG ?? "info"];
    const began = performance.now();
    const child = start([...within, ...program, "run", ...flags, ...level]);
    this.child = child;
    await new Promise<void>((resolve, reject) => {
      child.stderr!.on("data", (d) => {
        this.log += d;
        if (/listeners are ready/.test(this.log)) resolve();
      });
      child.once("exit", (code, signal) => reject(new Error(`the daemon ended with ${code ?? signal}: ${this.log}`)));
    });
    this.readyMs = performance.now() - began;
    this.readyCpuMs = threadsMs(child.pid!);
  }

  async stats(): Promise<Stats> {
    const answer = await askStats(this.socket);
    if (!answer.ok) throw new Error(answer.message);
    return answer.value;
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.child) await stop(this.child, signal);
    if (process.env.XLB_TEST_LOG) process.stderr.write(this.log);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

// ---- beds ----

/** How requests are made to travel. `declined`: the kernel path is there, but leaves them to the slow path. */
export type Way = "same_host" | "cross_host" | "declined" | "userspace";
export const KERNEL_WAYS: readonly Way[] = ["same_host", "cross_host", "declined"];
export const WAYS: readonly Way[] = [...KERNEL_WAYS, "userspace"];

let beds = 0;

/** A daemon between two tenants' clients and two servers: `near` in an enrolled cgroup, `far` in none. */
export class Bed {
  readonly kernel: boolean;
  readonly ip: string;
  readonly port: number;
  readonly tag: string;
  readonly daemon = new Daemon();
  near!: Backend;
  far!: Backend;
  client!: Client;
  stranger!: Client;
  readonly cgroups: string[] = [];
  readonly userspaceCgroups: string[] = [];
  #config = "";

  constructor(kernel: boolean) {
    this.kernel = kernel;
    this.ip = `127.0.97.${(process.pid % 200) + 1}`;
    this.port = 9_001 + beds;
    this.tag = String(beds++);
  }

  /** What the daemon was given. */
  get config(): string {
    return this.#config;
  }

  get backendIp(): string {
    return this.ip.replace("127.0.97", "127.0.98");
  }

  /** `change` may add to what every bed has: host names near, far, both, and down (refuses). */
  async open(
    change: {
      readonly timeout?: string;
      readonly upgrades?: readonly string[];
      readonly manager?: ListenerSpec["manager"];
      readonly hosts?: readonly VirtualHostSpec[];
      readonly clusters?: readonly ClusterSpec[];
      readonly listeners?: readonly ListenerSpec[];
      /** Who of these is enrolled for the slow path alone. */
      readonly userspace?: readonly ("client" | "server")[];
    } = {},
  ): Promise<this> {
    const cgroup = (name: string) => {
      if (!this.kernel) return undefined;
      const path = makeCgroup(`${this.tag}-${name}`);
      const list = (change.userspace as readonly string[])?.includes(name) ? this.userspaceCgroups : this.cgroups;
      list.push(path);
      return path;
    };
    const [mine, theirs, servers] = ["client", "stranger", "server"].map(cgroup);
    this.near = new Backend(this.backendIp, this.port, "near", servers);
    this.far = new Backend(this.backendIp, this.port + 1_000, "far", undefined);
    await Promise.all([this.near.start(), this.far.start()]);
    const endpoints = [this.near, this.far].map(({ ip, port }) => ({ ip, port }));
    const host = (name: string): VirtualHostSpec => ({
      name,
      domains: [name],
      routes: [{ match: { prefix: "/" }, route: { cluster: name, timeout: change.timeout ?? "15s" } }],
    });
    this.#config = bootstrap(
      [
        {
          name: "test",
          ip: this.ip,
          port: this.port,
          ...(change.upgrades ? { upgrades: change.upgrades } : {}),
          ...(change.manager ? { manager: change.manager } : {}),
          hosts: [...["near", "far", "both", "down"].map(host), ...(change.hosts ?? [])],
        },
        ...(change.listeners ?? []),
      ],
      [
        { name: "near", endpoints: endpoints.slice(0, 1) },
        { name: "far", endpoints: endpoints.slice(1) },
        { name: "both", endpoints },
        { name: "down", endpoints: [{ ip: this.backendIp, port: 1 }] },
        ...(change.clusters ?? []),
      ],
    );
    await this.startDaemon();
    this.client = new Client(mine, this);
    this.stranger = new Client(theirs, this);
    return this;
  }

  async startDaemon(daemon = this.daemon): Promise<void> {
    await daemon.start(this.#config, this.kernel ? "kernel" : "userspace", this.cgroups, this.userspaceCgroups);
  }

  async close(): Promise<void> {
    await this.daemon.stop();
    const children = [this.near?.child, this.far?.child, this.client?.child, this.stranger?.child];
    await Promise.all(children.map((child) => child && stop(child, "SIGKILL")));
    for (const path of [...this.cgroups, ...this.userspaceCgroups]) removeCgroup(path);
  }

  /** Both servers answer a path in the same way. */
  async script(path: string, steps: readonly Act[], how: { early?: boolean; silent?: boolean } = {}): Promise<void> {
    await Promise.all([this.near.script(path, steps, how), this.far.script(path, steps, how)]);
  }

  stats(): Promise<Stats> {
    return this.daemon.stats();
  }

  /** Requests by path so far. */
  async paths(): Promise<{ same_host: number; cross_host: number; slow: number }> {
    const { same_host, cross_host, slow } = (await this.stats()).listeners[0]!;
    return { same_host, cross_host, slow };
  }

  /** What `work`, which makes so many requests or more, added to the counts of each path. */
  async counted(
    work: () => Promise<unknown>,
    requests = 1,
  ): Promise<{ same_host: number; cross_host: number; slow: number }> {
    const before = await this.paths();
    await work();
    const added = async () => {
      const now = await this.paths();
      return {
        same_host: now.same_host - before.same_host,
        cross_host: now.cross_host - before.cross_host,
        slow: now.slow - before.slow,
      };
    };
    await eventually(added, (n) => n.same_host + n.cross_host + n.slow >= requests);
    /* Should one be counted twice. */
    await later(50);
    return await added();
  }
}

/** The host name that leads to a server by this way, and the server. */
export const hostFor = (way: Way) => (way === "same_host" || way === "declined" ? "near" : "far");
export const backendFor = (bed: Bed, way: Way) => (hostFor(way) === "near" ? bed.near : bed.far);

export interface RequestOptions {
  readonly method?: string;
  readonly headers?: readonly string[];
  readonly body?: string;
  readonly nonce?: string;
}

export function head(way: Way, path: string, options: RequestOptions = {}): string {
  const lines = [`${options.method ?? "GET"} ${path} HTTP/1.1`, `Host: ${hostFor(way)}`, ...(options.headers ?? [])];
  if (options.nonce !== undefined) lines.push(`X-Nonce: ${options.nonce}`);
  if (options.body !== undefined) lines.push(`Content-Length: ${options.body.length}`);
  return `${lines.join("\r\n")}\r\n\r\n`;
}

export const request = (way: Way, path: string, options: RequestOptions = {}) =>
  head(way, path, options) + (options.body ?? "");

/** Sends a request so that it goes this way: a head in two pieces is what the kernel path leaves to the slow path. */
export const send = (way: Way, text: string): readonly Step[] =>
  way === "declined"
    ? [
        ["send", text.slice(0, 5)],
        ["pause", 15],
        ["send", text.slice(5)],
      ]
    : [["send", text]];

export const echoed = (way: Way, path: string, nonce = "-", body = "") =>
  `${hostFor(way)} ${path} ${nonce} ${body.length}`;

/** Resident kilobytes of a process. */
export const residentKb = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]);

/** Processor time of all threads of a process so far, in milliseconds, finer than the ticks of {@link cpuMs}. */
export function threadsMs(pid: number): number {
  const directory = `/proc/${pid}/task`;
  const spent = (tid: string) => Number(readFileSync(`${directory}/${tid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
  return readdirSync(directory).reduce((sum, tid) => sum + spent(tid), 0);
}

/** Processor time of a process so far, in milliseconds. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

export const openFiles = (pid: number) => readdirSync(`/proc/${pid}/fd`).length;

export const run = (command: readonly string[], cgroup?: string, input?: string): string => {
  const [file = "", ...args] = inCgroup(cgroup, command);
  return execFileSync(file, args, { encoding: "utf8", ...(input === undefined ? {} : { input }), timeout: 60_000 });
};
