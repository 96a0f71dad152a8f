/**
 * `make soak`: many requests with random aborts, then one request per connection; no answer may be wrong, and nothing
 * may be left behind. Options: --requests N --connections N --seconds N (of short connections) --seed N --path WORDS
 */
import { spawn } from "node:child_process";
import { parseArgs } from "node:util";
import { inScope, type Scope } from "../../bench/scope.ts";
import { PATHS, type Path, World, withoutKernel } from "../e2e/world.ts";

const { values } = parseArgs({
  options: {
    requests: { type: "string", default: "2000000" },
    connections: { type: "string", default: "64" },
    seconds: { type: "string", default: "300" },
    seed: { type: "string", default: "1" },
    path: { type: "string" },
  },
});

interface Result {
  answered: number;
  aborted: number;
  wrong: number;
  failed: number;
  refused: number;
  examples: string[];
}

/** Less than this in one of the parts is no leak: each has some hundred thousand connections. */
const LEAK_MIB = 2;
/** What a daemon may take in all. */
const MOST_MIB = 192;

/** How long whatever lies idle may stay open. */
const IDLE_MS = 75_000;

let passed = 0;
let failures = 0;

function check(name: string, ok: boolean, detail: string): void {
  if (ok) passed++;
  else failures++;
  process.stdout.write(`${ok ? "ok  " : "FAIL"} ${name}: ${detail}\n`);
}

function hammer(scope: Scope, world: World, args: readonly string[]): Promise<Result> {
  const [file = "", ...rest] = world.enrolled([
    process.execPath,
    "test/soak/hammer.mjs",
    world.ip,
    `${world.port}`,
    ...args,
  ]);
  const child = spawn(file, rest, { stdio: ["ignore", "pipe", "inherit"] });
  scope.add(() => void child.kill());
  let text = "";
  child.stdout.on("data", (d) => {
    text += d;
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => resolve(JSON.parse(text) as Result));
  });
}

const later = (ms: number) => new Promise((r) => setTimeout(r, ms));

async function soak(scope: Scope, path: Path, requests: number): Promise<void> {
  const world = new World(path);
  scope.add(() => world.stop());
  const { connections, seconds, seed } = values;
  try {
    await world.start();
    /* The first run fills pools and heaps: growth is counted from there. */
    await hammer(scope, world, [connections, String(Math.min(20_000, requests)), "60", "yes", seed]);
    await later(1_000);
    const before = await world.stats();
    const besides = world.files() - before.clusters[0]!.endpoints[0]!.pool.total;
    const long = await hammer(scope, world, [connections, String(requests), "3600", "yes", seed]);
    check(`${path}: keep-alive`, long.wrong + long.failed + long.refused === 0, JSON.stringify(long));
    const memory = async () => (await world.stats()).memory / 2 ** 20;
    const resident = [before.memory / 2 ** 20, await memory()];
    /* In parts: a heap finds its size in some of them, a leak goes on in each. */
    const parts = 5;
    for (let part = 1; part <= parts; part++) {
      const short = await hammer(scope, world, [connections, "100000000", String(Number(seconds) / parts), "no", seed]);
      const right = short.wrong + short.failed + short.refused === 0;
      check(`${path}: a request per connection, ${part} of ${parts}`, right, JSON.stringify(short));
      await later(3_000);
      resident.push(await memory());
    }
    const after = await world.stats();
    const pool = after.clusters[0]!.endpoints[0]!.pool;
    const growth = resident.slice(1).map((mib, i) => mib - resident[i]!);
    const least = Math.min(...growth.slice(2));
    const told = `${resident.map((mib) => mib.toFixed(1)).join(", ")} MiB before, between and after`;
    check(`${path}: memory`, least < LEAK_MIB && after.memory / 2 ** 20 < MOST_MIB, told);
    check(`${path}: connections`, after.connections.open <= 1, `${after.connections.open} open at the end`);
    /* The slow path's own connections to the server lie idle for a minute. */
    const count = async () => {
      const [endpoint] = (await world.stats()).clusters[0]!.endpoints;
      return world.files() - besides - endpoint!.pool.total;
    };
    let files = await count();
    for (const until = Date.now() + IDLE_MS; files > 8 && Date.now() < until; files = await count()) await later(1_000);
    check(`${path}: files`, files <= 8, `${files} more than before, i-socks apart`);
    const maps = await world.maps();
    for (const [name, most] of [
      ["conns", 1],
      ["slow_dones", 1],
      ["peers", pool.total],
      ["isock_slots", pool.total],
    ] as const) {
      const entries = maps.get(name) ?? 0;
      check(`${path}: map ${name}`, entries <= most, `${entries} entries, at most ${most} in use`);
    }
    check(`${path}: i-socks`, pool.busy === 0, `${pool.total} in the pool, ${pool.busy} busy`);
    const { active } = after.clusters[0]!.endpoints[0]!;
    check(`${path}: active requests`, active === 0, `${active}`);
  } finally {
    await world.stop();
  }
}

const kernel = withoutKernel();
await inScope(async (scope) => {
  for (const path of PATHS) {
    if (values.path !== undefined && values.path !== path) continue;
    if (path !== "slow path" && kernel !== false) {
      process.stdout.write(`skip ${path}: ${kernel}\n`);
      continue;
    }
    await soak(scope, path, Math.ceil(Number(values.requests) / (path === "same host" ? 2 : 4)));
  }
});
process.stdout.write(`${passed} passed, ${failures} failed\n`);
process.exit(failures === 0 ? 0 : 1);
