import { connect as netConnect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Address } from "../model/config.ts";
import type { Breakers, Keepalive, Priority, SocketOptions, UpstreamOptions } from "../model/limits.ts";
import { sourceTowards } from "../route/source.ts";
import { type ClusterCounter, perHost, type Resources } from "./breakers.ts";
import { Source, write } from "./source.ts";

/** Idle connections to servers are closed after this long: before most servers do it. Milliseconds. */
const IDLE_MS = 60_000;

/** No connection could be made; `code` is the system's. */
export class ConnectFailed extends Error {
  readonly code: string;
  /** It did not come so far as to ask the other end. */
  readonly isLocal: boolean;

  constructor(code: string, message: string, isLocal = false) {
    super(message);
    this.code = code;
    this.isLocal = isLocal;
  }
}

/** A circuit breaker has no room for the request. */
export class Overflow extends Error {}

/** It is not wanted any more. */
export class Cancelled extends Error {}

/** What Node does not tell of its sockets, or do to them: see `Ports`. */
export interface System {
  readonly wasReset?: ((socket: Socket) => boolean) | undefined;
  readonly unread?: ((socket: Socket) => Buffer) | undefined;
  readonly setKeepalive?: ((socket: Socket, keepalive: Keepalive) => void) | undefined;
}

/** One connection to a server. */
export class Upstream {
  readonly socket: Socket;
  readonly source: Source;
  /** Requests it has had. */
  requests = 0;
  /** It has come to its end, and is closed after the request that it is at. */
  worn = false;
  /** While it waits for a request: undoes what waiting had set up. */
  leaveIdle: (() => void) | undefined;
  readonly #unread: System["unread"];

  constructor(socket: Socket, { wasReset, unread }: System) {
    this.socket = socket;
    this.source = new Source(socket, undefined, wasReset && (() => wasReset(socket)));
    this.#unread = unread;
  }

  /**
   * Of the request, with back-pressure; throws Broken. A server that refuses it may answer, and reset the connection at
   * once: when a write fails for that, its answer is still to be read, and Node would drop it with the socket.
   */
  async write(bytes: Buffer): Promise<void> {
    await write(this.socket, bytes, () => this.source.keep(this.#unread?.(this.socket) ?? Buffer.alloc(0)));
  }
}

export interface Target {
  readonly tenant: number;
  readonly cluster: string;
  readonly address: Address;
  readonly connectTimeoutMs: number;
  readonly priority: Priority;
  readonly breakers: Breakers;
  readonly upstream: UpstreamOptions;
  readonly sockets?: SocketOptions;
  /** Who asks, where that makes a difference: a copy for a mirror is nobody's. */
  readonly client?: Duplex;
}

/** A request that waits for somebody else's connection. */
interface Waiter {
  take(up: Upstream): void;
  fail(error: Error): void;
}

/** The connections to one endpoint, of one tenant and priority. */
interface Pool {
  readonly idle: Upstream[];
  readonly waiting: Waiter[];
  open: number;
}

/** An endpoint has its own connections per priority, as in Envoy; what has served one tenant never serves another. */
const keyOf = ({ tenant, cluster, address, priority }: Target) =>
  `${tenant} ${priority} ${cluster} ${address.ip} ${address.port}`;

/** Connections to servers, and the requests that wait for one: Envoy's ConnPoolImplBase. */
export class Upstreams {
  readonly #pools = new Map<string, Pool>();
  /** Of clusters whose connections are each for one client. */
  readonly #ofClients = new Map<Duplex, Map<string, Pool>>();
  /** Connections of an endpoint, over all tenants. */
  readonly #perHost = new Map<string, number>();
  readonly #resources: Resources;
  readonly #count: (cluster: string, what: ClusterCounter) => void;
  readonly #system: System;

  constructor(resources: Resources, count: (cluster: string, what: ClusterCounter) => void, system: System = {}) {
    this.#resources = resources;
    this.#count = count;
    this.#system = system;
  }

  /**
   * A connection for one request: an idle one unless a `fresh` one is asked for, a new one, or, where there may be no
   * more of them, the next that is given back. Throws Overflow, ConnectFailed, or Cancelled when `signal` says so.
   */
  async acquire(target: Target, fresh: boolean, signal: AbortSignal): Promise<Upstream> {
    const { cluster, priority, breakers } = target;
    const pool = this.#poolOf(target);
    const inUse = this.#resources.of(cluster, priority);
    const thresholds = breakers[priority];
    const idle = fresh ? undefined : reuse(pool);
    if (idle !== undefined) return this.#admit(target, idle);
    if (inUse.pending >= thresholds.maxPendingRequests) throw this.#overflow(cluster);
    inUse.pending++;
    let up: Upstream;
    try {
      up = await this.#obtain(target, pool, signal);
    } finally {
      inUse.pending--;
    }
    if (signal.aborted) {
      this.giveBack(target, up);
      throw new Cancelled();
    }
    return this.#admit(target, up);
  }

  /** Would a circuit breaker refuse it at once, without waiting for a connection? */
  refuses(target: Target): boolean {
    const { cluster, priority, breakers } = target;
    const thresholds = breakers[priority];
    const isIdle = (this.#found(target)?.idle.length ?? 0) > 0;
    if (isIdle) return !this.#resources.mayRequest(cluster, priority, thresholds);
    return this.#resources.of(cluster, priority).pending >= thresholds.maxPendingRequests;
  }

  /** As in Envoy, max_requests is asked when there is a connection, be it one that was made for nothing then. */
  #admit(target: Target, up: Upstream): Upstream {
    const { cluster, priority, breakers } = target;
    if (this.#resources.mayRequest(cluster, priority, breakers[priority])) return this.#attach(target, up);
    this.giveBack(target, up);
    throw this.#overflow(cluster);
  }

  #overflow(cluster: string): Overflow {
    this.#count(cluster, "upstream_rq_pending_overflow");
    return new Overflow();
  }

  #attach(target: Target, up: Upstream): Upstream {
    this.#resources.of(target.cluster, target.priority).requests++;
    up.requests++;
    const most = target.upstream.maxRequestsPerConnection;
    if (most > 0 && up.requests >= most) this.#wearOut(target, up, "upstream_cx_max_requests");
    return up;
  }

  /** A new connection for something else than requests, which ends with it. Throws Overflow or ConnectFailed. */
  async open(target: Target): Promise<Upstream> {
    if (!this.#mayConnect(target)) {
      this.#count(target.cluster, "upstream_cx_overflow");
      throw new Overflow();
    }
    return await this.#connect(target, this.#poolOf(target), new AbortController().signal);
  }

  /** The request that a connection was acquired for is over: said before the connection is given back. */
  detach({ cluster, priority }: Target): void {
    this.#resources.of(cluster, priority).requests--;
  }

  async #obtain(target: Target, pool: Pool, signal: AbortSignal): Promise<Upstream> {
    const may = this.#mayConnect(target);
    if (!may) this.#count(target.cluster, "upstream_cx_overflow");
    /* One that has none at all may always have one, or nobody would ever give one back. */
    if (may || pool.open === 0) return await this.#connect(target, pool, signal);
    return await new Promise<Upstream>((resolve, reject) => {
      const waiter: Waiter = { take: resolve, fail: reject };
      pool.waiting.push(waiter);
      /* One that lies idle, but was not to be used, makes room: nobody would ever give it back. */
      pool.idle.at(-1)?.socket.destroy();
      signal.addEventListener(
        "abort",
        () => {
          const at = pool.waiting.indexOf(waiter);
          if (at < 0) return;
          pool.waiting.splice(at, 1);
          reject(new Cancelled());
        },
        { once: true },
      );
    });
  }

