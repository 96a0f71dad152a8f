import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { HashingPolicy, HashPolicy, HashSource } from "../../src/model/config.ts";
import { combine, murmurHash2, xxHash64, xxHash64All } from "../../src/route/hash.ts";
import { hashRequest } from "../../src/route/hash-policy.ts";
import { createTable, pickByHash, sharesOf } from "../../src/route/hash-table.ts";

/** Endpoints are those that Envoy 1.40 chose, of 127.77.0.1:21001 to 127.77.0.9:21001, told by their last digit. */

const address = (host: number) => `127.77.0.${host}:21001`;
const NINE = [1, 2, 3, 4, 5, 6, 7, 8, 9];

test("xxHash64 is that of its specification, with and without a seed, of every length", () => {
  assert.equal(xxHash64(""), 0xef46db3751d8e999n);
  assert.equal(xxHash64("a"), 0xd24ec4f1a98c6e5bn);
  assert.equal(xxHash64("abc"), 0x44bc2cf5ad770999n);
  assert.equal(xxHash64("Nobody inspects the spammish repetition"), 0xfbcea83c8a378bf1n);
  assert.equal(xxHash64("b", xxHash64("a")), xxHash64All(["a", "b"]));
  assert.equal(xxHash64All(["a"]), xxHash64("a"));
});

test("murmurHash2 is libstdc++'s std::hash", () => {
  assert.equal(murmurHash2(""), 0x553e93901e462a6en);
});

test("the same source twice does not cancel itself out", () => {
  assert.equal(combine(undefined, 5n), 5n);
  assert.equal(combine(1n << 63n, 0n), 1n);
  assert.notEqual(combine(5n, 5n), 0n);
});

describe("tables lead where Envoy's lead", () => {
  const RING: HashingPolicy = { kind: "ringHash", minimumSize: 1_024, maximumSize: 8_388_608, hash: "xxHash64" };
  const maglev = (tableSize: number): HashingPolicy => ({ kind: "maglev", tableSize });
  const WEIGHTS = [1, 2, 3, 4, 5, 1, 1, 7, 9];
  const all = NINE.map((host) => ({ host, key: address(host), weight: 1 }));
  const weighted = all.map((each, i) => ({ ...each, weight: WEIGHTS[i]! }));
  /** Every other one has a `hash_key`. */
  const keyed = (otherwise: (host: number) => string) =>
    all.map(({ host }) => ({ host, key: host % 2 === 0 ? `key${host - 1}` : otherwise(host), weight: 1 }));
  const cases: [string, HashingPolicy, typeof all, string][] = [
    ["RING_HASH", RING, all, "277841387374378678425289434343412544559852213667548534783265"],
    [
      "RING_HASH with weights and MURMUR_HASH_2",
      { kind: "ringHash", minimumSize: 100, maximumSize: 1_000, hash: "murmurHash2" },
      weighted,
      "458548899385499468545888439889175996415985454589785888375584",
    ],
    [
      "RING_HASH with weights and no more than 20 entries",
      { ...RING, minimumSize: 1, maximumSize: 20 },
      weighted,
      "545485593949853858889545899885858955488555494575548585995898",
    ],
    [
      "RING_HASH with keys and hostnames",
      { ...RING, minimumSize: 333, hash: "murmurHash2" },
      keyed((host) => `host${host - 1}`),
      "575468417849184183496792662722396916134593811318146271236153",
    ],
    ["MAGLEV", maglev(65_537), all, "578652661498885138941365488348899174636915866784754978535445"],
    ["MAGLEV with weights", maglev(251), weighted, "385975459857924828439218558397879992893998298993998438235939"],
    ["MAGLEV with keys", maglev(1_021), keyed(address), "936642888954816519818826176313754718819197443125426511579429"],
    ["RING_HASH of two", RING, [all[0]!, all[2]!], "313331331331331111133331313333111313133313333133131131311113"],
  ];
  for (const [name, policy, hosts, expected] of cases) {
    test(name, () => {
      const shares = sharesOf(hosts.map(({ weight }) => weight));
      const table = createTable(
        policy,
        hosts.map(({ key }, i) => ({ key, share: shares[i]! })),
      );
      const found = Array.from(expected, (_, i) => hosts[pickByHash(table, xxHash64(`user-${i}`))!]!.host);
      assert.equal(found.join(""), expected);
    });
  }

  test("a ring has at least its minimum of entries, a Maglev table all of them, by the weights", () => {
    const shares = sharesOf(WEIGHTS);
    const hosts = weighted.map(({ key }, i) => ({ key, share: shares[i]! }));
    for (const policy of [RING, maglev(65_537)]) {
      const table = createTable(policy, hosts);
      assert.ok(table.hosts.length >= 1_024);
      for (const [host, share] of shares.entries()) {
        const count = table.hosts.filter((each) => each === host).length;
        assert.ok(Math.abs(count / table.hosts.length - share) < 0.002, `${policy.kind} ${host}: ${count}`);
      }
    }
  });

  test("without hosts nothing is picked; another attempt may come to another host", () => {
    const shares = sharesOf([1, 1, 1]);
    const three = all.slice(0, 3).map(({ key }, i) => ({ key, share: shares[i]! }));
    for (const policy of [RING, maglev(251)]) {
      assert.equal(pickByHash(createTable(policy, []), 1n), undefined);
      const table = createTable(policy, three);
      const tried = new Set(Array.from({ length: 20 }, (_, attempt) => pickByHash(table, 7n, attempt)));
      assert.deepEqual([...tried].sort(), [0, 1, 2]);
    }
  });

  test("a hash behind the ring's last entry has the first", () => {
    const table = createTable(RING, [{ key: "a", share: 1 }]);
    assert.equal(table.kind === "ring" && table.hashes.length, 1_024);
    assert.equal(pickByHash(table, 2n ** 64n - 1n), 0);
    assert.equal(pickByHash(table, 0n), 0);
  });

  test("hosts of one key are taken in their order", () => {
    const table = createTable(RING, [
      { key: "same", share: 0.5 },
      { key: "same", share: 0.5 },
    ]);
    for (let i = 0n; i < 20n; i++) assert.equal(pickByHash(table, i << 59n), 0);
  });
});

