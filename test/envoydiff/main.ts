import { parseArgs } from "node:util";
import { inScope, type Scope } from "../../bench/scope.ts";
import type { Config } from "../../src/model/config.ts";
import { type Answer, disagreement, formatOutcome, outcomeOf, type Subject } from "./compare.ts";
import { type Made, makeConfig, PER_START } from "./config.ts";
import { kept, saveCases } from "./corpus.ts";
import { explain } from "./deliberate.ts";
import { OWN_HEADERS } from "./own.ts";
import { type Ports, portsOf } from "./places.ts";
import { type Expected, expect, readConfig } from "./reference.ts";
import { makeRequests } from "./requests.ts";
import { inSlot, type Sample, smaller } from "./shrink.ts";
import type { Spec } from "./spec.ts";
import { type Bed, openBed, XLB_IP } from "./subjects.ts";

/**
 * `make envoy-diff`: random configurations and requests, answered by a real Envoy, by XLB's kernel path, by its slow
 * path and by the reference. Each answer has to be one that the reference allows, or a difference that is meant.
 */

const HELP = `
npx tsx test/envoydiff/main.ts [--seed N] [--configs N] [--requests N] [--only INDEX] [--show N] [--shrink N]
                               [--actions TEXT] [--own] [--save DIR]

  --actions  routes do nothing but what test/envoydiff/actions.ts names with this text
  --own      every listener has an option that asks for headers that Envoy sets itself
  --only     this configuration of the seed alone
  --show     so many kinds of unexplained differences are printed (10)
  --shrink   so many of them are made as small as they still show (3)
  --save     writes those printed as cases for test/envoydiff/corpus
`;

interface Difference {
  readonly index: number;
  readonly sample: Sample;
  readonly expected: Expected;
  readonly answers: ReadonlyMap<Subject, Answer>;
  readonly wrong: ReadonlyMap<Subject, string>;
}

interface Tally {
  compared: number;
  readonly explained: Map<string, number>;
  readonly unexplained: Difference[];
  /** Expected and found: so that a run which only sees refusals does not pass for a proof. */
  readonly outcomes: Map<string, number>;
}

interface Options {
  readonly seed: number;
  readonly actions: string;
  readonly own: boolean;
  readonly indexes: readonly number[];
  readonly requests: number;
  readonly show: number;
  readonly shrink: number;
  readonly save: string | undefined;
}

async function compareAll(scope: Scope, options: Options): Promise<boolean> {
  const { seed, actions, own, indexes, requests } = options;
  const say = (text: string) => process.stderr.write(`${text}\n`);
  const made = indexes.map((index) => makeConfig(seed, index, actions, own ? OWN_HEADERS.name : undefined));
  const specs = made.map(({ spec }) => spec);
  /* A difference is shrunk in every place of a start, so there are servers for every place. */
  const everywhere = options.shrink > 0 ? Array.from({ length: PER_START }, (_, slot) => mostPlaces(specs, slot)) : [];
  const bed = await openBed(scope, [...specs, ...everywhere], portsOf(process.pid), say);
  for (const { subject, why } of bed.skipped) process.stdout.write(`skipped ${subject}: ${why}\n`);

  const tally: Tally = { compared: 0, explained: new Map(), unexplained: [], outcomes: new Map() };
  for (let at = 0; at < made.length; at += PER_START) {
    const some = made.slice(at, at + PER_START);
    await compareBatch(
      bed,
      some,
      some.map((each) => makeRequests(seed, each, requests)),
      tally,
    );
    say(`${Math.min(at + PER_START, made.length)} configurations, ${tally.unexplained.length} unexplained`);
  }
  return report(bed, tally, options);
}

async function compareBatch(bed: Bed, made: readonly Made[], requests: string[][], tally: Tally): Promise<void> {
  const specs = made.map(({ spec }) => spec);
  const config = readConfig(specs, XLB_IP, bed.ports);
  const answers = new Map<Subject, Answer[][]>();
  for (const subject of bed.subjects) answers.set(subject, await bed.ask(subject, { specs, requests }));
  for (const [slot, texts] of requests.entries()) {
    for (const [i, request] of texts.entries()) {
      const mine = new Map([...answers].map(([subject, all]) => [subject, all[slot]![i]!] as const));
      const judged = judge(config, slot, request, mine, bed);
      tally.compared++;
      add(
        tally.outcomes,
        judged.expected.outcomes[0]!.kind === "endpoint" ? "forwarded" : formatOutcome(judged.expected.outcomes[0]!),
      );
      if (judged.deliberate !== undefined) add(tally.explained, judged.deliberate);
      if (judged.wrong.size === 0) continue;
      const { index, spec } = made[slot]!;
      tally.unexplained.push({ index, sample: { spec, request }, answers: mine, ...judged });
    }
  }
}

