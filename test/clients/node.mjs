import { createHash } from "node:crypto";
import { Agent, request } from "node:http";
import { createInterface } from "node:readline";

/** Node's http: non-blocking, one write for each split. See protocol.ts. */

const pairs = (raw) => Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i], raw[2 * i + 1]]);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const filler = (length, seed) => {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) bytes[i] = seed + i * 7 + (i >> 8) * 13 + (i >> 16) * 31;
  return bytes;
};

function send(agent, { ip, port }, spec) {
  return new Promise((resolve) => {
    const fail = (error) => resolve({ id: spec.id, error: error.code ?? error.message });
    const { method, target, body } = spec;
    const framing = body === null ? [] : body.framing === "chunked" ? chunkedHeader : [["Content-Length", body.size]];
    const headers = [...spec.headers, ...framing, ["Connection", "keep-alive"]].flat().map(String);
    const outgoing = request(
      { host: ip, port, method, path: target, headers, agent, timeout: 20_000 },
      async (response) => {
        try {
          const hash = createHash("sha256");
          let length = 0;
          for await (const chunk of response) {
            hash.update(chunk);
            length += chunk.length;
          }
          resolve({
            id: spec.id,
            status: response.statusCode,
            reason: response.statusMessage,
            headers: pairs(response.rawHeaders),
            trailers: pairs(response.rawTrailers),
            length,
            sha256: hash.digest("hex"),
          });
        } catch (error) {
          fail(error);
        }
      },
    );
    outgoing.on("timeout", () => outgoing.destroy(new Error("timeout")));
    outgoing.on("error", fail);
    outgoing.setNoDelay(true);
    write(outgoing, body).catch(fail);
  });
}

const chunkedHeader = [["Transfer-Encoding", "chunked"]];

async function write(outgoing, body) {
  if (body !== null) {
    const bytes = filler(body.size, body.seed);
    let at = 0;
    for (const size of body.splits) {
      outgoing.write(bytes.subarray(at, at + size));
      at += size;
      await pause(body.pause);
    }
    if (at < bytes.length) outgoing.write(bytes.subarray(at));
  }
  outgoing.end();
}

for await (const line of createInterface({ input: process.stdin })) {
  const connection = JSON.parse(line);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  for (const spec of connection.requests) {
    process.stdout.write(`${JSON.stringify(await send(agent, connection, spec))}\n`);
  }
  agent.destroy();
}
