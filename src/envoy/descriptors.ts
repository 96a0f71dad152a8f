import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createFileRegistry, type DescEnum, type DescMessage, type FileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

/** Where the descriptors lie: beside the sources, and beside the bundle that tools/build makes. */
const PLACES = ["./gen/envoy.binpb", "./envoy.binpb"];

let loaded: FileRegistry | undefined;

/** Every Envoy message that XLB knows by name; made by tools/protogen.mjs, loaded once. */
export function descriptors(): FileRegistry {
  loaded ??= createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(findDescriptors())));
  return loaded;
}

export function findDescriptors(): string {
  if (process.env.XLB_DESCRIPTORS) return process.env.XLB_DESCRIPTORS;
  const places = PLACES.map((place) => fileURLToPath(new URL(place, import.meta.url)));
  const found = places.find((place) => existsSync(place));
  if (found === undefined)
    throw new Error(`Envoy's descriptors are missing (${places.join(", ")}): run tools/protogen.mjs`);
  return found;
}

export function messageNamed(typeName: string): DescMessage {
  const found = descriptors().getMessage(typeName);
  if (found === undefined) throw new Error(`no message ${typeName} in the descriptors`);
  return found;
}

/** Enum values by how a file may name them: Envoy takes any case. */
export function enumValue(desc: DescEnum, word: string): number | undefined {
  const wanted = word.toUpperCase();
  return desc.values.find((value) => value.name.toUpperCase() === wanted)?.number;
}
