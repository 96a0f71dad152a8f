import {
  type DescField,
  type DescMessage,
  type DescOneof,
  getOption,
  isFieldSet,
  type Message as ProtoMessage,
} from "@bufbuild/protobuf";
import { descriptors, messageNamed } from "./descriptors.ts";
import { hasImplicitPresence, type Message, type Place, type Report, type Value } from "./tree.ts";

/**
 * The rules that Envoy's .proto files state about single values, `(validate.rules)` of protoc-gen-validate.
 * Envoy refuses a message that breaks one, and so do we.
 */
export function checkRules(message: Message, report: Report): void {
  const { disabled, fields, oneofs } = rulesOf(message.desc);
  if (!disabled) {
    for (const oneof of oneofs) {
      const members = oneof.fields.map((field) => field.name);
      if (members.some((name) => message.fields.has(name))) continue;
      report.reject(message.place, `needs one of ${members.join(", ")}`);
    }
    for (const [desc, rules] of fields) {
      const field = message.fields.get(desc.name);
      if (field !== undefined) checkValue(field.value, rules, field.value.place, report);
      else checkMissing(desc, rules, message.place.field(desc.name), report);
    }
  }
  for (const { value } of message.fields.values()) descend(value, report);
}

function descend(value: Value, report: Report): void {
  switch (value.kind) {
    case "message":
      checkRules(value, report);
      return;
    case "any":
      if (value.content !== undefined) checkRules(value.content, report);
      return;
    case "list":
      for (const item of value.items) descend(item, report);
      return;
    case "map":
      for (const item of value.entries.values()) descend(item, report);
      return;
  }
}

/** What a message cannot do without: these fields, and one member of each of these groups. */
export function mustHave(desc: DescMessage): { fields: DescField[]; oneofs: readonly DescOneof[] } {
  const { disabled, fields, oneofs } = rulesOf(desc);
  if (disabled) return { fields: [], oneofs: [] };
  const needed = fields.filter(([field, rules]) => missingProblem(field, rules) !== undefined);
  return { fields: needed.map(([field]) => field), oneofs };
}

/** What is set in a message of rules, by name; what is not set is not here. */
type Rules = { readonly [rule: string]: unknown };
interface FieldRules {
  /** `string`, `uint32`, `repeated`, ... */
  readonly type: string | undefined;
  readonly rules: Rules;
  /** Of a message or wrapper: it must be there. */
  readonly required: boolean;
}

function checkMissing(desc: DescField, fieldRules: FieldRules, place: Place, report: Report): void {
  const problem = missingProblem(desc, fieldRules);
  if (problem !== undefined) report.reject(place, problem);
}

function missingProblem(desc: DescField, { type, rules, required }: FieldRules): string | undefined {
  if (desc.oneof !== undefined) return undefined;
  const isList = type === "repeated" || type === "map";
  if (required || (isList && Number(rules.min_items ?? rules.min_pairs ?? 0) > 0)) return "is required";
  // An absent proto3 scalar is its default value, and the rules hold for that.
  if (isList || !hasImplicitPresence(desc)) return undefined;
  const problem = plainProblem(type === "string" || type === "bytes" ? "" : type === "bool" ? false : 0, type, rules);
  return problem === undefined || type === "string" ? problem && "is required" : `is required: it ${problem}`;
}

function checkValue(value: Value, fieldRules: FieldRules, place: Place, report: Report): void {
  const { type, rules } = fieldRules;
  switch (value.kind) {
    case "list": {
      const count = countProblem(value.items.length, rules.min_items, rules.max_items, "item");
      if (count !== undefined) report.reject(place, count);
      if (rules.unique === true) checkUnique(value.items, report);
      const items = nested(rules.items);
      if (items !== undefined) for (const item of value.items) checkValue(item, items, item.place, report);
      return;
    }
    case "map": {
      const count = countProblem(value.entries.size, rules.min_pairs, rules.max_pairs, "entry");
      if (count !== undefined) report.reject(place, count);
      const [keys, values] = [nested(rules.keys), nested(rules.values)];
      for (const [key, item] of value.entries) {
        const problem = keys === undefined ? undefined : plainProblem(key, keys.type, keys.rules);
        if (problem !== undefined) report.reject(item.place, `has a key that ${problem}`);
        if (values !== undefined) checkValue(item, values, item.place, report);
      }
      return;
    }
    case "scalar":
    case "enum": {
      const problem = plainProblem(value.value, type, rules);
      if (problem !== undefined) report.reject(place, problem);
      return;
    }
    case "duration": {
      const problem = rangeProblem(secondsOf(value), mapValues(rules, RANGE_RULES, secondsOf), "s");
      if (problem !== undefined) report.reject(place, problem);
      return;
    }
    case "any": {
      const allowed = (rules.in as string[] | undefined)?.map((url) => url.split("/").pop());
      if (allowed?.includes(value.typeName) === false) report.reject(place, `must be a ${allowed.join(" or a ")}`);
      return;
    }
  }
}

