// A server that does what the request's path says, right or wrong. Usage: node backend.mjs IP PORT
import { createServer } from "node:net";

const [ip, port] = process.argv.slice(2);
const pattern = Buffer.from(Array.from({ length: 65_536 }, (_, i) => i & 255));
const later = (ms) => new Promise((r) => setTimeout(r, ms));

async function sendMany(socket, length) {
  for (let left = length; left > 0 && !socket.destroyed; left -= pattern.length) {
    const piece = left < pattern.length ? pattern.subarray(0, left) : pattern;
    if (!socket.write(piece)) await new Promise((r) => socket.once("drain", r).once("close", r));
  }
}

const ok = (body, extra = "") => `HTTP/1.1 200 OK\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${extra}\r\n${body}`;

/** Answers one request; true when the connection has been ended on purpose. */
async function answer(socket, kind, argument, target, body) {
  switch (kind) {
    case "nonce":
      socket.write(ok(target));
      return false;
    case "big":
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${argument}\r\n\r\n`);
      await sendMany(socket, Number(argument));
      return false;
    case "until-close":
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      await sendMany(socket, Number(argument));
      socket.end();
      return true;
    case "chunks":
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      for (let i = 1; i <= Number(argument); i++) {
        socket.write(`${i.toString(16)};x=y\r\n${"z".repeat(i)}\r\n`);
        if (i % 3 === 0) await later(1);
      }
      socket.write("0\r\nX-Trailer: 1\r\n\r\n");
      return false;
    case "bytewise":
      for (const c of ok("hello")) {
        socket.write(c);
        await later(0);
      }
      return false;
    case "interim":
      socket.write(`HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${ok("ok")}`);
      return false;
    case "close":
      socket.end(ok("ok", "Connection: close\r\n"));
      return true;
    case "http10":
      socket.end("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
      return true;
    case "die":
      socket.end();
      return true;
    case "reset":
      socket.resetAndDestroy();
      return true;
    case "half":
      socket.end("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
      return true;
    case "extra":
      socket.write(`${ok("ok")}EXTRA`);
      return false;
    case "late":
      socket.write(ok("ok"));
      await later(30);
      socket.end("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      return true;
    case "two-lengths":
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok");
      return false;
    case "empty":
      socket.write("HTTP/1.1 204 No Content\r\n\r\n");
      return false;
    case "unmodified":
      socket.write("HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n");
      return false;
    case "pause":
      await later(Number(argument));
      socket.write(ok("ok"));
      return false;
    case "length":
      socket.write(ok(String(body)));
      return false;
    default:
      socket.write("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
      return false;
  }
}

createServer({ noDelay: true }, async (socket) => {
  socket.on("error", () => {});
  let buffer = Buffer.alloc(0);
  let wake = () => {};
  let over = false;
  socket.on("data", (d) => {
    buffer = Buffer.concat([buffer, d]);
    wake();
  });
  socket.on("close", () => {
    over = true;
    wake();
  });
  const more = () => new Promise((r) => (wake = r));
  for (;;) {
    let end = buffer.indexOf("\r\n\r\n");
    for (; end < 0 && !over; end = buffer.indexOf("\r\n\r\n")) await more();
    if (end < 0) return;
    const head = buffer.toString("latin1", 0, end);
    buffer = buffer.subarray(end + 4);
    const [method, target] = head.split(" ");
    const length = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
    while (buffer.length < length && !over) await more();
    if (over) return;
    buffer = buffer.subarray(length);
    const [, kind, argument] = target.split("/");
    if (method === "HEAD") socket.write("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
    else if (await answer(socket, kind, argument, target, length)) return;
  }
}).listen({ host: ip, port: Number(port), backlog: 4_096 }, () => process.stdout.write("listening\n"));
