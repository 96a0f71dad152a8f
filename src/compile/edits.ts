import type {
  Edited,
  FormatPart,
  ForwardAction,
  HeaderAddition,
  HeaderEdits,
  Route,
  RouteConfig,
  VirtualHost,
  WeightedCluster,
} from "../model/config.ts";
import type { BlobBuilder } from "../tables/blob.ts";
import { JOINED_IN_REQUESTS, JOINED_IN_RESPONSES } from "../tables/joined.ts";
import {
  EDIT_AUTHORITY,
  EDIT_DROP,
  EDIT_HOST,
  EDIT_METHOD,
  EDIT_TARGET,
  EDIT_TEXT,
  XLB_MAX_EDIT_NAMES,
  XLB_MAX_HEADER_NAME,
} from "../tables/layout.gen.ts";

/**
 * Edits of heads, of requests or of their answers, made ready for the hook. Whatever levels of configuration there are
 * and in what order they edit (src/route/edit.ts says so): of each name that they are about, all that a head can change
 * in the outcome is whether it has that name. So both outcomes are worked out here, and the hook chooses by name.
 */
export interface EditProgram {
  readonly names: readonly EditedName[];
  /** The lines that go behind those of the head, in their order. */
  readonly additions: readonly Addition[];
  readonly path?: { readonly text: string; readonly drop: number | "path" };
}

interface EditedName {
  readonly name: string;
  /** What becomes of the head's own lines of that name: a text goes behind the value of the last one. */
  readonly own: { readonly kind: "kept" | "dropped" } | { readonly kind: "suffix" | "host"; readonly text: string };
}

interface Addition {
  readonly name: string;
  /** Does the head have to have that name, or lack it? Missing: it makes no difference. */
  readonly present?: boolean;
  readonly value: Value;
}

/** Text, and parts of the request as it came. */
export type Value = readonly (string | { readonly kind: keyof typeof DYNAMIC })[];

const DYNAMIC = { target: EDIT_TARGET, authority: EDIT_AUTHORITY, method: EDIT_METHOD } as const;

/** What the hook cannot do. */
export interface Unable {
  readonly whyNot: string;
}

/** Where requests go: to this entry of a route's clusters. */
export interface Leading {
  readonly routes: RouteConfig;
  readonly vhost: VirtualHost;
  readonly route: Route;
  readonly action: ForwardAction;
  readonly entry: WeightedCluster;
}

/** In the order in which they edit: `#levels` of src/route/edit.ts. */
function levelsOf({ routes, vhost, route, entry }: Leading): readonly Edited[] {
  const levels = [route, vhost, routes];
  return [entry, ...(routes.mostSpecificWins ? levels.reverse() : levels)];
}

/** What becomes of these requests; undefined: they go on as they came. */
export function programOf(leading: Leading): EditProgram | Unable | undefined {
  const { routes, route, action, entry } = leading;
  const steps: Step[] = [];
  let authority: Value = [{ kind: "authority" }];
  let host: string | undefined;
  /* Only the slow path tries again, and counts on from there. */
  if (action.countsAttempts) steps.push(setting("x-envoy-attempt-count", ["1"]));
  const tells = routes.suppressesOwn !== true;
  for (const level of levelsOf(leading)) {
    const made = level.requestEdits && stepOf(level.requestEdits, authority);
    if (made && "whyNot" in made) return made;
    if (made) steps.push(made);
    if (level !== entry || entry.host === undefined) continue;
    host = entry.host;
    authority = [host];
  }
  if (action.host !== undefined) {
    if (action.host.kind !== "literal") return { whyNot: WHY_NOT_HOST[action.host.kind] };
    if (action.keepsForwardedHost) return { whyNot: "it appends to x-forwarded-host" };
    if (tells) steps.push(setting("x-envoy-original-host", authority));
    host = action.host.value;
  }
  if (action.path?.kind === "regex") return { whyNot: "it rewrites the path by a regular expression" };
  if (tells && action.path !== undefined) steps.push(setting("x-envoy-original-path", [{ kind: "target" }]));
  if (steps.length === 0 && host === undefined && action.path === undefined) return undefined;
  const program: EditProgram = {
    ...outcomes(steps, JOINED_IN_REQUESTS, host),
    ...(action.path && { path: { text: action.path.value, drop: droppedOf(route) } }),
  };
  return tooMuchOf(program) ?? program;
}

/** What becomes of servers' answers to these requests; undefined: they go on as they came. */
export function answerEditsOf(leading: Leading): EditProgram | Unable | undefined {
  const steps: Step[] = [];
  /* On the kernel path it is the first attempt. */
  if (leading.action.tellsAttempts) steps.push(setting("x-envoy-attempt-count", ["1"]));
  for (const { responseEdits } of levelsOf(leading)) {
    const made = responseEdits && stepOf(responseEdits, [{ kind: "authority" }]);
    if (made && "whyNot" in made) return made;
    if (made) steps.push(made);
  }
  if (steps.length === 0) return undefined;
  for (const { name, value } of steps.flatMap(({ add }) => add))
    if (value.some((part) => typeof part !== "string"))
      return { whyNot: `the value of ${name} in its responses holds a part of the request` };
  const program = outcomes(steps, JOINED_IN_RESPONSES, undefined);
  return tooMuchOf(program) ?? program;
}

