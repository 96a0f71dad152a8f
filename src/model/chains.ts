import type { FilterChain, HttpChain, Listener } from "./config.ts";

/** Those that match, and the one for the rest. */
export const allChains = ({ chains, otherwise }: Listener): FilterChain[] =>
  otherwise === undefined ? [...chains] : [...chains, otherwise];

export const httpChains = (listener: Listener): HttpChain[] =>
  allChains(listener).filter((chain): chain is HttpChain => chain.kind === "http");
