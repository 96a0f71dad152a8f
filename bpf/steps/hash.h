/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* xxHash64 with seed 0, in pieces that fit a program that may not loop as it likes. */
#ifndef XLB_STEPS_HASH_H
#define XLB_STEPS_HASH_H

#define HASH_PRIME_1 0x9e3779b185ebca87ULL
#define HASH_PRIME_2 0xc2b2ae3d27d4eb4fULL
#define HASH_PRIME_3 0x165667b19e3779f9ULL
#define HASH_PRIME_4 0x85ebca77c2b2ae63ULL
#define HASH_PRIME_5 0x27d4eb2f165667c5ULL

static __always_inline __u64 rotate(__u64 x, __u32 n)
{
	return x << n | x >> (64 - n);
}

/* What a sum becomes by eight more bytes. */
static __always_inline __u64 stir(__u64 sum, __u64 eight)
{
	return rotate(sum + eight * HASH_PRIME_2, 31) * HASH_PRIME_1;
}

/* The sums of four lanes of eight bytes. */
struct lanes {
	__u64 a, b, c, d;
};

static __always_inline void begin_lanes(struct lanes *l)
{
	l->a = HASH_PRIME_1 + HASH_PRIME_2;
	l->b = HASH_PRIME_2;
	l->c = 0;
	l->d = -HASH_PRIME_1;
}

static __always_inline __u64 end_lane(__u64 hash, __u64 sum)
{
	return (hash ^ stir(0, sum)) * HASH_PRIME_1 + HASH_PRIME_4;
}

static __always_inline __u64 end_lanes(const struct lanes *l)
{
	__u64 hash = rotate(l->a, 1) + rotate(l->b, 7) + rotate(l->c, 12) + rotate(l->d, 18);

	hash = end_lane(hash, l->a);
	hash = end_lane(hash, l->b);
	hash = end_lane(hash, l->c);
	return end_lane(hash, l->d);
}

static __always_inline __u64 add_eight(__u64 hash, __u64 eight)
{
	return rotate(hash ^ stir(0, eight), 27) * HASH_PRIME_1 + HASH_PRIME_4;
}

static __always_inline __u64 add_four(__u64 hash, __u32 four)
{
	return rotate(hash ^ four * HASH_PRIME_1, 23) * HASH_PRIME_2 + HASH_PRIME_3;
}

static __always_inline __u64 add_one(__u64 hash, __u8 one)
{
	return rotate(hash ^ one * HASH_PRIME_5, 11) * HASH_PRIME_1;
}

static __always_inline __u64 end_hash(__u64 hash)
{
	hash = (hash ^ hash >> 33) * HASH_PRIME_2;
	hash = (hash ^ hash >> 29) * HASH_PRIME_3;
	return hash ^ hash >> 32;
}

/* The last bytes of a text, fewer than eight, as they lie in memory; what lies behind them does not count. */
static __always_inline __u64 add_rest(__u64 hash, __u64 rest, __u32 length)
{
	if (length >= 4) {
		hash = add_four(hash, rest);
		rest >>= 32;
		length -= 4;
	}
	if (length >= 1)
		hash = add_one(hash, rest);
	if (length >= 2)
		hash = add_one(hash, rest >> 8);
	if (length >= 3)
		hash = add_one(hash, rest >> 16);
	return hash;
}

/* A number of an IPv4 address as text, with a dot behind it; its length in the upper half. */
#define OCTET(n)                                                                                                       \
	((n) >= 100 ? 4ULL << 32 | '.' << 24 | ('0' + (n) % 10) << 16 | ('0' + (n) / 10 % 10) << 8 | ('0' + (n) / 100) :     \
	 (n) >= 10  ? 3ULL << 32 | '.' << 16 | ('0' + (n) % 10) << 8 | ('0' + (n) / 10) :                                  \
		      2ULL << 32 | '.' << 8 | ('0' + (n)))
#define OCTETS_4(n) OCTET(n), OCTET((n) + 1), OCTET((n) + 2), OCTET((n) + 3)
#define OCTETS_16(n) OCTETS_4(n), OCTETS_4((n) + 4), OCTETS_4((n) + 8), OCTETS_4((n) + 12)
#define OCTETS_64(n) OCTETS_16(n), OCTETS_16((n) + 16), OCTETS_16((n) + 32), OCTETS_16((n) + 48)

static const __u64 octets[256] = {OCTETS_64(0), OCTETS_64(64), OCTETS_64(128), OCTETS_64(192)};

/* xxHash64 of an IPv4 address as text. Without a branch on its length but the last: each is verified by itself. */
static __always_inline __u64 hash_ipv4(__u32 ip)
{
	__u64 a = octets[ip & 0xff], b = octets[ip >> 8 & 0xff], c = octets[ip >> 16 & 0xff], d = octets[ip >> 24];
	__u32 front = (a >> 32) + (b >> 32), length = front + (c >> 32) + (d >> 32) - 1;
	__u64 first = (__u32)a | (__u64)(__u32)b << 8 * (a >> 32);
	__u64 second = (__u32)c | (__u64)(__u32)d << 8 * (c >> 32);
	/* Shifted by half, twice: by 64 at once would be by none. */
	__u64 low = first | second << 4 * front << 4 * front, high = second >> (64 - 8 * front & 63);
	__u64 hash = HASH_PRIME_5 + length;

	if (length < 8)
		return end_hash(add_rest(hash, low, length));
	return end_hash(add_rest(add_eight(hash, low), high, length - 8));
}

#endif
