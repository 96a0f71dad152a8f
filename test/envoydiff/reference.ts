import { whyNotLimits } from "../../src/compile/limits.ts";
import { machineIp } from "../../src/daemon/machine.ts";
import { formatRejections, parseBootstrap } from "../../src/envoy/parse.ts";
import type {
  Address,
  Cluster,
  Config,
  Endpoint,
  ForwardAction,
  HashingPolicy,
  HashPolicy,
  HttpChain,
  Listener,
  OwnHeaders,
  TcpChain,
} from "../../src/model/config.ts";
import type { Fault } from "../../src/model/fault.ts";
import { isHashing } from "../../src/model/hash-table.ts";
import { DEFAULT_BREAKERS } from "../../src/model/limits.ts";
import { type Connection, chooseChain, inspectedOf, plainConnection } from "../../src/route/chain.ts";
import { Editor, type Occasion } from "../../src/route/edit.ts";
import { injectFault } from "../../src/route/fault.ts";
import { hashParts, partOf } from "../../src/route/hash-parts.ts";
import { clusterChance, type Ends, hashRequest } from "../../src/route/hash-policy.ts";
import { pickByHash } from "../../src/route/hash-table.ts";
import {
  clusterName,
  Headers,
  matchRoute,
  pickCluster,
  type RequestHead,
  type RouteMatched,
} from "../../src/route/match.ts";
import { answer, EXPECTED_TIMEOUT, expectedMs, receive, SERVICE_TIME } from "../../src/route/own-headers.ts";
import { partsOf } from "../../src/route/parts.ts";
import { RETRY_HEADERS, Tries } from "../../src/route/retry.ts";
import { answerOf } from "../../src/route/rewrite.ts";
import { type Subset, subsetsOf } from "../../src/route/subset.ts";
import { TIMEOUT_HEADERS, timeoutsOf } from "../../src/route/timeouts.ts";
import { allowsUpgrade } from "../../src/route/upgrade.ts";
import { type Admitted, admit } from "../../src/slowpath/admit.ts";
import { ATTEMPT_COUNT } from "../../src/slowpath/exchange.ts";
import {
  ChunkReader,
  type Field,
  Malformed,
  parseRequestLine,
  type RequestLine,
  requestBody,
  tokens,
} from "../../src/slowpath/http1.ts";
import { hear } from "../../src/slowpath/inspect.ts";
import { withMark } from "../../src/slowpath/mirror.ts";
import { withField, withFieldOf, withoutFields, withoutHopByHop } from "../../src/slowpath/request.ts";
import { addressOf, bootstrap, type Ports } from "./places.ts";
import { type Spec, textOfConfig } from "./spec.ts";
import { answerTo, type Ending, endingsOf, type Kind, SILENCE } from "./tries.ts";

/** What XLB's own rules say of a request, without a socket: the third of four answers. */

export type Outcome =
  | (Tried & { readonly kind: "reply"; readonly status: number; readonly body: string; readonly fields?: SeenFields })
  /** `endpoint` is its IP: no two have the same. */
  | (Tried & {
      readonly kind: "endpoint";
      readonly cluster: string;
      readonly endpoint: string;
      /** 200, where it is missing. */
      readonly status?: number;
      readonly head?: SeenHead;
      readonly fields?: SeenFields;
    });

interface Tried {
  /** By cluster: the hosts that the tries of the request, and its copies, were sent with. */
  readonly tries?: Readonly<Record<string, readonly string[]>>;
  readonly mostPerConnection?: number;
}

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
  /** Of a burst, so many are too many for a circuit breaker, or for the connections that it allows. */
  readonly overflows?: { readonly count: number; readonly ofConnections: boolean };
  /** The headers that Envoy sets itself are compared too: an option asks for them. */
  readonly own?: true;
}

