import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { type Explanation, explainRequest, formatExplanation, readQuestion } from "../../src/daemon/explain-request.ts";
import { findListener } from "../../src/daemon/listener.ts";
import { EVERYTHING } from "../../src/model/chains.ts";
import type { Cluster, Config, Endpoint, HeaderEdits, HttpChain, Listener, Route } from "../../src/model/config.ts";
import { reasonWords } from "../../src/tables/layout.gen.ts";
import { xlbFromSource } from "./source.ts";

const endpoint = (last: number, weight = 1, health: Endpoint["health"] = "healthy"): Endpoint => ({
  address: { ip: `10.0.0.${last}`, port: 80 },
  weight,
  health,
});
const cluster = (name: string, endpoints: Endpoint[], policy: Cluster["policy"] = { kind: "roundRobin" }): Cluster => ({
  name,
  policy,
  connectTimeoutMs: 5_000,
  maxConnections: 1_024,
  endpoints,
});
/** A value that the hook has no part of a request for. */
const OF_REQUEST: HeaderEdits = {
  remove: [],
  add: [{ name: "x", value: [{ kind: "request", name: ":path" }], action: "append", keepEmpty: false }],
};

const route = (name: string, prefix: string, ...clusters: [string, number][]): Route => ({
  name,
  path: { kind: "prefix", value: prefix, caseSensitive: true },
  headers: [],
  action: { kind: "forward", clusters: clusters.map(([name, weight]) => ({ name, weight })), timeoutMs: 0 },
});
const beta: Route = {
  ...route("beta", "/", ["fair", 1]),
  headers: [{ name: "x-beta", invert: false, value: { kind: "exact", value: "1", ignoreCase: true } }],
};
const chain: HttpChain = {
  kind: "http",
  listener: "shop",
  label: "filter_chains[0]",
  match: EVERYTHING,
  statPrefix: "shop",
  http: {
    acceptHttp10: false,
    defaultHostForHttp10: undefined,
    maxRequestHeadersKb: 60,
    maxHeadersCount: 100,
    upgrades: ["websocket"],
  },
  routes: {
    name: "r",
    ignorePortInHostMatching: false,
    virtualHosts: [
      {
        name: "main",
        domains: ["shop", "*.shop"],
        routes: [
          beta,
          route("split", "/split", ["fair", 3], ["gone", 1], ["never", 0]),
          route("sick", "/sick", ["sick", 1]),
          route("spill", "/spill", ["spill", 1]),
          route("gone", "/gone", ["gone", 1]),
          route("least", "/least", ["least", 1]),
        ],
      },
      {
        name: "slow",
        domains: ["slow"],
        routes: [
          { ...route("asks", "/q", ["fair", 1]), fraction: { share: 1, outOf: 2 } },
          { ...route("edits", "/e", ["fair", 1]), responseEdits: OF_REQUEST },
          route("plain", "/", ["fair", 1]),
        ],
      },
      {
        name: "foreign",
        domains: ["*.slow", "ä"],
        routes: [],
      },
    ],
  },
};
const listener: Listener = { name: "shop", address: { ip: "10.9.0.1", port: 80 }, chains: [chain] };
const config: Config = {
  listeners: [listener],
  clusters: [
    cluster("fair", [endpoint(1, 3), endpoint(2)]),
    cluster("never", []),
    cluster("sick", []),
    cluster("spill", [endpoint(1), endpoint(2, 1, "degraded"), endpoint(3, 1, "degraded")]),
    cluster("least", [endpoint(1), endpoint(2)], { kind: "leastRequest", choiceCount: 2 }),
  ],
};

function explain(request: string, ...headers: string[]): Explanation {
  const asked = readQuestion(request, headers);
  assert.ok(!("problem" in asked), JSON.stringify(asked));
  return explainRequest(config, listener, asked);
}

const BETA = "X-Beta: 1";

