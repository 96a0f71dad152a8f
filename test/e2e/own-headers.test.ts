import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Bed, withoutKernel } from "./harness.ts";

/** A listener whose options ask for headers that Envoy sets itself, and one with what Istio sends to each sidecar. */

const ASKS = { use_remote_address: true, via: "1.1 edge", always_set_request_id_in_response: true };
const ISTIO = {
  use_remote_address: false,
  request_id_extension: {
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
      use_request_id_for_trace_sampling: true,
    },
  },
};
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const OWN = ["via", "server", "date", "x-request-id", "x-envoy-upstream-service-time"];

const request = (target: string) =>
  `GET ${target} HTTP/1.1\r\nHost: near\r\nX-Request-Id: mine\r\nX-Envoy-Internal: true\r\nX-Nonce: n\r\n\r\n`;

function suite(name: string, kernel: boolean): void {
  describe(`headers that Envoy sets itself, ${name}`, { skip: kernel && withoutKernel(), timeout: 60_000 }, () => {
    const [asks, istio] = [new Bed(kernel), new Bed(kernel)];
    before(() => Promise.all([asks.open({ manager: ASKS }), istio.open({ manager: ISTIO })]), { timeout: 30_000 });
    after(() => Promise.all([asks.close(), istio.close()]), { timeout: 30_000 });

    const ask = async (bed: Bed, target: string) => {
      const { responses } = await bed.client.play([["send", request(target)], ["response"]]);
      const { requests } = await bed.near.seen();
      const seen = requests.find((each) => each.target === target);
      return { sent: seen!.headers!, answered: responses[0]!.headers };
    };

    test("server and client are told all of them, and what only Envoy may say is not believed", async () => {
      const before = await asks.stats();
      const { sent, answered } = await ask(asks, "/own");
      assert.match(sent["x-request-id"]!, UUID);
      assert.equal(answered["x-request-id"], sent["x-request-id"]);
      assert.deepEqual([sent.via, answered.via, answered.server], ["1.1 edge", "1.1 edge", "envoy"]);
      assert.deepEqual([sent["x-forwarded-proto"], sent["x-envoy-expected-rq-timeout-ms"]], ["http", "15000"]);
      assert.ok(sent["x-forwarded-for"] && sent["x-envoy-external-address"]);
      assert.equal(sent["x-envoy-internal"], undefined);
      assert.match(answered["x-envoy-upstream-service-time"]!, /^\d+$/);
      assert.ok(!Number.isNaN(Date.parse(answered.date!)));
      const counted = (await asks.stats()).reasons.own_headers ?? 0;
      assert.equal(counted - (before.reasons.own_headers ?? 0), kernel ? 1 : 0);
    });

    test("what Istio sends asks for nothing: bytes go as they came, on the kernel path", async () => {
      await ask(istio, "/warm");
      const counts = await istio.counted(async () => {
        const { sent, answered } = await ask(istio, "/plain");
        assert.deepEqual([sent["x-request-id"], sent["x-envoy-internal"]], ["mine", "true"]);
        for (const own of ["via", "x-forwarded-for", "x-forwarded-proto"]) assert.equal(sent[own], undefined, own);
        for (const own of OWN) if (own !== "date" && own !== "server") assert.equal(answered[own], undefined, own);
      });
      assert.deepEqual(
        counts,
        kernel ? { same_host: 1, cross_host: 0, slow: 0 } : { same_host: 0, cross_host: 0, slow: 1 },
      );
    });
  });
}

suite("kernel path", true);
suite("slow path", false);
