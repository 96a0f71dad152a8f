import type { Fraction, HeaderMatch } from "./config.ts";

/**
 * How much, how long and how often: circuit breakers, timeouts, retries and mirrors. Times are milliseconds, 0 says
 * "no limit", and each default is Envoy's.
 */

/** Which of a cluster's thresholds hold for a request: `route.priority`. */
export type Priority = "default" | "high";

/** `circuit_breakers.thresholds` of one priority. */
export interface Thresholds {
  readonly maxConnections: number;
  /** Requests that wait for a connection. */
  readonly maxPendingRequests: number;
  readonly maxRequests: number;
  /** Tries after the first that are under way at a time. */
  readonly maxRetries: number;
  /** Takes the place of `maxRetries`. */
  readonly retryBudget?: RetryBudget;
}

/** A share of the requests in service may be retries. */
export interface RetryBudget {
  readonly percent: number;
  readonly minConcurrency: number;
}

export interface Breakers {
  readonly default: Thresholds;
  readonly high: Thresholds;
  /** `per_host_thresholds`: connections to one endpoint. */
  readonly maxConnectionsPerHost?: { readonly [priority in Priority]?: number };
}

/** A cluster's `common_http_protocol_options`, and whose its connections are. */
export interface UpstreamOptions {
  /** `connection_pool_per_downstream_connection`: each is for the requests of one connection of a client. */
  readonly perClient?: true;
  /** How long a connection may lie idle. */
  readonly idleTimeoutMs: number;
  readonly maxConnectionDurationMs: number;
  readonly maxRequestsPerConnection: number;
  /** Of one try. */
  readonly maxStreamDurationMs: number;
}

/** What connections to a cluster's endpoints are made with; what is missing is the system's. */
export interface SocketOptions {
  /** `upstream_connection_options.tcp_keepalive` */
  readonly keepalive?: Keepalive;
  /** `upstream_bind_config`: the addresses that they come from, of which `route/source.ts` picks one. Never empty. */
  readonly sources?: readonly string[];
}

/** Seconds, and how many probes without an answer end a connection. */
export interface Keepalive {
  readonly time?: number;
  readonly interval?: number;
  readonly probes?: number;
}

/** How long the HttpConnectionManager lets a client's connection and its requests last. */
export interface DownstreamOptions {
  /** `common_http_protocol_options.idle_timeout`: between two requests. */
  readonly idleTimeoutMs: number;
  readonly maxConnectionDurationMs: number;
  readonly maxRequestsPerConnection: number;
  readonly maxStreamDurationMs: number;
  /** `drain_timeout`: from the last answer of a connection that is too old to its end. */
  readonly drainTimeoutMs: number;
  readonly streamIdleTimeoutMs: number;
  /** From the beginning of a request to its end. */
  readonly requestTimeoutMs: number;
  /** From the beginning of a request to the end of its head. */
  readonly requestHeadersTimeoutMs: number;
}

/** What a route says of its streams beside `timeout`. */
export interface StreamLimits {
  /** Overrides `stream_idle_timeout`. */
  readonly idleTimeoutMs?: number;
  /** `max_stream_duration`; with it the route's `timeout` has no effect. */
  readonly duration?: StreamDuration;
  /** `max_grpc_timeout`: a request of gRPC takes its timeout from `grpc-timeout`, up to this. */
  readonly maxGrpcTimeoutMs?: number;
  readonly grpcTimeoutOffsetMs?: number;
}

export interface StreamDuration {
  readonly maxMs?: number;
  /** The longest that `grpc-timeout` may ask for; missing: it has no effect. */
  readonly grpcHeaderMaxMs?: number;
  readonly grpcHeaderOffsetMs?: number;
}

/** Words of `retry_on`, with those that gRPC adds. */
export const RETRY_CONDITIONS = [
  "5xx",
  "gateway-error",
  "reset",
  "reset-before-request",
  "connect-failure",
  "envoy-ratelimited",
  "retriable-4xx",
  "refused-stream",
  "retriable-status-codes",
  "retriable-headers",
  "http3-post-connect-failure",
] as const;

export const GRPC_RETRY_CONDITIONS = [
  "cancelled",
  "deadline-exceeded",
  "resource-exhausted",
  "unavailable",
  "internal",
] as const;

export type RetryCondition = (typeof RETRY_CONDITIONS)[number] | (typeof GRPC_RETRY_CONDITIONS)[number];

export interface RetryPolicy {
  readonly on: readonly RetryCondition[];
  /** `num_retries`: tries after the first. */
  readonly retries: number;
  /** 0: the route's timeout alone. */
  readonly perTryTimeoutMs: number;
  readonly perTryIdleTimeoutMs: number;
  readonly statusCodes: readonly number[];
  /** Of the response; one that matches is enough. */
  readonly responseHeaders: readonly HeaderMatch[];
  /** Of the request; where there are any, one has to match. */
  readonly requestHeaders: readonly HeaderMatch[];
  readonly backOff: { readonly baseMs: number; readonly maxMs: number };
  /** `rate_limited_retry_back_off`: the server says when. */
  readonly rateLimited?: RateLimitedBackOff;
  /** `retry_host_predicate` previous_hosts: rather an endpoint that has not been tried. */
  readonly avoidsTried: boolean;
  /** How often another endpoint is picked instead of one that has been tried. */
  readonly hostAttempts: number;
}

export interface RateLimitedBackOff {
  /** Lower case; the first that is there and can be read counts. */
  readonly headers: readonly { readonly name: string; readonly format: "seconds" | "unixTimestamp" }[];
  readonly maxMs: number;
}

/** `request_mirror_policies`: the request goes there too, and nobody waits for the answer. */
export interface Mirror {
  /** A cluster by its name, or by the value of a header. */
  readonly cluster: { readonly name: string } | { readonly header: string };
  readonly fraction?: Fraction;
  /** The host gets `-shadow` behind its name. */
  readonly marksHost: boolean;
}

/** What a cluster has that says nothing of it. */
export const DEFAULT_THRESHOLDS: Thresholds = {
  maxConnections: 1_024,
  maxPendingRequests: 1_024,
  maxRequests: 1_024,
  maxRetries: 3,
};

export const DEFAULT_BREAKERS: Breakers = { default: DEFAULT_THRESHOLDS, high: DEFAULT_THRESHOLDS };

const HOUR_MS = 3_600_000;

export const DEFAULT_UPSTREAM: UpstreamOptions = {
  idleTimeoutMs: HOUR_MS,
  maxConnectionDurationMs: 0,
  maxRequestsPerConnection: 0,
  maxStreamDurationMs: 0,
};

export const DEFAULT_DOWNSTREAM: DownstreamOptions = {
  idleTimeoutMs: HOUR_MS,
  maxConnectionDurationMs: 0,
  maxRequestsPerConnection: 0,
  maxStreamDurationMs: 0,
  drainTimeoutMs: 5_000,
  streamIdleTimeoutMs: 300_000,
  requestTimeoutMs: 0,
  requestHeadersTimeoutMs: 0,
};

/** What Envoy retries by where only a request asks for it. */
export const DEFAULT_RETRY: RetryPolicy = {
  on: [],
  retries: 1,
  perTryTimeoutMs: 0,
  perTryIdleTimeoutMs: 0,
  statusCodes: [],
  responseHeaders: [],
  requestHeaders: [],
  backOff: { baseMs: 25, maxMs: 250 },
  avoidsTried: false,
  hostAttempts: 1,
};
