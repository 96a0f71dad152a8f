import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { installedEnvoy } from "../../bench/systems/envoy.ts";
import {
  Bed,
  Client,
  type ClusterSpec,
  eventually,
  hostFor,
  later,
  PATIENCE,
  type Step,
  SUITE_PATIENCE,
  send,
  stop,
  WAYS,
  type Way,
  withoutKernel,
} from "./harness.ts";
import { EnvoyBeside } from "./tcp.ts";

/**
 * Which endpoints are kept from requests for what they did to others: the same by each path, and by a real Envoy where
 * there is one. A cluster's only endpoint tells best: when it is ejected there is "no healthy upstream".
 */

/** `left`: its client has seen the beginning of an answer, and gone. */
type Told = number | "UH" | "cut" | "left";

/** One request after the other, by what its server does, and what its client is told: a status, or UH. */
interface Story {
  readonly name: string;
  /** `outlier_detection` */
  readonly detection: object;
  readonly asked: readonly (readonly [path: string, told: Told])[];
  /** The endpoint refuses connections. */
  readonly refuses?: true;
}

const STILL = { interval: "60s", max_ejection_percent: 100 };
const errors = (n: number, status: number) => Array.from({ length: n }, () => [`/${status}`, status] as const);

const STORIES: readonly Story[] = [
  {
    name: "five errors in a row",
    detection: STILL,
    asked: [...errors(4, 500), ["/x", 200], ["/404", 404], ...errors(5, 500), ["/x", "UH"]],
  },
  {
    name: "so many as it says",
    detection: { ...STILL, consecutive_5xx: 2 },
    asked: [
      ["/500", 500],
      ["/x", 200],
      ["/500", 500],
      ["/503", 503],
      ["/x", "UH"],
    ],
  },
  {
    name: "those of a gateway alone",
    detection: {
      ...STILL,
      consecutive_gateway_failure: 3,
      enforcing_consecutive_gateway_failure: 100,
      consecutive_5xx: 2,
      enforcing_consecutive_5xx: 0,
    },
    asked: [...errors(2, 502), ["/500", 500], ...errors(3, 500), ...errors(2, 503), ["/504", 504], ["/x", "UH"]],
  },
  {
    name: "found out, but not ejected",
    detection: { ...STILL, consecutive_5xx: 1, enforcing_consecutive_5xx: 0 },
    asked: [...errors(4, 500), ["/x", 200]],
  },
  {
    name: "none: 0 errors are never too many",
    detection: { ...STILL, consecutive_5xx: 0 },
    asked: [...errors(8, 500), ["/x", 200]],
  },
  {
    name: "not so many at a time",
    detection: { interval: "60s", consecutive_5xx: 1 },
    asked: [...errors(3, 500), ["/x", 200]],
  },
  {
    name: "but always one",
    detection: { interval: "60s", consecutive_5xx: 1, always_eject_one_host: true },
    asked: [
      ["/500", 500],
      ["/x", "UH"],
    ],
  },
  {
    name: "connections that break off",
    detection: { ...STILL, consecutive_5xx: 3 },
    asked: [
      ["/dies", 503],
      ["/500", 500],
      ["/dies", 503],
      ["/x", "UH"],
    ],
  },
  {
    name: "answers that take too long",
    detection: { ...STILL, consecutive_5xx: 2 },
    asked: [
      ["/late", 504],
      ["/x", 200],
      ["/late", 504],
      ["/late", 504],
      ["/x", "UH"],
    ],
  },
  {
    name: "no HTTP",
    detection: { ...STILL, consecutive_5xx: 2 },
    asked: [
      ["/garbage", 502],
      ["/garbage", 502],
      ["/x", "UH"],
    ],
  },
  {
    name: "an answer that breaks off is one before it is none",
    detection: { ...STILL, consecutive_5xx: 2 },
    asked: [
      ["/half", "cut"],
      ["/half", "cut"],
      ["/half", "cut"],
      ["/500", 500],
      ["/x", "UH"],
    ],
  },
  {
    name: "and so is one whose body is no HTTP",
    detection: { ...STILL, consecutive_5xx: 2 },
    asked: [
      ["/bad-chunk", "cut"],
      ["/bad-chunk", "cut"],
      ["/bad-chunk", "cut"],
      ["/500", 500],
      ["/x", "UH"],
    ],
  },
  {
    name: "and so is one that its client leaves",
    detection: { ...STILL, consecutive_5xx: 2 },
    asked: [
      ["/500", 500],
      ["/endless", "left"],
      ["/500", 500],
      ["/x", 200],
      ["/500", 500],
      ["/endless-500", "left"],
      ["/x", "UH"],
    ],
  },
  {
    name: "refused connections",
    refuses: true,
    detection: { ...STILL, consecutive_5xx: 3 },
    asked: [
      ["/x", 503],
      ["/x", 503],
      ["/x", 503],
      ["/x", "UH"],
    ],
  },
  {
    name: "origins apart: what it answers",
    detection: { ...STILL, split_external_local_origin_errors: true, consecutive_5xx: 3 },
    asked: [...errors(2, 500), ["/dies", 503], ["/dies", 503], ["/500", 500], ["/x", "UH"]],
  },
  {
    name: "origins apart: whether it is reached",
    detection: { ...STILL, split_external_local_origin_errors: true, consecutive_local_origin_failure: 2 },
    asked: [...errors(4, 500), ["/x", 200], ["/dies", 503], ["/dies", 503], ["/dies", 503], ["/x", 200]],
  },
  {
    name: "origins apart: refused connections",
    refuses: true,
    detection: {
      ...STILL,
      split_external_local_origin_errors: true,
      consecutive_5xx: 1,
      consecutive_local_origin_failure: 3,
    },
    asked: [
      ["/x", 503],
      ["/x", 503],
      ["/x", 503],
      ["/x", "UH"],
    ],
  },
  {
    name: "a redirected upload, an empty answer, a large one",
    detection: { ...STILL, consecutive_5xx: 2 },
    asked: [
      ["/500", 500],
      ["/204", 204],
      ["/500", 500],
      ["/large", 200],
      ["/500", 500],
      ["/large-500", 500],
      ["/x", "UH"],
    ],
  },
];

