import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Balancing } from "../../src/compile/cluster.ts";
import { compile } from "../../src/compile/compile.ts";
import type {
  Cluster,
  FormatPart,
  HeaderEdits,
  HeaderMatch,
  PathMatch,
  PresentMatch,
  QueryMatch,
  RegexMatch,
  Route,
  RouteAction,
  RouteConfig,
  StringMatch,
  TextPathMatch,
} from "../../src/model/config.ts";
import { matchRoute, type RequestHead } from "../../src/route/match.ts";
import { schedule } from "../../src/route/schedule.ts";
import type { Tables } from "../../src/tables/compiled.ts";
import {
  hasSwitches,
  interpretCluster,
  interpretEndpoint,
  interpretPlace,
  interpretRoute,
  isLeftToSlowPath,
} from "./interpret.ts";
import { compileRoutes, listener, only } from "./tables.ts";

const everyone = (cluster: Cluster): Balancing => ({
  lists: [
    {
      share: 1,
      policy: cluster.policy.kind,
      hosts: cluster.endpoints,
      schedule: schedule(
        cluster.endpoints.map((e) => e.weight),
        4_096,
      ),
      choices: 2,
    },
  ],
});

/** What the tables say: the index of the virtual host and of the route, or that the hook leaves it to the slow path. */
function follow(tables: Tables, request: RequestHead): string {
  const { hosts, virtualHosts } = only(tables);
  const place = interpretPlace(hosts, request.authority);
  if (place === undefined) return "no_virtual_host";
  const blob = virtualHosts[place];
  if (!blob) return "slow";
  const names = new Map(tables.headerNames.map(({ name, index }) => [name, index]));
  const found = interpretRoute(blob, request, names);
  if (found === "slow" || (found && isLeftToSlowPath(blob, found.action))) return "slow";
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
/** Short expressions over the same letters: some take what is near them, some do not. */
const anyRegex: fc.Arbitrary<RegexMatch> = fc
  .array(fc.constantFrom("a", "b", "A", "/", ".", "[aA]", "[^/]+", "(a|b)", "a*", "(?i)", "\\."), { maxLength: 4 })
  .map((parts) => ({ kind: "regex", pattern: parts.join("") }));
const anyPath: fc.Arbitrary<PathMatch> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom("prefix" as const, "path" as const, "pathSeparatedPrefix" as const),
      value: fc.oneof(
        { weight: 9, arbitrary: pathText },
        { weight: 1, arbitrary: fc.constantFrom("", "a", "/?", "/a#") },
      ),
      caseSensitive: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: anyRegex.map(({ kind, pattern }) => ({ kind, pattern: `/${pattern}` })) },
);
const NAMES = ["x-a", "x-b", "X-C", ":method", ":path", ":authority", "host"] as const;
/** What tables can express. */
interface TableHeader extends HeaderMatch {
  readonly value: PresentMatch | StringMatch;
}
interface TableQuery extends QueryMatch {
  readonly value: PresentMatch | StringMatch;
}
interface TableRoute extends Route {
  readonly query?: readonly TableQuery[];
  readonly path: PathMatch;
  readonly headers: readonly TableHeader[];
}
interface TableRoutes extends RouteConfig {
  readonly virtualHosts: readonly { name: string; domains: readonly string[]; routes: readonly TableRoute[] }[];
}
const headerWith = (names: readonly string[], flag: fc.Arbitrary<boolean>): fc.Arbitrary<TableHeader> =>
  fc.record({
    name: fc.constantFrom(...names).map((name) => name.toLowerCase()),
    invert: flag,
    missingIsEmpty: flag,
    value: fc.oneof(
      anyRegex,
      fc.record({ kind: fc.constant("present" as const), present: fc.boolean() }),
      fc.record({
        kind: fc.constantFrom("exact" as const, "prefix" as const, "suffix" as const, "contains" as const),
        value: fc.oneof(
          letters("aAb", 3),
          fc.constantFrom("GET", "a.com", "/a", "an ordinary value of more than 32 bytes, in three words"),
        ),
        ignoreCase: flag,
      }),
    ),
  });
