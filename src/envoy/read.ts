import { isUtf8 } from "node:buffer";
import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type Node,
  parseDocument,
  type Scalar,
  type YAMLMap,
} from "yaml";
import type { Metadata } from "../model/metadata.ts";
import { descriptors, enumValue } from "./descriptors.ts";
import { nearest } from "./spelling.ts";
import { type Field, type Message, Place, type Report, Source, type Value } from "./tree.ts";

/** Protobuf's own limit. It also ends an alias that stands inside what it names. */
const MAX_DEPTH = 100;
const MAX_ALIASES = 10_000;

/**
 * YAML or JSON text into a message of the given type. Everything that does not fit the type is reported; `least` is
 * what an empty text lacks.
 */
export function readText(
  written: string | Uint8Array,
  name: string,
  desc: DescMessage,
  report: Report,
  least: string,
): { source: Source; message: Message } {
  const source = new Source(name);
  const text = typeof written === "string" ? written : new TextDecoder().decode(written);
  const document = parseDocument(text, { lineCounter: source.lines, prettyErrors: false, logLevel: "error" });
  const root = new Place(source, 0);
  if (typeof written === "string" || !isUtf8(written)) checkEncoding(text, source, report);
  for (const error of document.errors) {
    report.reject(new Place(source, error.pos[0]), READABLE[error.code] ?? `not valid YAML: ${error.message}`);
  }
  const reader = new Reader(document, root, report, isJson(text, name));
  const empty: Message = { kind: "message", place: root, desc, fields: new Map() };
  if (document.errors.some(({ code }) => READABLE[code] === undefined)) return { source, message: empty };
  if (isNull(document.contents)) {
    report.reject(root, "is empty", `write at least ${least}`);
    return { source, message: empty };
  }
  const value = reader.message(desc, document.contents as Node, root, 0);
  return { source, message: value.kind === "message" ? value : empty };
}

