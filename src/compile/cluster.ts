import type { Endpoint } from "../model/config.ts";
import type { HashTable } from "../model/hash-table.ts";
import { BlobBuilder } from "../tables/blob.ts";
import { Policy, XLB_MAX_LISTS } from "../tables/layout.gen.ts";
import { writeHashTable } from "./hash.ts";

/** What of a cluster takes part in balancing; or why the kernel cannot do it, a clause about the cluster. */
export type Balancing = { readonly lists: readonly BalancedList[] } | { readonly slow: string };

/** Endpoints that share a part of the cluster's requests among them. */
export interface BalancedList {
  /** Of the cluster's requests; those of all lists add up to 1. */
  readonly share: number;
  readonly policy: keyof typeof POLICIES;
  /** With `ringHash` and `maglev`: what the hashes lead to, in place of turns. */
  readonly table?: HashTable;
  readonly hosts: readonly Endpoint[];
  /** Positions in `hosts`, to be taken in turn. */
  readonly schedule: readonly number[];
  /** With `leastRequest`: how many are drawn. */
  readonly choices?: number;
}

const POLICIES = {
  roundRobin: Policy.roundRobin,
  leastRequest: Policy.leastRequest,
  random: Policy.random,
  fullScan: Policy.fullScan,
  leastWeighed: Policy.leastWeighed,
  ringHash: Policy.ringHash,
  maglev: Policy.maglev,
} as const;

/** `idOf` gives an endpoint's row. A cluster of one list has nothing in its way; see docs/tables.md. */
export function compileCluster(balancing: Balancing, idOf: (endpoint: Endpoint) => number): Uint32Array {
  const blob = new BlobBuilder();
  const head = blob.reserve(2);
  if ("slow" in balancing) {
    blob.put(head, Policy.slow, 0, 0, 0);
    return blob.finish();
  }
  const { lists } = balancing;
  const [first] = lists;
  if (first === undefined || lists.length === 1) {
    if (first !== undefined) writeList(blob, head, first, 0, idOf);
    return blob.finish();
  }
  if (lists.length > XLB_MAX_LISTS) throw new Error(`${lists.length} lists are for the slow path`);
  const rows = blob.reserve(lists.length);
  let below = 0;
  lists.forEach((list, i) => {
    below += list.share;
    const at = blob.reserve(2);
    writeList(blob, at, list, i, idOf);
    // Of the hashes modulo 100; else of the numbers of 32 bits, of which the last list takes the last too.
    const last = i === lists.length - 1 ? 2 ** 32 - 1 : Math.round(below * 2 ** 32);
    const end = list.table === undefined ? last : Math.round(below * 100);
    blob.put(rows + i, end, at, 0, 0);
  });
  blob.put(head, first.table === undefined ? 0 : POLICIES[first.policy], lists.length, 0, 0);
  blob.put(head + 1, rows, 0, 0, lists.length);
  return blob.finish();
}

function writeList(
  blob: BlobBuilder,
  head: number,
  { policy, hosts, schedule, table, choices = 0 }: BalancedList,
  cursor: number,
  idOf: (endpoint: Endpoint) => number,
): void {
  const first = blob.reserve(hosts.length);
  hosts.forEach((host, i) => {
    blob.put(first + i, idOf(host), host.weight, 0, 0);
  });
  if (table !== undefined) {
    blob.put(head + 1, first, writeHashTable(blob, table), 0, 0);
    blob.put(head, POLICIES[policy], hosts.length, table.hosts.length, 0);
    return;
  }
  const turns = blob.length;
  for (let i = 0; i < schedule.length; i += 4) {
    blob.push(schedule[i]!, schedule[i + 1] ?? 0, schedule[i + 2] ?? 0, schedule[i + 3] ?? 0);
  }
  blob.put(head, POLICIES[policy], hosts.length, schedule.length, choices);
  blob.put(head + 1, first, turns, cursor, 0);
}
