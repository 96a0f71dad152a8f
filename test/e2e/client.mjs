// Raw clients for scripts of steps: one JSON line in, one out. It runs where its connections are balanced.
import { createConnection } from "node:net";
import { createInterface } from "node:readline";

const later = (ms) => new Promise((r) => setTimeout(r, ms));
const FIRST_BYTE_MS = 20_000;

/** Steps: as in world.ts. */
async function play({ ip, port, steps }) {
  const socket = createConnection({ host: ip, port, noDelay: true, allowHalfOpen: true });
  const got = [];
  let length = 0;
  let asked = 0;
  let end = "open";
  let wake = () => {};
  socket.on("data", (d) => {
    got.push(d);
    length += d.length;
    wake();
  });
  socket.on("end", () => {
    end = "eof";
    wake();
  });
  socket.on("error", (error) => {
    end = error.code;
    wake();
  });
  await new Promise((r) => socket.once("connect", r).once("error", r));
  const peer = `${socket.remoteAddress}:${socket.remotePort}`;
  const quiet = (ms) => Promise.race([later(ms).then(() => true), new Promise((r) => (wake = r)).then(() => false)]);
  for (const [verb, a, b] of steps) {
    switch (verb) {
      case "send":
        asked = length;
        socket.write(a, "latin1");
        break;
      case "many":
        asked = length;
        socket.write(Buffer.alloc(a, "x"));
        break;
      case "pause":
        socket.pause();
        await later(a);
        socket.resume();
        break;
      case "shut":
        socket.end();
        break;
      case "reset":
        socket.resetAndDestroy();
        break;
      case "close":
        socket.destroy();
        break;
      case "read": {
        /* Silence counts from the first byte behind what was sent last: a slow machine may let it wait. */
        const limit = performance.now() + FIRST_BYTE_MS;
        while (end === "open" && length === asked && performance.now() < limit) await quiet(50);
        while (end === "open" && !(await quiet(a))) {}
        break;
      }
      case "until": {
        const limit = performance.now() + b;
        while (end === "open" && length < a && performance.now() < limit) await quiet(50);
        break;
      }
    }
  }
  socket.destroy();
  const bytes = Buffer.concat(got);
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) sum = (sum * 31 + bytes[i]) >>> 0;
  return { end, length, sum, peer, text: bytes.toString("latin1", 0, 4_096) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, script } = JSON.parse(line);
  play(script).then((result) => process.stdout.write(`${JSON.stringify({ id, result })}\n`));
}
