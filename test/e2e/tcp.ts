import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { Daemon, inCgroup, makeCgroup, removeCgroup, start } from "./harness.ts";

/** A bed for connections by tcp_proxy: servers in this process, clients in a cgroup of their own, a daemon between. */

const CLIENT = join(import.meta.dirname, "tcp-client.mjs");

export interface Talk {
  readonly ip: string;
  readonly port: number;
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
  readonly #server: Server;
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

export class TcpBed {
  readonly daemon = new Daemon();
  readonly #cgroup: string | undefined;

  private constructor(cgroup: string | undefined) {
    this.#cgroup = cgroup;
  }

  static async open(kernel: boolean, listeners: readonly object[], clusters: readonly object[]): Promise<TcpBed> {
    const bed = new TcpBed(kernel ? makeCgroup(`tcp-${beds++}`) : undefined);
    const config = JSON.stringify({ static_resources: { listeners, clusters } });
    await bed.daemon.start(config, kernel ? "kernel" : "userspace", bed.#cgroup === undefined ? [] : [bed.#cgroup]);
    return bed;
  }

  /** One connection after the other, by one process. */
  async talk(...connections: readonly Talk[]): Promise<Told[]> {
    const child = start(inCgroup(this.#cgroup, [process.execPath, CLIENT, JSON.stringify(connections)]));
    let [text, complaints] = ["", ""];
    child.stdout!.on("data", (data) => {
      text += data;
    });
    child.stderr!.on("data", (data) => {
      complaints += data;
    });
    await new Promise((resolve) => child.once("close", resolve));
    if (text === "") throw new Error(complaints);
    return JSON.parse(text) as Told[];
  }

  async close(): Promise<void> {
    await this.daemon.stop();
    if (this.#cgroup !== undefined) removeCgroup(this.#cgroup);
  }
}
