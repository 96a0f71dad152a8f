import type { Clock, EndpointTarget, ISocks } from "./ports.ts";

/** How pools behave; every number has a unit. */
export interface PoolLimits {
  readonly chunkSlots: number;
  readonly maxChunks: number;
  readonly chunksPerPool: number;
  /** i-socks made for each endpoint before anybody asks. */
  readonly warm: number;
  /** i-socks that warming may make for one tenant in all; what is beyond is made on demand. */
  readonly warmPerTenant: number;
  /**
   * A pool is looked at this often, and gives back half of what it did not need meanwhile. A crowd waits for what was
   * given back before it came: Envoy keeps its idle connections for an hour.
   */
  readonly shrinkMs: number;
}

export const defaultLimits: Omit<PoolLimits, "chunkSlots" | "maxChunks" | "chunksPerPool"> = {
  warm: 2,
  warmPerTenant: 256,
  shrinkMs: 300_000,
};

type SlotState = "connecting" | "live";

interface Pool {
  readonly tenant: number;
  target: EndpointTarget;
  readonly chunks: number[];
  readonly slots: Map<number, SlotState>;
  wanted: number;
  floor: number;
  /** More were asked for, and have not all connected yet. */
  growing: boolean;
  failures: number;
  retryAt: number;
  /** How many were spare at the last look; 0 once more were asked for since. */
  leastSpare: number;
  /** i-socks that their server closed unused, one after another: no use in keeping many warm. */
  unusedCloses: number;
}

function connecting(pool: Pool): boolean {
  for (const state of pool.slots.values()) if (state === "connecting") return true;
  return false;
}

const key = (tenant: number, endpoint: number) => tenant * 65536 + endpoint;

/**
 * How many i-socks there are, where and when. Pools are per tenant (cgroup) and endpoint, and an i-sock never leaves
 * its pool: what has served one cgroup never serves another.
 */
export class Pools {
  readonly #socks: ISocks;
  readonly #clock: Clock;
  readonly #limits: PoolLimits;
  readonly #pools = new Map<number, Pool>();
  readonly #bySlot = new Map<number, Pool>();
  readonly #freeChunks: number[];
  readonly #targets = new Map<number, EndpointTarget>();
  readonly #tenants = new Set<number>();
  #closed = false;

  constructor(socks: ISocks, clock: Clock, limits: PoolLimits) {
    this.#socks = socks;
    this.#clock = clock;
    this.#limits = limits;
    this.#freeChunks = Array.from({ length: limits.maxChunks }, (_, i) => limits.maxChunks - 1 - i);
  }

