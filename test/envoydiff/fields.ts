import type { Dice } from "../dice.ts";
import { someEdits } from "./edits.ts";
import { FILTERS } from "./faults.ts";
import { LIMITED_LISTENER } from "./limits.ts";
import { OWN_LISTENER } from "./own.ts";
import type { ClusterSpec, ConditionPart, Draft, EndpointSpec, Json, OptionPart, PathPart, Spec } from "./spec.ts";

/**
 * Every field that the comparison knows, each in one place: what it writes into a configuration, how a request is bent
 * towards its edge, and whether the kernel path follows it. A new field is a part in one of these lists; what it means
 * for the answer is `reference.ts`.
 */

// ---- paths ----

const SEGMENTS = [
  "a",
  "b",
  "api",
  "Api",
  "v1",
  "v1.0",
  "%41",
  "a%2Fb",
  "a-b_c~",
  ".",
  "..",
  "x;p=1",
  "a:b",
  "",
  "a+b",
  "@",
];

export const anyPath = (dice: Dice) =>
  `/${Array.from({ length: dice.between(0, 3) }, () => dice.one(SEGMENTS)).join("/")}`;

/** Other letters: one, or all. */
export function otherCase(text: string, dice: Dice): string {
  const flip = (letter: string) => (letter === letter.toLowerCase() ? letter.toUpperCase() : letter.toLowerCase());
  const at = dice.between(0, Math.max(0, text.length - 1));
  return dice.chance(0.5)
    ? text.replace(/[a-zA-Z]/g, flip)
    : text.slice(0, at) + flip(text.charAt(at)) + text.slice(at + 1);
}

/** How often a request has what one condition asks for; the other requests are at its edge, or beyond. */
const HIT = 0.7;

function nearPath(path: string, dice: Dice): string {
  if (dice.chance(HIT) && path.startsWith("/")) return path;
  const edges = [
    path,
    path,
    `${path}/`,
    `${path}x`,
    `${path}/x`,
    `${path}//`,
    `${path}%2F`,
    `${path};x`,
    `${path}.`,
    path.slice(0, -1),
    path.slice(0, -1) + String.fromCharCode(path.charCodeAt(path.length - 1) + 1),
    path.replace("/", "//"),
    `/x${path}`,
    `${path}${path}`,
    otherCase(path, dice),
    `${otherCase(path, dice)}/x`,
  ];
  const near = dice.one(edges);
  return near.startsWith("/") ? near : `/${near}`;
}

const SUFFIXES = ["?", "?a", "?a=b&c=%20", "?/a/b", "??", "?a=/x?y", "?A=1", "?a=1&a=2"];

function pathPart(name: string, weight: number, make: (dice: Dice) => string): PathPart {
  return {
    name,
    kernel: true,
    weight,
    make: (dice) => ({ [name]: make(dice), ...(dice.chance(0.35) ? { case_sensitive: dice.chance(0.15) } : {}) }),
    aim(match, draft, dice) {
      draft.path = nearPath(match[name] as string, dice);
      draft.suffix = dice.chance(0.4) ? dice.one(SUFFIXES) : "";
    },
  };
}

/** What a text is when a regular expression says it: now and then with a part that takes others too. */
export function patternFor(text: string, dice: Dice): string {
  const literal = text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  if (dice.chance(0.3)) return literal;
  const at = dice.between(0, text.length);
  const [before, behind] = [text.slice(0, at), text.slice(at)].map((part) =>
    part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"),
  );
  return dice.one([
    `${before}.*`,
    `${before}[^/]+`,
    `.*${behind}`,
    `${before}.?${behind}`,
    `(?i)${literal}`,
    `^${literal}$`,
    `(${before}|${behind})`,
    `${before}(a|b)*${behind}`,
    `${before}[a-z0-9]{0,3}${behind}`,
    `\\b?${literal}`.slice(3),
  ]);
}

