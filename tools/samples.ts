import type { Json } from "./probe.ts";

const TYPE = "type.googleapis.com/envoy.extensions.filters";
const POLICIES = "type.googleapis.com/envoy.extensions.load_balancing_policies";
const PATH = "type.googleapis.com/envoy.extensions.path";
const address = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });

/** Predicates of listener filters: with the listener's port and without. */
const PORTS: readonly Json[] = [{ destination_port_range: { start: 1, end: 9_000 } }, { any_match: true }];

const FAULT = `${TYPE}.http.fault.v3.HTTPFault`;
const FAULTS = { values: [{ fault: { "@type": FAULT, abort: { http_status: 503, percentage: { numerator: 1 } } } }] };

/** The HTTP connection manager, alone in its chain. */
const CHAIN: Json = {
  filters: [
    {
      name: "manager",
      typed_config: {
        "@type": `${TYPE}.network.http_connection_manager.v3.HttpConnectionManager`,
        stat_prefix: "s",
        route_config: {
          virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "c" } }] }],
        },
        http_filters: [
          { name: "fault", typed_config: { "@type": FAULT } },
          { name: "router", typed_config: { "@type": `${TYPE}.http.router.v3.Router` } },
        ],
      },
    },
  ],
};

/** A configuration that the kernel path follows, into which fields are tried. */
export const START: Json = {
  static_resources: {
    listeners: [{ name: "l", address: address(8_080), filter_chains: [CHAIN] }],
    clusters: ["c", "d"].map((name) => ({
      name,
      load_assignment: {
        cluster_name: name,
        endpoints: [{ lb_endpoints: [{ endpoint: { address: address(8_081) } }] }],
      },
    })),
  },
};

/** But for KEYS_SUBSET, which needs keys. */
const SELECTOR_FALLBACKS = ["NO_FALLBACK", "ANY_ENDPOINT", "DEFAULT_SUBSET"];

const FEWER_KEYS = { values: [["v"]], beside: { keys: ["v", "w"], fallback_policy: "KEYS_SUBSET" } };

/** What balances in each subset. */
const RANDOM: Json = {
  policies: [{ typed_extension_config: { name: "x", typed_config: { "@type": `${POLICIES}.random.v3.Random` } } }],
};

const RESOLVER: Json = {
  name: "x",
  typed_config: {
    "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
    resolvers: [{ socket_address: { address: "127.0.0.1", port_value: 53 } }],
  },
};

const SOURCES: readonly Json[] = ["127.0.0.1", "127.0.0.2"].map((address) => ({ address, port_value: 0 }));

/**
 * What cannot be made from a type alone: values for a field (`Message.field`) or a message, and what must stand beside
 * a field for it to mean anything.
 */