function checkUnique(items: readonly Value[], report: Report): void {
  const seen = new Set<unknown>();
  for (const item of items) {
    if (item.kind !== "scalar" && item.kind !== "enum") continue;
    if (seen.has(item.value)) report.reject(item.place, "is in the list twice");
    seen.add(item.value);
  }
}

function countProblem(count: number, least: unknown, most: unknown, unit: string): string | undefined {
  if (least !== undefined && count < Number(least)) return `needs at least ${least} ${plural(unit, Number(least))}`;
  if (most !== undefined && count > Number(most))
    return `takes at most ${most} ${plural(unit, Number(most))}, not ${count}`;
  return undefined;
}

/** Why a scalar or the number of an enum may not be, if so. */
function plainProblem(value: unknown, type: string | undefined, rules: Rules): string | undefined {
  if (rules.ignore_empty === true && !value) return undefined;
  const plain = typeof value === "bigint" ? Number(value) : value;
  if (rules.const !== undefined && String(rules.const) !== String(plain))
    return `must be ${JSON.stringify(String(rules.const))}`;
  const within = list(rules.in);
  if (within.length > 0 && !within.includes(String(plain))) return `must be one of ${within.join(", ")}`;
  if (list(rules.not_in).includes(String(plain))) return `must not be ${plain}`;
  if (type === "string") return stringProblem(String(plain), rules);
  if (type === "bytes") return undefined;
  return typeof plain === "number" ? rangeProblem(plain, mapValues(rules, RANGE_RULES, Number), "") : undefined;
}

function stringProblem(text: string, rules: Rules): string | undefined {
  const length = [...text].length;
  const bytes = Buffer.byteLength(text);
  if (length === 0 && (Number(rules.min_len ?? 0) > 0 || Number(rules.min_bytes ?? 0) > 0)) return "must not be empty";
  if (rules.len !== undefined && length !== Number(rules.len))
    return `must have ${rules.len} characters, not ${length}`;
  if (length < Number(rules.min_len ?? 0)) return `must have at least ${rules.min_len} characters`;
  if (length > Number(rules.max_len ?? Number.POSITIVE_INFINITY))
    return `must have at most ${rules.max_len} characters`;
  if (bytes < Number(rules.min_bytes ?? 0)) return `must have at least ${rules.min_bytes} bytes`;
  if (bytes > Number(rules.max_bytes ?? Number.POSITIVE_INFINITY)) return `must have at most ${rules.max_bytes} bytes`;
  if (typeof rules.pattern === "string" && !new RegExp(rules.pattern, "u").test(text))
    return `must match ${rules.pattern}`;
  if (typeof rules.prefix === "string" && !text.startsWith(rules.prefix))
    return `must start with ${JSON.stringify(rules.prefix)}`;
  if (typeof rules.suffix === "string" && !text.endsWith(rules.suffix))
    return `must end with ${JSON.stringify(rules.suffix)}`;
  if (typeof rules.contains === "string" && !text.includes(rules.contains))
    return `must contain ${JSON.stringify(rules.contains)}`;
  if (typeof rules.not_contains === "string" && text.includes(rules.not_contains)) {
    return `must not contain ${JSON.stringify(rules.not_contains)}`;
  }
  return headerProblem(text, rules);
}

const HEADER_NAME = 1;

