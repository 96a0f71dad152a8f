import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { connect, type Server } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ENVOY, listen, portOf, type SlowPathUnderTest, startSlowPath, withEnvoy } from "./parties.ts";

/**
 * How long a client's connection may last, and how long it may take over a request: the slow path, and a real Envoy
 * where there is one, by one configuration. What the client sees must be what stands here, of both.
 */

/** Fields of the HttpConnectionManager, one listener each. */
const MANAGERS = {
  idle: { common_http_protocol_options: { idle_timeout: "0.4s" }, drain_timeout: "0.4s" },
  duration: { common_http_protocol_options: { max_connection_duration: "0.4s" }, drain_timeout: "0.4s" },
  requests: { common_http_protocol_options: { max_requests_per_connection: 2 } },
  request: { request_timeout: "0.4s" },
  head: { request_headers_timeout: "0.4s" },
  stream: { common_http_protocol_options: { max_stream_duration: "0.4s" } },
  silence: { stream_idle_timeout: "0.4s" },
} as const;

type Name = keyof typeof MANAGERS;

/** A text is sent, a number is waited for, in milliseconds. */
type Step = string | number;

interface Case {
  readonly name: string;
  readonly listener: Name;
  readonly steps: readonly Step[];
  /** Answers, and `end` where the connection was ended before the last step was over. */
  readonly sees: readonly string[];
}

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a.test\r\n\r\n`;
const post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n";
/** Long after whatever is to happen (Envoy gives a client a second to close first), and long before. Milliseconds. */
const LONG = 2_800;
const SHORT = 100;

const CASES: readonly Case[] = [
  {
    name: "idle_timeout ends it between two requests",
    listener: "idle",
    steps: [get("/"), LONG],
    sees: ["200 ok", "end"],
  },
  { name: "idle_timeout ends it before the first", listener: "idle", steps: [LONG], sees: ["end"] },
  {
    name: "idle_timeout counts anew after each",
    listener: "idle",
    steps: [get("/"), 250, get("/"), 250, get("/"), SHORT],
    sees: ["200 ok", "200 ok", "200 ok"],
  },
  {
    name: "idle_timeout: a last request while it drains",
    listener: "idle",
    steps: [get("/"), 600, get("/"), LONG],
    sees: ["200 ok", "200 close ok", "end"],
  },
  {
    name: "max_connection_duration: over in the middle of a request",
    listener: "duration",
    steps: [200, get("/late"), LONG],
    sees: ["200 close late", "end"],
  },
  { name: "idle_timeout lets a slow answer come", listener: "idle", steps: [get("/late"), 900], sees: ["200 late"] },
  {
    name: "max_connection_duration: the next answer is the last",
    listener: "duration",
    steps: [get("/"), 600, get("/"), LONG],
    sees: ["200 ok", "200 close ok", "end"],
  },
  {
    name: "max_connection_duration and drain_timeout end an idle one",
    listener: "duration",
    steps: [get("/"), LONG],
    sees: ["200 ok", "end"],
  },
  {
    name: "max_requests_per_connection",
    listener: "requests",
    steps: [get("/"), SHORT, get("/"), SHORT, get("/"), SHORT],
    sees: ["200 ok", "200 close ok", "end"],
  },
  {
    name: "request_timeout",
    listener: "request",
    steps: [`${post}ab`, LONG],
    sees: ["408 close request timeout", "end"],
  },
  {
    name: "request_timeout: within it",
    listener: "request",
    steps: [`${post}ab`, SHORT, "cd", SHORT, get("/late"), 900],
    sees: ["200 ok", "200 late"],
  },
  {
    name: "request_headers_timeout",
    listener: "head",
    steps: ["GET / HTTP/1.1\r\nHost: a", LONG],
    sees: ["408 close request header timeout", "end"],
  },
  {
    name: "request_headers_timeout: the body may take its time",
    listener: "head",
    steps: [`${post}ab`, 700, "cd", SHORT],
    sees: ["200 ok"],
  },
  {
    name: "max_stream_duration",
    listener: "stream",
    steps: [get("/hang"), LONG],
    sees: ["504 downstream duration timeout"],
  },
  { name: "stream_idle_timeout", listener: "silence", steps: [get("/hang"), LONG], sees: ["504 stream timeout"] },
  {
    name: "stream_idle_timeout in a request",
    listener: "silence",
    steps: [`${post}ab`, LONG],
    sees: ["408 close stream timeout", "end"],
  },
  {
    name: "stream_idle_timeout: each piece counts",
    listener: "silence",
    steps: [`${post}a`, 250, "b", 250, "c", 250, "d", SHORT],
    sees: ["200 ok"],
  },
];

let server: Server;
let slowPath: SlowPathUnderTest | undefined;

before(async () => {
  server = await listen((socket) => {
    let text = "";
    socket.setEncoding("latin1").on("error", () => {});
    socket.on("end", () => socket.end());
    socket.on("data", (piece) => {
      text += piece;
      const end = text.indexOf("\r\n\r\n");
      const length = Number(/^content-length: (\d+)/im.exec(text)?.[1] ?? 0);
      if (end < 0 || text.length < end + 4 + length) return;
      const path = text.split(" ")[1]!;
      text = "";
      const say = (body: string) => socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      if (path === "/late") setTimeout(say, 700, "late");
      else if (path !== "/hang") say("ok");
    });
  });
  slowPath = await startSlowPath(bootstrap(Object.keys(MANAGERS).map((_, i) => i + 1)));
});

after(async () => {
  await slowPath?.stop();
  server?.close();
});

const EXTENSION = "type.googleapis.com/envoy.extensions.filters";
const at = (port_value: number) => ({ socket_address: { address: "127.0.0.1", port_value } });

const bootstrap = (ports: readonly number[]) => ({
  static_resources: {
    listeners: Object.entries(MANAGERS).map(([name, manager], i) => ({
      name,
      address: at(ports[i]!),
      filter_chains: [{ filters: [managerOf(name, manager)] }],
    })),
    clusters: [
      {
        name: "up",
        load_assignment: {
          cluster_name: "up",
          endpoints: [{ lb_endpoints: [{ endpoint: { address: at(portOf(server)) } }] }],
        },
      },
    ],
  },
});

const managerOf = (name: string, manager: object) => ({
  name: "manager",
  typed_config: {
    "@type": `${EXTENSION}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: name,
    ...manager,
    route_config: {
      virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "up" } }] }],
    },
    http_filters: [{ name: "router", typed_config: { "@type": `${EXTENSION}.http.router.v3.Router` } }],
  },
});

