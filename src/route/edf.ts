/**
 * Earliest deadline first, Envoy's way to share turns by weight (source/common/upstream/edf_scheduler.h): each entry's
 * next turn is 1/weight after its last one, and entries of one deadline go in the order in which they were put in.
 */
export class EdfQueue {
  #now = 0;
  #order = 0;
  readonly #heap: Entry[] = [];

  /** The entry has its turn 1/weight from now; `weight` is more than 0. */
  add(item: number, weight: number): void {
    const heap = this.#heap;
    let at = heap.push({ item, deadline: this.#now + 1 / weight, order: this.#order++ }) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(heap[at]!, heap[parent]!)) break;
      [heap[at], heap[parent]] = [heap[parent]!, heap[at]!];
      at = parent;
    }
  }

  /** Takes out the entry whose turn it is, and moves time on to its deadline. */
  take(): number | undefined {
    const heap = this.#heap;
    const first = heap[0];
    if (first === undefined) return undefined;
    const last = heap.pop()!;
    if (heap.length > 0) {
      heap[0] = last;
      sink(heap);
    }
    this.#now = first.deadline;
    return first.item;
  }
}

interface Entry {
  readonly item: number;
  readonly deadline: number;
  readonly order: number;
}

function sink(heap: Entry[]): void {
  let at = 0;
  for (;;) {
    const left = 2 * at + 1;
    const right = left + 1;
    let least = at;
    if (left < heap.length && isBefore(heap[left]!, heap[least]!)) least = left;
    if (right < heap.length && isBefore(heap[right]!, heap[least]!)) least = right;
    if (least === at) return;
    [heap[at], heap[least]] = [heap[least]!, heap[at]!];
    at = least;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.deadline < b.deadline || (a.deadline === b.deadline && a.order < b.order);
}