/** The configuration as XLB reads it, with these listeners. Throws where XLB refuses it. */
export function readConfig(specs: readonly Spec[], ip: string, ports: Ports): Config {
  const { text, name } = textOfConfig(bootstrap(specs, ip, ports));
  const parsed = parseBootstrap(text, name);
  if (parsed.ok) return parsed.value.config;
  throw new Error(formatRejections(parsed.rejections, "config").join("\n"));
}

const REFUSALS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  426: "Upgrade Required",
  431: "Request Header Fields Too Large",
  501: "Not Implemented",
};

/** Before a request has a route. `asked`: as far as it has been read. */
function refuse(own: OwnHeaders | undefined, status: number, asked?: RequestHead): Expected {
  const body = REFUSALS[status] ?? "";
  const outcome: Outcome = own === undefined ? { kind: "reply", status, body } : replyOf(own, status, body, [], asked);
  return { outcomes: [outcome] };
}

/** Stands for any id that is made for a request. */
export const SOME_ID = "00000000-0000-4000-8000-000000000000";

/**
 * `ip` is the listener's, or, where it listens on all of them, that which is asked for by itself. `isBound`: without
 * the kernel path a connection reaches no listener but where one is bound.
 */
export function expect(
  config: Config,
  first: Listener,
  text: string,
  ports: Ports,
  ip = "127.0.0.1",
  isBound = false,
): Expected {
  const destination = destinationOf(first, text, ip);
  const listener = listenerAt(config, destination, isBound);
  if (listener === undefined) return { outcomes: [CLOSED], by: "no listener" };
  const chain = chooseChain(listener, connectionOf(listener, text, destination));
  if (chain === undefined) return { outcomes: [CLOSED], by: "no filter chain" };
  if (chain.kind === "tcp") return { outcomes: proxied(config, chain, text, ports), by: `tcp_proxy ${chain.label}` };
  const expected = routedBy(config, chain, destination, text, ports);
  return chain.http.own === undefined ? expected : { ...expected, own: true };
}

function routedBy(config: Config, chain: HttpChain, local: Address, text: string, ports: Ports): Expected {
  const { own } = chain.http;
  const { internalOnly = [] } = chain.routes;
  const admitted = readRequest(text, chain);
  if (typeof admitted === "number") return refuse(own, admitted);
  const { request, upgrade, moved } = admitted;
  const ends = { ...endsOf(text), local, machineIp: machineIp(), makeId: () => SOME_ID };
  if (admitted.routed === undefined) {
    const bare = { method: "", authority: "", path: "", headers: request.headers };
    if (request.method !== "CONNECT") return refuse(own, 404, bare);
    const { head } = receive(own, internalOnly, bare, ends);
    const { outcomes: none } = refuse(own, 404, head);
    return { outcomes: [...faulty(chain.http.fault, chain, [undefined], head, undefined, true, () => none)] };
  }
  if (moved !== undefined) return { outcomes: [replyOf(own, 307, "", [["location", moved]], admitted.routed)] };
  const { head: routed, client } = receive(own, internalOnly, admitted.routed, ends);
  const none = refuse(own, 404, routed).outcomes;
  const outcomes: Outcome[] = [];
  const by = new Set<string>();
  let overflows: Expected["overflows"];
  for (const chance of chancesOf(chain)) {
    const match = matchRoute(chain.routes, routed, "each", chance);
    const place = "none" in match ? "no route" : `${match.virtualHost.name}/${match.routeIndex}`;
    if (by.has(place)) continue;
    by.add(place);
    const whole = contentOf(text, request) !== undefined;
    if ("none" in match)
      outcomes.push(...faulty(chain.http.fault, chain, [undefined], routed, undefined, whole, () => none));
    else if (upgrade !== undefined && !allowsUpgrade(chain, match.route.action, upgrade))
      outcomes.push(...withoutUpgrade(chain, match, routed, occasionOf(request, client)));
    else {
      const asked = { ...admitted, routed, client };
      const editors = entriesOf(match.route.action).map(
        (entry) => entry && new Editor(chain.routes, match, entry, occasionOf(request, client)),
      );
      const found = namesOf(match.route.action, routed).flatMap((cluster) =>
        faulty(match.route.fault, chain, editors, routed, cluster, whole, () =>
          outcomesOf(config, chain, match, asked, text, ports),
        ),
      );
      overflows = overflowsOf(config, chain, match.route, routed, text);
      outcomes.push(...found);
    }
  }
  return { outcomes, by: [...by].join(" or "), ...(by.size === 1 && overflows ? { overflows } : {}) };
}

