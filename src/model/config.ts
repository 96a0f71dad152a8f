/**
 * What XLB was told to do, as plain data. `envoy/` makes it out of Envoy's API, `route/` gives it its meaning,
 * `compile/` turns it into tables for the kernel. Nothing here knows protobuf or bytes.
 */

/** An IP address in its canonical text form (RFC 5952 for IPv6) and a TCP port. */
export interface Address {
  readonly ip: string;
  /** 1..65535 */
  readonly port: number;
}

export interface Config {
  readonly listeners: readonly Listener[];
  readonly clusters: readonly Cluster[];
}

/** A virtual address that clients connect to. `ip` may be a wildcard (`0.0.0.0`, `::`): any address with that port. */
export interface Listener {
  readonly name: string;
  readonly address: Address;
  readonly statPrefix: string;
  readonly http: HttpOptions;
  readonly routes: RouteConfig;
}

/** The HttpConnectionManager's options that XLB honours; each default is Envoy's. */
export interface HttpOptions {
  /** `http_protocol_options.accept_http_10`; without it HTTP/1.0 requests get 426. */
  readonly acceptHttp10: boolean;
  /** `http_protocol_options.default_host_for_http_10` */
  readonly defaultHostForHttp10: string | undefined;
  /** `max_request_headers_kb`, KiB; over it: 431. */
  readonly maxRequestHeadersKb: number;
  /** `common_http_protocol_options.max_headers_count`; over it: 431. */
  readonly maxHeadersCount: number;
  /** Upgrade tokens (lower case) that `upgrade_configs` enables; others get 403. */
  readonly upgrades: readonly string[];
}

export interface RouteConfig {
  readonly name: string;
  readonly ignorePortInHostMatching: boolean;
  readonly virtualHosts: readonly VirtualHost[];
}

export interface VirtualHost {
  readonly name: string;
  /** Lower case: exact, `*.suffix`, `*-suffix`, `prefix.*` or `*`. */
  readonly domains: readonly string[];
  readonly routes: readonly Route[];
}

export interface Route {
  /** The route's own name, or `<virtual host>/<index>` where it has none: a key for counters. */
  readonly name: string;
  readonly path: PathMatch;
  readonly headers: readonly HeaderMatch[];
  readonly action: RouteAction;
}

/** Matched against the path without query and fragment. */
export interface PathMatch {
  readonly kind: "prefix" | "path" | "pathSeparatedPrefix";
  readonly value: string;
  readonly caseSensitive: boolean;
}

export interface HeaderMatch {
  /** Lower case; may be a pseudo header: `:method`, `:authority`, `:path`, `:scheme`. */
  readonly name: string;
  readonly invert: boolean;
  readonly value: HeaderValueMatch;
}

export type HeaderValueMatch = { readonly kind: "present"; readonly present: boolean } | StringMatch;

export interface StringMatch {
  readonly kind: "exact" | "prefix" | "suffix" | "contains";
  readonly value: string;
  readonly ignoreCase: boolean;
}

export interface RouteAction {
  /** At least one; a plain `cluster` is one entry of weight 1. An entry of weight 0 is never picked. */
  readonly clusters: readonly WeightedCluster[];
  /** Milliseconds, 0 = none. Envoy's default is 15,000: from the end of the request to the end of the response. */
  readonly timeoutMs: number;
}

export interface WeightedCluster {
  readonly name: string;
  readonly weight: number;
}

export type Policy =
  | { readonly kind: "roundRobin" }
  | { readonly kind: "leastRequest"; readonly choiceCount: number }
  | { readonly kind: "random" };

export interface Cluster {
  readonly name: string;
  readonly policy: Policy;
  /** Milliseconds; Envoy's default is 5,000. */
  readonly connectTimeoutMs: number;
  /** `circuit_breakers.thresholds[DEFAULT].max_connections`, 1,024 by default: the bound of an endpoint's pools. */
  readonly maxConnections: number;
  readonly endpoints: readonly Endpoint[];
}

export type Health = "healthy" | "unhealthy" | "draining" | "timeout" | "degraded";

export interface Endpoint {
  readonly address: Address;
  /** >= 1 */
  readonly weight: number;
  readonly health: Health;
}
