import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

/**
 * The N-API shim of native/, typed. Plain system calls without any policy; nothing else in TypeScript touches bpf(2).
 *
 * Every call that fails throws a {@link NativeError}. The shim is loaded at the first call; where it or libbpf is
 * missing, {@link unavailable} says why and the daemon goes on in user space.
 */

/** A file descriptor. */
export type Fd = number;

/** What a lost system call looks like. */
export interface NativeError extends Error {
  /** "EPERM" */
  readonly code: string;
  readonly errno: number;
  /** The system or library call that failed. */
  readonly call: string;
  /** The end of what libbpf and the verifier said, where an object was opened or loaded. */
  readonly log?: string;
}

export function isNativeError(error: unknown): error is NativeError {
  return error instanceof Error && "call" in error && "errno" in error;
}

/** An opened BPF object file. */
export type ObjectHandle = { readonly "BPF object": unique symbol };

export interface MapInfo {
  readonly name: string;
  readonly fd: Fd;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
}

export interface ProgInfo {
  readonly name: string;
  readonly fd: Fd;
  readonly type: number;
  /** Instructions the verifier looked at; 0 before the load, and on kernels before 5.16. */
  readonly verifiedInsns: number;
  /** Bytes of BPF instructions, 8 each. */
  readonly xlatedLen: number;
  /** Bytes of machine code; 0 without the JIT. */
  readonly jitedLen: number;
}

export interface MapSpec {
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags?: number;
  readonly name?: string;
  readonly innerMapFd?: Fd;
}

export interface TestRun {
  readonly retval: number;
  /** The context as the program left it, where one was given. */
  readonly ctxOut?: Buffer;
  readonly dataOut?: Buffer;
}

export interface SocketOptions {
  /** Bytes; the kernel doubles them, and no longer tunes the buffer. */
  readonly sndbuf?: number;
  readonly rcvbuf?: number;
  /** TCP_NODELAY, on unless told. */
  readonly noDelay?: boolean;
  /** The address that {@link sockBind} takes instead of the kernel's choice. */
  readonly source?: string;
}

/** Seconds, and how many probes without an answer end a connection; what is missing is the system's. */
export interface Keepalive {
  readonly time?: number;
  readonly interval?: number;
  readonly probes?: number;
}

export interface LocalEnd {
  readonly fd: Fd;
  readonly localIp: string;
  readonly localPort: number;
}

export interface SocketNames {
  readonly localIp: string;
  readonly localPort: number;
  readonly peerIp: string;
  readonly peerPort: number;
}

export interface TcpInfo {
  /** One of {@link TCP_STATE}. */
  readonly state: number;
  readonly unacked: number;
  readonly notsent: number;
  readonly rcvSpace: number;
  readonly rttUs: number;
}

export const TCP_STATE = {
  ESTABLISHED: 1,
  SYN_SENT: 2,
  SYN_RECV: 3,
  FIN_WAIT1: 4,
  FIN_WAIT2: 5,
  TIME_WAIT: 6,
  CLOSE: 7,
  CLOSE_WAIT: 8,
  LAST_ACK: 9,
  LISTEN: 10,
  CLOSING: 11,
} as const;

export const EPOLL = { IN: 0x1, OUT: 0x4, ERR: 0x8, HUP: 0x10, RDHUP: 0x2000 } as const;
/** Report a change once, not a state for as long as it lasts. */
export const EPOLLET = 0x80000000;

/** Of an element that is written: any, only a new one, only one that is there. */
export const BPF_ANY = 0;
export const BPF_NOEXIST = 1;
export const BPF_EXIST = 2;

/** Values of enum bpf_map_type. */
export const MAP_TYPE = {
  HASH: 1,
  ARRAY: 2,
  PERCPU_HASH: 5,
  PERCPU_ARRAY: 6,
  ARRAY_OF_MAPS: 12,
  SOCKMAP: 15,
  SOCKHASH: 18,
  RINGBUF: 27,
} as const;

/** Flags of a map at its creation. */
export const BPF_F_NO_PREALLOC = 1;
export const BPF_F_MMAPABLE = 1024;
export const BPF_F_INNER_MAP = 4096;

