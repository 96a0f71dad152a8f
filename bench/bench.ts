import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { EXPERIMENTS, type Experiment, Wrk } from "./load.ts";
import { formatMatches, type MatchPlace, type MatchResult, measureMatch } from "./match.ts";
import { MIXES, ROUTES } from "./mixes.ts";
import { makeNamespace } from "./namespace.ts";
import { type Cgroup, findProgram, machineMicros, makeCgroups, run, sleep } from "./party.ts";
import { countPrograms, profiled } from "./profile.ts";
import { describeMachine, formatTable, formatVerdicts, judge, type Sample, summarise } from "./report.ts";
import { inScope, type Scope } from "./scope.ts";
import { BODY, startBackend } from "./systems/backend.ts";
import { EDITS } from "./systems/bootstrap.ts";
import { direct } from "./systems/direct.ts";
import { findEnvoy, startEnvoy } from "./systems/envoy.ts";
import { startHaproxy } from "./systems/haproxy.ts";
import { startNginx } from "./systems/nginx.ts";
import {
  Absent,
  type Backends,
  SYSTEMS,
  type System,
  type SystemName,
  TOPOLOGIES,
  type Topology,
} from "./systems/system.ts";
import { findXlb, startXlb } from "./systems/xlb.ts";

/**
 * Every system against every other in one run: each cell (experiment, topology, number of connections) is measured
 * for all systems in turn, and all of that several times over, so that a noisy minute falls on everybody.
 */

const RESULTS = join(import.meta.dirname, "results");
const PROFILES = join(RESULTS, "profile");
const EXPERIMENT_NAMES: readonly string[] = [...EXPERIMENTS.map((each) => each.name), "match"];
const HELP = `
npx tsx bench/bench.ts [--rounds N] [--seconds S] [--only WORD,...] [--quick] [--edits] [--sendfile on|off] [--profile]

  --rounds N     rounds over everything (5)
  --seconds S    seconds per cell (2)
  --only WORDS   only these: experiments (${EXPERIMENT_NAMES.join(", ")}),
                 mixes of rules of the experiment match (${MIXES.join(", ")}),
                 systems (${SYSTEMS.join(", ")}),
                 topologies (${TOPOLOGIES.join(", ")}), numbers of connections
  --quick        one round of one second
  --edits        all but direct set a header of each request, set one of each answer and take one away
  --sendfile     whether the backend sends files by sendfile (on)
  --profile      one round; perf and the run-time statistics of BPF programs go to bench/results/profile, a file for
                 each cell and system (apt-get install linux-perf bpftool)
`;

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly sendfile: "on" | "off";
  readonly only: readonly string[];
  readonly profile: boolean;
  readonly edits: boolean;
}

interface Cell {
  readonly experiment: Experiment;
  readonly topology: Topology;
  readonly connections: number;
}

const say = (text: string) => process.stderr.write(`${text}\n`);

async function main(): Promise<void> {
  const options = readOptions();
  if (options === undefined) return;
  if (process.getuid?.() !== 0) throw new Error("the bench makes cgroups and a network namespace: run it as root");
  for (const tool of ["wrk", "nginx", "curl", "ip"]) {
    if (findProgram(tool) === undefined)
      throw new Error(`${tool} is not installed (apt-get install nginx wrk curl iproute2)`);
  }
  await inScope((scope) => bench(scope, options));
}

function readOptions(): Options | undefined {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string" },
      seconds: { type: "string" },
      only: { type: "string", default: "" },
      sendfile: { type: "string", default: "on" },
      quick: { type: "boolean", default: false },
      edits: { type: "boolean", default: false },
      profile: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return undefined;
  }
  const count = (text: string | undefined, usual: number) => {
    const value = text === undefined ? usual : Number(text);
    if (!Number.isInteger(value) || value < 1) throw new Error(`not a whole number above 0: ${text}`);
    return value;
  };
  const only = values.only.split(",").filter(Boolean);
  const known: readonly string[] = [...EXPERIMENT_NAMES, ...MIXES, ...SYSTEMS, ...TOPOLOGIES];
  for (const word of only)
    if (!known.includes(word) && !/^\d+$/.test(word)) throw new Error(`--only ${word}: nothing has this name`);
  return {
    rounds: count(values.rounds, values.quick || values.profile ? 1 : 5),
    seconds: count(values.seconds, values.quick ? 1 : 2),
    sendfile: values.sendfile === "off" ? "off" : "on",
    only,
    profile: values.profile,
    edits: values.edits,
  };
}

