import { isDeepStrictEqual } from "node:util";
import { stringify } from "yaml";
import type { MapDump } from "../admin/messages.ts";
import { bold, dim } from "./table.ts";

export function formatConfig(config: unknown): string {
  return stringify(config, { lineWidth: 120 });
}

/** Every map with its entries, one to a line where they fit. */
export function formatMaps(maps: readonly MapDump[]): string {
  return `${maps.map(formatMap).join("\n\n")}\n`;
}

function formatMap(map: MapDump): string {
  const title = `${bold(map.name)} ${dim(`(${map.entries.length})`)}`;
  const keys = map.entries.map((entry) => terse(entry.key));
  const width = Math.min(48, Math.max(0, ...keys.map((key) => key.length)));
  const lines = map.entries.map((entry, i) => `  ${(keys[i] ?? "").padEnd(width)} → ${terse(entry.value)}`);
  return [title, ...lines].join("\n");
}

/** `{id: 3, flags: [A, B]}`: JSON without its quotes; what is empty is left out of objects. */
function terse(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(terse).join(", ")}]`;
  if (value === null || typeof value !== "object") return String(value);
  const fields = Object.entries(value).filter(([, field]) => field !== undefined && !isDeepStrictEqual(field, []));
  return `{${fields.map(([name, field]) => `${name}: ${terse(field)}`).join(", ")}}`;
}
