import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Party } from "../../bench/party.ts";
import type { Scope } from "../../bench/scope.ts";
import { findEnvoy } from "../../bench/systems/envoy.ts";
import { Absent } from "../../bench/systems/system.ts";
import type { Stats } from "../../src/admin/messages.ts";
import { Daemon, inCgroup, makeCgroup, removeCgroup, withoutKernel } from "../e2e/harness.ts";
import type { Answer, Seen, Subject } from "./compare.ts";
import { ownBytes } from "./fronts.ts";
import { bootstrap, ipsOf, type Ports } from "./places.ts";
import { type Spec, textOfConfig } from "./spec.ts";
import { LATE_MS } from "./tries.ts";

/** Those who answer, and the servers and clients around them. */

const here = (name: string) => join(import.meta.dirname, name);

export const ENVOY_IP = "127.0.41.1";
export const XLB_IP = "127.0.42.1";

/** Configurations of one start, each with its requests. */
export interface Batch {
  readonly specs: readonly Spec[];
  readonly requests: readonly (readonly string[])[];
}

export interface Bed {
  readonly ports: Ports;
  readonly skipped: readonly { readonly subject: Subject; readonly why: string }[];
  readonly subjects: readonly Subject[];
  /** The answers of a subject, by configuration and request. */
  ask(subject: Subject, batch: Batch): Promise<Answer[][]>;
  /** What the kernel path did so far. */
  readonly served: { kernel: number; slow: number; readonly reasons: Map<string, number> };
}

/** Starts the servers of these configurations, and finds out who can be asked. */
export async function openBed(
  scope: Scope,
  specs: readonly Spec[],
  ports: Ports,
  progress: (text: string) => void,
): Promise<Bed> {
  const skipped: { subject: Subject; why: string }[] = [];
  const directory = mkdtempSync(join(tmpdir(), "xlb-envoydiff-"));
  scope.add(() => rmSync(directory, { recursive: true, force: true }));
  const envoy = await envoyProgram(scope, progress).catch((error: Error) => {
    if (!(error instanceof Absent)) throw error;
    skipped.push({ subject: "envoy", why: error.message });
    return undefined;
  });
  const noKernel = withoutKernel();
  if (noKernel !== false) skipped.push({ subject: "kernel", why: noKernel });
  const cgroup = (name: string) => {
    if (noKernel !== false) return undefined;
    const path = makeCgroup(`envoydiff-${name}`);
    scope.add(() => removeCgroup(path));
    return path;
  };
  const [clients, servers] = [cgroup("clients"), cgroup("servers")];
  const [near, far] = [addresses(specs, true), addresses(specs, false)];
  await Promise.all([startBackends(scope, servers, ports.near, near), startBackends(scope, undefined, ports.far, far)]);
  const tellers = [
    [near, ports.near],
    [far, ports.far],
  ].flatMap(([ips, port]) => [...(ips as Set<string>)].slice(0, 1).map((ip) => `http://${ip}:${port}/.seen`));

  const served = { kernel: 0, slow: 0, reasons: new Map<string, number>() };
  const ask = async (subject: Subject, batch: Batch): Promise<Answer[][]> => {
    const answers = await askAlone(subject, batch);
    const seen = await allSeen(tellers);
    return answers.map((each) => each.map((answer) => withSeen(answer, seen)));
  };
  const askAlone = async (subject: Subject, batch: Batch): Promise<Answer[][]> => {
    if (subject === "envoy") return askEnvoy(scope, directory, envoy!, batch, ports);
    const daemon = new Daemon();
    const kernel = subject === "kernel";
    const cgroups = kernel ? [clients!, servers!] : [];
    scope.add(() => daemon.stop());
    await daemon.start(
      textOfConfig(bootstrap(batch.specs, XLB_IP, ports)).text,
      kernel ? "kernel" : "userspace",
      cgroups,
    );
    const answers = await runClient(kernel ? clients : undefined, XLB_IP, ports, batch);
    if (kernel) count(await daemon.stats(), served);
    await daemon.stop();
    return answers;
  };
  const all: readonly Subject[] = ["envoy", "kernel", "slow"];
  const subjects = all.filter((each) => !skipped.some(({ subject }) => subject === each));
  return { ports, skipped, subjects, ask, served };
}

