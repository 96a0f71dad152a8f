import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { formatRejections, isBootstrap, parseRouteConfig } from "../../src/envoy/parse.ts";
import { parseRouteTests } from "../../src/envoy/route-tests.ts";
import type { RouteConfig } from "../../src/model/config.ts";
import type { RouteTest } from "../../src/model/route-test.ts";
import { type Checked, checkRoutes, type ReportOptions, reportChecks } from "../../src/route/check.ts";
import { xlbFromSource } from "./source.ts";

const ROUTES = `
virtual_hosts:
- name: shop
  domains: [shop.example, "*.shop.example"]
  routes:
  - name: beta
    match: { prefix: /, headers: [{ name: x-beta, string_match: { exact: "1" } }] }
    route: { cluster: beta }
  - match: { path: /exact, case_sensitive: false }
    route: { cluster: exact }
  - name: split
    match: { prefix: /split }
    route: { weighted_clusters: { clusters: [{ name: one, weight: 30 }, { name: two, weight: 70 }] } }
`;

function routesOf(text: string): RouteConfig {
  const parsed = parseRouteConfig(text, "routes.yaml");
  assert.ok(parsed.ok, parsed.ok ? "" : formatRejections(parsed.rejections, "routes.yaml").join("\n"));
  return parsed.value;
}

function testsOf(text: string): RouteTest[] {
  const parsed = parseRouteTests(text, "tests.yaml");
  assert.ok(parsed.ok, parsed.ok ? "" : formatRejections(parsed.rejections, "tests.yaml").join("\n"));
  return parsed.value;
}

/** One test of `/PATH` at shop.example. */
const one = (path: string, validate: string, input = "") =>
  `{ test_name: t, input: { authority: shop.example, path: ${path}, method: GET${input && `, ${input}`} }, ` +
  `validate: ${validate} }`;
const some = (...tests: string[]) => testsOf(`tests: [${tests.join(", ")}]`);

/** What is printed of one test that fails. */
const failures = (path: string, validate: string, input = ""): readonly string[] =>
  checkRoutes(routesOf(ROUTES), some(one(path, validate, input))).results[0]!.failures;

const QUIET: ReportOptions = {
  details: false,
  onlyShowFailures: false,
  failUnder: 0,
  covall: false,
  detailedCoverage: false,
};

