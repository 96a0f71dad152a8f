import { httpChains } from "../model/chains.ts";
import type { Cluster, Config, Endpoint } from "../model/config.ts";
import { endpointName } from "../tables/address.ts";

export function* allEndpoints(
  clusters: readonly Cluster[],
): Iterable<{ cluster: Cluster; endpoint: Endpoint; name: string }> {
  for (const cluster of clusters) {
    for (const endpoint of cluster.endpoints) yield { cluster, endpoint, name: endpointName(cluster.name, endpoint) };
  }
}

/** The clusters that requests may go to: those have connections in stock. */
export function requestClusters({ listeners, clusters }: Config): Cluster[] {
  const actions = listeners
    .flatMap(httpChains)
    .flatMap(({ routes }) => routes.virtualHosts.flatMap((host) => host.routes.map(({ action }) => action)));
  const entries = actions.flatMap((action) => (action.kind === "forward" ? action.clusters : []));
  const names = new Set(entries.flatMap((entry) => ("name" in entry ? [entry.name] : [])));
  const any = entries.some((entry) => "header" in entry);
  return any ? [...clusters] : clusters.filter(({ name }) => names.has(name));
}
