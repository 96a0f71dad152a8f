import type { Cluster, Endpoint, SubsetFallback, SubsetSelector, Subsets } from "../model/config.ts";
import { isStruct, type Metadata, sortedKeys, valueText } from "../model/metadata.ts";

/**
 * Which of a cluster's endpoints a request is balanced over, by its criteria: subset_lb.cc of Envoy, in
 * source/extensions/load_balancing_policies/subset. Endpoints' metadata is configuration, so that is known before there
 * are requests.
 */
export interface Subset {
  /** Of two subsets of a cluster, they are one if this is the same. */
  readonly key: string;
  /** For people. */
  readonly label: string;
  /** As if there were these endpoints only. */
  readonly cluster: Cluster;
}

/** In the criteria of a cluster with `hasFallbackList`: a list of criteria, tried one after the other. */
const FALLBACK_LIST = "fallback_list";

/**
 * The subsets that are asked for an endpoint, one after the other until one has one to give. None: no endpoint. A
 * cluster without `subsets` is the one subset of itself.
 */
export function subsetsOf(cluster: Cluster, criteria: Metadata = {}): readonly Subset[] {
  const { subsets } = cluster;
  if (subsets === undefined) return [{ key: "", label: "all endpoints", cluster }];
  const known = tableOf(cluster, subsets);
  const { [FALLBACK_LIST]: list, ...own } = criteria;
  if (!subsets.hasFallbackList || list === undefined) return choose(subsets, known, criteria);
  // What is no list is an empty one, and what is no mapping in it asks for nothing more.
  const others = Array.isArray(list) ? list : [];
  if (others.length === 0) return choose(subsets, known, own);
  return others.flatMap((other) => choose(subsets, known, { ...own, ...(isStruct(other) ? other : {}) }));
}

/** The cluster's subsets by {@link Subset.key}, and those that do not go by selectors. */
interface Table {
  readonly selected: ReadonlyMap<string, Subset>;
  readonly any: Subset;
  readonly default: Subset;
}

function choose(subsets: Subsets, known: Table, asked: Metadata): readonly Subset[] {
  const criteria = subsets.ignoresOtherKeys ? withoutOthers(subsets.selectors, asked) : asked;
  const names = sortedKeys(criteria);
  const found = known.selected.get(keyOf(names.map((name) => [name, criteria[name]])));
  if (found !== undefined) return [found];
  const fallback = fallbackOf(subsets.selectors, names);
  if (typeof fallback === "object") return choose(subsets, known, only(criteria, fallback.keys));
  if (fallback !== undefined) return fallBack(fallback, known);
  const others = fallBack(subsets.fallback, known);
  return others.length > 0 && subsets.panicsToAny ? [...others, known.any] : others;
}

const fallBack = (fallback: SubsetFallback, known: Table): readonly Subset[] =>
  fallback === "none" ? [] : [known[fallback]];

/**
 * What the selector with these keys says. Envoy keeps selectors in a tree, and has no place left in it for what one
 * says whose keys a longer one before it begins with.
 */
function fallbackOf(selectors: readonly SubsetSelector[], names: readonly string[]): SubsetSelector["fallback"] {
  const first = selectors.find(({ keys }) => names.every((name, i) => keys[i] === name));
  return first?.keys.length === names.length ? first.fallback : undefined;
}

/** The criteria that the first selector asks for all of whose keys are among them; all, where there is none. */
function withoutOthers(selectors: readonly SubsetSelector[], criteria: Metadata): Metadata {
  const first = selectors.find(({ keys }) => keys.every((key) => Object.hasOwn(criteria, key)));
  return first === undefined ? criteria : only(criteria, first.keys);
}

const only = (criteria: Metadata, names: readonly string[]): Metadata =>
  Object.fromEntries(names.map((name) => [name, criteria[name]]));

// ---- what subsets there are ----

type Pair = readonly [name: string, value: unknown];

const keyOf = (pairs: readonly Pair[]) => valueText(pairs);

const tables = new WeakMap<Cluster, Table>();

function tableOf(cluster: Cluster, subsets: Subsets): Table {
  const known = tables.get(cluster);
  if (known !== undefined) return known;
  const inDefault = cluster.endpoints.filter((endpoint) => hasAll(endpoint, subsets));
  const table: Table = {
    selected: selectedOf(cluster, subsets),
    any: { key: "any", label: "any endpoint", cluster: narrowed(cluster, subsets, cluster.endpoints) },
    default: { key: "default", label: "the default subset", cluster: narrowed(cluster, subsets, inDefault) },
  };
  tables.set(cluster, table);
  return table;
}

