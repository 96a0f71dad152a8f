import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cgroup, findProgram, Party, run, until } from "../party.ts";
import type { Scope } from "../scope.ts";
import { Absent } from "./system.ts";

/** The server behind every balancer: one worker of nginx, which trusts FIONREAD and sends files by sendfile. */

export const BODY = "Hello from behind the balancer.\n";
const FILE_BYTES = 4 << 20;

export interface Place {
  readonly name: string;
  readonly ip: string;
  readonly port: number;
  readonly cgroup: Cgroup;
  readonly namespace?: string;
}

export async function startBackend(
  scope: Scope,
  directory: string,
  sendfile: "on" | "off",
  place: Place,
): Promise<void> {
  const nginx = findProgram("nginx");
  if (nginx === undefined) throw new Absent("nginx is not installed (apt-get install nginx)");
  const home = join(directory, place.name);
  for (const part of ["www/upload", "tmp"]) mkdirSync(join(home, part), { recursive: true });
  writeFileSync(join(home, "www/4m"), Buffer.alloc(FILE_BYTES, "0123456789abcdef"));
  const config = join(home, "nginx.conf");
  writeFileSync(config, configure(home, sendfile, place));
  const party = new Party(scope, place.name, [nginx, "-p", home, "-e", "stderr", "-c", config], place);
  const ask = ["curl", "-sf", "-m", "2", `http://${place.ip}:${place.port}/`];
  const answers = async () => (await run(scope, ask, { cgroup: place.cgroup })).stdout === BODY;
  await until(answers, 10_000, () => party.explain("does not answer"));
}

function configure(home: string, sendfile: string, place: Place): string {
  return `
daemon off;
user root;
worker_processes 1;
pid ${home}/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  sendfile ${sendfile};
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path ${home}/tmp;
  client_body_buffer_size 128k;
  proxy_temp_path ${home}/tmp;
  fastcgi_temp_path ${home}/tmp;
  uwsgi_temp_path ${home}/tmp;
  scgi_temp_path ${home}/tmp;
  types { }
  default_type text/plain;
  server {
    listen ${place.ip}:${place.port} backlog=4096;
    root ${home}/www;
    location = / { return 200 "${BODY.trim()}\\n"; }
    location /match/ { return 200 "${BODY.trim()}\\n"; }
    location /4m { }
    # PUT reads the body to its end before it answers; "return" would answer at once and discard.
    location /upload/ { dav_methods PUT; }
  }
}
`;
}