const WHY_NOT_HOST = {
  header: "a header says what its host is rewritten to",
  path: "its host is made of the path by a regular expression",
  endpoint: "its host is rewritten to the name of the endpoint",
} as const;

const droppedOf = ({ path }: Route) => (path.kind === "regex" ? "path" : Buffer.byteLength(path.value));

/** One level: its removals, then its overwrites, then its additions, as `applyEdits` of src/route/edit.ts has them. */
export interface Step {
  readonly remove: readonly string[];
  readonly add: readonly MadeAddition[];
}

type MadeAddition = Pick<HeaderAddition, "name" | "action"> & { readonly value: Value };

const setting = (name: string, value: Value): Step => ({ remove: [], add: [{ name, action: "overwrite", value }] });

export function stepOf({ remove, add }: HeaderEdits, authority: Value): Step | Unable {
  const made: MadeAddition[] = [];
  for (const { name, action, value, keepEmpty } of add) {
    const parts = value.map((part) => knownPart(part, authority));
    const unknown = parts.indexOf(undefined);
    if (unknown !== -1) return { whyNot: `the value of ${name} holds ${nameOf(value[unknown]!)}` };
    const known = joinTexts(parts.flatMap((part) => part ?? []));
    if (known.length > 0 || keepEmpty) made.push({ name, action, value: known });
  }
  return { remove, add: made };
}

/** Undefined: only the slow path can tell. */
function knownPart(part: FormatPart, authority: Value): Value | undefined {
  switch (part.kind) {
    case "text":
      return [part.text];
    case "protocol":
      return ["HTTP/1.1"];
    case "request": {
      if (part.limit !== undefined) return undefined;
      if (part.name === ":path") return [{ kind: "target" }];
      if (part.name === ":method") return [{ kind: "method" }];
      return part.name === ":authority" || part.name === "host" ? authority : undefined;
    }
    default:
      return undefined;
  }
}

const nameOf = (part: FormatPart) => (part.kind === "request" ? `%REQ(${part.name})%` : `a variable (${part.kind})`);

/** Texts side by side are one, and none of them is empty. */
function joinTexts(value: Value): Value {
  const joined: Value[number][] = [];
  for (const part of value) {
    const last = joined.at(-1);
    if (part === "") continue;
    if (typeof part === "string" && typeof last === "string") joined.splice(-1, 1, last + part);
    else joined.push(part);
  }
  return joined;
}

/** What of a message's own lines of a name is left, and what lines are added, when. */
export interface Simulated {
  kept: boolean;
  suffix: Value;
  added: { at: number; value: Value }[];
}

/** Of a message that has the name, or has not. */
export function simulate(
  name: string,
  isPresent: boolean,
  steps: readonly Step[],
  joined: ReadonlySet<string>,
): Simulated {
  let is: Simulated = { kept: isPresent, suffix: [], added: [] };
  let at = 0;
  for (const { remove, add } of steps) {
    if (remove.includes(name)) is = { kept: false, suffix: [], added: [] };
    const wasThere = is.kept || is.added.length > 0;
    const isOverwrite = ({ action }: MadeAddition) => action === "overwrite" || action === "overwriteIfExists";
    for (const one of [...add.filter(isOverwrite), ...add.filter((one) => !isOverwrite(one))]) {
      at++;
      if (one.name !== name) continue;
      if (one.action === "addIfAbsent" && wasThere) continue;
      if (one.action === "overwriteIfExists" && !wasThere) continue;
      if (isOverwrite(one)) is = { kept: false, suffix: [], added: [{ at, value: one.value }] };
      else append(is, at, one.value, joined.has(name));
    }
  }
  return is;
}

function append(is: Simulated, at: number, value: Value, joined: boolean): void {
  const last = is.added.at(-1);
  if (!joined || (last === undefined && !is.kept)) is.added.push({ at, value });
  else if (value.length === 0) return;
  else if (last === undefined) is.suffix = joinTexts([...is.suffix, ",", ...value]);
  else last.value = joinTexts(last.value.length === 0 ? value : [...last.value, ",", ...value]);
}

/** Both outcomes of each name as one program. */
function outcomes(
  steps: readonly Step[],
  joined: ReadonlySet<string>,
  host: string | undefined,
): Pick<EditProgram, "names" | "additions"> {
  const all = new Set(steps.flatMap(({ remove, add }) => [...remove, ...add.map(({ name }) => name)]));
  const names: EditedName[] = host === undefined ? [] : [{ name: "host", own: { kind: "host", text: host } }];
  const additions: (Addition & { readonly at: number })[] = [];
  for (const name of all) {
    const [without, having] = [simulate(name, false, steps, joined), simulate(name, true, steps, joined)];
    const isSame = JSON.stringify(without.added) === JSON.stringify(having.added);
    const suffix = having.suffix;
    if (isSame) additions.push(...having.added.map((one) => ({ name, ...one })));
    else {
      additions.push(...without.added.map((one) => ({ name, present: false, ...one })));
      additions.push(...having.added.map((one) => ({ name, present: true, ...one })));
    }
    if (!having.kept) names.push({ name, own: { kind: "dropped" } });
    else if (suffix.length > 0) names.push({ name, own: { kind: "suffix", text: textOf(suffix) } });
    else if (!isSame) names.push({ name, own: { kind: "kept" } });
  }
  additions.sort((a, b) => a.at - b.at);
  return { names, additions: additions.map(({ at: _, ...one }) => one) };
}