async function play(port: number, steps: readonly Step[]): Promise<string[]> {
  const socket = connect(port, "127.0.0.1");
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  let text = "";
  let ended = false;
  socket.setEncoding("latin1").on("error", () => {});
  socket.on("data", (piece) => {
    text += piece;
  });
  socket.on("close", () => {
    ended = true;
  });
  for (const step of steps) {
    if (typeof step === "number") await sleep(step);
    else if (!ended) socket.write(step);
  }
  const open = !ended;
  socket.destroy();
  return [...answersIn(text), ...(open ? [] : ["end"])];
}

function answersIn(text: string): string[] {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return [];
  const head = text.slice(0, end);
  const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
  const closes = /^connection: close/im.test(head) ? ["close"] : [];
  const answer = [head.split(" ")[1], ...closes, text.slice(end + 4, end + 4 + length)].join(" ");
  return [answer, ...answersIn(text.slice(end + 4 + length))];
}

async function compare(ports: readonly number[]): Promise<void> {
  const names = Object.keys(MANAGERS);
  const told = (name: string, sees: readonly string[]) => `${name}: ${sees.join(", ")}`;
  const seen = await Promise.all(
    CASES.map(async ({ name, listener, steps }) => told(name, await play(ports[names.indexOf(listener)]!, steps))),
  );
  assert.equal(seen.join("\n"), CASES.map(({ name, sees }) => told(name, sees)).join("\n"));
}

test("the slow path keeps the limits of connections and requests", async () => {
  await compare(slowPath!.ports);
});

test("and so does Envoy", { skip: existsSync(ENVOY) ? false : "there is no Envoy" }, async () => {
  await withEnvoy(Object.keys(MANAGERS).length, bootstrap, compare);
});
