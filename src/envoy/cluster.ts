import type { Cluster } from "../model/config.ts";
import { readBalancing } from "./balancing.ts";
import { readDiscovery } from "./discovery.ts";
import { readAssignment } from "./endpoints.ts";
import type { Fields } from "./fields.ts";
import { readBreakers, readUpstreamOptions } from "./limits.ts";
import { readOutlierDetection } from "./outlier.ts";
import { readSockets } from "./sockets.ts";

/** There is one endpoint, whatever the policy. */
const ANYWHERE = { policy: { kind: "roundRobin" } } as const;

/** `sources`: addresses that its connections come from, unless it has its own. */
export function readCluster(cluster: Fields, sources: readonly string[]): Cluster {
  const name = cluster.string("name");
  if (name.includes("\0")) cluster.reject("name", "must not hold a NUL");
  const discovery = readDiscovery(cluster);
  const breakers = readBreakers(cluster);
  const sockets = readSockets(cluster, sources);
  const preconnectRatio = cluster.message("preconnect_policy")?.number("per_upstream_preconnect_ratio");
  const outlierDetection = readOutlierDetection(cluster);
  const assignment = readAssignment(cluster, discovery?.kind === "dns");
  const count = assignment.endpoints.length;
  if (discovery?.kind === "dns" && discovery.logical && count !== 1)
    cluster.reject("load_assignment", `a LOGICAL_DNS cluster has one endpoint, not ${count}`);
  return {
    name,
    ...(discovery?.kind === "originalDst" ? ANYWHERE : readBalancing(cluster, discovery)),
    connectTimeoutMs: cluster.milliseconds("connect_timeout") ?? 5000,
    maxConnections: breakers.default.maxConnections,
    breakers,
    upstream: readUpstreamOptions(cluster),
    ...(sockets === undefined ? {} : { sockets }),
    ...(preconnectRatio === undefined ? {} : { preconnectRatio }),
    ...(outlierDetection === undefined ? {} : { outlierDetection }),
    ...assignment,
    ...(discovery === undefined ? {} : { discovery }),
  };
}
