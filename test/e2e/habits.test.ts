import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import {
  type Act,
  Bed,
  backendFor,
  hostFor,
  inCgroup,
  KERNEL_WAYS,
  type ListenerSpec,
  later,
  PATIENCE,
  request,
  SUITE_PATIENCE,
  start,
  stop,
  type Way,
  withoutKernel,
} from "./harness.ts";

/**
 * Applications of every habit work unchanged, on each path. habits.py plays them and checks every byte; each habit is
 * first played straight to the server, so that what it expects is what plain TCP gives.
 */

const PLAYER = fileURLToPath(new URL("habits.py", import.meta.url));
const URING = fileURLToPath(new URL("uring.c", import.meta.url));

interface Habit {
  /** The function's name in habits.py. */
  readonly play: string;
  readonly name: string;
  /** Some of its requests may take the slow path where the kernel path was meant: by form, or while pools grow. */
  readonly mixed?: boolean;
  /** Some of its requests are taken back before they are read. */
  readonly uncounted?: boolean;
  /** What does not work, on the kernel path. */
  readonly todo?: string;
  readonly skip?: string | false;
}

const temporary = mkdtempSync(join(tmpdir(), "xlb-habits-"));
process.on("exit", () => rmSync(temporary, { recursive: true, force: true }));

/** Why io_uring cannot be tried here; false where it can. */
function withoutUring(): string | false {
  const program = join(temporary, "uring");
  const compiled = spawnSync("cc", ["-O1", "-Wall", "-o", program, URING], { encoding: "utf8" });
  if (compiled.error) return "no C compiler";
  assert.equal(compiled.status, 0, compiled.stderr);
  const tried = spawnSync(program, ["probe"], { encoding: "utf8" });
  return tried.status === 0 ? false : `the kernel refuses io_uring: ${tried.stderr.trim()}`;
}

const without = (program: string): string | false =>
  spawnSync(program, ["--version"]).error ? `${program} is not installed` : false;

const noUring = withoutUring();

/* tcp_bpf_recvmsg_parser gives whatever there is to whoever is awake, for whatever reason, and EAGAIN for nothing. */
const SPURIOUS =
  "a blocking read that something else than data wakes says EAGAIN: the kernel's, on any socket in a map";
const WAITALL = "the kernel ignores MSG_WAITALL on any socket in a map";

