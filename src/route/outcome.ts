import type { RouteConfig } from "../model/config.ts";
import {
  type HeaderList,
  type Match,
  matchRoute,
  pickClusterIndex,
  type Repeated,
  type RequestHead,
  type RouteMatched,
} from "./match.ts";

/**
 * All that the rules say of one request, before an endpoint is picked. What rules learn to say has its place here, so
 * that whoever asks what would happen (`xlb route-check`, `xlb explain`) learns of it.
 */
export type Outcome =
  | Extract<Match, { none: unknown }>
  /** It goes on to a cluster. */
  | (RouteMatched & {
      readonly kind: "forward";
      readonly cluster: string;
      /** Among the route's clusters. */
      readonly clusterIndex: number;
      /** As the server gets it: after every rewrite. */
      readonly request: RequestHead;
      /** As the client gets them. */
      readonly responseHeaders: HeaderList;
    })
  /** The route answers by itself, perhaps with another address. */
  | (RouteMatched & {
      readonly kind: "answer";
      readonly location: string;
      readonly status: number;
      readonly request: RequestHead;
      readonly responseHeaders: HeaderList;
    });

export interface Question {
  readonly request: RequestHead;
  /** Of the server's answer. */
  readonly responseHeaders: HeaderList;
  /** A random whole number, not negative. */
  readonly ticket: number;
  readonly repeated?: Repeated;
}

/** Rules neither rewrite nor answer yet: whatever would is refused with the configuration. */
export function decide(routes: RouteConfig, { request, responseHeaders, ticket, repeated }: Question): Outcome {
  const match = matchRoute(routes, request, repeated);
  if ("none" in match) return match;
  const { action } = match.route;
  const clusterIndex = pickClusterIndex(action, ticket);
  const cluster = action.clusters[clusterIndex]!.name;
  return { ...match, kind: "forward", cluster, clusterIndex, request, responseHeaders };
}
