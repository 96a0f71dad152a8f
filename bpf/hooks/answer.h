/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Routes that answer by themselves: redirects and direct responses. The answer is written where the request lies, as an
 * edited head is (edit.h), and the message goes into its own sender's receive queue.
 */

/* How much of the authority a redirect keeps, whose port may be gone. 0: that is for the slow path to say. */
__noinline int kept_authority(struct sk_msg_md *msg, struct p_state *p, __u32 part)
{
	const __u8 *data = msg->data, *end = msg->data_end, *first, *last;
	struct request_head *r;
	__u32 length;

	if (!p)
		return 0;
	r = &p->request;
	length = r->host_length;
	first = byte_at(data, end, r->host);
	if (!first || *first == '[')
		return 0;
	/* Only a host that begins with a bracket has one around its colons: Utility::newUri has no other. */
	if (part == EDIT_HOST_ALONE)
		return before_last_colon(r, data, end, ':');
	if (length <= 3)
		return length;
	last = data + ((r->host + length - 3) & (XLB_MAX_HEAD - 1));
	if (last + 3 > end)
		return 0;
	return last[0] == ':' && last[1] == '8' && last[2] == '0' ? length - 3 : length;
}

/* A part of the request, or of the time. False: the slow path has to answer. */
static __always_inline bool add_answer_part(struct sk_msg_md *msg, struct p_state *p, struct edit_plan *plan,
					    const struct word *row)
{
	const struct request_head *r = &p->request;
	/* That many bytes of the path have given way to others. */
	__u32 skip = row->a, length, zero = 0;
	struct clock *clock;

	switch (row->d) {
	case EDIT_TARGET:
	case EDIT_PATH:
		length = row->d == EDIT_PATH ? r->path_length : r->target_length;
		return skip <= r->path_length && add_piece(plan, PIECE_OLD, r->target + skip, length - skip);
	case EDIT_QUERY:
		return add_piece(plan, PIECE_OLD, r->target + r->path_length, r->target_length - r->path_length);
	case EDIT_HOST_ALONE:
	case EDIT_HOST_UNLESS_80:
		length = kept_authority(msg, p, row->d);
		return length && add_piece(plan, PIECE_OLD, r->host, length);
	case EDIT_DATE:
		clock = bpf_map_lookup_elem(&clocks, &zero);
		return clock && add_piece(plan, PIECE_DATE, clock->current & XLB_DATE_STRIDE, XLB_DATE_BYTES);
	default:
		return add_part(plan, r, row->d);
	}
}

/* The answer that `program`, a place in the virtual host's blob, gives to the request. 0, or the reason to decline. */
__noinline int plan_answer(struct sk_msg_md *msg, struct p_state *p, struct edit_plan *plan, __u32 vhost, __u32 program)
{
	struct word *head;
	__u32 at = from(0);
	void *blob;

	if (!p || !plan)
		return REASON_ROUTE;
	blob = bpf_map_lookup_elem(&rules, &vhost);
	if (!blob)
		return REASON_ROUTE;
	head = word_at(blob, program);
	if (!head)
		return REASON_ROUTE;
	set_base(plan, msg->data);
	begin_plan(plan, vhost);
	repeat_far(XLB_MAX_EDIT_PIECES) {
		struct word *row;

		if (at >= head->a)
			break;
		row = word_at(blob, head->b + at);
		if (!row || !add_text(plan, row->b, row->c) || !add_answer_part(msg, p, plan, row))
			return REASON_ROUTE;
		at++;
	}
	if (p->request.method != METHOD_HEAD && !add_text(plan, head->c, head->d))
		return REASON_ROUTE;
	plan->replaced = msg->size;
	return at < head->a || plan->length > XLB_MAX_HEAD ? REASON_ROUTE : 0;
}

/*
 * Would the answer wait behind others that the client does not read, or overtake one? Then it takes TCP, which has
 * back-pressure.
 */
static __always_inline bool must_queue(struct tcp_sock *tp)
{
	struct settings *settings = get_settings();

	return worker_has_bytes(tp) || !settings ||
	       ((struct sock *)tp)->sk_backlog.rmem_alloc.counter > (int)(settings->receive_limit / 8);
}

/* A request that has come whole, without a body, and whose client stays: all others are the slow path's to answer. */
static __always_inline int answer(struct sk_msg_md *msg, struct p_state *p, struct tcp_sock *tp,
				  const struct choice *choice)
{
	struct listener_stats *listener;
	struct edit_plan *plan;
	struct route_stats *route;
	__u32 key = choice->route;
	int declined;

	if (p->request.content_length || p->request.flags & REQUEST_CLOSE)
		return to_slow_path(msg, p, tp, REASON_ROUTE);
	if (must_queue(tp))
		return to_slow_path(msg, p, tp, REASON_PIPELINED);
	plan = bpf_sk_storage_get(&edit_plans, msg->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	declined = plan ? plan_answer(msg, p, plan, choice->vhost, choice->edits) : REASON_NO_MEMORY;
	if (declined)
		return to_slow_path(msg, p, tp, declined);
	if (!write_edits(msg, plan))
		return to_slow_path(msg, p, tp, REASON_NO_MEMORY);
	if (bpf_msg_redirect_hash(msg, &p_socks, &p->cookie, BPF_F_INGRESS) != SK_PASS) {
		take_back(msg, plan);
		return to_slow_path(msg, p, tp, REASON_REDIRECT_FAILED);
	}
	/* The request must never come back to its sender. */
	if (!drop_old_head(msg, plan))
		return leave(REASON_NO_MEMORY, SK_DROP);
	if (p->inspected && !p->generation)
		say_it_spoke(p);
	listener = listener_row(p->listener);
	if (listener)
		add(&listener->answered, 1);
	route = bpf_map_lookup_elem(&route_counts, &key);
	if (route)
		add(&route->requests, 1);
	return leave(REASON_ANSWERED, SK_PASS);
}
