import { createSocket, type Socket } from "node:dgram";

/** What a name is: its records, or a failure. */
export interface Records {
  readonly v4?: readonly string[];
  readonly v6?: readonly string[];
  /** Seconds. */
  readonly ttl?: number;
  /** `silent`: no answer at all. */
  readonly fails?: "SERVFAIL" | "silent";
}

const [A, AAAA] = [1, 28];
const [SERVFAIL, NXDOMAIN] = [2, 3];

/** A server of DNS over UDP that knows a few names (RFC 1035 section 4). */
export class DnsServer {
  readonly names = new Map<string, Records>();
  /** How often each name was asked for, of either family. */
  readonly asked = new Map<string, number>();
  readonly ip: string;
  port = 0;
  readonly #socket: Socket = createSocket("udp4");

  constructor(ip: string) {
    this.ip = ip;
  }

  async listen(): Promise<this> {
    this.#socket.on("message", (question, from) => {
      const answer = this.#answer(question);
      if (answer) this.#socket.send(answer, from.port, from.address);
    });
    await new Promise<void>((resolve) => this.#socket.bind(0, this.ip, resolve));
    this.port = this.#socket.address().port;
    return this;
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()));
  }

  #answer(question: Buffer): Buffer | undefined {
    const labels: string[] = [];
    let at = 12;
    for (let length = question[at]!; length !== 0; length = question[at]!) {
      labels.push(question.toString("latin1", at + 1, at + 1 + length));
      at += 1 + length;
    }
    const end = at + 5;
    const type = question.readUInt16BE(at + 1);
    const name = labels.join(".").toLowerCase();
    this.asked.set(name, (this.asked.get(name) ?? 0) + 1);
    const records = this.names.get(name);
    if (records?.fails === "silent") return undefined;
    const ips = (type === A ? records?.v4 : type === AAAA ? records?.v6 : undefined) ?? [];
    const failure = records === undefined ? NXDOMAIN : records.fails ? SERVFAIL : 0;
    const head = Buffer.alloc(12);
    question.copy(head, 0, 0, 2);
    head.writeUInt16BE(0x8180 | failure, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(failure ? 0 : ips.length, 6);
    const rows = failure ? [] : ips.map((ip) => recordOf(type, ip, records?.ttl ?? 60));
    return Buffer.concat([head, question.subarray(12, end), ...rows]);
  }
}

function recordOf(type: number, ip: string, ttl: number): Buffer {
  const data = type === A ? Buffer.from(ip.split(".").map(Number)) : v6Bytes(ip);
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xc00c, 0); // the name of the question
  head.writeUInt16BE(type, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt32BE(ttl, 6);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}

/** Of an address written out, or with one `::`. */
function v6Bytes(ip: string): Buffer {
  const [front = [], back = []] = ip.split("::").map((side) => side.split(":").filter((group) => group !== ""));
  const groups = [...front, ...Array.from({ length: 8 - front.length - back.length }, () => "0"), ...back];
  const bytes = Buffer.alloc(16);
  for (const [at, group] of groups.entries()) bytes.writeUInt16BE(Number.parseInt(group, 16), 2 * at);
  return bytes;
}