async function envoyProgram(scope: Scope, progress: (text: string) => void): Promise<string> {
  const given = process.env.XLB_ENVOY;
  if (given === undefined) return findEnvoy(scope, progress);
  if (!existsSync(given)) throw new Absent(`XLB_ENVOY is ${given}, which is not there`);
  return given;
}

function addresses(specs: readonly Spec[], near: boolean): Set<string> {
  const ips = specs.flatMap(({ clusters }) =>
    clusters.flatMap((cluster) => ipsOf(cluster).filter((_, e) => cluster.endpoints[e]!.near === near)),
  );
  return new Set(ips);
}

function startBackends(
  scope: Scope,
  cgroup: string | undefined,
  port: number,
  ips: ReadonlySet<string>,
): Promise<void> {
  if (ips.size === 0) return Promise.resolve();
  const [file = "", ...args] = inCgroup(cgroup, [process.execPath, here("backend.mjs"), String(port), String(LATE_MS)]);
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
  scope.add(() => void child.kill("SIGKILL"));
  child.stdin.end([...ips].join("\n"));
  return new Promise((resolve, reject) => {
    child.stdout.once("data", () => resolve());
    child.once("exit", (code, signal) => reject(new Error(`the servers ended with ${code ?? signal}`)));
  });
}

async function askEnvoy(scope: Scope, directory: string, program: string, batch: Batch, ports: Ports) {
  const { text, name } = textOfConfig(bootstrap(batch.specs, ENVOY_IP, ports, true));
  const config = join(directory, name);
  writeFileSync(config, text);
  const flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
  const party = new Party(scope, "envoy", [program, "-c", config, ...flags]);
  for (const slot of batch.specs.keys()) await party.listens(ENVOY_IP, ports.listen + slot, 30_000);
  const answers = await runClient(undefined, ENVOY_IP, ports, batch, true);
  await party.stop();
  return answers;
}

async function runClient(
  cgroup: string | undefined,
  ip: string,
  ports: Ports,
  { specs, requests }: Batch,
  tellsTo = false,
): Promise<Answer[][]> {
  const jobs = requests.map((texts, slot) => {
    const { front } = specs[slot]!;
    const owns = tellsTo && front?.rest ? { owns: ownBytes(front) } : {};
    return { ip, port: ports.listen + slot, requests: texts, alone: front !== undefined, ...owns };
  });
  const [file = "", ...args] = inCgroup(cgroup, [process.execPath, here("client.mjs")]);
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.on("error", () => {});
  child.stdin.end(JSON.stringify(jobs));
  const pieces: Buffer[] = [];
  child.stdout.on("data", (piece: Buffer) => pieces.push(piece));
  const status = await new Promise((resolve) => child.once("close", resolve));
  if (status !== 0) throw new Error(`the client ended with ${status}`);
  return JSON.parse(Buffer.concat(pieces).toString("utf8")) as Answer[][];
}

/** A mirror is in no hurry: what servers saw is all there when no more comes. */
async function allSeen(tellers: readonly string[]): Promise<ReadonlyMap<string, readonly Seen[]>> {
  const all = new Map<string, Seen[]>();
  for (let quiet = 0; quiet < 3; ) {
    let more = false;
    for (const url of tellers) {
      for (const [id, tries] of (await (await fetch(url)).json()) as [string, Seen[]][]) {
        all.set(id, [...(all.get(id) ?? []), ...tries]);
        more = true;
      }
    }
    quiet = more ? 0 : quiet + 1;
    if (quiet < 3) await sleep(50);
  }
  return all;
}

function withSeen(answer: Answer, seen: ReadonlyMap<string, readonly Seen[]>): Answer {
  const { nonce, burst, ...rest } = answer;
  if (burst !== undefined) return { ...rest, burst: burst.map((each) => withSeen(each, seen)) };
  return nonce === undefined ? rest : { ...rest, seen: seen.get(nonce) ?? [] };
}

function count(stats: Stats, served: Bed["served"]): void {
  for (const { same_host, cross_host, slow } of stats.listeners) {
    served.kernel += same_host + cross_host;
    served.slow += slow;
  }
  for (const [reason, times] of Object.entries(stats.reasons))
    served.reasons.set(reason, (served.reasons.get(reason) ?? 0) + times);
}
