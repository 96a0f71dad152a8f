import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { findCgroupMount } from "../admin/workloads.ts";
import type { Native } from "../kernel/datapath.ts";
import * as shim from "../kernel/native.ts";
import { essentials, type Finding, sideNotes } from "./probe.ts";

/** What `xlb doctor --json` prints. */
export interface Diagnosis {
  readonly datapath: "kernel" | "userspace";
  readonly why: string;
  readonly findings: readonly Finding[];
}

/**
 * Looks at this machine and says which datapath `auto` would take. `notes`: on a configuration, one line each. The exit
 * status: 0 only for the kernel path.
 */
export async function runDoctor(options: { json: boolean; notes: readonly string[] }): Promise<number> {
  const found = diagnose();
  const notes = options.notes.map((detail): Finding => ({ what: "configuration", state: "note", detail }));
  const diagnosis = { ...found, findings: [...found.findings, ...notes] };
  process.stdout.write(options.json ? `${JSON.stringify(diagnosis, null, 2)}\n` : formatDiagnosis(diagnosis));
  return diagnosis.datapath === "kernel" ? 0 : 1;
}

export function diagnose(): Diagnosis {
  const missing = shim.unavailable();
  const native: Native | undefined = missing === undefined ? shim : undefined;
  const needed = [...essentials(native)];
  const may = native !== undefined && needed.every(({ what, state }) => what !== "rights" || state === "works");
  const canRedirect = needed.some(({ what, state }) => what.startsWith("FIONREAD") && state === "works");
  const findings: Finding[] = [
    { what: "kernel", state: "note", detail: release() },
    shimFinding(missing),
    ...needed,
    ...types(may ? native : undefined),
    ...(native !== undefined && canRedirect ? carefully(native) : []),
    ...conflicts(),
    ...limits(),
  ];
  /* As auto decides: by the shim and by what is needed, in this order. */
  const reason = missing?.message.split("\n")[0] ?? firstOf(needed, "fails") ?? firstOf(needed, "unknown");
  return reason === undefined
    ? { datapath: "kernel", why: "all that it needs works here", findings }
    : { datapath: "userspace", why: reason, findings };
}

function firstOf(findings: readonly Finding[], wanted: Finding["state"]): string | undefined {
  const found = findings.find(({ state }) => state === wanted);
  return found && `${found.what}: ${found.detail}`;
}

/** A note that cannot be taken is one more note, not the doctor's end. */
function carefully(native: Native): Finding[] {
  try {
    return [...sideNotes(native)];
  } catch (error) {
    return [{ what: "further trials", state: "unknown", detail: `not checked: ${(error as Error).message}` }];
  }
}

function shimFinding(missing: Error | undefined): Finding {
  const what = "shim and libbpf";
  if (missing === undefined) return { what, state: "works", detail: "loaded" };
  const mend = /libbpf/.test(missing.message)
    ? "install libbpf (Debian: libbpf1)"
    : "run `make` where libbpf-dev is installed";
  return { what, state: "fails", detail: missing.message.split("\n")[0] ?? "", mend };
}

// ---- types ----

/** The numbers of enum bpf_prog_type and enum bpf_map_type that bpf/ uses. */
const PROG_TYPES = { sched_cls: 3, sock_ops: 13, sk_skb: 14, sk_msg: 16, cgroup_sock_addr: 18 } as const;
const MAP_TYPES = {
  ...{ hash: 1, array: 2, percpu_array: 6, array_of_maps: 12, sockmap: 15, sockhash: 18, sk_storage: 24, ringbuf: 27 },
} as const;

function types(native: Native | undefined): Finding[] {
  if (native === undefined) {
    return ["program types", "map types"].map((what) => ({ what, state: "unknown", detail: "not checked" }));
  }
  const finding = (what: string, wanted: Readonly<Record<string, number>>, has: (type: number) => boolean): Finding => {
    const missing = Object.entries(wanted).filter(([, type]) => !has(type));
    if (missing.length === 0) return { what, state: "works", detail: Object.keys(wanted).join(", ") };
    const names = missing.map(([name]) => name).join(", ");
    const mend =
      "use a kernel with CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF, CONFIG_NET_SOCK_MSG and CONFIG_BPF_STREAM_PARSER";
    return { what, state: "fails", detail: `the kernel lacks ${names}`, mend };
  };
  return [
    finding("program types", PROG_TYPES, native.probeProgType),
    finding("map types", MAP_TYPES, native.probeMapType),
  ];
}

