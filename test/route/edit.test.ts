import assert from "node:assert/strict";
import { test } from "node:test";
import type {
  Edited,
  FormatPart,
  ForwardAction,
  HeaderAddition,
  HeaderEdits,
  NamedCluster,
  PathMatch,
  RedirectAction,
  Route,
  RouteAction,
  RouteConfig,
} from "../../src/model/config.ts";
import { Editor, type Field } from "../../src/route/edit.ts";
import type { RequestHead } from "../../src/route/match.ts";
import { answerOf, rewritePath } from "../../src/route/rewrite.ts";

const text = (text: string): FormatPart[] => (text === "" ? [] : [{ kind: "text", text }]);
const add = (
  name: string,
  value: string | readonly FormatPart[],
  action: HeaderAddition["action"] = "append",
  keepEmpty = false,
): HeaderAddition => ({ name, value: typeof value === "string" ? text(value) : value, action, keepEmpty });
const edits = (add: readonly HeaderAddition[], remove: readonly string[] = []): HeaderEdits => ({ add, remove });
const forward: ForwardAction = { kind: "forward", clusters: [], timeoutMs: 0 };
const prefix = (value: string): PathMatch => ({ kind: "prefix", value, caseSensitive: true });
const head = (path: string, ...headers: Field[]): RequestHead => ({
  method: "GET",
  authority: "old:80",
  path,
  headers: [["Host", "old:80"], ...headers],
});
const occasion = {
  client: { ip: "10.0.0.7", port: 4711 },
  protocol: "HTTP/1.1",
  startedMs: Date.UTC(2026, 0, 2, 3, 4, 5, 6),
  hostname: "node-1",
} as const;

interface Levels {
  readonly entry?: Partial<NamedCluster>;
  readonly route?: Edited;
  readonly host?: Edited;
  readonly config?: Edited & { mostSpecificWins?: boolean };
  readonly path?: PathMatch;
  readonly action?: RouteAction;
}

function editorOf({ entry, route: ofRoute, host, config, path = prefix("/"), action = forward }: Levels): Editor {
  const route: Route = { name: "r", path, headers: [], action, ...ofRoute };
  const virtualHost = { name: "v", domains: ["*"], routes: [route], ...host };
  const routes: RouteConfig = { name: "c", ignorePortInHostMatching: false, virtualHosts: [virtualHost], ...config };
  const cluster = entry && { name: "one", weight: 1, ...entry };
  return new Editor(routes, { virtualHost, route, routeIndex: 0 }, cluster, occasion);
}

/** What requests become, but for their Host. */
const requested = (levels: Levels, ...headers: Field[]) =>
  editorOf(levels)
    .request(head("/a", ...headers))
    .headers.slice(1);
const requestEdits = (...given: Parameters<typeof edits>) => ({ requestEdits: edits(...given) });

test("headers are removed before others are added", () => {
  const route = requestEdits([add("x", "new")], ["x", "y"]);
  assert.deepEqual(requested({ route }, ["X", "1"], ["z", "2"], ["x", "3"], ["Y", "4"]), [
    ["z", "2"],
    ["x", "new"],
  ]);
});

test("what to do about a header that is there, or is not", () => {
  const with_ = (action: HeaderAddition["action"], ...headers: Field[]) =>
    requested({ route: requestEdits([add("x", "new", action)]) }, ...headers);
  const there: Field[] = [
    ["X", "1"],
    ["y", "2"],
    ["x", "3"],
  ];
  assert.deepEqual(with_("append", ...there), [...there, ["x", "new"]]);
  assert.deepEqual(with_("append"), [["x", "new"]]);
  assert.deepEqual(with_("addIfAbsent", ...there), there);
  assert.deepEqual(with_("addIfAbsent"), [["x", "new"]]);
  const overwritten: Field[] = [
    ["y", "2"],
    ["x", "new"],
  ];
  assert.deepEqual(with_("overwrite", ...there), overwritten);
  assert.deepEqual(with_("overwrite"), [["x", "new"]]);
  assert.deepEqual(with_("overwriteIfExists", ...there), overwritten);
  assert.deepEqual(with_("overwriteIfExists"), []);
});

