/** The instances of Bookinfo, and where each finds the services it calls. */

export interface Instance {
  readonly name: string;
  readonly service: "productpage" | "details" | "reviews" | "ratings";
  /** As in bookinfo.yaml. */
  readonly cluster: string;
  readonly ip: string;
  readonly version?: string;
  /** Left out of XLB's cgroups: reached by the cross-host path, as if it ran elsewhere. Calls nobody itself. */
  readonly outside: boolean;
}

const instance = (cluster: string, number: number, ip: string, outside = false): Instance => {
  const [service, version] = cluster.split("-") as [Instance["service"], string | undefined];
  return { name: `${cluster}/${number}`, service, cluster, ip, outside, ...(version === undefined ? {} : { version }) };
};

export const INSTANCES: readonly Instance[] = [
  instance("productpage", 1, "127.0.10.1"),
  instance("productpage", 2, "127.0.10.2"),
  instance("details", 1, "127.0.11.1"),
  instance("details", 2, "127.0.11.2", true),
  instance("reviews-v1", 1, "127.0.12.1"),
  instance("reviews-v1", 2, "127.0.12.2", true),
  instance("reviews-v2", 1, "127.0.12.3"),
  instance("reviews-v2", 2, "127.0.12.4"),
  instance("reviews-v3", 1, "127.0.12.5"),
  instance("reviews-v3", 2, "127.0.12.6"),
  instance("ratings", 1, "127.0.13.1"),
  instance("ratings", 2, "127.0.13.2", true),
];

export const HOPS: readonly { readonly from: string; readonly to: Instance["service"] }[] = [
  { from: "client", to: "productpage" },
  { from: "productpage", to: "details" },
  { from: "productpage", to: "reviews" },
  { from: "reviews", to: "ratings" },
];

export const WEIGHTS: Readonly<Record<string, number>> = { "reviews-v1": 50, "reviews-v2": 30, "reviews-v3": 20 };

const VIRTUAL: Readonly<Record<Instance["service"], string>> = {
  productpage: "127.0.99.1",
  details: "127.0.99.2",
  reviews: "127.0.99.3",
  ratings: "127.0.99.4",
};

/** One way to wire the town: all of its instances on a port of its own, and an address or a list for each service. */
export interface Wiring {
  readonly port: number;
  find(service: Instance["service"]): string;
}

/** Each service is one virtual address, which somebody balances. */
export const virtually = (port: number): Wiring => ({ port, find: (service) => `${VIRTUAL[service]}:${port}` });

/** No balancer: every caller goes through a list of all the instances, in the proportion of the weights. */
export const directly = (port: number): Wiring => ({
  port,
  find(service) {
    const all = INSTANCES.filter((each) => each.service === service);
    const copies = all.map((each) => Array<string>((WEIGHTS[each.cluster] ?? 10) / 10).fill(`${each.ip}:${port}`));
    // Dealt out in turns, so that no instance gets its share in one burst.
    const longest = Math.max(...copies.map((list) => list.length));
    return Array.from({ length: longest }, (_, turn) => copies.flatMap((list) => list[turn] ?? []))
      .flat()
      .join(",");
  },
});

export function environmentOf(each: Instance, wiring: Wiring): Record<string, string> {
  return {
    INSTANCE: each.name,
    HOST: each.ip,
    PORT: String(wiring.port),
    DETAILS: wiring.find("details"),
    REVIEWS: wiring.find("reviews"),
    RATINGS: wiring.find("ratings"),
    ...(each.version === undefined ? {} : { VERSION: each.version }),
  };
}

/** The same routes as bookinfo.yaml, for HAProxy. */
export function haproxyConfig(port: number): string {
  const services = ["productpage", "details", "reviews", "ratings"] as const;
  const servers = (of: readonly Instance[]) =>
    of
      .map((each) => `  server ${each.name.replace("/", ".")} ${each.ip}:${port} weight ${WEIGHTS[each.cluster] ?? 10}`)
      .join("\n");
  const blocks = services.map((service) => {
    const jason = service === "reviews" ? "  use_backend reviews-v2 if { req.hdr(end-user) jason }\n" : "";
    return `frontend ${service}
  bind ${VIRTUAL[service]}:${port}
${jason}  default_backend ${service}
backend ${service}
${servers(INSTANCES.filter((each) => each.service === service))}
`;
  });
  return `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  http-reuse always
  balance roundrobin
  timeout connect 5s
  timeout client 5m
  timeout server 5m
${blocks.join("")}backend reviews-v2
${servers(INSTANCES.filter((each) => each.cluster === "reviews-v2"))}
`;
}

/** And for nginx. */
export function nginxConfig(port: number, home: string): string {
  const services = ["productpage", "details", "reviews", "ratings"] as const;
  const upstream = (name: string, of: readonly Instance[]) => `
  upstream ${name} {
${of.map((each) => `    server ${each.ip}:${port} weight=${WEIGHTS[each.cluster] ?? 10};`).join("\n")}
    keepalive 256;
  }`;
  const server = (service: Instance["service"]) => `
  server {
    listen ${VIRTUAL[service]}:${port};
    location / { proxy_pass http://${service === "reviews" ? "$reviews" : service}; }
  }`;
  return `daemon off;
user root;
worker_processes 1;
pid ${home}/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path ${home};
  proxy_temp_path ${home};
  fastcgi_temp_path ${home};
  uwsgi_temp_path ${home};
  scgi_temp_path ${home};
  keepalive_requests 1000000000;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  map $http_end_user $reviews { default reviews; jason reviews-v2; }
${services
  .map((service) =>
    upstream(
      service,
      INSTANCES.filter((each) => each.service === service),
    ),
  )
  .join("")}
${upstream(
  "reviews-v2",
  INSTANCES.filter((each) => each.cluster === "reviews-v2"),
)}
${services.map(server).join("")}
}
`;
}

export const addressOf = (service: Instance["service"], port: number) => [VIRTUAL[service], port] as const;
