import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { askStats } from "../src/admin/client.ts";
import { compile } from "../src/compile/compile.ts";
import { parseBootstrap } from "../src/envoy/parse.ts";
import { DONE, MARK } from "./load.ts";
import { MIXES, type Mix, virtualHosts } from "./mixes.ts";
import { type Cgroup, type Party, run } from "./party.ts";
import { countPrograms } from "./profile.ts";
import { Scope } from "./scope.ts";
import { bootstrap } from "./systems/bootstrap.ts";
import { runXlb } from "./systems/xlb.ts";

/**
 * What a match costs in the kernel, over the number of rules. Each cell is a daemon of its own with `routes` rules, and
 * requests that are spread over all of them; whatever the number, they have equally many bytes. What is told is the
 * run time of `xlb_request`, the hook that matches, by the kernel's own statistics of BPF programs.
 */

export interface MatchResult {
  readonly experiment: "match";
  readonly mix: Mix;
  readonly routes: number;
  /** Of `xlb_request`, for each request; the least of the rounds. There are 16 different requests, or 10,000. */
  readonly kernel_ns: number;
  readonly kernel_ns_spread: number;
  /** Of all programs of the daemon, the responses' too. */
  readonly all_hooks_ns: number;
  /** Parts of a hundred that the kernel path took. */
  readonly kernel_percent: number;
  readonly compile_ms: number;
  /** Words of the compiled rules, in bytes. */
  readonly table_bytes: number;
}

export interface MatchPlace {
  readonly directory: string;
  readonly ip: string;
  readonly backend: { readonly ip: string; readonly port: number };
  readonly daemon: Cgroup;
  readonly enrolled: readonly Cgroup[];
  readonly client: Cgroup;
}

/** So few different requests, and the rules that they are for, stay in the CPU's caches. */
const WARM = 16;
/** So many do not: they push each other out of them, and what the kernel needs for them too. */
const SPREAD = 10_000;

/**
 * Each request is one that a rule of every mix takes, and no other rule of it. There are `asked` different ones,
 * however many rules there are, and all have equally many bytes: what differs from one number of rules to another is
 * the rules. They are spread evenly over the rules; no rule asks for what tells apart those that are for one rule.
 */
function script(routes: number, asked: number): string {
  return `
local n, routes, at = ${asked}, ${routes}, 7
local asked = {}
init = function()
  for i = 0, n - 1 do
    local id = string.format("svc-%05d", math.floor(i * routes / n))
    local number = string.format("%05d", i)
    local headers = { ["Host"] = id .. ".example", ["x-route"] = id, ["x-number"] = number }
    asked[i] = wrk.format("GET", "/match/" .. id .. "/v1/item?route=" .. id, headers)
  end
end
request = function()
  at = (at * 1103 + 12345) % 1000003
  return asked[at % n]
end
${DONE}`;
}

function configuration(mix: Mix, routes: number, place: MatchPlace): object {
  const forward = { name: "match", listen: { ip: place.ip, port: PORT }, backend: place.backend };
  return bootstrap([forward], () => ({
    route_config: { name: "match", virtual_hosts: virtualHosts(mix, routes, "match") },
  }));
}

interface Measured {
  readonly kernelNs: number;
  readonly allNs: number;
  readonly percent: number;
}

const PORT = 8001;
const CONNECTIONS = 4;

/** One cell of the table. The daemon is started for it, and ended. */
export async function measureMatch(
  mix: Mix,
  routes: number,
  rounds: number,
  seconds: number,
  place: MatchPlace,
): Promise<MatchResult> {
  const scope = new Scope();
  try {
    countPrograms(scope);
    const config = configuration(mix, routes, place);
    const socket = join(place.directory, "match.sock");
    const daemon = await runXlb(scope, place.directory, {
      ...{ name: "match", config, socket, datapath: "kernel", cgroup: place.daemon, enrolled: place.enrolled },
    });
    const load = join(place.directory, "match.lua");
    const command = ["wrk", "-t1", `-c${CONNECTIONS}`, "--timeout", "5s", "-s", load, `http://${place.ip}:${PORT}/`];
    const ask = async (asked: number, duration: number) => {
      writeFileSync(load, script(routes, asked));
      const done = await run(scope, [...command, `-d${duration}s`], { cgroup: place.client, timeoutMs: 60_000 });
      const line = done.stdout.split("\n").find((text) => text.startsWith(MARK));
      if (line === undefined) throw new Error(`wrk ended with ${done.status}: ${done.stderr || done.stdout}`);
      const { requests, errors } = JSON.parse(line.slice(MARK.length)) as { requests: number; errors: number };
      if (errors > 0) throw new Error(`${mix}, ${routes} routes: ${errors} of ${requests} answers were errors`);
    };
    const sample = async (asked: number): Promise<Measured> => {
      const [before, servedBefore] = [times(daemon), await served(socket)];
      await ask(asked, seconds);
      const [after, servedAfter] = [times(daemon), await served(socket)];
      const kernel = servedAfter.kernel - servedBefore.kernel;
      const all = Math.max(kernel + servedAfter.slow - servedBefore.slow, 1);
      const spent = (name?: string) => (sum(after, name) - sum(before, name)) / all;
      return { kernelNs: spent("xlb_request"), allNs: spent(), percent: (100 * kernel) / all };
    };
    /* Pools grow, connections are made. */
    await ask(WARM, 1);
    const [warm, spread]: [Measured[], Measured[]] = [[], []];
    for (let round = 0; round < rounds; round++) {
      warm.push(await sample(WARM));
      spread.push(await sample(SPREAD));
    }
    const least = (samples: readonly Measured[]) => samples.reduce((a, b) => (b.kernelNs < a.kernelNs ? b : a));
    const best = least(warm);
    return {
      ...{ experiment: "match", mix, routes },
      kernel_ns: Math.round(best.kernelNs),
      kernel_ns_spread: Math.round(least(spread).kernelNs),
      all_hooks_ns: Math.round(best.allNs),
      kernel_percent: Math.round(best.percent * 10) / 10,
      ...compileTimed(config),
    };
  } finally {
    await scope.close();
  }
}

