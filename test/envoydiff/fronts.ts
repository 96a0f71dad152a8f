import type { Dice } from "../dice.ts";
import type { ChainSpec, Clusters, FrontSpec, Json } from "./spec.ts";
import { someCriteria } from "./subsets.ts";

/** What stands before the HTTP connection manager: a listener with several filter chains, one of which has it. */

const EXTENSION = "type.googleapis.com/envoy.extensions.filters";

/** `{net}` is the net of who listens: Envoy and XLB each have their own. */
const DESTINATIONS = ["127.0.0.0/8", "127.0.0.0/16", "127.0.{net}.0/24", "127.0.{net}.0/29", "127.0.{net}.1/32"];
const ELSEWHERE = ["127.0.{net}.7/32", "10.0.0.0/8", "0.0.0.0/0", "::/0"];
const SOURCES = ["127.0.0.0/8", "127.0.9.0/24", "127.0.9.1/32", "127.0.0.1/32", "10.0.0.0/8", "0.0.0.0/0"];

/** Clients' own addresses, and the last byte of those that they ask for. */
const FROM = ["127.0.0.1", "127.0.9.1", "127.0.9.2"];
const TO = ["1", "7", "9"];
const NOBODYS_PORT = "1";
/** Of a second listener that is not on every address. */
export const TWIN = "7";

/** Last bytes of the addresses at whose port the first listener is found. */
export const ownBytes = ({ anywhere, twin }: FrontSpec): string[] =>
  anywhere ? TO.filter((byte) => twin === undefined || byte !== TWIN) : TO.slice(0, 1);

const range = (text: string): Json => {
  const [address_prefix, bits] = text.split("/");
  return { address_prefix, prefix_len: Number(bits) };
};

const someRanges = (of: readonly string[], dice: Dice) =>
  [...new Set(Array.from({ length: dice.between(1, 2) }, () => dice.one(of)))].map(range);

function anyMatch(inspects: boolean, dice: Dice): Json {
  return {
    ...(dice.chance(0.25) ? { prefix_ranges: someRanges([...DESTINATIONS, ...ELSEWHERE], dice) } : {}),
    ...(dice.chance(0.1) ? { transport_protocol: "raw_buffer" } : {}),
    ...(dice.chance(inspects ? 0.5 : 0.1)
      ? { application_protocols: dice.one([["http/1.1"], ["http/1.0"], ["http/1.0", "http/1.1"], ["h2c"]]) }
      : {}),
    ...(dice.chance(0.2) ? { direct_source_prefix_ranges: someRanges(SOURCES, dice) } : {}),
    ...(dice.chance(0.2) ? { source_type: dice.one(["ANY", "SAME_IP_OR_LOOPBACK", "EXTERNAL"]) } : {}),
    ...(dice.chance(0.25) ? { source_prefix_ranges: someRanges(SOURCES, dice) } : {}),
    ...(dice.chance(0.1) ? { source_ports: [1, 2] } : {}),
    ...(dice.chance(0.08) ? { destination_port: 1 } : {}),
  };
}

const anyDeed = (clusters: Clusters, dice: Dice): ChainSpec["does"] =>
  dice.one<() => ChainSpec["does"]>([
    () => "routes",
    () => "routes",
    () => ({ answers: dice.one(["one", "two", "three"]) }),
    () => ({ proxies: { cluster: clusters.fresh() } }),
    () => ({
      proxies: {
        weighted_clusters: { clusters: [0, 1].map(() => ({ name: clusters.fresh(), weight: dice.between(1, 3) })) },
        ...(dice.chance(0.3) ? { idle_timeout: "60s" } : {}),
        ...(dice.chance(0.3) ? { max_connect_attempts: 2 } : {}),
      },
    }),
    () => ({ proxies: { cluster: "nowhere" } }),
    () => ({ proxies: dividedProxy(clusters, dice) }),
  ])();

function dividedProxy({ divided }: Clusters, dice: Dice): Json {
  const name = divided(true);
  if (dice.chance(0.4)) return { cluster: name, ...someCriteria(dice) };
  const entry = () => ({ name, weight: dice.between(1, 3), ...(dice.chance(0.7) ? someCriteria(dice) : {}) });
  return { weighted_clusters: { clusters: [entry(), entry()] }, ...(dice.chance(0.5) ? someCriteria(dice) : {}) };
}

