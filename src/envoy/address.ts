import { isIP, SocketAddress } from "node:net";
import type { Address } from "../model/config.ts";
import type { Fields } from "./fields.ts";

/** Stands for an address that was rejected. */
const NO_ADDRESS: Address = { ip: "", port: 0 };

/** The `address` field of a listener, an endpoint or the admin interface. */
export function readAddress(owner: Fields): Address {
  const address = requireAddress(owner);
  return address === undefined ? NO_ADDRESS : readSocket(address);
}

/** The same of an endpoint whose address may be a name, with what is written there. */
export function readNamedAddress(owner: Fields): { readonly address: Address; readonly written: string } {
  const socket = requireAddress(owner)?.message("socket_address");
  if (socket === undefined) return { address: NO_ADDRESS, written: "" };
  return { address: readSocketAddress(socket, true), written: socket.string("address") };
}

function requireAddress(owner: Fields): Fields | undefined {
  if (!owner.has("address")) owner.reject("address", "is required", "write socket_address with address and port_value");
  return owner.message("address");
}

/** An Address of Envoy's. */
export function readSocket(address: Fields): Address {
  const socket = address.message("socket_address");
  return socket === undefined ? NO_ADDRESS : readSocketAddress(socket, false);
}

function readSocketAddress(socket: Fields, names: boolean): Address {
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
