import { allChains } from "../model/chains.ts";
import type { Cluster, Config } from "../model/config.ts";
import { type Metadata, valueText } from "../model/metadata.ts";
import { chainFacts, type Entry } from "./facts.ts";

/**
 * What the kernel knows a cluster by: one record for requests that ask for no subset, and one more for each of the
 * criteria that routes have. They depend on endpoints in nothing, so that numbers stay while endpoints come and go.
 */
export interface ClusterRecord {
  /** Its name among all records. */
  readonly key: string;
  /** For people. */
  readonly title: string;
  readonly cluster: Cluster;
  readonly criteria?: Metadata;
}

/** Each cluster's own comes first. */
export function recordsOf({ listeners, clusters }: Config): readonly ClusterRecord[] {
  const byName = new Map(clusters.map((cluster) => [cluster.name, cluster]));
  const records = new Map(
    clusters.map((cluster): [string, ClusterRecord] => [
      cluster.name,
      { key: cluster.name, title: cluster.name, cluster },
    ]),
  );
  const entries = listeners
    .flatMap(allChains)
    .flatMap((chain): readonly Entry[] =>
      chain.kind === "tcp" ? chain.clusters : chainFacts(chain.routes.virtualHosts).choosy,
    );
  for (const entry of entries) {
    const { criteria } = entry;
    /* Most have none: with ten thousand routes that shows. */
    if (criteria === undefined) continue;
    const cluster = byName.get(entry.name);
    const key = keyOf(entry, cluster);
    if (cluster === undefined || records.has(key)) continue;
    records.set(key, { key, title: `${cluster.name} ${valueText(criteria)}`, cluster, criteria });
  }
  return [...records.values()];
}

/** The record that a way leads to. No name of a cluster holds what stands before criteria. */
export const keyOf = ({ name, criteria }: Entry, cluster: Cluster | undefined): string =>
  criteria === undefined || cluster?.subsets === undefined ? name : `${name}\0${valueText(criteria)}`;
