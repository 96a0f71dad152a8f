import type { DirectResponse, Edited, RedirectAction, Route, RouteConfig, VirtualHost } from "../model/config.ts";
import type { BlobBuilder } from "../tables/blob.ts";
import { JOINED_IN_RESPONSES } from "../tables/joined.ts";
import {
  EDIT_AUTHORITY,
  EDIT_DATE,
  EDIT_HOST_ALONE,
  EDIT_HOST_UNLESS_80,
  EDIT_PATH,
  EDIT_QUERY,
  EDIT_TARGET,
  EDIT_TEXT,
} from "../tables/layout.gen.ts";
import { hasLocation, isBodiless, reasonOf } from "../tables/status.ts";
import { type Step, simulate, stepOf, type Unable, type Value } from "./edits.ts";

/**
 * Answers that routes give by themselves, made ready for the hook: the bytes that `localReply` of src/slowpath/reply.ts
 * makes of what `answerOf` of src/route/rewrite.ts says, with places where the request or the time is to be put.
 */
export interface AnswerProgram {
  readonly pieces: readonly Piece[];
  /** Left out where the request is a HEAD. */
  readonly body: Buffer;
}

/** Bytes, and what stands behind them: a part of the request but for its first `skip` bytes, or the date. */
interface Piece {
  readonly text: string;
  readonly part: number;
  readonly skip?: number;
}

const MOST_PIECES = 16;
const MOST_BYTES = 4_096;

/** What a route answers that is no server's. */
export function answerProgramOf(
  routes: RouteConfig,
  vhost: VirtualHost,
  route: Route,
  action: RedirectAction | DirectResponse,
): AnswerProgram | Unable {
  const { status } = action;
  const location = hasLocation(status) ? locationOf(route, action) : undefined;
  if (location && "whyNot" in location) return location;
  const edited = editedFields([route, vhost, routes], routes.mostSpecificWins, location);
  if ("whyNot" in edited) return edited;
  const body = Buffer.from(action.kind === "redirect" || isBodiless(status) ? "" : action.body, "latin1");
  const isText = action.kind === "direct" && action.body !== "";
  const given = edited.filter(({ name }) => name !== "content-type" || isText);
  const names = new Set(given.map(({ name }) => name));
  const own: Field[] = [
    ...(isBodiless(status) ? [] : [{ name: "content-length", value: textOf(`${body.length}`) }]),
    ...(isText ? [{ name: "content-type", value: textOf("text/plain") }] : []),
    { name: "date", value: [{ text: "", part: EDIT_DATE }] },
    { name: "server", value: textOf("xlb") },
  ];
  const pieces = joined([
    ...textOf(`HTTP/1.1 ${status} ${reasonOf(status)}\r\n`),
    ...[...given, ...own.filter(({ name }) => !names.has(name))].flatMap(({ name, value }) => [
      ...textOf(`${name}: `),
      ...value,
      ...textOf("\r\n"),
    ]),
    ...textOf("\r\n"),
  ]);
  const bytes = pieces.reduce((sum, { text }) => sum + Buffer.byteLength(text), body.length);
  if (pieces.length > MOST_PIECES || bytes > MOST_BYTES) return { whyNot: `its answer is over ${MOST_BYTES} bytes` };
  return { pieces, body };
}

interface Field {
  readonly name: string;
  readonly value: readonly Piece[];
}

const textOf = (text: string): readonly Piece[] => [{ text, part: EDIT_TEXT }];

