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
	struct endpoint_state *state = bpf_map_lookup_elem(&endpoint_states, &endpoint);

	return state ? *(volatile __u64 *)&state->active : 0;
}

static __always_inline void now_active(__u32 endpoint)
{
	struct endpoint_state *state = bpf_map_lookup_elem(&endpoint_states, &endpoint);

	if (state)
		__sync_fetch_and_add(&state->active, 1);
}

static __always_inline void no_longer_active(__u32 endpoint)
{
	struct endpoint_state *state = bpf_map_lookup_elem(&endpoint_states, &endpoint);

	if (state)
		__sync_fetch_and_add(&state->active, -1);
}

/* False when no endpoint is usable: the slow path answers that. */
static __always_inline bool pick_endpoint(void *blob, __u32 cluster, __u32 *endpoint)
{
	struct word *head = word_at(blob, 0), *place = word_at(blob, 1), *best, *other;
	__u32 n, length;

	if (!head || !place)
		return false;
	n = head->b;
	length = head->c;
	if (n == 0 || length == 0)
		return false;
	switch (head->a) {
	case POLICY_ROUND_ROBIN: {
		struct cluster_state *state = bpf_map_lookup_elem(&cluster_states, &cluster);

		if (!state)
			return false;
		/* One addition both reads and moves the cursor, so no two requests take the same turn. */
		best = word_at(blob, place->a + schedule_at(blob, place->b,
							   __sync_fetch_and_add(&state->cursor, 1) % length));
		break;
	}
	case POLICY_RANDOM:
		best = word_at(blob, place->a + bpf_get_prandom_u32() % n);
		break;
	default: {
		__u32 tries = from(1);

		best = word_at(blob, place->a + schedule_at(blob, place->b, bpf_get_prandom_u32() % length));
		if (!best)
			return false;
		repeat (32) {
			if (tries >= head->d)
				break;
			other = word_at(blob, place->a + schedule_at(blob, place->b, bpf_get_prandom_u32() % length));
			/* active / weight, without dividing; the earlier choice wins a tie */
			if (other && active_on(other->a) * best->b < active_on(best->a) * other->b)
				best = other;
			tries++;
		}
	}
	}
	if (!best)
		return false;
	*endpoint = best->a;
	return true;
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
