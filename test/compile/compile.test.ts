import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Balancing } from "../../src/compile/compile.ts";
import { compile } from "../../src/compile/compile.ts";
import type {
  Cluster,
  Config,
  Endpoint,
  HeaderMatch,
  Listener,
  PathMatch,
  Route,
  RouteConfig,
  VirtualHost,
} from "../../src/model/config.ts";
import { matchRoute, matchVirtualHost, type RequestHead } from "../../src/route/match.ts";
import { schedule } from "../../src/route/schedule.ts";
import type { CompiledListener, Tables } from "../../src/tables/compiled.ts";
import { RULES_NONE, XLB_MAX_HEADER_NAME } from "../../src/tables/layout.gen.ts";
import {
  interpretAction,
  interpretCluster,
  interpretEndpoint,
  interpretHost,
  interpretPlace,
  interpretRoute,
} from "./interpret.ts";

const http = {
  acceptHttp10: false,
  defaultHostForHttp10: undefined,
  maxRequestHeadersKb: 60,
  maxHeadersCount: 100,
  upgrades: [],
};
const listener = (routes: RouteConfig, name = "l", port = 80): Listener => ({
  name,
  address: { ip: "10.0.0.1", port },
  statPrefix: name,
  http,
  routes,
});
const routeConfig = (virtualHosts: VirtualHost[], ignorePortInHostMatching = false): RouteConfig => ({
  name: "r",
  ignorePortInHostMatching,
  virtualHosts,
});
const virtualHost = (domains: string[], routes: Route[] = []): VirtualHost => ({
  name: domains.join(),
  domains,
  routes,
});
const route = (name: string, path: PathMatch, headers: HeaderMatch[] = []): Route => ({
  name,
  path,
  headers,
  action: { clusters: [{ name: "c", weight: 1 }], timeoutMs: 15_000 },
});
const prefix = (value: string): PathMatch => ({ kind: "prefix", value, caseSensitive: true });
const exactly = (name: string, value = "v"): HeaderMatch => ({
  name,
  invert: false,
  value: { kind: "exact", value, ignoreCase: false },
});
const get = (path: string, headers: [string, string][] = [], authority = "h"): RequestHead => ({
  method: "GET",
  authority,
  path,
  headers,
});

const everyone = (cluster: Cluster): Balancing => ({
  hosts: cluster.endpoints,
  schedule: schedule(
    cluster.endpoints.map((e) => e.weight),
    4_096,
  ),
});
const compileRoutes = (routes: RouteConfig): Tables =>
  compile({ listeners: [listener(routes)], clusters: [] }, everyone);
const only = (tables: Tables): CompiledListener => tables.listeners[0]!;

/** What the tables say: the index of the virtual host and of the route, or that the hook leaves it to the slow path. */
function follow(tables: Tables, request: RequestHead): string {
  const { hosts, virtualHosts } = only(tables);
  const place = interpretPlace(hosts, request.authority);
  if (place === undefined) return "no_virtual_host";
  const blob = virtualHosts[place];
  if (!blob) return "slow";
  const names = new Map(tables.headerNames.map(({ name, index }) => [name, index]));
  const found = interpretRoute(blob, request, names);
  if (found === "slow") return "slow";
  return found === undefined ? "no_route" : `${place}/${found.routeIndex}`;
}

function expected(routes: RouteConfig, request: RequestHead): string {
  const match = matchRoute(routes, request);
  return "none" in match ? match.none : `${routes.virtualHosts.indexOf(match.virtualHost)}/${match.routeIndex}`;
}

// ---- requests at the edges of random rules ----

/** Few letters, so that texts are often each other's prefix, suffix or twin but for case. */
const letters = (alphabet: string, maxLength: number, minLength = 0) =>
  fc.array(fc.constantFrom(...alphabet), { minLength, maxLength }).map((all) => all.join(""));
const pathText = letters("/aAb.", 5).map((text) => `/${text}`);
const anyPath: fc.Arbitrary<PathMatch> = fc.record({
  kind: fc.constantFrom("prefix", "path", "pathSeparatedPrefix"),
  value: fc.oneof({ weight: 9, arbitrary: pathText }, { weight: 1, arbitrary: fc.constantFrom("", "a", "/?", "/a#") }),
  caseSensitive: fc.boolean(),
});
const NAMES = ["x-a", "x-b", "X-C", ":method", ":path", ":authority", "host"] as const;
const anyHeader: fc.Arbitrary<HeaderMatch> = fc.record({
  name: fc.constantFrom(...NAMES).map((name) => name.toLowerCase()),
  invert: fc.boolean(),
  value: fc.oneof(
    fc.record({ kind: fc.constant("present" as const), present: fc.boolean() }),
    fc.record({
      kind: fc.constantFrom("exact" as const, "prefix" as const, "suffix" as const, "contains" as const),
      value: fc.oneof(
        letters("aAb", 3),
        fc.constantFrom("GET", "a.com", "/a", "an ordinary value of more than 32 bytes, in three words"),
      ),
      ignoreCase: fc.boolean(),
    }),
  ),
});
const anyRoute: fc.Arbitrary<Route> = fc
  .record({
    path: anyPath,
    headers: fc.oneof(
      { weight: 3, arbitrary: fc.constant([]) },
      { weight: 2, arbitrary: fc.array(anyHeader, { maxLength: 3 }) },
    ),
    weight: fc.integer({ min: 1, max: 700 }),
  })
  .map(({ path, headers, weight }) => ({
    name: "r",
    path,
    headers,
    action: { clusters: [{ name: "c", weight }], timeoutMs: 0 },
  }));
