import { Agent, request } from "node:http";

/**
 * Readers of the product page: CONNECTIONS of them ask again and again for SECONDS, every tenth time as "jason". Prints
 * one line of JSON.
 */

const targets = process.env.TARGET.split(",").map((target) => target.split(":"));
const connections = Number(process.env.CONNECTIONS);
const seconds = Number(process.env.SECONDS);

const agent = new Agent({ keepAlive: true, maxSockets: connections, noDelay: true });
const latencies = [];
const versions = {};
const jasons = {};
const faults = {};
let asked = 0;

const count = (of, what) => {
  of[what] = (of[what] ?? 0) + 1;
};

function ask(headers) {
  return new Promise((resolve, reject) => {
    const [host, port] = targets[asked % targets.length];
    const outgoing = request({ host, port, path: "/productpage", headers, agent, timeout: 5000 }, async (response) => {
      try {
        const chunks = [];
        for await (const chunk of response) chunks.push(chunk);
        if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}: ${Buffer.concat(chunks)}`);
        resolve(JSON.parse(Buffer.concat(chunks).toString("utf8")));
      } catch (error) {
        reject(error);
      }
    });
    outgoing.on("timeout", () => outgoing.destroy(new Error("no answer within 5 s")));
    outgoing.on("error", reject);
    outgoing.end();
  });
}

async function read(until) {
  while (performance.now() < until) {
    const isJason = asked++ % 10 === 9;
    const before = performance.now();
    try {
      const page = await ask(isJason ? { "end-user": "jason" } : {});
      latencies.push(performance.now() - before);
      if (page.details.pages !== 200 || page.reviews.reviews.length !== 2)
        throw new Error("not the page that was asked for");
      count(isJason ? jasons : versions, page.reviews.version);
    } catch (error) {
      count(faults, error.message.slice(0, 120));
    }
  }
}

const start = performance.now();
await Promise.all(Array.from({ length: connections }, () => read(start + seconds * 1000)));
const elapsed = (performance.now() - start) / 1000;
agent.destroy();

latencies.sort((a, b) => a - b);
const at = (share) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0;
const result = {
  requests: latencies.length,
  rps: latencies.length / elapsed,
  p50: at(0.5),
  p99: at(0.99),
  versions,
  jasons,
  faults,
};
process.stdout.write(`${JSON.stringify(result)}\n`);