function judge(config: Config, slot: number, request: string, answers: ReadonlyMap<Subject, Answer>, bed: Bed) {
  const expected = expect(config, config.listeners[slot]!, request, bed.ports, XLB_IP);
  const wrong = new Map<Subject, string>();
  let deliberate: string | undefined;
  const bound = config.listeners.some(({ takesRest }) => takesRest)
    ? expect(config, config.listeners[slot]!, request, bed.ports, XLB_IP, true)
    : expected;
  for (const [subject, answer] of answers) {
    const why = disagreement(request, subject === "slow" ? bound : expected, answer, subject);
    if (why === undefined) continue;
    const meant = subject === "envoy" ? explain(request, expected, answer) : undefined;
    if (meant === undefined) wrong.set(subject, why);
    else deliberate = meant.id;
  }
  return { expected, wrong, deliberate };
}

function add(counts: Map<string, number>, key: string, by = 1): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}

/** Clusters enough for whatever of these is moved to this place. */
function mostPlaces(specs: readonly Spec[], slot: number): Spec {
  const clusters = specs.flatMap(({ clusters }) => clusters);
  return inSlot({ manager: {}, routes: { virtual_hosts: [] }, clusters }, slot);
}

// ---- shrinking ----

const MAX_ROUNDS = 25;

/** The smallest sample that one kind of answer still differs for, by taking away one thing after another. */
async function shrink(bed: Bed, difference: Difference): Promise<Difference> {
  const subjects = [...difference.wrong.keys()];
  let best = difference;
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const better = await firstThatShows(bed, best, subjects);
    if (better === undefined) break;
    best = better;
  }
  const { sample } = best;
  return (await tryAll(bed, [sample], bed.subjects, best.index)).at(0) ?? best;
}

async function firstThatShows(
  bed: Bed,
  best: Difference,
  subjects: readonly Subject[],
): Promise<Difference | undefined> {
  const samples = smaller(best.sample).filter(({ spec }) => isTaken(spec, bed.ports));
  const some = best.sample.spec.front?.rest ? 1 : PER_START;
  for (let at = 0; at < samples.length; at += some) {
    const shown = await tryAll(bed, samples.slice(at, at + some), subjects, best.index);
    const same = shown.find((each) => answerOf(each) === answerOf(best));
    if (same !== undefined) return same;
  }
  return undefined;
}

/** With less a configuration may be one that XLB refuses: two filter chains for the same connections, say. */
function isTaken(spec: Spec, ports: Ports): boolean {
  try {
    return readConfig([inSlot(spec, 0)], XLB_IP, ports) !== undefined;
  } catch {
    return false;
  }
}

/** What is answered wrongly, whatever would be right: that may change when a configuration shrinks. */
const answerOf = (difference: Difference) => kindOf(difference).split(", not ", 1)[0];

/** Those of the samples that show a difference. */
async function tryAll(
  bed: Bed,
  samples: readonly Sample[],
  subjects: readonly Subject[],
  index: number,
): Promise<Difference[]> {
  const specs = samples.map(({ spec }, slot) => inSlot(spec, slot));
  const requests = samples.map(({ request }) => [request]);
  const config = readConfig(specs, XLB_IP, bed.ports);
  const answers = new Map<Subject, Answer[][]>();
  for (const subject of subjects) answers.set(subject, await bed.ask(subject, { specs, requests }));
  return samples.flatMap(({ request }, slot) => {
    const mine = new Map([...answers].map(([subject, all]) => [subject, all[slot]![0]!] as const));
    const judged = judge(config, slot, request, mine, bed);
    return judged.wrong.size === 0
      ? []
      : [{ index, sample: { spec: specs[slot]!, request }, answers: mine, ...judged }];
  });
}

// ---- the report ----

