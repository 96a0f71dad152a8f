import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type AdminHandlers, serveAdmin } from "../../src/admin/server.ts";
import { findCgroupMount, workloadsRoot } from "../../src/admin/workloads.ts";
import { someStats } from "./some-stats.ts";
import { NOBODY, unbuilt, withoutCgroups, XLB, xlb } from "./xlb.ts";

const folder = mkdtempSync(join(tmpdir(), "xlb-cli-"));
after(() => rmSync(folder, { recursive: true }));

const config = { listeners: [{ name: "a", address: { ip: "127.8.0.1", port: 80 } }], clusters: [] };
const handlers: AdminHandlers = {
  state: () => "LIVE",
  stats: () => someStats,
  config: () => config,
  maps: () => [
    { name: "listeners", entries: [{ key: { ip: "127.8.0.1", port: 80 }, value: { id: 1, flags: ["A"] } }] },
  ],
  tenant: async () => undefined,
  quit: () => undefined,
};

/** Runs the program while this process plays the daemon, which `spawnSync` would stop. */
async function ask(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const server = await serveAdmin(join(folder, "admin.sock"), handlers);
  const child = spawn(XLB, args, { env: { ...process.env, XLB_ADMIN_SOCKET: server.path } });
  const texts = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (texts.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (texts.stderr += text));
  const [status] = (await once(child, "close")) as [number];
  await server.close();
  return { status, ...texts };
}

describe("xlb", { skip: unbuilt }, () => {
  test("knows its version and gives help", () => {
    assert.match(xlb(["--version"]).stdout, /^\d+\.\d+\.\d+\n$/);
    const help = xlb(["--help"]);
    assert.equal(help.status, 0);
    for (const command of ["run", "exec", "validate", "explain", "route-check", "doctor", "stats", "dump", "cleanup"]) {
      assert.match(help.stdout, new RegExp(`^ {2}${command}\\b`, "m"));
      assert.equal(xlb([command, "--help"]).status, 0);
    }
  });

  const misuses = [
    [],
    ["no-such"],
    ["stats", "--no-such"],
    ["run"],
    ["validate"],
    ["explain", "-c", "f"],
    ["explain", "http://a/"],
    ["route-check", "-t", "f"],
    ["dump"],
    ["dump", "x"],
    ["stats", "x"],
  ];
  for (const args of [...misuses, ["run", "-c", "f", "--mode", "x"], ["stats", "--admin-socket", "relative"]]) {
    test(`refuses "xlb ${args.join(" ")}" with status 2`, () => {
      const run = xlb(args);
      assert.equal(run.status, 2);
      assert.equal(run.stdout, "");
      assert.notEqual(run.stderr, "");
    });
  }

  test("works through a symbolic link", () => {
    const link = join(folder, "linked");
    symlinkSync(XLB, link);
    assert.equal(spawnSync(link, ["--version"]).status, 0);
  });

  test("stats: a table that people can read", async () => {
    const run = await ask("stats");
    assert.equal(run.stderr, "");
    assert.equal(run.status, 0);
    const golden = fileURLToPath(new URL("stats.txt", import.meta.url));
    if (process.env.UPDATE) writeFileSync(golden, run.stdout);
    assert.equal(run.stdout, readFileSync(golden, "utf8"));
  });

  test("stats --json: the numbers as they are", async () => {
    assert.deepEqual(JSON.parse((await ask("stats", "--json")).stdout), someStats);
  });

  test("dump config", async () => {
    assert.match((await ask("dump", "config")).stdout, /^listeners:\n {2}- name: a\n {4}address:\n {6}ip: 127.8.0.1\n/);
    assert.deepEqual(JSON.parse((await ask("dump", "config", "--json")).stdout), config);
  });

  test("dump maps", async () => {
    const text = "listeners (1)\n  {ip: 127.8.0.1, port: 80} → {id: 1, flags: [A]}\n";
    assert.equal((await ask("dump", "maps")).stdout, text);
    assert.deepEqual(JSON.parse((await ask("dump", "maps", "--json")).stdout), handlers.maps());
  });

  for (const args of [["stats"], ["dump", "config"], ["dump", "maps", "--json"]]) {
    test(`${args.join(" ")}: says when no daemon answers`, () => {
      const run = xlb(args);
      assert.equal(run.status, 1);
      assert.equal(run.stderr, `xlb: no daemon answers at ${NOBODY}\n`);
    });
  }
});

const write = (text: string) => {
  const path = join(folder, "bootstrap.yaml");
  writeFileSync(path, text);
  return path;
};

