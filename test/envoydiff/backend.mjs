/**
 * Servers on many addresses: each answers with its own address, which says what cluster it stands for, and the head
 * that it saw. A request with `x-act` says what becomes of it instead, and of each further try of it: see `tries.ts`.
 * What was seen of requests is told by its first word, and forgotten, to who asks for /.seen.
 * Usage: node backend.mjs PORT LATE, with the addresses on stdin, separated by white space; LATE is in milliseconds.
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:net";

const port = Number(process.argv[2]);
const late = Number(process.argv[3]);
const ips = readFileSync(0, "utf8").split(/\s+/).filter(Boolean);

/** By the first word of `x-act`: the tries, oldest first. */
let seen = new Map();

function serve(socket) {
  let nth = 0;
  let buffer = Buffer.alloc(0);
  let left = 0;
  let chunked = false;
  let asked;
  const here = socket.localAddress;
  socket.setNoDelay(true);
  socket.on("error", () => {});
  socket.on("data", (data) => {
    buffer = buffer.length === 0 ? data : Buffer.concat([buffer, data]);
    while (step());
  });

  function step() {
    if (asked === undefined) {
      const end = buffer.indexOf("\r\n\r\n");
      if (end < 0) return false;
      const head = buffer.toString("latin1", 0, end);
      buffer = buffer.subarray(end + 4);
      const length = /^content-length: *(\d+)/im.exec(head);
      left = length ? Number(length[1]) : 0;
      chunked = /^transfer-encoding: *chunked/im.test(head);
      asked = head;
    }
    if (chunked) {
      const end = buffer.indexOf("0\r\n");
      const whole = end < 0 ? -1 : buffer.indexOf("\r\n\r\n", end);
      if (whole < 0) return false;
      buffer = buffer.subarray(whole + 4);
    } else {
      const taken = Math.min(left, buffer.length);
      buffer = buffer.subarray(taken);
      left -= taken;
      if (left > 0) return false;
    }
    actOn(asked)();
    asked = undefined;
    return buffer.length > 0;
  }

  function actOn(head) {
    nth++;
    if (head.startsWith("GET /.seen ")) {
      const body = JSON.stringify([...seen]);
      seen = new Map();
      return () => socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    }
    const [id, ...acts] = field(head, "x-act")?.split(" ") ?? [];
    if (id === undefined) return () => socket.write(responseTo(head, "200"));
    const tries = seen.get(id) ?? [];
    seen.set(id, tries);
    /* A mirror is another cluster, and counts by itself. */
    const before = tries.filter(({ endpoint }) => clusterPart(endpoint) === clusterPart(here)).length;
    tries.push({ endpoint: here, host: field(head, "host") ?? "", nth });
    const act = acts[Math.min(before, acts.length - 1)];
    if (act === "reset") return () => socket.resetAndDestroy();
    if (act === "close") return () => socket.destroy();
    if (act === "hang") return () => setTimeout(() => socket.resetAndDestroy(), late);
    if (act === "late") return () => setTimeout(() => socket.write(responseTo(head, "200")), late);
    return () => socket.write(responseTo(head, act));
  }

  function responseTo(head, act) {
    const [status, ...more] = act.split("+");
    const fields = more.map((each) => `${each.replace("=", ": ")}\r\n`).join("");
    const body = head.startsWith("HEAD ") ? "" : head;
    const length = Buffer.byteLength(head, "latin1");
    const fixed = `x-endpoint: ${here}\r\n${fields}content-type: text/plain\r\ncontent-length: ${length}`;
    return Buffer.from(`HTTP/1.1 ${status} Said\r\n${fixed}\r\n\r\n${body}`, "latin1");
  }
}

const field = (head, name) => new RegExp(`^${name}: *(.*)$`, "im").exec(head)?.[1];

/** 127.<slot>.<cluster>.<endpoint>: all but the last. */
const clusterPart = (ip) => ip.slice(0, ip.lastIndexOf("."));

let waiting = ips.length;
for (const ip of ips) {
  const server = createServer({ allowHalfOpen: false }, serve);
  server.listen({ host: ip, port, backlog: 128 }, () => {
    if (--waiting === 0) process.stdout.write("listening\n");
  });
}
