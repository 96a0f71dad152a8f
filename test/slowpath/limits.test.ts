import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { connect, type Server, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import {
  ENVOY,
  freePort,
  listen,
  portOf,
  type SlowPathUnderTest,
  startSlowPath,
  withEnvoy,
  withPorts,
} from "./parties.ts";

/**
 * What becomes of requests when servers fail, are slow, or are too many: the slow path without a kernel, and a real
 * Envoy where there is one, on one configuration (limits.yaml). Both must give limits.expected.txt: what each client
 * got, and what each server saw. `UPDATE=1` writes what the slow path gave.
 */
const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** What a server does with the first, second, ... try of a request; the last is repeated. */
type Act =
  | number
  /** A status, and header fields with it. */
  | readonly [status: number, ...fields: string[]]
  | "reset"
  | "close"
  /** It takes the request, and says nothing. */
  | "hang"
  /** A whole answer, but 700 ms late. */
  | "late"
  /** A head, and no body behind it. */
  | "begun"
  /** An interim answer, then the end. */
  | "hints";

interface Asked {
  readonly name: string;
  readonly target: string;
  readonly acts: readonly Act[];
  readonly method?: string;
  readonly host?: string;
  readonly headers?: readonly string[];
  /** Sent in one piece with the head; `halves`: in two, with a pause between them. */
  readonly body?: string;
  readonly halves?: boolean;
  /** This many at a time, each with an identity of its own. */
  readonly times?: number;
  /** Milliseconds between them; 0 where it is missing. */
  readonly apart?: number;
  /** The head says that this much is to come, and it never does. */
  readonly promises?: number;
}

const CASES: readonly Asked[] = [
  { name: "no policy", target: "/none", acts: [503, 200] },
  { name: "no policy, server resets a POST", target: "/none", method: "POST", body: "a", acts: ["reset", 200] },
  { name: "5xx: the third is good", target: "/5xx", acts: [500, 503, 200] },
  { name: "5xx: the last is bad", target: "/5xx", acts: [503] },
  { name: "5xx: reset, then good", target: "/5xx", acts: ["reset", 200] },
  { name: "5xx: closed for good", target: "/5xx", acts: ["close"] },
  { name: "5xx: a 404 is an answer", target: "/5xx", acts: [404, 200] },
  { name: "5xx: x-envoy-overloaded is none", target: "/5xx", acts: [[503, "x-envoy-overloaded: true"], 200] },
  { name: "5xx: x-envoy-ratelimited is an answer", target: "/5xx", acts: [[503, "x-envoy-ratelimited: true"], 200] },
  { name: "5xx with a body", target: "/5xx", method: "POST", body: "hello", acts: [500, 200] },
  {
    name: "5xx with a body in two halves",
    target: "/5xx",
    method: "POST",
    body: "hello",
    halves: true,
    acts: [500, 200],
  },
  {
    name: "5xx with a chunked body",
    target: "/5xx",
    method: "PUT",
    headers: ["Transfer-Encoding: chunked"],
    body: "5\r\nhello\r\n0\r\n\r\n",
    acts: [500, 200],
  },
  { name: "5xx: a body that has begun is the answer", target: "/5xx", acts: ["begun", 200] },
  { name: "HEAD", target: "/5xx", method: "HEAD", acts: [500, 200] },
  { name: "num_retries is 1 by default", target: "/once", acts: [500, 500, 200] },
  { name: "num_retries 0", target: "/zero", acts: [500, 200] },
  { name: "gateway-error", target: "/gateway", acts: [502, 200] },
  { name: "gateway-error: 500 is none", target: "/gateway", acts: [500, 200] },
  { name: "gateway-error: a reset is one", target: "/gateway", method: "POST", acts: ["reset", 200] },
  { name: "reset", target: "/reset", method: "POST", body: "x", acts: ["reset", "close", 200] },
  { name: "reset: not by status", target: "/reset", acts: [503, 200] },
  { name: "reset, for good", target: "/reset", acts: ["reset"] },
  { name: "reset-before-request: it had been sent", target: "/before", method: "POST", acts: ["reset", 200] },
  { name: "connect-failure: a reset is none", target: "/connect", method: "POST", acts: ["reset", 200] },
  { name: "connect-failure: nobody listens", target: "/refused", acts: [200] },
  { name: "connect-failure, one of two endpoints", target: "/half", times: 4, acts: [200] },
  /* No more at once than may be retried: of a fourth, time would decide. */
  { name: "another endpoint for the second try", target: "/both", times: 3, acts: [500, 200] },
  { name: "retriable-status-codes", target: "/codes", acts: [418, 200, 201] },
  { name: "retriable-status-codes: 503 is none", target: "/codes", acts: [503, 200] },
  { name: "retriable-4xx", target: "/4xx", acts: [409, 200] },
  { name: "retriable-4xx: 400 is none", target: "/4xx", acts: [400, 200] },
  { name: "retriable-headers", target: "/headers", acts: [[200, "X-Again: yes"], 201] },
  { name: "retriable-headers: another value", target: "/headers", acts: [[200, "X-Again: no"], 201] },
  { name: "envoy-ratelimited", target: "/ratelimited", acts: [[429, "x-envoy-ratelimited: true"], 200] },
  { name: "retriable_request_headers", target: "/only", headers: ["X-May: 1"], acts: [500, 200] },
  { name: "retriable_request_headers: none of them", target: "/only", acts: [500, 200] },
  { name: "grpc-status", target: "/grpc", acts: [[200, "grpc-status: 14"], [200, "grpc-status: 1"], 200] },
  { name: "grpc-status: another", target: "/grpc", acts: [[200, "grpc-status: 4"], 201] },
  { name: "the route asks by headers", target: "/asked", acts: [500, 500, 500, 200] },
  {
    name: "a stranger's request headers count for nothing",
    target: "/none",
    headers: ["x-envoy-retry-on: 5xx", "x-envoy-max-retries: 5", "x-envoy-upstream-rq-timeout-ms: 1"],
    acts: [500, 200],
  },
  { name: "an inherited policy, and the tries told", host: "inherits", target: "/", acts: [500, 503, 200] },
  { name: "an own policy replaces it as a whole", host: "inherits", target: "/own", acts: [503, 200] },
  { name: "tries told where nobody answers", host: "inherits", target: "/refused", acts: [200] },
  { name: "after an interim answer no other try", target: "/reset", acts: ["hints", 200] },
  { name: "per_try_timeout", target: "/try", acts: ["hang", 200] },
  { name: "per_try_timeout, each time", target: "/try", acts: ["hang"] },
  { name: "per_try_timeout: an answer that has begun goes on", target: "/try", acts: ["begun"] },
  { name: "per_try_idle_timeout", target: "/silent", acts: ["hang", 200] },
  { name: "the route's timeout holds over all tries", target: "/timeout", acts: [500, "hang"] },
  { name: "idle_timeout", target: "/idle", acts: ["hang"] },
  { name: "idle_timeout in a request", target: "/idle", method: "POST", promises: 10, acts: ["hang"] },
  { name: "idle_timeout in an answer", target: "/idle", acts: ["begun"] },
  { name: "max_stream_duration instead of the timeout", target: "/duration", acts: ["hang"] },
  { name: "the cluster's max_stream_duration", target: "/stream", acts: ["hang"] },
  {
    name: "a body too large to be kept",
    target: "/buffer",
    method: "POST",
    body: "more than ten bytes",
    acts: [500, 200],
  },
  {
    name: "a body too large to be kept, and no connection",
    target: "/refused-large",
    method: "POST",
    body: "more than ten bytes",
    acts: [200],
  },
  { name: "a body that can be kept", target: "/buffer", method: "POST", body: "ten bytes.", acts: [500, 200] },
  { name: "a mirror", target: "/mirror?q", method: "POST", body: "hello", host: "h.example:8080", acts: [200] },
  { name: "a mirror with the same host", target: "/same", acts: [200] },
  {
    name: "a mirror gets a body too large to be kept",
    target: "/mirror-large",
    method: "POST",
    body: "more than ten bytes",
    acts: [500, 200],
  },
  {
    name: "a mirror gets what its own server does not",
    target: "/mirror-refused",
    headers: ["Transfer-Encoding: chunked"],
    method: "POST",
    body: "3\r\nabc\r\n0\r\n\r\n",
    acts: [200],
  },
  { name: "no copy of what is refused at once", target: "/no-copy", acts: [200] },
  {
    name: "no copy of what is refused at once, nor a look at its body",
    target: "/no-copy",
    headers: ["Transfer-Encoding: chunked"],
    method: "POST",
    body: "no chunk\r\n",
    acts: [200],
  },
  { name: "max_requests", target: "/requests", times: 2, acts: ["late"] },
  { name: "max_requests of priority HIGH", target: "/high", times: 2, acts: ["late"] },
  { name: "max_pending_requests 0", target: "/pending", acts: [200] },
  { name: "max_connections: one waits, the third is too many", target: "/waits", times: 3, apart: 150, acts: ["late"] },
  { name: "max_requests: who waits is not counted", target: "/one-at-all", times: 2, apart: 150, acts: ["late"] },
  { name: "per_host_thresholds", target: "/host", times: 3, apart: 150, acts: ["late"] },
  { name: "max_retries", target: "/retries", times: 2, acts: [500, "late"] },
  { name: "retry_budget", target: "/budget", times: 2, acts: [500, "late"] },
];

// ---- the servers ----

const OK = (status: number, fields: readonly string[], body: string) =>
  `HTTP/1.1 ${status} Whatever\r\n${[...fields, `Content-Length: ${body.length}`].join("\r\n")}\r\n\r\n${body}`;

interface Seen {
  readonly server: string;
  readonly id: string;
  readonly host: string;
  readonly attempt: string | undefined;
  readonly body: string;
}

let seen: Seen[] = [];
let acts = new Map<string, readonly Act[]>();

function serve(server: string): (socket: Socket) => void {
  return (socket) => {
    let text = "";
    socket.setEncoding("latin1").on("error", () => {});
    socket.on("end", () => socket.end());
    socket.on("data", (piece) => {
      text += piece;
      for (let whole = messageIn(text); whole !== undefined; whole = messageIn(text)) {
        text = text.slice(whole.head.length + 4 + whole.body.length);
        answer(server, socket, whole.head, whole.body);
      }
    });
  };
}

/** The first request in a text, once it is complete. */
function messageIn(text: string): { head: string; body: string } | undefined {
  const end = text.indexOf("\r\n\r\n");
  if (end === -1) return undefined;
  const head = text.slice(0, end);
  const rest = text.slice(end + 4);
  if (/^transfer-encoding: chunked/im.test(head)) {
    const last = rest.indexOf("0\r\n\r\n");
    return last === -1 ? undefined : { head, body: rest.slice(0, last + 5) };
  }
  const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
  return rest.length < length ? undefined : { head, body: rest.slice(0, length) };
}

function answer(server: string, socket: Socket, head: string, body: string): void {
  const field = (name: string) => new RegExp(`^${name}: (.*)$`, "im").exec(head)?.[1];
  const id = field("x-id") ?? "";
  const before = seen.filter((one) => one.id === id && one.server !== "mirror").length;
  seen.push({ server, id, host: field("host") ?? "", attempt: field("x-envoy-attempt-count"), body });
  const list = acts.get(id) ?? [200];
  const act = server === "mirror" ? 200 : (list[Math.min(before, list.length - 1)] ?? 200);
  const said = head.startsWith("HEAD ") ? "" : `try ${before + 1}`;
  if (typeof act === "number") socket.write(OK(act, [], said));
  else if (typeof act !== "string") socket.write(OK(act[0], act.slice(1) as string[], said));
  else if (act === "reset") socket.resetAndDestroy();
  else if (act === "close") socket.destroy();
  else if (act === "begun") socket.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
  else if (act === "late") setTimeout(() => socket.write(OK(200, [], said)), 700);
  else if (act === "hints") {
    socket.write("HTTP/1.1 103 Early Hints\r\n\r\n");
    setTimeout(() => socket.resetAndDestroy(), 100);
  }
}

let servers: { readonly first: Server; readonly second: Server; readonly mirror: Server };
let closedPort: number;
let slowPath: SlowPathUnderTest | undefined;

before(async () => {
  servers = {
    first: await listen(serve("first")),
    second: await listen(serve("second")),
    mirror: await listen(serve("mirror")),
  };
  closedPort = await freePort();
  slowPath = await startSlowPath(bootstrap(1));
});

after(async () => {
  await slowPath?.stop();
  for (const server of Object.values(servers ?? {})) server.close();
});

function bootstrap(port: number): unknown {
  const { first, second, mirror } = servers;
  return withPorts(file("limits.yaml"), {
    1: port,
    3: portOf(first),
    4: closedPort,
    5: portOf(second),
    6: portOf(mirror),
  });
}

// ---- the client ----

interface Told {
  readonly status: string;
  readonly fields: readonly string[];
  readonly body: string;
}

const COMPARED = ["x-envoy-overloaded", "x-envoy-attempt-count", "grpc-status", "x-again"];

async function ask(port: number, asked: Asked, id: string): Promise<Told> {
  const { method = "GET", target, host = "h.example", headers = [], body = "", promises } = asked;
  const socket = connect(port, "127.0.0.1");
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  socket.on("error", () => {});
  const chunked = headers.some((header) => header.startsWith("Transfer-Encoding"));
  const length = promises ?? body.length;
  const framing = (length > 0 || method === "POST") && !chunked ? [`Content-Length: ${length}`] : [];
  const head = [`${method} ${target} HTTP/1.1`, `Host: ${host}`, `X-Id: ${id}`, ...headers, ...framing];
  const half = asked.halves ? Math.floor(body.length / 2) : body.length;
  socket.write(`${head.join("\r\n")}\r\n\r\n${body.slice(0, half)}`);
  if (half < body.length) setTimeout(() => socket.write(body.slice(half)), 100);
  let text = "";
  let cut = "";
  try {
    for await (const piece of socket.setEncoding("latin1")) {
      text = (text + piece).replace(/^HTTP\/1\.1 1\d\d .*\r\n(?:.+\r\n)*\r\n/, "");
      const end = text.indexOf("\r\n\r\n");
      if (end === -1) continue;
      const expected = Number(/^content-length: (\d+)/im.exec(text.slice(0, end))?.[1] ?? 0);
      if (method === "HEAD" || text.length >= end + 4 + expected) break;
    }
  } catch {
    cut = " (cut)";
  }
  socket.destroy();
  const [head1 = "", said = ""] = text.split("\r\n\r\n");
  const [status = "", ...fields] = head1.split("\r\n");
  const missing = Number(/^content-length: (\d+)/im.exec(head1)?.[1] ?? 0) > said.length && method !== "HEAD";
  return {
    status: status.split(" ")[1] ?? "nothing",
    fields: fields
      .map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase()))
      .filter(isCompared)
      .sort(),
    body: `${said}${missing || cut ? " (cut)" : ""}`,
  };
}

