import type { DescField } from "@bufbuild/protobuf";
import type { Metadata } from "../model/metadata.ts";
import { enumValue } from "./descriptors.ts";
import { whyIdle } from "./idle.ts";
import { type Field, isUnset, type Message, type Place, type Report, type Value } from "./tree.ts";

/**
 * A message as the rooms that know its meaning read it. What they ask for is supported; `refuseRest` refuses all that
 * is set and that nobody asked for, unless `idle.ts` says why nothing comes of it, and that is reported: so a field is
 * either honoured, or named, and cannot be forgotten in between.
 */
export class Fields {
  readonly #message: Message;
  readonly #report: Report;
  readonly #asked = new Set<string>();
  readonly #children: Fields[] = [];

  constructor(message: Message, report: Report) {
    this.#message = message;
    this.#report = report;
  }

  get place(): Place {
    return this.#message.place;
  }

  /** Whether nothing in it is set. */
  get isEmpty(): boolean {
    return [...this.#message.fields.values()].every(isUnset);
  }

  has(name: string): boolean {
    return this.#message.fields.has(this.#field(name).name);
  }

  /** Whether a field is missing or empty. One that was rejected already is neither. */
  lacks(name: string): boolean {
    const field = this.#message.fields.get(this.#field(name).name);
    return field === undefined || isUnset(field);
  }

  /** Whether a field was rejected already, so that what is read in its place says nothing. */
  isBroken(name: string): boolean {
    return this.#message.fields.get(this.#field(name).name)?.value.kind === "broken";
  }

  /** Where a field was written, or where it is missing. */
  placeOf(name: string): Place {
    return this.#message.fields.get(name)?.value.place ?? this.place.field(name);
  }

  string(name: string): string {
    const value = this.#ask(name);
    return value?.kind === "scalar" && typeof value.value === "string" ? value.value : "";
  }

  number(name: string): number | undefined {
    const value = this.#ask(name);
    return value?.kind === "scalar" && typeof value.value === "number" ? value.value : undefined;
  }

  boolean(name: string): boolean | undefined {
    const value = this.#ask(name);
    return value?.kind === "scalar" && typeof value.value === "boolean" ? value.value : undefined;
  }

  /** The value's name when it is one of those given; any other is refused. The first stands for a field not written. */
  oneOf<Name extends string>(name: string, ...supported: readonly [Name, ...Name[]]): Name {
    const value = this.#ask(name);
    if (value?.kind !== "enum") return supported[0];
    const found = supported.find((supported) => enumValue(value.desc, supported) === value.value);
    if (found === undefined) {
      const written = value.desc.value[value.value]?.name ?? value.value;
      this.#report.reject(value.place, `${written} is not supported yet`, `XLB takes ${supported.join(", ")}`);
    }
    return found ?? supported[0];
  }

  /** Whole milliseconds, rounded down as Envoy does. */
  milliseconds(name: string): number | undefined {
    const value = this.#ask(name);
    if (value?.kind !== "duration") return undefined;
    const { place, seconds, nanos } = value;
    if (seconds < 0 || nanos < 0) this.#report.reject(place, "must not be negative");
    // Rounded down it would be 0, which says something else.
    if (seconds === 0 && nanos > 0 && nanos < 1e6) this.#report.reject(place, "must be at least a millisecond");
    return seconds * 1000 + Math.trunc(nanos / 1e6);
  }

  strings(name: string): { text: string; place: Place }[] {
    return this.#items(name).flatMap((item) =>
      item.kind === "scalar" && typeof item.value === "string" ? [{ text: item.value, place: item.place }] : [],
    );
  }

