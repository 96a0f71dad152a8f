import type { PathMatch, Route } from "../model/config.ts";
import type { BlobBuilder } from "../tables/blob.ts";
import {
  CONDITION_IGNORE_CASE,
  CONDITION_INVERT,
  ConditionKind,
  EntryFlag,
  SwitchKind,
  XLB_SKIP_MASK,
  XLB_SKIP_SHIFT,
} from "../tables/layout.gen.ts";
import { lowerCase } from "../tables/text.ts";
import { Trie, writeTrie } from "../tables/trie.ts";
import type { Condition } from "./conditions.ts";
import { toUnionDfa, type UnionDfa } from "./dfa.ts";
import { automaton, cut } from "./pattern.ts";
import { writeTable, writeUnion } from "./table.ts";

/**
 * In what order the hook asks, so that it need not ask one route after the other: docs/decisions/0014. Candidates lie
 * in runs, in the order of the routes. Of a long run all those that ask for one text (the path, a header, a parameter
 * of the query) are behind one switch: a walk over that text, however many they are, gives the run of those that it
 * suits. Every run ends with a link to what is still to be asked, so that a hook needs no memory of where it came from.
 */

/** A route, and what of its conditions is still to be asked. */
export interface Candidate {
  readonly order: number;
  readonly route: Route;
  readonly left: readonly Condition[];
}

/** What runs are built of, of one virtual host. */
export interface Plan {
  /** The roots of the tries of paths; 0: there is none. */
  readonly exact: number;
  readonly fold: number;
  /** The first route in the second. */
  readonly foldLow: number;
  /** The longest row of candidates and switches that are asked one after the other. */
  readonly longest: number;
}

/** So few are asked one after the other rather than by a switch. */
const SHORT = 4;
/** So few are not worth one of their own. */
const FEW = 3;
/** A run of so few words is repeated where others go on with it, rather than linked to. */
const MOST_REPEATED = 3;
const NONE = 0xffffffff;
const LAST = EntryFlag.last;

/** Where a hook goes on, and the first route that it can find from there. */
interface Next {
  readonly at: number;
  readonly low: number;
}

/** A run of its own, and the run above: that of a shorter prefix. */
interface Chain {
  readonly run: readonly Candidate[];
  readonly up: Chain | undefined;
  readonly low: number;
}

/** The candidates of a state of a trie: if the text goes on below it, and if it ends there. */
interface State {
  readonly below: Candidate[];
  readonly exact: Candidate[];
}

const newTrie = () => new Trie<State>(() => ({ below: [], exact: [] }));
const low = (run: readonly Candidate[]) => run[0]?.order ?? NONE;
const byOrder = (a: Candidate, b: Candidate) => a.order - b.order;

/** Without those that are never asked: behind one without conditions, or with those of an earlier one. */
function pruned(run: readonly Candidate[]): readonly Candidate[] {
  const last = run.findIndex(({ left }) => left.length === 0);
  const reached = last < 0 ? run : run.slice(0, last + 1);
  if (reached.length <= SHORT) return reached;
  const seen = new Set<string>();
  return reached.filter(({ left }) => {
    const key = left.map((condition) => condition.key).join("\n");
    return !seen.has(key) && seen.add(key);
  });
}

/** Does a run's last candidate take whatever comes, before anything that `other` could find? */
const ends = (run: readonly Candidate[], other: number) => run.at(-1)?.left.length === 0 && run.at(-1)!.order < other;

function chain(own: readonly Candidate[], up: Chain | undefined): Chain | undefined {
  if (own.length === 0) return up;
  if (up !== undefined && up.up === undefined && own.length + up.run.length <= SHORT) {
    const run = pruned([...own, ...up.run].sort(byOrder));
    return { run, up: undefined, low: low(run) };
  }
  const run = pruned(own);
  const above = up !== undefined && ends(run, up.low) ? undefined : up;
  return { run, up: above, low: Math.min(low(run), above?.low ?? NONE) };
}

