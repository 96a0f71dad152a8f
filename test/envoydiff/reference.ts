import { formatRejections, parseBootstrap } from "../../src/envoy/parse.ts";
import { httpChains } from "../../src/model/chains.ts";
import type { Config, HttpChain, Listener, Route } from "../../src/model/config.ts";
import { matchRoute, type RequestHead } from "../../src/route/match.ts";
import { partsOf } from "../../src/route/parts.ts";
import { type Admitted, admit } from "../../src/slowpath/admit.ts";
import {
  type Field,
  Malformed,
  parseRequestLine,
  type RequestLine,
  requestBody,
  tokens,
} from "../../src/slowpath/http1.ts";
import { bootstrap, type Ports } from "./places.ts";
import type { Spec } from "./spec.ts";

/** What XLB's own rules say of a request, without a socket: the third of four answers. */

export type Outcome =
  | { readonly kind: "reply"; readonly status: number; readonly body: string }
  /** `endpoint` is its IP: no two have the same. */
  | { readonly kind: "endpoint"; readonly cluster: string; readonly endpoint: string };

/** What the server gets. */
export interface SeenHead {
  readonly method: string;
  readonly target: string;
  /** Lower-case names; several of a name in their order, joined by commas. Without those of `UNCOMPARED`. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface Expected {
  /** More than one where chance or turns decide. */
  readonly outcomes: readonly Outcome[];
  readonly head?: SeenHead;
  /** The virtual host and the route that took it. */
  readonly by?: string;
}

/** The configuration as XLB reads it, with these listeners. Throws where XLB refuses it. */
export function readConfig(specs: readonly Spec[], ip: string, ports: Ports): Config {
  const parsed = parseBootstrap(JSON.stringify(bootstrap(specs, ip, ports)));
  if (parsed.ok) return parsed.value.config;
  throw new Error(formatRejections(parsed.rejections, "config").join("\n"));
}

const REFUSALS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  426: "Upgrade Required",
  431: "Request Header Fields Too Large",
  501: "Not Implemented",
};
const refuse = (status: number): Expected => ({
  outcomes: [{ kind: "reply", status, body: REFUSALS[status] ?? "" }],
});

export const CONNECT_REFUSED =
  "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";

export function expect(config: Config, listener: Listener, text: string, ports: Ports): Expected {
  const [chain] = httpChains(listener);
  if (chain === undefined) throw new Error(`listener ${listener.name} has no HTTP filter chain`);
  const read = readRequest(text, chain);
  if (typeof read === "number") return refuse(read);
  const { request, routed, upgrade } = read;
  if (routed === undefined) return refuse(404);
  const match = matchRoute(chain.routes, routed, "each");
  if ("none" in match) return refuse(404);
  if (upgrade !== undefined && !chain.http.upgrades.includes(upgrade)) return refuse(403);
  const by = `${match.virtualHost.name}/${match.routeIndex}`;
  const outcomes = outcomesOf(config, match.route, ports);
  if (chunksAreWhole(text, request)) return { outcomes, head: headOf(request, routed), by };
  /* Where the balancer answers by itself, it does so before it looks at the body. */
  const answered = outcomes.filter((each) => each.kind === "reply" && each.body !== CONNECT_REFUSED);
  return { outcomes: [...answered, ...(answered.length < outcomes.length ? refuse(400).outcomes : [])], by };
}

/** All that a route may come to. */
function outcomesOf(config: Config, { action }: Route, ports: Ports): Outcome[] {
  if (action.kind !== "forward") throw new Error("fields.ts makes no such action yet");
  return action.clusters
    .filter(({ weight }) => weight > 0)
    .flatMap((entry): Outcome[] => {
      if ("header" in entry) throw new Error("fields.ts makes no such entry yet");
      const { name } = entry;
      const cluster = config.clusters.find((each) => each.name === name);
      if (cluster === undefined) return [{ kind: "reply", status: 503, body: "" }];
      const lists = partsOf(cluster, config).flatMap(({ lists }) => lists.map(({ hosts }) => hosts));
      const nobody: Outcome = { kind: "reply", status: 503, body: "no healthy upstream" };
      const all = [...new Set(lists.flat())];
      const none = lists.some((hosts) => hosts.length === 0) ? [nobody] : [];
      const outcomes = all.map(
        ({ address }): Outcome =>
          address.port === ports.dead
            ? { kind: "reply", status: 503, body: CONNECT_REFUSED }
            : { kind: "endpoint", cluster: name, endpoint: address.ip },
      );
      return [...none, ...outcomes];
    });
}

// ---- requests ----

/** The request as it is admitted, or the status of the refusal. */
function readRequest(text: string, { http }: HttpChain): Admitted | number {
  try {
    const bytes = Buffer.from(text.replace(/^(\r\n)+/, ""), "latin1");
    const length = bytes.indexOf("\r\n\r\n") + 4;
    const most = http.maxRequestHeadersKb * 1_024;
    /* What is wrong within the limit is seen before the limit is; a line ends in CR LF, and in nothing else. */
    const within = bytes.toString("latin1", 0, Math.min(Math.max(length, 0), most));
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    if (length < 4 || /(?<!\r)\n|\r(?!\n|$)|[\x00-\x08\x0b\x0c\x0e-\x1f]/.test(within)) return 400;
    parseRequestLine(within.split("\r\n", 1)[0]!);
    if (length > most) return 431;
    return admit(bytes.subarray(0, length), http);
  } catch (error) {
    if (error instanceof Malformed) return error.status;
    throw error;
  }
}

const chunksAreWhole = (text: string, request: RequestLine) =>
  requestBody(request).kind !== "chunked" || /\r\n\r\n[0-9a-f]/i.test(text);

// ---- what the server gets ----

/** For one connection only, or rewritten by Envoy and not by XLB: see docs/configuration.md. */
const UNCOMPARED = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
  "x-forwarded-proto",
  "x-request-id",
]);

/** What of a head can be compared; headers that Connection names are for one hop. */
export function comparable(method: string, target: string, authority: string, headers: readonly Field[]): SeenHead {
  const nominated = new Set(tokens(headers, "connection"));
  const kept: Record<string, string> = { host: authority };
  for (const [written, value] of headers) {
    const name = written.toLowerCase();
    if (UNCOMPARED.has(name) || name.startsWith("x-envoy-") || nominated.has(name)) continue;
    /* Envoy writes some headers as one, and leaves out what is empty; XLB hands on what came. */
    kept[name] = kept[name] ? [kept[name], value].filter(Boolean).join(",") : value;
  }
  return { method, target, headers: Object.fromEntries(Object.entries(kept).sort()) };
}

const headOf = (request: RequestLine, head: RequestHead) =>
  comparable(request.method, head.path, head.authority, request.headers);
