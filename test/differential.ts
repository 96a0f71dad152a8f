import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Party } from "../bench/party.ts";
import { inScope, type Scope } from "../bench/scope.ts";
import { bootstrap } from "../bench/systems/bootstrap.ts";
import { findXlb } from "../bench/systems/xlb.ts";
import { CLIENTS, type ClientKind, clientCommand, runClient } from "./clients/clients.ts";
import type { Answer, BodySpec, Connection, Spec } from "./clients/protocol.ts";
import { Dice } from "./dice.ts";
import { FILES, SERVERS, type ServerKind, serverCommand } from "./servers/servers.ts";

/**
 * Random requests by real clients to real servers, once direct and once through something; the answers must be equal:
 * status, reason, headers in order, body, trailers. Only Date may differ.
 */

export interface Options {
  readonly seed: number;
  readonly count: number;
  /**
   * "direct": against itself, which proves the test. "xlb": a daemon that the test starts. An address: of whatever
   * forwards its port 9301 to nginx, 9302 to node, 9303 to python, 9304 to java and 9305 to go.
   */
  readonly through: string;
  readonly datapath?: "kernel" | "userspace";
  readonly clients?: readonly ClientKind[];
  readonly servers?: readonly ServerKind[];
  readonly progress?: (text: string) => void;
}

export interface Mismatch {
  readonly client: ClientKind;
  readonly server: ServerKind;
  readonly spec: Spec;
  readonly direct: Answer;
  readonly through: Answer;
}

export interface Outcome {
  /** Requests compared, by `client → server`. */
  readonly compared: Readonly<Record<string, number>>;
  readonly mismatches: readonly Mismatch[];
  /** Requests that failed direct as well: the test's own fault. */
  readonly broken: readonly {
    readonly client: ClientKind;
    readonly server: ServerKind;
    readonly spec: Spec;
    readonly direct: Answer;
  }[];
  readonly skipped: readonly string[];
}

const DIRECT_IP = "127.0.30.1";
const XLB_IP = "127.0.30.2";
const PORTS: Readonly<Record<ServerKind, number>> = { nginx: 9301, node: 9302, python: 9303, java: 9304, go: 9305 };
/** The others are reached by the cross-host path. */
const ENROLLED: readonly ServerKind[] = ["nginx", "node", "java"];

export async function run(scope: Scope, options: Options): Promise<Outcome> {
  const progress = options.progress ?? (() => undefined);
  const directory = mkdtempSync(join(tmpdir(), "xlb-differential-"));
  scope.add(() => rmSync(directory, { recursive: true, force: true }));
  const socket = join(directory, "admin.sock");
  const enrol =
    options.through === "xlb" && options.datapath !== "userspace"
      ? [findXlb(), "exec", "--admin-socket", socket, "--"]
      : [];

  const skipped: string[] = [];
  progress("starting the servers");
  const servers: ServerKind[] = [];
  for (const kind of options.servers ?? SERVERS) {
    const command = await serverCommand(scope, kind, directory, DIRECT_IP, PORTS[kind]);
    if (typeof command === "string") {
      skipped.push(`server ${kind}: ${command}`);
      continue;
    }
    const prefix = ENROLLED.includes(kind) ? enrol : [];
    await new Party(scope, `server ${kind}`, [...prefix, ...command]).listens(DIRECT_IP, PORTS[kind], 30_000);
    servers.push(kind);
  }
  const through = await prepare(scope, options, servers, directory, socket);

  const clients: { kind: ClientKind; command: readonly string[] }[] = [];
  for (const kind of options.clients ?? CLIENTS) {
    const command = await clientCommand(scope, kind, directory);
    if (typeof command === "string") skipped.push(`client ${kind}: ${command}`);
    else clients.push({ kind, command });
  }

  const dice = new RequestDice(options.seed);
  const batches = clients.map(({ kind, command }, i) => {
    const share = Math.floor(options.count / clients.length) + (i < options.count % clients.length ? 1 : 0);
    return { kind, command, plan: planFor(kind, servers, share, dice) };
  });
  progress(`${options.count} requests: ${clients.map(({ kind }) => kind).join(", ")} → ${servers.join(", ")}`);
  const compared: Record<string, number> = {};
  const mismatches: Mismatch[] = [];
  const broken: Outcome["broken"][number][] = [];
  await Promise.all(
    batches.map(async ({ kind, command, plan }) => {
      const at = (ip: string) =>
        plan.map(({ server, requests }): Connection => ({ ip, port: PORTS[server], requests }));
      const timeoutMs = 60_000 + options.count * 50;
      const direct = await runClient(scope, kind, command, at(DIRECT_IP), timeoutMs);
      const other = await runClient(scope, kind, [...enrol, ...command], at(through), timeoutMs);
      const specs = plan.flatMap(({ server, requests }) => requests.map((spec) => ({ server, spec })));
      specs.forEach(({ server, spec }, i) => {
        const name = `${kind} → ${server}`;
        compared[name] = (compared[name] ?? 0) + 1;
        if (direct[i]!.error !== undefined) broken.push({ client: kind, server, spec, direct: direct[i]! });
        if (fingerprint(direct[i]!) === fingerprint(other[i]!)) return;
        mismatches.push({ client: kind, server, spec, direct: direct[i]!, through: other[i]! });
      });
      progress(`${kind}: done`);
    }),
  );
  return { compared, mismatches, broken, skipped };
}

