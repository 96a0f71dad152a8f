import type { HeaderMatch, PathMatch, Route, RouteAction, RouteConfig, VirtualHost } from "../model/config.ts";
import { ASPECTS, type Aspect, type HeaderExpectation, type RouteTest } from "../model/route-test.ts";
import { Headers, type HeaderValues, headersByName, matchHeader } from "./match.ts";
import { decide, type Outcome } from "./outcome.ts";

/** Tests of routes, judged and counted as Envoy's router_check_tool does (test/tools/router_check). */
export interface Checked {
  readonly name: string;
  /** A line for each expectation that was not met. */
  readonly failures: readonly string[];
}

export interface Coverage {
  /** Percent of the routes that a passing expectation was about; each cluster of a weighted route counts as one. */
  readonly routes: number;
  /** The same by all that could be expected of each of them. */
  readonly aspects: number;
  readonly untested: readonly { readonly virtualHost: VirtualHost; readonly route: Route }[];
}

export function checkRoutes(
  routes: RouteConfig,
  tests: readonly RouteTest[],
): { readonly results: Checked[]; readonly coverage: Coverage } {
  const seen = new Seen();
  const results = tests.map((test) => ({ name: test.name, failures: failuresOf(test, routes, seen) }));
  return { results, coverage: seen.of(routes) };
}

function failuresOf(test: RouteTest, routes: RouteConfig, seen: Seen): string[] {
  const { responseHeaders: answered, ticket, ...sent } = test.request;
  const outcome = decide(routes, { request: sent, responseHeaders: answered, ticket, repeated: "each" });
  const failures: string[] = [];
  for (const aspect of ASPECTS) {
    const expected = test.expected.get(aspect);
    if (expected === undefined) continue;
    const actual = ACTUAL[aspect](outcome);
    if (actual === expected) seen.note(outcome, aspect);
    else failures.push(`expected: [${expected}], actual: [${actual}], test type: ${aspect}`);
  }
  const [request, responseHeaders] = "kind" in outcome ? [outcome.request, outcome.responseHeaders] : [sent, answered];
  return [
    ...failures,
    ...headerFailures(test.requestHeaders, new Headers(request, "each")),
    ...headerFailures(test.responseHeaders, headersByName(responseHeaders, "each")),
  ];
}

type Kind = Extract<Outcome, { kind: unknown }>["kind"];
type Of<K extends Kind> = Extract<Outcome, { kind: K }>;

const ifForwarded = (say: (outcome: Of<"forward">) => string) => (outcome: Outcome) =>
  "kind" in outcome && outcome.kind === "forward" ? say(outcome) : "";
const ifAnswered = (say: (outcome: Of<"answer">) => string, otherwise: string) => (outcome: Outcome) =>
  "kind" in outcome && outcome.kind === "answer" ? say(outcome) : otherwise;

const ACTUAL: { readonly [aspect in Aspect]: (outcome: Outcome) => string } = {
  cluster_name: ifForwarded(({ cluster }) => cluster),
  // A configuration with virtual clusters is refused.
  virtual_cluster_name: () => "",
  virtual_host_name: ifForwarded(({ virtualHost }) => virtualHost.name),
  path_rewrite: ifForwarded(({ request }) => request.path),
  host_rewrite: ifForwarded(({ request }) => request.authority),
  path_redirect: ifAnswered(({ location }) => location, ""),
  code_redirect: ifAnswered(({ status }) => String(status), "0"),
};

/** What counts towards the coverage of a route. */
const COUNTED: { readonly [kind in Kind]: readonly Aspect[] } = {
  forward: ["cluster_name", "virtual_cluster_name", "virtual_host_name", "path_rewrite", "host_rewrite"],
  answer: ["path_redirect", "code_redirect"],
};

/** Which aspects of which routes were found as expected; header expectations do not count. */
class Seen {
  /** By route, then by the place of the cluster that was picked; an answer has one place. */
  readonly #places = new Map<Route, Map<number, { readonly kind: Kind; readonly aspects: Set<Aspect> }>>();

  note(outcome: Outcome, aspect: Aspect): void {
    if (!("kind" in outcome) || !COUNTED[outcome.kind].includes(aspect)) return;
    const { kind, route } = outcome;
    const places = this.#places.get(route) ?? new Map();
    this.#places.set(route, places);
    const place = kind === "forward" ? outcome.clusterIndex : 0;
    const found = places.get(place) ?? { kind, aspects: new Set() };
    places.set(place, found);
    found.aspects.add(aspect);
  }

