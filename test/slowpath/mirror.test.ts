import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { connect, type Server } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { withMark } from "../../src/slowpath/mirror.ts";
import { ENVOY, listen, portOf, type SlowPathUnderTest, startSlowPath, withEnvoy } from "./parties.ts";

test("a mirror's host is marked before its last colon, but not within an IPv6 address", () => {
  const marked = ["a.test", "a.test:80", "a.test:", "a.test:x", "a:0:", "[::1]", "[::1]:80", "x--[::1"].map(withMark);
  assert.deepEqual(marked, [
    "a.test-shadow",
    "a.test-shadow:80",
    "a.test-shadow:",
    "a.test-shadow:x",
    "a:0-shadow:",
    "[::1]-shadow",
    "[::1]-shadow:80",
    "x--[:-shadow:1",
  ]);
});

/** When mirrors get what: the slow path, and a real Envoy where there is one. */

/** Long enough for all that is under way. Milliseconds. */
const SHORT = 150;

/** What came to each server of the request, without the head, and whether its connection has ended. */
let got = { own: "", mirror: "" };
let ended = { own: false, mirror: false };
let servers: { readonly own: Server; readonly mirror: Server };
let slowPath: SlowPathUnderTest;
/** The mirror's server does not read. */
let paused = false;

const serve = (who: "own" | "mirror") =>
  listen((socket) => {
    let mine: typeof got | undefined;
    if (who === "mirror" && paused) socket.pause();
    socket.on("error", () => {});
    socket.on("close", () => {
      if (mine === got) ended[who] = true;
    });
    socket.on("end", () => socket.end());
    socket.setEncoding("latin1").on("data", (text: string) => {
      got[who] += mine === got ? text : text.slice(text.indexOf("\r\n\r\n") + 4);
      mine = got;
      if (got[who].endsWith("!")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
  });

before(async () => {
  servers = { own: await serve("own"), mirror: await serve("mirror") };
  slowPath = await startSlowPath(bootstrap(1));
});

after(async () => {
  await slowPath.stop();
  for (const server of Object.values(servers)) server.close();
});

function bootstrap(port_value: number): unknown {
  const address = (port_value: number) => ({ socket_address: { address: "127.0.0.1", port_value } });
  const cluster = (name: "own" | "mirror") => ({
    name,
    type: "STATIC",
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: address(portOf(servers[name])) } }] }],
    },
  });
  const route = { cluster: "own", request_mirror_policies: [{ cluster: "mirror" }] };
  const type = "type.googleapis.com/envoy.extensions.filters";
  const manager = {
    "@type": `${type}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "mirrors",
    route_config: { virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, route }] }] },
    http_filters: [{ name: "router", typed_config: { "@type": `${type}.http.router.v3.Router` } }],
  };
  const filters = [{ name: "manager", typed_config: manager }];
  const listeners = [{ name: "l", address: address(port_value), filter_chains: [{ filters }] }];
  return { static_resources: { listeners, clusters: [cluster("own"), cluster("mirror")] } };
}

async function asking(port: number, length: number, use: (send: (text: string) => void) => Promise<void>) {
  [got, ended] = [
    { own: "", mirror: "" },
    { own: false, mirror: false },
  ];
  const socket = connect(port, "127.0.0.1").on("error", () => {});
  socket.write(`POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${length}\r\n\r\n`);
  try {
    await use((text) => socket.write(text));
  } finally {
    socket.destroy();
    await sleep(SHORT);
  }
}

async function asItComes(port: number): Promise<void> {
  await asking(port, 4, async (send) => {
    send("abc");
    await sleep(SHORT);
    assert.deepEqual(got, { own: "abc", mirror: "abc" });
    send("!");
    await sleep(SHORT);
    assert.deepEqual(got, { own: "abc!", mirror: "abc!" });
  });
}

async function overWithIt(port: number): Promise<void> {
  await asking(port, 4, async (send) => {
    send("abc");
    await sleep(SHORT);
    assert.deepEqual(ended, { own: false, mirror: false });
  });
  assert.deepEqual(ended, { own: true, mirror: true });
}

async function waitedFor(port: number): Promise<void> {
  const length = 64 << 20;
  paused = true;
  await asking(port, length, async (send) => {
    send("x".repeat(length));
    await sleep(500);
    assert.ok(got.own.length < length, `${got.own.length} bytes have gone to the request's own server`);
  });
  paused = false;
}

for (const [name, check] of [
  ["a mirror gets a request as it comes", asItComes],
  ["a mirror's request is over when the client's is before its end", overWithIt],
  ["a mirror that does not read holds up the request", waitedFor],
] as const) {
  test(name, { timeout: 20_000 }, () => check(slowPath.ports[0]!));

  test(`${name}: Envoy`, { skip: !existsSync(ENVOY), timeout: 60_000 }, () =>
    withEnvoy(
      1,
      ([port]) => bootstrap(port!),
      ([port]) => check(port!),
    ),
  );
}
