import type { BlobBuilder } from "./blob.ts";
import {
  XLB_FIRST_SHIFT,
  XLB_NEAR_BYTES,
  XLB_NEAR_BYTES_LAST,
  XLB_ONE_SCATTER,
  XLB_PLACES_SHIFT,
  XLB_SCATTER_SHIFT,
  XLB_STEP_MASK,
  XLB_STEP_SHIFT,
} from "./layout.gen.ts";

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

/** What a state is written with. `own` is what its values say, for the states below it. */
export interface Written<Above> {
  /** For texts that go on behind it, as far as no later state says more. */
  readonly goesOn: number;
  /** For texts that end with it. */
  readonly ends: number;
  readonly own: Above;
}

export interface TrieForm<T, Above> {
  /** Walked from the last byte of a text to the first: its texts lie here in that order. */
  readonly backward?: boolean;
  /** Has a state no values of its own? */
  readonly isEmpty: (value: T) => boolean;
  /** What is above the root; without it a root without values is left out. */
  readonly above?: Above | undefined;
  /** What becomes of a state's values. It may write to the blob. */
  readonly write: (value: T, above: Above | undefined) => Written<Above>;
}

/** So many bytes lead from one state to another at most: they are compared as one number. */
const MOST_STEP = 8;
const MOST_FOLLOWING = 0xffff;
/** Do bytes that have to follow lie in their state? */
const isNear = (count: number, step: number) => count <= (step === 0 ? XLB_NEAR_BYTES_LAST : XLB_NEAR_BYTES);

/**
 * Writes a trie to the blob, as `walk_text` of bpf/steps/match.h reads it (docs/tables.md), and gives the word of its
 * root. Only states with values, or where ways part, are written: what lies between two is compared by eight bytes.
 */
export function writeTrie<T, Above>(blob: BlobBuilder, trie: Trie<T>, form: TrieForm<T, Above>): number {
  const { backward = false, isEmpty, above, write } = form;
  const inOrder = (bytes: readonly number[]) => Uint8Array.from(backward ? [...bytes].reverse() : bytes);
  const root = blob.reserve(2, 2);
  const texts = new Map<string, number>();
  const text = (bytes: readonly number[]): number => {
    if (bytes.length === 0) return 0;
    const key = bytes.join();
    const at = texts.get(key) ?? blob.bytes(inOrder(bytes));
    texts.set(key, at);
    return at;
  };
  const waiting: Waiting<T, Above>[] = [{ at: root, key: new Uint8Array(), node: trie.root, above }];
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const following: number[] = [];
    let { node } = next;
    const isRootOfSome = next.at === root && above !== undefined;
    while (!isRootOfSome && isEmpty(node.value) && node.children.size === 1 && following.length < MOST_FOLLOWING) {
      const [[byte, child]] = [...node.children] as [[number, TrieNode<T>]];
      following.push(byte);
      node = child;
    }
    const { goesOn, ends, own } = write(node.value, next.above);
    /* Nothing leads to a root: the first of its bytes may. */
    const first = next.at === root ? following.splice(0, MOST_STEP) : [];
    const [low, high] = numbersOf(first.length > 0 ? inOrder(first) : next.key);
    blob.put(next.at, low, high, goesOn, ends);
    const { step, leads } = stepsOf(node, isEmpty);
    const keys = leads.map(({ bytes }) => inOrder(bytes));
    const { table, log, scatter, places } = scattered(blob, keys);
    const shape =
      following.length | (step << XLB_STEP_SHIFT) | (first.length << XLB_FIRST_SHIFT) | (log << XLB_PLACES_SHIFT);
    if (!isNear(following.length, step)) blob.put(next.at + 1, text(following), shape, table, scatter);
    else {
      const near = numbersOf(inOrder(following));
      if (step === 0) blob.put(next.at + 1, 0, shape, ...near);
      else blob.put(next.at + 1, near[0], shape, table, scatter);
    }
    /* The last is the next: what belongs to neighbours lies in their order. */
    for (let i = leads.length - 1; i >= 0; i--)
      waiting.push({ at: table + 2 * places[i]!, key: keys[i]!, node: leads[i]!.node, above: own });
  }
  return root;
}

