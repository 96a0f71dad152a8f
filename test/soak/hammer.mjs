// Requests with random aborts, every answer checked.
// node hammer.mjs IP PORT CONNECTIONS REQUESTS SECONDS KEEPALIVE SEED
import { createConnection } from "node:net";

const [ip, port, connections, requests, seconds, keepAlive, seed] = process.argv.slice(2);
const until = performance.now() + Number(seconds) * 1_000;
let left = Number(requests);
let state = Number(seed) >>> 0 || 1;
const result = { answered: 0, aborted: 0, wrong: 0, failed: 0, refused: 0, examples: [] };

/** xorshift32: the same aborts for the same seed. */
function random(below) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

function note(kind, what) {
  result[kind]++;
  if (result.examples.length < 10) result.examples.push(`${kind}: ${what}`);
}

/** One connection, until it aborts, breaks or has nothing left to ask. */
function connection(worker) {
  return new Promise((resolve) => {
    const socket = createConnection({ host: ip, port: Number(port), noDelay: true });
    let nonce = "";
    let got = "";
    let asked = 0;
    const done = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve();
    };
    let timer = setTimeout(() => {}, 0);
    const next = () => {
      if (left <= 0 || performance.now() > until || (keepAlive === "no" && asked > 0)) return done();
      left--;
      nonce = `/nonce/${worker}-${asked++}-${random(1 << 30)}`;
      got = "";
      const close = keepAlive === "no" ? "Connection: close\r\n" : "";
      socket.write(`GET ${nonce} HTTP/1.1\r\nHost: soak\r\n${close}\r\n`);
      clearTimeout(timer);
      timer = setTimeout(() => {
        note("failed", `no answer to ${nonce} in 10 s, got ${JSON.stringify(got)}`);
        done();
      }, 10_000);
      if (keepAlive !== "no" && random(200) === 0) {
        result.aborted++;
        const abort = () => (random(2) ? socket.resetAndDestroy() : socket.destroy());
        if (random(2)) abort();
        else setTimeout(abort, random(3));
        clearTimeout(timer);
        socket.removeAllListeners("data");
        resolve();
      }
    };
    socket.once("connect", next);
    socket.on("error", (error) => {
      note(error.code === "ECONNREFUSED" || error.code === "EADDRNOTAVAIL" ? "refused" : "failed", error.code);
      done();
    });
    socket.on("end", () => {
      if (keepAlive === "yes") note("failed", `end of stream after ${JSON.stringify(got)}`);
      done();
    });
    socket.on("data", (d) => {
      got += d.toString("latin1");
      const head = got.indexOf("\r\n\r\n");
      if (head < 0) return;
      const length = Number(/content-length: (\d+)/i.exec(got)?.[1]);
      const body = got.slice(head + 4);
      if (body.length < length) return;
      if (!got.startsWith("HTTP/1.1 200") || body !== nonce) note("wrong", `${nonce} got ${JSON.stringify(got)}`);
      else result.answered++;
      next();
    });
  });
}

async function worker(id) {
  while (left > 0 && performance.now() < until) await connection(id);
}

await Promise.all(Array.from({ length: Number(connections) }, (_, i) => worker(i)));
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit(0);