test("all values of a level are made before the first is set; what overwrites comes first", () => {
  const x: FormatPart[] = [{ kind: "request", name: "x" }];
  const route = requestEdits([
    add("y", x),
    add("x", "new", "overwrite"),
    add("z", x),
    add("w", "1", "addIfAbsent"),
    add("w", "2", "addIfAbsent"),
  ]);
  assert.deepEqual(requested({ route }, ["x", "old"]), [
    ["x", "new"],
    ["y", "old"],
    ["z", "old"],
    ["w", "1"],
    ["w", "2"],
  ]);
});

test("a header that Envoy keeps one line of gets its values there", () => {
  const route = {
    requestEdits: edits([add("user-agent", "b"), add("x-forwarded-for", "c")]),
    responseEdits: edits([add("cache-control", "b"), add("set-cookie", "b")]),
  };
  assert.deepEqual(requested({ route }, ["User-Agent", "a"], ["x", "1"]), [
    ["User-Agent", "a,b"],
    ["x", "1"],
    ["x-forwarded-for", "c"],
  ]);
  const fields: Field[] = [
    ["Cache-Control", "a"],
    ["Set-Cookie", "a"],
  ];
  assert.deepEqual(editorOf({ route }).response(fields, head("/")), [
    ["Cache-Control", "a,b"],
    ["Set-Cookie", "a"],
    ["set-cookie", "b"],
  ]);
});

test("an empty value adds nothing, unless it is to be kept", () => {
  const missing: FormatPart[] = [{ kind: "request", name: "missing" }];
  const additions = [add("a", ""), add("b", "", "append", true), add("c", missing), add("d", missing, "append", true)];
  assert.deepEqual(requested({ route: requestEdits(additions) }), [
    ["b", ""],
    ["d", ""],
  ]);
  const route = requestEdits([add("a", "", "overwrite"), add("b", "", "overwrite", true)]);
  assert.deepEqual(requested({ route }, ["a", "1"], ["b", "2"]), [
    ["a", "1"],
    ["b", ""],
  ]);
});

test("the cluster's entry edits first, then from the most specific to the least, or the other way round", () => {
  const level = (name: string): Edited => {
    const both = edits([add("x", name, "overwrite"), add("trace", [{ kind: "request", name: "x" }])]);
    return { requestEdits: both, responseEdits: edits([add("x", name)]) };
  };
  const levels = { entry: level("entry"), route: level("route"), host: level("host"), config: level("config") };
  const traces = (levels: Levels) => requested(levels).flatMap(([name, value]) => (name === "trace" ? [value] : []));
  const responded = (levels: Levels) =>
    editorOf(levels)
      .response([], head("/"))
      .map(([, value]) => value);
  assert.deepEqual(traces(levels), ["entry", "route", "host"]);
  assert.deepEqual(
    requested(levels).findLast(([name]) => name === "x"),
    ["x", "config"],
  );
  assert.deepEqual(responded(levels), ["entry", "route", "host", "config"]);
  const reversed = { ...levels, config: { ...levels.config, mostSpecificWins: true } };
  assert.deepEqual(traces(reversed), ["entry", "config", "host"]);
  assert.deepEqual(
    requested(reversed).findLast(([name]) => name === "x"),
    ["x", "route"],
  );
  assert.deepEqual(responded(reversed), ["entry", "config", "host", "route"]);
});

test("values speak of the request", () => {
  const format = (...parts: FormatPart[]) =>
    requested({ route: requestEdits([add("v", parts)]) }, ["X-A", "abc"], ["x-a", "def"], ["empty", ""]).at(-1)?.[1];
  assert.equal(format({ kind: "clientAddress" }), "10.0.0.7:4711");
  assert.equal(format({ kind: "clientIp" }), "10.0.0.7");
  assert.equal(format({ kind: "protocol" }), "HTTP/1.1");
  assert.equal(format({ kind: "startTime" }), "2026-01-02T03:04:05.006Z");
  assert.equal(format({ kind: "hostname" }), "node-1");
  assert.equal(format({ kind: "text", text: "ü" }), "\xc3\xbc");
  assert.equal(
    format({ kind: "text", text: "<" }, { kind: "request", name: "x-a" }, { kind: "text", text: ">" }),
    "<abc>",
  );
  assert.equal(format({ kind: "request", name: "x-a", limit: 2 }), "ab");
  assert.equal(format({ kind: "request", name: "x-b", otherwise: "x-a", limit: 9 }), "abc");
  assert.equal(format({ kind: "request", name: ":path" }), "/a");
  assert.equal(format({ kind: "request", name: ":authority" }), "old:80");
  assert.equal(format({ kind: "request", name: ":method" }, { kind: "request", name: ":scheme" }), "GEThttp");
});

