interface Address {
  readonly ip: string;
  readonly port: number;
}

/** Everything that comes to `listen` goes to `backend`. */
export interface Forward {
  readonly name: string;
  readonly listen: Address;
  readonly backend: Address;
}

/** What `--edits` has every proxy do, in its own words: set a header of requests, one of answers, and take one away. */
export const EDITS = {
  request: ["x-edited", "request"],
  answer: ["x-added", "by the rules"],
  dropped: "etag",
} as const;

const header = ([key, value]: readonly [key: string, value: string]) => ({
  header: { key, value },
  append_action: "OVERWRITE_IF_EXISTS_OR_ADD",
});

/** Options of a connection manager that sends all to a cluster, with these edits. */
export const editing = (cluster: string): object => ({
  route_config: {
    name: cluster,
    request_headers_to_add: [header(EDITS.request)],
    response_headers_to_add: [header(EDITS.answer)],
    response_headers_to_remove: [EDITS.dropped],
    ...routesTo(cluster),
  },
});

/**
 * The Envoy bootstrap that Envoy and XLB are both started with; further options of its connection managers, by the name
 * of the cluster that they lead to.
 */
export function bootstrap(forwards: readonly Forward[], optionsOf: (name: string) => object = () => ({})): object {
  return {
    static_resources: {
      listeners: forwards.map(({ name, listen }) => ({
        name,
        address: socketAddress(listen),
        filter_chains: [{ filters: [manager(name, optionsOf(name))] }],
      })),
      clusters: forwards.map(({ name, backend }) => ({
        name,
        type: "STATIC",
        connect_timeout: "5s",
        load_assignment: {
          cluster_name: name,
          endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(backend) } }] }],
        },
      })),
    },
  };
}

function socketAddress(address: Address) {
  return { socket_address: { address: address.ip, port_value: address.port } };
}

function manager(cluster: string, options: object) {
  return {
    name: "envoy.filters.network.http_connection_manager",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      stat_prefix: cluster,
      route_config: { name: cluster, ...routesTo(cluster) },
      ...options,
      http_filters: [
        {
          name: "envoy.filters.http.router",
          typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        },
      ],
    },
  };
}

const routesTo = (cluster: string) => ({
  virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster } }] }],
});
