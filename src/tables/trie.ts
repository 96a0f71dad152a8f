import type { BlobBuilder } from "./blob.ts";
import { XLB_TAIL } from "./layout.gen.ts";

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

/** A way down a trie without branches or values, to a leaf. */
export interface Tail<T> {
  readonly bytes: readonly number[];
  readonly leaf: TrieNode<T>;
}

/** Shorter ones are walked. */
const SHORTEST_TAIL = 3;

/**
 * The tails of a trie, by the state above: with them it need not be walked, and not lie in memory, byte by byte. They
 * are what most of the texts of a large set end with. `isEmpty` says that a state has no values of its own.
 */
export function tailsOf<T>(trie: Trie<T>, isEmpty: (value: T) => boolean): ReadonlyMap<TrieNode<T>, Tail<T>> {
  const order = [trie.root];
  for (let i = 0; i < order.length; i++) order.push(...order[i]!.children.values());
  /* From the leaves up: how far it is to the one leaf, where there is only one. */
  const lengths = new Map<TrieNode<T>, number>();
  for (const node of order.reverse()) {
    if (node.children.size === 0) lengths.set(node, 0);
    if (node.children.size !== 1) continue;
    const [child] = node.children.values();
    const below = lengths.get(child!);
    if (below !== undefined && (below === 0 || isEmpty(child!.value))) lengths.set(node, below + 1);
  }
  const tails = new Map<TrieNode<T>, Tail<T>>();
  for (const [node, length] of lengths) {
    if (length < SHORTEST_TAIL) continue;
    const bytes: number[] = [];
    let leaf = node;
    while (leaf.children.size > 0) {
      const [[byte, child]] = [...leaf.children] as [[number, TrieNode<T>]];
      bytes.push(byte);
      leaf = child;
      tails.delete(leaf);
    }
    tails.set(node, { bytes, leaf });
  }
  return tails;
}

/** Makes room for a tail's record. Its values are put by {@link putTail}: what they refer to lies best behind it. */
export function reserveTail<T>(blob: BlobBuilder, { bytes }: Tail<T>, backward: boolean): number {
  const first = blob.reserve(1);
  blob.bytes(Uint8Array.from(backward ? [...bytes].reverse() : bytes));
  return first;
}

export function putTail<T>(blob: BlobBuilder, first: number, { bytes }: Tail<T>, c: number, d: number): void {
  blob.put(first, bytes.length, 0, c, d);
}

const PAGE = 256;

/** How far back from the end a gap is looked for: what is older is nearly full, and a longer look is quadratic. */
const WINDOW = 16 * PAGE;

/** Which of the words of the array are taken, and where the next free one is. */
class Places {
  /** For a taken word some later one that may be free; for a free word itself. */
  #next = new Uint32Array([0]);
  /** Behind the last taken word. */
  size = 0;

  takeOne(): number {
    const at = this.#free(Math.max(0, this.size - WINDOW));
    this.#take(at);
    return at;
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
      const known = this.#next.length;
      const grown = new Uint32Array(Math.max(known, at + 1) * 2);
      grown.set(this.#next);
      for (let i = known; i < grown.length; i++) grown[i] = i;
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
    /* No walk may come to what lies before the tries: its words could look like a child's. */
    const least = Math.max(low + 1, this.size - WINDOW);
    for (let at = this.#free(least); ; at = this.#free(at + 1)) {
      const base = at - low;
      if (!bytes.every((x) => this.#isFree(base + x))) continue;
      for (const x of bytes) this.#take(base + x);
      return base;
    }
  }
}

/**
 * Packs tries into one double array at the end of the blob: state s goes by byte x to t = base(s) + x if check(t) = s.
 * `c` and `d` are the state's values; one with a `tail` has that instead of children. Returns the roots' indexes. Takes
 * time in proportion to the number of states.
 */
export function packTries<T>(
  blob: BlobBuilder,
  tries: readonly Trie<T>[],
  values: (value: T) => readonly [c: number, d: number, tail?: number],
): number[] {
  const origin = blob.length;
  /* Offsets from `origin`. */
  const places = new Places();
  const rows: [at: number, base: number, check: number, c: number, d: number][] = [];
  /* A root is nobody's child: not its own either, so its check is the blob's head, which is no state. */
  const queue: { node: TrieNode<T>; at: number; check: number }[] = tries.map(({ root }) => {
    return { node: root, at: places.takeOne(), check: -origin };
  });
  for (let i = 0; i < queue.length; i++) {
    const { node, at, check } = queue[i]!;
    const [c, d, tail] = values(node.value);
    let base = tail === undefined ? 0 : (tail | XLB_TAIL) >>> 0;
    if (tail === undefined && node.children.size > 0) {
      const bytes = [...node.children.keys()].sort((x, y) => x - y);
      const offset = places.takeAll(bytes);
      base = origin + offset;
      for (const x of bytes) queue.push({ node: node.children.get(x)!, at: offset + x, check: at });
    }
    rows.push([at, base, check, c, d]);
  }
  blob.reserve(places.size);
  for (const [at, base, check, c, d] of rows) blob.put(origin + at, base, origin + check, c, d);
  return queue.slice(0, tries.length).map(({ at }) => origin + at);
}