/** Is it JSON to Envoy, which goes by the file's name? There, and in nothing else, 1.5 in metadata is a number. */
const isJson = (text: string, name: string) => /^\s*\{/.test(text) && !/\.ya?ml$|^--config-yaml$/i.test(name);

/** What a decoder puts for bytes that are not UTF-8. */
const REPLACEMENT = "\uFFFD";

/** One report for each line. A text that was decoded already may hold the character itself: that is refused as well. */
function checkEncoding(text: string, source: Source, report: Report): void {
  for (let at = text.indexOf(REPLACEMENT); at !== -1; at = text.indexOf(REPLACEMENT, at)) {
    report.reject(new Place(source, at), "bytes that are not UTF-8", "save the file as UTF-8");
    const end = text.indexOf("\n", at);
    if (end === -1) return;
    at = end;
  }
}

/** Errors after which the rest of a text can still be read, and is, to tell all of its problems at once. */
const READABLE: { readonly [code: string]: string } = {
  MULTIPLE_DOCS: "a configuration is one YAML document, and another one starts here",
  DUPLICATE_KEY: "this key was given before in the same mapping",
};

class Reader {
  readonly #document: Document;
  readonly #root: Place;
  readonly #report: Report;
  /** Where keys start that YAML itself has reported. */
  readonly #repeated: ReadonlySet<number>;
  readonly #isJson: boolean;
  #aliases = 0;

  constructor(document: Document, root: Place, report: Report, isJson: boolean) {
    this.#document = document;
    this.#isJson = isJson;
    this.#root = root;
    this.#report = report;
    this.#repeated = new Set(document.errors.map((error) => error.pos[0]));
  }

  message(desc: DescMessage, written: Node, place: Place, depth: number): Value {
    if (depth > MAX_DEPTH) return this.#broken(place, `is nested deeper than ${MAX_DEPTH} levels`);
    const node = this.#resolve(written);
    const wellKnown = WELL_KNOWN[desc.typeName];
    if (wellKnown !== undefined) return this.#wellKnown(wellKnown, desc, node, place, depth);
    if (!isMap(node))
      return this.#broken(place, `must be a mapping with the fields of ${desc.name}, not ${describe(node)}`);
    return this.#fields(desc, node, place, depth);
  }

  #fields(desc: DescMessage, node: YAMLMap, place: Place, depth: number, skip?: string): Message {
    const fields = new Map<string, Field>();
    const names = fieldNames(desc);
    for (const { key: keyNode, value: valueNode } of node.items as { key: Scalar; value: Node | null }[]) {
      const key = isScalar(keyNode) ? String(keyNode.value) : describe(keyNode);
      // Envoy skips such entries: they only hold anchors.
      if (key === skip || (keyNode as Scalar).tag === "!ignore") continue;
      const keyPlace = place.field(key, startOf(keyNode, place));
      if (this.#repeated.has(keyPlace.offset)) continue;
      const field = names.get(key);
      if (field === undefined) {
        this.#report.reject(keyPlace, `${desc.name} has no such field`, suggestField(key, desc));
        continue;
      }
      if (isNull(this.#resolve(valueNode))) continue;
      if (fields.has(field.name)) {
        this.#report.reject(
          keyPlace,
          `is the same field as ${field.name}, which was given before`,
          "keep one of the two",
        );
        continue;
      }
      const value = this.#value(field, valueNode!, place.field(key, startOf(valueNode, keyPlace)), depth + 1);
      const other = field.oneof?.fields.find((member) => fields.has(member.name));
      if (other === undefined) fields.set(field.name, { desc: field, place: keyPlace, value });
      else this.#report.reject(keyPlace, `cannot stand beside ${other.name}`, "keep one of the two");
    }
    return { kind: "message", place, desc, fields };
  }

  #value(field: DescField, written: Node, place: Place, depth: number): Value {
    switch (field.fieldKind) {
      case "scalar":
        return this.#scalar(field.scalar, this.#resolve(written), place);
      case "enum":
        return this.#enum(field.enum, this.#resolve(written), place);
      case "message":
        return this.message(field.message, written, place, depth);
      case "list": {
        const node = this.#resolve(written);
        if (!isSeq(node))
          return this.#broken(place, `must be a list, not ${describe(node)}`, "write it as [ ... ] or with dashes");
        const items = (node.items as Node[]).map((item, i) =>
          this.#element(field, item, place.item(i, startOf(item, place)), depth),
        );
        return { kind: "list", place, items };
      }
      case "map": {
        const node = this.#resolve(written);
        if (!isMap(node)) return this.#broken(place, `must be a mapping, not ${describe(node)}`);
        const entries = new Map<string, Value>();
        for (const { key, value } of node.items as { key: Scalar; value: Node | null }[]) {
          const name = String(key.value);
          entries.set(name, this.#element(field, value, place.key(name, startOf(value ?? key, place)), depth));
        }
        return { kind: "map", place, entries };
      }
      default:
        return field satisfies never;
    }
  }

  #element(field: DescField & { fieldKind: "list" | "map" }, written: Node | null, place: Place, depth: number): Value {
    const kind = field.fieldKind === "list" ? field.listKind : field.mapKind;
    const node = this.#resolve(written);
    if (
      node === null ||
      (isNull(node) && !(kind === "message" && field.message?.typeName === "google.protobuf.Value"))
    ) {
      return this.#broken(place, "must not be null");
    }
    if (kind === "message") return this.message(field.message!, node, place, depth + 1);
    return kind === "enum" ? this.#enum(field.enum!, node, place) : this.#scalar(field.scalar!, node, place);
  }

  #scalar(type: ScalarType, node: Node | null, place: Place): Value {
    const value = isScalar(node) ? scalarValue(type, node) : undefined;
    if (typeof value === "string" && HALF_PAIR.test(value))
      return this.#broken(place, "holds half of a surrogate pair, which is no character", "write both halves");
    if (value !== undefined) return { kind: "scalar", place, value };
    const unquoted =
      type === ScalarType.STRING && isScalar(node)
        ? 'put it in "quotes": without, YAML takes it for something else'
        : undefined;
    const octal =
      isScalar(node) && AMBIGUOUS_NUMBER.test(node.source ?? "") ? "write it without the leading zero" : undefined;
    return this.#broken(place, `must be ${SCALARS[type]}, not ${describe(node)}`, unquoted ?? octal);
  }

  #enum(desc: DescEnum, node: Node | null, place: Place): Value {
    const written = isScalar(node) ? node.value : undefined;
    const value =
      typeof written === "string" && !/^-?\d+$/.test(written)
        ? enumValue(desc, written)
        : wholeNumber(written, -(2 ** 31), 2 ** 31 - 1);
    // An unknown number is refused here, which is what (validate.rules).enum.defined_only asks for.
    if (value !== undefined && desc.value[value] !== undefined) return { kind: "enum", place, desc, value };
    const names = desc.values.map((value) => value.name);
    const near = typeof written === "string" ? nearest(written, names) : undefined;
    const mend = near === undefined ? `one of ${names.join(", ")}` : `did you mean ${near}?`;
    return this.#broken(place, `${describe(node)} is no value of ${desc.name}`, mend);
  }

  #wellKnown(kind: WellKnown, desc: DescMessage, node: Node | null, place: Place, depth: number): Value {
    switch (kind) {
      case "wrapper":
        return this.#scalar(desc.fields[0]!.scalar!, node, place);
      case "duration":
        return this.#duration(node, place);
      case "any":
        return this.#any(node, place, depth);
      case "struct":
        return isMap(node)
          ? this.#struct(node, place, depth)
          : this.#broken(place, `must be a mapping, not ${describe(node)}`);
      case "text":
        return isScalar(node) && typeof node.value === "string"
          ? { kind: "opaque", place }
          : this.#broken(place, `must be a string, not ${describe(node)}`);
      case "anything":
        return { kind: "opaque", place };
      default:
        return kind satisfies never;
    }
  }

  #struct(node: YAMLMap, place: Place, depth: number): Value {
    const data = this.#data(node, depth) as Metadata | undefined;
    return data === undefined
      ? this.#broken(place, `is nested deeper than ${MAX_DEPTH} levels`)
      : { kind: "struct", place, data };
  }

  /** What may be anything, as plain data; undefined: it is too deep, as is an alias within what it names. */
  #data(written: Node | null, depth: number): unknown {
    const node = this.#resolve(written);
    if (depth > MAX_DEPTH) return undefined;
    if (isSeq(node)) {
      const items = (node.items as Node[]).map((item) => this.#data(item, depth + 1));
      return items.includes(undefined) ? undefined : items;
    }
    if (!isMap(node)) return isScalar(node) ? (this.#isJson ? node.value : yamlData(node)) : null;
    const entries = (node.items as { key: Node; value: Node | null }[]).map(({ key, value }) => {
      const name = this.#resolve(key);
      return [isScalar(name) ? keyText(name) : describe(name), this.#data(value, depth + 1)] as const;
    });
    return entries.some(([, value]) => value === undefined) ? undefined : Object.fromEntries(entries);
  }

  #duration(node: Node | null, place: Place): Value {
    const text = isScalar(node) && typeof node.value === "string" ? node.value : "";
    const [, sign, whole, part] = /^(-?)(\d{1,12})(?:\.(\d{1,9}))?s$/.exec(text) ?? [];
    const seconds = Number(whole);
    if (whole === undefined || seconds > MAX_DURATION_S) {
      const mend = "write seconds and an s, such as 5s or 0.25s";
      return this.#broken(place, `must be a duration, not ${describe(node)}`, mend);
    }
    const nanos = Number((part ?? "").padEnd(9, "0"));
    const factor = sign === "-" ? -1 : 1;
    return { kind: "duration", place, seconds: seconds * factor, nanos: nanos * factor };
  }

  #any(node: Node | null, place: Place, depth: number): Value {
    if (!isMap(node)) return this.#broken(place, `must be a mapping with "@type", not ${describe(node)}`);
    const url = node.get("@type");
    const [, typeName] = typeof url === "string" ? (/^[^/]*\/([\w.]+)$/.exec(url) ?? []) : [];
    if (typeName === undefined) {
      const message = url === undefined ? 'lacks "@type"' : `"@type" ${JSON.stringify(url)} is not a type URL`;
      return this.#broken(place, message, "write it as type.googleapis.com/<message name>");
    }
    const desc = descriptors().getMessage(typeName);
    const known = desc !== undefined && WELL_KNOWN[typeName] === undefined;
    return {
      kind: "any",
      place,
      typeName,
      content: known ? this.#fields(desc, node, place, depth, "@type") : undefined,
    };
  }

  /** After too many aliases the rest counts as not written, which is safe as the whole is rejected. */
  #resolve(node: Node | null): Node | null {
    if (!isAlias(node)) return node;
    this.#aliases++;
    if (this.#aliases === MAX_ALIASES + 1) this.#report.reject(this.#root, `holds more than ${MAX_ALIASES} aliases`);
    return this.#aliases > MAX_ALIASES ? null : (node.resolve(this.#document) ?? null);
  }

  #broken(place: Place, message: string, mend?: string): Value {
    this.#report.reject(place, message, mend);
    return { kind: "broken", place };
  }
}