/** Two that the same connection matches as well are refused: they differ in what they ask for somewhere. */
export function makeFront(clusters: Clusters, isRest: boolean, dice: Dice): FrontSpec {
  const inspects = dice.chance(0.5);
  const matches = new Map<string, Json>();
  for (let left = dice.between(1, 4); left > 0; left--) {
    const match = anyMatch(inspects, dice);
    const others = [...matches.values()];
    if (!others.some((other) => mayOverlap(match, other) || isLeftToChance(match, other)))
      matches.set(JSON.stringify(match), match);
  }
  const chains = [...matches.values()].map((match): ChainSpec => ({ match, does: anyDeed(clusters, dice) }));
  return {
    anywhere: dice.chance(0.4),
    ...(isRest ? { rest: true } : {}),
    ...(dice.chance(0.4) ? { twin: "twin" } : {}),
    inspects,
    chains,
    ...(dice.chance(0.7) ? { otherwise: { match: {}, does: anyDeed(clusters, dice) } } : {}),
  };
}

/** Of a range of all addresses and of none at all, Envoy takes the one or the other, by where they lie in memory. */
function isLeftToChance(a: Json, b: Json): boolean {
  const holdsAll = (match: Json, name: string) =>
    ((match[name] ?? []) as Json[]).some(({ address_prefix }) => address_prefix === "0.0.0.0");
  return ["prefix_ranges", "direct_source_prefix_ranges", "source_prefix_ranges"].some(
    (name) => (holdsAll(a, name) && b[name] === undefined) || (holdsAll(b, name) && a[name] === undefined),
  );
}

/** Is there nothing that tells them apart for sure? */
function mayOverlap(a: Json, b: Json): boolean {
  const values = (match: Json, name: string): string[] =>
    Array.isArray(match[name])
      ? (match[name] as unknown[]).map((each) => JSON.stringify(each))
      : [JSON.stringify(match[name] === "ANY" ? null : (match[name] ?? null))];
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].every((name) => {
    const [left, right] = [values(a, name), values(b, name)];
    return left.some((value) => right.includes(value));
  });
}

// ---- as Envoy has it ----

/** Envoy's word on where a connection was to go is the first line of what comes by it. */
const TELLER = {
  name: "teller",
  typed_config: { "@type": `${EXTENSION}.listener.proxy_protocol.v3.ProxyProtocol` },
};

export function listenerJson(front: FrontSpec, manager: Json, named: string, tellsTo: boolean): Json {
  const inspector = {
    name: "inspector",
    typed_config: { "@type": `${EXTENSION}.listener.http_inspector.v3.HttpInspector` },
  };
  const chain = ({ match, does }: ChainSpec, isRest = false): Json => ({
    ...(isRest ? {} : { filter_chain_match: match }),
    ...(does === "routes" ? { name: "routes" } : {}),
    filters: [
      does === "routes" ? manager : "answers" in does ? answering(does.answers, named) : proxying(does.proxies),
    ],
  });
  const filters = [...(front.rest && tellsTo ? [TELLER] : []), ...(front.inspects ? [inspector] : [])];
  return {
    ...(front.rest ? { use_original_dst: true } : {}),
    ...(filters.length > 0 ? { listener_filters: filters } : {}),
    filter_chains: front.chains.map((each) => chain(each)),
    ...(front.otherwise ? { default_filter_chain: chain(front.otherwise, true) } : {}),
  };
}

export const answering = (text: string, stat_prefix: string): Json => ({
  name: "envoy.filters.network.http_connection_manager",
  typed_config: {
    "@type": `${EXTENSION}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix,
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          routes: [{ match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: text } } }],
        },
      ],
    },
    http_filters: [
      { name: "envoy.filters.http.router", typed_config: { "@type": `${EXTENSION}.http.router.v3.Router` } },
    ],
  },
});

const proxying = (what: Json): Json => ({
  name: "tcp",
  typed_config: {
    "@type": `${EXTENSION}.network.tcp_proxy.v3.TcpProxy`,
    stat_prefix: "tcp",
    ...what,
  },
});

// ---- connections ----

/** Words for the client, behind the request's other fields: where it comes from, and where it goes to. */
export function someWay({ anywhere, rest, twin }: FrontSpec, dice: Dice): [name: string, value: string][] {
  const hasOthers = anywhere || rest === true || twin !== undefined;
  return [
    ...(dice.chance(0.6) ? [["x-from", dice.one(FROM)] as [string, string]] : []),
    ...(hasOthers && dice.chance(0.6) ? [["x-to", dice.one(TO)] as [string, string]] : []),
    ...(rest && dice.chance(0.3) ? [["x-to-port", NOBODYS_PORT] as [string, string]] : []),
  ];
}

/** What is no HTTP, or not of the version that most speak. */
export const oddSpeech = (text: string, dice: Dice): string =>
  dice.one([
    () => text.replace(" HTTP/1.1\r\n", " HTTP/1.0\r\n"),
    () => text.replace(" HTTP/1.1\r\n", " HTTP/1.0\r\n"),
    () => text.replace(/^[^\r]*\r\n/, "hello\r\n"),
    () => text.replace(/^[^\r]*\r\n/, "hello world what else\r\n"),
    () => text.replace(/^[^\r]*\r\n/, "\x01\x02 / HTTP/1.1\r\n"),
  ])();