/** `well_known_regex`, as protoc-gen-validate defines it. */
function headerProblem(text: string, { well_known_regex: known, strict = true }: Rules): string | undefined {
  if (known === undefined) return undefined;
  // biome-ignore-start lint/suspicious/noControlCharactersInRegex: control characters are what these forbid
  const loose = /^[^\u0000\u000A\u000D]*$/u;
  const pattern = !strict
    ? loose
    : known === HEADER_NAME
      ? /^:?[0-9a-zA-Z!#$%&'*+\-.^_|~`]+$/u
      : /^[^\u0000-\u0008\u000A-\u001F\u007F]*$/u;
  // biome-ignore-end lint/suspicious/noControlCharactersInRegex: see above
  return pattern.test(text)
    ? undefined
    : `holds a character that an HTTP header ${known === HEADER_NAME ? "name" : "value"} must not`;
}

const RANGE_RULES = ["lt", "lte", "gt", "gte", "const"] as const;
type Range = { readonly [rule in (typeof RANGE_RULES)[number]]?: number };

function rangeProblem(value: number, { lt, lte, gt, gte, const: only }: Range, unit: string): string | undefined {
  if (only !== undefined && value !== only) return `must be ${only}${unit}`;
  const upper = lt ?? lte;
  const lower = gt ?? gte;
  const low = (gt !== undefined && value <= gt) || (gte !== undefined && value < gte);
  const high = (lt !== undefined && value >= lt) || (lte !== undefined && value > lte);
  // With the bounds the wrong way round the rule forbids what lies between them.
  const outside = upper !== undefined && lower !== undefined && upper < lower;
  if (outside ? !(low && high) : !(low || high)) return undefined;
  const bounds = [
    gt !== undefined ? `more than ${gt}${unit}` : gte !== undefined ? `at least ${gte}${unit}` : undefined,
    lt !== undefined ? `less than ${lt}${unit}` : lte !== undefined ? `at most ${lte}${unit}` : undefined,
  ].filter((bound) => bound !== undefined);
  return `must be ${bounds.join(outside ? " or " : " and ")}, not ${value}${unit}`;
}

function secondsOf(value: unknown): number {
  const { seconds, nanos } = value as { seconds: number | bigint; nanos: number };
  return Number(seconds) + nanos / 1e9;
}

interface MessageRules {
  readonly disabled: boolean;
  readonly fields: readonly (readonly [DescField, FieldRules])[];
  /** Those of which one member must be set. */
  readonly oneofs: readonly DescOneof[];
}

const rulesByMessage = new WeakMap<DescMessage, MessageRules>();

function rulesOf(desc: DescMessage): MessageRules {
  let found = rulesByMessage.get(desc);
  if (found === undefined) {
    const fields = desc.fields.flatMap((field) => {
      const rules = field.proto.options && fieldRules(getOption(field, extension("validate.rules")) as ProtoMessage);
      return rules === undefined ? [] : [[field, rules] as const];
    });
    const oneofs = desc.oneofs.filter(
      (oneof) => oneof.proto.options && getOption(oneof, extension("validate.required")) === true,
    );
    const disabled = getOption(desc, extension("validate.disabled")) === true;
    found = { disabled, fields, oneofs };
    rulesByMessage.set(desc, found);
  }
  return found;
}

function extension(name: string) {
  const found = descriptors().getExtension(name);
  if (found === undefined) throw new Error(`no option ${name} in the descriptors`);
  return found;
}

/** A validate.FieldRules as plain data; nothing when it says nothing. */
function fieldRules(message: ProtoMessage): FieldRules | undefined {
  const { type, message: onMessage, ...rest } = setFields(message);
  const [name] = Object.keys(rest);
  const rules = name === undefined ? {} : setFields(rest[name] as ProtoMessage);
  const required =
    (onMessage !== undefined && setFields(onMessage as ProtoMessage).required === true) || rules.required === true;
  return name === undefined && !required ? undefined : { type: name, rules, required };
}

const nested = (rules: unknown) => (rules === undefined ? undefined : fieldRules(rules as ProtoMessage));

function setFields(message: ProtoMessage): Rules {
  const set: { [name: string]: unknown } = {};
  for (const field of messageNamed(message.$typeName).fields) {
    if (!isFieldSet(message, field)) continue;
    const owner = message as unknown as { [name: string]: { case: string; value: unknown } | unknown };
    set[field.name] =
      field.oneof === undefined ? owner[field.localName] : (owner[field.oneof.localName] as { value: unknown }).value;
  }
  return set;
}

function mapValues<Name extends string>(rules: Rules, names: readonly Name[], convert: (rule: unknown) => number) {
  const picked: { [name in Name]?: number } = {};
  for (const name of names) if (rules[name] !== undefined) picked[name] = convert(rules[name]);
  return picked;
}

const list = (rule: unknown) => (Array.isArray(rule) ? rule.map(String) : []);
const plural = (unit: string, count: number) => (count === 1 ? unit : unit === "entry" ? "entries" : `${unit}s`);
