/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Read one request head: RFC 9112 sections 3 to 6, and stricter. The kernel path takes only requests that every
 * server reads the same way; whatever is odd, rare or wrong is the slow path's, which judges it by the whole of HTTP.
 */
#ifndef XLB_STEPS_PARSE_H
#define XLB_STEPS_PARSE_H

#include "text.h"

/* FNV-1a 64 of the lower-case names */
#define HASH64_HOST 0x4077f8cc7eaf4d6fULL
#define HASH64_CONTENT_LENGTH 0x2d69a1e6ee916e7dULL
#define HASH64_CONNECTION 0xc7f597ea639b1b59ULL
#define HASH64_TRANSFER_ENCODING 0x8640bd735e9d802cULL
#define HASH64_UPGRADE 0x7f7d77d7c2a03db7ULL
#define HASH64_EXPECT 0x208ad7977190aad8ULL
#define HASH64_TE 0x8c83307b56ab672ULL
#define HASH64_PROXY_CONNECTION 0x5bc2b1fc8570c386ULL
#define HASH64_KEEP_ALIVE 0x9b912fcf8da69be0ULL
#define HASH64_HTTP2_SETTINGS 0x47b61074ea2735d5ULL

enum request_state {
	READ_TARGET,
	READ_LINE,
	READ_NAME,
	READ_SPACE,
	READ_VALUE,
	READ_END,
};

enum known_name {
	NAME_OTHER,
	NAME_HOST,
	NAME_CONTENT_LENGTH,
	NAME_CONNECTION,
};

enum request_flag {
	REQUEST_HAS_LENGTH = 1,
	REQUEST_CLOSE = 2,
	REQUEST_HAS_QUERY = 4,
};

enum method {
	METHOD_OTHER,
	METHOD_GET,
	METHOD_HEAD,
	METHOD_POST,
	METHOD_PUT,
	METHOD_DELETE,
	METHOD_OPTIONS,
	METHOD_PATCH,
};

/* Safe to send twice: RFC 9110 section 9.2.2, of those that carry no body. */
static __always_inline bool may_repeat(__u8 method)
{
	return method == METHOD_GET || method == METHOD_HEAD || method == METHOD_OPTIONS;
}

#define TEXT4(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)

/* Needs twelve readable bytes. */
static __always_inline void read_method(struct request_head *r, const __u8 *data)
{
	__u32 first = *(const __u32 *)data;
	__u32 second = *(const __u32 *)(data + 4);

	r->method = METHOD_OTHER;
	r->method_length = 0;
	if (first == TEXT4('G', 'E', 'T', ' ')) {
		r->method = METHOD_GET;
		r->method_length = 3;
	} else if (first == TEXT4('P', 'O', 'S', 'T') && data[4] == ' ') {
		r->method = METHOD_POST;
		r->method_length = 4;
	} else if (first == TEXT4('H', 'E', 'A', 'D') && data[4] == ' ') {
		r->method = METHOD_HEAD;
		r->method_length = 4;
	} else if (first == TEXT4('P', 'U', 'T', ' ')) {
		r->method = METHOD_PUT;
		r->method_length = 3;
	} else if (first == TEXT4('D', 'E', 'L', 'E') && (second & 0xffffff) == TEXT4('T', 'E', ' ', 0)) {
		r->method = METHOD_DELETE;
		r->method_length = 6;
	} else if (first == TEXT4('O', 'P', 'T', 'I') && second == TEXT4('O', 'N', 'S', ' ')) {
		r->method = METHOD_OPTIONS;
		r->method_length = 7;
	} else if (first == TEXT4('P', 'A', 'T', 'C') && (second & 0xffff) == TEXT4('H', ' ', 0, 0)) {
		r->method = METHOD_PATCH;
		r->method_length = 5;
	}
}

/* " HTTP/1.1\r\n" after the target: 0 for it, else the reason to decline. */
static __always_inline int read_version(const __u8 *p)
{
	if (*(const __u64 *)p != 0x312e312f50545448ULL)
		return *(const __u32 *)p == TEXT4('H', 'T', 'T', 'P') ? REASON_NOT_HTTP11 : REASON_BAD_REQUEST;
	return p[8] == '\r' && p[9] == '\n' ? 0 : REASON_BAD_REQUEST;
}

#define TEXT_HOST 0x74736f68ULL
#define TEXT_CONTENT_ 0x2d746e65746e6f63ULL
#define TEXT_KEEP_ALI 0x696c612d7065656bULL
#define TEXT_CLOSE 0x65736f6c63ULL

static __always_inline bool same_text(const __u8 *p, __u64 first, __u32 rest, __u32 length)
{
	/* up to twelve bytes, letters only: bit 0x20 makes them lower case */
	for (__u32 i = 0; i < 12; i++) {
		if (i >= length)
			break;
		if ((p[i] | 0x20) != (__u8)((i < 8 ? first >> (i * 8) : (__u64)rest >> ((i - 8) * 8))))
			return false;
	}
	return true;
}

/*
 * The name ends at `position`. 0, or the reason to decline. A hash can be forged, and these two decide where a request
 * goes and where it ends: so they are compared letter by letter, which a forged name does not survive.
 */
