/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What a client writes. Each run of this program sees the bytes of one send (at most 17 pages of them) and decides for
 * all of them: to an i-sock, or to the slow path. It never cuts, but for one case: the tail of a body with the next
 * request behind it.
 *
 * To the slow path means SK_PASS: the bytes take TCP to the anchor, which has back-pressure.
 */

/* Takes the head apart. 0, or the reason to decline. */
__noinline int read_head(struct sk_msg_md *msg, struct p_state *p)
{
	struct request_head *r;
	struct word *hosts_word;
	__u32 listener, *index;
	bool want_headers;
	void *hosts;
	int declined;

	if (!p)
		return REASON_RULES;
	r = &p->request;
	listener = p->listener;
	index = bpf_map_lookup_elem(&listener_rules, &listener);
	if (!index || !*index)
		return REASON_RULES;
	hosts = bpf_map_lookup_elem(&rules, index);
	if (!hosts)
		return REASON_RULES;
	hosts_word = word_at(hosts, 0);
	if (hosts_word && hosts_word->a & HOSTS_OWN)
		return REASON_OWN_HEADERS;
	want_headers = hosts_word && hosts_word->a & HOSTS_HEADERS;
	__builtin_memset(r, 0, sizeof(*r));
	if (hosts_word && hosts_word->a & (HOSTS_HEADERS | HOSTS_QUERY))
		__builtin_memset(p->header, 0, sizeof(p->header));
	{
		const __u8 *data = msg->data, *end = msg->data_end;

		if (data + 16 > end)
			return REASON_PARTIAL_HEAD;
		read_method(r, data);
		if (r->method == METHOD_OTHER)
			return is_token(data[0]) ? REASON_METHOD : REASON_BAD_REQUEST;
		r->position = r->method_length + 1;
		r->target = r->position;
		if (data[r->position & 15] != '/')
			return REASON_TARGET_FORM;
	}
	r->state = READ_TARGET;
	repeat (XLB_MAX_HEAD) {
		const __u8 *data = msg->data, *end = msg->data_end, *p8;
		__u32 position = r->position, stop;

		if (position >= XLB_MAX_HEAD - 16)
			return REASON_HEAD_TOO_LARGE;
		p8 = data + position;
		if (p8 + 1 > end)
			return REASON_PARTIAL_HEAD;
		if (r->state != READ_VALUE) {
			declined = read_byte(r, data, p8, end);
			if (declined)
				return declined;
			if (r->state == READ_END)
				return r->host ? 0 : REASON_BAD_REQUEST;
			continue;
		}
		if (p8 + 8 <= end && all_printable(*(const __u64 *)p8)) {
			r->position = position + 8;
			continue;
		}
		if (*p8 != '\r') {
			/* bytes above 0x7e and controls are for the slow path to judge */
			if ((*p8 < ' ' && *p8 != '\t') || *p8 > '~')
				return REASON_BAD_REQUEST;
			r->position = position + 1;
			continue;
		}
		if (p8 + 2 > end)
			return REASON_PARTIAL_HEAD;
		if (p8[1] != '\n')
			return REASON_BAD_REQUEST;
		stop = position;
		repeat (64) {
			const __u8 *last;

			if (stop <= r->mark)
				break;
			last = byte_at(data, end, stop - 1);
			if (!last || (*last != ' ' && *last != '\t'))
				break;
			stop--;
		}
		declined = end_value(r, data + (r->mark & (XLB_MAX_HEAD - 1)), stop - r->mark, end);
		if (declined)
			return declined;
		if (want_headers) {
			struct header_name *asked = bpf_map_lookup_elem(&header_names, &r->hash);

			if (asked && asked->length == r->name_length) {
				__u32 index = asked->index & (XLB_MAX_HEADERS - 1);

				if (p->header[index].offset)
					return REASON_MULTI_VALUED_HEADER;
				p->header[index].offset = r->mark;
				p->header[index].length = stop - r->mark;
			}
		}
		if (++r->headers > XLB_MAX_HEADER_COUNT)
			return REASON_HEAD_TOO_LARGE;
		r->position = position + 2;
		r->state = READ_LINE;
	}
	return REASON_HEAD_TOO_LARGE;
}

