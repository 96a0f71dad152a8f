import { type Field, type RequestLine, tokens, values } from "./http1.ts";
import type { RoutedHead } from "./ports.ts";

/** RFC 9112 section 9.3. */
export function wantsMore({ headers, minor }: RequestLine): boolean {
  const words = tokens(headers, "connection");
  return minor === 1 ? !words.includes("close") : words.includes("keep-alive") && !words.includes("close");
}

/** Fields that speak of one connection only (RFC 9110 section 7.6.1) and that this proxy sets by itself. */
export const HOP_BY_HOP = new Set(["connection", "proxy-connection", "te", "upgrade", "http2-settings"]);

/**
 * What a client nominates is gone before the rules edit, so that it takes nothing away of what they add.
 * `tellsTrailers`: a server is told that its trailers are welcome, which is all that Envoy hands on of TE, but for an
 * upgrade, where it hands on all of it.
 */
export function withoutHopByHop(
  request: RequestLine,
  routed: RoutedHead,
  upgrade: string | undefined,
  tellsTrailers = false,
): RoutedHead {
  const nominated = new Set(tokens(request.headers, "connection"));
  const keepsAlive = nominated.size === 1 && nominated.has("keep-alive");
  const headers = routed.headers.filter(([name]) => {
    const lower = name.toLowerCase();
    if (lower === "expect") return false;
    if (upgrade !== undefined && (lower === "upgrade" || lower === "connection")) return true;
    if (upgrade !== undefined && lower === "te") return tellsTrailers;
    if (lower === "connection") return keepsAlive;
    return !HOP_BY_HOP.has(lower) && (!nominated.has(lower) || lower === "keep-alive");
  });
  if (request.minor === 0 && !headers.some(([n]) => n.toLowerCase() === "host"))
    headers.unshift(["Host", routed.authority]);
  if (tellsTrailers && upgrade === undefined && welcomesTrailers(request)) headers.push(["te", "trailers"]);
  return { ...routed, headers };
}

/** As Envoy reads it: without a weight, and only in lower case, unless Connection names it. */
function welcomesTrailers({ headers }: RequestLine): boolean {
  if (tokens(headers, "connection").includes("te")) return tokens(headers, "te").includes("trailers");
  return values(headers, "te").some((line) => line.split(",").some((word) => word.trim() === "trailers"));
}

/** In place of whatever was there by that name, which is in lower case. */
export function withFieldOf(fields: readonly Field[], name: string, value: string): readonly Field[] {
  return [...fields.filter(([other]) => other.toLowerCase() !== name), [name, value]];
}

/** The same of a head. */
export function withField(head: RoutedHead, name: string, value: string): RoutedHead {
  return { ...head, headers: withFieldOf(head.headers, name, value) };
}

/** `names` are in lower case. */
export function withoutFields(head: RoutedHead, names: ReadonlySet<string>): RoutedHead {
  if (!head.headers.some(([name]) => names.has(name.toLowerCase()))) return head;
  return { ...head, headers: head.headers.filter(([name]) => !names.has(name.toLowerCase())) };
}
