import type { ForwardAction } from "../model/config.ts";
import {
  type Breakers,
  DEFAULT_BREAKERS,
  DEFAULT_DOWNSTREAM,
  DEFAULT_RETRY,
  DEFAULT_THRESHOLDS,
  DEFAULT_UPSTREAM,
  type DownstreamOptions,
  GRPC_RETRY_CONDITIONS,
  type Mirror,
  type Priority,
  type RateLimitedBackOff,
  RETRY_CONDITIONS,
  type RetryBudget,
  type RetryCondition,
  type RetryPolicy,
  type StreamDuration,
  type Thresholds,
  type UpstreamOptions,
} from "../model/limits.ts";
import type { Fields } from "./fields.ts";
import { headerName, readFraction, readHeaderMatch, readHeaderName } from "./matches.ts";
import { nearest } from "./spelling.ts";

/** Circuit breakers, timeouts, retries and mirrors: what `model/limits.ts` holds. */

const PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
const UNLIMITED = 2 ** 32 - 1;

// ---- routes ----

/** What stands at a virtual host for its routes, unless they say something of their own. */
export interface Inherited {
  readonly retry?: RetryPolicy;
  readonly mirrors?: readonly Mirror[];
  /** Bytes of a request that may be kept for another try. */
  readonly bufferLimit?: number;
  /** `include_request_attempt_count`, `include_attempt_count_in_response` */
  readonly countsAttempts?: boolean;
  readonly tellsAttempts?: boolean;
}

/** `mirrors` are the route configuration's. */
export function readInherited(
  host: Fields,
  known: ReadonlySet<string> | undefined,
  mirrors: readonly Mirror[] | undefined,
): Inherited {
  return {
    retry: readRetryOf(host),
    mirrors: readMirrors(host, known) ?? mirrors,
    bufferLimit: host.number("per_request_buffer_limit_bytes"),
    countsAttempts: host.boolean("include_request_attempt_count") || undefined,
    tellsAttempts: host.boolean("include_attempt_count_in_response") || undefined,
  };
}

type Limits = Pick<
  ForwardAction,
  "priority" | "stream" | "retry" | "mirrors" | "bufferLimit" | "countsAttempts" | "tellsAttempts"
>;

/** `route` is the message around the action. What it has of its own replaces its virtual host's as a whole. */
export function readRouteLimits(
  route: Fields,
  action: Fields,
  inherited: Inherited,
  known: ReadonlySet<string> | undefined,
): Limits {
  const high = action.oneOf("priority", "DEFAULT", "HIGH") === "HIGH";
  const bufferLimit = route.number("per_request_buffer_limit_bytes") ?? inherited.bufferLimit;
  const mirrors = readMirrors(action, known) ?? inherited.mirrors;
  return {
    ...inherited,
    priority: high ? "high" : undefined,
    stream: readStream(action),
    retry: readRetryOf(action) ?? inherited.retry,
    mirrors,
    bufferLimit,
  };
}

function readStream(action: Fields): ForwardAction["stream"] {
  const stream = {
    idleTimeoutMs: action.milliseconds("idle_timeout"),
    duration: readDuration(action.message("max_stream_duration")),
    maxGrpcTimeoutMs: action.milliseconds("max_grpc_timeout"),
    grpcTimeoutOffsetMs: action.milliseconds("grpc_timeout_offset"),
  };
  return Object.values(stream).some((value) => value !== undefined) ? stream : undefined;
}

function readDuration(duration: Fields | undefined): StreamDuration | undefined {
  return (
    duration && {
      maxMs: duration.milliseconds("max_stream_duration"),
      grpcHeaderMaxMs: duration.milliseconds("grpc_timeout_header_max"),
      grpcHeaderOffsetMs: duration.milliseconds("grpc_timeout_header_offset"),
    }
  );
}

function readRetryOf(owner: Fields): RetryPolicy | undefined {
  const policy = owner.message("retry_policy");
  return policy && readRetry(policy);
}

