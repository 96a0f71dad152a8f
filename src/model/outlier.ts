/** `outlier_detection` of a cluster. Times are milliseconds, percentages whole, and each default is Envoy's. */
export interface OutlierDetection {
  /** Errors in a row that eject an endpoint: 5xx, and 502, 503 and 504 among them. 0: none do. */
  readonly consecutive5xx: number;
  readonly consecutiveGatewayFailures: number;
  /** Of XLB's own, where they are told apart: connections that fail, and answers that take too long. */
  readonly consecutiveLocalFailures: number;
  /** `split_external_local_origin_errors`: what an endpoint answers is one thing, whether it can be reached another. */
  readonly splitsOrigins: boolean;
  /** How often endpoints are compared, and those that have been away for long enough let in again. */
  readonly intervalMs: number;
  readonly baseEjectionMs: number;
  readonly maxEjectionMs: number;
  readonly maxJitterMs: number;
  /** Of the cluster's endpoints, as many may be ejected at a time. */
  readonly maxEjectionPercent: number;
  readonly alwaysEjectsOne: boolean;
  readonly successRate: SuccessRate;
  readonly failurePercentage: FailurePercentage;
  /** Of a hundred endpoints that are found out, how many are ejected. */
  readonly enforcing: Readonly<Record<EjectionType, number>>;
}

/** An endpoint is an outlier below the mean of all less so many standard deviations. */
export interface SuccessRate {
  readonly minimumHosts: number;
  /** Requests to an endpoint in an interval, below which it is not judged. */
  readonly requestVolume: number;
  /** In thousandths. */
  readonly stdevFactor: number;
}

export interface FailurePercentage {
  readonly threshold: number;
  readonly minimumHosts: number;
  readonly requestVolume: number;
}

/** Why an endpoint is ejected, as Envoy's counters name it. */
export const EJECTION_TYPES = [
  "consecutive_5xx",
  "consecutive_gateway_failure",
  "consecutive_local_origin_failure",
  "success_rate",
  "local_origin_success_rate",
  "failure_percentage",
  "local_origin_failure_percentage",
] as const;

export type EjectionType = (typeof EJECTION_TYPES)[number];

export const DEFAULT_OUTLIER_DETECTION: OutlierDetection = {
  consecutive5xx: 5,
  consecutiveGatewayFailures: 5,
  consecutiveLocalFailures: 5,
  splitsOrigins: false,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  maxEjectionMs: 300_000,
  maxJitterMs: 0,
  maxEjectionPercent: 10,
  alwaysEjectsOne: false,
  successRate: { minimumHosts: 5, requestVolume: 100, stdevFactor: 1_900 },
  failurePercentage: { threshold: 85, minimumHosts: 5, requestVolume: 50 },
  enforcing: {
    consecutive_5xx: 100,
    consecutive_gateway_failure: 0,
    consecutive_local_origin_failure: 100,
    success_rate: 100,
    local_origin_success_rate: 100,
    failure_percentage: 0,
    local_origin_failure_percentage: 0,
  },
};