test("responses speak of the request as it went on", () => {
  const action: ForwardAction = {
    ...forward,
    host: { kind: "literal", value: "new" },
    path: { kind: "prefix", value: "/b" },
  };
  const route = {
    responseEdits: edits([
      add("was", [
        { kind: "request", name: ":path" },
        { kind: "request", name: ":authority" },
      ]),
    ]),
  };
  const editor = editorOf({ route, action, path: prefix("/a") });
  assert.deepEqual(editor.response([], editor.request(head("/a/c?d"))), [["was", "/b/c?dnew"]]);
});

test("hosts are rewritten after the headers, and the old one is kept on request", () => {
  const host = (action: Partial<ForwardAction>, levels: Levels = {}, ...headers: Field[]) => {
    const { authority, headers: edited } = editorOf({ ...levels, action: { ...forward, ...action } }).request(
      head("/a", ...headers),
    );
    assert.deepEqual(edited[0], ["Host", authority]);
    const kept = edited.find(([name]) => name === "x-envoy-original-host");
    if (action.host && authority !== "old:80")
      assert.deepEqual(kept, ["x-envoy-original-host", levels.entry ? "entry" : "old:80"]);
    return [authority, ...edited.slice(1).flatMap((field) => (field === kept ? [] : [field.join(": ")]))];
  };
  const literal = { kind: "literal", value: "new" } as const;
  const byHeader = { kind: "header", name: "x" } as const;
  assert.deepEqual(host({}), ["old:80"]);
  assert.deepEqual(host({ keepsForwardedHost: true }), ["old:80"]);
  assert.deepEqual(host({ host: literal }), ["new"]);
  assert.deepEqual(host({ host: literal, keepsForwardedHost: true }), ["new", "x-forwarded-host: old:80"]);
  const both = { host: literal, keepsForwardedHost: true };
  assert.deepEqual(host(both, {}, ["X-Forwarded-Host", "a"]), ["new", "x-forwarded-host: a,old:80"]);
  assert.deepEqual(host(both, {}, ["X-Forwarded-Host", "a,old:80"]), ["new", "X-Forwarded-Host: a,old:80"]);
  assert.deepEqual(host({ host: byHeader }, {}, ["x", "one"], ["x", "two"]), ["one", "x: one", "x: two"]);
  assert.deepEqual(host({ host: byHeader }), ["old:80"]);
  const route = requestEdits([add("x", "added", "overwrite")]);
  assert.deepEqual(host({ host: byHeader }, { route }, ["x", "one"]), ["added", "x: added"]);
  assert.deepEqual(host({}, { entry: { host: "entry" } }), ["entry"]);
  assert.deepEqual(host({ host: literal }, { entry: { host: "entry" } }), ["new"]);
});

