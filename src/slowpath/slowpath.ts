import { randomUUID } from "node:crypto";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Address, FilterChain } from "../model/config.ts";
import { DEFAULT_DOWNSTREAM } from "../model/limits.ts";
import { random } from "../route/chance.ts";
import { injectFault } from "../route/fault.ts";
import { Headers } from "../route/match.ts";
import { answer, receive } from "../route/own-headers.ts";
import { timeoutsOf } from "../route/timeouts.ts";
import { unmapped } from "../tables/address.ts";
import { reasonOf } from "../tables/status.ts";
import { type Admitted, admit } from "./admit.ts";
import { Resources } from "./breakers.ts";
import { Lifetime, StreamClock } from "./clock.ts";
import { Exchange } from "./exchange.ts";
import { type Field, Malformed, parseRequestLine, tokens } from "./http1.ts";
import { type Arrival, Newcomer } from "./newcomer.ts";
import type { Downstream, Flag, ListenerCounter, Lost, Ports, RoutedHead, Served, Session } from "./ports.ts";
import { type Failure, localReply, timedOut } from "./reply.ts";
import { wantsMore } from "./request.ts";
import { BodyReader, Broken, breakOff, flushed, Source, write } from "./source.ts";
import { TcpRelay } from "./tcp.ts";
import { Upstreams } from "./upstream.ts";

/** How long a closing client may keep sending before it is cut off, as Envoy's delayed_close_timeout. Milliseconds. */
const LINGER_MS = 1_000;

/** Serves in user space what the kernel path cannot, by the same rules: a strict, verbatim HTTP/1.1 proxy. */
export class SlowPath {
  readonly #ports: Ports;
  readonly #resources: Resources;
  readonly #upstreams: Upstreams;
  readonly #connections = new Set<Served>();
  #draining = false;

