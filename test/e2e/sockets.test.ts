import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { describe, test } from "node:test";
import { get, PATHS, World, withoutKernel } from "./world.ts";

/** With what the daemon's own connections to servers are made, as `ss` tells it. */

/** A line for each connection of the daemon's to its backend. */
function connections({ daemon, backend, port }: World): string[] {
  const said = execFileSync("ss", ["-tnopH", "state", "established", "dst", `${backend}:${port}`], {
    encoding: "utf8",
  });
  return said.split("\n").filter((line) => line.includes(`pid=${daemon!.pid},`));
}

describe("connections to servers", { concurrency: false }, () => {
  for (const path of PATHS) {
    const skip = path === "slow path" ? false : withoutKernel();
    test(`${path}: tcp_keepalive runs on each`, { skip }, async () => {
      const keepalive = "{ keepalive_time: 500, keepalive_interval: 7, keepalive_probes: 3 }";
      const world = new World(path);
      try {
        await world.start({ cluster: `upstream_connection_options: { tcp_keepalive: ${keepalive} }` });
        const { text } = await world.play(["send", get("/nonce/1")], ["until", 10, 60_000]);
        assert.match(text, /^HTTP\/1.1 200/);
        const lines = connections(world);
        assert.ok(lines.length > 0, "no connection");
        /* The first probe comes after 500 s without a word, and some have passed. */
        for (const line of lines) assert.match(line, /timer:\(keepalive,(8min(1\d|20|[1-9])?|7min)/, line);
      } finally {
        await world.stop();
      }
    });

    test(`${path}: upstream_bind_config says where each comes from`, { skip }, async () => {
      const from = (ip: string) => `upstream_bind_config: { source_address: { address: ${ip}, port_value: 0 } }`;
      for (const options of [
        { cluster: from("127.0.0.77"), manager: `{ ${from("127.0.0.78")} }` },
        { manager: `{ ${from("127.0.0.77")} }` },
      ]) {
        const world = new World(path);
        try {
          await world.start(options);
          const { text } = await world.play(["send", get("/nonce/1")], ["until", 10, 60_000]);
          assert.match(text, /^HTTP\/1.1 200/);
          const lines = connections(world);
          assert.ok(lines.length > 0, "no connection");
          for (const line of lines) assert.match(line, / 127\.0\.0\.77:\d+ /);
        } finally {
          await world.stop();
        }
      }
    });
  }

  test("an address that is not this machine's: 503, as from Envoy", { skip: withoutKernel() }, async () => {
    const world = new World("cross host");
    try {
      const cluster = "upstream_bind_config: { source_address: { address: 192.0.2.7, port_value: 0 } }";
      await world.start({ cluster });
      const { text } = await world.play(["send", get("/nonce/1")], ["until", 10, 60_000]);
      assert.match(text, /^HTTP\/1.1 503[\s\S]*reset reason: local connection failure$/);
    } finally {
      await world.stop();
    }
  });
});
