import assert from "node:assert/strict";
import { test } from "node:test";
import type { Address, OwnHeaders } from "../../src/model/config.ts";
import type { Field } from "../../src/route/edit.ts";
import type { RequestHead } from "../../src/route/match.ts";
import { answer, type Ends, expectedMs, lastForwarded, receive } from "../../src/route/own-headers.ts";
import type { Timeouts } from "../../src/route/timeouts.ts";

/** What Envoy 1.40 answered to the same; test/envoydiff/corpus/own-headers.json has its own words. */

const PLAIN: OwnHeaders = {
  askedBy: "via",
  isEdge: false,
  trustedHops: 0,
  appendsClient: true,
  appendsPort: false,
  via: "",
  server: "envoy",
  serverHeader: "overwrite",
  makesRequestId: true,
  keepsRequestId: false,
  tellsRequestId: false,
  marksTrace: true,
  internal: [],
  keepsClientCertificate: false,
};
const EDGE: OwnHeaders = { ...PLAIN, isEdge: true };
const ID = "00000000-0000-4000-8000-000000000001";
const client: Address = { ip: "192.0.2.9", port: 4_711 };
const ends: Ends = { client, local: { ip: "10.0.0.1", port: 80 }, machineIp: "198.51.100.1", makeId: () => ID };

const headOf = (headers: readonly Field[]): RequestHead => ({ method: "GET", authority: "a", path: "/", headers });
const received = (
  own: OwnHeaders | undefined,
  headers: readonly Field[],
  from = ends,
  internalOnly: readonly string[] = [],
) => receive(own, internalOnly, headOf(headers), from);
const seen = (own: OwnHeaders | undefined, headers: readonly Field[], from = ends) =>
  Object.fromEntries(received(own, headers, from).head.headers);

test("without an option that asks nothing is set, and nobody's advice is taken", () => {
  const headers: Field[] = [
    ["x-forwarded-for", "10.1.1.1"],
    ["x-envoy-retry-on", "5xx"],
    ["X-Envoy-Upstream-Rq-Timeout-Ms", "1"],
    ["referer", "a:b"],
  ];
  assert.deepEqual(received(undefined, headers).head.headers, [headers[0], headers[3]]);
});

test("the client is the last address of x-forwarded-for, unless this is the edge", () => {
  const forwarded: Field[] = [["x-forwarded-for", "10.1.1.1, 10.2.2.2"]];
  for (const own of [undefined, PLAIN]) assert.deepEqual(received(own, forwarded).client, { ip: "10.2.2.2", port: 0 });
  assert.deepEqual(received(EDGE, forwarded).client, client);
  assert.deepEqual(received({ ...EDGE, trustedHops: 2 }, forwarded).client, { ip: "10.1.1.1", port: 0 });
  assert.deepEqual(received({ ...EDGE, trustedHops: 3 }, forwarded).client, client);
  for (const nobody of ["", "x", "10.1.1.1:80", "[::1]", "10.1.1.1,", "01.1.1.1", "fe80::1%eth0"])
    assert.deepEqual(received(PLAIN, [["x-forwarded-for", nobody]]).client, client, nobody);
});

test("addresses of x-forwarded-for are read from the end", () => {
  const read = (text: string, skipped = 0) => lastForwarded(text, skipped);
  assert.deepEqual(read(" 10.1.1.1\t"), { address: { ip: "10.1.1.1", port: 0 }, isOnly: true });
  assert.deepEqual(read(",10.1.1.1"), { address: { ip: "10.1.1.1", port: 0 }, isOnly: false });
  assert.deepEqual(read("2001:DB8:0::1"), { address: { ip: "2001:db8::1", port: 0 }, isOnly: true });
  assert.deepEqual(read("::ffff:10.1.1.1"), { address: { ip: "::ffff:10.1.1.1", port: 0 }, isOnly: true });
  assert.deepEqual(read("10.1.1.1,", 1), { address: { ip: "10.1.1.1", port: 0 }, isOnly: false });
  assert.deepEqual(read("10.1.1.1", 1), { address: undefined, isOnly: false });
});