  constructor(ports: Ports) {
    this.#ports = ports;
    this.#resources = new Resources(
      (cluster) => ports.active(cluster),
      (cluster) => ports.counted(cluster),
    );
    this.#upstreams = new Upstreams(this.#resources, (cluster, what) => ports.countCluster(cluster, what), ports);
  }

  get open(): number {
    return this.#connections.size;
  }

  /** Takes over the near end of a client's connection until it closes. */
  accept(stream: Duplex, arrival: Arrival, { initial, ...from }: Omit<Downstream, "listener">): Session {
    const serve = (chain: FilterChain, initial: Lost | undefined) =>
      this.#open(stream, chain, arrival, { ...from, ...(initial ? { initial } : {}) });
    const served = new Newcomer(stream, arrival, serve, initial);
    this.#connections.add(served);
    void served.serve().finally(() => {
      this.#connections.delete(served);
      this.#upstreams.leave(stream);
    });
    return served;
  }

  #open(
    stream: Duplex,
    chain: FilterChain,
    { original, connection }: Arrival,
    from: Omit<Downstream, "listener">,
  ): Served {
    if (chain.kind === "http") {
      const downstream = { ...from, listener: chain, original };
      return new Connection(stream, downstream, {
        ports: this.#ports,
        upstreams: this.#upstreams,
        resources: this.#resources,
        draining: () => this.#draining,
      });
    }
    const { tenant } = from;
    const pick = this.#ports.connect(chain, original, connection.source);
    return new TcpRelay({ stream, chain, tenant, pick }, this.#upstreams, this.#ports);
  }

  /** Answers a request that is lost to its server, and closes. */
  async refuse(stream: Duplex, status: number, body: string, extra: readonly Field[]): Promise<void> {
    stream.on("error", () => {});
    stream.end(localReply(status, body, { close: true, head: false, extra }));
    stream.resume();
    setTimeout(() => stream.destroy(), LINGER_MS).unref();
  }

  /** Connections end after the request they are at; after `graceMs` they are cut off. */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true;
    for (const c of this.#connections) void c.endIfIdle();
    const until = performance.now() + graceMs;
    while (this.#connections.size > 0 && performance.now() < until) await new Promise((r) => setTimeout(r, 10));
    for (const c of this.#connections) c.destroy();
    this.#upstreams.closeIdle();
  }
}

/** What all connections have in common. */
interface Common {
  readonly ports: Ports;
  readonly upstreams: Upstreams;
  readonly resources: Resources;
  draining(): boolean;
}

class Connection implements Served {
  readonly #stream: Duplex;
  readonly #from: Downstream;
  readonly #common: Common;
  readonly #ports: Ports;
  readonly #source: Source;
  readonly #lifetime: Lifetime;
  readonly #clock: StreamClock;
  #written = 0;
  /** It waits for its next request. */
  #waits = false;
  #lost: Lost | undefined;
  #refusal: Buffer | undefined;
  /** Somebody else ends it. */
  #abandoned = false;
  #exchange: Exchange | undefined;
  /** Its request has taken too long before it was whole enough to be served. */
  #late: Failure | undefined;
  /** Ends a wait that the rules ask for. */
  #wake = () => {};
  /** All of the request that waits has come. */
  #waitsWhole = false;

  constructor(stream: Duplex, from: Downstream, common: Common) {
    const limits = from.listener.http.limits ?? DEFAULT_DOWNSTREAM;
    this.#stream = stream;
    this.#from = from;
    this.#common = common;
    this.#ports = common.ports;
    this.#source = new Source(
      stream,
      from.initial?.request,
      () => stream instanceof Socket && common.ports.wasReset?.(stream) === true,
    );
    this.#lost = from.initial;
    const count = (what: ListenerCounter) => this.#ports.countListener(from.listener, what);
    this.#lifetime = new Lifetime(limits, from.onIdle !== undefined, count, () => void this.endIfIdle());
    this.#clock = new StreamClock(limits, count, (flag, body) => this.#tooLate(flag, body));
    stream.on("error", () => {});
  }

  destroy(): void {
    if (this.#waits) this.#stream.destroy();
    else breakOff(this.#stream);
  }

  async endIfIdle(): Promise<void> {
    if (!this.#waits) return;
    await this.#from.gate?.();
    if (this.#waits && this.#source.empty) this.#stream.end();
  }

  inject(lost: Lost): boolean {
    if (!this.#waits) return false;
    this.#waits = false;
    this.#lost = lost;
    this.#source.insert(lost.request);
    return true;
  }

  refuse(status: number, body: string, extra: readonly Field[]): boolean {
    if (!this.#waits) return false;
    this.#waits = false;
    this.#refusal = localReply(status, body, { close: true, head: false, extra });
    void this.#source.discard();
    return true;
  }

  discard(): void {
    this.#abandoned = true;
    this.#waits = false;
    void this.#source.discard();
    this.#exchange?.abandon();
  }

  /** Time is over for the request: 504, or 408 where not all of it has come. */
  #tooLate(flag: Flag | undefined, body: string): void {
    if (this.#exchange !== undefined) {
      this.#exchange.abandon(timedOut(this.#exchange.whole, flag, body));
      return;
    }
    this.#late = timedOut(this.#waitsWhole, flag, body);
    this.#wake();
    void this.#source.discard();
  }

  async serve(): Promise<void> {
    try {
      while (await this.#one()) {
        await flushed(this.#stream);
        if (this.#source.empty && !this.#stream.destroyed && !this.#abandoned) {
          this.#from.onIdle?.(this.#source.taken, this.#written);
        }
        if (this.#common.draining()) break;
      }
      this.#clock.stop();
      if (!this.#abandoned) await this.#close();
    } catch (error) {
      const known = error instanceof Broken;
      if (!known) this.#ports.log({ err: error }, "a slow path connection failed");
      if (!this.#abandoned && known) this.#stream.destroy();
      else if (!this.#abandoned) breakOff(this.#stream);
    }
    this.#clock.stop();
    if (!this.#stream.closed) await new Promise((resolve) => this.#stream.once("close", resolve));
    this.#lifetime.stop();
  }

  /** Ends the stream, and takes in what the client still sends, so that no reset runs over the last answer. */
  async #close(): Promise<void> {
    this.#stream.end();
    const cut = setTimeout(() => this.#stream.destroy(), LINGER_MS);
    await this.#source.discard();
    clearTimeout(cut);
    this.#stream.destroy();
  }

  /** Waits for a request. False: there will be none. */
  async #next(): Promise<boolean> {
    this.#waits = true;
    this.#lifetime.waits();
    await this.#source.some();
    this.#lifetime.works();
    /* A client that has ended its side may still be due an answer of the kernel path, or its repetition. */
    if (this.#source.buffer.length === 0) await this.#from.gate?.();
    this.#waits = false;
    if (this.#refusal) await this.#write(this.#refusal);
    return this.#source.buffer.length > 0;
  }

  async #write(bytes: Buffer): Promise<void> {
    if (this.#abandoned) throw new Broken("the connection is being ended");
    this.#written += bytes.length;
    await write(this.#stream, bytes);
  }

  /** `asked` is the request as the rules saw it, if they did. */
  async #reply(
    status: number,
    flag: Flag | undefined,
    body: string,
    how: { close: boolean; head?: boolean; extra?: readonly Field[]; asked?: RoutedHead; keepsType?: boolean },
  ) {
    const { listener } = this.#from;
    const { own } = listener.http;
    const { close, head = false, extra = [], asked, keepsType = false } = how;
    const finish = (fields: readonly Field[]) => answer(own, fields, asked, Date.now());
    this.#ports.finished(listener, flag, `${status}`);
    await this.#write(localReply(status, body, { close, head, extra, keepsType, ...(own ? { finish } : {}) }));
  }

  /** What is wrong with the beginning of a body; undefined: nothing, or it is too late for it. */
  async #broken(reader: BodyReader): Promise<Malformed | undefined> {
    try {
      await reader.prefetch();
    } catch (error) {
      if (error instanceof Malformed) return error;
      if (this.#late === undefined) throw error;
    }
    return undefined;
  }

  async #refuseBody({ status }: Malformed, asked: RoutedHead, extra: readonly Field[] = []): Promise<false> {
    await this.#from.gate?.();
    await this.#reply(status, "DPE", reasonOf(status), { close: true, extra, asked });
    return false;
  }

  /** For so long, unless the client goes, or the time that its request may take is over before. */
  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#stream.once("close", this.#wake);
    });
    this.#stream.off("close", this.#wake);
    this.#wake = () => {};
  }

  /** The request itself has not come in time. */
  async #refuseLate(
    { status, flag, body }: Failure,
    how: { asked?: RoutedHead; extra?: readonly Field[] } = {},
  ): Promise<false> {
    await this.#from.gate?.();
    await this.#reply(status, flag, body, { close: true, ...how });
    return false;
  }

  /** Serves one request. False when the connection is to be closed. */
  async #one(): Promise<boolean> {
    const { listener } = this.#from;
    let admitted: Admitted;
    try {
      if (!(await this.#next()) || this.#from.broken?.()) return false;
      this.#waitsWhole = false;
      this.#clock.begin();
      const head = await this.#source.head(listener.http.maxRequestHeadersKb * 1_024, parseRequestLine);
      if (this.#late !== undefined) return await this.#refuseLate(this.#late);
      if (head === undefined) return false;
      this.#clock.headIsWhole();
      admitted = admit(head, listener.http);
    } catch (error) {
      if (this.#late !== undefined) return await this.#refuseLate(this.#late);
      await this.#from.gate?.();
      if (!(error instanceof Malformed)) throw error;
      await this.#reply(error.status, "DPE", reasonOf(error.status), { close: true });
      return false;
    }
    const { request, body, routed, upgrade, moved } = admitted;
    const { own } = listener.http;
    const { internalOnly = [] } = listener.routes;
    const local = this.#from.original ?? localOf(this.#stream);
    const ends = { client: clientOf(this.#stream), local, machineIp: this.#ports.machineIp, makeId: randomUUID };
    if (routed === undefined) {
      const bare = { ...NO_PATH, headers: request.headers };
      /* Of those without a path, Envoy asks its routes about CONNECT only. */
      const asked = request.method === "CONNECT" ? receive(own, internalOnly, bare, ends).head : bare;
      const { fault } = listener.http;
      const injected = fault && request.method === "CONNECT" ? injectFault(fault, asked, undefined, random) : undefined;
      if (injected !== undefined) await this.#pause(injected.delayMs);
      if (this.#late !== undefined) return await this.#refuseLate(this.#late);
      await this.#from.gate?.();
      const { status, body: text, fields: extra } = injected?.reply ?? { status: 404, body: "", fields: [] };
      const flag = injected?.reply ? "FI" : "NR";
      await this.#reply(status, flag, text, { close: true, asked, extra, keepsType: true });
      return false;
    }
    const isLast = this.#lifetime.next();
    const persistent = () => wantsMore(request) && !isLast();
    if (moved !== undefined) {
      this.#clock.stop();
      await this.#from.gate?.();
      const [close, head] = [!persistent() || body.kind !== "none" || upgrade !== undefined, request.method === "HEAD"];
      await this.#reply(307, undefined, "", { close, head, extra: [["location", moved]], asked: routed });
      return !close;
    }
    const { head: asked, client } = receive(own, internalOnly, routed, ends);
    let decision = this.#ports.decide(listener, asked, {
      tenant: this.#from.tenant,
      client,
      original: this.#from.original,
      local,
      protocol: request.minor === 1 ? "HTTP/1.1" : "HTTP/1.0",
      startedMs: Date.now(),
      upgrade,
      cluster: this.#lost?.cluster,
    });
    const reader = new BodyReader(this.#source, body, 400);
    const isChecked = body.kind === "chunked" && !tokens(request.headers, "expect").includes("100-continue");
    this.#waitsWhole = reader.done;
    while (decision.kind === "wait") {
      const broken = isChecked ? await this.#broken(reader) : undefined;
      if (broken === undefined) await this.#pause(decision.ms);
      if (this.#late !== undefined)
        return await this.#refuseLate(this.#late, { asked, extra: decision.edits?.response([], asked) ?? [] });
      if (broken !== undefined) return await this.#refuseBody(broken, asked);
      if (this.#stream.destroyed) return false;
      decision = decision.next();
    }
    if (decision.kind === "reply") {
      this.#clock.stop();
      await this.#from.gate?.();
      const close = !persistent() || !reader.done || upgrade !== undefined;
      const head = request.method === "HEAD";
      const { status, flag, body: text, fields: extra, keepsType = false } = decision;
      await this.#reply(status, flag, text, { close, head, extra, asked, keepsType });
      return !close;
    }
    const broken = isChecked ? await this.#broken(reader) : undefined;
    if (this.#late !== undefined) return await this.#refuseLate(this.#late);
    const timeouts = timeoutsOf(decision.action, listener.http.limits, new Headers(asked, "each"));
    const lost = this.#lost;
    this.#lost = undefined;
    const { ports, upstreams, resources } = this.#common;
    const { suppressesOwn = false } = listener.routes;
    const tellsTimes = own !== undefined && !suppressesOwn;
    const exchange = new Exchange(
      { request, routed: asked, own, tellsTimes, body, reader, persistent, upgrade, timeouts, lost },
      decision,
      {
        stream: this.#stream,
        source: this.#source,
        tenant: this.#from.tenant,
        ports,
        upstreams,
        resources,
        first: async (bytes) => {
          await this.#from.gate?.();
          this.#clock.heard();
          await this.#write(bytes);
        },
        rest: (bytes) => this.#write(bytes),
        heard: () => this.#clock.heard(),
        whole: () => this.#clock.requestIsWhole(),
      },
    );
    if (broken !== undefined && !exchange.isRefused) {
      const sent = decision.edits.request(asked);
      return await this.#refuseBody(broken, sent, decision.edits.response([], sent));
    }
    this.#clock.allow(timeouts.idleMs, timeouts.durationMs);
    this.#exchange = exchange;
    const outcome = await exchange.run();
    this.#exchange = undefined;
    this.#clock.stop();
    if (outcome.kind === "failed") {
      const { failure } = outcome;
      if (outcome.started) {
        this.#ports.finished(listener, failure.flag, "reset");
        /* A reset may overtake what the client has not got yet, so that it would not even see the status. */
        await this.#from.gate?.();
        breakOff(this.#stream);
        return false;
      }
      await this.#from.gate?.();
      const close = !persistent() || !reader.done;
      const head = request.method === "HEAD";
      /* That a cluster is overloaded is all that failures say. */
      const extra = exchange.responseFields(suppressesOwn ? [] : failure.extra);
      await this.#reply(failure.status, failure.flag, failure.body, { close, head, extra, asked: exchange.head });
      return !close;
    }
    this.#ports.finished(listener, outcome.flag, "via_upstream");
    return outcome.keep;
  }
}

/** Of a request that no rule can take. */
const NO_PATH: RoutedHead = { method: "", authority: "", path: "", headers: [] };

function clientOf(stream: Duplex): Address | undefined {
  if (!(stream instanceof Socket) || stream.remoteAddress === undefined) return undefined;
  return { ip: unmapped(stream.remoteAddress), port: stream.remotePort ?? 0 };
}

function localOf(stream: Duplex): Address | undefined {
  if (!(stream instanceof Socket) || stream.localAddress === undefined) return undefined;
  return { ip: unmapped(stream.localAddress), port: stream.localPort ?? 0 };
}