/** What the fault filter may leave of a request that leads to this cluster, by chance or for certain. */
function faulty(
  fault: Fault | undefined,
  { http: { own } }: HttpChain,
  editors: readonly (Editor | undefined)[],
  head: RequestHead,
  cluster: string | undefined,
  whole: boolean,
  go: () => readonly Outcome[],
): readonly Outcome[] {
  if (fault === undefined) return go();
  const ends = [0, 0.999].map((chance) => injectFault(fault, head, cluster, (below) => Math.floor(below * chance)));
  const found = ends.flatMap((end) => {
    const { reply } = end ?? {};
    if (reply === undefined) return go();
    const { status, body, fields } = reply;
    return editors.map((editor) => replyOf(own, status, body, editor?.response(fields, head) ?? fields, head));
  });
  /* A body that breaks does so while the request waits. */
  return fault.delay !== undefined && !whole ? [...found, ...refuse(own, 400, head).outcomes] : found;
}

const namesOf = (action: RouteMatched["route"]["action"], head: RequestHead): readonly (string | undefined)[] =>
  action.kind === "forward"
    ? [...new Set(action.clusters.filter(({ weight }) => weight > 0).map((entry) => clusterName(entry, head)))]
    : [undefined];

const fieldOf = (text: string, name: string) => new RegExp(`\\n${name}: ([^\\r]*)`, "i").exec(text)?.[1];

/** Wherever a listener is in 127.0.0.0/8, who connects to it from this machine is 127.0.0.1, if not said otherwise. */
const clientOf = (text: string) => fieldOf(text, "x-from") ?? "127.0.0.1";

/** Where a connection for this request is to go. */
function destinationOf({ address }: Listener, text: string, ip: string): Address {
  const port = Number(fieldOf(text, "x-to-port") ?? address.port);
  return { ip: addressOf(ip, fieldOf(text, "x-to") ?? "1"), port };
}

/** Whose it is: the address's, or else the port's, or else that of who takes the rest. */
function listenerAt({ listeners }: Config, { ip, port }: Address, isBound: boolean): Listener | undefined {
  const at = (where: string) => listeners.find(({ address }) => address.port === port && address.ip === where);
  return at(ip) ?? at("0.0.0.0") ?? (isBound ? undefined : listeners.find(({ takesRest }) => takesRest));
}

function connectionOf(listener: Listener, text: string, destination: Address): Connection {
  const plain = plainConnection(destination, { ip: clientOf(text), port: 40_000 });
  const inspected = inspectedOf(listener, destination.port);
  return inspected === undefined ? plain : { ...plain, ...hear(Buffer.from(text, "latin1"), inspected).known };
}

/** The bytes go on as they came, and nobody answers for a server that does not. */
function proxied(config: Config, { clusters }: TcpChain, text: string, ports: Ports): Outcome[] {
  const lines = text.slice(0, text.indexOf("\r\n\r\n"));
  const act = /\nx-act: \S+ (\S+)/i.exec(lines)?.[1] ?? "200";
  const { status, fields } = answerTo(act);
  return clusters.flatMap(({ name, criteria }): Outcome[] => {
    const cluster = config.clusters.find((each) => each.name === name);
    const { lists } = chosenFrom(cluster === undefined ? [] : subsetsOf(cluster, criteria), (some) => ({
      lists: listsOf(some, config),
      cookies: [],
    }));
    if (lists.length === 0) return [CLOSED];
    return lists.flatMap((hosts): Outcome[] =>
      hosts.length === 0
        ? [CLOSED]
        : hosts.map((host) => {
            const kind = kindOf(host, ports);
            const host_ = seenHead(lines).headers.host ?? "";
            const tries = { [name]: kind === "dead" ? [] : [host_] };
            if (kind === "dead" || /^(reset|close|hang)$/.test(act)) return { ...CLOSED, tries };
            if (fieldOf(text, "x-short") !== undefined) return { kind: "reply", ...SILENCE };
            return {
              kind: "endpoint",
              cluster: name,
              endpoint: host.address.ip,
              status,
              head: seenHead(lines),
              fields: comparableFields([["content-type", "text/plain"], ...fields]),
              tries,
            };
          }),
    );
  });
}

