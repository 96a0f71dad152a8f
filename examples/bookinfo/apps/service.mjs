import { Agent, createServer, request } from "node:http";

/** What the four services share: plain HTTP, environment variables for addresses, and a count of what was served. */

export const instance = process.env.INSTANCE ?? "unnamed";

const upstreamAgent = new Agent({ keepAlive: true, maxSockets: 256, noDelay: true });

/** Serves `answer(request)` as JSON at HOST:PORT. `/served` tells how many requests there were, and is not one. */
export function serve(answer) {
  let served = 0;
  const server = createServer({ keepAliveTimeout: 300_000 }, async (incoming, response) => {
    if (incoming.url === "/served") return reply(response, 200, { instance, served });
    served++;
    try {
      reply(response, 200, await answer(incoming));
    } catch (error) {
      reply(response, 502, { instance, error: error.message });
    }
  });
  server.listen({ host: process.env.HOST, port: Number(process.env.PORT), backlog: 1024 });
  // Who asks a service to end does not wait for its idle connections.
  process.on("SIGTERM", () => process.exit(0));
}

function reply(response, status, value) {
  const body = JSON.stringify(value);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
  response.end(body);
}

/** A client of one service, whose address or addresses (used in turn) are in an environment variable. */
export function upstream(variable) {
  const addresses = process.env[variable].split(",");
  let turn = 0;
  return (path, headers) => {
    const [host, port] = addresses[turn++ % addresses.length].split(":");
    return new Promise((resolve, reject) => {
      const outgoing = request({ host, port, path, headers, agent: upstreamAgent }, async (response) => {
        try {
          const chunks = [];
          for await (const chunk of response) chunks.push(chunk);
          const text = Buffer.concat(chunks).toString("utf8");
          if (response.statusCode !== 200) throw new Error(`${variable} answered ${response.statusCode}: ${text}`);
          resolve(JSON.parse(text));
        } catch (error) {
          reject(error);
        }
      });
      outgoing.on("error", (error) => reject(new Error(`${variable}: ${error.message}`)));
      outgoing.end();
    });
  };
}
