import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Policy } from "../../src/model/config.ts";
import { type Active, createPicker, type Random } from "../../src/route/pick.ts";
import { schedule } from "../../src/route/schedule.ts";

const ROUND_ROBIN: Policy = { kind: "roundRobin" };
const noChance: Random = () => assert.fail("took a chance");
const idle: Active = () => 0;

const turns = (weights: number[], count: number, seed = 0) => {
  const pick = createPicker(ROUND_ROBIN, weights, seed);
  return Array.from({ length: count }, () => pick(noChance, idle)!);
};

const counts = (hosts: readonly number[], length: number) => {
  const counts = new Array<number>(length).fill(0);
  for (const host of hosts) counts[host]!++;
  return counts;
};

test("round robin: equal weights go by turns from the seed on", () => {
  assert.deepEqual(turns([1, 1, 1], 5), [0, 1, 2, 0, 1]);
  assert.deepEqual(turns([7, 7, 7], 4, 5), [2, 0, 1, 2]);
  assert.equal(createPicker(ROUND_ROBIN, [])(noChance, idle), undefined);
});

test("round robin: unequal weights go by deadlines, ties by who waits longest", () => {
  assert.deepEqual(turns([1, 2], 6), [1, 0, 1, 1, 0, 1]);
  assert.deepEqual(turns([2, 1], 6), [0, 1, 0, 0, 1, 0]);
  assert.deepEqual(turns([1, 2, 4], 7), [2, 1, 2, 2, 0, 1, 2]);
  assert.deepEqual(turns([2, 1], 3, 1), [1, 0, 0]);
});

test("least request: draws with replacement, the first stays unless another has strictly fewer", () => {
  const choose = (draws: number[], active: number[], choiceCount = 2) => {
    const left = [...draws];
    const host = createPicker(
      { kind: "leastRequest", choiceCount },
      active.map(() => 1),
    )(
      (below) => {
        assert.equal(below, active.length);
        return left.shift()!;
      },
      (host) => active[host]!,
    );
    assert.deepEqual(left, []);
    return host;
  };
  assert.equal(choose([0, 1], [3, 3]), 0);
  assert.equal(choose([0, 1], [3, 2]), 1);
  assert.equal(choose([1, 1], [0, 9]), 1);
  assert.equal(choose([0, 1, 2], [5, 4, 3], 3), 2);
});

test("least request: unequal weights shrink with the requests in service", () => {
  const active = [0, 0];
  const pick = createPicker({ kind: "leastRequest", choiceCount: 2 }, [2, 1]);
  const picked = Array.from({ length: 30 }, () => pick(noChance, (host) => active[host]!)!);
  assert.deepEqual(counts(picked, 2), [20, 10]);
  active[0] = 9;
  const busy = Array.from({ length: 60 }, () => pick(noChance, (host) => active[host]!)!);
  // 2/(9+1) against 1: one in six, but for the turn that was set before.
  assert.ok(Math.abs(counts(busy, 2)[0]! - 10) <= 1);
});

test("random ignores weights", () => {
  const pick = createPicker({ kind: "random" }, [1, 1000, 1]);
  assert.deepEqual(
    [0, 1, 2].map((draw) => pick((below) => (below === 3 ? draw : assert.fail()), idle)),
    [0, 1, 2],
  );
});

test("schedule: a whole round is exact and even", () => {
  assert.deepEqual(schedule([], 10), []);
  assert.deepEqual(schedule([5], 10), [0]);
  assert.deepEqual(schedule([3, 3, 3], 10), [0, 1, 2]);
  assert.deepEqual(schedule([100, 200], 10), [1, 0, 1]);
  assert.deepEqual(schedule([2, 1], 10), [0, 1, 0]);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 8 }), (weights) => {
      const round = schedule(weights, 400);
      const sum = weights.reduce((sum, weight) => sum + weight, 0);
      const total = counts(round, weights.length);
      for (const [host, weight] of weights.entries()) assert.equal(total[host]! * sum, weight * round.length);
      // At no time is a host a whole turn ahead or behind by more than earliest-deadline-first allows.
      const seen = weights.map(() => 0);
      for (const [at, host] of round.entries()) {
        seen[host]!++;
        for (const [other, weight] of weights.entries()) {
          assert.ok(Math.abs(seen[other]! - ((at + 1) * weight) / sum) <= weights.length);
        }
      }
    }),
  );
});

test("schedule: the same turns as the picker, round after round, where floating point is exact", () => {
  const power = fc.constantFrom(1, 2, 4, 8, 16);
  fc.assert(
    fc.property(fc.array(power, { minLength: 2, maxLength: 6 }), (weights) => {
      fc.pre(new Set(weights).size > 1);
      const round = schedule(weights, 1000);
      assert.deepEqual(turns(weights, 3 * round.length), [...round, ...round, ...round]);
    }),
  );
});

test("schedule: over its length everyone has a turn and no share is off by more than promised", () => {
  assert.deepEqual(counts(schedule([1, 1_000_000], 10), 2), [1, 9]);
  assert.deepEqual(counts(schedule([1, 2, 3, 1000], 2), 4), [1, 1, 1, 1]);
  const weight = fc.oneof(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 1, max: 4_000_000_000 }));
  fc.assert(
    fc.property(
      fc.array(weight, { minLength: 1, maxLength: 60 }),
      fc.integer({ min: 1, max: 256 }),
      (weights, maxLength) => {
        const round = schedule(weights, maxLength);
        assert.ok(round.length <= Math.max(maxLength, weights.length));
        const sum = weights.reduce((sum, weight) => sum + weight, 0);
        const exact = weights.map((weight) => (weight / sum) * round.length);
        const small = exact.filter((share) => share < 1).length;
        for (const [host, turns] of counts(round, weights.length).entries()) {
          assert.ok(turns >= 1);
          assert.ok(Math.abs(turns - exact[host]!) < 1 + small, `${turns} turns for ${exact[host]}`);
          if (small === 0) assert.ok(Math.abs(turns - exact[host]!) < 1);
        }
      },
    ),
  );
});
