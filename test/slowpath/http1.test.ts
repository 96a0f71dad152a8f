import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  ChunkReader,
  type Field,
  HeadScanner,
  hostOf,
  Malformed,
  parseRequest,
  parseResponse,
  requestBody,
  responseBody,
  tokens,
  writeHead,
} from "../../src/slowpath/http1.ts";

/** HTTP/1.1 as bytes: what is taken, what is refused, and that it is the same however the bytes arrive. */

const bytes = (text: string) => Buffer.from(text, "latin1");
const head = (...lines: string[]) => bytes(`${lines.join("\r\n")}\r\n\r\n`);

/** The result, or the status of the refusal. Anything else thrown is a bug. */
function or<T>(f: () => T): T | number {
  try {
    return f();
  } catch (error) {
    if (error instanceof Malformed) return error.status;
    throw error;
  }
}

/** Ways to cut: at each byte, into single bytes, and where chance says. */
const cuts = (text: string): number[][] => [
  [],
  ...Array.from({ length: text.length + 1 }, (_, at) => [at]),
  Array.from({ length: text.length }, (_, at) => at),
];
const anyCuts = (length: number) =>
  fc.array(fc.nat(length), { maxLength: 6 }).map((places) => places.sort((a, b) => a - b));

function pieces(all: Buffer, at: readonly number[]): Buffer[] {
  const ends = [...at, all.length];
  return ends.map((end, i) => all.subarray(i === 0 ? 0 : ends[i - 1], end));
}

// ---- where a head ends ----

const MAX_HEAD = 64;

/** As Source does: the scanner sees the whole of what has come, each time more of it. */
function scan(text: string, at: readonly number[]): number | undefined {
  const scanner = new HeadScanner(MAX_HEAD);
  const all = bytes(text);
  return or(() => {
    for (const end of [...at, all.length]) {
      const length = scanner.scan(all.subarray(0, end));
      if (length !== undefined) return length;
    }
    return undefined;
  });
}

/** Undefined: not complete yet; below 400: its length; else the status. */
const ENDS: readonly (readonly [text: string, end: number | undefined])[] = [
  ["", undefined],
  ["GET / HTTP/1.1", undefined],
  ["GET / HTTP/1.1\r", undefined],
  ["GET / HTTP/1.1\r\n", undefined],
  ["GET / HTTP/1.1\r\nA: b\r\n\r", undefined],
  ["GET / HTTP/1.1\r\n\r\n", 18],
  ["GET / HTTP/1.1\r\n\r\nGET /next", 18],
  ["GET / HTTP/1.1\r\nA: b\r\nC:\td\r\n\r\n\r\n", 30],
  ["GET / HTTP/1.1\r\nA: \xe4\xff\r\n\r\n", 25],
  ["\r\n", 2],
  ["GET / HTTP/1.1\n\n", 400],
  ["\n", 400],
  ["GET / HTTP/1.1\r\n\n", 400],
  ["GET / HTTP/1.1\r\n\0", 400],
  ["GET / HTTP/1.1\r\nA: b\n\r\n", 400],
  ["GET / HTTP/1.1\rA", 400],
  ["GET / HTTP/1.1\r\r\n", 400],
  ["GET / HTTP/1.1\r\nA: b\rc: d\r\n\r\n", 400],
  ["GET /\0 HTTP/1.1\r\n\r\n", 400],
  ["GET / HTTP/1.1\r\nA: \x1b\r\n\r\n", 400],
  ["\x16\x03\x01", 400],
  ["GET /\x80", 400],
  ["\xff", 400],
  [`${"a".repeat(MAX_HEAD - 4)}\r\n\r\n`, MAX_HEAD],
  [`${"a".repeat(MAX_HEAD - 3)}\r\n\r\n`, 431],
  ["a".repeat(MAX_HEAD), undefined],
  ["a".repeat(MAX_HEAD + 1), 431],
];

