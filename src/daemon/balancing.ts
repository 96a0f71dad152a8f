import type { BalancedList, Balancing } from "../compile/cluster.ts";
import { whyNotTable } from "../compile/hash.ts";
import { whyNotUpstream } from "../compile/limits.ts";
import { recordsOf } from "../compile/records.ts";
import type { Cluster, Config, Endpoint, HashingPolicy, PlainPolicy } from "../model/config.ts";
import { isHashing } from "../model/hash-table.ts";
import type { Metadata } from "../model/metadata.ts";
import { hashParts } from "../route/hash-parts.ts";
import { type Part, partsOf } from "../route/parts.ts";
import { goesByDeadlines } from "../route/pick.ts";
import { schedule } from "../route/schedule.ts";
import { subsetsOf } from "../route/subset.ts";
import { XLB_MAX_LISTS, XLB_MAX_SCAN } from "../tables/layout.gen.ts";

/** Longest cycle of turns that a cluster's table holds. */
const MAX_SCHEDULE = 4_096;

/** How the kernel balances the clusters of a configuration for requests with these criteria, or why it does not. */
export function kernelBalancing(config: Config): (cluster: Cluster, criteria?: Metadata) => Balancing {
  const balancing = clusterBalancing(config);
  return (cluster, criteria) => {
    /* Whether a subset has an endpoint to give is known: where only some requests get one, it is for the slow path. */
    for (const subset of subsetsOf(cluster, criteria)) {
      const how = balancing(subset.cluster);
      if ("slow" in how || how.lists.some(({ hosts }) => hosts.length > 0)) return how;
    }
    return { lists: [] };
  };
}

/** The same without regard to subsets. */
function clusterBalancing(config: Config): (cluster: Cluster) => Balancing {
  /* A table takes a while, and several ask. */
  const hashed = new Map<Cluster, Balancing>();
  return (cluster) => {
    const { policy } = cluster;
    if (isHashing(policy)) {
      const how = hashed.get(cluster) ?? hashBalancing(cluster, policy, config);
      hashed.set(cluster, how);
      return how;
    }
    const parts = partsOf(cluster, config);
    const lists = parts.flatMap((part) => part.lists.map((list) => ({ ...list, share: shareOf(part, list.weight) })));
    const slow = whyNotUpstream(cluster) ?? whyNot(cluster, policy, parts);
    if (slow !== undefined) return { slow };
    return { lists: lists.map(({ hosts, share }) => ({ share, hosts, ...pickingFrom(policy, hosts) })) };
  };
}

/** Which clusters are balanced as they were: their endpoints are the same, and those of the cluster that XLB is in. */
export function standing(before: Config, now: Config): (cluster: Cluster) => boolean {
  const had = new Set(before.clusters);
  const own = now.local && now.clusters.find(({ name }) => name === now.local?.cluster);
  return (cluster) => had.has(cluster) && (own === undefined || had.has(own));
}

/** The clusters that the slow path alone can balance, and why. */
export function slowClusters(config: Config): { readonly where: string; readonly reason: string }[] {
  const balancing = kernelBalancing(config);
  return recordsOf(config).flatMap(({ title, cluster, criteria }) => {
    const how = balancing(cluster, criteria);
    return "slow" in how ? [{ where: `cluster ${title}`, reason: how.slow }] : [];
  });
}

const shareOf = ({ percent, lists }: Part, weight: number) =>
  ((percent / 100) * weight) / lists.reduce((sum, { weight }) => sum + weight, 0);

function whyNot({ drop, discovery }: Cluster, policy: PlainPolicy, parts: readonly Part[]): string | undefined {
  if (discovery?.kind === "originalDst") return "its endpoint is where the client wants to go";
  const lists = parts.flatMap(({ lists }) => lists);
  const reason = whyNotLists(drop, lists);
  if (reason !== undefined) return reason;
  if (policy.kind === "random") return undefined;
  const weightsOf = (hosts: readonly Endpoint[]) => hosts.map(({ weight }) => weight);
  const byDeadlines = lists.some(({ hosts }) => goesByDeadlines(policy, weightsOf(hosts)));
  const isMixed = (hosts: readonly Endpoint[]) => new Set(hosts.map(({ health }) => health === "healthy")).size > 1;
  if (policy.slowStart !== undefined && lists.some(({ hosts }) => isMixed(hosts)))
    return "healthy endpoints start slowly beside others, in panic";
  if (policy.kind === "roundRobin") return undefined;
  const { bias = 1, fullScan } = policy;
  if (byDeadlines && bias !== 0 && bias !== 1) return "its active_request_bias is neither 0 nor 1";
  const longest = Math.max(...lists.map(({ hosts }) => hosts.length));
  return fullScan && longest > XLB_MAX_SCAN ? `FULL_SCAN of more than ${XLB_MAX_SCAN} endpoints` : undefined;
}

function whyNotLists(drop: Cluster["drop"], lists: readonly { readonly hosts: readonly Endpoint[] }[]) {
  if (drop !== undefined) return "drop_overloads answers a part of its requests";
  if (lists.length > XLB_MAX_LISTS) return `its priorities and localities make more than ${XLB_MAX_LISTS} lists`;
  /* The slow path would take its own chance, and the part without an endpoint would be too small. */
  const lacks = lists.length > 1 && lists.some(({ hosts }) => hosts.length === 0);
  return lacks ? "a part of its requests has no endpoint" : undefined;
}

function hashBalancing(cluster: Cluster, policy: HashingPolicy, { local }: Config): Balancing {
  if (policy.balanceFactor !== undefined) return { slow: "hash_balance_factor counts the requests in service" };
  const parts = hashParts(cluster, policy, local);
  const slow =
    whyNotUpstream(cluster) ??
    whyNotLists(cluster.drop, parts) ??
    parts.map(({ table }) => whyNotTable(table)).find((reason) => reason !== undefined);
  if (slow !== undefined) return { slow };
  return {
    lists: parts.map(({ percent, hosts, table }) => ({
      share: percent / 100,
      policy: policy.kind,
      hosts,
      schedule: [],
      table,
    })),
  };
}

/** While all endpoints are as new, slow start changes no share. */
function pickingFrom(
  policy: PlainPolicy,
  hosts: readonly Endpoint[],
): Pick<BalancedList, "policy" | "schedule" | "choices"> {
  const weights = hosts.map(({ weight }) => weight);
  const turns = schedule(weights, MAX_SCHEDULE);
  if (policy.kind !== "leastRequest") return { policy: policy.kind, schedule: turns };
  const byDeadlines = goesByDeadlines(policy, weights);
  if (byDeadlines) return { policy: policy.bias === 0 ? "roundRobin" : "leastWeighed", schedule: turns };
  if (policy.fullScan) return { policy: "fullScan", schedule: turns };
  return { policy: "leastRequest", schedule: turns, choices: policy.choiceCount };
}
