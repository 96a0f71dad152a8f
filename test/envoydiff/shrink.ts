import type { ClusterSpec, FrontSpec, Json, RouteSpec, Spec, VirtualHostSpec } from "./spec.ts";

/** A configuration and a request that show a difference. */
export interface Sample {
  readonly spec: Spec;
  readonly request: string;
}

/** Each sample with one thing less; the boldest come first. */
export function smaller({ spec, request }: Sample): Sample[] {
  const hosts = spec.routes.virtual_hosts;
  const specs = [
    ...(hosts.length > 1 ? hosts.map((host) => withHosts(spec, [host])) : []),
    ...eachWithout(hosts).map((left) => withHosts(spec, left)),
    ...hosts.flatMap((host, at) => smallerHosts(host).map((less) => withHosts(spec, replaced(hosts, at, less)))),
    ...(spec.front === undefined ? [] : smallerFronts(spec.front).map((front) => ({ ...spec, front }))),
    ...without(spec.manager).map((manager) => ({ ...spec, manager })),
    ...without(spec.router ?? {}).map((router) => ({ ...spec, router })),
    ...(spec.filters ?? []).map((_, at) => ({ ...spec, filters: spec.filters!.toSpliced(at, 1) })),
    ...without(spec.routes, ["virtual_hosts"]).map((routes) => ({ ...spec, routes: routes as Spec["routes"] })),
    ...spec.clusters.flatMap((cluster, at) =>
      smallerClusters(cluster).map((less) => ({ ...spec, clusters: replaced(spec.clusters, at, less) })),
    ),
  ];
  return [
    ...specs.map((less) => ({ spec: withoutUnused(less), request })),
    ...smallerRequests(request).map((less) => ({ spec, request: less })),
  ];
}

function smallerHosts(host: VirtualHostSpec): VirtualHostSpec[] {
  const { domains, routes } = host;
  return [
    ...(routes.length > 1 ? routes.map((route) => ({ ...host, routes: [route] })) : []),
    ...eachWithout(routes).map((left) => ({ ...host, routes: left })),
    ...(domains.length > 1 ? eachWithout(domains).map((left) => ({ ...host, domains: left })) : []),
    ...routes.flatMap((route, at) =>
      smallerRoutes(route).map((less) => ({ ...host, routes: replaced(routes, at, less) })),
    ),
  ];
}

function smallerRoutes(route: RouteSpec): RouteSpec[] {
  const lists = Object.entries(route.match).filter((entry): entry is [string, Json[]] => Array.isArray(entry[1]));
  const matches = [
    ...lists.flatMap(([name, entries]) => eachWithout(entries).map((left) => ({ ...route.match, [name]: left }))),
    ...without(route.match, ["prefix", "path", "path_separated_prefix", "safe_regex", "path_match_policy"]),
  ];
  const { route: action } = route as { route?: Json };
  const policy = action?.retry_policy as Json | undefined;
  const actions = [
    ...(action ? without(action, ["cluster", "weighted_clusters", "cluster_header"]) : []),
    ...(policy ? without(policy).map((retry_policy) => ({ ...action, retry_policy })) : []),
  ];
  return [...matches.map((match) => ({ ...route, match })), ...actions.map((less) => ({ ...route, route: less }))];
}

function smallerFronts(front: FrontSpec): FrontSpec[] {
  const { chains, otherwise, ...rest } = front;
  return [
    ...(otherwise === undefined || chains.length === 0 ? [] : [{ ...rest, chains }]),
    ...(chains.length > 1 ? eachWithout(chains).map((left) => ({ ...front, chains: left })) : []),
    ...chains.flatMap((chain, at) =>
      without(chain.match).map((match) => ({ ...front, chains: replaced(chains, at, { ...chain, match }) })),
    ),
  ];
}

function smallerClusters(cluster: ClusterSpec): ClusterSpec[] {
  return [
    ...(Object.keys(cluster.options).length > 0 ? [{ ...cluster, options: {} }] : []),
    ...(cluster.endpoints.length > 1
      ? eachWithout(cluster.endpoints).map((endpoints) => ({ ...cluster, endpoints }))
      : []),
  ];
}

/** Without one header field each. */
function smallerRequests(request: string): string[] {
  const end = request.indexOf("\r\n\r\n");
  if (end < 0) return [];
  const [first = "", ...lines] = request.slice(0, end).split("\r\n");
  return eachWithout(lines).map((left) => [first, ...left].join("\r\n") + request.slice(end));
}

const withHosts = (spec: Spec, virtual_hosts: readonly VirtualHostSpec[]): Spec => ({
  ...spec,
  routes: { ...spec.routes, virtual_hosts },
});

function withoutUnused(spec: Spec): Spec {
  const text = JSON.stringify([spec.routes, spec.front]);
  return { ...spec, clusters: spec.clusters.filter(({ name }) => text.includes(`"${name}"`)) };
}

/** The same with the names that clusters have in another place of a start. */
export const inSlot = (spec: Spec, slot: number): Spec =>
  JSON.parse(JSON.stringify(spec).replace(/"c\d+-(\d+)"/g, `"c${slot}-$1"`)) as Spec;

const eachWithout = <T>(list: readonly T[]): T[][] => list.map((_, at) => list.filter((_, i) => i !== at));
const replaced = <T>(list: readonly T[], at: number, by: T): T[] => list.map((each, i) => (i === at ? by : each));
const without = (object: Json, but: readonly string[] = []): Json[] =>
  Object.keys(object)
    .filter((name) => !but.includes(name))
    .map((name) => Object.fromEntries(Object.entries(object).filter(([each]) => each !== name)));
