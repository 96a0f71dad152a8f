/**
 * Sends raw requests, and says what came back. On stdin one JSON text, jobs
 * `[{ ip, port, requests: [text, ...], alone, owns }]`; on stdout the answers, a list for each job. Texts are latin1.
 *
 * Jobs run side by side, the requests of one after another, on one connection as long as it stays, or, `alone`, each on
 * one of its own: from the address in `x-from`, to that whose last byte is in `x-to`, at the port in `x-to-port`; or,
 * where the job has a list `owns` of such last bytes, to any of those at its port, or, with a line before the request
 * that says where to (PROXY protocol), to the job's own. `{nonce}` in a text becomes an identity of seven letters, told
 * with its answer; `x-burst: N` sends it N times at once, on connections of their own; `x-short` says that not all of
 * it is there.
 */
import { readFileSync } from "node:fs";
import { connect } from "node:net";

const PATIENCE_MS = 8_000;
/** Between those of a burst: one after the other, but long before the first is answered. */
const APART_MS = 60;

let nonces = 0;
const client = (process.pid % 36 ** 3).toString(36).padStart(3, "0");
const nonce = () => `${client}${(nonces++).toString(36).padStart(4, "0")}`;

class Connection {
  buffer = "";
  ended;
  wake = () => {};

  constructor(ip, port, localAddress) {
    this.socket = connect({ host: ip, port, noDelay: true, localAddress });
    this.socket.on("data", (data) => {
      this.buffer += data.toString("latin1");
      this.wake();
    });
    const end = (why) => {
      this.ended ??= why;
      this.wake();
    };
    this.socket.on("end", () => end("closed"));
    this.socket.on("close", () => end("closed"));
    this.socket.on("error", (error) => end(error.code ?? error.message));
    this.connected = new Promise((resolve) => {
      this.socket.once("connect", resolve);
      this.socket.once("close", resolve);
    });
  }

  /** More bytes, the end, or too late: what of it. */
  more(deadline) {
    if (this.ended !== undefined) return this.ended;
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve("timeout"), Math.max(0, deadline - performance.now()));
      this.wake = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
    });
  }
}

async function head(connection, deadline) {
  for (;;) {
    const end = connection.buffer.indexOf("\r\n\r\n");
    if (end >= 0) {
      const [first, ...lines] = connection.buffer.slice(0, end).split("\r\n");
      connection.buffer = connection.buffer.slice(end + 4);
      const headers = lines.map((line) => {
        const colon = line.indexOf(":");
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      });
      return { status: Number(first.split(" ")[1]), headers };
    }
    const why = await connection.more(deadline);
    if (why !== undefined && connection.buffer.indexOf("\r\n\r\n") < 0) throw new Error(why);
  }
}

async function take(connection, length, deadline) {
  while (connection.buffer.length < length) {
    const why = await connection.more(deadline);
    if (why !== undefined && connection.buffer.length < length) throw new Error(why);
  }
  const taken = connection.buffer.slice(0, length);
  connection.buffer = connection.buffer.slice(length);
  return taken;
}

async function line(connection, deadline) {
  for (;;) {
    const end = connection.buffer.indexOf("\r\n");
    if (end >= 0) return take(connection, end + 2, deadline);
    const why = await connection.more(deadline);
    if (why !== undefined && connection.buffer.indexOf("\r\n") < 0) throw new Error(why);
  }
}

async function body(connection, request, { status, headers }, deadline) {
  const value = (name) => headers.find(([have]) => have === name)?.[1];
  if (/^(\r\n)*HEAD /.test(request) || status === 204 || status === 304) return "";
  if (value("transfer-encoding") === "chunked") {
    let text = "";
    for (;;) {
      const size = Number.parseInt(await line(connection, deadline), 16);
      text += await take(connection, size, deadline);
      if (size > 0) await line(connection, deadline);
      else while ((await line(connection, deadline)) !== "\r\n");
      if (size === 0) return text;
    }
  }
  const length = value("content-length");
  if (length !== undefined) return take(connection, Number(length), deadline);
  for (;;) {
    const why = await connection.more(deadline);
    if (why === "timeout") throw new Error(why);
    if (why !== undefined) return take(connection, connection.buffer.length, deadline);
  }
}

async function ask(connection, request, before = "") {
  const deadline = performance.now() + PATIENCE_MS;
  await connection.connected;
  connection.socket.write(Buffer.from(before + request, "latin1"));
  let answer = await head(connection, deadline);
  while (answer.status >= 100 && answer.status < 200 && answer.status !== 101)
    answer = await head(connection, deadline);
  return { ...answer, body: await body(connection, request, answer, deadline) };
}

/** One of its own, and how it was answered. */
async function alone({ ip, port, owns }, text) {
  const named = text.includes("{nonce}") ? { nonce: nonce() } : {};
  const field = (name) => new RegExp(`\\n${name}: ([^\\r]*)`, "i").exec(text)?.[1];
  const [from, to, toPort] = [field("x-from"), field("x-to"), Number(field("x-to-port") ?? port)];
  const toIp = to === undefined ? ip : ip.replace(/\d+$/, to);
  const isOwn = toPort === port && (to === undefined || owns?.includes(to));
  const connection = owns && !isOwn ? new Connection(ip, port, from) : new Connection(toIp, toPort, from);
  const line = owns ? `PROXY TCP4 ${from ?? "127.0.0.1"} ${toIp} 40000 ${toPort}\r\n` : "";
  try {
    return { ...(await ask(connection, text.replace("{nonce}", named.nonce), line)), ...named };
  } catch (error) {
    return { error: error.message, ...named };
  } finally {
    connection.socket.destroy();
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function run({ ip, port, requests, alone: each, owns }) {
  const answers = [];
  let connection;
  for (const text of requests) {
    const [, times] = /\nx-burst: (\d+)\r/i.exec(text) ?? [];
    if (each || times !== undefined || /\nx-short: /i.test(text)) {
      const all = Array.from({ length: Number(times ?? 1) }, (_, i) =>
        sleep(i * APART_MS).then(() => alone({ ip, port, owns }, text)),
      );
      const burst = await Promise.all(all);
      answers.push(times === undefined ? burst[0] : { burst });
      continue;
    }
    let answer;
    let id;
    let request;
    /* A connection may close just when the next request leaves: that is nobody's answer, so it is asked again. */
    for (let fresh = connection === undefined; ; fresh = true) {
      connection = fresh ? new Connection(ip, port) : connection;
      id = text.includes("{nonce}") ? nonce() : undefined;
      request = text.replace("{nonce}", id);
      try {
        answer = await ask(connection, request);
      } catch (error) {
        connection.socket.destroy();
        connection = undefined;
        if (!fresh && error.message !== "timeout") continue;
        answer = { error: error.message };
      }
      break;
    }
    answers.push(id === undefined ? answer : { ...answer, nonce: id });
    const closes = answer.headers?.some(([name, value]) => name === "connection" && /close/i.test(value));
    const keeps = /^[^\r\n]* HTTP\/1\.1\r\n/.test(request.replace(/^(\r\n)+/, ""));
    if (closes || !keeps || connection?.ended !== undefined || connection?.buffer !== "") {
      connection?.socket.destroy();
      connection = undefined;
    }
  }
  connection?.socket.destroy();
  return answers;
}

const jobs = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(await Promise.all(jobs.map(run))));
