import { isDeepStrictEqual } from "node:util";
import type { Cluster, Config } from "../model/config.ts";

/**
 * The configuration with other endpoints in its clusters. A cluster that has the same as in `before`, what this gave
 * the last time, is the same object: whoever has made something of it need not do so again.
 */
export function withClusters(config: Config, change: (cluster: Cluster) => Cluster, before?: Config): Config {
  const known = new Map(before?.clusters.map((cluster) => [cluster.name, cluster]));
  const clusters = config.clusters.map((cluster) => {
    const now = change(cluster);
    const was = known.get(cluster.name);
    return was !== undefined && isDeepStrictEqual(was.endpoints, now.endpoints) ? was : now;
  });
  return { ...config, clusters };
}
