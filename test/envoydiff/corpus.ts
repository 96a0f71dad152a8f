import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Answer } from "./compare.ts";
import { isComparedInAnswers as isCompared } from "./reference.ts";
import type { Spec } from "./spec.ts";

/** Differences of the past, with what Envoy answered; a unit test asks the reference again. */
export interface Case {
  /** What it shows. */
  readonly about: string;
  /** The deliberate difference that it is an example of, where it is one. */
  readonly deliberate?: string;
  /** latin1: a character is a byte. */
  readonly request: string;
  readonly envoy: Answer;
  readonly spec: Spec;
}

export const CORPUS = join(import.meta.dirname, "corpus");

export function loadCorpus(directory = CORPUS): { readonly name: string; readonly cases: readonly Case[] }[] {
  const files = readdirSync(directory).filter((file) => file.endsWith(".json"));
  return files
    .sort()
    .map((name) => ({ name, cases: JSON.parse(readFileSync(join(directory, name), "utf8")) as Case[] }));
}

export function saveCases(name: string, cases: readonly Case[], directory = CORPUS): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, name), `${JSON.stringify(cases, null, 2)}\n`);
}

/** What of an answer the corpus keeps; `own`: with the headers that Envoy sets itself. */
export const kept = ({ status, headers, body, error, seen }: Answer, own: boolean): Answer => ({
  ...(status === undefined ? {} : { status }),
  ...(headers === undefined
    ? {}
    : { headers: headers.filter(([name]) => own || name === "x-endpoint" || isCompared(name)) }),
  ...(body === undefined ? {} : { body: own ? body : body.replace(/\r\nx-request-id: [^\r]*/, "") }),
  ...(error === undefined ? {} : { error }),
  ...(seen === undefined ? {} : { seen }),
});
