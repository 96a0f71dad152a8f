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
		if (!w)
			break;
		if (length - at >= 8 && !(at & 7)) {
			const __u64 *eight = eight_at(data, end, offset + at);

			if (!eight || (fold ? lower_all(*eight) : *eight) != ((const __u64 *)w)[at >> 3 & 1])
				break;
			at += 8;
			continue;
		}
		p = byte_at(data, end, offset + at);
		if (!p)
			break;
		if ((fold ? lower(*p) : *p) != byte_of(w, at))
			break;
		at++;
	}
	return same;
}

/* What a walk brought: the last state's values. */
struct walk {
	__u32 exact;    /* host tries: c of the last state, if the walk used up the text, else 0; others: the run */
	__u32 wildcard; /* host tries: d of the deepest state that had one with text left over */
	__u32 tail;     /* where the only way on lies, if the walk came to a tail, else 0; ... */
	__u32 at;       /* ... and how many bytes it had used up */
};

/* Host tries: forward `c` = ends here, `d` = at least one byte follows; backward: `d` only. */
static __always_inline void walk_host(void *blob, __u32 root, const __u8 *data, const __u8 *end, __u32 offset,
				      __u32 length, bool backward, struct walk *out)
{
	__u32 state = root, at = from(0);
	struct word *w = word_at(blob, root);

	out->exact = 0;
	out->wildcard = 0;
	out->tail = 0;
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
		if (w->a & XLB_TAIL) {
			out->tail = w->a & ~XLB_TAIL;
			out->at = at;
			return;
		}
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

/* The run for a text: prefix semantics at the deepest state, exact where the text ends on it. No `wildcard`. */
static __always_inline void walk_text(void *blob, __u32 root, const __u8 *data, const __u8 *end, __u32 offset,
				      __u32 length, bool fold, bool backward, struct walk *out)
{
	__u32 state = root, at = from(0);
	struct word *w = word_at(blob, root);

	out->exact = 0;
	out->tail = 0;
	if (!w)
		return;
	repeat (XLB_MAX_HEAD) {
		struct word *child;
		__u32 next;
		const __u8 *p;

		if (at >= length) {
			out->exact = w->d;
			return;
		}
		if (!w->a || w->a & XLB_TAIL)
			break;
		p = byte_at(data, end, offset + (backward ? length - 1 - at : at));
		if (!p)
			return;
		next = w->a + (fold ? lower(*p) : *p);
		child = word_at(blob, next);
		if (!child || child->b != state)
			break;
		w = child;
		state = next;
		at++;
	}
	out->exact = w->c;
	out->at = at;
	/* The walk has come to a tail, or not past one. */
	if (w->a & XLB_TAIL)
		out->tail = w->a & ~XLB_TAIL;
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

/*
 * The same for many expressions at once: the value of the row where the text ends. Here places are of 32 bits, and a
 * row's value is its last one: d of the head word is how many there are before it.
 */
static __always_inline __u32 walk_union(void *blob, __u32 head, const __u8 *data, const __u8 *end, __u32 offset,
					__u32 length)
{
	struct word *w = word_at(blob, head);
	__u32 at = from(0), state, classes, rows, width;

	if (!w)
		return 0;
	state = w->a;
	classes = w->b;
	rows = w->c;
	width = w->d;
	repeat (XLB_MAX_HEAD + 1) {
		bool over = at >= length;
		__u32 place = width;
		const __u8 *p;

		if (!state)
			return 0;
		if (!over) {
			p = byte_at(data, end, offset + at);
			if (!p)
				return 0;
			w = word_at(blob, classes + (*p >> 4));
			if (!w)
				return 0;
			place = byte_of(w, *p);
		}
		place += state;
		w = word_at(blob, rows + (place >> 2));
		if (!w)
			return 0;
		state = ((const __u32 *)w)[place & 3];
		if (over)
			return state;
		at++;
	}
	return 0;
}

/* The entry of an action on which a ticket falls, by weight. */
static __always_inline struct word *pick_weighted(void *blob, __u32 action, const struct word *route, __u64 ticket)
{
	__u32 at = from(1), n = route->a & ~ACTION_BY_HASH, total = route->b;
	struct word *entry;

	if (!total)
		return NULL;
	ticket %= total;
	repeat (1024) {
		if (at > n)
			return NULL;
		entry = word_at(blob, action + at);
		if (!entry || ticket < entry->b)
			return entry;
		at++;
	}
	return NULL;
}

/* The entry of an action that is taken, by weight: a cluster, its edits and the route's hash policies. */
static __always_inline struct word *pick_entry(void *blob, __u32 action, const struct word *route)
{
	if (route->a == 1)
		return word_at(blob, action + 1);
	return pick_weighted(blob, action, route, bpf_get_prandom_u32());
}

#endif
