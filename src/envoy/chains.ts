import { isIP } from "node:net";
import { EVERYTHING } from "../model/chains.ts";
import type {
  ChainMatch,
  FilterChain,
  Inspection,
  Inspector,
  IpRange,
  TcpCluster,
  TlsInspector,
} from "../model/config.ts";
import { lowestAddress } from "../tables/address.ts";
import { lowerCase, textBytes } from "../tables/text.ts";
import { canonicalIp } from "./address.ts";
import type { Fields } from "./fields.ts";
import { isIdle } from "./filters.ts";
import { areAll, readPortsBut } from "./ports.ts";
import { readCriteria } from "./subsets.ts";

const TCP_PROXY = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const HTTP_INSPECTOR = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector";
const TLS_INSPECTOR = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
const ORIGINAL_DST = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst";

/** Envoy's default of `listener_filters_timeout`. */
const INSPECTION_MS = 15_000;
/** Envoy's default of `max_client_hello_size`, and the most that it may be. */
const MAX_CLIENT_HELLO = 16 << 10;
const MAX_WEIGHT_SUM = 2 ** 32 - 1;

/** What a chain has instead of tcp_proxy. */
export interface HttpFilterReader {
  readonly typeName: string;
  /** All of an HttpChain but what every chain has. */
  read(manager: Fields): Omit<Extract<FilterChain, { kind: "http" }>, "kind" | "listener" | "label" | "match">;
}

/** The chains of a listener and which is for the rest. Two that the same connection matches as well are refused. */
export function readChains(
  listener: Fields,
  name: string,
  http: HttpFilterReader,
): { readonly chains: readonly FilterChain[]; readonly otherwise?: FilterChain } {
  const rest = listener.message("default_filter_chain");
  if (listener.lacks("filter_chains") && rest === undefined)
    listener.reject("filter_chains", "is required", "a listener has filter chains, or a default_filter_chain");
  const found: { readonly fields: Fields; readonly chain: FilterChain | undefined; readonly match: ChainMatch }[] = [];
  for (const [at, fields] of listener.messages("filter_chains").entries()) {
    const match = readMatch(fields);
    const twin = found.find((other) => overlap(other.match, match));
    if (twin !== undefined) {
      const place = twin.fields.place.path;
      const mend = "a connection that matches both could take either: make one more specific";
      fields.reject("filter_chain_match", `matches the same connections as that of ${place}`, mend);
    }
    found.push({ fields, match, chain: readChain(fields, name, `filter_chains[${at}]`, match, http) });
  }
  const chains = found.flatMap(({ chain }) => (chain === undefined ? [] : [chain]));
  if (rest === undefined) return { chains };
  if (rest.message("filter_chain_match")?.isEmpty === false)
    rest.reject("filter_chain_match", "has no effect in a default_filter_chain", "remove it");
  const otherwise = readChain(rest, name, "default_filter_chain", EVERYTHING, http);
  return { chains, ...(otherwise === undefined ? {} : { otherwise }) };
}

function readChain(
  fields: Fields,
  listener: string,
  place: string,
  match: ChainMatch,
  http: HttpFilterReader,
): FilterChain | undefined {
  const label = fields.string("name") || place;
  const rule = "a filter chain has one filter, the HTTP connection manager or tcp_proxy";
  const [filter, ...others] = fields.messages("filters").filter((each) => !isIdle(each));
  if (fields.lacks("filters")) fields.reject("filters", "is required", rule);
  for (const other of others) other.rejectWhole("is not supported yet", rule);
  filter?.skip("name");
  const unpacked = filter?.packedOneOf("typed_config", http.typeName, TCP_PROXY);
  if (unpacked === undefined) return undefined;
  const common = { listener, label, match };
  if (unpacked.typeName === http.typeName) return { kind: "http", ...common, ...http.read(unpacked.content) };
  return { kind: "tcp", ...common, ...readTcpProxy(unpacked.content) };
}

function readTcpProxy(
  proxy: Fields,
): Omit<Extract<FilterChain, { kind: "tcp" }>, "kind" | "listener" | "label" | "match"> {
  const idleTimeoutMs = proxy.milliseconds("idle_timeout");
  const maxDurationMs = proxy.milliseconds("max_downstream_connection_duration");
  // Its validation takes one at most, and one that is empty has nothing set but that.
  const hashesSource = proxy.messages("hash_policy").some((policy) => policy.message("source_ip") !== undefined);
  return {
    statPrefix: proxy.string("stat_prefix"),
    clusters: readClusters(proxy),
    ...(idleTimeoutMs === undefined ? {} : { idleTimeoutMs }),
    ...(maxDurationMs === undefined ? {} : { maxDurationMs }),
    ...(hashesSource ? { hashesSource } : {}),
    maxConnectAttempts: proxy.number("max_connect_attempts") ?? 1,
  };
}

/** Envoy does not ask whether they exist: a connection to one that does not is closed. */
function readClusters(proxy: Fields): TcpCluster[] {
  const weighted = proxy.message("weighted_clusters");
  const own = readCriteria(proxy);
  if (weighted === undefined) {
    const name = proxy.string("cluster");
    if (proxy.has("cluster") && name === "") proxy.reject("cluster", "must not be empty");
    return proxy.has("cluster") ? [{ name, weight: 1, ...own }] : [];
  }
  const clusters = weighted.messages("clusters").map((entry) => ({
    name: entry.string("name"),
    weight: entry.number("weight") ?? 0,
    ...readCriteria(entry, own.criteria),
  }));
  const sum = clusters.reduce((sum, { weight }) => sum + weight, 0);
  if (sum > MAX_WEIGHT_SUM) weighted.reject("clusters", `the weights add up to ${sum}, more than ${MAX_WEIGHT_SUM}`);
  return clusters;
}