const habits: readonly Habit[] = [
  { play: "blocking", name: "blocking reads and writes" },
  { play: "epoll_level", name: "epoll, level-triggered", mixed: true },
  { play: "epoll_edge", name: "epoll, edge-triggered", mixed: true },
  { play: "epoll_oneshot", name: "epoll, one shot" },
  { play: "select_and_poll", name: "select and poll" },
  { play: "fionread", name: "FIONREAD before each read" },
  { play: "fionread_waits", name: "FIONREAD until an answer is whole" },
  { play: "peek", name: "MSG_PEEK, then read" },
  { play: "waitall", name: "MSG_WAITALL for the whole body", todo: WAITALL },
  { play: "waitall_late", name: "MSG_WAITALL for an answer that comes in parts", todo: WAITALL },
  { play: "one_byte", name: "reads of one byte" },
  { play: "read_in_time", name: "blocking reads of an answer in many pieces" },
  { play: "hinted", name: "blocking reads of an interim answer and a final one", mixed: true },
  { play: "refused", name: "blocking reads of an answer that refuses the body", mixed: true },
  { play: "cut_off", name: "blocking reads of an answer that is cut off", mixed: true },
  { play: "readv", name: "readv and recvmsg with several buffers" },
  { play: "mmsg", name: "sendmmsg and recvmmsg", mixed: true },
  { play: "rcvlowat", name: "SO_RCVLOWAT" },
  { play: "rcvtimeo", name: "SO_RCVTIMEO runs out, then the answer comes" },
  { play: "fork", name: "fork after connect: the child, then the parent" },
  { play: "fork_at_once", name: "fork before the first request, the parent closes" },
  { play: "reader_and_writer", name: "one thread reads, another writes" },
  { play: "reader_and_uploader", name: "one thread reads while another uploads", mixed: true, todo: SPURIOUS },
  { play: "signals", name: "signals during a blocking read", todo: SPURIOUS },
  { play: "dup", name: "dup: one is closed, the other goes on" },
  { play: "dup_in_flight", name: "dup: one is closed with an answer under way" },
  { play: "sendfile", name: "sendfile of a body", mixed: true },
  { play: "sendfile_whole", name: "sendfile of head and body", mixed: true },
  { play: "writev", name: "writev of 1,000 pieces", mixed: true },
  { play: "splice_into", name: "splice from a pipe to the socket", mixed: true },
  {
    play: "splice_from",
    name: "splice from the socket to a pipe",
    todo: "poll says readable, splice says EAGAIN and never sees the bytes (a blocking one hangs)",
  },
  { play: "zerocopy", name: "MSG_ZEROCOPY: the bytes", mixed: true },
  {
    play: "zerocopy_completion",
    name: "MSG_ZEROCOPY: the completions",
    mixed: true,
    todo: "no completion comes for what the kernel path took; several for one large send that went to the slow path",
  },
  { play: "connect_nonblocking", name: "non-blocking connect and SO_ERROR" },
  { play: "getpeername", name: "getpeername tells the listener" },
  { play: "mapped", name: "an IPv6 socket to ::ffff:a.b.c.d" },
  { play: "v6", name: "IPv6 listeners, ::1 and ::" },
  { play: "wildcard", name: "a listener of 0.0.0.0" },
  { play: "untouched", name: "a connection to no listener is untouched" },
  { play: "retarget", name: "a socket connects again, here and elsewhere" },
  { play: "bound", name: "bind before connect" },
  { play: "udp", name: "datagrams to a listener's address" },
  { play: "options", name: "socket options" },
  { play: "cork", name: "TCP_CORK and MSG_MORE", mixed: true },
  { play: "half_close", name: "shutdown of the writing side behind a request" },
  { play: "blocked_at_end", name: "a blocking read sleeps until the end of the connection" },
  { play: "blocked_half_closed", name: "a blocking read behind a shutdown of the writing side", todo: SPURIOUS },
  { play: "linger", name: "SO_LINGER and close", uncounted: true },
  { play: "close_asked", name: "Connection: close, read to the end" },
  { play: "curl", name: "curl", mixed: true, skip: without("curl") },
  { play: "http_client", name: "Python's http.client", mixed: true },
  { play: "node", name: "node's http agent", mixed: true },
  { play: "uring", name: "io_uring", skip: noUring },
  {
    play: "uring_zerocopy",
    name: "io_uring, zero-copy send",
    skip: noUring,
    todo: "IORING_OP_SEND_ZC says EOPNOTSUPP on a socket that is in a socket map",
  },
];

/** An answer in two parts; habits.py knows its length. */
const PARTS = ["HTTP/1.1 200 OK\r\nContent-Length: 20\r\nX-Nonce: {nonce}\r\n\r\n0123456789", "abcdefghij"];

/** Sends, each a packet of its own; habits.py knows how many. */
const PIECES = 64;

const HINT = "HTTP/1.1 103 Early Hints\r\n\r\n";
const TOO_LARGE = "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 9\r\n\r\ntoo large";

/** Of a server that has not read the body; it is faster than whoever would bring the answer on before the reset. */
const refusing = (...answer: readonly Act[]): Act[] => [["arrived"], ["hurry"], ...answer, ["close"]];

const scripts: readonly (readonly [string, readonly Act[]])[] = [
  ["/echo", [["reply", "{name} {target} {nonce} {length} {crc}"]]],
  [
    "/big",
    [
      ["send", "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\nX-Nonce: {nonce}\r\n\r\n"],
      ["fill", 200_000],
    ],
  ],
  [
    "/pieces",
    [
      ["send", `HTTP/1.1 200 OK\r\nContent-Length: ${PIECES * 10}\r\nX-Nonce: {nonce}\r\n\r\n`],
      ...Array.from({ length: PIECES }, (): Act => ["send", "0123456789"]),
    ],
  ],
  [
    "/hinted",
    [
      ["send", HINT],
      ["pause", 2],
      ["reply", "{name} {target} {nonce} {length} {crc}"],
    ],
  ],
  [
    "/cut",
    [["hurry"], ["send", "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"], ["fill", 60_000, 4_096], ["reset"]],
  ],
  ["/cut-late", [["hurry"], ["send", "HTTP/1.1 200 OK\r\n\r\n"], ["fill", 60_000, 4_096], ["pause", 60], ["reset"]]],
  ["/refused", refusing(["send", TOO_LARGE])],
  ["/refused-hinted", refusing(["send", HINT], ["pause", 5], ["send", TOO_LARGE])],
  ["/refused-hinted-at-once", refusing(["send", HINT], ["send", TOO_LARGE])],
  ["/refused-in-pieces", refusing(["split", TOO_LARGE, [20, 30, 50], 1])],
  ["/peer", [["reply", "{peer}"]]],
  [
    "/slow",
    [
      ["pause", 130],
      ["reply", "{name} {target} {nonce} {length} {crc}"],
    ],
  ],
  [
    "/late",
    [
      ["send", PARTS[0]!],
      ["pause", 60],
      ["send", PARTS[1]!],
    ],
  ],
];

