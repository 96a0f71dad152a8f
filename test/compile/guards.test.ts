import assert from "node:assert/strict";
import { test } from "node:test";
import { guardsOf } from "../../src/compile/guards.ts";
import { hasAutomaton } from "../../src/compile/pattern.ts";
import { httpChains } from "../../src/model/chains.ts";
import type { HttpChain, Normalisation } from "../../src/model/config.ts";
import { matchRoute, type RequestHead } from "../../src/route/match.ts";
import { normalise } from "../../src/route/normalise.ts";
import { Dice } from "../dice.ts";
import { interpretPlace, interpretRoute, isLeftToSlowPath } from "./interpret.ts";
import { compileConfig, configOf, only } from "./tables.ts";

/** What normalisation would change does not get by the rules of the kernel path as it is. */

const match = (asked: object) => ({ match: asked, route: { cluster: "c" } });
const xIs = (value: string) => ({ name: "x", string_match: { exact: value } });
const byHeader = (prefix: string) =>
  ["a", "b", "c", "d", "e", "f"].map((value) => match({ prefix, headers: [xIs(value)] }));

/** Each takes another way through the tables: tails, switches of each kind, links, folded texts, nothing at all. */
const ROUTES: Readonly<Record<string, readonly object[]>> = {
  plain: [match({ prefix: "/" })],
  nested: ["/a/b/c/d", "/a/b", "/a", "/b", "/"].map((prefix) => match({ prefix })),
  exact: ["/a", "/a/b", "/a/.", "/%41", "/a/b/c/long-tail"].map((path) => match({ path })),
  folded: ["/A", "/a/B", "/"].map((prefix) => match({ prefix, case_sensitive: false })),
  both: [match({ prefix: "/a", case_sensitive: false }), match({ prefix: "/" })],
  headers: [...byHeader("/a"), ...byHeader("/"), match({ prefix: "/" })],
  expressions: ["/a/.*", "/.*/b", "/.*b", "/[ab]+/.*", "/.*c", ".*", "/a[^/]*"].map((regex) =>
    match({ safe_regex: { regex } }),
  ),
  queries: ["1", "2", "3", "4", "5"].map((exact) =>
    match({ prefix: "/", query_parameters: [{ name: "q", string_match: { exact } }] }),
  ),
  /* Rules that ask for what the guards ask for. */
  hosts: [
    ...["a:80", "a.", "a", "b"].map((exact) =>
      match({ prefix: "/", headers: [{ name: ":authority", string_match: { exact } }] }),
    ),
    match({ prefix: "/a" }),
  ],
  slow: [{ match: { path: "/a" }, direct_response: { status: 200 } }, match({ prefix: "/" })],
  none: [],
};
const DOMAINS = ["a", "a:80", "a.", "*.b", "b.*"];

const on = <T>(value: T) => [undefined, value];
const OPTIONS: readonly Normalisation[] = on(true).flatMap((path) =>
  on(true).flatMap((mergeSlashes) =>
    on("forward" as const).flatMap((escapedSlashes) =>
      [undefined, "any" as const, 80, 65_535].flatMap((port) =>
        on(true).map((dot) => ({ path, mergeSlashes, escapedSlashes, port, dot })),
      ),
    ),
  ),
);

function anyRequest(dice: Dice): RequestHead {
  const parts = ["/", "/", "a", "b", "c", ".", "..", ";", "%2e", "%2F", "%5c", "%41", "%", "\\", "^", "A", "long-tail"];
  const some = (all: readonly string[], least: number, most: number) =>
    Array.from({ length: dice.between(least, most) }, () => dice.one(all)).join("");
  const path = dice.chance(0.3) ? dice.one(["/a", "/a/b/c/d", "/b/x/b", "/A/B"]) : `/${some(parts, 0, 5)}`;
  const authority = dice.chance(0.4)
    ? dice.one(["a", "b.x", "x.b"])
    : some(["a", "b", ".", ":", ":80", "0", "65535", "[", "]", ":65535"], 1, 4);
  const x = dice.one(["a", "c", "f", "z"]);
  return { method: "GET", authority, path: path + dice.one(["", "", "?q=3", "?/../"]), headers: [["x", x]] };
}

for (const [name, routes] of Object.entries(ROUTES)) {
  test(`a request that is changed goes to the slow path, others go as they went: ${name}`, () => {
    const dice = new Dice(11);
    const hosts = [
      { name: "some", domains: DOMAINS, routes },
      { name: "all", domains: ["*"], routes },
    ];
    const plain = compileConfig(configOf(hosts));
    const count = { changed: 0, same: 0 };
    for (const asked of OPTIONS) {
      const config = configOf(hosts, asked);
      const guards = guardsOf(asked).length;
      const [{ routes: rules }] = httpChains(config.listeners[0]!) as [HttpChain];
      /* A change of the options alone is compiled. */
      const tables = compileConfig(config, plain);
      const names = new Map(tables.headerNames.map((each) => [each.name, each.index]));
      for (let i = 0; i < 80; i++) {
        const request = anyRequest(dice);
        const place = interpretPlace(only(tables).hosts, request.authority)!;
        const blob = only(tables).virtualHosts[place]!;
        const found = interpretRoute(blob, request, names);
        const isSlow = found === "slow" || (found !== undefined && isLeftToSlowPath(blob, found.action));
        const normalised = normalise(request, asked);
        const what = `${JSON.stringify(asked)} ${JSON.stringify(request)}`;
        if (normalised.kind !== "head" || normalised.head !== request) {
          count.changed++;
          assert.ok(isSlow, what);
          continue;
        }
        if (found === "slow" || (found !== undefined && found.routeIndex < guards)) {
          /* Merged, two slashes are two slashes. */
          assert.match(request.path, /^\/\/(?:\?|$)/, what);
          continue;
        }
        count.same++;
        const expected = matchRoute(rules, request);
        assert.deepEqual(
          found && { place, at: found.routeIndex - guards },
          "none" in expected
            ? undefined
            : { place: rules.virtualHosts.indexOf(expected.virtualHost), at: expected.routeIndex },
          what,
        );
      }
    }
    assert.ok(count.changed > 500 && count.same > 500, JSON.stringify(count));
  });
}

test("tables without guards come back when the options are taken away", () => {
  const hosts = [{ name: "all", domains: ["*"], routes: ROUTES.nested! }];
  const [plain, guarded] = [configOf(hosts), configOf(hosts, { path: true })];
  const first = compileConfig(plain);
  const second = compileConfig(guarded, first);
  assert.notDeepEqual(only(second).virtualHosts, only(first).virtualHosts);
  assert.deepEqual(only(compileConfig(plain, second)).virtualHosts, only(first).virtualHosts);
});

test("the hook can follow every guard's expressions", () => {
  for (const guard of OPTIONS.flatMap(guardsOf)) {
    const patterns = [guard.path, ...guard.headers.map(({ value }) => value)];
    const regexes = patterns.filter((one) => one.kind === "regex");
    assert.equal(regexes.length, 1);
    for (const { pattern } of regexes) assert.ok(hasAutomaton(pattern), pattern);
  }
});