// ---- others who use the same hooks ----

interface Stranger {
  readonly kind: string;
  readonly name: string;
  readonly where: string;
}

const SOCKET_PROGRAMS = new Set(["sk_msg", "sk_skb"]);
const CGROUP_ATTACH = /^(sock_ops|cgroup_sock_ops|(cgroup_)?(inet[46]_)?(connect|getpeername)[46]?)$/;
const OURS = /^(xlb|probe)_/;

/**
 * A socket can be in the maps of one verdict program only, and hooks on the root cgroup run for our workloads too.
 * bpftool sees all programs; without it only those are seen that some process holds.
 */
function conflicts(): Finding[] {
  const what = "other programs";
  const bpftool = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"]
    .map((folder) => join(folder, "bpftool"))
    .find((path) => existsSync(path));
  if (process.getuid?.() !== 0) return [{ what, state: "unknown", detail: "not checked: it needs root" }];
  let found: Stranger[];
  let by = "bpftool";
  try {
    if (bpftool === undefined) throw new Error("no bpftool");
    found = askBpftool(bpftool);
  } catch {
    by = "/proc/*/fdinfo: those that no process holds cannot be seen";
    found = askProc();
  }
  const strangers = found.filter(({ name }) => !OURS.test(name));
  const ours = found.length > strangers.length ? "; XLB itself is running" : "";
  if (strangers.length === 0) {
    return [{ what, state: "works", detail: `none on these hooks (looked by ${by})${ours}` }];
  }
  return strangers.map(({ kind, name, where }) => ({
    what,
    state: "note",
    detail: SOCKET_PROGRAMS.has(kind)
      ? `${kind} ${name} (${where}): sockets that it has taken are left alone by XLB`
      : `${kind} ${name} on ${where}: it runs before XLB's and may rewrite the same connections`,
    mend: "keep that tool away from XLB's workloads, if a listener is not reached",
  }));
}

interface ProgramRow {
  readonly id: number;
  readonly type: string;
  readonly name?: string;
  readonly pids?: readonly { readonly pid: number; readonly comm: string }[];
}

interface AttachRow {
  readonly attach_type: string;
  readonly name?: string;
}

function askBpftool(path: string): Stranger[] {
  const ask = (...args: string[]): unknown =>
    JSON.parse(
      execFileSync(path, ["-j", ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim() || "[]",
    );
  const programs = (ask("prog", "show") as ProgramRow[])
    .filter(({ type }) => SOCKET_PROGRAMS.has(type))
    .map(({ id, type, name, pids }) => ({
      kind: type,
      name: name ?? "without a name",
      where: pids?.map(({ pid, comm }) => `${comm} ${pid}`).join(", ") ?? `id ${id}`,
    }));
  const mount = findCgroupMount();
  const attached = (ask("cgroup", "show", mount) as AttachRow[])
    .filter(({ attach_type }) => CGROUP_ATTACH.test(attach_type))
    .map(({ attach_type, name }) => ({ kind: attach_type, name: name ?? "without a name", where: mount }));
  return [...programs, ...attached];
}

/** enum bpf_prog_type, and which enum bpf_attach_type of links. */
const PROC_PROGRAMS: Readonly<Record<string, string>> = { "14": "sk_skb", "16": "sk_msg" };
const PROC_LINKS: Readonly<Record<string, string>> = { "3": "sock_ops", "10": "connect4", "11": "connect6" };

function askProc(): Stranger[] {
  const found: Stranger[] = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    try {
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        const kind = readlinkSync(`/proc/${pid}/fd/${fd}`);
        if (kind !== "anon_inode:bpf-prog" && kind !== "anon_inode:bpf_link") continue;
        const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8");
        const field = (name: string) => new RegExp(`^${name}:\\s*(\\S+)`, "m").exec(info)?.[1] ?? "";
        const hook = PROC_PROGRAMS[field("prog_type")] ?? PROC_LINKS[field("attach_type")];
        if (hook === undefined) continue;
        const comm = readFileSync(`/proc/${pid}/comm`, "utf8").trim();
        const name = isXlb(pid) ? "xlb_" : `of ${comm} ${pid}`;
        found.push({ kind: hook, name, where: `prog ${field("prog_id")}` });
      }
    } catch {
      /* it has gone meanwhile */
    }
  }
  return found;
}