/** What a switch may ask for: equal keys can share one. Undefined: a condition that is asked by itself only. */
function switchOf({
  field,
  kind,
  flags,
  skip,
}: Condition): { readonly kind: number; readonly key: string } | undefined {
  if ((flags & CONDITION_INVERT) !== 0) return undefined;
  const key = (of: number, rest: number) => ({ kind: of, key: `${field}/${of}/${rest}/${skip}` });
  switch (kind) {
    case ConditionKind.exact:
    case ConditionKind.prefix:
      return key(SwitchKind.forward, flags);
    case ConditionKind.suffix:
      return key(SwitchKind.backward, flags);
    case ConditionKind.regex:
    case ConditionKind.contains:
      return key(SwitchKind.union, flags & ~CONDITION_IGNORE_CASE);
    default:
      return undefined;
  }
}

/** Candidates behind one switch, each with the condition that it asks. */
interface Group {
  readonly kind: number;
  readonly members: readonly { readonly candidate: Candidate; readonly condition: Condition }[];
}

type Entry = { readonly low: number } & (
  | { readonly candidate: Candidate }
  | { readonly group: Group; readonly union?: UnionDfa }
);

/** The texts that tell most candidates apart come first: behind one switch there may be others. */
function groups(run: readonly Candidate[]): { groups: Group[]; rest: readonly Candidate[] } {
  const found: Group[] = [];
  let rest = run;
  for (;;) {
    const values = new Map<string, Set<string | boolean>>();
    const members = new Map<string, { candidate: Candidate; condition: Condition }[]>();
    const kinds = new Map<string, number>();
    for (const candidate of rest) {
      const own = new Set<string>();
      for (const condition of candidate.left) {
        const of = switchOf(condition);
        if (of === undefined || own.has(of.key)) continue;
        own.add(of.key);
        kinds.set(of.key, of.kind);
        if (!values.has(of.key)) values.set(of.key, new Set());
        values.get(of.key)!.add(condition.value);
        if (!members.has(of.key)) members.set(of.key, []);
        members.get(of.key)!.push({ candidate, condition });
      }
    }
    const worth = [...members].filter(([, all]) => all.length >= FEW);
    if (worth.length === 0) return { groups: found, rest };
    const [key, best] = worth.reduce((a, b) => (values.get(b[0])!.size > values.get(a[0])!.size ? b : a));
    found.push({ kind: kinds.get(key)!, members: best });
    const taken = new Set(best.map(({ candidate }) => candidate));
    rest = rest.filter((candidate) => !taken.has(candidate));
  }
}

const escaped = (text: string) => text.replace(/[^\w\s]/g, "\\$&");

function expression({ kind, flags, value }: Condition): string {
  if (kind === ConditionKind.regex) return value as string;
  return `(?s${(flags & CONDITION_IGNORE_CASE) === 0 ? "" : "i"}).*${escaped(value as string)}.*`;
}

/** An automaton of so many patterns may have so many states, and so much work may be done for it. */
const MOST_STATES = 0x10000;
const statesFor = (patterns: number) => Math.min(MOST_STATES, 256 + 48 * patterns);
const workFor = (patterns: number) => Math.min(4_000_000, 50_000 + 2_000 * patterns);
/** Of a union's table: 16 MiB. */
const MOST_PLACES = 0x400000;
/** The work that goes into unions of one virtual host, some seconds: what is left then is asked one after the other. */
const MOST_WORK = 12_000_000;
/** Lists of all states together, for each candidate. */
const MOST_LISTED = 16;
/** Of one virtual host: 32 MiB. */
export const MOST_WORDS = 0x200000;

const alone = (candidate: Candidate): Entry => ({ low: candidate.order, candidate });

/** Is its table not too large, and do its states not list the same candidates over and over? */
function isCompact({ accepting, states, classCount }: UnionDfa, members: number): boolean {
  const listed = accepting.reduce((sum, patterns) => sum + patterns.length, 0);
  return listed <= MOST_LISTED * members + states && states * (classCount + 1) <= MOST_PLACES;
}

