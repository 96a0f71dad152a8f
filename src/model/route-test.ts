import type { HeaderMatch } from "./config.ts";

/** One test of a route configuration: a request, and what the rules are to say of it. */
export interface RouteTest {
  readonly name: string;
  readonly request: TestedRequest;
  /** By what is asked about; "" says that there must be none. */
  readonly expected: ReadonlyMap<Aspect, string>;
  readonly requestHeaders: readonly HeaderExpectation[];
  readonly responseHeaders: readonly HeaderExpectation[];
}

export interface TestedRequest {
  readonly method: string;
  readonly authority: string;
  /** With query. */
  readonly path: string;
  readonly scheme: "http" | "https";
  /** With those that a trusted hop before would have added. */
  readonly headers: readonly HeaderField[];
  /** What the server answers, as far as the test says. */
  readonly responseHeaders: readonly HeaderField[];
  /** Takes the place of chance where a route has several clusters. */
  readonly ticket: number;
}

export type HeaderField = readonly [name: string, value: string];

/** What a test can ask about, by the words of Envoy's router_check_tool, in its order. */
export const ASPECTS = [
  "cluster_name",
  "virtual_cluster_name",
  "virtual_host_name",
  "path_rewrite",
  "host_rewrite",
  "path_redirect",
  "code_redirect",
] as const;
export type Aspect = (typeof ASPECTS)[number];

/** `asked` is how the test put it, for the report; `name` is as it was written. */
export type HeaderExpectation =
  | { readonly kind: "matches"; readonly asked: string; readonly name: string; readonly match: HeaderMatch }
  | { readonly kind: "equals"; readonly asked: string; readonly name: string; readonly value: string };
