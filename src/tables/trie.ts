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

/**
 * Packs a trie into a double array at the end of the blob: state s goes by byte x to t = base(s) + x if check(t) = s.
 * `c` and `d` are the state's values. Returns the root's index.
 */
export function packTrie<T>(
  blob: BlobBuilder,
  trie: Trie<T>,
  values: (value: T) => readonly [c: number, d: number],
): number {
  const origin = blob.length;
  /* Offsets from `origin`; the root is 0. */
  let used = new Uint8Array(4 * PAGE);
  let size = 1;
  let firstFree = 1;
  used[0] = 1;
  const grow = (to: number) => {
    if (to <= used.length) return;
    const grown = new Uint8Array(Math.max(to, used.length * 2));
    grown.set(used);
    used = grown;
  };
  const place = (bytes: readonly number[]): number => {
    const [low] = bytes as [number];
    for (let at = Math.max(firstFree, low - origin, 1); ; at++) {
      const base = at - low;
      /* A base of 0 in the blob means "no children". */
      if (origin + base <= 0) continue;
      grow(at + PAGE + 1);
      if (bytes.every((x) => !used[base + x])) return base;
    }
  };
  const rows: [at: number, base: number, check: number, c: number, d: number][] = [];
  /* The root is nobody's child: not its own either, so its check is the blob's head, which is no state. */
  const queue: { node: TrieNode<T>; at: number; check: number }[] = [{ node: trie.root, at: 0, check: -origin }];
  for (let i = 0; i < queue.length; i++) {
    const { node, at, check } = queue[i]!;
    const [c, d] = values(node.value);
    let base = 0;
    if (node.children.size > 0) {
      const bytes = [...node.children.keys()].sort((x, y) => x - y);
      const offset = place(bytes);
      base = origin + offset;
      for (const x of bytes) {
        used[offset + x] = 1;
        size = Math.max(size, offset + x + 1);
        queue.push({ node: node.children.get(x)!, at: offset + x, check: at });
      }
      while (used[firstFree]) firstFree++;
    }
    rows.push([at, base, check, c, d]);
  }
  /* A walk may look up to one page beyond the last state. */
  blob.reserve(size + PAGE);
  for (const [at, base, check, c, d] of rows) blob.put(origin + at, base, origin + check, c, d);
  return origin;
}
