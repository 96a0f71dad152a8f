import { isIP } from "node:net";
import { isDeepStrictEqual } from "node:util";
import type { Cluster, Config, Endpoint } from "../model/config.ts";

/** What is known of a name: its addresses in the order of the answer; undefined: nothing yet. */
export type Lookup = (cluster: Cluster, name: string) => readonly string[] | undefined;

/**
 * The configuration with the addresses that its names stand for: in a STRICT_DNS cluster each of them is an endpoint,
 * once, in a LOGICAL_DNS cluster the first. A name of which nothing is known is no endpoint. A cluster that has the
 * same endpoints as in `before`, what this gave the last time, is the same object.
 */
export function withAddresses(config: Config, lookup: Lookup, before?: Config): Config {
  const known = new Map(before?.clusters.map((cluster) => [cluster.name, cluster]));
  const clusters = config.clusters.map((cluster) => {
    const now = resolved(cluster, lookup);
    const was = known.get(cluster.name);
    return was !== undefined && isDeepStrictEqual(was.endpoints, now.endpoints) ? was : now;
  });
  return { ...config, clusters };
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
