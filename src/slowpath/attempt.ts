import type { Asked, Parties } from "./exchange.ts";
import {
  closesAfter,
  type Field,
  Malformed,
  parseResponse,
  responseBody,
  type StatusLine,
  tokens,
  writeHead,
} from "./http1.ts";
import type { RoutedHead } from "./ports.ts";
import type { Failure } from "./reply.ts";
import { HOP_BY_HOP } from "./request.ts";
import { BodyReader, Broken, breakOff, chunk, lastChunk, pass } from "./source.ts";
import type { Upload } from "./upload.ts";
import type { Upstream } from "./upstream.ts";
import { Deadline, IdleTimer } from "./watch.ts";

const MAX_RESPONSE_HEAD = 64 << 10;

/** What a try asks of the exchange that it belongs to. */
export interface Hooks {
  /** A piece of the request's body, by its number. */
  piece(at: number): Promise<Buffer | undefined>;
  /** The fields that the client gets for the server's. */
  fields(fields: readonly Field[]): readonly Field[];
  /** Is the client to be told to send its body? True once. */
  mustContinue(): boolean;
  /** An answer that is not the final one is about to be handed on. */
  interim(): void;
  /** The head of the final answer has come, as the server wrote it. Throws where the client is not to get it. */
  final(status: number, fields: readonly Field[]): void;
  /** From here on the client sees this try. */
  started(): void;
  /** The connection may serve another request. */
  giveBack(): void;
  /** The two ends speak another protocol from here on. */
  tunnels(): void;
}

/** One request at one server, over one connection. */
export class Attempt {
  readonly up: Upstream;
  /** Why it was ended, if it took too long. */
  expired: Failure | undefined;
  sent = 0;
  received = 0;
  status: number | undefined;
  readonly #asked: Asked;
  readonly #head: RoutedHead;
  readonly #upload: Upload;
  readonly #parties: Parties;
  readonly #hooks: Hooks;
  readonly #headLimit = new Deadline();
  readonly #limit = new Deadline();
  #silence: IdleTimer | undefined;
  #over = false;

  constructor(asked: Asked, head: RoutedHead, upload: Upload, up: Upstream, parties: Parties, hooks: Hooks) {
    this.#asked = asked;
    this.#head = head;
    this.#upload = upload;
    this.up = up;
    this.#parties = parties;
    this.#hooks = hooks;
  }

  // ---- how long it may take: milliseconds, 0 for as long as it likes ----

  /** All of it; `why` is what it ends with. */
  limit(ms: number, why: () => Failure): void {
    this.#limit.set(ms, () => this.#expire(why()));
  }

  /** Until its answer begins to be handed on. */
  limitHead(ms: number, why: () => Failure): void {
    this.#headLimit.set(ms, () => this.#expire(why()));
  }

  /** Between two signs of life of the server's connection. */
  limitSilence(ms: number, why: () => Failure): void {
    if (ms === 0) return;
    this.#silence = new IdleTimer(() => this.#expire(why()));
    this.#silence.allow(ms);
  }

