import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type {
  ForwardAction,
  HeaderMatch,
  PathMatch,
  QueryMatch,
  Route,
  RouteConfig,
  TextPathMatch,
  VirtualHost,
} from "../../src/model/config.ts";
import { clusterName, matchRoute, matchVirtualHost, pickCluster, type RequestHead } from "../../src/route/match.ts";

const virtualHost = (domains: string[], routes: Route[] = []): VirtualHost => ({
  name: domains.join(),
  domains,
  routes,
});
const config = (virtualHosts: VirtualHost[], ignorePortInHostMatching = false): RouteConfig => ({
  name: "test",
  ignorePortInHostMatching,
  virtualHosts,
});
const route = (name: string, path: PathMatch, headers: HeaderMatch[] = []): Route => ({
  name,
  path,
  headers,
  action: { kind: "forward", clusters: [{ name, weight: 1 }], timeoutMs: 0 },
});
const path = (kind: TextPathMatch["kind"], value: string, caseSensitive = true): PathMatch => ({
  kind,
  value,
  caseSensitive,
});
const get = (path: string, headers: [string, string][] = [], method = "GET"): RequestHead => ({
  method,
  authority: "h",
  path,
  headers,
});

/** The names of the routes, in order, that would take the request if they stood first. */
function takers(routes: readonly Route[], request: RequestHead): string[] {
  return routes
    .filter((route) => "route" in matchRoute(config([virtualHost(["*"], [route])]), request))
    .map((route) => route.name);
}

test("virtual hosts: exact, longest suffix, longest prefix, the rest", () => {
  const domains = [
    "a.com",
    "*.a.com",
    "*.b.a.com",
    "*-b.a.com",
    "a.*",
    "a.b.*",
    "*",
    "[::1]:80",
    "a.com:80",
    "*.x.*",
    "x*y",
  ];
  const hosts = config(domains.map((domain) => virtualHost([domain])));
  const cases: [authority: string, domain: string][] = [
    ["a.com", "a.com"],
    ["A.COM", "a.com"],
    ["b.a.com", "*.a.com"],
    ["c.b.a.com", "*.b.a.com"],
    ["x-b.a.com", "*-b.a.com"],
    [".a.com", "*"],
    [".b.a.com", "*.a.com"],
    ["a.org", "a.*"],
    ["a.b.org", "a.b.*"],
    ["a.b.", "a.*"],
    ["a.", "*"],
    ["a.com:80", "a.com:80"],
    ["a.com:81", "a.*"],
    ["[::1]:80", "[::1]:80"],
    ["z.x.*", "*.x.*"],
    ["z.x.y", "*"],
    ["x*y", "x*y"],
    ["xzy", "*"],
    ["", "*"],
  ];
  for (const [authority, domain] of cases) assert.equal(matchVirtualHost(hosts, authority)?.name, domain, authority);
});

test("virtual hosts: the port is ignored on request", () => {
  const hosts = config([virtualHost(["a.com"]), virtualHost(["[::1]"]), virtualHost(["a.com:80"])], true);
  const cases: [authority: string, domain: string | undefined][] = [
    ["a.com:80", "a.com"],
    ["a.com:http", "a.com"],
    ["a.com:", "a.com"],
    ["a.com", "a.com"],
    ["[::1]:80", "[::1]"],
    ["[::1]", "[::1]"],
    ["a.com:80:80", "a.com:80"],
    ["b.com:80", undefined],
  ];
  for (const [authority, domain] of cases) assert.equal(matchVirtualHost(hosts, authority)?.name, domain, authority);
});

test("virtual hosts: the same as trying every domain", () => {
  const label = fc.constantFrom("a", "b", ".", "-", "A", "*", ":80");
  const text = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join(""));
  fc.assert(
    fc.property(fc.uniqueArray(text.map((domain) => domain.toLowerCase())), text, (domains, authority) => {
      const hosts = config(domains.map((domain) => virtualHost([domain])));
      assert.equal(matchVirtualHost(hosts, authority)?.name, bestDomain(domains, authority.toLowerCase()));
    }),
    { numRuns: 2000 },
  );
});

