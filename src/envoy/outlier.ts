import { DEFAULT_OUTLIER_DETECTION, type EjectionType, type OutlierDetection } from "../model/outlier.ts";
import type { Fields } from "./fields.ts";

const DEFAULT = DEFAULT_OUTLIER_DETECTION;

/** A cluster's `outlier_detection`; missing: nothing is ejected. */
export function readOutlierDetection(cluster: Fields): OutlierDetection | undefined {
  const fields = cluster.message("outlier_detection");
  return fields && read(fields);
}

function read(fields: Fields): OutlierDetection {
  const count = (name: string, otherwise: number) => fields.number(name) ?? otherwise;
  const time = (name: string, otherwise: number) => fields.milliseconds(name) ?? otherwise;
  const baseEjectionMs = time("base_ejection_time", DEFAULT.baseEjectionMs);
  const maxEjectionMs = time("max_ejection_time", Math.max(DEFAULT.maxEjectionMs, baseEjectionMs));
  if (maxEjectionMs < baseEjectionMs)
    fields.reject("max_ejection_time", "must not be less than base_ejection_time", "make it longer");
  // There are no health checks that could say so.
  fields.skip("successful_active_health_check_uneject_host");
  return {
    consecutive5xx: count("consecutive_5xx", DEFAULT.consecutive5xx),
    consecutiveGatewayFailures: count("consecutive_gateway_failure", DEFAULT.consecutiveGatewayFailures),
    consecutiveLocalFailures: count("consecutive_local_origin_failure", DEFAULT.consecutiveLocalFailures),
    splitsOrigins: fields.boolean("split_external_local_origin_errors") ?? DEFAULT.splitsOrigins,
    intervalMs: time("interval", DEFAULT.intervalMs),
    baseEjectionMs,
    maxEjectionMs,
    maxJitterMs: time("max_ejection_time_jitter", DEFAULT.maxJitterMs),
    maxEjectionPercent: count("max_ejection_percent", DEFAULT.maxEjectionPercent),
    alwaysEjectsOne: fields.boolean("always_eject_one_host") ?? DEFAULT.alwaysEjectsOne,
    successRate: {
      minimumHosts: count("success_rate_minimum_hosts", DEFAULT.successRate.minimumHosts),
      requestVolume: count("success_rate_request_volume", DEFAULT.successRate.requestVolume),
      stdevFactor: count("success_rate_stdev_factor", DEFAULT.successRate.stdevFactor),
    },
    failurePercentage: {
      threshold: count("failure_percentage_threshold", DEFAULT.failurePercentage.threshold),
      minimumHosts: count("failure_percentage_minimum_hosts", DEFAULT.failurePercentage.minimumHosts),
      requestVolume: count("failure_percentage_request_volume", DEFAULT.failurePercentage.requestVolume),
    },
    enforcing: readEnforcing(fields),
  };
}

const ENFORCING: Readonly<Record<EjectionType, string>> = {
  consecutive_5xx: "enforcing_consecutive_5xx",
  consecutive_gateway_failure: "enforcing_consecutive_gateway_failure",
  consecutive_local_origin_failure: "enforcing_consecutive_local_origin_failure",
  success_rate: "enforcing_success_rate",
  local_origin_success_rate: "enforcing_local_origin_success_rate",
  failure_percentage: "enforcing_failure_percentage",
  local_origin_failure_percentage: "enforcing_failure_percentage_local_origin",
};

function readEnforcing(fields: Fields): OutlierDetection["enforcing"] {
  const read = Object.entries(ENFORCING).map(([type, name]) => [
    type,
    fields.number(name) ?? DEFAULT.enforcing[type as EjectionType],
  ]);
  return Object.fromEntries(read) as OutlierDetection["enforcing"];
}
