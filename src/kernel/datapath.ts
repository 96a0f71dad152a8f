import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { StreakKind } from "../route/outlier.ts";
import type { HashMap } from "../sync/sync.ts";
import type { AddrKey, Conn, EndpointStats, ListenerStats, Row, Slot } from "../tables/layout.gen.ts";
import {
  breakerStateRow,
  clockOffsets,
  connOffsets,
  connRow,
  EventType,
  endpointStateOffsets,
  endpointStateRow,
  endpointStatsRow,
  eventOffsets,
  listenerStatsRow,
  peerKeyRow,
  poolKeyRow,
  poolRow,
  reasonStatsRow,
  routeStatsRow,
  SlotFlag,
  SlotKind,
  settingsRow,
  slotOffsets,
  slotRow,
  slowDoneRow,
  stashRow,
  wordRow,
  XLB_CHUNK_SLOTS,
  XLB_DATE_BYTES,
  XLB_DATE_STRIDE,
  XLB_LINE_WORDS,
  XLB_POOL_CHUNKS,
} from "../tables/layout.gen.ts";
import type * as native from "./native.ts";
import type { ObjectHandle } from "./native.ts";

/** The shim, as a value: tests may hand in another. */
export type Native = typeof native;

/** `enum bpf_attach_type` of linux/bpf.h. */
const ATTACH = {
  sockOps: 3,
  skMsgVerdict: 7,
  connect4: 10,
  connect6: 11,
  getpeername4: 29,
  getpeername6: 30,
  skSkbVerdict: 38,
} as const;

const BPF_MAP_TYPE_ARRAY = 2;
const BPF_F_INNER_MAP = 0x1000;

const CGROUP_PROGRAMS = [
  ["xlb_connect4", ATTACH.connect4],
  ["xlb_connect6", ATTACH.connect6],
  ["xlb_getpeername4", ATTACH.getpeername4],
  ["xlb_getpeername6", ATTACH.getpeername6],
  ["xlb_sockops", ATTACH.sockOps],
] as const;

/** An i-sock that serves nobody and is not to be used again. */
const OVER = SlotFlag.responseDone | SlotFlag.requestDone | SlotFlag.retire;

/** Open files that putting blobs may take. */
const BLOBS_AT_ONCE = 256;

/** Which verdict programs run on the sockets of which map. */
const MAP_PROGRAMS = [
  ["p_socks", "xlb_request", ATTACH.skMsgVerdict],
  ["p_socks", "xlb_client_skb", ATTACH.skSkbVerdict],
  ["s_socks", "xlb_response", ATTACH.skMsgVerdict],
  ["i_socks", "xlb_response_skb", ATTACH.skSkbVerdict],
  ["i_socks", "xlb_hand_over", ATTACH.skMsgVerdict],
] as const;

export interface DatapathOptions {
  readonly anchor4?: AddrKey;
  readonly anchor6?: AddrKey;
  /** Bytes queued unread at a client beyond which a response goes through the daemon. */
  readonly receiveLimit: number;
  /** Other sizes of some maps: a trial needs no large ones. */
  readonly mapSizes?: Readonly<Record<string, number>>;
}

/** Where a compiled object lies: beside the bundle, or in the checkout's build folder. */
export function objectPath(name = "xlb.bpf.o"): string {
  const own = name === "xlb.bpf.o" ? process.env.XLB_OBJECT : undefined;
  for (const c of [own, `./${name}`, `../build/${name}`, `../../build/${name}`]) {
    if (!c) continue;
    const path = c.startsWith(".") ? fileURLToPath(new URL(c, import.meta.url)) : c;
    if (existsSync(path)) return path;
  }
  throw new Error(`the BPF object ${name} is not built: run \`make\``);
}

const u32 = (n: number) => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(n);
  return b;
};
const u64 = (n: bigint) => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(n);
  return b;
};

/**
 * The programs and maps of one daemon. The only room that holds their fds; nothing is pinned, so the kernel takes all
 * of it back when the daemon dies, however it dies.
 */
