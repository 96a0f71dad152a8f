import type { ChainMatch, FilterChain, HttpChain, Listener } from "./config.ts";

/** Of a chain that asks for nothing: it takes every connection that no other asks for. */
export const EVERYTHING: ChainMatch = {
  destinations: [],
  serverNames: [],
  transportProtocol: "",
  applicationProtocols: [],
  directSources: [],
  sourceType: "any",
  sources: [],
  sourcePorts: [],
};

/** Those that match, and the one for the rest. */
export const allChains = ({ chains, otherwise }: Listener): FilterChain[] =>
  otherwise === undefined ? [...chains] : [...chains, otherwise];

export const httpChains = (listener: Listener): HttpChain[] =>
  allChains(listener).filter((chain): chain is HttpChain => chain.kind === "http");
