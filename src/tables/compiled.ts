import type { Address } from "./address.ts";

/** Numbers by which the kernel knows things. They outlive a configuration, so that counters do too. */
export interface Ids {
  readonly listeners: ReadonlyMap<string, number>;
  readonly routes: ReadonlyMap<string, number>;
  readonly clusters: ReadonlyMap<string, number>;
  /** By `cluster ip:port`. */
  readonly endpoints: ReadonlyMap<string, number>;
}

/** Something that the kernel cannot decide: requests for it take the slow path. */
export interface SlowRule {
  readonly listener: string;
  readonly virtualHost: string;
  /** Missing: all of the virtual host. */
  readonly route?: SlowRoute;
  readonly where: string;
  readonly reason: string;
}

export interface SlowRoute {
  /** Among the virtual host's routes. */
  readonly place: number;
  /** Does the hook ask for its path? If not, it takes any for this route's. */
  readonly asksPath: boolean;
  /** Which of its header conditions the hook asks, by their places. */
  readonly asksHeaders: readonly number[];
}

export interface CompiledListener {
  readonly name: string;
  readonly id: number;
  readonly address: Address;
  readonly hosts: HostBlob;
  /** A virtual host's blob by its place in the route configuration; undefined: the slow path's. */
  readonly virtualHosts: readonly (Uint32Array | undefined)[];
}

export interface Tables {
  readonly ids: Ids;
  readonly listeners: readonly CompiledListener[];
  readonly clusters: readonly { readonly name: string; readonly id: number; readonly blob: Uint32Array }[];
  /** Ordinary header names that the rules ask for, with their indexes. */
  readonly headerNames: readonly { readonly name: string; readonly index: number }[];
  readonly slow: readonly SlowRule[];
}

/** Host names, still with the virtual hosts' places instead of their rules' indexes, which only sync knows. */
export interface HostBlob {
  /** The blob, given the rules index of each virtual host. */
  blob(rulesOf: (place: number) => number): Uint32Array;
}