/** The connection ends, and that is all. */
export const CLOSED: Outcome = { kind: "reply", status: 0, body: "closed" };

/** A protocol that the route does not offer: the answer is the route's all the same. */
function withoutUpgrade(
  { routes, http: { own } }: HttpChain,
  match: RouteMatched,
  head: RequestHead,
  occasion: Occasion,
): Outcome[] {
  return entriesOf(match.route.action).map((entry) => {
    const fields = new Editor(routes, match, entry, occasion).response([], head);
    return replyOf(own, 403, "", fields, head);
  });
}

const occasionOf = ({ minor }: RequestLine, client: Address | undefined): Occasion => ({
  client,
  protocol: minor === 1 ? "HTTP/1.1" : "HTTP/1.0",
  startedMs: 0,
  hostname: "",
});

/** Those that a request may find; undefined: the action has none. */
const entriesOf = (action: RouteMatched["route"]["action"]) =>
  action.kind === "forward" ? action.clusters.filter(({ weight }) => weight > 0) : [undefined];

/** Random numbers that let fractions take and leave a request in each way there is: fields.ts has parts of 100 only. */
const chancesOf = ({ routes }: HttpChain) =>
  routes.virtualHosts.some((host) => host.routes.some(({ fraction }) => fraction !== undefined))
    ? Array.from({ length: 100 }, (_, chance) => chance)
    : [0];

const endsOf = (text: string): Ends => ({
  client: { ip: clientOf(text), port: 1 },
  local: { ip: "127.0.0.1", port: 1 },
});

/** Lists of endpoints that share the requests, one without an endpoint among them where some find none. */
interface Hosts {
  readonly lists: readonly (readonly Endpoint[])[];
  readonly cookies: readonly Field[];
}

/** The next subset has what the first finds no endpoint for. */
function chosenFrom([first, ...others]: readonly Subset[], hostsOf: (cluster: Cluster) => Hosts): Hosts {
  if (first === undefined) return { lists: [[]], cookies: [] };
  const { lists, cookies } = hostsOf(first.cluster);
  const served = lists.filter((hosts) => hosts.length > 0);
  if (served.length > 0 && served.length === lists.length) return { lists, cookies };
  return { lists: [...served, ...chosenFrom(others, hostsOf).lists], cookies };
}

const listsOf = (cluster: Cluster, config: Config) =>
  partsOf(cluster, config).flatMap(({ lists }) => lists.map(({ hosts }) => hosts));

/** One list of one host, where the request says which. */
function hostsByHash(
  cluster: Cluster,
  policy: HashingPolicy,
  policies: readonly HashPolicy[],
  sent: RequestHead,
  ends: Ends,
): Hosts {
  const parts = hashParts(cluster, policy);
  const { hash, cookies } = hashRequest(policies, sent, ends, "give");
  // The value of a cookie that is given goes by the client's port.
  if (hash === undefined || cookies.length > 0) {
    const given = cookies.map((cookie): Field => ["set-cookie", cookie]);
    return { lists: parts.map(({ hosts }) => hosts), cookies: given };
  }
  const part = partOf(parts, hash)!;
  const at = pickByHash(part.table, hash);
  return { lists: [at === undefined ? [] : [part.hosts[at]!]], cookies: [] };
}

/** A request that rules may be asked about. */
type Asked = Admitted & { readonly routed: RequestHead; readonly client: Address | undefined };

