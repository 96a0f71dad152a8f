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
    id: "empty-proto",
    why: "Envoy has no route if X-Forwarded-Proto is empty; XLB looks at it if an option asks for Envoy's own (0012).",
    explains: (request, { own }, { status }) =>
      own !== true && status === 404 && valuesOf(request, "x-forwarded-proto").includes(""),
  },
  {
    id: "refusal-body",
    why: "Both say 400: XLB always with Bad Request, Envoy with nothing where its parser is content.",
    explains: (_, expected, envoy) => refuses(expected) && envoy.status === 400 && envoy.body === "",
  },
  {
    id: "named-by-then",
    why: "A bad body: Envoy has put the endpoint's name in the host's place by then, if it had a connection to it.",
    explains: (request, expected, { status, headers = [] }) =>
      refuses(expected) &&
      status === 400 &&
      valuesOf(request, "transfer-encoding").length > 0 &&
      headers.some(([name, value]) => name === "x-told" && valuesOf(request, "host").includes(value)),
  },
  {
    id: "grpc-replies",
    why: "What XLB answers by itself goes to gRPC clients as it is; Envoy makes a 200 with a grpc-status of it.",
    explains: (request, expected, { status, body }) =>
      repliesOf(expected).length > 0 &&
      /\ncontent-type:[ \t]*application\/grpc(\+\S*)?[ \t]*\r/i.test(request) &&
      status === 200 &&
      body === "",
  },
  {
    id: "upgrade-body",
    why: "A server may answer an upgrade as any request (RFC 9110, 7.8): Envoy drops the body below 400, XLB does not.",
    explains: (request, _, { status = 0, body }) =>
      valuesOf(request, "upgrade").length > 0 && status >= 200 && status < 400 && body === "",
  },
];

export const explain = (request: string, expected: Expected, envoy: Answer): Deliberate | undefined =>
  DELIBERATE.find((each) => (envoy.burst ?? [envoy]).every((one) => each.explains(request, expected, one)));
