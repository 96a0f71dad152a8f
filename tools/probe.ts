import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { explainConfig } from "../src/daemon/explain.ts";
import { descriptors, messageNamed } from "../src/envoy/descriptors.ts";
import { parseBootstrap } from "../src/envoy/parse.ts";
import { mustHave } from "../src/envoy/rules.ts";
import { SAMPLES, SETTINGS, START } from "./samples.ts";

/**
 * What becomes of each of Envoy's fields, found out by trying: each is written into a configuration by itself, with
 * values made from its type, and what the reader and the compiler say of that is the answer. So nothing here can be
 * older than they are.
 */

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/**
 * `kernel`: the kernel path goes on serving. `slow`: what it belongs to takes the slow path, and why. `none`: accepted,
 * and nothing is different for it. `refused`: the configuration is.
 */
export type Fate =
  | { readonly kind: "kernel" | "none" | "refused" }
  | { readonly kind: "slow"; readonly why: string | undefined };

export interface Row {
  readonly field: string;
  /** What becomes of which values; of an enum, a boolean and what an Any holds they are named. */
  readonly fates: readonly { readonly fate: Fate; readonly values: readonly string[] }[];
  /** Where only some values are taken: what the reader says of another. */
  readonly mend: string | undefined;
}

export interface Section {
  readonly desc: DescMessage;
  /** The field that leads here, as `Message.field`; a message may mean different things in different places. */
  readonly owner: string;
  readonly rows: readonly Row[];
}

type Path = readonly (string | number)[];

/** A message in a configuration, whose fields are tried. */
interface Spot {
  /** The field that leads here, as `Message.field`. */
  readonly owner: string;
  readonly context: Json;
  readonly path: Path;
  /** Why all of it takes the slow path, if so. */
  readonly around: string | undefined;
  /** The same place in other configurations, for fields that have no place in this one. */
  readonly others: readonly Setting[];
}

type Setting = Pick<Spot, "context" | "around">;

/**
 * Every message that a bootstrap may hold, from the bootstrap on, as deep as anything is taken. Throws an Error with
 * every field of which no value is good.
 */
export function probe(): Section[] {
  const run = new Probe();
  const start = { owner: "", context: START, path: [], around: undefined, others: [] };
  run.visit(messageNamed("envoy.config.bootstrap.v3.Bootstrap"), start);
  if (run.problems.length > 0)
    throw new Error(`no value of these is good, write one into tools/samples.ts:\n${run.problems.join("\n")}`);
  return run.found;
}

interface Trial {
  readonly value: Json;
  readonly whole: Json;
  readonly verdict: Verdict;
}

type Taken = Trial & { readonly verdict: Verdict & { kind: "ok" } };

class Probe {
  readonly found: Section[] = [];
  readonly problems: string[] = [];
  /** Whether what a field leads to has an effect there. */
  readonly #seen = new Map<string, boolean>();

  /** Fills in the sections of a message and of all below it; whether any field of it has an effect. */
  visit(desc: DescMessage, spot: Spot): boolean {
    const rows: Row[] = [];
    const at = this.found.push({ desc, owner: spot.owner, rows }) - 1;
    const others = [...spot.others, ...settingsOf(desc, spot)];
    for (const field of desc.fields) rows.push(this.#try(field, { ...spot, others }));
    const kinds = new Set(rows.flatMap(({ fates }) => fates.map(({ fate }) => fate.kind)));
    // What nothing looks into at all needs no table.
    if (!kinds.has("kernel") && !kinds.has("slow") && !kinds.has("refused")) this.found.splice(at, 1);
    return kinds.has("kernel") || kinds.has("slow");
  }

  /** What becomes of a field where the most does; of one whose values are named, of each where the most does. */
  #try(field: DescField, spot: Spot): Row {
    const known = this.problems.length;
    let best = this.#tryIn(field, spot);
    for (const setting of spot.others) {
      if (!isListed(field) && rankOf(best) < RANKS.none) break;
      const row = this.#tryIn(field, { ...spot, ...setting });
      best = isListed(field) ? joined(best, row) : rankOf(row) < rankOf(best) ? row : best;
    }
    /* Where it has a place somewhere, it needs no value that is good elsewhere. */
    if (rankOf(best) < RANKS.refused) this.problems.length = known;
    return best;
  }