describe("explain, the way of a request", () => {
  test("virtual host, routes passed over, route, cluster and endpoints", () => {
    assert.deepEqual(explain("GET http://a.shop/least?q=1"), {
      listener: { name: "shop", address: "10.9.0.1:80" },
      virtualHost: { name: "main", domain: "*.shop" },
      passedOver: [
        { route: "beta", why: 'header x-beta must be "1" in any case, but is not there' },
        { route: "split", why: 'path "/least" is not one that begins with "/split"' },
        { route: "sick", why: 'path "/least" is not one that begins with "/sick"' },
        { route: "spill", why: 'path "/least" is not one that begins with "/spill"' },
        { route: "gone", why: 'path "/least" is not one that begins with "/gone"' },
      ],
      route: { name: "least", matches: 'path begins with "/least"' },
      clusters: [
        {
          name: "least",
          percent: 100,
          policy: "LEAST_REQUEST, the one with fewer requests of 2 drawn",
          endpoints: [
            { address: "10.0.0.1:80", health: "healthy", weight: 1 },
            { address: "10.0.0.2:80", health: "healthy", weight: 1 },
          ],
        },
      ],
      servedBy: { path: "kernel path" },
    });
  });

  test("the values of a header that did not match", () => {
    const { passedOver } = explain("http://shop/gone", "x-beta: 2", "X-Beta: 3");
    assert.equal(passedOver[0]?.why, 'header x-beta must be "1" in any case, but is "2" and "3"');
  });

  test("weighted clusters: their odds, and what becomes of one that is not there", () => {
    const { clusters, servedBy } = explain("GET http://shop/split");
    assert.deepEqual(
      clusters.map(({ name, percent, answer, declined }) => [name, percent, answer?.status, declined?.reason]),
      [
        ["fair", 75, undefined, undefined],
        ["gone", 25, 503, "no_cluster"],
        ["never", 0, 503, "no_endpoint"],
      ],
    );
    assert.deepEqual(
      clusters[0]?.endpoints.map(({ percent }) => percent),
      [75, 25],
    );
    assert.equal(servedBy.path, "kernel path");
  });

  test("a cluster without an endpoint to use takes the slow path, one that spills the kernel's", () => {
    assert.equal(explain("http://shop/sick").servedBy.declined?.reason, "no_endpoint");
    assert.equal(explain("http://shop/gone").servedBy.declined?.reason, "no_cluster");
    const { clusters, servedBy } = explain("http://shop/spill");
    assert.deepEqual(
      clusters[0]?.endpoints.map(({ percent }) => percent),
      [46, 27, 27],
    );
    assert.match(clusters[0]?.note ?? "", /54 % by priority 0 \(degraded endpoints/);
    assert.deepEqual([servedBy.path, clusters[0]?.declined], ["kernel path", undefined]);
  });

  test("no virtual host, no route", () => {
    const host = explain("http://shop:8080/");
    assert.equal(host.answer?.status, 404);
    assert.match(host.answer?.mend ?? "", /without its port it is virtual host main's/);
    assert.equal(host.servedBy.declined?.reason, "no_virtual_host");
    const none = explain("http://shop/none");
    assert.deepEqual([none.answer?.status, none.passedOver.length], [404, 6]);
    assert.equal(none.servedBy.declined?.reason, "no_route");
  });
});

describe("explain, who serves", () => {
  const long = "a".repeat(9_000);
  const cases: [reason: string | undefined, status: number | undefined, request: string, ...headers: string[]][] = [
    [undefined, undefined, "GET http://shop/", BETA],
    [undefined, undefined, "POST http://shop/", BETA, "Content-Length: 262144", "Connection: close"],
    ["expect", undefined, "POST http://shop/", BETA, "Expect: 100-continue"],
    ["upgrade", undefined, "http://shop/", BETA, "Upgrade: websocket"],
    ["connection_header", undefined, "http://shop/", BETA, "Connection: upgrade", "Upgrade: websocket"],
    ["connection_header", 403, "http://shop/", BETA, "Connection: upgrade", "Upgrade: other"],
    ["connection_header", undefined, "http://shop/", BETA, "TE: trailers"],
    ["not_http11", 426, "GET http://shop/ HTTP/1.0", BETA],
    ["head_too_large", undefined, "http://shop/", BETA, `A: ${long}`],
    ["head_too_large", 431, "http://shop/", BETA, `A: ${long.repeat(7)}`],
    ["head_too_large", 431, "http://shop/", ...Array.from({ length: 101 }, (_, i) => `A${i}: x`)],
    ["head_too_large", undefined, `http://shop/${"a".repeat(2_048)}`, BETA],
    ["body_too_large", undefined, "POST http://shop/", BETA, "Content-Length: 262145"],
    ["transfer_encoding", undefined, "POST http://shop/", BETA, "Transfer-Encoding: chunked"],
    ["transfer_encoding", 400, "POST http://shop/", "Transfer-Encoding: chunked", "Content-Length: 1"],
    ["multi_valued_header", undefined, "http://shop/", BETA, BETA],
    ["bad_request", undefined, "http://shop/", BETA, "A: ä"],
    ["bad_request", 400, "http://shop/", "Host: a", "Host: b"],
    ["bad_request", 400, "http://user@shop/", BETA],
    ["method", undefined, "TRACE http://shop/", BETA],
    ["method", 400, "NONE http://shop/", BETA],
    ["method", 404, "CONNECT shop:443", "Host: shop"],
    ["target_form", 404, "OPTIONS *", "Host: shop"],
    ["rules", 404, "http://very.slow/"],
    [undefined, undefined, "http://slow/"],
    ["route", undefined, "http://slow/q"],
    ["route", undefined, "http://slow/q?v=1"],
    ["route", undefined, "http://slow/e"],
  ];
  for (const [reason, status, request, ...headers] of cases) {
    test(`${request.slice(0, 40)} ${headers.join(", ").slice(0, 60)}: ${reason ?? "kernel path"}, ${status}`, () => {
      const { servedBy, answer } = explain(request, ...headers);
      assert.deepEqual([servedBy.declined?.reason, answer?.status], [reason, status], JSON.stringify(answer));
      assert.equal(servedBy.path, reason === undefined ? "kernel path" : "slow path");
      if (reason !== undefined) assert.ok(Object.values(reasonWords).includes(reason));
    });
  }
});

describe("explain, asked", () => {
  test("methods and versions may be left out, and a Host header wins over the URL", () => {
    assert.deepEqual(readQuestion("http://h:1?q#f", ["A:  b "]), {
      method: "GET",
      target: "/?q",
      version: "HTTP/1.1",
      headers: [
        ["Host", "h:1"],
        ["A", "b "],
      ],
    });
    assert.deepEqual(readQuestion("PUT /a HTTP/1.0", ["host: h"]), {
      method: "PUT",
      target: "/a",
      version: "HTTP/1.0",
      headers: [["host", "h"]],
    });
    const both = readQuestion("http://h/", ["Host: i"]);
    assert.deepEqual("headers" in both && both.headers, [["Host", "i"]]);
  });

  const problem = (request: string, ...headers: string[]) => {
    const asked = readQuestion(request, headers);
    return "problem" in asked ? asked.problem : undefined;
  };

  test("what is no request is told how to be one", () => {
    assert.match(problem("") ?? "", /write it as 'GET http:\/\/host\/path'/);
    assert.match(problem("GET http://h/ HTTP/1.1 x") ?? "", /write it as/);
    assert.match(problem("http://h/ HTTP/1.1") ?? "", /write it as/);
    assert.match(problem("https://h/") ?? "", /no TLS: write http:\/\//);
    assert.match(problem("GET /a") ?? "", /write http:\/\/host\/a, or add -H 'Host: host'/);
    assert.match(problem("http://h/", "no header") ?? "", /write 'name: value'/);
  });

  test("listeners by name, or the only one", () => {
    assert.equal(findListener(config, undefined), listener);
    assert.equal(findListener(config, "shop"), listener);
    assert.deepEqual(findListener(config, "shp"), {
      problem: 'no listener has the name "shp" (did you mean "shop"?)',
    });
    assert.deepEqual(findListener(config, "entirely-other"), {
      problem: 'no listener has the name "entirely-other" (there are "shop")',
    });
    assert.match(JSON.stringify(findListener({ listeners: [], clusters: [] }, undefined)), /has no listener/);
  });
});

test("explain, as text", () => {
  assert.equal(
    formatExplanation(explain("http://shop/split")),
    `listener      shop at 10.9.0.1:80
virtual host  main, by its domain "shop", exactly
passed over   route beta: header x-beta must be "1" in any case, but is not there
route         split: path begins with "/split"
cluster       fair, 75 % of the requests: ROUND_ROBIN, in turn by weight
                10.0.0.1:80, healthy, weight 3: 75 %
                10.0.0.2:80, healthy, weight 1: 25 %
              gone, 25 % of the requests
                503: there is no cluster gone (define it under static_resources.clusters)
              never, 0 % of the requests: ROUND_ROBIN, each in turn
                503: cluster never has no endpoint to use (look at its endpoints and their health_status)
served by     the kernel path, as far as request and rules say
              but for cluster gone the slow path (no_cluster): there is no cluster gone
              but for cluster never the slow path (no_endpoint): cluster never has no endpoint to use
`,
  );
});

describe("xlb explain", () => {
  const folder = mkdtempSync(join(tmpdir(), "xlb-explain-"));
  after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "xlb.yaml");
  writeFileSync(
    file,
    `static_resources:
  listeners:
  - name: shop
    address: { socket_address: { address: 10.9.0.1, port_value: 80 } }
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: shop
          route_config:
            virtual_hosts:
            - { name: v, domains: ["*"], routes: [{ name: r, match: { prefix: / }, route: { cluster: c } }] }
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: c
    load_assignment:
      cluster_name: c
      endpoints:
      - { lb_endpoints: [{ endpoint: { address: { socket_address: { address: 10.0.0.1, port_value: 80 } } } }] }
`,
  );

  test("prints text, or JSON", () => {
    const run = xlbFromSource("explain", "-c", file, "POST http://any/a", "-H", "Expect: 100-continue");
    assert.equal(run.stderr, "");
    assert.match(run.stdout, /^served by +the slow path \(expect\): it has Expect$/m);
    const json = xlbFromSource("explain", "-c", file, "--listener", "shop", "http://any/a", "--json");
    assert.deepEqual([json.status, JSON.parse(json.stdout).servedBy], [0, { path: "kernel path" }]);
  });

  test("says what is wrong and how to mend it", () => {
    const other = xlbFromSource("explain", "-c", file, "--listener", "shopp", "http://any/");
    assert.deepEqual(
      [other.status, other.stdout, other.stderr],
      [1, "", 'xlb: no listener has the name "shopp" (did you mean "shop"?)\n'],
    );
    const misuse = xlbFromSource("explain", "-c", file, "GET /a");
    assert.deepEqual(
      [misuse.status, misuse.stderr],
      [2, "xlb: /a has no host: write http://host/a, or add -H 'Host: host'\n"],
    );
    const bad = xlbFromSource("explain", "--config-yaml", "listeners: []", "http://any/");
    assert.equal(bad.status, 1);
    assert.match(bad.stderr, /^--config-yaml:1:1: listeners: /);
  });
});
