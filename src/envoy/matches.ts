import type {
  Fraction,
  HeaderMatch,
  HeaderValueMatch,
  PathMatch,
  QueryMatch,
  RegexMatch,
  RegexRewrite,
  Route,
  StringMatch,
} from "../model/config.ts";
import { compileProgram, PatternError } from "../tables/re2.ts";
import { lowerCase } from "../tables/text.ts";
import type { Fields } from "./fields.ts";
import { parseUriTemplate } from "./uri-template.ts";

/** What a request must be like for a route to take it. */
export function readMatch(match: Fields): Omit<Route, "name" | "action"> {
  const query = match.messages("query_parameters").map(readQuery);
  const fraction = match.message("runtime_fraction");
  return {
    path: readPath(match),
    headers: match.messages("headers").map(readHeader),
    query: query.length === 0 ? undefined : query,
    fraction: fraction && readFraction(fraction),
    grpc: match.message("grpc") && true,
  };
}

/** Stands for a match that was rejected. */
export const NO_MATCH: Omit<Route, "name" | "action"> = {
  path: { kind: "path", value: "", caseSensitive: true },
  headers: [],
};

const PATHS = { prefix: "prefix", path: "path", path_separated_prefix: "pathSeparatedPrefix" } as const;

function readPath(match: Fields): PathMatch {
  const caseSensitive = match.boolean("case_sensitive") ?? true;
  // As in Envoy, case_sensitive says nothing to a regular expression.
  if (match.has("safe_regex")) return readRegex(match.message("safe_regex"));
  const policy = match.message("path_match_policy");
  if (policy !== undefined) return readTemplate(policy);
  for (const [field, kind] of Object.entries(PATHS)) {
    if (match.has(field)) return { kind, value: match.string(field), caseSensitive };
  }
  return NO_MATCH.path;
}

const TEMPLATE = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";

/** `path_match_policy`: there is one, the URI template. */
function readTemplate(policy: Fields): PathMatch {
  policy.skip("name");
  const config = policy.has("typed_config") ? policy.packed("typed_config", TEMPLATE) : undefined;
  const template = config?.string("path_template") ?? "";
  if (config === undefined || config.isBroken("path_template") || template === "") return NO_MATCH.path;
  const parsed = parseUriTemplate(template);
  if (parsed.ok) return { kind: "regex", pattern: parsed.value.pattern, template };
  config.reject("path_template", `is no URI template: ${parsed.problem}`);
  return NO_MATCH.path;
}

/**
 * Headers that Envoy changes, removes or makes up before it looks for a route (so did Envoy 1.40), beside its own
 * x-envoy-*. XLB leaves a request's headers alone, so a rule about one of these would not mean the same.
 */
const REWRITTEN: ReadonlySet<string> = new Set([
  "connection",
  "expect",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
  "x-forwarded-client-cert",
  "x-forwarded-proto",
  "x-request-id",
]);

/** Whether a header does not mean to XLB what it means to Envoy; its name is in lower case. */
export const isRewritten = (name: string) => REWRITTEN.has(name) || name.startsWith("x-envoy-");

/** The name of a header that decides something, as Envoy knows it. */
export function readHeaderName(owner: Fields, field: string): string {
  const name = headerName(owner.string(field));
  if (isRewritten(name))
    owner.reject(field, `rules about ${name} are not supported yet: Envoy rewrites it`, "match another header");
  return name;
}

/** To Envoy Host and :authority are one header. */
export function headerName(written: string): string {
  const name = lowerCase(written);
  return name === "host" ? ":authority" : name;
}

/** Of a route: none that Envoy rewrites. */
export function readHeader(header: Fields): HeaderMatch {
  readHeaderName(header, "name");
  return readHeaderMatch(header);
}

/** Of any header, be it one that Envoy rewrites. */
export function readHeaderMatch(header: Fields): HeaderMatch {
  return {
    name: headerName(header.string("name")),
    invert: header.boolean("invert_match") ?? false,
    missingIsEmpty: header.boolean("treat_missing_header_as_empty") || undefined,
    value: readHeaderValue(header),
  };
}

/** The forms that `string_match` has replaced. */
export const DEPRECATED = {
  exact_match: "exact",
  prefix_match: "prefix",
  suffix_match: "suffix",
  contains_match: "contains",
} as const;

