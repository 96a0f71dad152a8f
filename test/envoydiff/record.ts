import { inScope } from "../../bench/scope.ts";
import { type Case, kept, loadCorpus, saveCases } from "./corpus.ts";
import { portsOf, SOME_PORTS } from "./places.ts";
import { expect, readConfig } from "./reference.ts";
import { openBed } from "./subjects.ts";

/**
 * `npx tsx test/envoydiff/record.ts [FILE...]`: asks Envoy every case of the corpus again, or of these files, and
 * writes down what it answers now: for a new case, whose `envoy` may be {}, or for a new Envoy.
 */
await inScope(async (scope) => {
  const wanted = process.argv.slice(2);
  const corpus = loadCorpus().filter(({ name }) => wanted.length === 0 || wanted.includes(name));
  const specs = corpus.flatMap(({ cases }) => cases.map(({ spec }) => spec));
  const bed = await openBed(scope, specs, portsOf(process.pid), (text) => process.stderr.write(`${text}\n`));
  if (!bed.subjects.includes("envoy")) throw new Error("there is no Envoy to ask");
  for (const { name, cases } of corpus) {
    const answered: Case[] = [];
    for (const each of cases) {
      const [answers] = await bed.ask("envoy", { specs: [each.spec], requests: [[each.request]] });
      const config = readConfig([each.spec], "127.0.0.1", SOME_PORTS);
      const { own = false } = expect(config, config.listeners[0]!, each.request, SOME_PORTS);
      answered.push({ ...each, envoy: kept(answers![0]!, own) });
    }
    saveCases(name, answered);
  }
});
