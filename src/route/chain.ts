import type {
  Address,
  ChainMatch,
  FilterChain,
  Inspection,
  Inspector,
  IpRange,
  Listener,
  TlsInspector,
} from "../model/config.ts";
import { ipBytes } from "../tables/address.ts";

/** What is known of a connection when its filter chain is chosen. */
export interface Connection {
  /** What the client asked for. */
  readonly destination: Address;
  /** The client's end; missing where it has gone already. */
  readonly source: Address | undefined;
  /** Lower case; `""` where no server name was seen. */
  readonly serverName: string;
  readonly transportProtocol: string;
  readonly applicationProtocols: readonly string[];
}

/** A connection of which nothing but its ends is known. */
export const plainConnection = (destination: Address, source: Address | undefined): Connection => ({
  destination,
  source,
  serverName: "",
  transportProtocol: "raw_buffer",
  applicationProtocols: [],
});

/**
 * The filter chain that serves a connection; undefined: it is closed. By the order of Envoy's
 * source/common/listener_manager/filter_chain_manager_impl.cc: each criterion leaves the chains that ask for the most
 * specific of what the connection has, or else those that ask for nothing; it never goes back to an earlier one.
 */
export function chooseChain(listener: Listener, connection: Connection): FilterChain | undefined {
  const [chosen] = bySource(byProtocol(listener.chains, connection), connection);
  return chosen ?? listener.otherwise;
}

/** Narrowed by what the connection asks for: address, port, server name, protocols. */
export function byProtocol(chains: readonly FilterChain[], connection: Connection): readonly FilterChain[] {
  const { destination, serverName, transportProtocol, applicationProtocols } = connection;
  let left = first(chains, [
    ({ destinationPort }) => destinationPort === destination.port,
    ({ destinationPort }) => destinationPort === undefined,
  ]);
  left = byAddress(left, destination, (match) => match.destinations);
  left = first(left, [
    ({ serverNames }) => serverName !== "" && serverNames.includes(serverName),
    ...wildcardsOf(serverName).map((name) => (match: ChainMatch) => match.serverNames.includes(name)),
    ({ serverNames }) => serverNames.length === 0,
  ]);
  left = first(left, [
    (match) => match.transportProtocol === transportProtocol,
    (match) => match.transportProtocol === "",
  ]);
  return first(left, [
    ...applicationProtocols.map((name) => (match: ChainMatch) => match.applicationProtocols.includes(name)),
    (match) => match.applicationProtocols.length === 0,
  ]);
}

/** Narrowed by where the connection comes from. */
function bySource(chains: readonly FilterChain[], { source, destination }: Connection): readonly FilterChain[] {
  const from = source ?? NOWHERE;
  const local = isLoopback(from.ip) || sameIp(from.ip, destination.ip);
  let left = byAddress(chains, from, (match) => match.directSources);
  left = first(left, [
    ({ sourceType }) => sourceType === (local ? "local" : "external"),
    ({ sourceType }) => sourceType === "any",
  ]);
  left = byAddress(left, from, (match) => match.sources);
  return first(left, [
    ({ sourcePorts }) => sourcePorts.includes(from.port),
    ({ sourcePorts }) => sourcePorts.length === 0,
  ]);
}

/** Matches no range but those that hold all addresses. */
const NOWHERE: Address = { ip: "255.255.255.255", port: 0 };

type Asks = (match: ChainMatch) => boolean;

/** Those that the first of the questions leaves that leaves any. */
function first(chains: readonly FilterChain[], questions: readonly Asks[]): readonly FilterChain[] {
  for (const asks of questions) {
    const left = chains.filter(({ match }) => asks(match));
    if (left.length > 0) return left;
  }
  return [];
}

/** Those with the longest range that holds the address; no range at all holds every address. */
function byAddress(
  chains: readonly FilterChain[],
  { ip }: Address,
  rangesOf: (match: ChainMatch) => readonly IpRange[],
): readonly FilterChain[] {
  const longest = (match: ChainMatch) => {
    const ranges = rangesOf(match);
    if (ranges.length === 0) return 0;
    return Math.max(-1, ...ranges.filter((range) => holds(range, ip)).map(({ bits }) => bits));
  };
  const most = Math.max(-1, ...chains.map(({ match }) => longest(match)));
  return most < 0 ? [] : chains.filter(({ match }) => longest(match) === most);
}