type WellKnown = "wrapper" | "duration" | "any" | "struct" | "text" | "anything";

/** The messages whose JSON form is not a mapping of their fields. */
const WELL_KNOWN: { readonly [typeName: string]: WellKnown } = {
  "google.protobuf.BoolValue": "wrapper",
  "google.protobuf.BytesValue": "wrapper",
  "google.protobuf.DoubleValue": "wrapper",
  "google.protobuf.FloatValue": "wrapper",
  "google.protobuf.Int32Value": "wrapper",
  "google.protobuf.Int64Value": "wrapper",
  "google.protobuf.StringValue": "wrapper",
  "google.protobuf.UInt32Value": "wrapper",
  "google.protobuf.UInt64Value": "wrapper",
  "google.protobuf.Duration": "duration",
  "google.protobuf.Any": "any",
  "google.protobuf.Struct": "struct",
  "google.protobuf.Timestamp": "text",
  "google.protobuf.FieldMask": "text",
  "google.protobuf.ListValue": "anything",
  "google.protobuf.Value": "anything",
};

/** JSON can write "\\ud800" alone; UTF-8, and with it protobuf, cannot. */
const HALF_PAIR = /\p{Surrogate}/u;

const MAX_DURATION_S = 315_576_000_000;

const SIGNED_32 = "a whole number from -2147483648 to 2147483647";
const UNSIGNED_32 = "a whole number from 0 to 4294967295";
const SIGNED_64 = "a whole number of 64 bits";
const UNSIGNED_64 = "a whole number of 64 bits, not negative";

