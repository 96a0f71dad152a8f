import type { Native } from "../kernel/datapath.ts";
import { EPOLL } from "../kernel/native.ts";
import { FramingState } from "../tables/layout.gen.ts";

/** Where a message ends, told byte by byte from somewhere in its body. */
export interface Follower {
  /** How many of the bytes belong to the message. */
  take(bytes: Buffer): number;
  readonly done: boolean;
  readonly broken: boolean;
}

class CountFollower implements Follower {
  #remaining: number;
  readonly broken = false;

  constructor(remaining: number) {
    this.#remaining = remaining;
  }

  get done(): boolean {
    return this.#remaining === 0;
  }

  take(bytes: Buffer): number {
    const n = Math.min(bytes.length, this.#remaining);
    this.#remaining -= n;
    return n;
  }
}

class EndlessFollower implements Follower {
  readonly done = false;
  readonly broken = false;

  take(bytes: Buffer): number {
    return bytes.length;
  }
}

/** Goes on where `follow_byte` of bpf/steps/frame.h stopped: RFC 9112 section 7.1. */
class ChunkFollower implements Follower {
  #state: number;
  #remaining: number;
  #digits = 0;

  constructor(state: number, remaining: number) {
    this.#state = state;
    this.#remaining = remaining;
  }

  get done(): boolean {
    return this.#state === FramingState.done;
  }

  get broken(): boolean {
    return this.#state === FramingState.fault;
  }

  take(bytes: Buffer): number {
    let at = 0;
    while (at < bytes.length && !this.done && !this.broken) {
      if (this.#state === FramingState.chunkData) {
        const n = Math.min(this.#remaining, bytes.length - at);
        at += n;
        this.#remaining -= n;
        if (this.#remaining === 0) this.#state = FramingState.chunkCr;
        continue;
      }
      this.#state = this.#next(bytes[at]!);
      at++;
    }
    return at;
  }

  #next(c: number): number {
    const s = FramingState;
    const [cr, lf] = [c === 13, c === 10];
    switch (this.#state) {
      case s.chunkSize: {
        const digit = Number.parseInt(String.fromCharCode(c), 16);
        if (!Number.isNaN(digit)) {
          if (++this.#digits > 13) return s.fault;
          this.#remaining = this.#remaining * 16 + digit;
          return s.chunkSize;
        }
        if (this.#digits === 0) return s.fault;
        if (cr) return s.chunkSizeLf;
        return c === 0x3b || c === 0x20 || c === 9 ? s.chunkExtension : s.fault;
      }
      case s.chunkExtension:
        return lf ? s.fault : cr ? s.chunkSizeLf : s.chunkExtension;
      case s.chunkSizeLf:
        this.#digits = 0;
        return !lf ? s.fault : this.#remaining > 0 ? s.chunkData : s.trailerLine;
      case s.chunkCr:
        return cr ? s.chunkLf : s.fault;
      case s.chunkLf:
        return lf ? s.chunkSize : s.fault;
      case s.trailerLine:
        return cr ? s.trailerLf : lf ? s.fault : s.trailerSkip;
      case s.trailerSkip:
        return lf ? s.trailerLine : s.trailerSkip;
      case s.trailerLf:
        return lf ? s.done : s.fault;
      default:
        return s.fault;
    }
  }
}

export function followFrom(state: number, remaining: bigint): Follower {
  if (state === FramingState.body) return new CountFollower(Number(remaining));
  if (state === FramingState.untilClose) return new EndlessFollower();
  return new ChunkFollower(state, Number(remaining));
}

export type TailEnd = "complete" | "extra" | "eof" | "clientGone" | "broken";

type TailListener = (end: TailEnd, bytes: number) => void;

const CHUNK = 256 << 10;

/**
 * Hands on the rest of a response whose client reads too slowly for the kernel path: from the i-sock to the anchor,
 * with TCP's back-pressure on both sides and at most 256 KiB in between.
 */
export class Tail {
  readonly #native: Native;
  readonly #from: number;
  readonly #to: number;
  readonly #follower: Follower;
  readonly #tag: number;
  readonly #end: TailListener;
  #pending: Buffer | undefined;
  #offset = 0;
  #moved = 0;
  #started = false;
  #extra = false;
  #over = false;

  /** `to` is an fd of our own (a dup), `tag` what its reactor events carry. */
  constructor(native: Native, from: number, to: number, follower: Follower, tag: number, end: TailListener) {
    this.#native = native;
    this.#from = from;
    this.#to = to;
    this.#follower = follower;
    this.#tag = tag;
    this.#end = end;
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
        if (this.#follower.broken) {
          this.#finish("broken");
          return;
        }
        if (this.#follower.done) {
          this.#finish(this.#extra ? "extra" : "complete");
          return;
        }
        const bytes = this.#read();
        if (bytes === null) {
          this.#native.reactorArm(this.#from, EPOLL.IN | EPOLL.RDHUP);
          return;
        }
        if (bytes === "broken") {
          this.#finish("broken");
          return;
        }
        if (bytes.length === 0) {
          this.#finish("eof");
          return;
        }
        const n = this.#follower.take(bytes);
        this.#pending = bytes.subarray(0, n);
        this.#offset = 0;
        this.#extra = n < bytes.length;
      }
      /* Let others have their turn. */
      setImmediate(() => this.#run());
    } catch {
      this.#finish("clientGone");
    }
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
    this.#end(end, this.#moved);
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
