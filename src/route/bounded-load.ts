/**
 * Consistent hashing with bounded loads, as Envoy has it (BoundedLoadHashingLoadBalancer in source/extensions/
 * load_balancing_policies/common/thread_aware_lb_impl.cc): no host serves more than `factor` percent of its share.
 */
export interface Loads {
  /** `hash_balance_factor`, at least 100. */
  readonly factor: number;
  /** Each host's part of all requests. */
  readonly shares: readonly number[];
  /** Requests in service at a host, and at all of the cluster. */
  active(host: number): number;
  readonly total: number;
}

/**
 * `first` where it bears one more; else the first of the others that does, in an order that the hash alone decides;
 * where none does, the one with the least of its bound.
 */
export function pickBounded(first: number, hash: bigint, { factor, shares, active, total }: Loads): number {
  const slots = Math.floor(((total + 1) * factor + 99) / 100);
  const overload = (host: number) => active(host) / Math.max(1, Math.ceil(slots * shares[host]!));
  let [best, least] = [first, overload(first)];
  if (least <= 1) return first;
  const random = mersenneTwister(Number(hash & 0xffffffffn));
  const order = Array.from(shares, (_, host) => host);
  for (let i = 0; i < order.length; i++) {
    const j = i + below(random, order.length - i);
    [order[i], order[j]] = [order[j]!, order[i]!];
    const other = order[i]!;
    if (other === first) continue;
    const its = overload(other);
    if (its <= 1) return other;
    if (its < least) [best, least] = [other, its];
  }
  return best;
}

/** A number from 0 up to `end` that any machine draws alike. */
function below(random: () => number, end: number): number {
  const width = Math.floor(2 ** 32 / end);
  for (;;) {
    const drawn = Math.floor(random() / width);
    if (drawn < end) return drawn;
  }
}

const SIZE = 624;
const SHIFT = 397;

/** std::mt19937: whole numbers of 32 bits without sign (Matsumoto and Nishimura, 1998). */
export function mersenneTwister(seed: number): () => number {
  const state = new Uint32Array(SIZE);
  state[0] = seed;
  for (let i = 1; i < SIZE; i++) {
    const before = state[i - 1]!;
    state[i] = Math.imul(before ^ (before >>> 30), 1_812_433_253) + i;
  }
  let at = SIZE;
  return () => {
    if (at === SIZE) {
      for (let i = 0; i < SIZE; i++) {
        const mixed = (state[i]! & 0x80000000) | (state[(i + 1) % SIZE]! & 0x7fffffff);
        state[i] = state[(i + SHIFT) % SIZE]! ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}
