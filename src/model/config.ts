import type { Fault } from "./fault.ts";
import type {
  Breakers,
  DownstreamOptions,
  Mirror,
  Priority,
  RetryPolicy,
  SocketOptions,
  StreamLimits,
  UpstreamOptions,
} from "./limits.ts";
import type { Metadata } from "./metadata.ts";
import type { OutlierDetection } from "./outlier.ts";

/**
 * What XLB was told to do, as plain data. `envoy/` makes it out of Envoy's API, `route/` gives it its meaning,
 * `compile/` turns it into tables for the kernel. Nothing here knows protobuf or bytes.
 */

/** An IP address in its canonical text form (RFC 5952 for IPv6) and a TCP port. */
export interface Address {
  readonly ip: string;
  /** 1..65535 */
  readonly port: number;
}

export interface Config {
  readonly listeners: readonly Listener[];
  readonly clusters: readonly Cluster[];
  readonly local?: Local;
}

/** A virtual address that clients connect to. `ip` may be a wildcard (`0.0.0.0`, `::`): any address with that port. */
export interface Listener {
  readonly name: string;
  readonly address: Address;
  /** `additional_addresses`: it is at these too. */
  readonly more?: readonly Address[];
  /** Which of them serves a connection, `route/chain.ts` says. */
  readonly chains: readonly FilterChain[];
  /** `default_filter_chain`: for connections that none of the others matches. */
  readonly otherwise?: FilterChain;
  /** What has to be seen of a connection before its chain is chosen; missing: nothing. */
  readonly inspection?: Inspection;
  /** `use_original_dst`: it also takes connections to addresses of no listener. */
  readonly takesRest?: boolean;
}

/** Listener filters that look at a connection's first bytes. */
export interface Inspection {
  /** `http_inspector`: the application protocol is told by the first line. */
  readonly http?: Inspector;
  /** `tls_inspector`: a ClientHello tells the transport protocol, the server's name and application protocols. */
  readonly tls?: TlsInspector;
  /** Milliseconds that the first bytes may take to come; 0: any time. */
  readonly timeoutMs: number;
  /** What happens then: a chain is chosen by what is known, or the connection is closed. */
  readonly continues: boolean;
}

/** Looks at connections to some ports. */
export interface Inspector {
  /** Missing: to all. */
  readonly ports?: readonly PortRange[];
}

export interface TlsInspector extends Inspector {
  /** `max_client_hello_size`: a connection whose hello is not whole by then is closed. */
  readonly mostBytes: number;
  /** `close_connection_on_client_hello_parsing_errors`: so is one that speaks no TLS. */
  readonly closesOthers: boolean;
}

/** From `start` up to, but not including, `end`. */
export interface PortRange {
  readonly start: number;
  readonly end: number;
}

export type FilterChain = HttpChain | TcpChain;

interface ChainOf<Kind> {
  readonly kind: Kind;
  /** The listener's name. */
  readonly listener: string;
  /** Its own name, or its place in the listener. */
  readonly label: string;
  readonly match: ChainMatch;
}

/** The HttpConnectionManager. */
export interface HttpChain extends ChainOf<"http"> {
  readonly statPrefix: string;
  readonly http: HttpOptions;
  readonly routes: RouteConfig;
}

/** `tcp_proxy`: each connection is balanced as a whole. */
export interface TcpChain extends ChainOf<"tcp"> {
  readonly statPrefix: string;
  /** At least one; one of them is picked for each connection by weight. */
  readonly clusters: readonly TcpCluster[];
  /** Milliseconds without a byte in either direction, after which both ends are closed; 0: none. Missing: an hour. */
  readonly idleTimeoutMs?: number;
  /** `max_downstream_connection_duration`, milliseconds: it is closed then, whatever goes on. Missing: never. */
  readonly maxDurationMs?: number;
  readonly maxConnectAttempts: number;
  /** `hash_policy` source_ip: a cluster with RING_HASH or MAGLEV goes by the client's address, not by chance. */
  readonly hashesSource?: boolean;
}

export interface TcpCluster {
  readonly name: string;
  /** >= 1 */
  readonly weight: number;
  readonly criteria?: Metadata;
}