describe("HeadScanner", () => {
  for (const [text, end] of ENDS) {
    test(`${JSON.stringify(text)}: ${end ?? "goes on"}, over every split`, () => {
      for (const at of cuts(text)) assert.equal(scan(text, at), end, `cut at ${at}`);
    });
  }

  test("shows the first line once, as soon as it is there", () => {
    const text = "GET / HTTP/1.1\r\nA: b\r\n\r\n";
    for (const at of cuts(text)) {
      const shown: string[] = [];
      const scanner = new HeadScanner(MAX_HEAD, (line) => void shown.push(line));
      for (const end of [...at, text.length]) {
        scanner.scan(bytes(text).subarray(0, end));
        assert.deepEqual(shown, end < 16 ? [] : ["GET / HTTP/1.1"], `cut at ${at}`);
      }
    }
    const strict = new HeadScanner(MAX_HEAD, () => {
      throw new Malformed(418, "no");
    });
    assert.equal(
      or(() => strict.scan(bytes("BREW / HTTP/1.1\r\nA"))),
      418,
    );
  });

  test("of any bytes it says the same, however they are cut", () => {
    const anyText = fc
      .array(fc.constantFrom("\r\n", "\r\n", "\r", "\n", "A: b", "x", "\t", "\0", "\x80", "word".repeat(9)), {
        maxLength: 9,
      })
      .map((parts) => parts.join(""));
    fc.assert(
      fc.property(
        anyText.chain((text) => fc.tuple(fc.constant(text), anyCuts(text.length))),
        ([text, at]) => assert.equal(scan(text, at), scan(text, [])),
      ),
      { numRuns: 500 },
    );
  });
});

// ---- what a head says ----

describe("request heads", () => {
  test("come out as they went in", () => {
    assert.deepEqual(parseRequest(head("GET /a?b=c;d HTTP/1.1", "Host: x", "x-A:1", "X-a: \t 2 3\t ", "Empty:"), 100), {
      ...{ method: "GET", target: "/a?b=c;d", minor: 1 },
      headers: [
        ["Host", "x"],
        ["x-A", "1"],
        ["X-a", "2 3"],
        ["Empty", ""],
      ],
    });
    assert.deepEqual(parseRequest(head("MKCOL * HTTP/1.0"), 0), {
      ...{ method: "MKCOL", target: "*", minor: 0, headers: [] },
    });
  });

  test("are the same again when written", () => {
    const text = head("POST /\x7e HTTP/1.1", "Host: x", "B: \xe4\t!", "b: ", "A: 1");
    const { method, target, headers } = parseRequest(text, 100);
    assert.deepEqual(writeHead(`${method} ${target} HTTP/1.1`, headers), text);
  });

  const REFUSED: readonly (readonly [why: string, lines: readonly string[], status?: number])[] = [
    ["an empty line", [""]],
    ["no version (HTTP/0.9)", ["GET /"]],
    ["another version", ["GET / HTTP/1.2"]],
    ["HTTP/2's preface", ["PRI * HTTP/2.0"]],
    ["a version in lower case", ["GET / http/1.1"]],
    ["more behind the version", ["GET / HTTP/1.1 x"]],
    ["a space behind the version", ["GET / HTTP/1.1 "]],
    ["two spaces before the target", ["GET  / HTTP/1.1"]],
    ["two spaces behind the target", ["GET /  HTTP/1.1"]],
    ["a tab for a space", ["GET\t/ HTTP/1.1"]],
    ["a space before the method", [" GET / HTTP/1.1"]],
    ["a method in lower case", ["get / HTTP/1.1"]],
    ["a method that nobody knows", ["BREW / HTTP/1.1"]],
    ["a target that is not ASCII", ["GET /\xe4 HTTP/1.1"]],
    ["a fragment", ["GET /a#b HTTP/1.1"]],
    ["a target with DEL", ["GET /\x7f HTTP/1.1"]],
    ["no colon", ["GET / HTTP/1.1", "Host"]],
    ["no header name", ["GET / HTTP/1.1", ": x"]],
    ["a space before the colon", ["GET / HTTP/1.1", "Host : x"]],
    ["a space in the name", ["GET / HTTP/1.1", "Ho st: x"]],
    ["a folded line", ["GET / HTTP/1.1", "A: b", " c: d"]],
    ["a line folded by a tab", ["GET / HTTP/1.1", "A: b", "\tc"]],
    ["a name that is not ASCII", ["GET / HTTP/1.1", "H\xe4: x"]],
    ["a value with DEL", ["GET / HTTP/1.1", "A: \x7f"]],
    ["a value with NUL", ["GET / HTTP/1.1", "A: \0"]],
    ["a value with a bare CR", ["GET / HTTP/1.1", "A: b\rc"]],
    ["a value with a bare LF", ["GET / HTTP/1.1", "A: b\nc: d"]],
    ["too many headers", ["GET / HTTP/1.1", ...Array.from({ length: 11 }, () => "A: b")], 431],
  ];
  for (const [why, lines, status = 400] of REFUSED) {
    test(`are refused with ${status} for ${why}`, () =>
      assert.equal(
        or(() => parseRequest(head(...lines), 10)),
        status,
      ));
  }

  test("may have as many headers as allowed", () => {
    const lines = Array.from({ length: 10 }, () => "A: b");
    assert.equal(parseRequest(head("GET / HTTP/1.1", ...lines), 10).headers.length, 10);
  });
});

