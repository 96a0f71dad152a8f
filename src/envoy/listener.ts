import type { HttpOptions, Listener, Normalisation } from "../model/config.ts";
import { addressText } from "../tables/address.ts";
import { readAddress } from "./address.ts";
import { readChains, readInspection } from "./chains.ts";
import type { Fields } from "./fields.ts";
import { readHttpFilters } from "./filters.ts";
import { readDownstreamOptions } from "./limits.ts";
import { type Node, readOwnHeaders } from "./own-headers.ts";
import { readRoutes } from "./routes.ts";
import { readUpgrades } from "./upgrades.ts";

const CONNECTION_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

const SERVERS_SIDE =
  "INBOUND is the server's side: XLB balances what clients send, and enforces no policy of a server's";

/** Is the listener for what clients send? The other kind, which Istio has too, is taken and left alone. */
export function isOutbound(listener: Fields): boolean {
  const direction = listener.oneOf("traffic_direction", "UNSPECIFIED", "OUTBOUND", "INBOUND");
  if (direction === "INBOUND") listener.leaveWhole(SERVERS_SIDE);
  return direction !== "INBOUND";
}

/** `node` is the bootstrap's, of which some options speak. */
export function readListener(listener: Fields, clusters: ReadonlySet<string>, node?: Node): Listener {
  const address = readAddress(listener);
  // Every listener of XLB is virtual: nothing binds, whatever bind_to_port says.
  listener.skip("stat_prefix", "bind_to_port");
  const takesRest = listener.boolean("use_original_dst");
  // Which port a connection came to is then not the listener's to say.
  const port = takesRest ? undefined : address.port;
  const name = listener.string("name") || (address.ip && addressText(address));
  const more = listener.messages("additional_addresses").map((fields) => readAddress(fields));
  const inspection = readInspection(listener);
  return {
    name,
    address,
    ...(more.length === 0 ? {} : { more }),
    ...readChains(listener, name, {
      typeName: CONNECTION_MANAGER,
      read: (manager) => readConnectionManager(manager, clusters, port, node),
    }),
    ...(inspection === undefined ? {} : { inspection }),
    ...(takesRest ? { takesRest: true } : {}),
  };
}

/** Stands for routes that were rejected. */
const NO_ROUTES = { name: "", ignorePortInHostMatching: false, virtualHosts: [] };

function readConnectionManager(
  manager: Fields,
  clusters: ReadonlySet<string>,
  port: number | undefined,
  node: Node | undefined,
) {
  manager.oneOf("codec_type", "AUTO", "HTTP1");
  const { router, faults } = readHttpFilters(manager);
  const suppressesOwn = router?.boolean("suppress_envoy_headers") ?? false;
  const routes = manager.message("route_config");
  return {
    statPrefix: manager.string("stat_prefix"),
    http: {
      ...readHttpOptions(manager, port),
      ...readOwnHeaders(manager, node),
      ...(faults?.fault === undefined ? {} : { fault: faults.fault }),
    },
    routes: {
      ...(routes === undefined ? NO_ROUTES : readRoutes(routes, clusters, faults)),
      ...(suppressesOwn ? { suppressesOwn } : {}),
    },
  };
}

/** Envoy's defaults. */
const DEFAULT_HTTP: HttpOptions = {
  acceptHttp10: false,
  defaultHostForHttp10: undefined,
  maxRequestHeadersKb: 60,
  maxHeadersCount: 100,
  upgrades: [],
};

function readHttpOptions(manager: Fields, port: number | undefined): HttpOptions {
  const http1 = manager.message("http_protocol_options");
  const common = manager.message("common_http_protocol_options");
  return {
    acceptHttp10: http1?.boolean("accept_http_10") ?? DEFAULT_HTTP.acceptHttp10,
    defaultHostForHttp10: http1?.string("default_host_for_http_10") || undefined,
    maxRequestHeadersKb: manager.number("max_request_headers_kb") ?? DEFAULT_HTTP.maxRequestHeadersKb,
    maxHeadersCount: common?.number("max_headers_count") ?? DEFAULT_HTTP.maxHeadersCount,
    upgrades: readUpgrades(manager).allowed,
    limits: readDownstreamOptions(manager, common),
    ...readNormalisation(manager, common, port),
  };
}

/** Envoy's words for what is done, or not, to a slash that is escaped; its runtime's default is to keep it. */
const ESCAPED_SLASHES = {
  IMPLEMENTATION_SPECIFIC_DEFAULT: undefined,
  KEEP_UNCHANGED: undefined,
  REJECT_REQUEST: "reject",
  UNESCAPE_AND_REDIRECT: "redirect",
  UNESCAPE_AND_FORWARD: "forward",
} as const;
const UNDERSCORES = { ALLOW: undefined, REJECT_REQUEST: "reject", DROP_HEADER: "drop" } as const;

function readNormalisation(manager: Fields, common: Fields | undefined, listenerPort: number | undefined) {
  const [anyPort, ownPort] = [manager.boolean("strip_any_host_port"), manager.boolean("strip_matching_host_port")];
  if (anyPort && ownPort)
    manager.reject("strip_matching_host_port", "cannot stand beside strip_any_host_port", "keep one of the two");
  else if (ownPort && listenerPort === undefined)
    manager.reject("strip_matching_host_port", "is not supported beside use_original_dst", "strip_any_host_port is");
  const escaped = manager.oneOf(
    "path_with_escaped_slashes_action",
    "IMPLEMENTATION_SPECIFIC_DEFAULT",
    "KEEP_UNCHANGED",
    "REJECT_REQUEST",
    "UNESCAPE_AND_REDIRECT",
    "UNESCAPE_AND_FORWARD",
  );
  const underscores = common?.oneOf("headers_with_underscores_action", "ALLOW", "REJECT_REQUEST", "DROP_HEADER");
  const asked: Normalisation = {
    path: manager.boolean("normalize_path") || undefined,
    mergeSlashes: manager.boolean("merge_slashes") || undefined,
    escapedSlashes: ESCAPED_SLASHES[escaped],
    port: anyPort ? "any" : ownPort ? listenerPort : undefined,
    dot: manager.boolean("strip_trailing_host_dot") || undefined,
    underscores: UNDERSCORES[underscores ?? "ALLOW"],
  };
  return Object.values(asked).some((value) => value !== undefined) ? { normalisation: asked } : {};
}
