import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { connect, type Server, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ENVOY, listen, portOf, type SlowPathUnderTest, startSlowPath, withEnvoy } from "./parties.ts";

/**
 * What host servers see where it is that of the endpoint, or made of the path: the slow path without a kernel, and a
 * real Envoy where there is one. Endpoints are hashed by their names, so that the same request has the same way along
 * them, try after try. Both must give hosts.expected.txt; `UPDATE=1` writes what the slow path gave.
 */
const EXPECTED = fileURLToPath(new URL("hosts.expected.txt", import.meta.url));

/** The third has none. */
const NAMES = ["a.test", "B.Test:81", ""];

let seen: string[] = [];
let servers: Server[] = [];
let slowPath: SlowPathUnderTest | undefined;

const FIELDS = ["host", "x-forwarded-host", "x-envoy-original-host", "x-told"];

/** Fails as often as the request says in x-fails. */
const serve = (name: string) => (socket: Socket) => {
  let text = "";
  socket.on("error", () => {});
  socket.setEncoding("latin1").on("data", (piece) => {
    text += piece;
    const end = text.indexOf("\r\n\r\n");
    if (end === -1) return;
    const head = text.slice(0, end);
    text = "";
    const field = (field: string) => new RegExp(`^${field}: (.*)$`, "im").exec(head)?.[1];
    const told = FIELDS.flatMap((each) => (field(each) === undefined ? [] : [`${each} ${field(each)}`]));
    seen.push(`> ${name || "nameless"}: ${told.join("; ")}`);
    const tries = seen.filter((line) => !line.startsWith("> mirror")).length;
    const fails = name !== "mirror" && tries <= Number(field("x-fails"));
    socket.write(`HTTP/1.1 ${fails ? 503 : 200} Whatever\r\nContent-Length: 0\r\n\r\n`);
  });
};

