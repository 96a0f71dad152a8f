import type { Cluster, Config, Endpoint, HashingPolicy, HashPolicy } from "../model/config.ts";
import { type HashPart, hashParts, partOf } from "../route/hash-parts.ts";
import { hashRequest } from "../route/hash-policy.ts";
import { pickByHash } from "../route/hash-table.ts";
import type { RequestHead } from "../route/match.ts";
import type { Part } from "../route/parts.ts";
import { type Declined, declined } from "./declined.ts";

/** How a cluster is balanced for one request. */
export interface BalancingWords {
  readonly words: string;
  readonly parts: readonly Part[];
  /** Percent of the requests like this one; undefined where nobody could say before. */
  readonly shares: ReadonlyMap<Endpoint, number | undefined>;
  readonly declined?: Declined;
}

/** What a request has to hash. */
export interface Hashed {
  readonly policies: readonly HashPolicy[];
  /** As the endpoint gets it. */
  readonly sent: RequestHead;
}

/** Without `hashed` it is no request, but a connection. */
export function explainHash(
  cluster: Cluster,
  policy: HashingPolicy,
  { local }: Config,
  hashed: Hashed | undefined,
): BalancingWords {
  const tables = hashParts(cluster, policy, local);
  const parts = tables.map(asPart);
  const policies = hashed?.policies ?? [];
  const { hash, cookies } =
    hashed === undefined ? { hash: undefined, cookies: [] } : hashRequest(policies, hashed.sent, SOME_ENDS, "give");
  const name = policy.kind === "ringHash" ? "RING_HASH" : "MAGLEV";
  if (hash === undefined)
    return { words: `${name}, by chance: ${whyNoHash(policies)}`, parts, shares: byChance(tables) };
  if (cookies.length > 0) {
    const names = cookies.map((cookie) => cookie.split("=", 1)[0]);
    return {
      words: `${name}, by a cookie that is made for the client`,
      parts,
      shares: unknown(parts),
      declined: declined("hashPolicy", `its hash policy gives the client a cookie: ${names.join(", ")}`),
    };
  }
  if (asksAddress(policies)) {
    const forwarded = hashed?.sent.headers.some(([field]) => field.toLowerCase() === "x-forwarded-for");
    const why = "its hash policy asks for the client's address, and its x-forwarded-for says whose that is";
    return {
      words: `${name}, by the client's address`,
      parts,
      shares: unknown(parts),
      ...(forwarded ? { declined: declined("hashPolicy", why) } : {}),
    };
  }
  const part = partOf(tables, hash);
  const at = part && pickByHash(part.table, hash);
  const shares = new Map(at === undefined ? [] : [[part!.hosts[at]!, 100]]);
  return { words: `${name}, by the hash ${hash.toString(16).padStart(16, "0")}`, parts, shares };
}

/** So that whoever asks for an address finds one. */
const SOME_ENDS = { client: { ip: "127.0.0.1", port: 1 }, local: { ip: "127.0.0.1", port: 1 } };

const asksAddress = (policies: readonly HashPolicy[]) => policies.some(({ source }) => source.kind === "sourceIp");

const whyNoHash = (policies: readonly HashPolicy[]) =>
  policies.length === 0 ? "there is no hash_policy" : "the request has nothing of what its hash_policy asks for";

/** A table is one list. */
const asPart = ({ percent, priority, panic, hosts }: HashPart): Part => ({
  percent,
  priority,
  kind: panic ? "panic" : "healthy",
  lists: [{ hosts, weight: 1 }],
  by: "chance",
});

const unknown = (parts: readonly Part[]) =>
  new Map(parts.flatMap(({ lists }) => lists.flatMap(({ hosts }) => hosts.map((host) => [host, undefined] as const))));

/** Each host has as many hashes as entries lead to it, about. */
function byChance(parts: readonly HashPart[]): Map<Endpoint, number> {
  const shares = new Map<Endpoint, number>();
  for (const { percent, hosts, table } of parts) {
    for (const position of table.hosts) {
      const host = hosts[position]!;
      shares.set(host, (shares.get(host) ?? 0) + percent / table.hosts.length);
    }
  }
  return shares;
}
