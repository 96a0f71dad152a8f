import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Bed, eventually, PATIENCE, type Response, type RouteSpec, type Step, withoutKernel } from "./harness.ts";

/**
 * Routes that answer by themselves: the hook, the slow path behind it and the slow path alone say the same, to the
 * letter, and an answer of the hook has its place among those of servers.
 */

const adding = (key: string, value: string, append_action = "APPEND_IF_EXISTS_OR_ADD") => ({
  header: { key, value },
  append_action,
});
const redirects: readonly RouteSpec[] = [
  { match: { path: "/r/plain" }, redirect: {} },
  { match: { prefix: "/r/https" }, redirect: { https_redirect: true } },
  { match: { prefix: "/r/port" }, redirect: { port_redirect: 8443, response_code: "FOUND" } },
  { match: { prefix: "/r/host" }, redirect: { host_redirect: "é.test:1", strip_query: true } },
  { match: { prefix: "/r/path" }, redirect: { path_redirect: "/other", response_code: "SEE_OTHER" } },
  { match: { prefix: "/r/query" }, redirect: { path_redirect: "/other?q", strip_query: true } },
  { match: { prefix: "/r/prefix" }, redirect: { prefix_rewrite: "/p", response_code: "TEMPORARY_REDIRECT" } },
  { match: { prefix: "/r/strip" }, redirect: { prefix_rewrite: "/p", strip_query: true } },
  { match: { safe_regex: { regex: "/r/[0-9]+" } }, redirect: { prefix_rewrite: "/p" } },
];
const direct: readonly RouteSpec[] = [
  { match: { path: "/d/none" }, direct_response: { status: 503 } },
  { match: { path: "/d/text" }, direct_response: { status: 200, body: { inline_string: "hello ü\n" } } },
  { match: { path: "/d/created" }, direct_response: { status: 201, body: { inline_string: "made" } } },
  { match: { path: "/d/204" }, direct_response: { status: 204, body: { inline_string: "nothing of this" } } },
  { match: { path: "/d/odd" }, direct_response: { status: 299 } },
  { match: { path: "/d/large" }, direct_response: { status: 200, body: { inline_string: "x".repeat(3_000) } } },
  {
    match: { path: "/d/edited" },
    direct_response: { status: 302, body: { inline_string: "{}" } },
    response_headers_to_add: [
      adding("content-type", "application/json"),
      adding("location", "and more"),
      adding("x-twice", "1"),
      adding("x-twice", "2"),
      adding("x-none", "n", "OVERWRITE_IF_EXISTS"),
      adding("server", "mine", "OVERWRITE_IF_EXISTS_OR_ADD"),
      adding("x-protocol", "%PROTOCOL% at 100%%"),
    ],
  },
  {
    match: { path: "/d/removed" },
    direct_response: { status: 301 },
    response_headers_to_remove: ["location", "x-everywhere"],
  },
];
/** What the hook leaves to the slow path. */
const slow: readonly RouteSpec[] = [
  {
    match: { path: "/s/regex" },
    redirect: { regex_rewrite: { pattern: { regex: "/s/(.*)" }, substitution: "/\\1" } },
  },
  {
    match: { path: "/s/host" },
    direct_response: { status: 200 },
    response_headers_to_add: [adding("x-path", "%REQ(:path)%")],
  },
  { match: { path: "/s/huge" }, direct_response: { status: 200, body: { inline_string: "x".repeat(4_090) } } },
];

/** Target, and Host; each is asked for by GET and by HEAD. */
const ASKED: readonly (readonly [target: string, host?: string, by?: "slow"])[] = [
  ["/r/plain"],
  ["/r/plain?a=b"],
  ["/r/https/a?b"],
  ["/r/https/a", "answers.test:80"],
  ["/r/https/a", "answers.test:8080"],
  ["/r/https/a", "[::1]:80", "slow"],
  ["/r/port"],
  ["/r/port?x", "answers.test:1"],
  ["/r/port", "[::1]", "slow"],
  ["/r/port", "answers.test[::1]x"],
  ["/r/host/a?gone"],
  ["/r/path?kept"],
  ["/r/path"],
  ["/r/query?gone"],
  ["/r/prefix"],
  ["/r/prefix/a?b=/r/prefix"],
  ["/r/strip/a?b"],
  ["/r/17?b"],
  ...["none", "text", "created", "204", "odd", "large", "edited", "removed"].map((name) => [`/d/${name}`] as const),
  ["/d/none", "[::1]"],
  ["/s/regex", undefined, "slow"],
  ["/s/host", undefined, "slow"],
  ["/s/huge", undefined, "slow"],
];

const HOST = {
  name: "answers",
  domains: ["answers.test", "answers.test:*", "answers.test[::1]x", "[::1]", "[::1]:*"],
  routes: [...redirects, ...direct, ...slow, { match: { prefix: "/near" }, route: { cluster: "near" } }].map(
    (route) => ({
      ...route,
    }),
  ),
  response_headers_to_add: [adding("x-everywhere", "yes")],
};

const requestOf = (target: string, host = "answers.test", method = "GET", more = "") =>
  `${method} ${target} HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`;

