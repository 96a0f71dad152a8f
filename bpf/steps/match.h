/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Which route a request takes: walks of the compiled tables of docs/tables.md. First match wins. */
#ifndef XLB_STEPS_MATCH_H
#define XLB_STEPS_MATCH_H

#include "text.h"

static __always_inline struct word *word_at(void *blob, __u32 index)
{
	__u32 line = index / XLB_LINE_WORDS;
	struct line *found = bpf_map_lookup_elem(blob, &line);

	if (!found)
		return NULL;
	/* What may still be NULL to the verifier may not be added to. */
	barrier_value(found);
	return &found->words[index % XLB_LINE_WORDS];
}

/* Four words, which begin at a multiple of four. */
static __always_inline const __u8 *line_at(void *blob, __u32 index)
{
	__u32 line = index / XLB_LINE_WORDS;

	return bpf_map_lookup_elem(blob, &line);
}

/* A state: two words, which begin at an even one. */
static __always_inline struct word *state_at(void *blob, __u32 index)
{
	__u32 line = index / XLB_LINE_WORDS;
	struct line *found = bpf_map_lookup_elem(blob, &line);

	if (!found)
		return NULL;
	barrier_value(found);
	return &found->words[index % XLB_LINE_WORDS & ~1];
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

/*
 * `count` bytes of the head, 1 to 8, as one number, the first lowest. What lies around them is read too: a head has at
 * least 16 bytes, and behind its first 8 always 8 that were read before.
 */
static __always_inline bool bytes_at(const __u8 *data, const __u8 *end, __u32 at, __u32 count, bool fold, __u64 *out)
{
	/* Without branches: in loops that read several texts each would double the ways that the verifier follows. */
	__u32 early = (at + count - 8) >> 31, others = (8 - count) * 8 & 63;
	const __u64 *eight;
	__u64 bytes, folds;

	barrier_value(early);
	eight = eight_at(data, end, at + (count - 8) * (1 - early));
	if (!eight)
		return false;
	bytes = *eight << (others * early) >> others;
	folds = fold;
	barrier_value(folds);
	*out = bytes | ((bytes ^ lower_all(bytes)) & -folds);
	return true;
}

/* Are the blob's bytes from the word `value` on the text's `length` bytes from `offset`? */
static __always_inline bool equals(void *blob, __u32 value, __u32 length, const __u8 *data, const __u8 *end,
				   __u32 offset, bool fold)
{
	__u32 at = from(0);
	struct word *w = NULL;
	volatile bool same = false;

	/* A bound that the verifier knows, or a counter of what is left, would have other values with each turn. */
	length = from(length);
	repeat (XLB_MAX_PATH) {
		__u32 count;
		__u64 bytes;

		barrier_value(at);
		count = length - at;
		if (at >= length) {
			same = true;
			break;
		}
		if (count > 8)
			count = 8;
		if (!(at & 15))
			w = word_at(blob, value + at / 16);
		/* Behind its end a text has zeros. */
		if (!w || !bytes_at(data, end, offset + at, count, fold, &bytes) ||
		    bytes != ((const __u64 *)w)[at >> 3 & 1])
			break;
		at += 8;
	}
	return same;
}

/* A text, a trie, and where the one leads in the other. */
struct walk {
	__u32 rules; /* whose blob */
	__u32 root;
	__u32 offset;
	__u32 length;
	__u32 flags;
	__u32 goes_on; /* the value of the last state that has one for texts that go on, and behind which this one does */
	__u32 ends;    /* that of the state with which it ends; 0: with none */
};

enum {
	WALK_FOLD = 1,
	WALK_BACKWARD = 2,
};

/* Where the bytes lead on from a state: src/tables/trie.ts has the other half of it. */
static __always_inline __u32 place_for(void *blob, const struct word *state, __u64 bytes)
{
	__u32 low = bytes, high = bytes >> 32, log = state->b >> XLB_PLACES_SHIFT, scatter = state->d, place;
	__u32 x = low * 0x9e3779b1 + high * 0x85ebca6b, y = low * 0xc2b2ae35 + high * 0x27d4eb2f;

	if (log > XLB_ONE_SCATTER) {
		__u32 at = (x ^ x >> 16) * 0x7feb352d >> (32 - (log - XLB_SCATTER_SHIFT) & 31);
		struct word *w = word_at(blob, scatter + at / 4);

		if (!w)
			return 0;
		scatter = ((const __u32 *)w)[at & 3];
	}
	place = x + y * scatter;
	place = (place ^ place >> 15) * 0x846ca68b;
	return state->c + 2 * (log ? place >> (32 - log & 31) : 0);
}

/* From the text's first byte to the last, or backward; not further than the trie knows it. */
static __always_inline void walk_text(void *blob, struct walk *w, const __u8 *data, const __u8 *end)
{
	__u32 at = from(0), next = w->root, length = w->length;
	bool fold = w->flags & WALK_FOLD, backward = w->flags & WALK_BACKWARD;
	__u64 bytes = from(0);

	w->goes_on = 0;
	w->ends = 0;
	repeat (XLB_MAX_HEAD) {
		struct word *state = state_at(blob, next);
		__u32 first, follow, step, left = length - at;

		if (!state)
			return;
		/* Nothing led to a root yet. */
		first = state[1].b >> XLB_FIRST_SHIFT & XLB_STEP_MASK;
		if (first) {
			if (first > left ||
			    !bytes_at(data, end, w->offset + (backward ? left - first : at), first, fold, &bytes))
				return;
			at += first;
			left -= first;
		}
		if (*(const __u64 *)state != bytes)
			return;
		step = state[1].b >> XLB_STEP_SHIFT & XLB_STEP_MASK;
		follow = state[1].b & 0xffff;
		if (follow) {
			__u32 offset = w->offset + (backward ? left - follow : at);

			if (follow > left)
				return;
			if (follow <= (step ? XLB_NEAR_BYTES : XLB_NEAR_BYTES_LAST)) {
				__u64 near = step ? state[1].a : *(const __u64 *)&state[1].c;

				if (!bytes_at(data, end, offset, follow, fold, &bytes) || bytes != near)
					return;
			} else if (!equals(blob, state[1].a, follow, data, end, offset, fold)) {
				return;
			}
			at += follow;
			left -= follow;
		}
		if (!left) {
			w->ends = state->d;
			return;
		}
		if (state->c)
			w->goes_on = state->c;
		if (!step || step > left)
			return;
		if (!bytes_at(data, end, w->offset + (backward ? left - step : at), step, fold, &bytes))
			return;
		next = place_for(blob, state + 1, bytes);
		at += step;
	}
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

/* Of the rows of an automaton: the line that a walk is in, which mostly has its next place too. */
struct row_line {
	const struct line *line;
	__u32 index;
};

static __always_inline bool look_at_row(void *blob, struct row_line *have, __u32 index)
{
	if (index != have->index) {
		have->index = index;
		have->line = bpf_map_lookup_elem(blob, &index);
		barrier_value(have->line);
	}
	return have->line;
}

/* The class of a byte, of the two lines of ASCII's: a head with any other byte was declined before. */
static __always_inline __u32 class_of(const __u8 *low, const __u8 *high, __u8 byte)
{
	return (byte & 64 ? high : low)[byte & 63];
}

/*
 * Does the table take the whole text? Its head word: a = where the walk starts, b = the first word of the classes of
 * ASCII, c = the first word of the table, d = where the states that accept begin. A state is the place of its
 * row in the table, of 16-bit places of the next states' rows; row 0 is the state without return, SETTLED has none.
 */
static __always_inline bool walk_table(void *blob, __u32 head, const __u8 *data, const __u8 *end, __u32 offset,
				       __u32 length)
{
	struct word *w = word_at(blob, head);
	struct row_line have = {.index = ~0u};
	__u32 at = from(0), state, rows, accepting;
	const __u8 *low, *high;
	volatile bool accepts = false;

	if (!w)
		return false;
	state = w->a;
	rows = w->c / XLB_LINE_WORDS;
	accepting = w->d;
	low = line_at(blob, w->b);
	high = line_at(blob, w->b + XLB_LINE_WORDS);
	if (!low || !high)
		return false;
	repeat (XLB_MAX_HEAD) {
		__u32 place;
		const __u8 *p;

		if (at >= length || state == SETTLED) {
			accepts = state >= accepting;
			break;
		}
		if (!state)
			break;
		p = byte_at(data, end, offset + at);
		if (!p)
			break;
		place = state + class_of(low, high, *p);
		if (!look_at_row(blob, &have, rows + (place >> 5)))
			break;
		state = ((const __u16 *)have.line)[place & 31];
		at++;
	}
	return accepts;
}

/*
 * The same for many expressions at once: the value of the row where the text ends. Here places are of 32 bits, and a
 * row's value is its last one: d of the head word is how many there are before it. A settled state has no row.
 */
static __always_inline __u32 walk_union(void *blob, __u32 head, const __u8 *data, const __u8 *end, __u32 offset,
					__u32 length)
{
	struct word *w = word_at(blob, head);
	struct row_line have = {.index = ~0u};
	__u32 at = from(0), state, rows, width;
	const __u8 *low, *high;

	if (!w)
		return 0;
	state = w->a;
	rows = w->c / XLB_LINE_WORDS;
	width = w->d;
	low = line_at(blob, w->b);
	high = line_at(blob, w->b + XLB_LINE_WORDS);
	if (!low || !high)
		return 0;
	repeat (XLB_MAX_HEAD + 1) {
		bool over = at >= length;
		__u32 place = width;
		const __u8 *p;

		if (!state)
			return 0;
		if (state & SETTLED_RUN)
			return state & ~SETTLED_RUN;
		if (!over) {
			p = byte_at(data, end, offset + at);
			if (!p)
				return 0;
			place = class_of(low, high, *p);
		}
		place += state;
		if (!look_at_row(blob, &have, rows + (place >> 4)))
			return 0;
		state = ((const __u32 *)have.line)[place & 15];
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