  /** The endpoints there are now. i-socks to others are withdrawn; those in use end at a look after their request. */
  setTargets(targets: readonly EndpointTarget[]): void {
    const next = new Map(targets.map((t) => [t.endpoint, t]));
    this.#targets.clear();
    for (const [endpoint, target] of next) this.#targets.set(endpoint, target);
    for (const pool of this.#pools.values()) {
      const target = next.get(pool.target.endpoint);
      if (target) pool.target = target;
      this.#limit(pool, target ? this.#most(target) : 0);
    }
    for (const tenant of this.#tenants) this.warm(tenant);
  }

  /** Makes the first i-socks of a tenant to every endpoint, within the tenant's budget. */
  warm(tenant: number): void {
    this.#tenants.add(tenant);
    let budget = this.#limits.warmPerTenant;
    const each = Math.max(1, Math.min(this.#limits.warm, Math.floor(budget / Math.max(1, this.#targets.size))));
    for (const target of this.#targets.values()) {
      if (budget < each) return;
      budget -= each;
      const pool = this.#pool(tenant, target.endpoint);
      if (!pool) return;
      pool.floor = Math.min(each, target.maxConnections);
      pool.wanted = Math.max(pool.wanted, pool.floor);
      this.#fill(pool);
    }
  }

  /** A tenant has gone: nothing of it may stay. */
  drop(tenant: number): void {
    this.#tenants.delete(tenant);
    for (const pool of [...this.#pools.values()]) {
      if (pool.tenant === tenant) this.#limit(pool, 0);
    }
  }

  /** True when every pool has what it wants, or cannot get it for now. */
  isWarm(tenant: number): boolean {
    for (const pool of this.#pools.values()) {
      if (pool.tenant !== tenant || pool.failures > 0) continue;
      for (const state of pool.slots.values()) if (state === "connecting") return false;
    }
    return true;
  }

  /** A hook found the pool empty, or nearly so: more, within the bounds. */
  grow(tenant: number, endpoint: number): void {
    /* The hooks' word may be older than the news that tenant or endpoint has gone: what still ends must not revive. */
    if (!this.#tenants.has(tenant) || !this.#targets.has(endpoint)) return;
    const pool = this.#pool(tenant, endpoint);
    if (!pool) return;
    pool.unusedCloses = 0;
    pool.leastSpare = 0;
    pool.growing = true;
    /* Hooks ask again and again while the last answer is still connecting. */
    if (connecting(pool)) return;
    this.#widen(pool, this.#socks.takeMissed(endpoint));
  }

  /**
   * Twice as many, or as the cluster's preconnect_policy asks for, or as many more as were missed: a crowd that comes
   * at once is served after one round of connecting. One client may have missed several times: so no more than eight
   * times as many.
   */
  #widen(pool: Pool, missed: number): void {
    const now = pool.slots.size;
    const ahead = Math.ceil(now * Math.max(2, pool.target.preconnectRatio ?? 1));
    const wanted = Math.max(8, pool.wanted, ahead, Math.min(now + missed, Math.max(8, now) * 8));
    pool.wanted = Math.min(this.#most(pool.target), wanted);
    this.#fill(pool);
  }

  hasIdle(tenant: number, endpoint: number, isIdle: (slot: number) => boolean): boolean {
    const pool = this.#pools.get(key(tenant, endpoint));
    if (!pool) return false;
    for (const [slot, state] of pool.slots) if (state === "live" && isIdle(slot)) return true;
    return false;
  }

  connected(slot: number): void {
    const pool = this.#bySlot.get(slot);
    if (!pool) return;
    pool.failures = 0;
    pool.slots.set(slot, "live");
    if (this.#closed || pool.slots.size > pool.wanted) {
      this.#end(pool, slot, false);
      return;
    }
    this.#socks.publish(slot);
    /* Those who missed one while these were connecting will come again. */
    if (pool.growing && !connecting(pool)) {
      pool.growing = false;
      const missed = this.#socks.takeMissed(pool.target.endpoint);
      if (missed > 0) this.#widen(pool, missed);
    }
  }

  /** The i-sock could not be connected: wait, longer each time, before the next try. */
  failed(slot: number): void {
    const pool = this.#bySlot.get(slot);
    if (!pool) return;
    this.#end(pool, slot, false);
    /* Those of one try fail together: one failure. */
    if (pool.failures > 0 && this.#clock.now() < pool.retryAt) return;
    pool.failures++;
    this.#later(pool);
  }

  /**
   * The i-sock has ended or must not be used again. Whoever calls owns it: its idle bit is not set, or has just been
   * withdrawn. `used`: it had served a request.
   */
  retired(slot: number, abort: boolean, used: boolean): void {
    const pool = this.#bySlot.get(slot);
    if (!pool) return;
    this.#end(pool, slot, abort);
    if (used) {
      pool.unusedCloses = 0;
      this.#fill(pool);
      return;
    }
    /* A server with a short idle time-out would have us connect for ever: ever more slowly, then. */
    pool.unusedCloses++;
    pool.wanted = Math.max(pool.floor, pool.wanted - 1);
    const delay = Math.min(60_000, 50 * 2 ** Math.min(pool.unusedCloses, 11));
    this.#clock.after(delay, () => this.#fill(pool));
  }

  /** Call it every `shrinkMs`; `isSpare` tells whether an i-sock is idle, and was since the last call. */
  shrink(isSpare: (slot: number) => boolean): void {
    for (const pool of this.#pools.values()) {
      /* Some were in use when their endpoint or tenant went, or when the bound was lowered. */
      this.#shrinkTo(pool, pool.wanted);
      const spare = [...pool.slots].flatMap(([slot, state]) => (state === "live" && isSpare(slot) ? [slot] : []));
      const long = Math.min(spare.length, pool.leastSpare);
      pool.leastSpare = spare.length;
      if (long <= 1 || pool.slots.size <= pool.floor) continue;
      const ahead = Math.ceil((pool.slots.size - spare.length) * (pool.target.preconnectRatio ?? 1));
      const give = Math.min(Math.ceil(long / 2), pool.slots.size - Math.max(pool.floor, ahead));
      if (give <= 0) continue;
      pool.wanted = Math.max(pool.floor, pool.slots.size - give);
      /* Hooks take the lowest: those with the highest numbers are needed least. */
      this.#shrinkTo(
        pool,
        pool.wanted,
        spare.sort((a, b) => b - a),
      );
    }
  }

  slotsOf(tenant: number | undefined, endpoint: number): number[] {
    const out: number[] = [];
    for (const pool of this.#pools.values()) {
      if (pool.target.endpoint !== endpoint || (tenant !== undefined && pool.tenant !== tenant)) continue;
      for (const [slot, state] of pool.slots) if (state === "live") out.push(slot);
    }
    return out;
  }

  *liveSlots(): Iterable<number> {
    for (const pool of this.#pools.values()) for (const [slot, state] of pool.slots) if (state === "live") yield slot;
  }

  /** No new i-socks; those that are idle end now. */
  close(): void {
    this.#closed = true;
    for (const pool of this.#pools.values()) {
      pool.wanted = 0;
      this.#shrinkTo(pool, 0);
    }
  }

  #pool(tenant: number, endpoint: number): Pool | undefined {
    const found = this.#pools.get(key(tenant, endpoint));
    if (found) return found;
    const target = this.#targets.get(endpoint);
    if (!target || this.#closed) return undefined;
    const pool: Pool = {
      tenant,
      target,
      chunks: [],
      slots: new Map(),
      wanted: 0,
      floor: 0,
      growing: false,
      failures: 0,
      retryAt: 0,
      leastSpare: 0,
      unusedCloses: 0,
    };
    this.#pools.set(key(tenant, endpoint), pool);
    return pool;
  }

  #fill(pool: Pool): void {
    if (this.#closed || (pool.failures > 0 && this.#clock.now() < pool.retryAt)) return;
    while (pool.slots.size < pool.wanted) {
      const slot = this.#freeSlot(pool);
      if (slot === undefined) return;
      pool.slots.set(slot, "connecting");
      this.#bySlot.set(slot, pool);
      try {
        this.#socks.connect(slot, pool.tenant, pool.target);
      } catch {
        this.failed(slot);
        return;
      }
    }
  }

  #later(pool: Pool): void {
    const delay = Math.min(5_000, 20 * 2 ** Math.min(pool.failures, 8));
    pool.retryAt = this.#clock.now() + delay;
    this.#clock.after(delay, () => {
      /* A timer may be early by the clock's measure; nothing else would ask again. */
      pool.retryAt = 0;
      this.#fill(pool);
    });
  }

  #freeSlot(pool: Pool): number | undefined {
    const n = this.#limits.chunkSlots;
    for (const chunk of pool.chunks) {
      for (let i = 0; i < n; i++) if (!this.#bySlot.has(chunk * n + i)) return chunk * n + i;
    }
    if (pool.chunks.length >= this.#limits.chunksPerPool) return undefined;
    const chunk = this.#freeChunks.pop();
    if (chunk === undefined) return undefined;
    pool.chunks.push(chunk);
    this.#socks.setChunks(pool.tenant, pool.target.endpoint, pool.chunks);
    return chunk * n;
  }

  #most(target: EndpointTarget): number {
    return Math.min(target.maxConnections, this.#limits.chunksPerPool * this.#limits.chunkSlots);
  }

  /** From now on the pool may not have more; one that may have none is forgotten when its last i-sock has ended. */
  #limit(pool: Pool, most: number): void {
    pool.wanted = Math.min(pool.wanted, most);
    pool.floor = Math.min(pool.floor, most);
    this.#shrinkTo(pool, most);
    if (most === 0 && pool.slots.size === 0) this.#forget(pool);
  }

  #shrinkTo(pool: Pool, count: number, slots: Iterable<number> = pool.slots.keys()): void {
    for (const slot of slots) {
      if (pool.slots.size <= count) return;
      if (pool.slots.get(slot) === "live" && this.#socks.withdraw(slot)) this.#end(pool, slot, false);
    }
  }

  #end(pool: Pool, slot: number, abort: boolean): void {
    pool.slots.delete(slot);
    this.#bySlot.delete(slot);
    this.#socks.close(slot, abort);
    if (pool.slots.size === 0 && pool.wanted === 0) this.#forget(pool);
  }

  #forget(pool: Pool): void {
    if (!this.#pools.delete(key(pool.tenant, pool.target.endpoint))) return;
    this.#socks.dropPool(pool.tenant, pool.target.endpoint);
    this.#freeChunks.push(...pool.chunks);
    pool.chunks.length = 0;
  }
}
