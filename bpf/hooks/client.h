/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* A client's connection: what is still due to it, and who serves it. */

static __always_inline struct slot *slot_at(__u32 id)
{
	return bpf_map_lookup_elem(&slots, &id);
}

/* Bytes of this connection that went to the anchor so far; modulo 2^32, as sequence numbers are. */
static __always_inline __u32 passed(const struct p_state *p, struct tcp_sock *tp)
{
	return tp->write_seq - p->base_sequence + p->to_anchor;
}

/* Is an answer still due from the i-sock that was used last? */
static __always_inline struct slot *outstanding(struct p_state *p, struct tcp_sock *tp)
{
	struct slot *slot;
	__u32 flags;

	if (!p->generation)
		return NULL;
	slot = slot_at(p->slot);
	if (!slot || *(volatile __u32 *)&slot->generation != p->generation)
		return NULL;
	flags = *(volatile __u32 *)&slot->flags;
	if (flags & SLOT_RESPONSE_DONE)
		return NULL;
	/* The daemon hands on the end of the answer and will say so a moment after the client has got all of it. */
	if (flags & SLOT_BYPASS && slot->frame.state == FRAME_BODY &&
	    tp->bytes_received - slot->bypass_base == slot->frame.remaining)
		return NULL;
	return slot;
}

/* Responses that crossed hosts wait in a queue that a worker empties: is there one? */
static __always_inline bool worker_has_bytes(struct tcp_sock *tp)
{
	__u64 psock = (__u64)((struct sock *)tp)->sk_user_data & ~7ULL;

	return psock && at_address(struct sk_psock, psock)->ingress_skb.qlen != 0;
}

static __always_inline int to_slow_path(struct sk_msg_md *msg, struct p_state *p, struct tcp_sock *tp,
					enum reason reason)
{
	struct listener_stats *row;
	struct conn *conn;

	if (p->mode != P_SLOW) {
		p->mode = P_SLOW;
		conn = bpf_map_lookup_elem(&conns, &p->key);
		if (conn && conn->cookie == p->cookie) {
			struct slot *slot = outstanding(p, tp);

			conn->wait_slot = p->slot;
			conn->wait_generation = slot ? p->generation : 0;
			conn->reason = reason;
		}
		wake(p, reason);
	}
	row = listener_row(p->listener);
	if (row)
		add(&row->slow, 1);
	return leave(reason, SK_PASS);
}

/* What the client speaks is known, and decides for all of its connection, whatever it says to the slow path. */
static __always_inline void say_it_spoke(const struct p_state *p)
{
	struct conn *conn = bpf_map_lookup_elem(&conns, &p->key);

	if (conn && conn->cookie == p->cookie)
		conn->spoke = 1;
}

/* Has the slow path answered all that it was given? Then the kernel may take the next request. */
static __always_inline bool slow_path_idle(struct p_state *p, struct tcp_sock *tp)
{
	struct slow_done *done = bpf_map_lookup_elem(&slow_dones, &p->key);

	if (!done || done->cookie != p->cookie || (__u32)done->read != passed(p, tp))
		return false;
	/* All that the anchor wrote must have arrived, or a faster answer could overtake it. */
	return (__u32)done->written == (__u32)tp->bytes_received;
}
