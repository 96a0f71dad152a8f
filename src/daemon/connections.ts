import { Socket } from "node:net";
import type { Datapath, Native } from "../kernel/datapath.ts";
import { EPOLL, TCP_STATE } from "../kernel/native.ts";
import type { Lost, Session } from "../slowpath/ports.ts";
import type { Conn } from "../tables/layout.gen.ts";
import { addrKeyRow } from "../tables/layout.gen.ts";

/** How long a client that was told the end may take to close, as Envoy's delayed_close_timeout. Milliseconds. */
const DELAYED_CLOSE = 1_000;

/** How often a half-closed client is looked at, whether it has closed altogether. Milliseconds. */
const CLOSE_POLL = 100;

/** The longest pause between two looks at a queue that a sleeping client does not empty. Milliseconds. */
const DRAIN_POLL = 250;

/** The anchor's end of one client connection. */
export interface Anchor {
  readonly id: string;
  readonly key: Buffer;
  readonly fd: number;
  readonly cookie: bigint;
  readonly info: Conn;
  /** Set when the slow path has taken the connection over; Node owns the fd from then on. */
  stream: Socket | undefined;
  /** Set with the stream, unless it was taken over only for a last answer. */
  session: Session | undefined;
  /** Bytes written to the client beside the stream. */
  beside: number;
  ending: boolean;
}

export interface ConnectionEvents {
  /** The client's bytes have come to the anchor: the slow path is to serve them. */
  serve(anchor: Anchor, stream: Socket, initial: Lost | undefined): Session | undefined;
  /** Is a connection to this listener, and this port, to be served before its client has said a word? */
  waitsForNobody(listener: number, port: number): boolean;
  /** The client sends no more; this was the last request that it sent by the kernel path. */
  sentAll(slot: number, generation: number): void;
}

type Task = (anchor: Anchor) => void;

/**
 * All anchors. The reactor accepts them late and owns the quiet ones; what the kernel declines makes a Node socket of
 * them. What has to be done to a connection that was not reported yet waits for its report.
 */
export class Connections {
  readonly #native: Native;
  readonly #datapath: Datapath;
  readonly #events: ConnectionEvents;
  readonly #byId = new Map<string, Anchor>();
  readonly #byFd = new Map<number, Anchor>();
  readonly #waiting = new Map<string, { tasks: Task[]; since: number }>();

  constructor(native: Native, datapath: Datapath, events: ConnectionEvents) {
    this.#native = native;
    this.#datapath = datapath;
    this.#events = events;
  }

  get open(): number {
    return this.#byId.size;
  }

  get slow(): number {
    let n = 0;
    for (const a of this.#byId.values()) if (a.stream) n++;
    return n;
  }

  all(): Iterable<Anchor> {
    return this.#byId.values();
  }

  /** What the hooks know of a connection; undefined when its port is another's by now, or nobody's. */
  #known(key: Buffer, cookie: bigint): Conn | undefined {
    const info = this.#datapath.conn(key);
    return info?.cookie === cookie ? info : undefined;
  }

  // ---- events of the reactor ----

