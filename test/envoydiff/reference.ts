import { formatRejections, parseBootstrap } from "../../src/envoy/parse.ts";
import { httpChains } from "../../src/model/chains.ts";
import type {
  Cluster,
  Config,
  Endpoint,
  HashingPolicy,
  HashPolicy,
  HttpChain,
  Listener,
} from "../../src/model/config.ts";
import { isHashing } from "../../src/model/hash-table.ts";
import { Editor, type Occasion } from "../../src/route/edit.ts";
import { hashParts, partOf } from "../../src/route/hash-parts.ts";
import { clusterChance, hashRequest } from "../../src/route/hash-policy.ts";
import { pickByHash } from "../../src/route/hash-table.ts";
import { clusterName, matchRoute, pickCluster, type RequestHead, type RouteMatched } from "../../src/route/match.ts";
import { partsOf } from "../../src/route/parts.ts";
import { answerOf } from "../../src/route/rewrite.ts";
import { type Admitted, admit } from "../../src/slowpath/admit.ts";
import {
  type Field,
  Malformed,
  parseRequestLine,
  type RequestLine,
  requestBody,
  tokens,
} from "../../src/slowpath/http1.ts";
import { withoutHopByHop } from "../../src/slowpath/request.ts";
import { bootstrap, type Ports } from "./places.ts";
import type { Spec } from "./spec.ts";

/** What XLB's own rules say of a request, without a socket: the third of four answers. */

export type Outcome =
  | { readonly kind: "reply"; readonly status: number; readonly body: string; readonly fields?: SeenFields }
  /** `endpoint` is its IP: no two have the same. */
  | {
      readonly kind: "endpoint";
      readonly cluster: string;
      readonly endpoint: string;
      readonly head?: SeenHead;
      readonly fields?: SeenFields;
    };

/** Lower-case names; several of a name in their order, joined by commas. Without those that are not compared. */
export type SeenFields = Readonly<Record<string, string>>;

/** What the server gets. */
export interface SeenHead {
  readonly method: string;
  readonly target: string;
  readonly headers: SeenFields;
}

export interface Expected {
  /** More than one where chance or turns decide. */
  readonly outcomes: readonly Outcome[];
  /** The virtual host and the route that took it, or those that might. */
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
  const { request, routed, upgrade, moved } = read;
  if (routed === undefined) return refuse(404);
  if (moved !== undefined) return { outcomes: [replyOf(307, "", [["location", moved]])] };
  const outcomes: Outcome[] = [];
  const by = new Set<string>();
  for (const chance of chancesOf(chain)) {
    const match = matchRoute(chain.routes, routed, "each", chance);
    const place = "none" in match ? "no route" : `${match.virtualHost.name}/${match.routeIndex}`;
    if (by.has(place)) continue;
    by.add(place);
    if ("none" in match) outcomes.push(...refuse(404).outcomes);
    else if (upgrade !== undefined && !chain.http.upgrades.includes(upgrade)) outcomes.push(...refuse(403).outcomes);
    else {
      const found = outcomesOf(config, chain, match, read, ports);
      outcomes.push(...(chunksAreWhole(text, request) ? found : withBrokenBody(found)));
    }
  }
  return { outcomes, by: [...by].join(" or ") };
}

/** Where the balancer answers by itself, it does so before it looks at the body. */
const withBrokenBody = (outcomes: readonly Outcome[]) =>
  outcomes.flatMap((each) => (each.kind === "reply" && each.body !== CONNECT_REFUSED ? [each] : refuse(400).outcomes));

/** Random numbers that let fractions take and leave a request in each way there is: fields.ts has parts of 100 only. */
const chancesOf = ({ routes }: HttpChain) =>
  routes.virtualHosts.some((host) => host.routes.some(({ fraction }) => fraction !== undefined))
    ? Array.from({ length: 100 }, (_, chance) => chance)
    : [0];

/** Wherever a listener is in 127.0.0.0/8, who connects to it from this machine is 127.0.0.1. */
const ENDS = { client: { ip: "127.0.0.1", port: 1 }, local: { ip: "127.0.0.1", port: 1 } };

/** One list of one host, where the request says which. */
function hostsByHash(
  cluster: Cluster,
  policy: HashingPolicy,
  policies: readonly HashPolicy[],
  sent: RequestHead,
): { readonly lists: readonly (readonly Endpoint[])[]; readonly cookies: readonly Field[] } {
  const parts = hashParts(cluster, policy);
  const { hash, cookies } = hashRequest(policies, sent, ENDS, "give");
  // The value of a cookie that is given goes by the client's port.
  if (hash === undefined || cookies.length > 0) {
    const given = cookies.map((cookie): Field => ["set-cookie", cookie]);
    return { lists: parts.map(({ hosts }) => hosts), cookies: given };
  }
  const part = partOf(parts, hash)!;
  const at = pickByHash(part.table, hash);
  return { lists: [at === undefined ? [] : [part.hosts[at]!]], cookies: [] };
}

