import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import pc from "picocolors";
import { findProgram, Party, run } from "../../bench/party.ts";
import { inScope, type Scope } from "../../bench/scope.ts";
import type { Stats } from "../../src/admin/messages.ts";
import { formatHops, formatReasons, formatScores, formatVersions, Progress, type Score, title } from "./show.ts";
import * as town from "./town.ts";

/**
 * Bookinfo three times over: balanced by XLB, without a balancer, and behind a proxy. Each is asked in turn, several
 * times, by the same client; then XLB's own counters tell which way every request went.
 */

const HERE = import.meta.dirname;
const ROOT = join(HERE, "../..");
const XLB = join(ROOT, "bin/xlb");
const CONNECTIONS = 16;

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  /** For work on the demo itself, before there is an XLB. */
  readonly withoutXlb: boolean;
}

interface Contender {
  readonly name: "XLB" | "direct" | "HAProxy" | "nginx";
  readonly target: string;
  /** What stands before a command for it to be balanced. */
  readonly prefix: readonly string[];
}

interface Answer {
  readonly requests: number;
  readonly rps: number;
  readonly p50: number;
  readonly p99: number;
  readonly versions: Readonly<Record<string, number>>;
  readonly jasons: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
}

const progress = new Progress();

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "3" },
      seconds: { type: "string", default: "4" },
      "without-xlb": { type: "boolean", default: false },
    },
  });
  const options = { rounds: Number(values.rounds), seconds: Number(values.seconds), withoutXlb: values["without-xlb"] };
  if (!options.withoutXlb && !existsSync(join(ROOT, "dist/xlb.mjs")))
    throw new Error("bin/xlb is not built: run make first");
  await inScope((scope) => demo(scope, options));
}

async function demo(scope: Scope, options: Options): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "xlb-demo-"));
  scope.add(() => rmSync(directory, { recursive: true, force: true }));
  const socket = join(directory, "admin.sock");

  const contenders: Contender[] = [];
  if (!options.withoutXlb) contenders.push(await startXlb(scope, socket));
  contenders.push(await startDirect(scope));
  const proxy = await startProxy(scope, directory);
  if (proxy !== undefined) contenders.push(proxy);

  for (const contender of contenders) {
    progress.say(`warming up: ${contender.name}`);
    await ask(scope, contender, 1);
  }
  const answers = new Map<Contender, Answer[]>(contenders.map((contender) => [contender, []]));
  for (let round = 1; round <= options.rounds; round++) {
    for (const contender of contenders) {
      progress.say(
        `round ${round} of ${options.rounds}: ${CONNECTIONS} readers for ${options.seconds} s, ${contender.name}`,
      );
      answers.get(contender)!.push(await ask(scope, contender, options.seconds));
    }
  }
  progress.say("collecting the counters");
  const stats = options.withoutXlb ? undefined : await readStats(scope, socket);
  const served = await countServed(9080, options.withoutXlb);
  progress.clear();

  const out: string[] = [];
  const own = answers.get(contenders[0]!)!;
  if (stats !== undefined) {
    out.push(title("Where the requests went"), formatHops(stats, served));
    out.push(title("Which way they took"), formatReasons(stats));
    out.push(title("How the versions were chosen"), formatVersions(add(own, "versions"), add(own, "jasons")));
  }
  out.push(
    title(`How fast it was, with ${CONNECTIONS} readers (median of ${options.rounds} rounds, measured in turn)`),
  );
  out.push(formatScores(contenders.map((contender) => score(contender.name, answers.get(contender)!))));
  process.stdout.write(`${out.join("\n")}\n\n${pc.dim("  cleaning up …")}\n`);
  const faults = add([...answers.values()].flat(), "faults");
  for (const [fault, count] of Object.entries(faults)) process.stdout.write(`  ${pc.red(`${count} × ${fault}`)}\n`);
  if (Object.keys(faults).length > 0) process.exitCode = 1;
}

// ---- the three towns ----

async function startXlb(scope: Scope, socket: string): Promise<Contender> {
  progress.say("asking xlb doctor");
  const doctor = await run(scope, [XLB, "doctor"], { timeoutMs: 30_000 });
  const kernel = doctor.status === 0;
  if (!kernel) {
    const why = (doctor.stdout + doctor.stderr).trim().split("\n").at(-1);
    progress.clear();
    process.stdout.write(`${pc.yellow("eBPF is not available here")}, so everything takes the slow path: ${why}\n`);
  }
  const prefix = kernel ? [XLB, "exec", "--"] : [];
  const environment = { XLB_ADMIN_SOCKET: socket };
  await startInstances(scope, "XLB", town.virtually(9080), (each) => (each.outside ? [] : prefix), environment);
  progress.say("starting xlb run");
  const datapath = kernel ? "kernel" : "userspace";
  const command = [XLB, "run", "-c", join(HERE, "bookinfo.yaml"), "--datapath", datapath, "--admin-socket", socket];
  await new Party(scope, "xlb run", command).says("listeners are ready");
  return { name: "XLB", target: town.addressOf("productpage", 9080).join(":"), prefix };
}

