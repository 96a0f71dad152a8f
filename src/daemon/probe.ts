import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { findCgroupMount } from "../admin/workloads.ts";
import { Datapath, type Native, objectPath } from "../kernel/datapath.ts";
import { EPOLL, EPOLLET, type Fd, isNativeError, type ObjectHandle } from "../kernel/native.ts";
import { XLB_MAX_BODY } from "../tables/layout.gen.ts";

/**
 * Finds out by doing whether the kernel path works here: kernels lie about their versions (fixes and faults are carried
 * to and fro), sockets do not. What it creates it takes away again, on every way out.
 */

/** One thing that was looked at. A note is good to know; only "fails" keeps the kernel path from being taken. */
export interface Finding {
  readonly what: string;
  readonly state: "works" | "fails" | "unknown" | "note";
  readonly detail: string;
  /** What to do about it. */
  readonly mend?: string;
  /** The end of the verifier's log. */
  readonly log?: readonly string[];
}

/** Why the kernel path cannot work on this machine, and the mend; undefined when it can. */
export function probeKernelPath(native: Native): string | undefined {
  const opened = openKernelPath(native, () => loadSmall(native));
  if ("why" in opened) return opened.why;
  opened.datapath.close();
  return undefined;
}

/**
 * What `load` makes, which is most of the time that a start takes, if the kernel path works with it; else why not, and
 * the mend.
 */
export function openKernelPath(
  native: Native,
  load: () => Datapath,
): { readonly datapath: Datapath } | { readonly why: string } {
  for (const finding of foundations(native)) {
    if (finding.state === "fails") return { why: whyNot(finding) };
  }
  const { finding, datapath } = tryObject(load, true);
  return datapath === undefined ? { why: whyNot(finding) } : { datapath };
}

const whyNot = ({ what, detail, mend }: Finding) => `${what}: ${detail}${mend === undefined ? "" : ` (${mend})`}`;

/** All that the kernel path stands on, cheapest first. The data path's own object comes last: it takes the longest. */
export function* essentials(native: Native | undefined): Generator<Finding, void> {
  let hasCgroups = false;
  let isAllowed = native !== undefined;
  for (const finding of foundations(native)) {
    yield finding;
    if (finding.what === CGROUPS) hasCgroups = finding.state === "works";
    if (finding.what === RIGHTS) isAllowed &&= finding.state === "works";
  }
  if (native === undefined || !isAllowed) {
    yield unknown(OBJECT, native === undefined ? NO_SHIM : NO_RIGHTS);
    return;
  }
  const { finding, datapath } = tryObject(() => loadSmall(native), hasCgroups);
  datapath?.close();
  yield finding;
}

/** The same without the object. */
function* foundations(native: Native | undefined): Generator<Finding, void> {
  const rights = rightsToLoad();
  yield rights;
  yield typeInformation();
  yield cgroupFileSystem();
  const allowed = rights.state === "works";
  if (native === undefined || !allowed) {
    const why = native === undefined ? NO_SHIM : NO_RIGHTS;
    for (const { what } of SOCKET_CHECKS) yield unknown(what, why);
    return;
  }
  yield* socketFindings(native);
}

const RIGHTS = "rights";
const CGROUPS = "cgroup v2";
const NO_SHIM = "the shim is missing";
const NO_RIGHTS = "it needs the rights above";

const unknown = (what: string, why: string): Finding => ({ what, state: "unknown", detail: `not checked: ${why}` });

// ---- what can be told without trying ----

const CAP = { NET_ADMIN: 12n, SYS_ADMIN: 21n, PERFMON: 38n, BPF: 39n } as const;

function rightsToLoad(): Finding {
  const what = RIGHTS;
  const found = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  const effective = BigInt(`0x${found}`);
  const has = (bit: bigint) => ((effective >> bit) & 1n) === 1n;
  if (has(CAP.SYS_ADMIN) && has(CAP.NET_ADMIN)) return { what, state: "works", detail: "may load programs" };
  const missing = (["BPF", "NET_ADMIN", "PERFMON"] as const).filter((name) => !has(CAP[name]));
  if (missing.length === 0) return { what, state: "works", detail: "may load programs (CAP_BPF and its kin)" };
  return {
    what,
    state: "fails",
    detail: `this process may not load BPF programs: it lacks ${missing.map((name) => `CAP_${name}`).join(", ")}`,
    mend: "run it as root, or give it these capabilities",
  };
}

