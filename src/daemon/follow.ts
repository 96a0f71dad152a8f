import { FramingState } from "../tables/layout.gen.ts";

/** Where a message ends, told byte by byte from somewhere in its body. */
export interface Follower {
  /** How many of the bytes belong to the message. */
  take(bytes: Buffer): number;
  readonly done: boolean;
  readonly broken: boolean;
  /** The message ends where its connection does. */
  readonly endless: boolean;
}

class CountFollower implements Follower {
  #remaining: number;
  readonly broken = false;
  readonly endless = false;

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
  readonly endless = true;

  take(bytes: Buffer): number {
    return bytes.length;
  }
}

/** Goes on where `follow_byte` of bpf/steps/frame.h stopped: RFC 9112 section 7.1. */
class ChunkFollower implements Follower {
  readonly endless = false;
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
