/** What the first bytes of a connection say of TLS. */
export type Greeting =
  /** Nothing yet. */
  | { readonly kind: "more" }
  | { readonly kind: "tls"; readonly serverName: string; readonly protocols: readonly string[] }
  /** It is no TLS; protocols may have been told before that came out, as in Envoy. */
  | { readonly kind: "other"; readonly protocols: readonly string[] }
  /** The connection is closed. */
  | { readonly kind: "over" };

/** As many bytes as `tls_inspector` looks at, unless `max_client_hello_size` says fewer; a longer hello is the end. */
export const MAX_CLIENT_HELLO = 16 << 10;

/**
 * The server name and application protocols of a ClientHello (RFC 8446 section 4.1.2), as
 * source/extensions/filters/listener/tls_inspector of Envoy hears them: it lets BoringSSL begin a handshake, which is
 * as strict as what follows. `bytes` are all that came so far, of which `most` count; nothing of them is kept.
 */
export function readClientHello(bytes: Buffer, most = MAX_CLIENT_HELLO): Greeting {
  const seen = bytes.subarray(0, most);
  const greeting = isOldHello(seen) ? readOldHello(seen) : readRecords(seen);
  return greeting.kind === "more" && seen.length >= most ? OVER : greeting;
}

const MORE: Greeting & { kind: "more" } = { kind: "more" };
const OTHER: Greeting & { kind: "other" } = { kind: "other", protocols: [] };
const OVER: Greeting & { kind: "over" } = { kind: "over" };

// ---- records: RFC 8446 section 5.1 ----

const RECORD_HEADER = 5;
const [ALERT, HANDSHAKE] = [21, 22];
/** Bytes; Envoy's library bounds a first record as if it were encrypted, and then its content. */
const MAX_ENCRYPTED = (16 << 10) + 320;
const MAX_CONTENT = 16 << 10;
const MAX_EMPTY_RECORDS = 32;
const MAX_WARNINGS = 4;
const MESSAGE_HEADER = 4;
const MAX_MESSAGE = 16 << 10;
const CLIENT_HELLO = 1;

/** The first handshake message, however many records it comes in. */
function readRecords(bytes: Buffer): Greeting {
  const message = Buffer.allocUnsafe(bytes.length);
  let [at, joined, empty, warnings] = [0, 0, 0, 0];
  for (;;) {
    if (bytes.length - at < RECORD_HEADER) return MORE;
    const [type, length] = [bytes[at]!, bytes.readUInt16BE(at + 3)];
    if (bytes[at + 1] !== 3 || length > MAX_ENCRYPTED) return OTHER;
    const end = at + RECORD_HEADER + length;
    if (bytes.length < end) return MORE;
    const content = bytes.subarray(at + RECORD_HEADER, end);
    at = end;
    if (length > MAX_CONTENT) return OTHER;
    empty = length === 0 ? empty + 1 : 0;
    if (empty > MAX_EMPTY_RECORDS) return OTHER;
    if (type === ALERT) {
      const said = judgeAlert(content);
      if (said !== undefined) return said;
      if (++warnings > MAX_WARNINGS) return OTHER;
      continue;
    }
    if (type !== HANDSHAKE) return OTHER;
    warnings = 0;
    joined += content.copy(message, joined);
    const greeting = readMessage(message.subarray(0, joined));
    if (greeting !== undefined) return greeting;
  }
}

const [WARNING, CLOSE_NOTIFY] = [1, 0];

/** Undefined: a warning that is passed over. */
function judgeAlert(content: Buffer): Greeting | undefined {
  if (content.length !== 2 || content[0] !== WARNING) return OTHER;
  return content[1] === CLOSE_NOTIFY ? OVER : undefined;
}

/** Undefined: more records are due. */
function readMessage(message: Buffer): Greeting | undefined {
  if (message.length < MESSAGE_HEADER) return undefined;
  const end = MESSAGE_HEADER + message.readUIntBE(1, 3);
  if (end > MESSAGE_HEADER + MAX_MESSAGE) return OTHER;
  if (message.length < end) return undefined;
  /* Nothing may stand behind it in its record. */
  if (message[0] !== CLIENT_HELLO || message.length > end) return OTHER;
  return readHello(message.subarray(MESSAGE_HEADER));
}

// ---- the hello of old: RFC 5246 appendix E.2 ----

const MAX_OLD_HELLO = 4_096;

const isOldHello = (bytes: Buffer) =>
  bytes.length >= RECORD_HEADER && bytes[0]! >= 0x80 && bytes[2] === CLIENT_HELLO && bytes[3] === 3;

