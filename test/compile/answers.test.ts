import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type {
  DirectResponse,
  Edited,
  FormatPart,
  HeaderAddition,
  HeaderEdits,
  PathMatch,
  RedirectAction,
  Route,
  RouteConfig,
} from "../../src/model/config.ts";
import { Editor } from "../../src/route/edit.ts";
import type { RequestHead } from "../../src/route/match.ts";
import { answerOf } from "../../src/route/rewrite.ts";
import { localReply } from "../../src/slowpath/reply.ts";
import { interpretAnswer, interpretOwnAnswer } from "./interpret.ts";
import { compileRoutes, matchBoth, only } from "./tables.ts";

/** Answers as the tables have them, against those of the slow path: random redirects, direct responses and edits. */

const occasion = { client: undefined, protocol: "HTTP/1.1", startedMs: 0, hostname: "h" } as const;

const anyPart: fc.Arbitrary<FormatPart> = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom("v", "", "w,x", "ä").map((text): FormatPart => ({ kind: "text", text })) },
  { weight: 1, arbitrary: fc.constant<FormatPart>({ kind: "protocol" }) },
  { weight: 1, arbitrary: fc.constant<FormatPart>({ kind: "request", name: ":path" }) },
);
const anyName = fc.constantFrom("location", "content-type", "server", "x-a", "via", "content-length");
const anyAddition: fc.Arbitrary<HeaderAddition> = fc.record({
  name: anyName,
  value: fc.array(anyPart, { minLength: 1, maxLength: 2 }),
  action: fc.constantFrom("append", "addIfAbsent", "overwrite", "overwriteIfExists"),
  keepEmpty: fc.boolean(),
});
const anyEdits: fc.Arbitrary<HeaderEdits> = fc.record({
  remove: fc.array(anyName, { maxLength: 1 }),
  add: fc.array(anyAddition, { maxLength: 2 }),
});
const anyLevel: fc.Arbitrary<Edited> = fc.oneof(
  { weight: 2, arbitrary: fc.constant({}) },
  { weight: 1, arbitrary: anyEdits.map((responseEdits) => ({ responseEdits })) },
);
const maybe = <T>(one: fc.Arbitrary<T>) => fc.oneof(fc.constant(undefined), one);
const without = <T extends object>(fields: T) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;
const anyRedirect = fc
  .record({
    status: fc.constantFrom(301, 302, 303, 307, 308),
    scheme: maybe(fc.constantFrom("http", "https")),
    host: maybe(fc.constantFrom("new.host", "é:1")),
    port: maybe(fc.constantFrom(80, 8443)),
    path: maybe(
      fc.oneof(
        fc.record({ kind: fc.constant("prefix" as const), value: fc.constantFrom("/", "/new", "new", "/a?b") }),
        fc.record({ kind: fc.constant("whole" as const), value: fc.constantFrom("/", "new", "/a?b", "/é") }),
      ),
    ),
    stripQuery: fc.boolean(),
  })
  .map((fields) => without({ kind: "redirect" as const, ...fields }) as RedirectAction);
const anyDirect: fc.Arbitrary<DirectResponse> = fc.record({
  kind: fc.constant("direct" as const),
  status: fc.constantFrom(200, 201, 204, 302, 304, 418, 503, 599),
  body: fc.constantFrom("", "b", "Ã¼\n"),
});
const anyPath: fc.Arbitrary<PathMatch> = fc.oneof(
  fc.record({
    kind: fc.constantFrom("prefix" as const, "path" as const, "pathSeparatedPrefix" as const),
    value: fc.constantFrom("/p", "/"),
    caseSensitive: fc.boolean(),
  }),
  fc.constant<PathMatch>({ kind: "regex", pattern: "/p.*" }),
);
const anyRoutes: fc.Arbitrary<RouteConfig> = fc
  .record({
    path: anyPath,
    action: fc.oneof(anyRedirect, anyDirect),
    levels: fc.tuple(anyLevel, anyLevel, anyLevel),
    mostSpecificWins: fc.boolean(),
  })
  .map(({ path, action, levels: [ofRoute, ofHost, all], mostSpecificWins }) => {
    const route: Route = { name: "r", path, headers: [], action, ...ofRoute };
    return {
      ...{ name: "all", ignorePortInHostMatching: false, mostSpecificWins, ...all },
      virtualHosts: [{ name: "v", domains: ["*"], routes: [route], ...ofHost }],
    };
  });
const anyRequest: fc.Arbitrary<RequestHead> = fc.record({
  method: fc.constantFrom("GET", "HEAD"),
  path: fc.constantFrom("/p", "/P/q", "/p?r=s", "/p/q?/p?", "/pq", "/?"),
  authority: fc.constantFrom("h", "h:80", "h:8080", "[::1]", "[::1]:80", "h[::1]", "h[::80", "a:b:80", ":80", "80"),
  headers: fc.constant([]),
});

test("random answers: the tables say what the slow path says", () => {
  const count = { answered: 0, declined: 0, slow: 0, unmatched: 0 };
  fc.assert(
    fc.property(anyRoutes, fc.array(anyRequest, { minLength: 1, maxLength: 6 }), (routes, requests) => {
      const tables = compileRoutes(routes);
      if (tables.slow.length > 0) {
        assert.match(tables.slow[0]!.reason, /holds a part of the request$|^it redirects to a prefix that is no path$/);
        count.slow++;
        return;
      }
      const blob = only(tables).virtualHosts[0]!;
      for (const request of requests) {
        const matched = matchBoth(routes, blob, request);
        if (matched === undefined) {
          count.unmatched++;
          continue;
        }
        const { match, found } = matched;
        const { action } = match.route;
        assert.ok(action.kind !== "forward");
        const editor = new Editor(routes, match, undefined, occasion);
        const redirected = editor.request(request);
        const { status, fields, body } = answerOf(action, redirected);
        const head = request.method === "HEAD";
        const extra = editor.response(fields, redirected);
        const expected = localReply(status, body, { close: false, head, extra }).toString("latin1");
        const date = /^date: (.*)\r$/m.exec(expected)?.[1] ?? "";
        const actual = interpretAnswer(blob, interpretOwnAnswer(blob, found.action)!, request, date);
        if (actual === undefined) {
          assert.match(request.authority, /^[[:]/);
          count.declined++;
          continue;
        }
        assert.deepEqual(lines(actual), lines(expected));
        count.answered++;
      }
    }),
    { numRuns: 3_000, seed: 5 },
  );
  assert.ok(count.answered > 4_000 && count.slow < 1_000, JSON.stringify(count));
});

/** The fields of an answer in any order, but that those of one name keep theirs. */
function lines(answer: string) {
  const at = answer.indexOf("\r\n\r\n");
  const [status, ...fields] = answer.slice(0, at).split("\r\n");
  const nameOf = (field: string) => field.slice(0, field.indexOf(":"));
  return {
    status,
    body: answer.slice(at + 4),
    fields: fields.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : nameOf(a) > nameOf(b) ? 1 : 0)),
  };
}