  #tryIn(field: DescField, spot: Spot): Row {
    const { context, path, around } = spot;
    const name = nameOf(field);
    const bare = judge(withField(context, path, field, undefined));
    const written = at(context, [...path, field.name]);
    const values = [...(written === undefined ? [] : [written]), ...valuesOf(field, 0)];
    const trials: Trial[] = [];
    for (const value of values) {
      const whole = beside(withField(context, path, field, value), path, name);
      const verdict = judge(whole);
      if (verdict.kind === "rejected" && isOutright(verdict, path, field)) return refusedRow(field);
      if (verdict.kind === "ok" && isIdle(verdict, path, field)) return rowAlone(field, { kind: "none" });
      trials.push({ value, whole, verdict });
    }
    const taken = trials.filter((trial): trial is Taken => trial.verdict.kind === "ok");
    const unsupported = trials.filter(({ verdict }) => verdict.kind === "rejected" && verdict.unsupported);
    if (taken.length === 0) {
      if (unsupported.length < trials.length || trials.length === 0) {
        const said = trials.map(({ value, verdict }) => `  ${JSON.stringify(value)}: ${JSON.stringify(verdict)}\n`);
        this.problems.push(`${name}:\n${said.join("")}`);
      }
      return refusedRow(field);
    }
    const models = new Set(taken.map(({ verdict }) => verdict.model));
    /* Where it must be written and one value alone is good, it says something: a name of a cluster is one. */
    const different = new Set(taken.map(({ value }) => JSON.stringify(value)));
    const alone = bare.kind === "rejected" && different.size === 1 && taken.length + unsupported.length < trials.length;
    const inner = this.#descend(field, spot, taken);
    const effect = inner || models.size > 1 || alone || (bare.kind === "ok" && !models.has(bare.model));
    const fateOf = ({ why }: { why: string | undefined }): Fate => {
      if (!effect) return { kind: "none" };
      return why === undefined ? { kind: "kernel" } : { kind: "slow", why: why === around ? undefined : why };
    };
    return rowOf(
      field,
      taken.map(({ value, verdict }) => [fateOf(verdict), wordOf(field, value)]),
      unsupported,
    );
  }

  /** Into what a field holds, once for each field that leads there; whether anything in it has an effect. */
  #descend(field: DescField, { owner, path, around, others }: Spot, taken: readonly Taken[]): boolean {
    if (!isMessage(field)) return false;
    const name = nameOf(field);
    let effect = false;
    const ways = taken.toSorted((a, b) => Number(a.verdict.why !== undefined) - Number(b.verdict.why !== undefined));
    for (const { value, whole, verdict } of ways) {
      const here = [...path, field.name, ...firstOf(field, value)];
      const type = isAny(field) ? String(at(whole, [...here, "@type"])).split("/")[1] : field.message!.typeName;
      if (type === undefined || WELL_KNOWN.has(type)) continue;
      const key = `${owner} ${name} ${type}`;
      if (!this.#seen.has(key)) {
        /* Should it hold itself. */
        this.#seen.set(key, false);
        const elsewhere = others.flatMap(({ context }) => settingOf(withField(context, path, field, value)));
        const spot = { owner: name, context: whole, path: here, around: verdict.why ?? around, others: elsewhere };
        this.#seen.set(key, this.visit(messageNamed(type), spot));
      }
      effect ||= this.#seen.get(key) === true;
    }
    return effect;
  }
}

/** What else may stand around a message, so that more of its fields have a place. */
function settingsOf(desc: DescMessage, { context, path }: Spot): Setting[] {
  return (SETTINGS[shortName(desc)] ?? []).flatMap((fields) => settingOf(withFields(context, path, fields)));
}

/** Nothing where there can be no such configuration. */
function settingOf(context: Json): Setting[] {
  const verdict = judge(context);
  return verdict.kind === "ok" ? [{ context, around: verdict.why }] : [];
}