static __always_inline void blank(struct sk_msg_md *msg, __u32 at, __u32 length)
{
	repeat (16) {
		__u8 *p;

		if (!length || at >= XLB_MAX_HEAD)
			return;
		p = (__u8 *)msg->data + at;
		if (p + 1 > (__u8 *)msg->data_end)
			return;
		*p = ' ';
		at++;
		length--;
	}
}

/*
 * Ends the connection of an i-sock that is in nobody's service: the one that was taken turned out to be bad, or its
 * server failed us before it saw a byte of this request.
 */
static __always_inline void give_up(struct slot *slot, __u32 id)
{
	__sync_fetch_and_or(&slot->flags, SLOT_RETIRE | SLOT_RESPONSE_DONE | SLOT_REQUEST_DONE);
	slot_event(EVENT_RETIRE, id, slot);
}

/*
 * Can the socket take bytes, and its owner answer? An i-sock that its server has reset stays in the map until the
 * daemon closes it, and what a send to it says would be said to the client.
 */
static __always_inline bool is_open(const struct slot *slot)
{
	struct sock *sk;

	/* One on the same host leaves its map by itself, and a redirect to it then says so. */
	if (slot->kind == SLOT_SAME_HOST)
		return true;
	sk = at_address(struct sock, slot->target_sk);
	return sk->__sk_common.skc_state == BPF_TCP_ESTABLISHED && !sk->sk_err;
}

/*
 * Does a read of the client's sleep in the kernel? As its file says now: most who read otherwise have said so before
 * they connected.
 */
static __always_inline bool reads_block(struct tcp_sock *tp)
{
	struct socket *socket = ((struct sock *)tp)->sk_socket;

	return !socket || !socket->file || !(socket->file->f_flags & O_NONBLOCK);
}

/* Bytes that were redirected to a socket and that its owner has not read yet. */
static __always_inline __u64 unread(const struct sock *sk)
{
	__u64 address = (__u64)sk->sk_user_data & ~7ULL;
	struct sk_psock *psock = at_address(struct sk_psock, address);

	if (!bpf_core_field_exists(psock->msg_tot_len))
		return sk->sk_backlog.rmem_alloc.counter;
	return address ? psock->msg_tot_len : 0;
}

/*
 * The server of a request has gone while its body was still coming. What comes now must never be taken for a request:
 * it goes to the anchor, where the daemon ends the connection.
 */
static __always_inline int break_off(struct p_state *p)
{
	struct conn *conn = bpf_map_lookup_elem(&conns, &p->key);

	p->mode = P_BROKEN;
	p->body_remaining = 0;
	if (conn && conn->cookie == p->cookie)
		conn->broken = 1;
	wake(p, REASON_REQUEST_BROKEN);
	return leave(REASON_REQUEST_BROKEN, SK_PASS);
}

static __always_inline long redirect(struct sk_msg_md *msg, const struct slot *slot, __u32 id)
{
	if (slot->kind == SLOT_SAME_HOST)
		return bpf_msg_redirect_map(msg, &s_socks, id, BPF_F_INGRESS);
	return bpf_msg_redirect_map(msg, &i_socks, id, 0);
}