test("an edge appends its client, or its machine where the client is 127.0.0.1 or ::1", () => {
  const at = (ip: string) => ({ ...ends, client: { ip, port: 1 } });
  assert.equal(seen(EDGE, [])["x-forwarded-for"], "192.0.2.9");
  assert.equal(seen(EDGE, [["x-forwarded-for", "a"]])["x-forwarded-for"], "a,192.0.2.9");
  assert.equal(seen(EDGE, [["x-forwarded-for", ""]])["x-forwarded-for"], "192.0.2.9");
  for (const [ip, appended] of [
    ["127.0.0.1", "198.51.100.1"],
    ["::1", "198.51.100.1"],
    ["127.0.0.2", "127.0.0.2"],
  ] as const) {
    const headers = seen(EDGE, [], at(ip));
    assert.equal(headers["x-forwarded-for"], appended);
    assert.equal(headers["x-envoy-external-address"], ip);
  }
  assert.equal(seen({ ...EDGE, appendsClient: false }, [])["x-forwarded-for"], undefined);
  assert.equal(seen(PLAIN, [])["x-forwarded-for"], undefined);
});

test("scheme and port are believed of trusted hops, and of whoever is before one that is no edge", () => {
  const told: Field[] = [
    ["x-forwarded-proto", "https"],
    ["x-forwarded-port", "8443"],
  ];
  const of = (own: OwnHeaders, headers = told) => {
    const { head } = received({ ...own, appendsPort: true }, headers);
    const { "x-forwarded-proto": proto, "x-forwarded-port": port } = Object.fromEntries(head.headers);
    return [proto, port, head.scheme];
  };
  assert.deepEqual(of(EDGE), ["http", "80", "http"]);
  assert.deepEqual(of(PLAIN), ["https", "8443", "https"]);
  assert.deepEqual(of({ ...EDGE, trustedHops: 1 }), ["https", "8443", "https"]);
  assert.deepEqual(of({ ...EDGE, trustedHops: 1 }, []), ["http", "80", "http"]);
  assert.deepEqual(of({ ...PLAIN, scheme: "http" }), ["http", "8443", "http"]);
  assert.equal(received(PLAIN, [["x-forwarded-proto", ""]]).head.isLost, true);
  assert.equal(received(EDGE, [["x-forwarded-proto", ""]]).head.isLost, undefined);
});

test("only the first address of all can be internal", () => {
  const own = { ...PLAIN, internal: [{ ip: "10.0.0.0", bits: 8 }] };
  const isInternal = (own: OwnHeaders, chain: string | undefined, from = ends) =>
    seen(own, chain === undefined ? [] : [["x-forwarded-for", chain]], from)["x-envoy-internal"] === "true";
  const near = { ...ends, client: { ip: "10.3.3.3", port: 1 } };
  assert.equal(isInternal(own, "10.1.1.1"), true);
  assert.equal(isInternal(own, "10.1.1.1,10.1.1.1"), false);
  assert.equal(isInternal(own, "192.0.2.1"), false);
  assert.equal(isInternal(own, undefined, near), false);
  assert.equal(isInternal({ ...own, isEdge: true }, undefined, near), true);
  assert.equal(isInternal({ ...own, isEdge: true }, "10.1.1.1", near), false);
});

test("a request keeps its id unless it comes in from outside", () => {
  const uuid = "aaaaaaaa-bbbb-9ccc-8ddd-eeeeeeeeeeee";
  const of = (own: OwnHeaders, id?: string) =>
    seen(own, id === undefined ? [] : [["x-request-id", id]])["x-request-id"];
  const keeps = { ...EDGE, keepsRequestId: true };
  assert.deepEqual([of(PLAIN), of(PLAIN, ""), of(PLAIN, uuid), of(EDGE, uuid)], [ID, ID, uuid, ID]);
  assert.deepEqual([of(keeps, "mine"), of(keeps, uuid)], ["mine", uuid.replace("9", "4")]);
  assert.equal(of({ ...keeps, marksTrace: false }, uuid), uuid);
  assert.equal(of({ ...EDGE, makesRequestId: false }, uuid), uuid);
  assert.equal(of({ ...EDGE, makesRequestId: false }), undefined);
});

