import type { Cgroup } from "../party.ts";
import { type Backends, type System, type SystemName, TOPOLOGIES, type Topology } from "./system.ts";

/** A peer is one process tree with a listener for each topology, on a port that says which. */
export const PORTS: Readonly<Record<Topology, number>> = { "same-host": 8001, "cross-host": 8002 };

export function proxy(name: SystemName, ip: string, cgroup: Cgroup, client: Cgroup, backends: Backends): System {
  return {
    name,
    client,
    origin: (topology) => `http://${ip}:${PORTS[topology]}`,
    parties: (topology) => [client, cgroup, backends.cgroup[topology]],
  };
}

export interface Hop {
  readonly name: Topology;
  readonly listen: { readonly ip: string; readonly port: number };
  readonly backend: { readonly ip: string; readonly port: number };
}

export function hopsTo(backends: Backends, ip: string): readonly Hop[] {
  return TOPOLOGIES.map((name) => ({ name, listen: { ip, port: PORTS[name] }, backend: backends.address[name] }));
}
