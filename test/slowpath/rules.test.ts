import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { connect, type Server } from "node:net";
import { hostname } from "node:os";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ENVOY, listen, portOf, type SlowPathUnderTest, startSlowPath, withEnvoy, withPorts } from "./parties.ts";

/**
 * What the rules do to messages, bytes in and bytes out: the slow path without a kernel, and a real Envoy where there
 * is one, on one configuration (rules.yaml) and before one upstream. Both must give rules.expected.txt; `UPDATE=1`
 * writes what the slow path gave.
 */
const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** Of the first listener, unless it says otherwise. */
interface Asked {
  readonly target: string;
  readonly headers?: readonly string[];
  readonly method?: string;
  readonly host?: string;
  readonly listener?: 1;
}

const direct = ["200", "201?a=b", "204", "302", "418"].map((rest): Asked => ({ target: `/direct/${rest}` }));
const redirects =
  "https?q,port?q,host?q,strip/x?q,query?q,relative?q,prefix/a?q,path?q,PATH,re/abc?q,regex/abc?q,gone?q,nothing?q";
const redirected = redirects.split(",").flatMap((rest): Asked[] =>
  ["h.example", "h.example:80", "h.example:8080", "[::1]:80", "[::1]"].map((host) => ({
    target: `/redirect/${rest}`,
    host,
  })),
);
const rewritten = [
  "/prefix/a",
  "/prefix/a/c?d=/prefix/a",
  "/prefix/abc",
  "/prefix/slash/",
  "/prefix/slash/a?b",
  "/path?q",
  "/Path",
  "/separated",
  "/separated/a?b",
  "/separatedx",
  "/whole/a/b?c",
  "/regex/v1/v2x/?v=/v3",
  "/regex/none",
  "/stars/abba/b?b",
].map((target): Asked => ({ target }));
const hosts: Asked[] = [
  { target: "/host/literal" },
  { target: "/host/literal", headers: ["x-forwarded-host: a"] },
  { target: "/host/literal", headers: ["X-Forwarded-Host: a,h.example"] },
  { target: "/host/header" },
  { target: "/host/header", headers: ["x-host: one", "x-host: two"] },
  { target: "/host/header", headers: ["x-other: one"] },
  { target: "/host/entry" },
];
const clusters: Asked[] = [
  { target: "/cluster/header" },
  { target: "/cluster/header", headers: ["x-cluster: up"] },
  { target: "/cluster/header", headers: ["x-cluster: up", "x-cluster: other"] },
  { target: "/cluster/header", headers: ["x-cluster: other"] },
  { target: "/cluster/weighted" },
  { target: "/cluster/weighted", headers: ["x-cluster: up"] },
  { target: "/cluster/nobody" },
  { target: "/cluster/closed" },
];
const edited: Asked[] = [
  { target: "/edit" },
  {
    target: "/edit",
    headers: ["x-gone: 1", "X-Old: 1", "x-absent: 1", "X-Set: 1", "x-set: 2", "x-there: 1", "x-append: 1"],
  },
  {
    target: "/edit",
    headers: ["User-Agent: a", "Accept: a", "X-Forwarded-For: 1.2.3.4", "Cookie: a=1", "Cache-Control: a"],
  },
  { target: "/edit", headers: ["x-secret: 1", "x-trace: client"] },
  { target: "/edit", headers: ["Connection: x-trace, x-new", "x-trace: client"] },
  { target: "/utf8", headers: ["x: aü"] },
  { target: "/utf8", headers: ["x: aÜ"] },
  { target: "/none" },
  { target: "/all" },
  { target: "/grpc" },
  { target: "/grpc", headers: ["content-type: application/grpc-web"] },
  { target: "/any", listener: 1 },
  { target: "/given" },
  { target: "/given", headers: ["Cookie: sid=1"] },
];
const methods: Asked[] = [
  { target: "/direct/418", headers: ["x-a: abcdef", "x-b: 1"] },
  { target: "/direct/418", headers: ["x-b: uvwxyz"] },
  { target: "/direct/200", method: "HEAD" },
  { target: "/redirect/https", method: "HEAD" },
  { target: "/prefix/a", method: "HEAD" },
  { target: "/edit", headers: ["Connection: Upgrade", "Upgrade: websocket"] },
];
const ALL = [...direct, ...redirected, ...rewritten, ...hosts, ...clusters, ...edited, ...methods];

const titleOf = ({ method = "GET", target, host, headers = [], listener }: Asked) =>
  [`${method} ${target}`, ...(host ? [`host: ${host}`] : []), ...headers, ...(listener ? ["(reversed)"] : [])].join(
    "; ",
  );

// ---- the parties ----

let upstream: Server;
let slowPath: SlowPathUnderTest | undefined;
let closedPort: number;

before(async () => {
  upstream = await listen((socket) => {
    let text = "";
    socket.setEncoding("latin1").on("error", () => {});
    socket.on("data", (piece) => {
      text += piece;
      for (let end = text.indexOf("\r\n\r\n"); end !== -1; end = text.indexOf("\r\n\r\n")) {
        socket.write(answerTo(text.slice(0, end)), "latin1");
        text = text.slice(end + 4);
      }
    });
  });
  const unused = await listen(() => {});
  closedPort = portOf(unused);
  await new Promise((resolve) => unused.close(resolve));
  slowPath = await startSlowPath(bootstrap(1, 2));
});

