import { isDeepStrictEqual } from "node:util";
import type { Cluster, Endpoint } from "../model/config.ts";
import type { EjectionType, OutlierDetection } from "../model/outlier.ts";
import { random } from "../route/chance.ts";
import {
  countStatus,
  Detector,
  is5xx,
  longest,
  type Outcome,
  type OutlierCounter,
  type Rate,
  type Rates,
  reachedBy,
  STREAK_TYPES,
  STREAKS,
  type StreakKind,
  type Streaks,
  statusOf,
} from "../route/outlier.ts";
import { endpointName } from "../tables/address.ts";

/** What the hooks have counted of an endpoint by themselves, since ever. */
export interface KernelTotals {
  readonly answers: number;
  /** Those of them that are 5xx. */
  readonly errors: number;
  /** Requests that have got a connection to it. */
  readonly requests: number;
  /** Clients' own connections that were made to it: tcp_proxy. */
  readonly connections: number;
}

/** Where outcomes at an endpoint are counted: the hooks count theirs there, too. Endpoints go by their names. */
export interface Tally {
  streaks(name: string): Streaks;
  totals(name: string): KernelTotals;
  /** Hooks count what comes of its requests, and tell when a streak is as long as that. */
  watch(name: string, settings: OutlierDetection): void;
}

export interface OutlierPorts {
  /** Milliseconds. */
  now(): number;
  /** Endpoints were ejected, or are in service again: told in the next turn of the event loop, once for all of them. */
  changed(): void;
  count(cluster: string, what: OutlierCounter): void;
  log(fields: object, message: string): void;
}

/** What has come to this process of an endpoint since the last look, and what the hooks had counted at that time. */
interface Record {
  external: Rate;
  local: Rate;
  seen: KernelTotals;
  /** Times in a row that it was not reached ... */
  unreached: number;
  /** ... while the hooks had reached it so often. */
  reached: number;
}

interface Watched {
  readonly detector: Detector;
  readonly timer: NodeJS.Timeout;
  records: ReadonlyMap<string, Record>;
}

/** Outlier detection, of all clusters that have it: the detectors with what they need of the rest. */
export class Outliers {
  readonly #ports: OutlierPorts;
  readonly #watched = new Map<string, Watched>();
  #tally: Tally = new OwnTally();
  #stopped = false;
  #news: NodeJS.Immediate | undefined;

  constructor(ports: OutlierPorts) {
    this.#ports = ports;
  }

