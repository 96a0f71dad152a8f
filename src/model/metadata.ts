/** Facts about endpoints, and what requests ask of them: what Envoy keeps under `envoy.lb` in a `Metadata`. */
export type Metadata = Readonly<Record<string, unknown>>;

/** A value as a text: two values have the same if they are equal, in whatever order their fields stand. */
export function valueText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(valueText).join()}]`;
  if (!isStruct(value)) return JSON.stringify(value) ?? "null";
  return `{${sortedKeys(value)
    .map((key) => `${JSON.stringify(key)}:${valueText(value[key])}`)
    .join()}}`;
}

export const sortedKeys = (metadata: Metadata): string[] => Object.keys(metadata).sort();

export const isStruct = (value: unknown): value is Metadata =>
  typeof value === "object" && value !== null && !Array.isArray(value);
