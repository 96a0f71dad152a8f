/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Counting: every exit of a hook goes through leave(), so that every exit has a name. */
#ifndef XLB_STEPS_LEAVE_H
#define XLB_STEPS_LEAVE_H

/* Rows are per CPU, but a soft interrupt may come between load and store: so the addition is atomic all the same. */
static __always_inline void add(__u64 *counter, __u64 n)
{
	__sync_fetch_and_add(counter, n);
}

static __always_inline int leave(enum reason reason, int verdict)
{
	__u32 key = reason;
	struct reason_stats *stats = bpf_map_lookup_elem(&reason_counts, &key);

	if (stats)
		add(&stats->count, 1);
	return verdict;
}

static __always_inline struct listener_stats *listener_row(__u32 listener)
{
	return bpf_map_lookup_elem(&listener_counts, &listener);
}

static __always_inline struct event *new_event(__u32 type)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (e) {
		__builtin_memset(e, 0, sizeof(*e));
		e->type = type;
	}
	return e;
}

static __always_inline void slot_event_how(__u32 type, __u32 id, const struct slot *slot, __u64 how)
{
	struct event *e = new_event(type);

	if (!e)
		return;
	e->slot = id;
	e->generation = slot->generation;
	e->tenant = slot->tenant;
	e->endpoint = slot->endpoint;
	e->cookie = slot->owner;
	e->client = slot->client;
	bpf_ringbuf_submit(e, how);
}

static __always_inline void slot_event(__u32 type, __u32 id, const struct slot *slot)
{
	slot_event_how(type, id, slot, BPF_RB_FORCE_WAKEUP);
}

/* The slow path has something to do on a connection, which may not have been accepted yet. */
static __always_inline void wake(const struct p_state *p, enum reason reason)
{
	struct event *e = new_event(EVENT_WAKE);

	if (!e)
		return;
	e->cookie = p->cookie;
	e->client = p->key;
	e->reason = reason;
	bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
}

#endif
