import type { Abort, Fault } from "../model/fault.ts";
import type { Fields } from "./fields.ts";
import { readHeader, readShare } from "./matches.ts";

/** The filters before the router. One that nobody knows is refused, never left out: it may be an authorization. */

const ROUTER = "envoy.extensions.filters.http.router.v3.Router";
const FAULT = "envoy.extensions.filters.http.fault.v3.HTTPFault";
const SESSIONS = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession";
const STRUCTS = ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"];

const STATISTICS = "XLB has counters of its own";
const PEERS = "it tells peers apart for metrics";

/** What changes nothing of a request, or nothing that is sent in plaintext: Istio sends each of these. */
const IDLE: Readonly<Record<string, string>> = {
  "envoy.config.filter.network.metadata_exchange.MetadataExchange": PEERS,
  "envoy.extensions.filters.http.cors.v3.Cors": "it does nothing until a route has a policy, and those are refused",
  "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig": STATISTICS,
  "envoy.tcp.metadataexchange.config.MetadataExchange": PEERS,
  "io.istio.http.peer_metadata.Config": PEERS,
  "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig": "it is about TLS",
  "stats.PluginConfig": STATISTICS,
};

/** Takes a filter, of whatever list, by which nothing changes. False: it is another one. */
export function isIdle(filter: Fields): boolean {
  const type = filter.packedType("typed_config") ?? "";
  const struct = STRUCTS.includes(type) ? filter.packed("typed_config", type) : undefined;
  const inner = struct?.string("type_url") ?? type;
  struct?.skip("value");
  const why = IDLE[inner.slice(inner.lastIndexOf("/") + 1)];
  if (why === undefined) return false;
  filter.skip("name");
  filter.leave("typed_config", why);
  return true;
}

/** The fault filter of a listener, and what it does to requests that no rule of a route is about. */
export interface FaultFilter {
  /** By which `typed_per_filter_config` speaks of it. */
  readonly name: string;
  readonly fault: Fault | undefined;
}

/** The router, which is the last, and what comes before it. */
export function readHttpFilters(manager: Fields): { router: Fields | undefined; faults: FaultFilter | undefined } {
  const filters = manager.messages("http_filters");
  const rule = `the last HTTP filter is the router (${ROUTER})`;
  if (manager.lacks("http_filters")) manager.reject("http_filters", "is required", rule);
  let faults: FaultFilter | undefined;
  for (const filter of filters.slice(0, -1)) {
    if (isIdle(filter)) continue;
    const name = filter.string("name");
    const unpacked = filter.packedOneOf("typed_config", FAULT, SESSIONS);
    /* Without a session_state it does nothing; with one it is refused. */
    if (unpacked === undefined || unpacked.typeName === SESSIONS) continue;
    const fault = readFault(unpacked.content);
    if (faults !== undefined) filter.reject("name", "is the second fault filter", "keep one of the two");
    faults ??= { name, fault };
  }
  const last = filters.at(-1);
  last?.skip("name");
  const router = last?.packed("typed_config", ROUTER);
  router?.only("dynamic_stats", true);
  return { router, faults };
}

/** What a route, virtual host or route configuration says for itself, or else what it inherits. */
export function faultOf(owner: Fields, filter: FaultFilter | undefined, inherited: Fault | undefined) {
  if (filter === undefined || !owner.has("typed_per_filter_config")) return inherited;
  const own = owner.packedEntry("typed_per_filter_config", filter.name, FAULT);
  return own === undefined ? inherited : readFault(own);
}

/** Undefined: it does nothing. */
function readFault(fields: Fields): Fault | undefined {
  /* There is no runtime that could say anything else, and no statistics by cluster. */
  fields.skip(
    "delay_percent_runtime",
    "delay_duration_runtime",
    "abort_percent_runtime",
    "disable_downstream_cluster_stats",
  );
  fields.skip("abort_http_status_runtime", "abort_grpc_status_runtime", "max_active_faults_runtime");
  fields.skip("response_rate_limit_percent_runtime");
  const headers = fields.messages("headers").map(readHeader);
  const nodes = fields.strings("downstream_nodes").map(({ text }) => text);
  const cluster = fields.string("upstream_cluster");
  const delay = fields.message("delay");
  const abort = fields.message("abort");
  delay?.message("header_delay");
  const ms = delay?.milliseconds("fixed_delay");
  if (delay === undefined && abort === undefined) return undefined;
  return {
    ...(delay
      ? { delay: { ...(ms === undefined ? {} : { ms }), fraction: readShare(delay.message("percentage")) } }
      : {}),
    ...(abort ? { abort: readAbort(abort) } : {}),
    headers,
    ...(cluster === "" ? {} : { cluster }),
    ...(nodes.length === 0 ? {} : { nodes }),
  };
}

function readAbort(abort: Fields): Abort {
  abort.message("header_abort");
  const http = abort.number("http_status");
  const grpc = abort.number("grpc_status");
  const fraction = readShare(abort.message("percentage"));
  if (http !== undefined && abort.has("http_status")) return { answer: { kind: "http", status: http }, fraction };
  if (grpc !== undefined && abort.has("grpc_status")) return { answer: { kind: "grpc", status: grpc }, fraction };
  return { fraction };
}
