import assert from "node:assert/strict";
import { test } from "node:test";
import { disagreement } from "./compare.ts";
import { loadCorpus } from "./corpus.ts";
import { DELIBERATE, explain } from "./deliberate.ts";
import { SOME_PORTS } from "./places.ts";
import { expect, readConfig } from "./reference.ts";

for (const { name, cases } of loadCorpus()) {
  for (const { about, deliberate, request, envoy, spec } of cases) {
    test(`${name}: ${about}`, () => {
      const config = readConfig([spec], "127.0.0.1", SOME_PORTS);
      const expected = expect(config, config.listeners[0]!, request, SOME_PORTS);
      const why = disagreement(request, expected, envoy);
      if (deliberate === undefined) assert.equal(why, undefined);
      else assert.equal(why && explain(request, expected, envoy)?.id, deliberate, why ?? "Envoy and XLB agree by now");
    });
  }
}

test("each deliberate difference has a name of its own, a reason and an example", () => {
  const ids = DELIBERATE.map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length);
  for (const { id, why } of DELIBERATE) assert.ok(why.length > 20, id);
  const shown = new Set(loadCorpus().flatMap(({ cases }) => cases.map(({ deliberate }) => deliberate)));
  assert.deepEqual(
    ids.filter((id) => !shown.has(id)),
    [],
  );
});
