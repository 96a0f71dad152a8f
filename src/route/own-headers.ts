import { isIP, isIPv4 } from "node:net";
import type { Address, OwnHeaders } from "../model/config.ts";
import { addrKey, fromAddrKey } from "../tables/address.ts";
import { joinLines } from "../tables/joined.ts";
import { lowerCase } from "../tables/text.ts";
import { isAuthority } from "./authority.ts";
import { holds } from "./chain.ts";
import type { Field } from "./edit.ts";
import type { RequestHead } from "./match.ts";
import { RETRY_HEADERS } from "./retry.ts";
import { TIMEOUT_HEADERS, type Timeouts } from "./timeouts.ts";

/**
 * The headers by which Envoy speaks of itself, and of whom it serves: mutateRequestHeaders and mutateResponseHeaders of
 * source/common/http/conn_manager_utility.cc, and what source/common/router/router.cc adds. Pure: time, chance and
 * addresses are arguments. What each option does was asked of Envoy 1.40 (docs/decisions/0012).
 */

/** What of a connection the headers may speak of. */
export interface Ends {
  /** Missing: it is not known any more. */
  readonly client: Address | undefined;
  /** What the client connected to; missing as above. */
  readonly local: Address | undefined;
  /** An address of this machine that others know: it stands for a client on a loopback address. */
  readonly machineIp: string;
  /** A new random UUID of version 4. */
  makeId(): string;
}

/** A request as the rules see it. */
export interface Received {
  readonly head: RequestHead;
  /** Whom it comes from, as far as who handed it on is believed; its port is 0 then. */
  readonly client: Address | undefined;
}

/**
 * What is made of a request before a route is looked for. Without options nothing is set, and advice is not taken.
 * `internalOnly`: what of headers none but internal clients may say, of whom there are none then.
 */
export function receive(
  own: OwnHeaders | undefined,
  internalOnly: readonly string[],
  head: RequestHead,
  ends: Ends,
): Received {
  if (own === undefined) {
    const { address } = lastForwarded(lineOf(head.headers, "x-forwarded-for"), 0);
    const headers = without(head.headers, internalOnly.length === 0 ? ADVICE : new Set([...ADVICE, ...internalOnly]));
    return { head: { ...head, headers }, client: address ?? ends.client };
  }
  const lines = new Lines(without(head.headers, own.keepsClientCertificate ? ALWAYS_DROPPED : WITH_CERTIFICATE));
  if (!isReferer(lines.get("referer") ?? "")) lines.drop("referer");
  const { client, isTrusted } = forward(own, lines, ends);
  const scheme = own.scheme ?? head.scheme ?? schemeOf(lines.get("x-forwarded-proto"));
  const isInternal = isTrusted && client !== undefined && own.internal.some((range) => holds(range, client.ip));
  const from = client ?? ends.client;
  const isEdge = own.isEdge && !isInternal;
  if (isInternal) lines.set("x-envoy-internal", "true");
  else lines.drop(...FOR_INTERNALS, ...internalOnly, ...(isEdge ? OF_INTERNALS : []));
  nameAgent(own, lines);
  if (own.via !== "") lines.append("via", own.via, ", ");
  if (isEdge && from !== undefined) lines.set("x-envoy-external-address", from.ip);
  if (own.makesRequestId) identify(own, lines, isEdge, ends);
  const lost = lines.get("x-forwarded-proto") === "" ? { isLost: true as const } : {};
  return { head: { ...head, headers: lines.fields, scheme, ...lost }, client: from };
}

