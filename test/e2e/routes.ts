import assert from "node:assert/strict";
import { parseBootstrap } from "../../src/envoy/parse.ts";
import { httpChains } from "../../src/model/chains.ts";
import type { RouteConfig } from "../../src/model/config.ts";
import type { Bed } from "./harness.ts";

/** What tests of edits have in common: the rules as the reference knows them, and heads as it writes them. */

export const ACTIONS = [
  "APPEND_IF_EXISTS_OR_ADD",
  "ADD_IF_ABSENT",
  "OVERWRITE_IF_EXISTS_OR_ADD",
  "OVERWRITE_IF_EXISTS",
];

/** The route configuration of a bed's first listener. */
export function routesOf(bed: Bed): RouteConfig {
  const read = parseBootstrap(bed.config);
  assert.ok(read.ok, JSON.stringify(read));
  return httpChains(read.value.config.listeners[0]!)[0]!.routes;
}

/** A head's lines, with one blank behind each colon and none behind the value. */
export const spaced = (lines: readonly string[]): string[] =>
  lines.map((line, at) => (at === 0 ? line : line.replace(/^([^:]*):[ \t]*(.*?)[ \t]*$/, "$1: $2")));
