// A TCP client for tests: takes connections as JSON in its argument, makes them one after the other, tells what it saw.
// Each: { ip, port, from?: its own address, say?: text, times?: how often it says so, until?: bytes to wait for,
// half?: ends its side after saying, ms?: how long it waits, keep?: leaves it open for those that follow }.
import { connect } from "node:net";

const kept = [];

function talk({ ip, port, from, say = "", times = 1, until = 1, half = false, ms = 10_000, keep = false }) {
  return new Promise((resolve) => {
    const seen = { text: "", end: "open", peer: "" };
    const socket = connect({ host: ip, port, localAddress: from, noDelay: true, allowHalfOpen: true });
    const done = (end) => {
      clearTimeout(timer);
      seen.end = end;
      if (keep) kept.push(socket);
      else socket.destroy();
      resolve(seen);
    };
    const timer = setTimeout(() => done("timeout"), ms);
    socket.on("connect", () => {
      seen.peer = `${socket.remoteAddress}:${socket.remotePort}`;
      const said = say.repeat(times);
      if (half) socket.end(said);
      else if (said !== "") socket.write(said);
    });
    socket.on("data", (data) => {
      seen.text += data.toString("latin1");
      if (!half && until > 0 && seen.text.length >= until) done("open");
    });
    socket.on("end", () => done("eof"));
    socket.on("error", (error) => done(error.code));
  });
}

const told = [];
for (const connection of JSON.parse(process.argv[2])) told.push(await talk(connection));
process.stdout.write(JSON.stringify(told), () => process.exit(0));
