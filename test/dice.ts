/** Chance that repeats: the same seed gives the same throws everywhere. */
export class Dice {
  #state: number;

  /** More than one number: the dice of a part, of a part of that part, each by itself. */
  constructor(...seed: readonly number[]) {
    this.#state = seed.reduce((state, part, depth) => (depth === 0 ? part | 0 : scramble(state ^ scramble(part))), 0);
  }

  /** mulberry32: from 0 up to, but not including, 1. */
  random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    return (scramble(this.#state) >>> 0) / 4294967296;
  }

  between = (low: number, high: number) => low + Math.floor(this.random() * (high - low + 1));
  one = <T>(of: readonly T[]): T => of[this.between(0, of.length - 1)]!;
  chance = (share: number) => this.random() < share;
  /** Small numbers often, large ones seldom. */
  upTo = (limit: number) => Math.floor((limit + 1) ** this.random() - 1);
  text = (length: number, alphabet: string) =>
    Array.from({ length }, () => alphabet[this.between(0, alphabet.length - 1)]).join("");
}

function scramble(state: number): number {
  let t = Math.imul(state ^ (state >>> 15), state | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return t ^ (t >>> 14);
}