function bestDomain(domains: readonly string[], host: string): string | undefined {
  const rank = (domain: string): number => {
    if (domain === "*") return 1;
    if (domain.startsWith("*"))
      return host.length >= domain.length && host.endsWith(domain.slice(1)) ? 2000 + domain.length : 0;
    if (domain.endsWith("*"))
      return host.length >= domain.length && host.startsWith(domain.slice(0, -1)) ? 1000 + domain.length : 0;
    return domain === host ? 3000 : 0;
  };
  return domains.reduce<string | undefined>(
    (best, domain) => (rank(domain) > (best === undefined ? 0 : rank(best)) ? domain : best),
    undefined,
  );
}

test("paths", () => {
  const routes = [
    route("prefix /", path("prefix", "/")),
    route("prefix ''", path("prefix", "")),
    route("prefix /api", path("prefix", "/api")),
    route("prefix /API any case", path("prefix", "/API", false)),
    route("path /api", path("path", "/api")),
    route("path /Api any case", path("path", "/Api", false)),
    route("path /api?x", path("path", "/api?x")),
    route("separated /api", path("pathSeparatedPrefix", "/api")),
    route("separated /aPi any case", path("pathSeparatedPrefix", "/aPi", false)),
  ];
  const everything = ["prefix /", "prefix ''"];
  const anyCase = "prefix /API any case";
  const cases: [path: string, names: string[]][] = [
    ["/", everything],
    ["/v2/api", everything],
    [
      "/api",
      [
        ...everything,
        "prefix /api",
        anyCase,
        "path /api",
        "path /Api any case",
        "separated /api",
        "separated /aPi any case",
      ],
    ],
    [
      "/api?x",
      [
        ...everything,
        "prefix /api",
        anyCase,
        "path /api",
        "path /Api any case",
        "separated /api",
        "separated /aPi any case",
      ],
    ],
    [
      "/api#x?y",
      [
        ...everything,
        "prefix /api",
        anyCase,
        "path /api",
        "path /Api any case",
        "separated /api",
        "separated /aPi any case",
      ],
    ],
    ["/API", [...everything, anyCase, "path /Api any case", "separated /aPi any case"]],
    ["/apix", [...everything, "prefix /api", anyCase]],
    ["/api/", [...everything, "prefix /api", anyCase, "separated /api", "separated /aPi any case"]],
    ["/Api/v1?q=/", [...everything, anyCase, "separated /aPi any case"]],
    ["/x?/api", everything],
    ["*", ["prefix ''"]],
  ];
  for (const [path, names] of cases) assert.deepEqual(takers(routes, get(path)), names, path);
});

test("the first route that matches wins, and its index is told", () => {
  const routes = [route("a", path("path", "/a")), route("all", path("prefix", "/")), route("b", path("path", "/b"))];
  const hosts = config([virtualHost(["h"], routes)]);
  assert.deepEqual(matchRoute(hosts, get("/b")), {
    virtualHost: hosts.virtualHosts[0],
    route: routes[1],
    routeIndex: 1,
  });
  assert.deepEqual(matchRoute(hosts, get("nowhere")), { none: "no_route" });
  assert.deepEqual(matchRoute(hosts, get("/a", [], "CONNECT")), { none: "no_route" });
  assert.deepEqual(matchRoute(hosts, { ...get("/a"), authority: "other" }), { none: "no_virtual_host" });
});

