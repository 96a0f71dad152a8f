import type { Cgroup } from "../party.ts";

export type Topology = "same-host" | "cross-host";
export const TOPOLOGIES: readonly Topology[] = ["same-host", "cross-host"];

export const SYSTEMS = ["direct", "envoy-1", "envoy-2", "haproxy", "nginx", "xlb", "xlb-slow-path"] as const;
export type SystemName = (typeof SYSTEMS)[number];

/** What a client connects to, and whose CPU time that costs. */
export interface System {
  readonly name: SystemName;
  /** `http://ip:port` */
  origin(topology: Topology): string;
  /** The cgroup that the client has to be in. */
  readonly client: Cgroup;
  /** All parties but the kernel's own workers, the client and the backend included. */
  parties(topology: Topology): readonly Cgroup[];
  /** Requests that found no i-sock so far; only XLB has that trouble. */
  starved?(): Promise<number>;
}

/** Where the balancers find the server, in each topology. */
export interface Backends {
  readonly cgroup: Readonly<Record<Topology, Cgroup>>;
  readonly address: Readonly<Record<Topology, { readonly ip: string; readonly port: number }>>;
}

export class Absent extends Error {}