/** What is no answer. */
const FAILS = new Set(["/dies", "/late", "/garbage"]);

type Who = Way | "envoy";

const clusterOf = (at: number, who: Who) => `story-${at}-${who}`;

/** It is back when it has been away for long enough, is away for twice as long then, and for less after good times. */
const RETURNS = {
  consecutive_5xx: 2,
  interval: "0.2s",
  base_ejection_time: "0.5s",
  max_ejection_percent: 100,
};

/** How one request after the other goes to one endpoint, and to another where that is out. */
const SUCCESSIONS: Readonly<Record<string, object>> = {
  priorities: {},
  maglev: { lb_policy: "MAGLEV" },
  ring: { lb_policy: "RING_HASH" },
  subset: {
    lb_policy: "MAGLEV",
    lb_subset_config: { fallback_policy: "ANY_ENDPOINT", subset_selectors: [{ keys: ["group"] }] },
  },
};

function suite(name: string, kernel: boolean, ways: readonly Who[]): void {
  const skip = (kernel && withoutKernel()) || (ways.includes("envoy") && !installedEnvoy() && "Envoy is not installed");
  describe(`outlier detection, ${name}`, { skip, timeout: SUITE_PATIENCE }, () => {
    const bed = new Bed(kernel);
    let envoy: EnvoyBeside | undefined;
    let client: Client;
    before(
      async () => {
        const servers = { near: bed.port, far: bed.port + 1_000 };
        const serverOf = (who: Who) => servers[who === "envoy" ? "far" : hostFor(who)];
        const stories = ways.flatMap((who) =>
          STORIES.map(
            ({ detection, refuses }, at): ClusterSpec => ({
              name: clusterOf(at, who),
              endpoints: [{ ip: bed.backendIp, port: refuses ? 1 : serverOf(who) }],
              fields: { outlier_detection: detection, common_lb_config: { healthy_panic_threshold: {} } },
            }),
          ),
        );
        const others = ways.flatMap((who): ClusterSpec[] => {
          const [good, bad] = [bed.backendIp, bed.backendIp.replace("127.0.98", "127.0.96")].map((ip) => ({
            ip,
            port: serverOf(who),
          }));
          /* Envoy waits with further news of health for a second, unless told otherwise. */
          const fields = { common_lb_config: { healthy_panic_threshold: {}, update_merge_window: "0s" } };
          return [
            {
              name: `returns-${who}`,
              endpoints: [good!],
              fields: { ...fields, outlier_detection: RETURNS },
            },
            {
              name: `two-${who}`,
              endpoints: [good!, { ...bad!, port: 1 }],
              fields: {
                ...fields,
                outlier_detection: { consecutive_5xx: 2, interval: "60s", max_ejection_percent: 50 },
              },
            },
            ...Object.entries(SUCCESSIONS).map(([kind, more]) => ({
              name: `${kind}-${who}`,
              endpoints: [],
              fields: {
                ...fields,
                ...more,
                outlier_detection: RETURNS,
                load_assignment: {
                  cluster_name: kind,
                  endpoints: Object.values(servers).map((port, at) => ({
                    priority: kind === "priorities" ? at : 0,
                    lb_endpoints: [
                      {
                        endpoint: { address: { socket_address: { address: bed.backendIp, port_value: port } } },
                        metadata: { filter_metadata: { "envoy.lb": { group: "all" } } },
                      },
                    ],
                  })),
                },
              },
            })),
            {
              name: `rate-${who}`,
              endpoints: [good!],
              fields: {
                ...fields,
                outlier_detection: {
                  interval: "2s",
                  consecutive_5xx: 0,
                  max_ejection_percent: 100,
                  enforcing_failure_percentage: 100,
                  failure_percentage_threshold: 60,
                  failure_percentage_minimum_hosts: 1,
                  failure_percentage_request_volume: 6,
                },
              },
            },
          ];
        });
        const clusters = [...stories, ...others];
        await bed.open({
          hosts: clusters.map(({ name }) => ({
            name,
            domains: [name],
            routes: [
              {
                match: { prefix: "/" },
                route: { cluster: name, timeout: "0.4s", hash_policy: [{ header: { header_name: "host" } }] },
              },
            ],
          })),
          clusters,
        });
        const plain = (status: number, body = "no") =>
          ["send", `HTTP/1.1 ${status} X\r\nContent-Length: ${body.length}\r\n\r\n${body}`] as const;
        for (const status of [404, 500, 502, 503, 504]) await bed.script(`/${status}`, [plain(status)]);
        await bed.script("/204", [["send", "HTTP/1.1 204 X\r\n\r\n"]]);
        await bed.script("/dies", [["close"]]);
        await bed.script("/late", [["pause", 900]]);
        await bed.script("/garbage", [["send", "garbage\r\n\r\n"], ["close"]]);
        await bed.script("/half", [
          ["send", "HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nhalf"],
          ["pause", 30],
          ["close"],
        ]);
        await bed.script("/bad-chunk", [
          ["send", "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"],
          ["pause", 30],
          ["send", "no chunk\r\n"],
        ]);
        for (const [path, status] of [
          ["/endless", 200],
          ["/endless-500", 500],
        ] as const) {
          await bed.script(path, [
            ["send", `HTTP/1.1 ${status} X\r\nContent-Length: 9\r\n\r\nhalf`],
            ["pause", 300],
          ]);
        }
        for (const [path, status] of [
          ["/large", 200],
          ["/large-500", 500],
        ] as const) {
          const headOf = `HTTP/1.1 ${status} X\r\nContent-Length: 5000000\r\n\r\n`;
          await bed.script(path, [
            ["send", headOf],
            ["fill", 5_000_000],
          ]);
        }
        client = bed.client;
        if (!ways.includes("envoy")) return;
        envoy = await EnvoyBeside.start(bed.config, bed.daemon.directory);
        client = new Client(undefined, envoy.at);
      },
      { timeout: PATIENCE },
    );
    after(
      async () => {
        if (client !== undefined && client !== bed.client) await stop(client.child, "SIGKILL");
        if (envoy) await envoy.stop();
        await bed.close();
      },
      { timeout: PATIENCE },
    );

    const steps = (who: Who, host: string, path: string): readonly Step[] =>
      send(who === "envoy" ? "same_host" : who, `POST ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 0\r\n\r\n`);

    /** Each on a connection of its own: some of them end it. */
    async function ask(who: Who, host: string, path: string): Promise<Told> {
      if (path.startsWith("/endless")) {
        await client.play([...steps(who, host, path), ["read", 20, 1_000], ["reset"]]);
        await later(50);
        return "left";
      }
      const { responses, end } = await client.play([...steps(who, host, path), ["response"]]);
      /* Whoever ejects does so a moment after it is over, in Envoy too. */
      if (who !== "envoy")
        await eventually(
          async () => (await endpointOf(host))?.active ?? 0,
          (active) => active === 0,
        );
      await later(25);
      const [first] = responses;
      if (first === undefined) return Number.NaN;
      if (first.broken !== undefined || (end !== "open" && first.status === 200)) return "cut";
      return first.text === "no healthy upstream" ? "UH" : first.status;
    }

    const endpointOf = async (host: string) =>
      (await bed.stats()).clusters.find(({ name }) => name === host)?.endpoints[0];

    /** So many answers of a host's server were counted. */
    const answersOf = async (host: string) => {
      const found = await endpointOf(host);
      return found && Object.values(found.responses).reduce((sum, n) => sum + n, 0);
    };

    /** What is asked last, until it is told what it is to be told: that may take another moment. */
    const toldLast = (who: Who, host: string, path: string, said: Told) =>
      eventually(
        () => ask(who, host, path),
        (now) => now === said,
        5_000,
      );

    const told = async (who: Who, host: string, paths: readonly string[]) => {
      const all: Told[] = [];
      for (const path of paths) all.push(await ask(who, host, path));
      return all;
    };

    for (const who of ways) {
      const warm = async (host: string) => {
        if (who !== "same_host" && who !== "cross_host") return;
        const isWarm = async () => {
          const before = await bed.paths();
          await ask(who, host, "/x");
          return (await bed.paths())[who] - before[who];
        };
        assert.equal(await eventually(isWarm, (n) => n === 1), 1);
      };

      for (const [at, { name, asked, refuses }] of STORIES.entries()) {
        test(`${who}: ${name}`, { timeout: PATIENCE }, async () => {
          const host = clusterOf(at, who);
          if (!refuses) await warm(host);
          const [lastPath, lastTold] = asked.at(-1)!;
          const first = asked.slice(0, -1);
          const before = await bed.paths();
          const answers = await answersOf(host);
          assert.deepEqual(
            await told(
              who,
              host,
              first.map(([path]) => path),
            ),
            first.map(([, told]) => told),
          );
          const counted = who === "envoy" ? 0 : ((await answersOf(host)) ?? 0) - (answers ?? 0);
          assert.equal(await toldLast(who, host, lastPath, lastTold), lastTold);
          if (who === "envoy") return;
          const own = refuses ? [] : first.filter(([path, told]) => told !== "UH" && !FAILS.has(path));
          assert.equal(counted, own.length, "each answer of the server is counted, once");
          if (refuses || (who !== "same_host" && who !== "cross_host")) return;
          /* Whose server has just gone may find no i-sock; the slow path answers where there is no endpoint. */
          const taken = (await bed.paths())[who] - before[who];
          assert.ok(taken >= asked.length / 2, `${taken} of ${asked.length} by the kernel`);
        });
      }

      test(`${who}: an endpoint returns, and is away for longer the next time`, { timeout: PATIENCE }, async () => {
        const host = `returns-${who}`;
        await warm(host);
        const away = async () => {
          assert.deepEqual(await told(who, host, ["/500", "/500"]), [500, 500]);
          assert.equal(await toldLast(who, host, "/x", "UH"), "UH");
          const began = performance.now();
          assert.equal(
            await eventually(
              () => ask(who, host, "/x"),
              (said) => said === 200,
            ),
            200,
          );
          return performance.now() - began;
        };
        const first = await away();
        const second = await away();
        assert.ok(first > 400 && second > 900, `${first}, ${second}`);
        /* A good interval takes one time back. */
        await later(1_000);
        const third = await away();
        assert.ok(third < second, `${second}, ${third}`);
      });

      test(`${who}: the other endpoint gets all of it`, { timeout: PATIENCE }, async () => {
        const host = `two-${who}`;
        const first = await told(
          who,
          host,
          Array.from({ length: 30 }, () => "/x"),
        );
        assert.deepEqual(
          first.filter((said) => said !== 200),
          [503, 503],
        );
        assert.deepEqual(
          first.slice(-6),
          Array.from({ length: 6 }, () => 200),
        );
      });

      for (const kind of Object.keys(SUCCESSIONS)) {
        test(`${who}: ${kind}: another one takes its place, until it is back`, { timeout: PATIENCE }, async () => {
          const host = `${kind}-${who}`;
          const served = async () => {
            const { responses } = await client.play([...steps(who, host, "/x"), ["response"]]);
            return responses[0]?.text.split(" ")[0];
          };
          const first = await served();
          const other = first === "near" ? "far" : "near";
          assert.deepEqual(await told(who, host, ["/500", "/500"]), [500, 500]);
          const before = await bed.paths();
          assert.equal(await served(), other);
          assert.equal(await eventually(served, (name) => name === first), first);
          if (who !== "same_host" && who !== "cross_host") return;
          const now = await bed.paths();
          assert.ok(now.same_host + now.cross_host > before.same_host + before.cross_host, "the kernel follows");
        });
      }

      test(`${who}: by the share of what fails`, { timeout: PATIENCE }, async () => {
        const host = `rate-${who}`;
        await warm(host);
        const some = ["/500", "/x", "/500", "/500", "/x", "/500", "/500", "/500", "/500"];
        /* An interval may end in the middle of them. */
        const found = await eventually(
          async () => (await told(who, host, some)).includes("UH") || (await ask(who, host, "/x")) === "UH",
          (isEjected) => isEjected,
        );
        assert.ok(found);
      });
    }
  });
}

suite(
  "kernel path",
  true,
  WAYS.filter((way) => way !== "userspace"),
);
suite("user space", false, ["userspace"]);
suite("Envoy", false, ["envoy"]);