// --- loading ---------------------------------------------------------------------------------------------------------

/** All of this module, for those who are handed it: `import * as native`. */
export type Native = typeof import("./native.ts");

/** The functions as C registers them; the exported ones below say what they mean. */
interface Shim {
  objOpen(path: string, options?: { maps?: Readonly<Record<string, number>> }): ObjectHandle;
  objLoad(handle: ObjectHandle): void;
  objMaps(handle: ObjectHandle): MapInfo[];
  objProgs(handle: ObjectHandle): ProgInfo[];
  objClose(handle: ObjectHandle): void;
  attachCgroup(prog: Fd, cgroup: Fd, attachType: number): Fd;
  progAttach(prog: Fd, target: Fd, attachType: number): void;
  progTestRun(prog: Fd, options?: TestRunOptions): TestRun;
  countPrograms(): Fd;
  close(fd: Fd): void;
  openPath(path: string): Fd;
  cgroupId(path: string): bigint;
  mapCreate(spec: MapSpec): Fd;
  mapUpdate(map: Fd, key: Uint8Array | null, value: Uint8Array, flags?: number): void;
  mapUpdateFd(map: Fd, key: Uint8Array, sock: Fd, valueSize: number, flags?: number): void;
  mapUpdateBatch(map: Fd, keys: Uint8Array, values: Uint8Array, count: number): void;
  mapLookup(map: Fd, key: Uint8Array | null, valueSize: number, flags?: number): Buffer | null;
  mapLookupInto(map: Fd, key: Uint8Array, value: Uint8Array): boolean;
  mapLookupAndDelete(map: Fd, key: Uint8Array | null, valueSize: number, flags?: number): Buffer | null;
  mapDelete(map: Fd, key: Uint8Array): boolean;
  mapNextKey(map: Fd, key: Uint8Array | null, keySize: number): Buffer | null;
  mapMmap(map: Fd, length: number, offset?: number): ArrayBuffer;
  possibleCpus(): number;
  probeProgType(type: number): boolean;
  probeMapType(type: number): boolean;
  atomicAnd64(memory: ArrayBuffer, offset: number, mask: bigint): bigint;
  atomicOr64(memory: ArrayBuffer, offset: number, bits: bigint): bigint;
  atomicAdd64(memory: ArrayBuffer, offset: number, n: bigint): bigint;
  atomicAnd32(memory: ArrayBuffer, offset: number, mask: number): number;
  atomicOr32(memory: ArrayBuffer, offset: number, bits: number): number;
  load64(memory: ArrayBuffer, offset: number): bigint;
  load32(memory: ArrayBuffer, offset: number): number;
  store32(memory: ArrayBuffer, offset: number, value: number): void;
  casU32(memory: ArrayBuffer, offset: number, expected: number, desired: number): boolean;
  casU64(memory: ArrayBuffer, offset: number, expected: bigint, desired: bigint): boolean;
  listen(ip: string, port: number, backlog: number): { fd: Fd; ip: string; port: number };
  sockBind(ip: string, options?: SocketOptions): LocalEnd;
  sockConnect(fd: Fd, ip: string, port: number): boolean;
  connectStart(ip: string, port: number, options?: SocketOptions): LocalEnd & { readonly inProgress: boolean };
  sockError(fd: Fd): number;
  sockCookie(fd: Fd): bigint;
  sockNames(fd: Fd): SocketNames;
  sockTcpInfo(fd: Fd): TcpInfo;
  setKeepalive(fd: Fd, options: Keepalive): void;
  keepaliveOf(fd: Fd): Required<Keepalive> | null;
  sockOutq(fd: Fd): number;
  shutdownWrite(fd: Fd): void;
  closeReset(fd: Fd): void;
  dupFd(fd: Fd): Fd;
  recvNonblock(fd: Fd, maxLength: number): Buffer | null;
  peekNonblock(fd: Fd, maxLength: number): Buffer | null;
  sendNonblock(fd: Fd, bytes: Uint8Array, offset?: number): number;
  isLocalAddress(ip: string): boolean;
  sockAccept(listener: Fd): Fd | null;
  sockInq(fd: Fd): number;
  sockSplice(fd: Fd, maxLength: number): number;
  epollOpen(fd: Fd, events: number): Fd;
  epollReady(epoll: Fd, timeoutMs: number): number;
  reactorStart(options: ReactorOptions, callback: (events: Buffer) => void): void;
  reactorStop(): void;
  reactorRef(): void;
  reactorUnref(): void;
  reactorListen(fd: Fd): void;
  reactorWatch(fd: Fd, events: number, tag: number): void;
  reactorArm(fd: Fd, events: number): boolean;
  reactorForget(fd: Fd): boolean;
  reactorIsCurrent(fd: Fd, generation: number): boolean;
  reactorBury(fd: Fd, generation: number): boolean;
  reactorStats(): ReactorStats;
}

