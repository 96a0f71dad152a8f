import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Body, Field } from "./http1.ts";
import { ChunkReader, HeadScanner, Malformed } from "./http1.ts";

/** The stream broke off where more was due. */
export class Broken extends Error {}

/** Bytes of a stream, taken when they are wanted and not before: that is all the back-pressure there is. */
export class Source {
  readonly #stream: Duplex;
  #buffer: Buffer;
  #taken = 0;
  #ended = false;
  #failed = false;
  #discarding: Promise<void> | undefined;
  #waiting: (() => void)[] = [];

  /**
   * `wasReset` is asked at the end of the stream, which libuv also reports where a reset came with the last bytes. Who
   * reset it has gone, and the stream is destroyed; who only ended its side waits for an answer.
   */
  constructor(stream: Duplex, initial?: Buffer, wasReset?: () => boolean) {
    this.#stream = stream;
    this.#buffer = initial ?? Buffer.alloc(0);
    const wake = () => this.#wake();
    const lost = () => {
      if (!wasReset?.()) return false;
      this.#failed = true;
      stream.destroy();
      return true;
    };
    stream.on("readable", () => {
      /*
       * While a request is in service nobody reads, and a stream tells its end only to who does. A reset that came with
       * the client's last bytes must be seen all the same, or its request waits for the route's timeout.
       */
      if (this.#waiting.length === 0 && !lost() && stream.readableLength === 0) stream.read(0);
      wake();
    });
    stream.on("end", () => {
      if (!lost()) this.#ended = true;
      wake();
    });
    stream.on("error", () => {
      this.#failed = true;
      wake();
    });
    stream.on("close", () => {
      if (!this.#ended) this.#failed = true;
      wake();
    });
  }

  /** Bytes that came out of the stream so far. */
  get taken(): number {
    return this.#taken;
  }

  /** Nothing is left here, nor in the stream's own buffer. */
  get empty(): boolean {
    return this.#buffer.length === 0 && this.#stream.readableLength === 0;
  }

  /** Was {@link discard} called? */
  get discarded(): boolean {
    return this.#discarding !== undefined;
  }

  /** A stream is destroyed before it says that it failed. */
  get broken(): boolean {
    return this.#failed || (this.#stream.destroyed && !this.#ended);
  }

  /** Has the stream ended, with nothing left to take? */
  get over(): boolean {
    return this.empty && (this.#ended || this.#failed);
  }

  get buffer(): Buffer {
    return this.#buffer;
  }

  consume(n: number): Buffer {
    const out = this.#buffer.subarray(0, n);
    this.#buffer = this.#buffer.subarray(n);
    return out;
  }

  /** These come before what the stream brings next; they do not count as taken. */
  insert(bytes: Buffer): void {
    this.#buffer = Buffer.concat([bytes, this.#buffer]);
    this.#wake();
  }

  /** The stream is about to be destroyed: what it holds, and `rest` behind that, can be taken all the same. */
  keep(rest: Buffer): void {
    const held: Buffer[] = [];
    for (let bytes = this.#stream.read(); bytes !== null; bytes = this.#stream.read()) held.push(bytes as Buffer);
    const more = Buffer.concat([...held, rest]);
    this.#taken += more.length;
    this.#buffer = Buffer.concat([this.#buffer, more]);
    this.#wake();
  }

  /** Nothing comes out of here any more: what the stream still brings is dropped. Resolves at its end. */
  discard(): Promise<void> {
    this.#discarding ??= this.#drop();
    this.#wake();
    return this.#discarding;
  }

  async #drop(): Promise<void> {
    this.#buffer = Buffer.alloc(0);
    for (;;) {
      while (this.#stream.read() !== null);
      if (this.#ended || this.#failed || this.#stream.destroyed) return;
      await this.#woken();
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  /** Waits for more bytes behind those that are here. False: there will be none. */
  async more(): Promise<boolean> {
    const had = this.#buffer.length;
    for (;;) {
      if (this.#discarding) return false;
      const bytes = this.#stream.read() as Buffer | null;
      if (bytes !== null) {
        this.#taken += bytes.length;
        this.#buffer = this.#buffer.length === 0 ? bytes : Buffer.concat([this.#buffer, bytes]);
        return true;
      }
      if (this.#buffer.length > had) return true;
      if (this.#ended || this.#failed || this.#stream.destroyed) return false;
      await this.#woken();
    }
  }

  /** Something to read, or the end: whichever comes first. */
  async some(): Promise<boolean> {
    return this.#buffer.length > 0 || (await this.more());
  }

  /**
   * A whole head; undefined where the stream ended before its first byte. `judge` is shown the first line as soon as it
   * is there, and throws where it is none. Throws Malformed or Broken.
   */
  async head(maxBytes: number, judge?: (line: string) => void): Promise<Buffer | undefined> {
    const scanner = new HeadScanner(maxBytes, judge);
    /* RFC 9112 section 2.2: empty lines before a request are skipped. */
    while (await this.some()) {
      if (this.#buffer[0] !== 13) break;
      if (this.#buffer.length < 2) {
        if (!(await this.more())) return undefined;
        continue;
      }
      if (this.#buffer[1] !== 10) throw new Malformed(400, "bare carriage return");
      this.consume(2);
    }
    if (this.#buffer.length === 0) return undefined;
    for (;;) {
      const length = scanner.scan(this.#buffer);
      if (length !== undefined) return this.consume(length);
      if (!(await this.more())) throw new Broken("the stream ended inside a head");
    }
  }
}

/** Reads one body off a source. */
export class BodyReader {
  readonly #source: Source;
  readonly #body: Body;
  readonly #chunks: ChunkReader | undefined;
  #left: number;
  #done: boolean;
  #pieces: Buffer[] = [];

  constructor(source: Source, body: Body, status: number) {
    this.#source = source;
    this.#body = body;
    this.#left = body.kind === "length" ? body.length : 0;
    this.#chunks = body.kind === "chunked" ? new ChunkReader(status) : undefined;
    this.#done = body.kind === "none";
  }

  get done(): boolean {
    return this.#done && this.#pieces.length === 0;
  }

  /** Is there content that need not be waited for? */
  get atHand(): boolean {
    return this.#pieces.length > 0 || (this.#left > 0 && this.#source.buffer.length > 0);
  }

  /** Waits for the first content, so that what is wrong with it shows before anything was done with the message. */
  async prefetch(): Promise<void> {
    const first = await this.next();
    if (first) this.#pieces.unshift(first);
  }

  get trailers(): readonly Field[] {
    return this.#chunks?.trailers ?? [];
  }

  /** The next bytes of content; undefined behind the last. Throws Malformed, or Broken when the stream ends early. */
  async next(): Promise<Buffer | undefined> {
    for (;;) {
      const piece = this.#pieces.shift();
      if (piece) return piece;
      if (this.#done) return undefined;
      if (!(await this.#source.some())) {
        if (this.#body.kind === "untilClose" && !this.#source.broken) {
          this.#done = true;
          return undefined;
        }
        throw new Broken("the stream ended inside a body");
      }
      const { buffer } = this.#source;
      switch (this.#body.kind) {
        case "length": {
          const n = Math.min(this.#left, buffer.length);
          this.#left -= n;
          this.#done = this.#left === 0;
          return this.#source.consume(n);
        }
        case "untilClose":
          return this.#source.consume(buffer.length);
        case "chunked": {
          const { data, used } = this.#chunks!.feed(buffer);
          this.#source.consume(used);
          this.#pieces = data;
          this.#done = this.#chunks!.done;
          break;
        }
        default:
          this.#done = true;
      }
    }
  }
}

/**
 * Writes with back-pressure. Throws Broken when the stream cannot take any more; `failed` is called before the stream
 * is destroyed for that.
 */
export async function write(stream: Duplex, bytes: Buffer, failed?: () => void): Promise<void> {
  if (stream.destroyed || stream.writableEnded) throw new Broken("the stream is closed");
  if (stream.write(bytes, failed && ((error) => void (error && failed())))) return;
  await new Promise<void>((resolve, reject) => {
    const settle = () => {
      stream.off("drain", settle);
      stream.off("close", settle);
      if (stream.destroyed) reject(new Broken("the stream closed"));
      else resolve();
    };
    stream.on("drain", settle);
    stream.on("close", settle);
  });
}

/** All that comes from one side, until its end; `moved` hears of each piece. Throws Broken when either side breaks. */
export async function pass(from: Source, to: Duplex, moved: (bytes: number) => void = () => {}): Promise<void> {
  while (await from.some()) {
    const bytes = from.consume(from.buffer.length);
    moved(bytes.length);
    await write(to, bytes);
  }
  if (from.broken) throw new Broken("the stream broke off");
}

/** The other side shall see that the stream broke, not that it ended: an end may be the end of a message. */
export function breakOff(stream: Duplex): void {
  if (stream instanceof Socket && !stream.writableEnded) stream.resetAndDestroy();
  else stream.destroy();
}

/** Resolves when all that was written has left for the kernel. */
export async function flushed(stream: Duplex): Promise<void> {
  if (stream.writableLength === 0 || stream.destroyed) return;
  await new Promise<void>((resolve) => {
    stream.once("close", resolve);
    stream.write(Buffer.alloc(0), () => {
      stream.off("close", resolve);
      resolve();
    });
  });
}

export function chunk(data: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from("\r\n")]);
}

export function lastChunk(trailers: readonly Field[]): Buffer {
  const text = trailers.map(([n, v]) => `${n}: ${v}\r\n`).join("");
  return Buffer.from(`0\r\n${text}\r\n`, "latin1");
}
