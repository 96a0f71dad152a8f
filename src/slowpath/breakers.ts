import type { Breakers, Priority, RetryBudget, Thresholds } from "../model/limits.ts";

/** What is counted of a cluster, by Envoy's names. */
export type ClusterCounter =
  | "upstream_cx_overflow"
  | "upstream_rq_pending_overflow"
  | "upstream_rq_retry"
  | "upstream_rq_retry_success"
  | "upstream_rq_retry_limit_exceeded"
  | "upstream_rq_retry_overflow"
  | "upstream_rq_timeout"
  | "upstream_rq_per_try_timeout"
  | "upstream_rq_per_try_idle_timeout"
  | "upstream_rq_max_duration_reached"
  | "upstream_cx_max_requests"
  | "upstream_cx_max_duration_reached"
  | "retry_or_shadow_abandoned";

/** What a cluster has in use at a time, for one of the two priorities. */
export interface InUse {
  connections: number;
  /** Requests that wait for a connection. */
  pending: number;
  requests: number;
  retries: number;
}

/** The resources of all clusters, and whether a circuit breaker has room for one more. */
export class Resources {
  readonly #inUse = new Map<string, InUse>();
  readonly #active: (cluster: string) => number;
  readonly #counted: (cluster: string) => number;

  /**
   * `active`: what of both paths a cluster has in service, connections of tcp_proxy included. `counted`: its requests,
   * of default priority, where the kernel path counts them; else 0.
   */
  constructor(active: (cluster: string) => number, counted: (cluster: string) => number = () => 0) {
    this.#active = active;
    this.#counted = counted;
  }

  of(cluster: string, priority: Priority): InUse {
    const key = `${priority} ${cluster}`;
    let found = this.#inUse.get(key);
    if (found === undefined) {
      found = { connections: 0, pending: 0, requests: 0, retries: 0 };
      this.#inUse.set(key, found);
    }
    return found;
  }

  mayRequest(cluster: string, priority: Priority, { maxRequests }: Thresholds): boolean {
    const { requests } = this.of(cluster, priority);
    return Math.max(requests, priority === "high" ? 0 : this.#counted(cluster)) < maxRequests;
  }

  mayRetry(cluster: string, priority: Priority, { maxRetries, retryBudget }: Thresholds): boolean {
    const { retries, pending } = this.of(cluster, priority);
    if (retryBudget === undefined) return retries < maxRetries;
    return retries < allowed(retryBudget, this.#requests(cluster, priority) + pending);
  }

  /** The kernel path serves requests of default priority only. */
  #requests(cluster: string, priority: Priority): number {
    const { requests } = this.of(cluster, priority);
    if (priority === "high") return requests;
    return Math.max(requests, this.#active(cluster) - this.of(cluster, "high").requests);
  }
}

const allowed = ({ percent, minConcurrency }: RetryBudget, inService: number) =>
  Math.max(Math.floor((percent / 100) * inService), minConcurrency);

/** Connections that one endpoint may have; missing: only its cluster's bound holds. */
export const perHost = ({ maxConnectionsPerHost }: Breakers, priority: Priority) =>
  maxConnectionsPerHost?.[priority] ?? Number.POSITIVE_INFINITY;