export class Planner {
  readonly #blob: BlobBuilder;
  readonly #action: (route: Route) => number;
  readonly #chains = new Map<Chain, number>();
  /** How many words the runs have that are written, by their first; what is not yet is not among them. */
  readonly #lengths = new Map<number, number>();
  /** The switches that are written and lead by a text as it is: which, and where. */
  readonly #tries = new Map<number, { readonly field: number; readonly trie: Trie<State> }>();
  readonly #values = new Map<string, number>();
  readonly #tables = new Map<string, number>();
  readonly #conditions = new Map<string, number>();
  #longest = 0;
  /** Of MOST_WORK. */
  #worked = 0;
  #tooLarge = false;

  /** `action` writes what a route does, and gives its word. */
  constructor(blob: BlobBuilder, action: (route: Route) => number) {
    this.#blob = blob;
    this.#action = action;
  }

  /**
   * Writes everything. Undefined: it would be larger than MOST_WORDS.
   * `guards` come before all others in the order of routes, whatever the path. They have a run of their own at the end
   * of each way, and are in no switch: an expression like theirs would not combine with those of ten thousand routes.
   */
  write(candidates: readonly Candidate[], guards: readonly Candidate[] = []): Plan | undefined {
    const [exact, fold] = [newTrie(), newTrie()];
    let foldLow = NONE;
    for (const candidate of candidates) {
      const { path } = candidate.route;
      const folds = path.kind !== "regex" && !path.caseSensitive;
      if (folds) foldLow = Math.min(foldLow, candidate.order);
      addPath(folds ? fold : exact, path, candidate);
    }
    const plan = {
      exact: this.#writeTrie(exact, undefined, { above: chain(guards, undefined) }),
      fold: foldLow === NONE ? 0 : this.#writeTrie(fold, undefined),
    };
    return this.#tooLarge ? undefined : { ...plan, foldLow, longest: this.#longest };
  }