const BTF = "/sys/kernel/btf/vmlinux";

function typeInformation(): Finding {
  const what = "BTF";
  try {
    accessSync(BTF, constants.R_OK);
    return { what, state: "works", detail: `the kernel describes its types in ${BTF}` };
  } catch {
    return {
      what,
      state: "fails",
      detail: `${BTF} is missing: the programs cannot be fitted to this kernel`,
      mend: "use a kernel built with CONFIG_DEBUG_INFO_BTF, as those of the large distributions are; mount /sys",
    };
  }
}

const TRIAL_CGROUP = /^xlb-doctor-(\d+)$/;

function cgroupFileSystem(): Finding {
  const what = CGROUPS;
  let mount: string;
  try {
    mount = findCgroupMount();
  } catch (error) {
    return { what, state: "fails", detail: (error as Error).message };
  }
  try {
    inTrialCgroup(mount, () => {});
    return { what, state: "works", detail: `mounted on ${mount}, cgroups can be made` };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const readOnly = code === "EROFS";
    return {
      what,
      state: "fails",
      detail: `no cgroup can be made in ${mount}: ${readOnly ? "it is mounted read-only" : message}`,
      mend: readOnly
        ? "mount it writable (a container: --privileged, or --cgroupns=host with the host's)"
        : "run as root",
    };
  }
}

/** Makes a cgroup without processes and removes it again; also those that a killed process left. */
function inTrialCgroup<T>(mount: string, use: (path: string) => T): T {
  for (const name of readdirSync(mount)) {
    const pid = TRIAL_CGROUP.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmdirSync(join(mount, name));
  }
  const path = join(mount, `xlb-doctor-${process.pid}`);
  mkdirSync(path);
  try {
    return use(path);
  } finally {
    rmdirSync(path);
  }
}

// ---- the data path's own object ----

const OBJECT = "programs";

/** Little memory, and the verifier does not mind. */
const SMALL = {
  ...{ listeners: 16, listener_rules: 16, rules: 16, clusters: 16, tenants: 16, pools: 16, chunks: 1, slots: 32 },
  ...{ stashes: 32, peers: 16, isock_slots: 16, p_socks: 16, anchors: 16, i_socks: 16, s_socks: 16, conns: 16 },
  ...{ slow_dones: 16, endpoint_counts: 16, route_counts: 16, listener_counts: 16 },
  ...{ endpoint_states: 16, cluster_states: 16 },
} as const;

const loadSmall = (native: Native) => new Datapath(native, { receiveLimit: 0, mapSizes: SMALL });

/**
 * Loads the object, and attaches it to a cgroup that is empty and goes away at once. A datapath comes back only if all
 * of that works.
 */
function tryObject(load: () => Datapath, withCgroup: boolean): { finding: Finding; datapath?: Datapath } {
  const what = OBJECT;
  let datapath: Datapath | undefined;
  try {
    datapath = load();
    const programs = datapath.programs();
    const most = programs.reduce((a, b) => (a.insns > b.insns ? a : b));
    const detail = `all ${programs.length} pass the verifier (${most.name}: ${most.insns} instructions)`;
    if (!withCgroup)
      return { datapath, finding: { what, state: "works", detail: `${detail}; not attached for want of a cgroup` } };
    const enrolled = datapath;
    inTrialCgroup(findCgroupMount(), (path) => {
      enrolled.enrol(path);
      enrolled.dismissAll();
    });
    return { datapath, finding: { what, state: "works", detail: `${detail} and can be attached to a cgroup` } };
  } catch (error) {
    datapath?.close();
    return { finding: { what, state: "fails", ...explainLoad(error) } };
  }
}

const LOG_LINES = 12;
const KNOWN_GOOD = "use a newer kernel: Linux 6.12.85, 6.18.15 and 7.2 are known to do";

