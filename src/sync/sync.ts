import { addrKeyBytes } from "../tables/address.ts";
import type { Tables } from "../tables/compiled.ts";
import { fnv1a64 } from "../tables/hash.ts";
import {
  ConnectWay,
  clusterLimitRow,
  headerNameRow,
  listenerEntryRow,
  RULES_SLOW,
  XLB_MAX_HEADER_NAME,
} from "../tables/layout.gen.ts";

export interface Blob {
  readonly index: number;
  readonly words: Uint32Array;
}

export type Outer = "rules" | "clusters";
export type HashMap = "listeners" | "listener_rules" | "header_names" | "endpoint_addresses" | "cluster_limits";

/** The kernel's configuration maps, as sync sees them. */
export interface MapStore {
  /** All of them, in any order: nothing refers to any of them yet. */
  putBlobs(outer: Outer, blobs: readonly Blob[]): void;
  dropBlob(outer: Outer, index: number): void;
  set(map: HashMap, key: Uint8Array, value: Uint8Array): void;
  remove(map: HashMap, key: Uint8Array): void;
}

export type Op =
  | { readonly op: "putBlob"; readonly outer: Outer; readonly index: number; readonly words: Uint32Array }
  | { readonly op: "dropBlob"; readonly outer: Outer; readonly index: number }
  | { readonly op: "set"; readonly map: HashMap; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly op: "remove"; readonly map: HashMap; readonly key: Uint8Array };

/** What the maps hold now. Only `diff` makes one, only `diff` reads one. */
export interface Installed {
  /**
   * By `place listener` for virtual hosts and `hosts listener` for host blobs, so that no name of a listener can be
   * taken for another's: where the blob lies. Children come before their parents.
   */
  readonly rules: ReadonlyMap<string, { readonly index: number; readonly words: Uint32Array }>;
  readonly clusters: ReadonlyMap<number, Uint32Array>;
  readonly entries: ReadonlyMap<
    string,
    { readonly map: HashMap; readonly key: Uint8Array; readonly value: Uint8Array }
  >;
}

/** What clusters lead to: arrays that refer to nothing. */
const LEAVES: ReadonlySet<HashMap> = new Set(["endpoint_addresses", "cluster_limits"]);

const nothing: Installed = { rules: new Map(), clusters: new Map(), entries: new Map() };

/**
 * What has to be done, in order, so that a hook that holds a parent always finds its children: new endpoints and blobs
 * first, then the entries that switch to them, then what nobody refers to any more. Blobs that did not change cost
 * nothing. An index that becomes free here is given out again by a later diff at the earliest.
 */