/** Is the address in the range? IPv4 and IPv6 hold nothing of each other. */
export function holds(range: IpRange, ip: string): boolean {
  const v6 = range.ip.includes(":");
  if (v6 !== ip.includes(":")) return false;
  const [a, b] = [ipBytes(range.ip), ipBytes(ip)];
  const bits = range.bits + (v6 ? 0 : 96);
  const whole = bits >> 3;
  if (Buffer.compare(a.subarray(0, whole), b.subarray(0, whole)) !== 0) return false;
  return (bits & 7) === 0 || (a[whole]! ^ b[whole]!) >> (8 - (bits & 7)) === 0;
}

/** Not all of 127.0.0.0/8: Utility::isLoopbackAddress in source/common/network/utility.cc. */
const isLoopback = (ip: string) => ip === "127.0.0.1" || ip === "::1";

const sameIp = (a: string, b: string) => Buffer.compare(ipBytes(a), ipBytes(b)) === 0;

/** `*.b.c` and `*.c` for `a.b.c`. A dot at the end begins none. */
function wildcardsOf(name: string): string[] {
  const parts = name.split(".");
  const endings = parts.slice(1).map((_, i) => parts.slice(i + 1).join("."));
  return endings.filter((ending) => ending !== "").map((ending) => `*.${ending}`);
}

/** What of the first bytes of a connection its chain depends on. */
export interface Inspected {
  readonly http: boolean;
  readonly tls: TlsInspector | undefined;
}

/** Undefined: a connection to that port has its chain, whatever it says. */
export function inspectedOf({ chains, inspection }: Listener, port: number): Inspected | undefined {
  const protocol = chains.some(({ match }) => match.applicationProtocols.length > 0);
  const transport = chains.some(({ match }) => match.transportProtocol !== "" || match.serverNames.length > 0);
  const http = protocol && looksAt(inspection?.http, port);
  const tls = (protocol || transport) && looksAt(inspection?.tls, port) ? inspection?.tls : undefined;
  return http || tls !== undefined ? { http, tls } : undefined;
}

function looksAt(inspector: Inspector | undefined, port: number): boolean {
  if (inspector?.ports === undefined) return inspector !== undefined;
  return inspector.ports.some(({ start, end }) => start <= port && port < end);
}

/** What is known of the application protocol of a connection whose first bytes are those of an HTTP/1.1 request. */
export const protocolsOfHttp = (inspected: Inspected | undefined): readonly string[] =>
  inspected?.http === true ? ["http/1.1"] : [];

/** What can be said of all plain HTTP/1.1 or TCP connections to a listener when they are made. */
export type Entrance =
  | { readonly kind: "chain"; readonly chain: FilterChain; readonly inspects: boolean }
  /** Each connection has to be looked at. */
  | { readonly kind: "each"; readonly why: string }
  /** They are closed. */
  | { readonly kind: "none" };

/** As far as the address alone decides, and the first bytes if those are HTTP/1.1. Port 0 is any other. */
export function entranceOf(listener: Listener, { ip, port } = listener.address): Entrance {
  const { chains } = listener;
  if (port === 0 && asksPort(listener.inspection))
    return { kind: "each", why: "its listener filters depend on the port" };
  const inspected = inspectedOf(listener, port);
  const inspects = inspected !== undefined;
  const anyIp = /^(0\.0\.0\.0|::)$/.test(ip) || listener.takesRest === true;
  if (anyIp && chains.some(({ match }) => match.destinations.length > 0))
    return { kind: "each", why: "its filter chain depends on the address" };
  const plain = plainConnection({ ip, port }, undefined);
  const left = byProtocol(chains, { ...plain, applicationProtocols: protocolsOfHttp(inspected) });
  if (left.some(({ match }) => asksSource(match)))
    return { kind: "each", why: "its filter chain depends on where a connection comes from" };
  const chain = left[0] ?? listener.otherwise;
  return chain === undefined ? { kind: "none" } : { kind: "chain", chain, inspects };
}

const asksPort = (inspection: Inspection | undefined) =>
  [inspection?.http, inspection?.tls].some((inspector) => inspector?.ports !== undefined);

const asksSource = ({ directSources, sourceType, sources, sourcePorts }: ChainMatch) =>
  directSources.length > 0 || sourceType !== "any" || sources.length > 0 || sourcePorts.length > 0;