type Loaded = { readonly kind: "loaded"; readonly shim: Shim } | { readonly kind: "failed"; readonly error: Error };

let loaded: Loaded | undefined;

/** Beside dist/ when bundled, two folders up from src/kernel/. */
const PLACES = ["../build/xlb_native.node", "../../build/xlb_native.node"];

function load(): Loaded {
  try {
    const places = PLACES.map((place) => fileURLToPath(new URL(place, import.meta.url)));
    const path = process.env.XLB_NATIVE ?? places.find((place) => existsSync(place));
    if (path === undefined) throw new Error(`no xlb_native.node: looked for ${places.join(" and ")}`);
    return { kind: "loaded", shim: createRequire(import.meta.url)(path) as Shim };
  } catch (error) {
    return { kind: "failed", error: error instanceof Error ? error : new Error(String(error)) };
  }
}

function shim(): Shim {
  loaded ??= load();
  if (loaded.kind === "failed") throw loaded.error;
  return loaded.shim;
}

/** Why the shim cannot be had (not built, libbpf missing); undefined where it can. */
export function unavailable(): Error | undefined {
  loaded ??= load();
  return loaded.kind === "failed" ? loaded.error : undefined;
}

// --- objects and programs --------------------------------------------------------------------------------------------

/** Opens a BPF object file; `maps` gives some of its maps another size. Load it before its fds are asked for. */
export function objOpen(path: string, options?: { maps?: Readonly<Record<string, number>> }): ObjectHandle {
  return shim().objOpen(path, options);
}

/** Creates the maps and loads every program. The error's `log` tells what the verifier said. */
export function objLoad(handle: ObjectHandle): void {
  shim().objLoad(handle);
}

/** The fds belong to the object: do not close them. They are negative before the load. */
export function objMaps(handle: ObjectHandle): MapInfo[] {
  return shim().objMaps(handle);
}

/** The fds belong to the object: do not close them. They are negative before the load. */
export function objProgs(handle: ObjectHandle): ProgInfo[] {
  return shim().objProgs(handle);
}

/** Closes the object's fds; what is attached, pinned or duplicated lives on. Also done when the handle is collected. */
export function objClose(handle: ObjectHandle): void {
  shim().objClose(handle);
}

/** Attaches a program to a cgroup for as long as the link, whose fd is returned, is open. */
export function attachCgroup(prog: Fd, cgroup: Fd, attachType: number): Fd {
  return shim().attachCgroup(prog, cgroup, attachType);
}

/** Attaches a program to a socket map, for as long as the map lives. */
export function progAttach(prog: Fd, target: Fd, attachType: number): void {
  shim().progAttach(prog, target, attachType);
}

export interface TestRunOptions {
  readonly ctxIn?: Uint8Array;
  readonly dataIn?: Uint8Array;
  /** Room for the data that comes back; as much as went in unless told. */
  readonly dataSizeOut?: number;
}

/** Runs a program once, here and now: one of type SYSCALL, or one that takes packets (SCHED_CLS). */
export function progTestRun(prog: Fd, options: TestRunOptions = {}): TestRun {
  return shim().progTestRun(prog, options);
}

/** The kernel counts runs and time of all BPF programs until this is closed, or its process ends in whatever way. */
export function countPrograms(): Fd {
  return shim().countPrograms();
}