/** All that a route may come to. */
function outcomesOf(
  config: Config,
  { routes, http: { own, limits } }: HttpChain,
  match: RouteMatched,
  { request, routed: head, upgrade, client }: Asked,
  text: string,
  ports: Ports,
): Outcome[] {
  const { action } = match.route;
  const occasion = occasionOf(request, client);
  if (action.kind !== "forward") {
    const editor = new Editor(routes, match, undefined, occasion);
    const redirected = editor.request(head);
    const { status, fields, body } = answerOf(action, redirected);
    return [replyOf(own, status, body, editor.response(fields, redirected), redirected)];
  }
  const ends = { ...endsOf(text), client };
  const timeouts = timeoutsOf(action, limits, new Headers(head, "each"));
  const tells = own !== undefined && routes.suppressesOwn !== true;
  const expected = tells ? expectedMs(timeouts, 0) : 0;
  const byHash = clusterChance(action, head, ends, -1);
  const entries = byHash === -1 ? action.clusters : [pickCluster(action, byHash)];
  return entries
    .filter(({ weight }) => weight > 0)
    .flatMap((entry): Outcome[] => {
      const editor = new Editor(routes, match, entry, occasion);
      const reply = (status: number, body: string, fields: readonly Field[], asked: RequestHead) =>
        replyOf(own, status, body, editor.response(fields, asked), asked);
      const name = clusterName(entry, head);
      const cluster = config.clusters.find((each) => each.name === name);
      if (cluster === undefined) return [reply(action.notFoundStatus ?? 503, "", [], head)];
      const bare = withoutFields(withoutHopByHop(request, head, upgrade, own !== undefined), TIMEOUT_HEADERS);
      const timed = expected > 0 ? withField(bare, EXPECTED_TIMEOUT, String(expected)) : bare;
      const edited = editor.request(action.countsAttempts ? withField(timed, ATTEMPT_COUNT, "1") : timed);
      const sent = withoutFields(edited, RETRY_HEADERS);
      const hostsFor = (asked: RequestHead) =>
        chosenFrom(subsetsOf(cluster, entry.criteria), (some) =>
          isHashing(some.policy)
            ? hostsByHash(some, some.policy, action.hashPolicies ?? [], asked, ends)
            : { lists: listsOf(some, config), cookies: [] },
        );
      const { lists, cookies } = hostsFor(sent);
      const whole = cluster.drop !== undefined && cluster.drop.share === cluster.drop.outOf;
      const drop = (words: string) => {
        const field: Field = [`x-envoy-${words.replaceAll(" ", "-")}`, "true"];
        return reply(503, words, routes.suppressesOwn ? [] : [field], head);
      };
      if (whole) return [drop("unconditional drop overload")];
      const dropped = cluster.drop ? [drop("drop overload")] : [];
      const firstTry: Field[] = action.tellsAttempts ? [[ATTEMPT_COUNT, "1"]] : [];
      if (lists.every((hosts) => hosts.length === 0))
        return [...dropped, reply(503, "no healthy upstream", firstTry, sent)];

      const content = contentOf(text, request);
      const kept = isKept(content, action);
      const short = fieldOf(text, "x-short") !== undefined;
      const named = action.host?.kind === "endpoint";
      /* Another try may go elsewhere, whatever the hash: with previous_hosts, or where its host is another one then. */
      const others = named || action.retry?.avoidsTried ? [...lists, cluster.endpoints] : lists;
      const endings = endingsOf({
        kinds: kindsOf(lists, ports),
        otherKinds: kindsOf(others, ports),
        acts: short ? ["short"] : actsOf(sent),
        tries: () => (kept ? Tries.of(action.retry, new Headers(edited, "each")) : undefined),
        timeouts,
        requestTimeoutMs: limits?.requestTimeoutMs ?? 0,
        cluster,
        action,
        burst: burstOf(text),
        blind: own === undefined && whyNotLimits(action) === undefined,
        safe: ["GET", "HEAD", "OPTIONS"].includes(request.method),
      });
      const copies = content === undefined || short ? {} : copiesOf(config, action, head, sent);
      const nextHosts = (last: RequestHead, nth: number) =>
        (nth > 0 && action.retry?.avoidsTried ? cluster.endpoints : hostsFor(last).lists.flat()).filter(
          (host) => kindOf(host, ports) !== "dead",
        );
      const ways = endings.flatMap((ending) =>
        named
          ? headsAlong(editor, sent, ending, nextHosts).map((way) => ({ ending, ...way }))
          : [
              {
                ending,
                hosts: (ending.count > 1 ? others : lists).flat(),
                heads: Array.from({ length: ending.went }, () => sent),
              },
            ],
      );
      const outcomes = ways.flatMap(({ ending, hosts, heads }): Outcome[] => {
        const { seen, count } = ending;
        const gone = heads.at(-1) ?? sent;
        const refused = ending.kind === "failed" && (ending.atOnce || count === 0);
        if (content === undefined && !refused) {
          const plain = editor.request(head);
          return [replyOf(own, 400, REFUSALS[400]!, editor.response([], plain), plain)];
        }
        const triedWith = (copied: typeof copies) => ({
          tries: { ...copied, [name]: heads.slice(0, seen).map(({ authority }) => authority) },
          mostPerConnection: cluster.upstream?.maxRequestsPerConnection || Number.POSITIVE_INFINITY,
        });
        const told = (fields: readonly Field[]) =>
          action.tellsAttempts ? withFieldOf(fields, ATTEMPT_COUNT, String(count)) : fields;
        if (ending.kind === "failed") {
          const { status, body, overflow, late } = ending;
          const fields: Field[] = overflow && !routes.suppressesOwn ? [["x-envoy-overloaded", "true"]] : [];
          const failed = reply(status, body, late ? fields : told(fields), gone);
          /* What is over before it has come is so for mirrors, too. */
          const mayBeCut = seen === 0 && content !== undefined && content > AT_ONCE;
          const ways = refused ? [{}] : mayBeCut ? [copies, {}] : [copies];
          return ways.map((copied) => ({ ...failed, ...triedWith(copied) }));
        }
        const again = expected > 0 && count > 1 ? withField(gone, EXPECTED_TIMEOUT, `${UP_TO}${expected}`) : gone;
        const last = action.countsAttempts && count > 1 ? withField(again, ATTEMPT_COUNT, String(count)) : again;
        const shown = comparable(last.method, last.path, last.authority, last.headers, own !== undefined);
        const answered: readonly Field[] = [["content-type", "text/plain"], ...ending.fields];
        const timed = tells && upgrade === undefined ? withFieldOf(answered, SERVICE_TIME, "0") : answered;
        const finished = answer(own, editor.response(told([...timed, ...cookies]), last), last, 0);
        const fields = comparableFields(finished, own !== undefined);
        const ips = hosts.filter((host) => kindOf(host, ports) === ending.at).map(({ address }) => address.ip);
        return [...new Set(ips)].map((endpoint) => ({
          kind: "endpoint",
          cluster: name,
          endpoint,
          status: ending.status,
          head: shown,
          fields,
          ...triedWith(copies),
        }));
      });
      return [...dropped, ...new Map(outcomes.map((each) => [JSON.stringify(each), each])).values()];
    });
}

