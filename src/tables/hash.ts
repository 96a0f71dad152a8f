/** FNV-1a, 64 bits, of the lower-case text: what bpf/steps/parse.h computes while it reads a header's name. */
export function fnv1a64(text: string): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(text.toLowerCase(), "latin1")) {
    hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  }
  return hash;
}
