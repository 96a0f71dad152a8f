import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { findCgroupMount } from "../../src/admin/workloads.ts";
import { compile } from "../../src/compile/compile.ts";
import { diagnose } from "../../src/daemon/doctor.ts";
import { dumpMaps } from "../../src/daemon/dump.ts";
import { explainConfig } from "../../src/daemon/explain.ts";
import { essentials, probeKernelPath, sideNotes } from "../../src/daemon/probe.ts";
import { parseBootstrap } from "../../src/envoy/parse.ts";
import { Datapath } from "../../src/kernel/datapath.ts";
import * as native from "../../src/kernel/native.ts";
import type { Config } from "../../src/model/config.ts";
import { apply, diff } from "../../src/sync/sync.ts";
import { addrKey } from "../../src/tables/address.ts";
import { HEADER_FIRST } from "../../src/tables/layout.gen.ts";

/** What `xlb doctor` finds, here and on kernels that are worse; what `xlb dump maps` and `xlb validate` tell. */

const missing = native.unavailable()?.message ?? (process.getuid?.() === 0 ? undefined : "it needs root");
/** Where it has to work (CI), the tests fail instead of being skipped. */
const skip = process.env.CI === "true" ? false : (missing ?? false);

/** The shim, but for some calls. */
const shimWith = (changes: Partial<native.Native>): native.Native => ({ ...native, ...changes });

const openFds = () => readdirSync("/proc/self/fd").length;
const trialCgroups = () => readdirSync(findCgroupMount()).filter((name) => name.startsWith("xlb-doctor-"));

/** Runs it twice, so that what is made once for all (libbpf's own files) is not taken for a leak. */
function leavesNothing(run: () => void): void {
  run();
  const before = openFds();
  run();
  assert.equal(openFds(), before, "file descriptors are left");
  assert.deepEqual(trialCgroups(), []);
}

describe("doctor", { skip }, () => {
  test("says what auto does", () => {
    const { datapath, why, findings } = diagnose();
    assert.equal(datapath === "kernel", probeKernelPath(native) === undefined, why);
    assert.ok(findings.length > 15);
    assert.deepEqual(
      findings.filter(({ detail }) => detail === "" || detail.includes("\n")),
      [],
      "each takes one line",
    );
  });

  test("leaves nothing behind", () => leavesNothing(() => void diagnose()));

  test("finds nothing to complain about where the kernel path works", (t) => {
    if (probeKernelPath(native) !== undefined) return t.skip("it does not");
    assert.deepEqual(
      [...essentials(native)].filter(({ state }) => state !== "works"),
      [],
    );
    assert.deepEqual(
      [...sideNotes(native)].map(({ what, state }) => `${what}: ${state}`),
      ["splice from a redirected socket: note", "redirect into a small send buffer: works"],
    );
  });

  test("without the shim the rest stays unknown", () => {
    const findings = [...essentials(undefined)];
    assert.ok(findings.some(({ what, state }) => what.startsWith("FIONREAD") && state === "unknown"));
    assert.ok(!findings.some(({ what, state }) => what === "programs" && state === "works"));
  });
});

describe("doctor: a worse kernel", { skip }, () => {
  test("FIONREAD that tells nothing is found, and the mend is named", () => {
    const worse = shimWith({ sockInq: () => 0 });
    assert.match(
      probeKernelPath(worse) ?? "",
      /^FIONREAD, request on the same host: tells 0 of \d+ bytes: nginx.*6\.18/,
    );
    leavesNothing(() => void probeKernelPath(worse));
  });

  test("FIONREAD that leaves out what TCP brings is found too", () => {
    let calls = 0;
    const worse = shimWith({ sockInq: (fd) => (++calls % 4 === 0 ? 0 : native.sockInq(fd)) });
    assert.match(probeKernelPath(worse) ?? "", /^FIONREAD, response of the slow path: tells 0/);
  });

  test("a sleeper that is not woken is found", () => {
    const worse = shimWith({ epollReady: () => 0 });
    assert.match(probeKernelPath(worse) ?? "", /^epoll, level-triggered: is not woken by message 1/);
  });

  test("a body that does not fit is found", () => {
    const worse = shimWith({ sendNonblock: (fd, bytes) => native.sendNonblock(fd, bytes.subarray(0, 100_000)) });
    assert.match(probeKernelPath(worse) ?? "", /^request body to another host: of 256 KiB only 100000 bytes leave/);
  });

  test("the verifier's word is handed on", () => {
    const log = [
      "libbpf: prog 'xlb_request': BPF program load failed: Permission denied",
      "libbpf: prog 'xlb_request': -- BEGIN PROG LOAD LOG --",
      "R1 invalid mem access 'inv'",
      "processed 12 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0",
      "-- END PROG LOAD LOG --",
    ].join("\n");
    let loads = 0;
    const refuse = (handle: native.ObjectHandle) => {
      if (++loads % 2 === 1) return native.objLoad(handle);
      throw Object.assign(new Error("bpf_object__load: Permission denied"), {
        ...{ code: "EACCES", errno: 13, call: "bpf_object__load", log },
      });
    };
    const worse = shimWith({ objLoad: refuse });
    assert.match(
      probeKernelPath(worse) ?? "",
      /^programs: the verifier refuses xlb_request: R1 invalid mem access 'inv'/,
    );
    assert.equal([...essentials(worse)].at(-1)?.log?.length, 5);
    leavesNothing(() => void probeKernelPath(worse));
  });

  test("one that refuses bpf(2) altogether is found", () => {
    const refuse = () => {
      throw Object.assign(new Error("bpf_object__load: EPERM"), { code: "EPERM", errno: 1, call: "bpf_object__load" });
    };
    const worse = shimWith({ objLoad: refuse });
    assert.match(probeKernelPath(worse) ?? "", /the kernel refuses bpf\(2\).*lockdown/);
    assert.equal([...essentials(worse)].filter(({ state }) => state === "unknown").length, 6);
  });
});