/** Of each kind of word only those that were named; all where none of the kind was. */
function choose<T>(all: readonly T[], only: readonly string[], nameOf: (each: T) => string): readonly T[] {
  const chosen = all.filter((each) => only.includes(nameOf(each)));
  return chosen.length === 0 ? all : chosen;
}

async function bench(scope: Scope, options: Options): Promise<void> {
  // In memory where possible: uploads must not measure a disk.
  const directory = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "xlb-bench-"));
  scope.add(() => rmSync(directory, { recursive: true, force: true }));
  const experiments = choose(EXPERIMENT_NAMES, options.only, (name) => name);
  const cgroup = await makeCgroups(scope);
  const matches =
    experiments.includes("match") && !options.profile ? await benchMatches(scope, directory, cgroup, options) : [];
  if (experiments.length === 1 && matches.length > 0) return report([], {}, matches, options);
  const names = choose(SYSTEMS, options.only, (name) => name);
  const { systems, skipped } = await startAll(scope, directory, cgroup, names, options);
  const cells = choose(TOPOLOGIES, options.only, (name) => name).flatMap((topology) =>
    choose(EXPERIMENTS, options.only, (each) => each.name).flatMap((experiment): Cell[] =>
      choose(experiment.connections, options.only, String).map((connections) => ({
        experiment,
        topology,
        connections,
      })),
    ),
  );
  for (const system of systems) await verify(scope, system, new Set(cells.map((cell) => cell.topology)), options.edits);
  say(`${systems.map((system) => system.name).join(", ")}: all answer correctly`);

  const minutes = (cells.length * systems.length * options.rounds * (options.seconds + 0.25)) / 60;
  const size = `${cells.length} cells × ${systems.length} systems × ${options.rounds} rounds`;
  say(`${size}: about ${Math.ceil(minutes)} min`);
  const wrk = new Wrk(scope, directory);
  if (options.profile) {
    countPrograms(scope);
    const profile = (name: string, load: () => Promise<Sample>) =>
      profiled(scope, PROFILES, name, options.seconds, load);
    await measureAll(wrk, systems, cells, options, profile);
    process.stdout.write(`written to ${PROFILES}\n`);
    return;
  }
  const samples = await measureAll(wrk, systems, cells, options);
  report(samples, skipped, matches, options);
}

/** First, while nothing else runs. */
async function benchMatches(
  scope: Scope,
  directory: string,
  cgroup: (party: string) => Cgroup,
  options: Options,
): Promise<MatchResult[]> {
  const home = join(directory, "match");
  mkdirSync(home);
  const own = { name: "match-backend", ip: "127.0.20.3", port: 8000, cgroup: cgroup("match-backend") };
  await startBackend(scope, directory, options.sendfile, own);
  const client = cgroup("match-client");
  const place: MatchPlace = {
    ...{ directory: home, ip: "127.0.20.23", backend: own, client },
    ...{ daemon: cgroup("match-daemon"), enrolled: [own.cgroup, client] },
  };
  const results: MatchResult[] = [];
  for (const mix of choose(MIXES, options.only, (name) => name)) {
    for (const routes of choose(ROUTES, options.only, String)) {
      results.push(await measureMatch(mix, routes, options.rounds, options.seconds, place));
      say(JSON.stringify(results.at(-1)));
    }
  }
  return results;
}

interface Started {
  readonly systems: readonly System[];
  readonly skipped: Readonly<Partial<Record<SystemName, string>>>;
}