export function close(fd: Fd): void {
  shim().close(fd);
}

/** A directory's fd: a cgroup to attach to. */
export function openPath(path: string): Fd {
  return shim().openPath(path);
}

/** A cgroup's id, as bpf_get_current_cgroup_id() sees it. */
export function cgroupId(path: string): bigint {
  return shim().cgroupId(path);
}

// --- maps ------------------------------------------------------------------------------------------------------------
// The kernel trusts the lengths: a key or value shorter than the map's own makes it read or write beyond the buffer.
// A value of a per-CPU map has possibleCpus() parts, each rounded up to a multiple of 8 bytes.

export function mapCreate(spec: MapSpec): Fd {
  return shim().mapCreate(spec);
}

/** The key is null for queues and stacks. */
export function mapUpdate(map: Fd, key: Uint8Array | null, value: Uint8Array, flags: number = BPF_ANY): void {
  shim().mapUpdate(map, key, value, flags);
}

/** Puts a socket (or an inner map) by its fd; `valueSize` is the map's own, 4 or 8. */
export function mapUpdateFd(map: Fd, key: Uint8Array, fd: Fd, valueSize: number, flags: number = BPF_ANY): void {
  shim().mapUpdateFd(map, key, fd, valueSize, flags);
}

/** Puts `count` elements whose keys and values lie one after the other. Not all types of maps can (ENOTSUPP). */
export function mapUpdateBatch(map: Fd, keys: Uint8Array, values: Uint8Array, count: number): void {
  shim().mapUpdateBatch(map, keys, values, count);
}

/** null: there is none. */
export function mapLookup(map: Fd, key: Uint8Array, valueSize: number, flags: number = BPF_ANY): Buffer | null {
  return shim().mapLookup(map, key, valueSize, flags);
}

/** The same into a buffer at hand. False: there is none, and the buffer is as it was. */
export function mapLookupInto(map: Fd, key: Uint8Array, value: Uint8Array): boolean {
  return shim().mapLookupInto(map, key, value);
}

/** Takes an element out, as one step. The key is null for queues and stacks. */
export function mapLookupAndDelete(
  map: Fd,
  key: Uint8Array | null,
  valueSize: number,
  flags: number = BPF_ANY,
): Buffer | null {
  return shim().mapLookupAndDelete(map, key, valueSize, flags);
}

/** False: there was none. */
export function mapDelete(map: Fd, key: Uint8Array): boolean {
  return shim().mapDelete(map, key);
}

/** The key after that one; the first where it is null or has been deleted meanwhile; null at the end. */
export function mapNextKey(map: Fd, key: Uint8Array | null, keySize: number): Buffer | null {
  return shim().mapNextKey(map, key, keySize);
}

/** The memory of a map with BPF_F_MMAPABLE, shared with the kernel; unmapped when the buffer is collected. */
export function mapMmap(map: Fd, length: number, offset = 0): ArrayBuffer {
  return shim().mapMmap(map, length, offset);
}

export function possibleCpus(): number {
  return shim().possibleCpus();
}

/** Does the kernel know programs of that type? False as well where it may not be asked. */
export function probeProgType(type: number): boolean {
  return shim().probeProgType(type);
}

/** Does the kernel know maps of that type? False as well where it may not be asked. */
export function probeMapType(type: number): boolean {
  return shim().probeMapType(type);
}

// --- atomics on mapped memory ----------------------------------------------------------------------------------------
// Offsets are in bytes and aligned to the word. Those that change a word return what it was before.

export function atomicAnd64(memory: ArrayBuffer, offset: number, mask: bigint): bigint {
  return shim().atomicAnd64(memory, offset, mask);
}

export function atomicOr64(memory: ArrayBuffer, offset: number, bits: bigint): bigint {
  return shim().atomicOr64(memory, offset, bits);
}

export function atomicAdd64(memory: ArrayBuffer, offset: number, n: bigint): bigint {
  return shim().atomicAdd64(memory, offset, n);
}

export function atomicAnd32(memory: ArrayBuffer, offset: number, mask: number): number {
  return shim().atomicAnd32(memory, offset, mask);
}

