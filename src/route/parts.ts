import type { Cluster, Config, Endpoint, LocalityPolicy } from "../model/config.ts";
import { type HostSet, type Hosts, hostSets, isInPanic, type LocalityHosts, overprovisioningOf } from "./health.ts";

/**
 * Which endpoints serve which part of a cluster's requests: what Envoy's hostSourceToUse decides for each request
 * (source/extensions/load_balancing_policies/common/load_balancer_impl.cc), told for all of them at once.
 */
export interface Part {
  /** Whole percent of the cluster's requests; those of all parts add up to 100. */
  readonly percent: number;
  readonly priority: number;
  readonly kind: "healthy" | "degraded" | "panic";
  /** Each in its own turn; one at least. A request that comes to a list without endpoints gets a 503. */
  readonly lists: readonly HostList[];
  /** How one of several lists is chosen: each by its weight in turn, or by chance. */
  readonly by: "turn" | "chance";
}

export interface HostList {
  readonly hosts: readonly Endpoint[];
  /** Above 0; whole numbers where chance chooses. */
  readonly weight: number;
}

/** The parts with any requests at all: by priority, healthy ones before degraded ones. */
export function partsOf(cluster: Cluster, { clusters, local }: Pick<Config, "clusters" | "local">): Part[] {
  const sets = hostSets(cluster, local);
  const own = local && clusters.find(({ name }) => name === local.cluster);
  const localSet = own && hostSets(own, local)[0];
  const part = (set: HostSet, kind: "healthy" | "degraded", percent: number): Part => ({
    percent,
    priority: set.priority,
    ...(set.panic
      ? { kind: "panic", ...whole(failsOnPanic(cluster) ? [] : set.all) }
      : { kind, ...split(cluster, set, kind, localSet) }),
  });
  return [
    ...sets.filter((set) => set.healthyLoad > 0).map((set) => part(set, "healthy", set.healthyLoad)),
    ...sets.filter((set) => set.degradedLoad > 0).map((set) => part(set, "degraded", set.degradedLoad)),
  ];
}

type Split = Pick<Part, "lists" | "by">;

const whole = (hosts: readonly Endpoint[]): Split => ({ lists: [{ hosts, weight: 1 }], by: "turn" });

const failsOnPanic = ({ localities }: Cluster) => localities?.kind === "zoneAware" && localities.failsOnPanic;

function split(cluster: Cluster, set: HostSet, kind: "healthy" | "degraded", localSet: HostSet | undefined): Split {
  const { localities = ZONE_AWARE } = cluster;
  if (localities.kind === "weighted") {
    const lists = set.localities
      .map((locality) => ({ hosts: locality[kind], weight: effectiveWeight(cluster, locality, locality[kind]) }))
      .filter(({ weight }) => weight > 0);
    return lists.length > 0 ? { lists, by: "turn" } : whole(set[kind]);
  }
  return (localSet && byZone(cluster, localities, set, kind, localSet)) ?? whole(set[kind]);
}

/** LocalityWrr::effectiveLocalityWeight: full while enough of the locality's endpoints are well. */
function effectiveWeight(cluster: Cluster, { weight, ...hosts }: LocalityHosts, some: readonly Endpoint[]): number {
  const count = hosts.all.length - hosts.draining.length;
  return count === 0 ? 0 : weight * Math.min(1, (overprovisioningOf(cluster) / 100) * (some.length / count));
}

type ZoneAware = Extract<LocalityPolicy, { kind: "zoneAware" }>;

/** What holds where a local cluster is named and nothing else is said. */
const ZONE_AWARE: ZoneAware = { kind: "zoneAware", percent: 100, minClusterSize: 6, failsOnPanic: false };

/**
 * Requests stay in the zone of XLB as far as it has no less than its part of the endpoints; the others go to zones that
 * have more than theirs (regenerateLocalityRoutingStructures, tryChooseLocalLocalityHosts). Undefined: not by zone.
 */
function byZone(
  cluster: Cluster,
  { percent, minClusterSize, failsOnPanic }: ZoneAware,
  set: HostSet,
  kind: "healthy" | "degraded",
  localSet: HostSet,
): Split | undefined {
  const { localities } = set;
  const isHome = localSet.localities[0]?.isLocal === true;
  if (set.priority !== 0 || localities.length < 2 || localSet.localities.length < 2 || !isHome) return undefined;
  if (set.healthy.length < minClusterSize || percent === 0) return undefined;
  const lists =
    isInPanic(cluster, localSet) && failsOnPanic
      ? [{ hosts: [], weight: 1 }]
      : isInPanic(cluster, localSet)
        ? [{ hosts: set[kind], weight: 1 }]
        : zoneShares(localities, localSet).map((weight, i) => ({ hosts: localities[i]![kind], weight }));
  const total = lists.reduce((sum, { weight }) => sum + weight, 0);
  const without = percent < 100 ? [{ hosts: set[kind], weight: (100 - percent) * total }] : [];
  const shares = [...lists.map(({ hosts, weight }) => ({ hosts, weight: weight * percent })), ...without];
  return { lists: shares.filter(({ weight }) => weight > 0), by: "chance" };
}

/** For each locality of the cluster its whole share of the requests. */
function zoneShares(localities: readonly LocalityHosts[], localSet: HostSet): number[] {
  const basis = (some: readonly Hosts[]) => some.reduce((sum, { healthy }) => sum + healthy.length, 0);
  const [upstreamTotal, localTotal] = [basis(localities), basis(localSet.localities)];
  const share = (count: number, total: number) => (total === 0 ? 0 : Math.floor((10_000 * count) / total));
  const zones = localities.map(({ locality, healthy, isLocal }) => {
    const mine = localSet.localities.find((other) => isSame(other.locality, locality));
    return {
      isLocal,
      upstream: share(healthy.length, upstreamTotal),
      local: healthy.length === 0 ? 0 : share(mine?.healthy.length ?? 0, localTotal),
    };
  });
  const home = zones[0]!.isLocal ? zones[0]! : undefined;
  if (home !== undefined && home.upstream > 0 && home.upstream >= home.local)
    return zones.map((_, i) => (i === 0 ? 1 : 0));
  const stays = home !== undefined && home.local > 0 ? Math.floor((home.upstream * 10_000) / home.local) : 0;
  const spare = zones.map(({ isLocal, upstream, local }) => (isLocal ? 0 : Math.max(0, upstream - local)));
  const total = spare.reduce((sum, part) => sum + part, 0);
  // Rounding may leave no room anywhere: then any of them, the one at home too.
  const abroad = total === 0 ? zones.map(() => 1) : spare;
  const abroadTotal = total === 0 ? zones.length : total;
  return abroad.map((part, i) => part * (10_000 - stays) + (i === 0 && home !== undefined ? stays * abroadTotal : 0));
}

const isSame = (a: LocalityHosts["locality"], b: LocalityHosts["locality"]) =>
  a.region === b.region && a.zone === b.zone && a.subZone === b.subZone;