/** Everything is started once and stays idle while others are measured. */
async function startAll(
  scope: Scope,
  directory: string,
  cgroup: (party: string) => Cgroup,
  names: readonly SystemName[],
  { sendfile, edits }: Options,
): Promise<Started> {
  const namespace = makeNamespace(scope);
  const client = cgroup("client");

  const near = { name: "backend", ip: "127.0.20.1", port: 8000, cgroup: cgroup("backend") };
  const far = {
    name: "backend-far",
    ip: namespace.address,
    port: 8000,
    cgroup: cgroup("backend-far"),
    namespace: namespace.name,
  };
  for (const place of [near, far]) await startBackend(scope, directory, sendfile, place);
  const backends: Backends = {
    cgroup: { "same-host": near.cgroup, "cross-host": far.cgroup },
    address: { "same-host": near, "cross-host": far },
  };

  const start: Readonly<Record<SystemName, () => Promise<System>>> = {
    direct: async () => direct(client, backends),
    "envoy-1": async () =>
      startEnvoy(scope, directory, await findEnvoy(scope, say), 1, cgroup("envoy-1"), client, backends, edits),
    "envoy-2": async () =>
      startEnvoy(scope, directory, await findEnvoy(scope, say), 2, cgroup("envoy-2"), client, backends, edits),
    haproxy: () => startHaproxy(scope, directory, cgroup("haproxy"), client, backends, edits),
    nginx: () => startNginx(scope, directory, cgroup("nginx"), client, backends, edits),
    xlb: async () => {
      findXlb();
      // Servers and clients that are enrolled are not anybody else's: hooks must not slow down the peers.
      const enrolled = { name: "backend-enrolled", ip: "127.0.20.2", port: 8000, cgroup: cgroup("backend-enrolled") };
      const enrolledClient = cgroup("client-enrolled");
      const own: Backends = {
        cgroup: { ...backends.cgroup, "same-host": enrolled.cgroup },
        address: { ...backends.address, "same-host": enrolled },
      };
      await startBackend(scope, directory, sendfile, enrolled);
      return startXlb(scope, directory, own, {
        name: "xlb",
        datapath: "kernel",
        ip: "127.0.20.21",
        cgroup: cgroup("xlb"),
        enrolled: [enrolled.cgroup, enrolledClient],
        client: enrolledClient,
        edits,
      });
    },
    "xlb-slow-path": () =>
      startXlb(scope, directory, backends, {
        name: "xlb-slow-path",
        datapath: "userspace",
        ip: "127.0.20.22",
        cgroup: cgroup("xlb-slow-path"),
        enrolled: [],
        client,
        edits,
      }),
  };

  const systems: System[] = [];
  const skipped: Partial<Record<SystemName, string>> = {};
  for (const name of names) {
    say(`starting ${name}`);
    try {
      systems.push(await start[name]());
    } catch (error) {
      if (!(error instanceof Absent)) throw error;
      skipped[name] = error.message;
      say(`SKIPPED ${name}: ${error.message}`);
    }
  }
  return { systems, skipped };
}

/** What is seen of the edits of an answer: this, and nothing of the header that they take away. */
const ADDED = `${EDITS.answer[0]}: ${EDITS.answer[1]}`;
const EDITED = `${ADDED}|^${EDITS.dropped}`;

/** A wrong answer is fast, too. */
async function verify(scope: Scope, system: System, topologies: ReadonlySet<Topology>, edits: boolean): Promise<void> {
  const expected = createHash("sha256")
    .update(Buffer.alloc(4 << 20, "0123456789abcdef"))
    .digest("hex");
  const curl = async (shell: string, origin: string) => {
    const done = await run(scope, ["/bin/sh", "-c", shell, origin], { cgroup: system.client, timeoutMs: 20_000 });
    return done.stdout.trim() + done.stderr.trim();
  };
  for (const topology of topologies) {
    const origin = system.origin(topology);
    const answers = {
      "GET /": [await curl('curl -sS -m 5 "$0/"', origin), BODY.trim()],
      "GET /4m": [await curl('curl -sS -m 15 "$0/4m" | sha256sum | cut -c1-64', origin), expected],
      "PUT /upload/x": [
        await curl('head -c 65536 /dev/zero | curl -sS -m 5 -o /dev/null -w "%{http_code}" -T - "$0/upload/x"', origin),
        "20x",
      ],
      ...(edits && system.name !== "direct"
        ? { edits: [await curl(`curl -sS -m 5 -D - -o /dev/null "$0/" | grep -oiE '${EDITED}'`, origin), ADDED] }
        : {}),
    };
    for (const [request, [got, wanted]] of Object.entries(answers)) {
      const right = wanted === "20x" ? /^20[14]$/.test(got!) : got === wanted;
      if (!right) throw new Error(`${system.name}, ${topology}: ${request} was answered "${got}", not "${wanted}"`);
    }
  }
}