interface Way {
  /** As each of the endpoints on the way gets it. */
  readonly heads: readonly RequestHead[];
  /** Where it may end. */
  readonly hosts: readonly Endpoint[];
}

/** What becomes of a request's head on its way to so many endpoints that have names. */
function headsAlong(
  editor: Editor,
  sent: RequestHead,
  { went, repeated }: Pick<Ending, "went" | "repeated">,
  nextHosts: (last: RequestHead, nth: number) => readonly Endpoint[],
): Way[] {
  let ways: Way[] = [{ heads: [], hosts: [] }];
  for (let nth = 0; nth < went; nth++) {
    ways = ways.flatMap(({ heads, hosts }) => {
      const last = heads.at(-1) ?? sent;
      if (nth === repeated) return [{ heads: [...heads, last], hosts }];
      const next = nextHosts(last, nth);
      return [...new Set(next.map(({ hostname = "" }) => hostname))].map((name) => ({
        heads: [...heads, editor.atEndpoint(last, name)],
        hosts: next.filter(({ hostname = "" }) => hostname === name),
      }));
    });
  }
  return ways;
}

/** Stands before what another try may take at most: how long the tries before it took, time decides. */
export const UP_TO = "up to ";

function kindOf({ address }: Endpoint, ports: Ports): Kind {
  if (address.port === ports.dead) return "dead";
  return address.port === ports.near ? "near" : "far";
}

