import type { Cluster, ForwardAction, HttpOptions } from "../model/config.ts";
import {
  DEFAULT_DOWNSTREAM,
  DEFAULT_THRESHOLDS,
  GRPC_RETRY_CONDITIONS,
  type RetryCondition,
  type RetryPolicy,
} from "../model/limits.ts";

/**
 * Which limits the kernel path leaves to the slow path. What it keeps by itself: timeouts of routes, and, with the slow
 * path's help, what is tried again because a server went away.
 */

/** Why a route's requests take the slow path; undefined: they need not. */
export function whyNotLimits({ priority, retry, mirrors, stream }: ForwardAction): string | undefined {
  if (priority === "high") return "its priority is HIGH";
  if (retry !== undefined && looksAtAnswers(retry)) return "its retry policy asks for more than connections that fail";
  if (mirrors !== undefined) return "it mirrors requests";
  if (stream?.idleTimeoutMs) return "it has an idle_timeout";
  if (stream?.duration?.maxMs) return "it has a max_stream_duration";
  return stream?.duration?.grpcHeaderMaxMs === undefined ? undefined : "it takes grpc-timeout for its duration";
}

/**
 * Conditions of a retry that ask nothing of an answer's head: whoever hands it on without a look can follow them. Of
 * gRPC's the kernel path sees nothing; see docs/configuration.md.
 */
const BLIND: ReadonlySet<RetryCondition> = new Set([
  ...GRPC_RETRY_CONDITIONS,
  "reset-before-request",
  "connect-failure",
  "refused-stream",
  "http3-post-connect-failure",
]);

function looksAtAnswers({ on, statusCodes, responseHeaders, ...policy }: RetryPolicy): boolean {
  if (policy.perTryTimeoutMs > 0 || policy.perTryIdleTimeoutMs > 0) return true;
  return on.some((condition) => {
    if (condition === "retriable-status-codes") return statusCodes.length > 0;
    if (condition === "retriable-headers") return responseHeaders.length > 0;
    return !BLIND.has(condition);
  });
}

/** The same for all that a listener's clients ask. */
export function whyNotDownstream({ limits = DEFAULT_DOWNSTREAM }: HttpOptions): string | undefined {
  if (limits.maxRequestsPerConnection > 0) return "max_requests_per_connection bounds its connections";
  if (limits.maxConnectionDurationMs > 0) return "max_connection_duration bounds its connections";
  if (limits.idleTimeoutMs !== DEFAULT_DOWNSTREAM.idleTimeoutMs) return "idle_timeout bounds its connections";
  if (limits.maxStreamDurationMs > 0) return "max_stream_duration bounds its requests";
  const { streamIdleTimeoutMs } = limits;
  if (streamIdleTimeoutMs > 0 && streamIdleTimeoutMs !== DEFAULT_DOWNSTREAM.streamIdleTimeoutMs)
    return "stream_idle_timeout bounds its requests";
  return limits.requestTimeoutMs > 0 ? "request_timeout bounds its requests" : undefined;
}

/** As many i-socks as there can be, of all pools together: src/pool/pools.ts. */
const MOST_SERVED = 32_768;

/**
 * The bound by which the hook has to count a cluster's requests. There is none where nothing asked for it, for a pool
 * is bounded by as many as Envoy's default (and that is there to protect Envoy), nor where there are never that many.
 */
export function boundOf({ breakers }: Cluster): number | undefined {
  const maxRequests = breakers?.default.maxRequests ?? DEFAULT_THRESHOLDS.maxRequests;
  return maxRequests === DEFAULT_THRESHOLDS.maxRequests || maxRequests >= MOST_SERVED ? undefined : maxRequests;
}

/** The same for what goes to a cluster. */
export function whyNotUpstream({ upstream }: Cluster): string | undefined {
  if (upstream === undefined) return undefined;
  if (upstream.perClient) return "connection_pool_per_downstream_connection keeps its clients' connections apart";
  if (upstream.maxRequestsPerConnection > 0) return "max_requests_per_connection bounds its connections";
  if (upstream.maxConnectionDurationMs > 0) return "max_connection_duration bounds its connections";
  return upstream.maxStreamDurationMs > 0 ? "max_stream_duration bounds its requests" : undefined;
}
