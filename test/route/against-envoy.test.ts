import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import type { HeaderMatch, PathMatch, RouteConfig } from "../../src/model/config.ts";
import { matchRoute, type Repeated, type RequestHead } from "../../src/route/match.ts";

/**
 * The reference against a real Envoy (`XLB_ENVOY`, or .envoy/bin/envoy), which answers each route with the route's
 * name. Where there is no Envoy it is skipped.
 */
const ENVOY = process.env.XLB_ENVOY ?? fileURLToPath(new URL("../../.envoy/bin/envoy", import.meta.url));
const CONFIGS = 40;
const REQUESTS = 120;
const START_TRIES = 600;

const label = fc.constantFrom("a", "b", ".", "-", "A", ":80");
const host = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join(""));
const domain = fc.oneof(
  host,
  host.map((text) => `*${text}`),
  host.map((text) => `${text}*`),
  { arbitrary: fc.constant("*"), weight: 3 },
);
const segment = fc.constantFrom("/", "a", "A", "b", "/a");
const path = fc.array(segment, { maxLength: 4 }).map((segments) => `/${segments.join("")}`);
const pathMatch: fc.Arbitrary<PathMatch> = fc
  .record({ kind: fc.constantFrom("prefix", "path", "pathSeparatedPrefix"), value: path, caseSensitive: fc.boolean() })
  .filter(({ kind, value }) => kind !== "pathSeparatedPrefix" || (value.length > 1 && !value.endsWith("/")));
const headerName = fc.constantFrom("x-one", "X-One", "cookie", "accept");
const headerText = fc
  .array(fc.constantFrom("a", "b", "A", ",", ";", "=", " "), { maxLength: 4 })
  .map((text) => text.join("").trim());
const headerValue: fc.Arbitrary<HeaderMatch["value"]> = fc.oneof(
  fc.record({ kind: fc.constant("present" as const), present: fc.boolean() }),
  fc
    .record({
      kind: fc.constantFrom("exact", "prefix", "suffix", "contains"),
      value: headerText,
      ignoreCase: fc.boolean(),
    })
    .filter(({ kind, value }) => kind === "exact" || value !== ""),
);
const headerMatch: fc.Arbitrary<HeaderMatch> = fc.record({
  name: fc.oneof(
    headerName.map((name) => name.toLowerCase()),
    fc.constantFrom(":method", ":authority", ":path", ":scheme"),
  ),
  invert: fc.boolean(),
  value: headerValue,
});
const routes = fc
  .array(fc.record({ path: pathMatch, headers: fc.array(headerMatch, { maxLength: 2 }) }), { maxLength: 6 })
  .map((routes) => routes.map((route, i) => ({ ...route, name: String(i), action: { clusters: [], timeoutMs: 0 } })));
const routeConfig: fc.Arbitrary<RouteConfig> = fc.record({
  name: fc.constant("r"),
  ignorePortInHostMatching: fc.boolean(),
  virtualHosts: fc
    .array(
      fc.record({
        domains: fc.array(
          domain.map((text) => text.toLowerCase()),
          { minLength: 1, maxLength: 3 },
        ),
        routes,
      }),
      { minLength: 1, maxLength: 6 },
    )
    .map((hosts) => {
      const taken = new Set<string>();
      return hosts
        .map((host, i) => ({
          ...host,
          name: `v${i}`,
          domains: host.domains.filter((text) => !taken.has(text) && taken.add(text)),
        }))
        .filter((host) => host.domains.length > 0);
    }),
});
const head: fc.Arbitrary<RequestHead> = fc.record({
  method: fc.constantFrom("GET", "POST", "PUT"),
  authority: host,
  path: fc.tuple(path, fc.constantFrom("", "?", "?a", "?/a?b")).map((parts) => parts.join("")),
  headers: fc.array(fc.tuple(headerName, headerText), { maxLength: 4 }),
});

for (const repeated of ["joined", "each"] as const) {
  const name = `the reference and Envoy pick the same routes, repeated headers ${repeated}`;
  test(name, { skip: !existsSync(ENVOY) && "no Envoy here" }, () => compare(repeated));
}

