import { DEFAULT_DOWNSTREAM, type DownstreamOptions } from "../model/limits.ts";
import type { Flag, ListenerCounter } from "./ports.ts";
import { Deadline, IdleTimer } from "./watch.ts";

/** How long one request and its answer may take, from the request's first byte on. */
export class StreamClock {
  readonly #options: DownstreamOptions;
  readonly #idle: IdleTimer;
  readonly #duration = new Deadline();
  readonly #request = new Deadline();
  readonly #head = new Deadline();
  readonly #late: (what: ListenerCounter, flag: Flag | undefined, body: string) => void;
  #startedAt = 0;

  /** `late` is called with what Envoy would answer. */
  constructor(
    options: DownstreamOptions,
    count: (what: ListenerCounter) => void,
    late: (flag: Flag | undefined, body: string) => void,
  ) {
    this.#options = options;
    this.#late = (what, flag, body) => {
      this.stop();
      count(what);
      late(flag, body);
    };
    this.#idle = new IdleTimer(() => this.#late("downstream_rq_idle_timeout", "SI", "stream timeout"));
  }

  begin(): void {
    const { requestTimeoutMs, requestHeadersTimeoutMs, streamIdleTimeoutMs, maxStreamDurationMs } = this.#options;
    this.#startedAt = performance.now();
    this.#idle.allow(streamIdleTimeoutMs);
    this.#setDuration(maxStreamDurationMs);
    this.#request.set(requestTimeoutMs, () => this.#late("downstream_rq_timeout", undefined, "request timeout"));
    this.#head.set(requestHeadersTimeoutMs, () =>
      this.#late("downstream_rq_header_timeout", undefined, "request header timeout"),
    );
  }

  headIsWhole(): void {
    this.#head.stop();
    this.#idle.heard();
  }

  requestIsWhole(): void {
    this.#request.stop();
  }

  /** What its route says. Milliseconds, 0 for as long as it likes. */
  allow(idleMs: number, durationMs: number): void {
    this.#idle.allow(idleMs);
    this.#setDuration(durationMs);
  }

  /** Counts from the beginning, whenever it is said. */
  #setDuration(ms: number): void {
    const left = ms === 0 ? 0 : Math.max(1, ms - (performance.now() - this.#startedAt));
    this.#duration.set(left, () =>
      this.#late("downstream_rq_max_duration_reached", "DT", "downstream duration timeout"),
    );
  }

  heard(): void {
    this.#idle.heard();
  }

  stop(): void {
    this.#idle.stop();
    this.#duration.stop();
    this.#request.stop();
    this.#head.stop();
  }
}

/**
 * How long a client's connection may last, and how many requests it may have. One that has come to its end, in years or
 * in silence, has `drain_timeout` for a last request, as in ConnectionManagerImpl::startDrainSequence.
 */
export class Lifetime {
  readonly #options: DownstreamOptions;
  readonly #idle = new Deadline();
  readonly #duration = new Deadline();
  readonly #count: (what: ListenerCounter) => void;
  readonly #end: () => void;
  readonly #idleMs: number;
  #requests = 0;
  /** It has said something. */
  #spoken = false;
  #old = false;
  #over = false;

  /**
   * `shared`: the kernel path serves the connection too, so that silence here says nothing, and only a limit that the
   * configuration asks for counts: then the kernel path keeps out. `end` is to end the connection if it is idle.
   */
  constructor(options: DownstreamOptions, shared: boolean, count: (what: ListenerCounter) => void, end: () => void) {
    const { idleTimeoutMs, maxConnectionDurationMs } = options;
    this.#options = options;
    this.#count = count;
    this.#end = end;
    this.#idleMs = shared && idleTimeoutMs === DEFAULT_DOWNSTREAM.idleTimeoutMs ? 0 : idleTimeoutMs;
    this.#duration.set(maxConnectionDurationMs, () => {
      count("downstream_cx_max_duration_reached");
      this.#drain();
    });
  }

  #drain(): void {
    if (this.#old) return;
    this.#old = true;
    this.#duration.set(this.#spoken ? Math.max(1, this.#options.drainTimeoutMs) : 1, () => {
      this.#over = true;
      this.#end();
    });
  }

  /** Between two requests. */
  waits(): void {
    if (this.#over) this.#end();
    this.#idle.set(this.#idleMs, () => {
      this.#count("downstream_cx_idle_timeout");
      this.#drain();
    });
  }

  works(): void {
    this.#spoken = true;
    this.#idle.stop();
  }

  /** One more request has come. Whether it is the last is asked when it is answered. */
  next(): () => boolean {
    const { maxRequestsPerConnection: most } = this.#options;
    const full = most > 0 && ++this.#requests >= most;
    if (full) this.#count("downstream_cx_max_requests_reached");
    return () => full || this.#old;
  }

  stop(): void {
    this.#idle.stop();
    this.#duration.stop();
  }
}