function readRetry(policy: Fields): RetryPolicy {
  const backOff = policy.message("retry_back_off");
  const baseMs = backOff?.milliseconds("base_interval") ?? DEFAULT_RETRY.backOff.baseMs;
  const maxMs = backOff?.milliseconds("max_interval") ?? baseMs * 10;
  if (backOff !== undefined && maxMs < baseMs)
    backOff.reject("max_interval", "must not be less than base_interval", "make it longer");
  const predicates = policy.messages("retry_host_predicate");
  for (const predicate of predicates) {
    predicate.skip("name");
    predicate.packed("typed_config", PREVIOUS_HOSTS);
  }
  const rateLimited = policy.message("rate_limited_retry_back_off");
  return {
    on: readConditions(policy),
    retries: policy.number("num_retries") ?? DEFAULT_RETRY.retries,
    perTryTimeoutMs: policy.milliseconds("per_try_timeout") ?? 0,
    perTryIdleTimeoutMs: policy.milliseconds("per_try_idle_timeout") ?? 0,
    statusCodes: policy.numbers("retriable_status_codes"),
    responseHeaders: policy.messages("retriable_headers").map(readHeaderMatch),
    requestHeaders: policy.messages("retriable_request_headers").map(readHeaderMatch),
    backOff: { baseMs, maxMs },
    rateLimited: rateLimited && readRateLimited(rateLimited),
    avoidsTried: predicates.length > 0,
    hostAttempts: policy.number("host_selection_retry_max_attempts") || DEFAULT_RETRY.hostAttempts,
  };
}

const CONDITIONS: readonly string[] = [...RETRY_CONDITIONS, ...GRPC_RETRY_CONDITIONS];

/** Envoy passes over what it does not know; here it is refused, because somebody means something by it. */
function readConditions(policy: Fields): RetryCondition[] {
  const words = policy
    .string("retry_on")
    .split(",")
    .map((word) => word.trim())
    .filter((word) => word !== "");
  for (const word of words) {
    if (CONDITIONS.includes(word)) continue;
    const near = nearest(word, CONDITIONS);
    const mend = near === undefined ? `one of ${CONDITIONS.join(", ")}` : `did you mean ${near}?`;
    policy.reject("retry_on", `${JSON.stringify(word)} is no condition of a retry`, mend);
  }
  return words.filter((word): word is RetryCondition => CONDITIONS.includes(word));
}

const DEFAULT_RATE_LIMITED_MAX_MS = 300_000;

function readRateLimited(backOff: Fields): RateLimitedBackOff {
  return {
    headers: backOff.messages("reset_headers").map((header) => ({
      name: headerName(header.string("name")),
      format: header.oneOf("format", "SECONDS", "UNIX_TIMESTAMP") === "SECONDS" ? "seconds" : "unixTimestamp",
    })),
    maxMs: backOff.milliseconds("max_interval") ?? DEFAULT_RATE_LIMITED_MAX_MS,
  };
}

/** Of a route, a virtual host or a route configuration. */
export function readMirrors(owner: Fields, known: ReadonlySet<string> | undefined): readonly Mirror[] | undefined {
  const mirrors = owner.messages("request_mirror_policies").map((mirror) => readMirror(mirror, known));
  return mirrors.length === 0 ? undefined : mirrors;
}

function readMirror(mirror: Fields, known: ReadonlySet<string> | undefined): Mirror {
  const [hasName, hasHeader] = [!mirror.lacks("cluster"), !mirror.lacks("cluster_header")];
  if (hasName === hasHeader)
    mirror.reject("cluster", hasName ? "cannot stand beside cluster_header" : "is required", "keep one of the two");
  // There is no tracing.
  mirror.skip("trace_sampled");
  const fraction = mirror.message("runtime_fraction");
  const name = mirror.string("cluster");
  if (hasName && known !== undefined && !known.has(name))
    mirror.reject(
      "cluster",
      `no cluster has the name ${JSON.stringify(name)}`,
      "define it under static_resources.clusters",
    );
  return {
    cluster: hasHeader ? { header: readHeaderName(mirror, "cluster_header") } : { name },
    fraction: fraction && readFraction(fraction),
    marksHost: !mirror.boolean("disable_shadow_host_suffix_append"),
  };
}

// ---- clusters ----

/** `circuit_breakers` of a cluster. Of several thresholds for one priority the first counts. */
export function readBreakers(cluster: Fields): Breakers {
  const breakers = cluster.message("circuit_breakers");
  if (breakers === undefined) return DEFAULT_BREAKERS;
  const all: Partial<Record<Priority, Thresholds>> = {};
  for (const threshold of breakers.messages("thresholds")) {
    const priority = readPriority(threshold);
    const read = readThresholds(threshold);
    all[priority] ??= read;
  }
  const perHost: Partial<Record<Priority, number>> = {};
  for (const threshold of breakers.messages("per_host_thresholds")) {
    const priority = readPriority(threshold);
    const most = threshold.number("max_connections");
    if (most !== undefined) perHost[priority] ??= most;
  }
  return {
    default: all.default ?? DEFAULT_THRESHOLDS,
    high: all.high ?? DEFAULT_THRESHOLDS,
    maxConnectionsPerHost: Object.keys(perHost).length === 0 ? undefined : perHost,
  };
}

