/**
 * Servers on many addresses: each answers with its own address, which says what cluster it stands for, and the head
 * that it saw. Usage: node backend.mjs PORT, with the addresses on stdin, separated by white space.
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:net";

const port = Number(process.argv[2]);
const ips = readFileSync(0, "utf8").split(/\s+/).filter(Boolean);

function serve(socket) {
  let buffer = Buffer.alloc(0);
  let left = 0;
  let chunked = false;
  let answer;
  const here = socket.localAddress;
  socket.setNoDelay(true);
  socket.on("error", () => {});
  socket.on("data", (data) => {
    buffer = buffer.length === 0 ? data : Buffer.concat([buffer, data]);
    while (step());
  });

  function step() {
    if (answer === undefined) {
      const end = buffer.indexOf("\r\n\r\n");
      if (end < 0) return false;
      const head = buffer.toString("latin1", 0, end);
      buffer = buffer.subarray(end + 4);
      const length = /^content-length: *(\d+)/im.exec(head);
      left = length ? Number(length[1]) : 0;
      chunked = /^transfer-encoding: *chunked/im.test(head);
      answer = responseTo(head);
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
    socket.write(answer);
    answer = undefined;
    return buffer.length > 0;
  }

  function responseTo(head) {
    const body = head.startsWith("HEAD ") ? "" : head;
    const length = Buffer.byteLength(head, "latin1");
    return Buffer.from(
      `HTTP/1.1 200 OK\r\nx-endpoint: ${here}\r\ncontent-type: text/plain\r\ncontent-length: ${length}\r\n\r\n${body}`,
      "latin1",
    );
  }
}

let waiting = ips.length;
for (const ip of ips) {
  const server = createServer({ allowHalfOpen: false }, serve);
  server.listen({ host: ip, port, backlog: 128 }, () => {
    if (--waiting === 0) process.stdout.write("listening\n");
  });
}
