import { type Field, isUnset, type Message, type Value } from "./tree.ts";

/**
 * Lays one configuration over another as Envoy does with --config-yaml, by protobuf's MergeFrom: values replace, lists
 * grow, messages merge field by field, the member of a oneof displaces its fellows. A default value replaces nothing,
 * since protobuf cannot see that it was written.
 */
export function mergeMessages(base: Message, overlay: Message): Message {
  const fields = new Map(base.fields);
  for (const [name, field] of overlay.fields) {
    if (isUnset(field)) continue;
    const { oneof } = field.desc;
    if (oneof !== undefined) for (const member of oneof.fields) if (member.name !== name) fields.delete(member.name);
    const before = fields.get(name);
    fields.set(name, before === undefined ? field : mergeFields(before, field));
  }
  return { ...base, fields };
}

function mergeFields(before: Field, after: Field): Field {
  return { ...after, value: mergeValues(before.value, after.value, after.desc.fieldKind === "message") };
}

function mergeValues(before: Value, after: Value, isMessage: boolean): Value {
  if (before.kind === "message" && after.kind === "message") return mergeMessages(before, after);
  if (before.kind === "list" && after.kind === "list") return { ...before, items: [...before.items, ...after.items] };
  if (before.kind === "map" && after.kind === "map")
    return { ...before, entries: new Map([...before.entries, ...after.entries]) };
  // Wrappers and durations are messages too: their zero parts leave what was there.
  if (isMessage && after.kind === "scalar" && !after.value) return before;
  if (before.kind === "duration" && after.kind === "duration") {
    return { ...after, seconds: after.seconds || before.seconds, nanos: after.nanos || before.nanos };
  }
  return after;
}
