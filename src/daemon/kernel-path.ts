import { existsSync } from "node:fs";
import { constants } from "node:os";
import { datapathOfLeaf, leavesOf, type WorkloadDatapath } from "../admin/workloads.ts";
import type { Datapath, Native } from "../kernel/datapath.ts";
import type { ReactorEvent } from "../kernel/native.ts";
import { defaultLimits, Pools } from "../pool/pools.ts";
import type { EndpointTarget } from "../pool/ports.ts";
import { notConnected, type Outcome, STREAKS, type StreakKind } from "../route/outlier.ts";
import type { Field } from "../slowpath/http1.ts";
import type { Lost as LostRequest } from "../slowpath/ports.ts";
import type { Event, Slot } from "../tables/layout.gen.ts";
import {
  EventType,
  eventRow,
  FramingFlag,
  FramingState,
  SlotFlag,
  Streak,
  XLB_CHUNK_SLOTS,
  XLB_POOL_CHUNKS,
  XLB_USERSPACE_TENANT,
} from "../tables/layout.gen.ts";
import type { Anchor } from "./connections.ts";
import { Connections } from "./connections.ts";
import { followFrom } from "./follow.ts";
import { KernelISocks } from "./isocks.ts";
import { LateHead } from "./late-head.ts";
import { Tail, type TailEnd } from "./tail.ts";

/** Reactor tags from here on are tails'; below it they are slots'. */
const TAIL_TAG = 1 << 24;

/** How long a server that said it would close may take to do so. Milliseconds. */
const SERVER_CLOSE = 1_000;

/** How long redirected bytes may take from the hook to the client's queue. Milliseconds. */
const MOVE_TIME = 5;

/** When a connection is looked for that had not been accepted by then. Milliseconds. */
const LATE_TIME = 5;

const STREAK_BITS: Readonly<Record<StreakKind, number>> = {
  errors: Streak.errors,
  gatewayErrors: Streak.gatewayErrors,
};

/** Whoever ends a request with one of these leaves the i-sock to the daemon. */
const NOT_GIVEN_BACK = SlotFlag.retire | SlotFlag.aborted | SlotFlag.fault;

/** Milliseconds between looks for requests whose time is up; every eighth is for the rest, too. */
const LOOK_TIME = 250;
const LOOKS_PER_SWEEP = 8;

/** How often the daemon looks, each millisecond, whether a worker has handed over the last of an answer. */
const HAND_OVER_TRIES = 2_000;

/** How long a hook may take from the choice of an i-sock to its use. Milliseconds. */
const CLAIM_TIME = 10;

/** Why a request that the kernel path took ended without its server's answer. */
export type Lost = "terminated" | "timeout" | "protocol";

/** What rules make of the fields of an answer. */
export type EditAnswer = (fields: readonly Field[]) => readonly Field[];

/** Does the server end its connection behind the answer, as the head says that a hook has followed? */
const saysClose = ({ frame: { flags } }: Slot) =>
  (flags & FramingFlag.close) !== 0 || (flags & (FramingFlag.http10 | FramingFlag.keepAlive)) === FramingFlag.http10;

/** How an i-sock ended; what is neither for certain counts as a reset. */
type ISockEnd = "fin" | "reset";

export interface KernelPathPorts {
  /** The slow path serves the connection from here on, `initial` first. */
  serve(anchor: Anchor, stream: NonNullable<Anchor["stream"]>, initial: LostRequest | undefined): Anchor["session"];
  /** Is a connection to this listener, and this port, to be served before its client has said a word? */
  waitsForNobody(listener: number, port: number): boolean;
  /** Answers a request whose server failed before it said a word, and closes; the rules edit the answer so. */
  refuse(anchor: Anchor, why: Lost, edit: EditAnswer): void;
  /** What the edits at this place of these rules make of an answer's fields. */
  editAnswer(rules: number, program: number, fields: readonly Field[]): readonly Field[];
  /** What came of a request, or a client's own connection, whose end no hook has counted. */
  came(endpoint: number, outcome: Outcome): void;
  /** An answer is over, whole or not, that no hook has counted. Bytes, and milliseconds since its request was taken. */
  answered(endpoint: number, status: number, bytes: number, ms: number): void;
  /** Of an endpoint these streaks have become as long as they may be. */
  grown(endpoint: number, streaks: readonly StreakKind[]): void;
  log(level: "debug" | "info" | "warn", fields: object, message: string): void;
  connectTimeout(endpoint: number): number;
}

