import type { Address, Cluster, Endpoint, Health, Policy } from "../model/config.ts";
import { addressText } from "../tables/address.ts";
import { readAddress } from "./address.ts";
import type { Fields } from "./fields.ts";

const HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const UNLIMITED = 2 ** 32 - 1;
const MAX_WEIGHT_SUM = 2 ** 32 - 1;

export function readCluster(cluster: Fields): Cluster {
  const name = cluster.string("name");
  cluster.oneOf("type", "STATIC");
  cluster
    .packedEntry("typed_extension_protocol_options", HTTP_OPTIONS, HTTP_OPTIONS)
    ?.message("explicit_http_config")
    ?.message("http_protocol_options");
  return {
    name,
    policy: readPolicy(cluster),
    connectTimeoutMs: cluster.milliseconds("connect_timeout") ?? 5000,
    maxConnections: readMaxConnections(cluster),
    endpoints: readEndpoints(cluster),
  };
}

function readPolicy(cluster: Fields): Policy {
  const policy = cluster.oneOf("lb_policy", "ROUND_ROBIN", "LEAST_REQUEST", "RANDOM");
  const choiceCount = cluster.message("least_request_lb_config")?.number("choice_count") ?? 2;
  if (policy === "LEAST_REQUEST") return { kind: "leastRequest", choiceCount };
  if (cluster.has("least_request_lb_config")) {
    cluster.reject(
      "least_request_lb_config",
      "has an effect with lb_policy LEAST_REQUEST only",
      "remove it, or write lb_policy: LEAST_REQUEST",
    );
  }
  return policy === "RANDOM" ? { kind: "random" } : { kind: "roundRobin" };
}

function readMaxConnections(cluster: Fields): number {
  const [threshold, second] = cluster.message("circuit_breakers")?.messages("thresholds") ?? [];
  if (second !== undefined)
    second.reject("priority", "only one entry, for priority DEFAULT, is supported", "remove the others");
  if (threshold === undefined) return 1024;
  threshold.oneOf("priority", "DEFAULT");
  // XLB neither queues nor retries, so Envoy's defaults and no limit at all come to the same.
  threshold.only("max_pending_requests", 1024, UNLIMITED);
  threshold.only("max_requests", 1024, UNLIMITED);
  threshold.only("max_retries", 3, UNLIMITED);
  return threshold.number("max_connections") ?? 1024;
}

function readEndpoints(cluster: Fields): Endpoint[] {
  const assignment = cluster.message("load_assignment");
  assignment?.skip("cluster_name");
  assignment?.message("policy")?.only("overprovisioning_factor", 140);
  const owners = new Set<string>();
  return (assignment?.messages("endpoints") ?? []).flatMap((locality) => {
    locality.skip("locality");
    const endpoints = locality.messages("lb_endpoints").map((endpoint) => readEndpoint(endpoint, owners));
    const sum = endpoints.reduce((sum, endpoint) => sum + endpoint.weight, 0);
    if (sum > MAX_WEIGHT_SUM)
      locality.reject("lb_endpoints", `the weights add up to ${sum}, more than ${MAX_WEIGHT_SUM}`);
    return endpoints;
  });
}

const HEALTH: { readonly [status: string]: Health } = {
  UNHEALTHY: "unhealthy",
  DRAINING: "draining",
  TIMEOUT: "timeout",
  DEGRADED: "degraded",
};

function readEndpoint(lbEndpoint: Fields, owners: Set<string>): Endpoint {
  const endpoint = lbEndpoint.message("endpoint");
  if (lbEndpoint.lacks("endpoint") && !lbEndpoint.has("endpoint_name")) lbEndpoint.reject("endpoint", "is required");
  const address: Address = endpoint === undefined ? { ip: "", port: 0 } : readAddress(endpoint);
  const text = addressText(address);
  if (address.ip !== "" && owners.has(text)) {
    endpoint?.reject("address", `${text} is in this cluster already`, "write it once, with a load_balancing_weight");
  }
  owners.add(text);
  const status = lbEndpoint.oneOf(
    "health_status",
    "UNKNOWN",
    "HEALTHY",
    "UNHEALTHY",
    "DRAINING",
    "TIMEOUT",
    "DEGRADED",
  );
  return { address, weight: lbEndpoint.number("load_balancing_weight") ?? 1, health: HEALTH[status] ?? "healthy" };
}
