import { compile } from "../compile/compile.ts";
import type { Config } from "../model/config.ts";
import { entranceOf } from "../route/chain.ts";
import { slowClusters } from "./balancing.ts";

/** What of a valid configuration the kernel path will leave to the slow path, a line for each. */
export function explainConfig(config: Config): string[] {
  const { slow } = compile(config, () => ({ lists: [] }), undefined, entranceOf);
  return [...slow, ...slowClusters(config)].map(({ where, reason }) => `${where} needs the slow path: ${reason}`);
}
