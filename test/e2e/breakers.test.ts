import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  Bed,
  eventually,
  hostFor,
  KERNEL_WAYS,
  later,
  type Outcome,
  PATIENCE,
  type Step,
  SUITE_PATIENCE,
  send,
  type VirtualHostSpec,
  type Way,
  withoutKernel,
} from "./harness.ts";

/**
 * max_requests of a cluster, whichever path its requests take: as many as that are served at a time, others are told,
 * and whatever ends a request makes room for another.
 */

const MOST = 3;

const HOSTS: readonly VirtualHostSpec[] = ["near", "far"].map((cluster) => ({
  name: `few-${cluster}`,
  domains: [`few-${cluster}`],
  routes: [{ match: { prefix: "/" }, route: { cluster: `few-${cluster}`, timeout: "1s" } }],
}));

function suite(name: string, kernel: boolean, ways: readonly Way[]): void {
  describe(`max_requests, ${name}`, { skip: kernel && withoutKernel(), timeout: SUITE_PATIENCE }, () => {
    const bed = new Bed(kernel);
    before(
      async () => {
        const ip = bed.backendIp;
        const at = { near: bed.port, far: bed.port + 1_000 };
        await bed.open({
          hosts: HOSTS,
          clusters: (["near", "far"] as const).map((cluster) => ({
            name: `few-${cluster}`,
            endpoints: [{ ip, port: at[cluster] }],
            fields: { circuit_breakers: { thresholds: [{ max_requests: MOST }] } },
          })),
        });
        await bed.script("/slow", [
          ["pause", 400],
          ["reply", "late"],
        ]);
        await bed.script("/never", [["pause", 3_000]]);
        await bed.script("/dies", [["pause", 100], ["reset"]]);
        await bed.script("/cut", [
          ["send", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"],
          ["pause", 100],
          ["close"],
        ]);
        await bed.script("/large", [
          ["send", "HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n"],
          ["fill", 5_000_000],
        ]);
      },
      { timeout: PATIENCE },
    );
    after(() => bed.close(), { timeout: PATIENCE });

    const get = (way: Way, path: string, method = "GET") =>
      send(way, `${method} ${path} HTTP/1.1\r\nHost: few-${hostFor(way)}\r\n\r\n`);
    const together = (n: number, steps: readonly Step[]): Promise<Outcome[]> =>
      Promise.all(Array.from({ length: n }, () => bed.client.play(steps)));
    const statuses = (outcomes: readonly Outcome[]) => outcomes.map(({ responses: [first] }) => first?.status).sort();

    /** As many as may be there are, by the same path, and no more: so nothing is counted that has ended. */
    async function assertEmpty(way: Way, what: string): Promise<void> {
      const path = way === "same_host" || way === "cross_host" ? way : "slow";
      const wanted = [...Array.from({ length: MOST }, () => 200), 503, 503];
      const look = async () => {
        const before = await bed.paths();
        const found = statuses(await together(MOST + 2, [...get(way, "/slow"), ["response"]]));
        return [found, (await bed.paths())[path] - before[path] >= MOST] as const;
      };
      const isSo = (seen: Awaited<ReturnType<typeof look>>) => JSON.stringify(seen) === JSON.stringify([wanted, true]);
      assert.deepEqual(await eventually(look, isSo, 5_000), [wanted, true], what);
    }

    for (const way of ways) {
      test(`${way}: as many as that at a time, and others are told`, { timeout: PATIENCE }, async () => {
        await bed.client.play([...get(way, "/warm"), ["response"]]);
        await later(300);
        await together(MOST, [...get(way, "/slow"), ["response"]]);
        const before = await bed.paths();
        const outcomes = await together(MOST + 2, [
          ...get(way, "/slow"),
          ["response"],
          ...get(way, "/more"),
          ["response"],
        ]);
        assert.deepEqual(statuses(outcomes), [...Array.from({ length: MOST }, () => 200), 503, 503]);
        for (const { responses, end } of outcomes) {
          assert.equal(end, "open");
          const [first] = responses;
          if (first!.status === 200) continue;
          const reason = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
          assert.deepEqual([first!.text, first!.headers["x-envoy-overloaded"]], [reason, "true"]);
        }
        if (way !== "same_host" && way !== "cross_host") return;
        const now = await bed.paths();
        assert.ok(now[way] - before[way] >= MOST, "the kernel path serves them");
      });

      test(`${way}: every end of a request makes room`, { timeout: PATIENCE }, async () => {
        await bed.client.play([...get(way, "/warm"), ["response"]]);
        const ends: Readonly<Record<string, readonly Step[]>> = {
          "a whole answer": [...get(way, "/x"), ["response"]],
          "a time-out": [...get(way, "/never"), ["response"]],
          "a client that breaks off": [...get(way, "/slow"), ["pause", 50], ["reset"]],
          "a client that closes": [...get(way, "/slow"), ["pause", 50], ["close"]],
          "a server that resets": [...get(way, "/dies", "POST"), ["response"]],
          "an answer that is cut": [...get(way, "/cut"), ["response"]],
          "a large answer": [...get(way, "/large"), ["response"]],
          "a large answer that nobody reads": [...get(way, "/large"), ["pause", 300], ["reset"]],
        };
        for (const [what, steps] of Object.entries(ends)) {
          await together(MOST, steps);
          await assertEmpty(way, what);
        }
      });
    }

    test("both paths count for each other", { timeout: PATIENCE, skip: !kernel }, async () => {
      for (const [first, second] of [
        ["declined", "same_host"],
        ["same_host", "declined"],
      ] as const) {
        await bed.client.play([...get(first, "/warm"), ["response"]]);
        const held = together(MOST, [...get(first, "/slow"), ["response"]]);
        await later(150);
        const over = await together(2, [...get(second, "/x"), ["response"]]);
        assert.deepEqual(statuses(over), [503, 503], `${first}, then ${second}`);
        assert.deepEqual(
          statuses(await held),
          Array.from({ length: MOST }, () => 200),
        );
        await later(50);
      }
    });
  });
}

suite("kernel path", true, KERNEL_WAYS);
suite("user space", false, ["userspace"]);
