/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Life and death of sockets in enrolled cgroups: who enters a socket map, and what a client's end means. */

/*
 * Fields of the context are read one by one into variables: a computed choice between two of them would be a computed
 * context address, which is refused.
 */
static __always_inline void to_key(struct addr_key *key, __u32 family, __u32 ip4, __u32 a, __u32 b, __u32 c, __u32 d,
				   __u32 port)
{
	bool v6 = family == AF_INET6;

	key->ip[0] = v6 ? a : 0;
	key->ip[1] = v6 ? b : 0;
	key->ip[2] = v6 ? c : bpf_htonl(0xffff);
	key->ip[3] = v6 ? d : ip4;
	key->port = port;
	key->pad = 0;
}

#define READ(field) (*(volatile __u32 *)&(field))

static __always_inline void local_address(struct bpf_sock_ops *ops, struct addr_key *key)
{
	__u32 ip4 = READ(ops->local_ip4), a = READ(ops->local_ip6[0]), b = READ(ops->local_ip6[1]);
	__u32 c = READ(ops->local_ip6[2]), d = READ(ops->local_ip6[3]);

	to_key(key, READ(ops->family), ip4, a, b, c, d, READ(ops->local_port));
}

static __always_inline void remote_address(struct bpf_sock_ops *ops, struct addr_key *key)
{
	__u32 ip4 = READ(ops->remote_ip4), a = READ(ops->remote_ip6[0]), b = READ(ops->remote_ip6[1]);
	__u32 c = READ(ops->remote_ip6[2]), d = READ(ops->remote_ip6[3]);

	to_key(key, READ(ops->family), ip4, a, b, c, d, bpf_ntohl(READ(ops->remote_port)));
}

/* As far as net.core.rmem_max allows: what most answers fit into, and much less than TCP's autotuning takes. */
#define RECEIVE_BUFFER (4 << 20)