interface Waiting<T, Above> {
  readonly at: number;
  readonly key: Uint8Array;
  readonly node: TrieNode<T>;
  readonly above: Above | undefined;
}

interface Lead<T> {
  readonly bytes: readonly number[];
  readonly node: TrieNode<T>;
}

/** The ways that lead on from a state, all of as many bytes: of the most before one of them comes to a value. */
function stepsOf<T>(from: TrieNode<T>, isEmpty: (value: T) => boolean): { step: number; leads: readonly Lead<T>[] } {
  let leads: Lead<T>[] = [{ bytes: [], node: from }];
  if (from.children.size === 0) return { step: 0, leads: [] };
  for (let step = 1; ; step++) {
    leads = leads.flatMap(({ bytes, node }) =>
      [...node.children].map(([byte, child]) => ({ bytes: [...bytes, byte], node: child })),
    );
    if (step === MOST_STEP || leads.some(({ node }) => !isEmpty(node.value))) return { step, leads };
  }
}

/** Up to eight bytes as the two halves of a number, the first lowest. */
function numbersOf(key: Uint8Array): readonly [low: number, high: number] {
  const bytes = Buffer.alloc(MOST_STEP);
  bytes.set(key);
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)];
}

/** How full a row of places is at most, and how often a number is tried for those that share one. */
const FULL = 0.75;
const MOST_TRIES = 0x10000;

interface Scattered {
  /** The first word of the row of places, two words each; how many there are, as a logarithm. */
  readonly table: number;
  readonly log: number;
  /** The number that scatters them, or the first word of such numbers. */
  readonly scatter: number;
  /** By key. */
  readonly places: readonly number[];
}

/**
 * Gives each key a place of its own in a row of them, by a perfect hash: keys that share a number are moved by it
 * until they find room, those of the fullest first. `place_for` of bpf/steps/match.h is the other half.
 */
function scattered(blob: BlobBuilder, keys: readonly Uint8Array[]): Scattered {
  if (keys.length === 0) return { table: 0, log: 0, scatter: 0, places: [] };
  const hashes = keys.map(hashOf);
  for (let log = keys.length === 1 ? 0 : Math.ceil(Math.log2(keys.length / FULL)); ; log++) {
    if (log > 24) throw new Error("keys of a trie do not scatter");
    const found = scatterAt(hashes, log);
    if (found === undefined) continue;
    const table = blob.reserve(2 << log, 2);
    const { numbers, places } = found;
    if (log <= XLB_ONE_SCATTER) return { table, log, scatter: numbers[0]!, places };
    return { table, log, scatter: blob.bytes(new Uint8Array(numbers.buffer)), places };
  }
}

interface Hash {
  readonly x: number;
  readonly y: number;
}

function hashOf(key: Uint8Array): Hash {
  const [low, high] = numbersOf(key);
  return {
    x: (Math.imul(low, 0x9e3779b1) + Math.imul(high, 0x85ebca6b)) | 0,
    y: (Math.imul(low, 0xc2b2ae35) + Math.imul(high, 0x27d4eb2f)) | 0,
  };
}

function scatterAt(
  hashes: readonly Hash[],
  log: number,
): { readonly numbers: Uint32Array; readonly places: readonly number[] } | undefined {
  const several = log > XLB_ONE_SCATTER;
  const groups: number[][] = Array.from({ length: several ? 1 << (log - XLB_SCATTER_SHIFT) : 1 }, () => []);
  hashes.forEach(({ x }, i) => {
    groups[several ? Math.imul(x ^ (x >>> 16), 0x7feb352d) >>> (32 - log + XLB_SCATTER_SHIFT) : 0]!.push(i);
  });
  const taken = new Uint8Array(1 << log);
  const places = new Array<number>(hashes.length).fill(0);
  const numbers = new Uint32Array(groups.length);
  const order = groups.map((_, group) => group).sort((a, b) => groups[b]!.length - groups[a]!.length || a - b);
  for (const group of order) {
    const members = groups[group]!;
    const number = members.length === 0 ? 0 : settle(members, hashes, log, taken, places);
    if (number === undefined) return undefined;
    numbers[group] = number;
  }
  return { numbers, places };
}