test("headers", () => {
  const header = (text: string, value: HeaderMatch["value"], name = "x") => [
    route(text, path("prefix", ""), [{ name, invert: false, value }]),
    route(`not ${text}`, path("prefix", ""), [{ name, invert: true, value }]),
  ];
  const routes = [
    ...header("present", { kind: "present", present: true }),
    ...header("absent", { kind: "present", present: false }),
    ...header("=a,b", { kind: "exact", value: "a,b", ignoreCase: false }),
    ...header("=''", { kind: "exact", value: "", ignoreCase: false }),
    ...header("a*", { kind: "prefix", value: "a", ignoreCase: false }),
    ...header("*b", { kind: "suffix", value: "b", ignoreCase: false }),
    ...header("*,*", { kind: "contains", value: ",", ignoreCase: false }),
    ...header("=A,B any case", { kind: "exact", value: "A,B", ignoreCase: true }),
  ];
  const cases: [headers: [string, string][], names: string[]][] = [
    [[], ["not present", "absent"]],
    [[["y", "a"]], ["not present", "absent"]],
    [[["X", "a,b"]], ["present", "not absent", "=a,b", "not =''", "a*", "*b", "*,*", "=A,B any case"]],
    [
      [
        ["x", "a"],
        ["y", "-"],
        ["X", "b"],
      ],
      ["present", "not absent", "=a,b", "not =''", "a*", "*b", "*,*", "=A,B any case"],
    ],
    [[["x", "A,b"]], ["present", "not absent", "not =a,b", "not =''", "not a*", "*b", "*,*", "=A,B any case"]],
    [[["x", ""]], ["present", "not absent", "not =a,b", "=''", "not a*", "not *b", "not *,*", "not =A,B any case"]],
    [[["x", "a, b"]], ["present", "not absent", "not =a,b", "not =''", "a*", "*b", "*,*", "not =A,B any case"]],
  ];
  for (const [headers, names] of cases)
    assert.deepEqual(takers(routes, get("/", headers)), names, JSON.stringify(headers));

  const pseudo = [
    ...header("GET", { kind: "exact", value: "GET", ignoreCase: false }, ":method"),
    ...header("host h", { kind: "exact", value: "h", ignoreCase: false }, ":authority"),
    ...header("query", { kind: "contains", value: "?q", ignoreCase: false }, ":path"),
    ...header("http", { kind: "exact", value: "http", ignoreCase: false }, ":scheme"),
  ];
  assert.deepEqual(takers(pseudo, get("/a?q")), ["GET", "host h", "query", "http"]);
});

test("headers given several times, each by itself", () => {
  const rule = (value: string, name = "x", invert = false): Route =>
    route(`${invert ? "not " : ""}${name} ${value}`, path("prefix", ""), [
      { name, invert, value: { kind: "exact", value, ignoreCase: false } },
    ]);
  const routes = [
    rule("a"),
    rule("b"),
    rule("a,b"),
    rule("a", "x", true),
    rule("c", "x", true),
    rule("a", "accept"),
    rule("a,b", "accept"),
  ];
  const twice = get("/", [
    ["x", "a"],
    ["Accept", "a"],
    ["X", "b"],
    ["accept", "b"],
  ]);
  const found = routes.filter((route) => "route" in matchRoute(config([virtualHost(["*"], [route])]), twice, "each"));
  assert.deepEqual(
    found.map((route) => route.name),
    ["x a", "x b", "not x c", "accept a,b"],
  );
  // Of a header that Envoy keeps one line of, empty lines leave no trace; of others they do.
  const empty = get("/", [
    ["accept", ""],
    ["accept", "a"],
    ["accept", ""],
    ["x", ""],
    ["x", "a"],
  ]);
  assert.deepEqual(takers([rule("a", "accept"), rule("a"), rule(",a")], empty), ["accept a", "x ,a"]);
});

const anything = path("prefix", "");
const regex = (pattern: string) => ({ kind: "regex", pattern }) as const;

