import xxhash from "xxhash-wasm";

/** Envoy's hashes of texts (source/common/common/hash.h). A text is as a head holds it: a character for each byte. */

const { h64Raw } = await xxhash();

/** xxHash64, a number of 64 bits without sign. */
export function xxHash64(text: string, seed = 0n): bigint {
  return h64Raw(Buffer.from(text, "latin1"), seed);
}

/** Of several texts in a row: each is hashed with the hash of those before it as its seed. */
export function xxHash64All(texts: readonly string[]): bigint {
  return texts.reduce((seed, text) => xxHash64(text, seed), 0n);
}

const MULTIPLIER = 0xc6a4a7935bd1e995n;
const SEED = 0xc70f6907n;

/** MurmurHash64A with the seed that libstdc++ gives std::hash. */
export function murmurHash2(text: string): bigint {
  const bytes = Buffer.from(text, "latin1");
  let hash = SEED ^ product(BigInt(bytes.length), MULTIPLIER);
  let at = 0;
  for (; at + 8 <= bytes.length; at += 8) {
    const mixed = shiftMix(product(bytes.readBigUInt64LE(at), MULTIPLIER));
    hash = product(hash ^ product(mixed, MULTIPLIER), MULTIPLIER);
  }
  if (at < bytes.length) {
    let rest = 0n;
    for (let last = bytes.length - 1; last >= at; last--) rest = (rest << 8n) | BigInt(bytes[last]!);
    hash = product(hash ^ rest, MULTIPLIER);
  }
  return shiftMix(product(shiftMix(hash), MULTIPLIER));
}

const product = (a: bigint, b: bigint) => BigInt.asUintN(64, a * b);
const shiftMix = (hash: bigint) => hash ^ (hash >> 47n);

/** Puts the hash of one more source behind those before it: the same source twice does not cancel itself out. */
export function combine(before: bigint | undefined, hash: bigint): bigint {
  if (before === undefined) return hash;
  return BigInt.asUintN(64, (before << 1n) | (before >> 63n)) ^ hash;
}