/** The less, the more comes of a field. */
export const RANKS = { kernel: 0, slow: 1, none: 2, refused: 3 } as const;

const rankOf = ({ fates }: Row): number => Math.min(...fates.map(({ fate }) => RANKS[fate.kind]));

/** Of two rows about the same values that of each of which more comes. */
function joined(one: Row, other: Row): Row {
  const named = (row: Row) => row.fates.flatMap(({ fate, values }) => values.map((value) => [value, fate] as const));
  if (named(other).length === 0) return one;
  if (named(one).length === 0) return other;
  const best = new Map(named(one));
  for (const [value, fate] of named(other)) {
    const known = best.get(value);
    if (known === undefined || RANKS[fate.kind] < RANKS[known.kind]) best.set(value, fate);
  }
  const fates = new Map<string, { fate: Fate; values: string[] }>();
  for (const [value, fate] of best) {
    const key = JSON.stringify(fate);
    fates.set(key, { fate, values: [...(fates.get(key)?.values ?? []), value] });
  }
  return { ...one, fates: [...fates.values()] };
}

/** `fates` has what became of each value that was taken. */
function rowOf(field: DescField, fates: readonly (readonly [Fate, string])[], unsupported: readonly Trial[]): Row {
  const listed = isListed(field);
  const groups = new Map<string, { fate: Fate; values: Set<string> }>();
  for (const [fate, value] of [
    ...fates,
    ...(listed ? unsupported : []).map(({ value }) => [{ kind: "refused" } as Fate, wordOf(field, value)] as const),
  ]) {
    const key = JSON.stringify(fate);
    const group = groups.get(key) ?? { fate, values: new Set() };
    groups.set(key, group);
    group.values.add(value);
  }
  const grouped = [...groups.values()].map(({ fate, values }) => ({ fate, values: listed ? [...values] : [] }));
  if (listed) return { field: field.name, fates: grouped, mend: undefined };
  if (!isMessage(field) || isScalar(field)) return { field: field.name, fates: grouped, mend: mendOf(unsupported) };
  /* What a message holds is told of its own fields. */
  const best = grouped.find(({ fate }) => fate.kind === "kernel") ?? grouped[0]!;
  return { field: field.name, fates: [best], mend: undefined };
}

// ---- what the reader and the compiler say ----

type Verdict =
  | { readonly kind: "ok"; readonly model: string; readonly why: string | undefined; readonly idle: readonly string[] }
  | {
      readonly kind: "rejected";
      readonly unsupported: boolean;
      readonly said: readonly { path: string; text: string }[];
    };

const UNSUPPORTED = /is not supported yet$/;

function judge(whole: Json): Verdict {
  const parsed = parseBootstrap(JSON.stringify(whole));
  if (parsed.ok) {
    const [why] = explainConfig(parsed.value.config).filter((line) => line.includes("needs the slow path"));
    return {
      kind: "ok",
      model: JSON.stringify(parsed.value.config),
      idle: parsed.idle ?? [],
      why: why?.replace(/^.*needs the slow path: (route \S+: )?/, ""),
    };
  }
  const said = parsed.rejections.map(({ path, message, mend }) => ({
    path,
    text: mend === undefined ? message : `${message} (${mend})`,
  }));
  return { kind: "rejected", unsupported: parsed.rejections.every(({ message }) => UNSUPPORTED.test(message)), said };
}

/** Whether a field is refused whatever it holds. */
function isOutright(verdict: Verdict & { kind: "rejected" }, path: Path, field: DescField): boolean {
  const own = pathText([...path, field.name]);
  return verdict.said.some(({ path, text }) => path === own && text === "is not supported yet (remove it)");
}

/** Whether a field is taken and nothing comes of it, whatever it holds. */
function isIdle({ idle }: Verdict & { kind: "ok" }, path: Path, field: DescField): boolean {
  const own = pathText([...path, field.name]);
  return idle.some((line) => line.startsWith(`${own} has no effect`));
}

const rowAlone = (field: DescField, fate: Fate): Row => ({
  field: field.name,
  fates: [{ fate, values: [] }],
  mend: undefined,
});