/**
 * What the hooks cannot do by themselves: i-socks made and buried, clients whose answers fail, responses too large for
 * a client's queue, cgroups that come and go. Driven by the reactor's events; idle when the kernel needs nothing.
 */
export class KernelPath {
  readonly #native: Native;
  readonly #datapath: Datapath;
  readonly #ports: KernelPathPorts;
  readonly pools: Pools;
  readonly connections: Connections;
  readonly #isocks: KernelISocks;
  readonly #tails = new Map<number, Tail>();
  #looks = 0;
  readonly #tenants = new Map<bigint, { id: number; path: string; leaf: boolean }>();
  /** Clients whose connection ends when their server's does. */
  readonly #serverClosing = new Map<number, Event>();
  /** Those whose connection had not been reported when its end was due. */
  #late: Event[] = [];
  #lateTimer: NodeJS.Timeout | undefined;
  /** Slots that waited for us at the last look, with their generations: an event of theirs may have been lost. */
  #waiting = new Map<number, number>();
  /** Of endpoints, by their numbers. */
  #targets: ReadonlyMap<number, EndpointTarget> = new Map();
  #nextTenant = 1;
  #lookedAt = process.hrtime.bigint();
  #timers: NodeJS.Timeout[] = [];
  #leafRoot: string | undefined;
  #leafRootId: bigint | undefined;
  #listeners: number[] = [];

