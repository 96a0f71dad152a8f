import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Stats } from "../../src/admin/messages.ts";
import { WITH_US } from "../../tools/with-us.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const XLB = join(root, "bin/xlb");
const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));

export type Path = "same host" | "cross host" | "slow path";
export const PATHS: readonly Path[] = ["same host", "cross host", "slow path"];

export type Step =
  | readonly ["send", string]
  | readonly ["many", number]
  | readonly ["pause", number]
  | readonly ["shut"]
  | readonly ["reset"]
  | readonly ["close"]
  | readonly ["read", number]
  | readonly ["until", number, number];

export interface Seen {
  /** "open", "eof" or the error's code. */
  readonly end: string;
  readonly length: number;
  readonly sum: number;
  readonly peer: string;
  /** The first 4 KiB. */
  readonly text: string;
}

/** Why the kernel path cannot be tested here; false where it can. Under CI it must. */
export function withoutKernel(): string | false {
  if (process.env.CI === "true") return false;
  if (process.getuid?.() !== 0) return "needs root";
  return existsSync(join(root, "build/xlb.bpf.o")) ? false : "the BPF object is not built";
}

let worlds = 0;

/** A daemon, a backend and a client, on addresses of their own. */
export class World {
  readonly ip: string;
  readonly port: number;
  readonly #processes: ChildProcess[] = [];
  readonly #directory = mkdtempSync(join(tmpdir(), "xlb-e2e-"));
  readonly #waiting = new Map<number, (seen: Seen) => void>();
  #client: ChildProcess | undefined;
  #next = 0;
  readonly #path: Path;
  daemon: ChildProcess | undefined;

  constructor(path: Path) {
    this.#path = path;
    this.ip = `127.0.97.${(process.pid % 200) + 1}`;
    this.port = 8_000 + ++worlds;
  }

  get backend(): string {
    return this.ip.replace("127.0.97", "127.0.98");
  }

  get socket(): string {
    return join(this.#directory, "admin.sock");
  }

  /** The command, made to run where its connections are balanced. */
  enrolled(command: readonly string[]): string[] {
    return this.#path === "slow path" ? [...command] : [XLB, "exec", "--admin-socket", this.socket, "--", ...command];
  }

  /** Further fields: `cluster` of the backend's, `manager` of the cluster manager. */
  async start(options: { timeout?: string; cluster?: string; manager?: string } = {}): Promise<void> {
    const server = [process.execPath, here("backend.mjs"), this.backend, String(this.port)];
    await this.#spawn(this.#path === "same host" ? this.enrolled(server) : server, /listening/);
    const file = join(this.#directory, "bootstrap.yaml");
    writeFileSync(file, bootstrap(this.ip, this.backend, this.port, options));
    const datapath = this.#path === "slow path" ? "userspace" : "kernel";
    const run = [XLB, "run", "-c", file, "--datapath", datapath, "--admin-socket", this.socket];
    this.daemon = await this.#spawn(run, /listeners are ready/);
    this.#client = await this.#spawn(this.enrolled([process.execPath, here("client.mjs")]));
    await new Promise((r) => setTimeout(r, 150));
    createInterface({ input: this.#client.stdout! }).on("line", (line) => {
      const { id, result } = JSON.parse(line) as { id: number; result: Seen };
      this.#waiting.get(id)?.(result);
    });
    /* Its first request tells the daemon that there is a new tenant. */
    await this.play(["send", get("/nonce/warm")], ["until", 10, 60_000]);
    await new Promise((r) => setTimeout(r, 150));
  }

  /** One connection that plays these steps. */
  play(...steps: readonly Step[]): Promise<Seen> {
    const id = this.#next++;
    const answer = new Promise<Seen>((resolve) => this.#waiting.set(id, resolve));
    this.#client!.stdin!.write(`${JSON.stringify({ id, script: { ip: this.ip, port: this.port, steps } })}\n`);
    return answer;
  }

  async stats(): Promise<Stats> {
    const { askStats } = await import("../../src/admin/client.ts");
    const answer = await askStats(this.socket);
    if (!answer.ok) throw new Error(answer.message);
    return answer.value;
  }

  /** How many entries each of the kernel's maps has; none without the kernel path. */
  async maps(): Promise<ReadonlyMap<string, number>> {
    const { askMaps } = await import("../../src/admin/client.ts");
    const answer = await askMaps(this.socket);
    if (!answer.ok) throw new Error(answer.message);
    return new Map(answer.value.map(({ name, entries }) => [name, entries.length]));
  }

  /** Open files of the daemon. */
  files(): number {
    return readdirSync(`/proc/${this.daemon!.pid}/fd`).length;
  }

  async stop(): Promise<void> {
    for (const p of this.#processes.reverse()) {
      if (p.exitCode !== null || p.signalCode !== null) continue;
      const gone = new Promise((r) => p.once("exit", r));
      p.kill("SIGTERM");
      await Promise.race([gone, new Promise((r) => setTimeout(r, 60_000).unref())]);
      p.kill("SIGKILL");
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #spawn(command: readonly string[], ready?: RegExp): Promise<ChildProcess> {
    const [file = "", ...args] = [...WITH_US, ...command];
    const child = spawn(file, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.#processes.push(child);
    if (!ready) return Promise.resolve(child);
    return new Promise((resolve, reject) => {
      let said = "";
      const hear = (d: Buffer) => {
        said += d;
        if (ready.test(said)) resolve(child);
      };
      child.stdout.on("data", hear);
      child.stderr.on("data", hear);
      child.once("exit", (code) => reject(new Error(`${file} ${args[0]} ended with ${code}: ${said}`)));
      child.once("error", reject);
    });
  }
}

export const get = (path: string, headers = "") => `GET ${path} HTTP/1.1\r\nHost: test\r\n${headers}\r\n`;

function bootstrap(
  ip: string,
  backend: string,
  port: number,
  { timeout = "0s", cluster = "", manager = "{}" }: Parameters<World["start"]>[0] = {},
): string {
  return `
cluster_manager: ${manager}
static_resources:
  listeners:
  - name: test
    address: { socket_address: { address: ${ip}, port_value: ${port} } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: test
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: /nowhere }
                route: { cluster: nowhere }
              - match: { prefix: / }
                route: { cluster: backend, timeout: ${timeout} }
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: backend
    connect_timeout: 1s
    ${cluster}
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: ${backend}, port_value: ${port} } } }
  - name: nowhere
    connect_timeout: 1s
    load_assignment:
      cluster_name: nowhere
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: ${backend}, port_value: 1 } } }
`;
}