/* More of a request body whose head went to an i-sock. */
static __always_inline int relay_body(struct sk_msg_md *msg, struct p_state *p, struct tcp_sock *tp)
{
	struct slot *slot = slot_at(p->slot);
	__u64 size = msg->size;
	struct endpoint_stats *row;
	__u32 endpoint;

	if (!slot || *(volatile __u32 *)&slot->generation != p->generation || !is_open(slot))
		return break_off(p);
	/* Each piece costs memory beside its bytes: a server that does not read may not be sent ever more of them. */
	if (++p->pieces > XLB_MAX_PIECES && slot->kind == SLOT_SAME_HOST && slot->sent &&
	    unread(at_address(struct sock, slot->target_sk)) * p->pieces / slot->sent > XLB_MAX_PIECES) {
		__sync_fetch_and_or(&slot->flags, SLOT_FAULT);
		slot_event(EVENT_FAULT, p->slot, slot);
		return break_off(p);
	}
	if (size > p->body_remaining) {
		/* The next request follows in the same send. Behind a redirect only a redirect is possible. */
		size = p->body_remaining;
		bpf_msg_apply_bytes(msg, size);
		p->pipeliner = 1;
		p->cut = 1;
	}
	if (redirect(msg, slot, p->slot) != SK_PASS) {
		__sync_fetch_and_or(&slot->flags, SLOT_FAULT);
		slot_event(EVENT_FAULT, p->slot, slot);
		return break_off(p);
	}
	p->body_remaining -= size;
	slot->sent += size;
	endpoint = slot->endpoint;
	row = bpf_map_lookup_elem(&endpoint_counts, &endpoint);
	if (row)
		add(&row->request_bytes, size);
	if (!p->body_remaining) {
		__u32 flags;

		slot->due_ns = bpf_ktime_get_ns();
		flags = __sync_fetch_and_or(&slot->flags, SLOT_REQUEST_DONE);
		/* The answer was faster than the request: whoever comes last gives the i-sock back. */
		if (flags & SLOT_RESPONSE_DONE) {
			if (flags & SLOT_SPOILED)
				slot_event(EVENT_RETIRE, p->slot, slot);
			else
				release(p->slot);
		}
	}
	return leave(REASON_REQUEST_BODY, SK_PASS);
}

/* The rest of a send whose first part was redirected. */
static __always_inline int rest_to_anchor(struct sk_msg_md *msg, struct p_state *p, struct tcp_sock *tp)
{
	int verdict;

	p->to_anchor += msg->size;
	verdict = to_slow_path(msg, p, tp, REASON_PIPELINED);
	bpf_msg_redirect_hash(msg, &anchors, &p->cookie, BPF_F_INGRESS);
	return verdict;
}

/* `missed`: the pool was empty. Otherwise its last i-sock has just been taken. */
static __always_inline void ask_to_grow(const struct p_state *p, __u32 endpoint, bool missed)
{
	struct endpoint_state *state = state_of(endpoint);
	__u64 now = bpf_ktime_get_ns();
	struct event *e;

	if (!state)
		return;
	if (missed)
		__sync_fetch_and_add(&state->missed, 1);
	/* Once in two milliseconds is often enough: the daemon sees by the misses how many are wanted. */
	if (now - state->asked_ns < 2000000)
		return;
	state->asked_ns = now;
	e = new_event(EVENT_GROW);
	if (!e)
		return;
	e->tenant = p->tenant;
	e->endpoint = endpoint;
	bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
}

static __always_inline bool has_tenant(struct p_state *p)
{
	__u32 *tenant;
	struct event *e;

	if (p->tenant)
		return true;
	tenant = bpf_map_lookup_elem(&tenants, &p->cgroup);
	if (tenant) {
		p->tenant = *tenant;
		return true;
	}
	e = new_event(EVENT_TENANT);
	if (e) {
		e->cgroup = p->cgroup;
		bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
	}
	return false;
}

/* What the flags of an i-sock say that nobody serves, and that somebody may take. */
#define SLOT_FREE (SLOT_REQUEST_DONE | SLOT_RESPONSE_DONE)

