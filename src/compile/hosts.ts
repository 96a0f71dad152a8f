import type { RouteConfig } from "../model/config.ts";
import { BlobBuilder } from "../tables/blob.ts";
import type { HostBlob } from "../tables/compiled.ts";
import { HOSTS_HEADERS, HOSTS_OWN, HOSTS_QUERY, HOSTS_STRIP_PORT } from "../tables/layout.gen.ts";
import { statesOf, Trie, writeTrie } from "../tables/trie.ts";
import type { Facts } from "./facts.ts";

/** A host's state: the virtual host, from 1 on, if the host ends here, and if at least one byte is left; 0: none. */
interface HostState {
  ends: number;
  goesOn: number;
}

/** A blob whose rules are not known yet. */
interface Packed {
  readonly words: Uint32Array;
  /** Where indexes of rules lie, and of which virtual hosts. */
  readonly holes: readonly { readonly at: number; readonly place: number }[];
}

/** A listener's host blob. */
export class HostTable implements HostBlob {
  readonly #routes: RouteConfig;
  readonly #hosts: readonly Facts[];
  readonly #setsOwn: boolean;
  #packed: Packed | undefined;
  /** The blob for the last indexes: most often none has changed when somebody asks again. */
  #last: { readonly rules: readonly number[]; readonly blob: Uint32Array } | undefined;

  /**
   * `hosts`: the virtual hosts of the routes. `setsOwn`: requests and answers get headers of Envoy's own, whatever
   * route they take. `before` is the listener's last one: with the same domains it is the same but for the indexes of
   * rules.
   */
  constructor(routes: RouteConfig, hosts: readonly Facts[], setsOwn: boolean, before?: HostBlob) {
    this.#routes = routes;
    this.#hosts = hosts;
    this.#setsOwn = setsOwn;
    if (before instanceof HostTable && haveSameDomains(before.#hosts, hosts)) this.#packed = before.#packed;
  }

  blob(rulesOf: (place: number) => number): Uint32Array {
    const rules = this.#hosts.map((_, place) => rulesOf(place));
    if (this.#last === undefined || this.#last.rules.some((index, place) => index !== rules[place]))
      this.#last = { rules, blob: this.#blob(rules) };
    return this.#last.blob;
  }

  #blob(rules: readonly number[]): Uint32Array {
    this.#packed ??= pack(this.#hosts);
    const { words, holes } = this.#packed;
    const blob = words.slice();
    blob[0] = this.#flags();
    for (const { at, place } of holes) blob[at] = rules[place]!;
    return blob;
  }

  #flags(): number {
    return (
      (this.#routes.ignorePortInHostMatching ? HOSTS_STRIP_PORT : 0) |
      (this.#hosts.some(({ asksHeaders }) => asksHeaders) ? HOSTS_HEADERS : 0) |
      (this.#hosts.some(({ asksQuery }) => asksQuery) ? HOSTS_QUERY : 0) |
      (this.#setsOwn ? HOSTS_OWN : 0)
    );
  }
}

const haveSameDomains = (some: readonly Facts[], others: readonly Facts[]): boolean =>
  some.length === others.length &&
  some.every(({ vhost }, place) => {
    const { vhost: other } = others[place]!;
    return vhost === other || (vhost.domains.length === other.domains.length && isEach(vhost.domains, other.domains));
  });

const isEach = (some: readonly string[], others: readonly string[]) => some.every((text, i) => text === others[i]);

function pack(hosts: readonly Facts[]): Packed {
  const none = (): HostState => ({ ends: 0, goesOn: 0 });
  const [forward, backward] = [new Trie(none), new Trie(none)];
  let any = 0;
  let [hasForward, hasBackward] = [false, false];
  hosts.forEach(({ vhost }, place) => {
    for (const domain of vhost.domains) {
      const bytes = Buffer.from(domain.toLowerCase(), "latin1");
      if (domain === "*") {
        any = place + 1;
      } else if (domain.startsWith("*")) {
        backward.at([...bytes.subarray(1)].reverse()).value.goesOn = place + 1;
        hasBackward = true;
      } else if (domain.endsWith("*")) {
        forward.at(bytes.subarray(0, -1)).value.goesOn = place + 1;
        hasForward = true;
      } else {
        forward.at(bytes).value.ends = place + 1;
        hasForward = true;
      }
    }
  });
  const blob = new BlobBuilder();
  blob.reserve(1);
  const form = {
    isEmpty: ({ ends, goesOn }: HostState) => ends === 0 && goesOn === 0,
    write: (value: HostState) => ({ ...value, own: undefined }),
  };
  const roots = [
    hasForward ? writeTrie(blob, forward, form) : 0,
    hasBackward ? writeTrie(blob, backward, { ...form, backward: true }) : 0,
  ] as const;
  blob.put(0, 0, ...roots, any);
  const words = blob.finish();
  const states = roots.filter((root) => root !== 0).flatMap((root) => statesOf(words, root));
  const holes = [3, ...states.flatMap((state) => [state * 4 + 2, state * 4 + 3])]
    .filter((at) => words[at] !== 0)
    .map((at) => ({ at, place: words[at]! - 1 }));
  return { words, holes };
}
