import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cgroup, run } from "./party.ts";
import type { Scope } from "./scope.ts";

/** What is asked of every system, and how. */

export type ExperimentName = "keepalive" | "connection-per-request" | "body-4MiB" | "upload-64KiB";

export interface Experiment {
  readonly name: ExperimentName;
  readonly connections: readonly number[];
  readonly path: string;
  readonly headers: readonly string[];
  readonly script: "plain" | "upload";
}

export const EXPERIMENTS: readonly Experiment[] = [
  { name: "keepalive", connections: [1, 8, 64, 128], path: "/", headers: [], script: "plain" },
  { name: "connection-per-request", connections: [8, 64], path: "/", headers: ["Connection: close"], script: "plain" },
  { name: "body-4MiB", connections: [4], path: "/4m", headers: [], script: "plain" },
  { name: "upload-64KiB", connections: [8], path: "/upload/x", headers: [], script: "upload" },
];

export interface Load {
  readonly requests: number;
  readonly seconds: number;
  readonly p50: number;
  readonly p99: number;
  readonly bytes: number;
  readonly errors: number;
}

export const MARK = "wrk-result ";

// wrk's own text rounds to two digits; its summary does not.
export const DONE = `
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('${MARK}{"requests":%d,"seconds":%.6f,"p50":%d,"p99":%d,"bytes":%d,"errors":%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout))
end
`;

const UPLOAD = `
wrk.method = "PUT"
wrk.body = string.rep("x", 65536)
`;

export class Wrk {
  readonly #scope: Scope;
  readonly #directory: string;

  constructor(scope: Scope, directory: string) {
    this.#scope = scope;
    this.#directory = directory;
    writeFileSync(join(directory, "plain.lua"), DONE);
    writeFileSync(join(directory, "upload.lua"), UPLOAD + DONE);
  }

  async run(
    origin: string,
    experiment: Experiment,
    connections: number,
    seconds: number,
    cgroup: Cgroup,
  ): Promise<Load> {
    const script = join(this.#directory, `${experiment.script}.lua`);
    const headers = experiment.headers.flatMap((header) => ["-H", header]);
    const shape = ["-t1", `-c${connections}`, `-d${seconds}s`, "--timeout", "5s"];
    const command = ["wrk", ...shape, ...headers, "-s", script, `${origin}${experiment.path}`];
    const done = await run(this.#scope, command, { cgroup, timeoutMs: (seconds + 15) * 1000 });
    const line = done.stdout.split("\n").find((candidate) => candidate.startsWith(MARK));
    if (line === undefined) throw new Error(`wrk ended with ${done.status}: ${done.stderr || done.stdout}`);
    return JSON.parse(line.slice(MARK.length)) as Load;
  }
}
