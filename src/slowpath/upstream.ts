import { connect as netConnect, type Socket } from "node:net";
import type { Address } from "../model/config.ts";
import { Source } from "./source.ts";

/** Idle connections to servers are closed after this long: before most servers do it. Milliseconds. */
const IDLE_MS = 60_000;

/** No connection could be made; `code` is the system's. */
export class ConnectFailed extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

type WasReset = (socket: Socket) => boolean;

/** One connection to a server. */
export class Upstream {
  readonly socket: Socket;
  readonly source: Source;
  /** Undoes what waiting in the idle list had set up. */
  leaveIdle: () => void = () => {};

  constructor(socket: Socket, wasReset: WasReset | undefined) {
    this.socket = socket;
    this.source = new Source(socket, undefined, wasReset && (() => wasReset(socket)));
  }
}

interface Target {
  readonly tenant: number;
  readonly cluster: string;
  readonly address: Address;
  readonly connectTimeoutMs: number;
}

const keyOf = ({ tenant, cluster, address }: Target) => `${tenant} ${cluster} ${address.ip} ${address.port}`;

/** Connections to servers, per tenant and endpoint. What has served one tenant never serves another. */
export class Upstreams {
  readonly #idle = new Map<string, Upstream[]>();
  readonly #counts = new Map<string, number>();
  readonly #wasReset: WasReset | undefined;
  #open = 0;

  constructor(wasReset?: WasReset) {
    this.#wasReset = wasReset;
  }

  get open(): number {
    return this.#open;
  }

  /** Connections of a cluster, idle ones included. */
  count(cluster: string): number {
    return this.#counts.get(cluster) ?? 0;
  }

  /** The idle connection that was used last, if it is still good. */
  reuse(target: Target): Upstream | undefined {
    const list = this.#idle.get(keyOf(target));
    for (let up = list?.pop(); up; up = list?.pop()) {
      up.leaveIdle();
      if (!up.socket.destroyed && !up.source.broken && up.source.empty && up.socket.readable) {
        return up;
      }
      up.socket.destroy();
    }
    return undefined;
  }

  async connect(target: Target): Promise<Upstream> {
    const { cluster, address, connectTimeoutMs } = target;
    this.#counts.set(cluster, this.count(cluster) + 1);
    this.#open++;
    const socket = netConnect({ host: address.ip, port: address.port, noDelay: true, allowHalfOpen: true });
    socket.once("close", () => {
      this.#counts.set(cluster, this.count(cluster) - 1);
      this.#open--;
    });
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        socket.destroy();
        reject(new ConnectFailed("ETIMEDOUT", "connection timeout"));
      }, connectTimeoutMs);
      socket.once("connect", () => {
        clearTimeout(timer);
        socket.off("error", fail);
        resolve();
      });
      const fail = (error: NodeJS.ErrnoException) => {
        clearTimeout(timer);
        reject(new ConnectFailed(error.code ?? "EUNKNOWN", error.message));
      };
      socket.once("error", fail);
    });
    socket.on("error", () => {});
    return new Upstream(socket, this.#wasReset);
  }

  /** Gives a connection back after a complete, clean exchange. Whatever comes on it now is unasked, and ends it. */
  giveBack(target: Target, up: Upstream): void {
    const { socket } = up;
    if (socket.destroyed || !socket.writable || !up.source.empty) {
      socket.destroy();
      return;
    }
    const key = keyOf(target);
    const list = this.#idle.get(key) ?? [];
    this.#idle.set(key, list);
    list.push(up);
    const remove = () => {
      const at = list.indexOf(up);
      if (at >= 0) list.splice(at, 1);
      socket.destroy();
    };
    socket.setTimeout(IDLE_MS, remove);
    socket.on("readable", remove);
    socket.on("close", remove);
    up.leaveIdle = () => {
      socket.setTimeout(0);
      socket.off("timeout", remove);
      socket.off("readable", remove);
      socket.off("close", remove);
    };
  }

  closeIdle(): void {
    for (const list of this.#idle.values()) for (const up of list.splice(0)) up.socket.destroy();
  }
}