async function compare(repeated: Repeated): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "xlb-envoy-"));
  const configs = fc.sample(routeConfig, { numRuns: CONFIGS, seed: 7 });
  const sockets = configs.map((_, i) => join(folder, `${i}.sock`));
  const file = join(folder, "envoy.json");
  const features = { "envoy.reloadable_features.match_headers_individually": repeated === "each" };
  const bootstrap = {
    static_resources: { listeners: configs.map((config, i) => listener(config, sockets[i]!)) },
    layered_runtime: { layers: [{ name: "features", static_layer: features }] },
  };
  writeFileSync(file, JSON.stringify(bootstrap));
  const envoy = spawn(ENVOY, ["-c", file, "-l", "error", "--concurrency", "1", "--use-dynamic-base-id"], {
    stdio: "inherit",
  });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    for (const socket of sockets) await untilAccepting(socket);
    let compared = 0;
    let routed = 0;
    for (const [i, config] of configs.entries()) {
      for (const sent of fc.sample(head, { numRuns: REQUESTS, seed: i })) {
        const answer = await ask(sockets[i]!, agent, sent);
        // 400: Envoy does not take such a request at all.
        if (answer.status === 400) continue;
        const match = matchRoute(config, sent, repeated);
        const expected = "route" in match ? `${match.virtualHost.name}/${match.routeIndex}` : "";
        assert.equal(answer.body, expected, JSON.stringify({ sent, config, answer }));
        compared++;
        if (expected !== "") routed++;
      }
    }
    assert.ok(compared > (CONFIGS * REQUESTS) / 2, `only ${compared} requests compared`);
    assert.ok(routed > compared / 10, `only ${routed} requests had a route`);
  } finally {
    agent.destroy();
    envoy.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Envoy binds its sockets some time before it listens on them: that the file is there says nothing yet. */
async function untilAccepting(path: string): Promise<void> {
  for (let tries = 0; tries < START_TRIES; tries++) {
    const accepted = await new Promise<boolean>((resolve) => {
      const socket = connect(path, () => resolve(true)).on("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (accepted) return;
    await sleep(50);
  }
  assert.fail(`Envoy does not listen on ${path}`);
}

function ask(socketPath: string, agent: Agent, { method, authority, path, headers }: RequestHead) {
  const flat = ["host", authority, "content-length", "0", ...headers.flat()];
  return new Promise<{ status: number | undefined; body: string }>((resolve, reject) => {
    const sent = request({ socketPath, agent, method, path, headers: flat, setHost: false }, async (response) => {
      let body = "";
      for await (const chunk of response) body += chunk;
      resolve({ status: response.statusCode, body });
    });
    sent.on("error", reject).end();
  });
}

function listener(config: RouteConfig, path: string) {
  const manager = {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    stat_prefix: "x",
    route_config: {
      name: config.name,
      ignore_port_in_host_matching: config.ignorePortInHostMatching,
      virtual_hosts: config.virtualHosts.map((host) => ({
        name: host.name,
        domains: host.domains,
        routes: host.routes.map((route, i) => ({
          match: {
            [{ prefix: "prefix", path: "path", pathSeparatedPrefix: "path_separated_prefix" }[route.path.kind]]:
              route.path.value,
            case_sensitive: route.path.caseSensitive,
            headers: route.headers.map(({ name, invert, value }) => ({
              name,
              invert_match: invert,
              ...(value.kind === "present"
                ? { present_match: value.present }
                : { string_match: { [value.kind]: value.value, ignore_case: value.ignoreCase } }),
            })),
          },
          direct_response: { status: 200, body: { inline_string: `${host.name}/${i}` } },
        })),
      })),
    },
    http_filters: [
      {
        name: "router",
        typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
      },
    ],
  };
  return {
    name: path,
    address: { pipe: { path } },
    filter_chains: [{ filters: [{ name: "hcm", typed_config: manager }] }],
  };
}
