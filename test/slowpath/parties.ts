import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { pino } from "pino";
import { parse } from "yaml";
import { SlowCounters } from "../../src/daemon/counters.ts";
import { ReferenceRouter } from "../../src/daemon/router.ts";
import { SlowSide } from "../../src/daemon/slow.ts";
import { parseBootstrap } from "../../src/envoy/parse.ts";
import { Outliers } from "../../src/health/outliers.ts";
import { withEjections } from "../../src/route/outlier.ts";

/** The slow path without a kernel, and a real Envoy, by one configuration each. */

export const ENVOY = process.env.XLB_ENVOY ?? fileURLToPath(new URL("../../.envoy/bin/envoy", import.meta.url));

export const portOf = (server: Server) => (server.address() as AddressInfo).port;

export async function listen(serve: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, serve);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

/** A port that nobody listens on, for now. */
export async function freePort(): Promise<number> {
  const server = await listen(() => {});
  const port = portOf(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A configuration beside the tests, with real ports in place of the small numbers that are written in it. */
export function withPorts(file: string, ports: { readonly [written: number]: number }): unknown {
  return JSON.parse(JSON.stringify(parse(readFileSync(file, "utf8"))), (key, value) =>
    key === "port_value" ? ports[value] : value,
  );
}

export interface SlowPathUnderTest {
  /** Of the listeners, in the order of the configuration. */
  readonly ports: readonly number[];
  readonly counters: SlowCounters;
  stop(): Promise<void>;
}

/** `bootstrap`: as Envoy would get it; the ports of its listeners mean nothing. */
export async function startSlowPath(bootstrap: unknown): Promise<SlowPathUnderTest> {
  const parsed = parseBootstrap(JSON.stringify(bootstrap));
  assert.ok(parsed.ok, JSON.stringify(parsed));
  const { config } = parsed.value;
  const counters = new SlowCounters();
  const router = new ReferenceRouter(config, (cluster, endpoint) => side.active(cluster, endpoint), 0);
  const outliers = new Outliers({
    now: () => performance.now(),
    changed: () => router.update(withEjections(config, (...one) => outliers.isEjected(...one))),
    count: (cluster, what) => counters.count(counters.clusters, cluster, what),
    log: () => {},
  });
  outliers.follow(config.clusters);
  const side: SlowSide = new SlowSide(router, counters, outliers, pino({ level: "silent" }));
  const servers = await Promise.all(
    config.listeners.map((listener) => listen((socket) => side.serveSocket(socket, listener))),
  );
  return {
    ports: servers.map(portOf),
    counters,
    async stop() {
      outliers.stop();
      await side.drain(0);
      for (const server of servers) server.close();
    },
  };
}

/** Runs Envoy with listeners on ports of its own while `use` lasts. */
export async function withEnvoy(
  listeners: number,
  bootstrap: (ports: readonly number[]) => unknown,
  use: (ports: readonly number[]) => Promise<void>,
): Promise<void> {
  const free = await Promise.all(Array.from({ length: listeners }, () => listen(() => {})));
  const ports = free.map(portOf);
  for (const server of free) await new Promise((resolve) => server.close(resolve));
  const folder = mkdtempSync(join(tmpdir(), "xlb-envoy-"));
  const config = join(folder, "envoy.json");
  writeFileSync(config, JSON.stringify(bootstrap(ports)));
  const envoy = spawn(ENVOY, ["-c", config, "-l", "error", "--concurrency", "1", "--disable-hot-restart"], {
    stdio: "inherit",
  });
  try {
    for (const port of ports) await untilAccepting(port);
    await use(ports);
  } finally {
    envoy.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function untilAccepting(port: number): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    const accepted = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (accepted) return;
    await sleep(50);
  }
  assert.fail(`Envoy does not listen on port ${port}`);
}