  onAnchor(fd: number, key: Buffer, state: "data" | "quiet" | "eof"): void {
    const info = this.#datapath.conn(key);
    if (!info) {
      /* Somebody has found the anchor's port, or the client was gone before it was known. */
      this.#discard(fd, true);
      return;
    }
    /* Its client broke it off and connected again from the same port: what is known of that port is not of this. */
    if (!info.closed && this.#native.sockTcpInfo(fd).state === TCP_STATE.CLOSE) {
      this.#discard(fd, true);
      return;
    }
    const id = key.toString("latin1");
    const stale = this.#byId.get(id);
    if (stale) this.#drop(stale);
    const anchor: Anchor = {
      id,
      key,
      fd,
      cookie: info.cookie,
      info,
      stream: undefined,
      session: undefined,
      beside: 0,
      ending: false,
    };
    this.#byId.set(id, anchor);
    this.#byFd.set(fd, anchor);
    if (state !== "eof") {
      try {
        this.#datapath.addAnchor(info.cookie, fd);
      } catch {
        /* Without it a body in several pieces takes the slow path; nothing is lost. */
      }
    }
    const waiting = this.#waiting.get(id);
    if (waiting) {
      this.#waiting.delete(id);
      for (const task of waiting.tasks) task(anchor);
    }
    if (anchor.stream || anchor.ending || this.broken(anchor)) return;
    if (state === "data" || (state === "quiet" && this.#events.waitsForNobody(info.listener, info.destination.port)))
      this.takeOver(anchor);
    else if (state === "eof") this.#clientEnded(anchor);
  }

  onReadable(fd: number, eof: boolean): void {
    const anchor = this.#byFd.get(fd);
    if (!anchor || anchor.stream) return;
    if (eof) this.#clientEnded(anchor);
    else if (this.broken(anchor)) return;
    else if (!anchor.ending) this.takeOver(anchor);
    else this.#native.reactorArm(fd, EPOLL.RDHUP);
  }

  /** The reactor has closed it, because its client had closed both ways. */
  onGone(fd: number): void {
    const anchor = this.#byFd.get(fd);
    if (anchor && !anchor.stream) this.#forget(anchor);
  }

  /**
   * Is what comes on the connection the rest of a request whose server has gone? It must never be taken for a request:
   * true, and the connection is ended, behind what the client has been answered.
   */
  broken(anchor: Anchor): boolean {
    if (!this.#known(anchor.key, anchor.cookie)?.broken) return false;
    this.reset(anchor);
    return true;
  }

  /** Has the kernel path taken a request of this connection? */
  spokeHttp(anchor: Anchor): boolean {
    return (this.#known(anchor.key, anchor.cookie)?.spoke ?? 0) !== 0;
  }

  // ---- what the kernel path asks for ----

  /** Is it there still, accepted or not? */
  isOpen(key: Conn["destination"], cookie: bigint): boolean {
    return this.#known(Buffer.from(addrKeyRow.encode(key)), cookie)?.closed === 0;
  }

  find(key: Conn["destination"]): Anchor | undefined {
    return this.#byId.get(Buffer.from(addrKeyRow.encode(key)).toString("latin1"));
  }

  /** Does it now, or when the reactor has reported the connection. Nothing happens if it never does. */
  when(key: Conn["destination"], cookie: bigint, task: Task): void {
    const id = Buffer.from(addrKeyRow.encode(key)).toString("latin1");
    const anchor = this.#byId.get(id);
    if (anchor && anchor.cookie === cookie) {
      task(anchor);
      return;
    }
    const guarded: Task = (a) => {
      if (a.cookie === cookie) task(a);
    };
    const waiting = this.#waiting.get(id);
    if (waiting) waiting.tasks.push(guarded);
    else this.#waiting.set(id, { tasks: [guarded], since: performance.now() });
  }

  /** Forgets tasks whose connection was never reported: it was short, and is gone. */
  sweep(): void {
    const limit = performance.now() - 5_000;
    for (const [id, w] of this.#waiting) if (w.since < limit) this.#waiting.delete(id);
  }

  /** The slow path takes the connection over, with a request that it is to serve before the client's own. */
  takeOver(anchor: Anchor, initial?: Lost): void {
    if (anchor.ending) return;
    if (anchor.stream) {
      if (initial && !anchor.session?.inject(initial)) this.reset(anchor);
      return;
    }
    if (!this.#native.reactorForget(anchor.fd)) {
      /* Its client closed both ways a moment ago. */
      this.#drop(anchor);
      return;
    }
    anchor.session = this.#events.serve(anchor, this.#adopt(anchor), initial);
  }

  /** Node takes the connection over only to write a last answer. */
  answer(anchor: Anchor, reply: (stream: Socket) => void): void {
    if (anchor.stream || anchor.ending || !this.#native.reactorForget(anchor.fd)) {
      this.reset(anchor);
      return;
    }
    anchor.ending = true;
    const stream = this.#adopt(anchor);
    reply(stream);
  }

  #adopt(anchor: Anchor): Socket {
    const stream = new Socket({ fd: anchor.fd, readable: true, writable: true, allowHalfOpen: true });
    anchor.stream = stream;
    stream.setNoDelay(true);
    stream.on("error", () => {});
    stream.once("close", () => this.#forget(anchor));
    stream.once("end", () => {
      this.#sentAll(anchor);
      this.#watchClose(anchor);
    });
    return stream;
  }

  /**
   * A client that ended its side may still read, or may have gone altogether: TCP tells the two apart only when one
   * writes to it. The hooks know; an answer that nobody waits for is not to be waited for here.
   */
  #watchClose(anchor: Anchor): void {
    const { stream } = anchor;
    if (!stream || stream.destroyed) return;
    if (this.#known(anchor.key, anchor.cookie)?.closed !== 0) stream.destroy();
    else setTimeout(() => this.#watchClose(anchor), CLOSE_POLL).unref();
  }

  /** Is an answer by the kernel path still due on this connection? */
  answerDue(anchor: Anchor): boolean {
    const info = this.#known(anchor.key, anchor.cookie);
    if (!info || info.waitGeneration === 0) return false;
    return this.#datapath.inService(info.waitSlot, info.waitGeneration);
  }

  /**
   * Resolves when the kernel path has delivered all it had for this client. Bytes that TCP brings while a worker still
   * holds redirected ones would queue behind them, unseen by read(2) but not by poll(2).
   */
  async answered(anchor: Anchor): Promise<void> {
    const busy = () => this.answerDue(anchor) || this.#datapath.drained(anchor.cookie) === "queued";
    for (let ms = 1; this.#byId.get(anchor.id) === anchor && busy(); ms = Math.min(ms * 2, 16)) {
      await new Promise((r) => setTimeout(r, ms));
    }
  }

  /** The client gets the end of the stream, after the last redirected byte: see ARCHITECTURE.md, order. */
  end(anchor: Anchor): void {
    if (anchor.ending) return;
    anchor.ending = true;
    anchor.session?.discard();
    this.whenDrained(anchor, () => {
      if (anchor.stream) {
        anchor.stream.end();
        setTimeout(() => anchor.stream?.destroy(), DELAYED_CLOSE).unref();
        return;
      }
      try {
        this.#native.shutdownWrite(anchor.fd);
        this.#native.reactorArm(anchor.fd, EPOLL.RDHUP);
      } catch {
        this.#drop(anchor);
        return;
      }
      setTimeout(() => this.#drop(anchor), DELAYED_CLOSE).unref();
    });
  }

  /** The client sees its connection break: an answer was cut short. */
  reset(anchor: Anchor): void {
    anchor.ending = true;
    anchor.session?.discard();
    this.whenDrained(anchor, () => {
      if (anchor.stream) anchor.stream.resetAndDestroy();
      else this.#drop(anchor, true);
    });
  }

  /** Calls back when no redirected byte waits for this client in a worker's queue, however long it sleeps. */
  whenDrained(anchor: Anchor, then: () => void, ms = 1): void {
    if (this.#byId.get(anchor.id) !== anchor) return;
    if (this.#datapath.drained(anchor.cookie) !== "queued") {
      then();
      return;
    }
    setTimeout(() => this.whenDrained(anchor, then, Math.min(ms * 1.25, DRAIN_POLL)), ms);
  }

  /** The client sends no more. It may still read: then its answer comes first. */
  #clientEnded(anchor: Anchor): void {
    if (this.#known(anchor.key, anchor.cookie)?.closed !== 0) {
      this.#drop(anchor);
      return;
    }
    this.#sentAll(anchor);
    void this.answered(anchor).then(() => {
      if (this.#byId.get(anchor.id) !== anchor || anchor.ending) return;
      anchor.ending = true;
      this.whenDrained(anchor, () => {
        try {
          this.#native.shutdownWrite(anchor.fd);
        } catch {
          /* it has gone meanwhile */
        }
        this.#drop(anchor);
      });
    });
  }

  /** Hooks note the last request before they let the end of the stream go. */
  #sentAll(anchor: Anchor): void {
    const info = this.#known(anchor.key, anchor.cookie);
    if (info && info.halfClosed !== 0 && info.waitGeneration !== 0)
      this.#events.sentAll(info.waitSlot, info.waitGeneration);
  }

  #drop(anchor: Anchor, abort = false): void {
    if (this.#byFd.get(anchor.fd) !== anchor) return;
    if (anchor.stream) {
      anchor.stream.destroy();
      return;
    }
    this.#forget(anchor);
    this.#discard(anchor.fd, abort);
  }

  /** The thread may have ended it meanwhile: then the number is free again, whatever the calls say. */
  #discard(fd: number, abort: boolean): void {
    this.#native.reactorForget(fd);
    try {
      if (abort) this.#native.closeReset(fd);
      else this.#native.close(fd);
    } catch {
      /* no socket any more */
    }
  }

  #forget(anchor: Anchor): void {
    if (this.#byId.get(anchor.id) === anchor) {
      this.#byId.delete(anchor.id);
      this.#datapath.forgetConn(anchor.key, anchor.cookie);
    }
    if (this.#byFd.get(anchor.fd) === anchor) this.#byFd.delete(anchor.fd);
  }

  closeAll(): void {
    for (const anchor of [...this.#byId.values()]) this.#drop(anchor);
  }
}