const SCALARS: { readonly [type in ScalarType]: string } = {
  [ScalarType.STRING]: "a string",
  [ScalarType.BYTES]: "base64 text",
  [ScalarType.BOOL]: "true or false",
  [ScalarType.DOUBLE]: "a number",
  [ScalarType.FLOAT]: "a number",
  [ScalarType.INT32]: SIGNED_32,
  [ScalarType.SINT32]: SIGNED_32,
  [ScalarType.SFIXED32]: SIGNED_32,
  [ScalarType.UINT32]: UNSIGNED_32,
  [ScalarType.FIXED32]: UNSIGNED_32,
  [ScalarType.INT64]: SIGNED_64,
  [ScalarType.SINT64]: SIGNED_64,
  [ScalarType.SFIXED64]: SIGNED_64,
  [ScalarType.UINT64]: UNSIGNED_64,
  [ScalarType.FIXED64]: UNSIGNED_64,
};

/** Unquoted, these are booleans to Envoy's YAML reader, which follows YAML 1.1, but strings to ours. */
const YAML_TRUE = /^(?:y|yes|true|on)$/i;
const YAML_FALSE = /^(?:n|no|false|off)$/i;

/** Unquoted numbers that the two versions of YAML read differently: 010 is 8 to one and 10 to the other. */
const AMBIGUOUS_NUMBER = /^[-+]?0[0-9o]/;

function scalarValue(type: ScalarType, node: Scalar): string | number | boolean | undefined {
  const { value } = node;
  const plain = node.type === "PLAIN";
  switch (type) {
    case ScalarType.STRING:
      return typeof value === "string" && !(plain && (YAML_TRUE.test(value) || YAML_FALSE.test(value)))
        ? value
        : undefined;
    case ScalarType.BYTES:
      return typeof value === "string" && /^[\w+/-]*={0,2}$/.test(value) ? value : undefined;
    case ScalarType.BOOL:
      if (typeof value === "boolean" || typeof value !== "string")
        return typeof value === "boolean" ? value : undefined;
      if (plain && YAML_TRUE.test(value)) return true;
      if (plain && YAML_FALSE.test(value)) return false;
      return value === "true" ? true : value === "false" ? false : undefined;
    default:
      return plain && AMBIGUOUS_NUMBER.test(node.source ?? "") && value !== 0 ? undefined : numberValue(type, value);
  }
}