/** What a failed load means to the one who has to mend it. */
function explainLoad(error: unknown): Pick<Finding, "detail" | "mend" | "log"> {
  const { message } = error as Error;
  if (!isNativeError(error)) return { detail: message };
  const lines = (error.log ?? "").split("\n").filter((line) => line.trim() !== "");
  const log = lines.length > 0 ? { log: lines.slice(-LOG_LINES) } : {};
  const program = /prog '(\w+)': .*load.*failed/.exec(error.log ?? "")?.[1];
  const refused = lines[lines.findIndex((line) => /^processed \d+ insns/.test(line)) - 1];
  if (program !== undefined && refused !== undefined) {
    return { detail: `the verifier refuses ${program}: ${refused}`, mend: KNOWN_GOOD, ...log };
  }
  if (error.code === "EPERM" || error.code === "EACCES") {
    const mend =
      "look for lockdown=confidentiality on the kernel's command line, and for a container's seccomp profile";
    return { detail: `the kernel refuses bpf(2): ${message}`, mend, ...log };
  }
  if (error.code === "ENOMEM" || error.code === "E2BIG") {
    return { detail: message, mend: "free memory, or raise RLIMIT_MEMLOCK (ulimit -l unlimited)", ...log };
  }
  if (error.code === "EBUSY")
    return { detail: message, mend: "another program holds these sockets or cgroups", ...log };
  return { detail: message, mend: KNOWN_GOOD, ...log };
}

// ---- sockets, joined as the data path joins them ----

const SK_MSG_VERDICT = 7;
const SK_SKB_VERDICT = 38;
const PROGRAMS = [
  ["clients", "probe_request", SK_MSG_VERDICT],
  ["clients", "probe_client_skb", SK_SKB_VERDICT],
  ["servers", "probe_response", SK_MSG_VERDICT],
  ["upstream", "probe_response_skb", SK_SKB_VERDICT],
] as const;

/** How long bytes may take across the loopback and a worker of the kernel, on a busy machine. Milliseconds. */
const PATIENCE = 500;
/** Of one message: over what fits into one page, below what is cut into several. */
const MESSAGE = 5_000;
/** An i-sock's send buffer, as the daemon makes them. */
const SEND_BUFFER = 1 << 20;
/** The kernel's least is about this. */
const SMALL_SEND_BUFFER = 4_608;

interface Pair {
  /** The end that connected. */
  readonly near: Fd;
  readonly far: Fd;
}

/**
 * Three connections over the loopback, in maps whose programs redirect as the data path's do:
 * `front` from a client to its anchor, `local` from an i-sock to a server of this host, `remote` to one of another.
 */
export class Trial {
  readonly #native: Native;
  readonly #object: ObjectHandle;
  readonly #fds: Fd[] = [];
  readonly front: Pair;
  readonly local: Pair;
  readonly remote: Pair;