describe("route-check, judged", () => {
  test("cluster, virtual host, path and host as they would go on", () => {
    const all = "cluster_name: exact, virtual_host_name: shop, path_rewrite: /Exact?a=1, host_rewrite: shop.example";
    assert.deepEqual(failures('"/Exact?a=1"', `{ ${all}, path_redirect: "", virtual_cluster_name: "" }`), []);
  });

  test("each expectation that is not met is a line, in the order of Envoy's tool", () => {
    const expected = "{ code_redirect: 301, path_redirect: x, virtual_host_name: a, virtual_cluster_name: b }";
    assert.deepEqual(failures("/exact", expected), [
      "expected: [b], actual: [], test type: virtual_cluster_name",
      "expected: [a], actual: [shop], test type: virtual_host_name",
      "expected: [x], actual: [], test type: path_redirect",
      "expected: [301], actual: [0], test type: code_redirect",
    ]);
  });

  test("where no route matches, there is nothing", () => {
    const nothing = '{ cluster_name: "", virtual_host_name: "", path_rewrite: "", host_rewrite: "", code_redirect: 0 }';
    assert.deepEqual(failures("/none", nothing), []);
    assert.deepEqual(failures("/none", "{ cluster_name: a }"), ["expected: [a], actual: [], test type: cluster_name"]);
  });

  test("random_value picks among weighted clusters", () => {
    const picked = (value: number) =>
      failures("/split", "{ cluster_name: one }", `random_value: ${value}`).length === 0;
    assert.deepEqual([0, 29, 30, 99, 100, 129, 130].map(picked), [true, true, false, false, true, true, false]);
  });

  test("additional request headers are matched", () => {
    const beta = "additional_request_headers: [{ key: X-Beta, value: '1' }]";
    assert.deepEqual(failures("/exact", "{ cluster_name: beta }", beta), []);
  });

  test("ssl is the scheme that rules see", () => {
    const text = ROUTES.replace('x-beta, string_match: { exact: "1" }', '":scheme", string_match: { exact: https }');
    const results = (input: string) =>
      checkRoutes(routesOf(text), some(one("/", "{ cluster_name: beta }", input))).results[0]!.failures.length;
    assert.deepEqual([results("ssl: true"), results("ssl: false")], [0, 1]);
  });

  test("headers of the request that goes on, and of the response", () => {
    const input =
      "ssl: true, internal: true, additional_request_headers: [{ key: A, value: 'x' }, { key: a, value: 'y' }], " +
      "additional_response_headers: [{ key: Content-Type, value: text/plain }]";
    const met = [
      "{ name: a, string_match: { exact: 'y' } }",
      "{ name: x-forwarded-proto, string_match: { exact: https } }",
      "{ name: x-envoy-internal, present_match: true }",
      "{ name: ':path', string_match: { suffix: exact } }",
      "{ name: host, string_match: { prefix: shop } }",
      "{ name: none, invert_match: true, present_match: true }",
    ];
    assert.deepEqual(failures("/exact", `{ request_header_matches: [${met.join(", ")}] }`, input), []);
    const missed = [
      "{ name: A, string_match: { exact: z } }",
      "{ name: a, string_match: { prefix: z } }",
      "{ name: a, exact_match: z }",
      "{ name: none }",
      "{ name: a, invert_match: true, present_match: true }",
      "{ name: a, invert_match: true, string_match: { exact: x } }",
      "{ name: none, string_match: { contains: z } }",
    ];
    assert.deepEqual(failures("/exact", `{ request_header_matches: [${missed.join(", ")}] }`, input), [
      "expected: [A: z], actual: [A: x], test type: request_header_matches.string_match.exact",
      "actual: [a: x], test type: request_header_matches.string_match.prefix",
      "actual: [a: x], test type: request_header_matches.exact_match",
      "expected: [has(none):true], actual: [has(none):false], test type: request_header_matches.present_match",
      "expected: [has(a):false], actual: [has(a):true], test type: request_header_matches.present_match",
      "expected: [a: x], actual: NOT [a: x], test type: request_header_matches.string_match.exact",
      "actual: [none: NULL], test type: request_header_matches.string_match.contains",
    ]);
    const response =
      "{ response_header_matches: [{ name: content-type, string_match: { exact: a } }], " +
      "response_header_fields: [{ key: content-type, value: text/plain }, { key: none, value: b }] }";
    assert.deepEqual(failures("/exact", response, input), [
      "expected: [content-type: a], actual: [content-type: text/plain], " +
        "test type: response_header_matches.string_match.exact",
      "expected: [b], actual: [], test type: response_header_fields",
    ]);
  });
});

describe("route-check, coverage", () => {
  const reached = (...tests: string[]) => {
    const { routes, aspects, untested } = checkRoutes(routesOf(ROUTES), some(...tests)).coverage;
    return [routes, aspects, untested.map(({ route }) => route.name)];
  };

  test("each cluster of a weighted route counts as a route", () => {
    assert.deepEqual(reached(one("/none", '{ cluster_name: "" }')), [0, 0, ["beta", "shop/1", "split"]]);
    assert.deepEqual(reached(one("/split", "{ cluster_name: one }")), [25, 5, ["beta", "shop/1"]]);
    const both = [one("/split", "{ cluster_name: one }"), one("/split", "{ cluster_name: two }", "random_value: 30")];
    assert.deepEqual(reached(...both), [50, 10, ["beta", "shop/1"]]);
  });

  test("what failed, and what was asked of headers, does not count", () => {
    assert.deepEqual(reached(one("/exact", "{ cluster_name: other }"))[0], 0);
    assert.deepEqual(reached(one("/exact", "{ request_header_matches: [{ name: host }] }"))[0], 0);
    assert.deepEqual(reached(one("/exact", '{ path_redirect: "" }'))[0], 0);
  });

  test("the comprehensive count is by all that can be asked", () => {
    const all =
      '{ cluster_name: exact, virtual_cluster_name: "", virtual_host_name: shop, path_rewrite: /exact, ' +
      "host_rewrite: shop.example }";
    assert.deepEqual(reached(one("/exact", all)).slice(0, 2), [25, 25]);
    assert.deepEqual(reached(one("/exact", "{ cluster_name: exact, virtual_host_name: shop }"))[1], 10);
  });

  test("without routes nothing lacks a test", () => {
    const { coverage } = checkRoutes(routesOf("name: empty"), some(one("/", "{}")));
    assert.deepEqual(coverage, { routes: 100, aspects: 100, untested: [] });
  });
});

