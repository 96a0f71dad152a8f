import type { Dice } from "../dice.ts";

/** ClientHellos, right ones and wrong ones: RFC 8446 section 4.1.2. */

export interface HelloParts {
  readonly version?: number;
  readonly session?: Buffer;
  readonly ciphers?: readonly number[];
  readonly compressions?: readonly number[];
  /** Missing: the hello ends without the length of any. */
  readonly extensions?: readonly (readonly [type: number, body: Buffer])[];
}

const u8 = (number: number) => Buffer.from([number & 0xff]);
const u16 = (number: number) => Buffer.from([(number >> 8) & 0xff, number & 0xff]);
/** With its length before it. */
export const short = (...parts: readonly Buffer[]) => counted(u8, parts);
export const long = (...parts: readonly Buffer[]) => counted(u16, parts);

function counted(size: (number: number) => Buffer, parts: readonly Buffer[]): Buffer {
  const bytes = Buffer.concat(parts);
  return Buffer.concat([size(bytes.length), bytes]);
}

export const numbers = (...list: readonly number[]) => Buffer.concat(list.map(u16));
export const serverName = (name: string, type = 0) => [0, long(u8(type), long(Buffer.from(name, "latin1")))] as const;
export const protocols = (...names: readonly string[]) =>
  [16, long(...names.map((name) => short(Buffer.from(name, "latin1"))))] as const;
export const versions = (...list: readonly number[]) => [43, short(numbers(...list))] as const;

/** The handshake message, before it is cut into records. */
export function helloMessage(parts: HelloParts): Buffer {
  const { version = 0x0303, session = Buffer.alloc(0), ciphers = [0x1301, 0xc02f], compressions = [0] } = parts;
  const body = Buffer.concat([
    u16(version),
    Buffer.alloc(32, 7),
    short(session),
    long(numbers(...ciphers)),
    short(Buffer.from(compressions)),
    ...(parts.extensions === undefined
      ? []
      : [long(...parts.extensions.map(([type, body]) => Buffer.concat([u16(type), long(body)])))]),
  ]);
  return Buffer.concat([u8(1), u8(body.length >> 16), u16(body.length), body]);
}

export const record = (content: Buffer, type = 22, version = 0x0301) =>
  Buffer.concat([u8(type), u16(version), long(content)]);

/** In records of so many bytes each. */
export function records(message: Buffer, size = 16_384): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) pieces.push(record(message.subarray(at, at + size)));
  return Buffer.concat(pieces);
}

export const hello = (parts: HelloParts = {}): Buffer => records(helloMessage(parts));

const NAMES = [
  "a.test",
  "A.Test",
  "b.test",
  "x.b.test",
  "y.x.b.test",
  "test",
  ".test",
  "a..test",
  "a.test.",
  "caf\xe9",
];
const PROTOCOLS = ["h2", "http/1.1", "foo", "bar", "http/1.0", "H2"];
const GREASE = [0x0a0a, 0x1a1a, 0xfafa];

/** A hello, mostly one that is right, and often something wrong with it. */
export function anyHello(dice: Dice): Buffer {
  if (dice.chance(0.04)) return anyStart(dice);
  if (dice.chance(0.04)) return anyOldHello(dice);
  const message = helloMessage(anyParts(dice));
  if (dice.chance(0.05)) return record(Buffer.concat([message, Buffer.alloc(dice.upTo(5))]));
  let bytes = dice.chance(0.3) ? records(message, dice.one([1, 3, 4, 5, 40, 100, 500])) : records(message);
  if (dice.chance(0.08)) bytes = Buffer.concat([anyRecord(dice), bytes]);
  if (dice.chance(0.1))
    bytes = Buffer.concat([bytes, Buffer.from(dice.text(dice.between(1, 40), "\x16\x03\x01\x00x"))]);
  if (dice.chance(0.1)) bytes = bytes.subarray(0, dice.between(1, bytes.length));
  for (let times = dice.chance(0.35) ? dice.upTo(4) : 0; times > 0; times--) spoil(bytes, dice);
  return bytes;
}

/** What comes first is often no TLS at all. */
function anyStart(dice: Dice): Buffer {
  const starts = [
    "GET / HTTP/1.1\r\n\r\n",
    "\x16",
    "\x16\x03\x01",
    "\x16\x03\x01\x00\x00",
    "SSH-2.0-x\r\n",
    "\x80\x2e\x01\x03\x01",
  ];
  return Buffer.concat([
    Buffer.from(dice.one(starts), "latin1"),
    Buffer.alloc(dice.one([0, 0, 1, 50, 17_000]), dice.between(0, 255)),
  ]);
}