/** Who is believed to be the client, and whether it may turn out to be an internal one. */
function forward(own: OwnHeaders, lines: Lines, { client, local, machineIp }: Ends) {
  const chain = lines.get("x-forwarded-for");
  const { trustedHops } = own;
  const proto = own.scheme ?? "http";
  const port = own.appendsPort && local !== undefined ? String(local.port) : undefined;
  /* What stands there is believed only if there is somebody in front who is trusted. */
  const believes = !own.isEdge || trustedHops > 0;
  if (!believes || !lines.has("x-forwarded-proto") || own.scheme !== undefined) lines.set("x-forwarded-proto", proto);
  if (port !== undefined && (!believes || !lines.has("x-forwarded-port"))) lines.set("x-forwarded-port", port);
  if (!own.isEdge) {
    const { address, isOnly } = lastForwarded(chain, trustedHops);
    return { client: address, isTrusted: isOnly };
  }
  if (own.appendsClient && client !== undefined)
    lines.append("x-forwarded-for", isLoopback(client.ip) ? machineIp : client.ip, ",");
  const told = trustedHops > 0 ? lastForwarded(chain, trustedHops - 1).address : undefined;
  return { client: told ?? client, isTrusted: chain === undefined };
}

function nameAgent({ userAgent }: OwnHeaders, lines: Lines): void {
  if (userAgent === undefined) return;
  const { cluster, node } = userAgent;
  lines.set("x-envoy-downstream-service-cluster", cluster);
  if (node !== "") lines.set("x-envoy-downstream-service-node", node);
  if ((lines.get("user-agent") ?? "") === "") lines.set("user-agent", cluster);
}

/** UUIDRequestIDExtension::set of source/extensions/request_id/uuid/config.cc. */
function identify(own: OwnHeaders, lines: Lines, isEdge: boolean, { makeId }: Ends): void {
  const id = lines.get("x-request-id") ?? "";
  if (id === "" || (isEdge && !own.keepsRequestId)) {
    lines.set("x-request-id", makeId());
    return;
  }
  /* Whether it is traced is not for somebody outside to say. */
  const tellsTrace = own.marksTrace && id.length === UUID_LENGTH;
  if (isEdge && tellsTrace) lines.set("x-request-id", `${id.slice(0, TRACE_DIGIT)}4${id.slice(TRACE_DIGIT + 1)}`);
}

const UUID_LENGTH = 36;
const TRACE_DIGIT = 14;

/** How long a server is waited for, as it is told: milliseconds, 0 for any time. FilterUtility::setTimeoutHeaders. */
export function expectedMs({ wholeMs, perTryMs }: Timeouts, sinceMs: number): number {
  if (perTryMs > 0 && (wholeMs === 0 || perTryMs < wholeMs - sinceMs)) return perTryMs;
  return wholeMs === 0 ? 0 : Math.max(1, wholeMs - sinceMs);
}

export const EXPECTED_TIMEOUT = "x-envoy-expected-rq-timeout-ms";
export const SERVICE_TIME = "x-envoy-upstream-service-time";

/** The fields that the client gets at last; `request` is the head that went on, missing where none could be read. */
export function answer(
  own: OwnHeaders | undefined,
  fields: readonly Field[],
  request: RequestHead | undefined,
  nowMs: number,
): readonly Field[] {
  if (own === undefined) return fields;
  const lines = new Lines(without(fields, DROPPED_IN_ANSWERS));
  const id = request && lineOf(request.headers, "x-request-id");
  const tells = own.tellsRequestId || (request && lineOf(request.headers, "x-envoy-force-trace") !== undefined);
  if (!lines.has("date")) lines.set("date", new Date(nowMs).toUTCString());
  if (own.serverHeader === "overwrite" || (own.serverHeader === "appendIfAbsent" && !lines.has("server")))
    lines.set("server", own.server);
  if (tells && id !== undefined) lines.set("x-request-id", id);
  if (own.via !== "") lines.append("via", own.via, ", ");
  return lines.fields;
}

// ---- which headers ----

/** By these a request may say how long it may take and how often it is tried: no server gets them. */
const ADVICE: ReadonlySet<string> = new Set([...RETRY_HEADERS, ...TIMEOUT_HEADERS]);

/** What nobody but an internal client may say. */
const FOR_INTERNALS = [...ADVICE, EXPECTED_TIMEOUT, "x-envoy-force-trace", "x-envoy-ip-tags", "x-envoy-original-url"];

/** What is said among internal servers, and not by whom an edge serves. */
const OF_INTERNALS = [
  "x-envoy-decorator-operation",
  "x-envoy-downstream-service-cluster",
  "x-envoy-downstream-service-node",
  "x-envoy-original-host",
  "x-envoy-original-path",
];