  of({ virtualHosts }: RouteConfig): Coverage {
    const all = virtualHosts.flatMap((virtualHost) => virtualHost.routes.map((route) => ({ virtualHost, route })));
    const total = all.reduce((sum, { route }) => sum + placesOf(route.action), 0);
    const places = [...this.#places.values()].flatMap((byCluster) => [...byCluster.values()]);
    const shares = places.map(({ kind, aspects }) => aspects.size / COUNTED[kind].length);
    // Of no routes, none lacks a test.
    const percent = (count: number) => (total === 0 ? 100 : (100 * count) / total);
    return {
      routes: percent(places.length),
      aspects: percent(shares.reduce((sum, share) => sum + share, 0)),
      untested: all.filter(({ route }) => !this.#places.has(route)),
    };
  }
}

const placesOf = (action: RouteAction) => (action.kind === "forward" ? Math.max(1, action.clusters.length) : 1);

function headerFailures(expected: readonly HeaderExpectation[], headers: HeaderValues): string[] {
  return expected.flatMap((expectation) => {
    const actual = headers.get(expectation.name.toLowerCase())?.[0];
    switch (expectation.kind) {
      case "equals": {
        const { asked, value } = expectation;
        return (actual ?? "") === value ? [] : [`expected: [${value}], actual: [${actual ?? ""}], test type: ${asked}`];
      }
      case "matches":
        return matchHeader(expectation.match, headers)
          ? []
          : [describeMismatch(expectation, expectation.match, actual)];
      default:
        return expectation satisfies never;
    }
  });
}

function describeMismatch(
  { asked, name }: HeaderExpectation,
  { invert, value }: HeaderMatch,
  actual: string | undefined,
): string {
  if (value.kind === "present") {
    const wanted = value.present !== invert;
    return `expected: [has(${name}):${wanted}], actual: [has(${name}):${!wanted}], test type: ${asked}`;
  }
  const found = `[${name}: ${actual ?? "NULL"}], test type: ${asked}`;
  if (!asked.endsWith("string_match.exact")) return `actual: ${found}`;
  const wanted =
    value.kind === "range" ? `[${value.start}, ${value.end})` : value.kind === "regex" ? value.pattern : value.value;
  return `expected: [${name}: ${wanted}], actual: ${invert ? "NOT " : ""}${found}`;
}

export interface ReportOptions {
  readonly details: boolean;
  readonly onlyShowFailures: boolean;
  /** Percent; 0 asks for nothing. */
  readonly failUnder: number;
  readonly covall: boolean;
  readonly detailedCoverage: boolean;
}

export interface Report {
  readonly lines: readonly { readonly text: string; readonly failed: boolean }[];
  readonly passed: boolean;
}

/** What the tool prints, line by line, and how it ends. */
export function reportChecks(results: readonly Checked[], coverage: Coverage, options: ReportOptions): Report {
  const failed = results.filter(({ failures }) => failures.length > 0);
  const shown = options.onlyShowFailures ? failed : options.details ? results : [];
  const lines = shown.flatMap(({ name, failures }) =>
    [name, ...failures].map((text) => ({ text, failed: failures.length > 0 })),
  );
  if (failed.length > 0) {
    const mend = shown.length > 0 ? "" : ' (try "--details")';
    const text = `xlb: ${failed.length} of ${results.length} tests failed${mend}`;
    return { lines: [...lines, { text, failed: true }], passed: false };
  }
  const reached = options.covall ? coverage.aspects : coverage.routes;
  for (const { virtualHost, route } of options.covall || options.detailedCoverage ? coverage.untested : []) {
    const what = options.covall ? `route: ${matchText(route)}` : `route name: ${route.name}`;
    lines.push({ text: `Missing test for host: ${virtualHost.name}, ${what}`, failed: false });
  }
  lines.push({ text: `Current route coverage: ${shortNumber(reached)}%`, failed: false });
  const passed = reached >= options.failUnder;
  if (!passed)
    lines.push({ text: `Failed to meet coverage requirement: ${shortNumber(options.failUnder)}%`, failed: true });
  return { lines, passed };
}

/** Six digits at most. */
const shortNumber = (value: number) => String(Number(value.toPrecision(6)));

const PATH_FIELDS = {
  prefix: "prefix",
  path: "path",
  pathSeparatedPrefix: "path_separated_prefix",
  regex: "safe_regex",
} as const;

function pathText(path: PathMatch): string {
  if (path.kind !== "regex") return `${PATH_FIELDS[path.kind]}: ${JSON.stringify(path.value)}`;
  if (path.template !== undefined) return `path_match_policy: ${JSON.stringify(path.template)}`;
  return `${PATH_FIELDS.regex}: ${JSON.stringify(path.pattern)}`;
}

/** The match of a route, as near to its configuration as a line allows. */
function matchText({ path, headers, query = [], grpc }: Route): string {
  const parts = [pathText(path)];
  if (path.kind !== "regex" && !path.caseSensitive) parts.push("case_sensitive: false");
  for (const { name } of headers) parts.push(`headers: ${JSON.stringify(name)}`);
  for (const { name } of query) parts.push(`query_parameters: ${JSON.stringify(name)}`);
  if (grpc) parts.push("grpc");
  return parts.join(", ");
}
