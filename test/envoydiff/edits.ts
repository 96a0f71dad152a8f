import type { Dice } from "../dice.ts";
import type { Json } from "./spec.ts";

/** `request_headers_to_add` and its three fellows, of whatever has them. */

const REQUEST_NAMES = ["x-e", "X-E", "x-a", "X-B", "accept", "cookie", "user-agent", "via", "x-client-trace-id"];
const RESPONSE_NAMES = ["x-r", "X-R", "x-s", "content-type", "vary", "set-cookie", "cache-control", "location"];
const ACTIONS = ["APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT", "OVERWRITE_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS"];

const PIECES = [
  "a",
  "b c",
  ",",
  "%%",
  "%REQ(x-a)%",
  "%REQ(X-E)%",
  "%REQ(x-none)%",
  "%REQ(x-none?x-b)%",
  "%REQ(accept):2%",
  "%REQ(:path)%",
  "%REQ(:path):3%",
  "%REQ(:method)%",
  "%REQ(:authority)%",
  "%REQ(cookie)%",
  "%PROTOCOL%",
  "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
];

const anyValue = (dice: Dice) =>
  dice.chance(0.08) ? "" : Array.from({ length: dice.between(1, 2) }, () => dice.one(PIECES)).join("");

function additions(names: readonly string[], dice: Dice): Json[] {
  return Array.from({ length: dice.between(1, 3) }, () => {
    const form = dice.chance(0.6)
      ? { append_action: dice.one(ACTIONS) }
      : dice.chance(0.3)
        ? { append: dice.chance(0.5) }
        : {};
    const kept = dice.chance(0.3) ? { keep_empty_value: dice.chance(0.8) } : {};
    return { header: { key: dice.one(names), value: anyValue(dice) }, ...form, ...kept };
  });
}

const removals = (names: readonly string[], dice: Dice) =>
  Array.from({ length: dice.between(1, 2) }, () => dice.one(names));

/** One edit of any kind at least. */
export function someEdits(dice: Dice): Json {
  const kinds = {
    request_headers_to_add: () => additions(REQUEST_NAMES, dice),
    request_headers_to_remove: () => removals(REQUEST_NAMES, dice),
    response_headers_to_add: () => additions(RESPONSE_NAMES, dice),
    response_headers_to_remove: () => removals(RESPONSE_NAMES, dice),
  };
  const all = Object.entries(kinds);
  const first = dice.one(all)[0];
  return Object.fromEntries(
    all.filter(([name]) => name === first || dice.chance(0.3)).map(([name, make]) => [name, make()]),
  );
}
