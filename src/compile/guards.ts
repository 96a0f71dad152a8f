import type { HeaderMatch, Normalisation, PathMatch, Route, RouteAction } from "../model/config.ts";

/** Any path of a route. */
export const ANY_PATH: PathMatch = { kind: "prefix", value: "", caseSensitive: true };

/** No cluster, no weight: the hook leaves such a route's requests to the slow path. */
export const GO_SLOW: RouteAction = { kind: "forward", clusters: [], timeoutMs: 0 };

/**
 * Routes before all others that take what `route/normalise.ts` would change: the slow path rewrites such heads. All
 * other heads are matched as they are, and a listener that asks for none of it has no such route.
 */
export function guardsOf({ path, mergeSlashes, escapedSlashes, port, dot }: Normalisation): readonly Route[] {
  const within = [
    ...(path ? [TO_ESCAPE, ESCAPED_FOR_NOTHING] : []),
    ...(mergeSlashes ? ["//"] : []),
    ...(escapedSlashes === undefined ? [] : ["%(?:2[Ff]|5[Cc])"]),
  ];
  const paths = [...within.map((part) => `.*${part}.*`), ...(path ? [DOT_SEGMENT] : [])];
  const hosts = [
    ...(port === undefined ? [] : [port === "any" ? ".*:[0-9]+" : `.*:0*${port}`]),
    ...(dot ? [DOT_BEFORE_PORT] : []),
  ];
  return [
    ...(paths.length === 0 ? [] : [guard({ kind: "regex", pattern: paths.join("|") }, [])]),
    ...(hosts.length === 0 ? [] : [guard(ANY_PATH, [authority(hosts.join("|"))])]),
  ];
}

const guard = (path: PathMatch, headers: readonly HeaderMatch[]): Route => ({
  name: "",
  path,
  headers,
  action: GO_SLOW,
});

const authority = (pattern: string): HeaderMatch => ({
  name: ":authority",
  invert: false,
  value: { kind: "regex", pattern },
});

const TO_ESCAPE = '["<>^`{|}\\\\]';
/** Letters, digits, `-`, `.`, `_` and `~`; and NUL, for which there is a 400. */
const ESCAPED_FOR_NOTHING = "%(?:00|2[DdEe]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe])";
const DOT_SEGMENT = ".*/\\.\\.?(?:[/;].*)?";
const DOT_BEFORE_PORT = ".*\\.(?::[^:\\]]*)?";
