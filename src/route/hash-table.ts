import type { HashingPolicy, Maglev, RingHash } from "../model/config.ts";
import type { HashTable, MaglevTable, RingTable } from "../model/hash-table.ts";
import { murmurHash2, xxHash64 } from "./hash.ts";

/** Envoy's tables (source/extensions/load_balancing_policies/ring_hash and maglev): the same hosts, the same table. */

export interface HashedHost {
  /** What is hashed in its place: a character for each byte. */
  readonly key: string;
  /** Its part of all requests: the shares of all hosts add up to 1. */
  readonly share: number;
}

/** Each host's part, by weights that may be added up without loss. */
export function sharesOf(weights: readonly number[]): number[] {
  const sum = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / sum);
}

export function createTable(policy: HashingPolicy, hosts: readonly HashedHost[]): HashTable {
  return policy.kind === "ringHash" ? createRing(policy, hosts) : createMaglev(policy, hosts);
}

/**
 * The position of the host that a hash leads to; undefined where there is none. `attempt` counts the hosts that a
 * request was not content with: another one may come out, or the same.
 */
export function pickByHash(table: HashTable, hash: bigint, attempt = 0): number | undefined {
  const { length } = table.hosts;
  if (length === 0) return undefined;
  switch (table.kind) {
    case "ring":
      return table.hosts[(firstNotBelow(table.hashes, hash) + attempt) % length];
    case "maglev": {
      const changed = attempt === 0 ? hash : hash ^ BigInt.asUintN(64, -BigInt(attempt));
      return table.hosts[Number(changed % BigInt(length))];
    }
    default:
      return table satisfies never;
  }
}

/** As many as there are where every entry is below it: the ring goes on at its beginning. */
function firstNotBelow(hashes: BigUint64Array, hash: bigint): number {
  let [low, high] = [0, hashes.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (hashes[middle]! < hash) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The host with the least share gets a whole number of entries, at least its share of the minimum; the others as many
 * as keep the running sum right. Entries of one hash, which only hosts of one key have, lie in the order of the hosts;
 * in Envoy theirs is chance.
 */
function createRing({ minimumSize, maximumSize, hash }: RingHash, hosts: readonly HashedHost[]): RingTable {
  if (hosts.length === 0) return { kind: "ring", hashes: new BigUint64Array(), hosts: new Uint32Array() };
  const least = hosts.reduce((least, { share }) => Math.min(least, share), 1);
  const scale = Math.min(Math.ceil(least * minimumSize) / least, maximumSize);
  const hashOf = hash === "murmurHash2" ? murmurHash2 : xxHash64;
  const entries: { readonly hash: bigint; readonly host: number }[] = [];
  let target = 0;
  for (const [host, { key, share }] of hosts.entries()) {
    target += scale * share;
    for (let i = 0; entries.length < target; i++) entries.push({ hash: hashOf(`${key}_${i}`), host });
  }
  entries.sort((a, b) => (a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : 0));
  return {
    kind: "ring",
    hashes: BigUint64Array.from(entries, (entry) => entry.hash),
    hosts: Uint32Array.from(entries, (entry) => entry.host),
  };
}

const FREE = 0xffffffff;

/** Hosts take entries in turn, each in an order of its own; one with half of the greatest share every other turn. */
function createMaglev({ tableSize }: Maglev, hosts: readonly HashedHost[]): MaglevTable {
  if (hosts.length === 0) return { kind: "maglev", hosts: new Uint32Array() };
  const size = BigInt(tableSize);
  const greatest = hosts.reduce((greatest, { share }) => Math.max(greatest, share), 0);
  const takers = hosts
    .map(({ key, share }, host) => ({
      host,
      key,
      share,
      target: 0,
      next: Number(xxHash64(key) % size),
      skip: Number(xxHash64(key, 1n) % (size - 1n)) + 1,
    }))
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  const table = new Uint32Array(tableSize).fill(FREE);
  let taken = 0;
  for (let turn = 1; taken < tableSize; turn++) {
    for (const taker of takers) {
      if (taken === tableSize) break;
      if (turn * taker.share < taker.target) continue;
      taker.target += greatest;
      while (table[taker.next] !== FREE) taker.next = (taker.next + taker.skip) % tableSize;
      table[taker.next] = taker.host;
      taken++;
    }
  }
  return { kind: "maglev", hosts: table };
}
