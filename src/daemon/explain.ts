import { compile } from "../compile/compile.ts";
import { allChains } from "../model/chains.ts";
import type { Config } from "../model/config.ts";
import { entranceOf } from "../route/chain.ts";
import { slowClusters } from "./balancing.ts";

/** What of a valid configuration the kernel path will leave to the slow path, takes its time for, or leads nowhere. */
export function explainConfig(config: Config): string[] {
  const { slow, long } = compile(config, () => ({ lists: [] }), undefined, entranceOf);
  return [
    ...[...slow, ...slowClusters(config)].map(({ where, reason }) => `${where} needs the slow path: ${reason}`),
    ...long.map(({ where, reason }) => `${where}: ${reason}`),
    ...missingClusters(config),
  ];
}

/** Envoy takes a tcp_proxy that leads nowhere, and closes its connections. */
function missingClusters({ listeners, clusters }: Config): string[] {
  const known = new Set(clusters.map(({ name }) => name));
  return listeners.flatMap(allChains).flatMap((chain) => {
    const missing = chain.kind === "tcp" ? chain.clusters.filter(({ name }) => !known.has(name)) : [];
    return missing.map(
      ({ name }) => `${chain.listener}: ${chain.label}: there is no cluster ${name}: connections close`,
    );
  });
}
