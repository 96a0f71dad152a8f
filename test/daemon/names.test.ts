import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { Names, type NamesPorts } from "../../src/daemon/names.ts";
import type { Cluster, Config, DnsDiscovery } from "../../src/model/config.ts";
import { withAddresses } from "../../src/route/names.ts";
import type { Random } from "../../src/route/pick.ts";
import { DnsServer } from "../dns-server.ts";

const server = new DnsServer(`127.0.92.${(process.pid % 200) + 1}`);

function clusterOf(host: string, more: Partial<DnsDiscovery> = {}): Cluster {
  return {
    name: "c",
    policy: { kind: "roundRobin" },
    connectTimeoutMs: 1,
    maxConnections: 1,
    endpoints: [{ address: { ip: host, port: 80 }, weight: 3, health: "healthy" }],
    discovery: {
      kind: "dns",
      logical: false,
      refreshMs: 20,
      jitterMs: 0,
      failureMs: { base: 20, most: 40 },
      respectsTtl: false,
      family: "auto",
      resolvers: [{ ip: server.ip, port: server.port }],
      ...more,
    },
  };
}

/** Follows a cluster; `addresses` are those that it has now. */
async function follow(cluster: Cluster, by?: Random) {
  const said: string[] = [];
  let wake = () => {};
  const ports: NamesPorts = {
    changed: () => wake(),
    log: (level, fields, message) => said.push(`${level} ${message} ${JSON.stringify(fields)}`),
  };
  const names = new Names(ports, by);
  const config: Config = { listeners: [], clusters: [cluster] };
  const addresses = () => withAddresses(config, names.lookup).clusters[0]!.endpoints.map(({ address }) => address.ip);
  await names.start(config.clusters);
  const until = async (wanted: readonly string[]) => {
    while (JSON.stringify(addresses()) !== JSON.stringify(wanted))
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
  };
  return { names, addresses, until, said };
}

describe("names of clusters", { timeout: 60_000 }, () => {
  before(() => server.listen());
  after(() => server.close());
  beforeEach(() => server.names.clear());

  test("STRICT_DNS: every address is an endpoint, and follows what DNS says", async () => {
    server.names.set("a.test", { v4: ["10.0.0.2", "10.0.0.1"] });
    const { names, addresses, until } = await follow(clusterOf("a.test"));
    assert.deepEqual(addresses(), ["10.0.0.1", "10.0.0.2"]);
    server.names.set("a.test", { v4: ["10.0.0.3"] });
    await until(["10.0.0.3"]);
    server.names.delete("a.test");
    await until([]);
    names.stop();
  });

  test("LOGICAL_DNS: the first address, which stays when the name goes", async () => {
    server.names.set("a.test", { v4: ["10.0.0.2", "10.0.0.1"] });
    const { names, addresses, until } = await follow(clusterOf("a.test", { logical: true }));
    assert.deepEqual(addresses(), ["10.0.0.2"]);
    server.names.delete("a.test");
    const asked = server.asked.get("a.test")!;
    while (server.asked.get("a.test")! < asked + 5) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(addresses(), ["10.0.0.2"]);
    server.names.set("a.test", { v4: ["10.0.0.9"] });
    await until(["10.0.0.9"]);
    names.stop();
  });

  test("which family is asked for", async () => {
    server.names.set("a.test", { v4: ["10.0.0.1"], v6: ["2001:db8::1"] });
    server.names.set("old.test", { v4: ["10.0.0.1"] });
    const found = async (host: string, family: DnsDiscovery["family"]) => {
      const { names, addresses } = await follow(clusterOf(host, { family }));
      names.stop();
      return addresses();
    };
    assert.deepEqual(await found("a.test", "auto"), ["2001:db8::1"]);
    assert.deepEqual(await found("old.test", "auto"), ["10.0.0.1"]);
    assert.deepEqual(await found("a.test", "v4Preferred"), ["10.0.0.1"]);
    assert.deepEqual(await found("a.test", "v4"), ["10.0.0.1"]);
    assert.deepEqual(await found("old.test", "v6"), []);
    assert.deepEqual(await found("a.test", "all"), ["10.0.0.1", "2001:db8::1"]);
  });

  test("a failure keeps what was known, and is said", async () => {
    server.names.set("a.test", { v4: ["10.0.0.1"] });
    const { names, addresses, until, said } = await follow(clusterOf("a.test"));
    server.names.set("a.test", { fails: "SERVFAIL" });
    while (said.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.match(said.join("\n"), /warn DNS does not answer: .*"name":"a\.test","code":"ESERVFAIL"/);
    assert.deepEqual(addresses(), ["10.0.0.1"]);
    server.names.set("a.test", { v4: ["10.0.0.2"] });
    await until(["10.0.0.2"]);
    names.stop();
  });

  test("a name that there is not leaves the cluster empty, and is said", async () => {
    const { names, addresses, said } = await follow(clusterOf("none.test"));
    assert.deepEqual(addresses(), []);
    assert.match(said[0]!, /^warn a name has no address \{"cluster":"c","name":"none\.test"\}/);
    names.stop();
  });

  test("respect_dns_ttl: the next question comes when the answer has run out, not before", async () => {
    server.names.set("ttl.test", { v4: ["10.0.0.1"], ttl: 3_600 });
    server.names.set("no-ttl.test", { v4: ["10.0.0.1"], ttl: 3_600 });
    const patient = await follow(clusterOf("ttl.test", { respectsTtl: true, family: "v4" }));
    const other = await follow(clusterOf("no-ttl.test", { family: "v4" }));
    while (server.asked.get("no-ttl.test")! < 5) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(server.asked.get("ttl.test"), 1);
    patient.names.stop();
    other.names.stop();
  });

  test("dns_jitter: the pause is longer by chance, below that bound", async () => {
    server.names.set("late.test", { v4: ["10.0.0.1"] });
    server.names.set("prompt.test", { v4: ["10.0.0.1"] });
    const bounds: number[] = [];
    const last = (below: number) => {
      bounds.push(below);
      return below - 1;
    };
    const late = await follow(clusterOf("late.test", { jitterMs: 3_600_000, family: "v4" }), last);
    const prompt = await follow(clusterOf("prompt.test", { jitterMs: 3_600_000, family: "v4" }), () => 0);
    while (server.asked.get("prompt.test")! < 5) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual([server.asked.get("late.test"), bounds], [1, [3_600_000]]);
    late.names.stop();
    prompt.names.stop();
  });

  test("names and addresses side by side, each endpoint once", () => {
    const cluster = clusterOf("a.test");
    const [endpoint] = cluster.endpoints;
    const at = (ip: string, weight: number) => ({ ...endpoint!, address: { ip, port: 80 }, weight });
    const all = { ...cluster, endpoints: [at("a.test", 2), at("10.0.0.1", 5), at("unknown.test", 7)] };
    const lookup = (_: Cluster, name: string) => (name === "a.test" ? ["10.0.0.1", "10.0.0.2"] : undefined);
    const [resolved] = withAddresses({ listeners: [], clusters: [all] }, lookup).clusters;
    assert.deepEqual(
      resolved!.endpoints.map(({ address, weight }) => [address.ip, weight]),
      [
        ["10.0.0.1", 2],
        ["10.0.0.2", 2],
      ],
    );
  });
});