const kindsOf = (lists: readonly (readonly Endpoint[])[], ports: Ports): Kind[] => [
  ...new Set(lists.flatMap((hosts): Kind[] => (hosts.length === 0 ? ["none"] : hosts.map((h) => kindOf(h, ports))))),
];

/** Bytes of a body that come in one piece with the head. */
const AT_ONCE = 16_384;

/** A body larger than may be kept is sent once. */
const isKept = (content: number | undefined, { bufferLimit }: ForwardAction): boolean =>
  (content ?? 0) <= Math.min(1 << 20, bufferLimit ?? Number.POSITIVE_INFINITY);

/** By cluster: the hosts that copies have. */
function copiesOf(
  { clusters }: Config,
  { mirrors = [] }: ForwardAction,
  head: RequestHead,
  sent: RequestHead,
): Record<string, string[]> {
  const copies: Record<string, string[]> = {};
  for (const { cluster, fraction, marksHost } of mirrors) {
    const name = "name" in cluster ? cluster.name : (new Headers(head, "each").get(cluster.header)?.[0] ?? "");
    if (fraction?.share === 0 || !clusters.some((each) => each.name === name)) continue;
    copies[name] = [...(copies[name] ?? []), marksHost ? withMark(sent.authority) : sent.authority];
  }
  return copies;
}

/** What the servers are told: the first word names the request. */
const actsOf = ({ headers }: RequestHead): string[] =>
  headers
    .find(([name]) => name.toLowerCase() === "x-act")?.[1]
    .split(" ")
    .slice(1) ?? ["200"];

const burstOf = (text: string) => Number(/\nx-burst: (\d+)\r/i.exec(text)?.[1] ?? 1);

/** Of a burst at a cluster of one endpoint, where one after the other gets its connection. */
function overflowsOf(
  config: Config,
  { routes }: HttpChain,
  { action }: RouteMatched["route"],
  head: RequestHead,
  text: string,
): Expected["overflows"] {
  const burst = burstOf(text);
  if (burst === 1 || action.kind !== "forward" || action.clusters.length !== 1) return undefined;
  const [entry] = action.clusters;
  const cluster = config.clusters.find(({ name }) => entry !== undefined && "name" in entry && name === entry.name);
  if (cluster?.endpoints.length !== 1 || routes.suppressesOwn) return undefined;
  if (Tries.of(action.retry, new Headers(head, "each")) !== undefined) return undefined;
  const breakers = cluster.breakers ?? DEFAULT_BREAKERS;
  const priority = action.priority ?? "default";
  const { maxRequests, maxConnections, maxPendingRequests } = breakers[priority];
  if (maxPendingRequests === 0) return undefined;
  const bound = Math.min(maxConnections, breakers.maxConnectionsPerHost?.[priority] ?? maxConnections);
  const connections = Math.max(1, bound);
  /* Who waits for a connection is not under way yet, and has room when one gets free. */
  const ofConnections = connections <= maxRequests;
  const most = ofConnections ? connections + maxPendingRequests : maxRequests;
  return { count: Math.max(0, burst - most), ofConnections };
}