test("paths are rewritten, and the old one is kept", () => {
  const path = (
    match: PathMatch,
    rewrite: ForwardAction["path"],
    path: string,
    kept = ["x-envoy-original-path", path],
  ) => {
    const edited = editorOf({ path: match, action: { ...forward, path: rewrite } }).request(
      head(path, ["X-Envoy-Original-Path", "/forged"]),
    );
    assert.deepEqual(edited.headers.slice(1), [kept]);
    return edited.path;
  };
  const to = (value: string) => ({ kind: "prefix", value }) as const;
  const regex = (pattern: string, substitution: string) => ({ kind: "regex", pattern, substitution }) as const;
  assert.equal(path(prefix("/a"), to("/b"), "/a/c?a=/a"), "/b/c?a=/a");
  assert.equal(path(prefix("/a/"), to("/"), "/a/c"), "/c");
  assert.equal(path(prefix("/a"), to("/"), "/a/c"), "//c");
  assert.equal(path({ kind: "path", value: "/A", caseSensitive: false }, to("/b"), "/a?x"), "/b?x");
  assert.equal(path({ kind: "pathSeparatedPrefix", value: "/a", caseSensitive: true }, to("/b"), "/a/c"), "/b/c");
  assert.equal(path({ kind: "regex", pattern: "/a.*" }, to("/b"), "/a/c?x"), "/b?x");
  assert.equal(path(prefix("/"), regex("/v([0-9])", "/\\1/\\0\\\\"), "/v1/v2?v=/v3"), "/1//v1\\/2//v2\\?v=/v3");
  assert.equal(path(prefix("/"), regex("b*", "-"), "/abb"), "-/-a-");
  /* Nothing would be left: Envoy 1.40 rewrites nothing then. */
  assert.equal(path(prefix("/"), regex(".*", ""), "/a?b", ["X-Envoy-Original-Path", "/forged"]), "/a?b");
  assert.equal(path(prefix("/"), regex("x", "y"), "/a"), "/a");
});

test("redirects: where to", () => {
  const location = (action: Partial<RedirectAction>, path: string, match = prefix("/a"), authority = "old:80") => {
    const redirect: RedirectAction = { kind: "redirect", status: 301, stripQuery: false, ...action };
    const redirected = editorOf({ path: match, action: redirect }).request({ ...head(path), authority });
    const { status, fields, body } = answerOf(redirect, redirected);
    assert.deepEqual([status, body, fields.length], [301, "", 1]);
    return fields[0]![1];
  };
  const whole = (value: string) => ({ path: { kind: "whole", value } as const });
  assert.equal(location({}, "/a?b"), "http://old:80/a?b");
  assert.equal(location({ scheme: "https" }, "/a"), "https://old/a");
  assert.equal(location({ scheme: "https" }, "/a", prefix("/"), "old:8080"), "https://old:8080/a");
  assert.equal(location({ scheme: "https" }, "/a", prefix("/"), "[::1]:80"), "https://[::1]/a");
  assert.equal(location({ scheme: "https" }, "/a", prefix("/"), "[::1]"), "https://[::1]/a");
  assert.equal(location({ port: 8443 }, "/a"), "http://old:8443/a");
  assert.equal(location({ port: 8443 }, "/a", prefix("/"), "[::1]:7"), "http://[::1]:8443/a");
  assert.equal(location({ host: "new" }, "/a"), "http://new/a");
  assert.equal(location({ host: "new", port: 1, scheme: "https" }, "/a"), "https://new:1/a");
  assert.equal(location(whole("/x"), "/a?b"), "http://old:80/x?b");
  assert.equal(location({ ...whole("/x"), stripQuery: true }, "/a?b"), "http://old:80/x");
  assert.equal(location({ ...whole("/x?y"), stripQuery: true }, "/a?b"), "http://old:80/x?y");
  assert.equal(location(whole("x"), "/a"), "http://old:80/x");
  assert.equal(location({ path: { kind: "prefix", value: "/x" } }, "/a/b?c"), "http://old:80/x/b?c");
  assert.equal(location({ path: { kind: "regex", pattern: "a", substitution: "x" } }, "/a/a?a"), "http://old:80/x/x?a");
  assert.equal(location({ path: { kind: "regex", pattern: ".*", substitution: "" } }, "/a?b"), "http://old:80/a?b");
  assert.equal(location({ stripQuery: true }, "/a?b?c"), "http://old:80/a");
});

test("direct responses say where only with a status that asks for it", () => {
  const fields = (status: number) => answerOf({ kind: "direct", status, body: "x" }, head("/a?b")).fields;
  for (const status of [200, 204, 400, 503]) assert.deepEqual(fields(status), []);
  for (const status of [201, 301, 308]) assert.deepEqual(fields(status), [["location", "http://old:80/a?b"]]);
});

test("a path that is rewritten to nothing", () => {
  assert.equal(rewritePath({ kind: "regex", pattern: ".*", substitution: "" }, prefix("/"), "/a"), undefined);
});
