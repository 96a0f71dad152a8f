import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import type { ExperimentName } from "./load.ts";
import { CONGESTION } from "./namespace.ts";
import type { SystemName, Topology } from "./systems/system.ts";

/** From samples to a table, the goals of the project and a file. */

export interface Sample {
  readonly experiment: ExperimentName;
  readonly topology: Topology;
  readonly system: SystemName;
  readonly connections: number;
  readonly rps: number;
  readonly p50: number;
  readonly p99: number;
  readonly cpu: number;
  readonly machineCpu: number;
  readonly mbps: number;
  readonly errors: number;
  readonly requests: number;
  /** Requests on the slow path for want of an i-sock after the first second; undefined where it was not looked at. */
  readonly starved: number | undefined;
}

export interface Result {
  readonly experiment: ExperimentName;
  readonly topology: Topology;
  readonly system: SystemName;
  readonly connections: number;
  readonly rps: number;
  readonly rps_min: number;
  readonly rps_max: number;
  readonly p50_us: number;
  readonly p50_us_min: number;
  readonly p50_us_max: number;
  readonly p99_us: number;
  readonly p99_us_min: number;
  readonly p99_us_max: number;
  readonly cpu_us_per_request: number;
  /** The whole machine's busy time per request: kernel workers and bystanders included. */
  readonly machine_cpu_us_per_request: number;
  readonly mb_per_second: number;
  readonly errors: number;
  readonly requests: number;
  readonly starved: number | null;
}

type Key = Pick<Result, "experiment" | "topology" | "system" | "connections">;
const keyOf = (of: Key) => `${of.experiment} ${of.topology} ${of.connections} ${of.system}`;

export function summarise(samples: readonly Sample[]): Result[] {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) groups.set(keyOf(sample), [...(groups.get(keyOf(sample)) ?? []), sample]);
  return [...groups.values()].map(summariseOne);
}

