import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  apply,
  type Blob,
  diff,
  type HashMap,
  type Installed,
  type MapStore,
  type Op,
  type Outer,
} from "../../src/sync/sync.ts";
import { addrKeyBytes } from "../../src/tables/address.ts";
import type { Tables } from "../../src/tables/compiled.ts";
import { fnv1a64 } from "../../src/tables/hash.ts";
import { headerNameRow, listenerEntryRow, RULES_SLOW } from "../../src/tables/layout.gen.ts";

/** What sync does to the maps, and what a hook finds in them meanwhile. Blobs are as short as can be told apart. */

interface Vhost {
  /** Tells two of them apart that refer to the same. */
  readonly salt: number;
  readonly clusters: readonly number[];
  /** Indexes of the headers that it asks for. */
  readonly headers: readonly number[];
}

interface World {
  readonly listeners: readonly {
    readonly name: string;
    readonly port: number;
    /** null: the slow path's. */
    readonly vhosts: readonly (Vhost | null)[];
  }[];
  /** Id and the length of its blob: one is the beginning of another. */
  readonly clusters: ReadonlyMap<number, number>;
  readonly headers: readonly number[];
}

/** Numbers that outlive a configuration: by name. */
const NAMES = ["a", "a/0", "0 a", "hosts", "0", "b"];
const HEADERS = ["x-a", "x-b", "x-c"];
const HEADER_FIRST = 3;
const idOf = (name: string) => NAMES.indexOf(name) + 1;
const addressOf = (port: number) => ({ ip: "127.0.0.1", port });
const clusterBlob = (id: number, says: number) => new Uint32Array(says).fill(id);
const vhostBlob = ({ salt, clusters, headers }: Vhost) =>
  Uint32Array.of(salt, clusters.length, ...clusters, headers.length, ...headers);

function tablesOf({ listeners, clusters, headers }: World): Tables {
  return {
    ids: { listeners: new Map(), routes: new Map(), clusters: new Map(), endpoints: new Map() },
    listeners: listeners.map(({ name, port, vhosts }) => ({
      name,
      id: idOf(name),
      address: addressOf(port),
      others: [],
      way: {
        kind: "requests",
        hosts: { blob: (rulesOf) => Uint32Array.of(vhosts.length, ...vhosts.map((_, at) => rulesOf(at))) },
        virtualHosts: vhosts.map((vhost) => vhost && vhostBlob(vhost)).map((blob) => blob ?? undefined),
        inspected: false,
      },
    })),
    clusters: [...clusters].map(([id, says]) => ({ name: `c${id}`, id, blob: clusterBlob(id, says) })),
    endpoints: [],
    headerNames: headers.map((at) => ({ name: HEADERS[at]!, index: HEADER_FIRST + at })),
    slow: [],
    long: [],
    sources: new Map(),
  };
}

/** The kernel's maps. As strict as the kernel: what is not there cannot be removed. */
class FakeMaps implements MapStore {
  readonly blobs = { rules: new Map<number, Uint32Array>(), clusters: new Map<number, Uint32Array>() };
  readonly hashes = {
    listeners: new Map<string, Uint8Array>(),
    listener_rules: new Map<string, Uint8Array>(),
    endpoint_addresses: new Map<string, Uint8Array>(),
    header_names: new Map<string, Uint8Array>(),
    cluster_limits: new Map<string, Uint8Array>(),
  };

  putBlobs(outer: Outer, blobs: readonly Blob[]): void {
    assert.ok(blobs.length > 0);
    for (const { index, words } of blobs) this.#put(outer, index, words);
  }

  #put(outer: Outer, index: number, words: Uint32Array): void {
    assert.ok(index > 0 && index !== RULES_SLOW, "0 says: none");
    if (outer === "rules") assert.ok(!this.blobs.rules.has(index), `rules ${index} are in use`);
    this.blobs[outer].set(index, words);
  }

  dropBlob(outer: Outer, index: number): void {
    assert.ok(this.blobs[outer].delete(index), `no ${outer} ${index}`);
  }

  set(map: HashMap, key: Uint8Array, value: Uint8Array): void {
    this.hashes[map].set(hex(key), value);
  }

  remove(map: HashMap, key: Uint8Array): void {
    assert.ok(map !== "listener_rules" && map !== "cluster_limits", "an array has no holes");
    assert.ok(this.hashes[map].delete(hex(key)), `no such key in ${map}`);
  }
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const u32 = (n: number) => new Uint8Array(Uint32Array.of(n).buffer);

