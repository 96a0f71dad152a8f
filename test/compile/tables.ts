import assert from "node:assert/strict";
import { compile } from "../../src/compile/compile.ts";
import type { Listener, RouteConfig } from "../../src/model/config.ts";
import type { ConnectWay, Tables } from "../../src/tables/compiled.ts";

/** One listener with these routes, and no cluster. */

const http = {
  acceptHttp10: false,
  defaultHostForHttp10: undefined,
  maxRequestHeadersKb: 60,
  maxHeadersCount: 100,
  upgrades: [],
};
const everything = {
  destinations: [],
  serverNames: [],
  transportProtocol: "",
  applicationProtocols: [],
  directSources: [],
  sourceType: "any",
  sources: [],
  sourcePorts: [],
} as const;
export const listener = (routes: RouteConfig): Listener => ({
  name: "l",
  address: { ip: "10.0.0.1", port: 80 },
  chains: [{ kind: "http", listener: "l", label: "l", match: everything, statPrefix: "l", http, routes }],
});

export const compileRoutes = (routes: RouteConfig): Tables =>
  compile({ listeners: [listener(routes)], clusters: [] }, () => ({ lists: [] }));

export function only(tables: Tables): Extract<ConnectWay, { kind: "requests" }> {
  const { way } = tables.listeners[0]!;
  assert.ok(way.kind === "requests");
  return way;
}