/** The address to go through. */
async function prepare(
  scope: Scope,
  options: Options,
  servers: readonly ServerKind[],
  directory: string,
  socket: string,
): Promise<string> {
  if (options.through === "direct") return DIRECT_IP;
  if (options.through !== "xlb") return options.through;
  options.progress?.("starting xlb run");
  const forward = (kind: ServerKind) => ({
    name: kind,
    listen: { ip: XLB_IP, port: PORTS[kind] },
    backend: { ip: DIRECT_IP, port: PORTS[kind] },
  });
  const config = join(directory, "bootstrap.json");
  writeFileSync(config, JSON.stringify(bootstrap(servers.map(forward))));
  const flags = ["--datapath", options.datapath ?? "kernel", "--admin-socket", socket];
  await new Party(scope, "xlb run", [findXlb(), "run", "-c", config, ...flags]).says("listeners are ready", 20_000);
  return XLB_IP;
}

function fingerprint(answer: Answer): string {
  const headers = answer.headers?.filter(([name]) => name.toLowerCase() !== "date");
  return JSON.stringify({ ...answer, headers });
}

// ---- random requests ----

interface Planned {
  readonly server: ServerKind;
  readonly requests: readonly Spec[];
}

function planFor(client: ClientKind, servers: readonly ServerKind[], count: number, dice: RequestDice): Planned[] {
  const plan: Planned[] = [];
  for (let left = count; left > 0; ) {
    const length = Math.min(left, dice.between(1, 24));
    const server = dice.one(servers);
    plan.push({ server, requests: Array.from({ length }, () => specFor(client, server, dice)) });
    left -= length;
  }
  return plan;
}

/** Numbers the requests too. */
class RequestDice extends Dice {
  nextId = 1;
}

const WORD = "abcdefghijklmnopqrstuvwxyz0123456789";
const VALUE = `${WORD}ABCDEFGHIJKLMNOPQRSTUVWXYZ ;,=/.()<>@[]{}?!#$%&'*+-^_|~:"\\`;
const STATUSES = [200, 200, 200, 200, 200, 200, 201, 202, 204, 206, 304, 400, 404, 410, 500, 503] as const;

function specFor(client: ClientKind, server: ServerKind, dice: RequestDice): Spec {
  const withBody = dice.chance(0.5);
  // What Java's client does with a body or PATCH, and curl with a body and HEAD, is their own business.
  const bodied = client === "java" ? ["POST", "PUT"] : ["POST", "PUT", "PATCH", "DELETE"];
  const method = dice.one(withBody ? bodied : ["GET", "GET", "GET", "HEAD", "OPTIONS", "DELETE"]);
  const body = withBody ? bodyFor(dice) : null;
  const headers: [string, string][] = [["Host", dice.one(["bookinfo", "example.com", "a.b.example:8080", DIRECT_IP])]];
  for (let i = dice.upTo(12); i > 0; i--) headers.push([headerName(dice), headerValue(dice)]);
  if (body !== null) headers.push(["Content-Type", "application/octet-stream"]);
  const { target, method: chosen } = targetFor(server, method, withBody, dice);
  return { id: dice.nextId++, method: chosen, target, headers, body };
}

const headerName = (dice: Dice) =>
  dice.chance(0.4) ? `X-Xlb-${dice.between(0, 3)}` : `x-${dice.text(dice.between(1, 30), WORD)}`;

function headerValue(dice: Dice): string {
  const length = dice.chance(0.03) ? dice.between(500, 3000) : dice.between(1, 60);
  return dice.text(length, VALUE).trim() || "x";
}