const EXAMPLE = fileURLToPath(new URL("doctor.yaml", import.meta.url));

function example(edit: (text: string) => string = (text) => text): Config {
  const parsed = parseBootstrap(edit(readFileSync(EXAMPLE, "utf8")), EXAMPLE);
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.value.config;
}

test("validate: what the kernel path can follow needs no word", () => {
  assert.deepEqual(explainConfig(example()), []);
});

test("validate: what needs the slow path is named", () => {
  const config = example((text) => text.replace("prefix: /shop", 'prefix: "/über"'));
  assert.deepEqual(explainConfig(config), [
    "web: virtual host shop: route shop/0 needs the slow path: its path is not ASCII",
  ]);
});

test("dump maps: what was put in is told in words", { skip }, () => {
  const tables = compile(example(), ({ endpoints }) => ({
    lists: [{ share: 1, policy: "roundRobin", hosts: endpoints, schedule: endpoints.map((_, i) => i) }],
  }));
  const datapath = new Datapath(native, { receiveLimit: 0, mapSizes: { slots: 64, stashes: 64, chunks: 8 } });
  try {
    apply(datapath, diff(undefined, tables).ops);
    datapath.setTenant(native.cgroupId(findCgroupMount()), 7);
    const endpoint = tables.ids.endpoints.get("back 127.0.0.1:18099")!;
    datapath.setChunks(7, endpoint, [4]);
    datapath.resetSlot(33, 7, endpoint);
    datapath.settleCrossHost(33);
    datapath.publish(33);
    const address = (port: number) => addrKey({ ip: "127.0.0.1", port });
    datapath.announce(33, address(40_000), address(18_099));
    const maps = new Map(dumpMaps(datapath, tables).map(({ name, entries }) => [name, entries]));
    const entries = (name: string) => maps.get(name)?.map(({ key, value }) => [key, value]);

    assert.deepEqual(entries("listeners"), [["127.9.9.9:8080", { id: 1, name: "web", way: "requests" }]]);
    assert.deepEqual(entries("header_names"), [["x-user", { index: HEADER_FIRST }]]);
    assert.deepEqual(entries("tenants"), [
      [`cgroup ${native.cgroupId(findCgroupMount())}`, { tenant: 7, datapath: "auto", path: findCgroupMount() }],
    ]);
    assert.deepEqual(entries("pools"), [["tenant 7, back 127.0.0.1:18099", { idle: 1, chunks: [4] }]]);
    assert.deepEqual(entries("peers"), [["127.0.0.1:40000 to 127.0.0.1:18099", { slot: 33 }]]);
    assert.deepEqual(entries("slots"), [
      [
        33,
        {
          state: "idle",
          kind: "cross_host",
          tenant: 7,
          endpoint: "back 127.0.0.1:18099",
          generation: 1,
          flags: ["request_done", "response_done"],
        },
      ],
    ]);
    // A single text, however long, is followed in one state.
    assert.deepEqual(
      maps.get("rules")?.map(({ value }) => (value as { states: number }).states),
      [1, 1],
    );
    assert.doesNotThrow(() => JSON.stringify([...maps]));
  } finally {
    datapath.close();
  }
});