static __always_inline int end_name(struct request_head *r, const __u8 *name, const __u8 *end)
{
	r->name = NAME_OTHER;
	r->name_length = r->position - r->mark;
	switch (r->hash) {
	case HASH64_HOST:
		if (r->name_length != 4 || name + 4 > end || !same_text(name, TEXT_HOST, 0, 4))
			return REASON_BAD_REQUEST;
		r->name = NAME_HOST;
		return 0;
	case HASH64_CONTENT_LENGTH:
		if (r->name_length != 14 || name + 14 > end || !same_text(name, TEXT_CONTENT_, TEXT4('l', 'e', 'n', 'g'), 12))
			return REASON_BAD_REQUEST;
		r->name = NAME_CONTENT_LENGTH;
		return 0;
	case HASH64_CONNECTION:
		r->name = NAME_CONNECTION;
		return 0;
	case HASH64_TRANSFER_ENCODING:
		return REASON_TRANSFER_ENCODING;
	case HASH64_UPGRADE:
	case HASH64_HTTP2_SETTINGS:
		return REASON_UPGRADE;
	case HASH64_EXPECT:
		return REASON_EXPECT;
	case HASH64_TE:
	case HASH64_PROXY_CONNECTION:
	case HASH64_KEEP_ALIVE:
		return REASON_CONNECTION_HEADER;
	default:
		return 0;
	}
}

/*
 * One byte of the head outside values. `data` is the request's first byte, `end` its end.
 * 0 to go on, else the reason to decline.
 */
static __always_inline int read_byte(struct request_head *r, const __u8 *data, const __u8 *p, const __u8 *end)
{
	__u8 c = *p;
	int declined;

	switch (r->state) {
	case READ_TARGET:
		if (c > ' ' && c < 0x7f && c != '#') {
			if (c == '?' && !(r->flags & REQUEST_HAS_QUERY)) {
				r->flags |= REQUEST_HAS_QUERY;
				r->path_length = r->position - r->target;
			}
			break;
		}
		if (c != ' ')
			return REASON_BAD_REQUEST;
		r->target_length = r->position - r->target;
		if (!(r->flags & REQUEST_HAS_QUERY))
			r->path_length = r->target_length;
		if (p + 11 > end)
			return REASON_PARTIAL_HEAD;
		declined = read_version(p + 1);
		if (declined)
			return declined;
		r->position += 11;
		r->state = READ_LINE;
		return 0;
	case READ_LINE:
		if (c == '\r') {
			if (p + 2 > end)
				return REASON_PARTIAL_HEAD;
			if (p[1] != '\n')
				return REASON_BAD_REQUEST;
			r->position += 2;
			r->state = READ_END;
			return 0;
		}
		r->mark = r->position;
		r->hash = FNV_BASIS;
		r->state = READ_NAME;
		if (c == ':')
			return REASON_BAD_REQUEST;
		/* fall through to the first byte of the name */
	case READ_NAME:
		if (c == ':') {
			declined = end_name(r, data + (r->mark & (XLB_MAX_HEAD - 1)), end);
			if (declined)
				return declined;
			r->state = READ_SPACE;
			break;
		}
		if (!is_token(c))
			return REASON_BAD_REQUEST;
		r->hash = (r->hash ^ lower(c)) * FNV_PRIME;
		break;
	case READ_SPACE:
		if (c == ' ' || c == '\t')
			break;
		r->mark = r->position;
		r->state = READ_VALUE;
		return 0;
	default:
		return REASON_BAD_REQUEST;
	}
	r->position++;
	return 0;
}

/* Content-Length as digits only. */
static __always_inline int read_length(struct request_head *r, const __u8 *value, __u32 length, const __u8 *end)
{
	__u64 n = 0;

	if (r->flags & REQUEST_HAS_LENGTH || length == 0 || length > 18)
		return REASON_BAD_REQUEST;
	for (__u32 i = 0; i < 18; i++) {
		if (i >= length)
			break;
		if (value + i + 1 > end || value[i] < '0' || value[i] > '9')
			return REASON_BAD_REQUEST;
		n = n * 10 + (value[i] - '0');
	}
	r->flags |= REQUEST_HAS_LENGTH;
	r->content_length = n;
	return 0;
}

/* What an authority may consist of: RFC 3986 section 3.2, as on the slow path. One bit per byte value below 128. */
#define AUTHORITY_LOW 0x2fff7ff200000000ULL
#define AUTHORITY_HIGH 0x47fffffeaffffffeULL

static __always_inline bool is_authority(const __u8 *host, __u32 length, const __u8 *end)
{
	__u32 at = from(0);

	repeat (XLB_MAX_HOST + 1) {
		__u8 c;

		if (at >= length)
			return true;
		barrier_value(at);
		if (at > XLB_MAX_HOST || host + at + 1 > end)
			return false;
		c = host[at];
		if (c >= 128 || !(((c < 64 ? AUTHORITY_LOW : AUTHORITY_HIGH) >> (c & 63)) & 1))
			return false;
		at++;
	}
	return false;
}

/* A value has ended: [mark, stop) without trailing space. 0, or the reason to decline. */
static __always_inline int end_value(struct request_head *r, const __u8 *value, __u32 length, const __u8 *end)
{
	switch (r->name) {
	case NAME_HOST:
		if (r->host || length == 0 || length > XLB_MAX_HOST || !is_authority(value, length, end))
			return REASON_BAD_REQUEST;
		r->host = r->mark;
		r->host_length = length;
		return 0;
	case NAME_CONTENT_LENGTH:
		return read_length(r, value, length, end);
	case NAME_CONNECTION:
		if (r->connection)
			return REASON_CONNECTION_HEADER;
		if (length == 10 && value + 10 <= end && same_text(value, TEXT_KEEP_ALI, TEXT4('v', 'e', 0, 0), 10)) {
			r->connection = r->mark;
			return 0;
		}
		if (length == 5 && value + 5 <= end && same_text(value, TEXT_CLOSE, 0, 5)) {
			r->connection = r->mark;
			r->flags |= REQUEST_CLOSE;
			return 0;
		}
		return REASON_CONNECTION_HEADER;
	default:
		return 0;
	}
}

#endif
