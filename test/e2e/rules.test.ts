import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  Bed,
  eventually,
  PATIENCE,
  type RouteSpec,
  type Step,
  type VirtualHostSpec,
  withoutKernel,
} from "./harness.ts";

/**
 * Rules as the hook follows them and as the slow path does: the same answers, and each by the path that is meant.
 */

const to = (cluster: "near" | "far") => ({ cluster, timeout: "15s" });

const routes: readonly RouteSpec[] = [
  { match: { safe_regex: { regex: "/v[0-9]+/users/[^/]+" } }, route: to("near") },
  { match: { safe_regex: { regex: "(?i)/files/.*\\.(css|js)" } }, route: to("far") },
  {
    match: {
      prefix: "/agent",
      headers: [{ name: "user-agent", string_match: { safe_regex: { regex: ".*Mobile.*" } } }],
    },
    route: to("near"),
  },
  {
    match: {
      prefix: "/agent",
      headers: [
        { name: "user-agent", invert_match: true, string_match: { safe_regex: { regex: "curl/[0-9.]+" } } },
        { name: "x-none", treat_missing_header_as_empty: true, string_match: { exact: "" } },
      ],
    },
    route: to("far"),
  },
  {
    match: {
      path_match_policy: {
        name: "envoy.path.match.uri_template.uri_template_matcher",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
          path_template: "/videos/{name}/**.m4s",
        },
      },
    },
    route: to("far"),
  },
  { match: { path: "/exact" }, route: to("near") },
];
const slow: readonly RouteSpec[] = [
  { match: { path: "/q", query_parameters: [{ name: "v", string_match: { exact: "2" } }] }, route: to("far") },
  { match: { prefix: "/" }, route: to("near") },
];
/** So many that the hook tells them apart by switches; odd ones lead far. */
const many: readonly RouteSpec[] = Array.from({ length: 60 }, (_, i): RouteSpec => {
  const route = to(i % 2 === 0 ? "near" : "far");
  const text = { exact: `value-${i}`, ignore_case: i % 3 === 0 };
  switch (Math.floor(i / 12)) {
    case 0:
      return { match: { prefix: "/", headers: [{ name: "x-route", string_match: text }] }, route };
    case 1:
      return { match: { prefix: "/", query_parameters: [{ name: "route", string_match: text }] }, route };
    case 2:
      return { match: { safe_regex: { regex: `/[a-z]+/item-${i}(/.*)?` } }, route };
    case 3:
      return { match: { prefix: "/", headers: [{ name: "x-end", string_match: { suffix: `-${i}` } }] }, route };
    default:
      return { match: { prefix: `/Items/${i}/`, case_sensitive: i % 3 === 0 }, route };
  }
});
const hosts: readonly VirtualHostSpec[] = [
  { name: "many", domains: ["many.test"], routes: many },
  { name: "regex", domains: ["regex.test"], routes },
  { name: "slow", domains: ["slow.test"], routes: slow },
];

/** Target, further headers, status, who answers; the kernel path's, unless it is said to be slow or nobody's. */
type Case = readonly [host: string, target: string, headers: string, status: number, by: string, slow?: "slow"];
const CASES: readonly Case[] = [
  ["regex.test", "/v1/users/joe", "", 200, "near"],
  ["regex.test", "/v12/users/joe?a=/b", "", 200, "near"],
  ["regex.test", "/v12/users/joe/", "", 404, ""],
  ["regex.test", "/v/users/joe", "", 404, ""],
  ["regex.test", "/Files/a/b.CSS", "", 200, "far"],
  ["regex.test", "/files/a.csss", "", 404, ""],
  ["regex.test", "/agent", "User-Agent: Some Mobile Thing\r\n", 200, "near"],
  ["regex.test", "/agent", "User-Agent: wget\r\n", 200, "far"],
  ["regex.test", "/agent", "User-Agent: curl/7.1\r\n", 404, ""],
  ["regex.test", "/agent", "User-Agent: wget\r\nX-None: x\r\n", 404, ""],
  ["regex.test", "/agent", "", 404, ""],
  ["regex.test", "/videos/a/b/c.m4s?x=1", "", 200, "far"],
  ["regex.test", "/videos/a.m4s", "", 404, ""],
  ["regex.test", "/exact", "", 200, "near"],
  ["slow.test", "/q?v=2", "", 200, "far"],
  ["slow.test", "/q?v=3", "", 200, "near"],
  ["slow.test", "/q?a&=&vv=2&v=2&v=3", "", 200, "far"],
  ["slow.test", "/q?v&v=2", "", 200, "near"],
  ["slow.test", "/q?V=2", "", 200, "near"],
  ["many.test", "/", "X-Route: value-7\r\n", 200, "far"],
  ["many.test", "/", "X-Route: VALUE-6\r\n", 200, "near"],
  ["many.test", "/", "X-Route: VALUE-7\r\n", 404, ""],
  ["many.test", "/?route=value-13", "", 200, "far"],
  ["many.test", "/?route=value-14", "X-Route: value-5\r\n", 200, "far"],
  ["many.test", "/abc/item-25", "", 200, "far"],
  ["many.test", "/abc/item-26/x?y", "", 200, "near"],
  ["many.test", "/abc/item-26x", "", 404, ""],
  ["many.test", "/", "X-End: some-41\r\n", 200, "far"],
  ["many.test", "/Items/52/x", "X-End: some-41\r\n", 200, "far"],
  ["many.test", "/ITEMS/52/x", "X-End: 9\r\n", 200, "near"],
  ["many.test", "/ITEMS/51/x", "", 404, ""],
  ["slow.test", "/else?v=3", "", 200, "near"],
];

function suite(name: string, kernel: boolean): void {
  describe(`rules, ${name}`, { skip: kernel && withoutKernel(), timeout: PATIENCE }, () => {
    const bed = new Bed(kernel);
    before(() => bed.open({ hosts }), { timeout: PATIENCE });
    after(() => bed.close(), { timeout: PATIENCE });

    const ask = async ([host, target, headers]: Case) => {
      const head = `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n${headers}X-Nonce: n\r\n\r\n`;
      const steps: Step[] = [["send", head], ["response"]];
      return (await bed.client.play(steps)).responses[0];
    };

    test("each request goes where its rule says, by the path that can follow it", { timeout: PATIENCE }, async () => {
      for (const one of CASES) await ask(one);
      for (const one of CASES) {
        const [host, target, headers, status, by, slow] = one;
        const once = async () => {
          const seen = await ask(one);
          const what = `${host}${target} ${headers}`;
          assert.equal(seen?.status, status, what);
          if (by !== "") assert.equal(seen?.text.split(" ")[0], by, what);
        };
        const byKernel = kernel && by !== "" && slow === undefined;
        /* Pools grow by demand. */
        const counted = await eventually(
          () => bed.counted(once),
          (seen) => seen.slow === (byKernel ? 0 : 1),
        );
        assert.equal(counted.slow, byKernel ? 0 : 1, `${host}${target}: ${JSON.stringify(counted)}`);
      }
    });
  });
}

suite("kernel path", true);
suite("user space", false);
