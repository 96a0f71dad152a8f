import type { Duplex } from "node:stream";
import type { Body, Field, RequestLine, StatusLine } from "./http1.ts";
import { Malformed, parseResponse, responseBody, tokens, writeHead } from "./http1.ts";
import type { Forward, RoutedHead } from "./ports.ts";
import { before, Failure, failureOf, REASONS } from "./reply.ts";
import { HOP_BY_HOP, withoutHopByHop } from "./request.ts";
import { BodyReader, Broken, breakOff, chunk, lastChunk, pass, type Source, write } from "./source.ts";
import type { Upstream, Upstreams } from "./upstream.ts";

const MAX_RESPONSE_HEAD = 64 << 10;

export interface Asked {
  readonly request: RequestLine;
  readonly routed: RoutedHead;
  readonly body: Body;
  readonly reader: BodyReader;
  readonly persistent: boolean;
  readonly upgrade: string | undefined;
  /** A server has seen it before and died: once more, and no more. */
  readonly repeats: boolean;
}

export type Outcome =
  | { readonly kind: "done"; readonly keep: boolean }
  | { readonly kind: "failed"; readonly failure: Failure; readonly started: boolean };

const REPEATABLE = new Set(["GET", "HEAD", "OPTIONS"]);

/** One request on its way to a server and back. */
export class Exchange {
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
    this.#head = to.edits.request(withoutHopByHop(asked.request, asked.routed, asked.upgrade));
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
