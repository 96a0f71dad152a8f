import { join } from "node:path";
import { findProgram, run } from "../../bench/party.ts";
import type { Scope } from "../../bench/scope.ts";
import { buildGo } from "../servers/servers.ts";
import type { Answer, Connection } from "./protocol.ts";

/** Real clients of several kinds. */

export const CLIENTS = ["curl", "node", "python", "java", "go"] as const;
export type ClientKind = (typeof CLIENTS)[number];

const HERE = import.meta.dirname;

/** The command that runs a client, or the reason why this machine cannot. */
export async function clientCommand(
  scope: Scope,
  kind: ClientKind,
  directory: string,
): Promise<readonly string[] | string> {
  switch (kind) {
    case "curl":
      return findProgram("curl") ? [process.execPath, join(HERE, "curl.mjs")] : "curl is not installed";
    case "node":
      return [process.execPath, join(HERE, "node.mjs")];
    case "python":
      return findProgram("python3") ? ["python3", join(HERE, "client.py")] : "python3 is not installed";
    case "java":
      if (!findProgram("javac")) return "no JDK is installed";
      // Host is among the headers that Java keeps to itself otherwise; and a POST must not be sent twice in silence.
      return [
        "java",
        "-Dsun.net.http.allowRestrictedHeaders=true",
        "-Dsun.net.http.retryPost=false",
        join(HERE, "Client.java"),
      ];
    case "go": {
      const built = await buildGo(scope, join(HERE, "client.go"), join(directory, "go-client"));
      return built ?? [join(directory, "go-client")];
    }
    default:
      return kind satisfies never;
  }
}

export async function runClient(
  scope: Scope,
  kind: ClientKind,
  command: readonly string[],
  connections: readonly Connection[],
  timeoutMs: number,
): Promise<Answer[]> {
  const write = kind === "java" ? inWords : (connection: Connection) => `${JSON.stringify(connection)}\n`;
  const done = await run(scope, command, { input: connections.map(write).join(""), timeoutMs });
  const answers = done.stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Answer);
  const asked = connections.reduce((sum, connection) => sum + connection.requests.length, 0);
  if (done.status !== 0 || answers.length !== asked) {
    throw new Error(
      `client ${kind} ended with ${done.status} after ${answers.length} of ${asked} answers: ` +
        done.stderr.slice(-2000),
    );
  }
  return answers;
}

function inWords(connection: Connection): string {
  const requests = connection.requests.map(({ id, method, target, headers, body }) => {
    const sent =
      body === null ? ["none", 0, 0, 0, ""] : [body.framing, body.size, body.seed, body.pause, body.splits.join(",")];
    return ["request", id, method, target, ...sent, ...headers.flat()].join("\t");
  });
  return `${[`connection\thttp://${connection.ip}:${connection.port}`, ...requests].join("\n")}\n`;
}
