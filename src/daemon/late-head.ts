import {
  closesAfter,
  type Field,
  HeadScanner,
  parseResponse,
  responseBody,
  tokens,
  writeHead,
} from "../slowpath/http1.ts";
import { FramingState, XLB_MAX_RESPONSE_HEAD } from "../tables/layout.gen.ts";
import { type Follower, followFrom } from "./follow.ts";

/** What of an answer the client gets now, and, when its head is over, what follows. */
export interface Edited {
  readonly out: Buffer;
  readonly body?: { readonly follower: Follower; readonly rest: Buffer };
}

/**
 * The head of an answer that did not come to the hook in one piece: it is kept until it is whole, and edited by rules.
 * Interim heads before it go on as they came.
 */
export class LateHead {
  readonly #edit: (fields: readonly Field[]) => readonly Field[];
  readonly #method: string;
  readonly #endsClient: boolean;
  /** Begins with what has come of the head that is due, so many bytes; with room for more, or each would be a copy. */
  #room = Buffer.alloc(0);
  #length = 0;
  #scanner = new HeadScanner(XLB_MAX_RESPONSE_HEAD);
  /** Does the server end its connection behind the answer? Known when the head is over. */
  closes = false;
  /** Its status, then. */
  status: number | undefined;

  /** `endsClient`: the client's connection ends with the answer, which says so. */
  constructor(edit: (fields: readonly Field[]) => readonly Field[], method: string, endsClient: boolean) {
    this.#edit = edit;
    this.#method = method;
    this.#endsClient = endsClient;
  }

  /** The next bytes of the answer. Throws Malformed. */
  take(bytes: Buffer): Edited {
    this.#keep(bytes);
    const interim: Buffer[] = [];
    for (;;) {
      const all = this.#room.subarray(0, this.#length);
      const end = this.#scanner.scan(all);
      if (end === undefined) return { out: Buffer.concat(interim) };
      const head = all.subarray(0, end);
      const rest = all.subarray(end);
      const answer = parseResponse(head);
      if (answer.status >= 200 || answer.status === 101) {
        this.closes = closesAfter(answer);
        this.status = answer.status;
        const fields = this.#edit(answer.headers).map((field) => this.#saidOf(field));
        const written = writeHead(`HTTP/1.${answer.minor} ${answer.status} ${answer.reason}`, fields);
        const follower = this.#follower(
          answer.status === 101 ? { kind: "untilClose" } : responseBody(answer, this.#method),
        );
        /* It outlives its head, with what it says of it. */
        this.#room = Buffer.alloc(0);
        return { out: Buffer.concat([...interim, written]), body: { follower, rest } };
      }
      interim.push(head);
      this.#room = rest;
      this.#length = rest.length;
      this.#scanner = new HeadScanner(XLB_MAX_RESPONSE_HEAD);
    }
  }

  #keep(bytes: Buffer): void {
    const length = this.#length + bytes.length;
    if (length > this.#room.length) this.#room = Buffer.concat([this.#room.subarray(0, this.#length)], 2 * length);
    bytes.copy(this.#room, this.#length);
    this.#length = length;
  }

  #saidOf([name, value]: Field): Field {
    const isWish = this.#endsClient && name.toLowerCase() === "connection";
    return isWish && !tokens([[name, value]], "connection").includes("close") ? [name, "close"] : [name, value];
  }

  #follower(body: ReturnType<typeof responseBody>): Follower {
    switch (body.kind) {
      case "none":
        return followFrom(FramingState.body, 0n);
      case "length":
        return followFrom(FramingState.body, BigInt(body.length));
      case "chunked":
        return followFrom(FramingState.chunkSize, 0n);
      case "untilClose":
        return followFrom(FramingState.untilClose, 0n);
      default:
        return body satisfies never;
    }
  }
}