/** `filter_chain_match`. An empty list, or a missing value, asks for nothing. */
export interface ChainMatch {
  readonly destinationPort?: number;
  readonly destinations: readonly IpRange[];
  /** Lower case: exact, or `*.suffix`. */
  readonly serverNames: readonly string[];
  /** `""`: any. */
  readonly transportProtocol: string;
  readonly applicationProtocols: readonly string[];
  readonly directSources: readonly IpRange[];
  readonly sourceType: "any" | "local" | "external";
  readonly sources: readonly IpRange[];
  readonly sourcePorts: readonly number[];
}

/** The addresses that agree with `ip` in the first `bits` bits, of 32 or 128. */
export interface IpRange {
  readonly ip: string;
  readonly bits: number;
}

/** The HttpConnectionManager's options that XLB honours; each default is Envoy's. */
export interface HttpOptions {
  /** `http_protocol_options.accept_http_10`; without it HTTP/1.0 requests get 426. */
  readonly acceptHttp10: boolean;
  /** `http_protocol_options.default_host_for_http_10` */
  readonly defaultHostForHttp10: string | undefined;
  /** `max_request_headers_kb`, KiB; over it: 431. */
  readonly maxRequestHeadersKb: number;
  /** `common_http_protocol_options.max_headers_count`; over it: 431. */
  readonly maxHeadersCount: number;
  /** Upgrade tokens (lower case) that `upgrade_configs` enables; others get 403. */
  readonly upgrades: readonly string[];
  /** Missing: Envoy's defaults. */
  readonly limits?: DownstreamOptions;
  /** Missing: path, host and names of headers are taken as they come. */
  readonly normalisation?: Normalisation;
  /** Missing: no option asks for one of Envoy's own headers, and none is set. */
  readonly own?: OwnHeaders;
  /** What the fault filter does to requests without a route. */
  readonly fault?: Fault;
}

/**
 * The headers by which Envoy speaks of itself and of whom it serves, where an option asks for any of them: then all are
 * set as Envoy sets them (docs/decisions/0012).
 */
export interface OwnHeaders {
  /** The option that asks, by its name: for whoever has to say why. */
  readonly askedBy: string;
  /** `use_remote_address`: this is where requests come in, so that what clients say of themselves does not count. */
  readonly isEdge: boolean;
  /** `xff_num_trusted_hops`: so many addresses at the end of x-forwarded-for are those of proxies that are trusted. */
  readonly trustedHops: number;
  /** Not `skip_xff_append`: an edge puts the client's address behind the others. */
  readonly appendsClient: boolean;
  /** `append_x_forwarded_port` */
  readonly appendsPort: boolean;
  /** "" for none. */
  readonly via: string;
  /** `server_name` */
  readonly server: string;
  readonly serverHeader: "overwrite" | "appendIfAbsent" | "passThrough";
  /** `generate_request_id` */
  readonly makesRequestId: boolean;
  /** `preserve_external_request_id`: an edge keeps that of its client. */
  readonly keepsRequestId: boolean;
  /** `always_set_request_id_in_response` */
  readonly tellsRequestId: boolean;
  /** `pack_trace_reason` of the request id's extension: a digit of the id says whether it is traced. */
  readonly marksTrace: boolean;
  /** `scheme_to_overwrite` */
  readonly scheme?: "http" | "https";
  /** `add_user_agent`: the node that speaks for itself. */
  readonly userAgent?: { readonly cluster: string; readonly node: string };
  /** `internal_address_config`: requests from there may say how they are to be served. */
  readonly internal: readonly IpRange[];
  /** `forward_client_cert_details: ALWAYS_FORWARD_ONLY` */
  readonly keepsClientCertificate: boolean;
}

/** What is made of a request's head before rules are asked; what is missing is not done. */
export interface Normalisation {
  /** `normalize_path`: by RFC 3986, section 6. */
  readonly path?: boolean;
  readonly mergeSlashes?: boolean;
  /** `path_with_escaped_slashes_action` */
  readonly escapedSlashes?: "reject" | "redirect" | "forward";
  /** `strip_any_host_port`, or that of the listener: `strip_matching_host_port`. */
  readonly port?: "any" | number;
  /** `strip_trailing_host_dot` */
  readonly dot?: boolean;
  /** `headers_with_underscores_action` */
  readonly underscores?: "reject" | "drop";
}