function summariseOne(group: readonly Sample[]): Result {
  const { experiment, topology, system, connections } = group[0]!;
  const spread = (of: (sample: Sample) => number) => {
    const sorted = group.map(of).sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
    return { median: round(median), min: round(sorted[0]!), max: round(sorted.at(-1)!) };
  };
  const rps = spread((sample) => sample.rps);
  const p50 = spread((sample) => sample.p50);
  const p99 = spread((sample) => sample.p99);
  const looked = group.flatMap((sample) => sample.starved ?? []);
  return {
    experiment,
    topology,
    system,
    connections,
    rps: rps.median,
    rps_min: rps.min,
    rps_max: rps.max,
    p50_us: p50.median,
    p50_us_min: p50.min,
    p50_us_max: p50.max,
    p99_us: p99.median,
    p99_us_min: p99.min,
    p99_us_max: p99.max,
    cpu_us_per_request: spread((sample) => sample.cpu).median,
    machine_cpu_us_per_request: spread((sample) => sample.machineCpu).median,
    mb_per_second: spread((sample) => sample.mbps).median,
    errors: sum(group.map((sample) => sample.errors)),
    requests: sum(group.map((sample) => sample.requests)),
    starved: looked.length === 0 ? null : sum(looked),
  };
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
const round = (value: number) => Math.round(value * 100) / 100;

// ---- the table ----

const COLUMNS = ["", "req/s", "min..max", "× direct", "p50 µs", "p99 µs", "CPU µs/req", "(machine)", "errors"];

export function formatTable(results: readonly Result[]): string {
  const blocks = new Map<string, Result[]>();
  for (const result of results) {
    const { experiment, topology, connections } = result;
    const title = `${experiment}, ${topology}, ${connections} connection${connections === 1 ? "" : "s"}`;
    blocks.set(title, [...(blocks.get(title) ?? []), result]);
  }
  return [...blocks].map(([title, rows]) => formatBlock(title, rows)).join("\n");
}

function formatBlock(title: string, rows: readonly Result[]): string {
  const direct = rows.find((row) => row.system === "direct");
  const cells = rows.map((row) => [
    row.system,
    thousands(row.rps),
    `${thousands(row.rps_min)}..${thousands(row.rps_max)}`,
    direct === undefined ? "-" : (row.rps / direct.rps).toFixed(2),
    thousands(row.p50_us),
    thousands(row.p99_us),
    row.cpu_us_per_request.toFixed(1),
    row.machine_cpu_us_per_request.toFixed(1),
    String(row.errors),
  ]);
  return `${title}\n${columns([COLUMNS, ...cells])}\n`;
}

function columns(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join("  ");
  return rows.map((row) => `  ${line(row).trimEnd()}`).join("\n");
}

const thousands = (value: number) => Math.round(value).toLocaleString("en-US");

// ---- the goals ----

interface Goal {
  readonly what: string;
  readonly bound: readonly [">=" | "<=" | "=", number];
  readonly value: (look: Look) => number | undefined;
}

type Metric = "rps" | "p50_us" | "p99_us" | "cpu_us_per_request";
type Best = (values: readonly number[]) => number;
interface Look {
  readonly all: readonly Result[];
  /** XLB's metric over the best of the others'; undefined where one of them was not measured at all. */
  ratio(
    experiment: ExperimentName,
    topology: Topology,
    connections: number,
    metric: Metric,
    to: Peer,
  ): number | undefined;
}

interface Peer {
  readonly systems: readonly SystemName[];
  readonly best: Best;
}

const highest: Best = (values) => Math.max(...values);
const lowest: Best = (values) => Math.min(...values);
const DIRECT: Peer = { systems: ["direct"], best: highest };
const ENVOY: Peer = { systems: ["envoy-1", "envoy-2"], best: highest };
const ENVOY_QUICKEST: Peer = { systems: ["envoy-1", "envoy-2"], best: lowest };
const PROXY: Peer = { systems: ["haproxy", "nginx"], best: highest };

const throughput = (what: string, topology: Topology, connections: number, to: Peer, least: number): Goal => ({
  what: `${topology.replace("-", " ")}, throughput against ${what}, ${connections} connections`,
  bound: [">=", least],
  value: (look) => look.ratio("keepalive", topology, connections, "rps", to),
});

const bodies = (what: string, experiment: ExperimentName, connections: number, topology: Topology): Goal => ({
  what: `${what}, ${topology.replace("-", " ")}, against direct`,
  bound: [">=", 0.8],
  value: (look) => look.ratio(experiment, topology, connections, "rps", DIRECT),
});

const GOALS: readonly Goal[] = [
  throughput("direct", "same-host", 8, DIRECT, 1.5),
  throughput("direct", "same-host", 64, DIRECT, 1.3),
  throughput("direct", "same-host", 128, DIRECT, 1.2),
  throughput("the better Envoy", "same-host", 64, ENVOY, 8),
  throughput("the faster of HAProxy and nginx", "same-host", 64, PROXY, 3),
  {
    what: "same host, p50 against direct, 8 connections",
    bound: ["<=", 0.7],
    value: (look) => look.ratio("keepalive", "same-host", 8, "p50_us", DIRECT),
  },
  throughput("the better Envoy", "cross-host", 64, ENVOY, 3.5),
  throughput("the faster of HAProxy and nginx", "cross-host", 64, PROXY, 1.5),
  throughput("direct", "cross-host", 8, DIRECT, 0.6),
  {
    what: "same host, p99 against the better Envoy, 128 connections",
    bound: ["<=", 0.15],
    value: (look) => look.ratio("keepalive", "same-host", 128, "p99_us", ENVOY_QUICKEST),
  },
  {
    what: "cross host, p99 against the better Envoy, 128 connections",
    bound: ["<=", 0.4],
    value: (look) => look.ratio("keepalive", "cross-host", 128, "p99_us", ENVOY_QUICKEST),
  },
  ...[8, 64].flatMap((connections): Goal[] => [
    {
      what: `a request per connection, same host, ${connections} at once, against the faster of HAProxy and nginx`,
      bound: [">=", 1.1],
      value: (look) => look.ratio("connection-per-request", "same-host", connections, "rps", PROXY),
    },
    {
      what: `a request per connection, same host, ${connections} at once, CPU against it`,
      bound: ["<=", 0.8],
      value: (look) => {
        const faster = fasterProxy(look.all, connections);
        const to: Peer = { systems: faster === undefined ? [] : [faster], best: lowest };
        return look.ratio("connection-per-request", "same-host", connections, "cpu_us_per_request", to);
      },
    },
  ]),
  bodies("a 4 MiB response", "body-4MiB", 4, "same-host"),
  bodies("a 4 MiB response", "body-4MiB", 4, "cross-host"),
  bodies("a 64 KiB upload", "upload-64KiB", 8, "same-host"),
  bodies("a 64 KiB upload", "upload-64KiB", 8, "cross-host"),
  {
    what: "errors and non-2xx",
    bound: ["=", 0],
    value: ({ all }) => total(all.filter(isXlb), (result) => result.errors),
  },
  {
    what: "requests on the slow path for want of an i-sock after the first second",
    bound: ["=", 0],
    value: ({ all }) => {
      const looked = all.filter((result) => result.system === "xlb" && result.starved !== null);
      return total(looked, (result) => result.starved ?? 0);
    },
  },
];

const isXlb = (result: Result) => result.system === "xlb" || result.system === "xlb-slow-path";
const total = (results: readonly Result[], of: (result: Result) => number) =>
  results.length === 0 ? undefined : sum(results.map(of));

function fasterProxy(all: readonly Result[], connections: number): SystemName | undefined {
  const rows = all.filter(
    (row) =>
      row.experiment === "connection-per-request" &&
      row.topology === "same-host" &&
      row.connections === connections &&
      PROXY.systems.includes(row.system),
  );
  return rows.sort((a, b) => b.rps - a.rps)[0]?.system;
}

export interface Verdict {
  readonly goal: string;
  readonly bound: string;
  readonly value: number | null;
  readonly verdict: "met" | "missed" | "not measured";
}

export function judge(results: readonly Result[]): Verdict[] {
  const index = new Map(results.map((result) => [keyOf(result), result]));
  const look: Look = {
    all: results,
    ratio(experiment, topology, connections, metric, to) {
      const at = (system: SystemName) => index.get(keyOf({ experiment, topology, connections, system }))?.[metric];
      const own = at("xlb");
      const others = to.systems.flatMap((system) => at(system) ?? []);
      return own === undefined || others.length === 0 ? undefined : own / to.best(others);
    },
  };
  return GOALS.map(({ what, bound: [sign, limit], value }) => {
    const found = value(look);
    const bound = `${{ ">=": "≥", "<=": "≤", "=": "=" }[sign]} ${limit}${sign === "=" ? "" : " ×"}`;
    if (found === undefined) return { goal: what, bound, value: null, verdict: "not measured" };
    const met = sign === ">=" ? found >= limit : sign === "<=" ? found <= limit : found === limit;
    return { goal: what, bound, value: Math.round(found * 1000) / 1000, verdict: met ? "met" : "missed" };
  });
}

export function formatVerdicts(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(({ goal, bound, value, verdict }) => [
    goal,
    bound,
    value === null ? "-" : String(value),
    verdict,
  ]);
  return columns([["goal", "bound", "value", ""], ...rows]);
}

// ---- the file ----

export function describeMachine(): object {
  const processors = cpus();
  return {
    kernel: release(),
    cpu: processors[0]?.model.trim() ?? "unknown",
    cpus: processors.length,
    memory_mib: Math.round(totalmem() / (1 << 20)),
    node: process.version,
    congestion_control: {
      "same-host": readFileSync("/proc/sys/net/ipv4/tcp_congestion_control", "utf8").trim(),
      "cross-host": CONGESTION,
    },
    date: new Date().toISOString(),
  };
}