interface Played {
  readonly id: number;
  readonly error?: string;
  readonly requests: number;
}

class Player {
  readonly child: ChildProcess;
  readonly #waiting = new Map<number, (played: Played) => void>();
  #complaints = "";
  #next = 0;

  constructor(cgroup: string | undefined) {
    this.child = start(inCgroup(cgroup, ["python3", PLAYER]));
    this.child.stderr!.on("data", (d) => {
      this.#complaints += d;
    });
    createInterface({ input: this.child.stdout! }).on("line", (line) => {
      const played = JSON.parse(line) as Played;
      this.#waiting.get(played.id)?.(played);
    });
    this.child.once("exit", (code) => {
      for (const [id, tell] of this.#waiting) tell({ id, requests: 0, error: `ended with ${code}` });
    });
  }

  async play(order: object): Promise<Played> {
    const id = this.#next++;
    this.#complaints = "";
    const played = new Promise<Played>((resolve) => this.#waiting.set(id, resolve));
    this.child.stdin!.write(`${JSON.stringify({ id, ...order })}\n`);
    const { error, ...rest } = await played;
    this.#waiting.delete(id);
    return error === undefined ? rest : { ...rest, error: `${error} ${this.#complaints}`.trim() };
  }
}

/** The bed's rules on other addresses too. */
const listeners = (bed: Bed): ListenerSpec[] =>
  (
    [
      ["wildcard", "0.0.0.0", 2_000],
      ["v6", "::1", 3_000],
      ["v6any", "::", 4_000],
    ] as const
  ).map(([name, ip, offset]) => ({
    name,
    ip,
    port: bed.port + offset,
    hosts: ["near", "far"].map((host) => ({
      name: host,
      domains: [host],
      routes: [{ match: { prefix: "/" }, route: { cluster: host } }],
    })),
  }));

type Counts = Readonly<Record<"same_host" | "cross_host" | "slow", number>>;

async function counted(bed: Bed): Promise<Counts> {
  const sum = { same_host: 0, cross_host: 0, slow: 0 };
  for (const listener of (await bed.stats()).listeners) {
    for (const path of ["same_host", "cross_host", "slow"] as const) sum[path] += listener[path];
  }
  return sum;
}

/** What ended late in an earlier habit is not this one's. */
async function settled(bed: Bed): Promise<Counts> {
  for (let last = await counted(bed); ; ) {
    await later(8);
    const now = await counted(bed);
    if (isDeepStrictEqual(now, last)) return now;
    last = now;
  }
}

/** Why requests took the slow path so far. */
async function reasons(bed: Bed): Promise<string> {
  return `all reasons so far: ${JSON.stringify((await bed.stats()).reasons)}`;
}

/** Plays a habit on one way. What is wrong, or undefined. */
async function trouble(bed: Bed, player: Player, habit: Habit, way: Way | "direct"): Promise<string | undefined> {
  const host = hostFor(way === "direct" ? "same_host" : way);
  const backend = backendFor(bed, way === "direct" ? "same_host" : way);
  const { ip, port } = way === "direct" ? backend : bed;
  const start = await settled(bed);
  const { error, requests } = await player.play({
    habit: habit.play,
    way,
    host,
    ip,
    port,
    declined: way === "declined",
    backend: [backend.ip, backend.port],
    wildcard: bed.port + 2_000,
    v6: bed.port + 3_000,
    v6any: bed.port + 4_000,
    uring: join(temporary, "uring"),
  });
  if (error !== undefined) {
    await later(150);
    return error;
  }
  if (habit.uncounted) {
    await later(200);
    return undefined;
  }
  const expected = way === "direct" ? 0 : requests;
  const meant = way === "same_host" || way === "cross_host" ? way : "slow";
  let seen = "";
  for (let tries = 0; tries < 1_000; tries++) {
    const now = await counted(bed);
    const took = {
      same_host: now.same_host - start.same_host,
      cross_host: now.cross_host - start.cross_host,
      slow: now.slow - start.slow,
    };
    const all = took.same_host + took.cross_host + took.slow;
    const right = habit.mixed && meant !== "slow" ? took[meant] > 0 && all - took.slow === took[meant] : took[meant];
    if (all === expected && (right === true || right === expected)) return undefined;
    seen = `of ${expected} requests ${JSON.stringify(took)} were counted; ${await reasons(bed)}`;
    await later(10);
  }
  return seen;
}

/** The path of the first request to the near server, whose connections are then made anew. */
async function firstRequest(bed: Bed): Promise<Counts> {
  const one = () => bed.client.play([["send", request("same_host", "/")], ["response"]]);
  const first = await bed.counted(one, 1);
  for (let tries = 0, now = first; now.same_host === 0 && tries < 100; tries++) {
    await bed.near.idle("close");
    await later(100);
    now = await bed.counted(one, 1);
  }
  return first;
}

/** `plain`: the kernel path is there, but not for the client, whose every habit must then work. */
function suite(title: string, kernel: boolean, ways: readonly Way[], plain = false): void {
  describe(`habits, ${title}`, { skip: kernel && withoutKernel(), timeout: SUITE_PATIENCE }, () => {
    const bed = new Bed(kernel);
    let player: Player;
    let first: Counts;
    before(
      async () => {
        await bed.open({ listeners: listeners(bed), ...(plain ? { userspace: ["client"] } : {}) });
        if (kernel && !plain) first = await firstRequest(bed);
        for (const [path, acts] of scripts) await bed.script(path, acts, { early: acts[0]?.[0] === "arrived" });
        player = new Player(plain ? bed.userspaceCgroups[0] : bed.cgroups[0]);
      },
      { timeout: PATIENCE },
    );
    after(
      async () => {
        if (player) await stop(player.child, "SIGKILL");
        await bed.close();
      },
      { timeout: PATIENCE },
    );

    if (kernel && !plain) {
      test("the first request to a server on this host takes the same-host path", () => {
        assert.deepEqual(first, { same_host: 1, cross_host: 0, slow: 0 });
      });
    }

    for (const habit of habits) {
      const { name, skip = false, todo } = habit;
      test(name, { timeout: PATIENCE, skip, ...(kernel && !plain && todo ? { todo } : {}) }, async () => {
        if (kernel || withoutKernel()) {
          assert.equal(await trouble(bed, player, habit, "direct"), undefined, "straight to the server");
        }
        const found: Partial<Record<Way, string>> = {};
        for (const way of ways) {
          const wrong = await trouble(bed, player, habit, way);
          if (wrong !== undefined) found[way] = wrong;
        }
        assert.deepEqual(found, {});
      });
    }
  });
}

suite("kernel path", true, KERNEL_WAYS);
suite("kernel path, a client enrolled for the slow path alone", true, ["userspace"], true);
suite("user space", false, ["userspace"]);

describe("a server enrolled for the slow path alone", { skip: withoutKernel(), timeout: PATIENCE }, () => {
  const bed = new Bed(true);
  before(() => bed.open({ userspace: ["server"] }), { timeout: PATIENCE });
  after(() => bed.close(), { timeout: PATIENCE });

  test("is reached across hosts: its sockets stay ordinary ones", async () => {
    const ask = () => bed.client.play([["send", request("same_host", "/")], ["response"]]);
    const counts = await bed.counted(async () => {
      for (let i = 0; i < 5; i++) assert.equal((await ask()).responses[0]?.status, 200);
    });
    assert.deepEqual(counts, { same_host: 0, cross_host: 5, slow: 0 });
    assert.ok((await bed.stats()).reasons.userspace_tenant, "and this is counted");
  });
});