  constructor(native: Native, sendBuffer = SEND_BUFFER) {
    this.#native = native;
    this.#object = native.objOpen(objectPath("probe.bpf.o"));
    try {
      native.objLoad(this.#object);
      const maps = new Map(native.objMaps(this.#object).map((map) => [map.name, map.fd]));
      const programs = new Map(native.objProgs(this.#object).map((program) => [program.name, program.fd]));
      for (const [map, program, type] of PROGRAMS) native.progAttach(programs.get(program)!, maps.get(map)!, type);
      this.front = this.#pair();
      this.local = this.#pair();
      this.remote = this.#pair(sendBuffer);
      const put = (map: string, fd: Fd) => native.mapUpdateFd(maps.get(map)!, Buffer.alloc(4), fd, 8);
      put("clients", this.front.near);
      put("servers", this.local.far);
      put("upstream", this.remote.near);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    for (const fd of this.#fds.splice(0)) this.#native.close(fd);
    this.#native.objClose(this.#object);
  }

  #pair(sndbuf?: number): Pair {
    const native = this.#native;
    const listener = native.listen("127.0.0.1", 0, 1);
    try {
      const near = native.connectStart(listener.ip, listener.port, sndbuf === undefined ? {} : { sndbuf }).fd;
      this.#fds.push(near);
      const far = patiently(() => native.sockAccept(listener.fd) ?? undefined);
      if (far === undefined) throw new Error("a connection over the loopback takes too long");
      this.#fds.push(far);
      return { near, far };
    } finally {
      native.close(listener.fd);
    }
  }

  /** What the reader is told of a message, and whether it gets it. Its letter tells the programs where it goes. */
  deliver(from: Fd, to: Fd, letter: string, length = MESSAGE): { told: number; whole: boolean } {
    const message = Buffer.alloc(length, letter);
    const sent = this.#native.sendNonblock(from, message);
    const there = patiently(() => (this.#native.peekNonblock(to, length)?.length === length ? true : undefined));
    const told = this.#native.sockInq(to);
    return { told, whole: there === true && sent === length && this.drain(to).equals(message) };
  }

  /** All that waits at a socket now. */
  drain(fd: Fd): Buffer {
    const pieces: Buffer[] = [];
    for (;;) {
      const piece = this.#native.recvNonblock(fd, 1 << 18);
      if (piece === null || piece.length === 0) return Buffer.concat(pieces);
      pieces.push(piece);
    }
  }

  /** As many bytes as are due, or those that came while patience lasted. */
  receive(fd: Fd, due: number): Buffer {
    let got: Buffer = Buffer.alloc(0);
    patiently(() => {
      got = Buffer.concat([got, this.drain(fd)]);
      return got.length >= due ? true : undefined;
    });
    return got;
  }
}

const still = new Int32Array(new SharedArrayBuffer(4));

/** Tries until there is an answer; undefined when patience is over. */
function patiently<T>(attempt: () => T | undefined): T | undefined {
  const until = performance.now() + PATIENCE;
  for (;;) {
    const answer = attempt();
    if (answer !== undefined || performance.now() > until) return answer;
    Atomics.wait(still, 0, 0, 0.2);
  }
}

type Judgement = Omit<Finding, "what">;

interface SocketCheck {
  readonly what: string;
  readonly run: (trial: Trial, native: Native) => Judgement;
}

/** nginx, Java and .NET ask FIONREAD how much there is to read, and believe it. */
function readable(told: number, whole: boolean): Judgement {
  if (!whole) return { state: "fails", detail: "the bytes do not arrive", mend: KNOWN_GOOD };
  if (told === MESSAGE) return { state: "works", detail: `tells ${told} of ${MESSAGE} bytes` };
  const detail = `tells ${told} of ${MESSAGE} bytes: nginx, Java and .NET would stall`;
  return { state: "fails", detail, mend: KNOWN_GOOD };
}

/** Does a sleeper hear of each message that is redirected to it? */
function wakes(trial: Trial, native: Native, trigger: number): Judgement {
  const reader = trial.front.near;
  const epoll = native.epollOpen(reader, EPOLL.IN + trigger);
  try {
    for (let message = 1; message <= 3; message++) {
      if (native.epollReady(epoll, 0) !== 0) return { state: "fails", detail: "reports data that is not there" };
      native.sendNonblock(trial.local.far, Buffer.alloc(MESSAGE, "r"));
      if ((native.epollReady(epoll, PATIENCE) & EPOLL.IN) === 0) {
        return { state: "fails", detail: `is not woken by message ${message}`, mend: KNOWN_GOOD };
      }
      if (trial.drain(reader).length !== MESSAGE)
        return { state: "fails", detail: "is woken before the data is there" };
    }
    return { state: "works", detail: "is woken by every redirected message" };
  } finally {
    native.close(epoll);
  }
}

function bodyFits(trial: Trial, native: Native): Judgement {
  const sent = native.sendNonblock(trial.front.near, Buffer.alloc(XLB_MAX_BODY, "c"));
  const arrived = trial.receive(trial.remote.far, XLB_MAX_BODY).length;
  const size = `${XLB_MAX_BODY >> 10} KiB`;
  if (sent === XLB_MAX_BODY && arrived === sent) return { state: "works", detail: `${size} leave at once` };
  if (arrived !== sent) return { state: "fails", detail: `of ${sent} bytes that were taken ${arrived} arrive` };
  return {
    state: "fails",
    detail: `of ${size} only ${sent} bytes leave at once: clients that do not block would spin`,
    mend: `raise net.core.wmem_max to ${SEND_BUFFER}`,
  };
}

/** In the order in which they are run, on one {@link Trial}: each leaves it empty. */
const SOCKET_CHECKS: readonly SocketCheck[] = [
  {
    what: "FIONREAD, request on the same host",
    run: (t) => {
      const { told, whole } = t.deliver(t.front.near, t.local.far, "s");
      return readable(told, whole);
    },
  },
  {
    what: "FIONREAD, response on the same host",
    run: (t) => {
      const { told, whole } = t.deliver(t.local.far, t.front.near, "r");
      return readable(told, whole);
    },
  },
  {
    what: "FIONREAD, response from another host",
    run: (t) => {
      const { told, whole } = t.deliver(t.remote.far, t.front.near, "r");
      return readable(told, whole);
    },
  },
  {
    what: "FIONREAD, response of the slow path",
    run: (t) => {
      const { told, whole } = t.deliver(t.front.far, t.front.near, "n");
      return readable(told, whole);
    },
  },
  { what: "epoll, level-triggered", run: (t, native) => wakes(t, native, 0) },
  { what: "epoll, edge-triggered", run: (t, native) => wakes(t, native, EPOLLET) },
  { what: "request body to another host", run: bodyFits },
];

function* socketFindings(native: Native): Generator<Finding, void> {
  let trial: Trial;
  try {
    trial = new Trial(native);
  } catch (error) {
    const [first, ...others] = SOCKET_CHECKS;
    yield { what: first!.what, state: "fails", ...explainLoad(error) };
    for (const { what } of others) yield unknown(what, "sockets cannot be redirected");
    return;
  }
  try {
    for (const { what, run } of SOCKET_CHECKS) yield { what, ...attempt(() => run(trial, native)) };
  } finally {
    trial.close();
  }
}

function attempt(run: () => Judgement): Judgement {
  try {
    return run();
  } catch (error) {
    return { state: "fails", detail: (error as Error).message };
  }
}

// ---- good to know ----

/** What no decision hangs on, for `xlb doctor`. */
export function* sideNotes(native: Native): Generator<Finding, void> {
  yield splicing(native);
  yield smallSendBuffer(native);
}

function splicing(native: Native): Finding {
  const what = "splice from a redirected socket";
  const trial = new Trial(native);
  try {
    native.sendNonblock(trial.local.far, Buffer.alloc(MESSAGE, "r"));
    const moved = native.sockSplice(trial.front.near, MESSAGE);
    if (moved === MESSAGE) return { what, state: "works", detail: "moves the bytes" };
    const seen =
      moved < 0 ? "finds nothing" : moved === 0 ? "takes it for the end" : `moves ${moved} of ${MESSAGE} bytes`;
    return {
      what,
      state: "note",
      detail:
        `${seen}, on every kernel so far: programs that splice from their sockets ` +
        "(HAProxy with option splice-*, dockerd's proxy) must not be enrolled",
      mend: "start such a program without xlb exec",
    };
  } finally {
    trial.close();
  }
}

/** More than fits: what was accepted must arrive, neither less nor twice. */
function smallSendBuffer(native: Native): Finding {
  const what = "redirect into a small send buffer";
  const trial = new Trial(native, SMALL_SEND_BUFFER);
  try {
    const sender = trial.front.near;
    const reader = trial.remote.far;
    const pattern = Buffer.from(Uint32Array.from({ length: XLB_MAX_BODY / 4 }, (_, i) => i).buffer);
    let accepted = 0;
    let refusals = 0;
    let received: Buffer = Buffer.alloc(0);
    patiently(() => {
      const sent = native.sendNonblock(sender, pattern, accepted);
      if (sent < 0) {
        refusals++;
        received = Buffer.concat([received, trial.drain(reader)]);
      } else accepted += sent;
      return accepted === pattern.length ? true : undefined;
    });
    received = Buffer.concat([received, trial.receive(reader, accepted - received.length)]);
    const whole = received.equals(pattern.subarray(0, accepted));
    if (whole && accepted === pattern.length) {
      return {
        what,
        state: "works",
        detail: `arrives whole, though the sender was told ${refusals} times to try again`,
      };
    }
    const detail = whole ? "the sender is stuck" : "bytes are lost or sent twice";
    return { what, state: "note", detail: `${detail}; XLB gives i-socks a buffer in which any body fits` };
  } finally {
    trial.close();
  }
}
