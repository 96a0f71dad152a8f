import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_OUTLIER_DETECTION, type OutlierDetection } from "../../src/model/outlier.ts";
import { countStatus, Detector, type Rates, type StreakKind } from "../../src/route/outlier.ts";

/** What test/e2e/outlier.test.ts cannot ask of a real Envoy in a short time: many endpoints, and chance. */

const NONE = { total: 0, good: 0 };

function detector(settings: Partial<OutlierDetection>, hosts: number, random: (below: number) => number = () => 0) {
  const counts: Record<string, number> = {};
  const made = new Detector({ ...DEFAULT_OUTLIER_DETECTION, ...settings }, random, (what) => {
    counts[what] = (counts[what] ?? 0) + 1;
  });
  const names = Array.from({ length: hosts }, (_, i) => `h${i}`);
  made.setHosts(names);
  return { made, counts, names };
}

const external = (total: number, good: number): Rates => ({ external: { total, good }, local: NONE });
const local = (total: number, good: number): Rates => ({ external: NONE, local: { total, good } });

test("max_ejection_percent is a share of all endpoints, the next one counted in", () => {
  const { made, counts, names } = detector({ maxEjectionPercent: 30 }, 10);
  const ejected = names.filter((name) => made.detected(name, "consecutive_5xx", 0));
  assert.deepEqual(ejected, ["h0", "h1", "h2"]);
  assert.deepEqual(counts, {
    ejections_detected_consecutive_5xx: 10,
    ejections_enforced_total: 3,
    ejections_enforced_consecutive_5xx: 3,
    ejections_overflow: 7,
  });
  /* Fewer endpoints: what is ejected stays so, and there is room for no more. */
  made.setHosts(["h0", "h5", "h6"]);
  assert.equal(made.active, 1);
  assert.equal(made.detected("h5", "consecutive_5xx", 0), false);
  assert.equal(made.detected("h7", "consecutive_5xx", 0), false);
});

test("enforcing is a chance", () => {
  for (const [chance, enforced] of [
    [39, true],
    [40, false],
  ] as const) {
    const enforcing = { ...DEFAULT_OUTLIER_DETECTION.enforcing, consecutive_5xx: 40 };
    const { made } = detector({ maxEjectionPercent: 100, enforcing }, 1, (below) => (below === 100 ? chance : 0));
    assert.equal(made.detected("h0", "consecutive_5xx", 0), enforced);
  }
});

/** When it is back, looked at each second. */
function backAt(made: Detector, fromMs: number): number {
  for (let ms = fromMs; ms < fromMs + 2_000_000; ms += 1_000)
    if (made.sweep(ms, () => external(0, 0)).returned.includes("h0")) return ms - fromMs;
  return Number.POSITIVE_INFINITY;
}

test("an ejection lasts longer each time, up to max_ejection_time, with jitter on top", () => {
  const settings = { maxEjectionPercent: 100, intervalMs: 1_000, maxEjectionMs: 100_000, maxJitterMs: 4_999 };
  const { made } = detector(settings, 1, (below) => below - 1);
  const enforced = { ...DEFAULT_OUTLIER_DETECTION.enforcing };
  assert.equal(enforced.consecutive_5xx, 100);
  const lasted: number[] = [];
  let now = 0;
  for (let round = 0; round < 6; round++) {
    assert.equal(made.detected("h0", "consecutive_5xx", now), true);
    const ms = backAt(made, now);
    lasted.push(ms);
    now += ms;
  }
  /* 30, 60, 90 s, then 100: and 4,999 ms of jitter, seen at the next whole second. */
  assert.deepEqual(lasted, [35_000, 65_000, 95_000, 105_000, 105_000, 105_000]);
});

test("each good interval takes one time back", () => {
  const { made } = detector({ maxEjectionPercent: 100, intervalMs: 1_000 }, 1);
  let now = 0;
  for (const expected of [30_000, 60_000, 90_000]) {
    made.detected("h0", "consecutive_5xx", now);
    assert.equal(backAt(made, now), expected);
    now += expected;
  }
  for (let good = 0; good < 2; good++) {
    now += 1_000;
    made.sweep(now, () => external(0, 0));
  }
  made.detected("h0", "consecutive_5xx", now);
  assert.equal(backAt(made, now), 60_000);
});