/** RFC 5246 appendix E.2. */
function anyOldHello(dice: Dice): Buffer {
  const ciphers = Buffer.from(
    dice.one([[0, 0x13, 1], [7, 0, 0xc0, 0, 0xc0, 0x2f], [7, 0, 0xc0], [], [0, 0x13], [0, 0, 0xff]]),
  );
  const [session, challenge] = [Buffer.alloc(dice.one([0, 0, 16])), Buffer.alloc(dice.one([32, 16, 0, 40]), 9)];
  const body = Buffer.concat([
    Buffer.from([1]),
    numbers(dice.one([0x0301, 0x0303, 0x0304, 0x0300, 0x0305]), ciphers.length, session.length, challenge.length),
    ...[ciphers, session, challenge],
    Buffer.alloc(dice.one([0, 0, 0, 1, 4_100])),
  ]);
  const bytes = Buffer.concat([u16(0x8000 | body.length), body]);
  if (dice.chance(0.2)) spoil(bytes, dice);
  return dice.chance(0.2) ? bytes.subarray(0, dice.between(1, bytes.length)) : bytes;
}

function anyRecord(dice: Dice): Buffer {
  const alerts = [
    [1, 90],
    [1, 90, 0],
    [1, 0],
    [2, 40],
    [1, 100],
  ];
  const one = dice.chance(0.6)
    ? record(Buffer.from(dice.one(alerts)), 21)
    : record(
        Buffer.alloc(dice.one([0, 0, 1, 3])),
        dice.one([20, 22, 22, 22, 23, 0]),
        dice.one([0x0300, 0x0303, 0x0301]),
      );
  return Buffer.concat(Array.from({ length: dice.one([1, 1, 2, 4, 5, 32, 33]) }, () => one));
}

function anyParts(dice: Dice): HelloParts {
  if (dice.chance(0.05)) return { version: dice.one([0x0300, 0x0301, 0x0303, 0x0304, 0x0200]) };
  const extensions: (readonly [number, Buffer])[] = [];
  const add = (share: number, extension: () => readonly [number, Buffer]) => {
    if (dice.chance(share)) extensions.push(extension());
  };
  add(0.1, () => [dice.one(GREASE), Buffer.alloc(dice.between(0, 2))]);
  add(0.8, () => serverName(dice.one(NAMES), dice.chance(0.03) ? 1 : 0));
  add(0.7, () =>
    protocols(...Array.from({ length: dice.between(dice.chance(0.1) ? 0 : 1, 3) }, () => dice.one(PROTOCOLS))),
  );
  add(0.6, () =>
    versions(...Array.from({ length: dice.between(1, 4) }, () => dice.one([0x0304, 0x0304, 0x0303, 0x0302, 0x0a0a]))),
  );
  add(0.3, () => [dice.one([10, 13]), long(numbers(...Array.from({ length: dice.between(0, 3) }, () => 0x0403)))]);
  add(0.2, () => [11, short(Buffer.from(dice.one([[0], [1, 0], [1], []])))]);
  add(0.15, () => [45, short(Buffer.from(dice.one([[1], [0, 1], []])))]);
  add(0.1, () => [0xff01, short(Buffer.alloc(dice.between(0, 1)))]);
  add(0.15, () => [
    dice.one([5, 18, 23, 35, 42, 0x3374, 17_513, 57, 51, 41, 44]),
    Buffer.alloc(dice.one([0, 0, 1, 5])),
  ]);
  add(0.1, () => [27, short(numbers(...dice.one([[2], [2, 1], [2, 2], []])))]);
  add(0.05, () => [21, Buffer.alloc(dice.one([100, 12_000, 15_900, 16_300]))]);
  add(0.03, () => serverName("twice.test"));
  return {
    version: dice.chance(0.8) ? 0x0303 : dice.one([0x0301, 0x0302, 0x0300, 0x0304, 0x0305, 0x03ff]),
    session: Buffer.alloc(dice.chance(0.04) ? 33 : dice.one([0, 32, 32])),
    ciphers: [
      ...(dice.chance(0.2) ? [0x0a0a] : []),
      0x1301,
      0xc02f,
      ...(dice.chance(0.08) ? [0x5600] : []),
      ...(dice.chance(0.1) ? [0xff] : []),
    ],
    compressions: dice.chance(0.9) ? [0] : dice.one([[1, 0], [1], []]),
    extensions,
  };
}

/** A byte is another, is gone or is one too many; lengths are what that hits best. */
function spoil(bytes: Buffer, dice: Dice): void {
  const at = dice.between(0, Math.min(bytes.length - 1, dice.one([10, 60, 300])));
  bytes[at] = dice.one([bytes[at]! + 1, bytes[at]! - 1, dice.between(0, 255), 0]) & 0xff;
}