function selectedOf(cluster: Cluster, subsets: Subsets): Map<string, Subset> {
  const found = new Map<string, { readonly pairs: readonly Pair[]; isSingle: boolean; hosts: Endpoint[] }>();
  const { endpoints, groups } = cluster;
  const priorityOf = ({ group = 0 }: Endpoint) => groups?.[group]?.priority ?? 0;
  for (const endpoint of endpoints.toSorted((a, b) => priorityOf(a) - priorityOf(b))) {
    for (const { keys, isSingle = false } of subsets.selectors) {
      for (const pairs of pairsOf(keys, endpoint.metadata ?? {}, subsets.listAsAny)) {
        const key = keyOf(pairs);
        const entry = found.get(key) ?? { pairs, isSingle, hosts: [] };
        found.set(key, entry);
        // The first of the first priority is the one of a subset that has one.
        if (!entry.isSingle || entry.hosts.length === 0) entry.hosts.push(endpoint);
      }
    }
  }
  return new Map(
    [...found].map(([key, { pairs, isSingle, hosts }]) => {
      const label = pairs.map(([name, value]) => `${name}=${valueText(value)}`).join(", ");
      return [key, { key, label, cluster: isSingle ? sole(cluster, hosts[0]!) : narrowed(cluster, subsets, hosts) }];
    }),
  );
}

/** What an endpoint has under these keys, in each way that there is; nothing, where it lacks one of them. */
function pairsOf(keys: readonly string[], metadata: Metadata, listAsAny = false): readonly (readonly Pair[])[] {
  if (!keys.every((key) => Object.hasOwn(metadata, key))) return [];
  let all: (readonly Pair[])[] = [];
  for (const key of keys) {
    const value = metadata[key];
    const values: readonly unknown[] = listAsAny && Array.isArray(value) ? value : [value];
    // As in Envoy, what comes behind an empty list stands for itself.
    const before = all.length === 0 ? [[]] : all;
    all = before.flatMap((pairs) => values.map((value) => [...pairs, [key, value] as const]));
  }
  return all;
}

function hasAll({ metadata = {} }: Endpoint, { defaultSubset, listAsAny }: Subsets): boolean {
  return sortedKeys(defaultSubset).every((key) => {
    if (!Object.hasOwn(metadata, key)) return false;
    const value = metadata[key];
    const wanted = valueText(defaultSubset[key]);
    return listAsAny && Array.isArray(value)
      ? value.some((one) => valueText(one) === wanted)
      : valueText(value) === wanted;
  });
}

/** `SingleHostLbSubset`: well or not, it is the one. */
function sole({ subsets: _, groups: __, localities: ___, ...cluster }: Cluster, host: Endpoint): Cluster {
  const { group: ____, ...endpoint } = host;
  return { ...cluster, policy: { kind: "roundRobin" }, endpoints: [{ ...endpoint, health: "healthy" }] };
}

/** `HostSubsetImpl`: priorities, healths and localities of these endpoints, as they are in the whole cluster. */
function narrowed(cluster: Cluster, subsets: Subsets, hosts: readonly Endpoint[]): Cluster {
  const { subsets: _, localities, groups, ...rest } = cluster;
  const some = new Set(hosts);
  const endpoints = cluster.endpoints.filter((endpoint) => some.has(endpoint));
  const keepsLocalities = localities?.kind !== "weighted" || subsets.weighsLocalities;
  const scales = localities?.kind === "weighted" && subsets.weighsLocalities && subsets.scalesWeights;
  const members = (all: readonly Endpoint[], index: number) => all.filter(({ group = 0 }) => group === index).length;
  return {
    ...rest,
    endpoints,
    ...(localities !== undefined && keepsLocalities ? { localities } : {}),
    ...(groups === undefined
      ? {}
      : {
          groups: groups.map((group, index) => {
            if (!scales) return group;
            const weight = scaled(group.weight, members(endpoints, index), members(cluster.endpoints, index));
            return { ...group, weight };
          }),
        }),
  };
}

/** As Envoy counts it, in floats. */
const scaled = (weight: number, some: number, all: number) =>
  all === 0 ? 0 : Math.round(Math.fround(Math.fround(weight * some) / Math.fround(all)));
