import type { RouteConfig } from "../model/config.ts";
import { Editor, type Occasion } from "./edit.ts";
import { clusterChance } from "./hash-policy.ts";
import {
  clusterName,
  type HeaderList,
  type Match,
  matchRoute,
  pickClusterIndex,
  type Repeated,
  type RequestHead,
  type RouteMatched,
} from "./match.ts";
import { answerOf, locationOf } from "./rewrite.ts";

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
      /** Where it sends the client; of a direct response, where the request was. */
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
  /** What header values may speak of beside the head. Missing: a client at 127.0.0.1, now, as in Envoy's own tool. */
  readonly occasion?: Occasion;
}

/** What the reference says; the rules themselves decide nothing by the occasion. */
export function decide(
  routes: RouteConfig,
  { request, responseHeaders, ticket, repeated, occasion = anOccasion() }: Question,
): Outcome {
  const match = matchRoute(routes, request, repeated, ticket);
  if ("none" in match) return match;
  const { action } = match.route;
  if (action.kind !== "forward") {
    const editor = new Editor(routes, match, undefined, occasion);
    const redirected = editor.request(request);
    const { status, fields, body } = answerOf(action, redirected);
    const length: HeaderList =
      body === ""
        ? []
        : [
            ["content-length", String(body.length)],
            ["content-type", "text/plain"],
          ];
    return {
      ...match,
      kind: "answer",
      location: locationOf(action.kind === "redirect" ? action : {}, redirected),
      status,
      request: redirected,
      responseHeaders: editor.response([...responseHeaders, ...fields, ...length], redirected),
    };
  }
  const clusterIndex = pickClusterIndex(action, clusterChance(action, request, occasion, ticket));
  const entry = action.clusters[clusterIndex]!;
  const editor = new Editor(routes, match, entry, occasion);
  const sent = editor.request(request);
  return {
    ...match,
    kind: "forward",
    cluster: clusterName(entry, request),
    clusterIndex,
    request: sent,
    responseHeaders: editor.response(responseHeaders, sent),
  };
}

const anOccasion = (): Occasion => ({
  client: { ip: "127.0.0.1", port: 0 },
  protocol: "HTTP/1.1",
  startedMs: Date.now(),
  hostname: "localhost",
});