  constructor(native: Native, datapath: Datapath, ports: KernelPathPorts) {
    this.#native = native;
    this.#datapath = datapath;
    this.#ports = ports;
    this.#isocks = new KernelISocks(
      native,
      datapath,
      {
        connected: (slot) => this.pools.connected(slot),
        failed: (slot) => this.pools.failed(slot),
        ended: (slot) => this.#ended(slot),
      },
      ports.connectTimeout,
    );
    this.pools = new Pools(
      this.#isocks,
      { now: () => performance.now(), after: (ms, f) => void setTimeout(f, ms).unref() },
      {
        ...defaultLimits,
        chunkSlots: XLB_CHUNK_SLOTS,
        chunksPerPool: XLB_POOL_CHUNKS,
        maxChunks: datapath.maxChunks,
      },
    );
    this.connections = new Connections(native, datapath, {
      serve: (anchor, stream, initial) => ports.serve(anchor, stream, initial),
      waitsForNobody: (listener, port) => ports.waitsForNobody(listener, port),
      sentAll: (slot, generation) => this.#cutShort(slot, generation),
    });
  }

  /** Begins to take anchors in. `fds` are listening sockets. */
  start(fds: readonly number[]): void {
    this.#native.reactorStart({ ...this.#datapath.reactorOptions, laterMs: MOVE_TIME }, (events) => {
      for (const e of events) {
        try {
          this.#onEvent(e);
        } catch (error) {
          /* One connection's misfortune is not the daemon's. */
          this.#ports.log("warn", { err: error, event: e.type }, "an event could not be handled");
        }
      }
    });
    for (const fd of fds) this.#native.reactorListen(fd);
    this.#listeners = [...fds];
    this.#timers = [
      setInterval(() => this.#look(), LOOK_TIME),
      setInterval(() => this.#shrink(), defaultLimits.shrinkMs),
    ];
  }

  /** One timer for all: an idle daemon's processor time is its wake-ups. */
  #look(): void {
    this.#expire();
    if (++this.#looks % LOOKS_PER_SWEEP !== 0) return;
    this.connections.sweep();
    /* New leaves are told of by `xlb exec`, and by the hooks: this is for those that went. */
    this.#watchLeaves();
  }

  /** Hooks stamp the slots that they take with the clock that is also ours. */
  #shrink(): void {
    const lastLook = this.#lookedAt;
    this.#lookedAt = process.hrtime.bigint();
    this.pools.shrink((slot) => this.#datapath.isIdle(slot) && this.#datapath.slot(slot).startedNs < lastLook);
  }

  setTargets(targets: readonly EndpointTarget[]): void {
    this.#targets = new Map(targets.map((target) => [target.endpoint, target]));
    this.pools.setTargets(targets);
  }

  /** The slow path serves a request that the kernel path could have, had there been an i-sock. */
  wanted(tenant: number, endpoint: number): void {
    if (tenant >= XLB_USERSPACE_TENANT) return;
    if (!this.pools.hasIdle(tenant, endpoint, (slot) => this.#datapath.isIdle(slot))) this.pools.grow(tenant, endpoint);
  }

  // ---- tenants ----

  /**
   * Attaches the hooks to cgroups that are tenants, and to the folder in which `xlb exec` makes its cgroups, each of
   * them a tenant of its own. To all of them before any gets its i-socks: those are made on the same host only if the
   * hooks were on the server's cgroup when they connected. Gives the ids of the first.
   */
  enrol(cgroups: readonly string[], userspaceCgroups: readonly string[], leafRoot: string): number[] {
    for (const path of [...cgroups, ...userspaceCgroups, leafRoot]) this.#datapath.enrol(path);
    for (const path of userspaceCgroups) this.#join(path, "userspace", false);
    const ids = cgroups.map((path) => this.#join(path, "auto", false));
    this.#leafRoot = leafRoot;
    this.#watchLeaves();
    return ids;
  }

  /** The tenant that a cgroup of `xlb exec` is; a new one's pools begin to fill. */
  tenant(leaf: string): number {
    return this.#join(leaf, datapathOfLeaf(leaf), true);
  }

  #join(path: string, datapath: WorkloadDatapath, leaf: boolean): number {
    if (this.#leafRoot) this.#keepRoot(this.#leafRoot);
    const cgroup = this.#native.cgroupId(path);
    const known = this.#tenants.get(cgroup);
    if (known) return known.id;
    const id = this.#nextTenant++ + (datapath === "userspace" ? XLB_USERSPACE_TENANT : 0);
    this.#tenants.set(cgroup, { id, path, leaf });
    this.#datapath.setTenant(cgroup, id);
    if (datapath === "auto") this.pools.warm(id);
    return id;
  }

  tenantPaths(): { id: number; path: string }[] {
    return [...this.#tenants.values()];
  }

  async warm(tenants: readonly number[], limitMs: number): Promise<boolean> {
    const until = performance.now() + limitMs;
    while (!tenants.every((t) => this.pools.isWarm(t))) {
      if (performance.now() > until) return false;
      await new Promise((r) => setTimeout(r, 2));
    }
    return true;
  }

  /** Another daemon's end, or `xlb cleanup`, takes the folder away when it is empty; `xlb exec` makes it anew. */
  #keepRoot(root: string): void {
    if (!existsSync(root)) return;
    const id = this.#native.cgroupId(root);
    if (this.#leafRootId !== undefined && id !== this.#leafRootId) this.#datapath.enrolAgain(root);
    this.#leafRootId = id;
  }

  #watchLeaves(): void {
    if (!this.#leafRoot) return;
    try {
      this.#keepRoot(this.#leafRoot);
    } catch {
      return;
    }
    const there = new Set(leavesOf(this.#leafRoot));
    for (const path of there) {
      if ([...this.#tenants.values()].some((t) => t.path === path)) continue;
      try {
        this.tenant(path);
      } catch {
        /* it has gone again */
      }
    }
    for (const [cgroup, t] of this.#tenants) {
      if (!t.leaf || there.has(t.path)) continue;
      this.#tenants.delete(cgroup);
      this.#datapath.removeTenant(cgroup);
      this.pools.drop(t.id);
    }
  }

  // ---- events ----

  #onEvent(e: ReactorEvent): void {
    switch (e.type) {
      case "anchor":
        this.connections.onAnchor(e.fd, Buffer.from(e.key), e.state);
        break;
      case "readable":
        this.connections.onReadable(e.fd, e.eof && !e.data);
        break;
      case "gone":
        this.connections.onGone(e.fd);
        break;
      case "socket": {
        if (e.tag >= TAIL_TAG) {
          this.#tails.get(e.tag - TAIL_TAG)?.ready();
          break;
        }
        const tail = this.#tails.get(e.tag);
        if (tail && this.#isocks.fd(e.tag) === e.fd) tail.ready();
        else this.#isocks.onSocket(e.tag, e.fd, e.events);
        break;
      }
      case "record":
        this.#onRecord(eventRow.decode(e.data));
        break;
    }
  }

  #onRecord(e: Event): void {
    switch (e.type) {
      case EventType.grow:
        this.pools.grow(e.tenant, e.endpoint);
        break;
      case EventType.tenant:
        this.#watchLeaves();
        break;
      case EventType.retire:
        this.#retire(e.slot, e.generation, false);
        break;
      case EventType.abort:
        this.#abandon(e.slot, e.generation);
        break;
      case EventType.fault:
        this.#fault(e.slot, e.generation, "protocol");
        break;
      case EventType.stale:
        this.#fault(e.slot, e.generation, "terminated");
        break;
      case EventType.bypass:
        this.#bypass(e.slot, e.generation);
        break;
      case EventType.close:
        this.#awaitServer(e);
        break;
      case EventType.end:
        this.#endClient(e);
        break;
      case EventType.outlier:
        this.#ports.grown(
          e.endpoint,
          STREAKS.filter((kind) => (e.reason & STREAK_BITS[kind]) !== 0),
        );
        break;
      case EventType.unreached:
        this.#ports.came(e.endpoint, notConnected(e.reason === constants.errno.ETIMEDOUT));
        break;
    }
  }

  /**
   * The response is complete in the hook, but a hook runs before its bytes are moved, and whoever moves them may be
   * interrupted. A server that closes does so behind its last byte: then its end is the sign.
   */
  #awaitServer(e: Event): void {
    const life = this.#datapath.life(e.slot);
    if (life.generation !== e.generation || this.#isocks.fd(e.slot) === undefined) {
      /* It has closed already. */
      setTimeout(() => this.#endClient(e), MOVE_TIME).unref();
      return;
    }
    this.#serverClosing.set(e.slot, e);
    setTimeout(() => {
      if (this.#serverClosing.get(e.slot) === e) this.#bury(e.slot, false);
    }, SERVER_CLOSE).unref();
  }

  /**
   * A server that stays gives no sign: there only time helps, which the reactor has taken, and most clients who asked
   * for the end have closed by themselves meanwhile. This one has not.
   */
  #endClient(e: Event): void {
    const anchor = this.connections.find(e.client);
    /* Otherwise its turn to be accepted is still to come. */
    if (anchor?.cookie === e.cookie) this.connections.end(anchor);
    else this.#late.push(e);
    if (this.#late.length > 0) this.#lateTimer ??= setTimeout(() => this.#endLate(), LATE_TIME);
  }

  #endLate(): void {
    const due = this.#late;
    this.#late = [];
    this.#lateTimer = undefined;
    for (const { client, cookie } of due) {
      if (this.connections.isOpen(client, cookie)) {
        this.connections.when(client, cookie, (anchor) => this.connections.end(anchor));
      }
    }
  }

  /** The response is over and the i-sock is not to be used again. */
  #retire(slot: number, generation: number, abort: boolean): void {
    const life = this.#datapath.life(slot);
    if (life.generation !== generation || this.#isocks.fd(slot) === undefined) return;
    if ((life.flags & SlotFlag.responseDone) === 0 || this.#serverClosing.has(slot)) return;
    /* An idle one with unasked bytes: if a hook has just taken it, the hook finds that out and says so. */
    if (this.#datapath.withdraw(slot) || (life.flags & NOT_GIVEN_BACK) !== 0) this.#bury(slot, abort);
  }

  #bury(slot: number, abort: boolean): void {
    this.#tails.get(slot)?.cancel();
    this.#tails.delete(slot);
    const closing = this.#serverClosing.get(slot);
    this.#serverClosing.delete(slot);
    if (closing) this.connections.when(closing.client, closing.cookie, (anchor) => this.connections.end(anchor));
    this.pools.retired(slot, abort, this.#datapath.slot(slot).startedNs !== 0n);
  }

  /** The client has gone in the middle of its request. */
  #abandon(slot: number, generation: number): void {
    if (this.#isocks.fd(slot) === undefined || this.#datapath.life(slot).generation !== generation) return;
    const record = this.#datapath.slot(slot);
    if (this.#datapath.conclude(slot, generation)) this.#cameSoFar(record);
    this.#bury(slot, true);
  }

  /** The i-sock's connection ended. */
  #ended(slot: number, tries = 0): void {
    const fd = this.#isocks.fd(slot);
    if (fd === undefined) return;
    if (this.#datapath.withdraw(slot)) {
      this.#bury(slot, false);
      return;
    }
    /* The fence: a read takes the socket's lock, so whatever verdict was running has ended. */
    let ending = true;
    let end: ISockEnd = "reset";
    try {
      const left = this.#native.peekNonblock(fd, 1);
      ending = left !== null && left.length === 0;
      if (ending && this.#native.sockError(fd) === 0) end = "fin";
    } catch {
      ending = true;
    }
    const life = this.#datapath.life(slot);
    const record = this.#datapath.slot(slot);
    if ((life.flags & SlotFlag.responseDone) !== 0) {
      /* Where the rest of the request is still to come, the hook finds its i-sock gone and breaks the client off. */
      const ours = (life.flags & NOT_GIVEN_BACK) !== 0 || (life.flags & SlotFlag.requestDone) === 0;
      if (ours) {
        this.#bury(slot, false);
        return;
      }
      /* A hook has just taken it, or is about to give it back: it will find the mark. */
      if (this.#datapath.mark(slot, life.generation, SlotFlag.retire)) {
        setTimeout(() => {
          if (this.#isocks.fd(slot) === fd && this.#datapath.withdraw(slot)) this.#bury(slot, false);
        }, CLAIM_TIME).unref();
      }
      return;
    }
    if ((life.flags & SlotFlag.bypass) !== 0) return;
    /* What a blocking client has not got yet lies with this i-sock's worker, who can hand it over until a reset. */
    const isHeld = (life.flags & SlotFlag.handOver) !== 0 && record.handedOver !== record.responseBytes;
    if (isHeld && end === "fin" && tries < HAND_OVER_TRIES) {
      setTimeout(() => this.#ended(slot, tries + 1), 1).unref();
      return;
    }
    this.#lose(slot, life.generation, life.flags, record, "terminated", { end });
  }

  /** A request of the kernel path will get no (more) answer from its server. */
  #lose(
    slot: number,
    generation: number,
    flags: number,
    record: Slot,
    why: Lost,
    { end = "reset", isClients = false }: { readonly end?: ISockEnd; readonly isClients?: boolean } = {},
  ): void {
    const stash = (flags & SlotFlag.stashed) !== 0 && why === "terminated" ? this.#datapath.stash(slot) : undefined;
    const clean = record.frame.state === FramingState.untilClose && end === "fin";
    const started = (flags & SlotFlag.started) !== 0;
    if (!this.#datapath.conclude(slot, generation)) return;
    this.#bury(slot, why !== "terminated");
    const isAborted = (flags & SlotFlag.aborted) !== 0;
    if (isAborted || isClients) this.#cameSoFar(record);
    else this.#cameToNothing(record, why, clean);
    if (isAborted) return;
    this.#ports.log("debug", { slot, why, started, clean }, "a request of the kernel path lost its server");
    const target = this.#targets.get(record.endpoint);
    this.connections.when(record.client, record.owner, (anchor) => {
      if (clean) this.connections.end(anchor);
      else if (started) this.connections.reset(anchor);
      else if (stash)
        this.connections.takeOver(anchor, { request: stash, server: target?.address, cluster: target?.cluster });
      else this.#ports.refuse(anchor, why, this.#editOf(flags, record));
    });
  }

  /** Tells outlier detection of it. `clean`: the answer came to the end that it was to have. */
  #cameToNothing(record: Slot, why: Lost, clean: boolean): void {
    const { endpoint } = record;
    const hasHead = this.#cameSoFar(record);
    if (why !== "timeout" && !clean) this.#ports.came(endpoint, { kind: "failed" });
    else if (why === "timeout" && !hasHead) this.#ports.came(endpoint, { kind: "timedOut", status: 504 });
  }

  /** A server has answered when its head has come, whoever ends what follows. */
  #cameSoFar(record: Slot): boolean {
    const hasHead = (record.frame.flags & FramingFlag.hasHead) !== 0;
    if (hasHead) this.#answered(record, record.frame.status, 0);
    return hasHead;
  }

  /** `more`: bytes that did not come by the hook. */
  #answered({ endpoint, responseBytes, startedNs }: Slot, status: number, more: number): void {
    const ms = Number(process.hrtime.bigint() - startedNs) / 1e6;
    this.#ports.answered(endpoint, status, Number(responseBytes) + more, ms);
  }

  /** What rules make of the answer to the request that the slot serves. */
  #editOf(flags: number, { editRules, editProgram }: Slot): EditAnswer {
    if ((flags & SlotFlag.edits) === 0) return (fields) => fields;
    return (fields) => this.#ports.editAnswer(editRules, editProgram, fields);
  }

  /** The response cannot be framed: nobody may guess. */
  #fault(slot: number, generation: number, why: Lost, isClients = false): void {
    const life = this.#datapath.life(slot);
    if (life.generation !== generation || this.#isocks.fd(slot) === undefined) return;
    this.#lose(slot, generation, life.flags, this.#datapath.slot(slot), why, { isClients });
  }

  /** A client that sends no more: if the body of its request is not whole, its server would wait for the rest. */
  #cutShort(slot: number, generation: number): void {
    const { flags } = this.#datapath.life(slot);
    if ((flags & SlotFlag.requestDone) === 0) this.#fault(slot, generation, "terminated", true);
  }

  /** The client reads too slowly, or the hook leaves the head to us: hand the rest of the answer on, as it is taken. */
  #bypass(slot: number, generation: number): void {
    const record = this.#datapath.slot(slot);
    const from = this.#isocks.fd(slot);
    if (record.generation !== generation || from === undefined) return;
    this.connections.when(record.client, record.owner, (anchor) => {
      if (this.#isocks.fd(slot) !== from || !this.#datapath.inService(slot, generation)) return;
      /* It was asked for once more, while the connection was still to be accepted. */
      if (this.#tails.has(slot)) return;
      const to = this.#native.dupFd(anchor.fd);
      const head = this.#lateHead(record);
      const stage = head ?? followFrom(record.frame.state, record.frame.remaining);
      const tail = new Tail(this.#native, from, to, stage, TAIL_TAG + slot, {
        begun: () => this.#datapath.mark(slot, generation, SlotFlag.started),
        ended: (end, bytes) => {
          this.#tails.delete(slot);
          anchor.beside += bytes;
          this.#datapath.awaitBytes(record.owner, record.bypassBase + BigInt(bytes));
          const status = head === undefined ? record.frame.status : head.status;
          this.#bypassed(slot, generation, anchor, end, { closes: head?.closes ?? saysClose(record), status, bytes });
        },
      });
      this.#tails.set(slot, tail);
      this.connections.whenDrained(anchor, () => tail.start());
    });
  }

  /** Where it is the head that the hook has left to us. */
  #lateHead(record: Slot): LateHead | undefined {
    const { flags, frame } = record;
    if (frame.state >= FramingState.body) return undefined;
    const method = (flags & SlotFlag.head) !== 0 ? "HEAD" : "GET";
    return new LateHead(this.#editOf(flags, record), method, (flags & SlotFlag.closeClient) !== 0);
  }

  /** `closes`: the server ends its connection behind the answer. */
  #bypassed(
    slot: number,
    generation: number,
    anchor: Anchor,
    end: TailEnd,
    {
      closes,
      status,
      bytes,
    }: { readonly closes: boolean; readonly status: number | undefined; readonly bytes: number },
  ): void {
    const life = this.#datapath.life(slot);
    if (life.generation !== generation || (life.flags & SlotFlag.responseDone) !== 0) return;
    if (end === "headCut" || end === "badHead") {
      const why = end === "badHead" ? "protocol" : "terminated";
      /* An answer that has begun is no reason to ask again; and where it began, the stash is the parser's window. */
      this.#lose(slot, generation, life.flags & ~SlotFlag.stashed, this.#datapath.slot(slot), why);
      return;
    }
    const clean = end === "complete" || end === "extra" || end === "closed";
    const record = this.#datapath.slot(slot);
    if (status !== undefined) this.#answered(record, status, bytes);
    if (!clean && end !== "clientGone") this.#ports.came(record.endpoint, { kind: "failed" });
    const retire = end !== "complete" || closes || (life.flags & NOT_GIVEN_BACK) !== 0;
    /* What a server says behind its answer is no affair of the client's. */
    const close = end === "closed" || closes || (life.flags & SlotFlag.closeClient) !== 0;
    if (!clean) {
      this.#datapath.conclude(slot, generation);
      this.#bury(slot, true);
      this.connections.reset(anchor);
      return;
    }
    if (retire) {
      this.#datapath.conclude(slot, generation);
      this.#bury(slot, false);
    } else {
      const was = this.#datapath.conclude(slot, generation, SlotFlag.responseDone);
      if (was) this.#isocks.watchEnd(slot);
      /* Where more of the request is to come, the hook gives the i-sock back behind it. */
      if (was && (was.flags & SlotFlag.requestDone) !== 0) this.#datapath.publish(slot);
    }
    if (close) this.connections.end(anchor);
  }

  /**
   * Requests that outlived their route's timeout: 504, or a broken connection when the answer had begun. And slots that
   * wait for us since the last look: the ring of events may have been full when their turn came.
   */
  #expire(): void {
    const now = process.hrtime.bigint();
    const waited = this.#waiting;
    this.#waiting = new Map();
    for (const slot of [...this.pools.liveSlots()]) {
      if (this.#datapath.isIdle(slot)) continue;
      const { flags, generation } = this.#datapath.life(slot);
      const over = (flags & SlotFlag.responseDone) !== 0;
      if (this.#waitsForUs(slot, flags)) {
        if (waited.get(slot) === generation) this.#attend(slot, flags, generation);
        else this.#waiting.set(slot, generation);
      }
      if (over) continue;
      const record = this.#datapath.slot(slot);
      if (record.generation !== generation || record.timeoutMs === 0 || record.dueNs === 0n) continue;
      if (now - record.dueNs < BigInt(record.timeoutMs) * 1_000_000n) continue;
      this.#lose(slot, record.generation, record.flags, record, "timeout");
    }
  }

  #waitsForUs(slot: number, flags: number): boolean {
    if ((flags & SlotFlag.responseDone) === 0) {
      const bypassed = (flags & SlotFlag.bypass) !== 0 && !this.#tails.has(slot);
      return bypassed || (flags & (SlotFlag.fault | SlotFlag.aborted)) !== 0;
    }
    const given = (flags & SlotFlag.requestDone) !== 0 && (flags & NOT_GIVEN_BACK) !== 0;
    return given && !this.#serverClosing.has(slot);
  }

  #attend(slot: number, flags: number, generation: number): void {
    if ((flags & SlotFlag.responseDone) !== 0) this.#retire(slot, generation, false);
    else if ((flags & SlotFlag.aborted) !== 0) this.#abandon(slot, generation);
    else if ((flags & SlotFlag.fault) !== 0) this.#fault(slot, generation, "protocol");
    else this.#bypass(slot, generation);
  }

  /** How many requests the kernel path has in service. */
  inService(): number {
    let n = 0;
    for (const slot of this.pools.liveSlots()) {
      const { flags, generation } = this.#datapath.life(slot);
      if (generation && (flags & SlotFlag.responseDone) === 0) n++;
    }
    return n;
  }

  /** New connections are left alone; requests in service may end within `graceMs`; then everything is closed. */
  async stop(graceMs: number): Promise<void> {
    this.#datapath.dismissAll();
    const until = performance.now() + graceMs;
    /* The slow path ends its own connections, those in the middle of an answer too. */
    const busy = () => this.inService() > 0 || this.connections.slow > 0;
    while (busy() && performance.now() < until) await new Promise((r) => setTimeout(r, 10));
    for (const t of this.#timers) clearInterval(t);
    clearTimeout(this.#lateTimer);
    this.pools.close();
    this.connections.closeAll();
    this.#native.reactorStop();
    for (const fd of this.#listeners) this.#native.close(fd);
    this.#datapath.close();
  }
}