function readHeaderValue(header: Fields): HeaderValueMatch {
  if (header.has("string_match")) return readString(header.message("string_match"));
  if (header.has("present_match")) return { kind: "present", present: header.boolean("present_match") ?? true };
  if (header.has("safe_regex_match")) return readRegex(header.message("safe_regex_match"));
  if (header.has("range_match")) return readRange(header.message("range_match"));
  for (const [field, kind] of Object.entries(DEPRECATED)) {
    if (!header.has(field)) continue;
    const value = header.string(field);
    // Here, and only here, the empty text means any value; a prefix says that, and inverts as Envoy's does.
    return { kind: value === "" ? "prefix" : kind, value, ignoreCase: false };
  }
  return { kind: "present", present: true };
}

function readRange(range: Fields | undefined): HeaderValueMatch {
  const [start, end] = (["start", "end"] as const).map((field) => {
    const value = range?.number(field) ?? 0;
    if (!Number.isSafeInteger(value)) range?.reject(field, "is too far from 0: XLB takes numbers of 53 bits");
    return value;
  });
  return { kind: "range", start: start!, end: end! };
}

const STRINGS = ["exact", "prefix", "suffix", "contains"] as const;

function readString(match: Fields | undefined): StringMatch {
  // As in Envoy, ignore_case says nothing to a regular expression.
  const ignoreCase = match?.boolean("ignore_case") ?? false;
  if (match?.has("safe_regex")) return readRegex(match.message("safe_regex"));
  const kind = STRINGS.find((kind) => match?.has(kind)) ?? "exact";
  return { kind, value: match?.string(kind) ?? "", ignoreCase };
}

function readQuery(query: Fields): QueryMatch {
  const name = query.string("name");
  if (query.has("string_match")) return { name, value: readString(query.message("string_match")) };
  return { name, value: { kind: "present", present: query.boolean("present_match") ?? true } };
}

const DENOMINATORS = { HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 } as const;

export function readFraction(fraction: Fields): Fraction {
  // There is no runtime to look the key up in, so what Envoy falls back to holds.
  fraction.skip("runtime_key");
  return readShare(fraction.message("default_value"));
}

/** Of a FractionalPercent. */
export function readShare(percent: Fields | undefined): Fraction {
  const denominator = percent?.oneOf("denominator", "HUNDRED", "TEN_THOUSAND", "MILLION") ?? "HUNDRED";
  return { share: percent?.number("numerator") ?? 0, outOf: DENOMINATORS[denominator] };
}

export function readRegex(regex: Fields | undefined): RegexMatch {
  // Says which engine, and there is one.
  regex?.message("google_re2");
  const pattern = regex?.string("regex") ?? "";
  if (regex !== undefined && !regex.isBroken("regex")) compilePattern(pattern, regex);
  return { kind: "regex", pattern };
}

/** How many groups a pattern has; undefined where it is none, which is said then. */
export function compilePattern(pattern: string, regex: Fields): number | undefined {
  try {
    return compileProgram(pattern).groups;
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    regex.reject("regex", `is no regular expression of RE2: error parsing regexp: ${error.message}`);
    return undefined;
  }
}

/** A pattern with what replaces its matches. */
export function readRegexRewrite(rewrite: Fields): RegexRewrite {
  const regex = rewrite.message("pattern");
  regex?.message("google_re2");
  const pattern = regex?.string("regex") ?? "";
  const substitution = rewrite.string("substitution");
  const groups = regex === undefined || regex.isBroken("regex") ? undefined : compilePattern(pattern, regex);
  const problem = groups === undefined ? undefined : substitutionProblem(substitution, groups);
  if (problem !== undefined) rewrite.reject("substitution", problem);
  return { kind: "regex", pattern, substitution };
}

function substitutionProblem(substitution: string, groups: number): string | undefined {
  for (const [, escaped = ""] of substitution.matchAll(/\\(.?)/gs)) {
    if (escaped === "\\") continue;
    if (!/\d/.test(escaped)) return "holds a \\ that neither a digit nor another \\ follows";
    if (Number(escaped) > groups) return `names group ${escaped}, but the pattern has ${groups}`;
  }
  return undefined;
}
