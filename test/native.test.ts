import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, describe, test } from "node:test";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as native from "../src/kernel/native.ts";

/** Why BPF cannot be had here; where it has to be (CI), the tests fail instead of being skipped. */
function whyNot(): string | false {
  const missing = native.unavailable();
  if (missing !== undefined) return missing.message;
  try {
    native.close(native.mapCreate({ type: native.MAP_TYPE.ARRAY, keySize: 4, valueSize: 4, maxEntries: 1 }));
    return false;
  } catch (error) {
    return `no bpf(2) here: ${(error as Error).message}`;
  }
}

const skip = process.env.CI === "true" ? false : whyNot();
const MODULE = JSON.stringify(fileURLToPath(new URL("../src/kernel/native.ts", import.meta.url)));

const u32 = (n: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(n);
  return bytes;
};

const u64 = (n: number | bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(n));
  return bytes;
};

/** An error with that code, from that call. */
const lost = (code: string, call?: string) => (error: unknown) => {
  assert.ok(native.isNativeError(error), String(error));
  assert.equal(error.code, code);
  if (call !== undefined) assert.equal(error.call, call);
  assert.ok(error.errno > 0);
  return true;
};

const open: native.Fd[] = [];
const keep = (fd: native.Fd) => {
  open.push(fd);
  return fd;
};

afterEach(() => {
  native.reactorStop();
  for (const fd of open.splice(0)) native.close(fd);
});

describe("maps", { skip }, () => {
  const { HASH, ARRAY, PERCPU_ARRAY } = native.MAP_TYPE;

  test("an element is put, found, taken and deleted", () => {
    const map = keep(native.mapCreate({ type: HASH, keySize: 4, valueSize: 8, maxEntries: 4, name: "t_hash" }));
    assert.equal(native.mapLookup(map, u32(1), 8), null);
    assert.equal(native.mapNextKey(map, null, 4), null);
    native.mapUpdate(map, u32(1), u64(11));
    assert.deepEqual(native.mapLookup(map, u32(1), 8), u64(11));
    const into = Buffer.alloc(8);
    assert.equal(native.mapLookupInto(map, u32(1), into), true);
    assert.deepEqual(into, u64(11));
    assert.equal(native.mapLookupInto(map, u32(2), into), false);
    assert.deepEqual(native.mapNextKey(map, null, 4), u32(1));
    assert.equal(native.mapNextKey(map, u32(1), 4), null);
    assert.throws(() => native.mapUpdate(map, u32(1), u64(0), native.BPF_NOEXIST), lost("EEXIST"));
    assert.deepEqual(native.mapLookupAndDelete(map, u32(1), 8), u64(11));
    assert.equal(native.mapLookupAndDelete(map, u32(1), 8), null);
    assert.equal(native.mapDelete(map, u32(1)), false);
    native.mapUpdate(map, u32(2), u64(2));
    assert.equal(native.mapDelete(map, u32(2)), true);
  });

  test("a batch puts all its elements", () => {
    const map = keep(native.mapCreate({ type: HASH, keySize: 4, valueSize: 8, maxEntries: 4 }));
    native.mapUpdateBatch(map, Buffer.concat([u32(7), u32(8)]), Buffer.concat([u64(70), u64(80)]), 2);
    assert.deepEqual(native.mapLookup(map, u32(7), 8), u64(70));
    assert.deepEqual(native.mapLookup(map, u32(8), 8), u64(80));
    native.mapUpdateBatch(map, Buffer.alloc(0), Buffer.alloc(0), 0);
  });

  test("a per-CPU value has a part for each possible CPU", () => {
    const map = keep(native.mapCreate({ type: PERCPU_ARRAY, keySize: 4, valueSize: 4, maxEntries: 1 }));
    const size = 8 * native.possibleCpus();
    native.mapUpdate(map, u32(0), Buffer.alloc(size, 1));
    assert.equal(native.mapLookup(map, u32(0), size)?.length, size);
  });

  test("an inner map is put by its fd", () => {
    const inner = { type: ARRAY, keySize: 4, valueSize: 16, maxEntries: 2, flags: native.BPF_F_INNER_MAP };
    const one = keep(native.mapCreate(inner));
    const outerType = native.MAP_TYPE.ARRAY_OF_MAPS;
    const outer = keep(native.mapCreate({ type: outerType, keySize: 4, valueSize: 4, maxEntries: 2, innerMapFd: one }));
    native.mapUpdateFd(outer, u32(1), keep(native.mapCreate({ ...inner, maxEntries: 5 })), 4);
    assert.notEqual(native.mapLookup(outer, u32(1), 4)?.readUInt32LE(0), 0);
  });

  test("mapped memory is the map's own, and atomics change it", () => {
    const flags = native.BPF_F_MMAPABLE;
    const map = keep(native.mapCreate({ type: ARRAY, keySize: 4, valueSize: 8, maxEntries: 4, flags }));
    const memory = native.mapMmap(map, 32);
    assert.equal(memory.byteLength, 32);
    native.mapUpdate(map, u32(1), u64(0xf0n));
    assert.equal(native.load64(memory, 8), 0xf0n);
    assert.equal(native.atomicOr64(memory, 8, 1n << 63n), 0xf0n);
    assert.equal(native.atomicAnd64(memory, 8, ~0x10n & 0xffff_ffff_ffff_ffffn), (1n << 63n) | 0xf0n);
    assert.equal(native.atomicAdd64(memory, 8, 1n), (1n << 63n) | 0xe0n);
    assert.deepEqual(native.mapLookup(map, u32(1), 8), u64((1n << 63n) | 0xe1n));
    assert.equal(native.atomicOr32(memory, 4, 6), 0);
    assert.equal(native.atomicAnd32(memory, 4, 2), 6);
    assert.equal(native.load32(memory, 4), 2);
    native.store32(memory, 4, 0xffff_ffff);
    assert.equal(native.casU32(memory, 4, 1, 5), false);
    assert.equal(native.casU32(memory, 4, 0xffff_ffff, 5), true);
    assert.equal(new Uint32Array(memory)[1], 5);
    assert.equal(native.casU64(memory, 0, 0n, 1n), false);
    assert.equal(native.casU64(memory, 0, 5n << 32n, 1n), true);
    assert.throws(() => native.load64(memory, 32), RangeError);
    assert.throws(() => native.load64(memory, 4), RangeError);
    assert.throws(() => native.load32(memory, 30), RangeError);
  });

  test("a lost call names itself and its errno; a wrong argument is a TypeError", () => {
    assert.throws(() => native.mapCreate({ type: HASH, keySize: 0, valueSize: 1, maxEntries: 1 }), lost("EINVAL"));
    assert.throws(() => native.mapLookup(-1, u32(0), 4), lost("EBADF", "bpf_map_lookup_elem"));
    assert.throws(() => native.openPath("/no/such"), lost("ENOENT", "open"));
    assert.throws(() => native.mapUpdate(1, "key" as unknown as Buffer, u32(0)), TypeError);
    assert.throws(() => native.mapCreate({ type: "hash" } as unknown as native.MapSpec), TypeError);
  });
});