test("paths by regular expression: all of the path, without the query", () => {
  const routes = ["/a", "/[ab]+", "/.*", "", "(?i)/A", ".*\\?.*", "/a|/b", "/\xe4"].map((pattern) =>
    route(pattern, regex(pattern)),
  );
  const cases: [path: string, names: string[]][] = [
    ["/a", ["/a", "/[ab]+", "/.*", "(?i)/A", "/a|/b"]],
    ["/a?b", ["/a", "/[ab]+", "/.*", "(?i)/A", "/a|/b"]],
    ["/A", ["/.*", "(?i)/A"]],
    ["/ab", ["/[ab]+", "/.*"]],
    ["/b", ["/[ab]+", "/.*", "/a|/b"]],
    ["/abc", ["/.*"]],
    ["*", []],
    // Bytes of UTF-8, as a head holds them.
    ["/\xc3\xa4", ["/.*", "/\xe4"]],
  ];
  for (const [path, names] of cases) assert.deepEqual(takers(routes, get(path)), names, path);
});

test("headers: regular expressions, ranges, and missing ones that count as empty", () => {
  const header = (text: string, value: HeaderMatch["value"], missingIsEmpty = false) => [
    route(text, anything, [{ name: "x", invert: false, missingIsEmpty, value }]),
    route(`not ${text}`, anything, [{ name: "x", invert: true, missingIsEmpty, value }]),
  ];
  const routes = [
    ...header("a+", regex("a+")),
    ...header("-1..3", { kind: "range", start: -1, end: 3 }),
    ...header("a* or missing", regex("a*"), true),
    ...header("0.. or missing", { kind: "range", start: 0, end: 5 }, true),
    ...header("present or missing", { kind: "present", present: true }, true),
    ...header("absent or missing", { kind: "present", present: false }, true),
  ];
  const others = ["present or missing", "not absent or missing"];
  const cases: [value: string | undefined, names: string[]][] = [
    [undefined, ["a* or missing", "not 0.. or missing", ...others]],
    ["", ["not a+", "not -1..3", "a* or missing", "not 0.. or missing", ...others]],
    ["aa", ["a+", "not -1..3", "a* or missing", "not 0.. or missing", ...others]],
    ["aab", ["not a+", "not -1..3", "not a* or missing", "not 0.. or missing", ...others]],
    ["-1", ["not a+", "-1..3", "not a* or missing", "not 0.. or missing", ...others]],
    ["+2", ["not a+", "-1..3", "not a* or missing", "0.. or missing", ...others]],
    ["3", ["not a+", "not -1..3", "not a* or missing", "0.. or missing", ...others]],
    [" 2\t", ["not a+", "-1..3", "not a* or missing", "0.. or missing", ...others]],
    ["2.0", ["not a+", "not -1..3", "not a* or missing", "not 0.. or missing", ...others]],
    ["0x1", ["not a+", "not -1..3", "not a* or missing", "not 0.. or missing", ...others]],
    // 2^64 + 1 is too large a number, not 1.
    ["18446744073709551617", ["not a+", "not -1..3", "not a* or missing", "not 0.. or missing", ...others]],
  ];
  for (const [value, names] of cases)
    assert.deepEqual(takers(routes, get("/", value === undefined ? [] : [["X", value]])), names, value);
});

test("headers: what is asked for is compared as the bytes that a head holds", () => {
  const asking = (value: string, ignoreCase: boolean): Route =>
    route(`${value} ${ignoreCase}`, anything, [
      { name: "x", invert: false, value: { kind: "exact", value, ignoreCase } },
    ]);
  const routes = [asking("aü", false), asking("Aü", true), asking("aÜ", true), asking("a\xc3\xbc", false)];
  assert.deepEqual(takers(routes, get("/", [["x", "a\xc3\xbc"]])), ["aü false", "Aü true"]);
});

