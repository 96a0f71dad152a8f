/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Bytes of HTTP: what they may be, and eight of them at a time. */
#ifndef XLB_STEPS_TEXT_H
#define XLB_STEPS_TEXT_H

#define FNV_BASIS 0xcbf29ce484222325ULL
#define FNV_PRIME 0x100000001b3ULL
#define QUERY_BASIS ((FNV_BASIS ^ '?') * FNV_PRIME) /* names of query parameters are hashed behind a question mark */
#define FNV32_BASIS 0x811c9dc5u
#define FNV32_PRIME 0x01000193u

/* RFC 9110 section 5.6.2: tchar. One bit per byte value below 128. */
#define TOKEN_LOW 0x03ff6cfa00000000ULL
#define TOKEN_HIGH 0x57ffffffc7fffffeULL

static __always_inline bool is_token(__u8 c)
{
	if (c >= 128)
		return false;
	return ((c < 64 ? TOKEN_LOW : TOKEN_HIGH) >> (c & 63)) & 1;
}

static __always_inline __u8 lower(__u8 c)
{
	return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

#define EVERY_BYTE(x) (0x0101010101010101ULL * (x))

/* `lower` of eight bytes. */
static __always_inline __u64 lower_all(__u64 word)
{
	__u64 low = word & EVERY_BYTE(0x7f);
	__u64 from_a = low + EVERY_BYTE(0x80 - 'A');
	__u64 behind_z = low + EVERY_BYTE(0x7f - 'Z');

	return word | ((from_a ^ behind_z) & ~word & EVERY_BYTE(0x80)) >> 2;
}

/* True when all eight bytes are 0x20..0x7e, so that none of them can end a header value. May say false for others. */
static __always_inline bool all_printable(__u64 word)
{
	__u64 low = (word - EVERY_BYTE(0x20)) & ~word;
	__u64 delete = ((word ^ EVERY_BYTE(0x7f)) - EVERY_BYTE(1)) & ~(word ^ EVERY_BYTE(0x7f));

	return ((low | word | delete) & EVERY_BYTE(0x80)) == 0;
}

/* One bit, 0x80, at each such byte of the word; the lowest is right, higher ones may be too many. */
static __always_inline __u64 find_byte(__u64 word, __u8 c)
{
	__u64 x = word ^ EVERY_BYTE(c);

	return (x - EVERY_BYTE(1)) & ~x & EVERY_BYTE(0x80);
}

/* How many whole bytes lie below the lowest bit of a mask of 0x80s. */
static __always_inline __u32 bytes_below(__u64 mask)
{
	__u64 below = ((mask & -mask) - 1) & EVERY_BYTE(0x80);

	return (below >> 7) * EVERY_BYTE(1) >> 56;
}

#endif
