// usage: node node.mjs IP PORT
import { createHash } from "node:crypto";
import { createServer } from "node:http";

/** Answers with what was asked, framed as the query wants; the other servers here do the same in their languages. */

const [ip, port] = process.argv.slice(2);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The bytes whose place in the body can be told from their value. */
const filler = (length, seed) => {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) bytes[i] = seed + i * 7 + (i >> 8) * 13 + (i >> 16) * 31;
  return bytes;
};

const server = createServer(
  { keepAliveTimeout: 300_000, requestTimeout: 0, headersTimeout: 0 },
  async (request, response) => {
    request.on("error", () => undefined);
    response.on("error", () => undefined);
    const query = new URLSearchParams(request.url.split("?")[1]);
    const number = (name, usual) => Number(query.get(name) ?? usual);
    const hash = createHash("sha256");
    let length = 0;
    for await (const chunk of request) {
      hash.update(chunk);
      length += chunk.length;
    }
    const lines = [`${request.method} ${request.url} HTTP/${request.httpVersion}`];
    for (let i = 0; i < request.rawHeaders.length; i += 2)
      lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
    for (let i = 0; i < request.rawTrailers.length; i += 2) {
      lines.push(`trailer ${request.rawTrailers[i]}: ${request.rawTrailers[i + 1]}`);
    }
    const echo = Buffer.from(`${lines.join("\n")}\n\n${length} ${hash.digest("hex")}\n`);
    const size = number("size", 0);
    const body = Buffer.concat([echo, filler(size, size & 255)]);
    await pause(number("delay", 0));

    const status = number("status", 200);
    const framing = query.get("framing") ?? "length";
    response.setHeader("X-Server", "node");
    response.setHeader("Set-Cookie", ["a=1", "b=2"]);
    response.setHeader("Content-Type", "application/octet-stream");
    const bodiless = status === 204 || status === 304;
    if (framing === "length" && status !== 204) response.setHeader("Content-Length", body.length);
    if (framing === "close") {
      response.shouldKeepAlive = false;
      response.useChunkedEncodingByDefault = false;
    }
    const trailers = framing === "chunked" && query.get("trailers") === "1" && !bodiless && request.method !== "HEAD";
    if (trailers) response.setHeader("Trailer", "X-Sum");
    response.writeHead(status, query.get("reason") ?? undefined);
    if (request.method !== "HEAD" && !bodiless) {
      const pieces = number("pieces", 1);
      const step = Math.ceil(body.length / pieces);
      for (let at = 0; at < body.length; at += step) {
        response.write(body.subarray(at, at + step));
        if (pieces > 1) await pause(1);
      }
    }
    if (trailers) response.addTrailers({ "X-Sum": String(body.length) });
    response.end();
  },
);
server.listen({ host: ip, port: Number(port), backlog: 1024 });
process.on("SIGTERM", () => process.exit(0));
