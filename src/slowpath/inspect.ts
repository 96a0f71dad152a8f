/** What the first bytes of a connection say that it speaks; `more`: they say nothing yet. */
export type Spoken = "http/1.0" | "http/1.1" | "h2c" | "other" | "more";

/** As far as `http_inspector` looks for the end of a request line; a longer one ends the connection. Bytes. */
export const MAX_INSPECTED = 64 << 10;

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
/** RFC 9110 section 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
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
  if (!TOKEN.test(method) || target === "" || rest.length > 0) return "other";
  if (!/^HTTP\/\d\.\d$/.test(version)) return "other";
  return version === "HTTP/1.1" ? "http/1.1" : "http/1.0";
}
