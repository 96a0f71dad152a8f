import { request as httpRequest } from "node:http";
import type { AdminFault, MapDump, Ready, Stats, TenantAnswer } from "./messages.ts";

/** Why there is no answer: nobody listens, we may not ask, it took too long, or the daemon said no. */
export type Silence = "absent" | "forbidden" | "timeout" | "failed";

export type Answer<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly why: Silence; readonly message: string };

const ANSWER_MS = 5000;
const MAX_ANSWER_BYTES = 256 << 20;

export const askReady = (socket: string, timeoutMs = 1000) => ask<Ready>(socket, "GET", "/ready", { timeoutMs });
export const askStats = (socket: string) => ask<Stats>(socket, "GET", "/stats");
export const askConfig = (socket: string) => ask<unknown>(socket, "GET", "/config");
export const askMaps = (socket: string) => ask<readonly MapDump[]>(socket, "GET", "/maps");
export const askQuit = (socket: string) => ask<unknown>(socket, "POST", "/quitquitquit");
export const askTenant = (socket: string, cgroup: string, timeoutMs: number) =>
  ask<TenantAnswer>(socket, "POST", "/tenants", { timeoutMs, body: { cgroup } });

interface Asking {
  readonly timeoutMs?: number;
  readonly body?: unknown;
}

function ask<T>(socket: string, method: string, path: string, asking: Asking = {}): Promise<Answer<T>> {
  const timeoutMs = asking.timeoutMs ?? ANSWER_MS;
  return new Promise((resolve) => {
    const fail = (why: Silence, message: string) => {
      clearTimeout(timer);
      request.destroy();
      resolve({ ok: false, why, message });
    };
    const body = asking.body === undefined ? undefined : JSON.stringify(asking.body);
    const headers = body === undefined ? {} : { "content-type": "application/json" };
    const request = httpRequest({ socketPath: socket, method, path, agent: false, headers });
    const timer = setTimeout(() => fail("timeout", `no answer at ${socket} within ${timeoutMs} ms`), timeoutMs);
    request.on("error", (error: NodeJS.ErrnoException) => fail(...silenceOf(error, socket)));
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) fail("failed", `the answer to ${method} ${path} is too large`);
        else chunks.push(chunk);
      });
      response.on("error", (error) => fail("failed", error.message));
      response.on("end", () => {
        clearTimeout(timer);
        resolve(read<T>(response.statusCode ?? 0, Buffer.concat(chunks).toString("utf8"), `${method} ${path}`));
      });
    });
    request.end(body);
  });
}

function silenceOf(error: NodeJS.ErrnoException, socket: string): [Silence, string] {
  switch (error.code) {
    case "ENOENT":
    case "ECONNREFUSED":
      return ["absent", `no daemon answers at ${socket}`];
    case "EACCES":
    case "EPERM":
      return ["forbidden", `no permission to use ${socket}: are you root?`];
    default:
      return ["failed", `${socket}: ${error.message}`];
  }
}

function read<T>(status: number, text: string, what: string): Answer<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { ok: false, why: "failed", message: `the answer to ${what} is not JSON` };
  }
  // A daemon that is not ready yet still says who it is.
  if (status === 200 || (status === 503 && "pid" in (value as object))) return { ok: true, value: value as T };
  return { ok: false, why: "failed", message: (value as Partial<AdminFault>).error ?? `${what}: status ${status}` };
}
