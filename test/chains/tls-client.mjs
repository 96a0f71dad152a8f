// A TLS client for tests: takes connections as JSON in its argument, makes them one after the other, tells what it saw.
// Each: { ip, port, name?: server name, alpn?: protocols, version?: the highest, say: text }.
import { connect } from "node:tls";

function talk({ ip, port, name, alpn, version, say }) {
  return new Promise((resolve) => {
    const seen = { text: "", protocol: "", end: "open" };
    const done = (end) => {
      clearTimeout(timer);
      seen.end = end;
      socket.destroy();
      resolve(seen);
    };
    const socket = connect({
      host: ip,
      port,
      servername: name ?? "",
      rejectUnauthorized: false,
      ...(alpn === undefined ? {} : { ALPNProtocols: alpn }),
      ...(version === undefined ? {} : { maxVersion: version }),
    });
    const timer = setTimeout(() => done("timeout"), 10_000);
    socket.on("secureConnect", () => {
      seen.protocol = socket.getProtocol();
      socket.write(say);
    });
    socket.on("data", (data) => {
      seen.text += data.toString("latin1");
      if (seen.text.length >= say.length + 2) done("open");
    });
    socket.on("end", () => done("eof"));
    socket.on("error", (error) => done(error.code));
  });
}

const told = [];
for (const connection of JSON.parse(process.argv[2])) told.push(await talk(connection));
process.stdout.write(JSON.stringify(told), () => process.exit(0));