function bodyFor(dice: Dice): BodySpec {
  const size = dice.chance(0.05) ? dice.between(65_536, 400_000) : dice.upTo(20_000);
  const splits: number[] = [];
  let left = size;
  for (let i = dice.between(0, 4); i > 0 && left > 1; i--) {
    const piece = dice.between(1, left - 1);
    splits.push(piece);
    left -= piece;
  }
  return {
    framing: dice.one(["length", "chunked"]),
    size,
    seed: dice.between(0, 255),
    splits,
    pause: dice.chance(0.2) ? 1 : 0,
  };
}

function targetFor(
  server: ServerKind,
  method: string,
  withBody: boolean,
  dice: Dice,
): { target: string; method: string } {
  // Two slashes at the beginning are an authority to some, who then answer without reading the request's body.
  const raw = `/${dice.text(dice.between(0, 20), `${WORD}/-._~`)}`;
  const path = raw.replaceAll(/\.{2,}|\/\.+/g, "/").replace(/^\/+/, "/");
  if (server === "nginx") {
    if (withBody && dice.chance(0.2)) return { target: "/put/here", method: "PUT" };
    if (dice.chance(0.4)) return { target: `/echo${path}?${dice.text(5, WORD)}`, method };
    if (!withBody && dice.chance(0.5)) return { target: `/file/${dice.one(FILES)}`, method };
    return { target: `/return/${dice.one([200, 200, 204, 304, 404, 503])}`, method };
  }
  const status = dice.one(STATUSES);
  const size = dice.chance(0.05) ? dice.between(65_536, 1_500_000) : dice.upTo(30_000);
  const query = [
    `status=${status}`,
    `size=${size}`,
    `framing=${dice.one(["length", "length", "chunked", "chunked", "close"])}`,
  ];
  if (dice.chance(0.3)) query.push(`pieces=${dice.between(2, 8)}`);
  if (dice.chance(0.3)) query.push("trailers=1");
  if (dice.chance(0.05)) query.push(`delay=${dice.between(1, 20)}`);
  return { target: `${path}?${query.join("&")}`, method };
}

// ---- as a program ----

function formatMismatch({ client, server, spec, direct, through }: Mismatch): string {
  const lines = [`${client} → ${server}`, `  sent    ${JSON.stringify(spec)}`];
  lines.push(`  direct  ${JSON.stringify(direct)}`, `  through ${JSON.stringify(through)}`);
  return `${lines.join("\n")}\n`;
}

const HELP = `
npx tsx test/differential.ts [--seed N] [--count N] [--through direct|xlb|ADDRESS] [--datapath kernel|userspace]
                             [--clients ${CLIENTS.join(",")}] [--servers ${SERVERS.join(",")}]
`;
const SHOWN = 5;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seed: { type: "string", default: process.env.DIFFERENTIAL_SEED ?? "1" },
      count: { type: "string", default: process.env.DIFFERENTIAL_COUNT ?? "500" },
      through: { type: "string", default: process.env.DIFFERENTIAL_THROUGH ?? "direct" },
      datapath: { type: "string", default: "kernel" },
      clients: { type: "string" },
      servers: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const pick = <T extends string>(all: readonly T[], list: string | undefined) =>
    list === undefined ? all : all.filter((kind) => list.split(",").includes(kind));
  await inScope(async (scope) => {
    const outcome = await run(scope, {
      seed: Number(values.seed),
      count: Number(values.count),
      through: values.through,
      datapath: values.datapath === "userspace" ? "userspace" : "kernel",
      clients: pick(CLIENTS, values.clients),
      servers: pick(SERVERS, values.servers),
      progress: (text) => process.stderr.write(`${text}\n`),
    });
    const { compared, mismatches, broken, skipped } = outcome;
    for (const [pair, count] of Object.entries(compared).sort()) process.stdout.write(`${pair}: ${count}\n`);
    for (const text of skipped) process.stdout.write(`skipped ${text}\n`);
    for (const mismatch of mismatches.slice(0, SHOWN)) process.stdout.write(formatMismatch(mismatch));
    for (const each of broken.slice(0, SHOWN)) process.stdout.write(`failed direct: ${JSON.stringify(each)}\n`);
    const total = Object.values(compared).reduce((sum, count) => sum + count, 0);
    process.stdout.write(`${total} requests, ${mismatches.length} different, ${broken.length} failed direct\n`);
    if (mismatches.length > 0 || broken.length > 0 || total === 0) process.exitCode = 1;
  });
}

if (process.argv[1] === import.meta.filename) {
  main().catch((error: Error) => {
    process.stderr.write(`differential: ${error.message}\n`);
    process.exitCode = 1;
  });
}