export interface RouteConfig extends Edited {
  readonly name: string;
  readonly ignorePortInHostMatching: boolean;
  /** `most_specific_header_mutations_wins`: the route's header edits come last, not first. */
  readonly mostSpecificWins?: boolean;
  /** The router's `suppress_envoy_headers`: nothing is said of rewrites, timeouts and overload. */
  readonly suppressesOwn?: true;
  /** `internal_only_headers`, lower case: requests of others lose them before a route is looked for. Never empty. */
  readonly internalOnly?: readonly string[];
  readonly virtualHosts: readonly VirtualHost[];
}

export interface VirtualHost extends Edited {
  readonly name: string;
  /** Lower case: exact, `*.suffix`, `*-suffix`, `prefix.*` or `*`. */
  readonly domains: readonly string[];
  readonly routes: readonly Route[];
}

/** A route matches if all of its conditions do. */
export interface Route extends Edited {
  /** The route's own name, or `<virtual host>/<index>` where it has none: a key for counters. */
  readonly name: string;
  readonly path: PathMatch;
  readonly headers: readonly HeaderMatch[];
  readonly query?: readonly QueryMatch[];
  /** `runtime_fraction` */
  readonly fraction?: Fraction;
  /** Only requests of gRPC, by their content-type. */
  readonly grpc?: boolean;
  /** Its own, or of whatever holds it; missing: no fault filter does anything to its requests. */
  readonly fault?: Fault;
  readonly action: RouteAction;
}

/** Matched against the path without query and fragment. */
export type PathMatch = TextPathMatch | PathPattern;

export interface PathPattern extends RegexMatch {
  /** The URI template that the pattern was made of. */
  readonly template?: string;
}

export interface TextPathMatch {
  readonly kind: "prefix" | "path" | "pathSeparatedPrefix";
  readonly value: string;
  readonly caseSensitive: boolean;
}

/** RE2's syntax; the whole text has to match. */
export interface RegexMatch {
  readonly kind: "regex";
  readonly pattern: string;
}

export interface HeaderMatch {
  /** Lower case; may be a pseudo header: `:method`, `:authority`, `:path`, `:scheme`. */
  readonly name: string;
  readonly invert: boolean;
  /** `treat_missing_header_as_empty` */
  readonly missingIsEmpty?: boolean;
  readonly value: HeaderValueMatch;
}

export type HeaderValueMatch = PresentMatch | RangeMatch | StringMatch;

export interface PresentMatch {
  readonly kind: "present";
  readonly present: boolean;
}

/** A whole number from `start` up to, but not including, `end`. */
export interface RangeMatch {
  readonly kind: "range";
  readonly start: number;
  readonly end: number;
}

export type StringMatch = PlainStringMatch | RegexMatch;

export interface PlainStringMatch {
  readonly kind: "exact" | "prefix" | "suffix" | "contains";
  readonly value: string;
  readonly ignoreCase: boolean;
}

/** Asked of the first parameter of that name, as it is written in the query. */
export interface QueryMatch {
  readonly name: string;
  readonly value: PresentMatch | StringMatch;
}

/** `share` of every `outOf` requests, by the request's random number. */
export interface Fraction {
  readonly share: number;
  readonly outOf: number;
}

export type RouteAction = ForwardAction | RedirectAction | DirectResponse;

export interface ForwardAction {
  readonly kind: "forward";
  /** At least one; a plain `cluster` is one entry of weight 1. An entry of weight 0 is never picked. */
  readonly clusters: readonly WeightedCluster[];
  /** Milliseconds, 0 = none. Envoy's default is 15,000: from the end of the request to the end of the response. */
  readonly timeoutMs: number;
  /** `cluster_not_found_response_code`; missing: 503. */
  readonly notFoundStatus?: number;
  readonly path?: PathRewrite;
  readonly host?: HostRewrite;
  /** `append_x_forwarded_host`: what host it was before it was rewritten. */
  readonly keepsForwardedHost?: boolean;
  /** `hash_policy`: by what a cluster with RING_HASH or MAGLEV knows requests that belong together. */
  readonly hashPolicies?: readonly HashPolicy[];
  /** `weighted_clusters.use_hash_policy`: the same hash decides which cluster. */
  readonly clusterByHash?: boolean;
  /** `upgrade_configs`: what it says of an upgrade goes before what the HttpConnectionManager says. */
  readonly upgrades?: Upgrades;
  /** Missing: default. */
  readonly priority?: Priority;
  readonly stream?: StreamLimits;
  readonly retry?: RetryPolicy;
  readonly mirrors?: readonly Mirror[];
  /** `per_request_buffer_limit_bytes`: the longest body that is kept for another try or a mirror. */
  readonly bufferLimit?: number;
  /** `include_request_attempt_count`: the server is told which try it is, in `x-envoy-attempt-count` ... */
  readonly countsAttempts?: boolean;
  /** ... and the client, how many there were. */
  readonly tellsAttempts?: boolean;
}

