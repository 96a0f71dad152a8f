import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { ReferenceRouter } from "../../src/daemon/router.ts";
import { parseBootstrap } from "../../src/envoy/parse.ts";
import { DnsServer } from "../dns-server.ts";
import { later, withoutKernel } from "./harness.ts";
import {
  address,
  cluster,
  httpAnswer,
  inspector,
  NamedServer,
  type Server,
  TcpBed,
  type Told,
  tcpProxy,
  without,
} from "./tcp.ts";

const IP = `127.0.94.${(process.pid % 200) + 1}`;
const OTHER = IP.replace("127.0.94", "127.0.93");
const text = (told: readonly Told[]) => told.map((one) => one.text);

/** Waits until a condition holds; what it waited for is said where it never does. */
async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if (await holds()) return;
    await later(25);
  }
  assert.fail(`never came: ${what}`);
}

const FIRST_BYTES: readonly (readonly [said: string, heard: "http" | "other"])[] = [
  ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http"],
  ["GET / HTTP/1.1\nHost: x\r\n\r\n", "http"],
  ["CUSTOM / HTTP/1.1\r\nHost: x\r\n\r\n", "http"],
  ["GET / HTTP/1.1\r\n bad header\r\n\r\n", "http"],
  ["GET / HTTP/1.0\r\n\r\n", "other"],
  ["GET / HTTP/2.0\r\n\r\n", "other"],
  ["GET /\r\n", "other"],
  ["GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "other"],
  ["GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "http"],
  ["SSH-2.0-OpenSSH\r\n", "other"],
  ["\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "other"],
  ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "other"],
];

/** An endpoint is out after three connections that it refuses in a row. */
const OUTLIERS = { consecutive_5xx: 3, interval: "60s", max_ejection_percent: 50 };

const SERVERS: readonly Server[] = ["kernel", "userspace", "envoy"];

for (const server of SERVERS) {
  describe(`tcp_proxy, ${server}`, { skip: without(server), timeout: 120_000 }, () => {
    const kernel = server === "kernel";
    let bed: TcpBed;
    const servers = ["a", "b", "c"].map((name) => new NamedServer(name, OTHER));
    const greeter = new NamedServer("hello", OTHER, { first: true });
    const [a, b, c] = servers as [NamedServer, NamedServer, NamedServer];
    const listener = (port: number, more: object) => ({ name: `p${port}`, address: address(IP, port), ...more });
    const chains = (...filters: object[]) => ({ filter_chains: filters.map((filter) => ({ filters: [filter] })) });

    before(async () => {
      for (const server of [...servers, greeter]) await server.listen();
      const closed = await new NamedServer("closed", OTHER).listen();
      await closed.close();
      bed = await TcpBed.open(
        server,
        [
          listener(81, chains(tcpProxy("turns"))),
          listener(82, chains(tcpProxy("turns", { max_connect_attempts: 2 }))),
          listener(
            83,
            chains(
              tcpProxy({
                clusters: [
                  { name: "a", weight: 1 },
                  { name: "b", weight: 3 },
                ],
              }),
            ),
          ),
          listener(84, chains(tcpProxy("nobody"))),
          listener(85, chains(tcpProxy("not-there"))),
          listener(86, chains(tcpProxy("greeter"))),
          listener(87, chains(tcpProxy("greeter", { max_connect_attempts: 2 }))),
          listener(88, chains(tcpProxy("a", { idle_timeout: "0.3s" }))),
          listener(89, chains(tcpProxy("flaky", { max_connect_attempts: 2 }))),
          listener(90, {
            listener_filters: [inspector],
            listener_filters_timeout: "0.4s",
            continue_on_listener_filters_timeout: true,
            filter_chains: [
              { filter_chain_match: { application_protocols: ["http/1.1"] }, filters: [httpAnswer("http")] },
            ],
            default_filter_chain: { filters: [tcpProxy("greeter")] },
          }),
          listener(91, {
            filter_chains: [
              {
                filter_chain_match: { source_prefix_ranges: [{ address_prefix: "10.0.0.0", prefix_len: 8 }] },
                filters: [tcpProxy("a")],
              },
            ],
          }),
          listener(92, {
            filter_chains: [
              { filter_chain_match: { source_type: "EXTERNAL" }, filters: [tcpProxy("a")] },
              { filter_chain_match: { source_type: "SAME_IP_OR_LOOPBACK" }, filters: [tcpProxy("b")] },
            ],
          }),
          listener(93, {
            filter_chains: [
              { filter_chain_match: { destination_port: 93 }, filters: [tcpProxy("a")] },
              { filters: [tcpProxy("b")] },
            ],
          }),
          listener(94, chains(tcpProxy("ring", { hash_policy: [{ source_ip: {} }] }))),
          listener(95, chains(tcpProxy("maglev", { hash_policy: [{ source_ip: {} }], max_connect_attempts: 2 }))),
          listener(96, chains(tcpProxy("a", { max_downstream_connection_duration: "0.5s" }))),
          listener(97, chains(tcpProxy("a", { downstream_idle_timeout: "0.2s", upstream_idle_timeout: "0.2s" }))),
          {
            ...listener(98, chains(tcpProxy("b"))),
            additional_addresses: [{ address: address(IP, 99) }, { address: address(IP, 100) }],
          },
          {
            ...listener(101, chains(httpAnswer("more"))),
            additional_addresses: [{ address: address(IP, 102) }],
          },
          listener(103, chains(httpAnswer("own"))),
          { name: "beside", address: address("0.0.0.0", 103), ...chains(httpAnswer("beside")) },
          listener(104, chains(tcpProxy("outlier"))),
          listener(105, chains(tcpProxy("outlier-2", { max_connect_attempts: 2 }))),
          ...(kernel ? [{ name: "any", address: address("0.0.0.0", 19_099), ...chains(tcpProxy("c")) }] : []),
        ],
        [
          cluster("turns", servers),
          cluster("a", [a]),
          cluster("b", [b]),
          cluster("c", [c]),
          cluster("nobody", []),
          cluster("ring", servers, { lb_policy: "RING_HASH" }),
          cluster("maglev", servers, { lb_policy: "MAGLEV", maglev_lb_config: { table_size: 251 } }),
          cluster("greeter", [greeter]),
          cluster("flaky", [closed, a]),
          ...["outlier", "outlier-2"].map((name) => cluster(name, [closed, a], { outlier_detection: OUTLIERS })),
        ],
      );
    });
    after(async () => {
      await bed?.close();
      for (const server of [...servers, greeter]) await server.close();
    });

    const many = (port: number, n: number, more: object = {}) =>
      bed.talk(...Array.from({ length: n }, () => ({ ip: IP, port, say: "x", until: 3, ...more })));

    test("connections take turns, and the client sees the address that it asked for", async () => {
      for (const port of [81, 82]) {
        const told = await many(port, 9);
        const names = text(told).map((said) => said[0]);
        assert.deepEqual(names.toSorted(), ["a", "a", "a", "b", "b", "b", "c", "c", "c"]);
        assert.deepEqual(new Set(told.map(({ peer }) => peer)), new Set([`${IP}:${port}`]));
      }
    });

    test("two listeners on one port: that of the address goes before that of all", async () => {
      const say = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
      const [own, beside] = await bed.talk(
        { ip: IP, port: 103, say, until: 0 },
        { ip: IP.replace(/\d+$/, "250"), port: 103, say, until: 0 },
      );
      assert.match(own!.text, /own$/);
      assert.match(beside!.text, /beside$/);
    });

    test("clusters by weight", async () => {
      const names = text(await many(83, 60)).map((said) => said[0]);
      const ofB = names.filter((name) => name === "b").length;
      /* 45 of 60 are expected; outside of this once in ten million runs. */
      assert.ok(ofB > 25 && ofB < 60, `${ofB} of 60`);
    });

    test("no endpoint or no cluster: the connection is closed", async () => {
      for (const port of [84, 85]) {
        const [told] = await many(port, 1);
        assert.match(told!.end, /^(eof|ECONNRESET)$/, String(port));
        assert.equal(told!.text, "");
      }
    });

    test("a server may speak first", async () => {
      for (const port of [86, 87]) {
        const told = await bed.talk({ ip: IP, port, until: 5 });
        assert.deepEqual(text(told), ["hello"]);
      }
    });

    test("each side ends by itself: what was said before the end arrives, and the answer to it", async () => {
      for (const port of [81, 82]) {
        const times = 300_000;
        const [told] = await bed.talk({ ip: IP, port, say: "z", times, half: true });
        assert.equal(told!.end, "eof");
        assert.equal(told!.text.replace(/[^z]/g, "").length, times);
      }
    });

    test("a connection without bytes is closed after idle_timeout", async () => {
      const [told] = await bed.talk({ ip: IP, port: 88, say: "x", until: 1_000 });
      assert.deepEqual([told!.text, told!.end], ["a:x", "eof"]);
    });

    test("it is closed at max_downstream_connection_duration, whatever goes on", async () => {
      const began = performance.now();
      const told = await bed.talk(
        { ip: IP, port: 96, say: "x", until: 1_000 },
        { ip: IP, port: 81, say: "x", until: 3 },
      );
      assert.deepEqual([told[0]!.text, told[0]!.end], ["a:x", "eof"]);
      assert.ok(performance.now() - began >= 500);
    });

    test("the idle timeouts of one side do nothing, in Envoy neither", async () => {
      const [told] = await bed.talk({ ip: IP, port: 97, say: "x", until: 1_000, ms: 1_500 });
      assert.deepEqual([told!.text, told!.end], ["a:x", "timeout"]);
    });

    test("the client's address decides in RING_HASH and MAGLEV, as the reference says", async () => {
      const read = parseBootstrap(bed.config);
      assert.ok(read.ok);
      const { config } = read.value;
      const router = new ReferenceRouter(config, () => 0, 1);
      const names = new Map(servers.map(({ name, port }) => [port, name]));
      for (const port of [94, 95]) {
        const [chain] = config.listeners.find(({ name }) => name === `p${port}`)!.chains;
        assert.ok(chain?.kind === "tcp");
        const sources = Array.from({ length: 12 }, (_, i) => `127.0.0.${2 + i * 17}`);
        const picked = sources.map((ip) => router.connect(chain, undefined, { ip, port: 1 })());
        const expected = picked.map((one) => one.kind === "endpoint" && `${names.get(one.endpoint.address.port)}:x`);
        const told = await bed.talk(...sources.map((from) => ({ ip: IP, port, from, say: "x", until: 3 })));
        assert.deepEqual(text(told), expected, String(port));
        assert.ok(new Set(expected).size > 1, expected.join(" "));
        const unbound = text(await many(port, 5));
        assert.equal(new Set(unbound).size, 1, unbound.join(" "));
      }
      if (kernel) assert.ok((await bed.daemon.stats()).listeners.find(({ name }) => name === "p94")!.direct >= 17);
    });

    test("additional addresses are the listener's as its first", async () => {
      for (const port of [98, 99, 100]) assert.deepEqual(text(await many(port, 2)), ["b:x", "b:x"], String(port));
      for (const port of [101, 102]) {
        const [told] = await bed.talk({ ip: IP, port, say: "GET / HTTP/1.1\r\nHost: x\r\n\r\n", until: 100 });
        assert.match(told!.text, /^HTTP\/1\.1 200 OK\r\n/, String(port));
      }
    });

    test("another endpoint is tried where the first cannot be reached", async () => {
      assert.deepEqual(
        text(await many(89, 6)),
        Array.from({ length: 6 }, () => "a:x"),
      );
    });

    test("outlier detection: an endpoint that refuses connections gets no more of them", async () => {
      const asked: Told[] = [];
      /* Whoever ejects does so a moment later. */
      for (let i = 0; i < 12; i++) {
        asked.push(...(await many(104, 1)));
        await later(20);
      }
      const refused = asked.filter(({ text }) => text !== "a:x");
      assert.equal(refused.length, 3, JSON.stringify(asked));
      assert.deepEqual(
        text(asked).slice(-5),
        Array.from({ length: 5 }, () => "a:x"),
      );
      assert.deepEqual(
        text(await many(105, 12)),
        Array.from({ length: 12 }, () => "a:x"),
      );
      if (server === "envoy") return;
      const { clusters } = await bed.daemon.stats();
      for (const name of ["outlier", "outlier-2"]) {
        const { counters, endpoints } = clusters.find((one) => one.name === name)!;
        assert.deepEqual(
          endpoints.map(({ health }) => health),
          ["ejected", "healthy"],
        );
        assert.equal(counters?.["outlier_detection.ejections_active"], 1);
        assert.equal(counters?.["outlier_detection.ejections_enforced_consecutive_5xx"], 1);
      }
    });

    test("http_inspector: HTTP has its chain, all else the other, silence after the time-out too", async () => {
      const [http, other, silent] = await bed.talk(
        { ip: IP, port: 90, say: "GET / HTTP/1.1\r\nHost: x\r\n\r\n", until: 100 },
        { ip: IP, port: 90, say: "\u0001binary", until: 14 },
        { ip: IP, port: 90, until: 5 },
      );
      assert.match(http!.text, /^HTTP\/1\.1 200 OK\r\n/);
      assert.equal(other!.text, "hellohello:\u0001binary");
      assert.equal(silent!.text, "hello");
    });

    for (const [said, heard] of FIRST_BYTES) {
      test(`http_inspector hears ${JSON.stringify(said)}`, async () => {
        const [told] = await bed.talk({ ip: IP, port: 90, say: said, until: 5 });
        assert.equal(told!.text.startsWith("HTTP/1.1 ") ? "http" : "other", heard, told!.text);
      });
    }

    test("no chain matches: the connection is closed", async () => {
      const [told] = await many(91, 1);
      assert.match(told!.end, /^(eof|ECONNRESET)$/);
    });

    test("the more specific chain is taken", async () => {
      assert.deepEqual(text(await many(92, 1)), ["b:x"]);
      assert.deepEqual(text(await many(93, 1)), ["a:x"]);
    });

    test("direct connections are counted, and no longer active when they are over", async (t) => {
      if (!kernel) return t.skip("there are none without the kernel path");
      const before = await bed.daemon.stats();
      await many(81, 6);
      const stats = await bed.daemon.stats();
      const direct = (s: typeof stats) => s.listeners.find(({ name }) => name === "p81")!.direct;
      assert.equal(direct(stats) - direct(before), 6);
      await until("none active", async () => {
        const now = await bed.daemon.stats();
        return now.clusters.every(({ endpoints }) => endpoints.every(({ active }) => active === 0));
      });
    });

    test("a listener of any address takes its port", async (t) => {
      if (!kernel) return t.skip("without the kernel path it would bind the port");
      const told = await bed.talk({ ip: "127.1.2.3", port: 19_099, say: "x", until: 3 });
      assert.deepEqual(told, [{ text: "c:x", end: "open", peer: "127.1.2.3:19099" }]);
    });
  });
}

const TYPE = "type.googleapis.com/envoy.extensions";
const dns = ({ ip, port }: DnsServer, type: string, host: string, to: number) => ({
  type,
  dns_refresh_rate: "0.05s",
  dns_lookup_family: "V4_ONLY",
  typed_dns_resolver_config: {
    name: "cares",
    typed_config: {
      "@type": `${TYPE}.network.dns_resolver.cares.v3.CaresDnsResolverConfig`,
      resolvers: [address(ip, port)],
    },
  },
  load_assignment: {
    cluster_name: "x",
    endpoints: [{ lb_endpoints: [{ endpoint: { address: address(host, to) } }] }],
  },
});

for (const server of SERVERS) {
  describe(`clusters by DNS, ${server}`, { skip: without(server), timeout: 120_000 }, () => {
    const names = new DnsServer(OTHER);
    const [a, b] = ["a", "b"].map((name, at) => new NamedServer(name, OTHER.replace("127.0.93", `127.0.9${at + 1}`)));
    let bed: TcpBed;
    before(async () => {
      await names.listen();
      await a!.listen();
      await b!.listen(a!.port);
      names.names.set("strict.test", { v4: [a!.ip] });
      names.names.set("logical.test", { v4: [a!.ip, b!.ip] });
      bed = await TcpBed.open(
        server,
        ["strict", "logical", "none"].map((name, at) => ({
          name,
          address: address(IP, 181 + at),
          filter_chains: [{ filters: [tcpProxy(name)] }],
        })),
        [
          { name: "strict", ...dns(names, "STRICT_DNS", "strict.test", a!.port) },
          { name: "logical", ...dns(names, "LOGICAL_DNS", "logical.test", a!.port) },
          { name: "none", ...dns(names, "STRICT_DNS", "none.test", a!.port) },
        ],
      );
    });
    after(async () => {
      await bed?.close();
      for (const each of [a, b, names]) await each!.close();
    });
    const who = async (port: number, n = 4) => {
      const told = await bed.talk(...Array.from({ length: n }, () => ({ ip: IP, port, say: "x", until: 3 })));
      return [...new Set(text(told))].sort().join(" ");
    };

    test("every address that there is now is an endpoint", async () => {
      assert.equal(await who(181), "a:x");
      names.names.set("strict.test", { v4: [a!.ip, b!.ip] });
      await until("both", async () => (await who(181)) === "a:x b:x");
      names.names.set("strict.test", { v4: [b!.ip] });
      await until("the other alone", async () => (await who(181)) === "b:x");
      names.names.delete("strict.test");
      await until("none", async () => (await who(181)) === "");
    });

    test("the first address for new connections", async () => {
      assert.equal(await who(182), "a:x");
      names.names.set("logical.test", { v4: [b!.ip, a!.ip] });
      await until("the other", async () => (await who(182)) === "b:x");
    });

    test("a name that there is not: connections are closed, and the log says why", async () => {
      assert.equal(await who(183, 1), "");
      if (server !== "envoy") assert.match(bed.daemon.log, /a name has no address/);
    });
  });
}

/* The kernel path answers, while the slow path has the connection already and waits for what it speaks. */
describe("http_inspector beside the kernel path", { skip: withoutKernel(), timeout: 60_000 }, () => {
  test("what the kernel path has heard counts, after the time-out too", async () => {
    const http = createServer((_, answer) => answer.end("from there"));
    await new Promise<void>((resolve) => http.listen(0, OTHER, resolve));
    const { port } = http.address() as { port: number };
    const greeter = await new NamedServer("hello", OTHER, { first: true }).listen();
    const manager = httpAnswer("");
    const route = { match: { prefix: "/" }, route: { cluster: "http" } };
    manager.typed_config.route_config.virtual_hosts[0]!.routes = [route as never];
    const listener = {
      name: "both",
      address: address(IP, 281),
      listener_filters: [inspector],
      listener_filters_timeout: "0.2s",
      continue_on_listener_filters_timeout: true,
      filter_chains: [{ filter_chain_match: { application_protocols: ["http/1.1"] }, filters: [manager] }],
      default_filter_chain: { filters: [tcpProxy("greeter")] },
    };
    const bed = await TcpBed.open(
      "kernel",
      [listener],
      [cluster("http", [{ ip: OTHER, port }]), cluster("greeter", [greeter])],
    );
    try {
      const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
      const last = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
      const kept = { ip: IP, port: 281, say: request, until: 100_000, ms: 1_000 };
      const [quiet, closing] = await bed.talk(kept, { ip: IP, port: 281, say: last, until: 0 });
      /* Neither the greeting nor an end came after the answer. */
      assert.match(quiet!.text, /from there$/);
      assert.equal(quiet!.end, "timeout");
      assert.match(closing!.text, /from there$/);
      assert.equal(closing!.end, "eof");
      const stats = await bed.daemon.stats();
      assert.equal(greeter.accepted, 0);
      assert.ok(stats.listeners[0]!.cross_host + stats.listeners[0]!.slow >= 2);
    } finally {
      await bed.close();
      await greeter.close();
      http.close();
    }
  });
});

describe("where the client wants to go", { skip: withoutKernel(), timeout: 120_000 }, () => {
  const server = new NamedServer("there", OTHER);
  const greeter = new NamedServer("hello", OTHER, { first: true });
  const passthrough = { name: "passthrough", type: "ORIGINAL_DST", lb_policy: "CLUSTER_PROVIDED" };
  const rest = (filter: object, more: object = {}) => ({
    name: "virtual-outbound",
    address: address("0.0.0.0", 15_001),
    use_original_dst: true,
    filter_chains: [{ filter_chain_match: { destination_port: 15_001 }, filters: [tcpProxy("hole")] }],
    default_filter_chain: { filters: [filter] },
    ...more,
  });
  before(async () => {
    await server.listen();
    await greeter.listen();
  });
  after(async () => {
    await server.close();
    await greeter.close();
  });

  const mixed = (port: number) => ({
    name: "mixed",
    address: address("0.0.0.0", port),
    bind_to_port: false,
    listener_filters: [inspector],
    listener_filters_timeout: "0s",
    filter_chains: [
      {
        filter_chain_match: { transport_protocol: "raw_buffer", application_protocols: ["http/1.1", "h2c"] },
        filters: [httpAnswer("http")],
      },
    ],
    default_filter_chain: { filters: [tcpProxy("passthrough")] },
  });

  test("PassthroughCluster for the rest: connections are left alone; other listeners come first", async () => {
    const bed = await TcpBed.open(
      "kernel",
      [rest(tcpProxy("passthrough")), mixed(server.port)],
      [passthrough, { name: "hole", load_assignment: { cluster_name: "hole" } }],
    );
    try {
      const [direct, other, http, guard] = await bed.talk(
        { ip: OTHER, port: greeter.port, until: 5 },
        { ip: OTHER, port: server.port, say: "\u0001x", until: 8 },
        { ip: OTHER, port: server.port, say: "GET / HTTP/1.1\r\nHost: x\r\n\r\n", until: 100 },
        { ip: OTHER, port: 15_001, say: "x" },
      );
      assert.deepEqual([direct!.text, direct!.peer], ["hello", `${OTHER}:${greeter.port}`]);
      assert.deepEqual([other!.text, other!.peer], ["there:\u0001x", `${OTHER}:${server.port}`]);
      assert.match(http!.text, /^HTTP\/1\.1 200 OK\r\n/);
      assert.match(guard!.end, /^(eof|ECONNRESET)$/);
    } finally {
      await bed.close();
    }
  });

  test("BlackHoleCluster for the rest: they are closed, but to 127.0.0.1", async () => {
    const mine = await new NamedServer("mine", "127.0.0.1").listen();
    const bed = await TcpBed.open(
      "kernel",
      [rest(tcpProxy("hole"))],
      [{ name: "hole", load_assignment: { cluster_name: "hole" } }],
    );
    try {
      const before = server.accepted;
      const [closed, own] = await bed.talk(
        { ip: OTHER, port: server.port, say: "x" },
        { ip: "127.0.0.1", port: mine.port, say: "x", until: 6 },
      );
      assert.match(closed!.end, /^(eof|ECONNRESET)$/);
      assert.equal(server.accepted, before);
      assert.equal(own!.text, "mine:x");
    } finally {
      await bed.close();
      await mine.close();
    }
  });

  test("a request by a route to an ORIGINAL_DST cluster goes where the connection was meant to go", async () => {
    const http = createServer((_, answer) => answer.end("from there"));
    await new Promise<void>((resolve) => http.listen(0, OTHER, resolve));
    const { port } = http.address() as { port: number };
    const route = { match: { prefix: "/" }, route: { cluster: "passthrough" } };
    const manager = httpAnswer("");
    manager.typed_config.route_config.virtual_hosts[0]!.routes = [route as never];
    const listener = { name: "by-port", address: address("0.0.0.0", port), filter_chains: [{ filters: [manager] }] };
    const bed = await TcpBed.open("kernel", [listener], [passthrough]);
    try {
      const request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
      const [told] = await bed.talk({ ip: OTHER, port, say: request, until: 0 });
      assert.match(told!.text, /from there$/);
    } finally {
      await bed.close();
      http.close();
    }
  });
});
