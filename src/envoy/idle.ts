/** A field that is taken although nothing comes of it. */
export interface Idle {
  /** `Message.field` */
  readonly field: string;
  readonly path: string;
  readonly why: string;
}

const LOG = "XLB writes no access log";
const STATISTICS = "it is about Envoy's statistics";
const LABELS = "nothing that XLB does asks for it";
const SOCKET = "it is about a socket or a buffer of Envoy's";
const TRACES = "XLB traces nothing";
const TLS = "XLB ends no TLS";
const PROCESS = "it is about Envoy's process";
const NOBODY = "Envoy does nothing by it either";
const HEALTH = "nobody checks health";
const WARM = "listeners wait until all clusters have endpoints, or 5 s";

/**
 * Fields that change nothing of what is served, by message: those that control planes send all the same. Whatever a
 * reader asks for by itself is no matter of this table.
 */
const FIELDS: { readonly [message: string]: { readonly [why: string]: readonly string[] } } = {
  "envoy.config.bootstrap.v3.Bootstrap": {
    [STATISTICS]: [
      "stats_config",
      "stats_flush_interval",
      "stats_flush_on_admin",
      "deferred_stat_options",
      "enable_dispatcher_stats",
      "stats_server_version_override",
    ],
    [PROCESS]: [
      "watchdog",
      "watchdogs",
      "memory_allocator_manager",
      "perf_tracing_file_path",
      "application_log_config",
    ],
    [TRACES]: ["tracing"],
    [LABELS]: ["node_context_params"],
  },
  "envoy.config.listener.v3.Listener": {
    [LOG]: ["access_log"],
    [LABELS]: ["metadata"],
    [SOCKET]: [
      "per_connection_buffer_limit_bytes",
      "transparent",
      "freebind",
      "tcp_fast_open_queue_length",
      "connection_balance_config",
      "reuse_port",
      "enable_reuse_port",
      "tcp_backlog_size",
      "max_connections_to_accept_per_socket_event",
      "ignore_global_conn_limit",
      "bypass_overload_manager",
    ],
  },
  "envoy.config.listener.v3.FilterChain": {
    [LABELS]: ["metadata"],
    [TLS]: ["transport_socket_connect_timeout"],
  },
  "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy": {
    [LOG]: ["access_log", "access_log_options", "access_log_flush_interval", "flush_access_log_on_connected"],
    [NOBODY]: ["downstream_idle_timeout", "upstream_idle_timeout"],
  },
  "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager": {
    [LOG]: ["access_log", "access_log_options", "access_log_flush_interval", "flush_access_log_on_new_request"],
    [TRACES]: ["tracing"],
    [TLS]: ["set_current_client_cert_details"],
  },
  "envoy.config.route.v3.RouteConfiguration": { [LABELS]: ["metadata"] },
  "envoy.config.route.v3.VirtualHost": { [LABELS]: ["metadata"], [STATISTICS]: ["virtual_clusters"] },
  "envoy.config.route.v3.Route": {
    [LABELS]: ["metadata"],
    [TRACES]: ["decorator", "tracing"],
    [STATISTICS]: ["stat_prefix"],
  },
  "envoy.config.route.v3.RouteAction": { [TLS]: ["early_data_policy"] },
  "envoy.config.cluster.v3.Cluster": {
    [LABELS]: ["metadata"],
    [STATISTICS]: ["alt_stat_name", "track_cluster_stats", "track_timeout_budgets"],
    [SOCKET]: ["per_connection_buffer_limit_bytes", "cleanup_interval"],
    [WARM]: ["wait_for_warm_on_init"],
    [HEALTH]: ["ignore_health_on_host_removal", "close_connections_on_host_health_failure"],
  },
  "envoy.config.endpoint.v3.LocalityLbEndpoints": { [LABELS]: ["metadata"] },
};

const reasons = new Map(
  Object.entries(FIELDS).flatMap(([message, whys]) =>
    Object.entries(whys).flatMap(([why, names]) => names.map((name) => [`${message}.${name}`, why] as const)),
  ),
);

/** Why nothing comes of a field that nobody asks for; undefined where it is to be refused. */
export const whyIdle = (typeName: string, field: string): string | undefined => reasons.get(`${typeName}.${field}`);