const YAML_NULL = /^(?:|~|null|Null|NULL)$/;
/** Unlike elsewhere, by letters' case too: yEs is text. */
const EXACT_BOOLEAN = /^(?:[yYnN]|yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$/;
const YAML_INTEGER = /^([-+]?)(?:0[xX]([0-9a-fA-F]{1,40})|0([0-7]{1,40})|(0|[1-9]\d{0,40}))$/;

/**
 * A scalar where no type says what it is, as Envoy's reader takes it: a fraction is text, and so is a whole number that
 * 32 bits do not hold; what is quoted is text, unless a tag stands before it.
 */
function yamlData({ type, tag, source, value }: Scalar): unknown {
  const text = source ?? String(value);
  if (tag === "!" || (tag === undefined && type !== "PLAIN")) return typeof value === "string" ? value : text;
  if (tag === undefined && YAML_NULL.test(text)) return null;
  if (EXACT_BOOLEAN.test(text)) return YAML_TRUE.test(text);
  const number = yamlInteger(text);
  if (number === undefined) return text;
  return BigInt.asIntN(32, number) === number ? Number(number) : String(number);
}

/** In 64 bits, or undefined. */
function yamlInteger(text: string): bigint | undefined {
  const [whole, sign, hex, octal, decimal] = YAML_INTEGER.exec(text) ?? [];
  if (whole === undefined) return undefined;
  const size = BigInt(hex !== undefined ? `0x${hex}` : octal !== undefined ? `0o${octal}` : decimal!);
  const number = sign === "-" ? -size : size;
  return BigInt.asIntN(64, number) === number ? number : undefined;
}

/** Keys are texts, whatever they look like. */
const keyText = ({ type, source, value }: Scalar): string =>
  type === "PLAIN" && YAML_NULL.test(source ?? "") ? "null" : (source ?? String(value));

function numberValue(type: ScalarType, value: unknown): number | undefined {
  switch (SCALARS[type]) {
    case SIGNED_32:
      return wholeNumber(value, -(2 ** 31), 2 ** 31 - 1);
    case UNSIGNED_32:
      return wholeNumber(value, 0, 2 ** 32 - 1);
    case SIGNED_64:
      return wholeNumber(value, -(2 ** 63), 2 ** 63);
    case UNSIGNED_64:
      return wholeNumber(value, 0, 2 ** 64);
    default:
      if (typeof value === "string" && value.trim() !== "")
        return Number.isNaN(Number(value)) ? undefined : Number(value);
      return typeof value === "number" ? value : undefined;
  }
}

function wholeNumber(value: unknown, least: number, most: number): number | undefined {
  const number = typeof value === "string" && /^-?\d+$/.test(value) ? Number(value) : value;
  if (typeof number !== "number" || !Number.isInteger(number) || number < least || number > most) return undefined;
  return number === 0 ? 0 : number;
}

const namesByMessage = new WeakMap<DescMessage, ReadonlyMap<string, DescField>>();

/** Both spellings of every field: as in the .proto file, and lowerCamelCase. */
function fieldNames(desc: DescMessage): ReadonlyMap<string, DescField> {
  let names = namesByMessage.get(desc);
  if (names === undefined) {
    names = new Map(desc.fields.flatMap((field) => [[field.name, field] as const, [field.jsonName, field] as const]));
    namesByMessage.set(desc, names);
  }
  return names;
}

function suggestField(key: string, desc: DescMessage): string {
  const camel = /[a-z][A-Z]/.test(key);
  const near = nearest(
    key,
    desc.fields.map((field) => (camel ? field.jsonName : field.name)),
  );
  return near === undefined ? "remove it" : `did you mean ${near}?`;
}

function describe(node: unknown): string {
  if (isMap(node)) return "a mapping";
  if (isSeq(node)) return "a list";
  if (!isScalar(node) || node.value === null) return "null";
  const text = typeof node.value === "string" ? JSON.stringify(node.value) : (node.source ?? String(node.value));
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function isNull(node: unknown): boolean {
  return node === null || node === undefined || (isScalar(node) && node.value === null);
}

function startOf(node: unknown, fallback: Place): number {
  return (node as Node | null)?.range?.[0] ?? fallback.offset;
}
