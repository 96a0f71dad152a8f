import type { Answer } from "./compare.ts";
import type { Expected } from "./reference.ts";

/**
 * Where XLB is not Envoy, and is not meant to be. A rule explains an answer of Envoy that is not the reference's; for
 * the kernel path and the slow path there is no excuse, they must answer as the reference does.
 */
export interface Deliberate {
  readonly id: string;
  readonly why: string;
  explains(request: string, expected: Expected, envoy: Answer): boolean;
}

const REFUSALS: readonly number[] = [400, 426, 431, 501];
const repliesOf = ({ outcomes }: Expected) => outcomes.flatMap((each) => (each.kind === "reply" ? [each.status] : []));
const refuses = ({ outcomes: [first] }: Expected) => first?.kind === "reply" && first.status === 400;

/** Of a head: its first line, and the values of a header. */
const firstLine = (request: string) => request.replace(/^(\r\n)+/, "").split(/\r?\n/, 1)[0]!;
const valuesOf = (request: string, name: string) =>
  [...request.matchAll(new RegExp(`\\n${name}:[ \\t]*([^\\r\\n]*)`, "gi"))].map(([, value = ""]) => value);

export const DELIBERATE: readonly Deliberate[] = [
  {
    id: "line-ends",
    why: "Bare CR or LF, folded lines: readers read them differently, so XLB refuses them (RFC 9112, 2.2, 5.2).",
    explains: (request, expected) => refuses(expected) && /[^\r]\n|\r(?!\n)|\n[ \t]/.test(request),
  },
  {
    id: "versions",
    why: "Envoy takes any HTTP/<digit>.<digit> for 1.1; XLB takes 1.1 and 1.0 only, and no space behind them.",
    explains: (request, expected) => refuses(expected) && !/^\S+ \S+ HTTP\/1\.[01]$/.test(firstLine(request)),
  },
  {
    id: "hosts",
    why: "Not exactly one well-formed Host, user information in it or in the target: XLB refuses it (RFC 9112, 3.2).",
    explains(request, expected) {
      const [host, another] = valuesOf(request, "host");
      const odd = host === undefined || another !== undefined || !/^[A-Za-z0-9\-._~%!$&'()*+,;=:[\]]+$/.test(host);
      return refuses(expected) && (odd || /^\S+ https?:\/\/[^/]*@/i.test(firstLine(request)));
    },
  },
  {
    id: "coding-of-1.0",
    why: "HTTP/1.0 knows no Transfer-Encoding: XLB refuses it there (RFC 9112, 6.1), Envoy takes chunked.",
    explains: (request, expected) =>
      refuses(expected) && firstLine(request).endsWith("HTTP/1.0") && valuesOf(request, "transfer-encoding").length > 0,
  },
  {
    id: "nominated",
    why: "Connection names a header that all must see, as Cookie: XLB refuses that, Envoy drops it.",
    explains: (request, expected) => refuses(expected) && valuesOf(request, "connection").length > 0,
  },
  {
    id: "two-faults",
    why: "A head with two faults, say malformed and too large: 400, 426, 431 or 501, by what is looked at first.",
    explains: (_, expected, { status = 0 }) =>
      repliesOf(expected).some((mine) => mine !== status && REFUSALS.includes(mine)) && REFUSALS.includes(status),
  },
  {
    id: "refusal-body",
    why: "Both say 400: XLB always with Bad Request, Envoy with nothing where its parser is content.",
    explains: (_, expected, envoy) => refuses(expected) && envoy.status === 400 && envoy.body === "",
  },
];

const JOINED = /^(accept(-encoding)?|authorization|cache-control|content-type|pragma|referer|user-agent|via):/i;
const upgrades = (request: string) => valuesOf(request, "upgrade").length > 0;

/** Differences that are neither meant nor mended yet. They stay unexplained, but go by one name each in the report. */
export const OPEN: readonly Deliberate[] = [
  {
    id: "methods",
    why: "XLB takes llhttp's methods, Envoy those of its own parser: MSEARCH, but neither M-SEARCH nor QUERY.",
    explains: (request) => /^(M-?SEARCH|QUERY) /.test(firstLine(request)),
  },
  {
    id: "connect-targets",
    why: "A CONNECT target that is not host:port gets 400 from Envoy, and 404 from XLB as any other.",
    explains: (request, _, { status }) => request.startsWith("CONNECT ") && status === 400,
  },
  {
    id: "absolute-targets",
    why: "Envoy refuses an absolute target with an odd authority (400), and finds none with a query but no path (404).",
    explains: (request) => /^\S+ https?:\/\//i.test(firstLine(request)),
  },
  {
    id: "asterisk",
    why: "Envoy answers 404 to OPTIONS * whatever the rules are; XLB asks the rules.",
    explains: (request, _, { status }) => firstLine(request).startsWith("OPTIONS * ") && status === 404,
  },
  {
    id: "upgrade-order",
    why: "For an upgrade that is not enabled Envoy looks for a route first (404), XLB's slow path does not (403).",
    explains: (request, expected, { status }) =>
      upgrades(request) && repliesOf(expected).includes(403) && status !== undefined && status !== 403,
  },
  {
    id: "upgrade-body",
    why: "Where a server answers an upgrade with 200, Envoy leaves out the body.",
    explains: (request, _, { status, body }) => upgrades(request) && status === 200 && body === "",
  },
  {
    id: "upgrade-of-1.0",
    why: "Envoy refuses an upgrade in HTTP/1.0 as any other (403); XLB takes no notice of it there.",
    explains: (request, _, { status }) =>
      upgrades(request) && firstLine(request).endsWith("HTTP/1.0") && status === 403,
  },
  {
    id: "nominated-and-asked",
    why: "Envoy takes away what Connection names before it looks for a route; XLB's rules see it still.",
    explains: (request) =>
      valuesOf(request, "connection")
        .flatMap((names) => names.match(/[\w-]+/g) ?? [])
        .some((name) => valuesOf(request, name).length > 0),
  },
  {
    id: "joined-count",
    why: "Envoy counts headers that it keeps as one once, XLB counts lines: towards max_headers_count.",
    explains: (_, expected) => repliesOf(expected).includes(431),
  },
  {
    id: "empty-values",
    why: "Of headers that it keeps as one Envoy leaves out empty values; the reference joins them too.",
    explains: (request) => request.split("\r\n").some((line) => JOINED.test(line) && /:[ \t]*$/.test(line)),
  },
];

export const explain = (request: string, expected: Expected, envoy: Answer): Deliberate | undefined =>
  DELIBERATE.find((each) => each.explains(request, expected, envoy));

export const recognise = (request: string, expected: Expected, envoy: Answer): Deliberate | undefined =>
  OPEN.find((each) => each.explains(request, expected, envoy));
