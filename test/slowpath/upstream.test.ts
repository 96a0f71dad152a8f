import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { DEFAULT_THRESHOLDS, DEFAULT_UPSTREAM, type Keepalive, type Thresholds } from "../../src/model/limits.ts";
import { Resources } from "../../src/slowpath/breakers.ts";
import { ConnectFailed, Overflow, type Target, Upstreams } from "../../src/slowpath/upstream.ts";
import { freePort, listen, portOf } from "./parties.ts";

const never = new AbortController().signal;

/** A cluster of one endpoint, with these limits. */
function targetAt(port: number, limits: Partial<Thresholds>): Target {
  const thresholds = { ...DEFAULT_THRESHOLDS, ...limits };
  return {
    tenant: 0,
    cluster: "c",
    address: { ip: "127.0.0.1", port },
    connectTimeoutMs: 1_000,
    priority: "default",
    breakers: { default: thresholds, high: thresholds },
    upstream: DEFAULT_UPSTREAM,
  };
}

const silent = () => listen((socket) => socket.on("error", () => {}).on("end", () => socket.end()));

test("a fresh connection is had where one idle is all that there may be", async (t) => {
  const server = await silent();
  t.after(() => server.close());
  const resources = new Resources(() => 0);
  const upstreams = new Upstreams(resources, () => {});
  const target = targetAt(portOf(server), { maxConnections: 1 });
  const first = await upstreams.acquire(target, false, never);
  upstreams.detach(target);
  upstreams.giveBack(target, first);
  const second = await upstreams.acquire(target, true, never);
  assert.notEqual(second, first);
  assert.ok(first.socket.destroyed);
  assert.equal(resources.of("c", "default").connections, 1);
  upstreams.detach(target);
  upstreams.giveBack(target, second);
  assert.equal(await upstreams.acquire(target, false, never), second);
  second.socket.destroy();
  await once(second.socket, "close");
  assert.equal(resources.of("c", "default").connections, 0);
});

test("max_requests is asked when there is a connection, max_pending_requests before", async (t) => {
  const server = await silent();
  t.after(() => server.close());
  const upstreams = new Upstreams(new Resources(() => 0), () => {});
  t.after(() => upstreams.closeIdle());
  const [open, closed] = [portOf(server), await freePort()];
  const acquire = (port: number, limits: Partial<Thresholds>) =>
    upstreams.acquire(targetAt(port, limits), false, never);
  await assert.rejects(acquire(closed, { maxRequests: 0 }), ConnectFailed);
  await assert.rejects(acquire(open, { maxRequests: 0 }), Overflow);
  await assert.rejects(acquire(closed, { maxPendingRequests: 0 }), Overflow);
});

test("keepalive is set by the system's way where there is one, else by Node's", async (t) => {
  const server = await silent();
  t.after(() => server.close());
  const keepalive = { time: 60, interval: 7, probes: 3 };
  const target: Target = { ...targetAt(portOf(server), {}), sockets: { keepalive } };
  const told: Keepalive[] = [];
  const system = new Upstreams(new Resources(() => 0), () => {}, {
    setKeepalive: (_, keepalive) => told.push(keepalive),
  });
  const up = await system.open(target);
  up.socket.destroy();
  assert.deepEqual(told, [keepalive]);
  const node = await new Upstreams(new Resources(() => 0), () => {}).open(target);
  const { localPort } = node.socket;
  const said = execFileSync("ss", ["-tnoH", "sport", "=", `:${localPort}`], { encoding: "utf8" });
  node.socket.destroy();
  assert.match(said, /timer:\(keepalive,(1min|5\dsec|59\.\d+sec)/);
});

test("connections of their own are for one client each, and end with it", async (t) => {
  const server = await silent();
  t.after(() => server.close());
  const resources = new Resources(() => 0);
  const upstreams = new Upstreams(resources, () => {});
  const [one, other] = [new PassThrough(), new PassThrough()];
  const upstream = { ...DEFAULT_UPSTREAM, perClient: true } as const;
  const targetOf = (client: PassThrough): Target => ({ ...targetAt(portOf(server), {}), upstream, client });
  const serve = async (client: PassThrough) => {
    const up = await upstreams.acquire(targetOf(client), false, never);
    upstreams.detach(targetOf(client));
    upstreams.giveBack(targetOf(client), up);
    return up;
  };
  const first = await serve(one);
  const second = await serve(other);
  assert.notEqual(first, second);
  assert.equal(await serve(one), first);
  assert.equal(await serve(other), second);
  upstreams.leave(one);
  assert.ok(first.socket.destroyed);
  assert.ok(!second.socket.destroyed);
  /* One that comes back when its client has gone is nobody's. */
  const late = await upstreams.acquire(targetOf(other), false, never);
  assert.equal(late, second);
  other.destroy();
  upstreams.leave(other);
  upstreams.detach(targetOf(other));
  upstreams.giveBack(targetOf(other), late);
  assert.ok(late.socket.destroyed);
  const until = performance.now() + 5_000;
  while (resources.of("c", "default").connections > 0 && performance.now() < until) await sleep(2);
  assert.equal(resources.of("c", "default").connections, 0);
});