interface Found {
  readonly id: number;
  readonly vhosts: readonly (Vhost | null)[];
}

/** What a hook finds at a virtual address, all the way down; undefined: it is no listener. A child missing throws. */
function follow(maps: FakeMaps, port: number): Found | undefined {
  const entry = maps.hashes.listeners.get(hex(addrKeyBytes(addressOf(port))));
  if (!entry) return undefined;
  const { id } = listenerEntryRow.decode(entry);
  const rules = maps.hashes.listener_rules.get(hex(u32(id)));
  const index = Buffer.from(rules ?? u32(0)).readUInt32LE();
  assert.notEqual(index, 0, `listener ${id} has no rules`);
  return { id, vhosts: vhostsOf(maps, index) };
}

function vhostsOf(maps: FakeMaps, hosts: number): (Vhost | null)[] {
  const blob = maps.blobs.rules.get(hosts);
  assert.ok(blob, `no host blob ${hosts}`);
  return [...blob.subarray(1)].map((index) => (index === RULES_SLOW ? null : vhostOf(maps, index)));
}

function vhostOf(maps: FakeMaps, index: number): Vhost {
  const blob = maps.blobs.rules.get(index);
  assert.ok(blob, `no virtual host ${index}`);
  const [salt = 0, n = 0] = blob;
  const [clusters, headers] = [[...blob.subarray(2, 2 + n)], [...blob.subarray(3 + n)]];
  for (const id of clusters) assert.ok(maps.blobs.clusters.has(id), `no cluster ${id}`);
  for (const header of headers) {
    const row = maps.hashes.header_names.get(hex(new Uint8Array(BigUint64Array.of(fnv1a64(HEADERS[header]!)).buffer)));
    assert.ok(row, `nobody reads header ${HEADERS[header]}`);
    const { index, length, name } = headerNameRow.decode(row);
    assert.equal(index, HEADER_FIRST + header);
    assert.equal(Buffer.from(name).toString("latin1", 0, length), HEADERS[header]);
  }
  return { salt, clusters, headers };
}

/** What a hook should find. */
const saidOf = ({ listeners }: World): (Found & { readonly port: number })[] =>
  listeners.map(({ name, port, vhosts }) => ({ id: idOf(name), port, vhosts }));

// ---- examples ----

const vhost = (salt: number, clusters: readonly number[] = [], headers: readonly number[] = []): Vhost => ({
  ...{ salt, clusters, headers },
});
const some: World = {
  listeners: [
    { name: "a", port: 80, vhosts: [vhost(10, [1], [0]), null] },
    { name: "b", port: 81, vhosts: [vhost(20, [1, 2])] },
  ],
  clusters: new Map([
    [1, 100],
    [2, 200],
  ]),
  headers: [0],
};
const PORTS = [80, 81, 82];

/** One word for an operation. */
function words(ops: readonly Op[]): string[] {
  return ops.map((o) => {
    if ("outer" in o) return `${o.op} ${o.outer} ${o.index}`;
    return `${o.op} ${o.map}${o.op === "set" && o.value.every((byte) => byte === 0) ? " 0" : ""}`;
  });
}

function installedOf(world: World, before?: Installed): Installed {
  return diff(before, tablesOf(world)).installed;
}

test("adding is done from the bottom up", () => {
  assert.deepEqual(words(diff(undefined, tablesOf(some)).ops), [
    "putBlob clusters 1",
    "putBlob clusters 2",
    "putBlob rules 1",
    "putBlob rules 2",
    "putBlob rules 3",
    "putBlob rules 4",
    "set header_names",
    "set listener_rules",
    "set listeners",
    "set listener_rules",
    "set listeners",
  ]);
});

test("removing is done from the top down", () => {
  const nothing: World = { listeners: [], clusters: new Map(), headers: [] };
  assert.deepEqual(words(diff(installedOf(some), tablesOf(nothing)).ops), [
    "remove listeners",
    "set listener_rules 0",
    "remove listeners",
    "set listener_rules 0",
    "dropBlob rules 4",
    "dropBlob rules 3",
    "dropBlob rules 2",
    "dropBlob rules 1",
    "dropBlob clusters 1",
    "dropBlob clusters 2",
    "remove header_names",
  ]);
});

