import type { Cluster, ForwardAction } from "../../src/model/config.ts";
import { DEFAULT_BREAKERS, DEFAULT_UPSTREAM, type Thresholds } from "../../src/model/limits.ts";
import type { Tries, Verdict } from "../../src/route/retry.ts";
import type { Timeouts } from "../../src/route/timeouts.ts";
import type { Field } from "../../src/slowpath/http1.ts";
import { timedOut } from "../../src/slowpath/reply.ts";

/**
 * What becomes of a request whose servers fail, are late or are not there. By `x-act` a request tells them what to do
 * with its first, second, ... try, the last of which is repeated (its first word is a name that no other request has):
 *
 *   503                 an answer with that status
 *   200+x-again=yes     and with that header
 *   reset, close        the connection ends
 *   late                an answer after LATE_MS
 *   hang                the connection ends after LATE_MS
 *   short               nothing: the request's end never comes (no word of x-act; what x-short says)
 *
 * All that may happen is gone through: chance chooses servers, and of two ends that are less than MARGIN_MS apart time
 * decides.
 */

export const LATE_MS = 1_200;
/** The kernel path looks at its timeouts four times a second; and the machine may be busy. */
const MARGIN_MS = 450;

/** Those of a kind count the tries of a request together; nobody listens at a dead one; none: there is no endpoint. */
export type Kind = "near" | "far" | "dead" | "none";

export interface Trial {
  readonly kinds: readonly Kind[];
  /** The same for tries behind the first, which may lead to others. */
  readonly otherKinds: readonly Kind[];
  readonly acts: readonly string[];
  /** Its state is used up: each run has its own. */
  tries(): Tries | undefined;
  readonly timeouts: Timeouts;
  /** From the beginning of a request to its end; milliseconds, 0 for as long as it likes. */
  readonly requestTimeoutMs: number;
  readonly cluster: Cluster;
  readonly action: ForwardAction;
  /** One of so many at once. */
  readonly burst: number;
  /** The kernel path may serve it, whatever it is answered. */
  readonly blind: boolean;
  /** It may be repeated without a policy's leave. */
  readonly safe: boolean;
}

export type Ending = {
  /** Tries that servers saw, those that got a connection to one, and all of them. */
  readonly seen: number;
  readonly went: number;
  /** Behind so many of them came a repetition without a policy's leave, at the same endpoint. */
  readonly repeated: number | undefined;
  readonly count: number;
} & (
  | { readonly kind: "answer"; readonly at: Kind; readonly status: number; readonly fields: readonly Field[] }
  | {
      readonly kind: "failed";
      readonly status: number;
      readonly body: string;
      readonly overflow: boolean;
      /** A circuit breaker refused the first try before anything else was done. */
      readonly atOnce: boolean;
      readonly late: boolean;
    }
);

export const endingsOf = (trial: Trial): Ending[] => explore((choose) => play(trial, choose));

type Choose = <Option>(options: readonly Option[]) => Option;

/** Every end of something that makes choices. */
function explore<Result>(run: (choose: Choose) => Result): Result[] {
  const results: Result[] = [];
  const open: number[][] = [[]];
  for (let given = open.pop(); given !== undefined; given = open.pop()) {
    const taken: number[] = [];
    const prefix = given;
    results.push(
      run((options) => {
        const at = taken.length;
        const choice = prefix[at] ?? 0;
        if (at >= prefix.length) for (let other = 1; other < options.length; other++) open.push([...taken, other]);
        taken.push(choice);
        return options[choice]!;
      }),
    );
    if (results.length > 20_000) throw new Error("too much may happen");
  }
  return results;
}

/** How a try ends, and when: milliseconds from the request's end. */
type End = "act" | "perTry" | "stream" | "whole" | "idle" | "duration" | "request";

/** Nobody answers. */
export const SILENCE = { status: 0, body: "timeout" };

const BEFORE = "upstream connect error or disconnect/reset before headers. ";

