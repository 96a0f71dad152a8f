import { promises as dns } from "node:dns";
import { isIP, SocketAddress } from "node:net";
import type { Cluster, DnsDiscovery } from "../model/config.ts";
import { random } from "../route/chance.ts";
import type { Lookup } from "../route/names.ts";
import type { Random } from "../route/pick.ts";
import { addressText, unmapped } from "../tables/address.ts";

/** How long one question to one server may take, and how often it is put. */
const PATIENCE = { timeout: 2_000, tries: 2 };

/** Envoy's least pause where the time to live of an answer counts. Milliseconds. */
const LEAST_TTL_MS = 1_000;

interface Answer {
  readonly ips: readonly string[];
  /** Seconds that the answer is good for; missing where nobody said so. */
  readonly ttl?: number;
}

export interface NamesPorts {
  /** Some name has other addresses now. */
  changed(): void;
  log(level: "debug" | "warn", fields: object, message: string): void;
}

/**
 * What DNS says of the names in clusters, asked again and again. A name that does not exist has no addresses; one that
 * nobody answers for keeps those that it had, as in Envoy.
 */
export class Names {
  readonly #ports: NamesPorts;
  readonly #random: Random;
  readonly #known = new Map<string, readonly string[]>();
  readonly #timers = new Map<string, NodeJS.Timeout>();
  #stopped = false;

  constructor(ports: NamesPorts, by: Random = random) {
    this.#ports = ports;
    this.#random = by;
  }

  readonly lookup: Lookup = ({ name }, host) => this.#known.get(keyOf(name, host));

  /** Asks for all names of these clusters, for ever; resolves when each has been answered, or failed, once. */
  async start(clusters: readonly Cluster[]): Promise<void> {
    await Promise.all(
      clusters.flatMap(({ name, discovery, endpoints }) => {
        if (discovery?.kind !== "dns") return [];
        const hosts = new Set(endpoints.map(({ address }) => address.ip).filter((ip) => isIP(ip) === 0));
        return [...hosts].map((host) => this.#follow(name, host, discovery, resolverFor(discovery), 0));
      }),
    );
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }

  async #follow(
    cluster: string,
    host: string,
    discovery: DnsDiscovery,
    resolver: dns.Resolver,
    failures: number,
  ): Promise<void> {
    let failed = failures + 1;
    const { base, most } = discovery.failureMs;
    let pauseMs = Math.min(most, base * 2 ** Math.min(failures, 30));
    const answer = await ask(resolver, host, discovery).catch(({ code }: NodeJS.ErrnoException) => {
      this.#ports.log("warn", { cluster, name: host, code }, "DNS does not answer: the cluster keeps what it has");
    });
    if (this.#stopped) return;
    if (answer) {
      const { ips, ttl } = answer;
      failed = 0;
      pauseMs = discovery.respectsTtl && ttl !== undefined ? Math.max(ttl * 1_000, LEAST_TTL_MS) : discovery.refreshMs;
      pauseMs += this.#random(discovery.jitterMs);
      this.#learn(cluster, host, discovery, ips);
    }
    const again = () => void this.#follow(cluster, host, discovery, resolver, failed);
    this.#timers.set(keyOf(cluster, host), setTimeout(again, pauseMs).unref());
  }

  #learn(cluster: string, host: string, { logical }: DnsDiscovery, ips: readonly string[]): void {
    const key = keyOf(cluster, host);
    const had = this.#known.get(key);
    if (ips.length === 0) this.#ports.log("warn", { cluster, name: host }, "a name has no address");
    /* A logical host stays where it is until somebody says where else. */
    if (logical && ips.length === 0 && had !== undefined) return;
    /* The order of an answer says nothing, but where the first address is the one to take. */
    const next = logical ? ips.slice(0, 1) : ips.toSorted();
    if (had !== undefined && had.length === next.length && had.every((ip, at) => ip === next[at])) return;
    this.#known.set(key, next);
    if (had === undefined && next.length === 0) return;
    this.#ports.log("debug", { cluster, name: host, addresses: next }, "a name has other addresses");
    this.#ports.changed();
  }
}

const keyOf = (cluster: string, host: string) => `${cluster} ${host}`;

function resolverFor({ resolvers }: DnsDiscovery): dns.Resolver {
  const resolver = new dns.Resolver(PATIENCE);
  if (resolvers.length > 0) resolver.setServers(resolvers.map(addressText));
  return resolver;
}

/** By `dns_lookup_family`. No address at all is an answer; throws where there is none. */
async function ask(resolver: dns.Resolver, host: string, { family, resolvers }: DnsDiscovery): Promise<Answer> {
  const answer = await askFamilies(resolver, host, family);
  if (answer.ips.length > 0 || resolvers.length > 0) return answer;
  /* The system knows names that no server of DNS does: of /etc/hosts, and short ones. */
  const found = await dns.lookup(host, { all: true, verbatim: true }).catch(() => []);
  const only = family === "v4" || family === "v6" ? Number(family.slice(1)) : undefined;
  return { ips: found.filter((one) => only === undefined || one.family === only).map(({ address }) => address) };
}

async function askFamilies(resolver: dns.Resolver, host: string, family: DnsDiscovery["family"]): Promise<Answer> {
  const v4 = () => none(resolver.resolve4(host, { ttl: true }));
  const v6 = () => none(resolver.resolve6(host, { ttl: true }));
  switch (family) {
    case "v4":
      return v4();
    case "v6":
      return v6();
    case "all": {
      const [a, b] = await Promise.all([v4(), v6()]);
      const ttls = [a.ttl, b.ttl].filter((ttl) => ttl !== undefined);
      return { ips: [...a.ips, ...b.ips], ...(ttls.length === 0 ? {} : { ttl: Math.min(...ttls) }) };
    }
    case "auto":
    case "v4Preferred": {
      const [first, second] = family === "auto" ? [v6, v4] : [v4, v6];
      const answer = await first();
      return answer.ips.length > 0 ? answer : second();
    }
    default:
      return family satisfies never;
  }
}

/** A name without records of a kind, or that there is not, is an answer. */
async function none(records: Promise<readonly { readonly address: string; readonly ttl: number }[]>): Promise<Answer> {
  try {
    const found = await records;
    const ips = found.map(({ address }) => canonical(address));
    return found.length === 0 ? { ips } : { ips, ttl: Math.min(...found.map(({ ttl }) => ttl)) };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === dns.NODATA || code === dns.NOTFOUND) return { ips: [] };
    throw error;
  }
}

const canonical = (ip: string) =>
  unmapped(isIP(ip) === 6 ? new SocketAddress({ address: ip, family: "ipv6" }).address : ip);
