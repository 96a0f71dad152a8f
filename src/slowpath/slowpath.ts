import { STATUS_CODES } from "node:http";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Address, Listener } from "../model/config.ts";
import type { Body, Field, RequestLine, StatusLine } from "./http1.ts";
import {
  checkNominated,
  hostOf,
  Malformed,
  parseRequest,
  parseRequestLine,
  parseResponse,
  requestBody,
  responseBody,
  tokens,
  writeHead,
} from "./http1.ts";
import { BodyReader, Broken, breakOff, chunk, flushed, lastChunk, Source, write } from "./source.ts";
import { ConnectFailed, type Upstream, Upstreams } from "./upstream.ts";

/** What the rules see of a request. */
export interface RoutedHead {
  readonly method: string;
  readonly authority: string;
  readonly path: string;
  readonly headers: readonly Field[];
}

/** What of a request, beside its head, the rules may speak of. */
export interface Circumstances {
  readonly tenant: number;
  /** Missing: the connection is closed already. */
  readonly client: Address | undefined;
  readonly protocol: "HTTP/1.0" | "HTTP/1.1";
  /** Milliseconds since 1970. */
  readonly startedMs: number;
}

/** How the heads of a request and its response change on their way. */
export interface Edits {
  request(head: RoutedHead): RoutedHead;
  /** `request` is the head that went on to the endpoint, or as it came where none did. */
  response(fields: readonly Field[], request: RoutedHead): readonly Field[];
}

/** Envoy's response flags, as far as they can occur here. */
export type Flag = "NR" | "UH" | "NC" | "UF" | "UC" | "UT" | "UO" | "UPE" | "DC" | "DPE";

export type Decision =
  | {
      readonly kind: "forward";
      readonly cluster: string;
      readonly address: Address;
      readonly timeoutMs: number;
      readonly connectTimeoutMs: number;
      readonly maxConnections: number;
      readonly edits: Edits;
      /** Called once when the request leaves for the endpoint, and once when it is over. */
      started(): void;
      ended(status: number | undefined, requestBytes: number, responseBytes: number): void;
    }
  | {
      readonly kind: "reply";
      readonly status: number;
      /** Missing: the configuration asks for this answer. */
      readonly flag: Flag | undefined;
      /** Goes before the fields that every reply has. */
      readonly fields: readonly Field[];
      /** A character for each byte. */
      readonly body: string;
    };

export interface Ports {
  decide(listener: Listener, head: RoutedHead, circumstances: Circumstances): Decision;
  /** One request, with the response flag of a local reply or failure, if any. */
  finished(listener: Listener, flag: Flag | undefined, details: string): void;
  log(fields: object, message: string): void;
  /** Asked at the end of a server's stream: did it come by a reset? Without it, resets that libuv hides go unseen. */
  wasReset?(socket: Socket): boolean;
}

/** Where a client connection comes from and whom to tell about it. */
export interface Downstream {
  readonly listener: Listener;
  readonly tenant: number;
  /** All bytes that came were answered and all answers have left: totals since the beginning. */
  onIdle?(read: number, written: number): void;
  /** Awaited before the first byte of an answer: an answer by another way may be under way still. */
  gate?(): Promise<void>;
  /** Asked before bytes are taken for a request: true where they are none, and the connection is being ended. */
  broken?(): boolean;
  /** A request that a server has seen once already: served before the stream's own, on a fresh connection, once. */
  readonly initial?: Buffer;
}

/** A connection that the slow path serves, for those who know what else happens to it. */
export interface Session {
  /**
   * Serves a request that a server has already seen once, as {@link Downstream.initial}. False, and nothing happens,
   * where another one is being served.
   */
  inject(request: Buffer): boolean;
  /** Answers a request that is lost to its server, and closes. False, and nothing happens, as above. */
  refuse(status: number, body: string): boolean;
  /** Nothing of this connection is read or served from now on; the caller ends it. */
  discard(): void;
}

/** How long a closing client may keep sending before it is cut off, as Envoy's delayed_close_timeout. Milliseconds. */
const LINGER_MS = 1_000;

const MAX_RESPONSE_HEAD = 64 << 10;

