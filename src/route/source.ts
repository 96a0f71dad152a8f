import { isIP } from "node:net";
import type { SocketOptions } from "../model/limits.ts";

/**
 * The address that a connection to `ip` is made from: the first of its family; where none is, the first of all, with
 * which it fails, as in Envoy. undefined: whichever the system takes.
 */
export function sourceTowards(ip: string, sockets: SocketOptions | undefined): string | undefined {
  const sources = sockets?.sources ?? [];
  return sources.find((source) => isIP(source) === isIP(ip)) ?? sources[0];
}
