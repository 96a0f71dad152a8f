import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Address, FilterChain } from "../model/config.ts";
import { unmapped } from "../tables/address.ts";
import { type Admitted, admit } from "./admit.ts";
import { Exchange } from "./exchange.ts";
import { type Field, Malformed, parseRequestLine, tokens } from "./http1.ts";
import { type Arrival, Newcomer } from "./newcomer.ts";
import type { Downstream, Flag, Ports, Served, Session } from "./ports.ts";
import { localReply, REASONS } from "./reply.ts";
import { wantsMore } from "./request.ts";
import { BodyReader, Broken, breakOff, flushed, Source, write } from "./source.ts";
import { TcpRelay } from "./tcp.ts";
import { Upstreams } from "./upstream.ts";

/** How long a closing client may keep sending before it is cut off, as Envoy's delayed_close_timeout. Milliseconds. */
const LINGER_MS = 1_000;

/** Serves in user space what the kernel path cannot, by the same rules: a strict, verbatim HTTP/1.1 proxy. */
export class SlowPath {
  readonly #ports: Ports;
  readonly #upstreams: Upstreams;
  readonly #connections = new Set<Served>();
  #draining = false;

  constructor(ports: Ports) {
    this.#ports = ports;
    this.#upstreams = new Upstreams(ports.wasReset);
  }

  get open(): number {
    return this.#connections.size;
  }

