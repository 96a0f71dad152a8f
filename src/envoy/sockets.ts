import type { Keepalive, SocketOptions } from "../model/limits.ts";
import { canonicalIp } from "./address.ts";
import type { Fields } from "./fields.ts";

/**
 * How connections to a cluster's endpoints are made. `sources` are those of all clusters; what a cluster says of its
 * own, be it nothing at all, takes their place.
 */
export function readSockets(cluster: Fields, sources: readonly string[]): SocketOptions | undefined {
  const keepalive = readKeepalive(cluster.message("upstream_connection_options"));
  const own = cluster.has("upstream_bind_config") ? readSources(cluster) : sources;
  if (keepalive === undefined && own.length === 0) return undefined;
  return { ...(keepalive && { keepalive }), ...(own.length === 0 ? {} : { sources: own }) };
}

/** `upstream_bind_config` of a cluster, or of the cluster manager. */
export function readSources(owner: Fields | undefined): string[] {
  const bind = owner?.message("upstream_bind_config");
  if (bind === undefined) return [];
  bind.only("freebind", false);
  const first = bind.message("source_address");
  const others = bind.messages("extra_source_addresses").map((extra) => extra.message("address"));
  if (first === undefined && others.length > 0)
    bind.reject("source_address", "is required beside extra_source_addresses");
  return [first, ...others].flatMap((address) => (address === undefined ? [] : readSource(address)));
}

function readSource(address: Fields): string[] {
  address.oneOf("protocol", "TCP");
  if ((address.number("port_value") ?? 0) !== 0)
    address.reject("port_value", "must be 0", "one port would make one connection to each endpoint");
  const text = address.string("address");
  const ip = canonicalIp(text);
  if (ip === undefined && text !== "") address.reject("address", `must be an IP address, not ${JSON.stringify(text)}`);
  return ip === undefined ? [] : [ip];
}

/** The most that Linux takes. */
const MOST_SECONDS = 32_767;
const MOST_PROBES = 127;

/** The message alone turns it on, by the system's numbers; a 0 anywhere turns it off. */
function readKeepalive(options: Fields | undefined): Keepalive | undefined {
  options?.only("set_local_interface_name_on_upstream_connections", false);
  const fields = options?.message("tcp_keepalive");
  if (fields === undefined) return undefined;
  const keepalive: Keepalive = {
    time: readUpTo(fields, "keepalive_time", MOST_SECONDS),
    interval: readUpTo(fields, "keepalive_interval", MOST_SECONDS),
    probes: readUpTo(fields, "keepalive_probes", MOST_PROBES),
  };
  return Object.values(keepalive).includes(0) ? undefined : keepalive;
}

/** Beyond it Envoy's every connection would fail, as the system refuses the option. */
function readUpTo(fields: Fields, name: string, most: number): number | undefined {
  const value = fields.number(name);
  if (value !== undefined && value > most) fields.reject(name, `must be at most ${most}, not ${value}`);
  return value;
}
