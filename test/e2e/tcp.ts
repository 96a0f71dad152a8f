import type { ChildProcess } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer, type Server as NetServer, type Socket } from "node:net";
import { join } from "node:path";
import { installedEnvoy } from "../../bench/systems/envoy.ts";
import { Daemon, inCgroup, makeCgroup, removeCgroup, start, stop, withoutKernel } from "./harness.ts";

/** A bed for connections by tcp_proxy: servers in this process, clients in a cgroup of their own, a daemon between. */

const CLIENT = join(import.meta.dirname, "tcp-client.mjs");

export interface Talk {
  readonly ip: string;
  readonly port: number;
  readonly from?: string;
  readonly say?: string;
  readonly times?: number;
  readonly until?: number;
  readonly half?: boolean;
  readonly ms?: number;
  readonly keep?: boolean;
}

export interface Told {
  readonly text: string;
  /** `open`, `eof`, `timeout` or the code of an error. */
  readonly end: string;
  /** As getpeername tells it. */
  readonly peer: string;
}

/** Answers what it is told with its name before it; greets by its name where `first`. */
export class NamedServer {
  readonly name: string;
  readonly ip: string;
  port = 0;
  accepted = 0;
  readonly #server: NetServer;
  readonly #open = new Set<Socket>();

  constructor(name: string, ip: string, options: { readonly first?: boolean } = {}) {
    this.name = name;
    this.ip = ip;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      this.accepted++;
      this.#open.add(socket);
      socket.on("close", () => this.#open.delete(socket));
      socket.on("error", () => {});
      if (options.first) socket.write(name);
      socket.on("data", (data) => socket.write(`${name}:${data.toString("latin1")}`));
      socket.on("end", () => socket.end());
    });
  }

  get open(): number {
    return this.#open.size;
  }

  async listen(port = 0): Promise<this> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, this.ip, resolve);
    });
    this.port = (this.#server.address() as { port: number }).port;
    return this;
  }

  async close(): Promise<void> {
    for (const socket of this.#open) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

const TYPE = "type.googleapis.com/envoy.extensions.filters";

export const address = (ip: string, port: number) => ({ socket_address: { address: ip, port_value: port } });
export const tcpProxy = (to: string | object, more: object = {}) => ({
  name: "tcp",
  typed_config: {
    "@type": `${TYPE}.network.tcp_proxy.v3.TcpProxy`,
    stat_prefix: "tcp",
    ...(typeof to === "string" ? { cluster: to } : { weighted_clusters: to }),
    ...more,
  },
});
export const httpAnswer = (body: string) => ({
  name: "hcm",
  typed_config: {
    "@type": `${TYPE}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "http",
    route_config: {
      virtual_hosts: [
        {
          name: "any",
          domains: ["*"],
          routes: [{ match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: body } } }],
        },
      ],
    },
    http_filters: [{ name: "router", typed_config: { "@type": `${TYPE}.http.router.v3.Router` } }],
  },
});
export const inspector = {
  name: "http_inspector",
  typed_config: { "@type": `${TYPE}.listener.http_inspector.v3.HttpInspector` },
};

export const tlsInspector = (more: object = {}) => ({
  name: "tls_inspector",
  typed_config: { "@type": `${TYPE}.listener.tls_inspector.v3.TlsInspector`, ...more },
});

export function cluster(name: string, servers: readonly { readonly ip: string; readonly port: number }[], more = {}) {
  const lb_endpoints = servers.map(({ ip, port }) => ({ endpoint: { address: address(ip, port) } }));
  return {
    name,
    connect_timeout: "2s",
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints }] },
    ...more,
  };
}

let beds = 0;

/** Who serves: XLB, with its kernel path or without, or a real Envoy, so that a test says the same of all. */
export type Server = "kernel" | "userspace" | "envoy";

/** Why one of them cannot be tested here; false where it can. */
export function without(server: Server): string | false {
  if (server === "kernel") return withoutKernel();
  return server === "envoy" && installedEnvoy() === undefined ? "Envoy is not installed: see make envoy-diff" : false;
}

/** A real Envoy with a configuration of one listener, which it has at a port of its own. */
export class EnvoyBeside {
  readonly at: { readonly ip: string; readonly port: number };
  readonly #child: ChildProcess;

  private constructor(at: EnvoyBeside["at"], child: ChildProcess) {
    this.at = at;
    this.#child = child;
  }

  /** `folder`: where its file may lie. */
  static async start(config: string, folder: string): Promise<EnvoyBeside> {
    const { static_resources: resources } = JSON.parse(config);
    const { socket_address: at } = resources.listeners[0].address;
    at.port_value += 2_000;
    const beside = JSON.stringify({ static_resources: resources });
    return new EnvoyBeside({ ip: at.address, port: at.port_value }, await startEnvoy(beside, folder));
  }

  stop(): Promise<void> {
    return stop(this.#child);
  }
}

async function startEnvoy(config: string, folder: string): Promise<ChildProcess> {
  const file = join(folder, "envoy.json");
  writeFileSync(file, config);
  const flags = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "info"];
  const child = start([installedEnvoy()!, "-c", file, ...flags]);
  let log = "";
  await new Promise<void>((resolve, reject) => {
    child.stderr!.on("data", (data) => {
      log += data;
      if (log.includes("starting main dispatch loop")) resolve();
    });
    child.once("exit", (code) => reject(new Error(`Envoy ended with ${code}: ${log.slice(-2_000)}`)));
  });
  return child;
}

export class TcpBed {
  readonly daemon = new Daemon();
  readonly config: string;
  /** Where its clients are; undefined where any will do. */
  readonly cgroup: string | undefined;
  #envoy: ChildProcess | undefined;

  private constructor(cgroup: string | undefined, config: string) {
    this.cgroup = cgroup;
    this.config = config;
  }

  static async open(server: Server, listeners: readonly object[], clusters: readonly object[]): Promise<TcpBed> {
    const config = JSON.stringify({ static_resources: { listeners, clusters } });
    const bed = new TcpBed(server === "kernel" ? makeCgroup(`tcp-${beds++}`) : undefined, config);
    if (server === "envoy") bed.#envoy = await startEnvoy(config, bed.daemon.directory);
    else await bed.daemon.start(config, server, bed.cgroup === undefined ? [] : [bed.cgroup]);
    return bed;
  }

  /** One connection after the other, by one process. */
  async talk(...connections: readonly Talk[]): Promise<Told[]> {
    return JSON.parse(await this.run([process.execPath, CLIENT, JSON.stringify(connections)])) as Told[];
  }

  /** What a command of its clients' cgroup writes. */
  async run(command: readonly string[]): Promise<string> {
    const child = start(inCgroup(this.cgroup, command));
    let [text, complaints] = ["", ""];
    child.stdout!.on("data", (data) => {
      text += data;
    });
    child.stderr!.on("data", (data) => {
      complaints += data;
    });
    await new Promise((resolve) => child.once("close", resolve));
    if (text === "") throw new Error(complaints);
    return text;
  }

  async close(): Promise<void> {
    if (this.#envoy !== undefined) await stop(this.#envoy);
    await this.daemon.stop();
    if (this.cgroup !== undefined) removeCgroup(this.cgroup);
  }
}
