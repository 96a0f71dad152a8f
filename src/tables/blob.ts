import { XLB_LINE_WORDS } from "./layout.gen.ts";

/**
 * Blobs of docs/tables.md: 16-byte words {a, b, c, d} that only ever grow while they are built and never change after.
 */
export class BlobBuilder {
  #words = new Uint32Array(4 * 16);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Makes room for `n` words in a row, all zero, from a multiple of `align` on, and gives the index of the first. */
  reserve(n: number, align = 1): number {
    const first = Math.ceil(this.#length / align) * align;
    this.#length = first + n;
    if (this.#length * 4 > this.#words.length) {
      const grown = new Uint32Array(Math.max(this.#words.length * 2, this.#length * 4));
      grown.set(this.#words);
      this.#words = grown;
    }
    return first;
  }

  put(index: number, a: number, b: number, c: number, d: number): void {
    this.#words.set([a, b, c, d], index * 4);
  }

  /** Repeats `n` words in a row. */
  copy(from: number, to: number, n: number): void {
    this.#words.copyWithin(to * 4, from * 4, (from + n) * 4);
  }

  push(a: number, b: number, c: number, d: number): number {
    const index = this.reserve(1);
    this.put(index, a, b, c, d);
    return index;
  }

  /** Sixteen bytes to a word, in memory order, from a multiple of `align` on. */
  bytes(text: Uint8Array, align = 1): number {
    const first = this.reserve(Math.max(1, Math.ceil(text.length / 16)), align);
    new Uint8Array(this.#words.buffer).set(text, first * 16);
    return first;
  }

  /** All words, in whole lines: what the kernel looks up together. */
  finish(): Uint32Array {
    this.reserve(0, XLB_LINE_WORDS);
    return this.#words.slice(0, this.#length * 4);
  }
}
