import { isDeepStrictEqual } from "node:util";
import type { Address, Cluster, Config, Endpoint, ForwardAction, HttpChain, Route, TcpChain } from "../model/config.ts";
import type { Fault } from "../model/fault.ts";
import type { Mirror } from "../model/limits.ts";
import type { Metadata } from "../model/metadata.ts";
import { type Balancer, createBalancers, type ForCriteria } from "../route/balancer.ts";
import { random } from "../route/chance.ts";
import { Editor, type Occasion } from "../route/edit.ts";
import { type Injected, injectFault } from "../route/fault.ts";
import { clusterChance, hashConnection, hashRequest, type RequestHash } from "../route/hash-policy.ts";
import { clusterName, Headers, matchRoute, pickCluster, pickEntry, type RequestHead } from "../route/match.ts";
import { type Answer, answerOf } from "../route/rewrite.ts";
import { allowsUpgrade } from "../route/upgrade.ts";
import { addressText } from "../tables/address.ts";

/** What the reference says of one request, with the endpoint picked. */
export type Choice =
  | { readonly kind: "noRoute"; readonly why: "no_virtual_host" | "no_route" }
  /** The fault filter answers it, or keeps it waiting; `go`: what it comes to otherwise. */
  | { readonly kind: "fault"; readonly injected: Injected; readonly editor: Editor | undefined; go(): Choice }
  /** The listener does not offer the protocol that the client asks to change to. */
  | { readonly kind: "noUpgrade"; readonly editor: Editor }
  /** `head` is what a redirect has made of the request's. */
  | (Chosen & { readonly kind: "answer"; readonly answer: Answer; readonly head: RequestHead })
  | (Chosen & { readonly kind: "noCluster"; readonly status: number })
  | (Chosen & { readonly kind: "noHost"; readonly cluster: Cluster })
  /** `whole`: all of the cluster's requests are. */
  | (Chosen & { readonly kind: "dropped"; readonly whole: boolean })
  | (Chosen & {
      readonly kind: "endpoint";
      readonly cluster: Cluster;
      readonly endpoint: Endpoint;
      readonly action: ForwardAction;
      readonly criteria: Metadata | undefined;
      readonly hash: bigint | undefined;
      /** The same of the head as it went on. */
      readonly hashOf: (sent: RequestHead) => bigint | undefined;
      /** Each a `set-cookie` for the response. */
      readonly cookies: readonly string[];
    });

/** The same of a connection by tcp_proxy. */
export type TcpChoice =
  | { readonly kind: "endpoint"; readonly cluster: Cluster; readonly endpoint: Endpoint }
  | { readonly kind: "noCluster" | "noHost" };

interface Chosen {
  readonly route: Route;
  readonly editor: Editor;
}

/** What a client asks for beside its request's head. */
export interface Wishes {
  /** The protocol that it asks to change to. */
  readonly upgrade?: string | undefined;
  /** Where it wanted to connect to. */
  readonly original?: Address | undefined;
  /** Of another try: the cluster of the first, where neither weights nor drop_overloads are asked again. */
  readonly cluster?: string | undefined;
}

/** Requests in service at an endpoint, by whichever path. */
export type ActiveCount = (cluster: string, endpoint: Endpoint) => number;

interface ClusterState {
  readonly cluster: Cluster;
  readonly forCriteria: (criteria: Metadata | undefined) => ForCriteria;
}

/**
 * Picks for the slow path by the same rules as the kernel. Pickers hold the state of their cluster, so one router
 * lives as long as its configuration.
 */
export class ReferenceRouter {
  readonly #clusters = new Map<string, ClusterState>();
  readonly #active: ActiveCount;
  readonly #bornMs = performance.now();

  readonly #seed: number;

  constructor(config: Config, active: ActiveCount, seed: number) {
    this.#active = active;
    this.#seed = seed;
    this.update(config);
  }

