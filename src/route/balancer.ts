import type { Cluster, Config, Endpoint, HashingPolicy, Local, PlainPolicy } from "../model/config.ts";
import { isHashing } from "../model/hash-table.ts";
import type { Metadata } from "../model/metadata.ts";
import { pickBounded } from "./bounded-load.ts";
import { EdfQueue } from "./edf.ts";
import { hashParts, partOf } from "./hash-parts.ts";
import { pickByHash } from "./hash-table.ts";
import { type Part, partsOf } from "./parts.ts";
import { createPicker, type Random, slowStartFactor } from "./pick.ts";
import { subsetsOf } from "./subset.ts";

/** What a choice of an endpoint may depend on. */
export interface Asked {
  readonly random: Random;
  /** Requests in service at an endpoint. */
  readonly active: (endpoint: Endpoint) => number;
  /** Milliseconds since the configuration's endpoints were there; missing: they are not new any more. */
  readonly ageMs?: number;
  /** By what RING_HASH and MAGLEV choose; missing: by chance. */
  readonly hash?: bigint | undefined;
  /** How many endpoints by this hash the request was not content with. */
  readonly attempt?: number;
}

/** The endpoint for the next request; undefined: there is none, 503. */
export type Balancer = (asked: Asked) => Endpoint | undefined;

/** What balances requests with the same criteria. */
export interface ForCriteria {
  readonly balance: Balancer;
  /** Whether it asks for a hash. */
  readonly byHash: boolean;
}

/**
 * Envoy's balancers of a cluster, by the criteria of requests (the same object each time). They hold whose turn it is,
 * for each subset: they last as long as their configuration.
 */
export function createBalancers(
  cluster: Cluster,
  config: Pick<Config, "clusters" | "local">,
  seed = 0,
): (criteria: Metadata | undefined) => ForCriteria {
  const known = new Map<Metadata | undefined, ForCriteria>();
  const bySubset = new Map<string, Balancer>();
  return (criteria) => {
    const before = known.get(criteria);
    if (before !== undefined) return before;
    const subsets = subsetsOf(cluster, criteria);
    const balancers = subsets.map((subset) => {
      const balance = bySubset.get(subset.key) ?? createBalancer(subset.cluster, config, seed, cluster.endpoints);
      bySubset.set(subset.key, balance);
      return balance;
    });
    const made: ForCriteria = {
      balance: firstOf(balancers),
      byHash: subsets.some((subset) => isHashing(subset.cluster.policy)),
    };
    known.set(criteria, made);
    return made;
  };
}

const firstOf =
  (balancers: readonly Balancer[]): Balancer =>
  (asked) => {
    for (const balance of balancers) {
      const endpoint = balance(asked);
      if (endpoint !== undefined) return endpoint;
    }
    return undefined;
  };

/** The same without regard to subsets. `all`: the endpoints of the whole cluster. */
export function createBalancer(
  cluster: Cluster,
  config: Pick<Config, "clusters" | "local">,
  seed = 0,
  all = cluster.endpoints,
): Balancer {
  const { policy } = cluster;
  if (isHashing(policy)) return hashBalancer(cluster, policy, all, config.local);
  const parts = partsOf(cluster, config).map((part) => ({
    percent: part.percent,
    pick: partBalancer(part, policy, seed),
  }));
  const percents = parts.map(({ percent }) => percent);
  // A cluster of one part has no use for chance.
  return (asked) => parts[parts.length === 1 ? 0 : indexAt(percents, asked.random(100))]?.pick(asked);
}

function hashBalancer(
  cluster: Cluster,
  policy: HashingPolicy,
  all: readonly Endpoint[],
  local: Local | undefined,
): Balancer {
  const parts = hashParts(cluster, policy, local);
  const { balanceFactor: factor } = policy;
  return ({ random, active, hash = BigInt(random(2 ** 32)) * 2n ** 32n + BigInt(random(2 ** 32)), attempt = 0 }) => {
    const part = partOf(parts, hash);
    const at = part && pickByHash(part.table, hash, attempt);
    if (at === undefined) return undefined;
    const { hosts, shares } = part!;
    if (factor === undefined) return hosts[at];
    const total = all.reduce((sum, endpoint) => sum + active(endpoint), 0);
    return hosts[pickBounded(at, hash, { factor, shares, active: (host) => active(hosts[host]!), total })];
  };
}

function partBalancer({ lists, by }: Part, policy: PlainPolicy, seed: number): Balancer {
  const balancers = lists.map(({ hosts }) => listBalancer(policy, hosts, seed));
  if (balancers.length === 1) return balancers[0]!;
  const weights = lists.map(({ weight }) => weight);
  if (by === "chance") {
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return (asked) => balancers[indexAt(weights, asked.random(total))]!(asked);
  }
  const queue = new EdfQueue();
  const turn = () => {
    const at = queue.take()!;
    queue.add(at, weights[at]!);
    return at;
  };
  for (const [at, weight] of weights.entries()) queue.add(at, weight);
  for (let turns = seed % weights.length; turns > 0; turns--) turn();
  return (asked) => balancers[turn()]!(asked);
}

/** Which of the weights, laid one after the other, a ticket from 0 up to their sum falls on. */
function indexAt(weights: readonly number[], ticket: number): number {
  let left = ticket;
  return weights.findIndex((weight) => {
    left -= weight;
    return left < 0;
  });
}

function listBalancer(policy: PlainPolicy, hosts: readonly Endpoint[], seed: number): Balancer {
  const slowStart = policy.kind === "random" ? undefined : policy.slowStart;
  let age = 0;
  const youth = (host: number) =>
    slowStart === undefined || hosts[host]!.health !== "healthy" ? 1 : slowStartFactor(slowStart, age);
  const pick = createPicker(
    policy,
    hosts.map(({ weight }) => weight),
    seed,
    youth,
  );
  return ({ random, active, ageMs = Number.POSITIVE_INFINITY }) => {
    age = ageMs;
    const at = pick(random, (host) => active(hosts[host]!));
    return at === undefined ? undefined : hosts[at];
  };
}