const NOT_CONSTANT = "\0";

/** Of a suffix, which the hook takes as a text only. */
const textOf = (value: Value) => value.map((part) => (typeof part === "string" ? part : NOT_CONSTANT)).join("");

const MOST_ROWS = 32;
const MOST_TEXT = 2_048;

function tooMuchOf(program: EditProgram): Unable | undefined {
  const { names, additions, path } = program;
  if (names.some(({ own }) => "text" in own && own.text.includes(NOT_CONSTANT)))
    return { whyNot: "it appends a part of the request to a header" };
  if (names.length > XLB_MAX_EDIT_NAMES) return { whyNot: `its edits are about over ${XLB_MAX_EDIT_NAMES} headers` };
  if (names.some(({ name }) => name.length > XLB_MAX_HEADER_NAME))
    return { whyNot: `its edits are about a header whose name is over ${XLB_MAX_HEADER_NAME} bytes` };
  const rows = additions.flatMap(({ name, value }) => rowsOf(name, value));
  const texts = [...rows.map(({ text }) => text), ...names.map(({ own }) => ("text" in own ? own.text : ""))];
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), Buffer.byteLength(path?.text ?? ""));
  return rows.length > MOST_ROWS || bytes > MOST_TEXT ? { whyNot: "its edits are too long" } : undefined;
}

interface Row {
  readonly text: string;
  readonly followedBy: number;
}

/** A line as the hook writes it: texts, each with a part of the request behind it or none. */
function rowsOf(name: string, value: Value): Row[] {
  const rows: Row[] = [];
  let text = `${name}: `;
  for (const part of value) {
    if (typeof part === "string") text += part;
    else {
      rows.push({ text, followedBy: DYNAMIC[part.kind] });
      text = "";
    }
  }
  return [...rows, { text: `${text}\r\n`, followedBy: EDIT_TEXT }];
}

/** What becomes of requests, and of their answers; one of them at least. */
export interface Edits {
  readonly request?: EditProgram | undefined;
  readonly answer?: EditProgram | undefined;
}

const NOTHING: EditProgram = { names: [], additions: [] };

/** Writes edits as bpf/hooks/edit.h reads them, and gives their first word: docs/tables.md. */
export function writeEdits(blob: BlobBuilder, { request, answer }: Edits): number {
  const place = answer === undefined ? 0 : writeProgram(blob, answer, 0, false);
  return writeProgram(blob, request ?? NOTHING, place, request === undefined);
}

/** `answer`: the place of another; `idle`: this one has nothing to do. */
function writeProgram(
  blob: BlobBuilder,
  { names, additions, path }: EditProgram,
  answer: number,
  idle: boolean,
): number {
  const text = (value: string): readonly [first: number, length: number] => {
    const bytes = Buffer.from(value);
    return bytes.length === 0 ? [0, 0] : [blob.bytes(bytes), bytes.length];
  };
  const head = blob.reserve(3);
  const firstName = blob.reserve(names.length);
  const mask = [0, 0];
  names.forEach(({ name, own }, i) => {
    const bytes = Buffer.from(name);
    const bit = (bytes.length ^ bytes[0]!) & 63;
    mask[bit >> 5]! |= 1 << (bit & 31);
    const flags = own.kind === "dropped" ? EDIT_DROP : own.kind === "host" ? EDIT_HOST : 0;
    blob.put(firstName + i, bytes.length | flags, blob.bytes(bytes), ...text("text" in own ? own.text : ""));
  });
  const place = new Map(names.map(({ name }, i) => [name, i + 1]));
  const rows = additions.flatMap(({ name, present, value }) => {
    const when = present === undefined ? 0 : place.get(name)! | (present ? 256 : 0);
    return rowsOf(name, value).map((row) => ({ when, ...row }));
  });
  const firstRow = blob.reserve(rows.length);
  rows.forEach(({ when, text: value, followedBy }, i) => {
    blob.put(firstRow + i, when, ...text(value), followedBy);
  });
  blob.put(head, names.length, firstName, rows.length, firstRow);
  blob.put(head + 1, mask[0]! >>> 0, mask[1]! >>> 0, answer, idle ? 1 : 0);
  if (path) {
    const whole = path.drop === "path";
    blob.put(head + 2, whole ? 1 : 0, ...text(path.text), whole ? 0 : Number(path.drop));
  }
  return head;
}
