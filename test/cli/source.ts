import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Runs the program from its sources: no build is needed. */
export function xlbFromSource(...args: readonly string[]): SpawnSyncReturns<string> {
  const command = ["--import", "tsx", "src/cli/main.ts", ...args];
  return spawnSync(process.execPath, command, { cwd: ROOT, encoding: "utf8", timeout: 180_000 });
}
