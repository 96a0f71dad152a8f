import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { answerEditsAt, editFields } from "../../src/compile/apply-edits.ts";
import type {
  Edited,
  FormatPart,
  ForwardAction,
  HeaderAddition,
  HeaderEdits,
  PathMatch,
  Route,
  RouteConfig,
} from "../../src/model/config.ts";
import { Editor } from "../../src/route/edit.ts";
import type { RequestHead } from "../../src/route/match.ts";
import { interpretEdits, interpretEntryEdits } from "./interpret.ts";
import { compileRoutes, matchBoth, only } from "./tables.ts";

/** Edits as the tables have them, against the reference, by random levels of edits and random requests. */

const occasion = { client: undefined, protocol: "HTTP/1.1", startedMs: 0, hostname: "h" } as const;

/** Some are of those that Envoy keeps in one line, some are what Envoy itself sets. */
const NAMES = ["x-a", "x-b", "x-c", "via", "accept", "vary", "x-envoy-original-path", "x-envoy-original-host"] as const;
const anyName = fc.constantFrom(...NAMES);
const anyPart: fc.Arbitrary<FormatPart> = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom("v", "", "w,x", "a longer value, of more than 32 bytes, ä").map(textPart) },
  { weight: 1, arbitrary: fc.constantFrom(":path", ":authority", "host", ":method").map(requestPart) },
  { weight: 1, arbitrary: fc.constant<FormatPart>({ kind: "protocol" }) },
);
function textPart(text: string): FormatPart {
  return { kind: "text", text };
}
function requestPart(name: string): FormatPart {
  return { kind: "request", name };
}
const anyAddition: fc.Arbitrary<HeaderAddition> = fc.record({
  name: anyName,
  value: fc.array(anyPart, { maxLength: 2 }),
  action: fc.constantFrom("append", "addIfAbsent", "overwrite", "overwriteIfExists"),
  keepEmpty: fc.boolean(),
});
const anyEdits: fc.Arbitrary<HeaderEdits> = fc.record({
  remove: fc.array(anyName, { maxLength: 2 }),
  add: fc.array(anyAddition, { maxLength: 4 }),
});
const anyLevel: fc.Arbitrary<Edited> = fc.oneof(
  fc.constant({}),
  anyEdits.map((requestEdits) => ({ requestEdits })),
  anyEdits.map((responseEdits) => ({ responseEdits })),
  fc.tuple(anyEdits, anyEdits).map(([requestEdits, responseEdits]) => ({ requestEdits, responseEdits })),
);
const maybe = <T>(one: fc.Arbitrary<T>) => fc.oneof(fc.constant(undefined), one);
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
    levels: fc.tuple(anyLevel, anyLevel, anyLevel, anyLevel),
    entryHost: maybe(fc.constant("entry.host")),
    host: maybe(fc.constant<ForwardAction["host"]>({ kind: "literal", value: "new.host" })),
    rewrite: maybe(
      fc.constantFrom("/", "/new", "new").map((value): ForwardAction["path"] => ({ kind: "prefix", value })),
    ),
    mostSpecificWins: fc.boolean(),
  })
  .map(({ path, levels: [entry, ofRoute, ofHost, all], entryHost, host, rewrite, mostSpecificWins }) => {
    const action: ForwardAction = {
      kind: "forward",
      clusters: [{ name: "c", weight: 1, ...(entryHost && { host: entryHost }), ...entry }],
      timeoutMs: 0,
      ...(host && { host }),
      ...(rewrite && { path: rewrite }),
    };
    const route: Route = { name: "r", path, headers: [], action, ...ofRoute };
    return {
      ...{ name: "all", ignorePortInHostMatching: false, mostSpecificWins, ...all },
      virtualHosts: [{ name: "v", domains: ["*"], routes: [route], ...ofHost }],
    };
  });
const anyRequest: fc.Arbitrary<RequestHead> = fc
  .record({
    method: fc.constantFrom("GET", "POST"),
    path: fc.constantFrom("/p", "/P/q", "/pq?r=s", "/p?/"),
    headers: fc.array(
      fc.tuple<[string, string]>(
        fc.constantFrom(...NAMES, "Via", "X-A", "x-other", "x-z"),
        fc.constantFrom("", "1", "of the request, as long as others"),
      ),
      { maxLength: 6 },
    ),
    place: fc.nat(6),
  })
  .map(({ method, path, headers, place }) => ({
    ...{ method, path, authority: "old.host" },
    headers: headers.toSpliced(place, 0, ["Host", "old.host"]),
  }));

const UNABLE = /^it appends a part of the request to a header$|^the value of .* in its responses holds a part of the/;

test("random edits of four levels: the tables say what the reference says", () => {
  const count = { edited: 0, answers: 0, slow: 0, unmatched: 0 };
  fc.assert(
    fc.property(anyRoutes, fc.array(anyRequest, { minLength: 1, maxLength: 6 }), (routes, requests) => {
      const tables = compileRoutes(routes);
      if (tables.slow.length > 0) {
        assert.match(tables.slow[0]!.reason, UNABLE);
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
        assert.ok(action.kind === "forward");
        const editor = new Editor(routes, match, action.clusters[0], occasion);
        const program = interpretEntryEdits(blob, found.action, 0);
        const actual = program === 0 ? request : interpretEdits(blob, program, request);
        assert.deepEqual(actual, editor.request(request));
        if (program !== 0) count.edited++;
        /* A server says the same. */
        const answer = program === 0 ? 0 : answerEditsAt(blob, program);
        const fields = answer === 0 ? request.headers : editFields(blob, answer, request.headers);
        assert.deepEqual(fields, editor.response(request.headers, request));
        if (answer !== 0) count.answers++;
      }
    }),
    { numRuns: 3_000, seed: 4 },
  );
  assert.ok(count.edited > 3_000 && count.answers > 2_000 && count.slow < 2_000, JSON.stringify(count));
});
