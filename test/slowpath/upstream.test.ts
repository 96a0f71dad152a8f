import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { DEFAULT_THRESHOLDS, DEFAULT_UPSTREAM } from "../../src/model/limits.ts";
import { Resources } from "../../src/slowpath/breakers.ts";
import { type Target, Upstreams } from "../../src/slowpath/upstream.ts";
import { listen, portOf } from "./parties.ts";

const never = new AbortController().signal;

test("a fresh connection is had where one idle is all that there may be", async (t) => {
  const server = await listen((socket) => socket.on("error", () => {}).on("end", () => socket.end()));
  t.after(() => server.close());
  const resources = new Resources(() => 0);
  const upstreams = new Upstreams(resources, () => {});
  const one = { ...DEFAULT_THRESHOLDS, maxConnections: 1 };
  const target: Target = {
    tenant: 0,
    cluster: "c",
    address: { ip: "127.0.0.1", port: portOf(server) },
    connectTimeoutMs: 1_000,
    priority: "default",
    breakers: { default: one, high: one },
    upstream: DEFAULT_UPSTREAM,
  };
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
