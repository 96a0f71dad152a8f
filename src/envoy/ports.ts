import type { PortRange } from "../model/config.ts";
import type { Fields } from "./fields.ts";

/** Sets of ports, as ranges in their order with at least one port between two of them. */
export type Ports = readonly PortRange[];

const END = 65_536;
const ALL_PORTS: Ports = [{ start: 0, end: END }];

export const areAll = ([first]: Ports) => first?.start === 0 && first.end === END;

/**
 * The ports to which a predicate of listener filters (`ListenerFilterChainMatchPredicate`) does not say yes. All that
 * it can ask of a connection is its port.
 */
export const readPortsBut = (predicate: Fields): Ports => without(readPorts(predicate));

function readPorts(predicate: Fields): Ports {
  const either = predicate.message("or_match");
  if (either !== undefined) return either.messages("rules").map(readPorts).reduce(union, []);
  const all = predicate.message("and_match");
  if (all !== undefined) return without(all.messages("rules").map(readPortsBut).reduce(union, []));
  const no = predicate.message("not_match");
  if (no !== undefined) return readPortsBut(no);
  const range = predicate.message("destination_port_range");
  if (range !== undefined) return bounded(range.number("start") ?? 0, range.number("end") ?? 0);
  // Its validation takes nothing but true.
  return predicate.boolean("any_match") ? ALL_PORTS : [];
}

function bounded(start: number, end: number): Ports {
  const range = { start: Math.max(0, start), end: Math.min(END, end) };
  return range.start < range.end ? [range] : [];
}

function union(a: Ports, b: Ports): Ports {
  const joined: PortRange[] = [];
  for (const range of [...a, ...b].sort((one, other) => one.start - other.start)) {
    const last = joined.at(-1);
    if (last === undefined || last.end < range.start) joined.push(range);
    else joined[joined.length - 1] = { start: last.start, end: Math.max(last.end, range.end) };
  }
  return joined;
}

function without(ports: Ports): Ports {
  const ends = [0, ...ports.flatMap(({ start, end }) => [start, end]), END];
  return Array.from({ length: ends.length / 2 }, (_, i) => bounded(ends[2 * i]!, ends[2 * i + 1]!)).flat();
}