const isCompared = (line: string) => COMPARED.some((name) => line.startsWith(`${name}:`));

/** The title, `<` what clients got, `>` what servers saw, both in an order that chance has no part in. */
async function play(port: number, asked: Asked): Promise<string> {
  const ids = Array.from({ length: asked.times ?? 1 }, (_, i) => `${asked.name} ${i}`);
  seen = [];
  acts = new Map(ids.map((id) => [id, asked.acts]));
  const told = await Promise.all(
    ids.map(async (id, i) => {
      await sleep(i * (asked.apart ?? 0));
      return await ask(port, asked, id);
    }),
  );
  /* A mirror is in no hurry. */
  for (let tries = 0; tries < 100 && /^a mirror/.test(asked.name) && seen.length < 2; tries++) await sleep(20);
  if (asked.name.startsWith("no copy")) await sleep(300);
  const got = told.map(({ status, fields, body }) => ["<", status, ...fields, JSON.stringify(body)].join(" ")).sort();
  return [asked.name, ...got, ...saw(ids)].join("\n");
}

function saw(ids: readonly string[]): string[] {
  const lines = ids.map((id) => {
    const tries = seen.filter((one) => one.id === id);
    const mirrored = tries.filter((one) => one.server === "mirror");
    const own = tries.filter((one) => one.server !== "mirror");
    const places = new Set(own.map(({ server }) => server)).size;
    const attempts = own.flatMap(({ attempt }) => (attempt === undefined ? [] : [attempt]));
    return [
      `> ${own.length} ${own.length === 1 ? "try" : "tries"}`,
      ...(places > 1 ? [`at ${places} servers`] : []),
      ...(attempts.length > 0 ? [`numbered ${attempts}`] : []),
      ...(own.some(({ body }) => body !== "") ? [`with ${JSON.stringify(own.map(({ body }) => body))}`] : []),
      ...mirrored.map(({ host, body }) => `mirrored to ${host} with ${JSON.stringify(body)}`),
    ].join(" ");
  });
  return lines.sort();
}

const expected = () => readFileSync(file("limits.expected.txt"), "utf8").trimEnd().split("\n\n");

test("the slow path keeps limits, and tries again", { timeout: 120_000 }, async () => {
  const told: string[] = [];
  for (const asked of CASES) told.push(await play(slowPath!.ports[0]!, asked));
  if (process.env.UPDATE === "1") writeFileSync(file("limits.expected.txt"), `${told.join("\n\n")}\n`);
  assert.deepEqual(told, expected());
});

test("so does Envoy", { skip: !existsSync(ENVOY) && "no Envoy here", timeout: 120_000 }, async () => {
  await withEnvoy(
    1,
    ([port]) => bootstrap(port!),
    async ([port]) => {
      const told: string[] = [];
      for (const asked of CASES) told.push(await play(port!, asked));
      if (process.env.UPDATE === "envoy") writeFileSync(file("limits.envoy.txt"), `${told.join("\n\n")}\n`);
      assert.deepEqual(told, expected());
    },
  );
});