/** The text that a pattern was made of, about: what is no letter of expressions stays. */
const textOf = (pattern: string) => pattern.replace(/\(\?i\)|[\^$()|*+?[\]{}\\]|0-9|a-z|0,3/g, "");

const regexPath: PathPart = {
  name: "safe_regex",
  kernel: true,
  weight: 2,
  make: (dice) => ({ safe_regex: { regex: patternFor(anyPath(dice), dice) } }),
  aim(match, draft, dice) {
    draft.path = nearPath(textOf((match.safe_regex as Json).regex as string), dice);
    draft.suffix = dice.chance(0.4) ? dice.one(SUFFIXES) : "";
  },
};

/** Segments of a URI template; `**` stands last, as nothing but text may follow it. */
function templateFor(dice: Dice): string {
  const open = ["*", "{one}", "{two=*}", "{three=a/*}", "{four=b/*/v1}"];
  const literals = SEGMENTS.filter((segment) => segment !== "");
  const segments: string[] = [];
  for (let n = dice.between(0, 3); n > 0; n--) {
    const segment = dice.chance(0.5) ? dice.one(open) : dice.one(literals);
    if (segment === "*" || !segments.includes(segment)) segments.push(segment);
  }
  if (dice.chance(0.4)) segments.push(dice.one(["**", "{rest=**}", "{rest=a/**}"]));
  const isOpen = /[*}]$/.test(segments.at(-1) ?? "");
  const end = segments.length === 0 ? "" : dice.one(isOpen ? ["", "", "/", ".v1", "%41"] : ["", "", "/"]);
  return `/${segments.join("/")}${end}`;
}

/** A path that a template takes. */
function fillTemplate(template: string, dice: Dice): string {
  const bare = template.replace(/\{\w+\}/g, "*").replace(/\{\w+=([^}]*)\}/g, "$1");
  return bare
    .replace(/\*\*/g, () => anyPath(dice).slice(1))
    .replace(/\*/g, () => dice.one(SEGMENTS.filter((segment) => segment !== "")));
}

const templatePath: PathPart = {
  name: "path_match_policy",
  kernel: true,
  weight: 2,
  make: (dice) => ({
    path_match_policy: {
      name: "envoy.path.match.uri_template.uri_template_matcher",
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
        path_template: templateFor(dice),
      },
    },
  }),
  aim(match, draft, dice) {
    const { typed_config } = match.path_match_policy as Json;
    draft.path = nearPath(fillTemplate((typed_config as Json).path_template as string, dice), dice);
    draft.suffix = dice.chance(0.4) ? dice.one(SUFFIXES) : "";
  },
};

/** What takes the place of a `prefix_rewrite` where the path is matched by a template: XLB refuses the two together. */
export function besideTemplate<A extends object>(match: Json, action: A, dice: Dice): A {
  const policy = match.path_match_policy as Json | undefined;
  if (policy === undefined) return action;
  const template = (policy.typed_config as Json).path_template as string;
  const names = [...template.matchAll(/\{(\w+)/g)].map(([, name = ""]) => name);
  const rewritten = ["/", "/new", ...names.flatMap((name) => [`/{${name}}`, `/x/{${name}}.y`, `/{${name}}/{${name}}`])];
  const entries = Object.entries(action).map(([key, value]: [string, Json]) => {
    if (value?.prefix_rewrite === undefined) return [key, value];
    const { prefix_rewrite: _, ...rest } = value;
    const path_rewrite_policy = {
      name: "envoy.path.rewrite.uri_template.uri_template_rewriter",
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig",
        path_template_rewrite: dice.one(rewritten),
      },
    };
    return [key, key === "route" ? { ...rest, path_rewrite_policy } : rest];
  });
  return Object.fromEntries(entries) as A;
}

