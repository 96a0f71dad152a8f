import { spawnSync } from "node:child_process";
import { isLeftOver, nameOfRun } from "./party.ts";
import type { Scope } from "./scope.ts";

/** Another host, as far as TCP can tell: a network namespace at the far end of a veth pair. */
export interface Namespace {
  readonly name: string;
  /** The address in the namespace. */
  readonly address: string;
}

/**
 * Congestion control of both ends, whatever the machine's is: the kernel's own default. BBR paces by what its last ten
 * round trips brought; here a round trip takes 3 µs, so that one interruption of the receiver makes the sender wait
 * for up to 30 ms, with every system, and most with those whose receivers acknowledge at once.
 */
export const CONGESTION = "cubic";

const NEAR = "10.200.200.1";
const FAR = "10.200.200.2";

export function makeNamespace(scope: Scope): Namespace {
  removeLeftOvers();
  const name = nameOfRun();
  // Interface names have 15 bytes at most.
  const near = `xlbb${process.pid}n`;
  const far = `xlbb${process.pid}f`;
  ip("netns", "add", name);
  scope.add(() => ip("netns", "del", name)); // takes the pair with it
  ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name);
  // Processes that have not quite gone keep a namespace alive, and with it the pair.
  scope.add(() => ip("link", "del", near));
  ip("addr", "add", `${NEAR}/30`, "dev", near);
  ip("link", "set", near, "up");
  ip("-n", name, "addr", "add", `${FAR}/30`, "dev", far);
  ip("-n", name, "link", "set", far, "up");
  ip("-n", name, "link", "set", "lo", "up");
  const net = `${NEAR.replace(/\d+$/, "0")}/30`;
  ip("route", "change", net, "dev", near, "src", NEAR, "congctl", CONGESTION);
  ip("-n", name, "route", "change", net, "dev", far, "src", FAR, "congctl", CONGESTION);
  return { name, address: FAR };
}

function removeLeftOvers(): void {
  const listed = spawnSync("ip", ["netns", "list"], { encoding: "utf8" }).stdout ?? "";
  for (const line of listed.split("\n")) {
    const name = line.split(" ")[0]!;
    if (isLeftOver(name)) ip("netns", "del", name);
  }
}

function ip(...args: string[]): void {
  const done = spawnSync("ip", args, { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`ip ${args.join(" ")}: ${done.stderr?.trim() || done.error?.message}`);
}