class Play {
  readonly #trial: Trial;
  readonly #choose: Choose;
  readonly #tries: Tries | undefined;
  readonly #thresholds: Thresholds;
  readonly #seen = { near: 0, far: 0 };
  /** Where the next try may go. */
  #kinds: readonly Kind[];
  #count = 0;
  #went = 0;
  #repetition: number | undefined;
  #now = 0;
  #heard = 0;
  #retried = false;
  #repeated = false;
  /** A policy would have it tried again, but there were too many already. */
  #stopped = false;

  constructor(trial: Trial, choose: Choose) {
    const { cluster, action } = trial;
    this.#trial = trial;
    this.#choose = choose;
    this.#kinds = trial.kinds;
    this.#tries = trial.tries();
    this.#thresholds = (cluster.breakers ?? DEFAULT_BREAKERS)[action.priority ?? "default"];
  }

  run(): Ending {
    for (;;) {
      const ending = this.#try();
      if (ending !== undefined) return ending;
    }
  }

  /** Undefined: there is another try. */
  #try(): Ending | undefined {
    const at = this.#choose(this.#kinds);
    this.#kinds = this.#trial.otherKinds;
    if (at === "none") return this.#failed(503, "no healthy upstream");
    this.#count++;
    if (this.#mayNotWait()) return this.#overflow(true);
    if (at === "dead") {
      if (this.#again(this.#tries?.afterReset("connectFailure"))) return undefined;
      return this.#failed(503, `${this.#because()}remote connection failure`);
    }
    /* A connection that is made for it takes a moment, and one that is there does not. */
    if (this.#mayNotBegin()) return this.#overflow(this.#choose([true, false]));
    this.#went++;
    const { acts } = this.#trial;
    const act = acts[Math.min(this.#seen[at], acts.length - 1)]!;
    /* A server that waits for the rest of a request has not seen it. */
    if (act !== "short") this.#seen[at]++;
    const end = this.#end(act);
    const tooLate = timedOut(act !== "short", undefined, "");
    switch (end) {
      case "whole":
        return this.#failed(this.#trial.timeouts.lateStatus, "upstream request timeout");
      case "idle":
        return this.#late(tooLate.status, "stream timeout");
      case "duration":
        return this.#late(tooLate.status, "downstream duration timeout");
      case "request":
        return this.#late(tooLate.status, "request timeout");
      case "perTry":
        if (this.#again(this.#tries?.afterReset("reset"))) return undefined;
        return this.#failed(this.#trial.timeouts.lateStatus, "upstream request timeout");
      case "stream":
        if (this.#again(this.#tries?.afterReset("reset"))) return undefined;
        return this.#failed(tooLate.status, "upstream max stream duration reached");
      case "act":
        return this.#acted(act, at);
      default:
        return end satisfies never;
    }
  }

  #acted(act: string, at: "near" | "far"): Ending | undefined {
    if (act === "short") return this.#failed(SILENCE.status, SILENCE.body);
    if (/^(reset|close|hang)$/.test(act)) {
      if (this.#again(this.#tries?.afterReset("reset")) || this.#repeats(at)) return undefined;
      return this.#failed(503, `${this.#because()}connection termination`);
    }
    const { status, fields } = answerTo(act);
    this.#heard = this.#now;
    /* The kernel path sees no grpc-status: docs/configuration.md. */
    const unseen = this.#trial.blind && fields.some(([name]) => name === "grpc-status") && this.#choose([false, true]);
    if (!unseen && this.#again(this.#tries?.afterResponse(status, fields, 0))) return undefined;
    return { kind: "answer", at, status, fields, ...this.#counts() };
  }

  /** A safe request that its server lost without a word: of one that is long the kernel path cannot. */
  #repeats(at: Kind): boolean {
    const may = this.#trial.safe && !this.#repeated && !this.#stopped;
    this.#repeated = true;
    const does = may && this.#choose([true, false]);
    if (does) {
      this.#repetition = this.#went;
      /* There again, or, what the kernel path has lost, as if it were the first try. */
      this.#kinds = [...new Set([...this.#trial.kinds, at])];
    }
    return does;
  }

  #again(verdict: Verdict | undefined): boolean {
    if (verdict === undefined || verdict === "no") return false;
    const { maxRetries, retryBudget } = this.#thresholds;
    this.#stopped = verdict === "limit" || (retryBudget?.minConcurrency ?? maxRetries) === 0;
    this.#retried ||= !this.#stopped;
    return !this.#stopped;
  }

  #overflow(atOnce: boolean): Ending {
    this.#again(this.#tries?.afterReset("overflow"));
    const failed = { overflow: true, atOnce: atOnce && this.#count === 1 && !this.#retried };
    return this.#failed(503, `${this.#because()}overflow`, failed);
  }

  /** No connection waits for a request at first: where none may be waited for, one that is there helps. */
  #mayNotWait = () => this.#thresholds.maxPendingRequests === 0 && this.#choose([true, false]);

  /** With a connection. */
  #mayNotBegin(): boolean {
    if (this.#thresholds.maxRequests === 0) return true;
    return this.#trial.burst > 1 && this.#choose([true, false]);
  }

  #end(act: string): End {
    const { timeouts, cluster, burst } = this.#trial;
    const { maxStreamDurationMs } = cluster.upstream ?? DEFAULT_UPSTREAM;
    const waited = burst > 1 ? this.#choose(Array.from({ length: burst }, (_, turns) => turns * LATE_MS)) : 0;
    const isShort = act === "short";
    const takes = isShort ? Number.POSITIVE_INFINITY : /^(late|hang)$/.test(act) ? LATE_MS : 0;
    const ends: [End, number][] = [["act", this.#now + waited + takes]];
    const limit = (end: End, from: number, ms: number) => {
      if (ms > 0) ends.push([end, from + ms]);
    };
    limit("request", 0, isShort ? this.#trial.requestTimeoutMs : 0);
    limit("perTry", this.#now, isShort ? 0 : timeouts.perTryMs);
    limit("perTry", this.#now, timeouts.perTryIdleMs);
    limit("stream", this.#now, maxStreamDurationMs);
    limit("whole", 0, isShort ? 0 : timeouts.wholeMs);
    limit("idle", this.#heard, timeouts.idleMs);
    limit("duration", 0, timeouts.durationMs);
    const first = Math.min(...ends.map(([, at]) => at));
    /* What takes no time is done before anything is late. */
    const near = ends.filter(([, at]) => at === first || (first > this.#now && at < first + MARGIN_MS));
    const [end, at] = this.#choose(near);
    this.#now = at;
    return end;
  }

  #because = () => `${BEFORE}${this.#retried ? "retried and the latest " : ""}reset reason: `;
  #counts = () => ({
    seen: this.#seen.near + this.#seen.far,
    went: this.#went,
    repeated: this.#repetition,
    count: this.#count,
  });

  #failed(status: number, body: string, how: { overflow?: boolean; atOnce?: boolean; late?: boolean } = {}): Ending {
    const { overflow = false, atOnce = false, late = false } = how;
    return { kind: "failed", status, body, overflow, atOnce, late, ...this.#counts() };
  }

  /** The connection's time is over, which knows of no tries. */
  #late(status: number, body: string): Ending {
    return this.#failed(status, body, { late: true });
  }
}

const play = (trial: Trial, choose: Choose) => new Play(trial, choose).run();

/** What a server answers that is told so. */
export function answerTo(act: string): { readonly status: number; readonly fields: readonly Field[] } {
  if (act === "late") return { status: 200, fields: [] };
  const [status, ...more] = act.split("+");
  return {
    status: Number(status),
    fields: more.map((field): Field => {
      const [name = "", value = ""] = field.split("=");
      return [name, value];
    }),
  };
}