  /** `above`: what is asked behind all runs of the trie. */
  #writeTrie(
    trie: Trie<State>,
    next: Next | undefined,
    form: { readonly above?: Chain | undefined; readonly backward?: boolean } = {},
  ): number {
    return writeTrie<State, Chain | undefined>(this.#blob, trie, {
      ...form,
      isEmpty: ({ below, exact }) => below.length === 0 && exact.length === 0,
      write: (state, above) => {
        const own = chain(state.below, above);
        const goesOn = this.#writeChain(own, next);
        return { goesOn, ends: this.#writeChain(chain(state.exact, own), next), own };
      },
    });
  }

  #writeChain(of: Chain | undefined, next: Next | undefined): number {
    if (of === undefined) return 0;
    let first = this.#chains.get(of);
    if (first === undefined) {
      const { run, up } = of;
      const above = up && { at: this.#writeChain(up, next), low: Math.min(up.low, next?.low ?? NONE) };
      first = this.#writeRun(run, above ?? next);
      this.#chains.set(of, first);
    }
    return first;
  }

  #writeRun(run: readonly Candidate[], after: Next | undefined): number {
    this.#tooLarge ||= this.#blob.length > MOST_WORDS;
    if (run.length === 0 || this.#tooLarge) return 0;
    const next = after === undefined || ends(run, after.low) ? undefined : after;
    const entries = this.#arrange(run);
    this.#longest = Math.max(this.#longest, entries.length);
    this.#tooLarge ||= entries.length > XLB_SKIP_MASK;
    const repeated = next === undefined ? 0 : (this.#lengths.get(next.at) ?? NONE);
    const tail = repeated <= MOST_REPEATED ? repeated : 1;
    const first = this.#blob.reserve(entries.length + tail);
    entries.forEach((entry, i) => {
      const following = entries[i + 1];
      const rest =
        following === undefined ? next : { at: first + i + 1, low: Math.min(following.low, next?.low ?? NONE) };
      /* Where a better one may be behind the link: how far it is. */
      const skip = next !== undefined && entry.low > next.low ? (entries.length - i) << XLB_SKIP_SHIFT : 0;
      const d = skip | (rest === undefined ? LAST : 0);
      if ("candidate" in entry)
        this.#writeCandidate(
          first + i,
          entry.candidate,
          this.#isFinal(entry.candidate, next) ? d | EntryFlag.final : d,
        );
      else this.#writeSwitch(first + i, entry.low, entry.group, entry.union, rest, d);
    });
    const end = first + entries.length;
    if (next !== undefined && repeated <= MOST_REPEATED) this.#blob.copy(next.at, end, repeated);
    else if (next !== undefined) this.#blob.put(end, next.at, next.low, 0, EntryFlag.link);
    this.#lengths.set(first, entries.length + tail);
    return first;
  }

  /** A run's entries, by the first route that each can find. */
  #arrange(run: readonly Candidate[]): Entry[] {
    if (run.length <= SHORT) return run.map(alone);
    const { groups: found, rest } = groups(run);
    const entries = [...rest.map(alone), ...found.flatMap((group) => this.#combine(group))];
    return entries.sort((a, b) => a.low - b.low);
  }

  /** A switch for the group, or several where its patterns do not combine, down to none. */
  #combine(group: Group): Entry[] {
    const { kind, members } = group;
    const least = members[0]!.candidate.order;
    if (kind !== SwitchKind.union) return [{ low: least, group }];
    if (members.length < FEW || this.#worked > MOST_WORK) return members.map(({ candidate }) => alone(candidate));
    const patterns = patternsOf(members);
    const union = toUnionDfa(patterns, statesFor(patterns.length), workFor(patterns.length), "ascii");
    this.#worked += union?.next.length ?? workFor(patterns.length);
    if (union !== undefined && isCompact(union, members.length)) return [{ low: least, group, union }];
    const half = members.length >> 1;
    return [members.slice(0, half), members.slice(half)].flatMap((part) => this.#combine({ kind, members: part }));
  }

  /** Do its conditions say already that what goes on behind its run leads nowhere? So no text is asked twice. */
  #isFinal({ left }: Candidate, next: Next | undefined): boolean {
    const length = next === undefined ? undefined : this.#lengths.get(next.at);
    if (next === undefined || length === undefined) return false;
    for (let at = next.at; at < next.at + length; at++) {
      const known = this.#tries.get(at);
      const condition = left.find(
        ({ field, kind, flags, skip }) =>
          field === known?.field && kind === ConditionKind.exact && flags === 0 && skip === 0,
      );
      if (known === undefined || condition === undefined || leads(known.trie, condition.value as string)) return false;
    }
    return true;
  }

  #writeCandidate(at: number, { order, route, left }: Candidate, d: number): void {
    this.#blob.put(at, this.#action(route), order, this.#writeConditions(left), (d | left.length) >>> 0);
  }

  #writeSwitch(
    at: number,
    least: number,
    { kind, members }: Group,
    union: UnionDfa | undefined,
    next: Next | undefined,
    d: number,
  ): void {
    const { field, flags, skip } = members[0]!.condition;
    const c = (field | (kind << 5) | (flags << 8) | (skip << 16)) >>> 0;
    const put = (root: number) => this.#blob.put(at, root, least, c, (d | EntryFlag.switch) >>> 0);
    if (union !== undefined) {
      put(this.#writeUnion(members, union, next));
      return;
    }
    const trie = newTrie();
    for (const { candidate, condition } of members) {
      const bytes = Buffer.from(condition.value as string, "latin1");
      const { value } = trie.at(kind === SwitchKind.backward ? bytes.reverse() : bytes);
      const left = candidate.left.filter((each) => each !== condition);
      (condition.kind === ConditionKind.exact ? value.exact : value.below).push({ ...candidate, left });
    }
    if (kind === SwitchKind.forward && flags === 0 && skip === 0) this.#tries.set(at, { field, trie });
    put(this.#writeTrie(trie, next, { backward: kind === SwitchKind.backward }));
  }

  #writeUnion(members: Group["members"], union: UnionDfa, next: Next | undefined): number {
    const byPattern = candidatesOf(members);
    const lists = new Map<readonly number[], number>();
    const values = union.accepting.map((patterns) => {
      let first = lists.get(patterns);
      if (first === undefined) {
        const all = patterns.flatMap((pattern) => byPattern[pattern]!).sort(byOrder);
        first = this.#writeRun(pruned(all), next);
        lists.set(patterns, first);
      }
      return first;
    });
    return writeUnion(this.#blob, union, values);
  }

  #writeConditions(left: readonly Condition[]): number {
    if (left.length === 0) return 0;
    const key = left.map((condition) => condition.key).join("\n");
    let first = this.#conditions.get(key);
    if (first !== undefined) return first;
    const rows = left.map(({ field, kind, flags, skip, value }): readonly [number, number, number, number] => {
      const a = field | (kind << 8) | (flags << 16);
      if (typeof value === "boolean") return [a, 0, value ? 1 : 0, 0];
      if (kind === ConditionKind.regex) return [a, this.#table(value), skip, 0];
      return [a, this.#text(value), value.length, 0];
    });
    first = this.#blob.reserve(rows.length);
    for (const [i, row] of rows.entries()) this.#blob.put(first + i, ...row);
    this.#conditions.set(key, first);
    return first;
  }

  #text(value: string): number {
    const at = this.#values.get(value) ?? this.#blob.bytes(Buffer.from(value, "latin1"));
    this.#values.set(value, at);
    return at;
  }

  #table(pattern: string): number {
    const head = this.#tables.get(pattern) ?? writeTable(this.#blob, automaton(pattern)!);
    this.#tables.set(pattern, head);
    return head;
  }
}

