import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { MapDump } from "../admin/messages.ts";
import { findCgroupMount } from "../admin/workloads.ts";
import type { Datapath } from "../kernel/datapath.ts";
import { addressText, fromAddrKey } from "../tables/address.ts";
import type { Ids, Tables } from "../tables/compiled.ts";
import {
  type AddrKey,
  addrKeyRow,
  connectWayWords,
  connRow,
  headerNameRow,
  listenerEntryRow,
  peerKeyRow,
  policyWords,
  poolKeyRow,
  poolRow,
  reasonWords,
  type Slot,
  SlotFlag,
  slotFlagWords,
  slotKindWords,
  slowDoneRow,
  XLB_CHUNK_SLOTS,
  XLB_USERSPACE_TENANT,
} from "../tables/layout.gen.ts";
import { statesOf } from "../tables/trie.ts";

/** What the kernel's maps hold, for people: names for numbers, words for bits. Entries come and go while it looks. */
export function dumpMaps(datapath: Datapath, tables: Tables): MapDump[] {
  const names = namesOf(tables.ids);
  const pools = readPools(datapath);
  const map = (name: string, entries: MapDump["entries"]): MapDump => ({ name, entries });
  return [
    map("listeners", listeners(datapath, names)),
    map("listener_rules", listenerRules(datapath, names)),
    map("rules", virtualHosts(tables)),
    map("clusters", clusters(tables)),
    map("header_names", headerNames(datapath)),
    map("tenants", tenants(datapath)),
    map(
      "pools",
      pools.map((pool) => poolEntry(datapath, pool, names)),
    ),
    map("slots", slots(datapath, pools, names)),
    map("peers", peers(datapath)),
    map("isock_slots", cookies(datapath, "isock_slots")),
    map("endpoint_states", endpointStates(datapath, tables.ids)),
    map("conns", conns(datapath, names)),
    map("slow_dones", slowDones(datapath)),
  ];
}

interface Entry {
  readonly key: unknown;
  readonly value: unknown;
}

type Names = Readonly<Record<Exclude<keyof Ids, "retired">, (id: number) => string>>;

/** Names by number; a number that the configuration no longer has stays a number. */
function namesOf(ids: Ids): Names {
  const by = (all: ReadonlyMap<string, number>) => {
    const names = new Map([...all].map(([name, id]) => [id, name]));
    return (id: number) => names.get(id) ?? `#${id}`;
  };
  return {
    listeners: by(ids.listeners),
    routes: by(ids.routes),
    clusters: by(ids.clusters),
    endpoints: by(ids.endpoints),
  };
}

/** A walk through a map that changes may meet an entry twice. */
function entriesOf(datapath: Datapath, name: string): [Buffer, Buffer][] {
  const found = new Map<string, [Buffer, Buffer]>();
  for (const [key, value] of datapath.entries(name)) found.set(key.toString("hex"), [key, value]);
  return [...found.values()];
}

const address = (key: AddrKey) => addressText(fromAddrKey(key));

/** The words of the bits that are set. */
function flags(bits: number, words: Readonly<Record<number, string>>): string[] {
  return Object.entries(words)
    .filter(([bit]) => (bits & Number(bit)) !== 0)
    .map(([, word]) => word);
}

// ---- configuration ----

function listeners(datapath: Datapath, names: Names): Entry[] {
  return entriesOf(datapath, "listeners").map(([key, value]) => {
    const { id, way } = listenerEntryRow.decode(value);
    return {
      key: address(addrKeyRow.decode(key)),
      value: { id, name: names.listeners(id), way: connectWayWords[way] },
    };
  });
}

/** An array: its rows of 0 are listeners that there are not. */
function listenerRules(datapath: Datapath, names: Names): Entry[] {
  return entriesOf(datapath, "listener_rules").flatMap(([key, value]) => {
    const rules = value.readUInt32LE(0);
    return rules === 0 ? [] : [{ key: names.listeners(key.readUInt32LE(0)), value: { rules } }];
  });
}

function virtualHosts(tables: Tables): Entry[] {
  return tables.listeners.flatMap(({ name, way }) =>
    (way.kind === "requests" ? way.virtualHosts : []).map((blob, place) => ({
      key: `${name}, virtual host ${place}`,
      value: blob === undefined ? "slow path" : { words: blob.length / 4, ...statesIn(blob) },
    })),
  );
}

/** How large the automata of a virtual host's blob are: of its paths as they stand, and of those in any case. */
function statesIn(blob: Uint32Array): { states: number; anyCaseStates?: number } {
  const [exact = 0, folded = 0] = blob;
  const count = (root: number) => statesOf(blob, root).length;
  return { states: count(exact), ...(folded === 0 ? {} : { anyCaseStates: count(folded) }) };
}

function clusters(tables: Tables): Entry[] {
  return tables.clusters.map(({ name, id, blob }) => {
    const [policy = 0, endpoints = 0, turns = 0] = blob;
    return { key: name, value: { id, policy: policyWords[policy], endpoints, turns, words: blob.length / 4 } };
  });
}

function headerNames(datapath: Datapath): Entry[] {
  return entriesOf(datapath, "header_names").map(([, value]) => {
    const { index, length, name } = headerNameRow.decode(value);
    return { key: Buffer.from(name.subarray(0, length)).toString("latin1"), value: { index } };
  });
}

function tenants(datapath: Datapath): Entry[] {
  const found = entriesOf(datapath, "tenants").map(([key, value]) => ({
    cgroup: key.readBigUInt64LE(0),
    tenant: value.readUInt32LE(0),
  }));
  const paths = cgroupPaths(new Set(found.map(({ cgroup }) => cgroup)));
  return found.map(({ cgroup, tenant }) => ({
    key: `cgroup ${cgroup}`,
    value: {
      tenant: tenant % XLB_USERSPACE_TENANT,
      datapath: tenant >= XLB_USERSPACE_TENANT ? "userspace" : "auto",
      path: paths.get(cgroup),
    },
  }));
}

