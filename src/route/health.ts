import type { Cluster, Endpoint, Local, Locality } from "../model/config.ts";

/**
 * How the requests of a cluster are divided among its priorities by their health: source/extensions/
 * load_balancing_policies/common/load_balancer_impl.cc of Envoy, recalculatePerPriorityState and ...Panic. Percentages
 * are whole and rounded down, as there.
 */

/** The endpoints of one priority, each list in the order of the cluster. */
export interface HostSet extends Hosts {
  readonly priority: number;
  /** Local first, then in Envoy's order; an endpoint is in one of them. */
  readonly localities: readonly LocalityHosts[];
  /** Too few of them are well: requests of this priority go to all of them, well or not. */
  readonly panic: boolean;
  /** Whole percent of the cluster's requests that healthy endpoints of this priority get, and degraded ones. */
  readonly healthyLoad: number;
  readonly degradedLoad: number;
}

export interface Hosts {
  readonly all: readonly Endpoint[];
  readonly healthy: readonly Endpoint[];
  readonly degraded: readonly Endpoint[];
  /** Those that are draining count as if they were not there, but panic takes them too. */
  readonly draining: readonly Endpoint[];
}

export interface LocalityHosts extends Hosts {
  readonly locality: Locality;
  readonly weight: number;
  readonly isLocal: boolean;
}

const OVERPROVISIONING = 140;
const PANIC_PERCENT = 50;

export const overprovisioningOf = ({ overprovisioning = OVERPROVISIONING }: Cluster) => overprovisioning;

/** One set for each priority from 0 up to the last that has a group; the loads of all of them add up to 100. */
export function hostSets(cluster: Cluster, local?: Local): HostSet[] {
  const sets = prioritySets(cluster, local);
  const factor = overprovisioningOf(cluster);
  const bears = (hosts: Hosts, some: readonly Endpoint[]) => {
    const total = amount(cluster, hosts.all) - amount(cluster, hosts.draining);
    return hosts.all.length === hosts.draining.length
      ? 0
      : Math.min(100, Math.floor((factor * amount(cluster, some)) / total));
  };
  const healthy = sets.map((set) => bears(set, set.healthy));
  const degraded = sets.map((set) => bears(set, set.degraded));
  const available = Math.min(100, sum(healthy) + sum(degraded));
  const loads = available === 0 ? nowhere(sets.length) : distribute(healthy, degraded, available);
  const panic = sets.map((set) => available < 100 && isInPanic(cluster, set));
  // Without a threshold there is no panic, and nobody to serve.
  const shares = panic.every(Boolean) ? { healthy: byCount(sets), degraded: sets.map(() => 0) } : loads;
  return sets.map((set, i) => ({
    ...set,
    panic: panic[i]!,
    healthyLoad: shares.healthy[i]!,
    degradedLoad: shares.degraded[i]!,
  }));
}

/** Whether fewer than the threshold of this cluster are well; the hosts may be another cluster's. */
export function isInPanic({ panicPercent = PANIC_PERCENT }: Cluster, hosts: Hosts): boolean {
  const count = hosts.all.length - hosts.draining.length;
  const percent = (some: readonly Endpoint[]) => (count === 0 ? 0 : (100 * some.length) / count);
  return percent(hosts.healthy) + percent(hosts.degraded) < Math.min(100, panicPercent);
}

type Loads = { readonly healthy: number[]; readonly degraded: number[] };

const nowhere = (count: number): Loads => ({
  healthy: Array.from({ length: count }, (_, i) => (i === 0 ? 100 : 0)),
  degraded: new Array<number>(count).fill(0),
});

/** Healthy endpoints of all priorities come before the first degraded one. What rounding leaves goes to the first. */
function distribute(healthy: readonly number[], degraded: readonly number[], available: number): Loads {
  let left = 100;
  const take = (percent: number): number => {
    const load = Math.min(left, Math.floor((percent * 100) / available));
    left -= load;
    return load;
  };
  const loads = { healthy: healthy.map(take), degraded: degraded.map(take) };
  const firstHealthy = healthy.findIndex((percent) => percent > 0);
  if (firstHealthy >= 0) loads.healthy[firstHealthy]! += left;
  else loads.degraded[degraded.findIndex((percent) => percent > 0)]! += left;
  return loads;
}

/** Where all priorities are in panic, each gets what it has endpoints, well or not. */
function byCount(sets: readonly Hosts[]): number[] {
  const total = sum(sets.map(({ all }) => all.length));
  if (total === 0) return nowhere(sets.length).healthy;
  const loads = sets.map(({ all }) => Math.floor((100 * all.length) / total));
  loads[sets.findIndex(({ all }) => all.length > 0)]! += 100 - sum(loads);
  return loads;
}

const amount = ({ weighsHealth = false }: Cluster, some: readonly Endpoint[]) =>
  weighsHealth ? sum(some.map(({ weight }) => weight)) : some.length;

const sum = (numbers: readonly number[]) => numbers.reduce((sum, number) => sum + number, 0);

const NO_LOCALITY: Locality = { region: "", zone: "", subZone: "" };

type PrioritySet = Pick<HostSet, "priority" | "localities" | keyof Hosts>;

function prioritySets({ endpoints, groups }: Cluster, local: Local | undefined): PrioritySet[] {
  const known = groups ?? [{ priority: 0, locality: NO_LOCALITY, weight: 0 }];
  const members = known.map((_, index) => endpoints.filter(({ group = 0 }) => group === index));
  const last = known.reduce((last, { priority }) => Math.max(last, priority), 0);
  return Array.from({ length: last + 1 }, (_, priority) => {
    const localities = known
      .map((group, index) => ({ ...group, hosts: byHealth(members[index]!) }))
      .filter((group) => group.priority === priority && group.hosts.all.length > 0)
      .map(({ locality, weight, hosts }) => ({
        locality,
        weight,
        isLocal: local !== undefined && !isNowhere(locality) && compare(locality, local.locality) === 0,
        ...hosts,
      }))
      .sort((a, b) => Number(b.isLocal) - Number(a.isLocal) || compare(a.locality, b.locality));
    const all = endpoints.filter(({ group = 0 }) => known[group]!.priority === priority);
    return { priority, localities, ...byHealth(all) };
  });
}

function byHealth(all: readonly Endpoint[]): Hosts {
  return {
    all,
    healthy: all.filter(({ health }) => health === "healthy"),
    degraded: all.filter(({ health }) => health === "degraded"),
    draining: all.filter(({ health }) => health === "draining"),
  };
}

const isNowhere = ({ region, zone, subZone }: Locality) => region === "" && zone === "" && subZone === "";

function compare(a: Locality, b: Locality): number {
  return order(a.region, b.region) || order(a.zone, b.zone) || order(a.subZone, b.subZone);
}

const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
