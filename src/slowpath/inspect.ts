import type { Connection, Inspected } from "../route/chain.ts";
import { readClientHello } from "./client-hello.ts";

/** What first bytes tell of a connection. */
export type Known = Pick<Connection, "transportProtocol" | "serverName" | "applicationProtocols">;

export const NOTHING: Known = { transportProtocol: "raw_buffer", serverName: "", applicationProtocols: [] };

/** `known` is all there is to know, or so far (`more`); `over`: the connection is closed. */
export interface Heard {
  readonly kind: "known" | "more" | "over";
  readonly known: Known;
}

/** What a connection's first bytes say to those who look at them. Which of them is asked first does not matter. */
export function hear(bytes: Buffer, { tls, http }: Inspected): Heard {
  const hello = tls && readClientHello(bytes, tls.mostBytes);
  if (hello?.kind === "more" || hello?.kind === "over") return { kind: hello.kind, known: NOTHING };
  if (hello?.kind === "tls") {
    const { serverName, protocols } = hello;
    return { kind: "known", known: { transportProtocol: "tls", serverName, applicationProtocols: protocols } };
  }
  if (tls?.closesOthers) return { kind: "over", known: NOTHING };
  const known = { ...NOTHING, applicationProtocols: hello?.protocols ?? [] };
  const spoken = http ? whatSpeaks(bytes) : "other";
  if (spoken === "other") return { kind: "known", known };
  if (spoken === "more") return { kind: bytes.length >= MAX_INSPECTED ? "over" : "more", known };
  return { kind: "known", known: { ...known, applicationProtocols: [spoken] } };
}

/** What the first bytes of a connection say that it speaks; `more`: they say nothing yet. */
export type Spoken = "http/1.0" | "http/1.1" | "h2c" | "other" | "more";

/** As far as `http_inspector` looks for the end of a request line; a longer one ends the connection. Bytes. */
export const MAX_INSPECTED = 64 << 10;

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
/** RFC 9110 section 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\x00-\x1f\x7f]/;
const [CR, LF] = [13, 10];

/**
 * By Envoy's source/extensions/filters/listener/http_inspector: the preface of HTTP/2, or a whole request line with a
 * version, of which all but HTTP/1.1 counts as HTTP/1.0.
 */
export function whatSpeaks(bytes: Buffer): Spoken {
  if (bytes.length === 0) return "more";
  const same = Math.min(bytes.length, PREFACE.length);
  if (bytes.compare(PREFACE, 0, same, 0, same) === 0) return bytes.length < PREFACE.length ? "more" : "h2c";
  if (bytes[0] === CR || bytes[0] === LF) return "other";
  const end = bytes.indexOf(LF);
  if (end < 0) return TOKEN.test(String.fromCharCode(bytes[0]!)) ? "more" : "other";
  /* As Envoy's parser, any white space parts the words; the slow path is stricter when it comes to the request. */
  const words = bytes
    .toString("latin1", 0, end)
    .trimEnd()
    .split(/[ \t]+/);
  const [method = "", target = "", version = "", ...rest] = words;
  if (!TOKEN.test(method) || target === "" || CONTROL.test(target) || rest.length > 0) return "other";
  if (!/^HTTP\/\d\.\d$/.test(version)) return "other";
  return version === "HTTP/1.1" ? "http/1.1" : "http/1.0";
}
