import type { ClusterStats, EndpointStats, ListenerStats, Stats } from "../admin/messages.ts";
import { bold, bytes, type Cell, dim, duration, table } from "./table.ts";

const PATHS = ["SAME HOST", "CROSS HOST", "SLOW"] as const;

/** The counters as a page of text. */
export function formatStats(stats: Stats): string {
  const { open, slow_path } = stats.connections;
  const sections = [
    `${bold("xlb")}  ${stats.datapath} datapath · up ${duration(stats.uptime)} · ${bytes(stats.memory)} resident` +
      ` · ${open} connections open, ${slow_path} on the slow path`,
    formatListeners(stats.listeners),
    ...stats.listeners.flatMap(({ name, counters }) =>
      counters === undefined ? [] : [`${bold("LISTENER")} ${name}\n${formatCounters(counters)}`],
    ),
    table(
      ["ROUTE", "REQUESTS"],
      stats.routes.map((route) => [route.name, route.requests]),
    ),
    ...stats.clusters.map(formatCluster),
    formatReasons(stats.reasons),
  ];
  return `${sections.join("\n\n")}\n`;
}

function formatListeners(listeners: readonly ListenerStats[]): string {
  // A column of zeros says nothing that its absence does not.
  const direct = listeners.some((row) => row.direct > 0);
  const answered = listeners.some((row) => row.answered > 0);
  const row = (row: ListenerStats): Cell[] => [
    row.name,
    row.address,
    row.connections,
    ...(direct ? [row.direct] : []),
    row.requests,
    row.same_host,
    row.cross_host,
    row.slow,
    ...(answered ? [row.answered] : []),
    row.no_route_match,
  ];
  const heads = [
    "LISTENER",
    "ADDRESS",
    "CONNECTIONS",
    ...(direct ? ["DIRECT"] : []),
    "REQUESTS",
    ...PATHS,
    ...(answered ? ["ANSWERED"] : []),
    "NO ROUTE",
  ];
  return table(heads, listeners.map(row));
}

const CLASSES = ["1xx", "2xx", "3xx", "4xx", "5xx"] as const;

function formatCluster(cluster: ClusterStats): string {
  const title = `${bold("CLUSTER")} ${cluster.name}`;
  if (cluster.endpoints.length === 0) return `${title}\n${dim("no endpoints")}`;
  const direct = cluster.endpoints.some((row) => row.direct > 0);
  const classes = CLASSES.filter((kind) => kind === "2xx" || cluster.endpoints.some((row) => row.responses[kind] > 0));
  const heads = [
    "ENDPOINT",
    "HEALTH",
    "ACTIVE",
    ...(direct ? ["DIRECT"] : []),
    "REQUESTS",
    ...PATHS,
    ...classes.map((kind) => kind.toUpperCase()),
  ];
  const row = (endpoint: EndpointStats): Cell[] => [
    endpoint.address,
    endpoint.health,
    endpoint.active,
    ...(direct ? [endpoint.direct] : []),
    endpoint.requests,
    endpoint.same_host,
    endpoint.cross_host,
    endpoint.slow,
    ...classes.map((kind) => endpoint.responses[kind]),
    bytes(endpoint.request_bytes),
    bytes(endpoint.response_bytes),
    endpoint.mean_us === 0 ? "-" : `${Math.round(endpoint.mean_us)} µs`,
    `${endpoint.pool.total} (${endpoint.pool.idle} idle, ${endpoint.pool.busy} busy)`,
  ];
  const endpoints = `${title}\n${table([...heads, "IN", "OUT", "MEAN", "POOL"], cluster.endpoints.map(row))}`;
  return cluster.counters === undefined ? endpoints : `${endpoints}\n${formatCounters(cluster.counters)}`;
}

const formatCounters = (counters: Readonly<Record<string, number>>) =>
  table(["LIMIT", "COUNT"], Object.entries(counters).sort());

function formatReasons(reasons: Stats["reasons"]): string {
  const counted = Object.entries(reasons).filter(([, count]) => count > 0);
  if (counted.length === 0) return dim("no request was counted yet");
  return table(
    ["REASON", "COUNT"],
    counted.sort(([, a], [, b]) => b - a),
  );
}