describe("response heads", () => {
  test("come out as they went in", () => {
    assert.deepEqual(parseResponse(head("HTTP/1.0 404 Not \xe4 Found", "A: b")), {
      ...{ status: 404, reason: "Not \xe4 Found", minor: 0, headers: [["A", "b"]] },
    });
    assert.deepEqual(parseResponse(head("HTTP/1.1 200")), { status: 200, reason: "", minor: 1, headers: [] });
    assert.deepEqual(parseResponse(head("HTTP/1.1 999 ")), { status: 999, reason: "", minor: 1, headers: [] });
  });

  const REFUSED: readonly (readonly [why: string, lines: readonly string[]])[] = [
    ["another version", ["HTTP/2.0 200 OK"]],
    ["a status of two digits", ["HTTP/1.1 20 OK"]],
    ["a status of four digits", ["HTTP/1.1 2000 OK"]],
    ["a status below 100", ["HTTP/1.1 099 OK"]],
    ["two spaces", ["HTTP/1.1  200 OK"]],
    ["no status", ["HTTP/1.1"]],
    ["a space in front", [" HTTP/1.1 200 OK"]],
    ["a control character in the reason", ["HTTP/1.1 200 \x01"]],
    ["a bad header name", ["HTTP/1.1 200 OK", "A b: c"]],
    ["a bad header value", ["HTTP/1.1 200 OK", "A: \x7f"]],
    ["a folded line", ["HTTP/1.1 200 OK", "A: b", " c"]],
    ["too many headers", ["HTTP/1.1 200 OK", ...Array.from({ length: 1_001 }, () => "A: b")]],
  ];
  for (const [why, lines] of REFUSED) {
    test(`are the server's fault (502) for ${why}`, () =>
      assert.equal(
        or(() => parseResponse(head(...lines))),
        502,
      ));
  }
});

test("tokens are the words of all fields of that name", () => {
  const headers: Field[] = [
    ["Connection", "Close, ,x"],
    ["other", "y"],
    ["CONNECTION", "Keep-Alive,"],
  ];
  assert.deepEqual(tokens(headers, "connection"), ["close", "x", "keep-alive"]);
});

describe("host", () => {
  const CASES: readonly (readonly [hosts: readonly string[], minor: 0 | 1, host: string | undefined | number])[] = [
    [["a.b:80"], 1, "a.b:80"],
    [["[::1]:80"], 1, "[::1]:80"],
    [["A_b-c~"], 0, "A_b-c~"],
    [[], 0, undefined],
    [[], 1, 400],
    [["a", "a"], 1, 400],
    [["a", "a"], 0, 400],
    [["a b"], 1, 400],
    [["a/b"], 1, 400],
    [["a@b"], 1, 400],
    [["\xe4"], 1, 400],
  ];
  for (const [hosts, minor, host] of CASES) {
    test(`${JSON.stringify(hosts)} in HTTP/1.${minor}: ${host}`, () => {
      const headers = hosts.map((value, i): Field => [i ? "Host" : "hOsT", value]);
      assert.equal(
        or(() => hostOf({ method: "GET", target: "/", minor, headers })),
        host,
      );
    });
  }
});

// ---- how a body ends ----

const fieldsOf = (text: string): Field[] =>
  text === "" ? [] : text.split("|").map((line): Field => line.split(": ") as [string, string]);

describe("the body of a request", () => {
  const CASES: readonly (readonly [headers: string, minor: 0 | 1, body: string | number])[] = [
    ["", 1, "none"],
    ["", 0, "none"],
    ["Content-Length: 0", 1, "none"],
    ["content-LENGTH: 5", 1, "length 5"],
    ["Content-Length: 5", 0, "length 5"],
    ["Content-Length: 007", 1, "length 7"],
    ["Content-Length: 999999999999999", 1, "length 999999999999999"],
    ["Content-Length: 1000000000000000", 1, 400],
    ["Content-Length: ", 1, 400],
    ["Content-Length: +5", 1, 400],
    ["Content-Length: -5", 1, 400],
    ["Content-Length: 5.0", 1, 400],
    ["Content-Length: 0x5", 1, 400],
    ["Content-Length: 5, 5", 1, 400],
    ["Content-Length: 5|Content-Length: 5", 1, 400],
    ["Content-Length: 5|Content-Length: 6", 1, 400],
    ["Transfer-Encoding: chunked", 1, "chunked"],
    ["transfer-encoding: CHUNKED", 1, "chunked"],
    ["Transfer-Encoding: chunked", 0, 400],
    ["Transfer-Encoding: chunked|Content-Length: 5", 1, 400],
    ["Content-Length: 0|Transfer-Encoding: chunked", 1, 400],
    ["Transfer-Encoding: gzip", 1, 501],
    ["Transfer-Encoding: gzip, chunked", 1, 501],
    ["Transfer-Encoding: chunked, chunked", 1, 501],
    ["Transfer-Encoding: chunked|Transfer-Encoding: chunked", 1, 501],
    ["Transfer-Encoding: xchunked", 1, 501],
    ["Transfer-Encoding: chunked;q=1", 1, 501],
    ["Transfer-Encoding: ", 1, 501],
  ];
  for (const [headers, minor, expected] of CASES) {
    test(`${headers || "without headers"} in HTTP/1.${minor}: ${expected}`, () => {
      const request = { method: "POST", target: "/", minor, headers: fieldsOf(headers) };
      const body = or(() => requestBody(request));
      assert.equal(typeof body === "number" ? body : Object.values(body).join(" "), expected);
    });
  }
});