/** Nobody says the first but Envoy, and its router takes the others for itself, whoever says them. */
const ALWAYS_DROPPED: ReadonlySet<string> = new Set([
  "keep-alive",
  "x-envoy-internal",
  "x-envoy-upstream-alt-stat-name",
  "x-envoy-upstream-stream-duration-ms",
]);
const WITH_CERTIFICATE: ReadonlySet<string> = new Set([...ALWAYS_DROPPED, "x-forwarded-client-cert"]);
const DROPPED_IN_ANSWERS: ReadonlySet<string> = new Set(["keep-alive", "proxy-connection"]);

// ---- what they say ----

/**
 * The last address of x-forwarded-for but for so many behind it, if it is one: Utility::getLastAddressFromXFF of
 * source/common/http/utility.cc. `isOnly`: there is no other.
 */
export function lastForwarded(chain: string | undefined, skipped: number) {
  const none = { address: undefined, isOnly: false };
  if (chain === undefined) return none;
  let left = chain;
  for (let hop = 0; hop < skipped; hop++) {
    const comma = left.lastIndexOf(",");
    if (comma === -1) return none;
    left = left.slice(0, comma);
  }
  const comma = left.lastIndexOf(",");
  /* With nothing behind the last comma it is all of it, which is no address. */
  const text = comma + 1 < left.length ? left.slice(comma + 1) : left;
  const ip = canonicalIp(text.trim());
  return ip === undefined ? none : { address: { ip, port: 0 }, isOnly: comma === -1 && skipped === 0 };
}

/** As inet_ntop writes it; undefined: it is none. */
function canonicalIp(text: string): string | undefined {
  if (isIP(text) === 0 || text.includes("%")) return undefined;
  if (isIPv4(text)) return text;
  const { ip } = fromAddrKey(addrKey({ ip: text, port: 0 }));
  return isIPv4(ip) ? `::ffff:${ip}` : ip;
}

/** Only these two are to Envoy. */
const isLoopback = (ip: string) => ip === "::1" || ip === "127.0.0.1";

/** Only these two are schemes to Envoy. */
const schemeOf = (proto: string | undefined) => (lowerCase(proto ?? "") === "https" ? "https" : "http");

/**
 * Utility::isValidRefererValue: a URL without a fragment and a user, or a path, whose first segment holds no colon. Any
 * other referer is dropped.
 */
function isReferer(text: string): boolean {
  const [, host, rest = ""] = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/([^/?#]*)(.*)$/.exec(text) ?? [];
  if (host !== undefined) return isAuthority(host) && /^[!"$-~]*$/.test(rest);
  return /^[A-Za-z0-9\-._~:/?[\]@!$&'()*+,;=%]*$/.test(text) && !/^[^/]*:/.test(text);
}

// ---- lines of a head ----

type Fields = readonly Field[];

function without(fields: Fields, names: ReadonlySet<string>): Fields {
  return fields.some(([name]) => names.has(lowerCase(name)))
    ? fields.filter(([name]) => !names.has(lowerCase(name)))
    : fields;
}

/** Of all lines of that name as one, as Envoy keeps its own. */
function lineOf(fields: Fields, name: string): string | undefined {
  const values = fields.filter(([written]) => lowerCase(written) === name).map(([, value]) => value);
  return values.length === 0 ? undefined : values.reduce(joinLines);
}

/** A head that is being changed, header by header. Names are in lower case. */
class Lines {
  #fields: Fields;

  constructor(fields: Fields) {
    this.#fields = fields;
  }

  get fields(): Fields {
    return this.#fields;
  }

  get(name: string): string | undefined {
    return lineOf(this.#fields, name);
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  drop(...names: readonly string[]): void {
    this.#fields = without(this.#fields, new Set(names));
  }

  set(name: string, value: string): void {
    this.drop(name);
    this.#fields = [...this.#fields, [name, value]];
  }

  append(name: string, value: string, between: string): void {
    const before = this.get(name) ?? "";
    this.set(name, before === "" ? value : `${before}${between}${value}`);
  }
}