export const SAMPLES: {
  readonly [name: string]: {
    readonly values?: readonly Json[];
    readonly beside?: { readonly [field: string]: Json };
  };
} = {
  "RetryPolicy.retry_on": { values: ["5xx", "connect-failure"] },
  "RetryPolicy.retry_host_predicate": {
    values: [
      [
        {
          name: "x",
          typed_config: {
            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
          },
        },
      ],
    ],
  },
  "OutlierDetection.max_ejection_time": { values: ["500s"] },
  "RouteAction.request_mirror_policies": { values: [[{ cluster: "c" }]] },
  "RouteConfiguration.request_mirror_policies": { values: [[{ cluster: "c" }]] },
  "VirtualHost.request_mirror_policies": { values: [[{ cluster: "c" }]] },
  "RouteAction.RequestMirrorPolicy.cluster": { values: ["c"] },
  "RouteAction.RequestMirrorPolicy.cluster_header": { values: ["x-c"], beside: { cluster: null } },
  "WeightedCluster.ClusterWeight.cluster_header": { beside: { name: null } },
  "RouteAction.weighted_clusters": { values: [{ clusters: [{ name: "c", weight: 1 }] }] },
  "Route.typed_per_filter_config": FAULTS,
  "VirtualHost.typed_per_filter_config": FAULTS,
  "RouteConfiguration.typed_per_filter_config": FAULTS,
  "Route.direct_response": { values: [{ status: 200 }] },
  "SchemeHeaderTransformation.scheme_to_overwrite": { values: ["https"] },
  "HttpConnectionManager.request_id_extension": {
    values: [
      {
        typed_config: { "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig" },
      },
    ],
  },
  "HttpConnectionManager.upgrade_configs": { values: [[{ upgrade_type: "websocket" }]] },
  "RouteAction.upgrade_configs": { values: [[{ upgrade_type: "websocket" }]] },
  "Cluster.least_request_lb_config": { beside: { lb_policy: "LEAST_REQUEST" } },
  "Cluster.ring_hash_lb_config": { beside: { lb_policy: "RING_HASH" } },
  "Cluster.maglev_lb_config": { beside: { lb_policy: "MAGLEV" } },
  "Cluster.MaglevLbConfig.table_size": { values: [251] },
  "Maglev.table_size": { values: [251] },
  "Cluster.CommonLbConfig.ConsistentHashingLbConfig.use_hostname_for_hashing": {
    beside: { "../../type": "STRICT_DNS" },
  },
  "Cluster.CommonLbConfig.consistent_hashing_lb_config": { beside: { "../lb_policy": "RING_HASH" } },
  "UriTemplateMatchConfig.path_template": { values: ["/{x}", "/*"] },
  "UriTemplateRewriteConfig.path_template_rewrite": { values: ["/{x}/y", "/y"] },
  "RouteAction.path_rewrite_policy": {
    beside: {
      "../match": {
        path_match_policy: {
          name: "x",
          typed_config: { "@type": `${PATH}.match.uri_template.v3.UriTemplateMatchConfig`, path_template: "/{x}" },
        },
      },
    },
  },
  "Listener.listener_filters": {
    values: ["http_inspector.v3.HttpInspector", "tls_inspector.v3.TlsInspector", "original_dst.v3.OriginalDst"].map(
      (type) => [{ name: "x", typed_config: { "@type": `${TYPE}.listener.${type}` } }],
    ),
  },
  ...Object.fromEntries(
    ["or_match", "and_match"].map((set) => [
      `ListenerFilterChainMatchPredicate.${set}`,
      { values: [{ rules: PORTS }, { rules: PORTS.toReversed() }] },
    ]),
  ),
  "ListenerFilterChainMatchPredicate.MatchSet.rules": { values: [PORTS] },
  "ListenerFilterChainMatchPredicate.not_match": { values: PORTS },
  "ListenerFilter.filter_disabled": { values: PORTS },
  "FilterChainMatch.transport_protocol": { values: ["raw_buffer", "tls"] },
  "FilterChainMatch.server_names": { values: [["a.test"], ["*.test"]] },
  "Listener.additional_addresses": { values: [[{ address: address(8_082) }]] },
  "Listener.default_filter_chain": { values: [CHAIN] },
  "ClusterManager.local_cluster_name": { values: ["c", "d"] },
  RuntimeDouble: { values: [{ runtime_key: "x", default_value: 1 }] },
  "Cluster.load_balancing_policy": {
    values: [
      "round_robin.v3.RoundRobin",
      "least_request.v3.LeastRequest",
      "random.v3.Random",
      "ring_hash.v3.RingHash",
      "maglev.v3.Maglev",
      "subset.v3.Subset",
    ].map((type) => ({
      policies: [
        {
          typed_extension_config: {
            name: "x",
            typed_config: {
              "@type": `${POLICIES}.${type}`,
              ...(type.startsWith("subset") ? { subset_selectors: [{ keys: ["v"] }], subset_lb_policy: RANDOM } : {}),
            },
          },
        },
      ],
    })),
  },
  "Subset.subset_lb_policy": { values: [RANDOM] },
  "Cluster.lb_subset_config": { values: [{ subset_selectors: [{ keys: ["v"] }] }] },
  "Cluster.LbSubsetConfig.locality_weight_aware": {
    beside: { "../common_lb_config": { locality_weighted_lb_config: {} } },
  },
  "Cluster.LbSubsetConfig.default_subset": { values: [{ v: "1" }] },
  "Cluster.LbSubsetConfig.LbSubsetSelector.fallback_policy": { values: SELECTOR_FALLBACKS },
  "Cluster.LbSubsetConfig.LbSubsetSelector.fallback_keys_subset": FEWER_KEYS,
  "Subset.subset_selectors": { values: [[{ keys: ["v"] }]] },
  "Subset.default_subset": { values: [{ v: "1" }] },
  "Subset.LbSubsetSelector.fallback_policy": { values: SELECTOR_FALLBACKS },
  "Subset.LbSubsetSelector.fallback_keys_subset": FEWER_KEYS,
  "Metadata.filter_metadata": { values: [{ "envoy.lb": { v: "1" } }] },
  "TcpProxy.cluster": { values: ["c", "d"] },
  "TcpProxy.weighted_clusters": { values: [{ clusters: [{ name: "c", weight: 1 }] }] },
  "TcpProxy.WeightedCluster.ClusterWeight.name": { values: ["c", "d"] },
  CidrRange: { values: [{ address_prefix: "10.0.0.0", prefix_len: 8 }] },
  "CidrRange.address_prefix": { values: ["10.0.0.0", "11.0.0.0"] },
  "BindConfig.source_address": { values: SOURCES },
  "ExtraSourceAddress.address": { values: SOURCES },
  "BindConfig.extra_source_addresses": {
    values: SOURCES.map((address) => [{ address }]),
    beside: { source_address: { address: "::1", port_value: 0 } },
  },
  "Cluster.typed_dns_resolver_config": { values: [RESOLVER] },
  "SocketAddress.address": { values: ["127.0.0.1", "127.0.0.2"] },
};

/** What else may stand in or above a message, written as `beside`, so that more of its fields have a place. */
export const SETTINGS: { readonly [message: string]: readonly { readonly [field: string]: Json }[] } = {
  Cluster: [{ type: "STRICT_DNS" }, { type: "ORIGINAL_DST", lb_policy: "CLUSTER_PROVIDED", load_assignment: null }],
  Node: [{ "../cluster_manager": { local_cluster_name: "c" } }],
  UuidRequestIdConfig: [{ "../../via": "x" }],
};