export const PATHS: readonly PathPart[] = [
  pathPart("prefix", 5, (dice) => (dice.chance(0.12) ? dice.one(["", "/", "a", "/a?b", "/%"]) : anyPath(dice))),
  pathPart("path", 3, (dice) => (dice.chance(0.08) ? dice.one(["*", "/a?b", "a"]) : anyPath(dice))),
  pathPart("path_separated_prefix", 3, (dice) => {
    const path = anyPath(dice).replace(/\/+$/, "");
    return path === "" ? "/a" : path;
  }),
  regexPath,
  templatePath,
];

// ---- conditions ----

/** No more than the 12 names that the kernel path tells apart in all listeners together. */
const NAMES = [
  "x-a",
  "x-b",
  "X-A",
  "X-Long-Name-Of-A-Header",
  "accept",
  "cookie",
  "user-agent",
  "authorization",
  "content-type",
];
const PSEUDO = [":method", ":authority", ":path", "host"];
const LETTERS = "abAB,;= /";

const anyValue = (dice: Dice, least: number) => {
  const text = dice.text(dice.between(least, 4), LETTERS).trim();
  return text.length < least ? "a" : text;
};

function valueFor(name: string, dice: Dice, least: number): string {
  switch (name) {
    case ":method":
      return dice.one(["GET", "POST", "PUT", "P", "get", "E", "HEAD", "OPTIONS"]);
    case ":path":
      return dice.one([anyPath(dice), "?", "?a", "a", "/", "/a?a=b&c=%20"]);
    case ":authority":
    case "host":
      return dice.one(["a.test", "A.test", ".test", "a", ":80", "test", "b.a.test"]);
    default:
      return anyValue(dice, least);
  }
}

/** Values at the edge of one that is asked for. */
function nearValue(value: string, dice: Dice): string {
  if (dice.chance(HIT)) return value;
  return dice.one([
    value,
    value,
    value,
    `${value}x`,
    `x${value}`,
    `x${value}x`,
    `a${value}`,
    value.slice(1),
    value.slice(0, -1),
    otherCase(value, dice),
    `${value},${value}`,
    value.replace(",", ", "),
    "",
  ]);
}

/** The values' places in a request: none, one, more than one. */
export function setHeader(name: string, values: readonly string[], draft: Draft, dice: Dice): void {
  const lower = name.toLowerCase();
  draft.headers = draft.headers.filter(([have]) => have.toLowerCase() !== lower);
  for (const value of values) {
    const at = dice.between(0, draft.headers.length);
    draft.headers.splice(at, 0, [dice.chance(0.3) ? otherCase(name, dice) : name, value]);
  }
}

function aimHeader(name: string, value: string, draft: Draft, dice: Dice): void {
  const near = nearValue(value, dice);
  switch (name.toLowerCase()) {
    case ":method":
      if (/^[A-Z]+$/.test(near)) draft.method = near;
      return;
    case ":path": {
      const [path = "", ...rest] = near.split("?");
      draft.path = path.startsWith("/") ? path : `/${path}`;
      draft.suffix = near.includes("?") ? `?${rest.join("?")}` : "";
      return;
    }
    case ":authority":
    case "host":
      if (near !== "" && dice.chance(0.5)) draft.host = near;
      return;
    case ":scheme":
      return;
    default:
      setHeader(
        name,
        dice.chance(HIT)
          ? [near]
          : dice.one([
              [near],
              [near],
              [near],
              [near],
              [],
              [""],
              [near, nearValue(value, dice)],
              [near, "x"],
              ["x", near],
              value.split(","),
            ]),
        draft,
        dice,
      );
  }
}

const inverted = (dice: Dice) => (dice.chance(0.3) ? { invert_match: dice.chance(0.85) } : {});
const nameOf = (dice: Dice) => dice.one(dice.chance(0.2) ? PSEUDO : NAMES);

