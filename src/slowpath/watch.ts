/** A stream's time limits: each is started, and calls back once if nothing stops it. */

/** Calls back when nothing has been heard for some time; to say that something was heard costs next to nothing. */
export class IdleTimer {
  readonly #over: () => void;
  #ms = 0;
  #heardAt = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(over: () => void) {
    this.#over = over;
  }

  /** From now on it may be silent for so many milliseconds, 0: as long as it likes. */
  allow(ms: number): void {
    this.stop();
    this.#ms = ms;
    this.#heardAt = performance.now();
    if (ms > 0) this.#timer = setTimeout(() => this.#look(), longest(ms));
  }

  heard(): void {
    if (this.#timer !== undefined) this.#heardAt = performance.now();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #look(): void {
    const left = this.#heardAt + this.#ms - performance.now();
    if (left > 0) {
      this.#timer = setTimeout(() => this.#look(), longest(Math.ceil(left)));
      return;
    }
    this.#timer = undefined;
    this.#over();
  }
}

/** Timers of a kind, of which each has its time or none. */
export class Deadline {
  #timer: NodeJS.Timeout | undefined;

  /** In place of what was set before; 0 milliseconds: never. */
  set(ms: number, over: () => void): void {
    this.stop();
    if (ms > 0) this.#timer = setTimeout(over, longest(ms));
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

/** Node takes a longer time for none at all. */
const longest = (ms: number) => Math.min(ms, 2 ** 31 - 1);