/** Upgrade tokens, in lower case. */
export interface Upgrades {
  readonly allowed: readonly string[];
  readonly denied: readonly string[];
}

export interface HashPolicy {
  readonly source: HashSource;
  /** Those behind it are not asked once there is a hash. */
  readonly terminal: boolean;
}

export type HashSource = HeaderSource | CookieSource | { readonly kind: "sourceIp" } | QuerySource;

/** All values of a header, in whatever order they come. */
export interface HeaderSource {
  readonly kind: "header";
  /** Lower case; may be a pseudo header. */
  readonly name: string;
  /** Every match in each value is replaced before. */
  readonly rewrite?: RegexRewrite;
}

export interface CookieSource {
  readonly kind: "cookie";
  readonly name: string;
  /** Whole seconds, 0 for the client's session. A client without the cookie gets one; missing: it does not. */
  readonly ttlSeconds?: number;
  /** "" for none. */
  readonly path: string;
  /** Without a value the name stands alone. */
  readonly attributes: readonly { readonly name: string; readonly value: string }[];
}

/** The first parameter of that name, nothing decoded. */
export interface QuerySource {
  readonly kind: "query";
  readonly name: string;
}

export type WeightedCluster = NamedCluster | HeaderCluster;

export interface NamedCluster extends ClusterEntry {
  readonly name: string;
}

/** The request says which cluster, in a header (its name in lower case). */
export interface HeaderCluster extends ClusterEntry {
  readonly header: string;
}

interface ClusterEntry extends Edited {
  readonly weight: number;
  /** `host_rewrite_literal` of the entry */
  readonly host?: string;
  /** `metadata_match` of the route and the entry, the entry's above the route's; never empty. */
  readonly criteria?: Metadata;
}

/** The query stays. */
export type PathRewrite =
  /** Instead of what the route's path matched. */
  { readonly kind: "prefix"; readonly value: string } | RegexRewrite;

/** Every match is replaced; `\1` in the substitution is what the first group matched. */
export interface RegexRewrite {
  readonly kind: "regex";
  readonly pattern: string;
  readonly substitution: string;
}

export type HostRewrite =
  | { readonly kind: "literal"; readonly value: string }
  /** By the first value of that header; nothing where there is none. */
  | { readonly kind: "header"; readonly name: string }
  /** By what is made of the path without its query, before that is rewritten; nothing where nothing is left of it. */
  | { readonly kind: "path"; readonly rewrite: RegexRewrite }
  /** `auto_host_rewrite`: to the `hostname` of the endpoint, at each try; nothing where it has none. */
  | { readonly kind: "endpoint" };

/** Missing parts of the new location are as in the request. */
export interface RedirectAction {
  readonly kind: "redirect";
  readonly status: number;
  readonly scheme?: string;
  readonly host?: string;
  readonly port?: number;
  readonly path?: PathRewrite | { readonly kind: "whole"; readonly value: string };
  readonly stripQuery: boolean;
}

export interface DirectResponse {
  readonly kind: "direct";
  readonly status: number;
  /** A character for each byte, as in a head (latin1). */
  readonly body: string;
}

/** How the heads of messages change on their way: `request_headers_to_add` and the like. */
export interface Edited {
  readonly requestEdits?: HeaderEdits;
  readonly responseEdits?: HeaderEdits;
}

/** First headers are removed, then added. */
export interface HeaderEdits {
  /** Lower case. */
  readonly remove: readonly string[];
  readonly add: readonly HeaderAddition[];
}

export interface HeaderAddition {
  /** Lower case. */
  readonly name: string;
  readonly value: readonly FormatPart[];
  readonly action: "append" | "addIfAbsent" | "overwrite" | "overwriteIfExists";
  /** Without it a value that comes out empty adds nothing. */
  readonly keepEmpty: boolean;
}

