import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { askStats } from "../../src/admin/client.ts";
import { type Cgroup, Party } from "../party.ts";
import type { Scope } from "../scope.ts";
import { bootstrap, editing } from "./bootstrap.ts";
import { hopsTo, PORTS } from "./proxy.ts";
import { Absent, type Backends, type System } from "./system.ts";

const ROOT = join(import.meta.dirname, "../..");
export const XLB = join(ROOT, "bin/xlb");
const READY = "listeners are ready";

export function findXlb(): string {
  if (existsSync(XLB) && existsSync(join(ROOT, "dist/xlb.mjs"))) return XLB;
  throw new Absent("bin/xlb is not built (make)");
}

interface Daemon {
  readonly name: string;
  readonly datapath: "kernel" | "userspace";
  /** The daemon's own. */
  readonly cgroup: Cgroup;
  /** Enrolled; empty in user space, where the daemon listens itself. */
  readonly enrolled: readonly Cgroup[];
}

interface Instance extends Daemon {
  readonly name: "xlb" | "xlb-slow-path";
  readonly ip: string;
  readonly client: Cgroup;
  readonly edits: boolean;
}

/** A daemon with that bootstrap, whose listeners are ready. */
export async function runXlb(
  scope: Scope,
  directory: string,
  daemon: Daemon & { readonly config: object; readonly socket: string },
): Promise<Party> {
  const { name, datapath, cgroup, enrolled, config, socket } = daemon;
  const file = join(directory, `${name}.json`);
  writeFileSync(file, JSON.stringify(config));
  const cgroups = enrolled.flatMap((each) => ["--cgroup", each.path]);
  const command = [findXlb(), "run", "-c", file, "--datapath", datapath, ...cgroups, "--admin-socket", socket];
  const party = new Party(scope, name, command, { cgroup });
  await party.says(READY, 60_000);
  return party;
}

export async function startXlb(
  scope: Scope,
  directory: string,
  backends: Backends,
  instance: Instance,
): Promise<System> {
  const { name, ip, cgroup, client, edits } = instance;
  const socket = join(directory, `${name}.sock`);
  const config = bootstrap(hopsTo(backends, ip), edits ? editing : undefined);
  await runXlb(scope, directory, { ...instance, config, socket });
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