test("where nothing changed nothing is done", () => {
  const installed = installedOf(some);
  const again = diff(installed, tablesOf(some));
  assert.deepEqual(again.ops, []);
  assert.deepEqual(again.installed, installed);
});

/** The operations from `some` to what it is changed to. */
const change = (changes: Partial<World>) => words(diff(installedOf(some), tablesOf({ ...some, ...changes })).ops);

test("a cluster that changed costs its blob alone", () => {
  const clusters = new Map([...some.clusters, [2, 201] as const]);
  assert.deepEqual(change({ clusters }), ["putBlob clusters 2"]);
});

test("a new cluster costs its blob alone", () => {
  assert.deepEqual(change({ clusters: new Map([...some.clusters, [3, 300] as const]) }), ["putBlob clusters 3"]);
});

test("a virtual host that changed costs its blob and its listener's hosts, and no other listener's", () => {
  const [a, b] = some.listeners;
  assert.deepEqual(change({ listeners: [a!, { ...b!, vhosts: [vhost(21, [1, 2])] }] }), [
    "putBlob rules 5",
    "putBlob rules 6",
    "set listener_rules",
    "dropBlob rules 4",
    "dropBlob rules 3",
  ]);
});

test("a virtual host that becomes the slow path's leaves no blob", () => {
  const [a, b] = some.listeners;
  const ops = change({ listeners: [a!, { ...b!, vhosts: [null] }] });
  assert.deepEqual(ops, ["putBlob rules 5", "set listener_rules", "dropBlob rules 4", "dropBlob rules 3"]);
});

test("a listener that moves costs its address alone", () => {
  const [a, b] = some.listeners;
  assert.deepEqual(change({ listeners: [a!, { ...b!, port: 82 }] }), ["set listeners", "remove listeners"]);
});

test("a header that a rule newly asks for is known before the rule is", () => {
  const [a, b] = some.listeners;
  const listeners = [a!, { ...b!, vhosts: [vhost(20, [1, 2], [1])] }];
  assert.deepEqual(change({ headers: [0, 1], listeners }).slice(0, 4), [
    "putBlob rules 5",
    "putBlob rules 6",
    "set header_names",
    "set listener_rules",
  ]);
});

test("an index that became free is given out by the next diff, not by the same one", () => {
  const [a, b] = some.listeners;
  const second = { ...some, listeners: [a!, { ...b!, vhosts: [vhost(21)] }] };
  const installed = installedOf(second, installedOf(some));
  const third = { ...some, listeners: [a!, { ...b!, vhosts: [vhost(22)] }] };
  assert.deepEqual(words(diff(installed, tablesOf(third)).ops).slice(0, 2), ["putBlob rules 3", "putBlob rules 4"]);
});

test("apply does each operation in its order, and stops at the first that the kernel refuses", () => {
  const calls: string[] = [];
  const note = (name: string) => () => void calls.push(name);
  const store: MapStore = {
    putBlobs: (_, blobs) => void calls.push(`putBlobs ${blobs.map(({ index }) => index)}`),
    dropBlob: () => {
      throw new Error("ENOENT");
    },
    set: note("set"),
    remove: note("remove"),
  };
  const [key, value] = [u32(1), u32(2)];
  const ops: Op[] = [
    { op: "putBlob", outer: "clusters", index: 1, words: Uint32Array.of(1) },
    { op: "putBlob", outer: "rules", index: 1, words: Uint32Array.of(1) },
    { op: "putBlob", outer: "rules", index: 2, words: Uint32Array.of(1) },
    { op: "remove", map: "listeners", key },
    { op: "set", map: "listeners", key, value },
    { op: "dropBlob", outer: "rules", index: 1 },
    { op: "set", map: "listeners", key, value },
  ];
  assert.throws(() => apply(store, ops), /ENOENT/);
  assert.deepEqual(calls, ["putBlobs 1", "putBlobs 1,2", "remove", "set"]);
});

// ---- whatever changes ----

