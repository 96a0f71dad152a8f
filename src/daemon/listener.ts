import { nearest } from "../envoy/spelling.ts";
import type { Config, Listener } from "../model/config.ts";

/** The listener of that name, or the only one; or what is wrong with the question. */
export function findListener({ listeners }: Config, name: string | undefined): Listener | { readonly problem: string } {
  const names = listeners.map((listener) => listener.name);
  if (name === undefined) {
    if (listeners.length === 1) return listeners[0]!;
    if (listeners.length === 0) return { problem: "the configuration has no listener" };
    return { problem: `the configuration has ${names.length} listeners: choose by --listener, of ${list(names)}` };
  }
  const found = listeners.find((listener) => listener.name === name);
  if (found !== undefined) return found;
  const near = nearest(name, names);
  const mend = near === undefined ? `there are ${list(names) || "none"}` : `did you mean ${JSON.stringify(near)}?`;
  return { problem: `no listener has the name ${JSON.stringify(name)} (${mend})` };
}

const list = (names: readonly string[]) => names.map((name) => JSON.stringify(name)).join(", ");