/* Takes an idle i-sock of the endpoint; `life`: its flags and generation. 0, or the reason to decline. */
static __always_inline int take(struct p_state *p, __u32 endpoint, __u32 *id, __u64 *life)
{
	struct pool_key key = {.tenant = p->tenant, .endpoint = endpoint};
	struct pool *pool = bpf_map_lookup_elem(&pools, &key);
	bool low;

	if (!pool) {
		ask_to_grow(p, endpoint, true);
		return REASON_POOL_EMPTY;
	}
	/* Some may have died unnoticed; when several have, the daemon is about to make new ones. */
	repeat (8) {
		struct slot *slot;

		if (!claim(pool, id, &low))
			break;
		if (low)
			ask_to_grow(p, endpoint, false);
		slot = slot_at(*id);
		if (!slot)
			break;
		*life = *(volatile __u64 *)&slot->flags;
		if ((*life & (SLOT_SPOILED | SLOT_FREE)) == SLOT_FREE && is_open(slot))
			return 0;
		give_up(slot, *id);
	}
	ask_to_grow(p, endpoint, true);
	return REASON_POOL_EMPTY;
}

/* 0 says "none". */
static __always_inline __u32 next_generation(__u64 life)
{
	__u32 next = (life >> 32) + 1;

	return next ? next : 1;
}

/*
 * Puts the i-sock into the client's service, if it still is what `life` says: its server, or the daemon, may have
 * spoilt it since it was taken.
 */
static __always_inline bool fill_slot(struct slot *slot, struct p_state *p, struct tcp_sock *tp,
				      const struct choice *choice, __u64 life, __u32 flags, __u32 size)
{
	__u64 served = (__u64)next_generation(life) << 32 | flags;

	slot->owner = p->cookie;
	slot->p_sk = (__u64)tp;
	slot->started_ns = bpf_ktime_get_ns();
	slot->due_ns = flags & SLOT_REQUEST_DONE ? slot->started_ns : 0;
	if (slot->started_ns - p->born_ns < XLB_YOUNG_NS)
		served |= SLOT_YOUNG;
	slot->response_bytes = 0;
	slot->handed_over = 0;
	slot->piece = XLB_PIECE_COST * 16;
	slot->relayed += slot->sent;
	slot->sent = size;
	slot->cluster = choice->cluster;
	slot->route = choice->route;
	slot->listener = p->listener;
	slot->timeout_ms = choice->timeout_ms;
	slot->client = p->key;
	if (flags & SLOT_EDITS) {
		slot->edit_rules = choice->vhost;
		slot->edit_program = choice->answer_edits;
		slot->edit_head = 0;
	}
	slot->breaker = choice->breaker;
	frame_reset(&slot->frame);
	now_active(choice->endpoint);
	if (__sync_val_compare_and_swap((__u64 *)&slot->flags, life, served) == life)
		return true;
	no_longer_active(choice->endpoint);
	return false;
}

/* The slow path takes what an i-sock was to have. */
static __always_inline int instead(struct sk_msg_md *msg, struct p_state *p, struct tcp_sock *tp, __u32 flags,
				   enum reason reason)
{
	/* The look for the anchor has aimed this send at it: then there it goes, but not by TCP. */
	if (!(flags & SLOT_REQUEST_DONE))
		p->to_anchor += msg->size;
	return to_slow_path(msg, p, tp, reason);
}

static __always_inline void count_request(const struct p_state *p, const struct choice *choice, bool same_host,
					  __u64 bytes)
{
	__u32 key = choice->endpoint;
	struct endpoint_stats *endpoint = bpf_map_lookup_elem(&endpoint_counts, &key);
	struct listener_stats *listener = listener_row(p->listener);
	struct route_stats *route;

	if (endpoint) {
		add(&endpoint->request_bytes, bytes);
		add(same_host ? &endpoint->same_host : &endpoint->cross_host, 1);
	}
	if (listener)
		add(same_host ? &listener->same_host : &listener->cross_host, 1);
	key = choice->route;
	route = bpf_map_lookup_elem(&route_counts, &key);
	if (route)
		add(&route->requests, 1);
}

