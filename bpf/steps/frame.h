/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Follow a response through any split of its bytes: RFC 9112 sections 2 to 7.
 *
 * `follow` eats bytes that have to be looked at, `skip` those that only have to be counted. A response that cannot be
 * framed beyond doubt (two lengths, a length and a coding, a coding that is not chunked, a folded header, a chunk
 * size that is none) ends in FRAME_FAULT: nobody may guess where the next response begins.
 */
#ifndef XLB_STEPS_FRAME_H
#define XLB_STEPS_FRAME_H

#include "text.h"

/* FNV-1a 32 of the names that frame a response */
#define HASH_CONTENT_LENGTH 0x4df9451du
#define HASH_CONNECTION 0x38b99ed9u
#define HASH_TRANSFER_ENCODING 0xddb4744cu

#define VERSION_TEXT 0x2e312f50545448ULL /* "HTTP/1." */
#define CHUNKED_TEXT 0x64656b6e756863ULL /* "chunked" */

/* What was met in this window. */
struct follow_note {
	__u32 keep_alive; /* where a value `keep-alive` of Connection begins, plus one */
	__u32 head;       /* where a final head ends */
};

static __always_inline void frame_reset(struct framing *f)
{
	f->remaining = 0;
	f->state = FRAME_VERSION;
	f->status = 0;
	f->count = 0;
	f->flags = 0;
}

/* The next bytes are content whose number is known: nothing in them has to be seen. */
static __always_inline bool frame_skips(const struct framing *f)
{
	return f->state == FRAME_BODY || f->state == FRAME_CHUNK_DATA;
}

static __always_inline bool frame_in_body(const struct framing *f)
{
	return f->state >= FRAME_BODY && f->state <= FRAME_UNTIL_CLOSE;
}

/* Counts up to `available` bytes of content and says how many they were. */
static __always_inline __u64 skip(struct framing *f, __u64 available)
{
	__u64 n = f->remaining < available ? f->remaining : available;

	f->remaining -= n;
	if (f->remaining == 0)
		f->state = f->state == FRAME_BODY ? FRAME_DONE : FRAME_CHUNK_CR;
	return n;
}

/* RFC 9112 section 6.3: what the head says about the body. */
static __always_inline __u32 after_head(struct framing *f, bool head_request)
{
	if (f->status == 101)
		return FRAME_UNTIL_CLOSE;
	if (f->status < 200) {
		frame_reset(f);
		return FRAME_VERSION;
	}
	if (head_request || f->status == 204 || f->status == 304)
		return FRAME_DONE;
	if (f->flags & FRAME_CHUNKED) {
		f->count = 0;
		return f->flags & FRAME_HAS_LENGTH ? FRAME_FAULT : FRAME_CHUNK_SIZE;
	}
	if (f->flags & FRAME_HAS_LENGTH)
		return f->remaining ? FRAME_BODY : FRAME_DONE;
	return FRAME_UNTIL_CLOSE;
}

static __always_inline __u32 begin_body(struct framing *f, bool head_request)
{
	__u32 next = after_head(f, head_request);

	/* Of a body that goes wrong later, the state no longer tells that it had a head. */
	if (next != FRAME_VERSION && next != FRAME_FAULT)
		f->flags |= FRAME_HAS_HEAD;
	return next;
}

static __always_inline __u32 begin_value(struct framing *f)
{
	f->flags &= ~FRAME_SEEN_VALUE;
	switch (f->hash) {
	case HASH_CONTENT_LENGTH:
		if (f->flags & FRAME_HAS_LENGTH)
			return FRAME_FAULT;
		f->flags |= FRAME_HAS_LENGTH;
		f->remaining = 0;
		f->count = 0;
		return FRAME_LENGTH;
	case HASH_CONNECTION:
		return FRAME_CONNECTION;
	case HASH_TRANSFER_ENCODING:
		if (f->flags & FRAME_CHUNKED)
			return FRAME_FAULT;
		f->flags |= FRAME_CHUNKED;
		f->count = 0;
		return FRAME_CODING;
	default:
		return FRAME_SKIP_LINE;
	}
}

