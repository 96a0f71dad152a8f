import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findProgram, run } from "../../bench/party.ts";
import type { Scope } from "../../bench/scope.ts";

/** Real servers of several kinds that answer from the request alone. */

export const SERVERS = ["nginx", "node", "python", "java", "go"] as const;
export type ServerKind = (typeof SERVERS)[number];

const HERE = import.meta.dirname;
const ECHO_MODULE = "/usr/lib/nginx/modules/ngx_http_echo_module.so";
/** What nginx serves from files: one send of the head, then sendfile. */
export const FILES = [0, 1, 1000, 4096, 65536, 300_000] as const;

/** The command that starts a server, or the reason why this machine cannot. */
export async function serverCommand(
  scope: Scope,
  kind: ServerKind,
  directory: string,
  ip: string,
  port: number,
): Promise<readonly string[] | string> {
  const place = [ip, String(port)];
  switch (kind) {
    case "node":
      return [process.execPath, join(HERE, "node.mjs"), ...place];
    case "python":
      return findProgram("python3") ? ["python3", join(HERE, "server.py"), ...place] : "python3 is not installed";
    case "java":
      return findProgram("javac")
        ? ["java", "-Xshare:auto", join(HERE, "Server.java"), ...place]
        : "no JDK is installed";
    case "go": {
      const built = await buildGo(scope, join(HERE, "server.go"), join(directory, "go-server"));
      return built === undefined ? [join(directory, "go-server"), ...place] : built;
    }
    case "nginx": {
      const program = findProgram("nginx");
      if (program === undefined) return "nginx is not installed";
      if (!existsSync(ECHO_MODULE)) return "nginx's echo module is not installed (libnginx-mod-http-echo)";
      return [program, "-e", "stderr", "-p", directory, "-c", prepareNginx(directory, ip, port)];
    }
    default:
      return kind satisfies never;
  }
}

/** Undefined when it was built, else the reason why not. */
export async function buildGo(scope: Scope, source: string, target: string): Promise<string | undefined> {
  if (findProgram("go") === undefined) return "go is not installed";
  const environment = { GO111MODULE: "off", CGO_ENABLED: "0" };
  const done = await run(scope, ["go", "build", "-o", target, source], { environment, timeoutMs: 180_000 });
  return done.status === 0 ? undefined : `go build: ${done.stderr.trim()}`;
}

function prepareNginx(directory: string, ip: string, port: number): string {
  const home = join(directory, "nginx");
  for (const part of ["www/file", "www/put", "tmp"]) mkdirSync(join(home, part), { recursive: true });
  for (const size of FILES) {
    writeFileSync(
      join(home, "www/file", String(size)),
      Buffer.alloc(size).map((_, i) => i + (i >> 8)),
    );
  }
  writeFileSync(join(home, "www/put/here"), "");
  const config = join(home, "nginx.conf");
  writeFileSync(
    config,
    `load_module ${ECHO_MODULE};
daemon off;
user root;
worker_processes 1;
pid ${home}/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 5m;
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  large_client_header_buffers 8 32k;
  client_body_temp_path ${home}/tmp;
  proxy_temp_path ${home}/tmp;
  fastcgi_temp_path ${home}/tmp;
  uwsgi_temp_path ${home}/tmp;
  scgi_temp_path ${home}/tmp;
  default_type application/octet-stream;
  server {
    listen ${ip}:${port} backlog=1024;
    root ${home}/www;
    add_header X-Server nginx always;
    add_header Set-Cookie a=1 always;
    add_header Set-Cookie b=2 always;
    location /file/ { }
    location /put/ { dav_methods PUT; }
    location /echo {
      echo_read_request_body;
      echo "$echo_client_request_headers";
      echo_request_body;
    }
    location /return/204 { return 204; }
    location /return/304 { return 304; }
    location /return/404 { return 404 "nothing here: $request_method $request_uri\\n"; }
    location /return/503 { return 503; }
    location /return/200 { return 200 "$request_method $request_uri $http_host $http_x_xlb_0 $http_x_xlb_1\\n"; }
  }
}
`,
  );
  return config;
}
