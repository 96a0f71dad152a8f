import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { ENVOY, type SlowPathUnderTest, startSlowPath, withEnvoy } from "./parties.ts";

/** What the fault filter makes of requests: the slow path without a kernel, and a real Envoy where there is one. */

const TYPE = "type.googleapis.com/envoy.extensions.filters";
const FAULT = `${TYPE}.http.fault.v3.HTTPFault`;
const NAME = "envoy.filters.http.fault";
const all = { percentage: { numerator: 100 } };

function bootstrap(port: number): unknown {
  const address = (port_value: number) => ({ socket_address: { address: "127.0.0.1", port_value } });
  const own = (fault: object) => ({ typed_per_filter_config: { [NAME]: { "@type": FAULT, ...fault } } });
  const route = (prefix: string, fault?: object) => ({
    match: { prefix },
    route: { cluster: "c" },
    ...(fault === undefined ? {} : own(fault)),
  });
  const aborted = { abort: { http_status: 503, ...all } };
  const host = {
    name: "h",
    domains: ["a.test"],
    response_headers_to_add: [{ header: { key: "x-path", value: "%REQ(:path)%" } }],
    routes: [
      { match: { prefix: "/direct" }, direct_response: { status: 200 }, ...own(aborted) },
      route("/abort", aborted),
      route("/never", { abort: { http_status: 503, percentage: { numerator: 0 } } }),
      route("/grpc", { abort: { grpc_status: 8, ...all } }),
      route("/late", { delay: { fixed_delay: "0.3s", ...all } }),
      route("/too-late", { delay: { fixed_delay: "3s", ...all } }),
      route("/both", { delay: { fixed_delay: "0.3s", ...all }, abort: { http_status: 404, ...all } }),
      route("/other", { ...aborted, upstream_cluster: "d" }),
      route("/this", { ...aborted, upstream_cluster: "c" }),
      route("/none", {}),
      route("/nodes", { ...aborted, downstream_nodes: ["n"] }),
      route("/asked", { abort: { header_abort: {}, ...all }, delay: { header_delay: {}, ...all } }),
      route("/"),
    ],
  };
  const manager = {
    "@type": `${TYPE}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "faults",
    request_timeout: "1s",
    route_config: { virtual_hosts: [host] },
    http_filters: [
      { name: "cors", typed_config: { "@type": `${TYPE}.http.cors.v3.Cors` } },
      {
        name: NAME,
        typed_config: {
          "@type": FAULT,
          abort: { http_status: 418, ...all },
          headers: [{ name: "x-all", present_match: true }],
        },
      },
      { name: "router", typed_config: { "@type": `${TYPE}.http.router.v3.Router` } },
    ],
  };
  return {
    static_resources: {
      listeners: [
        { name: "l", address: address(port), filter_chains: [{ filters: [{ name: "m", typed_config: manager }] }] },
      ],
      clusters: [{ name: "c", load_assignment: { cluster_name: "c" } }],
    },
  };
}

const ABORTED = "fault filter abort";
const UH = "503 no healthy upstream";

/** Request, and what comes of it: status and body, late or not. Nobody is behind the routes: who gets there sees UH. */
const CASES: readonly (readonly [target: string, headers: readonly string[], told: string])[] = [
  ["/direct", [], `503 ${ABORTED}`],
  ["/abort", [], `503 ${ABORTED}`],
  ["/never", [], UH],
  ["/grpc", [], `200 ${ABORTED}`],
  ["/grpc", ["content-type: application/grpc"], `200 grpc 8 ${ABORTED}`],
  ["/late", [], `late ${UH}`],
  ["/too-late", [], "late 504 request timeout"],
  ["/too-late", ["content-length: 9"], "late 408 request timeout"],
  ["/both", [], `late 404 ${ABORTED}`],
  ["/other", [], UH],
  ["/this", [], `503 ${ABORTED}`],
  ["/none", ["x-all: 1"], UH],
  ["/nodes", [], UH],
  ["/nodes", ["x-envoy-downstream-service-node: n"], `503 ${ABORTED}`],
  ["/", [], UH],
  ["/", ["x-all: 1"], `418 ${ABORTED}`],
  ["/", ["x-all: 1", "host: nobody.test"], `418 ${ABORTED}`],
  ["/asked", [], UH],
  ["/asked", ["x-envoy-fault-abort-request: 418"], `418 ${ABORTED}`],
  ["/asked", ["x-envoy-fault-abort-request: 999"], UH],
  ["/asked", ["x-envoy-fault-abort-request: 418", "x-envoy-fault-abort-request-percentage: 0"], UH],
  ["/asked", ["x-envoy-fault-abort-request: 200", "x-envoy-fault-delay-request: 300"], `late 200 ${ABORTED}`],
  ["/asked", ["x-envoy-fault-abort-grpc-request: 8"], `200 ${ABORTED}`],
];

function ask(port: number, target: string, headers: readonly string[]): Promise<string> {
  const host = headers.some((line) => line.startsWith("host:")) ? [] : ["host: a.test"];
  const startedMs = performance.now();
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.write(`${[`GET ${target} HTTP/1.1`, ...host, "connection: close", ...headers].join("\r\n")}\r\n\r\n`);
    });
    let text = "";
    let tookMs = 0;
    socket.setEncoding("latin1").on("data", (piece) => {
      tookMs ||= performance.now() - startedMs;
      text += piece;
    });
    socket.on("error", reject).on("close", () => {
      const [head = "", body = ""] = text.split("\r\n\r\n");
      const late = tookMs >= 290 ? "late " : "";
      const grpc = /^grpc-status: (\d+)\r\ngrpc-message: (.*)$/im.exec(head);
      const shown = grpc === null ? body : `grpc ${grpc[1]} ${grpc[2]}`;
      const path = /^x-path: (.*)$/im.exec(head)?.[1];
      resolve(`${late}${head.slice(9, 12)} ${shown}${path === undefined ? "" : ` ${path}`}`);
    });
  });
}

async function playAll(port: number): Promise<void> {
  /* The first of all takes its time. */
  await ask(port, "/", []);
  for (const [target, headers, told] of CASES) {
    /* Of answers with a route to a cluster, the fault filter's too, its edits are made. */
    const path = headers.includes("host: nobody.test") || target === "/direct" ? "" : ` ${target}`;
    assert.equal(await ask(port, target, headers), `${told}${path}`, `${target} ${headers.join(", ")}`);
  }
}

let slowPath: SlowPathUnderTest | undefined;

before(async () => {
  slowPath = await startSlowPath(bootstrap(1));
});

after(async () => await slowPath?.stop());

test("the slow path injects faults", async () => await playAll(slowPath!.ports[0]!));

test("a client that goes while it waits leaves nothing", async () => {
  const socket = connect(slowPath!.ports[0]!, "127.0.0.1");
  socket.write("GET /late HTTP/1.1\r\nhost: a.test\r\n\r\n");
  await new Promise((resolve) => setTimeout(resolve, 50));
  socket.destroy();
  assert.equal(await ask(slowPath!.ports[0]!, "/late", []), `late ${UH} /late`);
});

test("so does Envoy", { skip: !existsSync(ENVOY) && "no Envoy here", timeout: 60_000 }, async () => {
  await withEnvoy(
    1,
    ([port]) => bootstrap(port!),
    async ([port]) => await playAll(port!),
  );
});
