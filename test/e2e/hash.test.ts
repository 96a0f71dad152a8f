import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ReferenceRouter } from "../../src/daemon/router.ts";
import { parseBootstrap } from "../../src/envoy/parse.ts";
import { httpChains } from "../../src/model/chains.ts";
import { Dice } from "../dice.ts";
import {
  Bed,
  type ClusterSpec,
  eventually,
  PATIENCE,
  type RouteSpec,
  type Step,
  send,
  type VirtualHostSpec,
  type Way,
  withoutKernel,
} from "./harness.ts";

/**
 * Requests that belong together go together: each to the endpoint that the reference picks by its hash, and on the
 * kernel path it is the hook that picks it, among servers on this host and on others.
 */

const SEED = 3;
const header = (header_name: string) => ({ header: { header_name } });
const POLICIES = {
  header: [header("x-key")],
  cookie: [{ cookie: { name: "sid" } }],
  query: [{ query_parameter: { name: "k" } }],
  address: [{ connection_properties: { source_ip: true } }],
  path: [header(":path")],
  method: [header(":method"), header(":authority")],
  first: [{ ...header("x-key"), terminal: true }, header(":path")],
  all: [header("x-key"), { cookie: { name: "sid" } }, { query_parameter: { name: "k" } }, header("x-key")],
} as const;

const GIVEN = "given.test";
const hosts = (): readonly VirtualHostSpec[] => {
  const host = (name: string, route: object): VirtualHostSpec => ({
    name,
    domains: [name],
    routes: [{ match: { prefix: "/" }, route: { timeout: "15s", ...route } } satisfies RouteSpec],
  });
  const weighted = (names: readonly string[]) => ({
    weighted_clusters: { clusters: names.map((name, i) => ({ name, weight: i + 1 })), use_hash_policy: true },
  });
  return [
    ...Object.entries(POLICIES).flatMap(([name, hash_policy]) => [
      host(`${name}.ring.test`, { hash_policy, cluster: "ring" }),
      host(`${name}.maglev.test`, { hash_policy, cluster: "maglev" }),
      host(`${name}.weight.test`, { hash_policy, ...weighted(["near", "far"]) }),
      host(`${name}.twice.test`, { hash_policy, ...weighted(["ring", "maglev"]) }),
    ]),
    host(GIVEN, { hash_policy: [{ cookie: { name: "given", ttl: "0s" } }], cluster: "ring" }),
  ];
};
const NAMES = Object.keys(POLICIES).flatMap((name) =>
  ["ring", "maglev", "weight", "twice"].map((cluster) => `${name}.${cluster}.test`),
);

interface Asked {
  readonly method: string;
  readonly authority: string;
  readonly path: string;
  readonly headers: readonly (readonly [string, string])[];
}

/** Of all lengths: xxHash64 takes 32, 8, 4 and 1 bytes at a time. */
const LENGTHS = [1, 3, 4, 7, 9, 15, 31, 32, 33, 64, 75, 200];

const askedOf = (dice: Dice, authority: string): Asked[] =>
  LENGTHS.map((length) => {
    const text = () => dice.text(length, "abc019-_.~");
    const cookie = dice.one([`sid=${text()}`, `a=b; sid=${text()}; sid=x`, `sida=1;sid="${text()}"`]);
    const query = dice.one([`k=${text()}`, `a&kk=1&k=${text()}&k=2`, `k&k=${text()}`]);
    return {
      method: dice.one(["GET", "DELETE", "OPTIONS"]),
      authority,
      path: `/${text()}?${query}`,
      headers: [
        ["X-Key", text()],
        ["Cookie", cookie],
      ],
    };
  });

const textOf = ({ method, authority, path, headers }: Asked) =>
  [`${method} ${path} HTTP/1.1`, `Host: ${authority}`, ...headers.map(([name, value]) => `${name}: ${value}`)].join(
    "\r\n",
  );

function referenceOf(bed: Bed): (asked: Asked) => "near" | "far" {
  const read = parseBootstrap(bed.config);
  assert.ok(read.ok, JSON.stringify(read));
  const { config } = read.value;
  const chain = httpChains(config.listeners[0]!)[0]!;
  const router = new ReferenceRouter(config, () => 0, 0);
  return (asked) => {
    const client = { ip: "127.0.0.1", port: 1 };
    const choice = router.choose(chain, asked, { client, protocol: "HTTP/1.1", startedMs: 0, hostname: "" });
    assert.ok(choice.kind === "endpoint", choice.kind);
    return choice.endpoint.address.port === bed.near.port ? "near" : "far";
  };
}

