import { clusterOf } from "./places.ts";
import { comparable, type Expected, type Outcome, type SeenHead } from "./reference.ts";

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
  const agrees = expected.outcomes.some((allowed) => {
    if (allowed.kind === "reply" && outcome.kind === "reply")
      return allowed.status === outcome.status && (withoutBody || allowed.body === outcome.body);
    return allowed.kind === "endpoint" && outcome.kind === "endpoint" && allowed.endpoint === outcome.endpoint;
  });
  if (!agrees) return `${formatOutcome(outcome)}, not ${expected.outcomes.map(formatOutcome).join(" or ")}`;
  if (outcome.kind === "reply" || withoutBody || expected.head === undefined) return undefined;
  return headDisagreement(expected.head, seenHead(answer.body ?? ""));
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
  const names = new Set([...Object.keys(expected.headers), ...Object.keys(seen.headers)]);
  const wrong = [
    ...(expected.method === seen.method ? [] : [`method ${seen.method}, not ${expected.method}`]),
    ...(expected.target === seen.target ? [] : [`target ${seen.target}, not ${expected.target}`]),
    ...[...names]
      .filter((name) => expected.headers[name] !== seen.headers[name])
      .map((name) => `${name} ${quote(seen.headers[name])}, not ${quote(expected.headers[name])}`),
  ];
  return wrong.length === 0 ? undefined : `the server saw ${wrong.join("; ")}`;
}

const quote = (text: string | undefined) => (text === undefined ? "absent" : JSON.stringify(text));

export function formatOutcome(outcome: Outcome): string {
  return outcome.kind === "endpoint"
    ? `200 from ${outcome.cluster} (${outcome.endpoint})`
    : `${outcome.status} ${JSON.stringify(outcome.body)}`;
}