export function diff(before: Installed | undefined, wanted: Tables): { ops: Op[]; installed: Installed } {
  const old = before ?? nothing;
  const leaves: Op[] = [];
  const puts: Op[] = [];
  const switches: Op[] = [];
  const drops: Op[] = [];
  const unread: Op[] = [];

  const clusters = new Map<number, Uint32Array>();
  for (const { id, blob } of wanted.clusters) {
    clusters.set(id, blob);
    if (!same(old.clusters.get(id), blob)) puts.push({ op: "putBlob", outer: "clusters", index: id, words: blob });
  }

  const rules = new Map<string, { index: number; words: Uint32Array }>();
  const taken = new Set([...old.rules.values()].map((r) => r.index));
  let next = 1;
  const place = (name: string, words: Uint32Array): number => {
    const kept = old.rules.get(name);
    if (kept && same(kept.words, words)) {
      rules.set(name, kept);
      return kept.index;
    }
    while (taken.has(next)) next++;
    const index = next;
    taken.add(index);
    rules.set(name, { index, words });
    puts.push({ op: "putBlob", outer: "rules", index, words });
    return index;
  };

  const entries = new Map<string, { map: HashMap; key: Uint8Array; value: Uint8Array }>();
  const entry = (map: HashMap, key: Uint8Array, value: Uint8Array) => {
    const name = `${map} ${Buffer.from(key).toString("hex")}`;
    entries.set(name, { map, key, value });
    const was = old.entries.get(name);
    if (was && Buffer.compare(was.value, value) === 0) return;
    (LEAVES.has(map) ? leaves : switches).push({ op: "set", map, key, value });
  };
  for (const { id, limit } of wanted.clusters)
    if (limit !== undefined) entry("cluster_limits", u32(id), clusterLimitRow.encode(limit));
  for (const { id, address } of wanted.endpoints) entry("endpoint_addresses", u32(id), addrKeyBytes(address));
  for (const { name, index } of wanted.headerNames) entry("header_names", u64(fnv1a64(name)), headerName(name, index));
  for (const listener of wanted.listeners) {
    const { name, id, address, way } = listener;
    if (way.kind === "requests") {
      const indexes = way.virtualHosts.map((blob, at) =>
        blob === undefined ? RULES_SLOW : place(`${at} ${name}`, blob),
      );
      const hosts = place(
        `hosts ${name}`,
        way.hosts.blob((at) => indexes[at]!),
      );
      entry("listener_rules", u32(id), u32(hosts));
    }
    for (const [at, one] of [{ address, way }, ...listener.others].entries()) {
      const inspected = one.way.kind === "requests" && one.way.inspected ? 1 : 0;
      const balance = one.way.kind === "direct" ? place(`direct ${at} ${name}`, one.way.blob) : 0;
      const row = { id, balance, way: ConnectWay[one.way.kind], inspected };
      entry("listeners", addrKeyBytes(one.address), listenerEntryRow.encode(row));
    }
  }

  for (const [name, { map, key, value }] of [...old.entries].reverse()) {
    if (entries.has(name)) continue;
    /* An array has no holes: an index of 0 is what a hook understands as "no rules". */
    if (map === "listener_rules" || LEAVES.has(map))
      drops.push({ op: "set", map, key, value: new Uint8Array(value.length) });
    /* Rules ask for headers: a header's name goes when no rule that may be in use asks for it. */ else
      (map === "header_names" ? unread : drops).push({ op: "remove", map, key });
  }
  const used = new Set([...rules.values()].map((r) => r.index));
  for (const { index } of [...old.rules.values()].reverse())
    if (!used.has(index)) drops.push({ op: "dropBlob", outer: "rules", index });
  for (const id of old.clusters.keys())
    if (!clusters.has(id)) drops.push({ op: "dropBlob", outer: "clusters", index: id });
  return { ops: [...leaves, ...puts, ...switches, ...drops, ...unread], installed: { rules, clusters, entries } };
}

/** The blob of rules at an index. */
export function blobOf(installed: Installed | undefined, index: number): Uint32Array | undefined {
  for (const rule of installed?.rules.values() ?? []) if (rule.index === index) return rule.words;
  return undefined;
}

/** The only effect. Throws at the first operation that the kernel refuses. */
export function apply(store: MapStore, ops: readonly Op[]): void {
  /* Each change of a map of maps waits until no hook runs any more, some milliseconds: those in a row wait together. */
  let row: { outer: Outer; blobs: Blob[] } | undefined;
  const put = () => {
    if (row) store.putBlobs(row.outer, row.blobs);
    row = undefined;
  };
  for (const op of ops) {
    if (op.op === "putBlob") {
      if (row?.outer !== op.outer) put();
      row ??= { outer: op.outer, blobs: [] };
      row.blobs.push(op);
      continue;
    }
    put();
    switch (op.op) {
      case "dropBlob":
        store.dropBlob(op.outer, op.index);
        break;
      case "set":
        store.set(op.map, op.key, op.value);
        break;
      case "remove":
        store.remove(op.map, op.key);
        break;
      default:
        op satisfies never;
    }
  }
  put();
}

function same(a: Uint32Array | undefined, b: Uint32Array): boolean {
  return a === b || (a !== undefined && a.length === b.length && a.every((word, i) => word === b[i]));
}

function headerName(name: string, index: number): Uint8Array {
  const bytes = new Uint8Array(XLB_MAX_HEADER_NAME);
  bytes.set(Buffer.from(name, "latin1"));
  return headerNameRow.encode({ index, length: name.length, name: bytes });
}

function u32(n: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, n, true);
  return bytes;
}

function u64(n: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, n, true);
  return bytes;
}