function suite(name: string, kernel: boolean): void {
  describe(`hashing, ${name}`, { skip: kernel && withoutKernel(), timeout: PATIENCE }, () => {
    const bed = new Bed(kernel);
    let reference: ReturnType<typeof referenceOf>;
    before(
      async () => {
        const endpoints = [0, 1_000].map((more) => ({ ip: bed.backendIp, port: bed.port + more }));
        const clusters: ClusterSpec[] = [
          {
            name: "ring",
            endpoints,
            fields: { lb_policy: "RING_HASH", ring_hash_lb_config: { minimum_ring_size: 64 } },
          },
          { name: "maglev", endpoints, fields: { lb_policy: "MAGLEV", maglev_lb_config: { table_size: 251 } } },
        ];
        await bed.open({ hosts: hosts(), clusters });
        reference = referenceOf(bed);
      },
      { timeout: PATIENCE },
    );
    after(() => bed.close(), { timeout: PATIENCE });

    const ask = async (asked: Asked, way: Way = "same_host") => {
      const steps: Step[] = [...send(way, `${textOf(asked)}\r\n\r\n`), ["response"]];
      const [response] = (await bed.client.play(steps)).responses;
      assert.equal(response?.status, 200, textOf(asked));
      return response;
    };
    const byOf = async (asked: Asked, way?: Way) => (await ask(asked, way)).text.split(" ")[0];

    test("each goes where the reference says, by the hook where there is one", { timeout: PATIENCE }, async () => {
      const dice = new Dice(SEED);
      /* By cluster: where the servers' addresses decide, the dozen keys of one host may all lead to one of two. */
      const reached = new Map<string, Set<string>>();
      for (const host of NAMES) {
        const all = askedOf(dice, host);
        const where = all.map(reference);
        const cluster = host.split(".")[1]!;
        reached.set(cluster, new Set([...(reached.get(cluster) ?? []), ...where]));
        const once = async () => {
          for (const [i, asked] of all.entries()) assert.equal(await byOf(asked), where[i], textOf(asked));
        };
        await once();
        const near = where.filter((by) => by === "near").length;
        const wanted = kernel
          ? { same_host: near, cross_host: all.length - near, slow: 0 }
          : { same_host: 0, cross_host: 0, slow: all.length };
        /* Pools grow by demand. */
        const counted = await eventually(
          () => bed.counted(once, all.length),
          (seen) => seen.slow === wanted.slow,
        );
        assert.deepEqual(counted, wanted, host);
      }
      const single = [...reached].filter(([, by]) => by.size < 2).map(([cluster]) => cluster);
      assert.deepEqual(single, [], "keys lead to both");
    });

    test("a head in pieces goes where a whole one does", { timeout: PATIENCE }, async () => {
      const dice = new Dice(SEED, 1);
      for (const host of NAMES) {
        const [asked] = askedOf(dice, host);
        assert.equal(await byOf(asked!, "declined"), reference(asked!), textOf(asked!));
      }
    });

    test("a client that gets a cookie stays where it was when it got it", { timeout: PATIENCE }, async () => {
      const bare: Asked = { method: "GET", authority: GIVEN, path: "/", headers: [] };
      for (let client = 0; client < 6; client++) {
        const first = await ask(bare);
        const [cookie = ""] = (first.headers["set-cookie"] ?? "").split(";");
        assert.match(cookie, /^given=/);
        const asked: Asked = { ...bare, headers: [["Cookie", cookie]] };
        const again = async () => {
          const next = await ask(asked);
          assert.equal(next.text.split(" ")[0], first.text.split(" ")[0]);
          assert.equal(next.headers["set-cookie"], undefined);
        };
        const slow = kernel ? 0 : 1;
        const counted = await eventually(
          () => bed.counted(again),
          (seen) => seen.slow === slow,
        );
        assert.equal(counted.slow, slow);
      }
    });

    test("without anything to hash it is chance", { timeout: PATIENCE }, async () => {
      const asked = { method: "GET", authority: "header.ring.test", path: "/", headers: [] };
      const seen = new Set<string | undefined>();
      await eventually(
        async () => seen.add(await byOf(asked)).size,
        (size) => size === 2,
      );
      assert.equal(seen.size, 2);
    });
  });
}

suite("kernel path", true);
suite("user space", false);
