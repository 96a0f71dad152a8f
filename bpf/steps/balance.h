/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Which endpoint serves a request, and which of its i-socks. */
#ifndef XLB_STEPS_BALANCE_H
#define XLB_STEPS_BALANCE_H

static __always_inline __u32 schedule_at(void *blob, __u32 first, __u32 at)
{
	struct word *w = word_at(blob, first + at / 4);

	if (!w)
		return 0;
	switch (at & 3) {
	case 0:
		return w->a;
	case 1:
		return w->b;
	case 2:
		return w->c;
	default:
		return w->d;
	}
}

static __always_inline __u64 active_on(__u32 endpoint)
{
	struct endpoint_state *state = state_of(endpoint);

	return state ? *(volatile __u64 *)&state->active : 0;
}

static __always_inline void now_active(__u32 endpoint)
{
	struct endpoint_state *state = state_of(endpoint);

	if (state)
		__sync_fetch_and_add(&state->active, 1);
}

static __always_inline void no_longer_active(__u32 endpoint)
{
	struct endpoint_state *state = state_of(endpoint);

	if (state)
		__sync_fetch_and_add(&state->active, -1);
}

/* The head of the list on which a ticket falls, of several that share the cluster's requests; 0: none. */
static __always_inline __u32 list_of(void *blob, __u32 first, __u32 n, __u32 ticket)
{
	__u32 at = from(0);

	repeat (XLB_MAX_LISTS) {
		struct word *row = word_at(blob, first + at);

		if (!row)
			return 0;
		at++;
		if (ticket < row->a || at >= n)
			return row->b;
	}
	return 0;
}

/* Functions of their own to the verifier too. */
__noinline int leave_breaker(__u32 breaker)
{
	struct breaker_state *state = bpf_map_lookup_elem(&breaker_states, &breaker);

	if (state)
		__sync_fetch_and_add(&state->active, -1);
	return 0;
}

#define BREAKER_OPEN (-1)

/*
 * Has the cluster room for one more request? Then it is counted in the row that this gives, 0 where nobody counts. The
 * slow path counts its own too, and answers those that are over (BREAKER_OPEN), as Envoy's ResourceManager would.
 */
__noinline int enter_breaker(__u32 cluster)
{
	const struct cluster_limit *limit = bpf_map_lookup_elem(&cluster_limits, &cluster);
	struct breaker_state *state;
	__u32 row;

	if (!limit || !limit->breaker)
		return 0;
	row = limit->breaker;
	state = bpf_map_lookup_elem(&breaker_states, &row);
	if (!state)
		return 0;
	if (__sync_fetch_and_add(&state->active, 1) < limit->max_requests)
		return row;
	__sync_fetch_and_add(&state->active, -1);
	return BREAKER_OPEN;
}

/* The one with the fewest active requests; of several each is as likely: the n-th takes the place with chance 1/n. */
static __always_inline struct word *scan(void *blob, __u32 first, __u32 n)
{
	struct word *best = word_at(blob, first);
	__u32 at = from(1), tied = 1;
	__u64 fewest;

	if (!best)
		return NULL;
	fewest = active_on(best->a);
	repeat (XLB_MAX_SCAN) {
		struct word *other;
		__u64 active;

		if (at >= n)
			break;
		other = word_at(blob, first + at);
		if (!other)
			break;
		active = active_on(other->a);
		if (active < fewest) {
			fewest = active;
			tied = 1;
			best = other;
		} else if (active == fewest) {
			tied++;
			if (bpf_get_prandom_u32() % tied == 0)
				best = other;
		}
		at++;
	}
	return best;
}

/*
 * By chance, each as likely as its weight divided by its active requests and one: what Envoy's deadlines come to in the
 * long run. Of more endpoints than it looks at, turns are drawn first, which weights have made more or fewer.
 */