/** `location`, and what the levels of configuration make of it and add. */
function editedFields(
  levels: readonly Edited[],
  mostSpecificWins: boolean | undefined,
  location: readonly Piece[] | undefined,
): readonly Field[] | Unable {
  const steps: Step[] = [];
  for (const { responseEdits } of mostSpecificWins ? levels.toReversed() : levels) {
    const step = responseEdits && stepOf(responseEdits, [{ kind: "authority" }]);
    if (step && "whyNot" in step) return step;
    if (step) steps.push(step);
  }
  const names = new Set(steps.flatMap(({ remove, add }) => [...remove, ...add.map(({ name }) => name)]));
  if (location !== undefined) names.add("location");
  const fields: (Field & { readonly at: number })[] = [];
  for (const name of names) {
    const isThere = name === "location" && location !== undefined;
    const { kept, suffix, added } = simulate(name, isThere, steps, JOINED_IN_RESPONSES);
    const values = [...(kept ? [{ at: 0, value: suffix }] : []), ...added];
    if (values.some(({ value }) => value.some((part) => typeof part !== "string")))
      return { whyNot: `the value of ${name} holds a part of the request` };
    const before = (at: number) => (at === 0 ? location! : []);
    fields.push(...values.map(({ at, value }) => ({ name, at, value: [...before(at), ...textOf(constant(value))] })));
  }
  return fields.sort((a, b) => a.at - b.at);
}

const constant = (value: Value) => value.join("");

/** The scheme of requests that the kernel path takes. */
const SCHEME = "http";

/** As `locationOf` of src/route/rewrite.ts has it, whose rules these are. */
function locationOf(route: Route, action: RedirectAction | DirectResponse): readonly Piece[] | Unable {
  if (action.kind === "direct")
    return [
      { text: `${SCHEME}://`, part: EDIT_AUTHORITY },
      { text: "", part: EDIT_TARGET },
    ];
  const { scheme = SCHEME, host, port } = action;
  const kept = port !== undefined ? EDIT_HOST_ALONE : scheme === SCHEME ? EDIT_AUTHORITY : EDIT_HOST_UNLESS_80;
  const authority: Piece =
    host === undefined ? { text: `${scheme}://`, part: kept } : { text: `${scheme}://${host}`, part: EDIT_TEXT };
  const path = redirectedPath(route, action);
  return "whyNot" in path ? path : [authority, ...textOf(port === undefined ? "" : `:${port}`), ...path];
}

function redirectedPath(route: Route, { path, stripQuery }: RedirectAction): readonly Piece[] | Unable {
  const query: readonly Piece[] = stripQuery ? [] : [{ text: "", part: EDIT_QUERY }];
  if (path === undefined) return [{ text: "", part: stripQuery ? EDIT_PATH : EDIT_TARGET }];
  if (path.kind === "regex") return { whyNot: "it redirects by a regular expression" };
  if (path.kind === "whole") {
    const absolute = path.value.startsWith("/") ? path.value : `/${path.value}`;
    return [...textOf(absolute), ...(path.value.includes("?") ? [] : query)];
  }
  if (!path.value.startsWith("/") || /[?#]/.test(path.value))
    return { whyNot: "it redirects to a prefix that is no path" };
  if (route.path.kind === "regex") return [...textOf(path.value), ...query];
  const skip = Buffer.byteLength(route.path.value);
  return [...textOf(path.value), { text: "", part: stripQuery ? EDIT_PATH : EDIT_TARGET, skip }];
}

/** A text with nothing behind it is the beginning of the next piece. */
function joined(pieces: readonly Piece[]): Piece[] {
  const out: Piece[] = [];
  for (const piece of pieces) {
    const last = out.at(-1);
    if (last?.part === EDIT_TEXT) out.splice(-1, 1, { ...piece, text: last.text + piece.text });
    else out.push(piece);
  }
  return out;
}

/** Writes an answer as `plan_answer` of bpf/hooks/answer.h reads it, and gives its first word: docs/tables.md. */
export function writeAnswer(blob: BlobBuilder, { pieces, body }: AnswerProgram): number {
  const bytes = (value: Buffer): readonly [first: number, length: number] =>
    value.length === 0 ? [0, 0] : [blob.bytes(value), value.length];
  const head = blob.reserve(1);
  const first = blob.reserve(pieces.length);
  pieces.forEach(({ text, part, skip = 0 }, i) => {
    blob.put(first + i, skip, ...bytes(Buffer.from(text)), part);
  });
  blob.put(head, pieces.length, first, ...bytes(body));
  return head;
}
