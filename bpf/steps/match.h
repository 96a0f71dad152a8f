/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Which route a request takes: walks of the compiled tables of docs/tables.md. First match wins. */
#ifndef XLB_STEPS_MATCH_H
#define XLB_STEPS_MATCH_H

#include "text.h"

static __always_inline struct word *word_at(void *blob, __u32 index)
{
	return bpf_map_lookup_elem(blob, &index);
}

/* One byte of the head, if it is there. The barrier keeps the sum that was checked the sum that is used. */
static __always_inline const __u8 *byte_at(const __u8 *data, const __u8 *end, __u32 at)
{
	barrier_value(at);
	if (at >= XLB_MAX_HEAD)
		return NULL;
	return data + at + 1 > end ? NULL : data + at;
}

static __always_inline const __u64 *eight_at(const __u8 *data, const __u8 *end, __u32 at)
{
	barrier_value(at);
	if (at >= XLB_MAX_HEAD)
		return NULL;
	return data + at + 8 > end ? NULL : (const __u64 *)(data + at);
}

/* What a walk brought: the last state's values. */
struct walk {
	__u32 below;    /* c of the deepest state reached */
	__u32 exact;    /* d, if the walk used up the text, else 0 */
	__u32 wildcard; /* host tries: d of the deepest state that had one with text left over */
};

/* Host tries: forward `c` = ends here, `d` = at least one byte follows; backward: `d` only. */
static __always_inline void walk_host(void *blob, __u32 root, const __u8 *data, const __u8 *end, __u32 offset,
				      __u32 length, bool backward, struct walk *out)
{
	__u32 state = root, at = from(0);
	struct word *w = word_at(blob, root);

	out->exact = 0;
	out->wildcard = 0;
	if (!w)
		return;
	repeat (XLB_MAX_HOST + 1) {
		__u32 where, next;
		const __u8 *p;

		if (at >= length) {
			out->exact = w->c;
			return;
		}
		if (w->d)
			out->wildcard = w->d;
		where = offset + (backward ? length - 1 - at : at);
		p = byte_at(data, end, where);
		if (!p || !w->a)
			return;
		next = w->a + lower(*p);
		w = word_at(blob, next);
		if (!w || w->b != state)
			return;
		state = next;
		at++;
	}
}

/* The rules of the virtual host that Envoy would search: exact, suffix, prefix, `*`. */
static __always_inline __u32 match_host(void *blob, const __u8 *data, const __u8 *end, __u32 offset, __u32 length)
{
	struct word *head = word_at(blob, 0);
	__u32 prefix = 0;
	struct walk walk;

	if (!head)
		return RULES_NONE;
	if (head->b) {
		walk_host(blob, head->b, data, end, offset, length, false, &walk);
		if (walk.exact)
			return walk.exact;
		prefix = walk.wildcard;
	}
	if (head->c) {
		walk_host(blob, head->c, data, end, offset, length, true, &walk);
		if (walk.wildcard)
			return walk.wildcard;
	}
	return prefix ? prefix : head->d;
}

/* The list of candidates for a path: prefix semantics at the deepest state, or exact where the path ends on it. */
static __always_inline __u32 walk_path(void *blob, __u32 root, const __u8 *data, const __u8 *end, __u32 offset,
				       __u32 length, bool fold)
{
	__u32 state = root, at = from(0);
	struct word *w = word_at(blob, root);

	if (!w)
		return 0;
	repeat (XLB_MAX_PATH + 1) {
		struct word *child;
		__u32 next;
		const __u8 *p;

		if (at >= length)
			return w->d;
		p = byte_at(data, end, offset + at);
		if (!p)
			return 0;
		if (!w->a)
			return w->c;
		next = w->a + (fold ? lower(*p) : *p);
		child = word_at(blob, next);
		if (!child || child->b != state)
			return w->c;
		w = child;
		state = next;
		at++;
	}
	return 0;
}

static __always_inline __u8 byte_of(const struct word *w, __u32 at)
{
	return ((const __u8 *)w)[at & 15];
}

/* Is the condition's value the text's `length` bytes from `offset`? */
static __always_inline bool equals(void *blob, __u32 value, __u32 length, const __u8 *data, const __u8 *end,
				   __u32 offset, bool fold)
{
	__u32 at = from(0);
	volatile bool same = false;

	repeat (XLB_MAX_PATH) {
		struct word *w;
		const __u8 *p;

		if (at >= length) {
			same = true;
			break;
		}
		w = word_at(blob, value + at / 16);
		p = byte_at(data, end, offset + at);
		if (!w || !p)
			break;
		if ((fold ? lower(*p) : *p) != byte_of(w, at))
			break;
		at++;
	}
	return same;
}

/* The same at any of `places` offsets in a row. */
static __always_inline bool found(void *blob, __u32 value, __u32 length, const __u8 *data, const __u8 *end,
				  __u32 offset, __u32 places, bool fold)
{
	__u32 at = from(0);
	volatile bool same = false;

	repeat (XLB_MAX_HEAD) {
		if (at >= places)
			break;
		if (equals(blob, value, length, data, end, offset + at, fold)) {
			same = true;
			break;
		}
		at++;
	}
	return same;
}

/*
 * Does the table take the whole text? Its head word: a = where the walk starts, b = the first word of the classes of
 * the 256 bytes, c = the first word of the table, d = where the states that accept begin. A state is the place of its
 * row in the table, of 16-bit places of the next states' rows; row 0 is the state without return.
 */
static __always_inline bool walk_table(void *blob, __u32 head, const __u8 *data, const __u8 *end, __u32 offset,
				       __u32 length)
{
	struct word *w = word_at(blob, head);
	__u32 at = from(0), state, classes, rows, accepting;
	volatile bool accepts = false;

	if (!w)
		return false;
	state = w->a;
	classes = w->b;
	rows = w->c;
	accepting = w->d;
	repeat (XLB_MAX_HEAD) {
		__u32 place;
		const __u8 *p;

		if (at >= length) {
			accepts = state >= accepting;
			break;
		}
		if (!state)
			break;
		p = byte_at(data, end, offset + at);
		if (!p)
			break;
		w = word_at(blob, classes + (*p >> 4));
		if (!w)
			break;
		place = state + byte_of(w, *p);
		w = word_at(blob, rows + (place >> 3));
		if (!w)
			break;
		state = ((const __u16 *)w)[place & 7];
		at++;
	}
	return accepts;
}

/* The entry of an action that is taken, by weight: a cluster and its edits. */
static __always_inline struct word *pick_entry(void *blob, __u32 action, struct word *route)
{
	__u32 at = from(1), ticket;
	struct word *entry;

	if (route->a == 1)
		return word_at(blob, action + 1);
	if (!route->b)
		return NULL;
	ticket = bpf_get_prandom_u32() % route->b;
	repeat (1024) {
		if (at > route->a)
			return NULL;
		entry = word_at(blob, action + at);
		if (!entry || ticket < entry->b)
			return entry;
		at++;
	}
	return NULL;
}

#endif
