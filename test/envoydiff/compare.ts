import { clusterOf } from "./places.ts";
import {
  comparableFields,
  type Expected,
  type Outcome,
  type SeenFields,
  type SeenHead,
  SOME_ID,
  seenHead,
  UP_TO,
} from "./reference.ts";
import { SILENCE } from "./tries.ts";

export const SUBJECTS = ["envoy", "kernel", "slow"] as const;
/** Those who answer; the fourth is the reference. */
export type Subject = (typeof SUBJECTS)[number];

/** What came back; `error` where nothing did. */
export interface Answer {
  readonly status?: number;
  readonly headers?: readonly (readonly [name: string, value: string])[];
  readonly body?: string;
  readonly error?: string;
  /** What servers saw of the tries of one that has an `x-act`. */
  readonly seen?: readonly Seen[];
  /** Of the same request, sent several times at once. */
  readonly burst?: readonly Answer[];
  readonly nonce?: string;
}

export interface Seen {
  readonly endpoint: string;
  readonly host: string;
  /** Which request of its connection. */
  readonly nth: number;
}

/** Who answered: a server, or the balancer itself. */
export function outcomeOf({ status, headers, body }: Answer): Outcome {
  const endpoint = headers?.find(([name]) => name === "x-endpoint")?.[1];
  return endpoint === undefined
    ? { kind: "reply", status: status ?? 0, body: body ?? "" }
    : { kind: "endpoint", cluster: clusterOf(endpoint), endpoint, status: status ?? 0 };
}

/** How an answer is none of those expected; undefined where it is one. */
export function disagreement(
  request: string,
  expected: Expected,
  answer: Answer,
  subject?: Subject,
): string | undefined {
  if (answer.burst !== undefined) return burstDisagreement(request, expected, answer.burst, subject);
  const silent = expected.outcomes.some((each) => each.kind === "reply" && each.body === SILENCE.body);
  if (silent && answer.error === SILENCE.body) return undefined;
  if (answer.error !== undefined && answer.error !== SILENCE.body) {
    const closed = expected.outcomes.filter((each) => each.kind === "reply" && each.body === "closed");
    const tries = closed.map((each) => triesDisagreement(each, answer));
    if (closed.length > 0) return tries.includes(undefined) ? undefined : tries[0];
  }
  if (answer.error !== undefined) return `no answer: ${answer.error}`;
  const withoutBody = /^(\r\n)*HEAD /.test(request);
  const outcome = outcomeOf(answer);
  const like = expected.outcomes.filter((allowed) => {
    if (allowed.kind === "reply" && outcome.kind === "reply")
      return allowed.status === outcome.status && (withoutBody || allowed.body === outcome.body);
    if (allowed.kind !== "endpoint" || outcome.kind !== "endpoint") return false;
    return allowed.endpoint === outcome.endpoint && (allowed.status ?? 200) === answer.status;
  });
  const [first] = like;
  if (first === undefined) return `${formatOutcome(outcome)}, not ${expected.outcomes.map(formatOutcome).join(" or ")}`;
  const heads = like.map(
    (allowed) =>
      headsDisagreement(allowed, answer, withoutBody, expected.own === true) ?? triesDisagreement(allowed, answer),
  );
  return heads.includes(undefined) ? undefined : heads[0];
}

/** Each as one alone, and as many too many as there have to be. */
function burstDisagreement(
  request: string,
  expected: Expected,
  burst: readonly Answer[],
  subject: Subject | undefined,
): string | undefined {
  const wrong = burst.map((each) => disagreement(request, expected, each, subject)).find((why) => why !== undefined);
  if (wrong !== undefined) return wrong;
  const { overflows } = expected;
  if (overflows === undefined) return undefined;
  const found = burst.filter(({ headers }) => headers?.some(([name]) => name === "x-envoy-overloaded")).length;
  /* The kernel path has connections beside those of the slow path: docs/configuration.md. */
  const right = subject === "kernel" && overflows.ofConnections ? found <= overflows.count : found === overflows.count;
  return right ? undefined : `${found} of ${burst.length} overflow, not ${overflows.count}`;
}

/** What servers saw of it, be it answered by one of them or not; the order is no matter. */
function triesDisagreement(outcome: Outcome, { seen }: Answer): string | undefined {
  const { tries = {}, mostPerConnection } = outcome;
  if (seen === undefined) return undefined;
  const found: Record<string, string[]> = {};
  for (const { endpoint, host } of seen) {
    const cluster = clusterOf(endpoint);
    found[cluster] = [...(found[cluster] ?? []), host];
  }
  const text = (of: Readonly<Record<string, readonly string[]>>) =>
    Object.entries(of)
      .filter(([, hosts]) => hosts.length > 0)
      .map(([cluster, hosts]) => `${cluster} ${[...hosts].sort()}`)
      .sort()
      .join("; ");
  if (text(found) !== text(tries)) return `tries at ${text(found) || "none"}, not ${text(tries) || "none"}`;
  const own = outcome.kind === "endpoint" ? seen.filter(({ endpoint }) => clusterOf(endpoint) === outcome.cluster) : [];
  const most = Math.max(0, ...own.map(({ nth }) => nth));
  return mostPerConnection !== undefined && most > mostPerConnection
    ? `request ${most} of its connection, which may have ${mostPerConnection}`
    : undefined;
}

/** What the server saw is in the body that it answered with. */
function headsDisagreement(allowed: Outcome, { headers = [], body = "" }: Answer, withoutBody: boolean, own: boolean) {
  const asked = allowed.kind === "endpoint" && !withoutBody ? allowed.head : undefined;
  return (
    (asked && headDisagreement(asked, seenHead(body, own))) ??
    (allowed.fields && fieldsDisagreement("the client", allowed.fields, comparableFields(headers, own)))
  );
}

function headDisagreement(expected: SeenHead, seen: SeenHead): string | undefined {
  if (expected.method !== seen.method) return `the server saw method ${seen.method}, not ${expected.method}`;
  if (expected.target !== seen.target) return `the server saw target ${seen.target}, not ${expected.target}`;
  return fieldsDisagreement("the server", expected.headers, seen.headers);
}

function fieldsDisagreement(who: string, expected: SeenFields, seen: SeenFields): string | undefined {
  const wrong = [...new Set([...Object.keys(expected), ...Object.keys(seen)])]
    .filter((name) => !isLike(expected[name], seen[name]))
    .map((name) => `${name} ${quote(seen[name])}, not ${quote(expected[name])}`);
  return wrong.length === 0 ? undefined : `${who} saw ${wrong.join("; ")}`;
}

/** Ids that are made for a request are compared by their shape, and what is left of a time by its bound. */
function isLike(expected: string | undefined, seen: string | undefined): boolean {
  if (expected === seen || expected === undefined || seen === undefined) return expected === seen;
  if (expected.startsWith(UP_TO)) return /^\d+$/.test(seen) && Number(seen) <= Number(expected.slice(UP_TO.length));
  return expected.includes(SOME_ID) && seen.replaceAll(UUID, SOME_ID) === expected;
}

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/g;

const quote = (text: string | undefined) => (text === undefined ? "absent" : JSON.stringify(text));

export function formatOutcome(outcome: Outcome): string {
  return outcome.kind === "endpoint"
    ? `${outcome.status ?? 200} from ${outcome.cluster} (${outcome.endpoint})`
    : `${outcome.status} ${JSON.stringify(outcome.body)}`;
}
