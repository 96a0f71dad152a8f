import type { HttpOptions, Listener } from "../model/config.ts";
import { addressText } from "../tables/address.ts";
import { readAddress } from "./address.ts";
import { readChains, readInspection } from "./chains.ts";
import type { Fields } from "./fields.ts";
import { readDownstreamOptions } from "./limits.ts";
import { readRoutes } from "./routes.ts";

const CONNECTION_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER = "envoy.extensions.filters.http.router.v3.Router";

export function readListener(listener: Fields, clusters: ReadonlySet<string>): Listener {
  const address = readAddress(listener);
  // Every listener of XLB is virtual: nothing binds, whatever bind_to_port says.
  listener.skip("stat_prefix", "bind_to_port", "traffic_direction");
  const name = listener.string("name") || (address.ip && addressText(address));
  const inspection = readInspection(listener);
  return {
    name,
    address,
    ...readChains(listener, name, {
      typeName: CONNECTION_MANAGER,
      read: (manager) => readConnectionManager(manager, clusters),
    }),
    ...(inspection === undefined ? {} : { inspection }),
    ...(listener.boolean("use_original_dst") ? { takesRest: true } : {}),
  };
}

/** Stands for routes that were rejected. */
const NO_ROUTES = { name: "", ignorePortInHostMatching: false, virtualHosts: [] };

function readConnectionManager(manager: Fields, clusters: ReadonlySet<string>) {
  manager.oneOf("codec_type", "AUTO", "HTTP1");
  readRouter(manager);
  const routes = manager.message("route_config");
  return {
    statPrefix: manager.string("stat_prefix"),
    http: readHttpOptions(manager),
    routes: routes === undefined ? NO_ROUTES : readRoutes(routes, clusters),
  };
}

/** XLB is the router, and it is so as Envoy's router is by default. */
function readRouter(manager: Fields): void {
  const filter = onlyOne(manager, "http_filters", `there is one HTTP filter, the router (${ROUTER})`);
  filter?.skip("name");
  filter?.packed("typed_config", ROUTER)?.only("dynamic_stats", true);
}

function onlyOne(owner: Fields, name: string, rule: string): Fields | undefined {
  const [first, ...others] = owner.messages(name);
  if (owner.lacks(name)) owner.reject(name, "is required", rule);
  for (const other of others) other.rejectWhole("is not supported yet", rule);
  return first;
}

/** Envoy's defaults. */
const DEFAULT_HTTP: HttpOptions = {
  acceptHttp10: false,
  defaultHostForHttp10: undefined,
  maxRequestHeadersKb: 60,
  maxHeadersCount: 100,
  upgrades: [],
};

function readHttpOptions(manager: Fields): HttpOptions {
  const http1 = manager.message("http_protocol_options");
  const common = manager.message("common_http_protocol_options");
  return {
    acceptHttp10: http1?.boolean("accept_http_10") ?? DEFAULT_HTTP.acceptHttp10,
    defaultHostForHttp10: http1?.string("default_host_for_http_10") || undefined,
    maxRequestHeadersKb: manager.number("max_request_headers_kb") ?? DEFAULT_HTTP.maxRequestHeadersKb,
    maxHeadersCount: common?.number("max_headers_count") ?? DEFAULT_HTTP.maxHeadersCount,
    upgrades: readUpgrades(manager),
    limits: readDownstreamOptions(manager, common),
  };
}

/** These open a tunnel to a place that the client names, instead of changing the protocol with a backend. */
const TUNNELS = ["connect", "connect-udp", "connect-ip"];

function readUpgrades(manager: Fields): string[] {
  const seen = new Set<string>();
  for (const upgrade of manager.messages("upgrade_configs")) {
    const written = upgrade.string("upgrade_type");
    const type = written.toLowerCase();
    if (upgrade.isBroken("upgrade_type")) continue;
    if (type === "") upgrade.reject("upgrade_type", "is required", "name the protocol, such as websocket");
    else if (TUNNELS.includes(type)) upgrade.reject("upgrade_type", `${written} is not supported yet`, "remove it");
    else if (seen.has(type))
      upgrade.reject("upgrade_type", `${JSON.stringify(written)} was given before`, "keep one of the two");
    seen.add(type);
  }
  return [...seen];
}
