import type { Stats } from "../../src/admin/messages.ts";

export const someStats: Stats = {
  datapath: "kernel",
  uptime: 3725.4,
  memory: 90_177_536,
  connections: { open: 64, slow_path: 2 },
  listeners: [
    {
      name: "bookinfo",
      address: "127.8.0.1:80",
      connections: 70,
      direct: 0,
      requests: 1000,
      same_host: 900,
      cross_host: 90,
      slow: 10,
      answered: 0,
      no_route_match: 3,
    },
  ],
  routes: [{ name: "reviews/0", requests: 997 }],
  clusters: [
    {
      name: "reviews",
      endpoints: [
        {
          address: "127.0.0.1:9080",
          health: "healthy",
          active: 1,
          direct: 0,
          requests: 997,
          same_host: 900,
          cross_host: 90,
          slow: 7,
          responses: { "1xx": 0, "2xx": 990, "3xx": 0, "4xx": 6, "5xx": 1 },
          request_bytes: 120_000,
          response_bytes: 5_000_000,
          mean_us: 31.4,
          pool: { total: 16, idle: 15, busy: 1 },
        },
      ],
    },
    { name: "empty", endpoints: [] },
  ],
  reasons: { same_host: 900, cross_host: 90, pool_empty: 4, no_route: 3, upgrade: 0 },
};
