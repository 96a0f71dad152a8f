import type { Duplex } from "node:stream";
import type { Address, OwnHeaders } from "../model/config.ts";
import type { Priority } from "../model/limits.ts";
import { random } from "../route/chance.ts";
import { Headers } from "../route/match.ts";
import { answer, EXPECTED_TIMEOUT, expectedMs, SERVICE_TIME } from "../route/own-headers.ts";
import { RETRY_HEADERS, type Reset, Tries, type Verdict } from "../route/retry.ts";
import { TIMEOUT_HEADERS, type Timeouts } from "../route/timeouts.ts";
import { reasonOf } from "../tables/status.ts";
import { Attempt } from "./attempt.ts";
import type { ClusterCounter, Resources } from "./breakers.ts";
import { type Body, type Field, Malformed, type RequestLine, tokens } from "./http1.ts";
import { sendMirror } from "./mirror.ts";
import type { Flag, Forward, Lost, Ports, RoutedHead, Try } from "./ports.ts";
import { Failure, failureOf, timedOut } from "./reply.ts";
import { withField, withFieldOf, withoutFields, withoutHopByHop } from "./request.ts";
import { type BodyReader, Broken, type Source } from "./source.ts";
import { BUFFER_LIMIT, Upload } from "./upload.ts";
import { ConnectFailed, Overflow, once, type Target, type Upstream, type Upstreams } from "./upstream.ts";
import { Deadline } from "./watch.ts";

export interface Asked {
  readonly request: RequestLine;
  readonly routed: RoutedHead;
  /** The listener's; missing: none of Envoy's own headers is set. */
  readonly own: OwnHeaders | undefined;
  /** How long its server may take is told to it, and how long it took to the client. */
  readonly tellsTimes: boolean;
  readonly body: Body;
  readonly reader: BodyReader;
  /** May the connection go on after the answer? Asked when that has come. */
  persistent(): boolean;
  readonly upgrade: string | undefined;
  readonly timeouts: Timeouts;
  /** A server has seen it before and died. */
  readonly lost: Lost | undefined;
}

export type Outcome =
  | { readonly kind: "done"; readonly keep: boolean; readonly flag: Flag | undefined }
  | { readonly kind: "failed"; readonly failure: Failure; readonly started: boolean };

/** Whom an exchange serves, and with what. */
export interface Parties {
  readonly stream: Duplex;
  readonly source: Source;
  readonly tenant: number;
  readonly upstreams: Upstreams;
  readonly resources: Resources;
  readonly ports: Ports;
  /** Writes what comes of an answer before its body, when it is its turn ... */
  first(bytes: Buffer): Promise<void>;
  /** ... and the rest. */
  rest(bytes: Buffer): Promise<void>;
  /** Either side has given a sign of life. */
  heard(): void;
  /** All of the request has come. */
  whole(): void;
}

/** What a server's end may be answered by asking once more, policy or no policy: RFC 9110 section 9.2.2. */
const REPEATABLE = new Set(["GET", "HEAD", "OPTIONS"]);

/** In what of a request and its answer the tries are counted. */
export const ATTEMPT_COUNT = "x-envoy-attempt-count";

const MAX_RANDOM = Number.MAX_SAFE_INTEGER;

/** An answer came that the client does not get, because there is another try. */
class AnotherTry extends Error {}

/** One request on its way to a server and back, by as many tries as its route's policy allows. */
export class Exchange {
  readonly #asked: Asked;
  readonly #to: Forward;
  readonly #parties: Parties;
  readonly #priority: Priority;
  readonly #upload: Upload;
  readonly #cut = new AbortController();
  /** A request that is over before all of it has come is over for mirrors, too. */
  readonly #copies = new AbortController();
  readonly #response = new Deadline();
  readonly #tried: Address[] = [];
  /** What mirrors get: endpoints of the request itself have made nothing of it. */
  readonly #first: RoutedHead;
  /** As it goes to the next endpoint, or went to the last one. */
  #head: RoutedHead;
  /** The last that it went to. */
  #at: Try | undefined;
  #tries: Tries | undefined;
  #attempt: Attempt | undefined;
  /** Tries so far, with those of the kernel path. */
  #count = 0;
  /** It stands among the retries of its cluster. */
  #retrying = false;
  /** A policy has let it be tried again. */
  #retried = false;
  /** It has been asked once more without a policy's leave, or must not be. */
  #repeated = false;
  #started = false;
  /** The client waits for a 100 before it sends its body. */
  #expects: boolean;
  #complete = false;
  /** It is on its way: no circuit breaker refused it at once. */
  #goes = false;
  #wholeAtMs: number | undefined;
  #flag: Flag | undefined;
  #over: Failure | undefined;
  /** It was the connection's limits that ended it, not the route's. */
  #cutOff = false;

