import type { MapDump } from "../admin/messages.ts";
import type { Datapath } from "../kernel/datapath.ts";
import type { Tables } from "../tables/compiled.ts";

export function dumpMaps(_datapath: Datapath, _tables: Tables): MapDump[] {
  return [];
}
