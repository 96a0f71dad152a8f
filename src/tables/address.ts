import { isIPv6 } from "node:net";
import type { AddrKey } from "./layout.gen.ts";
import { addrKeyRow } from "./layout.gen.ts";

/** An IP address in text and a TCP port. */
export interface Address {
  readonly ip: string;
  readonly port: number;
}

/** The 16 bytes of an address in network order; IPv4 as ::ffff:a.b.c.d. Throws on what is no IP literal. */
export function ipBytes(ip: string): Uint8Array {
  const bytes = new Uint8Array(16);
  const v4 = /^(?:::ffff:)?(\d+)\.(\d+)\.(\d+)\.(\d+)$/i.exec(ip);
  if (v4) {
    bytes[10] = 0xff;
    bytes[11] = 0xff;
    for (let i = 0; i < 4; i++) bytes[12 + i] = Number(v4[i + 1]);
    return bytes;
  }
  if (!isIPv6(ip)) throw new Error(`not an IP address: ${ip}`);
  const [head = "", tail] = ip.split("%")[0]!.split("::") as [string, string | undefined];
  const groups = (s: string) =>
    s
      .split(":")
      .filter(Boolean)
      .flatMap((g) => {
        const dotted = /^(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(g);
        if (!dotted) return [Number.parseInt(g, 16)];
        const [, a, b, c, d] = dotted.map(Number) as [number, number, number, number, number];
        return [(a << 8) | b, (c << 8) | d];
      });
  const front = groups(head);
  const back = tail === undefined ? [] : groups(tail);
  const all = [...front, ...Array.from({ length: 8 - front.length - back.length }, () => 0), ...back];
  all.forEach((g, i) => {
    bytes[2 * i] = g >> 8;
    bytes[2 * i + 1] = g & 0xff;
  });
  return bytes;
}

/** The first address of those that agree with `ip` in the first `bits` bits, of 32 or 128. */
export function lowestAddress(ip: string, bits: number): string {
  const bytes = ipBytes(ip);
  const kept = bits + (ip.includes(":") ? 0 : 96);
  const masked = bytes.map((byte, i) => byte & (0xff00 >> Math.max(0, Math.min(8, kept - 8 * i))));
  const view = new DataView(masked.buffer);
  const lowest = fromAddrKey({ ip: [0, 4, 8, 12].map((at) => view.getUint32(at, true)), port: 0 }).ip;
  /* A range of IPv6 stays one, be it of addresses that stand for IPv4. */
  return ip.includes(":") && !lowest.includes(":") ? `::ffff:${lowest}` : lowest;
}

/** As the kernel half keeps addresses: ip words as they lie in memory, port in host order. */
export function addrKey(address: Address): AddrKey {
  const view = new DataView(ipBytes(address.ip).buffer);
  return { ip: [0, 4, 8, 12].map((at) => view.getUint32(at, true)), port: address.port };
}

export function addrKeyBytes(address: Address): Buffer {
  return Buffer.from(addrKeyRow.encode(addrKey(address)));
}

/** The text of an address: dotted for IPv4, the shortest form of RFC 5952 for IPv6. */
export function fromAddrKey(key: AddrKey): Address {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  key.ip.forEach((w, i) => {
    view.setUint32(i * 4, w, true);
  });
  const mapped = view.getUint32(0) === 0 && view.getUint32(4) === 0 && view.getUint32(8) === 0xffff;
  if (mapped) return { ip: bytes.subarray(12).join("."), port: key.port };
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(i * 2).toString(16));
  const text = groups.join(":");
  const runs = [...text.matchAll(/\b0(?::0)+\b/g)].sort((a, b) => b[0].length - a[0].length);
  const longest = runs[0];
  if (!longest) return { ip: text, port: key.port };
  const before = text.slice(0, longest.index).replace(/:$/, "");
  const after = text.slice(longest.index + longest[0].length).replace(/^:/, "");
  return { ip: `${before}::${after}`, port: key.port };
}

/** IPv4 that a socket of IPv6 tells as `::ffff:a.b.c.d`, as IPv4; any other text as it is. */
export const unmapped = (ip: string) => ip.replace(/^::ffff:(?=\d+\.)/, "");

/** `ip:port`, `[ip]:port` for IPv6. */
export function addressText(address: Address): string {
  return address.ip.includes(":") ? `[${address.ip}]:${address.port}` : `${address.ip}:${address.port}`;
}

/** How an endpoint is known across rooms: an address may serve in several clusters, and is another endpoint in each. */
export const endpointName = (cluster: string, { address }: { readonly address: Address }) =>
  `${cluster} ${addressText(address)}`;