/** Of the bench's own process: what a daemon would need once it has warmed up. */
function compileTimed(config: object): Pick<MatchResult, "compile_ms" | "table_bytes"> {
  const parsed = parseBootstrap(JSON.stringify(config), "match.json");
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.rejections.slice(0, 3)));
  const begun = performance.now();
  const tables = compile(parsed.value.config, () => ({ lists: [] }));
  const compile_ms = Math.round(performance.now() - begun);
  const blobs = tables.listeners.flatMap(({ way }) =>
    way.kind === "requests" ? [way.hosts.blob((at) => at + 1), ...way.virtualHosts] : [],
  );
  return { compile_ms, table_bytes: blobs.reduce((bytes, blob) => bytes + (blob?.byteLength ?? 0), 0) };
}

async function served(socket: string): Promise<{ kernel: number; slow: number }> {
  const stats = await askStats(socket);
  if (!stats.ok) throw new Error(stats.message);
  const rows = stats.value.listeners;
  const total = (of: (row: (typeof rows)[number]) => number) => rows.reduce((all, row) => all + of(row), 0);
  return { kernel: total((row) => row.same_host + row.cross_host), slow: total((row) => row.slow) };
}

interface Time {
  readonly name: string;
  readonly ns: number;
}

const sum = (all: readonly Time[], only?: string) =>
  all.reduce((ns, time) => ns + (only === undefined || time.name === only ? time.ns : 0), 0);

/** Of the programs that the daemon holds, and no other's: what its open files tell. */
function times(daemon: Party): Time[] {
  const told = spawnSync("bpftool", ["-j", "prog", "show"], { encoding: "utf8" });
  if (told.status !== 0) throw new Error("bpftool does not tell the programs (apt-get install bpftool)");
  const programs = JSON.parse(told.stdout) as { id: number; name?: string }[];
  const names = new Map(programs.map(({ id, name }) => [id, name ?? ""]));
  const files = `/proc/${daemon.pid}/fdinfo`;
  const seen = new Map<number, Time>();
  for (const file of readdirSync(files)) {
    let info = "";
    try {
      info = readFileSync(join(files, file), "utf8");
    } catch {
      continue; // it has just been closed
    }
    const id = Number(/^prog_id:\s*(\d+)$/m.exec(info)?.[1]);
    const ns = /^run_time_ns:\s*(\d+)$/m.exec(info)?.[1];
    if (ns !== undefined) seen.set(id, { name: names.get(id) ?? "", ns: Number(ns) });
  }
  return [...seen.values()];
}

/** A row for each mix: nanoseconds over the number of routes, and how many times the time of one the most take. */
export function formatMatches(results: readonly MatchResult[]): string {
  const rows = MIXES.flatMap((mix) => {
    const cells = results.filter((result) => result.mix === mix);
    if (cells.length === 0) return [];
    const ns = cells.map(({ routes, kernel_ns, kernel_ns_spread, kernel_percent }) => {
      const rest = kernel_percent < 99 ? ` (${kernel_percent} % in the kernel)` : "";
      return `${routes}: ${kernel_ns}/${kernel_ns_spread}${rest}`;
    });
    const [first, last] = [cells[0]!, cells.at(-1)!];
    const times = (of: "kernel_ns" | "kernel_ns_spread") => (last[of] / first[of]).toFixed(2);
    const ratios = `× ${times("kernel_ns")}/${times("kernel_ns_spread")}`;
    const size = `${last.compile_ms} ms to compile, ${(last.table_bytes / 2 ** 20).toFixed(1)} MiB`;
    return [`${mix.padEnd(12)} ${ns.join("   ")}   ${ratios}   ${size}`];
  });
  return [
    "match: ns of xlb_request for each request, over the number of routes; of 16 requests / of 10,000",
    ...rows,
  ].join("\n");
}
