import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** curl: one process for each connection, its requests one after the other over it. See protocol.ts. */

const directory = mkdtempSync(join(tmpdir(), "xlb-curl-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
process.on("SIGTERM", () => process.exit(143));

const filler = (length, seed) => {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) bytes[i] = seed + i * 7 + (i >> 8) * 13 + (i >> 16) * 31;
  return bytes;
};
const quote = (text) => `"${text.replace(/[\\"]/g, "\\$&")}"`;
const file = (kind, id) => join(directory, `${kind}-${id}`);

function configure({ ip, port }, spec) {
  const lines = [
    `url = ${quote(`http://${ip}:${port}${spec.target}`)}`,
    "path-as-is",
    "globoff",
    "silent",
    "max-time = 20",
  ];
  lines.push(`output = ${quote(file("body", spec.id))}`, `dump-header = ${quote(file("head", spec.id))}`);
  lines.push('write-out = "%{exitcode}\\n"');
  for (const [name, value] of spec.headers) lines.push(`header = ${quote(`${name}: ${value}`)}`);
  if (spec.body !== null) {
    writeFileSync(file("send", spec.id), filler(spec.body.size, spec.body.seed));
    // curl 7.88 sends no last chunk after an empty file.
    const chunked = spec.body.framing === "chunked" && spec.body.size > 0;
    lines.push(`header = "Expect:"`, ...(chunked ? [`header = "Transfer-Encoding: chunked"`] : []));
    lines.push(
      chunked ? `upload-file = ${quote(file("send", spec.id))}` : `data-binary = ${quote(`@${file("send", spec.id)}`)}`,
    );
  }
  lines.push(spec.method === "HEAD" ? "head" : `request = ${quote(spec.method)}`);
  return lines.join("\n");
}

function read(spec, code) {
  if (code !== "0") return { id: spec.id, error: `curl ${code}` };
  // 1xx heads come first, trailers last; between them stands the head that counts.
  const [head, ...rest] = readFileSync(file("head", spec.id), "latin1")
    .split("\r\n\r\n")
    .filter((part) => !part.startsWith("HTTP/1.1 1"));
  const [line, ...headers] = head.split("\r\n");
  const [, status, reason] = /^\S+ (\d+) ?(.*)$/.exec(line);
  const body = readBody(spec);
  return {
    id: spec.id,
    status: Number(status),
    reason,
    headers: headers.map(pair),
    trailers: rest.join("\r\n").split("\r\n").filter(Boolean).map(pair),
    length: body.length,
    sha256: createHash("sha256").update(body).digest("hex"),
  };
}

function readBody(spec) {
  // With "head", curl writes the head to the output, too.
  if (spec.method === "HEAD") return Buffer.alloc(0);
  try {
    return readFileSync(file("body", spec.id));
  } catch {
    return Buffer.alloc(0); // no file where no byte came
  }
}

const pair = (line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()];

for await (const line of createInterface({ input: process.stdin })) {
  const connection = JSON.parse(line);
  const config = join(directory, "config");
  writeFileSync(config, connection.requests.map((spec) => configure(connection, spec)).join("\nnext\n"));
  const done = spawnSync("curl", ["-q", "-K", config], { encoding: "utf8" });
  const codes = done.stdout.trim().split("\n");
  connection.requests.forEach((spec, i) => {
    process.stdout.write(`${JSON.stringify(read(spec, codes[i] ?? `ended with ${done.status}: ${done.stderr}`))}\n`);
    for (const kind of ["body", "head", "send"]) rmSync(file(kind, spec.id), { force: true });
  });
}