export function atomicOr32(memory: ArrayBuffer, offset: number, bits: number): number {
  return shim().atomicOr32(memory, offset, bits);
}

/** Acquires: what the writer wrote before is seen after. */
export function load64(memory: ArrayBuffer, offset: number): bigint {
  return shim().load64(memory, offset);
}

/** Acquires: what the writer wrote before is seen after. */
export function load32(memory: ArrayBuffer, offset: number): number {
  return shim().load32(memory, offset);
}

/** Releases: whoever sees it sees what was written before. */
export function store32(memory: ArrayBuffer, offset: number, value: number): void {
  shim().store32(memory, offset, value);
}

/** True: the word was as expected and has been changed. */
export function casU32(memory: ArrayBuffer, offset: number, expected: number, desired: number): boolean {
  return shim().casU32(memory, offset, expected, desired);
}

/** True: the word was as expected and has been changed. */
export function casU64(memory: ArrayBuffer, offset: number, expected: bigint, desired: bigint): boolean {
  return shim().casU64(memory, offset, expected, desired);
}

// --- sockets ---------------------------------------------------------------------------------------------------------
// All are non-blocking and closed on exec.

/** Listens; port 0 lets the kernel choose. A socket of IPv6 takes connections of IPv6 only. */
export function listen(ip: string, port: number, backlog: number): { fd: Fd; ip: string; port: number } {
  return shim().listen(ip, port, backlog);
}

/** A socket bound to the source the kernel would choose towards that peer: its port is known before it connects. */
export function sockBind(peer: string, options: SocketOptions = {}): LocalEnd {
  return shim().sockBind(peer, options);
}

/** Begins to connect; true: wait until it is writable, then ask {@link sockError}. */
export function sockConnect(fd: Fd, ip: string, port: number): boolean {
  return shim().sockConnect(fd, ip, port);
}

/** {@link sockBind} and {@link sockConnect} in one, where nobody needs the port beforehand. */
export function connectStart(
  ip: string,
  port: number,
  options: SocketOptions = {},
): LocalEnd & { readonly inProgress: boolean } {
  return shim().connectStart(ip, port, options);
}

/** The pending error, an errno or 0; asking clears it. */
export function sockError(fd: Fd): number {
  return shim().sockError(fd);
}

export function sockCookie(fd: Fd): bigint {
  return shim().sockCookie(fd);
}

export function sockNames(fd: Fd): SocketNames {
  return shim().sockNames(fd);
}

export function sockTcpInfo(fd: Fd): TcpInfo {
  return shim().sockTcpInfo(fd);
}

/** SO_KEEPALIVE: the kernel asks now and then whether the other end is still there. */
export function setKeepalive(fd: Fd, options: Keepalive): void {
  shim().setKeepalive(fd, options);
}

/** How it is set; null: it is off. */
export function keepaliveOf(fd: Fd): Required<Keepalive> | null {
  return shim().keepaliveOf(fd);
}

/** Bytes written that the peer has not acknowledged yet. */
export function sockOutq(fd: Fd): number {
  return shim().sockOutq(fd);
}

export function shutdownWrite(fd: Fd): void {
  shim().shutdownWrite(fd);
}

/** Closes with a reset: the connection is gone at once, at both ends. */
export function closeReset(fd: Fd): void {
  shim().closeReset(fd);
}

export function dupFd(fd: Fd): Fd {
  return shim().dupFd(fd);
}

/** null: nothing yet; empty: the end. At most 256 KiB at once. */
export function recvNonblock(fd: Fd, maxLength: number): Buffer | null {
  return shim().recvNonblock(fd, maxLength);
}

/** The same without taking the bytes. */
export function peekNonblock(fd: Fd, maxLength: number): Buffer | null {
  return shim().peekNonblock(fd, maxLength);
}

/** How many bytes were taken; -1: none for now. */
export function sendNonblock(fd: Fd, bytes: Uint8Array, offset = 0): number {
  return shim().sendNonblock(fd, bytes, offset);
}

