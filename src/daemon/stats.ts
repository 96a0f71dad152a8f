import type { ClusterStats, EndpointStats, ListenerStats, Stats } from "../admin/messages.ts";
import type { Outliers } from "../health/outliers.ts";
import type { Datapath } from "../kernel/datapath.ts";
import { httpChains } from "../model/chains.ts";
import type { Config } from "../model/config.ts";
import { addressText, endpointName } from "../tables/address.ts";
import type { Ids } from "../tables/compiled.ts";
import type { EndpointStats as EndpointRow } from "../tables/layout.gen.ts";
import { reasonWords } from "../tables/layout.gen.ts";
import type { EndpointCounts, SlowCounters } from "./counters.ts";
import type { KernelPath } from "./kernel-path.ts";

export interface Sources {
  readonly config: Config;
  readonly startedAt: number;
  readonly slow: SlowCounters;
  readonly openSlow: () => number;
  readonly outliers: Outliers;
  readonly kernel?: { readonly datapath: Datapath; readonly path: KernelPath; readonly ids: Ids };
}

/** Kernel's counters and the slow path's, as one. */
export function collectStats(from: Sources): Stats {
  const { kernel, slow, config } = from;
  return {
    datapath: kernel ? "kernel" : "userspace",
    uptime: (performance.now() - from.startedAt) / 1_000,
    memory: process.memoryUsage.rss(),
    connections: { open: kernel ? kernel.path.connections.open : from.openSlow(), slow_path: from.openSlow() },
    listeners: config.listeners.map((l): ListenerStats => {
      const id = kernel?.ids.listeners.get(l.name);
      const row = kernel && id !== undefined ? kernel.datapath.listenerCounts(id) : undefined;
      const own = slow.listener(l.name);
      return {
        name: l.name,
        address: addressText(l.address),
        connections: row ? Number(row.connections) : own.connections,
        direct: Number(row?.direct ?? 0),
        requests: Number((row?.sameHost ?? 0n) + (row?.crossHost ?? 0n) + (row?.answered ?? 0n)) + own.requests,
        same_host: Number(row?.sameHost ?? 0),
        cross_host: Number(row?.crossHost ?? 0),
        slow: own.requests,
        answered: Number(row?.answered ?? 0),
        no_route_match: own.noRoute,
        ...counted(slow.ends.get(l.name)),
      };
    }),
    routes: config.listeners.flatMap(httpChains).flatMap(({ routes }) =>
      routes.virtualHosts.flatMap((v) =>
        v.routes.map((r) => {
          const id = kernel?.ids.routes.get(r.name);
          const counted = kernel && id !== undefined ? kernel.datapath.routeRequests(id) : 0;
          return { name: r.name, requests: counted + (slow.routes.get(r.name) ?? 0) };
        }),
      ),
    ),
    clusters: config.clusters.map(
      (cluster): ClusterStats => ({
        name: cluster.name,
        ...countedOf(cluster.name, from),
        endpoints: cluster.endpoints.map((endpoint) => {
          const name = endpointName(cluster.name, endpoint);
          const id = kernel?.ids.endpoints.get(name);
          const row = kernel && id !== undefined ? kernel.datapath.endpointCounts(id) : undefined;
          const slots = kernel && id !== undefined ? kernel.path.pools.slotsOf(undefined, id) : [];
          const idle = slots.filter((s) => kernel!.datapath.isIdle(s)).length;
          return {
            address: addressText(endpoint.address),
            health: from.outliers.isEjected(cluster.name, endpoint) ? "ejected" : endpoint.health,
            active: kernel && id !== undefined ? kernel.datapath.active(id) : slow.endpoint(name).active,
            direct: Number(row?.direct ?? 0),
            pool: { total: slots.length, idle, busy: slots.length - idle },
            ...both(row, slow.endpoint(name)),
          };
        }),
      }),
    ),
    reasons: {
      ...(kernel ? kernelReasons(kernel.datapath) : {}),
      ...Object.fromEntries([...slow.flags].map(([flag, n]) => [`slow_path_${flag.toLowerCase()}`, n])),
    },
  };
}

/** With the gauge of what is ejected now, as long as anything is. */
function countedOf(cluster: string, { slow, outliers }: Sources) {
  const counts = new Map(slow.clusters.get(cluster));
  if (outliers.active(cluster) > 0) counts.set("outlier_detection.ejections_active", outliers.active(cluster));
  return counts.size === 0 ? {} : counted(counts);
}

const counted = (counts: ReadonlyMap<string, number> | undefined) =>
  counts === undefined ? {} : { counters: Object.fromEntries(counts) };

function both(
  row: EndpointRow | undefined,
  own: EndpointCounts,
): Omit<EndpointStats, "address" | "health" | "active" | "direct" | "pool"> {
  const n = (value: bigint | undefined) => Number(value ?? 0n);
  const classes = [row?.responses1xx, row?.responses2xx, row?.responses3xx, row?.responses4xx, row?.responses5xx];
  const byClass = classes.map((value, i) => n(value) + own.byClass[i]!);
  const responses = byClass.reduce((sum, value) => sum + value, 0);
  const us = n(row?.timeNs) / 1_000 + own.timeMs * 1_000;
  const [c1, c2, c3, c4, c5] = byClass as [number, number, number, number, number];
  return {
    requests: n(row?.sameHost) + n(row?.crossHost) + own.requests,
    same_host: n(row?.sameHost),
    cross_host: n(row?.crossHost),
    slow: own.requests,
    responses: { "1xx": c1, "2xx": c2, "3xx": c3, "4xx": c4, "5xx": c5 },
    request_bytes: n(row?.requestBytes) + own.requestBytes,
    response_bytes: n(row?.responseBytes) + own.responseBytes,
    mean_us: responses === 0 ? 0 : us / responses,
  };
}

function kernelReasons(datapath: Datapath): Record<string, number> {
  const out: Record<string, number> = {};
  for (const [reason, word] of Object.entries(reasonWords)) {
    if (word === "count") continue;
    const n = datapath.reasonCount(Number(reason));
    if (n > 0) out[word] = n;
  }
  return out;
}