async function startDirect(scope: Scope): Promise<Contender> {
  const wiring = town.directly(9081);
  await startInstances(scope, "direct", wiring, () => []);
  return { name: "direct", target: wiring.find("productpage"), prefix: [] };
}

async function startProxy(scope: Scope, directory: string): Promise<Contender | undefined> {
  const port = 9082;
  const haproxy = findProgram("haproxy");
  const nginx = findProgram("nginx");
  const name = haproxy !== undefined ? "HAProxy" : "nginx";
  const config = join(directory, "proxy.conf");
  const command =
    haproxy !== undefined
      ? [haproxy, "-db", "-q", "-f", config]
      : nginx !== undefined
        ? [nginx, "-p", directory, "-e", "stderr", "-c", config]
        : undefined;
  if (command === undefined) {
    progress.clear();
    process.stdout.write("neither HAProxy nor nginx is installed: no proxy to compare with\n");
    return undefined;
  }
  writeFileSync(config, haproxy !== undefined ? town.haproxyConfig(port) : town.nginxConfig(port, directory));
  await startInstances(scope, name, town.virtually(port), () => []);
  const address = town.addressOf("productpage", port);
  await new Party(scope, name, command).listens(...address);
  return { name, target: address.join(":"), prefix: [] };
}

async function startInstances(
  scope: Scope,
  what: string,
  wiring: town.Wiring,
  prefix: (each: town.Instance) => readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<void> {
  progress.say(`starting Bookinfo (${town.INSTANCES.length} instances): ${what}`);
  const started = town.INSTANCES.map((each) => {
    const command = [...prefix(each), process.execPath, join(HERE, "apps", `${each.service}.mjs`)];
    const all = { ...environment, ...town.environmentOf(each, wiring) };
    return { each, party: new Party(scope, each.name, command, { environment: all }) };
  });
  await Promise.all(started.map(({ each, party }) => party.listens(each.ip, wiring.port)));
}

// ---- the client and the counters ----

async function ask(scope: Scope, contender: Contender, seconds: number): Promise<Answer> {
  const command = [...contender.prefix, process.execPath, join(HERE, "apps/client.mjs")];
  const environment = { TARGET: contender.target, CONNECTIONS: String(CONNECTIONS), SECONDS: String(seconds) };
  const done = await run(scope, command, { environment, timeoutMs: (seconds + 15) * 1000 });
  if (done.status !== 0) throw new Error(`the client ended with ${done.status}: ${done.stderr || done.stdout}`);
  return JSON.parse(done.stdout) as Answer;
}

async function readStats(scope: Scope, socket: string): Promise<Stats> {
  const done = await run(scope, [XLB, "stats", "--json", "--admin-socket", socket]);
  if (done.status !== 0) throw new Error(`xlb stats ended with ${done.status}: ${done.stderr}`);
  return JSON.parse(done.stdout) as Stats;
}

/** What each instance says it served. Asked of it by its own address, which no listener has. */
async function countServed(port: number, nobody: boolean): Promise<Map<string, number>> {
  if (nobody) return new Map();
  const counts = town.INSTANCES.map(async (each) => {
    const { served } = JSON.parse(await fetchText(`http://${each.ip}:${port}/served`)) as { served: number };
    return [each.name, served] as const;
  });
  return new Map(await Promise.all(counts));
}

function fetchText(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    get(url, { agent: false }, async (response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      resolve(Buffer.concat(chunks).toString("utf8"));
    }).on("error", reject);
  });
}

// ---- sums ----

function add(answers: readonly Answer[], field: "versions" | "jasons" | "faults"): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const answer of answers) {
    for (const [key, count] of Object.entries(answer[field])) sum[key] = (sum[key] ?? 0) + count;
  }
  return sum;
}

function score(name: string, answers: readonly Answer[]): Score {
  const sorted = (of: (answer: Answer) => number) => answers.map(of).sort((a, b) => a - b);
  const median = (of: (answer: Answer) => number) => sorted(of)[answers.length >> 1]!;
  const rates = sorted((answer) => answer.rps);
  const failed = Object.values(add(answers, "faults")).reduce((sum, count) => sum + count, 0);
  return {
    name,
    rps: median((answer) => answer.rps),
    rpsMin: rates[0]!,
    rpsMax: rates.at(-1)!,
    p50: median((answer) => answer.p50),
    p99: median((answer) => answer.p99),
    failed,
  };
}

main().catch((error: Error) => {
  progress.clear();
  process.stderr.write(`demo: ${error.message}\n`);
  process.exitCode = 1;
});