/** A part of a header's value: text, or what Envoy writes between percent signs. */
export type FormatPart =
  | { readonly kind: "text"; readonly text: string }
  /** `%REQ(name?otherwise):limit%`; names in lower case, the limit in bytes. */
  | { readonly kind: "request"; readonly name: string; readonly otherwise?: string; readonly limit?: number }
  | { readonly kind: "clientAddress" | "clientIp" | "protocol" | "startTime" | "hostname" };

export type Policy = PlainPolicy | HashingPolicy;

/** What is asked of a request makes no difference. */
export type PlainPolicy = RoundRobinPolicy | LeastRequestPolicy | { readonly kind: "random" };

export interface RoundRobinPolicy {
  readonly kind: "roundRobin";
  readonly slowStart?: SlowStart;
}

export interface LeastRequestPolicy {
  readonly kind: "leastRequest";
  readonly choiceCount: number;
  /** `selection_method: FULL_SCAN`: of endpoints with equal weights all are asked, not `choiceCount` of them. */
  readonly fullScan?: boolean;
  /** `active_request_bias`, 1 where it is missing: unequal weights are divided by (requests in service + 1) ** bias. */
  readonly bias?: number;
  readonly slowStart?: SlowStart;
}

/** A new endpoint's weight grows: times max(`leastShare`, (age / window) ** (1 / aggression)). */
export interface SlowStart {
  /** Milliseconds, above 0. */
  readonly windowMs: number;
  /** Above 0; 1 is linear. */
  readonly aggression: number;
  /** `min_weight_percent`, from 0 to 1. */
  readonly leastShare: number;
}

/** By the request's hash; by chance where it has none. */
export type HashingPolicy = RingHash | Maglev;

export interface RingHash {
  readonly kind: "ringHash";
  /** Entries, 1,024 by default. */
  readonly minimumSize: number;
  /** 8,388,608 by default. */
  readonly maximumSize: number;
  readonly hash: "xxHash64" | "murmurHash2";
  /** `hash_balance_factor`, at least 100: no endpoint serves more than these percent of its share. Missing: any. */
  readonly balanceFactor?: number;
  /** `use_hostname_for_hashing`: the hostname of an endpoint is hashed in place of its address, also where it is "". */
  readonly byHostname?: boolean;
}

export interface Maglev {
  readonly kind: "maglev";
  /** Entries, a prime; 65,537 by default. */
  readonly tableSize: number;
  readonly balanceFactor?: number;
  readonly byHostname?: boolean;
}

export interface Cluster {
  readonly name: string;
  readonly policy: Policy;
  /** Milliseconds; Envoy's default is 5,000. */
  readonly connectTimeoutMs: number;
  /** `circuit_breakers.thresholds[DEFAULT].max_connections`, 1,024 by default: the bound of an endpoint's pools. */
  readonly maxConnections: number;
  /** Missing, as the next two: Envoy's defaults. */
  readonly breakers?: Breakers;
  readonly upstream?: UpstreamOptions;
  readonly sockets?: SocketOptions;
  /** `preconnect_policy.per_upstream_preconnect_ratio`: connections to an endpoint for each that is in use. */
  readonly preconnectRatio?: number;
  /** Missing: whatever an endpoint does to requests, it gets more of them. */
  readonly outlierDetection?: OutlierDetection;
  readonly endpoints: readonly Endpoint[];
  /** Where endpoints come from, if not from the configuration. */
  readonly discovery?: Discovery;
  /** Where endpoints are, and how soon they are used. Missing: all in one place, of priority 0. */
  readonly groups?: readonly Group[];
  /** `overprovisioning_factor`, percent of its own share that an endpoint can bear. Missing: 140. */
  readonly overprovisioning?: number;
  /** `weighted_priority_health`: endpoints count by their weights where priorities share the load. */
  readonly weighsHealth?: boolean;
  /** `healthy_panic_threshold`, percent. Missing: 50. */
  readonly panicPercent?: number;
  /** How localities share a priority's load. Missing: by zone, by Envoy's defaults, where there is a local cluster. */
  readonly localities?: LocalityPolicy;
  /** `drop_overloads`: this share of the requests is answered with 503. */
  readonly drop?: Fraction;
  /** Missing: all requests go to all endpoints. */
  readonly subsets?: Subsets;
}

