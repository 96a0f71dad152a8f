import { isBodiless, reasonOf } from "../tables/status.ts";
import { type Field, Malformed, writeHead } from "./http1.ts";
import type { Flag } from "./ports.ts";
import { ConnectFailed, Overflow } from "./upstream.ts";

/** What the slow path answers by itself. */

export function localReply(
  status: number,
  body: string,
  how: {
    close: boolean;
    head: boolean;
    extra: readonly Field[];
    /** A body that is empty has a type. */
    keepsType?: boolean;
    /** What a listener makes of the fields of all its answers. Missing: XLB says that it is one of its own. */
    finish?: (fields: readonly Field[]) => readonly Field[];
  },
): Buffer {
  const bodiless = isBodiless(status);
  const bytes = Buffer.from(bodiless ? "" : body, "latin1");
  /* As Envoy's prepareLocalReply: a type goes with a text, be it one that the status keeps from being sent. */
  const extra =
    body === "" && how.keepsType !== true
      ? how.extra.filter(([name]) => name.toLowerCase() !== "content-type")
      : how.extra;
  const names = new Set(extra.map(([name]) => name.toLowerCase()));
  const own: Field[] = [
    ...(bodiless ? [] : ([["content-length", String(bytes.length)]] as Field[])),
    ...(body === "" ? [] : ([["content-type", "text/plain"]] as Field[])),
    ["date", new Date().toUTCString()],
    ...(how.finish ? [] : ([["server", "xlb"]] as Field[])),
    ...(how.close ? ([["connection", "close"]] as Field[]) : []),
  ];
  const made = [...extra, ...own.filter(([name]) => !names.has(name))];
  const headers = how.finish ? how.finish(made) : made;
  const head = writeHead(`HTTP/1.1 ${status} ${reasonOf(status)}`, headers);
  return how.head ? head : Buffer.concat([head, bytes]);
}

/** What went wrong, as Envoy would put it. */
export class Failure {
  readonly status: number;
  readonly flag: Flag | undefined;
  readonly body: string;
  readonly extra: readonly Field[];

  constructor(status: number, flag: Flag | undefined, body: string, extra: readonly Field[] = []) {
    this.status = status;
    this.flag = flag;
    this.body = body;
    this.extra = extra;
  }
}

/** What is answered for a server that failed before its answer; `retried`: it was not the first. */
export function failureOf(error: unknown, retried: boolean): Failure {
  if (error instanceof Failure) return error;
  const before = "upstream connect error or disconnect/reset before headers. ";
  const because = `${before}${retried ? "retried and the latest " : ""}reset reason: `;
  if (error instanceof ConnectFailed) {
    if (error.code === "ETIMEDOUT") return new Failure(503, "UF", `${because}connection timeout`);
    return new Failure(503, "UF", `${because}${error.isLocal ? "local" : "remote"} connection failure`);
  }
  if (error instanceof Overflow) return new Failure(503, "UO", `${because}overflow`, [["x-envoy-overloaded", "true"]]);
  if (error instanceof Malformed) return new Failure(502, "UPE", `${because}protocol error`);
  return new Failure(503, "UC", `${because}connection termination`);
}

/** Time is over for a request, of which `whole` says whether all of it has come: 504, or 408. */
export const timedOut = (whole: boolean, flag: Flag | undefined, body: string) =>
  new Failure(whole ? 504 : 408, flag, body);