export class Datapath {
  readonly #native: Native;
  readonly #object: ObjectHandle;
  readonly #maps = new Map<string, { fd: number; keySize: number; valueSize: number; maxEntries: number }>();
  readonly #progs = new Map<string, number>();
  readonly #links = new Map<string, number[]>();
  readonly #slots: DataView;
  readonly #slotMemory: ArrayBuffer;
  readonly #chunkMemory: ArrayBuffer;
  readonly #stashMemory: ArrayBuffer;
  readonly #endpointMemory: ArrayBuffer;
  readonly #breakerMemory: ArrayBuffer;
  readonly #clockMemory: ArrayBuffer;
  readonly #cpus: number;

  constructor(native: Native, options: DatapathOptions) {
    this.#native = native;
    this.#object = native.objOpen(objectPath(), options.mapSizes ? { maps: options.mapSizes } : {});
    native.objLoad(this.#object);
    for (const m of native.objMaps(this.#object)) this.#maps.set(m.name, m);
    for (const p of native.objProgs(this.#object)) this.#progs.set(p.name, p.fd);
    this.#cpus = native.possibleCpus();
    const none: AddrKey = { ip: [0, 0, 0, 0], port: 0 };
    const settings = {
      anchor4: options.anchor4 ?? none,
      anchor6: options.anchor6 ?? none,
      receiveLimit: options.receiveLimit,
    };
    native.mapUpdate(this.#fd("settings_map"), u32(0), Buffer.from(settingsRow.encode(settings)));
    this.#slotMemory = this.#mmap("slots");
    this.#slots = new DataView(this.#slotMemory);
    this.#chunkMemory = this.#mmap("chunks");
    this.#stashMemory = this.#mmap("stashes");
    this.#endpointMemory = this.#mmap("endpoint_states");
    this.#breakerMemory = this.#mmap("breaker_states");
    this.#clockMemory = this.#mmap("clocks");
    for (const [map, prog, type] of MAP_PROGRAMS) native.progAttach(this.#prog(prog), this.#fd(map), type);
  }

  get maxChunks(): number {
    return this.capacity("chunks");
  }

  /** How many entries a map has room for. */
  capacity(map: string): number {
    return this.#map(map).maxEntries;
  }

  #map(name: string) {
    const m = this.#maps.get(name);
    if (!m) throw new Error(`the BPF object has no map ${name}`);
    return m;
  }

  #fd(name: string): number {
    return this.#map(name).fd;
  }

  #prog(name: string): number {
    const fd = this.#progs.get(name);
    if (fd === undefined) throw new Error(`the BPF object has no program ${name}`);
    return fd;
  }

  #mmap(name: string): ArrayBuffer {
    const m = this.#map(name);
    return this.#native.mapMmap(m.fd, ((m.valueSize + 7) & ~7) * m.maxEntries);
  }

  /** What the reactor needs to know of maps and of records. */
  get reactorOptions() {
    return {
      ringbufFd: this.#fd("events"),
      connsMapFd: this.#fd("conns"),
      connValueSize: this.#map("conns").valueSize,
      closedOffset: connOffsets.closed,
      cookieOffset: connOffsets.cookie,
      wakeTypes: [EventType.wake, EventType.bypass, EventType.fault, EventType.stale].reduce(
        (bits, type) => bits | (1n << BigInt(type)),
        0n,
      ),
      laterType: EventType.end,
      laterKeyOffset: eventOffsets.client,
      laterCookieOffset: eventOffsets.cookie,
    };
  }

  // ---- cgroups ----

  /** Attaches the hooks to a cgroup; all processes in and below it are enrolled from now on. */
  enrol(path: string): void {
    if (this.#links.has(path)) return;
    const dir = this.#native.openPath(path);
    const links: number[] = [];
    this.#links.set(path, links);
    try {
      for (const [prog, type] of CGROUP_PROGRAMS) links.push(this.#native.attachCgroup(this.#prog(prog), dir, type));
    } finally {
      this.#native.close(dir);
    }
  }

  /** The same for a cgroup that was removed and made anew under its old name: what was attached went with it. */
  enrolAgain(path: string): void {
    for (const fd of this.#links.get(path) ?? []) this.#native.close(fd);
    this.#links.delete(path);
    this.enrol(path);
  }

  /** New connections are left alone from now on; those that are there go on. */
  dismissAll(): void {
    for (const links of this.#links.values()) for (const fd of links) this.#native.close(fd);
    this.#links.clear();
  }

  setTenant(cgroup: bigint, tenant: number): void {
    this.#native.mapUpdate(this.#fd("tenants"), u64(cgroup), u32(tenant));
  }

  removeTenant(cgroup: bigint): void {
    this.#native.mapDelete(this.#fd("tenants"), u64(cgroup));
  }

  // ---- configuration: the MapStore of sync/ ----

  putBlobs(outer: "rules" | "clusters", blobs: readonly { index: number; words: Uint32Array }[]): void {
    for (let at = 0; at < blobs.length; at += BLOBS_AT_ONCE) {
      const some = blobs.slice(at, at + BLOBS_AT_ONCE);
      const fds: number[] = [];
      try {
        for (const { words } of some) fds.push(this.#makeBlob(outer, words));
        const keys = Buffer.from(Uint32Array.from(some, ({ index }) => index).buffer);
        this.#native.mapUpdateBatch(this.#fd(outer), keys, Buffer.from(Uint32Array.from(fds).buffer), some.length);
      } finally {
        for (const fd of fds) this.#native.close(fd);
      }
    }
  }

  #makeBlob(outer: "rules" | "clusters", words: Uint32Array): number {
    const line = XLB_LINE_WORDS * wordRow.size;
    const n = words.byteLength / line;
    const fd = this.#native.mapCreate({
      type: BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: line,
      maxEntries: n,
      flags: BPF_F_INNER_MAP,
      name: outer === "rules" ? "xlb_rules" : "xlb_cluster",
    });
    const keys = Buffer.from(Uint32Array.from({ length: n }, (_, i) => i).buffer);
    this.#native.mapUpdateBatch(fd, keys, Buffer.from(words.buffer, words.byteOffset, words.byteLength), n);
    return fd;
  }

  dropBlob(outer: "rules" | "clusters", index: number): void {
    this.#native.mapDelete(this.#fd(outer), u32(index));
  }

  set(map: HashMap, key: Uint8Array, value: Uint8Array): void {
    this.#native.mapUpdate(this.#fd(map), Buffer.from(key), Buffer.from(value));
  }

  remove(map: HashMap, key: Uint8Array): void {
    this.#native.mapDelete(this.#fd(map), Buffer.from(key));
  }

  // ---- slots ----

  #slotAt(slot: number): number {
    return slot * slotRow.size;
  }

  slot(slot: number): Slot {
    return slotRow.read(this.#slots, this.#slotAt(slot));
  }

  /** Flags and generation of one instant. */
  life(slot: number): { flags: number; generation: number; word: bigint } {
    const word = this.#native.load64(this.#slotMemory, this.#slotAt(slot) + slotOffsets.flags);
    return { flags: Number(word & 0xffffffffn), generation: Number(word >> 32n), word };
  }

  /** Is the slot serving the request of that generation still? */
  inService(slot: number, generation: number): boolean {
    const life = this.life(slot);
    return life.generation === generation && (life.flags & SlotFlag.responseDone) === 0;
  }

  /**
   * Ends the slot's request, if it is that generation's and not over. The one who did it, and no other, gets the flags
   * that it had. What it leaves behind is not used again, unless `flags` say otherwise.
   */
  conclude(slot: number, generation: number, flags: number = OVER): { readonly flags: number } | undefined {
    for (;;) {
      const life = this.life(slot);
      if (life.generation !== generation || (life.flags & SlotFlag.responseDone) !== 0) return undefined;
      const at = this.#slotAt(slot) + slotOffsets.flags;
      if (!this.#native.casU64(this.#slotMemory, at, life.word, life.word | BigInt(flags))) continue;
      const { endpoint, breaker } = this.slot(slot);
      this.noLongerActive(endpoint);
      if ((life.flags & SlotFlag.limited) !== 0) this.leaveBreaker(breaker);
      return life;
    }
  }

  /**
   * The slot's connection is about to be closed: from now on no hook takes the record for what it was. Whoever is still
   * at it finds another generation.
   */
  retireSlot(slot: number): void {
    for (;;) {
      const { word, generation } = this.life(slot);
      const next = BigInt((generation + 1) >>> 0 || 1);
      const at = this.#slotAt(slot) + slotOffsets.flags;
      if (this.#native.casU64(this.#slotMemory, at, word, (next << 32n) | BigInt(OVER))) break;
    }
    try {
      /* A server that lives on writes to nobody. */
      this.#native.mapDelete(this.#fd("s_socks"), u32(slot));
    } catch {
      /* EINVAL: nothing was there, or it has gone by itself */
    }
  }

  /** Adds flags to the slot, if it is still in that generation. */
  mark(slot: number, generation: number, flags: number): boolean {
    for (;;) {
      const life = this.life(slot);
      if (life.generation !== generation) return false;
      const at = this.#slotAt(slot) + slotOffsets.flags;
      if (this.#native.casU64(this.#slotMemory, at, life.word, life.word | BigInt(flags))) return true;
    }
  }

  /** Begins a new i-sock's record. The generation goes on, so that nobody's memory of the old one matches. */
  resetSlot(slot: number, tenant: number, endpoint: number): void {
    const old = this.slot(slot);
    const none: AddrKey = { ip: [0, 0, 0, 0], port: 0 };
    slotRow.write(this.#slots, this.#slotAt(slot), {
      ...old,
      owner: 0n,
      pSk: 0n,
      targetSk: 0n,
      relayed: 0n,
      sent: 0,
      startedNs: 0n,
      dueNs: 0n,
      flags: SlotFlag.requestDone | SlotFlag.responseDone,
      generation: (old.generation + 1) >>> 0 || 1,
      kind: SlotKind.new,
      tenant,
      endpoint,
      client: none,
    });
  }

  slotKind(slot: number): number {
    return this.#native.load32(this.#slotMemory, this.#slotAt(slot) + slotOffsets.kind);
  }

  /** Nobody on this host has accepted the i-sock: its bytes go by TCP. False when a hook was faster. */
  settleCrossHost(slot: number): boolean {
    const at = this.#slotAt(slot) + slotOffsets.kind;
    return this.#native.casU32(this.#slotMemory, at, SlotKind.new, SlotKind.crossHost);
  }

  stash(slot: number): Buffer {
    const length = Math.min(this.slot(slot).stashLength, stashRow.size);
    return Buffer.from(new Uint8Array(this.#stashMemory, slot * stashRow.size, length).slice());
  }

  /** What hooks write from now on where an answer of their own has its date. */
  tellDate(date: Date): void {
    const next = this.#native.load32(this.#clockMemory, clockOffsets.current) ^ XLB_DATE_STRIDE;
    const text = Buffer.from(date.toUTCString(), "latin1").subarray(0, XLB_DATE_BYTES);
    Buffer.from(this.#clockMemory, clockOffsets.dates + next, XLB_DATE_BYTES).set(text);
    this.#native.store32(this.#clockMemory, clockOffsets.current, next);
  }

  publish(slot: number): void {
    const at = Math.floor(slot / XLB_CHUNK_SLOTS) * 8;
    this.#native.atomicOr64(this.#chunkMemory, at, 1n << BigInt(slot % XLB_CHUNK_SLOTS));
  }

  withdraw(slot: number): boolean {
    const at = Math.floor(slot / XLB_CHUNK_SLOTS) * 8;
    const bit = 1n << BigInt(slot % XLB_CHUNK_SLOTS);
    return (this.#native.atomicAnd64(this.#chunkMemory, at, ~bit & 0xffffffffffffffffn) & bit) !== 0n;
  }

  isIdle(slot: number): boolean {
    const at = Math.floor(slot / XLB_CHUNK_SLOTS) * 8;
    return ((this.#native.load64(this.#chunkMemory, at) >> BigInt(slot % XLB_CHUNK_SLOTS)) & 1n) === 1n;
  }

  setChunks(tenant: number, endpoint: number, chunks: readonly number[]): void {
    const key = Buffer.from(poolKeyRow.encode({ tenant, endpoint }));
    if (chunks.length > XLB_POOL_CHUNKS) throw new Error("a pool has too many chunks");
    this.#native.mapUpdate(
      this.#fd("pools"),
      key,
      Buffer.from(poolRow.encode({ nChunks: chunks.length, chunk: chunks })),
    );
  }

  dropPool(tenant: number, endpoint: number): void {
    this.#native.mapDelete(this.#fd("pools"), Buffer.from(poolKeyRow.encode({ tenant, endpoint })));
  }

  /** Announces an i-sock before it connects, so that the server's end is recognised when it is accepted. */
  announce(slot: number, client: AddrKey, server: AddrKey): void {
    this.#native.mapUpdate(this.#fd("peers"), Buffer.from(peerKeyRow.encode({ client, server })), u32(slot));
  }

  forgetPeer(client: AddrKey, server: AddrKey): void {
    this.#native.mapDelete(this.#fd("peers"), Buffer.from(peerKeyRow.encode({ client, server })));
  }

  /** Puts a cross-host i-sock under the response hook. */
  addISock(slot: number, fd: number, cookie: bigint): void {
    this.#native.mapUpdate(this.#fd("isock_slots"), u64(cookie), u32(slot));
    this.#native.mapUpdateFd(this.#fd("i_socks"), u32(slot), fd, 8);
    if (this.#ask("xlb_learn", u32(slot)) !== 1) throw new Error("an i-sock is not in its map");
  }

  forgetISock(cookie: bigint): void {
    this.#native.mapDelete(this.#fd("isock_slots"), u64(cookie));
  }

  /** One request less in service at the endpoint. */
  noLongerActive(endpoint: number): void {
    this.#countDown(this.#endpointMemory, endpoint * endpointStateRow.size);
  }

  #countDown(memory: ArrayBuffer, at: number): void {
    for (;;) {
      const active = this.#native.load64(memory, at);
      if (active === 0n || this.#native.casU64(memory, at, active, active - 1n)) return;
    }
  }

  #countUp(memory: ArrayBuffer, at: number): void {
    for (;;) {
      const active = this.#native.load64(memory, at);
      if (this.#native.casU64(memory, at, active, active + 1n)) return;
    }
  }

  /** Of a cluster whose requests have a bound, the slow path's requests count for the hook, too. */
  enterBreaker(breaker: number): void {
    this.#countUp(this.#breakerMemory, breaker * breakerStateRow.size);
  }

  /** How many of such a cluster's requests are in service, by both paths; 0 for others. */
  inBreaker(breaker: number): number {
    return Number(this.#native.load64(this.#breakerMemory, breaker * breakerStateRow.size));
  }

  leaveBreaker(breaker: number): void {
    this.#countDown(this.#breakerMemory, breaker * breakerStateRow.size);
  }

  active(endpoint: number): number {
    return Number(this.#native.load64(this.#endpointMemory, endpoint * endpointStateRow.size));
  }

  // ---- errors in a row, which hooks count in the same place ----

  #streakAt(endpoint: number, kind: StreakKind): number {
    return endpoint * endpointStateRow.size + endpointStateOffsets[kind];
  }

  addError(endpoint: number, kind: StreakKind): number {
    const at = this.#streakAt(endpoint, kind);
    for (;;) {
      const n = this.#native.load32(this.#endpointMemory, at);
      if (this.#native.casU32(this.#endpointMemory, at, n, n + 1)) return n + 1;
    }
  }

  endErrors(endpoint: number, kind: StreakKind): void {
    this.#native.store32(this.#endpointMemory, this.#streakAt(endpoint, kind), 0);
  }

  errors(endpoint: number, kind: StreakKind): number {
    return this.#native.load32(this.#endpointMemory, this.#streakAt(endpoint, kind));
  }

  /** From now on hooks count them, and tell when there are as many; 0: never. */
  watchErrors(endpoint: number, most: Readonly<Record<StreakKind, number>>): void {
    const at = endpoint * endpointStateRow.size;
    this.#native.store32(this.#endpointMemory, at + endpointStateOffsets.mostErrors, most.errors);
    this.#native.store32(this.#endpointMemory, at + endpointStateOffsets.mostGatewayErrors, most.gatewayErrors);
    this.#native.store32(this.#endpointMemory, at + endpointStateOffsets.watched, 1);
  }

  /** How many requests have found no i-sock of the endpoint since this was last asked. */
  takeMissed(endpoint: number): number {
    const at = endpoint * endpointStateRow.size + endpointStateOffsets.missed;
    if (this.#native.load64(this.#endpointMemory, at) === 0n) return 0;
    return Number(this.#native.atomicAnd64(this.#endpointMemory, at, 0n));
  }

  /** The slow path takes part in LEAST_REQUEST too. */
  nowActive(endpoint: number): void {
    this.#countUp(this.#endpointMemory, endpoint * endpointStateRow.size);
  }

  // ---- connections ----

  conn(key: Buffer): Conn | undefined {
    const bytes = this.#native.mapLookup(this.#fd("conns"), key, this.#map("conns").valueSize);
    return bytes ? connRow.decode(bytes) : undefined;
  }

  /** Forgets the connection of that cookie. Its client's port may be another connection's by now: that one stays. */
  forgetConn(key: Buffer, cookie: bigint): void {
    this.#ask("xlb_forget", Buffer.concat([u64(cookie), key]));
  }

  addAnchor(cookie: bigint, fd: number): void {
    this.#native.mapUpdateFd(this.#fd("anchors"), u64(cookie), fd, 8);
  }

  /** The slow path has nothing left to do on the connection: the kernel may take its next request. */
  slowDone(key: Buffer, cookie: bigint, read: number, written: number): void {
    const value = slowDoneRow.encode({ read: BigInt(read), written: BigInt(written), cookie });
    this.#native.mapUpdate(this.#fd("slow_dones"), key, Buffer.from(value));
  }

  /** Has the client's worker queue been emptied? "gone" when the client is no longer there. */
  drained(cookie: bigint): "gone" | "drained" | "queued" {
    const answer = this.#ask("xlb_drained", u64(cookie));
    return answer === 1 ? "drained" : answer === 2 ? "queued" : "gone";
  }

  /** The client's next request waits for bytes that TCP is still to bring it, until it has got so many in all. */
  awaitBytes(cookie: bigint, received: bigint): void {
    this.#ask("xlb_await", Buffer.concat([u64(cookie), u64(received)]));
  }

  /** What a program that is never attached says to a question. */
  #ask(program: string, question: Buffer): number {
    const packet = Buffer.alloc(64);
    question.copy(packet, 14);
    return this.#native.progTestRun(this.#prog(program), { dataIn: packet }).retval;
  }

  // ---- counters ----

  #perCpu<T>(name: string, index: number, row: Row<T>, add: (a: T, b: T) => T): T {
    const size = (row.size + 7) & ~7;
    const bytes = this.#native.mapLookup(this.#fd(name), u32(index), size * this.#cpus);
    if (!bytes) throw new Error(`no row ${index} in ${name}`);
    let sum = row.decode(bytes.subarray(0, row.size));
    for (let i = 1; i < this.#cpus; i++) sum = add(sum, row.decode(bytes.subarray(i * size, i * size + row.size)));
    return sum;
  }

  #sum<T extends object>(name: string, index: number, row: Row<T>): T {
    return this.#perCpu(name, index, row, (a, b) => {
      const out = { ...a } as Record<string, bigint>;
      for (const [k, v] of Object.entries(b)) out[k] = (out[k] as bigint) + (v as bigint);
      return out as T;
    });
  }

  endpointCounts(endpoint: number): EndpointStats {
    return this.#sum("endpoint_counts", endpoint, endpointStatsRow);
  }

  listenerCounts(listener: number): ListenerStats {
    return this.#sum("listener_counts", listener, listenerStatsRow);
  }

  routeRequests(route: number): number {
    return Number(this.#sum("route_counts", route, routeStatsRow).requests);
  }

  reasonCount(reason: number): number {
    return Number(this.#sum("reason_counts", reason, reasonStatsRow).count);
  }

  /** Name, number of entries in use where it can be told, and capacity of every map. */
  mapSizes(): { name: string; maxEntries: number; valueSize: number }[] {
    return [...this.#maps].map(([name, m]) => ({ name, maxEntries: m.maxEntries, valueSize: m.valueSize }));
  }

  /** Every entry of a hash map, raw. */
  *entries(name: string): Iterable<[Buffer, Buffer]> {
    const m = this.#map(name);
    let key: Buffer | null = null;
    for (let i = 0; i <= m.maxEntries; i++) {
      key = this.#native.mapNextKey(m.fd, key, m.keySize);
      if (!key) return;
      const value = this.#native.mapLookup(m.fd, key, m.valueSize);
      if (value) yield [key, value];
    }
  }

  programs(): { name: string; insns: number; jitted: number }[] {
    return this.#native
      .objProgs(this.#object)
      .map((p) => ({ name: p.name, insns: p.verifiedInsns, jitted: p.jitedLen }));
  }

  close(): void {
    this.dismissAll();
    this.#native.objClose(this.#object);
  }
}
