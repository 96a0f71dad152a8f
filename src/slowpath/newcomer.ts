import type { Duplex } from "node:stream";
import type { Address, FilterChain, Listener } from "../model/config.ts";
import { type Connection, chooseChain, inspectedOf, protocolsOfHttp } from "../route/chain.ts";
import type { Field } from "./http1.ts";
import { hear, type Known, NOTHING } from "./inspect.ts";
import type { Lost, Served } from "./ports.ts";
import { breakOff } from "./source.ts";

/** A connection whose filter chain has still to be chosen. */
export interface Arrival {
  readonly listener: Listener;
  readonly connection: Connection;
  /** Where the client wanted to go; missing where all that is known is that it came here. */
  readonly original: Address | undefined;
  /** Has it spoken HTTP/1.1 already, to the kernel path? */
  spokeHttp(): boolean;
}

/** Serves a connection by the chain that it is to have; the connection is closed where it has none. */
export class Newcomer implements Served {
  readonly #stream: Duplex;
  readonly #arrival: Arrival;
  readonly #serve: (chain: FilterChain, initial: Lost | undefined) => Served;
  #served: Served | undefined;
  /** Ends the listening: what is spoken is known now, or the connection is to be closed. */
  #tell: (known: Known | undefined) => void = () => {};

  constructor(
    stream: Duplex,
    arrival: Arrival,
    serve: (chain: FilterChain, initial: Lost | undefined) => Served,
    initial: Lost | undefined,
  ) {
    this.#stream = stream;
    this.#arrival = arrival;
    this.#serve = serve;
    stream.on("error", () => {});
    if (this.#inspected === undefined) this.#settle(NOTHING, initial);
    else if (initial !== undefined || arrival.spokeHttp()) this.#settle(this.#http, initial);
  }

  get #inspected() {
    const { listener, connection } = this.#arrival;
    return inspectedOf(listener, connection.destination.port);
  }

  /** What is known of a connection that the kernel path has heard. */
  get #http(): Known {
    return { ...NOTHING, applicationProtocols: protocolsOfHttp(this.#inspected) };
  }

  #settle(known: Known, initial?: Lost): void {
    const { listener, connection } = this.#arrival;
    const chain = chooseChain(listener, { ...connection, ...known });
    if (chain === undefined) this.#stream.destroy();
    else this.#served = this.#serve(chain, initial);
  }

  inject(lost: Lost): boolean {
    if (this.#served !== undefined) return this.#served.inject(lost);
    this.#settle(this.#http, lost);
    this.#tell(this.#http);
    return true;
  }

  refuse(status: number, body: string, extra: readonly Field[]): boolean {
    if (this.#served !== undefined) return this.#served.refuse(status, body, extra);
    this.#settle(this.#http);
    this.#tell(this.#http);
    /* It can say so when it waits for a request, which it will. */
    setImmediate(() => {
      if (!this.#served?.refuse(status, body, extra)) breakOff(this.#stream);
    });
    return true;
  }

  discard(): void {
    /* The caller ends it, not before the kernel path's answer has arrived. */
    if (this.#served === undefined) this.#settle(this.#http);
    this.#tell(this.#http);
    this.#served?.discard();
  }

  destroy(): void {
    if (this.#served === undefined) this.#tell(undefined);
    else this.#served.destroy();
  }

  async endIfIdle(): Promise<void> {
    if (this.#served === undefined) this.#tell(undefined);
    else await this.#served.endIfIdle();
  }

  async serve(): Promise<void> {
    if (this.#served === undefined && !this.#stream.destroyed) await this.#listen();
    await this.#served?.serve();
  }

  /** Reads until it knows what is spoken, and puts what it has read back. */
  #listen(): Promise<void> {
    const { timeoutMs = 0, continues = false } = this.#arrival.listener.inspection ?? {};
    const stream = this.#stream;
    const inspected = this.#inspected!;
    let heard = Buffer.alloc(0);
    /** As far as it is known by now. */
    let soFar = NOTHING;
    return new Promise((resolve) => {
      const read = () => {
        for (let bytes = stream.read(); bytes !== null; bytes = stream.read()) heard = Buffer.concat([heard, bytes]);
        if (this.#arrival.spokeHttp()) return this.#tell(this.#http);
        const { kind, known } = hear(heard, inspected);
        soFar = known;
        if (kind !== "more") this.#tell(kind === "over" ? undefined : known);
      };
      const over = () => this.#tell(undefined);
      const late = () => {
        if (this.#arrival.spokeHttp()) this.#tell(this.#http);
        else this.#tell(continues ? soFar : undefined);
      };
      const timer = timeoutMs === 0 ? undefined : setTimeout(late, timeoutMs);
      this.#tell = (known) => {
        this.#tell = () => {};
        clearTimeout(timer);
        stream.off("readable", read);
        stream.off("end", over);
        stream.off("close", over);
        if (heard.length > 0 && !stream.destroyed) stream.unshift(heard);
        if (known === undefined) stream.destroy();
        else if (this.#served === undefined) this.#settle(known);
        resolve();
      };
      stream.on("readable", read);
      stream.on("end", over);
      stream.on("close", over);
    });
  }
}
