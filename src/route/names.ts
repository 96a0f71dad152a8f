import { isIP } from "node:net";
import type { Cluster, Config, Endpoint } from "../model/config.ts";
import { withClusters } from "./clusters.ts";

/** What is known of a name: its addresses in the order of the answer; undefined: nothing yet. */
export type Lookup = (cluster: Cluster, name: string) => readonly string[] | undefined;

/**
 * The configuration with the addresses that its names stand for: in a STRICT_DNS cluster each of them is an endpoint,
 * once, in a LOGICAL_DNS cluster the first. A name of which nothing is known is no endpoint. A cluster that has the
 * same endpoints as in `before`, what this gave the last time, is the same object.
 */
export function withAddresses(config: Config, lookup: Lookup, before?: Config): Config {
  return withClusters(config, (cluster) => resolved(cluster, lookup), before);
}

function resolved(cluster: Cluster, lookup: Lookup): Cluster {
  const { discovery } = cluster;
  if (discovery?.kind !== "dns") return cluster;
  const seen = new Set<string>();
  const endpoints = cluster.endpoints.flatMap((endpoint): Endpoint[] => {
    const { ip: name, port } = endpoint.address;
    const all = isIP(name) === 0 ? (lookup(cluster, name) ?? []) : [name];
    const ips = discovery.logical ? all.slice(0, 1) : all;
    return ips.flatMap((ip) => {
      const key = `${ip} ${port}`;
      if (seen.has(key)) return [];
      seen.add(key);
      return [{ ...endpoint, address: { ip, port } }];
    });
  });
  return { ...cluster, endpoints };
}
