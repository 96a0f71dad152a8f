import type { Cluster, Endpoint, HashingPolicy, Local } from "../model/config.ts";
import type { HashTable } from "../model/hash-table.ts";
import { addressText } from "../tables/address.ts";
import { textBytes } from "../tables/text.ts";
import { createTable, type HashedHost, sharesOf } from "./hash-table.ts";
import { type HostSet, hostSets } from "./health.ts";

/** Which table serves which hashes: load_balancing_policies/common/thread_aware_lb_impl.cc of Envoy. */
export interface HashPart {
  /** Of every 100 hashes in a row; those of all parts add up to 100. */
  readonly percent: number;
  readonly priority: number;
  readonly panic: boolean;
  /** What the table's positions stand for. */
  readonly hosts: readonly Endpoint[];
  /** Each one's part of all requests of this priority. */
  readonly shares: readonly number[];
  readonly table: HashTable;
}

/**
 * The parts with any requests at all, in the order in which they divide the hashes. A priority has one table, of its
 * healthy endpoints, or of all in panic: degraded ones are never used for themselves, whatever part is theirs.
 */
export function hashParts(cluster: Cluster, policy: HashingPolicy, local?: Local): HashPart[] {
  const sets = hostSets(cluster, local);
  const parts = sets.map((set) => {
    const members = membersOf(cluster, policy, set);
    return {
      priority: set.priority,
      panic: set.panic,
      hosts: members.map(({ host }) => host),
      shares: members.map(({ share }) => share),
      table: createTable(policy, members),
    };
  });
  return [
    ...sets.map(({ healthyLoad }, i) => ({ percent: healthyLoad, ...parts[i]! })),
    ...sets.map(({ degradedLoad }, i) => ({ percent: degradedLoad, ...parts[i]! })),
  ].filter(({ percent }) => percent > 0);
}

/** The part that has a hash. */
export function partOf(parts: readonly HashPart[], hash: bigint): HashPart | undefined {
  let left = parts.length === 1 ? 0 : Number(hash % 100n);
  return parts.find(({ percent }) => {
    left -= percent;
    return left < 0;
  });
}

type Member = HashedHost & { readonly host: Endpoint };

function membersOf({ localities }: Cluster, policy: HashingPolicy, set: HostSet): Member[] {
  const some = set.panic ? "all" : "healthy";
  if (localities?.kind !== "weighted") return members(policy, set[some], 1);
  // To Envoy a locality keeps its share when some of its endpoints are not well, or all of them.
  const shares = sharesOf(set.localities.map(({ weight }) => weight));
  return set.localities.flatMap((locality, i) =>
    locality.weight === 0 ? [] : members(policy, locality[some], shares[i]!),
  );
}

function members(policy: HashingPolicy, hosts: readonly Endpoint[], share: number): Member[] {
  const sum = hosts.reduce((sum, { weight }) => sum + weight, 0);
  return hosts.map((host) => ({ host, key: keyOf(policy, host), share: (host.weight * share) / sum }));
}

/** An endpoint without a name has the empty one: all of those are the same to Envoy. */
const keyOf = ({ byHostname }: HashingPolicy, { hashKey, hostname, address }: Endpoint) =>
  textBytes(hashKey ?? (byHostname ? (hostname ?? "") : addressText(address)));
