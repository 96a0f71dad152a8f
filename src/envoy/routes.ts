import type {
  ForwardAction,
  PathMatch,
  RedirectAction,
  Route,
  RouteAction,
  RouteConfig,
  VirtualHost,
} from "../model/config.ts";
import type { Fault } from "../model/fault.ts";
import type { Mirror } from "../model/limits.ts";
import { lowerCase } from "../tables/text.ts";
import { type KnownClusters, NO_ACTION, readDirectResponse, readForward, readRedirect } from "./actions.ts";
import { readEdits, readRemovals } from "./edits.ts";
import type { Fields } from "./fields.ts";
import { type FaultFilter, faultOf } from "./filters.ts";
import { type Inherited, readInherited, readMirrors, readRouteLimits } from "./limits.ts";
import { NO_MATCH, readMatch } from "./matches.ts";

const MAX_DIRECT_BODY = 4_096;

/** `clusters` are the names that routes may lead to; missing where nobody knows them. */
export function readRoutes(
  config: Fields,
  clusters: ReadonlySet<string> | undefined,
  faults?: FaultFilter,
): RouteConfig {
  const domains: Domains = new Map();
  const known = (config.boolean("validate_clusters") ?? true) ? clusters : undefined;
  const internalOnly = readRemovals(config, "internal_only_headers");
  const bounds: Bounds = {
    known,
    mirrors: readMirrors(config, known),
    faults,
    fault: faultOf(config, faults, faults?.fault),
    maxBody: config.number("max_direct_response_body_size_bytes") ?? MAX_DIRECT_BODY,
  };
  return {
    name: config.string("name"),
    ignorePortInHostMatching: config.boolean("ignore_port_in_host_matching") ?? false,
    internalOnly: internalOnly.length === 0 ? undefined : internalOnly,
    mostSpecificWins: config.boolean("most_specific_header_mutations_wins") || undefined,
    virtualHosts: config.messages("virtual_hosts").map((host) => readVirtualHost(host, domains, bounds)),
    ...readEdits(config),
  };
}

/** The virtual host that has each domain of a route configuration. */
type Domains = Map<string, string>;

interface Bounds {
  readonly known: KnownClusters;
  /** For routes that neither have their own nor a virtual host with some. */
  readonly mirrors: readonly Mirror[] | undefined;
  /** The listener's fault filter ... */
  readonly faults: FaultFilter | undefined;
  /** ... and what it does where neither a route nor its virtual host says. */
  readonly fault: Fault | undefined;
  /** Bytes of a direct response. */
  readonly maxBody: number;
}

function readVirtualHost(host: Fields, taken: Domains, bounds: Bounds): VirtualHost {
  const name = host.string("name");
  const domains = host.strings("domains").map(({ text, place }) => {
    const domain = lowerCase(text);
    const owner = taken.get(domain);
    if (domain === "") host.reject(place, "must not be empty");
    else if (owner !== undefined) {
      host.reject(
        place,
        `domain ${JSON.stringify(domain)} is taken by virtual host ${JSON.stringify(owner)} already`,
        "keep one of the two",
      );
    }
    taken.set(domain, owner ?? name);
    return domain;
  });
  const inherited = readInherited(host, bounds.known, bounds.mirrors);
  const within = { ...bounds, fault: faultOf(host, bounds.faults, bounds.fault) };
  const routes = host.messages("routes").map((route, i) => readRoute(route, `${name}/${i}`, within, inherited));
  return { name, domains, routes, ...readEdits(host) };
}

function readRoute(route: Fields, fallbackName: string, bounds: Bounds, inherited: Inherited): Route {
  const match = route.message("match");
  const conditions = match === undefined ? NO_MATCH : readMatch(match);
  const fault = faultOf(route, bounds.faults, bounds.fault);
  return {
    name: route.string("name") || fallbackName,
    ...conditions,
    ...(fault === undefined ? {} : { fault }),
    action: readAction(route, conditions.path, bounds, inherited),
    ...readEdits(route),
  };
}

function readAction(route: Fields, path: PathMatch, { known, maxBody }: Bounds, inherited: Inherited): RouteAction {
  const forward = route.message("route");
  if (forward !== undefined) {
    const limits = readRouteLimits(route, forward, inherited, known);
    return refusePrefix(forward, path, { ...readForward(forward, path, known), ...limits });
  }
  const redirect = route.message("redirect");
  if (redirect !== undefined) return refusePrefix(redirect, path, readRedirect(redirect));
  const direct = route.message("direct_response");
  return direct === undefined ? NO_ACTION : readDirectResponse(direct, maxBody);
}

/** In place of a prefix Envoy takes as many characters of the path as the template has, whatever they are. */
function refusePrefix<A extends ForwardAction | RedirectAction>(owner: Fields, match: PathMatch, action: A): A {
  if (match.kind === "regex" && match.template !== undefined && action.path?.kind === "prefix")
    owner.reject("prefix_rewrite", "is not supported beside path_match_policy", "write a regex_rewrite");
  return action;
}