const refusedRow = (field: DescField): Row => rowAlone(field, { kind: "refused" });

function mendOf(trials: readonly Trial[]): string | undefined {
  for (const { verdict } of trials) {
    const text = verdict.kind === "rejected" ? verdict.said[0]?.text : undefined;
    const mend = /\((.*)\)$/.exec(text ?? "")?.[1];
    if (mend !== undefined) return mend;
  }
  return undefined;
}

// ---- values ----

const STRINGS = ["x", "/x", "x-y", "websocket", "127.0.0.1"];
const NUMBERS = [1, 2, 3, 100, 140, 200, 503, 1_024, 4_294_967_295];
const WRAPPED = /^google\.protobuf\.(Bool|Bytes|Double|Float|String|U?Int(?:32|64))Value$/;
const PLAIN: { readonly [typeName: string]: readonly Json[] } = {
  "google.protobuf.Duration": ["1s", "0.5s", "0s"],
  "google.protobuf.Struct": [{}],
  "google.protobuf.Value": ["x"],
  "google.protobuf.ListValue": [[]],
  "google.protobuf.Timestamp": ["2025-01-01T00:00:00Z"],
  "google.protobuf.FieldMask": ["x"],
};
const WELL_KNOWN: ReadonlySet<string> = new Set([
  ...Object.keys(PLAIN),
  "google.protobuf.Any",
  ...["Bool", "Bytes", "Double", "Float", "String", "Int32", "Int64", "UInt32", "UInt64"].map(
    (name) => `google.protobuf.${name}Value`,
  ),
]);
/** Messages hold messages, some of them themselves. */
const MAX_DEPTH = 4;

/** Values that a field might take, likely ones first; a list has one element. */
function valuesOf(field: DescField, depth: number): Json[] {
  const sample = SAMPLES[nameOf(field)];
  if (sample?.values !== undefined) return [...sample.values];
  switch (field.fieldKind) {
    case "scalar":
      return scalars(field.scalar);
    case "enum":
      return field.enum.values.map(({ name }) => name);
    case "message":
      return messages(field.message, depth);
    case "list":
      return elements(field, depth).map((value) => [value]);
    case "map":
      return elements(field, depth).map((value) => ({ [String(at(value, ["@type"]) ?? "x/x").split("/")[1]!]: value }));
    default:
      return field satisfies never;
  }
}

function elements(field: DescField & { fieldKind: "list" | "map" }, depth: number): Json[] {
  if (field.message !== undefined) return messages(field.message, depth);
  return field.enum === undefined ? scalars(field.scalar!) : field.enum.values.map(({ name }) => name);
}

function scalars(type: ScalarType): Json[] {
  switch (type) {
    case ScalarType.BOOL:
      return [true, false];
    case ScalarType.STRING:
      return [...STRINGS];
    case ScalarType.BYTES:
      return ["eA==", "eXk="];
    default:
      return [...NUMBERS];
  }
}

function messages(desc: DescMessage, depth: number): Json[] {
  const wrapped = WRAPPED.exec(desc.typeName);
  if (wrapped !== null) return scalars(desc.fields[0]!.scalar!);
  const plain = PLAIN[desc.typeName];
  if (plain !== undefined) return [...plain];
  if (desc.typeName === "google.protobuf.Any") return extensions().flatMap((type) => packed(type, depth));
  if (depth > MAX_DEPTH) return [];
  const { fields, oneofs } = mustHave(desc);
  const sample = SAMPLES[shortName(desc)]?.values;
  if (sample !== undefined) return [...sample];
  let made: { readonly [key: string]: Json }[] = [{}];
  for (const field of fields) {
    /* Of an extension any may be the one that is taken. */
    const values = valuesOf(field, depth + 1).slice(0, isAny(field) ? undefined : 1);
    if (values.length > 0)
      made = made.flatMap((message) => values.map((value) => ({ ...message, [field.name]: value })));
  }
  for (const oneof of oneofs) {
    made = made.flatMap((message) =>
      oneof.fields.flatMap((field) =>
        valuesOf(field, depth + 1)
          .slice(0, 1)
          .map((value) => ({ ...message, [field.name]: value })),
      ),
    );
  }
  return made;
}

