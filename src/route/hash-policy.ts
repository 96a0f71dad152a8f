import type { Address, CookieSource, ForwardAction, HashPolicy, HashSource, TcpChain } from "../model/config.ts";
import { addressText } from "../tables/address.ts";
import { textBytes } from "../tables/text.ts";
import { combine, xxHash64, xxHash64All } from "./hash.ts";
import { Headers, queryParameters, type RequestHead } from "./match.ts";
import { replaceAll } from "./rewrite.ts";

/** By what requests belong together, as Envoy sees it (source/common/http/hash_policy.cc). */

export interface Ends {
  /** Missing: it is not known any more. */
  readonly client: Address | undefined;
  /** What the client connected to. */
  readonly local?: Address | undefined;
}

export interface RequestHash {
  /** Missing: nothing that the policies ask for is there. */
  readonly hash: bigint | undefined;
  /** Each a `set-cookie` for the response: cookies that the client did not have. */
  readonly cookies: readonly string[];
}

/** The hash of a request. With `cookies: "keep"` a client that has no cookie gets none, and its policy says nothing. */
export function hashRequest(
  policies: readonly HashPolicy[],
  head: RequestHead,
  ends: Ends,
  cookies: "give" | "keep",
): RequestHash {
  const headers = new Headers(head, "each");
  let hash: bigint | undefined;
  const given: string[] = [];
  for (const { source, terminal } of policies) {
    let found = hashOf(source, head, headers, ends);
    if (found === undefined && source.kind === "cookie" && source.ttlSeconds !== undefined && cookies === "give") {
      const value = cookieValueFor(ends);
      if (value !== undefined) given.push(setCookie(source, value, source.ttlSeconds));
      found = hashText(value);
    }
    if (found !== undefined) hash = combine(hash, found);
    if (terminal && hash !== undefined) break;
  }
  return { hash, cookies: given };
}

/** The hash of a connection by tcp_proxy; undefined: chance decides. */
export const hashConnection = ({ hashesSource }: TcpChain, client: Address | undefined): bigint | undefined =>
  hashesSource === true ? hashText(client?.ip) : undefined;

/** By what one of several clusters is picked: the hash where the route asks for it and the request has one. */
export function clusterChance(action: ForwardAction, head: RequestHead, ends: Ends, chance: number): number | bigint {
  if (action.clusterByHash !== true) return chance;
  return hashRequest(action.hashPolicies ?? [], head, ends, "keep").hash ?? chance;
}

const hashText = (text: string | undefined) => (text === undefined ? undefined : xxHash64(text));

function hashOf(source: HashSource, head: RequestHead, headers: Headers, { client }: Ends): bigint | undefined {
  switch (source.kind) {
    case "header": {
      const { rewrite } = source;
      const values = headers.get(source.name);
      const hashed = rewrite === undefined ? values : values?.map((value) => replaceAll(rewrite, value));
      return hashed && xxHash64All([...hashed].sort());
    }
    case "cookie":
      return hashText(cookieValue(headers.get("cookie") ?? [], textBytes(source.name)) || undefined);
    case "sourceIp":
      return hashText(client?.ip);
    case "query":
      return hashText(queryParameters(head.path).get(textBytes(source.name)));
    default:
      return source satisfies never;
  }
}

/** Of the first cookie of that name; quotes around it are no part of it. */
function cookieValue(lines: readonly string[], name: string): string | undefined {
  for (const crumb of lines.flatMap((line) => line.split(";"))) {
    const equals = crumb.indexOf("=");
    if (equals === -1 || crumb.slice(0, equals).replace(/^ +/, "") !== name) continue;
    const value = crumb.slice(equals + 1);
    return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
  }
  return undefined;
}

/** The same for all requests of a connection. */
function cookieValueFor({ client, local }: Ends): string | undefined {
  if (client === undefined || local === undefined) return undefined;
  return xxHash64(addressText(client) + addressText(local))
    .toString(16)
    .padStart(16, "0");
}

function setCookie({ name, path, attributes }: CookieSource, value: string, ttlSeconds: number): string {
  const rest = [
    ...(ttlSeconds === 0 ? [] : [`Max-Age=${ttlSeconds}`]),
    ...(path === "" ? [] : [`Path=${path}`]),
    ...attributes.map((attribute) =>
      attribute.value === "" ? attribute.name : `${attribute.name}=${attribute.value}`,
    ),
    "HttpOnly",
  ];
  return textBytes([`${name}="${value}"`, ...rest].join("; "));
}
