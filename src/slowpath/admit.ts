import type { HttpOptions } from "../model/config.ts";
import { isAuthority } from "../route/authority.ts";
import { normalise } from "../route/normalise.ts";
import {
  type Body,
  checkNominated,
  type Field,
  hostOf,
  Malformed,
  parseRequest,
  type RequestLine,
  requestBody,
  tokens,
  values,
} from "./http1.ts";
import type { RoutedHead } from "./ports.ts";

/** A request that may be served. */
export interface Admitted {
  readonly request: RequestLine;
  readonly body: Body;
  /** The protocol that the client asks to change to, in lower case. */
  readonly upgrade: string | undefined;
  /** Missing: no rule can take it, for it has no path: CONNECT, `OPTIONS *`, `http://host?query`. Envoy says 404. */
  readonly routed: RoutedHead | undefined;
  /** The path where the client is to ask instead. */
  readonly moved?: string;
}

/**
 * What a whole request head asks for, as Envoy's HTTP connection manager sees it before it looks for a route
 * (ActiveStream::decodeHeaders in source/common/http/conn_manager_impl.cc). Throws Malformed.
 */
export function admit(head: Buffer, http: HttpOptions): Admitted {
  const request = parseRequest(head, http.maxHeadersCount, http.normalisation?.underscores);
  checkNominated(request.headers);
  const body = requestBody(request);
  checkMethod(request, body);
  const host = hostOf(request);
  if (request.minor === 0 && !http.acceptHttp10) throw new Malformed(426, "HTTP/1.0");
  const upgrade = upgradeOf(request);
  const routed = routedHead(request, host ?? http.defaultHostForHttp10);
  /* An edge with nobody before it speaks for itself of how requests come in. */
  if (http.own?.isEdge && http.own.trustedHops === 0 && routed?.scheme === "https")
    throw new Malformed(403, "https in the target");
  if (routed === undefined || !routed.path.startsWith("/")) return { request, body, upgrade, routed: undefined };
  /* In an upgrade Envoy leaves alone what Connection names. */
  const headers = upgrade === undefined ? withoutNominated(routed.headers) : routed.headers;
  const seen = { ...routed, headers };
  if (http.normalisation === undefined) return { request, body, upgrade, routed: seen };
  const normalised = normalise(seen, http.normalisation);
  switch (normalised.kind) {
    case "head":
      return { request, body, upgrade, routed: normalised.head };
    case "moved":
      return { request, body, upgrade, routed: seen, moved: normalised.path };
    case "refused":
      throw new Malformed(400, normalised.why);
    default:
      return normalised satisfies never;
  }
}

/** What Envoy asks of two methods beside their lines. */
function checkMethod({ method, headers }: RequestLine, body: Body): void {
  if (method === "CONNECT" && body.kind === "chunked") throw new Malformed(501, "CONNECT with a transfer coding");
  if (method === "CONNECT" && body.kind !== "none") throw new Malformed(400, "CONNECT with a length");
  /* A query without a type says nothing. */
  if (method === "QUERY" && !values(headers, "content-type")[0]) throw new Malformed(400, "QUERY without a type");
}

/** Undefined: CONNECT, which has no path. */
function routedHead({ method, target, headers }: RequestLine, authority: string | undefined): RoutedHead | undefined {
  if (method === "CONNECT") {
    if (!isAuthority(target) || !/:\d+$/.test(target)) throw new Malformed(400, "target of CONNECT");
    return undefined;
  }
  if (target.startsWith("/") || (target.startsWith("*") && method === "OPTIONS")) {
    if (authority === undefined) throw new Malformed(400, "host");
    return { method, authority, path: target, headers };
  }
  const [, secure, named = "", rest = ""] = /^http(s?):\/\/([^/?]*)(.*)$/i.exec(target) ?? [];
  if (!isAuthority(named)) throw new Malformed(400, "target");
  return {
    method,
    authority: named,
    scheme: secure ? "https" : "http",
    path: rest === "" ? "/" : rest,
    headers: headers.map(([name, value]) => (name.toLowerCase() === "host" ? [name, named] : [name, value])),
  };
}

/** What Connection names is for one hop: the rules do not see it. */
function withoutNominated(headers: readonly Field[]): readonly Field[] {
  const nominated = new Set(tokens(headers, "connection"));
  /* Connection: keep-alive goes on to the server, as on the kernel path. */
  for (const kept of ["connection", "keep-alive"]) nominated.delete(kept);
  return nominated.size === 0 ? headers : headers.filter(([name]) => !nominated.has(name.toLowerCase()));
}

/**
 * The protocol a client asks to change to: all of Upgrade, where Connection says that it is meant. h2c is not offered,
 * as in Envoy (Utility::isUpgrade, ConnectionImpl::onHeadersCompleteImpl).
 */
function upgradeOf({ headers }: RequestLine): string | undefined {
  const asked = values(headers, "upgrade");
  if (asked.length === 0 || !tokens(headers, "connection").includes("upgrade")) return undefined;
  const upgrade = asked
    .filter((each) => each !== "")
    .join(",")
    .toLowerCase();
  return upgrade === "h2c" ? undefined : upgrade;
}
