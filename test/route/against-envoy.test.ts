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
import type {
  HeaderMatch,
  PathMatch,
  QueryMatch,
  RegexMatch,
  Route,
  RouteConfig,
  StringMatch,
} from "../../src/model/config.ts";
import { matchRoute, type Repeated, type RequestHead } from "../../src/route/match.ts";

/**
 * The reference against a real Envoy (`XLB_ENVOY`, or .envoy/bin/envoy), which names the route in a header of
 * its answer. Where there is no Envoy it is skipped.
 */
const ENVOY = process.env.XLB_ENVOY ?? fileURLToPath(new URL("../../.envoy/bin/envoy", import.meta.url));
const CONFIGS = 40;
const REQUESTS = 120;
const START_TRIES = 600;
/** The header that says which route. */
const ANSWER = "x-route";

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
const regex = (...patterns: string[]): fc.Arbitrary<RegexMatch> =>
  fc.record({ kind: fc.constant("regex" as const), pattern: fc.constantFrom(...patterns) });
const pathMatch: fc.Arbitrary<PathMatch> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .record({
        kind: fc.constantFrom("prefix", "path", "pathSeparatedPrefix"),
        value: path,
        caseSensitive: fc.boolean(),
      })
      .filter(({ kind, value }) => kind !== "pathSeparatedPrefix" || (value.length > 1 && !value.endsWith("/"))),
  },
  { weight: 1, arbitrary: regex("/", "/a", "/[ab]+", "/.*b", "(?i)/A.*", "/a|/b", "/(a/?)*", "b") },
);
const headerName = fc.constantFrom("x-one", "X-One", "cookie", "accept", "content-type");
const headerText = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .array(fc.constantFrom("a", "b", "A", ",", ";", "=", " "), { maxLength: 4 })
      .map((text) => text.join("").trim()),
  },
  { weight: 1, arbitrary: fc.constantFrom("0", "7", "-3", "+5", "5.0", "99999999999999999999", "application/grpc") },
);
const stringMatch: fc.Arbitrary<StringMatch> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .record({
        kind: fc.constantFrom("exact" as const, "prefix" as const, "suffix" as const, "contains" as const),
        value: headerText,
        ignoreCase: fc.boolean(),
      })
      .filter(({ kind, value }) => kind === "exact" || value !== ""),
  },
  { weight: 1, arbitrary: regex(".*", "a*", "[ab,]+", "(?i)A.*", "-?[0-9]+") },
);
const present = fc.record({ kind: fc.constant("present" as const), present: fc.boolean() });
const headerMatch: fc.Arbitrary<HeaderMatch> = fc.record({
  name: fc.oneof(
    headerName.map((name) => name.toLowerCase()),
    fc.constantFrom(":method", ":authority", ":path", ":scheme"),
  ),
  invert: fc.boolean(),
  missingIsEmpty: fc.boolean(),
  value: fc.oneof(
    { weight: 2, arbitrary: present },
    { weight: 4, arbitrary: stringMatch },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("range" as const),
        start: fc.constantFrom(-5, 0, 7),
        end: fc.constant(8),
      }),
    },
  ),
});
const queryMatch: fc.Arbitrary<QueryMatch> = fc.record({
  name: fc.constantFrom("a", "b", "A"),
  value: fc.oneof(present, stringMatch),
});
const ALL = { share: 1_000_000, outOf: 1_000_000 };
const sometimes = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 4 });
const routes = fc
  .array(
    fc.record({
      path: pathMatch,
      headers: fc.array(headerMatch, { maxLength: 2 }),
      query: fc.oneof(
        { weight: 7, arbitrary: fc.constant([]) },
        { weight: 1, arbitrary: fc.array(queryMatch, { maxLength: 2 }) },
      ),
      // All or nothing: Envoy's chance is its own.
      fraction: sometimes(fc.constantFrom(ALL, ALL, ALL, { share: 0, outOf: 100 })),
      grpc: fc.oneof({ weight: 15, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
    }),
    { maxLength: 6 },
  )
  .map((routes) =>
    routes.map(
      (route, i): Route => ({ ...route, name: String(i), action: { kind: "direct", status: 200, body: String(i) } }),
    ),
  );
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
  path: fc
    .tuple(path, fc.constantFrom("", "", "?", "?a", "?/a?b", "?b=a&a=b", "?a=&A", "?a=b&a=a"))
    .map((parts) => parts.join("")),
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
        assert.equal(answer.route, expected, JSON.stringify({ sent, config, answer }));
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
  return new Promise<{ status: number | undefined; route: string }>((resolve, reject) => {
    const sent = request({ socketPath, agent, method, path, headers: flat, setHost: false }, (response) => {
      response.resume().on("error", reject);
      resolve({ status: response.statusCode, route: String(response.headers[ANSWER] ?? "") });
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
            ...pathSaid(route.path),
            headers: route.headers.map(({ name, invert, missingIsEmpty, value }) => ({
              name,
              invert_match: invert,
              treat_missing_header_as_empty: missingIsEmpty,
              ...(value.kind === "range" ? { range_match: { start: value.start, end: value.end } } : valueSaid(value)),
            })),
            query_parameters: route.query?.map(({ name, value }) => ({ name, ...valueSaid(value) })),
            ...(route.fraction && {
              runtime_fraction: {
                default_value: {
                  numerator: route.fraction.share,
                  denominator: route.fraction.outOf === 100 ? "HUNDRED" : "MILLION",
                },
              },
            }),
            ...(route.grpc ? { grpc: {} } : {}),
          },
          direct_response: { status: 200 },
          response_headers_to_add: [{ header: { key: ANSWER, value: `${host.name}/${i}` } }],
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

function pathSaid(path: PathMatch) {
  if (path.kind === "regex") return { safe_regex: { regex: path.pattern } };
  const field = { prefix: "prefix", path: "path", pathSeparatedPrefix: "path_separated_prefix" }[path.kind];
  return { [field]: path.value, case_sensitive: path.caseSensitive };
}

function valueSaid(value: QueryMatch["value"]) {
  switch (value.kind) {
    case "present":
      return { present_match: value.present };
    case "regex":
      return { string_match: { safe_regex: { regex: value.pattern } } };
    default:
      return { string_match: { [value.kind]: value.value, ignore_case: value.ignoreCase } };
  }
}