/* A new request begins with this send. */
static __always_inline int relay_request(struct sk_msg_md *msg, struct p_state *p, struct tcp_sock *tp)
{
	__u32 id = 0, flags, size = msg->size;
	__u64 life = 0;
	struct edit_plan *plan = NULL;
	struct choice choice = {};
	struct slot *slot;
	int declined;
	__u64 body;

	/* Only the first piece of a scattered write lies open; sendfile shows nothing at all. */
	if (size < XLB_MAX_HEAD ? (long)msg->data_end - (long)msg->data < size :
				  (long)msg->data_end - (long)msg->data < XLB_MAX_HEAD) {
		if (bpf_msg_pull_data(msg, 0, size < XLB_MAX_HEAD ? size : XLB_MAX_HEAD, 0))
			return to_slow_path(msg, p, tp, REASON_NO_MEMORY);
	}
	declined = read_head(msg, p);
	if (declined)
		return to_slow_path(msg, p, tp, declined);
	body = size - p->request.position;
	if (p->request.content_length > XLB_MAX_BODY)
		return to_slow_path(msg, p, tp, REASON_BODY_TOO_LARGE);
	if (body > p->request.content_length) {
		p->pipeliner = 1;
		return to_slow_path(msg, p, tp, REASON_PIPELINED);
	}
	flags = body == p->request.content_length ? SLOT_REQUEST_DONE : 0;
	if (!has_tenant(p))
		return to_slow_path(msg, p, tp, REASON_TENANT);
	declined = choose(msg, p, &choice);
	if (declined == PICK_NOTHING)
		return answer(msg, p, tp, &choice);
	if (declined == PICK_CLUSTER_BY_HASH)
		declined = choose_cluster_by_hash(msg, p, &choice);
	if (declined == PICK_BY_HASH)
		declined = choose_by_hash(msg, p, &choice);
	if (!declined)
		declined = split_edits(&choice);
	if (!declined && choice.edits) {
		plan = bpf_sk_storage_get(&edit_plans, msg->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		declined = plan ? plan_edits(msg, p, plan, choice.vhost, choice.edits) : REASON_NO_MEMORY;
	}
	if (!declined)
		declined = take(p, choice.endpoint, &id, &life);
	if (declined)
		return to_slow_path(msg, p, tp, declined);
	slot = slot_at(id);
	if (!slot)
		return to_slow_path(msg, p, tp, REASON_POOL_EMPTY);
	if (slot->kind != SLOT_SAME_HOST && (choice.answer_edits || reads_block(tp)))
		flags |= SLOT_HAND_OVER;
	/*
	 * The last answer, if it crossed hosts, may still be with the worker, which wakes the client before it takes the
	 * bytes off its queue. Another one from another host waits behind it; one that comes as a message overtakes it.
	 */
	if ((slot->kind == SLOT_SAME_HOST || flags & SLOT_HAND_OVER) && worker_has_bytes(tp)) {
		release(id);
		return to_slow_path(msg, p, tp, REASON_PIPELINED);
	}
	/* Should the next request come with the tail of this body, it will need a way to the anchor. */
	if (!(flags & SLOT_REQUEST_DONE) &&
	    bpf_msg_redirect_hash(msg, &anchors, &p->cookie, BPF_F_INGRESS) != SK_PASS) {
		release(id);
		return to_slow_path(msg, p, tp, REASON_BODY_SPLIT);
	}
	if (p->request.method == METHOD_HEAD)
		flags |= SLOT_HEAD;
	if (p->request.flags & REQUEST_CLOSE)
		flags |= SLOT_CLOSE_CLIENT;
	if (p->request.content_length)
		flags |= SLOT_UPLOAD;
	if (choice.answer_edits)
		flags |= SLOT_EDITS;
	if (may_repeat(p->request.method) && size <= XLB_STASH_BYTES && flags & SLOT_REQUEST_DONE) {
		struct stash *stash = bpf_map_lookup_elem(&stashes, &id);

		if (stash && !copy(stash, size, msg->data)) {
			slot->stash_length = size;
			flags |= SLOT_STASHED;
		}
	}
	if (plan) {
		if (!write_edits(msg, plan)) {
			release(id);
			return instead(msg, p, tp, flags, REASON_NO_MEMORY);
		}
		size += plan->length - plan->replaced;
	}
	choice.breaker = enter_breaker(choice.cluster);
	if (choice.breaker == BREAKER_OPEN) {
		release(id);
		if (plan)
			take_back(msg, plan);
		return instead(msg, p, tp, flags, REASON_MAX_REQUESTS);
	}
	if (choice.breaker)
		flags |= SLOT_LIMITED;
	if (!fill_slot(slot, p, tp, &choice, life, flags, size)) {
		if (choice.breaker)
			leave_breaker(choice.breaker);
		give_up(slot, id);
		if (plan)
			take_back(msg, plan);
		return instead(msg, p, tp, flags, REASON_REDIRECT_FAILED);
	}
	if (redirect(msg, slot, id) != SK_PASS) {
		no_longer_active(choice.endpoint);
		if (choice.breaker)
			leave_breaker(choice.breaker);
		give_up(slot, id);
		if (plan)
			take_back(msg, plan);
		return instead(msg, p, tp, flags, REASON_REDIRECT_FAILED);
	}
	p->slot = id;
	if (p->inspected && !p->generation)
		say_it_spoke(p);
	p->generation = next_generation(life);
	p->body_remaining = p->request.content_length - body;
	p->pieces = 0;
	/* The client's wish to close is between it and us: the i-sock stays. A plan has left it out already. */
	if (!plan && p->request.flags & REQUEST_CLOSE)
		blank(msg, p->request.connection, 5);
	if (plan && !drop_old_head(msg, plan)) {
		/* Two heads must never go out. */
		__sync_fetch_and_or(&slot->flags, SLOT_FAULT);
		slot_event(EVENT_FAULT, id, slot);
		return leave(REASON_NO_MEMORY, SK_DROP);
	}
	count_request(p, &choice, slot->kind == SLOT_SAME_HOST, size);
	return leave(slot->kind == SLOT_SAME_HOST ? REASON_SAME_HOST : REASON_CROSS_HOST, SK_PASS);
}

SEC("sk_msg")
int xlb_request(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct tcp_sock *tp;
	struct p_state *p;
	struct slot *slot;

	if (!sk)
		return SK_PASS;
	p = bpf_sk_storage_get(&p_states, sk, 0, 0);
	tp = bpf_skc_to_tcp_sock(sk);
	if (!p || !tp)
		return SK_PASS;
	if (!p->based) {
		p->based = 1;
		p->base_sequence = tp->write_seq;
	}
	if (p->mode == P_BROKEN)
		return leave(REASON_REQUEST_BROKEN, SK_PASS);
	if (p->body_remaining)
		return relay_body(msg, p, tp);
	if (p->cut) {
		p->cut = 0;
		return rest_to_anchor(msg, p, tp);
	}
	if (p->mode == P_SLOW) {
		if (p->pipeliner || !slow_path_idle(p, tp))
			return leave(REASON_SLOW_BYTES, SK_PASS);
		p->mode = P_KERNEL;
	}
	if (p->pipeliner)
		return to_slow_path(msg, p, tp, REASON_PIPELINER);
	slot = outstanding(p, tp);
	if (slot) {
		/* While the daemon hands on the end of an answer, it cannot say in time when it was over. */
		if (slot->flags & SLOT_BYPASS)
			return to_slow_path(msg, p, tp, REASON_SLOW_BUSY);
		p->pipeliner = 1;
		return to_slow_path(msg, p, tp, REASON_PIPELINED);
	}
	/* The daemon has written all of the last answer, and TCP still has some of it: another one would overtake that. */
	if (tp->bytes_received < p->due_by_tcp)
		return to_slow_path(msg, p, tp, REASON_SLOW_BUSY);
	return relay_request(msg, p, tp);
}