test("success rate: below the mean by more than so many standard deviations", () => {
  const judged = (rates: readonly Rates[], settings: Partial<OutlierDetection> = {}) => {
    const { made } = detector({ maxEjectionPercent: 100, ...settings }, rates.length);
    return made.sweep(0, (name) => rates[Number(name.slice(1))]!).ejected;
  };
  const good = external(100, 100);
  /* Mean 90, deviation 20: below 52 with the default factor. */
  assert.deepEqual(judged([external(100, 50), good, good, good, good]), ["h0"]);
  const lax = { ...DEFAULT_OUTLIER_DETECTION.successRate, stdevFactor: 2_100 };
  assert.deepEqual(judged([external(100, 50), good, good, good, good], { successRate: lax }), []);
  assert.deepEqual(judged([external(100, 50), good, good, good]), [], "too few endpoints");
  assert.deepEqual(
    judged([external(100, 50), good, good, good, external(99, 99)]),
    [],
    "one of them has too few requests",
  );
  assert.deepEqual(judged(Array.from({ length: 5 }, () => external(100, 10))), [], "all are alike");
  assert.deepEqual(judged([local(100, 50), ...Array.from({ length: 4 }, () => local(100, 100))]), ["h0"]);
  const enforcing = { ...DEFAULT_OUTLIER_DETECTION.enforcing, local_origin_success_rate: 0 };
  assert.deepEqual(judged([local(100, 50), ...Array.from({ length: 4 }, () => local(100, 100))], { enforcing }), []);
});

test("failure percentage, each endpoint for itself", () => {
  const enforcing = { ...DEFAULT_OUTLIER_DETECTION.enforcing, success_rate: 0, failure_percentage: 100 };
  const { made, counts } = detector({ maxEjectionPercent: 100, enforcing }, 5);
  const rates = [external(50, 7), external(50, 8), external(49, 0), external(50, 0), external(100, 15)];
  assert.deepEqual(made.sweep(0, (name) => rates[Number(name.slice(1))]!).ejected, []);
  /* 49 requests are too few, and without it there are too few endpoints. */
  rates[2] = external(50, 50);
  assert.deepEqual(made.sweep(0, (name) => rates[Number(name.slice(1))]!).ejected, ["h0", "h3", "h4"]);
  assert.equal(counts.ejections_enforced_failure_percentage, 3);
  /* Whoever is ejected is not judged: the rest are too few. */
  rates[1] = external(50, 0);
  assert.deepEqual(made.sweep(1, (name) => rates[Number(name.slice(1))]!).ejected, []);
});

test("found out by two measures at once, it is ejected once", () => {
  const enforcing = { ...DEFAULT_OUTLIER_DETECTION.enforcing, failure_percentage: 100 };
  const { made, counts } = detector({ maxEjectionPercent: 100, enforcing }, 5);
  const { ejected } = made.sweep(0, (name) => (name === "h0" ? external(100, 0) : external(100, 100)));
  assert.deepEqual(ejected, ["h0"]);
  assert.equal(made.active, 1);
  assert.equal(counts.ejections_enforced_total, 1);
  assert.equal(counts.ejections_detected_failure_percentage, 1);
});

test("streaks: gateway errors are errors, and other errors end theirs", () => {
  const settings = { ...DEFAULT_OUTLIER_DETECTION, consecutive5xx: 4, consecutiveGatewayFailures: 2 };
  const lengths = { errors: 0, gatewayErrors: 0 };
  const streaks = {
    add: (kind: StreakKind) => ++lengths[kind],
    end: (kind: StreakKind) => {
      lengths[kind] = 0;
    },
    length: (kind: StreakKind) => lengths[kind],
  };
  const grown = [502, 500, 503, 504, 505, 599, 600, 499, 501].map((status) => countStatus(status, streaks, settings));
  assert.deepEqual(grown, [[], [], [], ["gatewayErrors", "errors"], [], [], [], [], []]);
  assert.deepEqual(lengths, { errors: 1, gatewayErrors: 0 });
});
