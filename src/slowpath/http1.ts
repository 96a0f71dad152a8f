import { isKeptAsOne } from "../tables/joined.ts";
import { lowerCase } from "../tables/text.ts";

/**
 * HTTP/1.1 as bytes, strictly: RFC 9112. Heads come out as they went in (order, case and number of header fields), so
 * that a proxy between two ends that agree changes nothing. What two readers could read differently is refused.
 * Pure: no sockets here.
 */

export type Field = readonly [name: string, value: string];

export interface RequestLine {
  readonly method: string;
  readonly target: string;
  readonly minor: 0 | 1;
  readonly headers: readonly Field[];
}

export interface StatusLine {
  readonly status: number;
  readonly reason: string;
  readonly minor: 0 | 1;
  readonly headers: readonly Field[];
}

/** A message that cannot be taken; `status` is what a server answers to it. */
export class Malformed extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** How a body ends. */
export type Body =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly length: number }
  | { readonly kind: "chunked" }
  | { readonly kind: "untilClose" };

const CR = 13;
const LF = 10;

/** Every method that Envoy takes (source/common/http/http1/balsa_parser.cc): MSEARCH is its word for M-SEARCH. */
const METHODS = new Set(
  (
    "ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE MSEARCH NOTIFY " +
    "OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK " +
    "UNLOCK UNSUBSCRIBE"
  ).split(" "),
);

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** Field values: visible bytes, obs-text, space and tab. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const TARGET = /^[\x21-\x7e]+$/;
const HOST = /^[A-Za-z0-9\-._~%!$&'()*+,;=:[\]]+$/;

/**
 * Looks for the end of a head, and at each byte only once, however the bytes arrive. Lines end in CR LF; anything else
 * that a lenient reader might take for a line end is refused as soon as it shows.
 */
export class HeadScanner {
  #at = 0;
  #lineStart = 0;
  readonly #maxBytes: number;
  readonly #judge: ((line: string) => void) | undefined;

  /** `judge` is shown the first line, without its end, once; whoever speaks no HTTP need not wait for the rest. */
  constructor(maxBytes: number, judge?: (line: string) => void) {
    this.#maxBytes = maxBytes;
    this.#judge = judge;
  }

  /** Length of the head including its empty line; undefined while it is not complete. Throws Malformed. */
  scan(bytes: Buffer): number | undefined {
    for (; this.#at < bytes.length; this.#at++) {
      const c = bytes[this.#at]!;
      if (this.#at >= this.#maxBytes) throw new Malformed(431, "head too large");
      if (c === LF) {
        if (this.#at === 0 || bytes[this.#at - 1] !== CR) throw new Malformed(400, "bare line feed");
        const end = ++this.#at;
        if (this.#lineStart === 0) this.#judge?.(bytes.toString("latin1", 0, end - 2));
        if (end - this.#lineStart === 2) return end;
        this.#lineStart = end;
        this.#at--;
      } else if (this.#at > 0 && bytes[this.#at - 1] === CR) {
        throw new Malformed(400, "bare carriage return");
      } else if (c < 0x20 && c !== CR && c !== 9) {
        throw new Malformed(400, "control character");
      } else if (this.#lineStart === 0 && this.#at < 32 && c > 0x7e) {
        throw new Malformed(400, "no HTTP");
      }
    }
    return undefined;
  }
}

/** `bad` is the status of what is thrown. */
function fields(lines: readonly string[], bad: number): Field[] {
  return lines.map((line): Field => {
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(colon, 0));
    if (!TOKEN.test(name)) throw new Malformed(bad, "header name");
    const value = line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, "");
    if (!VALUE.test(value)) throw new Malformed(bad, "header value");
    return [name, value];
  });
}

/** RFC 9112 section 3. Throws Malformed. */
export function parseRequestLine(line: string): Pick<RequestLine, "method" | "target" | "minor"> {
  const [method = "", target = "", version = "", ...more] = line.split(" ");
  if (more.length > 0 || !METHODS.has(method)) throw new Malformed(400, "request line");
  if (!TARGET.test(target)) throw new Malformed(400, "target");
  if (target.includes("#")) throw new Malformed(400, "fragment");
  if (version !== "HTTP/1.1" && version !== "HTTP/1.0") throw new Malformed(400, "version");
  return { method, target, minor: version === "HTTP/1.1" ? 1 : 0 };
}

/** A whole request head; `underscores`: what is done to headers with one in their name. Throws Malformed. */
export function parseRequest(head: Buffer, maxHeaders: number, underscores?: "reject" | "drop"): RequestLine {
  const [first = "", ...rest] = head.toString("latin1", 0, head.length - 4).split("\r\n");
  const all = fields(rest, 400);
  const plain = underscores === undefined ? all : all.filter(([name]) => !name.includes("_"));
  if (underscores === "reject" && plain.length < all.length) throw new Malformed(400, "a header with an underscore");
  const read = { ...parseRequestLine(first), headers: plain };
  if (countHeaders(read.headers) > maxHeaders) throw new Malformed(431, "too many headers");
  return read;
}

/** As Envoy counts them: of headers that it keeps as one, the first. */
function countHeaders(headers: readonly Field[]): number {
  const once = headers.map(([name]) => lowerCase(name)).filter(isKeptAsOne);
  return headers.length - once.length + new Set(once).size;
}

const MAX_RESPONSE_HEADERS = 1_000;

/** A whole response head. Throws Malformed (502). */
export function parseResponse(head: Buffer): StatusLine {
  const [first = "", ...rest] = head.toString("latin1", 0, head.length - 4).split("\r\n");
  const match = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?$/.exec(first);
  if (!match) throw new Malformed(502, "status line");
  if (rest.length > MAX_RESPONSE_HEADERS) throw new Malformed(502, "too many headers");
  return {
    minor: match[1] === "1" ? 1 : 0,
    status: Number(match[2]),
    reason: match[3] ?? "",
    headers: fields(rest, 502),
  };
}

export function values(headers: readonly Field[], name: string): string[] {
  return headers.filter(([n]) => n.toLowerCase() === name).map(([, v]) => v);
}

/** The comma-separated words of all fields of that name, in lower case. */
export function tokens(headers: readonly Field[], name: string): string[] {
  return values(headers, name)
    .flatMap((v) => v.split(","))
    .map((v) => v.trim().toLowerCase())
    .filter((v) => v !== "");
}

/** As in Envoy. */
const MAX_NOMINATED = 9;

const FRAMING = ["content-length", "transfer-encoding", "trailer"];

/** Fields that every reader on the way must see: without them the message is another one, or another's. */
const END_TO_END = new Set([
  ...FRAMING,
  "authorization",
  "cache-control",
  "content-encoding",
  "content-range",
  "content-type",
  "cookie",
  "expect",
  "forwarded",
  "host",
  "range",
  "via",
]);

/** Connection may nominate only what is meant for one hop (RFC 9110 section 7.6.1). Throws Malformed. */
export function checkNominated(headers: readonly Field[]): void {
  const names = tokens(headers, "connection");
  if (names.length > MAX_NOMINATED) throw new Malformed(400, "too many nominated headers");
  if (names.some((n) => END_TO_END.has(n) || n.startsWith("x-forwarded-") || n.startsWith(":"))) {
    throw new Malformed(400, "nominated header");
  }
}

function contentLength(headers: readonly Field[], status: number): number | undefined {
  const all = values(headers, "content-length");
  if (all.length === 0) return undefined;
  if (all.length > 1 || !/^\d{1,15}$/.test(all[0]!)) throw new Malformed(status, "content length");
  return Number(all[0]);
}

/** RFC 9112 section 6.3 for requests. */
export function requestBody({ headers, minor }: RequestLine): Body {
  const codings = values(headers, "transfer-encoding");
  const length = contentLength(headers, 400);
  if (codings.length > 0) {
    if (length !== undefined || minor === 0) throw new Malformed(400, "both length and coding");
    if (codings.length > 1 || codings[0]!.toLowerCase() !== "chunked") throw new Malformed(501, "transfer coding");
    return { kind: "chunked" };
  }
  return length ? { kind: "length", length } : { kind: "none" };
}

/** RFC 9112 section 6.3 for final responses. */
export function responseBody({ headers, status }: StatusLine, method: string): Body {
  if (tokens(headers, "connection").some((n) => FRAMING.includes(n))) throw new Malformed(502, "nominated header");
  if (method === "HEAD" || status === 204 || status === 304) return { kind: "none" };
  const codings = values(headers, "transfer-encoding");
  const length = contentLength(headers, 502);
  if (codings.length > 0) {
    if (length !== undefined || codings.length > 1 || codings[0]!.toLowerCase() !== "chunked") {
      throw new Malformed(502, "transfer coding");
    }
    return { kind: "chunked" };
  }
  if (length === undefined) return { kind: "untilClose" };
  return length === 0 ? { kind: "none" } : { kind: "length", length };
}

/** Whether the server ends the connection behind a response: RFC 9112 section 9.3. */
export function closesAfter({ headers, minor }: StatusLine): boolean {
  const words = tokens(headers, "connection");
  return words.includes("close") || (minor === 0 && !words.includes("keep-alive"));
}

/** The one Host of an HTTP/1.1 request. */
export function hostOf({ headers, minor }: RequestLine): string | undefined {
  const hosts = values(headers, "host");
  if (hosts.length > 1 || (hosts.length === 0 && minor === 1)) throw new Malformed(400, "host");
  if (hosts[0] !== undefined && !HOST.test(hosts[0])) throw new Malformed(400, "host");
  return hosts[0];
}

export function writeHead(first: string, headers: readonly Field[]): Buffer {
  let text = `${first}\r\n`;
  for (const [name, value] of headers) text += `${name}: ${value}\r\n`;
  return Buffer.from(`${text}\r\n`, "latin1");
}

const MAX_TRAILER = 8_192;
const MAX_LINE = 4_096;

/**
 * Takes a chunked body apart: RFC 9112 section 7.1, without its leniencies. `feed` answers what of the bytes is data,
 * and how many bytes were taken; it stops behind the body's last byte.
 */
export class ChunkReader {
  #state: "size" | "data" | "dataEnd" | "trailer" | "done" = "size";
  #left = 0;
  #line = "";
  #trailerBytes = 0;
  readonly #status: number;
  readonly trailers: Field[] = [];

  /** `status` goes into what is thrown. */
  constructor(status: number) {
    this.#status = status;
  }

  get done(): boolean {
    return this.#state === "done";
  }

  feed(bytes: Buffer): { data: Buffer[]; used: number } {
    const data: Buffer[] = [];
    let at = 0;
    while (at < bytes.length && this.#state !== "done") {
      if (this.#state === "data") {
        const n = Math.min(this.#left, bytes.length - at);
        data.push(bytes.subarray(at, at + n));
        at += n;
        this.#left -= n;
        if (this.#left === 0) this.#state = "dataEnd";
        continue;
      }
      const end = bytes.indexOf(LF, at);
      const stop = end < 0 ? bytes.length : end + 1;
      this.#line += bytes.toString("latin1", at, stop);
      at = stop;
      if (this.#line.length > MAX_LINE) this.#refuse("line too long");
      if (end < 0) {
        this.#early();
        break;
      }
      if (!this.#line.endsWith("\r\n")) this.#refuse("bare line feed");
      const line = this.#line.slice(0, -2);
      this.#line = "";
      this.#take(line);
    }
    return { data, used: at };
  }

  /** What can be wrong is wrong before the line is complete. */
  #early(): void {
    if (this.#state === "dataEnd" && this.#line !== "" && this.#line !== "\r")
      this.#refuse("chunk longer than it said");
    if (this.#state === "size" && !/^[0-9a-fA-F]{0,13}\r?$|^[0-9a-fA-F]{1,13}[ \t]*(?:;|$)/.test(this.#line)) {
      this.#refuse("chunk size");
    }
  }

  #take(line: string): void {
    switch (this.#state) {
      case "size": {
        const match = /^([0-9a-fA-F]{1,13})(?:[ \t]*;([\t\x20-\x7e\x80-\xff]*))?$/.exec(line);
        if (!match) this.#refuse("chunk size");
        this.#left = Number.parseInt(match![1]!, 16);
        this.#state = this.#left === 0 ? "trailer" : "data";
        return;
      }
      case "dataEnd":
        if (line !== "") this.#refuse("chunk longer than it said");
        this.#state = "size";
        return;
      case "trailer":
        if (line === "") {
          this.#state = "done";
          return;
        }
        this.#trailerBytes += line.length;
        if (this.#trailerBytes > MAX_TRAILER) this.#refuse("trailers too large");
        try {
          this.trailers.push(...fields([line], this.#status));
        } catch {
          this.#refuse("trailer");
        }
        return;
      default:
        throw new Error("no line is expected here");
    }
  }

  #refuse(why: string): never {
    throw new Malformed(this.#status, why);
  }
}
