import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { askStats } from "../../src/admin/client.ts";
import { type Cgroup, Party } from "../party.ts";
import type { Scope } from "../scope.ts";
import { bootstrap } from "./bootstrap.ts";
import { hopsTo, PORTS } from "./proxy.ts";
import { Absent, type Backends, type System } from "./system.ts";

const ROOT = join(import.meta.dirname, "../..");
export const XLB = join(ROOT, "bin/xlb");
const READY = "listeners are ready";

export function findXlb(): string {
  if (existsSync(XLB) && existsSync(join(ROOT, "dist/xlb.mjs"))) return XLB;
  throw new Absent("bin/xlb is not built (make)");
}

interface Instance {
  readonly name: "xlb" | "xlb-slow-path";
  readonly datapath: "kernel" | "userspace";
  readonly ip: string;
  /** The daemon's own. */
  readonly cgroup: Cgroup;
  /** Enrolled; empty in user space, where the daemon listens itself. */
  readonly enrolled: readonly Cgroup[];
  readonly client: Cgroup;
}

export async function startXlb(
  scope: Scope,
  directory: string,
  backends: Backends,
  instance: Instance,
): Promise<System> {
  const { name, datapath, ip, cgroup, enrolled, client } = instance;
  const program = findXlb();
  const config = join(directory, `${name}.json`);
  const socket = join(directory, `${name}.sock`);
  writeFileSync(config, JSON.stringify(bootstrap(hopsTo(backends, ip))));
  const cgroups = enrolled.flatMap((each) => ["--cgroup", each.path]);
  const command = [program, "run", "-c", config, "--datapath", datapath, ...cgroups, "--admin-socket", socket];
  const party = new Party(scope, name, command, { cgroup });
  await party.says(READY, 20_000);
  return {
    name,
    client,
    origin: (topology) => `http://${ip}:${PORTS[topology]}`,
    parties: (topology) => [client, cgroup, backends.cgroup[topology]],
    starved: async () => {
      const stats = await askStats(socket);
      if (!stats.ok) throw new Error(stats.message);
      const empty = Object.entries(stats.value.reasons).filter(([reason]) => /^pool.?empty$/i.test(reason));
      return empty.reduce((sum, [, count]) => sum + count, 0);
    },
  };
}
