import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { unavailable } from "../../src/kernel/native.ts";
import { listen, portOf, startSlowPath } from "./parties.ts";

/**
 * A server that refuses an upload answers, and resets the connection while the rest of the body is on its way: its
 * answer is what the client gets.
 */

const TYPE = "type.googleapis.com/envoy.extensions.filters";
const ROUNDS = 60;
const BODY = Buffer.alloc(3_000_000, "x");
const ANSWER = "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge";

function bootstrap(port: number): unknown {
  const address = (port_value: number) => ({ socket_address: { address: "127.0.0.1", port_value } });
  const manager = {
    "@type": `${TYPE}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "refusal",
    route_config: {
      virtual_hosts: [{ name: "h", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "c" } }] }],
    },
    http_filters: [{ name: "router", typed_config: { "@type": `${TYPE}.http.router.v3.Router` } }],
  };
  const lb_endpoints = [{ endpoint: { address: address(port) } }];
  return {
    static_resources: {
      listeners: [
        { name: "l", address: address(1), filter_chains: [{ filters: [{ name: "m", typed_config: manager }] }] },
      ],
      clusters: [{ name: "c", load_assignment: { cluster_name: "c", endpoints: [{ lb_endpoints }] } }],
    },
  };
}

function upload(port: number): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(port, "127.0.0.1", () => {
      socket.write(`POST / HTTP/1.1\r\nHost: h\r\nContent-Length: ${BODY.length}\r\n\r\n`);
      socket.write(BODY);
    });
    socket.setEncoding("latin1").on("data", (piece) => {
      text += piece;
    });
    /* The rest of its body is nobody's. */
    socket.on("error", () => {});
    socket.on("close", () => resolve(`${text.slice(9, 12)} ${text.split("\r\n\r\n")[1]}`));
  });
}

test("an answer that refuses an upload outlives its connection", { skip: unavailable()?.message }, async () => {
  const server = await listen((socket) => {
    socket.on("error", () => {});
    socket.once("data", async () => {
      socket.pause();
      await sleep(Math.random() * 3);
      socket.write(ANSWER, () => socket.resetAndDestroy());
    });
  });
  const slow = await startSlowPath(bootstrap(portOf(server)));
  try {
    const told = [];
    for (let i = 0; i < ROUNDS; i++) told.push(await upload(slow.ports[0]!));
    assert.deepEqual(
      told,
      Array.from({ length: ROUNDS }, () => "413 large"),
    );
  } finally {
    await slow.stop();
    server.close();
  }
});