static __always_inline int hex_digit(__u8 c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* One byte; `at` is its place in the window. Returns the next state. */
static __always_inline __u32 follow_byte(struct framing *f, __u8 c, __u32 at, bool head_request,
					 struct follow_note *note)
{
	int digit;

	switch (f->state) {
	case FRAME_VERSION:
		if (f->count < 7) {
			if (c != (__u8)(VERSION_TEXT >> (f->count * 8)))
				return FRAME_FAULT;
		} else if (f->count == 7) {
			if (c == '0')
				f->flags |= FRAME_HTTP10;
			else if (c != '1')
				return FRAME_FAULT;
		} else {
			f->count = 0;
			return c == ' ' ? FRAME_STATUS : FRAME_FAULT;
		}
		f->count++;
		return FRAME_VERSION;
	case FRAME_STATUS:
		if (f->count < 3) {
			if (c < '0' || c > '9')
				return FRAME_FAULT;
			f->status = f->status * 10 + (c - '0');
			f->count++;
			return FRAME_STATUS;
		}
		if (f->status < 100 || (c != ' ' && c != '\r'))
			return FRAME_FAULT;
		return c == '\r' ? FRAME_LINE_LF : FRAME_REASON;
	case FRAME_REASON:
	case FRAME_SKIP_LINE:
		/* A line ends in CR LF and in nothing else, as on the slow path: who reads it after us may not be as lenient. */
		if (c == '\r')
			return FRAME_LINE_LF;
		return c == '\n' || c == '\0' ? FRAME_FAULT : f->state;
	case FRAME_LINE_LF:
		return c == '\n' ? FRAME_LINE : FRAME_FAULT;
	case FRAME_LINE:
		if (c == '\r')
			return FRAME_HEAD_LF;
		if (!is_token(c))
			return FRAME_FAULT;
		f->hash = (FNV32_BASIS ^ lower(c)) * FNV32_PRIME;
		/* The three names of interest begin with c or t: the others need not be spelt out. */
		return lower(c) == 'c' || lower(c) == 't' ? FRAME_NAME : FRAME_SKIP_LINE;
	case FRAME_NAME:
		if (c == ':')
			return begin_value(f);
		if (!is_token(c))
			return FRAME_FAULT;
		f->hash = (f->hash ^ lower(c)) * FNV32_PRIME;
		return FRAME_NAME;
	case FRAME_LENGTH:
		if (c >= '0' && c <= '9') {
			/* 18 digits fit; a space after the first digit ends them */
			if (f->count >= 18 || (f->flags & FRAME_SEEN_VALUE))
				return FRAME_FAULT;
			f->remaining = f->remaining * 10 + (c - '0');
			f->count++;
			return FRAME_LENGTH;
		}
		if (c == ' ' || c == '\t') {
			if (f->count)
				f->flags |= FRAME_SEEN_VALUE;
			return FRAME_LENGTH;
		}
		if (f->count == 0)
			return FRAME_FAULT;
		return c == '\r' ? FRAME_LINE_LF : FRAME_FAULT;
	case FRAME_CONNECTION:
		if (c == '\r')
			return FRAME_LINE_LF;
		if (c == '\n')
			return FRAME_FAULT;
		if (c == ',') {
			f->flags &= ~FRAME_SEEN_VALUE;
			return FRAME_CONNECTION;
		}
		if (c == ' ' || c == '\t' || (f->flags & FRAME_SEEN_VALUE))
			return FRAME_CONNECTION;
		f->flags |= FRAME_SEEN_VALUE;
		if (lower(c) == 'c')
			f->flags |= FRAME_CLOSE;
		if (lower(c) == 'k') {
			f->flags |= FRAME_KEEP_ALIVE;
			note->keep_alive = at + 1;
		}
		return FRAME_CONNECTION;
	case FRAME_CODING:
		/* exactly `chunked`, with spaces around it */
		if ((c == ' ' || c == '\t') && (f->count == 0 || f->count == 7))
			return FRAME_CODING;
		if (f->count == 7) {
			return c == '\r' ? FRAME_LINE_LF : FRAME_FAULT;
		}
		if (lower(c) != (__u8)(CHUNKED_TEXT >> (f->count * 8)))
			return FRAME_FAULT;
		f->count++;
		return FRAME_CODING;
	case FRAME_HEAD_LF:
		if (c != '\n')
			return FRAME_FAULT;
		if (f->status >= 200 || f->status == 101)
			note->head = at + 1;
		return begin_body(f, head_request);
	case FRAME_CHUNK_SIZE:
		digit = hex_digit(c);
		if (digit >= 0) {
			if (f->count >= 15)
				return FRAME_FAULT;
			f->remaining = f->remaining * 16 + digit;
			f->count++;
			return FRAME_CHUNK_SIZE;
		}
		if (f->count == 0)
			return FRAME_FAULT;
		if (c == '\r')
			return FRAME_CHUNK_SIZE_LF;
		return c == ';' || c == ' ' || c == '\t' ? FRAME_CHUNK_EXTENSION : FRAME_FAULT;
	case FRAME_CHUNK_EXTENSION:
		if (c == '\n')
			return FRAME_FAULT;
		return c == '\r' ? FRAME_CHUNK_SIZE_LF : FRAME_CHUNK_EXTENSION;
	case FRAME_CHUNK_SIZE_LF:
		f->count = 0;
		if (c != '\n')
			return FRAME_FAULT;
		return f->remaining ? FRAME_CHUNK_DATA : FRAME_TRAILER_LINE;
	case FRAME_CHUNK_CR:
		return c == '\r' ? FRAME_CHUNK_LF : FRAME_FAULT;
	case FRAME_CHUNK_LF:
		return c == '\n' ? FRAME_CHUNK_SIZE : FRAME_FAULT;
	case FRAME_TRAILER_LINE:
		if (c == '\r')
			return FRAME_TRAILER_LF;
		return c == '\n' ? FRAME_FAULT : FRAME_TRAILER_SKIP;
	case FRAME_TRAILER_SKIP:
		return c == '\n' ? FRAME_TRAILER_LINE : FRAME_TRAILER_SKIP;
	case FRAME_TRAILER_LF:
		return c == '\n' ? FRAME_DONE : FRAME_FAULT;
	default:
		return FRAME_FAULT;
	}
}

/* Eight bytes as they lie in memory; letters in lower case, and ':', '-' and ' ' are what they were. */
#define LOWER_WORD(word) ((word) | EVERY_BYTE(0x20))
#define WORD_HTTP_1_1 0x312e312f50545448ULL
#define WORD_CONTENT_ 0x2d746e65746e6f63ULL
#define WORD_LENGTH 0x203a6874676e656cULL
#define WORD_CONNECTI 0x697463656e6e6f63ULL
#define HALF_ON 0x203a6e6fu

/*
 * The usual beginning of a line, eight bytes at a time. Returns how many bytes of it were taken, with the state behind
 * them; 0 where it has to be read byte by byte. Needs sixteen readable bytes.
 */
static __always_inline __u32 follow_line(struct framing *f, const __u8 *line)
{
	__u64 first = *(const __u64 *)line, second = *(const __u64 *)(line + 8), marks;
	__u8 letter = lower((__u8)first);

	if (letter != 'c' && letter != 't') {
		if (!is_token(letter))
			return 0;
		f->state = FRAME_SKIP_LINE;
		return 1;
	}
	/* The bit that makes a letter lower would make marks of controls too: the marks are compared as they came. */
	marks = second;
	if ((__u8)(first >> 56) != '-' && (__u8)(first >> 56) != 'i' && (__u8)(first >> 56) != 'I')
		return 0;
	first = LOWER_WORD(first);
	second = LOWER_WORD(second);
	if (first == WORD_CONTENT_) {
		if (second != WORD_LENGTH) {
			/* Content-Type and its like: but let the machine see a colon or a name that is none. */
			if ((__u8)second == 'l')
				return 0;
			f->state = FRAME_SKIP_LINE;
			return 8;
		}
		if (marks >> 48 != (':' | ' ' << 8))
			return 0;
		f->hash = HASH_CONTENT_LENGTH;
		f->state = begin_value(f);
		return 16;
	}
	if (first == WORD_CONNECTI && (__u32)second == HALF_ON && ((__u32)marks) >> 16 == (':' | ' ' << 8)) {
		f->hash = HASH_CONNECTION;
		f->state = begin_value(f);
		return 12;
	}
	return 0;
}

/* "HTTP/1.1 200 OK" up to the status. Needs sixteen readable bytes. */
static __always_inline __u32 follow_status(struct framing *f, const __u8 *line)
{
	__u32 a = line[9] - '0', b = line[10] - '0', c = line[11] - '0';

	if (*(const __u64 *)line != WORD_HTTP_1_1 || line[8] != ' ' || line[12] != ' ')
		return 0;
	if (a == 0 || a > 9 || b > 9 || c > 9)
		return 0;
	f->status = a * 100 + b * 10 + c;
	f->state = FRAME_REASON;
	return 13;
}

/* `n` readable bytes of a window, or NULL. The barriers keep the place that was checked the place that is read. */
static __always_inline const __u8 *open_at(const __u8 *data, const __u8 *end, bool packet, __u32 place, __u32 n)
{
	const __u8 *here;

	barrier_value(place);
	if (place > XLB_STASH_BYTES - n)
		return NULL;
	barrier_value(place);
	here = data + place;
	barrier_value(here);
	return packet && here + n > end ? NULL : here;
}

/* How many bytes were eaten, with the notes' places, in one number. */
#define FOLLOWED(at, note) ((__u64)(note).head << 48 | (__u64)(note).keep_alive << 32 | (at))
#define FOLLOWED_BYTES(followed) ((__u32)(followed))
#define FOLLOWED_KEEP_ALIVE(followed) ((__u32)((followed) >> 32) & 0xffff)
#define FOLLOWED_HEAD(followed) ((__u32)((followed) >> 48))

/*
 * Eats bytes until there are no more or until a state is reached that need not look at bytes. Returns a FOLLOWED.
 * `length` is at most XLB_STASH_BYTES. `end`: a packet's, which the verifier wants asked for each time; NULL for memory
 * of XLB_STASH_BYTES.
 */
static __always_inline __u64 follow_bytes(struct framing *f, const __u8 *data, const __u8 *end, bool packet,
					  __u32 length, bool head_request)
{
	struct follow_note note = {};
	__u32 at = from(0);

	repeat (XLB_STASH_BYTES) {
		const __u8 *here;

		/* The verifier is to forget what it knows of it: no two turns are alike to it otherwise. */
		at = from(at);
		if (at >= length || at >= XLB_STASH_BYTES)
			break;
		if (frame_skips(f) || f->state >= FRAME_UNTIL_CLOSE)
			break;
		/* Most of a head is lines of no interest, and most of the others look alike. */
		here = at + 16 <= length ? open_at(data, end, packet, at, 16) : NULL;
		if (here) {
			__u32 taken;


			if (f->state == FRAME_SKIP_LINE || f->state == FRAME_REASON) {
				__u64 word = *(const __u64 *)here;
				__u64 mask = find_byte(word, '\r') | find_byte(word, '\n');
				__u32 before = bytes_below(mask);

				if (!mask) {
					at += 8;
					continue;
				}
				/* At a CR with its LF behind it the line is over; anything else is the machine's to judge. */
				if (before < 7 && (__u16)(word >> before * 8) == ('\r' | '\n' << 8)) {
					at += before + 2;
					f->state = FRAME_LINE;
					continue;
				}
				if (before) {
					at += before;
					continue;
				}
			} else {
				taken = 0;
				if (f->state == FRAME_LINE)
					taken = follow_line(f, here);
				else if (f->state == FRAME_VERSION && f->count == 0)
					taken = follow_status(f, here);
				if (taken) {
					at += taken;
					continue;
				}
			}
		}
		here = open_at(data, end, packet, at, 1);
		if (!here)
			break;
		f->state = follow_byte(f, *here, at, head_request, &note);
		at++;
	}
	return FOLLOWED(at, note);
}

/* A function of its own to the verifier too. */
__noinline __u64 follow(struct framing *f, struct stash *window, __u32 length, bool head_request)
{
	if (!f || !window)
		return 0;
	return follow_bytes(f, window->bytes, NULL, false, length, head_request);
}

#endif
