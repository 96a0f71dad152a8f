import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findCgroupMount } from "../../src/admin/workloads.ts";

export const XLB = fileURLToPath(new URL("../../bin/xlb", import.meta.url));
/** A socket at which no daemon is. */
export const NOBODY = "/nonexistent/xlb/admin.sock";

export function xlb(args: readonly string[], env: NodeJS.ProcessEnv = {}): SpawnSyncReturns<string> {
  const environment = { ...process.env, XLB_ADMIN_SOCKET: NOBODY, ...env };
  return spawnSync(XLB, args, { encoding: "utf8", env: environment, timeout: 120_000 });
}

/** Why `xlb exec` cannot work here; false where it can. Under CI it must. */
export function withoutCgroups(): string | false {
  if (process.env.CI === "true") return false;
  try {
    accessSync(join(findCgroupMount(), "cgroup.procs"), constants.W_OK);
    return process.getuid?.() === 0 ? false : "needs root";
  } catch (error) {
    return `needs a writable cgroup v2: ${(error as Error).message}`;
  }
}

export const unbuilt = existsSync(fileURLToPath(new URL("../../dist/xlb.mjs", import.meta.url))) ? false : "run make";