/** Fields that speak of one connection only (RFC 9110 section 7.6.1) and that this proxy sets by itself. */
const HOP_BY_HOP = new Set(["connection", "proxy-connection", "te", "upgrade", "http2-settings"]);

/** Serves in user space what the kernel path cannot, by the same rules: a strict, verbatim HTTP/1.1 proxy. */
export class SlowPath {
  readonly #ports: Ports;
  readonly #upstreams: Upstreams;
  readonly #connections = new Set<Connection>();
  #draining = false;

  constructor(ports: Ports) {
    this.#ports = ports;
    this.#upstreams = new Upstreams(ports.wasReset);
  }

  get open(): number {
    return this.#connections.size;
  }

  /** Takes over the near end of a client's connection until it closes. */
  accept(stream: Duplex, from: Downstream): Session {
    const connection = new Connection(stream, from, this.#ports, this.#upstreams, () => this.#draining);
    this.#connections.add(connection);
    void connection.serve().finally(() => this.#connections.delete(connection));
    return connection;
  }

  /** Answers a request that is lost to its server, and closes. */
  async refuse(stream: Duplex, status: number, body: string): Promise<void> {
    stream.on("error", () => {});
    stream.end(localReply(status, body, { close: true, head: false, extra: [] }));
    stream.resume();
    setTimeout(() => stream.destroy(), LINGER_MS).unref();
  }

  /** Connections end after the request they are at; after `graceMs` they are cut off. */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true;
    for (const c of this.#connections) void c.endIfIdle();
    const until = performance.now() + graceMs;
    while (this.#connections.size > 0 && performance.now() < until) await new Promise((r) => setTimeout(r, 10));
    for (const c of this.#connections) c.destroy();
    this.#upstreams.closeIdle();
  }
}

const REASONS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  426: "Upgrade Required",
  431: "Request Header Fields Too Large",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

function localReply(
  status: number,
  body: string,
  how: { close: boolean; head: boolean; extra: readonly Field[] },
): Buffer {
  const bodiless = status === 204 || status === 304;
  const bytes = Buffer.from(bodiless ? "" : body, "latin1");
  const names = new Set(how.extra.map(([name]) => name.toLowerCase()));
  const own: Field[] = [
    ...(bodiless ? [] : ([["content-length", String(bytes.length)]] as Field[])),
    ...(bytes.length === 0 ? [] : ([["content-type", "text/plain"]] as Field[])),
    ["date", new Date().toUTCString()],
    ["server", "xlb"],
    ...(how.close ? ([["connection", "close"]] as Field[]) : []),
  ];
  const headers = [...how.extra, ...own.filter(([name]) => !names.has(name))];
  const head = writeHead(`HTTP/1.1 ${status} ${reasonOf(status)}`, headers);
  return how.head ? head : Buffer.concat([head, bytes]);
}

const reasonOf = (status: number) => REASONS[status] ?? STATUS_CODES[status] ?? "Unknown";

const before = "upstream connect error or disconnect/reset before headers. reset reason: ";

/** What went wrong, as Envoy would put it. */
class Failure {
  readonly status: number;
  readonly flag: Flag;
  readonly body: string;
  readonly extra: readonly Field[];

  constructor(status: number, flag: Flag, body: string, extra: readonly Field[] = []) {
    this.status = status;
    this.flag = flag;
    this.body = body;
    this.extra = extra;
  }
}

function failureOf(error: unknown, timedOut: boolean): Failure {
  if (timedOut) return new Failure(504, "UT", "upstream request timeout");
  if (error instanceof Failure) return error;
  if (error instanceof ConnectFailed) {
    if (error.code === "ETIMEDOUT") return new Failure(503, "UF", `${before}connection timeout`);
    return new Failure(503, "UF", `${before}remote connection failure`);
  }
  if (error instanceof Malformed) return new Failure(502, "UPE", `${before}protocol error`);
  return new Failure(503, "UC", `${before}connection termination`);
}

type Forward = Extract<Decision, { kind: "forward" }>;

class Connection implements Session {
  readonly #stream: Duplex;
  readonly #from: Downstream;
  readonly #ports: Ports;
  readonly #upstreams: Upstreams;
  readonly #source: Source;
  readonly #draining: () => boolean;
  #written = 0;
  /** It waits for its next request. */
  #waits = false;
  #repeats: boolean;
  #refusal: Buffer | undefined;
  /** Somebody else ends it. */
  #abandoned = false;
  #exchange: Exchange | undefined;

  constructor(stream: Duplex, from: Downstream, ports: Ports, upstreams: Upstreams, draining: () => boolean) {
    this.#stream = stream;
    this.#from = from;
    this.#ports = ports;
    this.#upstreams = upstreams;
    this.#draining = draining;
    this.#source = new Source(stream, from.initial);
    this.#repeats = from.initial !== undefined;
    stream.on("error", () => {});
  }

  destroy(): void {
    if (this.#waits) this.#stream.destroy();
    else breakOff(this.#stream);
  }

  async endIfIdle(): Promise<void> {
    if (!this.#waits) return;
    await this.#from.gate?.();
    if (this.#waits && this.#source.empty) this.#stream.end();
  }

  inject(request: Buffer): boolean {
    if (!this.#waits) return false;
    this.#waits = false;
    this.#repeats = true;
    this.#source.insert(request);
    return true;
  }

  refuse(status: number, body: string): boolean {
    if (!this.#waits) return false;
    this.#waits = false;
    this.#refusal = localReply(status, body, { close: true, head: false, extra: [] });
    void this.#source.discard();
    return true;
  }

  discard(): void {
    this.#abandoned = true;
    this.#waits = false;
    void this.#source.discard();
    this.#exchange?.abandon();
  }

  async serve(): Promise<void> {
    try {
      while (await this.#one()) {
        await flushed(this.#stream);
        if (this.#source.empty && !this.#stream.destroyed && !this.#abandoned) {
          this.#from.onIdle?.(this.#source.taken, this.#written);
        }
        if (this.#draining()) break;
      }
      if (!this.#abandoned) await this.#close();
    } catch (error) {
      const known = error instanceof Broken;
      if (!known) this.#ports.log({ err: error }, "a slow path connection failed");
      if (!this.#abandoned && known) this.#stream.destroy();
      else if (!this.#abandoned) breakOff(this.#stream);
    }
    if (!this.#stream.closed) await new Promise((resolve) => this.#stream.once("close", resolve));
  }

  /** Ends the stream, and takes in what the client still sends, so that no reset runs over the last answer. */
  async #close(): Promise<void> {
    this.#stream.end();
    const cut = setTimeout(() => this.#stream.destroy(), LINGER_MS);
    await this.#source.discard();
    clearTimeout(cut);
    this.#stream.destroy();
  }

  /** Waits for a request. False: there will be none. */
  async #next(): Promise<boolean> {
    this.#waits = true;
    await this.#source.some();
    /* A client that has ended its side may still be due an answer of the kernel path, or its repetition. */
    if (this.#source.buffer.length === 0) await this.#from.gate?.();
    this.#waits = false;
    if (this.#refusal) await this.#write(this.#refusal);
    return this.#source.buffer.length > 0;
  }

  async #write(bytes: Buffer): Promise<void> {
    if (this.#abandoned) throw new Broken("the connection is being ended");
    this.#written += bytes.length;
    await write(this.#stream, bytes);
  }

  async #reply(
    status: number,
    flag: Flag | undefined,
    body: string,
    how: { close: boolean; head?: boolean; extra?: readonly Field[] },
  ) {
    const { listener } = this.#from;
    this.#ports.finished(listener, flag, `${status}`);
    await this.#write(localReply(status, body, { close: how.close, head: how.head ?? false, extra: how.extra ?? [] }));
  }

  /** Serves one request. False when the connection is to be closed. */
  async #one(): Promise<boolean> {
    const { listener } = this.#from;
    let request: RequestLine;
    let body: Body;
    let host: string | undefined;
    try {
      if (!(await this.#next()) || this.#from.broken?.()) return false;
      const head = await this.#source.head(listener.http.maxRequestHeadersKb * 1_024, parseRequestLine);
      if (head === undefined) return false;
      request = parseRequest(head, listener.http.maxHeadersCount);
      checkNominated(request.headers);
      body = requestBody(request);
      host = hostOf(request);
    } catch (error) {
      await this.#from.gate?.();
      if (!(error instanceof Malformed)) throw error;
      await this.#reply(error.status, "DPE", REASONS[error.status] ?? "Bad Request", { close: true });
      return false;
    }
    if (request.minor === 0 && !listener.http.acceptHttp10) {
      await this.#from.gate?.();
      await this.#reply(426, "DPE", "Upgrade Required", { close: true });
      return false;
    }
    const persistent = wantsMore(request);
    const routed = routedHead(request, host ?? listener.http.defaultHostForHttp10);
    if (typeof routed === "number") {
      await this.#from.gate?.();
      await this.#reply(routed, routed === 404 ? "NR" : "DPE", routed === 404 ? "" : (REASONS[routed] ?? ""), {
        close: true,
      });
      return false;
    }
    const upgrade = upgradeOf(request);
    if (upgrade !== undefined && !listener.http.upgrades.includes(upgrade)) {
      await this.#from.gate?.();
      await this.#reply(403, undefined, "", { close: true });
      return false;
    }
    const decision = this.#ports.decide(listener, routed, {
      tenant: this.#from.tenant,
      client: clientOf(this.#stream),
      protocol: request.minor === 1 ? "HTTP/1.1" : "HTTP/1.0",
      startedMs: Date.now(),
    });
    const reader = new BodyReader(this.#source, body, 400);
    if (decision.kind === "reply") {
      await this.#from.gate?.();
      const close = !persistent || !reader.done;
      const head = request.method === "HEAD";
      await this.#reply(decision.status, decision.flag, decision.body, { close, head, extra: decision.fields });
      return !close;
    }
    if (body.kind === "chunked" && !tokens(request.headers, "expect").includes("100-continue")) {
      try {
        await reader.prefetch();
      } catch (error) {
        if (!(error instanceof Malformed)) throw error;
        await this.#from.gate?.();
        await this.#reply(error.status, "DPE", REASONS[error.status] ?? "Bad Request", { close: true });
        return false;
      }
    }
    const exchange = new Exchange(
      { request, routed, body, reader, persistent, upgrade, repeats: this.#repeats },
      decision,
      { stream: this.#stream, source: this.#source, tenant: this.#from.tenant },
      this.#upstreams,
      async (bytes) => {
        await this.#from.gate?.();
        await this.#write(bytes);
      },
      (bytes) => this.#write(bytes),
    );
    this.#repeats = false;
    this.#exchange = exchange;
    const outcome = await exchange.run();
    this.#exchange = undefined;
    if (outcome.kind === "failed") {
      const { failure } = outcome;
      if (outcome.started) {
        this.#ports.finished(listener, failure.flag, "reset");
        /* A reset may overtake what the client has not got yet, so that it would not even see the status. */
        await this.#from.gate?.();
        breakOff(this.#stream);
        return false;
      }
      await this.#from.gate?.();
      const close = !persistent || !reader.done;
      const head = request.method === "HEAD";
      const extra = decision.edits.response(failure.extra, exchange.head);
      await this.#reply(failure.status, failure.flag, failure.body, { close, head, extra });
      return !close;
    }
    this.#ports.finished(listener, undefined, "via_upstream");
    return outcome.keep;
  }
}

/** What the rules are asked about, or the status of the refusal. */
export function routedHead(request: RequestLine, authority: string | undefined): RoutedHead | number {
  const { method, target, headers } = request;
  if (method === "CONNECT") return 404;
  if (target.startsWith("/")) {
    return authority === undefined ? 400 : { method, authority, path: target, headers };
  }
  if (target === "*" && method === "OPTIONS")
    return authority === undefined ? 400 : { method, authority, path: "*", headers };
  const absolute = /^https?:\/\/([A-Za-z0-9\-._~%!$&'()*+,;=:[\]]+)([/?].*)?$/i.exec(target);
  if (!absolute) return 400;
  const [, named = "", rest = "/"] = absolute;
  const path = rest.startsWith("?") ? `/${rest}` : rest;
  return {
    method,
    authority: named,
    path,
    headers: headers.map(([n, v]) => (n.toLowerCase() === "host" ? [n, named] : [n, v])),
  };
}

function clientOf(stream: Duplex): Address | undefined {
  if (!(stream instanceof Socket) || stream.remoteAddress === undefined) return undefined;
  return { ip: stream.remoteAddress.replace(/^::ffff:(?=\d+\.)/, ""), port: stream.remotePort ?? 0 };
}

/** RFC 9112 section 9.3. */
function wantsMore({ headers, minor }: RequestLine): boolean {
  const words = tokens(headers, "connection");
  return minor === 1 ? !words.includes("close") : words.includes("keep-alive") && !words.includes("close");
}

/** The protocol a client asks to change to; h2c is not offered, as in Envoy. */
export function upgradeOf({ headers, minor }: RequestLine): string | undefined {
  if (minor === 0 || !tokens(headers, "connection").includes("upgrade")) return undefined;
  const wanted = tokens(headers, "upgrade").filter((t) => t !== "h2c");
  return wanted[0];
}

interface Asked {
  readonly request: RequestLine;
  readonly routed: RoutedHead;
  readonly body: Body;
  readonly reader: BodyReader;
  readonly persistent: boolean;
  readonly upgrade: string | undefined;
  /** A server has seen it before and died: once more, and no more. */
  readonly repeats: boolean;
}

type Outcome =
  | { readonly kind: "done"; readonly keep: boolean }
  | { readonly kind: "failed"; readonly failure: Failure; readonly started: boolean };

const REPEATABLE = new Set(["GET", "HEAD", "OPTIONS"]);

/** What a client nominates is gone before the rules edit, so that it takes nothing away of what they add. */
function withoutHopByHop({ request, routed, upgrade }: Asked): RoutedHead {
  const nominated = new Set(tokens(request.headers, "connection"));
  const keepsAlive = nominated.size === 1 && nominated.has("keep-alive");
  const headers = routed.headers.filter(([name]) => {
    const lower = name.toLowerCase();
    if (lower === "expect") return false;
    if (upgrade !== undefined && (lower === "upgrade" || lower === "connection")) return true;
    if (lower === "connection") return keepsAlive;
    return !HOP_BY_HOP.has(lower) && (!nominated.has(lower) || lower === "keep-alive");
  });
  if (request.minor === 0 && !headers.some(([n]) => n.toLowerCase() === "host"))
    headers.unshift(["Host", routed.authority]);
  return { ...routed, headers };
}

/** One request on its way to a server and back. */
class Exchange {
  readonly #asked: Asked;
  readonly #to: Forward;
  readonly #client: { readonly stream: Duplex; readonly source: Source; readonly tenant: number };
  readonly #upstreams: Upstreams;
  readonly #first: (bytes: Buffer) => Promise<void>;
  readonly #write: (bytes: Buffer) => Promise<void>;
  readonly #head: RoutedHead;
  #up: Upstream | undefined;
  #started = false;
  #timedOut = false;
  #timer: NodeJS.Timeout | undefined;
  #sent = 0;
  #received = 0;
  #status: number | undefined;

  constructor(
    asked: Asked,
    to: Forward,
    client: { stream: Duplex; source: Source; tenant: number },
    upstreams: Upstreams,
    first: (bytes: Buffer) => Promise<void>,
    rest: (bytes: Buffer) => Promise<void>,
  ) {
    this.#asked = asked;
    this.#head = to.edits.request(withoutHopByHop(asked));
    this.#to = to;
    this.#client = client;
    this.#upstreams = upstreams;
    this.#first = first;
    this.#write = rest;
  }

  /** As it goes on to the server. */
  get head(): RoutedHead {
    return this.#head;
  }

  /** Its answer is not wanted any more. */
  abandon(): void {
    this.#up?.socket.destroy();
  }

  async run(): Promise<Outcome> {
    const { stream, source } = this.#client;
    const gone = () => this.#up?.socket.destroy();
    stream.once("close", gone);
    this.#to.started();
    try {
      return await this.#attempt(this.#asked.repeats);
    } catch (error) {
      const { reader, request, body } = this.#asked;
      this.#up?.socket.destroy();
      if (source.discarded) throw new Broken("the connection is being ended");
      /* Also on a fresh connection: a server that ends every idle one may hit it before the request does. */
      const again = this.#up && !this.#asked.repeats && !this.#started && !this.#timedOut && body.kind === "none";
      if (error instanceof Broken && again && reader.done && REPEATABLE.has(request.method) && !stream.destroyed) {
        try {
          return await this.#attempt(true);
        } catch (second) {
          this.#up?.socket.destroy();
          return this.#failed(second);
        }
      }
      return this.#failed(error);
    } finally {
      clearTimeout(this.#timer);
      stream.off("close", gone);
      this.#to.ended(this.#status, this.#sent, this.#received);
    }
  }

  /** A fault of the client's is thrown on, a fault of the server's is an answer. */
  #failed(error: unknown): Outcome {
    if (this.#client.stream.destroyed) throw new Broken("the client has gone");
    if (error instanceof Malformed && error.status < 500) {
      return {
        kind: "failed",
        failure: new Failure(error.status, "DPE", REASONS[error.status] ?? ""),
        started: this.#started,
      };
    }
    return { kind: "failed", failure: failureOf(error, this.#timedOut), started: this.#started };
  }

  async #attempt(fresh = false): Promise<Outcome> {
    const target = { tenant: this.#client.tenant, ...this.#to };
    const idle = fresh ? undefined : this.#upstreams.reuse(target);
    if (!idle && this.#upstreams.count(this.#to.cluster) >= this.#to.maxConnections) {
      throw new Failure(503, "UO", `${before}overflow`, [["x-envoy-overloaded", "true"]]);
    }
    const up = idle ?? (await this.#upstreams.connect(target));
    this.#up = up;
    if (this.#client.source.discarded) throw new Broken("the connection is being ended");
    const sending = this.#send(up);
    /* Its failure shows in the response's, or right below. */
    sending.catch(() => {});
    const response = await this.#final(up, sending);
    if (response.status === 101) return await this.#tunnel(up, response, sending);
    return await this.#deliver(up, response, sending);
  }

  async #send(up: Upstream): Promise<void> {
    const { request, reader, body } = this.#asked;
    const expects = tokens(request.headers, "expect").includes("100-continue");
    if (expects && request.minor === 1 && !reader.done) await this.#first(Buffer.from("HTTP/1.1 100 Continue\r\n\r\n"));
    const head = writeHead(`${request.method} ${this.#head.path} HTTP/1.1`, this.#head.headers);
    this.#sent += head.length;
    await write(up.socket, head);
    for (let data = await reader.next(); data; data = await reader.next()) {
      this.#sent += data.length;
      await write(up.socket, body.kind === "chunked" ? chunk(data) : data);
    }
    if (body.kind === "chunked") await write(up.socket, lastChunk(reader.trailers));
    this.#startTimer(up);
  }

  /** Envoy's route timeout: from the end of the request to the end of the response. */
  #startTimer(up: Upstream): void {
    if (this.#to.timeoutMs === 0 || up.socket.destroyed) return;
    /* Of the attempt before, if there was one. */
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timedOut = true;
      up.socket.destroy();
    }, this.#to.timeoutMs);
  }

  /** The final response's head; interim ones are handed on, but for 100, which we gave ourselves. */
  async #final(up: Upstream, sending: Promise<void>): Promise<StatusLine> {
    const refused = this.#refusal(sending, up);
    for (;;) {
      const head = await Promise.race([serverHead(up), refused]);
      if (head === undefined) throw new Broken("the server closed");
      this.#received += head.length;
      const response = parseResponse(head);
      if (response.status >= 200 || (response.status === 101 && this.#asked.upgrade !== undefined)) {
        this.#status = response.status;
        return { ...response, headers: this.#to.edits.response(response.headers, this.#head) };
      }
      if (response.status === 101) throw new Malformed(502, "nobody asked to switch protocols");
      if (response.status === 100 || this.#asked.request.minor === 0) continue;
      await this.#first(head);
    }
  }

  async #deliver(up: Upstream, response: StatusLine, sending: Promise<void>): Promise<Outcome> {
    const { request, reader: upload } = this.#asked;
    const body = responseBody(response, request.method);
    const serverCloses =
      tokens(response.headers, "connection").includes("close") ||
      (response.minor === 0 && !tokens(response.headers, "connection").includes("keep-alive"));
    const dechunk = body.kind === "chunked" && request.minor === 0;
    /* As on the kernel path, where a server's wish to close reaches the client as it was said. */
    const keep = this.#asked.persistent && body.kind !== "untilClose" && !dechunk && !serverCloses;
    const headers = response.headers.flatMap(([name, value]): Field[] => {
      const lower = name.toLowerCase();
      if (lower === "connection")
        return [[name, keep || tokens([[name, value]], lower).includes("close") ? value : "close"]];
      if (lower === "keep-alive" && !keep) return [];
      if (lower === "transfer-encoding" && dechunk) return [];
      return HOP_BY_HOP.has(lower) ? [] : [[name, value]];
    });
    const spoken = headers.some(([name]) => name.toLowerCase() === "connection");
    if (!spoken && !this.#asked.persistent) headers.push(["Connection", "close"]);
    else if (!spoken && keep && request.minor === 0) headers.push(["Connection", "keep-alive"]);
    this.#started = true;
    const reader = new BodyReader(up.source, body, 502);
    let head: Buffer | undefined = writeHead(`HTTP/1.1 ${response.status} ${response.reason}`, headers);
    if (up.source.buffer.length === 0 || reader.done) {
      await this.#first(head);
      head = undefined;
    }
    for (let data = await reader.next(); data; data = await reader.next()) {
      this.#received += data.length;
      const framed = body.kind === "chunked" && !dechunk ? chunk(data) : data;
      if (head) await this.#first(Buffer.concat([head, framed]));
      else await this.#write(framed);
      head = undefined;
    }
    if (head) await this.#first(head);
    if (body.kind === "chunked" && !dechunk) await this.#write(lastChunk(reader.trailers));
    /* Where the answer came first, the rest of the request still belongs to the server. */
    const whole = (await settled(sending)) && upload.done;
    if (whole && !serverCloses && body.kind !== "untilClose" && up.source.empty) this.#giveBack(up);
    else up.socket.destroy();
    return { kind: "done", keep: keep && whole };
  }

  #giveBack(up: Upstream): void {
    this.#upstreams.giveBack({ tenant: this.#client.tenant, ...this.#to }, up);
  }

  /** 101: the two sockets are one from now on; each end crosses in its own time. */
  async #tunnel(up: Upstream, response: StatusLine, sending: Promise<void>): Promise<Outcome> {
    const { stream, source } = this.#client;
    this.#started = true;
    clearTimeout(this.#timer);
    await this.#first(writeHead(`HTTP/1.1 101 ${response.reason}`, response.headers));
    /* The rest of the request comes before the first byte of the new protocol. */
    const there = sending
      .then(() => {
        clearTimeout(this.#timer);
        return pass(source, up.socket);
      })
      .then(
        () => up.socket.end(),
        () => breakOff(up.socket),
      );
    const back = pass(up.source, stream).then(
      () => stream.end(),
      () => breakOff(stream),
    );
    await Promise.all([there, back]);
    up.socket.destroy();
    return { kind: "done", keep: false };
  }

  /** A server that does not read may still answer: only the client's own faults end the wait for it. */
  #refusal(sending: Promise<void>, up: Upstream): Promise<never> {
    const refused = new Promise<never>((_, reject) => {
      sending.catch((error) => {
        if (!(error instanceof Malformed) && !this.#client.source.over) return;
        up.socket.destroy();
        reject(error);
      });
    });
    refused.catch(() => {});
    return refused;
  }
}

/** All that comes from one side, until its end. */
async function pass(from: Source, to: Duplex): Promise<void> {
  while (await from.some()) await write(to, from.consume(from.buffer.length));
  if (from.broken) throw new Broken("the stream broke off");
}

/** The next head from a server; what is wrong with it is the server's fault. */
async function serverHead(up: Upstream): Promise<Buffer | undefined> {
  try {
    return await up.source.head(MAX_RESPONSE_HEAD);
  } catch (error) {
    throw error instanceof Malformed ? new Malformed(502, error.message) : error;
  }
}

const settled = (sending: Promise<void>) =>
  sending.then(
    () => true,
    () => false,
  );
