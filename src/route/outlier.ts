import type { Cluster, Config, Endpoint } from "../model/config.ts";
import type { EjectionType, OutlierDetection } from "../model/outlier.ts";
import { withClusters } from "./clusters.ts";
import type { Random } from "./pick.ts";

/**
 * Which endpoints of a cluster are kept from requests for what they did to others: DetectorImpl of
 * source/common/upstream/outlier_detection_impl.cc of Envoy. Who counts, and what time it is, others know.
 */

/** What came of a request at an endpoint: a status, or none. */
export type Outcome =
  /** An answer's, which may be cut off later. */
  | { readonly kind: "answered"; readonly status: number }
  /** A connection for it was there; of tcp_proxy, which asks for no more, for good. */
  | { readonly kind: "connected"; readonly isAll: boolean }
  /** No connection was made, or it broke. */
  | { readonly kind: "failed" }
  /** `status`: what its client is told. */
  | { readonly kind: "timedOut"; readonly status: number };

/** No connection was made: it was refused, or took longer than it may. */
export const notConnected = (isLate: boolean): Outcome =>
  isLate ? { kind: "timedOut", status: 504 } : { kind: "failed" };

/** The status that an outcome counts as; undefined: it says nothing of what the endpoint answers. */
export function statusOf(outcome: Outcome, { splitsOrigins }: OutlierDetection): number | undefined {
  switch (outcome.kind) {
    case "answered":
      return outcome.status;
    case "connected":
      return outcome.isAll && !splitsOrigins ? 200 : undefined;
    case "failed":
      return splitsOrigins ? undefined : 503;
    case "timedOut":
      return splitsOrigins ? undefined : outcome.status;
    default:
      return outcome satisfies never;
  }
}

/** Whether XLB reached the endpoint, where that is a question of its own. */
export function reachedBy(outcome: Outcome, { splitsOrigins }: OutlierDetection): boolean | undefined {
  if (!splitsOrigins || outcome.kind === "answered") return undefined;
  return outcome.kind === "connected";
}

export const is5xx = (status: number) => status >= 500 && status < 600;
const isGatewayFailure = (status: number) => status >= 502 && status <= 504;

/** Errors in a row of one endpoint: all 5xx, and those of gateways. */
export interface Streaks {
  /** One more; gives how many there are now. */
  add(kind: StreakKind): number;
  end(kind: StreakKind): void;
  length(kind: StreakKind): number;
}

export type StreakKind = "errors" | "gatewayErrors";

/** In the order in which Envoy looks at them. */
export const STREAKS = ["gatewayErrors", "errors"] as const;

export const STREAK_TYPES: Readonly<Record<StreakKind, EjectionType>> = {
  errors: "consecutive_5xx",
  gatewayErrors: "consecutive_gateway_failure",
};

/** So many of them eject an endpoint; 0: none do. */
export const longest = (kind: StreakKind, settings: OutlierDetection) =>
  kind === "errors" ? settings.consecutive5xx : settings.consecutiveGatewayFailures;

/** Counts a status, and tells which streaks have just become as long as they may: `count_outcome` of the hooks. */
export function countStatus(status: number, streaks: Streaks, settings: OutlierDetection): StreakKind[] {
  return STREAKS.filter((kind) => {
    if (kind === "errors" ? is5xx(status) : isGatewayFailure(status))
      return streaks.add(kind) === longest(kind, settings);
    streaks.end(kind);
    return false;
  });
}

/** Requests of an interval, and those that came to no harm. */
export interface Rate {
  readonly total: number;
  readonly good: number;
}

/** By what an endpoint answers, and by whether it is reached. */
export interface Rates {
  readonly external: Rate;
  readonly local: Rate;
}

interface Monitor {
  /** When it was ejected, and for how much longer than others; undefined: it is in service. */
  ejected: { readonly atMs: number; readonly jitterMs: number } | undefined;
  returnedMs: number | undefined;
  /** How many times the base time its ejection lasts. */
  backOff: number;
}

/** What a detector counts, by Envoy's names. */
export type OutlierCounter =
  | "ejections_enforced_total"
  | "ejections_overflow"
  | `ejections_${"detected" | "enforced"}_${EjectionType}`;

export class Detector {
  readonly settings: OutlierDetection;
  readonly #random: Random;
  readonly #count: (what: OutlierCounter) => void;
  #hosts: ReadonlyMap<string, Monitor> = new Map();
  #active = 0;

  constructor(settings: OutlierDetection, random: Random, count: (what: OutlierCounter) => void) {
    this.settings = settings;
    this.#random = random;
    this.#count = count;
  }

  /** The cluster's endpoints from now on; what is known of those that stay is kept. */
  setHosts(names: Iterable<string>): void {
    const had = this.#hosts;
    const fresh = (): Monitor => ({ ejected: undefined, returnedMs: undefined, backOff: 0 });
    this.#hosts = new Map(Array.from(names, (name) => [name, had.get(name) ?? fresh()]));
    this.#active = [...this.#hosts.values()].filter(({ ejected }) => ejected !== undefined).length;
  }

  get hosts(): Iterable<string> {
    return this.#hosts.keys();
  }

  /** How many are ejected now. */
  get active(): number {
    return this.#active;
  }

  isEjected(name: string): boolean {
    return this.#hosts.get(name)?.ejected !== undefined;
  }

