import type { LeastRequestPolicy, PlainPolicy, RoundRobinPolicy, SlowStart } from "../model/config.ts";
import { EdfQueue } from "./edf.ts";

/** A whole number from 0 up to, but not including, `below`. */
export type Random = (below: number) => number;
/** How many requests a host is serving. */
export type Active = (host: number) => number;
/** The index of the host for the next request; undefined when there are no hosts. */
export type Picker = (random: Random, active: Active) => number | undefined;

/** What a host's weight is multiplied with, while it is new; missing: nothing is new. */
export type Youth = (host: number) => number;

/**
 * Envoy's picker for hosts of these weights. It holds state (whose turn it is): one lasts as long as its hosts do.
 * `seed`, a random whole number, says where the turns begin, so that many balancers do not begin with one host.
 */
export function createPicker(
  policy: PlainPolicy,
  weights: readonly number[],
  seed = 0,
  youth: Youth = () => 1,
): Picker {
  const { length } = weights;
  if (length === 0) return () => undefined;
  switch (policy.kind) {
    case "roundRobin":
      return goesByDeadlines(policy, weights)
        ? byDeadlines(weights, seed, (host) => weights[host]! * youth(host))
        : byTurns(length, seed);
    case "leastRequest": {
      const { choiceCount, fullScan, bias = 1 } = policy;
      if (goesByDeadlines(policy, weights))
        return byDeadlines(weights, seed, (host, active) => (weights[host]! / (active + 1) ** bias) * youth(host));
      return fullScan ? byScan(length) : byFewest(length, choiceCount);
    }
    case "random":
      // Weights are of no account to it.
      return (random) => random(length);
    default:
      return policy satisfies never;
  }
}

/**
 * Weights count where they differ, and where hosts start slowly: all were new once, and Envoy does not leave the
 * deadlines before its hosts change. One host needs no turns.
 */
export function goesByDeadlines(policy: RoundRobinPolicy | LeastRequestPolicy, weights: readonly number[]): boolean {
  return weights.length > 1 && (policy.slowStart !== undefined || !areEqual(weights));
}

const areEqual = (weights: readonly number[]) => weights.every((weight) => weight === weights[0]);

/** `applySlowStartFactor`: what a host's weight is multiplied with after so many milliseconds of health. */
export function slowStartFactor({ windowMs, aggression, leastShare }: SlowStart, ageMs: number): number {
  if (ageMs >= windowMs) return 1;
  return Math.max(leastShare, (Math.max(1, Math.floor(ageMs)) / windowMs) ** (1 / aggression));
}

function byTurns(length: number, seed: number): Picker {
  let next = seed % length;
  return () => {
    const host = next;
    next = (next + 1) % length;
    return host;
  };
}

/** A host may be drawn twice; the first drawn stays unless a later one has fewer requests. */
function byFewest(length: number, choiceCount: number): Picker {
  return (random, active) => {
    let best = random(length);
    for (let draw = 1; draw < choiceCount; draw++) {
      const other = random(length);
      if (active(other) < active(best)) best = other;
    }
    return best;
  };
}

/** Of all that have the fewest requests each is as likely: the n-th one found takes the place with chance 1/n. */
function byScan(length: number): Picker {
  return (random, active) => {
    let best = 0;
    let tied = 1;
    for (let other = 1; other < length; other++) {
      const [fewest, these] = [active(best), active(other)];
      if (these < fewest) [best, tied] = [other, 1];
      else if (these === fewest && random(++tied) === 0) best = other;
    }
    return best;
  };
}

function byDeadlines(
  weights: readonly number[],
  seed: number,
  weigh: (host: number, active: number) => number,
): Picker {
  const queue = new EdfQueue();
  for (const host of weights.keys()) queue.add(host, weigh(host, 0));
  const pick = (active: Active): number => {
    const host = queue.take()!;
    queue.add(host, weigh(host, active(host)));
    return host;
  };
  for (let turn = seed % weights.length; turn > 0; turn--) pick(() => 0);
  return (_, active) => pick(active);
}