/** Can a socket of this network namespace be bound to it? (Any can, where ip_nonlocal_bind is set.) */
export function isLocalAddress(ip: string): boolean {
  return shim().isLocalAddress(ip);
}

// --- how a socket shows itself to an application: asked by the probe -------------------------------------------------

/** null: nobody has connected yet. */
export function sockAccept(listener: Fd): Fd | null {
  return shim().sockAccept(listener);
}

/** FIONREAD: the bytes that wait to be read, as the kernel tells applications. */
export function sockInq(fd: Fd): number {
  return shim().sockInq(fd);
}

/** Takes bytes by splice(2) and throws them away; how many, 0: the end, -1: none for now. */
export function sockSplice(fd: Fd, maxLength: number): number {
  return shim().sockSplice(fd, maxLength);
}

/** An epoll of one fd, for some of {@link EPOLL} and {@link EPOLLET}. */
export function epollOpen(fd: Fd, events: number): Fd {
  return shim().epollOpen(fd, events);
}

/** Waits, blocking this thread: the events, or 0 after the time is over. */
export function epollReady(epoll: Fd, timeoutMs: number): number {
  return shim().epollReady(epoll, timeoutMs);
}

// --- the reactor -----------------------------------------------------------------------------------------------------

export interface ReactorOptions {
  /** A map of type RINGBUF. */
  readonly ringbufFd?: Fd;
  /** The map `conns`: keyed by the client's address, 20 bytes. Without it nothing is closed fast. */
  readonly connsMapFd?: Fd;
  readonly connValueSize?: number;
  /** Of the byte in its value that is not 0 once the client has closed both ways. */
  readonly closedOffset?: number;
  /** Bits: a record whose first 32 bits are the number of one that is set has waiting connections accepted at once. */
  readonly wakeTypes?: bigint;
  /**
   * Records whose first 32 bits are this are kept for `laterMs` milliseconds, and passed on only if their client is
   * still there then. Where in such a record the client's address and its cookie are, and where the cookie in `conns`.
   */
  readonly laterType?: number;
  readonly laterMs?: number;
  readonly laterKeyOffset?: number;
  readonly laterCookieOffset?: number;
  readonly cookieOffset?: number;
}

export interface ReactorStats {
  readonly accepted: number;
  /** Ended because their client had gone. */
  readonly fastClosed: number;
  /** Reported as anchors. */
  readonly handed: number;
  readonly acceptErrors: number;
  /** Rounds of accepting while active. */
  readonly ticks: number;
  /** Times the thread woke. */
  readonly rounds: number;
  readonly records: number;
  /** Larger than 64 KiB. */
  readonly recordsDropped: number;
  /** Times the thread had to wait until JavaScript took events. */
  readonly pauses: number;
  /** Deliveries to JavaScript. */
  readonly calls: number;
  /** Records kept for later whose client had closed by then. */
  readonly needless: number;
}

export type ReactorEvent =
  /** A connection was accepted. The fd is the receiver's, who forgets it before closing it. */
  | {
      readonly type: "anchor";
      readonly fd: Fd;
      /** The client's address: the key in `conns`. */
      readonly key: Buffer;
      /** What was seen. Armed (for EPOLLIN | EPOLLRDHUP) only where it was quiet. */
      readonly state: "quiet" | "data" | "eof";
      /** The end was a reset. */
      readonly reset: boolean;
    }
  /** An anchor that was armed. It stays silent until armed again. Neither data nor eof nor writable: look yourself. */
  | {
      readonly type: "readable";
      readonly fd: Fd;
      readonly data: boolean;
      readonly eof: boolean;
      readonly reset: boolean;
      readonly writable: boolean;
    }
  /** An anchor whose client closed both ways. All is done, the fd is closed already: drop it. */
  | { readonly type: "gone"; readonly fd: Fd }
  /** A watched socket. It stays silent until armed again. */
  | { readonly type: "socket"; readonly fd: Fd; readonly tag: number; readonly events: number }
  /** A record of the ring buffer. */
  | { readonly type: "record"; readonly data: Buffer };

