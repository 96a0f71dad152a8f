import {
  assertable,
  compileProgram,
  LAST_OF_ASCII,
  Neighbour,
  neighbour,
  type Program,
  type Step,
} from "../tables/re2.ts";

/**
 * Regular expressions as deterministic automata over bytes: one look into a table for each byte of a text, however many
 * patterns went into it. They tell what matches as a whole.
 */

export interface Automaton {
  /** The class of each byte. */
  readonly classes: Uint8Array;
  readonly classCount: number;
  readonly states: number;
  /** `next[state * classCount + class]`. State 0 is dead: it accepts nothing, and nothing leads out of it. */
  readonly next: Uint16Array;
  readonly start: number;
}

export interface Dfa extends Automaton {
  /** By state: 1 if a text may end there. */
  readonly accepts: Uint8Array;
}

/** Of several patterns at once. */
export interface UnionDfa extends Automaton {
  /** By state: which of the patterns match a text that ends there, ascending. Equal lists are the same list. */
  readonly accepting: readonly (readonly number[])[];
}

const DEAD = 0;
/** How many kinds of neighbours there are. */
const KINDS = Object.keys(Neighbour).length;
/** States are numbers of 16 bits. */
const MOST_STATES = 0x10000;
/** Before it is minimised an automaton may be so many times larger. */
const SLACK = 4;
/** Bounds time and memory where patterns explode: some tenths of a second. */
const MAX_WORK = 1_000_000;
/** Places of a table that is made the smallest there is: of a larger one that takes longer than to make it. */
const MOST_MINIMISED = 0x20000;

/** Of which characters texts may be: all, or those of ASCII, where an automaton is smaller that knows no others. */
export type Alphabet = "any" | "ascii";

/** A pattern's automaton; undefined if it needs more states, or too long to make. Throws as compileProgram does. */
export function toDfa(pattern: string, maxStates: number, alphabet: Alphabet = "any"): Dfa | undefined {
  const union = toUnionDfa([pattern], maxStates, MAX_WORK, alphabet);
  if (union === undefined) return undefined;
  const { accepting, ...automaton } = union;
  return { ...automaton, accepts: Uint8Array.from(accepting, (patterns) => patterns.length) };
}

/** Programs that {@link isPlainlySmall} made: what asks all patterns together asks for each once more, soon. */
const programs = new Map<string, Program>();
const MOST_PROGRAMS = 16_384;

function programOf(pattern: string, alphabet: Alphabet): Program {
  if (alphabet === "any") return compileProgram(pattern);
  const known = programs.get(pattern);
  programs.delete(pattern);
  return known ?? compileProgram(pattern, LAST_OF_ASCII);
}

/**
 * Is it plain that a pattern's automaton over ASCII has so few states? It says no where only the smallest one would
 * tell.
 */
export function isPlainlySmall(pattern: string, maxStates: number): boolean {
  const program = programOf(pattern, "ascii");
  if (programs.size >= MOST_PROGRAMS) programs.clear();
  programs.set(pattern, program);
  if (isDeterministic(program) && program.steps.length < maxStates) return true;
  return new Subsets([program]).automaton(maxStates, MAX_WORK) !== undefined;
}

/**
 * Does each byte leave a text at one step at most? Then there is no more than a state for each step, and one that is
 * dead. Of ten thousand patterns that is told much sooner than their automata are made.
 */
function isDeterministic({ steps, start }: Program): boolean {
  const seen = new Uint8Array(steps.length);
  const begins = [start, ...steps.flatMap((step) => (step.op === "byte" ? step.next : []))];
  return begins.every((begin) => {
    const { op } = steps[begin]!;
    if (op === "byte" || op === "match" || seen[begin] === 1) return true;
    seen[begin] = 1;
    return hasOneWayOut(steps, begin);
  });
}

/** Of what can be reached from a step without a byte. */
function hasOneWayOut(steps: readonly Step[], begin: number): boolean {
  const met = new Set<number>();
  const taken: { readonly low: number; readonly high: number }[] = [];
  const stack = [begin];
  for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
    if (met.has(at)) continue;
    met.add(at);
    const step = steps[at]!;
    switch (step.op) {
      case "fork":
        stack.push(step.other, step.next);
        break;
      case "capture":
        stack.push(step.next);
        break;
      case "assert":
        if (step.what !== 0) return false;
        stack.push(step.next);
        break;
      case "byte":
        if (taken.some(({ low, high }) => low <= step.high && step.low <= high)) return false;
        taken.push(step);
        break;
      case "match":
      case "fail":
        break;
      default:
        step satisfies never;
    }
  }
  return true;
}

