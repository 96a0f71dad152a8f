import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, createServer, request, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { addressOf, bootstrapOf, CASES, type Case, misfit, PORT } from "./cases.ts";

/**
 * The expectations against a real Envoy (`XLB_ENVOY`, or .envoy/bin/envoy). Where there is no Envoy it is skipped. Its
 * chance cannot be held still, so the bound is one that chance misses once in a thousand million times.
 */
const ENVOY = process.env.XLB_ENVOY ?? fileURLToPath(new URL("../../.envoy/bin/envoy", import.meta.url));
const Z = 6;
const REQUESTS = 2_000;
const ENDPOINTS = 101;
const START_TRIES = 600;

/** One request after the other: what is in service has no say. */
test("Envoy shares requests as the cases say", { skip: !existsSync(ENVOY) && "no Envoy here" }, async (t) => {
  const servers = await Promise.all(Array.from({ length: ENDPOINTS }, (_, i) => serve(i + 1)));
  const folder = mkdtempSync(join(tmpdir(), "xlb-balancing-"));
  try {
    for (const [index, some] of CASES.entries()) await t.test(some.name, () => compare(some, folder, index));
  } finally {
    for (const server of servers) {
      server.close();
      server.closeAllConnections();
    }
    rmSync(folder, { recursive: true, force: true });
  }
});

async function serve(number: number): Promise<Server> {
  const server = createServer((_, response) => response.end(String(number)));
  // Never the one that ends a connection.
  server.keepAliveTimeout = 0;
  server.listen(PORT, addressOf(number));
  await once(server, "listening");
  return server;
}

async function compare(some: Case, folder: string, index: number): Promise<void> {
  const socket = join(folder, `${index}.sock`);
  const file = join(folder, `${index}.json`);
  writeFileSync(file, JSON.stringify(bootstrapOf(some, { pipe: { path: socket } })));
  const envoy = spawn(ENVOY, ["-c", file, "-l", "error", "--concurrency", "1", "--use-dynamic-base-id"], {
    stdio: "inherit",
  });
  const gone = once(envoy, "exit");
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    await untilServing(socket, envoy, agent);
    const counts = new Map<number | undefined, number>();
    for (let i = 0; i < REQUESTS; i++) {
      const answer = await ask(socket, agent);
      assert.ok(answer?.status === 200 || answer?.body === "no healthy upstream", JSON.stringify(answer));
      const number = answer.status === 200 ? Number(answer.body) : undefined;
      counts.set(number, (counts.get(number) ?? 0) + 1);
    }
    const off = misfit(counts, some, Z);
    assert.ok(off < 1, `${off}: ${JSON.stringify([...counts])}`);
  } finally {
    agent.destroy();
    envoy.kill();
    await gone;
  }
}

async function untilServing(socket: string, envoy: ChildProcess, agent: Agent): Promise<void> {
  for (let tries = 0; tries < START_TRIES; tries++) {
    assert.equal(envoy.exitCode, null, "Envoy refuses the configuration");
    if ((await ask(socket, agent)) !== undefined) return;
    await sleep(50);
  }
  assert.fail(`Envoy does not serve on ${socket}`);
}

function ask(socketPath: string, agent: Agent): Promise<{ status: number | undefined; body: string } | undefined> {
  return new Promise((resolve) => {
    const sent = request({ socketPath, agent, headers: { host: "h" } }, (response) => {
      let body = "";
      response.setEncoding("latin1").on("data", (part) => {
        body += part;
      });
      response.on("end", () => resolve({ status: response.statusCode, body }));
    });
    sent.on("error", () => resolve(undefined)).end();
  });
}