  numbers(name: string): number[] {
    return this.#items(name).flatMap((item) =>
      item.kind === "scalar" && typeof item.value === "number" ? [item.value] : [],
    );
  }

  /** The plain data of a map of Structs, by its keys. */
  structs(name: string): ReadonlyMap<string, Metadata> {
    const value = this.#ask(name);
    const entries = value?.kind === "map" ? [...value.entries] : [];
    return new Map(entries.flatMap(([key, entry]) => (entry.kind === "struct" ? [[key, entry.data]] : [])));
  }

  /** The plain data of a Struct. */
  struct(name: string): Metadata | undefined {
    const value = this.#ask(name);
    return value?.kind === "struct" ? value.data : undefined;
  }

  message(name: string): Fields | undefined {
    const value = this.#ask(name);
    return value?.kind === "message" ? this.#child(value) : undefined;
  }

  messages(name: string): Fields[] {
    return this.#items(name).flatMap((item) => (item.kind === "message" ? [this.#child(item)] : []));
  }

  /** What an Any holds, if it is of that type; another type is refused. */
  packed(name: string, typeName: string): Fields | undefined {
    const value = this.#ask(name);
    if (value === undefined) this.#report.reject(this.placeOf(name), "is required", `it holds a ${typeName}`);
    return value === undefined ? undefined : this.#unpack(value, typeName);
  }

  /** The same for an Any that may be of several types. */
  packedOneOf(name: string, ...typeNames: readonly string[]): { typeName: string; content: Fields } | undefined {
    const value = this.#ask(name);
    if (value === undefined)
      this.#report.reject(this.placeOf(name), "is required", `it holds a ${typeNames.join(" or a ")}`);
    if (value?.kind !== "any") return undefined;
    if (typeNames.includes(value.typeName) && value.content !== undefined)
      return { typeName: value.typeName, content: this.#child(value.content) };
    this.#report.reject(value.place, `${value.typeName} is not supported yet`, `XLB takes ${typeNames.join(", ")}`);
    return undefined;
  }

  /** The name of the type that an Any holds; it is not taken by that. */
  packedType(name: string): string | undefined {
    const value = this.#message.fields.get(this.#field(name).name)?.value;
    return value?.kind === "any" ? value.typeName : undefined;
  }

  /** The same for one key of a map of Anys; other keys are refused. */
  packedEntry(name: string, key: string, typeName: string): Fields | undefined {
    const value = this.#ask(name);
    if (value?.kind !== "map") return undefined;
    for (const [other, { place }] of value.entries) if (other !== key) this.#refuse(place);
    const entry = value.entries.get(key);
    return entry === undefined ? undefined : this.#unpack(entry, typeName);
  }

  /** Accepts whatever a field says: it has no effect on what XLB does. */
  skip(...names: readonly string[]): void {
    for (const name of names) this.#ask(name);
  }

  skipRest(): void {
    this.skip(...this.#message.desc.fields.map((field) => field.name));
  }

  /** Accepts a field that says what XLB does anyway. */
  only(name: string, ...values: readonly (number | boolean)[]): void {
    const value = this.#ask(name);
    if (value?.kind !== "scalar" || values.includes(value.value as number | boolean)) return;
    this.#report.reject(
      value.place,
      `${value.value} is not supported yet`,
      `remove it, or write ${values.join(" or ")}`,
    );
  }

  reject(where: string | Place, message: string, mend?: string): void {
    this.#report.reject(typeof where === "string" ? this.placeOf(where) : where, message, mend);
  }

  /** Of a message that is out of place altogether: what it says does not matter. */
  rejectWhole(message: string, mend?: string): void {
    this.skipRest();
    this.#report.reject(this.place, message, mend);
  }

  /** Takes a field, of which nothing comes. */
  leave(name: string, why: string): void {
    this.skip(name);
    this.#report.idle({ field: `${this.#message.desc.name}.${name}`, path: this.placeOf(name).path, why });
  }

  /** Takes all of a message, and nothing comes of it. */
  leaveWhole(why: string): void {
    this.skipRest();
    this.#report.idle({ field: this.#message.desc.name, path: this.place.path, why });
  }

  refuseRest(): void {
    for (const [name, field] of this.#message.fields) {
      if (this.#asked.has(name) || isUnset(field) || field.value.kind === "broken") continue;
      const why = whyIdle(this.#message.desc.typeName, name);
      if (why === undefined) this.#refuse(field.place);
      else this.#report.idle({ field: `${this.#message.desc.name}.${name}`, path: field.place.path, why });
    }
    for (const child of this.#children) child.refuseRest();
  }

  #refuse(place: Place): void {
    this.#report.reject(place, "is not supported yet", "remove it");
  }

  #unpack(value: Value, typeName: string): Fields | undefined {
    if (value.kind !== "any") return undefined;
    if (value.typeName === typeName && value.content !== undefined) return this.#child(value.content);
    this.#report.reject(value.place, `${value.typeName} is not supported yet`, `XLB takes ${typeName}`);
    return undefined;
  }

  #items(name: string): readonly Value[] {
    const value = this.#ask(name);
    return value?.kind === "list" ? value.items : [];
  }

  #child(message: Message): Fields {
    const child = new Fields(message, this.#report);
    this.#children.push(child);
    return child;
  }

  #ask(name: string): Value | undefined {
    this.#asked.add(this.#field(name).name);
    return (this.#message.fields.get(name) as Field | undefined)?.value;
  }

  #field(name: string): DescField {
    const found = this.#message.desc.fields.find((field) => field.name === name);
    if (found === undefined) throw new Error(`${this.#message.desc.typeName} has no field ${name}`);
    return found;
  }
}