  /** The clusters from now on, and where is counted what comes of their requests. */
  follow(clusters: readonly Cluster[], tally: Tally = this.#tally): void {
    if (this.#stopped) return;
    this.#tally = tally;
    const wanted = new Map(clusters.map((cluster) => [cluster.name, cluster]));
    for (const [name, { detector, timer }] of this.#watched) {
      if (isDeepStrictEqual(wanted.get(name)?.outlierDetection, detector.settings)) continue;
      clearInterval(timer);
      this.#watched.delete(name);
    }
    for (const { name, endpoints, outlierDetection } of clusters) {
      if (outlierDetection === undefined) continue;
      const watched = this.#watched.get(name) ?? this.#begin(name, outlierDetection);
      this.#take(watched, name, endpoints);
    }
  }

  #begin(cluster: string, settings: OutlierDetection): Watched {
    const detector = new Detector(settings, random, (what) => this.#ports.count(cluster, what));
    const timer = setInterval(() => this.#sweep(cluster), Math.min(settings.intervalMs, MAX_INTERVAL)).unref();
    const watched = { detector, timer, records: new Map() };
    this.#watched.set(cluster, watched);
    return watched;
  }

  #take(watched: Watched, cluster: string, endpoints: readonly Endpoint[]): void {
    const { detector, records: had } = watched;
    const names = new Set(endpoints.map((endpoint) => endpointName(cluster, endpoint)));
    watched.records = new Map(Array.from(names, (name) => [name, had.get(name) ?? this.#fresh(name)]));
    detector.setHosts(names);
    for (const name of names) this.#tally.watch(name, detector.settings);
  }

  #fresh(name: string): Record {
    const streaks = this.#tally.streaks(name);
    for (const kind of STREAKS) streaks.end(kind);
    const seen = this.#tally.totals(name);
    return { external: NONE, local: NONE, seen, unreached: 0, reached: reachedOf(seen) };
  }

  isEjected(cluster: string, endpoint: Endpoint): boolean {
    return this.#watched.get(cluster)?.detector.isEjected(endpointName(cluster, endpoint)) ?? false;
  }

  /** How many endpoints of a cluster are ejected now. */
  active(cluster: string): number {
    return this.#watched.get(cluster)?.detector.active ?? 0;
  }

  stop(): void {
    this.#stopped = true;
    clearImmediate(this.#news);
    for (const { timer } of this.#watched.values()) clearInterval(timer);
    this.#watched.clear();
  }

  /** Something has come of a request that no hook has counted. */
  outcome(cluster: string, name: string, outcome: Outcome): void {
    const watched = this.#watched.get(cluster);
    const record = watched?.records.get(name);
    if (watched === undefined || record === undefined) return;
    const { settings } = watched.detector;
    const reached = reachedBy(outcome, settings);
    if (reached !== undefined) this.#reached(watched, cluster, name, record, reached);
    const status = statusOf(outcome, settings);
    if (status === undefined) return;
    record.external = more(record.external, !is5xx(status));
    this.#grown(watched, cluster, name, countStatus(status, this.#tally.streaks(name), settings));
  }

  #reached(watched: Watched, cluster: string, name: string, record: Record, isReached: boolean): void {
    const { detector } = watched;
    record.local = more(record.local, isReached);
    if (isReached) {
      record.unreached = 0;
      return;
    }
    const reached = reachedOf(this.#tally.totals(name));
    record.unreached = reached === record.reached ? record.unreached + 1 : 1;
    record.reached = reached;
    if (record.unreached !== detector.settings.consecutiveLocalFailures) return;
    record.unreached = 0;
    this.#detected(watched, cluster, name, "consecutive_local_origin_failure");
  }

  /** Of an endpoint these streaks are as long now as they may be; by the word of a hook, or our own. */
  grown(cluster: string, name: string, streaks: readonly StreakKind[]): void {
    const watched = this.#watched.get(cluster);
    /* The last answers of an endpoint may come when it is in its cluster no more. */
    if (watched?.records.has(name)) this.#grown(watched, cluster, name, streaks);
  }

  #grown(watched: Watched, cluster: string, name: string, streaks: readonly StreakKind[]): void {
    for (const kind of STREAKS) {
      if (!streaks.includes(kind) || watched.detector.isEjected(name)) continue;
      this.#detected(watched, cluster, name, STREAK_TYPES[kind]);
      this.#tally.streaks(name).end(kind);
    }
  }

  #detected({ detector }: Watched, cluster: string, name: string, type: EjectionType): void {
    if (!detector.detected(name, type, this.#ports.now())) return;
    this.#ports.log({ cluster, endpoint: name, type }, "an endpoint is ejected");
    this.#tell();
  }

  /** A cluster's tables cost milliseconds, and hundreds of its endpoints may fail at once: one compilation for them. */
  #tell(): void {
    this.#news ??= setImmediate(() => {
      this.#news = undefined;
      this.#ports.changed();
    });
  }

  #sweep(cluster: string): void {
    const watched = this.#watched.get(cluster);
    if (watched === undefined) return;
    const { detector, records } = watched;
    for (const name of records.keys()) this.#grown(watched, cluster, name, this.#overlooked(name, detector.settings));
    const { ejected, returned } = detector.sweep(this.#ports.now(), (name) =>
      this.#ratesOf(name, records.get(name)!, detector.settings),
    );
    for (const name of returned) {
      for (const kind of STREAKS) this.#tally.streaks(name).end(kind);
      records.get(name)!.unreached = 0;
      this.#ports.log({ cluster, endpoint: name }, "an endpoint is in service again");
    }
    for (const name of ejected) this.#ports.log({ cluster, endpoint: name }, "an endpoint is ejected as an outlier");
    if (ejected.length + returned.length > 0) this.#tell();
  }

  /** Streaks that a hook could not tell of, because the ring of events was full. */
  #overlooked(name: string, settings: OutlierDetection): StreakKind[] {
    const streaks = this.#tally.streaks(name);
    return STREAKS.filter((kind) => longest(kind, settings) > 0 && streaks.length(kind) >= longest(kind, settings));
  }

  /** What came of an endpoint's requests since this was last asked. */
  #ratesOf(name: string, record: Record, { splitsOrigins }: OutlierDetection): Rates {
    const { external, local, seen } = record;
    const now = this.#tally.totals(name);
    record.seen = now;
    const reached = reachedOf(now) - reachedOf(seen);
    const errors = now.errors - seen.errors;
    const answers = now.answers - seen.answers + (splitsOrigins ? 0 : now.connections - seen.connections);
    const rates = {
      external: { total: external.total + answers, good: external.good + answers - errors },
      local: splitsOrigins ? { total: local.total + reached, good: local.good + reached } : NONE,
    };
    record.external = NONE;
    record.local = NONE;
    return rates;
  }
}

/** Node takes a longer time for none at all. Milliseconds. */
const MAX_INTERVAL = 2 ** 31 - 1;

const NONE: Rate = { total: 0, good: 0 };

const more = ({ total, good }: Rate, isGood: boolean): Rate => ({ total: total + 1, good: good + (isGood ? 1 : 0) });

const reachedOf = ({ requests, connections }: KernelTotals) => requests + connections;

/** Without the hooks all that comes of requests comes to this process. */
class OwnTally implements Tally {
  readonly #streaks = new Map<string, OwnStreaks>();

  streaks(name: string): Streaks {
    const found = this.#streaks.get(name) ?? new OwnStreaks();
    this.#streaks.set(name, found);
    return found;
  }

  totals(): KernelTotals {
    return { answers: 0, errors: 0, requests: 0, connections: 0 };
  }

  watch(): void {}
}

class OwnStreaks implements Streaks {
  readonly #lengths = { errors: 0, gatewayErrors: 0 };

  add(kind: StreakKind): number {
    return ++this.#lengths[kind];
  }

  end(kind: StreakKind): void {
    this.#lengths[kind] = 0;
  }

  length(kind: StreakKind): number {
    return this.#lengths[kind];
  }
}
