import assert from "node:assert/strict";
import { bootstrap } from "../../bench/systems/bootstrap.ts";
import { compile } from "../../src/compile/compile.ts";
import { parseBootstrap } from "../../src/envoy/parse.ts";
import { EVERYTHING } from "../../src/model/chains.ts";
import type { Config, Listener, Normalisation, RouteConfig } from "../../src/model/config.ts";
import { matchRoute, type RequestHead } from "../../src/route/match.ts";
import type { ConnectWay, Tables } from "../../src/tables/compiled.ts";
import { interpretRoute } from "./interpret.ts";

/** One listener with these routes, and no cluster. */

const http = {
  acceptHttp10: false,
  defaultHostForHttp10: undefined,
  maxRequestHeadersKb: 60,
  maxHeadersCount: 100,
  upgrades: [],
};
export const listener = (routes: RouteConfig): Listener => ({
  name: "l",
  address: { ip: "10.0.0.1", port: 80 },
  chains: [{ kind: "http", listener: "l", label: "l", match: EVERYTHING, statPrefix: "l", http, routes }],
});

export const compileRoutes = (routes: RouteConfig): Tables =>
  compile({ listeners: [listener(routes)], clusters: [] }, () => ({ lists: [] }));

const listen = { ip: "10.0.0.1", port: 80 };

/** One listener with these virtual hosts as Envoy has them, whose heads are normalised so, and the cluster c. */
export function configOf(hosts: readonly object[], normalisation?: Normalisation): Config {
  const text = bootstrap([{ name: "c", listen, backend: listen }], () => ({
    route_config: { name: "r", virtual_hosts: hosts },
  }));
  const parsed = parseBootstrap(JSON.stringify(text));
  assert.ok(parsed.ok, JSON.stringify(parsed));
  const { config } = parsed.value;
  if (normalisation === undefined) return config;
  const normalised = (each: Listener): Listener => ({
    ...each,
    chains: each.chains.map((chain) =>
      chain.kind === "http" ? { ...chain, http: { ...chain.http, normalisation } } : chain,
    ),
  });
  return { ...config, listeners: config.listeners.map(normalised) };
}

export const compileConfig = (config: Config, previous?: Tables): Tables =>
  compile(config, () => ({ lists: [] }), previous);

export function only(tables: Tables): Extract<ConnectWay, { kind: "requests" }> {
  const { way } = tables.listeners[0]!;
  assert.ok(way.kind === "requests");
  return way;
}

/** Where a request goes by the reference and by the tables, which agree on it; undefined: to no route. */
export function matchBoth(routes: RouteConfig, blob: Uint32Array, request: RequestHead) {
  const match = matchRoute(routes, request);
  const found = interpretRoute(blob, request, new Map());
  assert.ok(found !== "slow");
  if ("none" in match || found === undefined) {
    assert.ok("none" in match && found === undefined);
    return undefined;
  }
  return { match, found };
}
