import type { VirtualHost } from "../model/config.ts";
import type { SlowRoute } from "../tables/compiled.ts";
import type { Met } from "./facts.ts";
import type { NameIndex } from "./names.ts";

/** A virtual host's part of the tables. */
export interface CompiledVirtualHost {
  /** Undefined: the slow path's. */
  readonly blob: Uint32Array | undefined;
  readonly slow: readonly { readonly route?: SlowRoute; readonly reason: string }[];
  /** The names that it asked for, and what indexes they had. */
  readonly names: readonly (readonly [name: string, index: number | undefined])[];
  /** Of the rules that are asked one after the other, the longest row. */
  readonly longest: number;
}

/**
 * What a part depends on beside its virtual host and the indexes of names. Numbers of routes are not among it: those of
 * a name stay from one configuration to the next.
 */
export interface Circumstances {
  /** The virtual host that was compiled: without what nobody asks for. */
  readonly vhost: VirtualHost;
  /** What all virtual hosts of a chain are compiled by. */
  readonly around: string;
  /** Of each of the ways to clusters. */
  readonly clusters: readonly (number | undefined)[];
}

type Part = CompiledVirtualHost & Circumstances;

/** The parts of tables, for the next compilation: what did not change is not compiled again. */
export class Sources implements Met {
  readonly #parts = new Map<VirtualHost, Part[]>();

  has(vhost: VirtualHost): boolean {
    return this.#parts.has(vhost);
  }

  /** The virtual hosts that there are parts of. */
  vhosts(): Iterable<VirtualHost> {
    return this.#parts.keys();
  }

  /** `of` is the virtual host as it was given. */
  find(of: VirtualHost, { vhost, around, clusters }: Circumstances, names: NameIndex): Part | undefined {
    for (const part of this.#parts.get(of) ?? []) {
      if (part.vhost !== vhost || part.around !== around) continue;
      if (part.clusters.some((id, i) => id !== clusters[i])) continue;
      if (part.names.every(([name, index]) => names.index(name) === index)) return part;
    }
    return undefined;
  }

  add(of: VirtualHost, part: Part): void {
    const others = this.#parts.get(of);
    if (others === undefined) this.#parts.set(of, [part]);
    else others.push(part);
  }
}
