import type { Cluster, Endpoint } from "../model/config.ts";
import { addressText } from "../tables/address.ts";

/** How an endpoint is known across rooms: an address may serve in several clusters, and is another endpoint in each. */
export const endpointName = (cluster: string, endpoint: Endpoint) => `${cluster} ${addressText(endpoint.address)}`;

export function* allEndpoints(
  clusters: readonly Cluster[],
): Iterable<{ cluster: Cluster; endpoint: Endpoint; name: string }> {
  for (const cluster of clusters) {
    for (const endpoint of cluster.endpoints) yield { cluster, endpoint, name: endpointName(cluster.name, endpoint) };
  }
}
