import type { Keepalive, SocketOptions } from "../model/limits.ts";
import type { Fields } from "./fields.ts";

/** How connections to a cluster's endpoints are made. */
export function readSockets(cluster: Fields): SocketOptions | undefined {
  const keepalive = readKeepalive(cluster.message("upstream_connection_options"));
  return keepalive && { keepalive };
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
