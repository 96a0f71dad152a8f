import type { ForwardAction, HashingPolicy, HashPolicy, HashSource, RingHash } from "../model/config.ts";
import type { Metadata } from "../model/metadata.ts";
import type { Fields } from "./fields.ts";
import { readHeaderName, readRegexRewrite } from "./matches.ts";

/** `hash_policy` of routes, RING_HASH and MAGLEV of clusters. */

const RING_SIZE = 1_024;
const MAX_RING_SIZE = 8_388_608;
const TABLE_SIZE = 65_537;

/** Of `ring_hash_lb_config`, or of a typed RingHash. Missing: all as Envoy has it. */
export function readRingHash(ring: Fields | undefined): RingHash {
  const minimumSize = ring?.number("minimum_ring_size") ?? RING_SIZE;
  const maximumSize = ring?.number("maximum_ring_size") ?? MAX_RING_SIZE;
  if (minimumSize > maximumSize)
    ring?.reject("minimum_ring_size", `is ${minimumSize}, more than maximum_ring_size (${maximumSize})`);
  return { kind: "ringHash", minimumSize, maximumSize, hash: readHashFunction(ring) };
}

function readHashFunction(ring: Fields | undefined): RingHash["hash"] {
  // The default of a typed one is a value of its own.
  const named = ring?.oneOf("hash_function", "XX_HASH", "MURMUR_HASH_2", "DEFAULT_HASH");
  return named === "MURMUR_HASH_2" ? "murmurHash2" : "xxHash64";
}

/** Of `maglev_lb_config`, or of a typed Maglev. */
export function readMaglev(maglev: Fields | undefined): HashingPolicy {
  const tableSize = maglev?.number("table_size") ?? TABLE_SIZE;
  if (!isPrime(tableSize)) maglev?.reject("table_size", `must be a prime number, which ${tableSize} is not`);
  return { kind: "maglev", tableSize };
}

function isPrime(number: number): boolean {
  for (let divisor = 2; divisor * divisor <= number; divisor++) if (number % divisor === 0) return false;
  return number > 1;
}

/** `hash_key` in an endpoint's metadata; what is no text Envoy takes no notice of. */
export function hashKeyOf(metadata: Metadata | undefined): string | undefined {
  const key = metadata?.hash_key;
  return typeof key === "string" && key !== "" ? key : undefined;
}

/** `hash_policy` of a route. */
export function readHashPolicies(action: Fields): ForwardAction["hashPolicies"] {
  const policies = action.messages("hash_policy").flatMap((policy): HashPolicy[] => {
    const terminal = policy.boolean("terminal") ?? false;
    const source = readSource(policy);
    return source === undefined ? [] : [{ source, terminal }];
  });
  return policies.length === 0 ? undefined : policies;
}

function readSource(policy: Fields): HashSource | undefined {
  const header = policy.message("header");
  if (header !== undefined) {
    const rewrite = header.message("regex_rewrite");
    return {
      kind: "header",
      name: readHeaderName(header, "header_name"),
      ...(rewrite === undefined ? {} : { rewrite: readRegexRewrite(rewrite) }),
    };
  }
  const cookie = policy.message("cookie");
  if (cookie !== undefined) return readCookie(cookie);
  // Without source_ip it asks for nothing, to Envoy as well.
  const connection = policy.message("connection_properties");
  if (connection !== undefined) return connection.boolean("source_ip") ? { kind: "sourceIp" } : undefined;
  const query = policy.message("query_parameter");
  return query === undefined ? undefined : { kind: "query", name: query.string("name") };
}

function readCookie(cookie: Fields): HashSource {
  const ttlMs = cookie.milliseconds("ttl");
  checkCookieText(cookie, "name");
  checkCookieText(cookie, "path");
  return {
    kind: "cookie",
    name: cookie.string("name"),
    ...(ttlMs === undefined ? {} : { ttlSeconds: Math.floor(ttlMs / 1_000) }),
    path: cookie.string("path"),
    attributes: cookie.messages("attributes").map((attribute) => ({
      name: attribute.string("name"),
      value: attribute.string("value"),
    })),
  };
}

/** They are written into a `set-cookie` as they are. */
function checkCookieText(owner: Fields, field: string): void {
  if (/\p{Cc}/u.test(owner.string(field)))
    owner.reject(field, "must not hold a control character: it goes into a header");
}
