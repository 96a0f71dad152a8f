import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cgroup, findProgram, Party } from "../party.ts";
import type { Scope } from "../scope.ts";
import { EDITS } from "./bootstrap.ts";
import { hopsTo, proxy } from "./proxy.ts";
import { Absent, type Backends, type System } from "./system.ts";

const IP = "127.0.20.4";

const EDITED = `  proxy_set_header ${EDITS.request[0]} ${EDITS.request[1]};
  add_header ${EDITS.answer[0]} "${EDITS.answer[1]}";
  proxy_hide_header ${EDITS.dropped};
`;

export async function startNginx(
  scope: Scope,
  directory: string,
  cgroup: Cgroup,
  client: Cgroup,
  backends: Backends,
  edits: boolean,
): Promise<System> {
  const program = findProgram("nginx");
  if (program === undefined) throw new Absent("nginx is not installed (apt-get install nginx)");
  const home = join(directory, "nginx-proxy");
  mkdirSync(join(home, "tmp"), { recursive: true });
  const config = join(home, "nginx.conf");
  const hops = hopsTo(backends, IP);
  writeFileSync(
    config,
    `
daemon off;
user root;
worker_processes 1;
pid ${home}/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path ${home}/tmp;
  proxy_temp_path ${home}/tmp;
  fastcgi_temp_path ${home}/tmp;
  uwsgi_temp_path ${home}/tmp;
  scgi_temp_path ${home}/tmp;
  client_body_buffer_size 128k;
  # Large answers stay in memory and under back-pressure: no temporary files.
  proxy_max_temp_file_size 0;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
${edits ? EDITED : ""}${hops
  .map(
    (hop) => `
  upstream ${hop.name} {
    server ${hop.backend.ip}:${hop.backend.port};
    keepalive 256;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }
  server {
    listen ${IP}:${hop.listen.port} backlog=4096 reuseport;
    location / { proxy_pass http://${hop.name}; }
  }
`,
  )
  .join("")}}
`,
  );
  const party = new Party(scope, "nginx proxy", [program, "-p", home, "-e", "stderr", "-c", config], { cgroup });
  for (const hop of hops) await party.listens(IP, hop.listen.port);
  return proxy("nginx", IP, cgroup, client, backends);
}
