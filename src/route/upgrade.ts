import type { HttpChain, RouteAction } from "../model/config.ts";

/**
 * May requests of a route change to that protocol (in lower case)? What the route says of it goes before what the
 * HttpConnectionManager says: `createUpgradeFilterChain` of Envoy's http_connection_manager/config.cc.
 */
export function allowsUpgrade({ http }: HttpChain, action: RouteAction, protocol: string): boolean {
  const own = action.kind === "forward" ? action.upgrades : undefined;
  if (own?.denied.includes(protocol)) return false;
  return own?.allowed.includes(protocol) || http.upgrades.includes(protocol);
}