/** A body is text, unless the rules say otherwise, and without one there is no type. */
function replyOf(
  own: OwnHeaders | undefined,
  status: number,
  body: string,
  fields: readonly Field[],
  asked: RequestHead | undefined,
): Outcome {
  const isType = ([name]: Field) => name.toLowerCase() === "content-type";
  const isGrpc = fields.some(([name]) => name === "grpc-status");
  const all =
    body === "" && !isGrpc
      ? fields.filter((field) => !isType(field))
      : fields.some(isType)
        ? fields
        : [...fields, ...TEXT];
  const shown = status === 204 || status === 304 ? "" : body;
  const finished = answer(own, all, asked, 0);
  return { kind: "reply", status, body: shown, fields: comparableFields(finished, own !== undefined) };
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

/** How many bytes a body has, without the lines of its chunks; undefined: they are broken, or do not end. */
function contentOf(text: string, request: RequestLine): number | undefined {
  const body = requestBody(request);
  if (body.kind !== "chunked") return body.kind === "length" ? body.length : 0;
  const chunks = new ChunkReader(400);
  const bytes = Buffer.from(text.replace(/^(\r\n)+/, ""), "latin1");
  try {
    const { data } = chunks.feed(bytes.subarray(bytes.indexOf("\r\n\r\n") + 4));
    return chunks.done ? data.reduce((sum, { length }) => sum + length, 0) : undefined;
  } catch {
    return undefined;
  }
}

// ---- what the server gets ----

/** For one connection only, or rewritten by Envoy and not by XLB: see docs/configuration.md. */
const UNCOMPARED = new Set([
  "connection",
  "content-length",
  "expect",
  "grpc-timeout",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
  "x-act",
  "x-forwarded-proto",
  "x-request-id",
]);

/** What is never compared of a head: for one connection only, or rewritten by Envoy and not by XLB. */
const OF_THE_HOP = new Set([
  "connection",
  "content-length",
  "grpc-timeout",
  "host",
  "http2-settings",
  "transfer-encoding",
  "upgrade",
  "x-act",
]);

/** Envoy's own that XLB sets as well, where the rules ask for it. */
const SET_BY_BOTH: readonly string[] = [
  "x-envoy-original-path",
  "x-envoy-original-host",
  ATTEMPT_COUNT,
  "x-envoy-overloaded",
];

/** What of a head can be compared, `own`: with what Envoy sets itself; what Connection names is for one hop. */
function comparable(
  method: string,
  target: string,
  authority: string,
  headers: readonly Field[],
  own: boolean,
): SeenHead {
  const nominated = new Set(own ? [] : tokens(headers, "connection"));
  const kept = headers.filter(
    ([name]) =>
      !nominated.has(name.toLowerCase()) && (own ? !OF_THE_HOP.has(name.toLowerCase()) : isCompared(name, UNCOMPARED)),
  );
  return { method, target, headers: { ...joined(kept), host: authority } };
}

/** The head that a server answered with. */
export function seenHead(text: string, own = false): SeenHead {
  const [first = "", ...lines] = text.split("\r\n");
  const [method = "", target = ""] = first.split(" ");
  const fields = lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).trim()] as const;
  });
  const host = fields.find(([name]) => name.toLowerCase() === "host")?.[1] ?? "";
  return comparable(method, target, host, fields, own);
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

/** What of an answer's fields can be compared; `own`: with what Envoy sets itself. */
export function comparableFields(fields: readonly Field[], own = false): SeenFields {
  const compared = (name: string) => (own ? !OF_THE_ANSWER.has(name.toLowerCase()) : isComparedInAnswers(name));
  const seen = joined(fields.filter(([name]) => compared(name)).map(withoutPort));
  return own ? Object.fromEntries(Object.entries(seen).map(withoutTime)) : seen;
}

const OF_THE_ANSWER = new Set(["connection", "content-length", "transfer-encoding", "x-endpoint"]);

/** When it was, and how long it took. */
function withoutTime([name, value]: Field): Field {
  if (name === "date" && !Number.isNaN(Date.parse(value))) return [name, "a date"];
  return name === SERVICE_TIME && /^\d+$/.test(value) ? [name, "a time"] : [name, value];
}

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
