import type { BlobBuilder } from "./blob.ts";

/** A state of a trie before it is packed. */
export interface TrieNode<T> {
  readonly children: Map<number, TrieNode<T>>;
  value: T;
}

export class Trie<T> {
  readonly root: TrieNode<T>;
  readonly #empty: () => T;

  constructor(empty: () => T) {
    this.#empty = empty;
    this.root = { children: new Map(), value: empty() };
  }

  /** The state that the bytes lead to; made where it is missing. */
  at(bytes: Iterable<number>): TrieNode<T> {
    let node = this.root;
    for (const byte of bytes) {
      let child = node.children.get(byte);
      if (!child) {
        child = { children: new Map(), value: this.#empty() };
        node.children.set(byte, child);
      }
      node = child;
    }
    return node;
  }
}

const PAGE = 256;

/** How far back from the end a gap is looked for: what is older is nearly full, and a longer look is quadratic. */
const WINDOW = 16 * PAGE;

/** Which of the words behind `origin` are taken, and where the next free one is. Word 0, the root's, is taken. */
class Places {
  readonly #origin: number;
  /** For a taken word some later one that may be free; for a free word itself. */
  #next = Uint32Array.from({ length: 4 * PAGE }, (_, i) => i);
  /** Behind the last taken word. */
  size = 0;

  constructor(origin: number) {
    this.#origin = origin;
    this.#take(0);
  }

  #free(from: number): number {
    let found = from;
    while (found < this.#next.length && this.#next[found] !== found) found = this.#next[found]!;
    /* Whoever comes this way next has a shorter one. */
    for (let at = from; at < found; ) {
      const after = this.#next[at]!;
      this.#next[at] = found;
      at = after;
    }
    return found;
  }

  #take(at: number): void {
    if (at + 1 >= this.#next.length) {
      const grown = Uint32Array.from({ length: this.#next.length * 2 }, (_, i) => i);
      grown.set(this.#next);
      this.#next = grown;
    }
    this.#next[at] = at + 1;
    this.size = Math.max(this.size, at + 1);
  }

  #isFree(at: number): boolean {
    return at >= this.#next.length || this.#next[at] === at;
  }

  /** Takes a free word for each of the bytes, which ascend, and gives the base from which each is its byte away. */
  takeAll(bytes: readonly number[]): number {
    const low = bytes[0]!;
    /* A base of 0 in the blob means "no children". */
    const least = Math.max(1, low - this.#origin + 1, this.size - WINDOW);
    for (let at = this.#free(least); ; at = this.#free(at + 1)) {
      const base = at - low;
      if (!bytes.every((x) => this.#isFree(base + x))) continue;
      for (const x of bytes) this.#take(base + x);
      return base;
    }
  }
}

/**
 * Packs a trie into a double array at the end of the blob: state s goes by byte x to t = base(s) + x if check(t) = s.
 * `c` and `d` are the state's values. Returns the root's index. Takes time in proportion to the number of states.
 */
export function packTrie<T>(
  blob: BlobBuilder,
  trie: Trie<T>,
  values: (value: T) => readonly [c: number, d: number],
): number {
  const origin = blob.length;
  /* Offsets from `origin`; the root is 0. */
  const places = new Places(origin);
  const rows: [at: number, base: number, check: number, c: number, d: number][] = [];
  /* The root is nobody's child: not its own either, so its check is the blob's head, which is no state. */
  const queue: { node: TrieNode<T>; at: number; check: number }[] = [{ node: trie.root, at: 0, check: -origin }];
  for (let i = 0; i < queue.length; i++) {
    const { node, at, check } = queue[i]!;
    const [c, d] = values(node.value);
    let base = 0;
    if (node.children.size > 0) {
      const bytes = [...node.children.keys()].sort((x, y) => x - y);
      const offset = places.takeAll(bytes);
      base = origin + offset;
      for (const x of bytes) queue.push({ node: node.children.get(x)!, at: offset + x, check: at });
    }
    rows.push([at, base, check, c, d]);
  }
  /* A walk may look up to one page beyond the last state. */
  blob.reserve(places.size + PAGE);
  for (const [at, base, check, c, d] of rows) blob.put(origin + at, base, origin + check, c, d);
  return origin;
}