test("an odd referer is taken away", () => {
  const keeps = ["", "/a", "//a", "?x", "/a:b", "http://a.b:80/c?d", "x://a", "http://[::1]/", "http://a/<>"];
  const loses = [
    "http://",
    "http://a b",
    "http://u@a/",
    "http://a/#b",
    "a:b",
    "/a#b",
    "http://a_b/",
    "a<b",
    "1x://a",
    "/é",
  ];
  for (const text of keeps) assert.equal(seen(PLAIN, [["Referer", text]]).Referer, text, text);
  for (const text of loses) assert.equal(seen(PLAIN, [["Referer", text]]).Referer, undefined, text);
});

test("a server hears how long it is waited for: the shorter of try and whole, and never no time", () => {
  const timeouts = (wholeMs: number, perTryMs: number) => ({ wholeMs, perTryMs }) as Timeouts;
  assert.equal(expectedMs(timeouts(15_000, 0), 0), 15_000);
  assert.equal(expectedMs(timeouts(15_000, 2_000), 0), 2_000);
  assert.equal(expectedMs(timeouts(15_000, 2_000), 14_000), 1_000);
  assert.equal(expectedMs(timeouts(15_000, 2_000), 16_000), 1);
  assert.equal(expectedMs(timeouts(0, 2_000), 9_000), 2_000);
  assert.equal(expectedMs(timeouts(0, 0), 5), 0);
});

test("an answer says who gave it, when, and to which request", () => {
  const asked = headOf([["x-request-id", "i"]]);
  const told = (own: OwnHeaders, fields: readonly Field[], request: RequestHead | undefined = asked) =>
    Object.fromEntries(answer(own, fields, request, Date.UTC(2026, 0, 2)));
  const date = "Fri, 02 Jan 2026 00:00:00 GMT";
  const mine: Field[] = [
    ["Server", "s"],
    ["Date", "d"],
    ["Keep-Alive", "5"],
  ];
  assert.deepEqual(told(PLAIN, []), { date, server: "envoy" });
  assert.deepEqual(told(PLAIN, mine), { Date: "d", server: "envoy" });
  assert.deepEqual(told({ ...PLAIN, serverHeader: "appendIfAbsent" }, mine), { Server: "s", Date: "d" });
  assert.deepEqual(told({ ...PLAIN, serverHeader: "passThrough" }, []), { date });
  assert.equal(told({ ...PLAIN, via: "v" }, [["Via", "1.1 s"]]).via, "1.1 s, v");
  const tells = { ...PLAIN, tellsRequestId: true };
  assert.equal(told(tells, [["x-request-id", "of the server"]])["x-request-id"], "i");
  assert.equal(Object.hasOwn(told(tells, [], headOf([])), "x-request-id"), false);
  const traced = headOf([...asked.headers, ["x-envoy-force-trace", "1"]]);
  assert.equal(told(PLAIN, [], traced)["x-request-id"], "i");
  assert.deepEqual(answer(undefined, mine, asked, 0), mine);
});

test("what is for internal clients only is taken from all others, and from all where no option asks", () => {
  const told: readonly Field[] = [
    ["X-Inside", "1"],
    ["x-inside", "2"],
    ["x-other", "3"],
  ];
  const left = (own: OwnHeaders | undefined, chain: string) =>
    received(own, [...told, ["x-forwarded-for", chain]], ends, ["x-inside"])
      .head.headers.filter(([name]) => /inside|other/i.test(name))
      .map(([, value]) => value);
  assert.deepEqual(left(undefined, "10.0.0.1"), ["3"]);
  assert.deepEqual(left(EDGE, "10.0.0.1"), ["3"]);
  assert.deepEqual(left(PLAIN, "10.0.0.1"), ["3"]);
  const own = { ...PLAIN, internal: [{ ip: "10.0.0.0", bits: 8 }] };
  assert.deepEqual(left(own, "10.0.0.1"), ["1", "2", "3"]);
  assert.deepEqual(left(own, "192.0.2.1"), ["3"]);
});
