import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Dice } from "../dice.ts";
import {
  bootstrap,
  Client,
  Daemon,
  makeCgroup,
  PATIENCE,
  removeCgroup,
  start,
  stop,
  withoutKernel,
} from "./harness.ts";

/**
 * A server's TCP sends again what it has sent, and more with it, as a sender does whose acknowledgements come late. The
 * server's TCP is a program of ours (repeater.py), so that it does so in every answer; it, the daemon and the client
 * live in a network namespace of their own, which ends with them.
 */

const REPEATER = fileURLToPath(new URL("repeater.py", import.meta.url));
const [VIRTUAL, SERVER] = [
  { ip: "127.0.97.250", port: 9_001 },
  { ip: "10.99.0.2", port: 80 },
];
const HEAD = 100;

const skip = withoutKernel() || (existsSync("/dev/net/tun") ? false : "there is no /dev/net/tun");

/** Where segments of an answer of so many bytes begin and end: each new one begins somewhere in what came before. */
function parts(dice: Dice, length: number): string {
  const out: string[] = [];
  for (let sent = 0; sent < length; ) {
    const begin = dice.chance(0.3) ? sent : Math.max(0, sent - dice.upTo(sent));
    sent = Math.min(length, sent + 1 + dice.upTo(30_000));
    /* The longest segment that an IP packet holds. */
    out.push(`${Math.max(begin, sent - 60_000)}-${sent}`);
  }
  return out.join(",");
}

describe("segments that repeat what has come, across hosts", { skip, timeout: PATIENCE }, () => {
  const daemon = new Daemon();
  let repeater: ChildProcess;
  let cgroup: string;
  let client: Client;

  before(
    async () => {
      repeater = start(["unshare", "--net", "--", "python3", REPEATER, SERVER.ip, String(SERVER.port)]);
      let complaints = "";
      repeater.stderr!.on("data", (d) => {
        complaints += d;
      });
      await new Promise<void>((resolve, reject) => {
        createInterface({ input: repeater.stdout! }).once("line", () => resolve());
        repeater.once("exit", () => reject(new Error(complaints)));
      });
      const within = ["nsenter", `--net=/proc/${repeater.pid}/ns/net`, "--"];
      cgroup = makeCgroup("repeats");
      const route = { match: { prefix: "/" }, route: { cluster: "far", timeout: "15s" } };
      const listener = { name: "l", ...VIRTUAL, hosts: [{ name: "v", domains: ["*"], routes: [route] }] };
      const config = bootstrap([listener], [{ name: "far", endpoints: [SERVER] }]);
      await daemon.start(config, "kernel", [cgroup], [], within);
      client = new Client(cgroup, VIRTUAL, within);
    },
    { timeout: PATIENCE },
  );
  after(
    async () => {
      if (client) await stop(client.child, "SIGKILL");
      await daemon.stop();
      if (repeater) await stop(repeater, "SIGKILL");
      if (cgroup) removeCgroup(cgroup);
    },
    { timeout: PATIENCE },
  );

  const get = (path: string, more = "") => `GET /${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n`;

  for (const [way, more] of [
    ["cross_host", ""],
    ["slow", "Keep-Alive: timeout=5\r\n"],
  ] as const) {
    test(`${way}: each byte comes once`, { timeout: PATIENCE }, async () => {
      const dice = new Dice(way.length);
      const paths = ["0-60,30-90,80-200,150-500,100-700,700-999,600-1000"];
      for (let i = 0; i < 40; i++) paths.push(parts(dice, HEAD + dice.upTo(150_000)));
      const counted = async () => (await daemon.stats()).listeners[0]![way];
      const start = await counted();
      const { end, responses, rest } = await client.play(
        paths.flatMap((path) => [["send", get(path, more)] as const, ["response", "GET", 20_000] as const]),
      );
      for (const [i, path] of paths.entries()) {
        const length = Number(path.split("-").at(-1)) - HEAD;
        const { status, length: came, pattern, broken } = responses[i] ?? {};
        assert.deepEqual(
          { status, came, pattern, broken },
          { status: 200, came: length, pattern: true, broken: undefined },
          path,
        );
      }
      assert.deepEqual({ end, rest }, { end: "open", rest: "" });
      if (way === "cross_host") assert.ok((await counted()) - start >= paths.length - 1, "by the kernel path");
    });
  }
});
