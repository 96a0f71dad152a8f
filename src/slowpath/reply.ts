import { STATUS_CODES } from "node:http";
import { type Field, Malformed, writeHead } from "./http1.ts";
import type { Flag } from "./ports.ts";
import { ConnectFailed } from "./upstream.ts";

/** What the slow path answers by itself. */

export const REASONS: Readonly<Record<number, string>> = {
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

export function localReply(
  status: number,
  body: string,
  how: { close: boolean; head: boolean; extra: readonly Field[] },
): Buffer {
  const bodiless = status === 204 || status === 304;
  const bytes = Buffer.from(bodiless ? "" : body, "latin1");
  /* As Envoy's prepareLocalReply: a type goes with a text, be it one that the status keeps from being sent. */
  const extra = body === "" ? how.extra.filter(([name]) => name.toLowerCase() !== "content-type") : how.extra;
  const names = new Set(extra.map(([name]) => name.toLowerCase()));
  const own: Field[] = [
    ...(bodiless ? [] : ([["content-length", String(bytes.length)]] as Field[])),
    ...(body === "" ? [] : ([["content-type", "text/plain"]] as Field[])),
    ["date", new Date().toUTCString()],
    ["server", "xlb"],
    ...(how.close ? ([["connection", "close"]] as Field[]) : []),
  ];
  const headers = [...extra, ...own.filter(([name]) => !names.has(name))];
  const head = writeHead(`HTTP/1.1 ${status} ${reasonOf(status)}`, headers);
  return how.head ? head : Buffer.concat([head, bytes]);
}

const reasonOf = (status: number) => REASONS[status] ?? STATUS_CODES[status] ?? "Unknown";

/** What Envoy says of a server that failed before its answer. */
export const before = "upstream connect error or disconnect/reset before headers. reset reason: ";

/** What went wrong, as Envoy would put it. */
export class Failure {
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

export function failureOf(error: unknown, timedOut: boolean): Failure {
  if (timedOut) return new Failure(504, "UT", "upstream request timeout");
  if (error instanceof Failure) return error;
  if (error instanceof ConnectFailed) {
    if (error.code === "ETIMEDOUT") return new Failure(503, "UF", `${before}connection timeout`);
    return new Failure(503, "UF", `${before}remote connection failure`);
  }
  if (error instanceof Malformed) return new Failure(502, "UPE", `${before}protocol error`);
  return new Failure(503, "UC", `${before}connection termination`);
}
