import type { Address, Discovery, DnsDiscovery } from "../model/config.ts";
import { readSocket } from "./address.ts";
import type { Fields } from "./fields.ts";

const CARES = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig";

/** Envoy's defaults, in milliseconds. */
const REFRESH_MS = 5_000;
const MOST_PER_BASE = 10;

/** Where a cluster's endpoints come from; undefined: from its `load_assignment`, as addresses. */
export function readDiscovery(cluster: Fields): Discovery | undefined {
  const type = cluster.oneOf("type", "STATIC", "ORIGINAL_DST", "STRICT_DNS", "LOGICAL_DNS");
  switch (type) {
    case "STATIC":
      return undefined;
    case "ORIGINAL_DST":
      cluster.oneOf("lb_policy", "CLUSTER_PROVIDED");
      if (!cluster.has("lb_policy"))
        cluster.reject("lb_policy", "is required", "an ORIGINAL_DST cluster has lb_policy: CLUSTER_PROVIDED");
      if (cluster.has("load_assignment"))
        cluster.reject("load_assignment", "has no place in an ORIGINAL_DST cluster", "remove it");
      return { kind: "originalDst" };
    default:
      return readDns(cluster, type === "LOGICAL_DNS");
  }
}

const FAMILIES = { AUTO: "auto", V4_ONLY: "v4", V6_ONLY: "v6", V4_PREFERRED: "v4Preferred", ALL: "all" } as const;

function readDns(cluster: Fields, logical: boolean): DnsDiscovery {
  const refreshMs = cluster.milliseconds("dns_refresh_rate") ?? REFRESH_MS;
  const failure = cluster.message("dns_failure_refresh_rate");
  const base = failure?.milliseconds("base_interval") ?? refreshMs;
  const most = failure === undefined ? base : (failure.milliseconds("max_interval") ?? base * MOST_PER_BASE);
  if (most < base) failure?.reject("max_interval", "must not be less than base_interval");
  return {
    kind: "dns",
    logical,
    refreshMs,
    jitterMs: cluster.milliseconds("dns_jitter") ?? 0,
    failureMs: { base, most },
    respectsTtl: cluster.boolean("respect_dns_ttl") ?? false,
    family: FAMILIES[cluster.oneOf("dns_lookup_family", "AUTO", "V4_ONLY", "V6_ONLY", "V4_PREFERRED", "ALL")],
    resolvers: readResolvers(cluster),
  };
}

function readResolvers(cluster: Fields): Address[] {
  const config = cluster.message("typed_dns_resolver_config");
  if (config === undefined) return [];
  config.skip("name");
  const resolvers = config.packed("typed_config", CARES)?.messages("resolvers") ?? [];
  return resolvers.map((resolver) => readSocket(resolver));
}