/** One automaton for several patterns; undefined and errors as with `toDfa`. `maxWork` is in steps followed. */
export function toUnionDfa(
  patterns: readonly string[],
  maxStates: number,
  maxWork: number = MAX_WORK,
  alphabet: Alphabet = "any",
): UnionDfa | undefined {
  const limit = Math.min(maxStates, MOST_STATES);
  const all = patterns.map((pattern) => programOf(pattern, alphabet));
  const large = new Subsets(all).automaton(limit * SLACK, maxWork);
  if (large === undefined) return undefined;
  const states = large.accepting.length;
  if (states <= limit && large.next.length > MOST_MINIMISED) return { ...withFewerClasses(large), states };
  const small = minimise(large);
  return small.states > limit ? undefined : small;
}

/** The walk that the kernel does. */
export function runDfa(dfa: Dfa, bytes: Uint8Array): boolean {
  return dfa.accepts[walk(dfa, bytes)] === 1;
}

/** The state in which a text ends. */
export function walk({ classes, classCount, next, start }: Automaton, bytes: Uint8Array): number {
  let state = start;
  for (const byte of bytes) state = next[state * classCount + classes[byte]!]!;
  return state;
}

/** An automaton under way: state numbers may still need more than 16 bits. */
interface Large {
  readonly classes: Uint8Array;
  readonly classCount: number;
  readonly next: Uint32Array;
  readonly start: number;
  readonly accepting: readonly (readonly number[])[];
}

/** The steps where a text may have led to, by bytes and whatever takes no byte but assertions. */
interface Subset {
  readonly steps: readonly number[];
  /** What was before; OTHER where no step asks for it. */
  readonly before: Neighbour;
  /** Whether a step asks for it, or for what follows. */
  readonly asks: boolean;
}

/** The steps of several programs, in a row: of tens of thousands objects would be most of the work. */
class Steps {
  readonly count: number;
  readonly starts: readonly number[];
  readonly ops: Uint8Array;
  /** Of a step that takes a byte. */
  readonly lows: Uint8Array;
  readonly highs: Uint8Array;
  readonly nexts: Uint32Array;
  /** The other way of a fork, what an assertion asks, which program a match ends. */
  readonly others: Uint32Array;

  constructor(programs: readonly Program[]) {
    this.count = programs.reduce((sum, { steps }) => sum + steps.length, 0);
    this.ops = new Uint8Array(this.count);
    this.lows = new Uint8Array(this.count);
    this.highs = new Uint8Array(this.count);
    this.nexts = new Uint32Array(this.count);
    this.others = new Uint32Array(this.count);
    let offset = 0;
    this.starts = programs.map(({ steps, start }, index) => {
      const first = offset;
      steps.forEach((step, i) => {
        this.#put(first + i, step, first, index);
      });
      offset += steps.length;
      return first + start;
    });
  }

  #put(at: number, step: Step, first: number, index: number): void {
    this.ops[at] = Op[step.op];
    if ("next" in step) this.nexts[at] = first + step.next;
    if (step.op === "byte") {
      this.lows[at] = step.low;
      this.highs[at] = step.high;
    } else if (step.op === "fork") this.others[at] = first + step.other;
    else if (step.op === "assert") this.others[at] = step.what;
    else if (step.op === "match") this.others[at] = index;
  }
}

const Op = { byte: 0, match: 1, fork: 2, capture: 3, assert: 4, fail: 5 } as const;
/** No step. */
const NO_STEP = 0xffffffff;

/** The subset construction over the programs of all patterns. */
class Subsets {
  readonly #steps: Steps;
  readonly #classes = new Uint8Array(256);
  /** Of each class; all OTHER where no pattern asserts anything. */
  readonly #kinds: Neighbour[] = [];
  readonly #subsets: Subset[] = [{ steps: [], before: Neighbour.OTHER, asks: false }];
  readonly #states = new Map<string, number>([["", DEAD]]);
  /** States by where a byte led to, which saves to follow it from there again. */
  readonly #byTargets = new Map<string, number>();
  /** The same where that was one step: no text is made of it then. DEAD: not followed yet, or dead. */
  readonly #bySingle: Uint32Array;
  readonly #lists = new Map<string, readonly number[]>();
  /** By step: in which turn of #reach it was met. */
  readonly #met: Uint32Array;
  #turn = 0;
  #work = 0;
  /** Of the state under way, by class: where its bytes lead to, if that is one step, and if they are several. */
  readonly #targets: Uint32Array;
  readonly #several = new Map<number, number[]>();

