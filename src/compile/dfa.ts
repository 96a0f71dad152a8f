import { assertable, compileProgram, Neighbour, neighbour, type Program, type Step } from "../tables/re2.ts";

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

/** A pattern's automaton; undefined if it needs more states, or too long to make. Throws as compileProgram does. */
export function toDfa(pattern: string, maxStates: number): Dfa | undefined {
  const union = toUnionDfa([pattern], maxStates);
  if (union === undefined) return undefined;
  const { accepting, ...automaton } = union;
  return { ...automaton, accepts: Uint8Array.from(accepting, (patterns) => patterns.length) };
}

/** Programs that {@link isPlainlySmall} made: what asks all patterns together asks for each once more, soon. */
const programs = new Map<string, Program>();
const MOST_PROGRAMS = 16_384;

function programOf(pattern: string): Program {
  const known = programs.get(pattern);
  programs.delete(pattern);
  return known ?? compileProgram(pattern);
}

/** Is it plain that a pattern's automaton has so few states? It says no where only the smallest one would tell. */
export function isPlainlySmall(pattern: string, maxStates: number): boolean {
  const program = programOf(pattern);
  if (programs.size >= MOST_PROGRAMS) programs.clear();
  programs.set(pattern, program);
  return new Subsets([program]).automaton(maxStates, MAX_WORK) !== undefined;
}

/** One automaton for several patterns; undefined and errors as with `toDfa`. `maxWork` is in steps followed. */
export function toUnionDfa(
  patterns: readonly string[],
  maxStates: number,
  maxWork: number = MAX_WORK,
): UnionDfa | undefined {
  const limit = Math.min(maxStates, MOST_STATES);
  const large = new Subsets(patterns.map(programOf)).automaton(limit * SLACK, maxWork);
  if (large === undefined) return undefined;
  const states = large.accepting.length;
  if (states <= limit && large.next.length > MOST_MINIMISED)
    return { ...large, states, next: Uint16Array.from(large.next) };
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
  readonly next: readonly number[];
  readonly start: number;
  readonly accepting: readonly (readonly number[])[];
}

/** The steps where a text may have led to, by bytes and whatever takes no byte but assertions. */
interface Subset {
  readonly steps: readonly number[];
  /** What was before; OTHER where no step asks for it. */
  readonly before: Neighbour;
}

/** The subset construction over the programs of all patterns. */
class Subsets {
  readonly #steps: Step[] = [];
  /** By the index of a `match` step: which pattern it ends. */
  readonly #ends = new Map<number, number>();
  readonly #starts: number[] = [];
  readonly #classes = new Uint8Array(256);
  /** Of each class; all OTHER where no pattern asserts anything. */
  readonly #kinds: Neighbour[] = [];
  readonly #subsets: Subset[] = [{ steps: [], before: Neighbour.OTHER }];
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

  constructor(programs: readonly Program[]) {
    programs.forEach(({ steps, start }, index) => {
      const offset = this.#steps.length;
      this.#starts.push(offset + start);
      for (const step of steps) {
        if (step.op === "match") this.#ends.set(this.#steps.length, index);
        this.#steps.push(moved(step, offset));
      }
    });
    this.#met = new Uint32Array(this.#steps.length);
    this.#bySingle = new Uint32Array(this.#steps.length * KINDS);
    this.#classify();
  }

  /** Bytes that no step tells apart are one class. Here classes are ranges, and ascend. */
  #classify(): void {
    const asserts = this.#steps.some((step) => step.op === "assert" && step.what !== 0);
    const kindOf = (byte: number) => (asserts ? neighbour(byte) : Neighbour.OTHER);
    const begins = new Set<number>([0]);
    for (const step of this.#steps) {
      if (step.op === "byte") begins.add(step.low).add(step.high + 1);
    }
    for (let byte = 0; byte < 256; byte++) {
      if (begins.has(byte) || kindOf(byte) !== this.#kinds.at(-1)) this.#kinds.push(kindOf(byte));
      this.#classes[byte] = this.#kinds.length - 1;
    }
  }