static __always_inline struct word *weigh(void *blob, const struct word *head, const struct word *place)
{
	bool all = head->b <= XLB_WEIGHED;
	struct word *best = NULL;
	__u32 at = from(0);
	__u64 total = 0;

	repeat (XLB_WEIGHED) {
		struct word *other;
		__u64 part, ticket;

		if (all && at >= head->b)
			break;
		other = word_at(blob, place->a + (all ? at : schedule_at(blob, place->b,
									   bpf_get_prandom_u32() % head->c)));
		if (!other)
			break;
		part = ((__u64)(all ? other->b : 1) << 16) / (active_on(other->a) + 1) + 1;
		total += part;
		ticket = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
		if (ticket % total < part)
			best = other;
		at++;
	}
	return best;
}

/* The position of the host of a ring's first entry whose hash is not below it; behind the last comes the first. */
static __always_inline __u32 ring_at(void *blob, __u32 first, __u32 n, __u64 hash)
{
	__u32 low = from(0), high = n;
	struct word *w;

	repeat (32) {
		__u32 middle = low + (high - low) / 2;

		if (low >= high)
			break;
		w = word_at(blob, first + middle);
		if (!w)
			return 0;
		if (((__u64)w->b << 32 | w->a) < hash)
			low = middle + 1;
		else
			high = middle;
	}
	w = word_at(blob, first + (low < n ? low : 0));
	return w ? w->c : 0;
}

/* The same in a table of 16 bits for each entry, eight to a word. */
static __always_inline __u32 maglev_at(void *blob, __u32 first, __u32 n, __u64 hash)
{
	__u32 at = hash % n;
	struct word *w = word_at(blob, first + at / 8);

	return w ? ((const __u16 *)w)[at & 7] : 0;
}

/* No reasons: the request's hash has to say which endpoint, or first which cluster. */
#define PICK_BY_HASH REASON_COUNT
#define PICK_CLUSTER_BY_HASH (REASON_COUNT + 1)
#define PICK_NOTHING (REASON_COUNT + 2) /* the route answers by itself */

