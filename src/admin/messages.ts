/**
 * What the daemon and the command line say to each other: JSON in HTTP/1.1 over a unix socket.
 * The shapes are the interface of `xlb stats --json` too, hence the snake_case names.
 */

/** How often the kernel answered, by where the server was, and how often user space did. */
export interface PathCounts {
  readonly requests: number;
  readonly same_host: number;
  readonly cross_host: number;
  readonly slow: number;
}

export interface ListenerStats extends PathCounts {
  readonly name: string;
  /** `ip:port`, `[ip]:port` for IPv6. */
  readonly address: string;
  readonly connections: number;
  /** Connections, of those, that were made to an endpoint, without XLB between: tcp_proxy. */
  readonly direct: number;
  /** Requests that a route answered by itself, in the kernel. */
  readonly answered: number;
  /** Requests that no virtual host or no route took: answered 404. */
  readonly no_route_match: number;
  /** What was ended for taking too long, by Envoy's names; what never happened is missing. */
  readonly counters?: Readonly<Record<string, number>>;
}

export interface RouteStats {
  readonly name: string;
  readonly requests: number;
}

export interface PoolStats {
  readonly total: number;
  readonly idle: number;
  readonly busy: number;
}

export interface EndpointStats extends PathCounts {
  readonly address: string;
  readonly health: string;
  /** Requests in service now, or connections of tcp_proxy. */
  readonly active: number;
  /** Connections that were made to it, without XLB between: tcp_proxy. */
  readonly direct: number;
  readonly responses: Readonly<Record<"1xx" | "2xx" | "3xx" | "4xx" | "5xx", number>>;
  readonly request_bytes: number;
  readonly response_bytes: number;
  /** From the request taken to the response complete; 0 before the first. */
  readonly mean_us: number;
  readonly pool: PoolStats;
}

export interface ClusterStats {
  readonly name: string;
  readonly endpoints: readonly EndpointStats[];
  /** What was tried again, refused or cut off, by Envoy's names; what never happened is missing. */
  readonly counters?: Readonly<Record<string, number>>;
}

export interface Stats {
  readonly datapath: "kernel" | "userspace";
  /** Seconds since the daemon started. */
  readonly uptime: number;
  /** Resident bytes of the daemon. */
  readonly memory: number;
  readonly connections: { readonly open: number; readonly slow_path: number };
  readonly listeners: readonly ListenerStats[];
  readonly routes: readonly RouteStats[];
  readonly clusters: readonly ClusterStats[];
  /** By the words of docs/reasons.md. */
  readonly reasons: Readonly<Record<string, number>>;
}

/** One kernel map, decoded by its owner: `key` and `value` are plain data, meant to be read. */
export interface MapDump {
  readonly name: string;
  readonly entries: readonly { readonly key: unknown; readonly value: unknown }[];
}

/** `GET /ready`. Status 200 when LIVE, 503 otherwise; the states are Envoy's. */
export interface Ready {
  readonly state: "LIVE" | "DRAINING" | "INITIALIZING";
  readonly pid: number;
}

/** `POST /tenants`: a cgroup whose processes are about to start connecting. */
export interface TenantRequest {
  readonly cgroup: string;
}

export interface TenantAnswer {
  /** Whether the pools were warm before the wait was over. */
  readonly warm: boolean;
}

/** The body of any answer that is not 2xx, but for `/ready`. */
export interface AdminFault {
  readonly error: string;
}

export const DEFAULT_ADMIN_SOCKET = "/run/xlb/admin.sock";

/** How long `POST /tenants` waits for warm pools. */
export const TENANT_WAIT_MS = 300;

export function adminSocketPath(option: string | undefined): string {
  return option ?? (process.env.XLB_ADMIN_SOCKET || DEFAULT_ADMIN_SOCKET);
}
