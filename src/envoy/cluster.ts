import type { Cluster } from "../model/config.ts";
import { readBalancing } from "./balancing.ts";
import { readDiscovery } from "./discovery.ts";
import { readAssignment } from "./endpoints.ts";
import type { Fields } from "./fields.ts";

const HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const UNLIMITED = 2 ** 32 - 1;

/** There is one endpoint, whatever the policy. */
const ANYWHERE = { policy: { kind: "roundRobin" } } as const;

export function readCluster(cluster: Fields): Cluster {
  const name = cluster.string("name");
  const discovery = readDiscovery(cluster);
  cluster
    .packedEntry("typed_extension_protocol_options", HTTP_OPTIONS, HTTP_OPTIONS)
    ?.message("explicit_http_config")
    ?.message("http_protocol_options");
  const assignment = readAssignment(cluster, discovery?.kind === "dns");
  const count = assignment.endpoints.length;
  if (discovery?.kind === "dns" && discovery.logical && count !== 1)
    cluster.reject("load_assignment", `a LOGICAL_DNS cluster has one endpoint, not ${count}`);
  return {
    name,
    ...(discovery?.kind === "originalDst" ? ANYWHERE : readBalancing(cluster)),
    connectTimeoutMs: cluster.milliseconds("connect_timeout") ?? 5000,
    maxConnections: readMaxConnections(cluster),
    ...assignment,
    ...(discovery === undefined ? {} : { discovery }),
  };
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
