import { isIP, SocketAddress } from "node:net";
import type { Address } from "../model/config.ts";
import type { Fields } from "./fields.ts";

/** Stands for an address that was rejected. */
const NO_ADDRESS: Address = { ip: "", port: 0 };

/** The `address` field of a listener, an endpoint or the admin interface; of some endpoints it may be a name. */
export function readAddress(owner: Fields, names = false): Address {
  if (!owner.has("address")) owner.reject("address", "is required", "write socket_address with address and port_value");
  const address = owner.message("address");
  return address === undefined ? NO_ADDRESS : readSocket(address, names);
}

/** An Address of Envoy's. */
export function readSocket(address: Fields, names = false): Address {
  const socket = address.message("socket_address");
  if (socket === undefined) return NO_ADDRESS;
  socket.oneOf("protocol", "TCP");
  const text = socket.string("address");
  const ip = canonicalIp(text) ?? (names && HOST_NAME.test(text) ? text.toLowerCase() : undefined);
  if (ip === undefined && text !== "") {
    const mend = "only endpoints of STRICT_DNS and LOGICAL_DNS clusters have names: write the IP itself";
    socket.reject("address", `must be an IP address${names ? " or a name" : ""}, not ${JSON.stringify(text)}`, mend);
  }
  const port = socket.number("port_value");
  if (port === 0) socket.reject("port_value", "must be from 1 to 65535");
  return ip === undefined || port === undefined ? NO_ADDRESS : { ip, port };
}

const HOST_NAME = /^(?=.{1,254}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?$/i;

/** As inet_ntop writes it, so that one address has one text. Zones (`fe80::1%eth0`) are refused. */
export function canonicalIp(text: string): string | undefined {
  const version = isIP(text);
  if (version === 0 || text.includes("%")) return undefined;
  return version === 4 ? text : new SocketAddress({ address: text, family: "ipv6" }).address;
}
