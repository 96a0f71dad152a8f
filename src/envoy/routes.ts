import type {
  HeaderMatch,
  HeaderValueMatch,
  PathMatch,
  Route,
  RouteAction,
  RouteConfig,
  StringMatch,
  VirtualHost,
  WeightedCluster,
} from "../model/config.ts";
import type { Fields } from "./fields.ts";
import { nearest } from "./spelling.ts";

const DEFAULT_TIMEOUT_MS = 15_000;
const MAX_WEIGHT_SUM = 2 ** 32 - 1;

/** `clusters` are the names that routes may lead to; missing where nobody knows them. */
export function readRoutes(config: Fields, clusters: ReadonlySet<string> | undefined): RouteConfig {
  const known = (config.boolean("validate_clusters") ?? true) ? clusters : undefined;
  const domains: Domains = new Map();
  return {
    name: config.string("name"),
    ignorePortInHostMatching: config.boolean("ignore_port_in_host_matching") ?? false,
    virtualHosts: config.messages("virtual_hosts").map((host) => readVirtualHost(host, domains, known)),
  };
}

/** The virtual host that has each domain of a route configuration. */
type Domains = Map<string, string>;
/** Missing: routes may lead to clusters that are not there, and answer 503 then. */
type KnownClusters = ReadonlySet<string> | undefined;

function readVirtualHost(host: Fields, taken: Domains, known: KnownClusters): VirtualHost {
  const name = host.string("name");
  const domains = host.strings("domains").map(({ text, place }) => {
    const domain = lowerCase(text);
    const owner = taken.get(domain);
    if (domain === "") host.reject(place, "must not be empty");
    else if (owner !== undefined) {
      host.reject(
        place,
        `domain ${JSON.stringify(domain)} is taken by virtual host ${JSON.stringify(owner)} already`,
        "keep one of the two",
      );
    }
    taken.set(domain, owner ?? name);
    return domain;
  });
  return { name, domains, routes: host.messages("routes").map((route, i) => readRoute(route, `${name}/${i}`, known)) };
}

function readRoute(route: Fields, fallbackName: string, known: KnownClusters): Route {
  const match = route.message("match");
  const action = route.message("route");
  return {
    name: route.string("name") || fallbackName,
    path: match === undefined ? NO_PATH : readPath(match),
    headers: match?.messages("headers").map(readHeader) ?? [],
    action: action === undefined ? { clusters: [], timeoutMs: 0 } : readAction(action, known),
  };
}

/** Stands for a match that was rejected. */
const NO_PATH: PathMatch = { kind: "path", value: "", caseSensitive: true };

const PATHS = { prefix: "prefix", path: "path", path_separated_prefix: "pathSeparatedPrefix" } as const;

function readPath(match: Fields): PathMatch {
  const caseSensitive = match.boolean("case_sensitive") ?? true;
  for (const [field, kind] of Object.entries(PATHS)) {
    if (match.has(field)) return { kind, value: match.string(field), caseSensitive };
  }
  return NO_PATH;
}

/**
 * Headers that Envoy changes, removes or makes up before it looks for a route (so did Envoy 1.40), beside its own
 * x-envoy-*. XLB leaves a request's headers alone, so a rule about one of these would not mean the same.
 */
const REWRITTEN: ReadonlySet<string> = new Set([
  "connection",
  "expect",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
  "x-forwarded-client-cert",
  "x-forwarded-proto",
  "x-request-id",
]);

function readHeader(header: Fields): HeaderMatch {
  const match = readHeaderMatch(header);
  const { name } = match;
  if (REWRITTEN.has(name) || name.startsWith("x-envoy-"))
    header.reject("name", `rules about ${name} are not supported yet: Envoy rewrites it`, "match another header");
  return match;
}

export function readHeaderMatch(header: Fields): HeaderMatch {
  const name = lowerCase(header.string("name"));
  return {
    // To Envoy both are one header.
    name: name === "host" ? ":authority" : name,
    invert: header.boolean("invert_match") ?? false,
    value: readHeaderValue(header),
  };
}

/** The forms that `string_match` has replaced. */
export const DEPRECATED = {
  exact_match: "exact",
  prefix_match: "prefix",
  suffix_match: "suffix",
  contains_match: "contains",
} as const;

function readHeaderValue(header: Fields): HeaderValueMatch {
  if (header.has("string_match")) return readString(header.message("string_match"));
  if (header.has("present_match")) return { kind: "present", present: header.boolean("present_match") ?? true };
  for (const [field, kind] of Object.entries(DEPRECATED)) {
    if (!header.has(field)) continue;
    const value = header.string(field);
    // Here, and only here, the empty text means any value; a prefix says that, and inverts as Envoy's does.
    return { kind: value === "" ? "prefix" : kind, value, ignoreCase: false };
  }
  return { kind: "present", present: true };
}

const STRINGS = ["exact", "prefix", "suffix", "contains"] as const;

function readString(match: Fields | undefined): StringMatch {
  const kind = STRINGS.find((kind) => match?.has(kind)) ?? "exact";
  return { kind, value: match?.string(kind) ?? "", ignoreCase: match?.boolean("ignore_case") ?? false };
}

function readAction(action: Fields, known: KnownClusters): RouteAction {
  const weighted = action.message("weighted_clusters");
  const clusters = weighted === undefined ? readSingleCluster(action, known) : readWeighted(weighted, known);
  return { clusters, timeoutMs: action.milliseconds("timeout") ?? DEFAULT_TIMEOUT_MS };
}

function readSingleCluster(action: Fields, known: KnownClusters): WeightedCluster[] {
  return action.has("cluster") ? [{ name: readClusterName(action, "cluster", known), weight: 1 }] : [];
}

function readWeighted(weighted: Fields, known: KnownClusters): WeightedCluster[] {
  let weightsAreRead = !weighted.isBroken("clusters");
  const clusters = weighted.messages("clusters").map((cluster) => {
    if (cluster.isBroken("weight")) weightsAreRead = false;
    if (!cluster.has("weight")) cluster.reject("weight", "is required");
    if (cluster.lacks("name") && !cluster.has("cluster_header")) cluster.reject("name", "is required");
    return { name: readClusterName(cluster, "name", known), weight: cluster.number("weight") ?? 0 };
  });
  const sum = clusters.reduce((sum, cluster) => sum + cluster.weight, 0);
  if (clusters.length > 0 && sum === 0 && weightsAreRead)
    weighted.reject("clusters", "the weights add up to 0", "give one a weight");
  if (sum > MAX_WEIGHT_SUM) weighted.reject("clusters", `the weights add up to ${sum}, more than ${MAX_WEIGHT_SUM}`);
  const total = weighted.number("total_weight");
  if (total !== undefined && total !== sum && weightsAreRead) {
    weighted.reject("total_weight", `is ${total}, but the weights add up to ${sum}`, "remove total_weight");
  }
  return clusters;
}

function readClusterName(owner: Fields, field: string, known: KnownClusters): string {
  const name = owner.string(field);
  if (known === undefined || name === "" || known.has(name)) return name;
  const near = nearest(name, known);
  const mend =
    near === undefined ? "define it under static_resources.clusters" : `did you mean ${JSON.stringify(near)}?`;
  owner.reject(field, `no cluster has the name ${JSON.stringify(name)}`, mend);
  return name;
}

/** As Envoy does it: ASCII letters only. */
function lowerCase(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}