describe("policies hash what Envoy hashes", () => {
  const shares = sharesOf(NINE.map(() => 1));
  const ring = createTable(
    { kind: "ringHash", minimumSize: 1_024, maximumSize: 8_388_608, hash: "xxHash64" },
    NINE.map((host, i) => ({ key: address(host), share: shares[i]! })),
  );
  const header = (name: string): HashSource => ({ kind: "header", name });
  const by = (...sources: (HashSource | { last: HashSource })[]): HashPolicy[] =>
    sources.map((each) => ("last" in each ? { source: each.last, terminal: true } : { source: each, terminal: false }));
  const A = header("x-a");
  const B = header("x-b");
  const NAMED: Record<string, HashPolicy[]> = {
    hdr: by(A),
    two: by(A, B),
    same: by(A, A),
    term: by({ last: A }, B),
    term2: by(A, { last: B }, header("x-c")),
    re: by({ ...A, rewrite: { kind: "regex", pattern: "^([^-]*)-.*", substitution: "\\1" } } as HashSource),
    q: by({ kind: "query", name: "k" }),
    ck: by({ kind: "cookie", name: "sid", path: "", attributes: [] }),
    path: by(header(":path")),
    host: by(header(":authority")),
    acc: by(header("accept")),
  };
  const FACTS: [policies: string, path: string, headers: [string, string][], host: number][] = [
    [
      "hdr",
      "/",
      [
        ["x-a", "b"],
        ["x-a", "c"],
        ["X-A", "a"],
      ],
      4,
    ],
    [
      "hdr",
      "/",
      [
        ["x-a", "a"],
        ["x-a", "b"],
        ["x-a", "c"],
      ],
      4,
    ],
    ["hdr", "/", [["x-a", "abc"]], 8],
    ["hdr", "/", [["x-a", ""]], 4],
    [
      "two",
      "/",
      [
        ["x-a", "one"],
        ["x-b", "two"],
      ],
      3,
    ],
    [
      "two",
      "/",
      [
        ["x-a", "two"],
        ["x-b", "one"],
      ],
      9,
    ],
    ["two", "/", [["x-b", "two"]], 8],
    ["same", "/", [["x-a", "one"]], 6],
    [
      "term",
      "/",
      [
        ["x-a", "one"],
        ["x-b", "two"],
      ],
      6,
    ],
    ["term", "/", [["x-b", "two"]], 8],
    [
      "term2",
      "/",
      [
        ["x-a", "one"],
        ["x-c", "three"],
      ],
      6,
    ],
    [
      "term2",
      "/",
      [
        ["x-a", "one"],
        ["x-b", "two"],
        ["x-c", "three"],
      ],
      3,
    ],
    ["re", "/", [["x-a", "tenant-7"]], 4],
    ["re", "/", [["x-a", "tenant-8"]], 4],
    ["re", "/", [["x-a", "tenant"]], 4],
    [
      "re",
      "/",
      [
        ["x-a", "b-1"],
        ["x-a", "a-2"],
      ],
      9,
    ],
    ["q", "/?k=v", [], 1],
    ["q", "/?k=v&k=w", [], 1],
    ["q", "/?a&k", [], 4],
    ["q", "/?k=", [], 4],
    ["q", "/?kk=w&k=%76", [], 7],
    ["q", "/?k=a=b", [], 1],
    ["ck", "/", [["Cookie", "sid=v"]], 1],
    ["ck", "/", [["Cookie", 'a=1;  sid="v"; sid=w']], 1],
    [
      "ck",
      "/",
      [
        ["Cookie", "xsid=w"],
        ["Cookie", "sid=v"],
      ],
      1,
    ],
    ["ck", "/", [["Cookie", "sid=a=b"]], 1],
    ["ck", "/", [["Cookie", "sid=v ; x"]], 2],
    ["ck", "/", [["Cookie", 'sid="']], 7],
    ["path", "/ring/path/x?y", [], 9],
    ["host", "/", [], 2],
    [
      "acc",
      "/",
      [
        ["accept", "a"],
        ["accept", "b"],
      ],
      9,
    ],
    [
      "acc",
      "/",
      [
        ["accept", "b"],
        ["accept", "a"],
      ],
      8,
    ],
  ];
  const ends = { client: { ip: "10.1.2.3", port: 4_000 }, local: { ip: "10.9.9.9", port: 80 } };
  const head = (path: string, headers: [string, string][]) => ({ method: "GET", authority: "h", path, headers });
  for (const [name, path, headers, host] of FACTS) {
    test(`${name} ${path} ${headers.map((field) => field.join(": ")).join(", ")}`, () => {
      const { hash, cookies } = hashRequest(NAMED[name]!, head(path, headers), ends, "give");
      assert.equal(NINE[pickByHash(ring, hash!)!], host);
      assert.deepEqual(cookies, []);
    });
  }

  test("what is not there has no hash", () => {
    const nothing: [string, string, [string, string][]][] = [
      ["hdr", "/", [["x-b", "a"]]],
      ["q", "/", []],
      ["q", "/?kk=1", []],
      ["ck", "/", []],
      ["ck", "/", [["Cookie", "sid; sid2=a"]]],
      ["ck", "/", [["Cookie", "sid=; sid=v"]]],
      ["ck", "/", [["Cookie", 'sid=""']]],
      ["ck", "/", [["Cookie", "SID=v"]]],
      ["ck", "/", [["Cookie", "sid =v"]]],
    ];
    for (const [name, path, headers] of nothing)
      assert.equal(hashRequest(NAMED[name]!, head(path, headers), ends, "give").hash, undefined, name);
    assert.equal(hashRequest(by({ kind: "sourceIp" }), head("/", []), { client: undefined }, "give").hash, undefined);
  });

  test("the client's address is hashed without its port", () => {
    assert.equal(hashRequest(by({ kind: "sourceIp" }), head("/", []), ends, "give").hash, xxHash64("10.1.2.3"));
    const six = { client: { ip: "2001:db8::1", port: 1 } };
    assert.equal(hashRequest(by({ kind: "sourceIp" }), head("/", []), six, "give").hash, xxHash64("2001:db8::1"));
  });

  const gives: HashSource = {
    kind: "cookie",
    name: "sid",
    ttlSeconds: 30,
    path: "/p",
    attributes: [
      { name: "SameSite", value: "Strict" },
      { name: "Secure", value: "" },
    ],
  };

  test("a client without the cookie gets one, the same on all of its connection, and counts as if it had it", () => {
    const { hash, cookies } = hashRequest(by(gives), head("/", []), ends, "give");
    const value = xxHash64("10.1.2.3:400010.9.9.9:80").toString(16).padStart(16, "0");
    assert.deepEqual(cookies, [`sid="${value}"; Max-Age=30; Path=/p; SameSite=Strict; Secure; HttpOnly`]);
    const again = hashRequest(by(gives), head("/", [["Cookie", `sid="${value}"`]]), ends, "give");
    assert.deepEqual(again, { hash, cookies: [] });
  });

  test("one for the session has no Max-Age; each policy gives its own", () => {
    const session: HashSource = { kind: "cookie", name: "s", ttlSeconds: 0, path: "", attributes: [] };
    const { cookies } = hashRequest(by(session, gives), head("/", []), ends, "give");
    assert.equal(cookies.length, 2);
    assert.match(cookies[0]!, /^s="[0-9a-f]{16}"; HttpOnly$/);
  });

  test("where none may be given, and where a terminal policy comes before, none is", () => {
    assert.deepEqual(hashRequest(by(gives), head("/", []), ends, "keep"), { hash: undefined, cookies: [] });
    const { cookies } = hashRequest(by({ last: A }, gives), head("/", [["x-a", "1"]]), ends, "give");
    assert.deepEqual(cookies, []);
  });
});