/* A connection that is balanced as a whole has reached its endpoint. */
static __always_inline void count_direct(struct bpf_sock_ops *ops, const struct p_state *p)
{
	__u32 endpoint = p->endpoint;
	struct endpoint_stats *stats = bpf_map_lookup_elem(&endpoint_counts, &endpoint);
	struct listener_stats *row = listener_row(p->listener);
	struct endpoint_state *state = state_of(endpoint);

	if (stats)
		add(&stats->direct, 1);
	if (row) {
		add(&row->connections, 1);
		add(&row->direct, 1);
	}
	if (state) {
		__sync_fetch_and_add(&state->active, 1);
		/* To outlier detection a connection is as good as an answer. */
		count_outcome(state, 200);
	}
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* A connection that is balanced as a whole sets out for its endpoint: whether it arrives is of interest. */
static __always_inline void watch_direct(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct endpoint_state *state;
	struct p_state *p;

	if (!sk)
		return;
	p = bpf_sk_storage_get(&p_states, sk, 0, 0);
	if (!p || !p->endpoint)
		return;
	state = state_of(p->endpoint);
	if (state && state->watched)
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* It is closed before it was there: by its client, or for a reason that its endpoint has to answer for. */
static __always_inline void end_unreached(struct bpf_sock *sk, const struct p_state *p)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u32 why = tp ? ((struct sock *)tp)->sk_err : 0;

	if (why)
		endpoint_event(EVENT_UNREACHED, p->endpoint, why);
}

/* A tagged client has reached the anchor: from now on its writes are requests. */
static __always_inline void adopt_client(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct p_state *p;
	struct conn conn = {};
	struct listener_stats *row;
	struct tcp_sock *tp;
	int one = 1, receive_buffer = RECEIVE_BUFFER;

	if (!sk)
		return;
	p = bpf_sk_storage_get(&p_states, sk, 0, 0);
	if (!p)
		return;
	if (p->endpoint) {
		count_direct(ops, p);
		return;
	}
	local_address(ops, &p->key);
	p->born_ns = bpf_ktime_get_ns();
	conn.cookie = p->cookie;
	conn.cgroup = p->cgroup;
	conn.destination = p->destination;
	conn.listener = p->listener;
	conn.tenant = p->tenant;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		conn.next_sequence = tp->copied_seq;
	bpf_map_update_elem(&conns, &p->key, &conn, BPF_ANY);
	row = listener_row(p->listener);
	if (row)
		add(&row->connections, 1);
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	if (p->way != CONNECT_REQUESTS) {
		/* A server may be the first to speak, and nothing shall happen to the client's bytes. */
		wake(p, REASON_DIRECT_DECLINED);
		return;
	}
	/* Its socket stays one of plain TCP, with every habit of such. */
	if (p->tenant & XLB_USERSPACE_TENANT) {
		leave(REASON_USERSPACE_TENANT, 0);
		return;
	}
	/* What takes TCP to the slow path shall not wait for an acknowledgement. */
	bpf_setsockopt(ops, SOL_TCP, TCP_NODELAY, &one, sizeof(one));
	/*
	 * The worker that moves responses looks at a full buffer only once a tick: make it rare. An application that chose
	 * its buffer by itself keeps it.
	 */
	if (tp && !(BPF_CORE_READ_BITFIELD_PROBED((struct sock *)tp, sk_userlocks) & SOCK_RCVBUF_LOCK))
		bpf_setsockopt(ops, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
	if (bpf_sock_hash_update(ops, &p_socks, &p->cookie, BPF_ANY))
		leave(REASON_SOCKMAP_REFUSED, 0);
}

/* Whoever settles the kind first, decides. */
static __always_inline bool settle(struct slot *slot, __u64 kind)
{
	return __sync_val_compare_and_swap(&slot->kind, SLOT_NEW, kind) == SLOT_NEW;
}

/* Does a server belong to a tenant whose sockets stay out of socket maps? In sockops there is no current cgroup. */
static __always_inline bool stays_out(struct tcp_sock *tp)
{
	struct cgroup *cgroup;

	if (!tp)
		return false;
	cgroup = BPF_CORE_READ((struct sock *)tp, sk_cgrp_data.cgroup);
	repeat (12) {
		__u64 id = BPF_CORE_READ(cgroup, kn, id);
		__u32 *tenant = bpf_map_lookup_elem(&tenants, &id);

		if (tenant)
			return *tenant & XLB_USERSPACE_TENANT;
		cgroup = container_of(BPF_CORE_READ(cgroup, self.parent), struct cgroup, self);
		if (!cgroup)
			return false;
	}
	return false;
}

/* A server has accepted one of our i-socks: requests may enter its receive queue without TCP. */
static __always_inline void adopt_server(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct peer_key key;
	struct slot *slot;
	__u32 *found, *stored, id;

	if (!sk)
		return;
	remote_address(ops, &key.client);
	local_address(ops, &key.server);
	found = bpf_map_lookup_elem(&peers, &key);
	if (!found)
		return;
	id = *found;
	slot = bpf_map_lookup_elem(&slots, &id);
	if (!slot)
		return;
	/* The daemon may have given up waiting and taken the i-sock for a cross-host one: one of us decides. */
	if (slot->kind != SLOT_NEW)
		return;
	if (stays_out(bpf_skc_to_tcp_sock(sk))) {
		if (settle(slot, SLOT_CROSS_HOST))
			leave(REASON_USERSPACE_TENANT, 0);
		return;
	}
	stored = bpf_sk_storage_get(&s_slots, sk, &id, BPF_SK_STORAGE_GET_F_CREATE);
	if (!stored)
		return;
	*stored = id;
	if (!settle(slot, SLOT_SAME_HOST))
		return;
	slot->target_sk = (__u64)bpf_skc_to_tcp_sock(sk);
	if (bpf_sock_map_update(ops, &s_socks, &id, BPF_ANY)) {
		slot->kind = SLOT_CROSS_HOST;
		leave(REASON_SOCKMAP_REFUSED, 0);
	}
}

#define SEND_SHUT 2
#define BOTH_SHUT 3

/* Marks the request as abandoned, unless it is over. True when the i-sock is spoiled by that. */
static __always_inline bool abandon(struct slot *slot, __u32 generation)
{
	__u64 *life = (__u64 *)&slot->flags, old = *(volatile __u64 *)life;

	repeat (8) {
		__u64 seen;

		if (old >> 32 != generation)
			return false;
		if ((old & (SLOT_REQUEST_DONE | SLOT_RESPONSE_DONE)) == (SLOT_REQUEST_DONE | SLOT_RESPONSE_DONE))
			return false;
		seen = __sync_val_compare_and_swap(life, old, old | SLOT_ABORTED);
		if (seen == old)
			return true;
		old = seen;
	}
	return false;
}

/* A client stops sending, or goes. What it left unanswered must not stay on an i-sock that another may get. */
static __always_inline void client_state(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct tcp_sock *tp;
	struct p_state *p;
	struct conn *conn;
	struct slot *slot;
	__u32 id;
	__u8 shut;

	if (!sk)
		return;
	p = bpf_sk_storage_get(&p_states, sk, 0, 0);
	if (!p)
		return;
	if (p->endpoint) {
		if (ops->args[1] == BPF_TCP_CLOSE) {
			if (ops->args[0] == BPF_TCP_SYN_SENT)
				end_unreached(sk, p);
			else
				no_longer_active(p->endpoint);
			p->endpoint = 0;
		}
		return;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	shut = ops->args[1] == BPF_TCP_CLOSE ? BOTH_SHUT : BPF_CORE_READ((struct sock *)tp, sk_shutdown);
	if (!(shut & SEND_SHUT))
		return;
	conn = bpf_map_lookup_elem(&conns, &p->key);
	if (conn && conn->cookie == p->cookie) {
		conn->half_closed = 1;
		conn->wait_slot = p->slot;
		conn->wait_generation = p->generation;
		if (shut == BOTH_SHUT)
			conn->closed = 1;
	}
	if (shut != BOTH_SHUT || !p->generation)
		return;
	id = p->slot;
	slot = bpf_map_lookup_elem(&slots, &id);
	if (slot && abandon(slot, p->generation))
		slot_event(EVENT_ABORT, id, slot);
	p->generation = 0;
}

SEC("sockops")
int xlb_sockops(struct bpf_sock_ops *ops)
{
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		watch_direct(ops);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		adopt_client(ops);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		adopt_server(ops);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		client_state(ops);
		break;
	}
	return 1;
}
