import assert from "node:assert/strict";
import { test } from "node:test";
import { compile } from "../../src/compile/compile.ts";
import { ACTIONS } from "./actions.ts";
import { type Made, makeConfig, PER_START } from "./config.ts";
import { CLUSTER, CONDITIONS, LISTENER, PATHS } from "./fields.ts";
import { SOME_PORTS } from "./places.ts";
import { expect, readConfig } from "./reference.ts";
import { makeRequests } from "./requests.ts";
import { smaller } from "./shrink.ts";

const many = (count: number, seed = 1): Made[] => Array.from({ length: count }, (_, index) => makeConfig(seed, index));
const read = (made: readonly Made[]) =>
  readConfig(
    made.map(({ spec }) => spec),
    "127.0.0.1",
    SOME_PORTS,
  );

test("the same seed makes the same configurations and requests, and each by itself", () => {
  const all = many(5);
  assert.deepEqual(JSON.stringify(makeConfig(1, 3)), JSON.stringify(all[3]));
  assert.deepEqual(makeRequests(1, makeConfig(1, 3), 50), makeRequests(1, all[3]!, 50));
  assert.notDeepEqual(JSON.stringify(makeConfig(2, 3)), JSON.stringify(all[3]));
  assert.deepEqual(makeRequests(1, all[3]!, 80).slice(0, 50), makeRequests(1, all[3]!, 50));
});

test("XLB takes each start's configurations", () => {
  const made = many(200);
  for (let at = 0; at < made.length; at += PER_START) read(made.slice(at, at + PER_START));
});

test("every part is used", () => {
  const made = many(200);
  const used = new Set(
    made.flatMap(({ routes, options }) => [
      ...options.map(({ name }) => name),
      ...routes.flatMap(({ path, conditions, action }) => [
        path.name,
        action.name,
        ...conditions.map(([{ name }]) => name),
      ]),
    ]),
  );
  const clusters = JSON.stringify(made.map(({ spec }) => spec.clusters));
  for (const { name } of [...PATHS, ...CONDITIONS, ...ACTIONS, ...LISTENER]) assert.ok(used.has(name), name);
  for (const { name } of CLUSTER) assert.ok(clusters.includes(name), name);
});

test("the kernel path takes what is said to be for it, and leaves most of the rest", () => {
  const made = many(100);
  for (let at = 0; at < made.length; at += PER_START) {
    const some = made.slice(at, at + PER_START);
    const { slow } = compile(read(some), () => ({ lists: [] }));
    const said = some.flatMap(({ slowHosts, spec }, slot) =>
      spec.front ? [] : [...slowHosts].map((name) => `l${slot}: virtual host ${name}`),
    );
    /* A host whose routes the kernel can tell, but not all serve, is named by those routes; without any it is not. */
    const fronts = new Set(some.flatMap(({ spec }, slot) => (spec.front ? [`l${slot}`] : [])));
    /* Without a virtual host: each request of a listener that asks for headers of Envoy's own. */
    const named = slow.filter(
      ({ listener, virtualHost, reason }) =>
        /* Which name is one too many is a matter of all that start together. */
        !fronts.has(listener) && virtualHost !== "" && !reason.endsWith("is a name too many"),
    );
    const hosts = new Set(named.map(({ listener, virtualHost }) => `${listener}: virtual host ${virtualHost}`));
    assert.deepEqual(
      [...hosts].filter((host) => !said.includes(host)),
      [],
    );
    assert.ok(hosts.size > said.length / 2, `${hosts.size} of ${said.length}`);
  }
});

test("most requests are forwarded, to one cluster or another, and some are refused", () => {
  const made = many(PER_START);
  const config = read(made);
  const counts = new Map<string, number>();
  for (const [slot, each] of made.entries()) {
    for (const request of makeRequests(1, each, 100)) {
      const [outcome] = expect(config, config.listeners[slot]!, request, SOME_PORTS).outcomes;
      const key = outcome!.kind === "endpoint" ? "forwarded" : String(outcome!.status);
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  const share = (key: string) => (counts.get(key) ?? 0) / (PER_START * 100);
  assert.ok(share("forwarded") > 0.3, JSON.stringify([...counts]));
  for (const status of ["400", "404", "503"])
    assert.ok(share(status) > 0.002, `${status}: ${JSON.stringify([...counts])}`);
});

test("what shrinking tries is smaller, and still taken by XLB", () => {
  const [made] = many(1, 4);
  const sample = { spec: made!.spec, request: makeRequests(3, made!, 1)[0]! };
  const size = (value: unknown) => JSON.stringify(value).length;
  const all = smaller(sample);
  assert.ok(all.length > 5);
  for (const less of all) {
    assert.ok(size(less) < size(sample));
    readConfig([less.spec], "127.0.0.1", SOME_PORTS);
  }
});
