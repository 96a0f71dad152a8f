import {
  DEFAULT_RETRY,
  GRPC_RETRY_CONDITIONS,
  RETRY_CONDITIONS,
  type RetryCondition,
  type RetryPolicy,
} from "../model/limits.ts";
import { oneLine } from "../tables/joined.ts";
import { lowerCase } from "../tables/text.ts";
import { type HeaderList, type HeaderValues, matchHeader } from "./match.ts";

/**
 * When a request is tried again, as Envoy's router decides it: source/common/router/retry_state_impl.cc. Pure but for
 * its own count: who keeps the clock and the circuit breaker asks, and does it.
 */

/** How a try ended without an answer. */
export type Reset =
  /** No connection came about. */
  | "connectFailure"
  /** The connection, or the try, ended; of the request nothing had been sent. */
  | "beforeRequest"
  | "reset"
  /** A circuit breaker had no room for it. */
  | "overflow";

/** Whether there is another try. "limit": there would be, had there not been too many already. */
export type Verdict = "retry" | "no" | "limit";

/** Requests say by these how they are to be tried again; no server gets them. Lower case. */
export const RETRY_HEADERS: ReadonlySet<string> = new Set([
  "x-envoy-retry-on",
  "x-envoy-retry-grpc-on",
  "x-envoy-max-retries",
  "x-envoy-retriable-status-codes",
  "x-envoy-retriable-header-names",
  "x-envoy-hedge-on-per-try-timeout",
]);

const GATEWAY_ERRORS: readonly number[] = [502, 503, 504];
const CONFLICT = 409;

const GRPC_STATUS: { readonly [condition: string]: string } = {
  cancelled: "1",
  "deadline-exceeded": "4",
  "resource-exhausted": "8",
  internal: "13",
  unavailable: "14",
};

/** The tries of one request. */
export class Tries {
  readonly #policy: RetryPolicy;
  readonly #on: ReadonlySet<RetryCondition>;
  readonly #statusCodes: readonly number[];
  readonly #responseHeaders: readonly string[];
  #left: number;
  #nextDelayMs: number;
  /** The server has said when, milliseconds from then. */
  #askedDelayMs: number | undefined;

  private constructor(policy: RetryPolicy, request: HeaderValues) {
    const asked = (name: string, known: readonly RetryCondition[]) =>
      words(request, name).filter((word): word is RetryCondition => known.some((condition) => condition === word));
    const on = [
      ...policy.on,
      ...asked("x-envoy-retry-on", RETRY_CONDITIONS),
      ...asked("x-envoy-retry-grpc-on", GRPC_RETRY_CONDITIONS),
    ];
    const wanted = policy.requestHeaders;
    const admitted = wanted.length === 0 || wanted.some((match) => matchHeader(match, request));
    this.#policy = policy;
    this.#on = new Set(admitted ? on : []);
    this.#statusCodes = [
      ...policy.statusCodes,
      ...words(request, "x-envoy-retriable-status-codes")
        .map(wholeNumber)
        .filter((code) => code !== undefined),
    ];
    this.#responseHeaders = words(request, "x-envoy-retriable-header-names").map(lowerCase);
    const asks = this.#on.size > 0 ? wholeNumber(oneLine(request.get("x-envoy-max-retries"))) : undefined;
    this.#left = asks ?? policy.retries;
    this.#nextDelayMs = policy.backOff.baseMs;
  }

  /** Undefined: neither its route nor the request itself asks for more than one. */
  static of(policy: RetryPolicy | undefined, request: HeaderValues): Tries | undefined {
    const asks = request.get("x-envoy-retry-on") ?? request.get("x-envoy-retry-grpc-on");
    if (asks === undefined && (policy === undefined || policy.on.length === 0)) return undefined;
    return new Tries(policy ?? DEFAULT_RETRY, request);
  }

  /** Has it to be kept, because it may be needed once more? */
  get enabled(): boolean {
    return this.#on.size > 0;
  }

  get policy(): RetryPolicy {
    return this.#policy;
  }

  afterReset(how: Reset): Verdict {
    return this.#count(this.#wouldAfterReset(how));
  }

  #wouldAfterReset(how: Reset): boolean {
    if (how === "overflow") return false;
    const conditions: RetryCondition[] = ["reset", "5xx", "gateway-error"];
    if (how === "connectFailure") conditions.push("connect-failure");
    if (how !== "reset") conditions.push("reset-before-request");
    return conditions.some((condition) => this.#on.has(condition));
  }

  afterResponse(status: number, fields: HeaderList, nowMs: number): Verdict {
    const would = this.#wouldAfterResponse(status, valuesOf(status, fields));
    this.#askedDelayMs = would ? this.#readDelay(fields, nowMs) : undefined;
    return this.#count(would);
  }

  #wouldAfterResponse(status: number, fields: HeaderValues): boolean {
    const on = this.#on;
    if (fields.get("x-envoy-ratelimited") !== undefined) return on.has("envoy-ratelimited");
    if (on.has("5xx") && status >= 500 && status < 600) return true;
    if (on.has("gateway-error") && GATEWAY_ERRORS.includes(status)) return true;
    if (on.has("retriable-4xx") && status === CONFLICT) return true;
    if (on.has("retriable-status-codes") && this.#statusCodes.includes(status)) return true;
    if (on.has("retriable-headers")) {
      if (this.#policy.responseHeaders.some((match) => matchHeader(match, fields))) return true;
      if (this.#responseHeaders.some((name) => fields.get(name) !== undefined)) return true;
    }
    const grpc = fields.get("grpc-status")?.[0];
    return grpc !== undefined && GRPC_RETRY_CONDITIONS.some((word) => on.has(word) && GRPC_STATUS[word] === grpc);
  }

  #count(would: boolean): Verdict {
    if (!would) return "no";
    if (this.#left === 0) return "limit";
    this.#left--;
    return "retry";
  }

  /** How long to wait before the next try, in milliseconds; `random` is a whole number, not negative. */
  delayMs(random: number): number {
    const asked = this.#askedDelayMs;
    this.#askedDelayMs = undefined;
    /* At least what was asked for, and up to half as much again. */
    if (asked !== undefined) return asked + (random % Math.max(1, Math.floor(asked / 2)));
    const most = this.#nextDelayMs;
    this.#nextDelayMs = Math.min(most * 2, this.#policy.backOff.maxMs);
    return random % Math.max(1, most);
  }

  #readDelay(fields: HeaderList, nowMs: number): number | undefined {
    const { rateLimited } = this.#policy;
    for (const { name, format } of rateLimited?.headers ?? []) {
      const value = wholeNumber(fields.find(([written]) => lowerCase(written) === name)?.[1] ?? "");
      if (value === undefined) continue;
      const ms = format === "seconds" ? value * 1_000 : value * 1_000 - Math.floor(nowMs / 1_000) * 1_000;
      if (ms > 1 && ms <= rateLimited!.maxMs) return ms;
    }
    return undefined;
  }
}

function words(headers: HeaderValues, name: string): string[] {
  return (headers.get(name) ?? [])
    .flatMap((value) => value.split(","))
    .map((word) => word.trim())
    .filter((word) => word !== "");
}

const wholeNumber = (text: string) => (/^[\t ]*\+?\d{1,15}[\t ]*$/.test(text) ? Number(text) : undefined);

function valuesOf(status: number, fields: HeaderList): HeaderValues {
  return {
    get(name) {
      if (name === ":status") return [String(status)];
      const found = fields.filter(([written]) => lowerCase(written) === name).map(([, value]) => value);
      return found.length === 0 ? undefined : found;
    },
  };
}
