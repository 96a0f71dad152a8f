import { clusterOf } from "./places.ts";
import {
  comparable,
  comparableFields,
  type Expected,
  type Outcome,
  type SeenFields,
  type SeenHead,
} from "./reference.ts";

export const SUBJECTS = ["envoy", "kernel", "slow"] as const;
/** Those who answer; the fourth is the reference. */
export type Subject = (typeof SUBJECTS)[number];

/** What came back; `error` where nothing did. */
export interface Answer {
  readonly status?: number;
  readonly headers?: readonly (readonly [name: string, value: string])[];
  readonly body?: string;
  readonly error?: string;
}

/** Who answered: a server, or the balancer itself. */
export function outcomeOf({ status, headers, body }: Answer): Outcome {
  const endpoint = headers?.find(([name]) => name === "x-endpoint")?.[1];
  return endpoint === undefined
    ? { kind: "reply", status: status ?? 0, body: body ?? "" }
    : { kind: "endpoint", cluster: clusterOf(endpoint), endpoint };
}

/** How an answer is none of those expected; undefined where it is one. */
export function disagreement(request: string, expected: Expected, answer: Answer): string | undefined {
  if (answer.error !== undefined) return `no answer: ${answer.error}`;
  const withoutBody = /^(\r\n)*HEAD /.test(request);
  const outcome = outcomeOf(answer);
  const like = expected.outcomes.filter((allowed) => {
    if (allowed.kind === "reply" && outcome.kind === "reply")
      return allowed.status === outcome.status && (withoutBody || allowed.body === outcome.body);
    return allowed.kind === "endpoint" && outcome.kind === "endpoint" && allowed.endpoint === outcome.endpoint;
  });
  const [first] = like;
  if (first === undefined) return `${formatOutcome(outcome)}, not ${expected.outcomes.map(formatOutcome).join(" or ")}`;
  const heads = like.map((allowed) => headsDisagreement(allowed, answer, withoutBody));
  return heads.includes(undefined) ? undefined : heads[0];
}

/** What the server saw is in the body that it answered with. */
function headsDisagreement(allowed: Outcome, { headers = [], body = "" }: Answer, withoutBody: boolean) {
  const asked = allowed.kind === "endpoint" && !withoutBody ? allowed.head : undefined;
  return (
    (asked && headDisagreement(asked, seenHead(body))) ??
    (allowed.fields && fieldsDisagreement("the client", allowed.fields, comparableFields(headers)))
  );
}

/** The head that a server answered with. */
export function seenHead(text: string): SeenHead {
  const [first = "", ...lines] = text.split("\r\n");
  const [method = "", target = ""] = first.split(" ");
  const fields = lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).trim()] as const;
  });
  const host = fields.find(([name]) => name.toLowerCase() === "host")?.[1] ?? "";
  return comparable(method, target, host, fields);
}

function headDisagreement(expected: SeenHead, seen: SeenHead): string | undefined {
  if (expected.method !== seen.method) return `the server saw method ${seen.method}, not ${expected.method}`;
  if (expected.target !== seen.target) return `the server saw target ${seen.target}, not ${expected.target}`;
  return fieldsDisagreement("the server", expected.headers, seen.headers);
}

function fieldsDisagreement(who: string, expected: SeenFields, seen: SeenFields): string | undefined {
  const wrong = [...new Set([...Object.keys(expected), ...Object.keys(seen)])]
    .filter((name) => expected[name] !== seen[name])
    .map((name) => `${name} ${quote(seen[name])}, not ${quote(expected[name])}`);
  return wrong.length === 0 ? undefined : `${who} saw ${wrong.join("; ")}`;
}

const quote = (text: string | undefined) => (text === undefined ? "absent" : JSON.stringify(text));

export function formatOutcome(outcome: Outcome): string {
  return outcome.kind === "endpoint"
    ? `200 from ${outcome.cluster} (${outcome.endpoint})`
    : `${outcome.status} ${JSON.stringify(outcome.body)}`;
}