static __always_inline __u64 any_hash(void)
{
	return (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
}

/* By the hash, in a cluster that asks for it. 0, or the reason to decline. */
static __always_inline __u32 pick_by_hash(void *blob, __u64 hash, __u32 *endpoint)
{
	struct word *head = word_at(blob, 0), *place = word_at(blob, 1), *host;
	__u32 at;

	if (!head || !place)
		return REASON_NO_ENDPOINT;
	if (place->d) {
		__u32 list = list_of(blob, place->a, place->d, hash % 100);

		head = word_at(blob, list);
		place = word_at(blob, list + 1);
		if (!head || !place)
			return REASON_NO_ENDPOINT;
	}
	if (!head->c)
		return REASON_NO_ENDPOINT;
	at = head->a == POLICY_RING_HASH ? ring_at(blob, place->b, head->c, hash) :
					   maglev_at(blob, place->b, head->c, hash);
	host = word_at(blob, place->a + at);
	if (!host)
		return REASON_NO_ENDPOINT;
	*endpoint = host->a;
	return 0;
}

/* 0, or the reason to decline: there is no usable endpoint, or only the slow path can tell. */
static __always_inline __u32 pick_endpoint(void *blob, __u32 cluster, __u32 *endpoint)
{
	struct word *head = word_at(blob, 0), *place = word_at(blob, 1), *best, *other;
	__u32 n, length;

	if (!head || !place)
		return REASON_NO_ENDPOINT;
	if (place->d) {
		__u32 list;

		if (head->a >= POLICY_RING_HASH)
			return PICK_BY_HASH;
		list = list_of(blob, place->a, place->d, bpf_get_prandom_u32());

		head = word_at(blob, list);
		place = word_at(blob, list + 1);
		if (!head || !place)
			return REASON_NO_ENDPOINT;
	}
	n = head->b;
	length = head->c;
	if (n == 0 || length == 0)
		return head->a == POLICY_SLOW ? REASON_BALANCING : REASON_NO_ENDPOINT;
	switch (head->a) {
	case POLICY_ROUND_ROBIN: {
		struct cluster_state *state = bpf_map_lookup_elem(&cluster_states, &cluster);

		if (!state)
			return REASON_NO_ENDPOINT;
		/* One addition both reads and moves the cursor, so no two requests take the same turn. */
		best = word_at(blob,
			       place->a + schedule_at(blob, place->b,
						      __sync_fetch_and_add(&state->cursor[place->c % XLB_CURSORS], 1) %
							      length));
		break;
	}
	case POLICY_RANDOM:
		best = word_at(blob, place->a + bpf_get_prandom_u32() % n);
		break;
	case POLICY_LEAST_WEIGHED:
		best = weigh(blob, head, place);
		break;
	case POLICY_FULL_SCAN:
		best = scan(blob, place->a, n);
		break;
	case POLICY_RING_HASH:
	case POLICY_MAGLEV:
		return PICK_BY_HASH;
	default: {
		__u32 tries = from(1);

		best = word_at(blob, place->a + bpf_get_prandom_u32() % n);
		if (!best)
			return REASON_NO_ENDPOINT;
		repeat (32) {
			if (tries >= head->d)
				break;
			other = word_at(blob, place->a + bpf_get_prandom_u32() % n);
			/* The earlier choice wins a tie. */
			if (other && active_on(other->a) < active_on(best->a))
				best = other;
			tries++;
		}
	}
	}
	if (!best)
		return REASON_NO_ENDPOINT;
	*endpoint = best->a;
	return 0;
}

/* The place of the one set bit of a 32-bit word: de Bruijn's sequence. */
static const __u8 bit_places[32] = {0,  1,  28, 2,  29, 14, 24, 3,  30, 22, 20, 15, 25, 17, 4,  8,
				    31, 27, 13, 23, 21, 19, 16, 7,  26, 12, 18, 6,  11, 5,  10, 9};

static __always_inline __u32 bit_place(__u32 bit)
{
	return bit_places[(bit * 0x077CB531u) >> 27];
}

static __always_inline __u64 *idle_bits(__u32 slot)
{
	__u32 chunk = slot / XLB_CHUNK_SLOTS;

	return bpf_map_lookup_elem(&chunks, &chunk);
}

/* Back to the pool. Only the one who ended the request may call it, once. */
static __always_inline void release(__u32 slot)
{
	__u64 *bits = idle_bits(slot);

	if (bits)
		__sync_fetch_and_or(bits, 1ULL << (slot % XLB_CHUNK_SLOTS));
}

/* 0 when `length` bytes, 1 to XLB_STASH_BYTES, were copied. */
static __always_inline long copy(struct stash *to, __u32 length, const void *bytes)
{
	barrier_value(length);
	if (length == 0 || length > XLB_STASH_BYTES)
		return -1;
	return bpf_probe_read_kernel(to->bytes, length, bytes);
}

/* Takes an idle i-sock out of the pool; the lowest first, because it was used last. `low`: it was the pool's last. */
static __always_inline bool claim(const struct pool *pool, __u32 *slot, bool *low)
{
	__u32 at = from(0);

	*low = false;
	repeat (XLB_POOL_CHUNKS + 8) {
		__u32 chunk, bit;
		__u64 *bits, idle;

		if (at >= pool->n_chunks || at >= XLB_POOL_CHUNKS)
			return false;
		chunk = pool->chunk[at];
		bits = bpf_map_lookup_elem(&chunks, &chunk);
		if (!bits)
			return false;
		idle = *(volatile __u64 *)bits;
		if (!idle) {
			at++;
			continue;
		}
		bit = (__u32)idle & -(__u32)idle;
		/* Another CPU may have been faster: then look again. */
		if (__sync_fetch_and_and(bits, ~(__u64)bit) & bit) {
			*slot = chunk * XLB_CHUNK_SLOTS + bit_place(bit);
			*low = idle == bit && at + 1 >= pool->n_chunks;
			return true;
		}
	}
	return false;
}

#endif
