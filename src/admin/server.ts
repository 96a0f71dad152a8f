import { chmodSync, lstatSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { dirname } from "node:path";
import { askReady } from "./client.ts";
import {
  type AdminFault,
  type MapDump,
  type Ready,
  type Stats,
  TENANT_WAIT_MS,
  type TenantAnswer,
} from "./messages.ts";

/** What the daemon does when it is asked; an error thrown becomes a 500 with its message. */
export interface AdminHandlers {
  state(): Ready["state"];
  stats(): Stats | Promise<Stats>;
  config(): unknown;
  maps(): readonly MapDump[] | Promise<readonly MapDump[]>;
  /** Resolves once the pools of this cgroup are warm; the caller does not wait for ever. */
  tenant(cgroup: string): Promise<void>;
  /** Called after the answer has left. */
  quit(): void;
}

export interface AdminServer {
  readonly path: string;
  close(): Promise<void>;
}

/** Another daemon owns the socket, or the path cannot hold one. The message is for the user. */
export class AdminSocketError extends Error {}

const MAX_SOCKET_PATH_BYTES = 107; // sun_path, with its final NUL
const MAX_BODY_BYTES = 64 << 10;

export async function serveAdmin(path: string, handlers: AdminHandlers): Promise<AdminServer> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    throw new AdminSocketError(`${path}: longer than the ${MAX_SOCKET_PATH_BYTES} bytes a unix socket's path may have`);
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  await removeStale(path);
  const server = createServer((request, response) => {
    answer(request, response, handlers).catch((error: Error) => reply(response, 500, { error: error.message }));
  });
  server.keepAliveTimeout = 1;
  await listen(server, path);
  return {
    path,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      reject(error.code === "EADDRINUSE" ? new AdminSocketError(`${path}: another daemon has just taken it`) : error);
    });
    // bind(2) happens inside this call, so the socket never exists with wider permissions.
    const mask = process.umask(0o177);
    try {
      server.listen(path, () => {
        chmodSync(path, 0o600);
        resolve();
      });
    } finally {
      process.umask(mask);
    }
  });
}

/** A socket without a listener is what a killed daemon leaves. One that answers is a living daemon's. */
async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new AdminSocketError(`${path}: exists and is no socket`);
  await refuseLiving(path, path);
  // Looked at again under another name: a daemon that started meanwhile gets its socket back.
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  try {
    await refuseLiving(aside, path);
  } catch (error) {
    renameSync(aside, path);
    throw error;
  }
  rmSync(aside);
}

async function refuseLiving(path: string, name: string): Promise<void> {
  const ready = await askReady(path);
  if (!ready.ok && ready.why === "absent") return;
  const who = ready.ok ? `another daemon is running (pid ${ready.value.pid})` : `in use: ${ready.message}`;
  throw new AdminSocketError(`${name}: ${who}; stop it, or choose another --admin-socket`);
}

async function answer(request: IncomingMessage, response: ServerResponse, handlers: AdminHandlers): Promise<void> {
  switch (`${request.method} ${request.url}`) {
    case "GET /ready": {
      const state = handlers.state();
      return reply(response, state === "LIVE" ? 200 : 503, { state, pid: process.pid } satisfies Ready);
    }
    case "GET /stats":
      return reply(response, 200, (await handlers.stats()) satisfies Stats);
    case "GET /config":
      return reply(response, 200, await handlers.config());
    case "GET /maps":
      return reply(response, 200, await handlers.maps());
    case "POST /tenants": {
      const body = await readBody(request);
      const cgroup = cgroupOf(body);
      if (cgroup === undefined) return reply(response, 400, { error: 'expected {"cgroup": "/absolute/path"}' });
      return reply(response, 200, await warm(handlers, cgroup));
    }
    case "POST /quitquitquit":
      response.once("finish", () => handlers.quit());
      return reply(response, 200, {});
    default:
      return reply(response, 404, { error: `no ${request.method} ${request.url} here` } satisfies AdminFault);
  }
}

async function warm(handlers: AdminHandlers, cgroup: string): Promise<TenantAnswer> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), TENANT_WAIT_MS);
  });
  const warmed = handlers.tenant(cgroup).then(() => true as const);
  // Losing the race must not make a later failure an unhandled one; the daemon logs its own.
  warmed.catch(() => undefined);
  try {
    return { warm: await Promise.race([warmed, late]) };
  } finally {
    clearTimeout(timer);
  }
}

function cgroupOf(body: string): string | undefined {
  try {
    const { cgroup } = JSON.parse(body) as { cgroup?: unknown };
    return typeof cgroup === "string" && cgroup.startsWith("/") ? cgroup : undefined;
  } catch {
    return undefined;
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length;
    if (bytes > MAX_BODY_BYTES) throw new Error("the body is too large");
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function reply(response: ServerResponse, status: number, value: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const body = Buffer.from(JSON.stringify(value ?? null));
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": body.length,
    connection: "close",
  });
  response.end(body);
}