const anyHeader = headerWith(NAMES, fc.boolean());
const routeWith = (
  path: fc.Arbitrary<PathMatch>,
  conditions: readonly [without: number, withSome: number],
  header = anyHeader,
  parameters: readonly string[] = ["a", "A", "q", "x-a"],
) => {
  const parameter = fc
    .tuple(fc.constantFrom(...parameters), header)
    .map(([name, { value }]): TableQuery => ({ name, value }));
  const some = <T>(one: fc.Arbitrary<T>) =>
    fc.oneof(
      { weight: conditions[0], arbitrary: fc.constant([]) },
      { weight: conditions[1], arbitrary: fc.array(one, { minLength: 1, maxLength: 3 }) },
    );
  return fc
    .record({ path, headers: some(header), query: some(parameter), weight: fc.integer({ min: 1, max: 700 }) })
    .map(
      ({ path, headers, query, weight }): TableRoute => ({
        ...{ name: "r", path, headers, query },
        action: { kind: "forward", clusters: [{ name: "c", weight }], timeoutMs: 0 },
      }),
    );
};
const anyRoute = routeWith(anyPath, [3, 1]);
const hostText = letters("ab.lmo", 4, 1);
const anyDomain = fc.oneof(
  { weight: 3, arbitrary: hostText },
  { weight: 3, arbitrary: hostText.map((text) => `*${text}`) },
  { weight: 2, arbitrary: hostText.map((text) => `${text}*`) },
  { weight: 1, arbitrary: hostText.map((text) => `${text}:80`) },
  { weight: 1, arbitrary: fc.constantFrom("*", "**", "*-b", "a*b", "[::1]", "[::1]:80") },
);
const configWith = (routes: fc.Arbitrary<TableRoute[][]>): fc.Arbitrary<TableRoutes> =>
  fc
    .record({
      domains: fc.uniqueArray(anyDomain, { minLength: 1, maxLength: 8 }),
      routes,
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
function edgeRequests(routes: TableRoutes): fc.Arbitrary<RequestHead> {
  const aims = routes.virtualHosts.flatMap((host) => host.routes.map((route) => ({ host, route })));
  if (aims.length === 0) {
    return hostText.map((authority) => ({ method: "GET", authority, path: "/", headers: [] }));
  }
  return fc.constantFrom(...aims).chain(({ host, route: { path, headers, query } }) => {
    const aim = path.kind === "regex" ? "/a" : path.value;
    const paths = near(aim).map((text) => (text.startsWith("/") ? text : `/${text}`).replace(/[#?].*/, ""));
    const valuesOf = ({ value }: { readonly value: TableHeader["value"] }) =>
      value.kind === "present" || value.kind === "regex" ? ["a", "ab", "A.b"] : near(value.value);
    const values = headers.flatMap(valuesOf);
    const queryValues = (query ?? []).flatMap(({ value }) =>
      valuesOf({ value }).map((text) => `=${text.replace(/[ #?&]/g, "")}`),
    );
    const names = headers.map(({ name }) => name).filter((name) => name.startsWith("x-"));
    const asked = (query ?? []).map(({ name }) => name);
    const parameter = fc
      .tuple(fc.constantFrom("a", "q", ...asked, ...asked), fc.constantFrom("", "=", "=b=", ...queryValues))
      .map(([name, value]) => name + value);
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
          fc.oneof({ weight: 9, arbitrary: fc.constantFrom(aim, ...paths) }, { weight: 1, arbitrary: pathText }),
          fc.oneof(
            fc.constantFrom("", "", "?", "?a=/b", "?/a?b", "?&a=b&&a=c&"),
            fc.array(parameter, { minLength: 1, maxLength: 4 }).map((all) => `?${all.join("&")}`),
          ),
        )
        .map(([text, query]) => (text.startsWith("/") ? text : `/${text}`).replace(/[#?].*/, "") + query),
      headers: fc.array(
        fc.tuple(fc.constantFrom("x-a", "X-C", "x-d", ...names, ...names), fc.constantFrom("", ...values)),
        { maxLength: 4 },
      ) as fc.Arbitrary<[string, string][]>,
    });
  });
}

/** Compares what the tables say with what the reference says; gives how often what came out. */
function compareAll(config: fc.Arbitrary<TableRoutes>, requests: number, runs: number) {
  const count = { all: 0, slow: 0, matched: 0, switches: 0 };
  const property = fc.property(
    config.chain((routes) =>
      fc.tuple(fc.constant(routes), fc.array(edgeRequests(routes), { minLength: requests, maxLength: requests })),
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
      count.switches += only(tables).virtualHosts.filter((blob) => blob && hasSwitches(blob)).length;
    },
  );
  fc.assert(property, { numRuns: Number(process.env.RUNS ?? runs) });
  // A test that compares nothing proves nothing.
  assert.ok(count.matched > count.all / 10 && count.slow < count.all / 2, JSON.stringify(count));
  return count;
}

test("the compiled rules and the reference agree on requests at the rules' edges", () => {
  compareAll(configWith(fc.array(fc.array(anyRoute, { maxLength: 8 }), { minLength: 3, maxLength: 3 })), 12, 3_000);
});

test("they agree where many routes share few paths, so that switches tell them apart", () => {
  const fewPaths: fc.Arbitrary<PathMatch> = fc.oneof(
    fc.record({
      kind: fc.constantFrom("prefix" as const, "path" as const, "pathSeparatedPrefix" as const),
      value: fc.constantFrom("/", "/a", "/a/", "/a/b"),
      caseSensitive: fc.constantFrom(true, true, false),
    }),
    anyRegex.map(({ kind, pattern }) => ({ kind, pattern: `/${pattern}` })),
    anyRegex.map(({ kind, pattern }) => ({ kind, pattern: `/a/${pattern}` })),
  );
  const rarely = fc.integer({ min: 0, max: 9 }).map((n) => n === 0);
  const fewHeaders = headerWith(["x-a", "x-a", ":method"], rarely);
  const many = fc.array(routeWith(fewPaths, [1, 2], fewHeaders, ["a", "q"]), { minLength: 8, maxLength: 40 });
  const config = many.map((routes): TableRoutes => {
    return { name: "r", ignorePortInHostMatching: false, virtualHosts: [{ name: "v", domains: ["*"], routes }] };
  });
  const count = compareAll(config, 40, 400);
  assert.ok(count.switches > 60, JSON.stringify(count));
});

// ---- many rules ----

const plain = (name: string, path: TextPathMatch, clusters: readonly (readonly [string, number])[]): Route => ({
  name,
  path,
  headers: [],
  action: {
    kind: "forward",
    clusters: clusters.map(([cluster, weight]) => ({ name: cluster, weight })),
    timeoutMs: 0,
  },
});
const anything: TextPathMatch = { kind: "prefix", value: "/", caseSensitive: true };
const ask = (authority: string, path = "/"): RequestHead => ({ method: "GET", authority, path, headers: [] });

test("1,000 virtual hosts of three domains each", () => {
  const routes: RouteConfig = {
    name: "r",
    ignorePortInHostMatching: true,
    virtualHosts: Array.from({ length: 1_000 }, (_, i) => ({
      name: `v${i}`,
      domains: [`svc-${i}.shop.svc.cluster.local`, `*.v${i}.example`, `svc-${i}.*`],
      routes: [plain("r", anything, [["c", 1]])],
    })),
  };
  const tables = compileRoutes(routes);
  assert.deepEqual(tables.slow, []);
  for (let i = 0; i < 1_000; i++) {
    for (const host of [`svc-${i}.shop.svc.cluster.local:9080`, `a.v${i}.example`, `SVC-${i}.else`, `v${i}.example`]) {
      assert.equal(follow(tables, ask(host)), expected(routes, ask(host)), host);
    }
  }
});

test("1,000 routes in one virtual host: the first that matches", () => {
  const routes: RouteConfig = {
    name: "r",
    ignorePortInHostMatching: false,
    virtualHosts: [
      {
        name: "v",
        domains: ["*"],
        routes: Array.from({ length: 1_000 }, (_, i) => {
          const kind = (["prefix", "path", "pathSeparatedPrefix"] as const)[i % 3]!;
          return plain(`r${i}`, { kind, value: `/api/v${i % 7}/item-${i}`, caseSensitive: i % 5 !== 0 }, [["c", 1]]);
        }),
      },
    ],
  };
  const tables = compileRoutes(routes);
  assert.deepEqual(tables.slow, []);
  for (let i = 0; i < 1_000; i++) {
    for (const tail of ["", "/", "0", "/x?y"]) {
      const request = ask("h", `/api/v${i % 7}/${i % 2 ? "item" : "ITEM"}-${i}${tail}`);
      assert.equal(follow(tables, request), expected(routes, request), request.path);
    }
  }
});

/** How often each of `keys` came, as parts of all. */
const parts = (counts: ReadonlyMap<number, number>, keys: readonly number[]) => {
  const all = [...counts.values()].reduce((sum, n) => sum + n, 0);
  return keys.map((key) => (counts.get(key) ?? 0) / all);
};
const counted = (n: number, pick: (i: number) => number): Map<number, number> => {
  const counts = new Map<number, number>();
  for (let i = 0; i < n; i++) {
    const key = pick(i);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
};

const cluster = (name: string, policy: Cluster["policy"], weights: readonly number[]): Cluster => ({
  name,
  policy,
  endpoints: weights.map((weight, i) => ({
    address: { ip: `10.0.${i >> 8}.${i & 255}`, port: 80 },
    weight,
    health: "healthy",
  })),
  connectTimeoutMs: 1_000,
  maxConnections: 1_024,
});

test("weighted clusters are chosen by their weights", () => {
  const weights = [
    ["a", 1],
    ["b", 30],
    ["c", 69],
  ] as const;
  const virtualHosts = [{ name: "v", domains: ["*"], routes: [plain("r", anything, weights)] }];
  const routes: RouteConfig = { name: "r", ignorePortInHostMatching: false, virtualHosts };
  const tables = compile(
    { listeners: [listener(routes)], clusters: weights.map(([name]) => cluster(name, { kind: "roundRobin" }, [1])) },
    everyone,
  );
  const blob = only(tables).virtualHosts[0]!;
  const found = interpretRoute(blob, ask("h"), new Map());
  assert.ok(found && found !== "slow");
  const counts = counted(10_000, (i) => interpretCluster(blob, found.action, i));
  const ids = weights.map(([name]) => tables.ids.clusters.get(name)!);
  assert.deepEqual(parts(counts, ids), [0.01, 0.3, 0.69]);
});

test("1,000 endpoints take their turns, by weight", () => {
  const weights = Array.from({ length: 1_000 }, (_, i) => 1 + (i % 3));
  const sum = weights.reduce((a, b) => a + b);
  const tables = compile({ listeners: [], clusters: [cluster("c", { kind: "roundRobin" }, weights)] }, everyone);
  const { blob } = tables.clusters[0]!;
  let cursor = 0;
  const counts = counted(
    sum * 4,
    () =>
      interpretEndpoint(
        blob,
        () => cursor++,
        () => 0,
      )!,
  );
  const ids = weights.map((_, i) => tables.ids.endpoints.get(`c 10.0.${i >> 8}.${i & 255}:80`)!);
  assert.deepEqual(
    ids.map((id) => counts.get(id)),
    weights.map((weight) => weight * 4),
  );
});

test("LEAST_REQUEST never takes the busier of two choices", () => {
  const tables = compile(
    { listeners: [], clusters: [cluster("c", { kind: "leastRequest", choiceCount: 2 }, [1, 1, 1, 1])] },
    everyone,
  );
  const { blob } = tables.clusters[0]!;
  const busiest = tables.ids.endpoints.get("c 10.0.0.3:80")!;
  let seed = 7;
  const random = () => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return seed >>> 8;
  };
  const counts = counted(16_000, () => interpretEndpoint(blob, random, (id) => (id === busiest ? 5 : 1))!);
  /* Only where both choices fall on it: 1 of 16. */
  const [part] = parts(counts, [busiest]);
  assert.ok(part! > 0.04 && part! < 0.09, String(part));
});

// ---- what the tables cannot express ----

const TOO_LARGE = "its regular expression needs more than 1024 states, or too large a table";

const OF_REQUEST: FormatPart = { kind: "request", name: ":path" };

test("a route that the hook can only recognise is left to the slow path, others of its virtual host are not", () => {
  const adding = (part: FormatPart): HeaderEdits => ({
    remove: [],
    add: [{ name: "x", value: [part], action: "append", keepEmpty: false }],
  });
  const forward = { kind: "forward", clusters: [{ name: "c", weight: 1 }], timeoutMs: 0 } as const;
  const header = (rest: Partial<HeaderMatch>): Partial<Route> => ({
    headers: [{ name: "x", invert: false, value: { kind: "present", present: true }, ...rest }],
  });
  const acting = (action: RouteAction): Partial<Route> => ({ action });
  const cases: [change: Partial<Route>, reason: string, asksPath?: boolean, asksHeaders?: number[]][] = [
    [{ path: { kind: "regex", pattern: ".*a.{12}" } }, TOO_LARGE, false],
    [
      { query: [{ name: "é", value: { kind: "present", present: true } }] },
      "query parameter é is a name too many, too long or not ASCII",
    ],
    [{ query: [{ name: "q", value: { kind: "regex", pattern: ".*a.{12}" } }] }, `query parameter q: ${TOO_LARGE}`],
    [{ fraction: { share: 100, outOf: 100 } }, "it takes a fraction of the requests"],
    [{ grpc: true }, "it asks for gRPC"],
    [header({ value: { kind: "regex", pattern: ".*a.{12}" } }), `header x: ${TOO_LARGE}`],
    [header({ value: { kind: "range", start: 0, end: 1 } }), "it matches x by a range of numbers"],
    [{ responseEdits: adding(OF_REQUEST) }, "the value of x in its responses holds a part of the request"],
    [{ requestEdits: adding({ kind: "hostname" }) }, "the value of x holds a variable (hostname)"],
    [{ requestEdits: adding({ kind: "request", name: "y" }) }, "the value of x holds %REQ(y)%"],
    [{ requestEdits: adding({ kind: "text", text: "x".repeat(2_100) }) }, "its edits are too long"],
    [
      acting({
        ...{ kind: "redirect", status: 301, stripQuery: false },
        path: { kind: "regex", pattern: "a", substitution: "b" },
      }),
      "it redirects by a regular expression",
    ],
    [acting({ kind: "direct", status: 200, body: "x".repeat(4_096) }), "its answer is over 4096 bytes"],
    [
      acting({ ...forward, path: { kind: "regex", pattern: "a", substitution: "b" } }),
      "it rewrites the path by a regular expression",
    ],
    [acting({ ...forward, host: { kind: "header", name: "h" } }), "a header says what its host is rewritten to"],
    [
      acting({ ...forward, host: { kind: "literal", value: "h" }, keepsForwardedHost: true }),
      "it appends to x-forwarded-host",
    ],
    [acting({ ...forward, clusters: [{ header: "h", weight: 1 }] }), "a header says which cluster"],
    [
      acting({ ...forward, clusters: [{ name: "c", weight: 0, responseEdits: adding(OF_REQUEST) }] }),
      "the value of x in its responses holds a part of the request",
    ],
  ];
  const first = plain("first", { kind: "path", value: "/first", caseSensitive: true }, [["c", 1]]);
  const next = plain("next", anything, [["c", 1]]);
  const other = { name: "other", domains: ["other"], routes: [first] };
  const compileWith = (route: Route, more: Partial<RouteConfig> = {}, host = {}) =>
    compileRoutes({
      name: "r",
      ignorePortInHostMatching: false,
      virtualHosts: [{ name: "v", domains: ["*"], routes: [first, route, next], ...host }, other],
      ...more,
    });
  const it: TextPathMatch = { kind: "prefix", value: "/it", caseSensitive: true };
  for (const [change, reason, asksPath = true, asksHeaders = []] of cases) {
    const tables = compileWith({ ...plain("it", it, [["c", 1]]), ...change });
    const where = { where: "l: virtual host v: route it", listener: "l", virtualHost: "v" };
    assert.deepEqual(tables.slow, [{ ...where, reason, route: { place: 1, asksPath, asksHeaders, asksQuery: [] } }]);
    assert.equal(follow(tables, ask("h", "/first")), "0/0", reason);
    assert.equal(follow(tables, ask("h", "/it")), "slow", reason);
    assert.equal(follow(tables, ask("h", "/next")), asksPath ? "0/2" : "slow", reason);
    assert.equal(follow(tables, ask("other", "/first")), "1/0", reason);
  }
  const it0 = plain("it", it, [["c", 1]]);
  const both: Route = {
    ...it0,
    headers: [
      { name: "x", invert: false, value: { kind: "range", start: 0, end: 1 } },
      { name: "y", invert: false, value: { kind: "present", present: true } },
    ],
  };
  assert.deepEqual(compileWith(both).slow[0]?.route?.asksHeaders, [1]);
  assert.equal(
    follow(compileWith(both), { ...ask("h", "/it"), headers: [["Y", ""]] }),
    "slow",
    "what can be asked is asked",
  );
  assert.equal(follow(compileWith(both), ask("h", "/it")), "0/2");
  const ofHost = compileWith(it0, {}, { responseEdits: adding(OF_REQUEST) });
  assert.deepEqual(
    ofHost.slow.map(({ where }) => where),
    ["first", "it", "next"].map((name) => `l: virtual host v: route ${name}`),
  );
  assert.equal(compileWith(it0, { responseEdits: adding(OF_REQUEST) }).slow.length, 4);
  // A status for clusters that are not there is for the slow path to give, which then has the request anyway.
  assert.deepEqual(compileWith({ ...it0, action: { ...forward, notFoundStatus: 500 } }).slow, []);
});

test("domains that are not ASCII leave their virtual host to the slow path", () => {
  const hosts = [{ name: "v", domains: ["ä"], routes: [] }];
  const tables = compileRoutes({ name: "r", ignorePortInHostMatching: false, virtualHosts: hosts });
  assert.deepEqual(tables.slow, [
    { where: "l: virtual host v", listener: "l", virtualHost: "v", reason: "a domain is not ASCII" },
  ]);
  assert.deepEqual(only(tables).virtualHosts, [undefined]);
});