  automaton(maxStates: number, maxWork: number): Large | undefined {
    const classCount = this.#kinds.length;
    const next: number[] = [];
    const start = this.#state(this.#starts, Neighbour.EDGE);
    for (let state = 0; state < this.#subsets.length; state++) {
      if (this.#subsets.length > maxStates) return undefined;
      for (const [c, steps] of this.#targets(this.#subsets[state]!).entries()) {
        next.push(this.#state(steps, this.#kinds[c]!));
        if (++this.#work > maxWork) return undefined;
      }
    }
    const accepting = this.#subsets.map((subset) => this.#accepting(subset));
    return { classes: this.#classes, classCount, next, start, accepting };
  }

  /** The state of a text that led to these steps, and ends in such a byte. */
  #state(steps: readonly number[], before: Neighbour): number {
    if (steps.length === 0) return DEAD;
    if (steps.length === 1) {
      const at = steps[0]! * KINDS + before;
      if (this.#bySingle[at] === DEAD) this.#bySingle[at] = this.#stateOf(this.#reach(steps, 0), before);
      return this.#bySingle[at]!;
    }
    const key = `${before}:${steps}`;
    const state = this.#byTargets.get(key) ?? this.#stateOf(this.#reach(steps, 0), before);
    this.#byTargets.set(key, state);
    return state;
  }

  #stateOf(reached: readonly number[], before: Neighbour): number {
    const asks = reached.some((at) => this.#steps[at]!.op === "assert");
    const subset: Subset = { steps: reached, before: asks ? before : Neighbour.OTHER };
    const key = asks ? `${before}:${reached}` : `${reached}`;
    let state = this.#states.get(key);
    if (state === undefined) {
      state = this.#subsets.push(subset) - 1;
      this.#states.set(key, state);
    }
    return state;
  }

  /** By class: where its bytes lead to. */
  #targets({ steps, before }: Subset): number[][] {
    const targets: number[][] = this.#kinds.map(() => []);
    for (const kind of new Set(this.#kinds)) {
      for (const at of this.#reach(steps, assertable(before, kind))) {
        const step = this.#steps[at]!;
        if (step.op !== "byte") continue;
        for (let c = this.#classes[step.low]!; c <= this.#classes[step.high]!; c++) {
          if (this.#kinds[c] === kind) targets[c]!.push(step.next);
        }
        this.#work++;
      }
    }
    return targets;
  }

  /** The patterns that match a text that ends with this subset. */
  #accepting({ steps, before }: Subset): readonly number[] {
    const ends = this.#reach(steps, assertable(before, Neighbour.EDGE)).flatMap((at) => this.#ends.get(at) ?? []);
    const list = [...new Set(ends)].sort((a, b) => a - b);
    return intern(this.#lists, list);
  }

  /**
   * What can be reached without a byte, ascending: steps that take one, ends, and assertions of which it is not known
   * whether they hold. `held` are those that do; 0: nothing is known.
   */
  #reach(from: readonly number[], held: number): number[] {
    const turn = ++this.#turn;
    const reached: number[] = [];
    const stack = [...from];
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      if (this.#met[at] === turn) continue;
      this.#met[at] = turn;
      this.#work++;
      const step = this.#steps[at]!;
      switch (step.op) {
        case "fork":
          stack.push(step.other, step.next);
          break;
        case "capture":
          stack.push(step.next);
          break;
        case "assert":
          if ((step.what & ~held) === 0) stack.push(step.next);
          else if (held === 0) reached.push(at);
          break;
        case "byte":
        case "match":
          reached.push(at);
          break;
        case "fail":
          break;
        default:
          step satisfies never;
      }
    }
    return reached.sort((a, b) => a - b);
  }
}

/** A step of a program that was moved. */
function moved(step: Step, offset: number): Step {
  switch (step.op) {
    case "fork":
      return { ...step, next: step.next + offset, other: step.other + offset };
    case "match":
    case "fail":
      return step;
    default:
      return { ...step, next: step.next + offset };
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
  const rows: number[][] = [];
  for (let i = 0; i < order.length; i++) {
    const first = order[i]! * width;
    rows.push(next.slice(first, first + width).map(number));
  }

  const columns = new Map<string, number>();
  const kept: number[] = [];
  const classOf = Array.from({ length: width }, (_, c) => {
    const key = rows.map((row) => row[c]).join();
    let known = columns.get(key);
    if (known === undefined) {
      known = kept.push(c) - 1;
      columns.set(key, known);
    }
    return known;
  });
  return {
    classes: large.classes.map((c) => classOf[c]!),
    classCount: kept.length,
    states: rows.length,
    next: Uint16Array.from(rows.flatMap((row) => kept.map((c) => row[c]!))),
    start,
    accepting: order.map((state) => accepting[state]!),
  };
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
function predecessors(next: readonly number[], count: number, classCount: number) {
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
