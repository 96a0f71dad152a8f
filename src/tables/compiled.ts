import type { Address } from "./address.ts";

/** Numbers by which the kernel knows things. They outlive a configuration, so that counters do too. */
export interface Ids {
  readonly listeners: ReadonlyMap<string, number>;
  readonly routes: ReadonlyMap<string, number>;
  /** By name, and those of their subsets that routes ask for. */
  readonly clusters: ReadonlyMap<string, number>;
  /** By `cluster ip:port`. */
  readonly endpoints: ReadonlyMap<string, number>;
  /** Endpoints that there are no more: somebody may still count by their numbers, which are given to no other. */
  readonly retired?: ReadonlySet<number>;
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
  /** The same of its query parameters. */
  readonly asksQuery: readonly number[];
}

/** Rules that the kernel follows, but not at a cost that stays the same however many they are. */
export interface LongRule {
  readonly where: string;
  readonly reason: string;
}

export interface CompiledListener {
  readonly name: string;
  readonly id: number;
  readonly address: Address;
  readonly way: ConnectWay;
  /** Other addresses that it takes connections to, of which port 0 stands for any. */
  readonly others: readonly { readonly address: Address; readonly way: OtherWay }[];
}

/** Requests go by the listener's one set of rules. */
export type OtherWay =
  | Exclude<ConnectWay, { kind: "requests" }>
  | Pick<Extract<ConnectWay, { kind: "requests" }>, "kind" | "inspected">;

/** What becomes of a connection to a listener when it is made. */
export type ConnectWay =
  /** It reaches the anchor, and the hooks take its requests by these rules. */
  | {
      readonly kind: "requests";
      readonly hosts: HostBlob;
      /** A virtual host's blob by its place in the route configuration; undefined: the slow path's. */
      readonly virtualHosts: readonly (Uint32Array | undefined)[];
      /** Only those that speak HTTP/1.1; what the others get, the slow path knows. */
      readonly inspected: boolean;
    }
  /** It reaches the anchor, and the slow path does all the rest. */
  | { readonly kind: "anchor" }
  /** It goes where the client wants, as if there were no listener. */
  | { readonly kind: "leave" }
  /** It goes to an endpoint that the hook picks by this blob of clusters, and to the anchor where there is none. */
  | { readonly kind: "direct"; readonly blob: Uint32Array };

export interface CompiledCluster {
  readonly name: string;
  readonly id: number;
  readonly blob: Uint32Array;
  /** The bound of the requests that are in service at a time, and the row in which they are counted. */
  readonly limit?: { readonly breaker: number; readonly maxRequests: number };
}

export interface Tables {
  readonly ids: Ids;
  readonly listeners: readonly CompiledListener[];
  readonly clusters: readonly CompiledCluster[];
  /** Where endpoints are that connections are made to. */
  readonly endpoints: readonly { readonly id: number; readonly address: Address }[];
  /** Ordinary header names that the rules ask for, and `?name` for parameters of the query, with their indexes. */
  readonly headerNames: readonly { readonly name: string; readonly index: number }[];
  readonly slow: readonly SlowRule[];
  readonly long: readonly LongRule[];
  /** What virtual hosts' parts were compiled from: for the next compilation alone, which leaves what did not change. */
  readonly sources: object;
}

/** Host names, still with the virtual hosts' places instead of their rules' indexes, which only sync knows. */
export interface HostBlob {
  /** The blob, given the rules index of each virtual host. */
  blob(rulesOf: (place: number) => number): Uint32Array;
}
