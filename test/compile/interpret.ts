import assert from "node:assert/strict";
import { editFields } from "../../src/compile/apply-edits.ts";
import type { RequestHead } from "../../src/route/match.ts";
import type { HostBlob } from "../../src/tables/compiled.ts";
import {
  ACTION_ANSWER,
  CONDITION_IGNORE_CASE,
  CONDITION_INVERT,
  CONDITION_MISSING_AS_EMPTY,
  ConditionKind,
  EDIT_AUTHORITY,
  EDIT_DATE,
  EDIT_HOST_ALONE,
  EDIT_HOST_UNLESS_80,
  EDIT_PATH,
  EDIT_QUERY,
  EDIT_TARGET,
  EntryFlag,
  HEADER_AUTHORITY,
  HEADER_METHOD,
  HEADER_PATH,
  HEADER_PATH_ALONE,
  HOSTS_STRIP_PORT,
  Policy,
  RULES_NONE,
  RULES_SLOW,
  SETTLED,
  SETTLED_RUN,
  SwitchKind,
  XLB_CURSORS,
  XLB_LINE_WORDS,
  XLB_MAX_LISTS,
  XLB_MAX_SCAN,
  XLB_SKIP_MASK,
  XLB_SKIP_SHIFT,
  XLB_WEIGHED,
} from "../../src/tables/layout.gen.ts";
import { leadOf, type State, stateAt } from "../../src/tables/trie.ts";

/**
 * Follows compiled rules as bpf/steps/match.h and bpf/steps/balance.h do, word by word: what a blob means is tested
 * here without a kernel. What the hooks limit (turns of a loop) is limited here too.
 */

const MAX_CONDITION_TURNS = 192;
const MAX_CANDIDATE_TURNS = 4_096;
const MAX_CLUSTER_TURNS = 1_024;

type Word = readonly [a: number, b: number, c: number, d: number];

/** How often the tables were looked up: what a walk costs, told without a clock. */
export const lookups = { count: 0 };

export class Blob {
  readonly #words: Uint32Array;
  readonly #bytes: Uint8Array;

