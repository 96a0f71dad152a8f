/** Headers of which Envoy keeps one line only, as Envoy 1.40 showed them. Names are in lower case. */

/** Its inline headers of requests, but those it rewrites. */
export const ALWAYS_JOINED: ReadonlySet<string> = new Set([
  "accept",
  "accept-encoding",
  "access-control-request-headers",
  "access-control-request-method",
  "access-control-request-private-network",
  "authorization",
  "cache-control",
  "cdn-loop",
  "content-encoding",
  "content-type",
  "grpc-accept-encoding",
  "grpc-timeout",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-range",
  "if-unmodified-since",
  "origin",
  "pragma",
  "proxy-status",
  "referer",
  "user-agent",
  "via",
  "x-client-trace-id",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-port",
]);

/** The others: those that it makes, rewrites or takes away. */
const REWRITTEN: ReadonlySet<string> = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
  "x-envoy-attempt-count",
  "x-envoy-decorator-operation",
  "x-envoy-downstream-service-cluster",
  "x-envoy-downstream-service-node",
  "x-envoy-expected-rq-timeout-ms",
  "x-envoy-external-address",
  "x-envoy-force-trace",
  "x-envoy-hedge-on-per-try-timeout",
  "x-envoy-internal",
  "x-envoy-ip-tags",
  "x-envoy-is-timeout-retry",
  "x-envoy-max-retries",
  "x-envoy-original-host",
  "x-envoy-original-path",
  "x-envoy-retriable-header-names",
  "x-envoy-retriable-status-codes",
  "x-envoy-retry-grpc-on",
  "x-envoy-retry-on",
  "x-envoy-upstream-alt-stat-name",
  "x-envoy-upstream-rq-per-try-timeout-ms",
  "x-envoy-upstream-rq-timeout-alt-response",
  "x-envoy-upstream-rq-timeout-ms",
  "x-envoy-upstream-stream-duration-ms",
  "x-forwarded-client-cert",
  "x-forwarded-proto",
  "x-request-id",
]);

/** Does Envoy keep one line only of this header of a request? */
export const isKeptAsOne = (name: string) => ALWAYS_JOINED.has(name) || REWRITTEN.has(name);

/** Two lines of a header of which Envoy keeps one: an empty one leaves no trace. */
export function joinLines(before: string, value: string): string {
  return before === "" || value === "" ? before + value : `${before},${value}`;
}

/** All lines of such a header; "" where there is none. */
export const oneLine = (lines: readonly string[] = []): string => lines.reduce(joinLines, "");

/** Those behind whose value an edit puts another one. */
export const JOINED_IN_REQUESTS: ReadonlySet<string> = new Set([
  ...ALWAYS_JOINED,
  "x-forwarded-client-cert",
  "x-forwarded-proto",
  "x-request-id",
]);

/** Envoy's inline headers of responses. */
export const JOINED_IN_RESPONSES: ReadonlySet<string> = new Set([
  "access-control-allow-credentials",
  "access-control-allow-headers",
  "access-control-allow-methods",
  "access-control-allow-origin",
  "access-control-expose-headers",
  "access-control-max-age",
  "cache-control",
  "content-encoding",
  "content-type",
  "date",
  "etag",
  "grpc-message",
  "grpc-status",
  "location",
  "proxy-status",
  "server",
  "vary",
  "via",
  "x-request-id",
]);