const readPriority = (threshold: Fields): Priority =>
  threshold.oneOf("priority", "DEFAULT", "HIGH") === "HIGH" ? "high" : "default";

function readThresholds(threshold: Fields): Thresholds {
  // What is left of the limits is no metric of XLB's.
  threshold.skip("track_remaining");
  threshold.only("max_connection_pools", UNLIMITED);
  const budget = threshold.message("retry_budget");
  return {
    maxConnections: threshold.number("max_connections") ?? DEFAULT_THRESHOLDS.maxConnections,
    maxPendingRequests: threshold.number("max_pending_requests") ?? DEFAULT_THRESHOLDS.maxPendingRequests,
    maxRequests: threshold.number("max_requests") ?? DEFAULT_THRESHOLDS.maxRequests,
    maxRetries: threshold.number("max_retries") ?? DEFAULT_THRESHOLDS.maxRetries,
    retryBudget: budget && readBudget(budget),
  };
}

function readBudget(budget: Fields): RetryBudget {
  return {
    percent: budget.message("budget_percent")?.number("value") ?? 20,
    minConcurrency: budget.number("min_retry_concurrency") ?? DEFAULT_THRESHOLDS.maxRetries,
  };
}

const HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const MOST_REQUESTS = "max_requests_per_connection";

/** By its HttpProtocolOptions, or by the fields of its own that stood for them before. */
export function readUpstreamOptions(cluster: Fields): UpstreamOptions {
  const http = cluster.packedEntry("typed_extension_protocol_options", HTTP_OPTIONS, HTTP_OPTIONS);
  /* Clients speak HTTP/1 alone, and so it is all the same whether theirs decides. */
  http?.message("explicit_http_config")?.message("http_protocol_options");
  http?.message("use_downstream_protocol_config")?.message("http_protocol_options");
  cluster.skip("protocol_selection");
  cluster.message("http_protocol_options");
  const former = readCommon(cluster);
  /* Beside HttpProtocolOptions they say nothing any more, but for the number of requests. */
  const common = http === undefined ? former : readCommon(http);
  const most = cluster.number(MOST_REQUESTS);
  if (most !== undefined && common.maxRequestsPerConnection !== undefined)
    cluster.reject(MOST_REQUESTS, "cannot stand beside that of common_http_protocol_options", "keep one of the two");
  const perClient = cluster.boolean("connection_pool_per_downstream_connection") ?? false;
  return {
    ...common,
    maxRequestsPerConnection: common.maxRequestsPerConnection ?? most ?? 0,
    ...(perClient ? { perClient } : {}),
  };
}

function readCommon(owner: Fields) {
  const common = owner.message("common_http_protocol_options");
  return {
    idleTimeoutMs: common?.milliseconds("idle_timeout") ?? DEFAULT_UPSTREAM.idleTimeoutMs,
    maxConnectionDurationMs: common?.milliseconds("max_connection_duration") ?? 0,
    maxRequestsPerConnection: common?.number(MOST_REQUESTS),
    maxStreamDurationMs: common?.milliseconds("max_stream_duration") ?? 0,
  };
}

// ---- listeners ----

/** `common` is the manager's `common_http_protocol_options`. */
export function readDownstreamOptions(manager: Fields, common: Fields | undefined): DownstreamOptions {
  return {
    idleTimeoutMs: common?.milliseconds("idle_timeout") ?? DEFAULT_DOWNSTREAM.idleTimeoutMs,
    maxConnectionDurationMs: common?.milliseconds("max_connection_duration") ?? 0,
    maxRequestsPerConnection: common?.number("max_requests_per_connection") ?? 0,
    maxStreamDurationMs: common?.milliseconds("max_stream_duration") ?? 0,
    drainTimeoutMs: manager.milliseconds("drain_timeout") ?? DEFAULT_DOWNSTREAM.drainTimeoutMs,
    streamIdleTimeoutMs: manager.milliseconds("stream_idle_timeout") ?? DEFAULT_DOWNSTREAM.streamIdleTimeoutMs,
    requestTimeoutMs: manager.milliseconds("request_timeout") ?? 0,
    requestHeadersTimeoutMs: manager.milliseconds("request_headers_timeout") ?? 0,
  };
}