  #expire(why: Failure): void {
    this.expired = why;
    this.up.socket.destroy();
  }

  #heard(): void {
    this.#silence?.heard();
    this.#parties.heard();
  }

  /** It is over: nothing of it goes on. */
  stop(): void {
    this.#over = true;
    this.#headLimit.stop();
    this.#limit.stop();
    this.#silence?.stop();
  }

  // ---- the way there and back ----

  /** Resolves when the answer is complete: true, if the client's connection may go on. */
  async run(): Promise<boolean> {
    const sending = this.#send();
    /* Its failure shows in the response's, or right below. */
    sending.catch(() => {});
    const response = await this.#final(sending);
    this.#headLimit.stop();
    if (response.status === 101) return await this.#tunnel(response, sending);
    return await this.#deliver(response, sending);
  }

  async #send(): Promise<void> {
    const { request, body } = this.#asked;
    const { up } = this;
    if (this.#hooks.mustContinue()) await this.#parties.first(Buffer.from("HTTP/1.1 100 Continue\r\n\r\n"));
    const head = writeHead(`${request.method} ${this.#head.path} HTTP/1.1`, this.#head.headers);
    this.sent += head.length;
    await up.write(head);
    for (let at = 0; ; at++) {
      const data = await this.#hooks.piece(at);
      /* It has waited for the client, and is not the one that is to go on. */
      if (this.#over) throw new Broken("the try is over");
      if (data === undefined) break;
      this.sent += data.length;
      await up.write(body.kind === "chunked" ? chunk(data) : data);
      this.#heard();
      this.#upload.release(at);
    }
    if (body.kind === "chunked") await up.write(lastChunk(this.#upload.trailers));
  }

  /** The final response's head; interim ones are handed on, but for 100, which we gave ourselves. */
  async #final(sending: Promise<void>): Promise<StatusLine> {
    const refused = this.#refusal(sending);
    for (;;) {
      const head = await Promise.race([serverHead(this.up), refused]);
      if (head === undefined) throw new Broken("the server closed");
      this.#heard();
      this.received += head.length;
      const response = parseResponse(head);
      if (response.status >= 200 || (response.status === 101 && this.#asked.upgrade !== undefined)) {
        this.status = response.status;
        this.#hooks.final(response.status, response.headers);
        return { ...response, headers: this.#hooks.fields(response.headers) };
      }
      if (response.status === 101) throw new Malformed(502, "nobody asked to switch protocols");
      if (response.status === 100 || this.#asked.request.minor === 0) continue;
      this.#hooks.interim();
      await this.#parties.first(head);
    }
  }

  async #deliver(response: StatusLine, sending: Promise<void>): Promise<boolean> {
    const { request } = this.#asked;
    const persistent = this.#asked.persistent();
    const { up } = this;
    const { first, rest } = this.#parties;
    const body = responseBody(response, request.method);
    const serverCloses = closesAfter(response);
    const dechunk = body.kind === "chunked" && request.minor === 0;
    /* As on the kernel path, where a server's wish to close reaches the client as it was said. */
    const keep = persistent && body.kind !== "untilClose" && !dechunk && !serverCloses;
    const headers = response.headers.flatMap(([name, value]): Field[] => {
      const lower = name.toLowerCase();
      if (lower === "connection")
        return [[name, keep || tokens([[name, value]], lower).includes("close") ? value : "close"]];
      if (lower === "keep-alive" && !keep) return [];
      if (lower === "transfer-encoding" && dechunk) return [];
      return HOP_BY_HOP.has(lower) ? [] : [[name, value]];
    });
    const spoken = headers.some(([name]) => name.toLowerCase() === "connection");
    if (!spoken && !persistent) headers.push(["Connection", "close"]);
    else if (!spoken && keep && request.minor === 0) headers.push(["Connection", "keep-alive"]);
    this.#hooks.started();
    const reader = new BodyReader(up.source, body, 502);
    let head: Buffer | undefined = writeHead(`HTTP/1.1 ${response.status} ${response.reason}`, headers);
    if (up.source.buffer.length === 0 || reader.done) {
      await first(head);
      head = undefined;
    }
    for (let data = await reader.next(); data; data = await reader.next()) {
      this.#heard();
      this.received += data.length;
      const framed = body.kind === "chunked" && !dechunk ? chunk(data) : data;
      if (head) await first(Buffer.concat([head, framed]));
      else await rest(framed);
      head = undefined;
    }
    if (head) await first(head);
    if (body.kind === "chunked" && !dechunk) await rest(lastChunk(reader.trailers));
    /* Where the answer came first, the rest of the request still belongs to the server. */
    const whole = (await settled(sending)) && this.#upload.whole;
    if (whole && !serverCloses && body.kind !== "untilClose" && up.source.empty) this.#hooks.giveBack();
    else up.socket.destroy();
    return keep && whole;
  }

  /** 101: the two sockets are one from now on; each end crosses in its own time. */
  async #tunnel(response: StatusLine, sending: Promise<void>): Promise<boolean> {
    const { stream, source, first } = this.#parties;
    const { up } = this;
    const heard = () => this.#heard();
    this.#hooks.started();
    this.#hooks.tunnels();
    await first(writeHead(`HTTP/1.1 101 ${response.reason}`, response.headers));
    /* The rest of the request comes before the first byte of the new protocol. */
    const there = sending
      .then(() => {
        this.#hooks.tunnels();
        return pass(source, up.socket, heard);
      })
      .then(
        () => up.socket.end(),
        () => breakOff(up.socket),
      );
    const back = pass(up.source, stream, heard).then(
      () => stream.end(),
      () => breakOff(stream),
    );
    await Promise.all([there, back]);
    up.socket.destroy();
    return false;
  }

  /** A server that does not read may still answer: only the client's own faults end the wait for it. */
  #refusal(sending: Promise<void>): Promise<never> {
    const refused = new Promise<never>((_, reject) => {
      sending.catch((error) => {
        if (!(error instanceof Malformed) && !this.#parties.source.over) return;
        this.up.socket.destroy();
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