  constructor(programs: readonly Program[]) {
    this.#steps = new Steps(programs);
    this.#met = new Uint32Array(this.#steps.count);
    this.#bySingle = new Uint32Array(this.#steps.count * KINDS);
    this.#classify();
    this.#targets = new Uint32Array(this.#kinds.length).fill(NO_STEP);
  }

  /** Bytes that no step tells apart are one class. Here classes are ranges, and ascend. */
  #classify(): void {
    const { count, ops, lows, highs, others } = this.#steps;
    const begins = new Uint8Array(257);
    let asserts = false;
    for (let at = 0; at < count; at++) {
      if (ops[at] === Op.byte) {
        begins[lows[at]!] = 1;
        begins[highs[at]! + 1] = 1;
      } else if (ops[at] === Op.assert && others[at] !== 0) asserts = true;
    }
    for (let byte = 0; byte < 256; byte++) {
      const kind = asserts ? neighbour(byte) : Neighbour.OTHER;
      if (byte === 0 || begins[byte] === 1 || kind !== this.#kinds.at(-1)) this.#kinds.push(kind);
      this.#classes[byte] = this.#kinds.length - 1;
    }
  }

  automaton(maxStates: number, maxWork: number): Large | undefined {
    const classCount = this.#kinds.length;
    let next = new Uint32Array(classCount * 64);
    const start = this.#state(this.#steps.starts, Neighbour.EDGE);
    for (let state = 0; state < this.#subsets.length; state++) {
      if (this.#subsets.length > maxStates) return undefined;
      const row = state * classCount;
      if (row === next.length) {
        const grown = new Uint32Array(next.length * 2);
        grown.set(next);
        next = grown;
      }
      this.#follow(this.#subsets[state]!);
      for (let c = 0; c < classCount; c++) {
        const target = this.#targets[c]!;
        if (target === NO_STEP) continue;
        const several = this.#several.size === 0 ? undefined : this.#several.get(c);
        next[row + c] = several ? this.#state(several, this.#kinds[c]!) : this.#stateAt(target, this.#kinds[c]!);
      }
      this.#work += classCount;
      if (this.#work > maxWork) return undefined;
    }
    const accepting = this.#subsets.map((subset) => this.#accepting(subset));
    return { classes: this.#classes, classCount, next: next.slice(0, accepting.length * classCount), start, accepting };
  }

  /** The state of a text that led to this step, and ends in such a byte. */
  #stateAt(step: number, before: Neighbour): number {
    const at = step * KINDS + before;
    if (this.#bySingle[at] === DEAD) this.#bySingle[at] = this.#stateOf(this.#reach([step], 0), before);
    return this.#bySingle[at]!;
  }

  /** The same of one that led to these. */
  #state(steps: readonly number[], before: Neighbour): number {
    const key = `${before}:${steps}`;
    const state = this.#byTargets.get(key) ?? this.#stateOf(this.#reach(steps, 0), before);
    this.#byTargets.set(key, state);
    return state;
  }

  #stateOf(reached: readonly number[], before: Neighbour): number {
    const asks = reached.some((at) => this.#steps.ops[at] === Op.assert);
    const key = asks ? `${before}:${reached}` : reached.join();
    let state = this.#states.get(key);
    if (state === undefined) {
      state = this.#subsets.push({ steps: reached, before: asks ? before : Neighbour.OTHER, asks }) - 1;
      this.#states.set(key, state);
    }
    return state;
  }

  /** Notes by class where its bytes lead to. */
  #follow({ steps, before, asks }: Subset): void {
    this.#targets.fill(NO_STEP);
    this.#several.clear();
    if (!asks) this.#lead(steps, undefined);
    else for (const kind of new Set(this.#kinds)) this.#lead(this.#reach(steps, assertable(before, kind)), kind);
  }

  /** Of these steps and the classes of a kind, or all. */
  #lead(steps: readonly number[], kind: Neighbour | undefined): void {
    const { ops, lows, highs, nexts } = this.#steps;
    for (const at of steps) {
      if (ops[at] !== Op.byte) continue;
      this.#work++;
      const next = nexts[at]!;
      for (let c = this.#classes[lows[at]!]!; c <= this.#classes[highs[at]!]!; c++) {
        if (kind !== undefined && this.#kinds[c] !== kind) continue;
        const known = this.#targets[c]!;
        if (known === NO_STEP) this.#targets[c] = next;
        else if (this.#several.get(c)?.push(next) === undefined) this.#several.set(c, [known, next]);
      }
    }
  }

  /** The patterns that match a text that ends with this subset. */
  #accepting({ steps, before, asks }: Subset): readonly number[] {
    const { ops, others } = this.#steps;
    const reached = asks ? this.#reach(steps, assertable(before, Neighbour.EDGE)) : steps;
    const ends = reached.filter((at) => ops[at] === Op.match).map((at) => others[at]!);
    return intern(this.#lists, ends.length < 2 ? ends : [...new Set(ends)].sort((a, b) => a - b));
  }

  /**
   * What can be reached without a byte, ascending: steps that take one, ends, and assertions of which it is not known
   * whether they hold. `held` are those that do; 0: nothing is known.
   */
  #reach(from: readonly number[], held: number): readonly number[] {
    const { ops, nexts, others } = this.#steps;
    if (from.length === 1 && ops[from[0]!]! <= Op.match) {
      this.#work++;
      return from;
    }
    const turn = ++this.#turn;
    const reached: number[] = [];
    const stack = [...from];
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      if (this.#met[at] === turn) continue;
      this.#met[at] = turn;
      this.#work++;
      switch (ops[at]) {
        case Op.fork:
          stack.push(others[at]!, nexts[at]!);
          break;
        case Op.capture:
          stack.push(nexts[at]!);
          break;
        case Op.assert:
          if ((others[at]! & ~held) === 0) stack.push(nexts[at]!);
          else if (held === 0) reached.push(at);
          break;
        case Op.byte:
        case Op.match:
          reached.push(at);
          break;
        default:
          break;
      }
    }
    return reached.sort((a, b) => a - b);
  }
}

/** The one list that is equal to this one. */
function intern(lists: Map<string, readonly number[]>, list: readonly number[]): readonly number[] {
  const key = list.join();
  const known = lists.get(key) ?? list;
  lists.set(key, known);
  return known;
}

/** The smallest automaton that does the same: states in the order of a walk in breadth, classes as few as can be. */
function minimise(large: Large): UnionDfa {
  const { next, classCount: width, accepting } = large;
  const blocks = equalStates(large);
  /* Of each block one state stands for all. */
  const order: number[] = [DEAD];
  const numbers = new Map<number, number>([[blocks[DEAD]!, DEAD]]);
  const number = (state: number): number => {
    let known = numbers.get(blocks[state]!);
    if (known === undefined) {
      known = order.push(state) - 1;
      numbers.set(blocks[state]!, known);
    }
    return known;
  };
  const start = number(large.start);
  const rows: number[] = [];
  for (let i = 0; i < order.length; i++) {
    const first = order[i]! * width;
    for (let c = 0; c < width; c++) rows.push(number(next[first + c]!));
  }
  const fewer = withFewerClasses({ ...large, next: Uint32Array.from(rows) });
  return { ...fewer, states: order.length, start, accepting: order.map((state) => accepting[state]!) };
}

/** Classes that lead to the same states from everywhere are one. */
function withFewerClasses({ next, classes, classCount: width, ...large }: Large) {
  const sums = new Uint32Array(width);
  for (let first = 0; first < next.length; first += width) {
    for (let c = 0; c < width; c++) sums[c] = Math.imul(sums[c]!, 0x9e3779b1) + next[first + c]!;
  }
  const isSame = (a: number, b: number): boolean => {
    if (sums[a] !== sums[b]) return false;
    for (let first = 0; first < next.length; first += width) if (next[first + a] !== next[first + b]) return false;
    return true;
  };
  const kept: number[] = [];
  const classOf = Array.from({ length: width }, (_, c) => {
    const same = kept.findIndex((other) => isSame(other, c));
    return same < 0 ? kept.push(c) - 1 : same;
  });
  const rows = new Uint16Array((next.length / width) * kept.length);
  for (let first = 0, to = 0; first < next.length; first += width) {
    for (const c of kept) rows[to++] = next[first + c]!;
  }
  return { ...large, classes: classes.map((c) => classOf[c]!), classCount: kept.length, next: rows };
}

/** For each state the number of its block: states of a block accept the same texts. Hopcroft's algorithm. */
function equalStates({ next, classCount, accepting }: Large): Uint32Array {
  const count = accepting.length;
  const partition = new Partition(accepting);
  const before = predecessors(next, count, classCount);
  /* Pairs of a block and a class, by which other blocks may have to be split. */
  const waiting: number[] = [];
  const waits = new Uint8Array(count * classCount);
  const wait = (block: number, c: number): void => {
    waits[block * classCount + c] = 1;
    waiting.push(block * classCount + c);
  };
  for (let block = 0; block < partition.count; block++) {
    for (let c = 0; c < classCount; c++) wait(block, c);
  }
  for (let pair = waiting.pop(); pair !== undefined; pair = waiting.pop()) {
    waits[pair] = 0;
    const c = pair % classCount;
    const leadThere = partition.statesOf((pair - c) / classCount).flatMap((state) => before(state, c));
    for (const [block, split] of partition.split(leadThere)) {
      const smaller = partition.size(block) < partition.size(split) ? block : split;
      for (let d = 0; d < classCount; d++) wait(waits[block * classCount + d] === 1 ? split : smaller, d);
    }
  }
  return partition.blockOf;
}

/** The states from which a class leads to a state. */
function predecessors(next: Uint32Array, count: number, classCount: number) {
  /* Those of a pair of class and state lie together; `ends` says where. */
  const ends = new Uint32Array(count * classCount + 1);
  const pairOf = (i: number) => (i % classCount) * count + next[i]!;
  for (let i = 0; i < next.length; i++) ends[pairOf(i) + 1]!++;
  for (let pair = 0; pair < count * classCount; pair++) ends[pair + 1]! += ends[pair]!;
  const begins = ends.slice();
  const states = new Uint32Array(next.length);
  for (let i = 0; i < next.length; i++) states[begins[pairOf(i)]!++] = Math.floor(i / classCount);
  return (state: number, c: number): number[] => {
    const pair = c * count + state;
    return [...states.subarray(ends[pair], ends[pair + 1])];
  };
}

/** States in blocks, which are split again and again; at first by the patterns that they accept. */
class Partition {
  readonly blockOf: Uint32Array;
  count = 0;
  /** The states, those of a block together. */
  readonly #states: Uint32Array;
  /** By state: where it is in #states. */
  readonly #places: Uint32Array;
  /** By block: where its states begin and end. */
  readonly #begins: number[] = [];
  readonly #ends: number[] = [];

  constructor(accepting: readonly (readonly number[])[]) {
    const byList = new Map<readonly number[], number[]>();
    accepting.forEach((list, state) => {
      const states = byList.get(list);
      if (states === undefined) byList.set(list, [state]);
      else states.push(state);
    });
    this.#states = new Uint32Array(accepting.length);
    this.#places = new Uint32Array(accepting.length);
    this.blockOf = new Uint32Array(accepting.length);
    let place = 0;
    for (const states of byList.values()) {
      this.#begins.push(place);
      for (const state of states) {
        this.blockOf[state] = this.count;
        this.#places[state] = place;
        this.#states[place++] = state;
      }
      this.#ends.push(place);
      this.count++;
    }
  }

  size(block: number): number {
    return this.#ends[block]! - this.#begins[block]!;
  }

  statesOf(block: number): number[] {
    return [...this.#states.subarray(this.#begins[block], this.#ends[block])];
  }

  /** Parts the given states from the others of their blocks; says which block lost states to which new one. */
  split(states: readonly number[]): (readonly [block: number, split: number])[] {
    /* By block: behind those of its states that are to leave it, and lie at its begin. */
    const leaving = new Map<number, number>();
    for (const state of states) {
      const block = this.blockOf[state]!;
      const place = leaving.get(block) ?? this.#begins[block]!;
      this.#swap(state, place);
      leaving.set(block, place + 1);
    }
    const done: (readonly [number, number])[] = [];
    for (const [block, end] of leaving) {
      if (end === this.#ends[block]) continue;
      const split = this.count++;
      this.#begins.push(this.#begins[block]!);
      this.#ends.push(end);
      this.#begins[block] = end;
      for (let i = this.#begins[split]!; i < end; i++) this.blockOf[this.#states[i]!] = split;
      done.push([block, split]);
    }
    return done;
  }

  #swap(state: number, place: number): void {
    const other = this.#states[place]!;
    const from = this.#places[state]!;
    this.#states[from] = other;
    this.#places[other] = from;
    this.#states[place] = state;
    this.#places[state] = place;
  }
}
