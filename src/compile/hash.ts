import type { Config, ForwardAction, HashPolicy, Route } from "../model/config.ts";
import { type HashTable, isHashing } from "../model/hash-table.ts";
import type { BlobBuilder } from "../tables/blob.ts";
import { HASH_GIVES, HASH_LAST, HASH_TERMINAL, HashKind, XLB_MAX_HASH_POLICIES } from "../tables/layout.gen.ts";

/** Gives the index of a header that the hook keeps for the rules; undefined where it does not keep it. */
export type IndexOf = (name: string) => number | undefined;

/** Bytes of the name of a cookie or of a query parameter. */
const MAX_NAME = 1_024;

/** The names of the clusters that go by hashes. */
export const hashingClusters = ({ clusters }: Config): ReadonlySet<string> =>
  new Set(clusters.filter(({ policy }) => isHashing(policy)).map(({ name }) => name));

/** `hashing` are {@link hashingClusters}: where nobody asks for a request's hash, none is needed. */
export function withoutIdlePolicies(route: Route, hashing: ReadonlySet<string>): Route {
  const { action } = route;
  if (action.kind !== "forward" || action.hashPolicies === undefined || action.clusterByHash) return route;
  const isAsked = action.clusters.some((entry) => "header" in entry || hashing.has(entry.name));
  return isAsked ? route : { ...route, action: { ...action, hashPolicies: undefined } };
}

/** Why the kernel cannot hash as an action asks; undefined when it can. */
export function whyNotHash({ hashPolicies = [] }: ForwardAction, indexOf: IndexOf): string | undefined {
  if (hashPolicies.length > XLB_MAX_HASH_POLICIES) return `it has more than ${XLB_MAX_HASH_POLICIES} hash policies`;
  for (const { source } of hashPolicies) {
    switch (source.kind) {
      case "header":
        if (source.rewrite !== undefined) return `its hash policy rewrites ${source.name} by a regular expression`;
        if (indexOf(source.name) === undefined)
          return `header ${source.name} of its hash policy is a name too many, too long or not for the kernel path`;
        break;
      case "cookie":
        if (indexOf("cookie") === undefined) return "header cookie of its hash policy is a name too many";
        if (isUnfit(source.name)) return "the cookie of its hash policy has a name that is not ASCII or too long";
        break;
      case "query":
        if (isUnfit(source.name)) return "the parameter of its hash policy has a name that is not ASCII or too long";
        break;
      case "sourceIp":
        if (indexOf(FORWARDED_FOR) === undefined)
          return `header ${FORWARDED_FOR}, which may say who the client of its hash policy is, is a name too many`;
        break;
      default:
        return source satisfies never;
    }
  }
  return undefined;
}

const isUnfit = (name: string) => /[^\p{ASCII}]/u.test(name) || name.length > MAX_NAME;

/** A request that has it goes to the slow path, which reads it. */
const FORWARDED_FOR = "x-forwarded-for";

/** The header that a hash policy asks for. */
function hashedHeader({ source }: HashPolicy): string | undefined {
  switch (source.kind) {
    case "header":
      return source.name;
    case "cookie":
      return "cookie";
    case "sourceIp":
      return FORWARDED_FOR;
    case "query":
      return undefined;
    default:
      return source satisfies never;
  }
}

export const hashedHeaders = ({ hashPolicies = [] }: ForwardAction): string[] =>
  hashPolicies.flatMap((policy) => hashedHeader(policy) ?? []);

/** The policies' words in a row: the first one's index, 0 where there is none. */
export function writePolicies(blob: BlobBuilder, policies: readonly HashPolicy[], indexOf: IndexOf): number {
  if (policies.length === 0) return 0;
  const rows = policies.map((policy, place) => {
    const { source, terminal } = policy;
    const gives = source.kind === "cookie" && source.ttlSeconds !== undefined;
    const flags =
      (terminal ? HASH_TERMINAL : 0) | (gives ? HASH_GIVES : 0) | (place + 1 === policies.length ? HASH_LAST : 0);
    const header = hashedHeader(policy);
    const index = header === undefined ? 0 : indexOf(header)!;
    const name = source.kind === "cookie" || source.kind === "query" ? Buffer.from(source.name) : undefined;
    const kindWord = HashKind[source.kind] | (index << 8) | (flags << 16);
    return [kindWord, name === undefined ? 0 : blob.bytes(name), name?.length ?? 0] as const;
  });
  const first = blob.reserve(rows.length);
  rows.forEach(([a, b, c], i) => {
    blob.put(first + i, a, b, c, 0);
  });
  return first;
}

/** Writes a table into a cluster's blob: the first word's index. */
export function writeHashTable(blob: BlobBuilder, table: HashTable): number {
  const first = blob.length;
  switch (table.kind) {
    case "ring":
      table.hosts.forEach((host, i) => {
        const hash = table.hashes[i]!;
        blob.push(Number(hash & 0xffffffffn), Number(hash >> 32n), host, 0);
      });
      break;
    case "maglev": {
      /* In memory order; a word of the blob is of 32 bits. */
      blob.bytes(new Uint8Array(Uint16Array.from(table.hosts).buffer));
      break;
    }
    default:
      table satisfies never;
  }
  return first;
}

/** Words of a table in the kernel: 1 MiB. */
const MAX_WORDS = 65_536;

/** Why the kernel cannot hold a table; undefined when it can. */
export function whyNotTable(table: HashTable): string | undefined {
  const { length } = table.hosts;
  const words = table.kind === "ring" ? length : Math.ceil(length / 8);
  if (words > MAX_WORDS) return `its table has ${length} entries, more than the kernel path holds`;
  return undefined;
}
