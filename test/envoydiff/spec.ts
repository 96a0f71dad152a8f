import type { Dice } from "../dice.ts";

/**
 * What a configuration of the comparison consists of, in Envoy's own words, so that Envoy and XLB read the same text;
 * only the addresses are missing, which `places.ts` adds.
 */

export type Json = { [field: string]: unknown };

const WRITTEN = "!written ";

/** In place of a value: it stands in the text like this, unquoted, and the text is YAML. */
export const written = (yaml: string) => `${WRITTEN}${yaml}`;

/** The text of a configuration, and the name of its file, by which Envoy knows what it is. */
export function textOfConfig(config: Json): { readonly text: string; readonly name: string } {
  const json = JSON.stringify(config);
  if (!json.includes(`"${WRITTEN}`)) return { text: json, name: "config.json" };
  const text = json.replace(/"!written (?:[^"\\]|\\.)*"/g, (each) =>
    (JSON.parse(each) as string).slice(WRITTEN.length),
  );
  return { text, name: "config.yaml" };
}

export interface EndpointSpec {
  /** In an enrolled cgroup: reached on the same host. */
  readonly near: boolean;
  /** Nobody listens there. */
  readonly dead: boolean;
  load_balancing_weight?: number;
  health_status?: string;
  /** Of its locality. */
  priority?: number;
  zone?: string;
  region?: string;
  sub_zone?: string;
  metadata?: Json;
  hostname?: string;
}

export interface ClusterSpec {
  readonly name: string;
  /** `lb_policy` and what belongs to it. */
  readonly options: Json;
  readonly endpoints: readonly EndpointSpec[];
  /** `policy` of the load assignment. */
  policy?: Json;
  /** For mirrors alone. */
  readonly quiet?: boolean;
}

export interface RouteSpec {
  name?: string;
  match: Json;
  /** `route`, or another action. */
  [action: string]: unknown;
}

export interface VirtualHostSpec {
  readonly name: string;
  readonly domains: readonly string[];
  readonly routes: readonly RouteSpec[];
  /** Header edits. */
  readonly [edits: string]: unknown;
}

export interface Spec {
  /** Of the HttpConnectionManager, but the routes and the filters. */
  readonly manager: Json;
  /** Before the router. */
  readonly filters?: Json[];
  /** Of the router filter. */
  readonly router?: Json;
  readonly routes: Json & { readonly virtual_hosts: readonly VirtualHostSpec[] };
  readonly clusters: readonly ClusterSpec[];
  /** Missing: there is one filter chain, the connection manager's. */
  readonly front?: FrontSpec;
  readonly local?: LocalSpec;
}

/** Where the balancer is, and with whom in its cluster. */
export interface LocalSpec {
  readonly at: Json;
  readonly peers: readonly { readonly place: Json; readonly health_status?: string }[];
}

/** The filter chains of a listener; each request comes by a connection of its own then. */
export interface FrontSpec {
  /** It listens on every address. */
  readonly anywhere: boolean;
  /** It takes connections to where nobody listens, too: of a start no more than one does. */
  readonly rest?: true;
  /** The text of a second listener on the port: on every address where the first has one, on one of them otherwise. */
  readonly twin?: string;
  /** With `http_inspector`. */
  readonly inspects: boolean;
  readonly chains: readonly ChainSpec[];
  readonly otherwise?: ChainSpec;
}

export interface ChainSpec {
  /** `filter_chain_match` */
  readonly match: Json;
  /** It has the connection manager, answers everything with a text, or is a `tcp_proxy` with these fields. */
  readonly does: "routes" | { readonly answers: string } | { readonly proxies: Json };
}

/** A request, before it is bytes. */
export interface Draft {
  method: string;
  /** The path of the target, with whatever stands before it in an absolute one. */
  path: string;
  /** Query and fragment, with their mark. */
  suffix: string;
  version: string;
  /** undefined: there is no Host. */
  host: string | undefined;
  headers: [name: string, value: string][];
  body: string;
  /** The name of one of the configuration's clusters. */
  readonly cluster: string;
  /** The same of one for mirrors, or of none. */
  readonly quiet: string;
  /** So many more requests of the configuration may take their time. */
  readonly slow: { left: number };
}

/** What clusters a route may lead to. */
export interface Clusters {
  /** A new one. */
  fresh(): string;
  /** Of those that are there already. */
  known(): string;
  /** A new one whose endpoints have names. */
  named(): string;
  /** A new one that goes by hashes. */
  hashing(): string;
  /** A new one in subsets; `isPlain`: that does not go by hashes. */
  divided(isPlain: boolean): string;
  /** A new one with limits of its own. */
  limited(): string;
  /** A new one of one endpoint that is there. */
  quiet(): string;
}

interface Part {
  /** As Envoy calls the field. */
  readonly name: string;
  /** Does the kernel path follow it? If not, the slow path takes all of the virtual host, or of the listener. */
  readonly kernel: boolean;
  /** How often it is chosen, beside the others of its list; 1 where it is not said. */
  readonly weight?: number;
}

/** A way to match a path: `make` gives what goes into `match`, and `aim` bends a request towards its edge. */
export interface PathPart extends Part {
  make(dice: Dice): Json;
  aim(match: Json, draft: Draft, dice: Dice): void;
}

/** A condition beside the path: one entry in a list of `match`, or a field that stands there once. */
export interface ConditionPart extends Part {
  readonly list?: string;
  readonly single?: string;
  make(dice: Dice): Json;
  aim(entry: Json, draft: Draft, dice: Dice): void;
}

/** What a route does: goes into the route, beside `match`. */
export interface ActionPart extends Part {
  make(dice: Dice, clusters: Clusters): Json;
  aim?(route: RouteSpec, draft: Draft, dice: Dice): void;
}

/** What a part of a configuration may have or not, by its `chance`. */
export interface OptionPart<Target> extends Part {
  readonly chance: number;
  put(target: Target, dice: Dice): void;
  aim?(target: Target, draft: Draft, dice: Dice): void;
}

/** One of the list, by their weights. */
export function choose<P extends Part>(parts: readonly P[], dice: Dice): P {
  let ticket = dice.random() * parts.reduce((sum, part) => sum + (part.weight ?? 1), 0);
  for (const part of parts) {
    ticket -= part.weight ?? 1;
    if (ticket < 0) return part;
  }
  return parts.at(-1)!;
}
