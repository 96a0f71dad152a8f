import type { Datapath } from "../kernel/datapath.ts";

/** So late in a second the next one is told of already, rather than a moment too late. Milliseconds. */
const EARLY_MS = 1;

/** Tells the hooks each second what date it is: what they answer by themselves carries it (RFC 9110 section 6.6.1). */
export class Dates {
  readonly #datapath: Datapath;
  #timer: NodeJS.Timeout | undefined;

  constructor(datapath: Datapath) {
    this.#datapath = datapath;
  }

  start(): void {
    const now = Date.now() + EARLY_MS;
    this.#datapath.tellDate(new Date(now));
    this.#timer = setTimeout(() => this.start(), 1_000 - (now % 1_000));
    this.#timer.unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
