import type { Policy } from "../model/config.ts";
import { EdfQueue } from "./edf.ts";

/** A whole number from 0 up to, but not including, `below`. */
export type Random = (below: number) => number;
/** How many requests a host is serving. */
export type Active = (host: number) => number;
/** The index of the host for the next request; undefined when there are no hosts. */
export type Picker = (random: Random, active: Active) => number | undefined;

/**
 * Envoy's picker for hosts of these weights. It holds state (whose turn it is): one lasts as long as its hosts do.
 * `seed`, a random whole number, says where the turns begin, so that many balancers do not begin with one host.
 */
export function createPicker(policy: Policy, weights: readonly number[], seed = 0): Picker {
  const { length } = weights;
  if (length === 0) return () => undefined;
  switch (policy.kind) {
    case "roundRobin":
      return areEqual(weights) ? byTurns(length, seed) : byDeadlines(weights, seed, (weight) => weight);
    case "leastRequest":
      return areEqual(weights)
        ? byFewest(length, policy.choiceCount)
        : byDeadlines(weights, seed, (weight, active) => weight / (active + 1));
    case "random":
      // Weights are of no account to it.
      return (random) => random(length);
    default:
      return policy satisfies never;
  }
}

const areEqual = (weights: readonly number[]) => weights.every((weight) => weight === weights[0]);

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

function byDeadlines(
  weights: readonly number[],
  seed: number,
  weigh: (weight: number, active: number) => number,
): Picker {
  const queue = new EdfQueue();
  for (const [host, weight] of weights.entries()) queue.add(host, weigh(weight, 0));
  const pick = (active: Active): number => {
    const host = queue.take()!;
    queue.add(host, weigh(weights[host]!, active(host)));
    return host;
  };
  for (let turn = seed % weights.length; turn > 0; turn--) pick(() => 0);
  return (_, active) => pick(active);
}