/** Is there a candidate for a text, whatever else it asks? */
function leads(trie: Trie<State>, text: string): boolean {
  let { root: node } = trie;
  for (const byte of Buffer.from(text, "latin1")) {
    if (node.value.below.length > 0) return true;
    const child = node.children.get(byte);
    if (child === undefined) return false;
    node = child;
  }
  return node.value.below.length > 0 || node.value.exact.length > 0;
}

function addPath(trie: Trie<State>, path: PathMatch, candidate: Candidate): void {
  if (path.kind === "regex") {
    const { literal, rest } = cut(path.pattern);
    const { value } = trie.at(Buffer.from(literal, "latin1"));
    (rest === "" ? value.exact : value.below).push(candidate);
    return;
  }
  const value = path.caseSensitive ? path.value : lowerCase(path.value);
  const bytes = Buffer.from(value);
  switch (path.kind) {
    case "path":
      trie.at(bytes).value.exact.push(candidate);
      return;
    case "prefix":
      trie.at(bytes).value.below.push(candidate);
      return;
    case "pathSeparatedPrefix":
      trie.at(bytes).value.exact.push(candidate);
      trie.at([...bytes, 0x2f]).value.below.push(candidate);
      return;
    default:
      path satisfies never;
  }
}

const patternsOf = (members: Group["members"]) => [...new Set(members.map(({ condition }) => expression(condition)))];

/** By pattern, in the order of {@link patternsOf}: who asks it, with what is left to ask then. */
function candidatesOf(members: Group["members"]): Candidate[][] {
  const byPattern = new Map<string, Candidate[]>();
  for (const { candidate, condition } of members) {
    const pattern = expression(condition);
    if (!byPattern.has(pattern)) byPattern.set(pattern, []);
    byPattern.get(pattern)!.push({ ...candidate, left: candidate.left.filter((each) => each !== condition) });
  }
  return [...byPattern.values()];
}
