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
  | { readonly kind: "noCluster"; readonly route: Route }
  | { readonly kind: "noHost"; readonly cluster: Cluster; readonly route: Route };

/** Requests in service at an endpoint, by whichever path. */
export type ActiveCount = (cluster: string, endpoint: Endpoint) => number;

interface Hosts {
  readonly endpoints: readonly Endpoint[];
  readonly pick: Picker;
}

interface ClusterState {
  readonly cluster: Cluster;
  readonly first: Hosts;
  /** Degraded endpoints, and the percentage of requests that go to them. */
  readonly spill: (Hosts & { readonly percent: number }) | undefined;
}

/**
 * Picks for the slow path by the same rules as the kernel. Pickers hold the state of their cluster, so one router
 * lives as long as its configuration.
 */
export class ReferenceRouter {
  readonly #clusters = new Map<string, ClusterState>();
  readonly #active: ActiveCount;

  constructor(config: Config, active: ActiveCount, seed: number) {
    this.#active = active;
    for (const cluster of config.clusters) {
      const { hosts, spill } = hostsToUse(cluster);
      const group = (endpoints: readonly Endpoint[]): Hosts => ({
        endpoints,
        pick: createPicker(
          cluster.policy,
          endpoints.map((e) => e.weight),
          seed,
        ),
      });
      this.#clusters.set(cluster.name, {
        cluster,
        first: group(hosts),
        spill: spill && { ...group(spill.hosts), percent: spill.percent },
      });
    }
  }

  choose(listener: Listener, head: RequestHead): Choice {
    /* Each value of a repeated header by itself: Envoy's default since match_headers_individually. */
    const match = matchRoute(listener.routes, head, "each");
    if ("none" in match) return { kind: "noRoute", why: match.none };
    const { route } = match;
    const total = route.action.clusters.reduce((sum, c) => sum + c.weight, 0);
    const name = pickCluster(route.action, random(total));
    const state = this.#clusters.get(name);
    if (!state) return { kind: "noCluster", route };
    const { cluster, first, spill } = state;
    const hosts = spill && random(100) < spill.percent ? spill : first;
    const at = hosts.pick(random, (i) => this.#active(name, hosts.endpoints[i]!));
    const endpoint = at === undefined ? undefined : hosts.endpoints[at];
    return endpoint ? { kind: "endpoint", cluster, endpoint, route } : { kind: "noHost", cluster, route };
  }
}

const random = (below: number) => Math.floor(Math.random() * below);