describe("the body of a response", () => {
  const CASES: readonly (readonly [method: string, status: number, headers: string, body: string | number])[] = [
    ["GET", 200, "", "untilClose"],
    ["GET", 200, "Content-Length: 0", "none"],
    ["GET", 200, "Content-Length: 5", "length 5"],
    ["GET", 200, "Transfer-Encoding: Chunked", "chunked"],
    ["HEAD", 200, "Content-Length: 5", "none"],
    ["HEAD", 200, "Transfer-Encoding: chunked", "none"],
    ["GET", 204, "Content-Length: 5", "none"],
    ["GET", 304, "Content-Length: 5", "none"],
    ["GET", 200, "Content-Length: 5|Transfer-Encoding: chunked", 502],
    ["GET", 200, "Content-Length: 5|Content-Length: 5", 502],
    ["GET", 200, "Content-Length: 5x", 502],
    ["GET", 200, "Transfer-Encoding: gzip, chunked", 502],
    ["GET", 200, "Transfer-Encoding: chunked|Transfer-Encoding: chunked", 502],
  ];
  for (const [method, status, headers, expected] of CASES) {
    test(`${status} to ${method}, ${headers || "without headers"}: ${expected}`, () => {
      const response = { status, reason: "", minor: 1 as const, headers: fieldsOf(headers) };
      const body = or(() => responseBody(response, method));
      assert.equal(typeof body === "number" ? body : Object.values(body).join(" "), expected);
    });
  }
});

// ---- chunked bodies ----

interface Chunked {
  readonly data: string;
  /** Bytes of the body; what is behind them is another message. */
  readonly used: number;
  readonly done: boolean;
  readonly trailers: readonly Field[];
}

/** As BodyReader does: what was not used is fed again, in front of what comes next. */
function read(text: string, at: readonly number[]): Chunked | number {
  const reader = new ChunkReader(418);
  return or(() => {
    let data = "";
    let used = 0;
    let left: Buffer = Buffer.alloc(0);
    for (const piece of pieces(bytes(text), at)) {
      left = Buffer.concat([left, piece]);
      const took = reader.feed(left);
      data += Buffer.concat(took.data).toString("latin1");
      used += took.used;
      left = left.subarray(took.used);
      if (!reader.done) assert.equal(left.length, 0, "it takes all until the end");
    }
    return { data, used, done: reader.done, trailers: reader.trailers };
  });
}

const whole = (text: string, data: string, trailers: readonly Field[] = []): Chunked => ({
  ...{ data, used: text.length, done: true, trailers },
});