describe("cgroups", { skip }, () => {
  test("a cgroup's id is its inode", (t) => {
    let mounted = "";
    try {
      mounted = execFileSync("findmnt", ["-nt", "cgroup2", "-o", "TARGET"], { encoding: "utf8" }).split("\n")[0] ?? "";
    } catch {
      return t.skip("no cgroup2 here");
    }
    const inode = execFileSync("stat", ["-c", "%i", mounted], { encoding: "utf8" });
    assert.equal(native.cgroupId(mounted), BigInt(inode));
    native.close(native.openPath(mounted));
  });
});

/** A program that adds the numbers of its context and writes a record of `length` bytes; types are as in events. */
const OBJECT = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, int); __type(value, int); }
	h SEC(".maps");
struct args { __u32 type, number, quiet, sum; };
struct record { __u32 type, number; char filling[1016]; };
SEC("syscall") int emit(struct args *args)
{
	struct record *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	args->sum = args->type + args->number;
	if (!record)
		return 1;
	record->type = args->type;
	record->number = args->number;
	bpf_ringbuf_submit(record, args->quiet ? BPF_RB_NO_WAKEUP : 0);
	return 0;
}
struct about { __u32 type, number; __u64 cookie; __u8 client[24]; };
SEC("syscall") int tell(struct about *about)
{
	struct about *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record)
		return 1;
	*record = *about;
	bpf_ringbuf_submit(record, 0);
	return 0;
}
SEC("tc") int parity(struct __sk_buff *skb) { return skb->len & 1; }
SEC("?tc") int spare(struct __sk_buff *skb) { return 0; }
char LICENSE[] SEC("license") = "GPL";
`;

const REFUSED = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int wild(struct __sk_buff *skb) { return *(volatile int *)(long)skb->len; }
char LICENSE[] SEC("license") = "GPL";
`;

const CLANG = ["clang-19", "clang"].find((name) => spawnSync(name, ["--version"]).status === 0);
const folder = mkdtempSync(join(tmpdir(), "xlb-native-"));
after(() => rmSync(folder, { recursive: true }));

function compile(name: string, source: string): string {
  const [c, o] = [join(folder, `${name}.c`), join(folder, `${name}.o`)];
  writeFileSync(c, source);
  const includes = `-I/usr/include/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`;
  execFileSync(CLANG ?? "clang", ["-O2", "-g", "-target", "bpf", includes, "-c", c, "-o", o]);
  return o;
}

const skipObjects = skip || (CLANG === undefined && "no clang to make an object with");
const args = (type: number, number: number, quiet = false) =>
  Buffer.concat([u32(type), u32(number), u32(quiet ? 1 : 0), u32(0)]);

