import type { Address } from "../model/config.ts";
import type { SocketOptions } from "../model/limits.ts";

/**
 * What a pool needs of the world: i-socks that somebody else makes, publishes and closes. Slots are the kernel's
 * records of i-socks; a slot's *idle bit* says that a hook may take it.
 */
export interface ISocks {
  /** Begins to connect; `Pools.connected` or `Pools.failed` is the answer. Throws when it cannot even begin. */
  connect(slot: number, tenant: number, target: EndpointTarget): void;
  /** Sets the idle bit: from now on hooks may take the slot. */
  publish(slot: number): void;
  /** Clears the idle bit. True when it was set: then the slot is ours alone. */
  withdraw(slot: number): boolean;
  /** Ends the i-sock. `abort` tells the server at once (RST) that nobody waits for its answer any more. */
  close(slot: number, abort: boolean): void;
  /** Tells the hooks which chunks a pool consists of. */
  setChunks(tenant: number, endpoint: number, chunks: readonly number[]): void;
  dropPool(tenant: number, endpoint: number): void;
  /** How many requests, of all tenants, have found no i-sock of the endpoint since this was last asked. */
  takeMissed(endpoint: number): number;
}

export interface Clock {
  /** Milliseconds, monotonic. */
  now(): number;
  after(ms: number, f: () => void): void;
}

export interface EndpointTarget {
  readonly endpoint: number;
  /** The name of its cluster. */
  readonly cluster: string;
  readonly address: Address;
  /** The bound on i-socks of one pool: the cluster's max_connections. */
  readonly maxConnections: number;
  readonly sockets?: SocketOptions;
  /** i-socks for each that is in use, from 1 to 3; missing: 1. */
  readonly preconnectRatio?: number;
}