/** What an Any may hold: the messages by which Envoy's extensions are configured. */
function extensions(): DescMessage[] {
  const all = [...descriptors()].flatMap((type) => (type.kind === "message" ? [type] : []));
  return all.filter(({ typeName, parent }) => typeName.startsWith("envoy.extensions.") && parent === undefined);
}

function packed(desc: DescMessage, depth: number): Json[] {
  return messages(desc, depth + 1).map((value) => ({
    "@type": `type.googleapis.com/${desc.typeName}`,
    ...(value as object),
  }));
}

// ---- JSON by path ----

function at(json: Json | undefined, path: Path): Json | undefined {
  let here = json as { readonly [step: string | number]: Json } | undefined;
  for (const step of path) {
    if (typeof here !== "object" || here === null) return undefined;
    here = here[step] as typeof here;
  }
  return here as Json | undefined;
}

/** The same with another value in one place; undefined takes it away. */
function put(json: Json | undefined, [step, ...rest]: Path, value: Json | undefined): Json {
  if (step === undefined) return value ?? null;
  if (typeof step === "number") {
    const list = Array.isArray(json) ? [...(json as Json[])] : [];
    list[step] = put(list[step], rest, value);
    return list;
  }
  const { [step]: old, ...others } = (json ?? {}) as { [key: string]: Json };
  if (rest.length === 0 && value === undefined) return others;
  return { ...others, [step]: put(old, rest, value) };
}

/** A field has this value, and no other of its group has one. */
function withField(context: Json, path: Path, field: DescField, value: Json | undefined): Json {
  const others = (field.oneof?.fields ?? []).filter(({ name }) => name !== field.name);
  const alone = others.reduce((json, { name }) => put(json, [...path, name], undefined), context);
  return put(alone, [...path, field.name], value);
}

/** With what a field needs beside it, or above. */
function beside(whole: Json, path: Path, name: string): Json {
  return withFields(whole, path, SAMPLES[name]?.beside ?? {});
}

/** With these fields in a message, null: without it; each `../` leads to what holds the message. */
function withFields(whole: Json, path: Path, fields: { readonly [field: string]: Json }): Json {
  return Object.entries(fields).reduce((json, [key, value]) => {
    const steps = key.split("../");
    return put(json, [...path.slice(0, path.length - steps.length + 1), steps.at(-1)!], value ?? undefined);
  }, whole);
}

/** From a field to the one element of its list or map. */
function firstOf(field: DescField, value: Json): Path {
  if (field.fieldKind === "list") return [0];
  return field.fieldKind === "map" ? [Object.keys(value as object)[0]!] : [];
}

/** As rejections write it. */
function pathText(path: Path): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === "number") return `${text}[${step}]`;
    if (/\W/.test(step)) return `${text}[${JSON.stringify(step)}]`;
    return text === "" ? step : `${text}.${step}`;
  }, "");
}

// ---- fields ----

export const shortName = ({ typeName }: DescMessage): string => typeName.replace(/^.*?\.v\d+\w*\./, "");

const nameOf = (field: DescField) => `${shortName(field.parent)}.${field.name}`;
const isMessage = (field: DescField) => field.message !== undefined && field.message !== null;
/** A wrapper, a duration and the like. */
const isScalar = (field: DescField) => WELL_KNOWN.has(field.message?.typeName ?? "");
const isAny = (field: DescField) => field.message?.typeName === "google.protobuf.Any";

/** Whether its values are few enough to be told one by one. */
function isListed(field: DescField): boolean {
  const scalar = field.fieldKind === "scalar" ? field.scalar : undefined;
  const isBoolean = scalar === ScalarType.BOOL || field.message?.typeName === "google.protobuf.BoolValue";
  return field.enum !== undefined || isBoolean || isAny(field);
}

function wordOf(field: DescField, value: Json): string {
  const inner = at(value, firstOf(field, value));
  return isAny(field) ? String(at(inner, ["@type"])).replace(/^.*\.v\d+\w*\./, "") : String(inner);
}
