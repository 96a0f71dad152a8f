import type { Edited, FormatPart, HeaderAddition, HeaderEdits } from "../model/config.ts";
import { lowerCase } from "../tables/text.ts";
import type { Fields } from "./fields.ts";
import { headerName, isRewritten } from "./matches.ts";
import { nearest } from "./spelling.ts";

/** `request_headers_to_add` and its three fellows, of whatever has them. */
export function readEdits(owner: Fields): Edited {
  return {
    requestEdits: readSide(owner, "request_headers_to_add", "request_headers_to_remove"),
    responseEdits: readSide(owner, "response_headers_to_add", "response_headers_to_remove"),
  };
}

/** A list of names of headers that are taken away. */
export function readRemovals(owner: Fields, list: string): string[] {
  return owner.strings(list).map(({ text, place }) => {
    const problem = nameProblem(text);
    if (problem !== undefined) owner.reject(place, problem);
    return lowerCase(text);
  });
}

function readSide(owner: Fields, toAdd: string, toRemove: string): HeaderEdits | undefined {
  const add = owner.messages(toAdd).map(readAddition);
  const remove = readRemovals(owner, toRemove);
  return add.length === 0 && remove.length === 0 ? undefined : { remove, add };
}

/** These say where a message ends and whose connection it is on: they belong to whoever writes the message. */
const FRAMING: ReadonlySet<string> = new Set([
  "connection",
  "content-length",
  "expect",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

const TOKEN = /^[-!#$%&'*+.^_|~`0-9a-z]+$/;

function nameProblem(written: string): string | undefined {
  const name = lowerCase(written);
  if (name.startsWith(":") || name === "host") return "pseudo headers and host can be neither added nor removed";
  if (name !== "" && !TOKEN.test(name)) return "holds a character that an HTTP header name must not";
  return FRAMING.has(name) ? `edits of ${name} are not supported yet: it frames the message` : undefined;
}

const ACTIONS = {
  APPEND_IF_EXISTS_OR_ADD: "append",
  ADD_IF_ABSENT: "addIfAbsent",
  OVERWRITE_IF_EXISTS_OR_ADD: "overwrite",
  OVERWRITE_IF_EXISTS: "overwriteIfExists",
} as const;

function readAddition(option: Fields): HeaderAddition {
  const header = option.message("header");
  const name = header?.string("key") ?? "";
  const problem = nameProblem(name);
  if (problem !== undefined) header?.reject("key", problem);
  const written = option.oneOf(
    "append_action",
    "APPEND_IF_EXISTS_OR_ADD",
    "ADD_IF_ABSENT",
    "OVERWRITE_IF_EXISTS_OR_ADD",
    "OVERWRITE_IF_EXISTS",
  );
  const append = option.boolean("append");
  if (append !== undefined && written !== "APPEND_IF_EXISTS_OR_ADD")
    option.reject("append", "cannot stand beside append_action", "remove append");
  return {
    name: lowerCase(name),
    value: header === undefined ? [] : readFormat(header),
    action: append === false ? "overwrite" : ACTIONS[written],
    keepEmpty: option.boolean("keep_empty_value") ?? false,
  };
}

/** What Envoy writes between percent signs, and XLB as well. */
const VARIABLES = {
  DOWNSTREAM_REMOTE_ADDRESS: "clientAddress",
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: "clientIp",
  PROTOCOL: "protocol",
  START_TIME: "startTime",
  HOSTNAME: "hostname",
} as const;
const NAMES = ["REQ", ...Object.keys(VARIABLES)];

/** One variable: its name, what is in brackets, and the limit. */
const VARIABLE = /%([A-Z0-9_]+)(?:\((.*?)\))?(?::(\d+))?%/y;

function readFormat(header: Fields): FormatPart[] {
  const text = header.string("value");
  const parts: FormatPart[] = [];
  let literal = "";
  for (let at = 0; at < text.length; ) {
    const percent = text.indexOf("%", at);
    literal += text.slice(at, percent === -1 ? undefined : percent);
    if (percent === -1) break;
    VARIABLE.lastIndex = percent;
    const found = VARIABLE.exec(text);
    if (text[percent + 1] === "%") {
      literal += "%";
      at = percent + 2;
    } else if (found === null) {
      header.reject("value", `the % at character ${percent + 1} begins no variable`, "write %% for a percent sign");
      return [];
    } else {
      if (literal !== "") parts.push({ kind: "text", text: literal });
      literal = "";
      const part = readVariable(header, found);
      if (part !== undefined) parts.push(part);
      at = VARIABLE.lastIndex;
    }
  }
  return literal === "" ? parts : [...parts, { kind: "text", text: literal }];
}

function readVariable(header: Fields, [whole, name = "", inside, limit]: RegExpExecArray): FormatPart | undefined {
  if (name === "REQ") return readRequestVariable(header, whole, inside ?? "", limit);
  const kind = Object.hasOwn(VARIABLES, name) ? VARIABLES[name as keyof typeof VARIABLES] : undefined;
  const plain = inside === undefined && limit === undefined;
  if (kind !== undefined && plain) return { kind };
  const near = kind === undefined ? nearest(name, NAMES) : undefined;
  const mend =
    near === undefined ? `XLB takes ${NAMES.map((name) => `%${name}%`).join(", ")}` : `did you mean ${near}?`;
  header.reject("value", `${whole} is not supported yet`, kind === undefined ? mend : `write %${name}% alone`);
  return undefined;
}

/** `%REQ(name?otherwise):limit%` */
function readRequestVariable(
  header: Fields,
  whole: string,
  inside: string,
  limit: string | undefined,
): FormatPart | undefined {
  const [name = "", otherwise, ...more] = inside.split("?").map((name) => headerName(name));
  const wrong = [name, otherwise].find((name) => name !== undefined && !/^:?[-!#$&'*+.^_|~`0-9a-z]+$/.test(name));
  if (wrong !== undefined || more.length > 0) {
    header.reject("value", `${whole} names no header`, "write %REQ(name)% or %REQ(name?other name)%");
    return undefined;
  }
  const rewritten = [name, otherwise].find((name) => name !== undefined && isRewritten(name));
  if (rewritten !== undefined)
    header.reject("value", `${whole} is not supported yet: Envoy rewrites ${rewritten}`, "name another header");
  return { kind: "request", name, otherwise, limit: limit === undefined ? undefined : Number(limit) };
}
