import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cgroup, findProgram, Party } from "../party.ts";
import type { Scope } from "../scope.ts";
import { EDITS } from "./bootstrap.ts";
import { hopsTo, proxy } from "./proxy.ts";
import { Absent, type Backends, type System } from "./system.ts";

const IP = "127.0.20.3";

const EDITED = `  http-request set-header ${EDITS.request[0]} ${EDITS.request[1]}
  http-response set-header ${EDITS.answer[0]} "${EDITS.answer[1]}"
  http-response del-header ${EDITS.dropped}
`;

export async function startHaproxy(
  scope: Scope,
  directory: string,
  cgroup: Cgroup,
  client: Cgroup,
  backends: Backends,
  edits: boolean,
): Promise<System> {
  const program = findProgram("haproxy");
  if (program === undefined) throw new Absent("haproxy is not installed (apt-get install haproxy)");
  const config = join(directory, "haproxy.cfg");
  const hops = hopsTo(backends, IP);
  writeFileSync(
    config,
    `
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
${hops
  .map(
    (hop) => `
frontend ${hop.name}
  bind ${IP}:${hop.listen.port}
${edits ? EDITED : ""}  default_backend to-${hop.name}
backend to-${hop.name}
  server s ${hop.backend.ip}:${hop.backend.port} pool-purge-delay 1h
`,
  )
  .join("")}`,
  );
  const party = new Party(scope, "haproxy", [program, "-db", "-q", "-f", config], { cgroup });
  for (const hop of hops) await party.listens(IP, hop.listen.port);
  return proxy("haproxy", IP, cgroup, client, backends);
}
