import type { ForwardAction } from "../model/config.ts";
import { DEFAULT_DOWNSTREAM, type DownstreamOptions } from "../model/limits.ts";
import { oneLine } from "../tables/joined.ts";
import { type HeaderValues, isGrpc } from "./match.ts";

/**
 * How long a request may take, as Envoy counts it: FilterUtility::finalTimeout in source/common/router/router.cc, and
 * ActiveStream::refreshDurationTimeout in source/common/http/conn_manager_impl.cc.
 */

/** Milliseconds; 0: as long as it likes. */
export interface Timeouts {
  /** From the end of the request to the end of the answer, over all tries. */
  readonly wholeMs: number;
  /** From the end of the request, or the connection's beginning, to the head of the answer. */
  readonly perTryMs: number;
  readonly perTryIdleMs: number;
  /** Between two signs of life of the stream, whichever side gives them. */
  readonly idleMs: number;
  /** From the request's first byte to the answer's last. */
  readonly durationMs: number;
  /** What is answered when time is over. */
  readonly lateStatus: 204 | 504;
}

/** Requests say by these how long they may take; no server gets them. Lower case. */
export const TIMEOUT_HEADERS: ReadonlySet<string> = new Set([
  "x-envoy-upstream-rq-timeout-ms",
  "x-envoy-upstream-rq-per-try-timeout-ms",
  "x-envoy-upstream-rq-timeout-alt-response",
]);

export function timeoutsOf(
  action: ForwardAction,
  options: DownstreamOptions = DEFAULT_DOWNSTREAM,
  request: HeaderValues,
): Timeouts {
  const wholeMs = number(request, "x-envoy-upstream-rq-timeout-ms") ?? routeTimeout(action, request);
  const asked = number(request, "x-envoy-upstream-rq-per-try-timeout-ms") ?? action.retry?.perTryTimeoutMs ?? 0;
  return {
    wholeMs,
    /* One that the whole request's comes before is none. */
    perTryMs: wholeMs !== 0 && asked >= wholeMs ? 0 : asked,
    perTryIdleMs: action.retry?.perTryIdleTimeoutMs ?? 0,
    idleMs: action.stream?.idleTimeoutMs ?? options.streamIdleTimeoutMs,
    durationMs: duration(action, options, request),
    lateStatus: request.get("x-envoy-upstream-rq-timeout-alt-response") === undefined ? 504 : 204,
  };
}

function routeTimeout({ timeoutMs, stream }: ForwardAction, request: HeaderValues): number {
  if (stream?.duration !== undefined) return 0;
  const most = stream?.maxGrpcTimeoutMs;
  if (most === undefined || !isGrpc(request)) return timeoutMs;
  const asked = less(grpcTimeout(request) ?? 0, stream?.grpcTimeoutOffsetMs);
  return most !== 0 && (asked === 0 || asked > most) ? most : asked;
}

/** The offset counts only where something is left. */
const less = (ms: number, offsetMs = 0) => (offsetMs < ms ? ms - offsetMs : ms);

function duration({ stream }: ForwardAction, options: DownstreamOptions, request: HeaderValues): number {
  const { maxMs, grpcHeaderMaxMs, grpcHeaderOffsetMs = 0 } = stream?.duration ?? {};
  const asked = grpcTimeout(request);
  if (asked === undefined || grpcHeaderMaxMs === undefined) return maxMs ?? options.maxStreamDurationMs;
  const capped = grpcHeaderMaxMs !== 0 && asked > grpcHeaderMaxMs ? grpcHeaderMaxMs : asked;
  /* Over at once is not "as long as it likes". */
  return capped === 0 ? 0 : Math.max(1, capped - grpcHeaderOffsetMs);
}

const UNITS_MS: { readonly [unit: string]: number } = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** `grpc-timeout`, in milliseconds, rounded up; undefined where there is none, or it cannot be read. */
export function grpcTimeout(request: HeaderValues): number | undefined {
  const [, digits, unit] = /^(\d{1,8})([HMSmun])$/.exec(request.get("grpc-timeout")?.[0] ?? "") ?? [];
  return unit === undefined ? undefined : Math.ceil(Number(digits) * UNITS_MS[unit]!);
}

function number(request: HeaderValues, name: string): number | undefined {
  const text = oneLine(request.get(name));
  return /^[\t ]*\+?\d{1,15}[\t ]*$/.test(text) ? Number(text) : undefined;
}
