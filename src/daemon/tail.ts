import type { Native } from "../kernel/datapath.ts";
import { EPOLL } from "../kernel/native.ts";
import { Malformed } from "../slowpath/http1.ts";
import type { Follower } from "./follow.ts";
import { type Edited, LateHead } from "./late-head.ts";

/**
 * How the rest of an answer ended: as it should, with bytes behind it, or with its connection, as that one does; or too
 * early, in its head (`headCut`, or where that is no head `badHead`) or behind it.
 */
export type TailEnd = "complete" | "extra" | "closed" | "eof" | "clientGone" | "broken" | "headCut" | "badHead";

interface TailListener {
  /** Bytes are on their way to the client. */
  begun(): void;
  ended(end: TailEnd, bytes: number): void;
}

const CHUNK = 256 << 10;

/**
 * Hands on the rest of a response whose client reads too slowly for the kernel path, or whose head it could not edit:
 * from the i-sock to the anchor, with TCP's back-pressure on both sides and at most 256 KiB in between.
 */
export class Tail {
  readonly #native: Native;
  readonly #from: number;
  readonly #to: number;
  #stage: Follower | LateHead;
  readonly #tag: number;
  readonly #listener: TailListener;
  #pending: Buffer | undefined;
  #offset = 0;
  #moved = 0;
  #started = false;
  #extra = false;
  #over = false;

  /** `to` is an fd of our own (a dup), `tag` what its reactor events carry. */
  constructor(
    native: Native,
    from: number,
    to: number,
    stage: Follower | LateHead,
    tag: number,
    listener: TailListener,
  ) {
    this.#native = native;
    this.#from = from;
    this.#to = to;
    this.#stage = stage;
    this.#tag = tag;
    this.#listener = listener;
    native.reactorWatch(to, 0, tag);
  }

  /** Call it once the client has got all that was redirected to it. */
  start(): void {
    this.#started = true;
    this.#run();
  }

  /** Call it when either side may be ready. */
  ready(): void {
    this.#run();
  }

  #run(): void {
    if (this.#over || !this.#started) return;
    try {
      for (let turns = 0; turns < 16; turns++) {
        if (this.#pending && !this.#flush()) return;
        const stage = this.#stage;
        if (!(stage instanceof LateHead) && (stage.broken || stage.done)) {
          this.#finish(stage.broken ? "broken" : this.#extra ? "extra" : "complete");
          return;
        }
        const bytes = this.#read();
        if (bytes === null) {
          this.#native.reactorArm(this.#from, EPOLL.IN | EPOLL.RDHUP);
          return;
        }
        if (bytes === "broken" || bytes.length === 0) {
          const isClosed = bytes !== "broken" && !(stage instanceof LateHead) && stage.endless;
          this.#finish(
            stage instanceof LateHead ? "headCut" : isClosed ? "closed" : bytes === "broken" ? bytes : "eof",
          );
          return;
        }
        if (!this.#take(bytes)) {
          this.#finish("badHead");
          return;
        }
      }
      /* Let others have their turn. */
      setImmediate(() => this.#run());
    } catch {
      this.#finish("clientGone");
    }
  }

  /** False: the answer's head is none. */
  #take(bytes: Buffer): boolean {
    let head: Buffer | undefined;
    let rest = bytes;
    if (this.#stage instanceof LateHead) {
      let edited: Edited;
      try {
        edited = this.#stage.take(bytes);
      } catch (error) {
        if (error instanceof Malformed) return false;
        throw error;
      }
      head = edited.out;
      rest = edited.body?.rest ?? Buffer.alloc(0);
      if (edited.body) this.#stage = edited.body.follower;
    }
    const n = this.#stage instanceof LateHead ? 0 : this.#stage.take(rest);
    const passed = rest.subarray(0, n);
    this.#pending = head === undefined ? passed : Buffer.concat([head, passed]);
    this.#offset = 0;
    this.#extra = n < rest.length;
    return true;
  }

  #read(): Buffer | null | "broken" {
    try {
      return this.#native.recvNonblock(this.#from, CHUNK);
    } catch {
      /* Reset: not the end of an answer that is read until close. */
      return "broken";
    }
  }

  #flush(): boolean {
    if (this.#pending && this.#pending.length > 0 && this.#moved === 0) this.#listener.begun();
    while (this.#pending && this.#offset < this.#pending.length) {
      const n = this.#native.sendNonblock(this.#to, this.#pending, this.#offset);
      if (n < 0) {
        this.#native.reactorArm(this.#to, EPOLL.OUT);
        return false;
      }
      this.#offset += n;
      this.#moved += n;
    }
    this.#pending = undefined;
    return true;
  }

  #finish(end: TailEnd): void {
    if (this.#over) return;
    this.cancel();
    this.#listener.ended(end, this.#moved);
  }

  /** No event after this. */
  cancel(): void {
    if (this.#over) return;
    this.#over = true;
    this.#native.reactorForget(this.#to);
    this.#native.close(this.#to);
  }

  get tag(): number {
    return this.#tag;
  }
}