/** All that a route may come to. */
function outcomesOf(
  config: Config,
  { routes }: HttpChain,
  match: RouteMatched,
  { request, routed, upgrade }: Admitted,
  ports: Ports,
): Outcome[] {
  const { action } = match.route;
  const occasion: Occasion = {
    client: { ip: "127.0.0.1", port: 0 },
    protocol: request.minor === 1 ? "HTTP/1.1" : "HTTP/1.0",
    startedMs: 0,
    hostname: "",
  };
  const head = routed!;
  if (action.kind !== "forward") {
    const editor = new Editor(routes, match, undefined, occasion);
    const redirected = editor.request(head);
    const { status, fields, body } = answerOf(action, redirected);
    return [replyOf(status, body, editor.response(fields, redirected))];
  }
  const byHash = clusterChance(action, head, ENDS, -1);
  const entries = byHash === -1 ? action.clusters : [pickCluster(action, byHash)];
  return entries
    .filter(({ weight }) => weight > 0)
    .flatMap((entry): Outcome[] => {
      const editor = new Editor(routes, match, entry, occasion);
      const name = clusterName(entry, head);
      const cluster = config.clusters.find((each) => each.name === name);
      if (cluster === undefined) return [replyOf(action.notFoundStatus ?? 503, "", editor.response([], head))];
      const sent = editor.request(withoutHopByHop(request, head, upgrade));
      const { policy } = cluster;
      const { lists, cookies } = isHashing(policy)
        ? hostsByHash(cluster, policy, action.hashPolicies ?? [], sent)
        : { lists: partsOf(cluster, config).flatMap(({ lists }) => lists.map(({ hosts }) => hosts)), cookies: [] };
      const whole = cluster.drop !== undefined && cluster.drop.share === cluster.drop.outOf;
      const drop = (words: string) => {
        const field: Field = [`x-envoy-${words.replaceAll(" ", "-")}`, "true"];
        return replyOf(503, words, editor.response([field], head));
      };
      if (whole) return [drop("unconditional drop overload")];
      const dropped = cluster.drop ? [drop("drop overload")] : [];
      const none = lists.some((hosts) => hosts.length === 0)
        ? [replyOf(503, "no healthy upstream", editor.response([], sent))]
        : [];
      const answered: readonly Field[] = [["content-type", "text/plain"]];
      const outcomes = [...new Set(lists.flat())].map(
        ({ address }): Outcome =>
          address.port === ports.dead
            ? replyOf(503, CONNECT_REFUSED, editor.response([], sent))
            : {
                kind: "endpoint",
                cluster: name,
                endpoint: address.ip,
                head: comparable(sent.method, sent.path, sent.authority, sent.headers),
                fields: comparableFields([...editor.response(answered, sent), ...cookies]),
              },
      );
      return [...dropped, ...none, ...outcomes];
    });
}

/** A body is text, unless the rules say otherwise, and without one there is no type. */
function replyOf(status: number, body: string, fields: readonly Field[]): Outcome {
  const isType = ([name]: Field) => name.toLowerCase() === "content-type";
  const all =
    body === "" ? fields.filter((field) => !isType(field)) : fields.some(isType) ? fields : [...fields, ...TEXT];
  const shown = status === 204 || status === 304 ? "" : body;
  return { kind: "reply", status, body: shown, fields: comparableFields(all) };
}

const TEXT: readonly Field[] = [["content-type", "text/plain"]];

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

/** Envoy's own that XLB sets as well, where the rules ask for it. */
const SET_BY_BOTH = ["x-envoy-original-path", "x-envoy-original-host"];

/** What of a head can be compared; headers that Connection names are for one hop. */
export function comparable(method: string, target: string, authority: string, headers: readonly Field[]): SeenHead {
  const nominated = new Set(tokens(headers, "connection"));
  const kept = headers.filter(([name]) => !nominated.has(name.toLowerCase()) && isCompared(name, UNCOMPARED));
  return { method, target, headers: { ...joined(kept), host: authority } };
}

/** Of an answer: what the balancer makes or the connection needs is left out. */
const UNCOMPARED_IN_ANSWERS = new Set([
  "connection",
  "content-length",
  "date",
  "server",
  "transfer-encoding",
  "x-endpoint",
]);

export const comparableFields = (fields: readonly Field[]): SeenFields =>
  joined(fields.filter(([name]) => isComparedInAnswers(name)).map(withoutPort));

/** The value of a cookie that a hash policy gives goes by the client's port. */
const withoutPort = ([name, value]: Field): Field =>
  name.toLowerCase() === "set-cookie" ? [name, value.replace(/="[0-9a-f]{16}"/, '="…"')] : [name, value];

export const isComparedInAnswers = (name: string) => isCompared(name, UNCOMPARED_IN_ANSWERS);

function isCompared(written: string, uncompared: ReadonlySet<string>): boolean {
  const name = written.toLowerCase();
  return !uncompared.has(name) && (!name.startsWith("x-envoy-") || SET_BY_BOTH.includes(name));
}

function joined(fields: readonly Field[]): SeenFields {
  const byName = new Map<string, string>();
  for (const [written, raw] of fields) {
    const name = written.toLowerCase();
    /* Blanks around a value are none of it (RFC 9110 section 5.5): who reads it does not see them. */
    const value = raw.replace(/^[ \t]+|[ \t]+$/g, "");
    const before = byName.get(name);
    /* Envoy writes some headers as one, and leaves out what is empty; XLB hands on what came. */
    byName.set(name, before ? [before, value].filter(Boolean).join(",") : value);
  }
  return Object.fromEntries([...byName].sort());
}
