import type { Abort, AbortAnswer, Delay, Fault } from "../model/fault.ts";
import { oneLine } from "../tables/joined.ts";
import type { HeaderValues } from "./match.ts";
import { Headers, isGrpc, matchHeader, type RequestHead } from "./match.ts";

type Field = readonly [string, string];

/** What the fault filter does to one request: FaultFilter::decodeHeaders in source/extensions/filters/http/fault. */
export interface Injected {
  readonly delayMs: number;
  readonly reply?: { readonly status: number; readonly fields: readonly Field[]; readonly body: string };
}

const BODY = "fault filter abort";

/** Undefined: it goes on as it came. `cluster`: where its route leads to; `random`: a number below another. */
export function injectFault(
  fault: Fault,
  head: RequestHead,
  cluster: string | undefined,
  random: (below: number) => number,
): Injected | undefined {
  const values = new Headers(head, "each");
  if (fault.cluster !== undefined && fault.cluster !== cluster) return undefined;
  if (!fault.headers.every((header) => matchHeader(header, values))) return undefined;
  if (fault.nodes !== undefined && !fault.nodes.includes(oneLine(values.get("x-envoy-downstream-service-node"))))
    return undefined;
  const delayMs = fault.delay === undefined ? 0 : delayOf(fault.delay, values, random);
  const answer = fault.abort === undefined ? undefined : abortOf(fault.abort, values, random);
  if (answer === undefined) return delayMs === 0 ? undefined : { delayMs };
  return { delayMs, reply: replyOf(answer, values) };
}

function delayOf({ ms, fraction }: Delay, values: HeaderValues, random: (below: number) => number): number {
  const told = ms ?? wholeNumber(values, "x-envoy-fault-delay-request") ?? 0;
  const asked = ms === undefined ? wholeNumber(values, "x-envoy-fault-delay-request-percentage") : undefined;
  return random(fraction.outOf) < Math.min(fraction.share, asked ?? fraction.share) ? told : 0;
}

function abortOf({ answer, fraction }: Abort, values: HeaderValues, random: (below: number) => number) {
  const told = answer ?? answerAsked(values);
  const asked = answer === undefined ? wholeNumber(values, "x-envoy-fault-abort-request-percentage") : undefined;
  return random(fraction.outOf) < Math.min(fraction.share, asked ?? fraction.share) ? told : undefined;
}

function answerAsked(values: HeaderValues): AbortAnswer | undefined {
  const status = wholeNumber(values, "x-envoy-fault-abort-request");
  if (status !== undefined && status >= 200 && status < 600) return { kind: "http", status };
  const grpc = wholeNumber(values, "x-envoy-fault-abort-grpc-request");
  return grpc === undefined ? undefined : { kind: "grpc", status: grpc };
}

function wholeNumber(values: HeaderValues, name: string): number | undefined {
  const text = values.get(name)?.[0];
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function replyOf(answer: AbortAnswer, values: HeaderValues) {
  if (answer.kind === "http") return { status: answer.status, fields: [], body: BODY };
  if (!isGrpc(values)) return { status: 200, fields: [], body: BODY };
  const fields: Field[] = [
    ["content-type", "application/grpc"],
    ["grpc-status", String(answer.status)],
    ["grpc-message", BODY],
  ];
  return { status: 200, fields, body: "" };
}