const anyWorld: fc.Arbitrary<World> = fc
  .record({
    names: fc.uniqueArray(fc.constantFrom(...NAMES), { maxLength: 3 }),
    ports: fc.uniqueArray(fc.constantFrom(...PORTS), { minLength: 3, maxLength: 3 }),
    clusters: fc.uniqueArray(fc.integer({ min: 1, max: 4 }), { maxLength: 4 }),
    says: fc.array(fc.integer({ min: 1, max: 2 }), { minLength: 4, maxLength: 4 }),
    vhosts: fc.array(
      fc.array(
        fc.option(
          fc.record({
            salt: fc.integer({ min: 1, max: 3 }),
            clusters: fc.uniqueArray(fc.integer({ min: 1, max: 4 }), { maxLength: 3 }),
            headers: fc.uniqueArray(fc.integer({ min: 0, max: 2 }), { maxLength: 2 }),
          }),
          { freq: 4 },
        ),
        { maxLength: 3 },
      ),
      { minLength: 3, maxLength: 3 },
    ),
  })
  .map(({ names, ports, clusters, says, vhosts }) => {
    const listeners = names.map((name, i) => ({
      name,
      port: ports[i]!,
      /* A rule refers to clusters that there are: others have no id. */
      vhosts: vhosts[i]!.map((v) => v && { ...v, clusters: v.clusters.filter((id) => clusters.includes(id)) }),
    }));
    const headers = new Set(listeners.flatMap((l) => l.vhosts.flatMap((v) => v?.headers ?? [])));
    return { listeners, clusters: new Map(clusters.map((id, i) => [id, says[i]!])), headers: [...headers] };
  });

test("at any moment a hook finds all that it looks for: each listener as it was, or as it is to be", () => {
  fc.assert(
    fc.property(fc.array(anyWorld, { minLength: 1, maxLength: 5 }), (worlds) => {
      const maps = new FakeMaps();
      let installed: Installed | undefined;
      let old: World = { listeners: [], clusters: new Map(), headers: [] };
      for (const world of worlds) {
        const next = diff(installed, tablesOf(world));
        /* A hook that began earlier may be at any of the host blobs still. */
        const hosts = new Set<number>();
        for (const op of [...next.ops, undefined]) {
          for (const rules of maps.hashes.listener_rules.values()) hosts.add(Buffer.from(rules).readUInt32LE());
          for (const index of hosts) if (maps.blobs.rules.has(index)) vhostsOf(maps, index);
          for (const port of PORTS) {
            /* A listener that moves and changes may do so one after the other; what it says is never a mixture. */
            const found = follow(maps, port);
            const either = [saidOf(old), saidOf(world)];
            const ids = either.map((all) => all.find((said) => said.port === port)?.id);
            assert.ok(ids.includes(found?.id), `port ${port} is listener ${found?.id}`);
            if (found === undefined) continue;
            const says = either.map((all) => JSON.stringify(all.find(({ id }) => id === found.id)?.vhosts));
            assert.ok(says.includes(JSON.stringify(found.vhosts)), `port ${port}: ${JSON.stringify(found.vhosts)}`);
          }
          if (op) apply(maps, [op]);
        }
        const found = saidOf(world).map(({ port }) => ({ ...follow(maps, port)!, port }));
        assert.deepEqual(found, saidOf(world));
        assert.equal(maps.hashes.listeners.size, found.length);
        for (const [id, says] of world.clusters) assert.deepEqual(maps.blobs.clusters.get(id), clusterBlob(id, says));
        installed = next.installed;
        old = world;
      }
    }),
    { numRuns: 300 },
  );
});

test("after any changes nothing is left that nobody refers to, and the same again changes nothing", () => {
  fc.assert(
    fc.property(fc.array(anyWorld, { minLength: 1, maxLength: 5 }), (worlds) => {
      const maps = new FakeMaps();
      let installed: Installed | undefined;
      for (const world of worlds) {
        const next = diff(installed, tablesOf(world));
        apply(maps, next.ops);
        installed = next.installed;
        assert.deepEqual(diff(installed, tablesOf(world)).ops, []);
        const blobs = world.listeners.reduce((n, l) => n + 1 + l.vhosts.filter((v) => v !== null).length, 0);
        assert.deepEqual(
          [maps.blobs.rules.size, maps.blobs.clusters.size, maps.hashes.listeners.size, maps.hashes.header_names.size],
          [blobs, world.clusters.size, world.listeners.length, world.headers.length],
        );
      }
    }),
    { numRuns: 200 },
  );
});