/** It has no extensions, so that it names nobody. */
function readOldHello(bytes: Buffer): Greeting {
  const length = bytes.readUInt16BE(0) & 0x7fff;
  if (length > MAX_OLD_HELLO || length < RECORD_HEADER - 2) return OTHER;
  if (bytes.length < 2 + length) return MORE;
  const reader = new Reader(bytes.subarray(2, 2 + length));
  const [, version = 0] = [reader.number(1), reader.number(2)];
  const lengths = [reader.number(2), reader.number(2), reader.number(2)];
  const [ciphers, session, challenge] = lengths.map((length = 0) => reader.take(length));
  if (ciphers === undefined || session === undefined || challenge === undefined || !reader.empty) return OTHER;
  const firsts = Array.from({ length: Math.ceil(ciphers.length / 3) }, (_, i) => ciphers[3 * i]);
  if (ciphers.length % 3 !== 0 || !firsts.includes(0)) return OTHER;
  return isKnown(version) ? { kind: "tls", serverName: "", protocols: [] } : OVER;
}

// ---- the hello ----

/** Reads big-endian numbers and texts with their length before them; `undefined` where bytes are missing. */
class Reader {
  #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get empty(): boolean {
    return this.#bytes.length === 0;
  }

  take(count: number): Buffer | undefined {
    if (this.#bytes.length < count) return undefined;
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  number(size: 1 | 2): number | undefined {
    return this.take(size)?.readUIntBE(0, size);
  }

  /** As many bytes as the number before them says. */
  text(size: 1 | 2): Buffer | undefined {
    const length = this.number(size);
    return length === undefined ? undefined : this.take(length);
  }

  /** The same, if nothing stands behind it. */
  last(size: 1 | 2): Buffer | undefined {
    const text = this.text(size);
    return this.empty ? text : undefined;
  }
}

/** Types of extensions: RFC 6066, RFC 7301. */
const [SERVER_NAME, PROTOCOLS] = [0, 16];

interface Hello {
  readonly version: number;
  readonly ciphers: Buffer;
  readonly compressions: Buffer;
  readonly extensions: ReadonlyMap<number, Buffer>;
}

function readHello(bytes: Buffer): Greeting {
  const hello = parseHello(bytes);
  const serverName = hello && serverNameOf(hello.extensions.get(SERVER_NAME));
  if (serverName === undefined) return OTHER;
  const protocols = protocolsOf(hello!.extensions.get(PROTOCOLS));
  if (!isKnown(hello!.version)) return OVER;
  return { kind: "tls", serverName, protocols };
}

function parseHello(bytes: Buffer): Hello | undefined {
  const reader = new Reader(bytes);
  const [version, random, session] = [reader.number(2), reader.take(32), reader.text(1)];
  const [ciphers, compressions] = [reader.text(2), reader.text(1)];
  if (version === undefined || random === undefined || session === undefined || session.length > 32) return undefined;
  if (ciphers === undefined || ciphers.length < 2 || ciphers.length % 2 !== 0) return undefined;
  if (compressions === undefined || compressions.length === 0) return undefined;
  const extensions = reader.empty ? new Map<number, Buffer>() : parseExtensions(reader.last(2));
  return extensions && { version, ciphers, compressions, extensions };
}

/** None comes twice. */
function parseExtensions(bytes: Buffer | undefined): Map<number, Buffer> | undefined {
  if (bytes === undefined) return undefined;
  const found = new Map<number, Buffer>();
  const reader = new Reader(bytes);
  while (!reader.empty) {
    const [type, body] = [reader.number(2), reader.text(2)];
    if (type === undefined || body === undefined || found.has(type)) return undefined;
    found.set(type, body);
  }
  return found;
}

const MAX_NAME = 255;

/** RFC 6066 section 3: one name of a host; `""` where there is no such extension, undefined where it is wrong. */
function serverNameOf(extension: Buffer | undefined): string | undefined {
  if (extension === undefined) return "";
  const list = new Reader(new Reader(extension).last(2) ?? Buffer.alloc(0));
  const [type, name] = [list.number(1), list.last(2)];
  if (type !== 0 || name === undefined || name.length === 0 || name.length > MAX_NAME || name.includes(0))
    return undefined;
  return name.toString("latin1").replace(/[A-Z]+/g, (text) => text.toLowerCase());
}

/** RFC 7301 section 3.1. Those of a list that is wrong count for nothing. */
function protocolsOf(extension: Buffer | undefined): string[] {
  const list = new Reader(new Reader(extension ?? Buffer.alloc(0)).last(2) ?? Buffer.alloc(0));
  const names: string[] = [];
  while (!list.empty) {
    const name = list.text(1);
    if (name === undefined || name.length === 0) return [];
    names.push(name.toString("latin1"));
  }
  return names;
}

const isKnown = (version: number) => version >= 0x0301 && version <= 0x0304;
