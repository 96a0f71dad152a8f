import { isIP } from "node:net";

/** As Envoy takes it in a URL: a name of letters, digits, dots and dashes, or an address in brackets; a port. */
export function isAuthority(text: string): boolean {
  const [, address, port = "0"] = /^(?:[A-Za-z0-9.-]+|\[([^\]]*)\])(?::(\d+))?$/.exec(text) ?? [undefined, "none"];
  return (address === undefined || isIP(address) !== 0) && Number(port) <= 65_535;
}
