import type { HashingPolicy, Policy } from "./config.ts";

/**
 * Where each hash of 64 bits leads: made by `route/`, carried to the kernel by `compile/`. `hosts` are positions in the
 * list of hosts that the table was made for. A table without entries leads nowhere.
 */
export type HashTable = RingTable | MaglevTable;

/** The first entry whose hash is not below the request's has it; behind the last comes the first. */
export interface RingTable {
  readonly kind: "ring";
  /** Ascending. */
  readonly hashes: BigUint64Array;
  readonly hosts: Uint32Array;
}

/** The entry at the hash modulo their number has it. */
export interface MaglevTable {
  readonly kind: "maglev";
  readonly hosts: Uint32Array;
}

/** Has a cluster with this policy such a table? */
export const isHashing = (policy: Policy): policy is HashingPolicy =>
  policy.kind === "ringHash" || policy.kind === "maglev";