  #mayConnect(target: Target): boolean {
    const { cluster, priority, breakers } = target;
    const { connections } = this.#resources.of(cluster, priority);
    const ofHost = this.#perHost.get(hostOf(target)) ?? 0;
    return connections < breakers[priority].maxConnections && ofHost < perHost(breakers, priority);
  }

  async #connect(target: Target, pool: Pool, signal: AbortSignal): Promise<Upstream> {
    const { address, connectTimeoutMs } = target;
    const localAddress = sourceTowards(address.ip, target.sockets);
    const socket = netConnect({
      host: address.ip,
      port: address.port,
      ...(localAddress === undefined ? {} : { localAddress }),
      noDelay: true,
      allowHalfOpen: true,
    });
    this.#opened(target, pool, socket);
    try {
      await connected(socket, connectTimeoutMs, signal);
    } catch (error) {
      /* Whoever waits for a connection to this endpoint has waited for this one. */
      if (error instanceof ConnectFailed) for (const waiter of pool.waiting.splice(0)) waiter.fail(error);
      throw error;
    }
    socket.on("error", () => {});
    const keepalive = target.sockets?.keepalive;
    if (keepalive !== undefined) this.#keepAlive(socket, keepalive);
    const up = new Upstream(socket, this.#system);
    const { maxConnectionDurationMs } = target.upstream;
    if (maxConnectionDurationMs > 0) {
      const timer = setTimeout(
        () => this.#wearOut(target, up, "upstream_cx_max_duration_reached"),
        maxConnectionDurationMs,
      );
      socket.once("close", () => clearTimeout(timer));
    }
    return up;
  }

  #keepAlive(socket: Socket, keepalive: Keepalive): void {
    const { setKeepalive } = this.#system;
    if (setKeepalive !== undefined) setKeepalive(socket, keepalive);
    else socket.setKeepAlive(true, (keepalive.time ?? 0) * 1_000);
  }

  #opened(target: Target, pool: Pool, socket: Socket): void {
    const inUse = this.#resources.of(target.cluster, target.priority);
    const host = hostOf(target);
    inUse.connections++;
    pool.open++;
    this.#perHost.set(host, (this.#perHost.get(host) ?? 0) + 1);
    socket.once("close", () => {
      inUse.connections--;
      pool.open--;
      const left = this.#perHost.get(host)! - 1;
      if (left > 0) this.#perHost.set(host, left);
      else this.#perHost.delete(host);
      this.#replace(target, pool);
      if (pool.open === 0 && pool.waiting.length === 0) this.#drop(target);
    });
  }

  /** A connection has gone, and somebody waited for it. */
  #replace(target: Target, pool: Pool): void {
    const waiter = pool.waiting[0];
    if (waiter === undefined || !(this.#mayConnect(target) || pool.open === 0)) return;
    pool.waiting.shift();
    this.#connect(target, pool, new AbortController().signal).then(
      (up) => waiter.take(up),
      (error) => waiter.fail(error as Error),
    );
  }

  #wearOut({ cluster }: Target, up: Upstream, why: ClusterCounter): void {
    this.#count(cluster, why);
    up.worn = true;
    if (up.leaveIdle !== undefined) up.socket.destroy();
  }

  #found(target: Target): Pool | undefined {
    const client = ownerOf(target);
    const pools = client === undefined ? this.#pools : this.#ofClients.get(client);
    return pools?.get(keyOf(target));
  }

  #poolOf(target: Target): Pool {
    const found = this.#found(target);
    if (found !== undefined) return found;
    const pool: Pool = { idle: [], waiting: [], open: 0 };
    this.#poolsOf(target).set(keyOf(target), pool);
    return pool;
  }

  #poolsOf(target: Target): Map<string, Pool> {
    const client = ownerOf(target);
    if (client === undefined) return this.#pools;
    let pools = this.#ofClients.get(client);
    if (pools === undefined) {
      pools = new Map();
      this.#ofClients.set(client, pools);
    }
    return pools;
  }

  #drop(target: Target): void {
    const client = ownerOf(target);
    const pools = this.#poolsOf(target);
    pools.delete(keyOf(target));
    if (client !== undefined && pools.size === 0) this.#ofClients.delete(client);
  }

  /** A client has gone: nobody else may have what was for it alone. */
  leave(client: Duplex): void {
    for (const { idle } of this.#ofClients.get(client)?.values() ?? [])
      for (const up of idle.splice(0)) up.socket.destroy();
  }

  /** Gives a connection back after a complete, clean exchange. Whatever comes on it now is unasked, and ends it. */
  giveBack(target: Target, up: Upstream): void {
    const { socket } = up;
    if (up.worn || ownerOf(target)?.destroyed || socket.destroyed || !socket.writable || !up.source.empty) {
      socket.destroy();
      return;
    }
    const pool = this.#poolOf(target);
    const waiter = pool.waiting.shift();
    if (waiter !== undefined) {
      waiter.take(up);
      return;
    }
    const { idle } = pool;
    idle.push(up);
    const remove = () => {
      const at = idle.indexOf(up);
      if (at >= 0) idle.splice(at, 1);
      socket.destroy();
    };
    socket.setTimeout(Math.min(IDLE_MS, target.upstream.idleTimeoutMs || IDLE_MS), remove);
    socket.on("readable", remove);
    socket.on("close", remove);
    up.leaveIdle = () => {
      up.leaveIdle = undefined;
      socket.setTimeout(0);
      socket.off("timeout", remove);
      socket.off("readable", remove);
      socket.off("close", remove);
    };
  }

  closeIdle(): void {
    for (const pools of [this.#pools, ...this.#ofClients.values()])
      for (const { idle } of pools.values()) for (const up of idle.splice(0)) up.socket.destroy();
  }
}

/** Does it the first time that it is called. */
export function once(act: () => void): () => void {
  let left = true;
  return () => {
    if (left) act();
    left = false;
  };
}

const ownerOf = ({ upstream, client }: Target) => (upstream.perClient ? client : undefined);

const hostOf = ({ cluster, address }: Target) => `${cluster} ${address.ip} ${address.port}`;

/** The idle connection that was used last, if it is still good. */
function reuse({ idle }: Pool): Upstream | undefined {
  for (let up = idle.pop(); up; up = idle.pop()) {
    up.leaveIdle?.();
    if (!up.socket.destroyed && !up.source.broken && up.source.empty && up.socket.readable) return up;
    up.socket.destroy();
  }
  return undefined;
}

async function connected(socket: Socket, timeoutMs: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const fail = (error: Error) => {
      settle();
      socket.on("error", () => {});
      socket.destroy();
      reject(error);
    };
    const timer = setTimeout(() => fail(new ConnectFailed("ETIMEDOUT", "connection timeout")), timeoutMs);
    const onConnect = () => {
      settle();
      resolve();
    };
    const onError = ({ code = "EUNKNOWN", message, syscall }: NodeJS.ErrnoException) =>
      fail(new ConnectFailed(code, message, syscall === "bind"));
    const onAbort = () => fail(new Cancelled());
    const settle = () => {
      clearTimeout(timer);
      socket.off("connect", onConnect);
      socket.off("error", onError);
      signal.removeEventListener("abort", onAbort);
    };
    socket.once("connect", onConnect);
    socket.once("error", onError);
    signal.addEventListener("abort", onAbort);
    if (signal.aborted) onAbort();
  });
}
