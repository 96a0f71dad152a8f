import type { Address, ChainMatch, FilterChain, IpRange, Listener } from "../model/config.ts";
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

/** `*.b.c` and `*.c` for `a.b.c`. */
function wildcardsOf(name: string): string[] {
  const parts = name.split(".");
  return parts.slice(1).map((_, i) => `*.${parts.slice(i + 1).join(".")}`);
}

/** Does the choice of a chain depend on what the first bytes of a connection say? */
export function needsInspection({ chains, inspection }: Listener): boolean {
  return inspection?.http === true && chains.some(({ match }) => match.applicationProtocols.length > 0);
}

/** What can be said of all plain HTTP/1.1 or TCP connections to a listener when they are made. */
export type Entrance =
  | { readonly kind: "chain"; readonly chain: FilterChain; readonly inspects: boolean }
  /** Each connection has to be looked at. */
  | { readonly kind: "each"; readonly why: string }
  /** They are closed. */
  | { readonly kind: "none" };

/** As far as the address alone decides, with this port, and the first bytes if those are HTTP/1.1. */
export function entranceOf(listener: Listener, port = listener.address.port): Entrance {
  const { address, chains } = listener;
  const inspects = needsInspection(listener);
  const anyIp = /^(0\.0\.0\.0|::)$/.test(address.ip) || listener.takesRest === true;
  if (anyIp && chains.some(({ match }) => match.destinations.length > 0))
    return { kind: "each", why: "its filter chain depends on the address" };
  const plain = plainConnection({ ip: address.ip, port }, undefined);
  const left = byProtocol(chains, inspects ? { ...plain, applicationProtocols: ["http/1.1"] } : plain);
  if (left.some(({ match }) => asksSource(match)))
    return { kind: "each", why: "its filter chain depends on where a connection comes from" };
  const chain = left[0] ?? listener.otherwise;
  return chain === undefined ? { kind: "none" } : { kind: "chain", chain, inspects };
}

const asksSource = ({ directSources, sourceType, sources, sourcePorts }: ChainMatch) =>
  directSources.length > 0 || sourceType !== "any" || sources.length > 0 || sourcePorts.length > 0;