  /** Clusters have other endpoints from now on; one that has the same keeps its turns. */
  update(config: Config): void {
    for (const cluster of config.clusters) {
      if (isDeepStrictEqual(this.#clusters.get(cluster.name)?.cluster, cluster)) continue;
      this.#clusters.set(cluster.name, { cluster, forCriteria: createBalancers(cluster, config, this.#seed) });
    }
  }

  choose(listener: HttpChain, head: RequestHead, occasion: Occasion, wishes: Wishes = {}): Choice {
    const { upgrade } = wishes;
    const { routes } = listener;
    const chance = random(MAX_CHANCE);
    /* Each value of a repeated header by itself: Envoy's default since match_headers_individually. */
    const match = matchRoute(routes, head, "each", chance);
    if ("none" in match) {
      const why = match.none;
      return injected(listener.http.fault, undefined, head, undefined, wishes, () => ({ kind: "noRoute", why }));
    }
    const { route } = match;
    const { action } = route;
    const refused = upgrade !== undefined && !allowsUpgrade(listener, action, upgrade);
    if (action.kind !== "forward") {
      const editor = new Editor(routes, match, undefined, occasion);
      if (refused) return { kind: "noUpgrade", editor };
      return injected(route.fault, undefined, head, undefined, wishes, () => {
        const redirected = editor.request(head);
        return { kind: "answer", route, editor, answer: answerOf(action, redirected), head: redirected };
      });
    }
    const again = action.clusters.find((each) => "name" in each && each.name === wishes.cluster);
    const entry = again ?? pickCluster(action, clusterChance(action, head, occasion, chance));
    const chosen = { route, editor: new Editor(routes, match, entry, occasion) };
    if (refused) return { kind: "noUpgrade", editor: chosen.editor };
    const name = clusterName(entry, head);
    return injected(route.fault, chosen.editor, head, name, wishes, () => {
      const state = this.#clusters.get(name);
      if (!state) return { ...chosen, kind: "noCluster", status: action.notFoundStatus ?? 503 };
      return this.#forward(chosen, action, entry, state, head, occasion, wishes);
    });
  }

  #forward(
    chosen: Chosen,
    action: ForwardAction,
    { criteria }: ForwardAction["clusters"][number],
    { cluster, forCriteria }: ClusterState,
    head: RequestHead,
    occasion: Occasion,
    { original, cluster: before }: Wishes,
  ): Choice {
    const { drop } = cluster;
    if (drop !== undefined && before === undefined && random(drop.outOf) < drop.share)
      return { ...chosen, kind: "dropped", whole: drop.share === drop.outOf };
    const { balance, byHash } = forCriteria(criteria);
    const hashed = (sent: RequestHead) =>
      byHash ? hashRequest(action.hashPolicies ?? [], sent, occasion, "give") : NO_HASH;
    const { hash, cookies } = hashed(chosen.editor.request(head));
    const hashOf = (sent: RequestHead) => hashed(sent).hash;
    const endpoint = this.#pick(cluster, balance, original, hash);
    if (!endpoint) return { ...chosen, kind: "noHost", cluster };
    return { ...chosen, kind: "endpoint", cluster, endpoint, action, criteria, hash, hashOf, cookies };
  }

  /** The cluster for a connection by tcp_proxy, by weight; what comes back picks an endpoint of it each time. */
  connect(chain: TcpChain, original: Address | undefined, client: Address | undefined): () => TcpChoice {
    const { name, criteria } = pickEntry(chain.clusters, random(MAX_CHANCE));
    const state = this.#clusters.get(name);
    if (!state) return () => ({ kind: "noCluster" });
    const { cluster, forCriteria } = state;
    const { balance } = forCriteria(criteria);
    const hash = hashConnection(chain, client);
    return () => {
      const endpoint = this.#pick(cluster, balance, original, hash);
      return endpoint ? { kind: "endpoint", cluster, endpoint } : { kind: "noHost" };
    };
  }

  #pick(
    cluster: Cluster,
    balance: Balancer,
    original: Address | undefined,
    hash?: bigint,
    attempt = 0,
  ): Endpoint | undefined {
    if (cluster.discovery?.kind === "originalDst") {
      /* Envoy's name for such an endpoint. */
      const hostname = original && `${cluster.name}${addressText(original)}`;
      return original && { address: original, weight: 1, health: "healthy", hostname };
    }
    return balance({
      hash,
      attempt,
      random,
      active: (endpoint) => this.#active(cluster.name, endpoint),
      ageMs: performance.now() - this.#bornMs,
    });
  }

  /** Requests that a cluster has in service, by both paths. */
  active(cluster: string): number {
    const endpoints = this.#clusters.get(cluster)?.cluster.endpoints ?? [];
    return endpoints.reduce((sum, endpoint) => sum + this.#active(cluster, endpoint), 0);
  }

  /**
   * An endpoint for one more try of `sent`, the head as it went on. One that has been tried is given up for another up
   * to `attempts` times.
   */
  again(
    choice: Pick<Extract<Choice, { kind: "endpoint" }>, "action" | "cluster" | "criteria" | "hash" | "hashOf">,
    sent: RequestHead,
    tried: readonly Address[],
    attempts: number,
    original: Address | undefined,
  ): Endpoint | undefined {
    const { action, cluster: before, criteria } = choice;
    /* The name of an endpoint may be what is hashed. */
    const hash = action.host?.kind === "endpoint" ? choice.hashOf(sent) : choice.hash;
    const state = this.#clusters.get(before.name);
    if (state === undefined) return undefined;
    const { cluster, forCriteria } = state;
    const { balance } = forCriteria(criteria);
    let endpoint = this.#pick(cluster, balance, original, hash);
    for (let left = attempts; left > 0 && endpoint !== undefined && isAmong(tried, endpoint.address); left--)
      endpoint = this.#pick(cluster, balance, original, hash, attempts - left + 1);
    return endpoint;
  }

  /** Where copies of a request go. */
  mirrors(
    { mirrors = [] }: ForwardAction,
    head: RequestHead,
    original: Address | undefined,
  ): (Mirror & { to: Cluster; endpoint: Endpoint })[] {
    return mirrors.flatMap((mirror) => {
      const { fraction, cluster: named } = mirror;
      if (fraction !== undefined && random(fraction.outOf) >= fraction.share) return [];
      const name = "name" in named ? named.name : (new Headers(head, "each").get(named.header)?.[0] ?? "");
      const state = this.#clusters.get(name);
      if (state === undefined) return [];
      // To Envoy a copy has no criteria.
      const endpoint = this.#pick(state.cluster, state.forCriteria(undefined).balance, original);
      return endpoint === undefined ? [] : [{ ...mirror, to: state.cluster, endpoint }];
    });
  }
}

/** A request that a server has seen already has had its faults. */
function injected(
  fault: Fault | undefined,
  editor: Editor | undefined,
  head: RequestHead,
  cluster: string | undefined,
  wishes: Wishes,
  go: () => Choice,
): Choice {
  if (fault === undefined || wishes.cluster !== undefined) return go();
  const found = injectFault(fault, head, cluster, random);
  return found === undefined ? go() : { kind: "fault", injected: found, editor, go };
}

const isAmong = (addresses: readonly Address[], { ip, port }: Address) =>
  addresses.some((address) => address.ip === ip && address.port === port);

const NO_HASH: RequestHash = { hash: undefined, cookies: [] };

/** Far above the sum of any weights, so that none is favoured, and within the bits that Math.random makes. */
const MAX_CHANCE = 2 ** 48;
