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

/** The Envoy bootstrap that Envoy and XLB are both started with. */
export function bootstrap(forwards: readonly Forward[], managerOptions: object = {}): object {
  return {
    static_resources: {
      listeners: forwards.map(({ name, listen }) => ({
        name,
        address: socketAddress(listen),
        filter_chains: [{ filters: [manager(name, managerOptions)] }],
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
      route_config: {
        name: cluster,
        virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster } }] }],
      },
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
