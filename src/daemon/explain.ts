import { compile } from "../compile/compile.ts";
import type { Config } from "../model/config.ts";
import { hostsToUse } from "../route/health.ts";

/** What of a valid configuration the kernel path will leave to the slow path, a line for each. */
export function explainConfig(config: Config): string[] {
  const { slow } = compile(config, () => ({ hosts: [], schedule: [] }));
  const spilling = config.clusters.filter((cluster) => hostsToUse(cluster).spill !== undefined);
  return [
    ...slow.map(({ where, reason }) => `${where} needs the slow path: ${reason}`),
    ...spilling.map(
      ({ name }) => `cluster ${name} needs the slow path: degraded endpoints take a share of its requests`,
    ),
  ];
}