  /** Takes over the near end of a client's connection until it closes. */
  accept(stream: Duplex, arrival: Arrival, { initial, ...from }: Omit<Downstream, "listener">): Session {
    const serve = (chain: FilterChain, initial: Buffer | undefined) =>
      this.#open(stream, chain, arrival, { ...from, ...(initial ? { initial } : {}) });
    const served = new Newcomer(stream, arrival, serve, initial);
    this.#connections.add(served);
    void served.serve().finally(() => this.#connections.delete(served));
    return served;
  }

  #open(stream: Duplex, chain: FilterChain, { original }: Arrival, from: Omit<Downstream, "listener">): Served {
    if (chain.kind === "http") {
      const downstream = { ...from, listener: chain, original };
      return new Connection(stream, downstream, this.#ports, this.#upstreams, () => this.#draining);
    }
    const { tenant } = from;
    const pick = this.#ports.connect(chain, original);
    return new TcpRelay({ stream, chain, tenant, pick }, this.#upstreams, this.#ports);
  }

  /** Answers a request that is lost to its server, and closes. */
  async refuse(stream: Duplex, status: number, body: string): Promise<void> {
    stream.on("error", () => {});
    stream.end(localReply(status, body, { close: true, head: false, extra: [] }));
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

class Connection implements Served {
  readonly #stream: Duplex;
  readonly #from: Downstream;
  readonly #ports: Ports;
  readonly #upstreams: Upstreams;
  readonly #source: Source;
  readonly #draining: () => boolean;
  #written = 0;
  /** It waits for its next request. */
  #waits = false;
  #repeats: boolean;
  #refusal: Buffer | undefined;
  /** Somebody else ends it. */
  #abandoned = false;
  #exchange: Exchange | undefined;

  constructor(stream: Duplex, from: Downstream, ports: Ports, upstreams: Upstreams, draining: () => boolean) {
    this.#stream = stream;
    this.#from = from;
    this.#ports = ports;
    this.#upstreams = upstreams;
    this.#draining = draining;
    this.#source = new Source(stream, from.initial, () => this.#wasReset());
    this.#repeats = from.initial !== undefined;
    stream.on("error", () => {});
  }

  /** A client whose reset came with its last bytes has gone; one that only ended its side waits for its answer. */
  #wasReset(): boolean {
    const reset = this.#stream instanceof Socket && this.#ports.wasReset?.(this.#stream) === true;
    if (reset) this.#stream.destroy();
    return reset;
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

  inject(request: Buffer): boolean {
    if (!this.#waits) return false;
    this.#waits = false;
    this.#repeats = true;
    this.#source.insert(request);
    return true;
  }

  refuse(status: number, body: string): boolean {
    if (!this.#waits) return false;
    this.#waits = false;
    this.#refusal = localReply(status, body, { close: true, head: false, extra: [] });
    void this.#source.discard();
    return true;
  }

  discard(): void {
    this.#abandoned = true;
    this.#waits = false;
    void this.#source.discard();
    this.#exchange?.abandon();
  }

  async serve(): Promise<void> {
    try {
      while (await this.#one()) {
        await flushed(this.#stream);
        if (this.#source.empty && !this.#stream.destroyed && !this.#abandoned) {
          this.#from.onIdle?.(this.#source.taken, this.#written);
        }
        if (this.#draining()) break;
      }
      if (!this.#abandoned) await this.#close();
    } catch (error) {
      const known = error instanceof Broken;
      if (!known) this.#ports.log({ err: error }, "a slow path connection failed");
      if (!this.#abandoned && known) this.#stream.destroy();
      else if (!this.#abandoned) breakOff(this.#stream);
    }
    if (!this.#stream.closed) await new Promise((resolve) => this.#stream.once("close", resolve));
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
    await this.#source.some();
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

  async #reply(
    status: number,
    flag: Flag | undefined,
    body: string,
    how: { close: boolean; head?: boolean; extra?: readonly Field[] },
  ) {
    const { listener } = this.#from;
    this.#ports.finished(listener, flag, `${status}`);
    await this.#write(localReply(status, body, { close: how.close, head: how.head ?? false, extra: how.extra ?? [] }));
  }

  /** Serves one request. False when the connection is to be closed. */
  async #one(): Promise<boolean> {
    const { listener } = this.#from;
    let admitted: Admitted;
    try {
      if (!(await this.#next()) || this.#from.broken?.()) return false;
      const head = await this.#source.head(listener.http.maxRequestHeadersKb * 1_024, parseRequestLine);
      if (head === undefined) return false;
      admitted = admit(head, listener.http);
    } catch (error) {
      await this.#from.gate?.();
      if (!(error instanceof Malformed)) throw error;
      await this.#reply(error.status, "DPE", REASONS[error.status] ?? "Bad Request", { close: true });
      return false;
    }
    const { request, body, routed, upgrade } = admitted;
    if (routed === undefined) {
      await this.#from.gate?.();
      await this.#reply(404, "NR", "", { close: true });
      return false;
    }
    const persistent = wantsMore(request);
    const decision = this.#ports.decide(listener, routed, {
      tenant: this.#from.tenant,
      client: clientOf(this.#stream),
      original: this.#from.original,
      protocol: request.minor === 1 ? "HTTP/1.1" : "HTTP/1.0",
      startedMs: Date.now(),
      upgrade,
    });
    const reader = new BodyReader(this.#source, body, 400);
    if (decision.kind === "reply") {
      await this.#from.gate?.();
      const close = !persistent || !reader.done || upgrade !== undefined;
      const head = request.method === "HEAD";
      await this.#reply(decision.status, decision.flag, decision.body, { close, head, extra: decision.fields });
      return !close;
    }
    if (body.kind === "chunked" && !tokens(request.headers, "expect").includes("100-continue")) {
      try {
        await reader.prefetch();
      } catch (error) {
        if (!(error instanceof Malformed)) throw error;
        await this.#from.gate?.();
        await this.#reply(error.status, "DPE", REASONS[error.status] ?? "Bad Request", { close: true });
        return false;
      }
    }
    const exchange = new Exchange(
      { request, routed, body, reader, persistent, upgrade, repeats: this.#repeats },
      decision,
      { stream: this.#stream, source: this.#source, tenant: this.#from.tenant },
      this.#upstreams,
      async (bytes) => {
        await this.#from.gate?.();
        await this.#write(bytes);
      },
      (bytes) => this.#write(bytes),
    );
    this.#repeats = false;
    this.#exchange = exchange;
    const outcome = await exchange.run();
    this.#exchange = undefined;
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
      const close = !persistent || !reader.done;
      const head = request.method === "HEAD";
      const extra = decision.edits.response(failure.extra, exchange.head);
      await this.#reply(failure.status, failure.flag, failure.body, { close, head, extra });
      return !close;
    }
    this.#ports.finished(listener, undefined, "via_upstream");
    return outcome.keep;
  }
}

function clientOf(stream: Duplex): Address | undefined {
  if (!(stream instanceof Socket) || stream.remoteAddress === undefined) return undefined;
  return { ip: unmapped(stream.remoteAddress), port: stream.remotePort ?? 0 };
}