/** The layout of events in native/reactor.c. */
const KIND = { ANCHOR: 1, READABLE: 2, GONE: 3, SOCKET: 4, RECORD: 5 } as const;
const LOOK = { DATA: 2, EOF: 4, RESET: 8, WRITABLE: 16 } as const;
const BODY_AT = 16;
const KEY_BYTES = 20;

/** Decoded one after the other: what the handler of one does decides whether a later one still counts. */
function* decodeAll(events: Buffer): Generator<ReactorEvent, void> {
  for (let at = 0; at < events.length; at += events.readUInt32LE(at)) {
    const event = decode(events, at);
    if (event !== undefined) yield event;
  }
}

/** undefined: the fd has been forgotten since, and its number may mean another file by now. */
function decode(events: Buffer, at: number): ReactorEvent | undefined {
  const kind = events.readUInt16LE(at + 4);
  const flags = events.readUInt16LE(at + 6);
  const fd = events.readInt32LE(at + 8);
  const generation = events.readUInt32LE(at + 12);
  const body = at + BODY_AT;
  const has = (bit: number) => (flags & bit) !== 0;
  switch (kind) {
    case KIND.ANCHOR: {
      const key = events.subarray(body, body + KEY_BYTES);
      const state = has(LOOK.DATA) ? "data" : has(LOOK.EOF) ? "eof" : "quiet";
      return { type: "anchor", fd, key, state, reset: has(LOOK.RESET) };
    }
    case KIND.READABLE:
      if (!shim().reactorIsCurrent(fd, generation)) return undefined;
      return {
        type: "readable",
        fd,
        data: has(LOOK.DATA),
        eof: has(LOOK.EOF),
        reset: has(LOOK.RESET),
        writable: has(LOOK.WRITABLE),
      };
    case KIND.GONE:
      // The thread kept the number from being used again until now.
      return shim().reactorBury(fd, generation) ? { type: "gone", fd } : undefined;
    case KIND.SOCKET:
      if (!shim().reactorIsCurrent(fd, generation)) return undefined;
      return { type: "socket", fd, tag: events.readUInt32LE(body), events: events.readUInt32LE(body + 4) };
    case KIND.RECORD:
      return { type: "record", data: events.subarray(body + 8, body + 8 + events.readUInt32LE(body)) };
    default:
      throw new Error(`the shim sent an event of the unknown kind ${kind}: it is not of this build`);
  }
}

/**
 * Starts the thread; there is one in a process. It keeps the process alive until {@link reactorUnref} or
 * {@link reactorStop}. The callback gets what has gathered, to be walked through once and at once: events about fds
 * that were forgotten on the way are left out. One that throws loses the rest, and is an uncaught exception.
 *
 * An anchor's fd may turn into a dead one (calls fail with ENOTSOCK) at any time before its "gone" is delivered, but
 * never into another connection.
 */
export function reactorStart(options: ReactorOptions, callback: (events: Iterable<ReactorEvent>) => void): void {
  shim().reactorStart(options, (events) => callback(decodeAll(events)));
}

/** Joins the thread. Events not yet delivered are lost; fds stay open. */
export function reactorStop(): void {
  shim().reactorStop();
}

export function reactorRef(): void {
  shim().reactorRef();
}

export function reactorUnref(): void {
  shim().reactorUnref();
}

/** Accepts what comes to a listening socket. Forget it before closing it. */
export function reactorListen(fd: Fd): void {
  shim().reactorListen(fd);
}

/** Reports one of those {@link EPOLL} events, once, as "socket". Forget the fd before closing it. */
export function reactorWatch(fd: Fd, events: number, tag: number): void {
  shim().reactorWatch(fd, events, tag);
}

/** Has a watched socket or an anchor reported once more. False: the fd is not known, or gone. */
export function reactorArm(fd: Fd, events: number): boolean {
  return shim().reactorArm(fd, events);
}

/**
 * After this the thread does not touch the fd, and nothing more is reported of it; the caller closes it. False: it was
 * not known, or is an anchor that has just gone (its "gone" will not come any more).
 */
export function reactorForget(fd: Fd): boolean {
  return shim().reactorForget(fd);
}

export function reactorStats(): ReactorStats {
  return shim().reactorStats();
}
