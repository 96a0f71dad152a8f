/**
 * The turns of hosts by weight, as a list of host indexes to go round and round: what `pick.ts` does for ROUND_ROBIN
 * with unequal weights, in a form for the kernel. The order is that of earliest deadline first, counted exactly.
 *
 * A whole round is as long as the sum of the weights divided by their greatest common divisor. While that is at most
 * `maxLength`, each host has exactly its share. Above it the list has `maxLength` turns (or one for each host, when
 * there are more hosts than that): every host has one at least, and those whose exact share is above one divide the
 * rest by largest remainder. While no host's exact share is under one turn, each host's turns then differ from it by
 * less than one, so its share of the requests is off by less than 1/maxLength. Hosts whose share is under one turn are
 * rounded up to one; those k hosts together take at most k/maxLength of the requests, which the others lack in
 * proportion to their weights.
 */
export function schedule(weights: readonly number[], maxLength: number): number[] {
  const divisor = weights.reduce(greatestCommonDivisor, 0);
  const sum = weights.reduce((sum, weight) => sum + weight, 0);
  return sum === 0
    ? []
    : spread(sum / divisor <= maxLength ? weights.map((weight) => weight / divisor) : apportion(weights, maxLength));
}

/** Weights small enough that they add up to `length`, or to the number of hosts when that is more. */
function apportion(weights: readonly number[], length: number): number[] {
  const turns = weights.map(() => 1);
  // Hosts are fixed at one turn until all others' shares of what is left are above one.
  let rest = weights.map((_, host) => host);
  for (;;) {
    const left = length - (weights.length - rest.length);
    const sum = rest.reduce((sum, host) => sum + weights[host]!, 0);
    const above = rest.filter((host) => (weights[host]! * left) / sum >= 1);
    if (above.length < rest.length) {
      rest = above;
      continue;
    }
    const shares = rest.map((host) => ({
      host,
      whole: Math.floor((weights[host]! * left) / sum),
      part: ((weights[host]! * left) / sum) % 1,
    }));
    for (const { host, whole } of shares) turns[host] = whole;
    const missing = left - shares.reduce((sum, share) => sum + share.whole, 0);
    shares.sort((a, b) => b.part - a.part || a.host - b.host);
    for (const { host } of shares.slice(0, Math.max(0, missing))) turns[host]!++;
    return turns;
  }
}

/** Each host `turns[host]` times, evenly: the k-th turn of a host is due at k/turns. */
function spread(turns: readonly number[]): number[] {
  const due = turns.flatMap((count, host) => Array.from({ length: count }, (_, k) => ({ host, k: k + 1, count })));
  // k/count against the other's, multiplied out: whole numbers have no rounding. Of turns due together that one is
  // first whose host waits longest, as in the queue of pick.ts.
  due.sort((a, b) => a.k * b.count - b.k * a.count || a.count - b.count || a.host - b.host);
  return due.map(({ host }) => host);
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
