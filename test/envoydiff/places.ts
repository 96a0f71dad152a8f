import { answering, listenerJson, TWIN } from "./fronts.ts";
import type { ClusterSpec, FrontSpec, Json, LocalSpec, Spec } from "./spec.ts";
import { LOCAL } from "./zones.ts";

/** Where listeners and endpoints are: all that has to be told of an address follows from it. */

export interface Ports {
  /** Of the first listener of a start. */
  readonly listen: number;
  /** Of servers in an enrolled cgroup, of others, and of nobody. */
  readonly near: number;
  readonly far: number;
  readonly dead: number;
}

/** What corpus and unit tests take; a run of the harness has its own. */
export const SOME_PORTS: Ports = { listen: 9_100, near: 9_001, far: 9_002, dead: 9_003 };

/** Another harness may run beside this one. */
export function portsOf(pid: number): Ports {
  const first = 10_000 + (pid % 400) * 50;
  return { listen: first + 10, near: first, far: first + 1, dead: first + 2 };
}

const FIRST_NET = 101;

/** Cluster `c<slot>-<n>`, endpoint e: 127.<101 + slot>.<n>.<e + 1>. */
export function ipsOf({ name, endpoints }: ClusterSpec): string[] {
  const [, slot, n] = /^c(\d+)-(\d+)$/.exec(name)!;
  return endpoints.map((_, e) => `127.${FIRST_NET + Number(slot)}.${n}.${e + 1}`);
}

export function clusterOf(ip: string): string {
  const [, net, n] = ip.split(".").map(Number);
  return `c${net! - FIRST_NET}-${n}`;
}

/** Who the balancer is: `add_user_agent` tells servers. */
const NODE = { id: "node-id", cluster: "node-cluster" };

/** Where a listener is that has this one of the balancer's addresses for its own. */
export const addressOf = (ip: string, lastByte: string) => ip.replace(/\d+$/, lastByte);

/**
 * A listener for each configuration, on one address, port after port, and the second ones behind them. `tellsTo`: where
 * nobody redirects connections, a line before the first says where they were to go.
 */
export function bootstrap(specs: readonly Spec[], ip: string, ports: Ports, tellsTo = false): Json {
  const local = specs.find((spec) => spec.local !== undefined)?.local;
  return {
    node: { ...NODE, ...(local && { locality: local.at }) },
    ...(local && { cluster_manager: { local_cluster_name: LOCAL } }),
    static_resources: {
      listeners: [
        ...specs.map((spec, slot) => ({
          name: `l${slot}`,
          address: socketAddress(spec.front?.anywhere ? "0.0.0.0" : ip, ports.listen + slot),
          ...chains(spec, `l${slot}`, ip, tellsTo),
        })),
        ...specs.flatMap(({ front }, slot) => (front?.twin === undefined ? [] : [twin(front, slot, ip, ports)])),
      ],
      clusters: [
        ...specs.flatMap((spec) => spec.clusters.map((cluster) => clusterJson(cluster, ports))),
        ...(local ? [localCluster(local, ports)] : []),
      ],
    },
  };
}

function twin({ anywhere, twin = "" }: FrontSpec, slot: number, ip: string, ports: Ports): Json {
  const name = `l${slot}-twin`;
  const address = socketAddress(anywhere ? addressOf(ip, TWIN) : "0.0.0.0", ports.listen + slot);
  return { name, address, filter_chains: [{ filters: [answering(twin, name)] }] };
}

/** Nobody asks its endpoints anything. */
const localCluster = ({ peers }: LocalSpec, ports: Ports): Json => ({
  name: LOCAL,
  type: "STATIC",
  load_assignment: {
    cluster_name: LOCAL,
    endpoints: peers.map(({ place, ...more }, i) => ({
      locality: place,
      lb_endpoints: [{ endpoint: { address: socketAddress(`127.${FIRST_NET - 1}.0.${i + 1}`, ports.dead) }, ...more }],
    })),
  },
});

function chains(spec: Spec, name: string, ip: string, tellsTo: boolean): Json {
  if (spec.front === undefined) return { filter_chains: [{ filters: [manager(spec, name)] }] };
  const json = JSON.stringify(listenerJson(spec.front, manager(spec, name), name, tellsTo));
  return JSON.parse(json.replaceAll("{net}", ip.split(".")[2]!)) as Json;
}

const EXTENSION = "type.googleapis.com/envoy.extensions.filters";

const manager = (spec: Spec, name: string) => ({
  name: "envoy.filters.network.http_connection_manager",
  typed_config: {
    "@type": `${EXTENSION}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: name,
    ...spec.manager,
    route_config: { name, ...spec.routes },
    http_filters: [
      ...(spec.filters ?? []),
      {
        name: "envoy.filters.http.router",
        typed_config: { "@type": `${EXTENSION}.http.router.v3.Router`, ...spec.router },
      },
    ],
  },
});

function clusterJson(cluster: ClusterSpec, ports: Ports): Json {
  const ips = ipsOf(cluster);
  /* Neighbours of one priority and zone share an entry; both readers see to those that are not neighbours. */
  const groups: { key: string; entry: Json & { lb_endpoints: Json[] } }[] = [];
  cluster.endpoints.forEach(({ near, dead, priority = 0, zone, region, sub_zone, hostname, ...rest }, e) => {
    const address = socketAddress(ips[e]!, dead ? ports.dead : near ? ports.near : ports.far);
    const place = { region, zone, sub_zone };
    const key = `${priority} ${JSON.stringify(place)}`;
    if (groups.at(-1)?.key !== key) {
      const locality = zone === undefined ? {} : { locality: place, load_balancing_weight: zone.length };
      groups.push({ key, entry: { priority, ...locality, lb_endpoints: [] } });
    }
    groups.at(-1)!.entry.lb_endpoints.push({
      endpoint: { address, ...(hostname === undefined ? {} : { hostname }) },
      ...rest,
    });
  });
  return {
    name: cluster.name,
    type: "STATIC",
    connect_timeout: "1s",
    ...cluster.options,
    load_assignment: {
      cluster_name: cluster.name,
      endpoints: groups.map(({ entry }) => entry),
      ...(cluster.policy ? { policy: cluster.policy } : {}),
    },
  };
}

const socketAddress = (address: string, port_value: number) => ({ socket_address: { address, port_value } });