/** The first number that gives all of a group free places, which are taken. */
function settle(
  members: readonly number[],
  hashes: readonly Hash[],
  log: number,
  taken: Uint8Array,
  places: number[],
): number | undefined {
  for (let number = 0; number < MOST_TRIES; number++) {
    let settled = 0;
    for (; settled < members.length; settled++) {
      const place = placeOf(hashes[members[settled]!]!, number, log);
      if (taken[place] === 1) break;
      taken[place] = 1;
      places[members[settled]!] = place;
    }
    if (settled === members.length) return number;
    for (let i = 0; i < settled; i++) taken[places[members[i]!]!] = 0;
  }
  return undefined;
}

function placeOf({ x, y }: Hash, number: number, log: number): number {
  const moved = (x + Math.imul(y, number)) | 0;
  return log === 0 ? 0 : Math.imul(moved ^ (moved >>> 15), 0x846ca68b) >>> (32 - log);
}

/** What a walk that is at a state finds there: the trie's reader outside of the kernel. */
export interface State {
  readonly key: readonly [low: number, high: number];
  readonly goesOn: number;
  readonly ends: number;
  /** So many bytes lead to a root. */
  readonly first: number;
  /** Bytes that have to follow, and where they lie; or, where they are few, they themselves. */
  readonly follow: number;
  readonly text: number;
  readonly near: readonly [low: number, high: number] | undefined;
  readonly step: number;
  /** Words of all the places that its bytes may lead to. */
  readonly table: number;
  readonly log: number;
  readonly scatter: number;
}

export function stateAt(blob: Uint32Array, word: number): State {
  const [low = 0, high = 0, goesOn = 0, ends = 0, text = 0, shape = 0, table = 0, scatter = 0] = blob.subarray(
    word * 4,
    word * 4 + 8,
  );
  const step = (shape >>> XLB_STEP_SHIFT) & XLB_STEP_MASK;
  const first = (shape >>> XLB_FIRST_SHIFT) & XLB_STEP_MASK;
  const log = shape >>> XLB_PLACES_SHIFT;
  const follow = shape & MOST_FOLLOWING;
  const near: State["near"] = isNear(follow, step) ? (step === 0 ? [table, scatter] : [text, 0]) : undefined;
  return { key: [low, high], goesOn, ends, first, follow, text, near, step, table, log, scatter };
}

/** Where the bytes lead from a state: a word that is looked up for it, if any, and the word of the next. */
export function leadOf(
  blob: Uint32Array,
  { table, log, scatter }: State,
  bytes: Uint8Array,
): { readonly asked?: number; readonly next: number } {
  const hash = hashOf(bytes);
  if (log <= XLB_ONE_SCATTER) return { next: table + 2 * placeOf(hash, scatter, log) };
  const group = Math.imul(hash.x ^ (hash.x >>> 16), 0x7feb352d) >>> (32 - log + XLB_SCATTER_SHIFT);
  const number = blob[scatter * 4 + group] ?? 0;
  return { asked: scatter + (group >>> 2), next: table + 2 * placeOf(hash, number, log) };
}

/** The words of all states below a root, and its own. */
export function statesOf(blob: Uint32Array, root: number): readonly number[] {
  const found = [root];
  for (let i = 0; i < found.length; i++) {
    const { step, table, log } = stateAt(blob, found[i]!);
    for (let place = 0; step > 0 && place < 1 << log; place++) {
      const { key } = stateAt(blob, table + 2 * place);
      if (key[0] !== 0 || key[1] !== 0) found.push(table + 2 * place);
    }
  }
  return found;
}