async function measureAll(
  wrk: Wrk,
  systems: readonly System[],
  cells: readonly Cell[],
  options: Options,
  around: (name: string, load: () => Promise<Sample>) => Promise<Sample> = (_, load) => load(),
): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let round = 0; round < options.rounds; round++) {
    for (const cell of cells) {
      const rates: string[] = [];
      // Each round begins with another system: none always runs after the same neighbour's heat.
      for (const system of [...systems.slice(round % systems.length), ...systems.slice(0, round % systems.length)]) {
        const name = [system.name, cell.topology, cell.experiment.name, cell.connections].join("-");
        const sample = await around(name, () => measure(wrk, system, cell, options.seconds));
        samples.push(sample);
        rates.push(`${system.name} ${Math.round(sample.rps)}${sample.errors > 0 ? ` (${sample.errors} errors)` : ""}`);
      }
      const { experiment, topology, connections } = cell;
      say(`round ${round + 1}/${options.rounds}  ${experiment.name} ${topology} ${connections}:  ${rates.join("  ")}`);
    }
  }
  return samples;
}

async function measure(wrk: Wrk, system: System, cell: Cell, seconds: number): Promise<Sample> {
  const { experiment, topology, connections } = cell;
  const parties = system.parties(topology);
  const used = () => parties.reduce((sum: number, party: Cgroup) => sum + party.cpuMicros(), 0);
  const cpuBefore = used();
  const machineBefore = machineMicros();
  const afterOneSecond =
    system.starved === undefined || seconds < 2 ? Promise.resolve(undefined) : sleep(1000).then(system.starved);
  const load = await wrk.run(system.origin(topology), experiment, connections, seconds, system.client);
  const cpu = used() - cpuBefore;
  const machineCpu = machineMicros() - machineBefore;
  const starvedBefore = await afterOneSecond;
  const starved = starvedBefore === undefined ? undefined : (await system.starved!()) - starvedBefore;
  const requests = Math.max(load.requests, 1);
  return {
    experiment: experiment.name,
    topology,
    system: system.name,
    connections,
    rps: load.requests / load.seconds,
    p50: load.p50,
    p99: load.p99,
    cpu: cpu / requests,
    machineCpu: machineCpu / requests,
    mbps: load.bytes / load.seconds / 1e6,
    errors: load.errors,
    requests: load.requests,
    starved,
  };
}

function report(
  samples: readonly Sample[],
  skipped: Started["skipped"],
  matches: readonly MatchResult[],
  options: Options,
): void {
  const results = summarise(samples);
  const goals = judge(results);
  if (results.length > 0) process.stdout.write(`\n${formatTable(results)}\n${formatVerdicts(goals)}\n`);
  if (matches.length > 0) process.stdout.write(`\n${formatMatches(matches)}\n`);
  for (const [name, why] of Object.entries(skipped)) process.stdout.write(`\nskipped: ${name} (${why})\n`);
  mkdirSync(RESULTS, { recursive: true });
  const { rounds, seconds, sendfile } = options;
  const file = join(RESULTS, "latest.json");
  const told = { machine: describeMachine(), rounds, seconds, sendfile, results, matches, goals, skipped };
  writeFileSync(file, `${JSON.stringify(told, null, 2)}\n`);
  process.stdout.write(`\nwritten to ${file}\n`);
}

main().catch((error: Error) => {
  process.stderr.write(`bench: ${error.message}\n`);
  process.exitCode = 1;
});