test("query parameters: the first of that name, as it is written", () => {
  const asking = (name: string, query: readonly QueryMatch[]): Route => ({ ...route(name, anything), query });
  const exact = (value: string) => ({ kind: "exact", value, ignoreCase: false }) as const;
  const routes = [
    asking("a", [{ name: "a", value: { kind: "present", present: true } }]),
    asking("no a", [{ name: "a", value: { kind: "present", present: false } }]),
    asking("a=1", [{ name: "a", value: exact("1") }]),
    asking("a=", [{ name: "a", value: exact("") }]),
    asking("a=1+", [{ name: "a", value: regex("1+") }]),
    asking("a=X", [{ name: "a", value: { kind: "exact", value: "X", ignoreCase: true } }]),
    asking("a=1&b", [
      { name: "a", value: exact("1") },
      { name: "b", value: { kind: "present", present: true } },
    ]),
    asking("%61", [{ name: "%61", value: { kind: "present", present: true } }]),
  ];
  const cases: [path: string, names: string[]][] = [
    ["/", ["no a"]],
    ["/a=1", ["no a"]],
    ["/?", ["no a"]],
    ["/?a", ["a", "a="]],
    ["/?a=", ["a", "a="]],
    ["/?a=1", ["a", "a=1", "a=1+"]],
    ["/?a=1&a=2", ["a", "a=1", "a=1+"]],
    ["/?a=2&a=1", ["a"]],
    ["/?b&a=1", ["a", "a=1", "a=1+", "a=1&b"]],
    ["/?b=a=1&&a=11", ["a", "a=1+"]],
    ["/?a=%31", ["a"]],
    ["/?%61=1", ["no a", "%61"]],
    ["/?A=1", ["no a"]],
    ["/?a=x", ["a", "a=X"]],
    ["/?a=1?b", ["a"]],
  ];
  for (const [path, names] of cases) assert.deepEqual(takers(routes, get(path)), names, path);
});

test("fractions take what chance gives them, and nothing else", () => {
  const some = config([
    virtualHost(
      ["*"],
      [{ ...route("some", anything), fraction: { share: 25, outOf: 100 } }, route("others", anything)],
    ),
  ]);
  const taken = Array.from({ length: 200 }, (_, chance) => {
    const match = matchRoute(some, get("/"), "joined", chance);
    return "route" in match && match.route.name === "some";
  });
  assert.deepEqual(
    taken.flatMap((is, chance) => (is ? [chance] : [])),
    [...Array(25).keys(), ...Array.from({ length: 25 }, (_, i) => 100 + i)],
  );
});

test("gRPC is told by its content-type", () => {
  const grpc: Route = { ...route("grpc", anything), grpc: true };
  const takes = (type: string) => takers([grpc], get("/", [["Content-Type", type]])).length === 1;
  for (const type of ["application/grpc", "application/grpc+proto", "application/grpc+"]) assert.ok(takes(type), type);
  for (const type of ["application/grpc-web", "application/grpc;a=b", "Application/grpc", "text/plain", ""])
    assert.ok(!takes(type), type);
  assert.deepEqual(takers([grpc], get("/")), []);
});

test("weights share chance exactly", () => {
  const action: ForwardAction = {
    kind: "forward",
    clusters: [
      { name: "none", weight: 0 },
      { name: "a", weight: 1 },
      { header: "X-Cluster".toLowerCase(), weight: 3 },
    ],
    timeoutMs: 0,
  };
  const head = get("/", [
    ["X-Cluster", "b"],
    ["x-cluster", "c"],
  ]);
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5].map((chance) => clusterName(pickCluster(action, chance), head)),
    ["a", "b", "b", "b", "a", "b"],
  );
  assert.equal(clusterName(pickCluster(action, 1), get("/")), "");
});

test("1,000 virtual hosts of 1,000 routes are fast enough to test with", () => {
  const routes = Array.from({ length: 1000 }, (_, i) => route(`r${i}`, path("path", `/r/${i}`)));
  const hosts = config(Array.from({ length: 1000 }, (_, i) => virtualHost([`h${i}.com`, `*.h${i}.com`], routes)));
  const started = performance.now();
  for (let i = 0; i < 1000; i++) {
    const match = matchRoute(hosts, { ...get(`/r/${i}?x`), authority: `a.H${999 - i}.com` });
    assert.ok("route" in match && match.routeIndex === i && match.virtualHost === hosts.virtualHosts[999 - i]);
  }
  assert.ok(performance.now() - started < 20_000);
});