const whole = (text: string, method = "GET"): Step[] => [
  ["send", text],
  ["response", method],
];
const inTwo = (text: string, method = "GET"): Step[] => [
  ["send", text.slice(0, 5)],
  ["pause", 15],
  ["send", text.slice(5)],
  ["response", method],
];

function comparable(response: Response | undefined) {
  assert.ok(response);
  const { date, ...headers } = response.headers;
  const age = Date.now() - Date.parse(date ?? "");
  assert.ok(age > -1_500 && age < 2_500, `${date}: ${age} ms ago`);
  /* Two answers that are compared may lie on either side of a second's end. */
  return { ...response, headers, head: response.head.replace(date!, "(now)") };
}

describe("answers of routes", { skip: withoutKernel(), timeout: PATIENCE }, () => {
  const bed = new Bed(true);
  const alone = new Bed(false);
  before(() => Promise.all([bed, alone].map((one) => one.open({ hosts: [HOST] }))), { timeout: PATIENCE });
  after(() => Promise.all([bed.close(), alone.close()]), { timeout: PATIENCE });

  const answered = async () => (await bed.stats()).listeners[0]!.answered;

  test("the hook says what the slow path says", { timeout: PATIENCE }, async () => {
    /* The first request of a tenant is the slow path's. */
    await bed.client.play(whole(requestOf("/d/none")));
    for (const [target, host, by] of ASKED) {
      for (const method of ["GET", "HEAD"]) {
        const text = requestOf(target, host, method);
        const what = `${method} ${target} of ${host}`;
        const before = await answered();
        const byHook = comparable((await bed.client.play(whole(text, method))).responses[0]);
        assert.equal((await answered()) - before, by === "slow" ? 0 : 1, what);
        const bySlowPath = comparable((await bed.client.play(inTwo(text, method))).responses[0]);
        assert.equal((await answered()) - before, by === "slow" ? 0 : 1, what);
        assert.deepEqual(byHook, bySlowPath, what);
        assert.deepEqual(byHook, comparable((await alone.client.play(whole(text, method))).responses[0]), what);
      }
    }
  });

  test("what it must not answer goes to the slow path", { timeout: PATIENCE }, async () => {
    const before = await answered();
    const body = await bed.client.play(whole(`${requestOf("/d/text", undefined, "POST", "Content-Length: 2\r\n")}ab`));
    assert.equal(body.responses[0]?.status, 200);
    const closing = await bed.client.play([
      ...whole(requestOf("/d/text", undefined, "GET", "Connection: close\r\n")),
      ["eof", 5_000],
    ]);
    assert.equal(closing.end, "eof");
    assert.equal(closing.responses[0]?.headers.connection, "close");
    const two = requestOf("/d/text") + requestOf("/d/created");
    const pipelined = await bed.client.play([
      ["send", two],
      ["responses", 2],
    ]);
    assert.deepEqual(
      pipelined.responses.map(({ status }) => status),
      [200, 201],
    );
    assert.equal(await answered(), before);
  });

  test("among answers of servers each comes in its turn", { timeout: PATIENCE }, async () => {
    const asked = Array.from(
      { length: 200 },
      (_, i) => ["/d/text", "/near/1", "far", "/r/plain", "/d/created"][i % 5]!,
    );
    const before = await answered();
    const { responses, end } = await bed.client.play(
      asked.flatMap((target) => whole(target === "far" ? requestOf("/f", "far") : requestOf(target))),
    );
    assert.equal(end, "open");
    const status = { "/d/text": 200, "/r/plain": 301, "/d/created": 201 } as Readonly<Record<string, number>>;
    assert.deepEqual(
      responses.map((response) => response.status),
      asked.map((target) => status[target] ?? 200),
    );
    const from = responses.map(({ text }) => text.split(" ")[0]);
    assert.ok(asked.every((target, i) => target !== "far" || from[i] === "far"));
    assert.ok(asked.every((target, i) => target !== "/near/1" || from[i] === "near"));
    /* Those right behind an answer that crossed hosts may find the worker not done yet, and others a pool empty. */
    assert.ok((await answered()) - before > 20, `${(await answered()) - before} of 120`);
  });

  test("a client that does not read gets answers by TCP after a while, and all of them", {
    timeout: PATIENCE,
  }, async () => {
    const rounds = 3_000;
    const before = await bed.stats();
    const text = requestOf("/d/large");
    const { responses, end } = await bed.client.play([
      ...Array.from({ length: rounds }, (): Step => ["send", text]),
      ["responses", rounds],
    ]);
    assert.equal(end, "open");
    assert.equal(responses.length, rounds);
    assert.ok(responses.every(({ status, length }) => status === 200 && length === 3_000));
    const seen = await eventually(
      () => bed.stats(),
      ({ listeners }) => listeners[0]!.requests - before.listeners[0]!.requests >= rounds,
    );
    const [now, then] = [seen.listeners[0]!, before.listeners[0]!];
    assert.ok(now.answered - then.answered > 10 && now.slow - then.slow > 1_000, JSON.stringify(now));
    assert.equal(now.requests - then.requests, rounds);
  });
});