/** A host may have very many cgroups; the daemon is not to look for a name among them for long. */
const MAX_CGROUPS = 4_096;

/** A cgroup's number is its folder's inode. */
function cgroupPaths(wanted: ReadonlySet<bigint>): Map<bigint, string> {
  const paths = new Map<bigint, string>();
  let mount: string;
  try {
    mount = findCgroupMount();
  } catch {
    return paths;
  }
  const folders = [join(mount, "xlb"), mount];
  for (let i = 0; i < folders.length && i < MAX_CGROUPS && paths.size < wanted.size; i++) {
    const folder = folders[i]!;
    try {
      const id = statSync(folder, { bigint: true }).ino;
      if (wanted.has(id)) paths.set(id, folder);
      for (const entry of readdirSync(folder, { withFileTypes: true })) {
        if (entry.isDirectory()) folders.push(join(folder, entry.name));
      }
    } catch {
      /* it has gone, or never was */
    }
  }
  return paths;
}

// ---- pools ----

interface PoolRecord {
  readonly tenant: number;
  readonly endpoint: number;
  readonly chunks: readonly number[];
}

function readPools(datapath: Datapath): PoolRecord[] {
  return entriesOf(datapath, "pools")
    .map(([key, value]) => {
      const { nChunks, chunk } = poolRow.decode(value);
      return { ...poolKeyRow.decode(key), chunks: chunk.slice(0, nChunks) };
    })
    .sort((a, b) => a.tenant - b.tenant || a.endpoint - b.endpoint);
}

function slotsOf({ chunks }: PoolRecord): number[] {
  return chunks.flatMap((chunk) => Array.from({ length: XLB_CHUNK_SLOTS }, (_, i) => chunk * XLB_CHUNK_SLOTS + i));
}

function poolEntry(datapath: Datapath, pool: PoolRecord, names: Names): Entry {
  const idle = slotsOf(pool).filter((slot) => datapath.isIdle(slot)).length;
  return {
    key: `tenant ${pool.tenant}, ${names.endpoints(pool.endpoint)}`,
    value: { idle, chunks: pool.chunks },
  };
}

/** Those that are idle, in service, or being connected. */
function slots(datapath: Datapath, pools: readonly PoolRecord[], names: Names): Entry[] {
  return pools.flatMap((pool) =>
    slotsOf(pool).flatMap((id) => {
      const slot = datapath.slot(id);
      const idle = datapath.isIdle(id);
      const serving = slot.generation !== 0 && (slot.flags & SlotFlag.responseDone) === 0;
      const retired = (slot.flags & SlotFlag.retire) !== 0;
      if (slot.endpoint !== pool.endpoint || slot.tenant !== pool.tenant) return [];
      if (!serving && !idle && retired) return [];
      return [{ key: id, value: slotEntry(slot, idle, serving, names) }];
    }),
  );
}

function slotEntry(slot: Slot, idle: boolean, serving: boolean, names: Names): object {
  return {
    state: serving ? "in service" : idle ? "idle" : "neither idle nor in service",
    kind: slotKindWords[slot.kind],
    tenant: slot.tenant,
    endpoint: names.endpoints(slot.endpoint),
    generation: slot.generation,
    flags: flags(slot.flags, slotFlagWords),
    ...(serving
      ? {
          owner: String(slot.owner),
          client: address(slot.client),
          route: names.routes(slot.route),
          responseBytes: Number(slot.responseBytes),
        }
      : {}),
  };
}

function peers(datapath: Datapath): Entry[] {
  return entriesOf(datapath, "peers").map(([key, value]) => {
    const { client, server } = peerKeyRow.decode(key);
    return { key: `${address(client)} to ${address(server)}`, value: { slot: value.readUInt32LE(0) } };
  });
}

function cookies(datapath: Datapath, name: string): Entry[] {
  return entriesOf(datapath, name).map(([key, value]) => ({
    key: `socket ${key.readBigUInt64LE(0)}`,
    value: { slot: value.readUInt32LE(0) },
  }));
}

function endpointStates(datapath: Datapath, ids: Ids): Entry[] {
  return [...ids.endpoints].map(([name, id]) => ({ key: name, value: { id, active: datapath.active(id) } }));
}

// ---- connections ----

function conns(datapath: Datapath, names: Names): Entry[] {
  return entriesOf(datapath, "conns").map(([key, value]) => {
    const conn = connRow.decode(value);
    const ended = conn.closed !== 0 ? "closed" : conn.halfClosed !== 0 ? "half closed" : undefined;
    return {
      key: address(addrKeyRow.decode(key)),
      value: {
        socket: String(conn.cookie),
        cgroup: String(conn.cgroup),
        tenant: conn.tenant,
        destination: address(conn.destination),
        listener: names.listeners(conn.listener),
        /* 0 is a reason of the kernel path: such a connection never was on the slow one. */
        slowPath: conn.reason === 0 ? undefined : reasonWords[conn.reason],
        waitsFor: conn.waitGeneration === 0 ? undefined : { slot: conn.waitSlot, generation: conn.waitGeneration },
        ended,
      },
    };
  });
}

function slowDones(datapath: Datapath): Entry[] {
  return entriesOf(datapath, "slow_dones").map(([key, value]) => {
    const { read, written } = slowDoneRow.decode(value);
    return { key: address(addrKeyRow.decode(key)), value: { read: Number(read), written: Number(written) } };
  });
}