  constructor(words: Uint32Array) {
    this.#words = words;
    this.#bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  }

  /** A look-up beyond the end is a miss, as in an array map. */
  word(index: number): Word | undefined {
    lookups.count++;
    const [words, at] = [this.#words, index * 4];
    return at >= words.length ? undefined : [words[at]!, words[at + 1] ?? 0, words[at + 2] ?? 0, words[at + 3] ?? 0];
  }

  byte(first: number, at: number): number {
    lookups.count++;
    return this.#bytes[first * 16 + at] ?? -1;
  }

  /** Places of an automaton's rows, by their line: it is looked up where it is not the one before. */
  rows(first: number): (place: number, bytes: 2 | 4) => number {
    assert.equal(first % XLB_LINE_WORDS, 0);
    let line = -1;
    return (place, bytes) => {
      const at = place * bytes;
      if (line !== at >> 6) lookups.count++;
      line = at >> 6;
      return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + first * 16 + at, bytes).readUIntLE(0, bytes);
    };
  }

  /** The classes of ASCII: two lines, which are looked up before a walk begins. */
  classes(first: number): (byte: number) => number {
    lookups.count += 2;
    assert.equal(first % XLB_LINE_WORDS, 0);
    return (byte) => {
      assert.ok(byte < 128, "the hook would have declined such a head");
      return this.#bytes[first * 16 + byte]!;
    };
  }

  /** Are its bytes from a word on the text's? A word of them is looked up at once, up to the first that differ. */
  equals(first: number, length: number, text: Uint8Array): boolean {
    for (let at = 0; at < length; at += 16) {
      lookups.count++;
      for (let i = at; i < Math.min(at + 16, length); i++) if (this.#bytes[first * 16 + i] !== text[i]) return false;
    }
    return true;
  }

  /** Where a walk is, and where it goes from there. */
  state(word: number): State {
    lookups.count++;
    return stateAt(this.#words, word);
  }

  lead(from: State, bytes: Uint8Array): number {
    const { asked, next } = leadOf(this.#words, from, bytes);
    if (asked !== undefined) lookups.count++;
    return next;
  }
}

const bytesOf = (text: string) => Buffer.from(text, "latin1");
const lower = (byte: number) => (byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte);

/** The rules index for a host; RULES_NONE or RULES_SLOW where there is none. */
export function interpretHost(words: Uint32Array, authority: string): number {
  const blob = new Blob(words);
  const [flags, forward, backward, any] = blob.word(0)!;
  const host = bytesOf(flags & HOSTS_STRIP_PORT ? withoutPort(authority) : authority).map(lower);
  let prefix = RULES_NONE;
  if (forward) {
    const walked = walk(blob, forward, host);
    if (walked.ends) return walked.ends;
    prefix = walked.goesOn;
  }
  if (backward) {
    const { goesOn } = walk(blob, backward, host, true);
    if (goesOn) return goesOn;
  }
  return prefix || any;
}

/** The hook's without_port: what follows the last colon, unless brackets hold it. */
function withoutPort(authority: string): string {
  return authority.replace(/:[^:\]]*$/, "");
}

/** walk_text of bpf/steps/match.h. */
export function walk(blob: Blob, root: number, text: Uint8Array, backward = false): { goesOn: number; ends: number } {
  const parted = (left: Uint8Array, count: number) =>
    backward
      ? [left.subarray(left.length - count), left.subarray(0, -count)]
      : [left.subarray(0, count), left.subarray(count)];
  let [next, key, left, goesOn]: [number, Uint8Array, Uint8Array, number] = [root, new Uint8Array(), text, 0];
  for (;;) {
    const state = blob.state(next);
    if (state.first > left.length) return { goesOn, ends: 0 };
    if (state.first > 0) [key, left] = parted(left, state.first) as [Uint8Array, Uint8Array];
    if (!isNumber(state.key, key)) return { goesOn, ends: 0 };
    if (state.follow > 0) {
      if (state.follow > left.length) return { goesOn, ends: 0 };
      const [following, rest] = parted(left, state.follow) as [Uint8Array, Uint8Array];
      const isThere = state.near ? isNumber(state.near, following) : blob.equals(state.text, state.follow, following);
      if (!isThere) return { goesOn, ends: 0 };
      left = rest;
    }
    if (left.length === 0) return { goesOn, ends: state.ends };
    goesOn = state.goesOn || goesOn;
    if (state.step === 0 || state.step > left.length) return { goesOn, ends: 0 };
    [key, left] = parted(left, state.step) as [Uint8Array, Uint8Array];
    next = blob.lead(state, key);
  }
}

function isNumber([low, high]: readonly [low: number, high: number], text: Uint8Array): boolean {
  const bytes = Buffer.alloc(8);
  bytes.set(text);
  return bytes.readUInt32LE(0) === low && bytes.readUInt32LE(4) === high;
}

function walkText(blob: Blob, root: number, text: Uint8Array, backward = false): number {
  const { goesOn, ends } = walk(blob, root, text, backward);
  return ends || goesOn;
}

export interface Interpreted {
  /** The action's word. */
  readonly action: number;
  readonly routeIndex: number;
}

/** The first candidate whose conditions hold; undefined: no route. "slow": the hook declines such a request. */
export function interpretRoute(
  words: Uint32Array,
  request: RequestHead,
  headerNames: ReadonlyMap<string, number>,
): Interpreted | "slow" | undefined {
  const blob = new Blob(words);
  const texts = new Map<number, Uint8Array>([
    [HEADER_METHOD, bytesOf(request.method)],
    [HEADER_AUTHORITY, bytesOf(request.authority)],
    [HEADER_PATH, bytesOf(request.path)],
    [HEADER_PATH_ALONE, bytesOf(request.path.replace(/[?#].*$/s, ""))],
  ]);
  for (const [name, value] of request.headers) {
    const index = headerNames.get(name.toLowerCase());
    if (index === undefined) continue;
    if (texts.has(index)) return "slow";
    texts.set(index, bytesOf(value));
  }
  for (const [name, value] of queryParameters(request.path)) {
    const index = headerNames.get(`?${name}`);
    if (index !== undefined && !texts.has(index)) texts.set(index, bytesOf(value));
  }
  const [exactRoot, foldRoot, foldLow] = blob.word(0)!;
  const path = texts.get(HEADER_PATH_ALONE)!;
  let at = walkText(blob, exactRoot, path);
  let fold = foldRoot;
  let best: Interpreted | undefined;
  const low = () => best?.routeIndex ?? 0xffffffff;
  for (let turn = 0; turn < MAX_CANDIDATE_TURNS; turn++) {
    if (!at) {
      if (!fold || low() < foldLow) return best;
      at = walkText(blob, fold, path.map(lower));
      fold = 0;
      if (!at) return best;
    }
    const [a, b, c, d] = blob.word(at)!;
    const skip = (d >> XLB_SKIP_SHIFT) & XLB_SKIP_MASK;
    const next = d & EntryFlag.last ? 0 : at + 1;
    if (b >= low()) {
      at = skip && !(d & EntryFlag.link) ? at + skip : 0;
    } else if (d & EntryFlag.link) {
      at = a;
    } else if (d & EntryFlag.switch) {
      at = followSwitch(blob, a, c, texts) || next;
    } else if (allHold(blob, c, d & 0xff, texts)) {
      best = { action: a, routeIndex: b };
      at = skip && !(d & EntryFlag.final) ? at + skip : 0;
    } else {
      at = next;
    }
  }
  throw new Error("the hook would decline: too many turns");
}

function* queryParameters(path: string): Iterable<readonly [string, string]> {
  const start = path.indexOf("?");
  if (start < 0) return;
  for (const parameter of path.slice(start + 1).split("&")) {
    const [name = "", ...values] = parameter.split("=");
    yield [name, values.join("=")];
  }
}

function followSwitch(blob: Blob, root: number, c: number, texts: ReadonlyMap<number, Uint8Array>): number {
  const [field, kind, flags, skip] = [c & 31, (c >> 5) & 7, (c >> 8) & 0xff, c >>> 16];
  const text = texts.get(field) ?? (flags & CONDITION_MISSING_AS_EMPTY ? new Uint8Array() : undefined);
  if (text === undefined || text.length < skip) return 0;
  if (kind === SwitchKind.union) return walkUnion(blob, root, text.subarray(skip));
  const folded = flags & CONDITION_IGNORE_CASE ? text.map(lower) : text;
  return walkText(blob, root, folded, kind === SwitchKind.backward);
}

/** Is there an entry of the first run that is a switch? Enough to know that they are made. */
export function hasSwitches(words: Uint32Array): boolean {
  for (let at = 0; at * 4 < words.length; at++) {
    const d = words[at * 4 + 3]!;
    const others = EntryFlag.link | 0x80000000 | 0xff;
    if ((d & EntryFlag.switch) !== 0 && (d & others) === 0 && words[at * 4]! * 4 < words.length) return true;
  }
  return false;
}

function walkUnion(blob: Blob, head: number, text: Uint8Array): number {
  const [start, classes, rows, width] = blob.word(head)!;
  const classOf = blob.classes(classes);
  const entry = blob.rows(rows);
  let state = start;
  for (const byte of text) {
    if (!state || state >= SETTLED_RUN) break;
    state = entry(state + classOf(byte), 4);
  }
  if (state >= SETTLED_RUN) return state - SETTLED_RUN;
  return state && entry(state + width, 4);
}

function allHold(blob: Blob, first: number, count: number, texts: ReadonlyMap<number, Uint8Array>): boolean {
  for (let at = 0; at < MAX_CONDITION_TURNS; at++) {
    if (at >= count) return true;
    if (!holds(blob, blob.word(first + at)!, texts)) return false;
  }
  return false;
}

function holds(blob: Blob, [a, value, length]: Word, texts: ReadonlyMap<number, Uint8Array>): boolean {
  const [kind, flags] = [(a >> 8) & 0xff, (a >> 16) & 0xff];
  const text = texts.get(a & 0xff) ?? (flags & CONDITION_MISSING_AS_EMPTY ? new Uint8Array() : undefined);
  const invert = (flags & CONDITION_INVERT) !== 0;
  if (kind === ConditionKind.present) return ((text !== undefined) === (length !== 0)) !== invert;
  if (text === undefined) return false;
  if (kind === ConditionKind.regex)
    return (text.length >= length && walkTable(blob, value, text.subarray(length))) !== invert;
  return says(blob, kind, flags, value, length, text) !== invert;
}

function says(blob: Blob, kind: number, flags: number, value: number, length: number, text: Uint8Array): boolean {
  const have = flags & CONDITION_IGNORE_CASE ? text.map(lower) : text;
  const isAt = (offset: number) => blob.equals(value, length, have.subarray(offset));
  const places = () => {
    if (length > have.length) return [];
    switch (kind) {
      case ConditionKind.exact:
        return length === have.length ? [0] : [];
      case ConditionKind.prefix:
        return [0];
      case ConditionKind.suffix:
        return [have.length - length];
      default:
        return Array.from({ length: have.length - length + 1 }, (_, i) => i);
    }
  };
  return places().some(isAt);
}

function walkTable(blob: Blob, head: number, text: Uint8Array): boolean {
  const [start, classes, rows, accepting] = blob.word(head)!;
  const classOf = blob.classes(classes);
  const row = blob.rows(rows);
  let state = start;
  for (const byte of text) {
    if (state === 0 || state === SETTLED) break;
    state = row(state + classOf(byte), 2);
  }
  if (state === 0) return false;
  return state >= accepting;
}

/** What an action says of itself. */
export function interpretAction(words: Uint32Array, action: number): { timeoutMs: number; route: number } {
  const [, , timeoutMs, route] = new Blob(words).word(action)!;
  return { timeoutMs, route };
}

/** No weight: the hook can tell the route, but not serve it. */
export const isLeftToSlowPath = (words: Uint32Array, action: number) => new Blob(words).word(action)![1] === 0;

/** The place of the edits of an action's entry; 0: none. */
export const interpretEntryEdits = (words: Uint32Array, action: number, entry: number) =>
  new Blob(words).word(action + 1 + entry)![2];

/** What the edits at `program` make of a request, as bpf/hooks/edit.h does it. */
export function interpretEdits(words: Uint32Array, program: number, request: RequestHead): RequestHead {
  const blob = new Blob(words);
  const text = (first: number, length: number) =>
    Buffer.from(Array.from({ length }, (_, i) => blob.byte(first, i))).toString("latin1");
  const [whole, pathText, pathLength, dropped] = blob.word(program + 2)!;
  let { path } = request;
  if (pathLength > 0)
    path = text(pathText, pathLength) + path.slice(whole ? path.replace(/[?#].*$/s, "").length : dropped);
  const parts = ["", request.path, request.authority, request.method];
  const headers = editFields(words, program, request.headers, (part) => parts[part]!);
  const authority = headers.find(([name]) => name.toLowerCase() === "host")?.[1] ?? request.authority;
  return { ...request, path, authority, headers };
}

/** The place of the answer that an action gives by itself; undefined: it goes to a cluster. */
export function interpretOwnAnswer(words: Uint32Array, action: number): number | undefined {
  const [number, program] = new Blob(words).word(action)!;
  return number & ACTION_ANSWER ? program : undefined;
}

/** The answer at `program`, as bpf/hooks/answer.h writes it; undefined: the slow path gives it. */
export function interpretAnswer(
  words: Uint32Array,
  program: number,
  request: RequestHead,
  date: string,
): string | undefined {
  const blob = new Blob(words);
  const text = (first: number, length: number) =>
    Buffer.from(Array.from({ length }, (_, i) => blob.byte(first, i))).toString("latin1");
  const { path: target, authority } = request;
  const path = target.replace(/\?.*/s, "");
  const [count, first, body, bodyLength] = blob.word(program)!;
  let answer = "";
  for (let i = 0; i < count; i++) {
    const [skip, textAt, length, part] = blob.word(first + i)!;
    answer += text(textAt, length);
    if ((part === EDIT_HOST_ALONE || part === EDIT_HOST_UNLESS_80) && authority.startsWith("[")) return undefined;
    if (part === EDIT_HOST_ALONE && /^:[^:]*$/.test(authority)) return undefined;
    switch (part) {
      case EDIT_TARGET:
        answer += target.slice(skip);
        break;
      case EDIT_PATH:
        answer += path.slice(skip);
        break;
      case EDIT_QUERY:
        answer += target.slice(path.length);
        break;
      case EDIT_AUTHORITY:
        answer += authority;
        break;
      case EDIT_HOST_ALONE:
        answer += authority.replace(/:[^:]*$/, "");
        break;
      case EDIT_HOST_UNLESS_80:
        answer += authority.replace(/(?<=.):80$/, "");
        break;
      case EDIT_DATE:
        answer += date;
        break;
    }
  }
  return answer + (request.method === "HEAD" ? "" : text(body, bodyLength));
}

/** The cluster id for a random ticket; 0: none. */
export function interpretCluster(words: Uint32Array, action: number, ticket: number): number {
  const blob = new Blob(words);
  const [count, total] = blob.word(action)!;
  if (count === 1) return blob.word(action + 1)![0];
  if (!total) return 0;
  for (let at = 1; at <= Math.min(count, MAX_CLUSTER_TURNS); at++) {
    const [cluster, below] = blob.word(action + at)!;
    if (ticket % total < below) return cluster;
  }
  return 0;
}

/** The endpoint that a hash leads to; undefined: the slow path's. */
export function interpretHash(words: Uint32Array, hash: bigint): number | undefined {
  const blob = readerOf(words);
  const [, , , lists] = blob.word(1)!;
  const at = lists === 0 ? 0 : drawList(blob, lists, Number(hash % 100n));
  const [policy, , length] = blob.word(at)!;
  const [endpoints, table] = blob.word(at + 1)!;
  if (!length) return undefined;
  if (policy === Policy.maglev) {
    const place = Number(hash % BigInt(length));
    return blob.word(endpoints + blob.byte(table, 2 * place) + 256 * blob.byte(table, 2 * place + 1))![0];
  }
  const entries = Array.from({ length }, (_, i) => blob.word(table + i)!);
  const found = entries.find(([low, high]) => ((BigInt(high) << 32n) | BigInt(low)) >= hash) ?? entries[0]!;
  return blob.word(endpoints + found[2])![0];
}

/**
 * The endpoint id; undefined: the slow path's. `next` gives the cursor, or chance, one number at a time; `ticket`, a
 * number of 32 bits, chooses among lists.
 */
export function interpretEndpoint(
  words: Uint32Array,
  next: (cursor: number | undefined) => number,
  active: (endpoint: number) => number,
  ticket = 0,
): number | undefined {
  const blob = readerOf(words);
  const [, , , lists] = blob.word(1)!;
  const at = lists === 0 ? 0 : drawList(blob, lists, ticket);
  const [policy, count, length, choices] = blob.word(at)!;
  const [endpoints, turns, cursor] = blob.word(at + 1)!;
  if (!count || !length) return undefined;
  switch (policy) {
    case Policy.roundRobin:
      return turnAt(blob, endpoints, turns, next(cursor % XLB_CURSORS) % length)[0];
    case Policy.random:
      return blob.word(endpoints + (next(undefined) % count))![0];
    case Policy.fullScan: {
      let [best, tied] = [blob.word(endpoints)![0], 1];
      for (let i = 1; i < Math.min(count, XLB_MAX_SCAN + 1); i++) {
        const other = blob.word(endpoints + i)![0];
        if (active(other) < active(best)) [best, tied] = [other, 1];
        else if (active(other) === active(best) && next(undefined) % ++tied === 0) best = other;
      }
      return best;
    }
    case Policy.leastWeighed: {
      const all = count <= XLB_WEIGHED;
      let [best, total] = [0, 0];
      for (let i = 0; i < (all ? count : XLB_WEIGHED); i++) {
        const [id, weight] = all ? blob.word(endpoints + i)! : turnAt(blob, endpoints, turns, next(undefined) % length);
        const part = Math.floor(((all ? weight : 1) * 65_536) / (active(id) + 1)) + 1;
        total += part;
        if ((next(undefined) * 2 ** 21 + (next(undefined) >>> 11)) % total < part) best = id;
      }
      return best;
    }
    default: {
      let best = blob.word(endpoints + (next(undefined) % count))![0];
      for (let i = 1; i < Math.min(choices, 33); i++) {
        const other = blob.word(endpoints + (next(undefined) % count))![0];
        if (active(other) < active(best)) best = other;
      }
      return best;
    }
  }
}

const turnAt = (blob: Blob, endpoints: number, turns: number, at: number): Word =>
  blob.word(endpoints + blob.word(turns + (at >> 2))![at & 3]!)!;

const readers = new WeakMap<Uint32Array, Blob>();

/** A million picks are made of one cluster: its reader is made once. */
function readerOf(words: Uint32Array): Blob {
  const known = readers.get(words);
  if (known !== undefined) return known;
  const made = new Blob(words);
  readers.set(words, made);
  return made;
}

function drawList(blob: Blob, lists: number, ticket: number): number {
  const [first] = blob.word(1)!;
  for (let i = 0; i < Math.min(lists, XLB_MAX_LISTS); i++) {
    const [below, at] = blob.word(first + i)!;
    if (ticket < below || i + 1 >= lists) return at;
  }
  return 0;
}

const placed = new WeakMap<HostBlob, Uint32Array>();

/** The place of the virtual host that takes a host: as interpretHost says it, with the places themselves as indexes. */
export function interpretPlace(hosts: HostBlob, authority: string): number | undefined {
  const words = placed.get(hosts) ?? hosts.blob((place) => place + 1);
  placed.set(hosts, words);
  const found = interpretHost(words, authority);
  return found === RULES_NONE || found === RULES_SLOW ? undefined : found - 1;
}
