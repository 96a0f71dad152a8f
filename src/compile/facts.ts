import { isDeepStrictEqual } from "node:util";
import type { Route, VirtualHost } from "../model/config.ts";
import type { Metadata } from "../model/metadata.ts";
import { hashedHeaders, withoutIdlePolicies } from "./hash.ts";
import { isPseudo, queryName } from "./names.ts";

/**
 * What a compilation asks of each virtual host, whether it is compiled again or not. The model never changes, so that
 * this is found once for each object: where one of ten thousand virtual hosts is new, the others' routes are not read.
 */
export interface Facts {
  /** The virtual host itself, or an equal one that was met before it. */
  readonly vhost: VirtualHost;
  readonly routeNames: readonly string[];
  /** Names of the headers that rules ask for, and `?name` for parameters of the query. */
  readonly asked: readonly string[];
  readonly asksHeaders: boolean;
  readonly asksQuery: boolean;
  /** Ways to clusters: those without criteria once for each cluster. */
  readonly ways: readonly Entry[];
  /** The clusters that routes with hash policies lead to. */
  readonly hashed: readonly string[];
}

/** A way to a cluster. */
export interface Entry {
  readonly name: string;
  readonly criteria?: Metadata;
}

const known = new WeakMap<VirtualHost, Facts>();

function factsOf(vhost: VirtualHost): Facts {
  let facts = known.get(vhost);
  if (facts === undefined) {
    facts = readFacts(vhost);
    known.set(vhost, facts);
  }
  return facts;
}

function readFacts(vhost: VirtualHost): Facts {
  const { routes } = vhost;
  const headers = new Set(routes.flatMap(askedHeaders));
  const query = new Set(routes.flatMap(({ query = [] }) => query.map(({ name }) => queryName(name))));
  const ways = new Map<string | Entry, Entry>();
  const hashed = new Set<string>();
  for (const { action } of routes) {
    if (action.kind !== "forward") continue;
    for (const entry of action.clusters) {
      if ("header" in entry) continue;
      ways.set(entry.criteria === undefined ? entry.name : entry, entry);
      if (action.hashPolicies !== undefined) hashed.add(entry.name);
    }
  }
  return {
    ...{ vhost, routeNames: routes.map(({ name }) => name), asked: [...headers, ...query] },
    ...{ asksHeaders: [...headers].some((name) => !isPseudo(name)), asksQuery: query.size > 0 },
    ...{ ways: [...ways.values()], hashed: [...hashed] },
  };
}

/** The headers that a route's conditions and hash policies ask for. */
export const askedHeaders = ({ headers, action }: Route): string[] => [
  ...headers.map(({ name }) => name),
  ...(action.kind === "forward" ? hashedHeaders(action) : []),
];

/** The same of the virtual hosts of a chain, all together. */
export interface ChainFacts {
  readonly hosts: readonly Facts[];
  readonly routeNames: readonly string[];
  /** Ways to clusters that have criteria: mostly none. */
  readonly choosy: readonly Entry[];
}

type Hosts = readonly VirtualHost[];

const chains = new WeakMap<Hosts, ChainFacts>();

export function chainFacts(vhosts: Hosts): ChainFacts {
  let facts = chains.get(vhosts);
  if (facts === undefined) {
    const hosts = vhosts.map(factsOf);
    const choosy = hosts.flatMap(({ ways }) => ways.filter(({ criteria }) => criteria !== undefined));
    facts = { hosts, routeNames: hosts.flatMap(({ routeNames }) => routeNames), choosy };
    chains.set(vhosts, facts);
  }
  return facts;
}

/** Virtual hosts that were met before. */
export interface Met {
  has(vhost: VirtualHost): boolean;
  vhosts(): Iterable<VirtualHost>;
}

/**
 * Virtual hosts that are equal to one that was met before, or to each other, get the facts of the first: what was
 * parsed anew has new objects, most of which say what those before said.
 */
export function recognise(all: readonly Hosts[], before: Met): void {
  const others = all.flatMap((vhosts) => vhosts.filter((vhost) => !before.has(known.get(vhost)?.vhost ?? vhost)));
  if (others.length === 0) return;
  const byName = new Map<string, VirtualHost[]>(others.map(({ name }) => [name, []]));
  for (const vhost of before.vhosts()) byName.get(vhost.name)?.push(vhost);
  for (const vhost of others) {
    const candidates = byName.get(vhost.name)!;
    const equal = candidates.find((other) => isSame(other, vhost));
    if (equal === undefined) candidates.push(vhost);
    else known.set(vhost, factsOf(equal));
  }
  for (const vhosts of all) chains.delete(vhosts);
}

/** As isDeepStrictEqual has it, many times faster on the plain data of the model. */
function isSame(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) && Array.isArray(b)) {
    if (a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (!isSame(a[i], b[i])) return false;
    return true;
  }
  if (!isPlain(a) || !isPlain(b)) return isDeepStrictEqual(a, b);
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  for (const key of keys) if (!Object.hasOwn(b, key) || !isSame(a[key], b[key])) return false;
  return true;
}

const isPlain = (value: object): value is Record<string, unknown> => Object.getPrototypeOf(value) === Object.prototype;

const stripped = new WeakMap<Facts, { readonly hashing: string; readonly facts: Facts }>();

/** Without hash policies that nobody asks for; see {@link withoutIdlePolicies}. The same one for the same clusters. */
export function withoutIdle(given: Facts, hashing: ReadonlySet<string>): Facts {
  const { vhost, hashed } = given;
  if (hashed.length === 0) return given;
  const key = JSON.stringify(hashed.filter((name) => hashing.has(name)));
  const before = stripped.get(given);
  if (before?.hashing === key) return before.facts;
  const facts = readFacts({ ...vhost, routes: vhost.routes.map((route) => withoutIdlePolicies(route, hashing)) });
  stripped.set(given, { hashing: key, facts });
  return facts;
}
