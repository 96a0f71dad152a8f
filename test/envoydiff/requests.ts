import { Dice } from "../dice.ts";
import { anyHost, type Made, type MadeRoute } from "./config.ts";
import { anyPath, otherCase } from "./fields.ts";
import { oddSpeech, someWay } from "./fronts.ts";
import type { Draft } from "./spec.ts";

/** Requests for a configuration, most of them aimed at the edge of one of its routes. A character is a byte: latin1. */
export function makeRequests(seed: number, made: Made, count: number): string[] {
  const dice = new Dice(seed, made.index, 2);
  const slow = { left: MOST_SLOW };
  return Array.from({ length: count }, () => makeRequest(made, slow, dice));
}

/** Each takes a second or two. */
const MOST_SLOW = 5;

function makeRequest(made: Made, slow: Draft["slow"], dice: Dice): string {
  const draft: Draft = {
    method: dice.one(["GET", "GET", "GET", "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH"]),
    path: anyPath(dice),
    suffix: "",
    version: "HTTP/1.1",
    host: anyHost(dice),
    headers: [],
    body: "",
    cluster: dice.one(made.spec.clusters.filter(({ quiet }) => quiet !== true)).name,
    quiet: dice.one([...made.spec.clusters.filter(({ quiet }) => quiet), { name: "nowhere" }]).name,
    slow,
  };
  while (dice.chance(0.4))
    draft.headers.push([dice.one(["x-a", "X-B", "accept", "x-other"]), dice.one(["a", "b", "", "A,b"])]);
  const target = made.routes.length > 0 && dice.chance(0.95) ? dice.one(made.routes) : undefined;
  if (target !== undefined) aim(target, draft, dice);
  for (const option of made.options) if (option.aim && dice.chance(0.25)) option.aim(made.spec, draft, dice);
  if (draft.method !== "GET" && draft.method !== "HEAD" && dice.chance(0.5)) draft.body = "ab";
  const { front } = made.spec;
  if (front !== undefined) {
    draft.headers.push(...someWay(front, dice));
    const text = textOf(draft);
    return dice.chance(0.15) ? oddSpeech(text, dice) : text;
  }
  return dice.chance(0.12) ? dice.one(ODDITIES)(draft, dice) : textOf(draft);
}

function aim({ route, domains, path, conditions, action }: MadeRoute, draft: Draft, dice: Dice): void {
  draft.host = nearHost(dice.one(domains), dice);
  path.aim(route.match, draft, dice);
  for (const [condition, entry] of conditions) condition.aim(entry, draft, dice);
  action.aim?.(route, draft, dice);
  /* A little beside the edge: what one condition made right, another request has wrong. */
  if (dice.chance(0.05)) draft.headers = draft.headers.filter(() => dice.chance(0.5));
}

/** Hosts at the edge of a domain. */
function nearHost(domain: string, dice: Dice): string {
  const star = dice.one(["a", "b.a", "", "x-", "A", "a.", "-", "[::1]"]);
  const host = domain === "*" ? anyHost(dice) : domain.replace("*", star);
  if (dice.chance(0.6)) return domain.replace("*", dice.one(["a", "b.a"]));
  return (
    dice.one([
      host,
      host,
      host,
      host,
      otherCase(host, dice),
      `${host}:80`,
      `${host}:8080`,
      `${host}:`,
      `${host}:0`,
      `${host}:x`,
      `${host}.`,
      `${host}.:80`,
      `x${host}`,
      `${host}x`,
      host.slice(1),
      host.slice(0, -1),
      `[${host}]`,
      `[${host}]:80`,
      host.replace(/:.*$/, ""),
      domain,
    ]) || "a.test"
  );
}

/** The request's bytes. `more` goes behind the other fields. */
export function textOf(draft: Draft, more: readonly string[] = []): string {
  const { method, path, suffix, version, host, headers, body } = draft;
  const lines = [`${method} ${path}${suffix} ${version}`];
  if (host !== undefined) lines.push(`Host: ${host}`);
  for (const [name, value] of headers) lines.push(`${name}: ${value}`);
  if (body !== "") lines.push(`Content-Length: ${body.length}`);
  return `${[...lines, ...more].join("\r\n")}\r\n\r\n${body}`;
}

const having =
  (...lines: readonly string[]) =>
  (draft: Draft) =>
    textOf({ ...draft, body: "" }, lines);

const chunked = (body: string) => (draft: Draft) =>
  `${textOf({ ...draft, method: "POST", body: "" }, ["Transfer-Encoding: chunked"])}${body}`;

