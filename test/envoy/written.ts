import type { DescMessage } from "@bufbuild/protobuf";
import { descriptors } from "../../src/envoy/descriptors.ts";

/** Adds to `found` each `Message.field` that a message in JSON has, and the messages within. */
export function collectWritten(desc: DescMessage, json: unknown, found: Set<string>): void {
  if (typeof json !== "object" || json === null) return;
  for (const [key, value] of Object.entries(json)) {
    const field = desc.fields.find(({ name, jsonName }) => name === key || jsonName === key);
    if (field === undefined) continue;
    found.add(`${desc.typeName}.${field.name}`);
    const inner = field.fieldKind === "scalar" || field.fieldKind === "enum" ? undefined : field.message;
    if (!inner) continue;
    const values = Array.isArray(value) ? value : field.fieldKind === "map" ? Object.values(value as object) : [value];
    for (const each of values) collectWritten(packed(each) ?? inner, each, found);
  }
}

function packed(value: unknown): DescMessage | undefined {
  const type = (value as { readonly "@type"?: string } | null)?.["@type"];
  return type === undefined ? undefined : descriptors().getMessage(type.split("/")[1]!);
}