/** `string_match`, and the older fields that it replaced: a value asked of a header. */
function headerPart(
  kind: "exact" | "prefix" | "suffix" | "contains",
  form: "string_match" | "deprecated",
): ConditionPart {
  const name = form === "string_match" ? `string_match.${kind}` : `${kind}_match`;
  const least = kind === "exact" ? 0 : 1;
  return {
    name: `headers.${name}`,
    kernel: true,
    list: "headers",
    weight: form === "string_match" ? 2 : 1,
    make(dice) {
      const header = nameOf(dice);
      const value = valueFor(header, dice, least);
      const ignoring = dice.chance(0.35) ? { ignore_case: dice.chance(0.85) } : {};
      const match = form === "string_match" ? { string_match: { [kind]: value, ...ignoring } } : { [name]: value };
      return { name: header, ...match, ...inverted(dice) };
    },
    aim(entry, draft, dice) {
      const from = form === "string_match" ? (entry.string_match as Json)[kind] : entry[name];
      aimHeader(entry.name as string, from as string, draft, dice);
    },
  };
}

const regex: ConditionPart = {
  name: "headers.string_match.safe_regex",
  kernel: true,
  list: "headers",
  weight: 2,
  make(dice) {
    const header = nameOf(dice);
    const pattern = { regex: patternFor(valueFor(header, dice, 1), dice) };
    const match = dice.chance(0.7) ? { string_match: { safe_regex: pattern } } : { safe_regex_match: pattern };
    const missing = dice.chance(0.3) ? { treat_missing_header_as_empty: true } : {};
    return { name: header, ...match, ...missing, ...inverted(dice) };
  },
  aim(entry, draft, dice) {
    const { safe_regex } = (entry.string_match ?? { safe_regex: entry.safe_regex_match }) as Json;
    aimHeader(entry.name as string, textOf((safe_regex as Json).regex as string), draft, dice);
  },
};

const present: ConditionPart = {
  name: "headers.present_match",
  kernel: true,
  list: "headers",
  weight: 3,
  make: (dice) => ({
    name: nameOf(dice),
    ...(dice.chance(0.7) ? { present_match: dice.chance(0.5) } : {}),
    ...inverted(dice),
  }),
  aim: (entry, draft, dice) => aimHeader(entry.name as string, dice.one(["a", ""]), draft, dice),
};

const range: ConditionPart = {
  name: "headers.range_match",
  kernel: false,
  list: "headers",
  weight: 0.6,
  make(dice) {
    const start = dice.between(-3, 12);
    const range = { start, end: start + dice.between(0, 12) };
    return { name: dice.one(["x-a", "x-b", "cookie"]), range_match: range, ...inverted(dice) };
  },
  aim(entry, draft, dice) {
    const { start, end } = entry.range_match as { start: number; end: number };
    const number = dice.one([start, start - 1, end, end - 1, start + 1]);
    const written = [
      `${number}`,
      `${number}`,
      `${number}`,
      `+${number}`,
      `0${number}`,
      `${number}.0`,
      `${number}x`,
      "-",
    ];
    setHeader(
      entry.name as string,
      [dice.one([...written, "9223372036854775808", " ", `${number}, ${number}`])],
      draft,
      dice,
    );
  },
};

const PARAMETERS = ["a", "b", "A", "a b", "a%20", ""];
/** With the headers' names no more than the kernel path tells apart. */
const ASKED_PARAMETERS = PARAMETERS.filter((name) => name !== "" && name !== "b");