/** What has nothing to do with the rules: forms of a request that are rare, old or wrong. */
const ODDITIES: readonly ((draft: Draft, dice: Dice) => string)[] = [
  (draft, dice) => textOf({ ...draft, method: dice.one(ODD_METHODS) }),
  (draft, dice) => textOf({ ...draft, method: dice.one(ODD_METHODS) }),
  (draft, dice) => textOf({ ...draft, suffix: dice.one(["#", "#a", "?a#b", "#?a"]) }),
  (draft) => textOf({ ...draft, host: undefined }),
  (draft, dice) =>
    textOf({
      ...draft,
      host: dice.one(["", "a b", "a/b", "a@b", "a_b", "é", "a,b", "*", "%61", "a\\b", "a#b", "a?b"]),
    }),
  (draft, dice) => textOf(draft, [`Host: ${dice.chance(0.5) ? draft.host : "b.test"}`]),
  (draft) => textOf({ ...draft, method: "CONNECT", path: draft.host ?? "a.test:80", suffix: "" }),
  (draft) => textOf({ ...draft, method: "OPTIONS", path: "*", suffix: "" }),
  (draft) => textOf({ ...draft, path: "*", suffix: "" }),
  (draft, dice) => textOf({ ...draft, path: `http://${draft.host}${dice.one([draft.path, ""])}` }),
  (draft, dice) => textOf({ ...draft, path: `${dice.one(["HTTP", "https", "ftp"])}://${anyHost(dice)}${draft.path}` }),
  (draft) => textOf({ ...draft, path: draft.path.slice(1) || "a" }),
  (draft, dice) =>
    textOf({ ...draft, path: `${draft.path}${dice.one(["\\", "|", '"', "<", "{", "^", "`", "[", "%", "%zz"])}` }),
  (draft) => textOf({ ...draft, path: `${draft.path} x` }),
  (draft) => textOf({ ...draft, path: `${draft.path}\xe9` }),
  (draft, dice) => textOf({ ...draft, path: `${draft.path}/${"p".repeat(dice.one([2_000, 2_100, 5_000]))}` }),
  (draft, dice) =>
    textOf({ ...draft, version: dice.one(["HTTP/1.0", "HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 "]) }),
  (draft) => textOf({ ...draft, version: "HTTP/1.0" }, ["Connection: keep-alive"]),
  having("Connection: close"),
  having("Connection: keep-alive"),
  having("Connection: x-a"),
  having("Connection: close, x-b"),
  having("Connection: host"),
  having("Connection: upgrade", "Upgrade: websocket"),
  having("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
  having("TE: trailers"),
  having("Keep-Alive: timeout=5"),
  having("Proxy-Connection: keep-alive"),
  having("Content-Length: 0"),
  having("Content-Length: 0", "Content-Length: 0"),
  having("Content-Length: +0"),
  having("Content-Length:"),
  having("Content-Length: 0", "Transfer-Encoding: chunked"),
  having("Transfer-Encoding: gzip, chunked"),
  having("Transfer-Encoding: identity"),
  having("x-a : b"),
  having(": b"),
  having("x a: b"),
  having("x-a"),
  having("x-a: a", " b"),
  having("x-a: \x01"),
  having("x-a: a\tb"),
  having("x-a: \xe9\xff"),
  having("x-a:    a   "),
  having("x_a: a"),
  having("x-a:"),
  having("x-a: a\rb"),
  having("x-a: a\nx-b: b"),
  (draft) => `\r\n${textOf(draft)}`,
  (draft) => textOf({ ...draft, body: "" }).replaceAll("\r\n", "\n"),
  chunked("2\r\nab\r\n0\r\n\r\n"),
  chunked("2;a=b\r\nab\r\n0\r\nx-t: 1\r\n\r\n"),
  chunked("zz\r\n"),
  (draft) => textOf({ ...draft, method: "POST", body: "ab" }, ["Expect: 100-continue"]),
  (draft, dice) => textOf({ ...draft, method: "POST", body: "b".repeat(dice.one([100, 5_000, 70_000])) }),
  (draft, dice) =>
    textOf({
      ...draft,
      headers: Array.from({ length: dice.one([90, 97, 98, 99, 100, 101, 110]) }, () => ["x-f", "1"]),
    }),
  (draft, dice) =>
    textOf({ ...draft, headers: [...draft.headers, ["x-f", "f".repeat(dice.one([7_900, 9_000, 62_000]))]] }),
];

const ODD_METHODS = [
  "TRACE",
  "CONNECT",
  "MSEARCH",
  "PROPFIND",
  "M-SEARCH",
  "QUERY",
  "LINK",
  "get",
  "Get",
  "FOO",
  "GE",
  "GETT",
  "PRI",
  "PATCHX",
];