/** One listener whose only route matches this expression. */
const withExpression = (regex: string) => {
  const type = "type.googleapis.com/envoy.extensions.filters";
  const router = { name: "router", typed_config: { "@type": `${type}.http.router.v3.Router` } };
  const routes = [{ match: { safe_regex: { regex } }, direct_response: { status: 200 } }];
  const manager = {
    "@type": `${type}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "x",
    http_filters: [router],
    route_config: { virtual_hosts: [{ name: "v", domains: ["*"], routes }] },
  };
  const address = { socket_address: { address: "127.80.0.9", port_value: 80 } };
  const listener = { name: "l", address, filter_chains: [{ filters: [{ name: "hcm", typed_config: manager }] }] };
  return JSON.stringify({ static_resources: { listeners: [listener] } });
};

describe("xlb doctor", { skip: unbuilt }, () => {
  test("says of a configuration what the kernel path cannot serve, as validate does", () => {
    const path = write(withExpression(".*a[a-z]{12}b.*"));
    const told = xlb(["doctor", "--json", "-c", path]).stdout;
    const { findings } = JSON.parse(told) as { findings: { what: string; detail: string }[] };
    const notes = findings.filter(({ what }) => what === "configuration").map(({ detail }) => detail);
    assert.equal(notes.length, 1, told);
    assert.match(notes[0]!, /^\S+bootstrap\.yaml: l: .*v\/0 .*1024 states/);
    assert.equal(xlb(["validate", "-c", path]).stdout, `${path}: valid\n${notes[0]!.replace(": l:", ": note: l:")}\n`);
    const all = xlb(["doctor", "-c", write(withExpression("/a.*"))]).stdout;
    assert.match(all, /configuration +\S+: all of it on the kernel path/);
  });

  test("names what is wrong with a configuration", () => {
    const run = xlb(["doctor", "-c", write("static_resources: { listenerz: [] }\n")]);
    assert.deepEqual([run.status, run.stdout], [1, ""]);
    assert.match(run.stderr, /bootstrap\.yaml:1:21: static_resources\.listenerz: .*listeners/);
  });
});

describe("xlb validate", { skip: unbuilt }, () => {
  test("says that a good file is good", () => {
    const path = write("static_resources: { clusters: [] }\n");
    const run = xlb(["validate", "-c", path]);
    assert.deepEqual([run.status, run.stdout, run.stderr], [0, `${path}: valid\n`, ""]);
    assert.equal(xlb(["run", "--mode", "validate", "-c", path]).status, 0);
    assert.equal(xlb(["validate", "--config-yaml", "static_resources: { clusters: [] }"]).status, 0);
  });

  test("names every problem with its place, and a field that may have been meant", () => {
    const path = write("static_resources:\n  clusterz: []\n  listeners: 3\n");
    const run = xlb(["validate", "-c", path]);
    assert.equal(run.status, 1);
    const lines = run.stdout.trimEnd().split("\n");
    assert.equal(lines.length, 2, run.stdout);
    assert.match(lines[0] ?? "", new RegExp(`^${path}:2:3: static_resources\\.clusterz: .*clusters`));
    assert.match(lines[1] ?? "", new RegExp(`^${path}:3:14: static_resources\\.listeners: `));
  });

  test("says when there is no such file", () => {
    const run = xlb(["validate", "-c", join(folder, "nothing.yaml")]);
    assert.equal(run.status, 1);
    assert.match(run.stderr, /^xlb: .*nothing\.yaml: no such file or directory$/m);
  });
});

describe("xlb cleanup", { skip: unbuilt || withoutCgroups() }, () => {
  test("removes what dead runs left, also with cgroups below a leaf, and is content when there is nothing", () => {
    const leaf = join(workloadsRoot(), "exec-999999999-abc");
    mkdirSync(join(leaf, "own", "deeper"), { recursive: true });
    const socket = join(folder, "stale.sock");
    const killed = `require("net").createServer().listen("${socket}", () => process.kill(process.pid, 9))`;
    spawnSync(process.execPath, ["-e", killed]);
    const run = xlb(["cleanup", "--admin-socket", socket]);
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stdout, new RegExp(`^removed cgroup ${leaf}\nremoved cgroup ${workloadsRoot()}\n`));
    assert.match(run.stdout, new RegExp(`^removed socket ${socket}$`, "m"));
    assert.equal(existsSync(workloadsRoot()), false);
    assert.equal(xlb(["cleanup"]).stdout, "nothing to remove\n");
  });

  test("leaves alone what a daemon with another admin socket holds, and not what a dead one did", () => {
    const [living, dead] = [process.pid, 999_999_999].map((pid) => join(workloadsRoot(), `daemon-${pid}`));
    for (const path of [living!, dead!]) mkdirSync(path, { recursive: true });
    try {
      const run = xlb(["cleanup"]);
      assert.equal(run.status, 1);
      assert.equal(run.stderr, `xlb: cgroup ${workloadsRoot()} is held by another daemon: ${process.pid}\n`);
      assert.deepEqual([existsSync(living!), existsSync(dead!)], [true, false]);
    } finally {
      rmdirSync(living!);
    }
    assert.equal(xlb(["cleanup"]).stdout, `removed cgroup ${workloadsRoot()}\n`);
  });

  test("touches no cgroup outside of xlb", () => {
    const other = join(findCgroupMount(), "xlb-not-ours-test");
    mkdirSync(other);
    try {
      xlb(["cleanup"]);
      assert.ok(existsSync(other));
    } finally {
      rmSync(other, { recursive: true, force: true });
    }
  });

  test("takes nothing from a daemon that lives", async () => {
    mkdirSync(workloadsRoot(), { recursive: true });
    const run = await ask("cleanup");
    assert.equal(run.status, 1);
    assert.match(run.stderr, new RegExp(`^xlb: a daemon is running \\(pid ${process.pid}\\): its programs`));
    assert.ok(existsSync(workloadsRoot()));
    assert.equal(xlb(["cleanup"]).status, 0);
  });
});