describe("objects", { skip: skipObjects }, () => {
  test("an object is opened, resized, loaded and run", () => {
    const object = native.objOpen(compile("plain", OBJECT), { maps: { h: 100 } });
    native.objLoad(object);
    const maps = native.objMaps(object);
    const h = maps.find(({ name }) => name === "h");
    assert.ok(h !== undefined && h.fd > 0);
    assert.deepEqual({ ...h, fd: 0 }, { name: "h", fd: 0, type: 1, keySize: 4, valueSize: 4, maxEntries: 100 });
    const progs = new Map(native.objProgs(object).map((prog) => [prog.name, prog]));
    const emit = progs.get("emit");
    const parity = progs.get("parity");
    assert.ok(emit !== undefined && parity !== undefined);
    assert.ok(emit.fd > 0 && emit.xlatedLen > 0 && emit.verifiedInsns > 0);
    assert.ok((progs.get("spare")?.fd ?? 0) < 0, "a program that is not to be loaded is not");
    const ran = native.progTestRun(emit.fd, { ctxIn: args(2, 40) });
    assert.deepEqual([ran.retval, ran.ctxOut?.readUInt32LE(12)], [0, 42]);
    const packet = native.progTestRun(parity.fd, { dataIn: Buffer.alloc(61) });
    assert.deepEqual([packet.retval, packet.dataOut?.length], [1, 61]);
    assert.equal(native.progTestRun(parity.fd, { dataIn: Buffer.alloc(60) }).retval, 0);
    native.objClose(object);
    native.objClose(object);
    assert.throws(() => native.objMaps(object), lost("EBADF"));
  });

  test("what the verifier said comes with the error", () => {
    const object = native.objOpen(compile("refused", REFUSED));
    assert.throws(
      () => native.objLoad(object),
      (error) => lost("EACCES")(error) && /invalid mem access/.test((error as native.NativeError).log ?? ""),
    );
    assert.throws(() => native.objOpen("/no/such.o"), lost("ENOENT"));
    assert.throws(() => native.objOpen(join(folder, "plain.o"), { maps: { none: 1 } }), lost("ENOENT"));
  });
});

/** A connection of IPv4 on loopback whose accepted end is a Node socket. */
async function pair(server: Server, options: native.SocketOptions = {}): Promise<{ fd: native.Fd; peer: Socket }> {
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const { port } = server.address() as { port: number };
  const { fd } = native.connectStart("127.0.0.1", port, options);
  const [peer] = await accepted;
  peer.on("error", () => {});
  return { fd: keep(fd), peer };
}