// ---- matches ----

const SOURCE_TYPES = { ANY: "any", SAME_IP_OR_LOOPBACK: "local", EXTERNAL: "external" } as const;

function readMatch(chain: Fields): ChainMatch {
  const match = chain.message("filter_chain_match");
  if (match === undefined) return EVERYTHING;
  const destinationPort = match.number("destination_port");
  return {
    ...(destinationPort === undefined ? {} : { destinationPort }),
    destinations: readRanges(match, "prefix_ranges"),
    serverNames: readServerNames(match),
    transportProtocol: readTransport(match),
    applicationProtocols: match.strings("application_protocols").map(({ text }) => textBytes(text)),
    directSources: readRanges(match, "direct_source_prefix_ranges"),
    sourceType: SOURCE_TYPES[match.oneOf("source_type", "ANY", "SAME_IP_OR_LOOPBACK", "EXTERNAL")],
    sources: readRanges(match, "source_prefix_ranges"),
    sourcePorts: match.numbers("source_ports"),
  };
}

const TRANSPORTS = ["", "raw_buffer", "tls"];

function readTransport(match: Fields): string {
  const transport = match.string("transport_protocol");
  if (!TRANSPORTS.includes(transport)) {
    const said = JSON.stringify(transport);
    match.reject("transport_protocol", `${said} is not supported yet`, "XLB takes raw_buffer and tls");
  }
  return transport;
}

/** To Envoy `.suffix` says the same as `*.suffix`. */
function readServerNames(match: Fields): string[] {
  return match.strings("server_names").map(({ text, place }) => {
    const name = textBytes(lowerCase(text)).replace(/^\./, "*.");
    if (name === "") match.reject(place, "must not be empty", "a chain without server_names takes any");
    else if (name.replace(/^\*\./, "").includes("*"))
      match.reject(place, `${JSON.stringify(text)} is no name`, "a * stands alone before the first dot");
    return name;
  });
}

export function readRanges(match: Fields, name: string): IpRange[] {
  return match.messages(name).flatMap((range) => {
    const text = range.string("address_prefix");
    const ip = canonicalIp(text);
    const bits = range.number("prefix_len") ?? 0;
    if (ip === undefined) {
      if (text !== "") range.reject("address_prefix", `must be an IP address, not ${JSON.stringify(text)}`);
      return [];
    }
    const most = isIP(ip) === 4 ? 32 : 128;
    if (bits <= most) return [{ ip: lowestAddress(ip, bits), bits }];
    range.reject("prefix_len", `must be at most ${most}, not ${bits}`);
    return [];
  });
}

/** Could a connection match both, one as well as the other? So it is if they have something in common everywhere. */
function overlap(a: ChainMatch, b: ChainMatch): boolean {
  const common = <T>(left: readonly T[], right: readonly T[]) =>
    left.length === 0 ? right.length === 0 : left.some((one) => right.includes(one));
  const texts = (ranges: readonly IpRange[]) => ranges.map(({ ip, bits }) => `${ip}/${bits}`);
  return (
    a.destinationPort === b.destinationPort &&
    common(texts(a.destinations), texts(b.destinations)) &&
    common(a.serverNames, b.serverNames) &&
    a.transportProtocol === b.transportProtocol &&
    common(a.applicationProtocols, b.applicationProtocols) &&
    common(texts(a.directSources), texts(b.directSources)) &&
    a.sourceType === b.sourceType &&
    common(texts(a.sources), texts(b.sources)) &&
    common(a.sourcePorts, b.sourcePorts)
  );
}

// ---- listener filters ----

/** What looks at a connection before its chain is chosen; undefined: nothing does. */
export function readInspection(listener: Fields): Inspection | undefined {
  const timeoutMs = listener.milliseconds("listener_filters_timeout") ?? INSPECTION_MS;
  const continues = listener.boolean("continue_on_listener_filters_timeout") ?? false;
  const found: { http?: Inspector; tls?: TlsInspector } = {};
  for (const filter of listener.messages("listener_filters")) {
    filter.skip("name");
    const unpacked = filter.packedOneOf("typed_config", HTTP_INSPECTOR, TLS_INSPECTOR, ORIGINAL_DST);
    const disabled = filter.message("filter_disabled");
    const ports = disabled && readPortsBut(disabled);
    const tls = unpacked?.typeName === TLS_INSPECTOR ? readTlsInspector(unpacked.content) : undefined;
    if (unpacked === undefined || ports?.length === 0) continue;
    const inspector = ports === undefined || areAll(ports) ? {} : { ports };
    if (unpacked.typeName === HTTP_INSPECTOR) found.http = inspector;
    if (tls !== undefined) found.tls = { ...inspector, ...tls };
  }
  return found.http === undefined && found.tls === undefined ? undefined : { ...found, timeoutMs, continues };
}

function readTlsInspector(inspector: Fields): Omit<TlsInspector, "ports"> {
  // How much is read at a time is Envoy's affair; nothing here tells of fingerprints.
  inspector.skip("initial_read_buffer_size", "enable_ja3_fingerprinting", "enable_ja4_fingerprinting");
  return {
    mostBytes: inspector.number("max_client_hello_size") ?? MAX_CLIENT_HELLO,
    closesOthers: inspector.boolean("close_connection_on_client_hello_parsing_errors") ?? false,
  };
}
