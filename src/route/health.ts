import type { Cluster, Endpoint, Health } from "../model/config.ts";

/**
 * Which endpoints of a cluster get requests, by Envoy's rules for one priority (recalculatePerPriorityState and
 * ...Panic in source/common/upstream/load_balancer_base.cc). All percentages are whole and rounded down, as there.
 */
export interface HostsToUse {
  /** In the order of the cluster. Empty: answer 503. */
  readonly hosts: readonly Endpoint[];
  /** Too few endpoints are well: requests go to all of them, well or not. */
  readonly panic: boolean;
  /**
   * Where healthy endpoints alone cannot bear the load (fewer than 72 % of all), degraded ones bear a part: of 100
   * requests `percent` go to these hosts, chosen at random, and the others to `hosts`.
   */
  readonly spill: { readonly hosts: readonly Endpoint[]; readonly percent: number } | undefined;
}

/** `overprovisioning_factor`: an endpoint can bear 1.4 times its load. */
const BEARS_PERCENT = 140;
/** `healthy_panic_threshold` */
const PANIC_PERCENT = 50;

export function hostsToUse(cluster: Pick<Cluster, "endpoints">): HostsToUse {
  const { endpoints } = cluster;
  const withHealth = (health: Health) => endpoints.filter((endpoint) => endpoint.health === health);
  const [healthy, degraded] = [withHealth("healthy"), withHealth("degraded")];
  const bears = (some: readonly Endpoint[]) =>
    Math.min(100, Math.floor((BEARS_PERCENT * some.length) / endpoints.length));
  const [byHealthy, byDegraded] = endpoints.length === 0 ? [0, 0] : [bears(healthy), bears(degraded)];
  const total = Math.min(100, byHealthy + byDegraded);
  const wellPercent = (100 * (healthy.length + degraded.length)) / endpoints.length;
  if (total < 100 && wellPercent < PANIC_PERCENT) return { hosts: endpoints, panic: true, spill: undefined };
  if (byHealthy === 0) return { hosts: degraded, panic: false, spill: undefined };

  const healthyLoad = Math.floor((byHealthy * 100) / total);
  const degradedLoad = Math.min(100 - healthyLoad, Math.floor((byDegraded * 100) / total));
  // What rounding leaves over goes to the healthy ones.
  return {
    hosts: healthy,
    panic: false,
    spill: degradedLoad === 0 ? undefined : { hosts: degraded, percent: degradedLoad },
  };
}