  constructor(asked: Asked, to: Forward, parties: Parties) {
    const { action } = to;
    this.#asked = asked;
    this.#to = to;
    this.#parties = parties;
    this.#priority = action.priority ?? "default";
    this.#expects = asked.request.minor === 1 && tokens(asked.request.headers, "expect").includes("100-continue");
    const sent = withoutHopByHop(asked.request, asked.routed, asked.upgrade, asked.own !== undefined);
    const bare = this.#withExpected(withoutFields(sent, TIMEOUT_HEADERS));
    const edited = to.edits.request(action.countsAttempts ? withField(bare, ATTEMPT_COUNT, "1") : bare);
    this.#tries = Tries.of(action.retry, new Headers(edited, "each"));
    this.#first = withoutFields(edited, RETRY_HEADERS);
    this.#head = this.#first;
    const most = Math.min(BUFFER_LIMIT, action.bufferLimit ?? BUFFER_LIMIT);
    this.#upload = new Upload(asked.reader, this.#tries?.enabled ? most : undefined, () => {
      this.#counted("retry_or_shadow_abandoned");
      this.#forgetTries();
    });
  }

  /** The request as it goes on. */
  get head(): RoutedHead {
    return this.#head;
  }

  #withExpected(head: RoutedHead): RoutedHead {
    const { tellsTimes, timeouts } = this.#asked;
    const ms = tellsTimes ? expectedMs(timeouts, this.#sinceWholeMs ?? 0) : 0;
    return ms === 0 ? head : withField(head, EXPECTED_TIMEOUT, String(ms));
  }

  /** Milliseconds since all of the request had come; undefined: it has not. */
  get #sinceWholeMs(): number | undefined {
    return this.#wholeAtMs === undefined ? undefined : Math.floor(performance.now() - this.#wholeAtMs);
  }

  /** What a server answered, as the client gets it. */
  #answered(fields: readonly Field[]): readonly Field[] {
    const { tellsTimes, own, upgrade } = this.#asked;
    /* To Envoy a request for an upgrade has no end. */
    const tookMs = tellsTimes && upgrade === undefined ? this.#sinceWholeMs : undefined;
    const timed = tookMs === undefined ? fields : withFieldOf(fields, SERVICE_TIME, String(tookMs));
    return answer(own, this.responseFields([...timed, ...this.#to.added]), this.#head, Date.now());
  }

  /** The fields that a local answer gets, or a server's. */
  responseFields(fields: readonly Field[]): readonly Field[] {
    const tells = this.#to.action.tellsAttempts && !this.#cutOff;
    const told = tells ? withFieldOf(fields, ATTEMPT_COUNT, String(this.#count)) : fields;
    return this.#to.edits.response(told, this.#head);
  }

  /** Will a circuit breaker refuse it at once, whatever its body is like? */
  get isRefused(): boolean {
    return this.#parties.upstreams.refuses(this.#targetOf(this.#to.first));
  }

  /** Has all of the request come? */
  get whole(): boolean {
    return this.#upload.whole;
  }

  /** Its answer is not wanted any more, or comes too late for the connection, which knows of no tries. */
  abandon(why?: Failure): void {
    this.#cutOff ||= why !== undefined;
    this.#end(why);
  }

  #end(why?: Failure): void {
    this.#over ??= why;
    this.#cut.abort();
    this.#attempt?.up.socket.destroy();
  }

  async run(): Promise<Outcome> {
    const { stream, source } = this.#parties;
    const { reader } = this.#asked;
    const gone = () => this.abandon();
    stream.once("close", gone);
    /* A client may have gone before anybody here listened: nothing would tell, and the request wait for its time. */
    if (stream.destroyed) gone();
    try {
      if (!this.#expects) await this.#upload.readAtHand();
      if (this.#upload.whole) this.#requestIsWhole();
      let next = this.#afterLoss();
      for (;;) {
        if (next instanceof Failure) return this.#failed(next);
        if (next.delayMs > 0) await this.#pause(next.delayMs);
        if (this.#over !== undefined || this.#cut.signal.aborted) return this.#failed(new Broken("it is over"));
        try {
          return await this.#try(next.to, next.fresh);
        } catch (error) {
          if (source.discarded) throw new Broken("the connection is being ended");
          const after = this.#afterFailure(error, next.to);
          if (after !== undefined || !(error instanceof Overflow)) this.#goesOn();
          if (after === undefined) return this.#failed(error);
          next = after;
        }
      }
    } finally {
      this.#response.stop();
      this.#forgetTries();
      /* No server was there to wait for a body that its client has sent all the same: mirrors may have all of it. */
      if (this.#expects && this.#to.action.mirrors !== undefined) await this.#upload.readAtHand().catch(() => {});
      this.#upload.end();
      if (!this.#upload.whole) this.#copies.abort();
      stream.off("close", gone);
      if (!reader.done) this.#cut.abort();
    }
  }

  // ---- one try after the other ----

  /** What comes first: the request's only try yet, or, if a server has been lost already, what follows that. */
  #afterLoss(): Next | Failure {
    const { lost, request } = this.#asked;
    const { first } = this.#to;
    if (lost === undefined) return { to: first, fresh: false, delayMs: 0 };
    this.#count++;
    if (lost.server) this.#tried.push(lost.server);
    this.#repeated = true;
    const again = this.#retry(this.#tries?.afterReset("reset") ?? "no");
    if (again !== undefined) return again;
    if (REPEATABLE.has(request.method)) return { to: first, fresh: true, delayMs: 0 };
    return failureOf(new Broken("the server closed"), false);
  }

  /** Undefined: there is no other try. */
  #afterFailure(error: unknown, to: Try): Next | undefined {
    const { request, body } = this.#asked;
    const attempt = this.#attempt;
    this.#attempt = undefined;
    this.#tried.push(to.address);
    if (error instanceof AnotherTry) return this.#another();
    if (this.#started || this.#over !== undefined || this.#isOfClient(error)) return undefined;
    const again = this.#retry(this.#tries?.afterReset(howReset(error, attempt)) ?? "no");
    if (again !== undefined) return again;
    /* Also on a fresh connection: a server that ends every idle one may hit it before the request does. */
    const safe = REPEATABLE.has(request.method) && body.kind === "none" && error instanceof Broken;
    if (this.#repeated || !safe || this.#flag !== undefined || attempt === undefined) return undefined;
    this.#repeated = true;
    return { to, fresh: true, delayMs: 0 };
  }

  #retry(verdict: Verdict): Next | undefined {
    return this.#admit(verdict) ? this.#another() : undefined;
  }

  /** Another try is due, and allowed. */
  #another(): Next | undefined {
    this.#retried = true;
    const to = this.#to.again(this.#tried, this.#head);
    const delayMs = this.#tries!.delayMs(random(MAX_RANDOM));
    return to && { to, fresh: false, delayMs };
  }

  /** Counts what the policy says of an end, and asks the circuit breaker. */
  #admit(verdict: Verdict): boolean {
    const { cluster, breakers } = this.#to;
    const { resources } = this.#parties;
    if (this.#retrying && verdict === "no") this.#counted("upstream_rq_retry_success");
    this.#leaveRetries();
    if (verdict === "no") return false;
    if (verdict === "limit") {
      this.#counted("upstream_rq_retry_limit_exceeded");
      this.#flag = "URX";
      return false;
    }
    if (!this.#upload.kept) return false;
    if (!resources.mayRetry(cluster, this.#priority, breakers[this.#priority])) {
      this.#counted("upstream_rq_retry_overflow");
      this.#flag = "UO";
      return false;
    }
    this.#counted("upstream_rq_retry");
    resources.of(cluster, this.#priority).retries++;
    this.#retrying = true;
    return true;
  }

  #leaveRetries(): void {
    if (this.#retrying) this.#parties.resources.of(this.#to.cluster, this.#priority).retries--;
    this.#retrying = false;
  }

  #forgetTries(): void {
    this.#leaveRetries();
    this.#tries = undefined;
  }

  #counted(what: ClusterCounter): void {
    this.#parties.ports.countCluster(this.#to.cluster, what);
  }

  async #pause(ms: number): Promise<void> {
    const { signal } = this.#cut;
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      signal.addEventListener("abort", () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  async #try(to: Try, fresh: boolean): Promise<Outcome> {
    const { upstreams } = this.#parties;
    const { action, edits } = this.#to;
    const target = this.#targetOf(to);
    this.#count++;
    if (this.#count > 1) this.#head = this.#withExpected(this.#head);
    if (action.countsAttempts && this.#count > 1)
      this.#head = withField(this.#head, ATTEMPT_COUNT, String(this.#count));
    /* A refusal comes before that. */
    const soon = setImmediate(() => this.#goesOn());
    const up = await this.#connect(to, target, fresh).finally(() => clearImmediate(soon));
    this.#goesOn();
    /* A repetition at the same endpoint is of the same request. */
    if (this.#at !== to) this.#head = edits.atEndpoint(this.#head, to.hostname);
    this.#at = to;
    to.started();
    const leave = once(() => upstreams.detach(target));
    const attempt = this.#begin(to, up, () => {
      /* Whoever waits for the connection needs the room as well. */
      leave();
      upstreams.giveBack(target, up);
    });
    try {
      if (this.#parties.source.discarded) throw new Broken("the connection is being ended");
      const keep = await attempt.run();
      return { kind: "done", keep, flag: this.#flag };
    } catch (error) {
      up.socket.destroy();
      this.#cameToNothing(to, attempt, error);
      throw attempt.expired ?? error;
    } finally {
      attempt.stop();
      leave();
      to.ended(attempt.status, attempt.sent, attempt.received);
    }
  }

  async #connect(to: Try, target: Target, fresh: boolean): Promise<Upstream> {
    try {
      const up = await this.#parties.upstreams.acquire(target, fresh, this.#cut.signal);
      to.came({ kind: "connected", isAll: false });
      return up;
    } catch (error) {
      if (error instanceof ConnectFailed) to.came({ kind: "failed" });
      throw error;
    }
  }

  /** Tells outlier detection of a try that failed, if that is the server's fault: onUpstreamReset of router.cc. */
  #cameToNothing(to: Try, { expired, status }: Attempt, error: unknown): void {
    const late = expired ?? this.#over;
    if (late !== undefined) {
      /* Time ends a whole answer too, and of that the server has told already; but for one without a sign of life. */
      const isLate = late.flag === "UT" && (status === undefined || expired !== undefined);
      if (isLate && !this.#cutOff) to.came({ kind: "timedOut", status: late.status });
      return;
    }
    if (error instanceof AnotherTry || this.#isOfClient(error) || this.#parties.source.discarded) return;
    to.came({ kind: "failed" });
  }

  /** Is it the client that failed, or has it gone? */
  #isOfClient(error: unknown): boolean {
    const { stream, source } = this.#parties;
    if (error instanceof Malformed && error.status < 500) return true;
    return stream.destroyed || (source.over && !this.#upload.whole);
  }

  #targetOf({ address }: Try): Target {
    const { tenant, stream: client } = this.#parties;
    return { ...this.#to, tenant, client, address, priority: this.#priority };
  }

  #begin(to: Try, up: Upstream, giveBack: () => void): Attempt {
    const { timeouts } = this.#asked;
    this.#upload.rewind();
    const { upstream } = this.#to;
    const attempt = new Attempt(this.#asked, this.#head, this.#upload, up, this.#parties, {
      piece: (at) => this.#piece(at),
      fields: (fields) => this.#answered(fields),
      mustContinue: () => {
        const must = this.#expects && !this.#upload.whole;
        this.#expects = false;
        return must;
      },
      interim: () => {
        this.#forgetTries();
        this.#repeated = true;
      },
      final: (status, fields) => {
        to.came({ kind: "answered", status });
        if (this.#tries === undefined || status < 200) return;
        if (this.#admit(this.#tries.afterResponse(status, fields, Date.now()))) throw new AnotherTry();
      },
      started: () => {
        this.#started = true;
      },
      giveBack,
      tunnels: () => this.#response.stop(),
    });
    this.#attempt = attempt;
    const late = () => this.#late();
    if (upstream.maxStreamDurationMs > 0) {
      attempt.limit(upstream.maxStreamDurationMs, () => {
        this.#counted("upstream_rq_max_duration_reached");
        return timedOut(this.#upload.whole, "UMSDR", "upstream max stream duration reached");
      });
    }
    attempt.limitSilence(timeouts.perTryIdleMs, () => {
      this.#counted("upstream_rq_per_try_idle_timeout");
      return late();
    });
    if (this.#complete) this.#limitTry(attempt);
    return attempt;
  }

  /** From the end of the request, or from the connection if that comes later, to the beginning of the answer. */
  #limitTry(attempt: Attempt): void {
    attempt.limitHead(this.#asked.timeouts.perTryMs, () => {
      this.#counted("upstream_rq_per_try_timeout");
      return this.#late();
    });
  }

  #late(): Failure {
    const { lateStatus } = this.#asked.timeouts;
    return new Failure(lateStatus, "UT", lateStatus === 204 ? "" : "upstream request timeout");
  }

  // ---- the request ----

  async #piece(at: number): Promise<Buffer | undefined> {
    const piece = await this.#upload.piece(at);
    this.#parties.heard();
    if (this.#upload.whole) this.#requestIsWhole();
    return piece;
  }

  /** Envoy's route timeout begins here. */
  #requestIsWhole(): void {
    if (this.#complete) return;
    this.#complete = true;
    this.#wholeAtMs = performance.now();
    this.#parties.whole();
    this.#response.set(this.#asked.timeouts.wholeMs, () => {
      this.#counted("upstream_rq_timeout");
      this.#end(this.#late());
    });
    if (this.#attempt) this.#limitTry(this.#attempt);
  }

  /** Copies go out beside it; of a request that a circuit breaker refused at once there are none, as in Envoy. */
  #goesOn(): void {
    if (this.#goes) return;
    this.#goes = true;
    if (this.#to.action.mirrors === undefined) return;
    const { upstreams, tenant } = this.#parties;
    for (const mirror of this.#to.mirrors(this.#asked.routed)) {
      const { request, body, timeouts } = this.#asked;
      void sendMirror(
        mirror,
        { request, body, head: this.#first, timeouts, tenant, priority: this.#priority },
        this.#upload,
        upstreams,
        this.#copies.signal,
      );
    }
  }

  // ---- the end ----

  /** A fault of the client's is thrown on, a fault of the server's is an answer. */
  #failed(error: unknown): Outcome {
    const started = this.#started;
    if (this.#over !== undefined) return { kind: "failed", failure: this.#over, started };
    if (this.#parties.stream.destroyed) throw new Broken("the client has gone");
    if (error instanceof Malformed && error.status < 500)
      return { kind: "failed", failure: new Failure(error.status, "DPE", reasonOf(error.status)), started };
    if (error instanceof AnotherTry) return { kind: "failed", failure: noHealthyUpstream(), started };
    const failure = failureOf(error, this.#retried);
    return { kind: "failed", failure, started };
  }
}

interface Next {
  readonly to: Try;
  readonly fresh: boolean;
  readonly delayMs: number;
}

const noHealthyUpstream = () => new Failure(503, "UH", "no healthy upstream");

/** How a try ended that brought no answer. */
function howReset(error: unknown, attempt: Attempt | undefined): Reset {
  if (error instanceof Overflow) return "overflow";
  if (error instanceof ConnectFailed) return "connectFailure";
  return attempt === undefined || attempt.sent === 0 ? "beforeRequest" : "reset";
}
