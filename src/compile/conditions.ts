import type { HeaderMatch, PlainStringMatch, PresentMatch, QueryMatch, Route } from "../model/config.ts";
import {
  CONDITION_IGNORE_CASE,
  CONDITION_INVERT,
  CONDITION_MISSING_AS_EMPTY,
  ConditionKind,
  HEADER_PATH_ALONE,
} from "../tables/layout.gen.ts";
import { isAscii, lowerCase } from "../tables/text.ts";
import { type NameIndex, queryName } from "./names.ts";
import { cut, hasAutomaton, TOO_LARGE } from "./pattern.ts";

/** One thing that the hook asks of a request. */
export interface Condition {
  /** Which text: an index of the names, or HEADER_PATH_ALONE. */
  readonly field: number;
  readonly kind: number;
  readonly flags: number;
  /** How many of its first bytes have been compared by whoever asks. */
  readonly skip: number;
  /** `value`, or for CONDITION_REGEX a pattern; for CONDITION_PRESENT whether it should be there. */
  readonly value: string | boolean;
  /** Equal conditions have equal ones. */
  readonly key: string;
}

export const MAX_CONDITIONS = 64;
const MAX_VALUE = 1_024;

/** Headers that the kernel path reads for itself and never keeps for the rules. */
const NOT_KEPT = ["content-length", "transfer-encoding", "connection", "upgrade", "expect", "te"];
export const isKept = (name: string) => !NOT_KEPT.includes(name);

/** Why the hook cannot ask for a header; undefined when it can. */
export function whyNotHeader({ name, value }: HeaderMatch, names: NameIndex): string | undefined {
  if (!isKept(name)) return `the kernel path does not match ${name}`;
  if (value.kind === "range") return `it matches ${name} by a range of numbers`;
  if (names.index(name) === undefined) return `header ${name} is a name too many, too long or not for the kernel path`;
  return whyNotValue(value, name, "header");
}

/** The same of a parameter of the query. */
export function whyNotQuery({ name, value }: QueryMatch, names: NameIndex): string | undefined {
  if (!isAscii(name) || names.index(queryName(name)) === undefined)
    return `query parameter ${name} is a name too many, too long or not ASCII`;
  return whyNotValue(value, name, "query parameter");
}

function whyNotValue(value: Exclude<HeaderMatch["value"], { kind: "range" }>, name: string, what: string) {
  if (value.kind === "present") return undefined;
  if (value.kind === "regex") return !hasAutomaton(value.pattern) ? `${what} ${name}: ${TOO_LARGE}` : undefined;
  return isAscii(value.value) && value.value.length <= MAX_VALUE
    ? undefined
    : `the value asked of ${name} is not ASCII or too long`;
}

/** All that a route asks beside the text of its path. Those that the hook cannot ask must not be among them. */
export function conditionsOf({ path, headers, query }: Route, names: NameIndex): Condition[] {
  const ofPath = path.kind === "regex" ? cut(path.pattern) : undefined;
  return [
    ...(ofPath === undefined || ofPath.rest === "" || ofPath.rest === ANYTHING
      ? []
      : [condition(HEADER_PATH_ALONE, ConditionKind.regex, 0, ofPath.rest, ofPath.literal.length)]),
    ...headers.map(({ name, invert, missingIsEmpty, value }) => {
      const flags = (invert ? CONDITION_INVERT : 0) | (missingIsEmpty ? CONDITION_MISSING_AS_EMPTY : 0);
      if (value.kind === "range") throw new Error("a range is for the slow path");
      return asked(names.index(name)!, flags, value);
    }),
    ...(query ?? []).map(({ name, value }) => asked(names.index(queryName(name))!, 0, value)),
  ];
}

/** An expression that any path on the kernel path matches: it is printable ASCII. */
const ANYTHING = ".*";

function asked(
  field: number,
  flags: number,
  value: PresentMatch | PlainStringMatch | { readonly kind: "regex"; readonly pattern: string },
): Condition {
  switch (value.kind) {
    case "present":
      return condition(field, ConditionKind.present, flags, value.present);
    case "regex":
      return condition(field, ConditionKind.regex, flags, value.pattern);
    default: {
      const fold = value.ignoreCase ? CONDITION_IGNORE_CASE : 0;
      const text = value.ignoreCase ? lowerCase(value.value) : value.value;
      return condition(field, ConditionKind[value.kind], flags | fold, text);
    }
  }
}

function condition(field: number, kind: number, flags: number, value: string | boolean, skip = 0): Condition {
  return { field, kind, flags, skip, value, key: `${field}/${kind}/${flags}/${skip}/${value}` };
}