const hostText = letters("ab.lmo", 4, 1);
const anyDomain = fc.oneof(
  { weight: 3, arbitrary: hostText },
  { weight: 3, arbitrary: hostText.map((text) => `*${text}`) },
  { weight: 2, arbitrary: hostText.map((text) => `${text}*`) },
  { weight: 1, arbitrary: hostText.map((text) => `${text}:80`) },
  { weight: 1, arbitrary: fc.constantFrom("*", "**", "*-b", "a*b", "[::1]", "[::1]:80") },
);
const anyConfig: fc.Arbitrary<RouteConfig> = fc
  .record({
    domains: fc.uniqueArray(anyDomain, { minLength: 1, maxLength: 8 }),
    routes: fc.array(fc.array(anyRoute, { maxLength: 8 }), { minLength: 3, maxLength: 3 }),
    ignorePortInHostMatching: fc.boolean(),
  })
  .map(({ domains, routes, ignorePortInHostMatching }) => ({
    name: "r",
    ignorePortInHostMatching,
    virtualHosts: routes
      .map((some, i) => ({ name: `v${i}`, domains: domains.filter((_, at) => at % 3 === i), routes: some }))
      .filter((host) => host.domains.length > 0),
  }));

/** A text, or one a step away from it. */
const near = (text: string): string[] => [
  text,
  `${text}/`,
  `${text}a`,
  `${text}/a`,
  text.slice(0, -1),
  text.toUpperCase(),
  text.toLowerCase(),
  `a${text}`,
];

/** Hosts that a domain takes, and hosts that it only just does not. */
const nearHosts = (domain: string): string[] => {
  const text = domain.replace(/^\*|\*$/g, "");
  const taken = [text, `x${text}`, `${text}x`, text.toUpperCase()];
  return [...taken, ...taken, `${text}:80`, `x${text}:8080`, `${text}:8m`, `${text}l`, `l${text}m`];
};

/** Each is aimed at a route, through one of its virtual host's domains. */
function edgeRequests(routes: RouteConfig): fc.Arbitrary<RequestHead> {
  const aims = routes.virtualHosts.flatMap((host) => host.routes.map((route) => ({ host, route })));
  if (aims.length === 0) {
    return hostText.map((authority) => ({ method: "GET", authority, path: "/", headers: [] }));
  }
  return fc.constantFrom(...aims).chain(({ host, route: { path, headers } }) => {
    const paths = near(path.value).map((text) => (text.startsWith("/") ? text : `/${text}`).replace(/[#?].*/, ""));
    const values = headers.flatMap(({ value }) => (value.kind === "present" ? ["a"] : near(value.value)));
    const names = headers.map(({ name }) => name).filter((name) => name.startsWith("x-"));
    return fc.record({
      method: fc.constantFrom("GET", "GET", "POST", "HEAD", "PATCH"),
      authority: fc
        .oneof(
          { weight: 9, arbitrary: fc.constantFrom(...host.domains.flatMap(nearHosts)) },
          { weight: 1, arbitrary: hostText },
        )
        .filter((text) => text !== ""),
      path: fc
        .tuple(
          fc.oneof({ weight: 9, arbitrary: fc.constantFrom(path.value, ...paths) }, { weight: 1, arbitrary: pathText }),
          fc.constantFrom("", "", "?", "?a=/b", "?/a?b"),
        )
        .map(([text, query]) => (text.startsWith("/") ? text : `/${text}`).replace(/[#?].*/, "") + query),
      headers: fc.array(
        fc.tuple(fc.constantFrom("x-a", "X-C", "x-d", ...names, ...names), fc.constantFrom("", ...values)),
        { maxLength: 4 },
      ) as fc.Arbitrary<[string, string][]>,
    });
  });
}

test("the compiled rules and the reference agree on requests at the rules' edges", () => {
  const count = { all: 0, slow: 0, matched: 0 };
  const property = fc.property(
    anyConfig.chain((routes) =>
      fc.tuple(fc.constant(routes), fc.array(edgeRequests(routes), { minLength: 12, maxLength: 12 })),
    ),
    ([routes, requests]) => {
      const tables = compileRoutes(routes);
      for (const request of requests) {
        const got = follow(tables, request);
        count.all++;
        if (got === "slow") count.slow++;
        else assert.equal(got, expected(routes, request), JSON.stringify(request));
        if (got.includes("/")) count.matched++;
      }
    },
  );
  fc.assert(property, { numRuns: Number(process.env.RUNS ?? 3_000) });
  // A test that compares nothing proves nothing.
  assert.ok(count.matched > count.all / 10 && count.slow < count.all / 2, JSON.stringify(count));
});
