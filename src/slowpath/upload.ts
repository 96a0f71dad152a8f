import type { Field } from "./http1.ts";
import { type BodyReader, Broken } from "./source.ts";

/**
 * The body of a request, for as many servers as ask for it: a try after the first, or a mirror, begins at its first
 * byte. What is kept for them is bounded; a body that outgrows the bound can be had once, by who is at its end.
 */
export class Upload {
  readonly #reader: BodyReader;
  readonly #most: number;
  readonly #abandoned: () => void;
  #kept: Buffer[] = [];
  #bytes = 0;
  /** Pieces that are kept no more. */
  #dropped = 0;
  #reading: Promise<void> | undefined;
  #whole = false;

  /** `most`: bytes to be kept, 0 for none; `abandoned` is called once when there are more. */
  constructor(reader: BodyReader, most: number, abandoned: () => void) {
    this.#reader = reader;
    this.#most = most;
    this.#abandoned = abandoned;
    this.#whole = reader.done;
  }

  /** Can it be had from its beginning? */
  get kept(): boolean {
    return this.#dropped === 0;
  }

  /** Has all of it come from the client? */
  get whole(): boolean {
    return this.#whole;
  }

  get trailers(): readonly Field[] {
    return this.#reader.trailers;
  }

  /** The piece of that number, from 0 on; undefined behind the last. Throws what reading from the client throws. */
  async piece(at: number): Promise<Buffer | undefined> {
    while (at >= this.#dropped + this.#kept.length && !this.#whole) {
      this.#reading ??= this.#read().finally(() => {
        this.#reading = undefined;
      });
      await this.#reading;
    }
    if (at < this.#dropped) throw new Broken("that part of the body is kept no more");
    return this.#kept[at - this.#dropped];
  }

  /** The piece of that number has gone out: it and those before it need not be kept, if there are too many. */
  release(at: number): void {
    if (this.#bytes <= this.#most || at < this.#dropped) return;
    if (this.#dropped === 0 && this.#most > 0) this.#abandoned();
    this.#kept.splice(0, at + 1 - this.#dropped);
    this.#dropped = at + 1;
  }

  async #read(): Promise<void> {
    const piece = await this.#reader.next();
    if (piece === undefined) {
      this.#whole = true;
      return;
    }
    this.#whole = this.#reader.done;
    this.#kept.push(piece);
    this.#bytes += piece.length;
  }
}
