import type { Field } from "./http1.ts";
import { type BodyReader, Broken } from "./source.ts";

/** What a connection of Envoy's holds back at most: per_connection_buffer_limit_bytes. */
export const BUFFER_LIMIT = 1 << 20;

/** How far somebody has got who is sent a copy: pieces and bytes. */
export interface Place {
  at: number;
  bytes: number;
}

/**
 * The body of a request, for as many servers as ask for it. A try after the first begins at its first byte: what is
 * kept for that is bounded, and a body that outgrows the bound can be had once. Copies go beside the tries, whatever
 * their length; one that stays far behind holds up the tries.
 */
export class Upload {
  readonly #reader: BodyReader;
  readonly #most: number;
  readonly #abandoned: () => void;
  readonly #copies = new Set<Place>();
  #kept: Buffer[] = [];
  /** All that have been read. */
  #bytes = 0;
  /** Pieces that are kept no more. */
  #dropped = 0;
  /** Pieces that have gone out by the try that is under way. */
  #released = 0;
  #keeps: boolean;
  #reading: Promise<void> | undefined;
  #whole = false;
  #over = false;
  #waiting: (() => void)[] = [];

  /** `most`: bytes to be kept for another try, of which there is none where it is missing; with more, `abandoned`. */
  constructor(reader: BodyReader, most: number | undefined, abandoned: () => void) {
    this.#reader = reader;
    this.#most = most ?? 0;
    this.#keeps = most !== undefined;
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

  /** Reads what has come with the head. */
  async readAtHand(): Promise<void> {
    while (this.#reader.atHand) await this.#read();
  }

  // ---- tries, one after the other ----

  /** The next one begins. */
  rewind(): void {
    this.#released = 0;
  }

  /** The piece of that number, from 0 on; undefined behind the last. Throws what reading from the client throws. */
  async piece(at: number): Promise<Buffer | undefined> {
    while (at >= this.#dropped + this.#kept.length && !this.#whole) {
      if (this.#over) throw new Broken("nobody wants the rest");
      if (this.#holdsUp()) {
        await this.#changed();
        continue;
      }
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
    this.#released = Math.max(this.#released, at + 1);
    this.#drop();
  }

  /** There is no other try, and who has no whole copy yet gets none. */
  end(): void {
    this.#over = true;
    this.#wake();
  }

  // ---- copies, beside them ----

  /** One more who is to get all of it; nothing of it has gone out yet. */
  join(): Place {
    const place = { at: 0, bytes: 0 };
    this.#copies.add(place);
    return place;
  }

  leave(place: Place): void {
    this.#copies.delete(place);
    this.#drop();
    this.#wake();
  }

  /** The next piece of a copy, as soon as a try has asked for it; undefined behind the last. */
  async next(place: Place): Promise<Buffer | undefined> {
    while (place.at >= this.#dropped + this.#kept.length && !this.#whole) {
      if (this.#over) throw new Broken("the rest does not come");
      await this.#changed();
    }
    const piece = this.#kept[place.at - this.#dropped];
    if (piece === undefined) return undefined;
    place.at++;
    place.bytes += piece.length;
    this.#drop();
    this.#wake();
    return piece;
  }

  /** Is a copy so far behind that it has to be waited for? */
  #holdsUp(): boolean {
    return [...this.#copies].some(({ bytes }) => this.#bytes - bytes > BUFFER_LIMIT);
  }

  #drop(): void {
    if (this.#keeps) return;
    const first = Math.min(this.#released, ...[...this.#copies].map(({ at }) => at));
    if (first <= this.#dropped) return;
    this.#kept.splice(0, first - this.#dropped);
    this.#dropped = first;
  }

  async #read(): Promise<void> {
    const piece = await this.#reader.next();
    this.#whole = piece === undefined || this.#reader.done;
    if (piece !== undefined) {
      this.#kept.push(piece);
      this.#bytes += piece.length;
      if (this.#keeps && this.#bytes > this.#most) {
        this.#keeps = false;
        this.#abandoned();
      }
    }
    this.#wake();
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