describe("route-check, reported", () => {
  const passed: Checked = { name: "good", failures: [] };
  const failed: Checked = { name: "bad", failures: ["line"] };
  const covered = checkRoutes(routesOf(ROUTES), some(one("/split", "{ cluster_name: one }"))).coverage;
  const print = (results: Checked[], options: Partial<ReportOptions>) => {
    const report = reportChecks(results, covered, { ...QUIET, ...options });
    return [report.passed, ...report.lines.map(({ text, failed }) => `${failed ? "!" : ""}${text}`)];
  };

  test("failures need --details or --only-show-failures to be seen, and there is no coverage then", () => {
    assert.deepEqual(print([passed, failed], {}), [false, '!xlb: 1 of 2 tests failed (try "--details")']);
    const summary = "!xlb: 1 of 2 tests failed";
    assert.deepEqual(print([passed, failed], { details: true }), [false, "good", "!bad", "!line", summary]);
    const only = [false, "!bad", "!line", summary];
    assert.deepEqual(print([passed, failed], { onlyShowFailures: true }), only);
    assert.deepEqual(print([passed, failed], { onlyShowFailures: true, details: true }), only);
  });

  test("--fail-under, --covall and --detailed-coverage", () => {
    const now = "Current route coverage: 25%";
    assert.deepEqual(print([passed], {}), [true, now]);
    assert.deepEqual(print([passed], { failUnder: 25 }), [true, now]);
    assert.deepEqual(print([passed], { failUnder: 25.5 }), [false, now, "!Failed to meet coverage requirement: 25.5%"]);
    assert.deepEqual(print([passed], { detailedCoverage: true }), [
      true,
      "Missing test for host: shop, route name: beta",
      "Missing test for host: shop, route name: shop/1",
      now,
    ]);
    assert.deepEqual(print([passed], { covall: true, detailedCoverage: true }), [
      true,
      'Missing test for host: shop, route: prefix: "/", headers: "x-beta"',
      'Missing test for host: shop, route: path: "/exact", case_sensitive: false',
      "Current route coverage: 5%",
    ]);
  });
});

describe("route-check, read", () => {
  const problems = (text: string, name = "t.yaml") => {
    const parsed = parseRouteTests(text, name);
    return parsed.ok ? [] : formatRejections(parsed.rejections, name);
  };

  test("both spellings, and a method may be left out", () => {
    const text = '{ "tests": [{ "testName": "a", "input": { "authority": "h", "path": "/" }, "validate": {} }] }';
    assert.deepEqual(testsOf(text)[0]?.request.method, "GET");
  });

  test("names what is wrong with its place", () => {
    const input = "{ authority: h, path: /, method: GO, additional_request_headers: [{ key: Host, value: b }] }";
    const lines = problems(`tests:\n- { input: ${input}, validate: { header_fields: [] } }\n- { test_name: b }`);
    assert.deepEqual(
      lines.map((line) => line.replace(/^t\.yaml:\d+:\d+: /, "")),
      [
        "tests[0].test_name: is required",
        "tests[0].input.method: must have at least 3 characters (write it as GET or POST)",
        "tests[0].input.additional_request_headers[0].key: Host has a field of its own (write it as input.authority)",
        "tests[0].validate.header_fields: ValidationAssert has no such field (remove it)",
        "tests[1].input: is required",
        "tests[1].validate: is required",
      ],
    );
    assert.match(problems("{}")[0] ?? "", /tests: is required/);
    assert.match(problems("")[0] ?? "", /is empty \(write at least tests\)/);
    assert.match(problems("tests { }", "t.pb_text")[0] ?? "", /write the tests in YAML or JSON/);
  });

  test("a route configuration is told from a bootstrap", () => {
    assert.deepEqual(
      ["virtual_hosts: []", "name: a", "static_resources: {}", '{ "staticResources": {} }', "- a", ""].map(isBootstrap),
      [false, false, true, true, false, false],
    );
  });
});

