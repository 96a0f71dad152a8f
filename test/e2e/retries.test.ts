import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  Bed,
  hostFor,
  PATIENCE,
  type Step,
  SUITE_PATIENCE,
  type VirtualHostSpec,
  type Way,
  withoutKernel,
} from "./harness.ts";

/**
 * Retry policies where the kernel path serves: nothing changes while nothing fails, and when a server goes or is not
 * there, the slow path goes on under the policy, in the same cluster, and says how many tries there were.
 */

const WAYS: readonly Way[] = ["same_host", "cross_host"];

/** Asks of no answer how it is, so that the kernel path keeps the route. */
const BLIND = { retry_on: "connect-failure,refused-stream,reset-before-request", num_retries: 2 };
/** Not so this. */
const RESETS = { retry_on: "reset", num_retries: 2, retry_back_off: { base_interval: "0.001s" } };

const to = (cluster: string, more: object = {}) => ({ cluster, timeout: "15s", ...more });

/** `<way>.policies` has routes with one policy each; `<way>.counted` tells servers which try it is. */
function hostsOf(way: Way): VirtualHostSpec[] {
  const server = hostFor(way);
  const either = ["near", "far"].map((name) => ({ name, weight: 1 }));
  return [
    {
      name: `${way}.policies`,
      domains: [`${way}.policies`],
      routes: [
        { match: { prefix: "/blind" }, route: to(server, { retry_policy: BLIND }) },
        { match: { prefix: "/resets" }, route: to(server, { retry_policy: RESETS }) },
        { match: { prefix: "/half" }, route: to(`${server} or nobody`, { retry_policy: BLIND }) },
        { match: { prefix: "/down" }, route: to("down", { retry_policy: BLIND }) },
        {
          match: { prefix: "/either" },
          route: { timeout: "15s", retry_policy: BLIND, weighted_clusters: { clusters: either } },
        },
      ],
    },
    {
      name: `${way}.counted`,
      domains: [`${way}.counted`],
      include_request_attempt_count: true,
      routes: [{ match: { prefix: "/" }, route: to(server, { retry_policy: BLIND }) }],
    },
  ];
}

const REQUESTS = 20;

describe("retries, kernel path", { skip: withoutKernel(), timeout: SUITE_PATIENCE }, () => {
  const bed = new Bed(true);
  before(
    async () => {
      const nobody = { ip: bed.backendIp, port: 1 };
      await bed.open({
        hosts: WAYS.flatMap(hostsOf),
        clusters: [
          { name: "near or nobody", policy: "ROUND_ROBIN", endpoints: [{ ip: bed.backendIp, port: bed.port }, nobody] },
          {
            name: "far or nobody",
            policy: "ROUND_ROBIN",
            endpoints: [{ ip: bed.backendIp, port: bed.port + 1_000 }, nobody],
          },
        ],
      });
      for (const path of ["/blind", "/resets", "/either", "/counted"]) await bed.script(`${path}/reset`, [["reset"]]);
    },
    { timeout: PATIENCE },
  );
  after(() => bed.close(), { timeout: PATIENCE });

  const ask = async (host: string, path: string, method = "GET", times = 1) => {
    const length = method === "POST" ? "Content-Length: 0\r\n" : "";
    const text = `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\nX-Nonce: n\r\n${length}\r\n`;
    const steps = Array.from({ length: times }, (): Step[] => [
      ["send", text],
      ["response", method],
    ]).flat();
    const { responses } = await bed.client.play(steps);
    return responses.map(({ status }) => status);
  };

  /** What became of it, and by how many tries at either server: of those, the numbers that they bore. */
  const tried = async (host: string, path: string, method?: string) => {
    await Promise.all([bed.near.seen(true), bed.far.seen(true)]);
    const [status] = await ask(host, path, method);
    const seen = await Promise.all([bed.near.seen(), bed.far.seen()]);
    const [near = [], far = []] = seen.map(({ requests }) => requests.filter(({ target }) => target === path));
    const numbers = [...near, ...far].map(({ headers }) => headers?.["x-envoy-attempt-count"]);
    return { status, near: near.length, far: far.length, numbers };
  };

  for (const way of WAYS) {
    const [policies, counted] = [`${way}.policies`, `${way}.counted`];
    const at = (near: number, far: number) => (hostFor(way) === "near" ? { near, far } : { near: far, far: near });

    test(`${way}: a policy that nothing calls for costs no request the kernel path`, {
      timeout: PATIENCE,
    }, async () => {
      await ask(policies, "/blind", "GET", REQUESTS);
      const counts = await bed.counted(async () => {
        assert.deepEqual(new Set(await ask(policies, "/blind", "GET", REQUESTS)), new Set([200]));
      }, REQUESTS);
      assert.equal(way === "same_host" ? counts.same_host : counts.cross_host, REQUESTS, JSON.stringify(counts));
    });

    test(`${way}: servers are told that it is the first try`, { timeout: PATIENCE }, async () => {
      await ask(counted, "/first", "GET", REQUESTS);
      const counts = await bed.counted(async () => {
        assert.deepEqual(await tried(counted, "/first"), { status: 200, ...at(1, 0), numbers: ["1"] });
      });
      assert.equal(way === "same_host" ? counts.same_host : counts.cross_host, 1, JSON.stringify(counts));
    });

    test(`${way}: a server that resets ends a request that no policy saves`, { timeout: PATIENCE }, async () => {
      const { status, ...rest } = await tried(policies, "/blind/reset", "POST");
      assert.deepEqual({ status, ...rest }, { status: 503, ...at(1, 0), numbers: [undefined] });
    });

    test(`${way}: a safe one is repeated once, by its number`, { timeout: PATIENCE }, async () => {
      const found = await tried(counted, "/counted/reset");
      assert.deepEqual(found, { status: 503, ...at(2, 0), numbers: ["1", "2"] });
    });

    test(`${way}: reset in a policy is tried as often as it says`, { timeout: PATIENCE }, async () => {
      const { status, near, far } = await tried(policies, "/resets/reset", "POST");
      assert.deepEqual({ status, near, far }, { status: 503, ...at(3, 0) });
    });

    test(`${way}: the other try goes to the cluster of the first`, { timeout: PATIENCE }, async () => {
      const seen = new Set<string>();
      for (let i = 0; i < REQUESTS; i++) {
        const { status, near, far } = await tried(policies, "/either/reset");
        assert.equal(status, 503);
        assert.ok((near === 2 && far === 0) || (near === 0 && far === 2), `${near} at near, ${far} at far`);
        seen.add(near === 2 ? "near" : "far");
      }
      assert.equal(seen.size, 2);
    });

    test(`${way}: where nobody listens, another endpoint is asked`, { timeout: PATIENCE }, async () => {
      const counts = await bed.counted(async () => {
        assert.deepEqual(await ask(policies, "/half", "POST", REQUESTS), Array(REQUESTS).fill(200));
      }, REQUESTS);
      assert.ok(counts.slow >= 1, JSON.stringify(counts));
      assert.ok(counts.same_host + counts.cross_host >= 1, JSON.stringify(counts));
    });

    test(`${way}: where nobody listens at all, it is a 503`, { timeout: PATIENCE }, async () => {
      assert.deepEqual(await ask(policies, "/down", "POST"), [503]);
    });
  }
});
