import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { askConfig, askMaps, askQuit, askReady, askStats, askTenant } from "../../src/admin/client.ts";
import { type AdminHandlers, AdminSocketError, serveAdmin } from "../../src/admin/server.ts";
import { someStats } from "./some-stats.ts";

const folder = mkdtempSync(join(tmpdir(), "xlb-admin-"));
after(() => rmSync(folder, { recursive: true }));
let sockets = 0;
const freshPath = () => join(folder, `${sockets++}`, "admin.sock");

const handlers: AdminHandlers = {
  state: () => "LIVE",
  stats: () => someStats,
  config: () => ({ listeners: ["a"] }),
  maps: () => [{ name: "listeners", entries: [{ key: "127.0.0.1:80", value: { id: 1 } }] }],
  tenant: async () => undefined,
  quit: () => undefined,
};

test("every question has its answer", async () => {
  const server = await serveAdmin(freshPath(), handlers);
  assert.deepEqual(await askReady(server.path), { ok: true, value: { state: "LIVE", pid: process.pid } });
  assert.deepEqual(await askStats(server.path), { ok: true, value: someStats });
  assert.deepEqual(await askConfig(server.path), { ok: true, value: handlers.config() });
  assert.deepEqual(await askMaps(server.path), { ok: true, value: handlers.maps() });
  await server.close();
});

test("the socket is its owner's alone, and goes when the server closes", async () => {
  const server = await serveAdmin(freshPath(), handlers);
  assert.equal(statSync(server.path).mode & 0o777, 0o600);
  await server.close();
  assert.equal(existsSync(server.path), false);
});

test("a daemon that is not ready says so and who it is", async () => {
  const server = await serveAdmin(freshPath(), { ...handlers, state: () => "INITIALIZING" });
  assert.deepEqual(await askReady(server.path), { ok: true, value: { state: "INITIALIZING", pid: process.pid } });
  await server.close();
});

test("a tenant's caller learns whether the pools are warm, and waits 300 ms at most", async () => {
  const asked: string[] = [];
  let wait = Promise.resolve();
  const tenant = (cgroup: string) => {
    asked.push(cgroup);
    return wait;
  };
  const server = await serveAdmin(freshPath(), { ...handlers, tenant });
  assert.deepEqual(await askTenant(server.path, "/a/b", 60_000), { ok: true, value: { warm: true } });
  wait = new Promise(() => undefined);
  const start = performance.now();
  assert.deepEqual(await askTenant(server.path, "/a/c", 60_000), { ok: true, value: { warm: false } });
  const took = performance.now() - start;
  assert.ok(took >= 290 && took < 30_000, `${took} ms`);
  assert.deepEqual(asked, ["/a/b", "/a/c"]);
  await server.close();
});

test("a tenant is an absolute path", async () => {
  const server = await serveAdmin(freshPath(), handlers);
  const answer = await askTenant(server.path, "relative", 1000);
  assert.equal(answer.ok, false);
  assert.match(answer.ok ? "" : answer.message, /expected \{"cgroup"/);
  await server.close();
});

test("quit is done after the answer has left", async () => {
  const quit = await new Promise<boolean>((resolve) => {
    serveAdmin(freshPath(), { ...handlers, quit: () => resolve(true) }).then(async (server) => {
      assert.deepEqual(await askQuit(server.path), { ok: true, value: {} });
      await server.close();
    });
  });
  assert.ok(quit);
});

test("an error of the daemon is told, not swallowed", async () => {
  const broken = {
    ...handlers,
    stats: () => {
      throw new Error("map is gone");
    },
  };
  const server = await serveAdmin(freshPath(), broken);
  assert.deepEqual(await askStats(server.path), { ok: false, why: "failed", message: "map is gone" });
  await server.close();
});

test("an unknown question is 404", async () => {
  const server = await serveAdmin(freshPath(), handlers);
  const status = await new Promise((resolve, reject) => {
    const asking = request({ socketPath: server.path, path: "/nothing", agent: false }, (r) => resolve(r.statusCode));
    asking.on("error", reject).end();
  });
  assert.equal(status, 404);
  await server.close();
});

test("no daemon: the answer says so", async () => {
  const path = freshPath();
  assert.deepEqual(await askStats(path), { ok: false, why: "absent", message: `no daemon answers at ${path}` });
});

test("a second daemon is refused, with the first one's pid", async () => {
  const server = await serveAdmin(freshPath(), handlers);
  await assert.rejects(serveAdmin(server.path, handlers), (error: Error) => {
    assert.ok(error instanceof AdminSocketError);
    assert.match(error.message, new RegExp(`another daemon is running \\(pid ${process.pid}\\)`));
    return true;
  });
  assert.equal((await askReady(server.path)).ok, true, "the first daemon keeps its socket");
  await server.close();
});

test("a killed daemon's socket is taken over", async () => {
  const path = freshPath();
  const first = await serveAdmin(path, handlers);
  await first.close();
  const killed = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`;
  assert.equal(spawnSync(process.execPath, ["-e", killed]).signal, "SIGKILL");
  assert.ok(existsSync(path), "a socket was left");
  const second = await serveAdmin(path, handlers);
  assert.equal((await askReady(path)).ok, true);
  await second.close();
});

test("what is no socket is not removed", async () => {
  const path = join(folder, "file");
  writeFileSync(path, "precious");
  await assert.rejects(serveAdmin(path, handlers), /exists and is no socket/);
  assert.ok(existsSync(path));
});

test("a path too long for a socket is named", async () => {
  await assert.rejects(serveAdmin(join(folder, "x".repeat(120)), handlers), /longer than the 107 bytes/);
});
