import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { addressOf, CASES, type Case, misfit, PORT } from "../balancing/cases.ts";
import { Backend, Bed, later, makeCgroup, type Step, withoutKernel } from "./harness.ts";

/**
 * Clusters whose shares are known, as the hook shares their requests and as the slow path does. Those of
 * test/balancing that need no local cluster; what chance may do is bounded so that it is missed once in a thousand
 * million times.
 */
const Z = 6;
const REQUESTS = 400;
const ROUNDS = 20;
const NAMES: readonly string[] = [
  "round robin by weight",
  "random takes no notice of weights",
  "least request by weight",
  "least request of all",
  "half of a priority is well",
  "panic in one of two priorities",
  "degraded in three priorities, as Envoy's own comment counts",
  "localities by weight in two priorities",
  "panic that fails in one of two priorities",
  "a subset",
  "no subset of that value, so the default one",
  "fewer keys, where there is no subset of all",
  "one endpoint of a subset, the first of the first priority, well or not",
  "a subset without a healthy endpoint, and without panic, is no reason to fall back",
  "panic to any endpoint for the part of the default subset's requests that fails",
  "localities by weight, by the part of their endpoints in the subset",
  "criteria of an entry above those of its route",
];
const chosen = NAMES.map((name) => CASES.find((some) => some.name === name)!);

function suite(name: string, kernel: boolean): void {
  describe(`balancing, ${name}`, { skip: kernel && withoutKernel(), timeout: 240_000 }, () => {
    const bed = new Bed(kernel);
    /* The crowd is at any address: no bed's servers may be there. */
    const port = 26_000 + (process.pid % 500) * 2 + Number(bed.tag);
    let crowd: Backend;
    before(
      async () => {
        const cgroup = kernel ? makeCgroup(`${bed.tag}-crowd`) : undefined;
        if (cgroup) bed.cgroups.push(cgroup);
        crowd = new Backend("0.0.0.0", port, "crowd", cgroup, "crowd");
        await crowd.start();
        await bed.open({
          hosts: chosen.map((some, i) => ({
            name: `v${i}`,
            domains: [`v${i}.test`],
            routes: [{ match: { prefix: "/" }, route: { ...leading(some, `c${i}`), timeout: "15s" } }],
          })),
          clusters: chosen.map(({ cluster }, i) => ({ name: `c${i}`, endpoints: [], fields: at(cluster, port) })),
        });
      },
      { timeout: 30_000 },
    );
    after(
      async () => {
        await bed.close();
        if (crowd) await crowd.kill();
      },
      { timeout: 30_000 },
    );

    const ask = async (host: string): Promise<Map<number | undefined, number>> => {
      const head = `GET / HTTP/1.1\r\nHost: ${host}\r\nX-Nonce: n\r\n\r\n`;
      const steps = Array.from({ length: REQUESTS }, (): Step[] => [["send", head], ["response"]]).flat();
      const { responses } = await bed.client.play(steps);
      assert.equal(responses.length, REQUESTS);
      const counts = new Map<number | undefined, number>();
      for (const { status, text } of responses) {
        assert.ok(status === 200 || status === 503, text);
        const [address = ""] = text.split(" ");
        const number = status === 200 ? Number(address.slice(addressOf(0).length - 1)) : undefined;
        counts.set(number, (counts.get(number) ?? 0) + 1);
      }
      return counts;
    };

    for (const [i, some] of chosen.entries()) {
      test(some.name, { timeout: 60_000 }, async (t) => {
        /* Where there is no endpoint, the slow path says so. */
        const fast = kernel && some.slow === undefined && Object.keys(some.shares).length > 0;
        for (let round = 1; ; round++) {
          let counts = new Map<number | undefined, number>();
          const counted = await bed.counted(async () => {
            counts = await ask(`v${i}.test`);
          });
          const told = `${JSON.stringify(counted)} ${JSON.stringify([...counts])}`;
          const off = misfit(counts, some, Z);
          assert.ok(off < 1, `${off}: ${told}`);
          if (!fast) return assert.equal(counted.slow, REQUESTS, told);
          /* Pools grow by demand: how many rounds that takes is the machine's matter, that it ends is ours. */
          if (counted.slow < 0.05 * REQUESTS) return t.diagnostic(told);
          assert.ok(round < ROUNDS, told);
          await later(300);
        }
      });
    }
  });
}

const at = (cluster: object, port: number): { [field: string]: unknown } =>
  JSON.parse(JSON.stringify(cluster).replaceAll(`"port_value":${PORT}`, `"port_value":${port}`));

const leading = ({ route = { cluster: "c" } }: Case, cluster: string): { [field: string]: unknown } =>
  JSON.parse(JSON.stringify(route).replaceAll('"c"', JSON.stringify(cluster)));

suite("kernel path", true);
suite("user space", false);
