import { EDIT_DROP, EDIT_HOST, EDIT_TEXT } from "../tables/layout.gen.ts";

type Field = readonly [name: string, value: string];

/**
 * What the edits at `program`, a place in a virtual host's blob, make of a head's fields, as bpf/hooks/edit.h makes it
 * of their bytes: for heads that do not come to the hook in one piece. Values are bytes (latin1). `partOf` gives the
 * parts of a request by their `EDIT_…`; answers have none.
 */
export function editFields(
  words: Uint32Array,
  program: number,
  fields: readonly Field[],
  partOf: (part: number) => string = () => "",
): Field[] {
  const bytes = Buffer.from(words.buffer, words.byteOffset, words.byteLength);
  const word = (index: number) => words.subarray(index * 4, index * 4 + 4) as unknown as Word;
  const text = (first: number, length: number) => bytes.toString("latin1", first * 16, first * 16 + length);
  const [count, firstName, rows, firstRow] = word(program);
  const mask = word(program + 1);
  const names = Array.from({ length: count }, (_, i) => {
    const [flags, first, suffix, length] = word(firstName + i);
    return { name: text(first, flags & 0xff), flags, text: text(suffix, length), last: -1 };
  });
  const present = new Set<number>();
  const edited: Field[] = [];
  for (const [written, value] of fields) {
    const name = written.toLowerCase();
    const bit = (name.length ^ name.charCodeAt(0)) & 63;
    /* Most lines are of no name that is asked for, as one bit of 64 says. */
    const isAsked = ((mask[bit >> 5]! >>> (bit & 31)) & 1) === 1;
    const index = isAsked ? names.findIndex((one) => one.name === name) : -1;
    const own = names[index];
    if (own !== undefined) present.add(index + 1);
    if (own !== undefined && own.flags & EDIT_DROP) continue;
    const isHost = own !== undefined && (own.flags & EDIT_HOST) !== 0;
    if (own !== undefined && !isHost && own.text !== "") own.last = edited.length;
    edited.push([written, isHost ? own.text : value]);
  }
  for (const { last, text } of names) {
    const [written, value] = edited[last] ?? [];
    if (written !== undefined) edited[last] = [written, value + text.slice(value === "" ? 1 : 0)];
  }
  let added = "";
  for (let i = 0; i < rows; i++) {
    const [when, first, length, part] = word(firstRow + i);
    const name = when & 0xff;
    if (name !== 0 && present.has(name) !== (when & 0x100) > 0) continue;
    added += text(first, length) + (part === EDIT_TEXT ? "" : partOf(part));
  }
  for (const line of added.split("\r\n").slice(0, -1)) {
    const colon = line.indexOf(": ");
    edited.push([line.slice(0, colon), line.slice(colon + 2)]);
  }
  return edited;
}

type Word = readonly [a: number, b: number, c: number, d: number];

/** The place of the edits of answers that belong to those at `program`; 0: there are none. */
export const answerEditsAt = (words: Uint32Array, program: number): number => words[(program + 1) * 4 + 2]!;
