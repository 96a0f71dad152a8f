import {
  HEADER_AUTHORITY,
  HEADER_FIRST,
  HEADER_METHOD,
  HEADER_PATH,
  XLB_MAX_HEADER_NAME,
  XLB_MAX_HEADERS,
} from "../tables/layout.gen.ts";

const PSEUDO: Readonly<Record<string, number>> = {
  ":method": HEADER_METHOD,
  ":authority": HEADER_AUTHORITY,
  host: HEADER_AUTHORITY,
  ":path": HEADER_PATH,
};

/** The hook need not keep it while it reads the head: it always knows where it is. */
export const isPseudo = (name: string) => PSEUDO[name] !== undefined;

/** A query parameter among the names: no header's name has such a character. */
export const queryName = (name: string) => `?${name}`;

export interface NameIndex {
  /** Undefined when there are too many, or its name is too long. */
  index(name: string): number | undefined;
}

/** What the hook keeps of a request for the rules, and by which index: headers, and parameters of the query. */
export class Names implements NameIndex {
  readonly #index = new Map<string, number>();
  readonly #kept: ReadonlyMap<string, number>;
  readonly #free: number[];

  /** `kept` are names of the configuration before, all of which are asked for again: each stays what it was. */
  constructor(kept: ReadonlyMap<string, number> = new Map()) {
    this.#kept = kept;
    const taken = new Set(kept.values());
    this.#free = Array.from({ length: XLB_MAX_HEADERS - HEADER_FIRST }, (_, i) => HEADER_FIRST + i).filter(
      (index) => !taken.has(index),
    );
  }

  index(name: string): number | undefined {
    const found = PSEUDO[name] ?? this.#index.get(name);
    if (found !== undefined) return found;
    if (name.startsWith(":") || name.length > XLB_MAX_HEADER_NAME) return undefined;
    const next = this.#kept.get(name) ?? this.#free.shift();
    if (next !== undefined) this.#index.set(name, next);
    return next;
  }

  list(): { name: string; index: number }[] {
    return [...this.#index].map(([name, index]) => ({ name, index }));
  }
}