describe("xlb route-check", () => {
  const folder = mkdtempSync(join(tmpdir(), "xlb-route-check-"));
  after(() => rmSync(folder, { recursive: true }));
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const routes = write("routes.yaml", ROUTES);
  const tests = write("tests.yaml", `tests:\n- ${one("/exact", "{ cluster_name: exact }")}\n`);

  test("prints the coverage, and fails below what is asked for", () => {
    const good = xlbFromSource("route-check", "-c", routes, "-t", tests, "-d", "--disable-deprecation-check", "x");
    assert.deepEqual([good.status, good.stdout], [0, "t\nCurrent route coverage: 25%\n"], good.stderr);
    assert.equal(good.stderr, "xlb: ignored: x\n");
    const bad = xlbFromSource("route-check", "-c", routes, "-t", tests, "-f", "26");
    assert.deepEqual([bad.status, bad.stdout], [1, "Current route coverage: 25%\n"]);
    assert.equal(bad.stderr, "Failed to meet coverage requirement: 26%\n");
  });

  test("failures go to stderr, with status 1", () => {
    const input = { authority: "a.shop.example", path: "/exact", method: "GET" };
    const failing = { test_name: "w", input, validate: { cluster_name: "x" } };
    const wrong = write("wrong.json", JSON.stringify({ tests: [failing] }));
    const run = xlbFromSource("route-check", "-c", routes, "-t", tests, "-t", wrong, "--only-show-failures");
    assert.deepEqual([run.status, run.stdout], [1, ""]);
    assert.equal(run.stderr, "w\nexpected: [x], actual: [exact], test type: cluster_name\nxlb: 1 of 2 tests failed\n");
  });

  test("what the reference does not support is refused by its path", () => {
    const clusters = write(
      "clusters.yaml",
      "virtual_hosts: [{ name: v, domains: ['*'], require_tls: ALL, routes: [] }]\n",
    );
    const run = xlbFromSource("route-check", "-c", clusters, "-t", tests);
    assert.deepEqual([run.status, run.stdout], [1, ""]);
    assert.match(run.stderr, /clusters\.yaml:1:\d+: virtual_hosts\[0\].require_tls: is not supported yet/);
  });

  test("wrong usage is status 2", () => {
    assert.equal(xlbFromSource("route-check", "-c", routes).status, 2);
    assert.equal(xlbFromSource("route-check", "-c", routes, "-t", tests, "-f", "x").status, 2);
  });

  test("takes the routes of a bootstrap's listener", () => {
    const bootstrap = write("bootstrap.yaml", bootstrapWith(ROUTES));
    assert.equal(xlbFromSource("route-check", "-c", bootstrap, "-t", tests, "--listener", "b").status, 0);
    const many = xlbFromSource("route-check", "-c", bootstrap, "-t", tests);
    assert.deepEqual(
      [many.status, many.stderr],
      [1, `xlb: ${bootstrap}: the configuration has 2 listeners: choose by --listener, of "a", "b"\n`],
    );
    assert.match(
      xlbFromSource("route-check", "-c", routes, "-t", tests, "--listener", "b").stderr,
      /leave --listener out/,
    );
  });
});

/** Listeners a and b; b has the routes. */
function bootstrapWith(routes: string): string {
  const indented = routes.replaceAll("\n", "\n            ");
  const listener = (name: string, ip: string, config: string) => `
  - name: ${name}
    address: { socket_address: { address: ${ip}, port_value: 80 } }
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: a
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:${config}`;
  const listeners = `${listener("a", "10.0.0.1", " { name: a }")}${listener("b", "10.0.0.2", indented)}`;
  return `static_resources:\n  listeners:${listeners}\n            validate_clusters: false\n`;
}
