import { networkInterfaces } from "node:os";

/** The first address of IPv4 that is no loopback's: so Envoy's Utility::getLocalAddress knows its machine. */
export function machineIp(): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses = []) => addresses);
  return all.find(({ family, internal }) => family === "IPv4" && !internal)?.address ?? "127.0.0.1";
}
