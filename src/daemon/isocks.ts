import type { Datapath, Native } from "../kernel/datapath.ts";
import { EPOLL } from "../kernel/native.ts";
import type { EndpointTarget, ISocks } from "../pool/ports.ts";
import { sourceTowards } from "../route/source.ts";
import { addrKey } from "../tables/address.ts";
import type { AddrKey } from "../tables/layout.gen.ts";
import { SlotKind } from "../tables/layout.gen.ts";

/** How long the server's end of an i-sock may take to show up in an enrolled cgroup, in checks of 1 ms. */
const SETTLE_CHECKS = 3;

/** Room for the largest body that the kernel path relays, twice over: a redirect into it never waits. */
const SEND_BUFFER = 1 << 20;

/** What a bypassed response may pile up at the i-sock before its server feels back-pressure. */
const RECEIVE_BUFFER = 256 << 10;

interface ISock {
  readonly fd: number;
  readonly cookie: bigint;
  readonly client: AddrKey;
  readonly server: AddrKey;
  readonly deadline: NodeJS.Timeout;
  state: "connecting" | "settling" | "live";
}

export interface ISockEvents {
  connected(slot: number): void;
  failed(slot: number): void;
  /** The server has closed or reset it, or bytes wait on it where none should. */
  ended(slot: number): void;
}

/** Makes, publishes and closes i-socks: the pools' arm in the kernel. */
export class KernelISocks implements ISocks {
  readonly #native: Native;
  readonly #datapath: Datapath;
  readonly #events: ISockEvents;
  readonly #socks = new Map<number, ISock>();
  readonly #connectTimeout: (endpoint: number) => number;

  constructor(native: Native, datapath: Datapath, events: ISockEvents, connectTimeout: (endpoint: number) => number) {
    this.#native = native;
    this.#datapath = datapath;
    this.#events = events;
    this.#connectTimeout = connectTimeout;
  }

  connect(slot: number, tenant: number, { endpoint, address, sockets }: EndpointTarget): void {
    const source = sourceTowards(address.ip, sockets);
    const { fd, localIp, localPort } = this.#native.sockBind(address.ip, {
      sndbuf: SEND_BUFFER,
      rcvbuf: RECEIVE_BUFFER,
      ...(source === undefined ? {} : { source }),
    });
    const sock: ISock = {
      fd,
      cookie: this.#native.sockCookie(fd),
      client: addrKey({ ip: localIp, port: localPort }),
      server: addrKey(address),
      deadline: setTimeout(() => this.#fail(slot, sock), this.#connectTimeout(endpoint)),
      state: "connecting",
    };
    sock.deadline.unref();
    this.#socks.set(slot, sock);
    try {
      if (sockets?.keepalive !== undefined) this.#native.setKeepalive(fd, sockets.keepalive);
      this.#datapath.resetSlot(slot, tenant, endpoint);
      this.#datapath.announce(slot, sock.client, sock.server);
      this.#native.sockConnect(fd, address.ip, address.port);
      this.#native.reactorWatch(fd, EPOLL.OUT, slot);
    } catch (error) {
      this.close(slot, false);
      throw error;
    }
  }

  /** An event of the reactor with a slot as its tag. */
  onSocket(slot: number, fd: number, events: number): void {
    const sock = this.#socks.get(slot);
    if (!sock || sock.fd !== fd) return;
    if (sock.state === "live") {
      this.#events.ended(slot);
      return;
    }
    if (sock.state !== "connecting") return;
    if (this.#native.sockError(fd) !== 0 || (events & (EPOLL.ERR | EPOLL.HUP)) !== 0) {
      this.#fail(slot, sock);
      return;
    }
    clearTimeout(sock.deadline);
    sock.state = "settling";
    this.#settle(slot, sock, SETTLE_CHECKS);
  }

  #settle(slot: number, sock: ISock, checks: number): void {
    if (this.#socks.get(slot) !== sock) return;
    if (this.#datapath.slotKind(slot) === SlotKind.new) {
      if (checks > 0) {
        setTimeout(() => this.#settle(slot, sock, checks - 1), 1);
        return;
      }
      this.#datapath.settleCrossHost(slot);
    }
    try {
      if (this.#datapath.slotKind(slot) === SlotKind.crossHost) this.#datapath.addISock(slot, sock.fd, sock.cookie);
    } catch {
      this.#fail(slot, sock);
      return;
    }
    sock.state = "live";
    /* Never EPOLLIN: the kernel path's own bytes would wake us for each response. */
    this.watchEnd(slot);
    this.#events.connected(slot);
  }

  #fail(slot: number, sock: ISock): void {
    if (this.#socks.get(slot) === sock) this.#events.failed(slot);
  }

  /** Ask to be told of the end only. */
  watchEnd(slot: number): void {
    const sock = this.#socks.get(slot);
    if (sock) this.#native.reactorArm(sock.fd, EPOLL.RDHUP);
  }

  fd(slot: number): number | undefined {
    return this.#socks.get(slot)?.fd;
  }

  publish(slot: number): void {
    this.#datapath.publish(slot);
  }

  withdraw(slot: number): boolean {
    return this.#datapath.withdraw(slot);
  }

  close(slot: number, abort: boolean): void {
    const sock = this.#socks.get(slot);
    if (!sock) return;
    this.#socks.delete(slot);
    clearTimeout(sock.deadline);
    this.#datapath.withdraw(slot);
    this.#datapath.retireSlot(slot);
    this.#datapath.forgetPeer(sock.client, sock.server);
    this.#datapath.forgetISock(sock.cookie);
    this.#native.reactorForget(sock.fd);
    if (abort) this.#native.closeReset(sock.fd);
    else this.#native.close(sock.fd);
  }

  setChunks(tenant: number, endpoint: number, chunks: readonly number[]): void {
    this.#datapath.setChunks(tenant, endpoint, chunks);
  }

  takeMissed(endpoint: number): number {
    return this.#datapath.takeMissed(endpoint);
  }

  dropPool(tenant: number, endpoint: number): void {
    this.#datapath.dropPool(tenant, endpoint);
  }
}