const isXlb = (pid: string) => /xlb(\.mjs)?\0/.test(readFileSync(`/proc/${pid}/cmdline`, "utf8"));

// ---- limits ----

/** Each i-sock takes a local port towards its endpoint. */
const PORTS_WANTED = 16_384;
const BACKLOG_WANTED = 4_096;
/** What xlb_sockops asks for on behalf of a client: bpf/hooks/sockops.h. Bytes. */
const RECEIVE_WANTED = 4 << 20;
const FILES_WANTED = 65_536;

function limits(): Finding[] {
  const sysctl = (name: string) => {
    try {
      return readFileSync(`/proc/sys/${name.replaceAll(".", "/")}`, "utf8").trim();
    } catch {
      return "";
    }
  };
  const judge = (what: string, enough: boolean, detail: string, mend: string): Finding =>
    enough ? { what, state: "works", detail } : { what, state: "note", detail, mend };
  const [low = 0, high = 0] = sysctl("net.ipv4.ip_local_port_range").split(/\s+/).map(Number);
  const ports = high - low + 1;
  const backlog = Number(sysctl("net.core.somaxconn"));
  const receive = Number(sysctl("net.core.rmem_max"));
  const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1] ?? "0";
  const files = hard === "unlimited" ? Number.POSITIVE_INFINITY : Number(hard);
  const findings = [
    judge(
      "local ports",
      ports >= PORTS_WANTED,
      `${ports} (${low} to ${high}), which clients and pools share`,
      'sysctl net.ipv4.ip_local_port_range="10240 65535"',
    ),
    judge(
      "accept queue",
      backlog >= BACKLOG_WANTED,
      `net.core.somaxconn is ${backlog}`,
      `sysctl net.core.somaxconn=${BACKLOG_WANTED}`,
    ),
    judge(
      "receive buffers",
      receive >= RECEIVE_WANTED,
      `net.core.rmem_max is ${receive}: so much of a response may wait for its client in the kernel`,
      `sysctl net.core.rmem_max=${RECEIVE_WANTED}`,
    ),
    judge("open files", files >= FILES_WANTED, `at most ${hard}`, `ulimit -Hn ${FILES_WANTED} for the daemon`),
  ];
  if (sysctl("net.core.bpf_jit_enable") === "0") {
    const mend = "sysctl net.core.bpf_jit_enable=1";
    findings.push({ what: "JIT", state: "note", detail: "programs are interpreted, which is slow", mend });
  }
  return findings;
}

// ---- for people ----

const MARKS = { works: "✓", fails: "✗", unknown: "–", note: "–" } as const;

function formatDiagnosis({ datapath, why, findings }: Diagnosis): string {
  const width = Math.max(...findings.map(({ what }) => what.length));
  const indent = " ".repeat(width + 4);
  const lines = findings.flatMap(({ what, state, detail, mend, log }) => [
    `${MARKS[state]} ${what.padEnd(width)}  ${detail}`,
    ...(mend === undefined || state === "works" ? [] : [`${indent}→ ${mend}`]),
    ...(log ?? []).map((line) => `${indent}| ${line}`),
  ]);
  const verdict =
    datapath === "kernel"
      ? `auto takes the kernel path: ${why}.`
      : `auto takes the slow path for every request, in user space: ${why}.`;
  return `${lines.join("\n")}\n\n${verdict}\n`;
}
