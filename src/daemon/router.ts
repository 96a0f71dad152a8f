import type { Cluster, Config, Endpoint, Listener, Route } from "../model/config.ts";
import { hostsToUse } from "../route/health.ts";
import type { RequestHead } from "../route/match.ts";
import { matchRoute, pickCluster } from "../route/match.ts";
import type { Picker } from "../route/pick.ts";
import { createPicker } from "../route/pick.ts";

/** What the reference says of one request, with the endpoint picked. */
export type Choice =
  | { readonly kind: "endpoint"; readonly cluster: Cluster; readonly endpoint: Endpoint; readonly route: Route }
  | { readonly kind: "noRoute"; readonly why: "no_virtual_host" | "no_route" }
  | { readonly kind: "noHost"; readonly cluster: Cluster; readonly route: Route };

/** Requests in service at an endpoint, by whichever path. */
export type ActiveCount = (cluster: string, endpoint: Endpoint) => number;

/**
 * Picks for the slow path by the same rules as the kernel. Pickers hold the state of their cluster, so one router
 * lives as long as its configuration.
 */
export class ReferenceRouter {
  readonly #clusters = new Map<string, { cluster: Cluster; hosts: readonly Endpoint[]; pick: Picker }>();
  readonly #active: ActiveCount;

  constructor(config: Config, active: ActiveCount, seed: number) {
    this.#active = active;
    for (const cluster of config.clusters) {
      const { hosts } = hostsToUse(cluster);
      const pick = createPicker(
        cluster.policy,
        hosts.map((h) => h.weight),
        seed,
      );
      this.#clusters.set(cluster.name, { cluster, hosts, pick });
    }
  }

  choose(listener: Listener, head: RequestHead): Choice {
    const match = matchRoute(listener.routes, head);
    if ("none" in match) return { kind: "noRoute", why: match.none };
    const { route } = match;
    const total = route.action.clusters.reduce((sum, c) => sum + c.weight, 0);
    const name = pickCluster(route.action, random(total));
    const found = this.#clusters.get(name);
    if (!found) throw new Error(`route ${route.name} names a cluster that does not exist: ${name}`);
    const at = found.pick(random, (i) => this.#active(name, found.hosts[i]!));
    const endpoint = at === undefined ? undefined : found.hosts[at];
    if (!endpoint) return { kind: "noHost", cluster: found.cluster, route };
    return { kind: "endpoint", cluster: found.cluster, endpoint, route };
  }
}

const random = (below: number) => Math.floor(Math.random() * below);
