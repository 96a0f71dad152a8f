import type { DescEnum, DescField, DescMessage } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { LineCounter } from "yaml";
import type { Metadata } from "../model/metadata.ts";
import type { Rejection } from "../model/rejection.ts";
import type { Idle } from "./idle.ts";

/**
 * A configuration as its text gave it: protobuf messages whose every value knows where it stood. Types are right
 * (`read.ts` saw to that); what the values mean is not decided yet.
 */
export interface Message {
  readonly kind: "message";
  readonly place: Place;
  readonly desc: DescMessage;
  /** By the name in the .proto file. A field that was null in the text is not here. */
  readonly fields: Map<string, Field>;
}

export interface Field {
  readonly desc: DescField;
  /** Of the field's name in the text; a value has a place of its own. */
  readonly place: Place;
  readonly value: Value;
}

export type Value =
  | Message
  | { readonly kind: "scalar"; readonly place: Place; readonly value: string | number | boolean }
  | { readonly kind: "enum"; readonly place: Place; readonly desc: DescEnum; readonly value: number }
  | Duration
  | Any
  | { readonly kind: "list"; readonly place: Place; readonly items: readonly Value[] }
  | { readonly kind: "map"; readonly place: Place; readonly entries: ReadonlyMap<string, Value> }
  | { readonly kind: "struct"; readonly place: Place; readonly data: Metadata }
  /** Bytes, Timestamp and the like: nothing in XLB looks into them. */
  | { readonly kind: "opaque"; readonly place: Place }
  /** Was rejected already; whoever meets it says nothing more about it. */
  | { readonly kind: "broken"; readonly place: Place };

export interface Duration {
  readonly kind: "duration";
  readonly place: Place;
  readonly seconds: number;
  readonly nanos: number;
}

export interface Any {
  readonly kind: "any";
  readonly place: Place;
  /** The full name of the message, without the URL's host; "" for an empty Any. */
  readonly typeName: string;
  /** Missing when XLB does not know the type. */
  readonly content: Message | undefined;
}

/** One text that configuration came from. */
export class Source {
  readonly name: string;
  readonly lines = new LineCounter();

  constructor(name: string) {
    this.name = name;
  }
}

/** Where a value stands: its path in the configuration and its offset in the text. */
export class Place {
  readonly source: Source;
  readonly offset: number;
  readonly #parent: Place | undefined;
  readonly #step: string;

  constructor(source: Source, offset: number, parent?: Place, step = "") {
    this.source = source;
    this.offset = offset;
    this.#parent = parent;
    this.#step = step;
  }

  field(name: string, offset = this.offset): Place {
    return new Place(this.source, offset, this, name);
  }

  item(index: number, offset = this.offset): Place {
    return new Place(this.source, offset, this, `[${index}]`);
  }

  key(key: string, offset = this.offset): Place {
    return new Place(this.source, offset, this, `[${JSON.stringify(key)}]`);
  }

  get path(): string {
    const before = this.#parent?.path ?? "";
    return before === "" || this.#step.startsWith("[") ? before + this.#step : `${before}.${this.#step}`;
  }
}

/** Collects what is wrong with a configuration. */
export class Report {
  readonly #found: { place: Place; message: string; mend: string | undefined }[] = [];
  readonly #idle: Idle[] = [];

  reject(place: Place, message: string, mend?: string): void {
    this.#found.push({ place, message, mend });
  }

  /** Is taken, and nothing comes of it. */
  idle(idle: Idle): void {
    this.#idle.push(idle);
  }

  /** One sentence for each field, however often it is written. */
  idleFields(): string[] {
    const byField = new Map<string, Idle[]>();
    for (const idle of this.#idle) byField.set(idle.field, [...(byField.get(idle.field) ?? []), idle]);
    return [...byField.values()].map(([first, ...others]) => {
      const more = others.length === 0 ? "" : `, as ${others.length} more ${first!.field}`;
      return `${first!.path} has no effect${more}: ${first!.why}`;
    });
  }

  get empty(): boolean {
    return this.#found.length === 0;
  }

  /** In the order of the texts; a text other than the first is named. */
  rejections(sources: readonly Source[]): Rejection[] {
    return this.#found
      .map((found) => ({ ...found, rank: sources.indexOf(found.place.source) }))
      .sort((a, b) => a.rank - b.rank || a.place.offset - b.place.offset)
      .map(({ place, message, mend, rank }) => {
        const { line, col } = place.source.lines.linePos(place.offset);
        return {
          path: place.path,
          message,
          ...(mend === undefined ? {} : { mend }),
          line: Math.max(line, 1),
          column: Math.max(col, 1),
          ...(rank > 0 ? { file: place.source.name } : {}),
        };
      });
  }
}

/** Whether protobuf cannot tell this field from one that was not written: `name: ""`, `headers: []`. */
export function isUnset({ desc, value }: Field): boolean {
  switch (value.kind) {
    case "scalar":
      return hasImplicitPresence(desc) && !value.value;
    case "enum":
      return hasImplicitPresence(desc) && value.value === 0;
    case "list":
      return value.items.length === 0;
    case "map":
      return value.entries.size === 0;
    default:
      return false;
  }
}

export function hasImplicitPresence(desc: DescField): boolean {
  return desc.presence === FeatureSet_FieldPresence.IMPLICIT;
}