after(async () => {
  await slowPath?.stop();
  upstream?.close();
});

/** Tells the head that came, in a body. */
function answerTo(head: string): string {
  const body = Buffer.from(JSON.stringify(head.split("\r\n"))).toString("latin1");
  if (/^upgrade:/im.test(head)) {
    return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Up: 1\r\n\r\n";
  }
  const fields = [
    "Server: up",
    "X-Powered-By: up",
    "X-Up: 1",
    "x-up: 2",
    "X-Up2: 1",
    "Content-Type: a/b",
    "Cache-Control: a",
    `Content-Length: ${body.length}`,
  ];
  return `HTTP/1.1 200 OK\r\n${fields.join("\r\n")}\r\n\r\n${head.startsWith("HEAD ") ? "" : body}`;
}

function bootstrap(first: number, second: number): unknown {
  return withPorts(file("rules.yaml"), { 1: first, 2: second, 3: portOf(upstream), 4: closedPort });
}

// ---- what is compared ----

interface Told {
  readonly status: string;
  readonly fields: readonly string[];
  readonly body: string;
  /** What the upstream got. */
  readonly upstream?: readonly string[] | undefined;
}

/** What Envoy adds on its own account, and what differs by nature. */
const IGNORED = [
  "connection",
  // The body is compared itself.
  "content-length",
  "date",
  "server",
  // To HEAD Envoy says of an empty answer that it is chunked.
  "transfer-encoding",
  "x-envoy-expected-rq-timeout-ms",
  "x-envoy-upstream-service-time",
  "x-forwarded-proto",
];

async function ask(port: number, { method = "GET", target, host = "h.example", headers = [] }: Asked): Promise<Told> {
  const socket = connect(port, "127.0.0.1");
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  const client = `127.0.0.1:${socket.localPort}`;
  socket.write(`${[`${method} ${target} HTTP/1.1`, `Host: ${host}`, ...headers].join("\r\n")}\r\n\r\n`);
  let text = "";
  for await (const piece of socket.setEncoding("latin1")) {
    text += piece;
    const end = text.indexOf("\r\n\r\n");
    if (end === -1) continue;
    const length = Number(/^content-length: (\d+)/im.exec(text.slice(0, end))?.[1] ?? 0);
    if (method === "HEAD" || text.length >= end + 4 + length) break;
  }
  socket.destroy();
  const [head = "", body = ""] = text.split("\r\n\r\n");
  const [status = "", ...fields] = head
    .replaceAll(client, "CLIENT")
    .replaceAll(hostname(), "HOSTNAME")
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/, "TIME")
    .split("\r\n");
  const isUpstreams = body.startsWith('["');
  return {
    // Envoy and Node have other words for some of them.
    status: status.split(" ")[1] ?? text,
    fields: comparable(fields),
    body: isUpstreams ? "" : body,
    ...(isUpstreams ? { upstream: comparable(JSON.parse(body)) } : {}),
  };
}

/** In the order of their names: that of the fields means nothing, that of a field's values does. */
function comparable([...lines]: readonly string[]): string[] {
  const named = lines.map((line) => ({ line: line.replace(/^[^: ]+:/, (name) => name.toLowerCase()) }));
  const kept = named.filter(({ line }) => !IGNORED.some((name) => line.startsWith(`${name}:`)));
  const nameOf = (line: string) => /^[^: ]+:/.exec(line)?.[0] ?? "";
  return kept.map(({ line }) => line).sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : nameOf(a) > nameOf(b) ? 1 : 0));
}

/** The title, `>` what the upstream got, `<` what the client got. */
function format(asked: Asked, { status, fields, body, upstream = [] }: Told): string {
  const lines = [...upstream.map((line) => `> ${line}`), ...[status, ...fields].map((line) => `< ${line}`)];
  return [titleOf(asked), ...lines, ...(body === "" ? [] : [`< ${JSON.stringify(body)}`])].join("\n");
}

const expected = () => readFileSync(file("rules.expected.txt"), "utf8").trimEnd().split("\n\n");

test("the slow path does to messages what the rules say", async () => {
  const told: string[] = [];
  for (const asked of ALL) told.push(format(asked, await ask(slowPath!.ports[asked.listener ?? 0]!, asked)));
  if (process.env.UPDATE === "1") writeFileSync(file("rules.expected.txt"), `${told.join("\n\n")}\n`);
  assert.deepEqual(told, expected());
});

test("so does Envoy", { skip: !existsSync(ENVOY) && "no Envoy here", timeout: 120_000 }, async () => {
  await withEnvoy(
    2,
    (ports) => bootstrap(ports[0]!, ports[1]!),
    async (ports) => {
      const told: string[] = [];
      for (const asked of ALL) told.push(format(asked, withoutOwn(await ask(ports[asked.listener ?? 0]!, asked))));
      assert.deepEqual(told, expected());
    },
  );
});

/** Envoy makes up an x-request-id for every request. */
function withoutOwn({ upstream, ...told }: Told): Told {
  return { ...told, upstream: upstream?.filter((line) => !/^x-request-id: .{36}$/.test(line)) };
}