async function listening(options = {}): Promise<Server> {
  const server = createServer(options);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function eventually<T>(what: string, look: () => T | undefined | false | null): Promise<T> {
  for (const until = performance.now() + 60_000; performance.now() < until; ) {
    const seen = look();
    if (seen !== undefined && seen !== false && seen !== null) return seen;
    await sleep(2);
  }
  return assert.fail(`never: ${what}`);
}

/** Waits for 200 ms in which the thread woke no more often than this: one that spins has none, on any machine. */
async function quietRounds(most: number): Promise<void> {
  for (const until = performance.now() + 30_000; performance.now() < until; ) {
    const { rounds } = native.reactorStats();
    await sleep(200);
    if (native.reactorStats().rounds - rounds <= most) return;
  }
  assert.fail("the thread never sleeps");
}

describe("sockets", { skip }, () => {
  for (const ip of ["127.0.0.1", "::1"]) {
    test(`${ip}: bound before it connects, and says who it is`, async () => {
      const server = native.listen(ip, 0, 16);
      keep(server.fd);
      assert.equal(server.ip, ip);
      const { fd, localIp, localPort } = native.sockBind(ip, { sndbuf: 8 << 20, rcvbuf: 1 << 20 });
      keep(fd);
      assert.equal(localIp, ip);
      assert.ok(localPort > 0);
      native.sockConnect(fd, ip, server.port);
      await eventually("connected", () => native.sockTcpInfo(fd).state === native.TCP_STATE.ESTABLISHED);
      assert.equal(native.sockError(fd), 0);
      assert.deepEqual(native.sockNames(fd), { localIp, localPort, peerIp: ip, peerPort: server.port });
      assert.ok(native.sockCookie(fd) > 0n);
      assert.notEqual(native.sockCookie(fd), native.sockCookie(server.fd));
    });
  }

  test("keepalive is off, on by the system's numbers, or by one's own", async () => {
    const server = await listening();
    try {
      const { fd } = await pair(server);
      assert.equal(native.keepaliveOf(fd), null);
      native.setKeepalive(fd, {});
      const system = native.keepaliveOf(fd)!;
      const setting = (name: string) => Number(readFileSync(`/proc/sys/net/ipv4/tcp_keepalive_${name}`, "utf8"));
      assert.deepEqual(system, { time: setting("time"), interval: setting("intvl"), probes: setting("probes") });
      native.setKeepalive(fd, { interval: 7 });
      assert.deepEqual(native.keepaliveOf(fd), { ...system, interval: 7 });
      native.setKeepalive(fd, { time: 32_767, probes: 127 });
      assert.deepEqual(native.keepaliveOf(fd), { time: 32_767, interval: 7, probes: 127 });
      assert.throws(() => native.setKeepalive(fd, { time: 32_768 }), lost("EINVAL", "setsockopt TCP_KEEPIDLE"));
      assert.throws(() => native.setKeepalive(fd, { probes: 128 }), lost("EINVAL", "setsockopt TCP_KEEPCNT"));
    } finally {
      server.close();
    }
  });

  test("bytes, back-pressure, half-close and reset", async () => {
    const server = await listening({ allowHalfOpen: true });
    try {
      const { fd, peer } = await pair(server);
      assert.equal(native.recvNonblock(fd, 10), null);
      peer.write("hello");
      await eventually("bytes", () => native.peekNonblock(fd, 2)?.toString() === "he");
      assert.equal(native.recvNonblock(fd, 100)?.toString(), "hello");
      assert.equal(native.sendNonblock(fd, Buffer.from("skip this"), 5), 4);
      assert.equal(String((await once(peer, "data"))[0]), "this");
      assert.throws(() => native.sendNonblock(fd, Buffer.alloc(1), 2), RangeError);
      peer.pause();
      const block = Buffer.alloc(1 << 20);
      while (native.sendNonblock(fd, block) > 0);
      assert.equal(native.sendNonblock(fd, block), -1);
      assert.ok(native.sockOutq(fd) > 0);
      peer.resume();
      await eventually("drained", () => native.sockOutq(fd) === 0);
      native.shutdownWrite(fd);
      await once(peer, "end");
      const copy = native.dupFd(fd);
      assert.equal(native.sockCookie(copy), native.sockCookie(fd));
      native.close(copy);
      peer.resetAndDestroy();
      await eventually("reset", () => native.sockTcpInfo(fd).state === native.TCP_STATE.CLOSE);
      assert.throws(() => native.recvNonblock(fd, 1), lost("ECONNRESET", "recv"));
    } finally {
      server.close();
    }
  });

  test("closeReset is seen as a reset", async () => {
    const server = await listening();
    try {
      const { fd, peer } = await pair(server);
      const reset = new Promise<NodeJS.ErrnoException>((resolve) => peer.once("error", resolve));
      native.closeReset(open.splice(open.indexOf(fd), 1)[0] as native.Fd);
      peer.resume();
      assert.equal((await reset).code, "ECONNRESET");
    } finally {
      server.close();
    }
  });

  test("a refused connection is told, and addresses are judged", async () => {
    const server = native.listen("127.0.0.1", 0, 1);
    native.close(server.fd);
    const { fd } = native.sockBind("127.0.0.1");
    keep(fd);
    let refused = 0;
    try {
      native.sockConnect(fd, "127.0.0.1", server.port);
      refused = await eventually("refused", () => native.sockError(fd) || undefined);
    } catch (error) {
      refused = (error as native.NativeError).errno;
    }
    assert.equal(refused, 111);
    assert.throws(() => native.sockBind("localhost"), TypeError);
    assert.throws(() => native.connectStart("127.0.0.1", 65_536), RangeError);
    assert.equal(native.isLocalAddress("127.0.0.1"), true);
    assert.equal(native.isLocalAddress("192.0.2.1"), false);
    assert.equal(native.isLocalAddress("2001:db8::1"), false);
  });
});

type EventOf<T extends native.ReactorEvent["type"]> = Extract<native.ReactorEvent, { type: T }>;

const CONN = { size: 16, closed: 12 };

/** A reactor with one listener and a `conns` of its own, and all that it reported. */
class Watched {
  readonly events: native.ReactorEvent[] = [];
  readonly conns = keep(
    native.mapCreate({ type: native.MAP_TYPE.HASH, keySize: 20, valueSize: CONN.size, maxEntries: 70_000 }),
  );
  readonly server: { fd: native.Fd; ip: string; port: number };
  /** Sees each event before it is kept; what it takes (true) is not. */
  take: (event: native.ReactorEvent) => boolean = () => false;

  constructor(options: native.ReactorOptions = {}, ip = "127.0.0.1") {
    this.server = native.listen(ip, 0, 65_535);
    keep(this.server.fd);
    const conns = { connsMapFd: this.conns, connValueSize: CONN.size, closedOffset: CONN.closed };
    native.reactorStart({ ...conns, ...options }, (events) => {
      for (const event of events) if (!this.take(event)) this.events.push(event);
    });
    native.reactorListen(this.server.fd);
  }

  /** Connects; over loopback that is done when the call returns. */
  client(): { fd: native.Fd; key: Buffer } {
    const { fd, localPort } = native.connectStart(this.server.ip, this.server.port);
    const ip = this.server.ip === "::1" ? [...Array(15).fill(0), 1] : [...Array(10).fill(0), 255, 255, 127, 0, 0, 1];
    const key = Buffer.from([...ip, localPort & 255, localPort >> 8, 0, 0]);
    return { fd, key };
  }

  /** Says what the hooks say when the client closes both ways. */
  setClosed(key: Buffer): void {
    const value = Buffer.alloc(CONN.size);
    value[CONN.closed] = 1;
    native.mapUpdate(this.conns, key, value);
  }

  of<T extends native.ReactorEvent["type"]>(type: T): EventOf<T>[] {
    return this.events.filter((event): event is EventOf<T> => event.type === type);
  }

  next<T extends native.ReactorEvent["type"]>(type: T): Promise<EventOf<T>> {
    return eventually(type, () => {
      const found = this.events.findIndex((event) => event.type === type);
      return found < 0 ? undefined : (this.events.splice(found, 1)[0] as EventOf<T>);
    });
  }
}

function release(fd: native.Fd): void {
  native.reactorForget(fd);
  native.close(fd);
}

const openFds = () => readdirSync("/proc/self/fd").length;

describe("reactor: anchors", { skip }, () => {
  test("clients that have closed are ended with a reset, in the thread, and their entries deleted", async () => {
    const watched = new Watched();
    const before = openFds();
    const clients = 500;
    const ports: number[] = [];
    for (let i = 0; i < clients; i++) {
      const { fd, key } = watched.client();
      ports.push(key.readUInt16LE(16));
      watched.setClosed(key);
      native.close(fd);
    }
    await eventually("all closed", () => native.reactorStats().fastClosed === clients);
    assert.equal(native.mapNextKey(watched.conns, null, 20), null);
    const stats = native.reactorStats();
    assert.equal(stats.accepted, clients);
    await eventually("as many gone as handed", () => watched.of("gone").length === stats.handed);
    assert.equal(watched.of("anchor").length, stats.handed);
    await eventually("no fd is left", () => openFds() === before);
    // As /proc/net/tcp writes a connection, from its client's side. Others may use these numbers the other way round.
    const hex = (port: number) => `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")}`;
    const rows = ports.map((port) => ` ${hex(port)} ${hex(watched.server.port)} `);
    const left = () => {
      const table = readFileSync("/proc/net/tcp", "latin1");
      return rows.filter((row) => table.includes(row));
    };
    // A reset that meets its client in the very moment of becoming a TIME_WAIT is lost: one in hundreds.
    await eventually("nearly nothing in FIN_WAIT or TIME_WAIT", () => left().length <= clients / 50);
  });

  test("a half-closed client is reported, and gets its answer", async () => {
    const watched = new Watched();
    const { fd, key } = watched.client();
    keep(fd);
    native.mapUpdate(watched.conns, key, Buffer.alloc(CONN.size));
    native.shutdownWrite(fd);
    let anchor = await watched.next("anchor");
    // The thread may have been quick enough to see it before its end.
    if (anchor.state === "quiet") {
      const readable = await watched.next("readable");
      assert.deepEqual([readable.fd, readable.eof, readable.data], [anchor.fd, true, false]);
      anchor = { ...anchor, state: "eof" };
    }
    assert.deepEqual([anchor.state, anchor.reset, anchor.key], ["eof", false, key]);
    assert.equal(native.sendNonblock(anchor.fd, Buffer.from("answer")), 6);
    release(anchor.fd);
    assert.equal(native.recvNonblock(fd, 10)?.toString(), "answer");
    assert.equal(native.recvNonblock(fd, 10)?.length, 0);
    assert.equal(native.reactorStats().fastClosed, 0);
    assert.ok(native.mapLookup(watched.conns, key, CONN.size), "the entry is left to its owner");
  });

  for (const ip of ["127.0.0.1", "::1"]) {
    test(`${ip}: a quiet client is reported quiet, then readable, once for each time it is armed`, async () => {
      const watched = new Watched({}, ip);
      const { fd, key } = watched.client();
      keep(fd);
      const anchor = await watched.next("anchor");
      assert.deepEqual([anchor.state, anchor.key], ["quiet", key]);
      native.sendNonblock(fd, Buffer.from("one"));
      const first = await watched.next("readable");
      assert.deepEqual(
        [first.fd, first.data, first.eof, first.reset, first.writable],
        [anchor.fd, true, false, false, false],
      );
      native.sendNonblock(fd, Buffer.from("two"));
      await sleep(20);
      assert.equal(watched.of("readable").length, 0);
      assert.equal(native.reactorArm(anchor.fd, native.EPOLL.OUT), true);
      assert.equal((await watched.next("readable")).writable, true);
      assert.equal(native.recvNonblock(anchor.fd, 10)?.toString(), "onetwo");
      native.reactorArm(anchor.fd, native.EPOLL.IN | native.EPOLL.RDHUP);
      native.shutdownWrite(fd);
      const last = await watched.next("readable");
      assert.deepEqual([last.data, last.eof], [false, true]);
      assert.equal(native.reactorForget(anchor.fd), true);
      assert.equal(native.reactorForget(anchor.fd), false);
      assert.equal(native.reactorArm(anchor.fd, native.EPOLL.IN), false);
      native.close(anchor.fd);
    });
  }

  test("a kept client that closes is ended in the thread; its fd is nobody's until JavaScript has heard", async () => {
    const watched = new Watched();
    const { fd, key } = watched.client();
    const anchor = await watched.next("anchor");
    assert.equal(anchor.state, "quiet");
    watched.setClosed(key);
    native.close(fd);
    // Without giving the callback its turn.
    while (native.reactorStats().fastClosed === 0);
    assert.throws(() => native.recvNonblock(anchor.fd, 1), lost("ENOTSOCK"));
    const other = watched.client();
    keep(other.fd);
    assert.notEqual(other.fd, anchor.fd);
    assert.deepEqual(await watched.next("gone"), { type: "gone", fd: anchor.fd });
    assert.equal(native.mapLookup(watched.conns, key, CONN.size), null);
    release((await watched.next("anchor")).fd); // it may have got the number of the first one by now
  });

  test("an anchor forgotten and closed before the news of its end is heard of no more", async () => {
    const watched = new Watched();
    const { fd, key } = watched.client();
    const anchor = await watched.next("anchor");
    watched.setClosed(key);
    native.close(fd);
    while (native.reactorStats().fastClosed === 0);
    assert.equal(native.reactorForget(anchor.fd), false);
    native.close(anchor.fd); // as JavaScript does with each that it forgets
    const taken = native.openPath("/tmp"); // the number that has come free, most likely
    await setImmediate();
    await sleep(10);
    assert.equal(watched.of("gone").length, 0);
    native.close(taken);
  });

  test("a reset client is reported with its reset", async () => {
    const watched = new Watched();
    const { fd } = watched.client();
    const anchor = await watched.next("anchor");
    native.closeReset(fd);
    if (anchor.state === "quiet") assert.equal((await watched.next("readable")).reset, true);
    else assert.equal(anchor.reset, true);
    release(anchor.fd);
  });

  test("the thread sleeps when there is nothing to do, with clients waiting or without", async () => {
    const watched = new Watched();
    const clients = Array.from({ length: 10 }, () => keep(watched.client().fd));
    await eventually("all met", () => watched.of("anchor").length === clients.length);
    await quietRounds(0);
    keep(watched.client().fd);
    await eventually("and wakes", () => watched.of("anchor").length === clients.length + 1);
    for (const { fd } of watched.of("anchor")) release(fd);
  });

  test("a listener that was forgotten accepts no more", async () => {
    const watched = new Watched();
    assert.throws(() => native.reactorListen(watched.server.fd), lost("EEXIST"));
    assert.equal(native.reactorForget(watched.server.fd), true);
    keep(watched.client().fd);
    await sleep(20);
    assert.equal(native.reactorStats().accepted, 0);
    native.reactorListen(watched.server.fd);
    release((await watched.next("anchor")).fd);
  });

  test("a storm of clients, kept, closed, forgotten: each is accounted for and no fd is lost", async () => {
    const watched = new Watched();
    const before = openFds();
    let forgotten = 0;
    const held: native.Fd[] = [];
    watched.take = (event) => {
      if (event.type === "anchor") {
        held.push(event.fd);
        // Every third is let go at once, whatever the thread is about to do with it; those at their end are not armed.
        if (event.state !== "quiet" || held.length % 3 === 0) {
          held.pop();
          release(event.fd);
          forgotten++;
        }
      } else if (event.type === "gone") {
        held.splice(held.indexOf(event.fd), 1);
      } else if (event.type === "readable") {
        held.splice(held.indexOf(event.fd), 1);
        release(event.fd);
      }
      return true;
    };
    const clients: { fd: native.Fd; key: Buffer }[] = [];
    const total = 3000;
    for (let made = 0; made < total; ) {
      for (let i = 0; i < 10 && made < total; i++, made++) clients.push(watched.client());
      await setImmediate();
      while (clients.length > 30 || (made === total && clients.length > 0)) {
        const { fd, key } = clients.splice((made * 7919) % clients.length, 1)[0]!;
        if (fd % 4 !== 0) watched.setClosed(key);
        native.close(fd);
      }
    }
    await eventually("all accepted", () => native.reactorStats().accepted === total);
    await eventually("all ended", () => held.length === 0);
    await eventually("no fd is left", () => openFds() === before);
    const { fastClosed, handed } = native.reactorStats();
    assert.ok(forgotten <= handed && fastClosed + handed >= total);
  });
});

describe("reactor: sockets", { skip }, () => {
  test("a watched socket is reported once, with its tag", async () => {
    const server = await listening();
    const watched = new Watched();
    try {
      const { fd, peer } = await pair(server);
      native.reactorWatch(fd, native.EPOLL.RDHUP, 77);
      peer.write("not asked for");
      await sleep(20);
      assert.deepEqual(watched.of("socket"), []);
      peer.end();
      const { events, ...rest } = await watched.next("socket");
      assert.deepEqual(rest, { type: "socket", fd, tag: 77 });
      assert.ok(events & native.EPOLL.RDHUP);
      await sleep(10);
      assert.deepEqual(watched.of("socket"), []);
      native.reactorArm(fd, native.EPOLL.IN);
      assert.ok((await watched.next("socket")).events & native.EPOLL.IN);
      native.reactorArm(fd, native.EPOLL.IN);
      native.reactorForget(fd); // what is on its way is not delivered
      await sleep(10);
      assert.deepEqual(watched.of("socket"), []);
    } finally {
      server.close();
    }
  });
});

describe("reactor: records", { skip: skipObjects }, () => {
  function emitter(options: Omit<native.ReactorOptions, "ringbufFd"> = {}, ringBytes = 1 << 20) {
    const object = native.objOpen(compile("ring", OBJECT), { maps: { ring: ringBytes } });
    native.objLoad(object);
    const { fd: ringbufFd } = native.objMaps(object).find(({ name }) => name === "ring")!;
    const { fd: prog } = native.objProgs(object).find(({ name }) => name === "emit")!;
    const watched = new Watched({ ...options, ringbufFd });
    const emit = (type: number, number: number, quiet = false) =>
      native.progTestRun(prog, { ctxIn: args(type, number, quiet) }).retval === 0;
    const { fd: tell } = native.objProgs(object).find(({ name }) => name === "tell")!;
    /** A record of 40 bytes about a client. */
    const about = (type: number, number: number, cookie: bigint, client: Buffer) =>
      native.progTestRun(tell, { ctxIn: Buffer.concat([u32(type), u32(number), u64(cookie), client, u32(0)]) }).retval;
    return { watched, emit, about, close: () => native.objClose(object) };
  }

  test("a record arrives as it was written; quiet ones with the next thing that happens", async () => {
    const { watched, emit, close } = emitter();
    assert.ok(emit(3, 1));
    const { data } = await watched.next("record");
    assert.deepEqual([data.length, data.readUInt32LE(0), data.readUInt32LE(4)], [1024, 3, 1]);
    assert.ok(emit(3, 2, true));
    await sleep(20);
    assert.equal(watched.of("record").length, 0);
    const { fd } = watched.client();
    const anchor = await watched.next("anchor");
    assert.equal((await watched.next("record")).data.readUInt32LE(4), 2);
    native.close(fd);
    release(anchor.fd);
    native.reactorStop();
    close();
  });

  test("a record comes before the event about the socket", async () => {
    const { watched, emit, close } = emitter();
    for (let i = 0; i < 200; i++) {
      const { fd } = watched.client();
      assert.ok(emit(3, i, true));
      native.sendNonblock(fd, Buffer.from("x"));
      const order: string[] = [];
      await eventually("bytes", () => {
        for (const event of watched.events.splice(0)) {
          order.push(event.type === "anchor" ? event.state : event.type);
          if (event.type === "readable" || (event.type === "anchor" && event.state !== "quiet")) release(event.fd);
        }
        return order.includes("readable") || order.includes("data");
      });
      const bytes = order.findIndex((what) => what === "readable" || what === "data");
      const record = order.indexOf("record");
      assert.ok(record >= 0 && record < bytes, order.join());
      native.close(fd);
    }
    native.reactorStop();
    close();
  });

  test("a wake record has connections accepted between ticks", async () => {
    const { watched, emit, close } = emitter({ wakeTypes: 1n << 1n });
    const { fd } = watched.client(); // makes it tick
    const { ticks } = await watched.next("anchor").then(native.reactorStats);
    for (let i = 0; i < 20; i++) {
      assert.ok(emit(1, i));
      await eventually("heard", () => watched.of("record").length === i + 1);
    }
    assert.ok(native.reactorStats().ticks >= ticks + 20);
    native.close(fd);
    native.reactorStop();
    close();
  });

  test("a record is kept for later, and passed only if its client is still there", async () => {
    /* Longer than a busy machine takes to write all of them. */
    const later = { laterType: 9, laterMs: 900, laterKeyOffset: 16, laterCookieOffset: 8, cookieOffset: 0 };
    const { watched, about, close } = emitter(later);
    const conn = (cookie: bigint, closed: number) => Buffer.concat([u64(cookie), u32(0), u32(closed)]);
    const clients = Array.from({ length: 600 }, (_, i) => Buffer.from([...Array(16).fill(1), i & 255, i >> 8, 0, 0]));
    for (const [i, client] of clients.entries()) {
      // Every second one has closed, the port of every third is another's, every seventh is not known at all.
      const [closed, cookie] = [i % 2 === 1 ? 1 : 0, i % 3 === 2 ? 1n : BigInt(i) + 5n];
      if (i % 7 !== 6) native.mapUpdate(watched.conns, client, conn(cookie, closed));
    }
    const began = performance.now();
    for (const [i, client] of clients.entries()) assert.equal(about(9, i, BigInt(i) + 5n, client), 0);
    assert.equal(about(3, 0, 0n, clients[0]!), 0);
    await eventually("the other record", () => watched.of("record").length === 1);
    const wanted = clients.map((_, i) => i).filter((i) => i % 2 === 0 && i % 3 !== 2 && i % 7 !== 6);
    await eventually("those that stay", () => watched.of("record").length === 1 + wanted.length);
    assert.ok(performance.now() - began >= 900);
    const numbers = watched.of("record").map(({ data }) => data.readUInt32LE(4));
    assert.deepEqual(numbers, [0, ...wanted]);
    assert.equal(native.reactorStats().needless, clients.length - wanted.length);
    native.reactorStop();
    close();
  });

  test("JavaScript being busy for long costs no record and a bounded queue", async () => {
    const { watched, emit, close } = emitter();
    let written = 0;
    const until = performance.now() + 20_000;
    // 1 KiB each: 8 MiB of queue, then the ring itself is full.
    while (native.reactorStats().pauses === 0 && performance.now() < until) if (emit(3, written)) written++;
    for (let i = 0; i < 100_000 && emit(3, written); i++) written++;
    assert.equal(native.reactorStats().pauses, 1);
    assert.ok(written < 10_000, "the queue has an end");
    await eventually("all there", () => watched.of("record").length === written);
    assert.deepEqual(
      watched.of("record").map(({ data }) => data.readUInt32LE(4)),
      Array.from({ length: written }, (_, i) => i),
    );
    native.reactorStop();
    close();
  });
});

describe("reactor: the process", { skip }, () => {
  const run = (script: string) =>
    spawnSync(
      process.execPath,
      ["--import", "tsx", "--input-type=module", "-e", `import * as native from ${MODULE};\n${script}`],
      { encoding: "utf8", timeout: 180_000 },
    );

  test("there is one reactor, and without it calls say so", () => {
    new Watched();
    assert.throws(() => native.reactorStart({}, () => {}), lost("EALREADY"));
    native.reactorStop();
    native.reactorStop();
    assert.throws(() => native.reactorListen(0), lost("ESRCH"));
    assert.equal(native.reactorForget(3), false);
  });

  test("a map of another shape is refused for conns", () => {
    const map = keep(native.mapCreate({ type: native.MAP_TYPE.HASH, keySize: 20, valueSize: 8, maxEntries: 1 }));
    const start = (connValueSize: number, closedOffset: number) =>
      native.reactorStart({ connsMapFd: map, connValueSize, closedOffset }, () => {});
    assert.throws(() => start(4, 0), lost("EINVAL"));
    assert.throws(() => start(8, 8), lost("EINVAL"));
    start(8, 7);
  });

  test("it may be stopped from within its own callback", async () => {
    const watched = new Watched();
    watched.take = () => {
      native.reactorStop();
      return false;
    };
    keep(watched.client().fd);
    keep((await watched.next("anchor")).fd);
    assert.throws(() => native.reactorListen(watched.server.fd), lost("ESRCH"));
  });

  test("unreferenced, it does not keep the process alive; with it still running, the process ends well", () => {
    const start = "native.reactorStart({}, () => {}); native.reactorListen(native.listen('127.0.0.1', 0, 9).fd);";
    const idle = run(`${start} native.reactorUnref();`);
    assert.deepEqual([idle.status, idle.signal, idle.stderr], [0, null, ""]);
    const exits = run(`${start} setTimeout(() => process.exit(3), 20);`);
    assert.deepEqual([exits.status, exits.signal, exits.stderr], [3, null, ""]);
  });

  test("an exception in the callback is an uncaught one", () => {
    const thrown = run(`
      const { fd, port } = native.listen("127.0.0.1", 0, 9);
      process.on("uncaughtException", (error) => process.exit(error.message === "mine" ? 4 : 5));
      native.reactorStart({}, () => { throw new Error("mine"); });
      native.reactorListen(fd);
      native.connectStart("127.0.0.1", port);`);
    assert.deepEqual([thrown.status, thrown.stderr], [4, ""]);
  });
});

test("without the shim, it is said why and every call throws that", () => {
  const script = `import * as native from ${MODULE};
    const why = native.unavailable();
    if (why === undefined) process.exit(1);
    try { native.possibleCpus(); } catch (error) { process.exit(error === why ? 7 : 2); }`;
  const { status } = spawnSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
    env: { ...process.env, XLB_NATIVE: "/no/such.node" },
  });
  assert.equal(status, 7);
});