function bootstrap(port: number): unknown {
  const address = (port_value: number) => ({ socket_address: { address: "127.0.0.1", port_value } });
  const ports = servers.map(portOf);
  const endpoint = (at: number) => ({ endpoint: { address: address(ports[at]!), hostname: NAMES[at] ?? "mirror" } });
  const cluster = (name: string, ats: readonly number[], more: object = {}) => ({
    name,
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: ats.map(endpoint) }] },
    ...more,
  });
  const type = "type.googleapis.com/envoy.extensions";
  const byName = (policy: string, more: object) => ({
    load_balancing_policy: {
      policies: [
        {
          typed_extension_config: {
            name: "by-name",
            typed_config: { "@type": `${type}.load_balancing_policies.${policy}`, ...more },
          },
        },
      ],
    },
  });
  const consistent = { consistent_hashing_lb_config: { use_hostname_for_hashing: true } };
  const told = [{ header: { key: "x-told", value: "%REQ(:authority)%" } }];
  const auto = { auto_host_rewrite: true };
  const kept = { append_x_forwarded_host: true };
  const hashed = (...names: string[]) => ({
    hash_policy: names.map((header_name) => ({ header: { header_name } })),
  });
  const retry = { retry_policy: { retry_on: "5xx", num_retries: 4, retry_back_off: { base_interval: "0.001s" } } };
  const path = (regex: string, substitution: string) => ({
    host_rewrite_path_regex: { pattern: { regex }, substitution },
  });
  const route = (prefix: string, ...parts: object[]) => ({
    match: { prefix },
    route: Object.assign({}, ...parts),
    request_headers_to_add: told,
    response_headers_to_add: told,
  });
  const routes = [
    route("/ring", { cluster: "ring" }, auto, hashed("x-hash")),
    route("/maglev", { cluster: "maglev" }, auto, hashed("x-hash")),
    route("/old", { cluster: "old" }, auto, hashed("x-hash")),
    route("/again", { cluster: "ring" }, auto, kept, retry, hashed(":authority", "x-fails")),
    route("/forget", { cluster: "maglev" }, auto, retry, hashed(":authority", "x-fails")),
    route("/one", { cluster: "one" }, auto, kept, retry),
    route("/none", { cluster: "none" }, auto, kept),
    route("/mirror", { cluster: "one" }, auto, kept, retry, { request_mirror_policies: [{ cluster: "mirror" }] }),
    route("/entry", auto, kept, {
      weighted_clusters: { clusters: [{ name: "one", weight: 1, host_rewrite_literal: "entry.test" }] },
    }),
    route("/tenant", { cluster: "one", prefix_rewrite: "/t" }, kept, path("^/tenant/([^/]*)/.*$", "\\1.test")),
    route("/digits", { cluster: "one" }, path("[0-9]", "<\\0>")),
    route("/gone", { cluster: "one" }, kept, path(".*", "")),
  ];
  const manager = {
    name: "hcm",
    typed_config: {
      "@type": `${type}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
      stat_prefix: "hosts",
      route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes }] },
      http_filters: [{ name: "router", typed_config: { "@type": `${type}.filters.http.router.v3.Router` } }],
    },
  };
  return {
    static_resources: {
      listeners: [{ name: "l", address: address(port), filter_chains: [{ filters: [manager] }] }],
      clusters: [
        cluster("ring", [0, 1, 2], byName("ring_hash.v3.RingHash", consistent)),
        cluster("old", [0, 1, 2], byName("ring_hash.v3.RingHash", { use_hostname_for_hashing: true })),
        cluster("maglev", [0, 1, 2], byName("maglev.v3.Maglev", consistent)),
        cluster("one", [1]),
        cluster("none", [2]),
        cluster("mirror", [3]),
      ],
    },
  };
}

before(async () => {
  servers = await Promise.all([...NAMES, "mirror"].map((name) => listen(serve(name))));
  slowPath = await startSlowPath(bootstrap(1));
});

after(async () => {
  await slowPath?.stop();
  for (const server of servers) server.close();
});

const ASKED: readonly (readonly [target: string, ...headers: string[]])[] = [
  ...["ring", "maglev", "old"].flatMap((policy) =>
    Array.from({ length: 12 }, (_, i) => [`/${policy}`, `x-hash: user-${i}`] as const),
  ),
  ["/again"],
  ...Array.from({ length: 6 }, (_, i) => ["/again", `x-fails: ${i}`] as const),
  ["/again", "x-fails: 2", "x-forwarded-host: first.test"],
  ...Array.from({ length: 5 }, (_, i) => ["/forget", `x-fails: ${i}`] as const),
  ["/one"],
  ["/one", "x-fails: 2"],
  ["/none"],
  ["/none", "x-forwarded-host: first.test"],
  ["/mirror"],
  ["/mirror", "x-fails: 1"],
  ["/entry"],
  ["/tenant/shop/a?b=/tenant/other/c"],
  ["/tenant"],
  ["/digits/1/2?3"],
  ["/gone"],
];

async function ask(port: number, [target, ...headers]: (typeof ASKED)[number]): Promise<string> {
  seen = [];
  const socket = connect(port, "127.0.0.1").setEncoding("latin1");
  socket.write(`GET ${[`${target} HTTP/1.1`, "Host: asked.test", ...headers].join("\r\n")}\r\n\r\n`);
  let text = "";
  for await (const piece of socket) {
    text += piece;
    if (text.includes("\r\n\r\n")) break;
  }
  socket.destroy();
  const isMirrored = () => seen.some((line) => line.startsWith("> mirror"));
  for (let left = 200; left > 0 && target === "/mirror" && !isMirrored(); left--)
    await new Promise((resolve) => setTimeout(resolve, 10));
  const told = /^x-told: (.*)$/im.exec(text)?.[1];
  const own = seen.filter((line) => !line.startsWith("> mirror"));
  const copies = seen.filter((line) => line.startsWith("> mirror"));
  return [[target, ...headers].join("; "), ...own, ...copies, `< ${text.split(" ")[1]}; x-told ${told}`].join("\n");
}

async function all(port: number): Promise<string> {
  const lines: string[] = [];
  for (const asked of ASKED) lines.push(await ask(port, asked));
  return `${lines.join("\n")}\n`;
}

test("the slow path gives servers the host that the rules say", async () => {
  const got = await all(slowPath!.ports[0]!);
  if (process.env.UPDATE) writeFileSync(EXPECTED, got);
  assert.equal(got, readFileSync(EXPECTED, "utf8"));
});

test("and so does Envoy", { skip: existsSync(ENVOY) ? false : "no Envoy" }, async () => {
  await withEnvoy(
    1,
    ([port]) => bootstrap(port!),
    async ([port]) => {
      assert.equal(await all(port!), readFileSync(EXPECTED, "utf8"));
    },
  );
});