  /** An endpoint has failed as often in a row as it may. True: that ejects it. */
  detected(name: string, type: EjectionType, nowMs: number): boolean {
    const monitor = this.#hosts.get(name);
    if (monitor === undefined || monitor.ejected !== undefined) return false;
    return this.#found(monitor, type, nowMs);
  }

  #found(monitor: Monitor, type: EjectionType, nowMs: number): boolean {
    const { maxEjectionPercent, alwaysEjectsOne, enforcing, baseEjectionMs, maxEjectionMs, maxJitterMs } =
      this.settings;
    this.#count(`ejections_detected_${type}`);
    const percent = (100 * (this.#active + 1)) / this.#hosts.size;
    if (percent > maxEjectionPercent && !(alwaysEjectsOne && this.#active === 0)) {
      this.#count("ejections_overflow");
      return false;
    }
    if (this.#random(100) >= enforcing[type]) return false;
    /* It is found out twice in one sweep, by two measures. */
    if (monitor.ejected !== undefined) return false;
    this.#count("ejections_enforced_total");
    this.#count(`ejections_enforced_${type}`);
    this.#active++;
    monitor.ejected = { atMs: nowMs, jitterMs: this.#random(maxJitterMs + 1) };
    if (monitor.backOff * baseEjectionMs < maxEjectionMs + baseEjectionMs) monitor.backOff++;
    return true;
  }

  /**
   * An interval is over: lets in whoever has been away for long enough, and judges the others by what came of their
   * requests in it (`ratesOf`, asked once for each). Gives the endpoints whose state has changed.
   */
  sweep(nowMs: number, ratesOf: (name: string) => Rates): { readonly ejected: string[]; readonly returned: string[] } {
    const returned = [...this.#hosts].filter(([, monitor]) => this.#returns(monitor, nowMs)).map(([name]) => name);
    const rates = new Map([...this.#hosts.keys()].map((name) => [name, ratesOf(name)]));
    const ejected = (["external", "local"] as const).flatMap((origin) => this.#judge(origin, rates, nowMs));
    for (const monitor of this.#hosts.values()) {
      const { ejected, returnedMs, backOff } = monitor;
      if (ejected !== undefined || returnedMs === undefined || nowMs - returnedMs < this.settings.intervalMs) continue;
      monitor.backOff = Math.max(0, backOff - 1);
    }
    return { ejected, returned };
  }

  #returns(monitor: Monitor, nowMs: number): boolean {
    const { baseEjectionMs, maxEjectionMs } = this.settings;
    const { ejected, backOff } = monitor;
    if (ejected === undefined) return false;
    if (nowMs - ejected.atMs < Math.min(baseEjectionMs * backOff, maxEjectionMs) + ejected.jitterMs) return false;
    monitor.ejected = undefined;
    monitor.returnedMs = nowMs;
    this.#active--;
    return true;
  }

  #judge(origin: keyof Rates, rates: ReadonlyMap<string, Rates>, nowMs: number): string[] {
    const { successRate, failurePercentage } = this.settings;
    const judged = [...this.#hosts].flatMap(([name, monitor]) => {
      const { total, good } = rates.get(name)![origin];
      return monitor.ejected !== undefined || total === 0 ? [] : [{ name, monitor, total, rate: (100 * good) / total }];
    });
    const outliers = (some: typeof judged, type: EjectionType, isOne: (rate: number) => boolean) =>
      some.filter(({ monitor, rate }) => isOne(rate) && this.#found(monitor, type, nowMs)).map(({ name }) => name);
    const isLocal = origin === "local";
    const byRate = judged.filter(({ total }) => total >= successRate.requestVolume);
    const byFailures = judged.filter(({ total }) => total >= failurePercentage.requestVolume);
    const threshold = rateThreshold(byRate, successRate.stdevFactor / 1_000);
    return [
      ...(byRate.length === 0 || byRate.length < successRate.minimumHosts
        ? []
        : outliers(byRate, isLocal ? "local_origin_success_rate" : "success_rate", (rate) => rate < threshold)),
      ...(byFailures.length === 0 || byFailures.length < failurePercentage.minimumHosts
        ? []
        : outliers(
            byFailures,
            isLocal ? "local_origin_failure_percentage" : "failure_percentage",
            (rate) => 100 - rate >= failurePercentage.threshold,
          )),
    ];
  }
}

/** The mean less so many standard deviations. */
function rateThreshold(hosts: readonly { readonly rate: number }[], factor: number): number {
  const mean = hosts.reduce((sum, { rate }) => sum + rate, 0) / hosts.length;
  const variance = hosts.reduce((sum, { rate }) => sum + (rate - mean) ** 2, 0) / hosts.length;
  return mean - factor * Math.sqrt(variance);
}

/** The configuration as it is while these endpoints are ejected; one that is draining anyway stays so. */
export function withEjections(
  config: Config,
  isEjected: (cluster: string, endpoint: Endpoint) => boolean,
  before?: Config,
): Config {
  const change = (cluster: Cluster): Cluster => {
    if (cluster.outlierDetection === undefined) return cluster;
    const gone = new Set(cluster.endpoints.filter((endpoint) => isEjected(cluster.name, endpoint)));
    if (gone.size === 0) return cluster;
    const left = (endpoint: Endpoint): Endpoint =>
      gone.has(endpoint) && endpoint.health !== "draining" ? { ...endpoint, health: "unhealthy" } : endpoint;
    return { ...cluster, endpoints: cluster.endpoints.map(left) };
  };
  return withClusters(config, change, before);
}