/**
 * `lb_subset_config`, or the subset policy: the criteria of a request say which of the endpoints are balanced for it.
 * What that means stands in `route/subset.ts`.
 */
export interface Subsets {
  readonly selectors: readonly SubsetSelector[];
  /** What is done where there is no subset, and the selector says nothing of it. */
  readonly fallback: SubsetFallback;
  /** What endpoints of the default subset have. */
  readonly defaultSubset: Metadata;
  /** `locality_weight_aware`: localities keep their weights in a subset ... */
  readonly weighsLocalities?: boolean;
  /** ... by the part of their endpoints that it has: `scale_locality_weight`. */
  readonly scalesWeights?: boolean;
  /** `panic_mode_any`: any endpoint, where `fallback` finds none. */
  readonly panicsToAny?: boolean;
  /** `list_as_any`: an endpoint with a list of values has each of them. */
  readonly listAsAny?: boolean;
  /** `metadata_fallback_policy: FALLBACK_LIST` */
  readonly hasFallbackList?: boolean;
  /** `allow_redundant_keys`: criteria of which no selector knows do no harm. */
  readonly ignoresOtherKeys?: boolean;
}

export interface SubsetSelector {
  /** One at least, each once, in order. */
  readonly keys: readonly string[];
  /** `single_host_per_subset` */
  readonly isSingle?: boolean;
  /** Keys: the criteria are looked for again with these alone, fewer than the selector's. Missing: the cluster's. */
  readonly fallback?: SubsetFallback | { readonly keys: readonly string[] };
}

export type SubsetFallback = "none" | "any" | "default";

export type Discovery = OriginalDestination | DnsDiscovery;

/** ORIGINAL_DST: the one endpoint is where the client wanted to go. */
export interface OriginalDestination {
  readonly kind: "originalDst";
}

/** The cluster's endpoints have names for addresses: each stands for what DNS says of it. */
export interface DnsDiscovery {
  readonly kind: "dns";
  /** LOGICAL_DNS: only the first address, for new connections. */
  readonly logical: boolean;
  /** Milliseconds from an answer to the next question. */
  readonly refreshMs: number;
  /** Up to, but not including, so many more, by chance: not all ask at once. */
  readonly jitterMs: number;
  /** The first pause after a failure, and the longest. Milliseconds. */
  readonly failureMs: { readonly base: number; readonly most: number };
  /** The pause is the least time to live of the answer, not `refreshMs`. */
  readonly respectsTtl: boolean;
  readonly family: "auto" | "v4" | "v6" | "v4Preferred" | "all";
  /** Whom to ask; none: whom the system asks. */
  readonly resolvers: readonly Address[];
}

/** Endpoints of one locality and priority (`LocalityLbEndpoints`). */
export interface Group {
  readonly priority: number;
  readonly locality: Locality;
  /** Counts where localities are weighted; 0 there: none of the load. */
  readonly weight: number;
}

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subZone: string;
}

export type LocalityPolicy =
  | { readonly kind: "weighted" }
  | {
      readonly kind: "zoneAware";
      /** `routing_enabled`, whole percent of the requests */
      readonly percent: number;
      readonly minClusterSize: number;
      /** `fail_traffic_on_panic`: no endpoint where the panic threshold would have all of them used. */
      readonly failsOnPanic: boolean;
    };

/** The cluster that XLB itself is in, as `cluster_manager.local_cluster_name` names it, and where in it. */
export interface Local {
  readonly cluster: string;
  readonly locality: Locality;
}

export type Health = "healthy" | "unhealthy" | "draining" | "timeout" | "degraded";

export interface Endpoint {
  readonly address: Address;
  /** >= 1 */
  readonly weight: number;
  readonly health: Health;
  /** Index among the cluster's groups; missing: 0. */
  readonly group?: number;
  /** What RING_HASH and MAGLEV hash in place of its address. */
  readonly hashKey?: string;
  /** Never empty: `endpoint.hostname`, or what DNS was asked for where the endpoint comes from there. */
  readonly hostname?: string;
  /** By what subsets know it; never empty. */
  readonly metadata?: Metadata;
}
