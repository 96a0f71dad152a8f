import type { Duplex } from "node:stream";
import type { TcpChain } from "../model/config.ts";
import { notConnected } from "../route/outlier.ts";
import type { Flag, Ports, Served, TcpForward } from "./ports.ts";
import { breakOff, pass, Source } from "./source.ts";
import { ConnectFailed, Overflow, type Upstream, type Upstreams } from "./upstream.ts";

/** Envoy's default of `idle_timeout`. */
const IDLE_MS = 3_600_000;

export interface TcpClient {
  readonly stream: Duplex;
  readonly chain: TcpChain;
  readonly tenant: number;
  /** Picks an endpoint, for this connection and each attempt anew. */
  readonly pick: ReturnType<Ports["connect"]>;
}

/** A connection as `tcp_proxy` serves it: bytes to one endpoint and back, until both sides have ended. */
export class TcpRelay implements Served {
  readonly #client: TcpClient;
  readonly #upstreams: Upstreams;
  readonly #ports: Ports;
  readonly #source: Source;
  #up: Upstream | undefined;

  constructor(client: TcpClient, upstreams: Upstreams, ports: Ports) {
    this.#client = client;
    this.#upstreams = upstreams;
    this.#ports = ports;
    client.stream.on("error", () => {});
    this.#source = new Source(client.stream);
  }

  inject(): boolean {
    return false;
  }

  refuse(): boolean {
    return false;
  }

  discard(): void {
    void this.#source.discard();
    this.#up?.socket.destroy();
  }

  destroy(): void {
    breakOff(this.#client.stream);
    if (this.#up !== undefined) breakOff(this.#up.socket);
  }

  /** A stream of bytes is never idle for certain: it goes on as long as it may. */
  async endIfIdle(): Promise<void> {}

  async serve(): Promise<void> {
    const { stream, chain } = this.#client;
    const closed = new Promise<void>((resolve) => {
      if (stream.closed) resolve();
      else stream.once("close", () => resolve());
    });
    const over = () => {
      stream.destroy();
      this.#up?.socket.destroy();
    };
    const lifetime = chain.maxDurationMs === undefined ? undefined : setTimeout(over, chain.maxDurationMs);
    const opened = await this.#open();
    if (typeof opened === "string") stream.destroy();
    else await this.#relay(opened.up, opened.to);
    clearTimeout(lifetime);
    this.#ports.closed(chain, typeof opened === "string" ? opened : undefined);
    await closed;
  }

  /** A connection to an endpoint, by as many attempts as the chain allows; or why there is none. */
  async #open(): Promise<{ readonly up: Upstream; readonly to: TcpForward } | Flag> {
    const { stream, chain, tenant, pick } = this.#client;
    let failed: Flag = "UH";
    for (let attempt = 0; attempt < chain.maxConnectAttempts; attempt++) {
      const to = pick();
      if (to.kind === "close") return to.flag;
      try {
        const up = await this.#upstreams.open({ tenant, priority: "default", ...to });
        to.came({ kind: "connected", isAll: true });
        if (!stream.destroyed) return { up, to };
        up.socket.destroy();
        return "DC";
      } catch (error) {
        if (error instanceof Overflow) return "UO";
        if (!(error instanceof ConnectFailed)) throw error;
        to.came(notConnected(error.code === "ETIMEDOUT"));
        failed = "UF";
      }
      if (stream.destroyed) return "DC";
    }
    return failed;
  }

  /** Each side's end crosses in its own time. */
  async #relay(up: Upstream, to: TcpForward): Promise<void> {
    const { stream, chain } = this.#client;
    this.#up = up;
    to.started();
    const idleMs = chain.idleTimeoutMs ?? IDLE_MS;
    const cut = () => {
      stream.destroy();
      up.socket.destroy();
    };
    const idle = idleMs === 0 ? undefined : setTimeout(cut, idleMs);
    const bytes = { there: 0, back: 0 };
    const there = pass(this.#source, up.socket, (n) => {
      bytes.there += n;
      idle?.refresh();
    }).then(
      () => void up.socket.end(),
      () => breakOff(up.socket),
    );
    const back = pass(up.source, stream, (n) => {
      bytes.back += n;
      idle?.refresh();
    });
    const returned = back.then(
      () => void stream.end(),
      () => breakOff(stream),
    );
    await Promise.all([there, returned]);
    clearTimeout(idle);
    /* What the client had sent before it went is still on its way. */
    up.socket.destroySoon();
    to.ended(bytes.there, bytes.back);
  }
}