/** What is asked of a parameter of the query; its values hold what a query may. */
const query: ConditionPart = {
  name: "query_parameters",
  kernel: true,
  list: "query_parameters",
  weight: 1.5,
  make(dice) {
    const name = dice.one(ASKED_PARAMETERS);
    const value = dice.text(dice.between(1, 3), "abA=/%2");
    const match = dice.one([
      { present_match: dice.chance(0.6) },
      { string_match: { exact: dice.chance(0.2) ? "" : value, ignore_case: dice.chance(0.3) } },
      { string_match: { [dice.one(["prefix", "suffix", "contains"])]: value, ignore_case: dice.chance(0.3) } },
      { string_match: { safe_regex: { regex: patternFor(value, dice) } } },
      {},
    ]);
    return { name, ...match };
  },
  aim(entry, draft, dice) {
    const { safe_regex, ignore_case, ...plain } = (entry.string_match ?? {}) as Json;
    const asked = safe_regex === undefined ? Object.values(plain)[0] : textOf((safe_regex as Json).regex as string);
    const near = nearValue((asked as string | undefined) ?? dice.one(["a", ""]), dice).replace(/[ ,;#?]/g, "");
    const name = (entry.name as string).replace(" ", "+");
    const one = dice.one([`${name}=${near}`, `${name}=${near}`, `${name}=${near}`, name, `${name}=`, `=${near}`]);
    const other = `${dice.one(PARAMETERS).replace(" ", "+")}=${dice.one(["", "a", near])}`;
    const all = dice.one([[one], [one], [other, one], [one, other], [one, one], ["", one], [`${one}=`], []]);
    draft.suffix = all.length === 0 ? "" : `?${all.join("&")}`;
  },
};

/** `runtime_fraction`, of which all, none or some requests are taken. */
const fraction: ConditionPart = {
  name: "runtime_fraction",
  kernel: false,
  single: "runtime_fraction",
  weight: 0.4,
  make: (dice) => ({
    default_value: dice.one([
      { numerator: 0 },
      { numerator: 100 },
      { numerator: dice.between(1, 99), denominator: "HUNDRED" },
      { numerator: 10_000, denominator: "TEN_THOUSAND" },
      { numerator: 0, denominator: "MILLION" },
    ]),
    ...(dice.chance(0.3) ? { runtime_key: "some.key" } : {}),
  }),
  aim() {},
};

const grpc: ConditionPart = {
  name: "grpc",
  kernel: false,
  single: "grpc",
  weight: 0.4,
  make: () => ({}),
  aim(_, draft, dice) {
    const types = [
      "application/grpc",
      "application/grpc+proto",
      "application/grpc+",
      "application/grpcx",
      "text/plain",
    ];
    setHeader("content-type", dice.chance(0.9) ? [dice.one([types[0]!, ...types])] : [], draft, dice);
  },
};

/** Headers that the kernel path does not keep for the rules. */
const unkept: ConditionPart = {
  name: "headers of the slow path",
  kernel: false,
  list: "headers",
  weight: 0.3,
  make: (dice) => ({
    ...dice.one([
      { name: ":scheme", string_match: { exact: dice.one(["http", "https"]) } },
      { name: "content-length", present_match: dice.chance(0.5) },
      { name: "content-length", string_match: { exact: "2" } },
      { name: "x-a", string_match: { exact: "é" } },
    ]),
    ...inverted(dice),
  }),
  aim(_, draft, dice) {
    draft.method = "POST";
    draft.body = dice.one(["", "ab", "abc"]);
  },
};

export const CONDITIONS: readonly ConditionPart[] = [
  ...(["exact", "prefix", "suffix", "contains"] as const).flatMap((kind) => [
    headerPart(kind, "string_match"),
    headerPart(kind, "deprecated"),
  ]),
  present,
  regex,
  range,
  query,
  fraction,
  grpc,
  unkept,
];

// ---- listeners ----

/** What of a path normalisation changes, or just not. */
function aimNormalisation(_: unknown, draft: Draft, dice: Dice): void {
  const parts = [
    "/./",
    "/../",
    "/.",
    "/..",
    "//",
    "%2e",
    "%41",
    "%2F",
    "%5c",
    "%7f",
    "%",
    "%zz",
    "\\",
    "^",
    "/..;x",
    "%00",
  ];
  const at = dice.between(1, draft.path.length);
  draft.path = `${draft.path.slice(0, at)}${dice.one(parts)}${draft.path.slice(at)}`;
}

type Manager = { readonly [Field in keyof Spec]: Spec[Field] };

export const LISTENER: readonly OptionPart<Manager>[] = [
  {
    name: "ignore_port_in_host_matching",
    kernel: true,
    chance: 0.4,
    put({ routes }, dice) {
      routes.ignore_port_in_host_matching = dice.chance(0.85);
    },
  },
  {
    name: "codec_type",
    kernel: true,
    chance: 0.3,
    put({ manager }, dice) {
      manager.codec_type = dice.one(["AUTO", "HTTP1"]);
    },
  },
  {
    name: "accept_http_10",
    kernel: true,
    chance: 0.3,
    put({ manager }, dice) {
      const fallback = dice.chance(0.6) ? { default_host_for_http_10: dice.one(["a.test", "b.test"]) } : {};
      manager.http_protocol_options = { accept_http_10: true, ...fallback };
    },
    aim(_, draft, dice) {
      draft.version = "HTTP/1.0";
      if (dice.chance(0.4)) draft.host = undefined;
      if (dice.chance(0.4)) draft.headers.push(["Connection", "keep-alive"]);
    },
  },
  {
    name: "upgrade_configs",
    kernel: true,
    chance: 0.2,
    put({ manager }) {
      manager.upgrade_configs = [{ upgrade_type: "websocket" }];
    },
  },
  {
    name: "max_headers_count",
    kernel: false,
    chance: 0.04,
    put({ manager }, dice) {
      manager.common_http_protocol_options = { max_headers_count: dice.between(4, 20) };
    },
    aim({ manager }, draft, dice) {
      const { max_headers_count: most } = manager.common_http_protocol_options as { max_headers_count: number };
      for (let more = most - draft.headers.length - dice.between(0, 3); more > 0; more--)
        draft.headers.push(["x-f", "1"]);
    },
  },
  {
    name: "normalize_path",
    kernel: true,
    chance: 0.2,
    put({ manager }, dice) {
      manager.normalize_path = dice.chance(0.9);
    },
    aim: aimNormalisation,
  },
  {
    name: "merge_slashes",
    kernel: true,
    chance: 0.15,
    put({ manager }, dice) {
      manager.merge_slashes = dice.chance(0.9);
    },
    aim: aimNormalisation,
  },
  {
    name: "path_with_escaped_slashes_action",
    kernel: true,
    chance: 0.15,
    put({ manager }, dice) {
      manager.path_with_escaped_slashes_action = dice.one([
        "KEEP_UNCHANGED",
        "REJECT_REQUEST",
        "UNESCAPE_AND_REDIRECT",
        "UNESCAPE_AND_FORWARD",
      ]);
    },
    aim: aimNormalisation,
  },
  {
    name: "strip_any_host_port",
    kernel: true,
    chance: 0.15,
    put({ manager }, dice) {
      manager.strip_any_host_port = dice.chance(0.9);
    },
  },
  {
    name: "strip_matching_host_port",
    kernel: true,
    chance: 0.08,
    put({ manager }, dice) {
      if (manager.strip_any_host_port === undefined) manager.strip_matching_host_port = dice.chance(0.9);
    },
  },
  {
    name: "strip_trailing_host_dot",
    kernel: true,
    chance: 0.15,
    put({ manager }, dice) {
      manager.strip_trailing_host_dot = dice.chance(0.9);
    },
    aim(_, draft, dice) {
      draft.host = `${draft.host ?? "a"}${dice.one([".", "..", ".:80"])}`;
    },
  },
  {
    name: "headers_with_underscores_action",
    kernel: false,
    chance: 0.04,
    put({ manager }, dice) {
      manager.common_http_protocol_options = {
        ...(manager.common_http_protocol_options as Json | undefined),
        headers_with_underscores_action: dice.one(["REJECT_REQUEST", "DROP_HEADER"]),
      };
    },
    aim(_, draft) {
      draft.headers.push(["x_a", "1"]);
    },
  },
  {
    name: "header edits of a route configuration",
    kernel: false,
    chance: 0.06,
    put({ routes }, dice) {
      Object.assign(routes, someEdits(dice));
    },
  },
  {
    name: "internal_only_headers",
    kernel: false,
    chance: 0.06,
    put({ routes }, dice) {
      routes.internal_only_headers = [...new Set([dice.one(NAMES), dice.one(NAMES)])];
    },
    aim({ routes }, draft, dice) {
      if (dice.chance(0.6)) draft.headers.push([dice.one(routes.internal_only_headers as string[]), "1"]);
    },
  },
  {
    name: "most_specific_header_mutations_wins",
    kernel: true,
    chance: 0.2,
    put({ routes }, dice) {
      routes.most_specific_header_mutations_wins = dice.chance(0.8);
    },
  },
  {
    name: "max_request_headers_kb",
    kernel: true,
    chance: 0.06,
    put({ manager }, dice) {
      manager.max_request_headers_kb = dice.between(8, 12);
    },
    aim({ manager }, draft, dice) {
      const bytes = (manager.max_request_headers_kb as number) * 1_024;
      draft.headers.push(["x-f", "f".repeat(bytes + dice.one([-600, 300]))]);
    },
  },
  ...LIMITED_LISTENER,
  ...OWN_LISTENER,
  ...FILTERS,
];

// ---- clusters ----

type Balanced = Omit<ClusterSpec, "endpoints"> & { readonly endpoints: EndpointSpec[] };

/** Of these it makes a difference to how often an endpoint is chosen, not to which may be. */
const bias = (dice: Dice): Json =>
  dice.chance(0.4)
    ? { active_request_bias: { default_value: dice.one([0, 0.5, 1, 2]), runtime_key: "some.bias" } }
    : {};
const slowStart = (dice: Dice): Json =>
  dice.chance(0.5)
    ? {
        slow_start_config: {
          slow_start_window: dice.one(["1s", "60s"]),
          ...(dice.chance(0.5) ? { aggression: { default_value: 1.5, runtime_key: "some.aggression" } } : {}),
          ...(dice.chance(0.5) ? { min_weight_percent: { value: 20 } } : {}),
        },
      }
    : {};
const zoneAware = (dice: Dice): Json => ({
  ...(dice.chance(0.6) ? { fail_traffic_on_panic: true } : {}),
  ...(dice.chance(0.4) ? { routing_enabled: { value: dice.one([0, 50]) } } : {}),
  ...(dice.chance(0.4) ? { min_cluster_size: dice.between(1, 3) } : {}),
});

const HEALTH = ["HEALTHY", "UNKNOWN", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED"];

/** Few names: what tries along them make of a host is gone through. Some have none. */
export function nameEndpoints(endpoints: readonly EndpointSpec[], dice: Dice): void {
  for (const endpoint of endpoints) if (dice.chance(0.8)) endpoint.hostname = dice.one(["e.test", "E2.Test:8080"]);
}

export const CLUSTER: readonly OptionPart<Balanced>[] = [
  {
    name: "lb_policy",
    kernel: true,
    chance: 0.7,
    put({ options }, dice) {
      options.lb_policy = dice.one(["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"]);
      if (options.lb_policy === "LEAST_REQUEST" && dice.chance(0.3))
        options.least_request_lb_config = { choice_count: dice.between(2, 4), ...bias(dice), ...slowStart(dice) };
      if (options.lb_policy === "ROUND_ROBIN" && dice.chance(0.2)) options.round_robin_lb_config = slowStart(dice);
    },
  },
  {
    name: "load_balancing_weight",
    kernel: true,
    chance: 0.25,
    put({ endpoints }, dice) {
      for (const endpoint of endpoints) if (dice.chance(0.7)) endpoint.load_balancing_weight = dice.between(1, 4);
    },
  },
  {
    /* Where degraded endpoints take a share, the slow path has the cluster, but for the rules there is no change. */
    name: "health_status",
    kernel: true,
    chance: 0.25,
    put({ endpoints }, dice) {
      for (const endpoint of endpoints) if (dice.chance(0.7)) endpoint.health_status = dice.one(HEALTH);
    },
  },
  {
    name: "hostname",
    kernel: true,
    chance: 0.2,
    put: ({ endpoints }, dice) => nameEndpoints(endpoints, dice),
  },
  {
    /* Of addresses, so that nobody has to be asked. */
    name: "STRICT_DNS",
    kernel: true,
    chance: 0.05,
    put({ options }) {
      options.type = "STRICT_DNS";
    },
  },
  {
    name: "priority",
    kernel: true,
    chance: 0.2,
    put({ endpoints }, dice) {
      for (const endpoint of endpoints) if (dice.chance(0.5)) endpoint.priority = dice.between(0, 2);
    },
  },
  {
    name: "zone",
    kernel: true,
    chance: 0.2,
    put({ options, endpoints }, dice) {
      for (const endpoint of endpoints) {
        endpoint.zone = dice.one(["a", "bb"]);
        if (dice.chance(0.3)) endpoint.region = "r";
        if (dice.chance(0.3)) endpoint.sub_zone = "s";
      }
      /* A typed policy has them in itself. */
      if (dice.chance(0.5) && options.load_balancing_policy === undefined)
        options.common_lb_config = { ...(options.common_lb_config as Json), locality_weighted_lb_config: {} };
    },
  },
  {
    name: "healthy_panic_threshold",
    kernel: true,
    chance: 0.15,
    put({ options }, dice) {
      const before = options.common_lb_config as Json | undefined;
      const zones =
        before === undefined && options.load_balancing_policy === undefined && dice.chance(0.5)
          ? zoneAware(dice)
          : undefined;
      options.common_lb_config = {
        ...before,
        healthy_panic_threshold: { value: dice.one([0, 20, 50, 66.7, 100]) },
        ...(zones ? { zone_aware_lb_config: zones } : {}),
      };
    },
  },
  {
    name: "load_balancing_policy",
    kernel: true,
    chance: 0.15,
    put({ options }, dice) {
      const { locality_weighted_lb_config, zone_aware_lb_config, ...common } = (options.common_lb_config ?? {}) as Json;
      const localities = locality_weighted_lb_config
        ? { locality_lb_config: { locality_weighted_lb_config } }
        : zone_aware_lb_config
          ? { locality_lb_config: { zone_aware_lb_config } }
          : {};
      delete options.least_request_lb_config;
      delete options.round_robin_lb_config;
      options.common_lb_config = common;
      const [type, more] = dice.one([
        ["round_robin.v3.RoundRobin", slowStart(dice)],
        ["least_request.v3.LeastRequest", { selection_method: "FULL_SCAN", ...bias(dice), ...slowStart(dice) }],
        ["least_request.v3.LeastRequest", { choice_count: dice.between(2, 4) }],
        ["random.v3.Random", {}],
      ] as const);
      const name = `type.googleapis.com/envoy.extensions.load_balancing_policies.${type}`;
      const typed_config = { "@type": name, ...more, ...localities };
      options.load_balancing_policy = { policies: [{ typed_extension_config: { name: "x", typed_config } }] };
    },
  },
  {
    name: "overprovisioning_factor",
    kernel: true,
    chance: 0.15,
    put(cluster, dice) {
      cluster.policy = {
        overprovisioning_factor: dice.one([100, 140, 200]),
        ...(dice.chance(0.3) ? { weighted_priority_health: true } : {}),
        ...(dice.chance(0.2)
          ? { drop_overloads: [{ category: "c", drop_percentage: { numerator: dice.one([0, 50, 100]) } }] }
          : {}),
      };
    },
  },
];