describe("ChunkReader", () => {
  const GOOD: readonly (readonly [text: string, data: string, trailers?: readonly Field[]])[] = [
    ["0\r\n\r\n", ""],
    ["3\r\nabc\r\n0\r\n\r\n", "abc"],
    ["1\r\na\r\n00b\r\n01234567890\r\n000\r\n\r\n", "a01234567890"],
    ["A\r\n0123456789\r\n0\r\n\r\n", "0123456789"],
    ["4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n"],
    ["3;a=b\r\nabc\r\n0;c\r\n\r\n", "abc"],
    ['3 \t;a="\xe4 b"\r\nabc\r\n0\r\n\r\n', "abc"],
    ["0000000000003\r\nabc\r\n0\r\n\r\n", "abc"],
    [
      "0\r\nA: b\r\nc:\td \r\n\r\n",
      "",
      [
        ["A", "b"],
        ["c", "d"],
      ],
    ],
  ];
  for (const [text, data, trailers] of GOOD) {
    test(`takes ${JSON.stringify(text)}, over every split`, () => {
      for (const at of cuts(text)) assert.deepEqual(read(text, at), whole(text, data, trailers), `cut at ${at}`);
    });

    test(`leaves alone what is behind ${JSON.stringify(text)}`, () => {
      for (const next of ["\r\n", "GET / HTTP/1.1\r\n", "\0"]) {
        for (const at of cuts(text + next)) {
          assert.deepEqual(read(text + next, at), whole(text, data, trailers), `cut at ${at}`);
        }
      }
    });

    test(`does not take a part of ${JSON.stringify(text)} for all of it`, () => {
      for (let end = 0; end < text.length; end++) {
        const part = read(text.slice(0, end), []);
        assert.ok(typeof part === "object" && !part.done && data.startsWith(part.data), `${end} bytes`);
      }
    });
  }

  const BAD: readonly (readonly [why: string, text: string])[] = [
    ["no size", "\r\n"],
    ["no size but an extension", ";a\r\n"],
    ["a size that is no number", "g\r\n"],
    ["a size with a sign", "+3\r\nabc\r\n"],
    ["a size with a prefix", "0x3\r\nabc\r\n"],
    ["a size too large", "10000000000000\r\n"],
    ["a space before the size", " 3\r\nabc\r\n"],
    ["a space behind the size", "3 \r\nabc\r\n"],
    ["two sizes", "3 3\r\nabc\r\n"],
    ["a control character in an extension", "3;\x01\r\nabc\r\n"],
    ["a bare CR in an extension", "3;a\rb\r\nabc\r\n"],
    ["a bare LF behind the size", "3\nabc\r\n"],
    ["a bare CR behind the size", "3\r3\r\nabc\r\n"],
    ["a chunk longer than it said", "3\r\nabcd\r\n"],
    ["a chunk shorter than it said", "3\r\nab\r\n0\r\n\r\n"],
    ["a bare LF behind the data", "3\r\nabc\n0\r\n\r\n"],
    ["a bare LF at the end", "0\r\n\n"],
    ["a trailer without a colon", "0\r\nabc\r\n\r\n"],
    ["a trailer with a bad name", "0\r\na b: c\r\n\r\n"],
    ["a folded trailer", "0\r\na: b\r\n c\r\n\r\n"],
    ["a bare LF in the trailer", "0\r\na: b\n\r\n"],
    ["a line too long", `0;${"a".repeat(4_096)}`],
    ["trailers too large", `0\r\n${`a: ${"b".repeat(997)}\r\n`.repeat(9)}`],
  ];
  for (const [why, text] of BAD) {
    test(`refuses ${why}, over every split`, () => {
      const few = text.length > 100 ? [[], [1], [text.length - 1], [4_000]] : cuts(text);
      for (const at of few) assert.equal(read(text, at), 418, `cut at ${at}`);
    });
  }

  test("says what is wrong before the line is complete", () => {
    for (const text of ["x", "GET / HTTP/1.1", "3\r\nabcd", "12345678901234", "3 x", "3\rx"]) {
      assert.equal(read(text, []), 418, text);
    }
  });

  test("takes a line of just the length that is allowed", () => {
    const text = `0;${"a".repeat(4_092)}\r\n\r\n`;
    assert.deepEqual(read(text, [4_000]), whole(text, ""));
    assert.equal(read(`0;${"a".repeat(4_093)}\r\n\r\n`, []), 418);
  });

  test("gives any data back, cut and chunked in any way", () => {
    const anyBody = fc.array(fc.string({ minLength: 1, maxLength: 20, unit: "binary-ascii" }), { maxLength: 5 });
    fc.assert(
      fc.property(
        anyBody.chain((chunks) => {
          const text = `${chunks.map((c) => `${c.length.toString(16)}\r\n${c}\r\n`).join("")}0\r\n\r\n`;
          return fc.tuple(fc.constant({ text, data: chunks.join("") }), anyCuts(text.length));
        }),
        ([{ text, data }, at]) => assert.deepEqual(read(`${text}next`, at), whole(text, data)),
      ),
      { numRuns: 300 },
    );
  });

  test("says the same of any bytes, however they are cut", () => {
    const anyText = fc
      .array(fc.constantFrom("0", "1", "3", "a", " ", ";", "\r\n", "\r\n", "\r", "\n", "abc", "A: b", "\t", "\x01"), {
        maxLength: 14,
      })
      .map((parts) => parts.join(""));
    fc.assert(
      fc.property(
        anyText.chain((text) => fc.tuple(fc.constant(text), anyCuts(text.length))),
        ([text, at]) => assert.deepEqual(read(text, at), read(text, [])),
      ),
      { numRuns: 2_000 },
    );
  });
});
