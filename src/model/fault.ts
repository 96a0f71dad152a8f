import type { Fraction, HeaderMatch } from "./config.ts";

/**
 * What the fault filter does to the requests that it finds (envoy.extensions.filters.http.fault.v3.HTTPFault): some it
 * delays, and then some it answers itself.
 */
export interface Fault {
  readonly delay?: Delay;
  readonly abort?: Abort;
  /** A request has to have all of these. */
  readonly headers: readonly HeaderMatch[];
  /** `upstream_cluster`: only requests for this one. */
  readonly cluster?: string;
  /** `downstream_nodes`: only requests whose `x-envoy-downstream-service-node` is one of these. */
  readonly nodes?: readonly string[];
}

export interface Delay {
  /** Missing: the request's `x-envoy-fault-delay-request` says how many. */
  readonly ms?: number;
  readonly fraction: Fraction;
}

export interface Abort {
  /** Missing: the request's `x-envoy-fault-abort-request` or `x-envoy-fault-abort-grpc-request` says which. */
  readonly answer?: AbortAnswer;
  readonly fraction: Fraction;
}

export type AbortAnswer =
  | { readonly kind: "http"; readonly status: number }
  | { readonly kind: "grpc"; readonly status: number };