async function report(bed: Bed, tally: Tally, options: Options): Promise<boolean> {
  const out = (text: string) => process.stdout.write(`${text}\n`);
  const served = bed.subjects.includes("kernel") ? [formatServed(bed)] : [];
  /* One of each kind first: a hundred times the same says no more than once. */
  const kinds = new Map<string, Difference[]>();
  for (const each of tally.unexplained) {
    const kind = kindOf(each);
    kinds.set(kind, [...(kinds.get(kind) ?? []), each]);
  }
  let shown = 0;
  for (const [kind, [first]] of [...kinds].slice(0, options.show)) {
    const small =
      shown < options.shrink
        ? await shrink(bed, first!).catch((error: Error) => {
            process.stderr.write(`not shrunk: ${error.message.slice(0, 300)}\n`);
            return first!;
          })
        : first!;
    out(`\n${kinds.get(kind)!.length} like this: ${kind}`);
    out(format(small, options));
    if (options.save !== undefined) save(options.save, small, options.seed, shown);
    shown++;
  }
  if (kinds.size > shown) out(`\n${kinds.size - shown} more kinds are not shown (--show)`);
  out("");
  for (const [outcome, count] of [...tally.outcomes].sort(([, a], [, b]) => b - a))
    out(`expected ${outcome}: ${count}`);
  for (const [id, count] of [...tally.explained].sort()) out(`explained ${id}: ${count}`);
  for (const line of served) out(line);
  out(`${tally.compared} compared, ${tally.unexplained.length} unexplained`);
  return tally.unexplained.length === 0 && tally.compared > 0;
}

/** What does not depend on names and addresses. */
function kindOf({ wrong }: Difference): string {
  const plain = (why: string) =>
    why
      .replace(/200 from c[\d-]+ \([\d.]+\)( or 200 from c[\d-]+ \([\d.]+\))*/g, "200")
      .replace(/"(?:[^"\\]|\\.)*"/g, '"…"');
  return [...wrong].map(([subject, why]) => `${subject}: ${plain(why).slice(0, 200)}`).join("; ");
}

function format({ index, sample, expected, answers, wrong }: Difference, { seed, actions, own }: Options): string {
  const about = `${actions === "" ? "" : ` ACTIONS=${actions}`}${own ? " OWN=1" : ""}`;
  const lines = [`  again      make envoy-diff SEED=${seed} ONLY=${index}${about}`];
  lines.push(`  request    ${short(JSON.stringify(sample.request))}`);
  const by = expected.by === undefined ? "" : ` (${expected.by})`;
  lines.push(`  reference  ${expected.outcomes.map(formatOutcome).join(" or ")}${by}`);
  for (const [subject, answer] of answers) {
    const got = (answer.burst ?? [answer]).map(formatAnswer).join(" and ");
    lines.push(`  ${subject.padEnd(9)}  ${got}${wrong.has(subject) ? `   ← ${wrong.get(subject)}` : ""}`);
  }
  lines.push(`  config     ${JSON.stringify(sample.spec)}`);
  return lines.join("\n");
}

const formatAnswer = (answer: Answer) =>
  answer.error === undefined ? formatOutcome(outcomeOf(answer)) : `no answer: ${answer.error}`;

const short = (text: string) => (text.length < 1_500 ? text : `${text.slice(0, 700)} … ${text.slice(-700)}`);

function save(directory: string, difference: Difference, seed: number, number: number): void {
  const { index, sample, expected, answers, wrong } = difference;
  const envoy = answers.get("envoy");
  if (envoy === undefined) return;
  const about = [...wrong].map(([subject, why]) => `${subject}: ${why}`).join("; ");
  const { spec, request } = sample;
  const answer = kept(envoy, expected.own ?? false);
  saveCases(`seed-${seed}-${index}-${number}.json`, [{ about, request, envoy: answer, spec }], directory);
}

function formatServed({ served }: Bed): string {
  const { kernel, slow, reasons } = served;
  const words = [...reasons]
    .filter(([reason, count]) => count > 0 && !/^(response|request_body|same_host|cross_host)/.test(reason))
    .sort(([, a], [, b]) => b - a)
    .map(([reason, count]) => `${reason} ${count}`);
  return `kernel path: ${kernel} requests by the kernel, ${slow} by the slow path: ${words.join(", ")}`;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seed: { type: "string", default: "1" },
      actions: { type: "string", default: "" },
      own: { type: "boolean", default: false },
      configs: { type: "string", default: "200" },
      requests: { type: "string", default: "500" },
      only: { type: "string" },
      show: { type: "string", default: "10" },
      shrink: { type: "string", default: "3" },
      save: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const indexes = values.only ? [Number(values.only)] : Array.from({ length: Number(values.configs) }, (_, i) => i);
  await inScope(async (scope) => {
    const equal = await compareAll(scope, {
      seed: Number(values.seed),
      actions: values.actions,
      own: values.own,
      indexes,
      requests: Number(values.requests),
      show: Number(values.show),
      shrink: Number(values.shrink),
      save: values.save,
    });
    if (!equal) process.exitCode = 1;
  });
}

if (process.argv[1] === import.meta.filename) {
  main().catch((error: Error) => {
    process.stderr.write(`envoy-diff: ${error.stack ?? error.message}\n`);
    process.exitCode = 1;
  });
}
