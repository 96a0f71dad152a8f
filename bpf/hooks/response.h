/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What a server answers, on the same host (its own writes) and across hosts (what arrives at the i-sock). Both follow
 * the response to its exact end and give the i-sock back there; both hand the bytes to the client's receive queue.
 *
 * A receive queue that is filled by redirect has no bound. So above a limit the rest of a body takes ordinary TCP to
 * the i-sock, and the daemon hands it on: SLOT_BYPASS.
 */

/*
 * Bytes that the client has not read yet, and what the kernel spends on the pieces they came in. The client's address
 * may be stale; then this is a wrong number and no more.
 */
static __always_inline bool client_is_full(const struct slot *slot)
{
	struct settings *settings = get_settings();
	struct sock *client = at_address(struct sock, slot->p_sk);
	__u64 queued = client->sk_backlog.rmem_alloc.counter, room = (__u32)client->sk_rcvbuf / 2;

	/* Few bytes are never many pieces. */
	if (!settings || queued < XLB_PIECE_COST)
		return false;
	if (room < settings->receive_limit)
		room = settings->receive_limit;
	return queued + queued * (XLB_PIECE_COST * 16) / (slot->piece | 1) > room;
}

static __always_inline bool cross_client_is_full(const struct slot *slot, __u64 life)
{
	struct sock *client = at_address(struct sock, slot->p_sk);
	__u32 queued = client->sk_backlog.rmem_alloc.counter;
	__u32 room = client->sk_rcvbuf;

	/* These come as messages, and some are still to come. */
	if (life & SLOT_HAND_OVER)
		return slot->response_bytes - slot->handed_over > room / 2 || client_is_full(slot);
	/* Beyond its buffer the rest waits uncounted with the worker, which looks again only each tick. */
	return queued > room / 2;
}

static __always_inline void count_response(const struct slot *slot, __u64 took)
{
	__u32 key = slot->endpoint;
	struct endpoint_stats *row = bpf_map_lookup_elem(&endpoint_counts, &key);
	__u16 status = slot->frame.status;

	if (!row)
		return;
	add(&row->response_bytes, slot->response_bytes);
	add(&row->time_ns, took);
	if (status >= 500)
		add(&row->responses_5xx, 1);
	else if (status >= 400)
		add(&row->responses_4xx, 1);
	else if (status >= 300)
		add(&row->responses_3xx, 1);
	else if (status >= 200)
		add(&row->responses_2xx, 1);
	else
		add(&row->responses_1xx, 1);
}

/* The endpoint has one request less in service, and has answered it. */
static __always_inline void leave_endpoint(const struct slot *slot)
{
	struct endpoint_state *state = state_of(slot->endpoint);
	__u32 reached;

	if (!state)
		return;
	__sync_fetch_and_add(&state->active, -1);
	reached = count_outcome(state, slot->frame.status);
	if (reached)
		endpoint_event(EVENT_OUTLIER, slot->endpoint, reached);
}

/* RFC 9112 section 9.3: is this the last answer of its connection, as its head says? */
static __always_inline bool server_closes(const struct framing *f)
{
	return f->flags & FRAME_CLOSE || (f->flags & FRAME_HTTP10 && !(f->flags & FRAME_KEEP_ALIVE));
}

/*
 * The last byte of the response is on its way to the client. Of all that may end a request (this hook, the daemon) the
 * one that turns SLOT_RESPONSE_DONE on in its generation ends it, once.
 * A function of its own to the verifier too.
 */
__noinline int complete(struct slot *slot, __u32 id, __u32 generation)
{
	__u64 took, *life, old, ended = 0;
	__u32 flags;
	bool ours = false;

	if (!slot)
		return 0;
	took = bpf_ktime_get_ns() - slot->started_ns;
	life = (__u64 *)&slot->flags;
	old = *(volatile __u64 *)life;
	if (server_closes(&slot->frame))
		ended = SLOT_RETIRE | SLOT_CLOSE_CLIENT;
	repeat (16) {
		__u64 now;

		if (old >> 32 != generation || old & SLOT_RESPONSE_DONE)
			return 0;
		now = __sync_val_compare_and_swap(life, old, old | ended | SLOT_RESPONSE_DONE);
		ours = now == old;
		if (ours)
			break;
		old = now;
	}
	/* Sixteen others in a row: the route's timeout ends it then. */
	if (!ours)
		return 0;
	flags = old | ended;
	count_response(slot, took);
	leave_endpoint(slot);
	if (flags & SLOT_LIMITED)
		leave_breaker(slot->breaker);
	/* Short connections come in crowds, and most of their clients close by themselves: no wake-up for each. */
	if (flags & SLOT_CLOSE_CLIENT)
		slot_event_how(flags & SLOT_RETIRE ? EVENT_CLOSE : EVENT_END, id, slot,
			       flags & SLOT_YOUNG && took < XLB_YOUNG_NS ? BPF_RB_NO_WAKEUP : BPF_RB_FORCE_WAKEUP);
	if (flags & SLOT_SPOILED)
		slot_event(EVENT_RETIRE, id, slot);
	else if (flags & SLOT_REQUEST_DONE)
		release(id);
	return 0;
}

/* Bytes that nobody asked for: the i-sock must not be used again. */
static __always_inline void unasked(struct slot *slot, __u32 id)
{
	if (!(__sync_fetch_and_or(&slot->flags, SLOT_STRAY) & SLOT_STRAY))
		slot_event(EVENT_RETIRE, id, slot);
}

static __always_inline void fault(struct slot *slot, __u32 id)
{
	if (!(__sync_fetch_and_or(&slot->flags, SLOT_FAULT) & SLOT_FAULT))
		slot_event(EVENT_FAULT, id, slot);
}

static __always_inline void bypass(struct slot *slot, __u32 id)
{
	slot->bypass_base = at_address(struct tcp_sock, slot->p_sk)->bytes_received;
	if (!(__sync_fetch_and_or(&slot->flags, SLOT_BYPASS) & SLOT_BYPASS))
		slot_event(EVENT_BYPASS, id, slot);
}

/* Does the slot stand in a client's service? If not, bytes from its server are unasked. */
static __always_inline bool in_service(__u64 life)
{
	return life >> 32 && !(life & SLOT_RESPONSE_DONE);
}

static __always_inline __u64 life_of(const struct slot *slot)
{
	return *(volatile __u64 *)&slot->flags;
}

/* Has not a byte of the answer come yet? */
static __always_inline bool at_the_beginning(const struct slot *slot)
{
	return slot->frame.state == FRAME_VERSION && slot->frame.count == 0 && slot->response_bytes == 0;
}

/*
 * Bytes that the server wrote before it had seen a byte of the request: a 408 that crossed it, or too much of the last
 * answer. They answer nobody, and the server may be about to close: the daemon ends the i-sock and repeats the request.
 */
static __always_inline int stale(struct slot *slot, __u32 id)
{
	if (!(__sync_fetch_and_or(&slot->flags, SLOT_FAULT) & SLOT_FAULT))
		slot_event(EVENT_STALE, id, slot);
	return leave(REASON_RESPONSE_STALE, SK_PASS);
}

/* No server needs that much before its answer's body; and without a bound a head would have none. */
static __always_inline bool head_too_large(const struct slot *slot)
{
	return slot->frame.state < FRAME_BODY && slot->response_bytes > XLB_MAX_RESPONSE_HEAD;
}

static __always_inline void count_piece(struct slot *slot, __u32 size)
{
	slot->piece += size * 2 - slot->piece / 8;
}

/* ---- heads that rules edit ---- */

/* Whose edits a head gets: the virtual host's blob, and a place in it. */
struct answer_edits {
	__u32 rules;
	__u32 program;
	bool due; /* the final head has not come yet */
};

static __always_inline struct answer_edits edits_in(const struct slot *slot)
{
	return (struct answer_edits){.rules = slot->edit_rules, .program = slot->edit_program, .due = true};
}

static __always_inline struct answer_edits edits_of(const struct slot *slot, __u64 life)
{
	struct answer_edits none = {};

	return life & SLOT_EDITS && slot->frame.state < FRAME_BODY ? edits_in(slot) : none;
}

/* Is the head not all there? `head`: where in the message a final one ends, 0: nowhere. An interim one may be. */
static __always_inline bool head_in_pieces(const struct slot *slot, __u32 head)
{
	return !head && !(slot->frame.state == FRAME_VERSION && slot->frame.count == 0);
}

/* The daemon reads the answer from its first byte, makes the head that the client gets, and hands on all of it. */
static __always_inline int begin_late(struct slot *slot, __u32 id, enum reason reason)
{
	frame_reset(&slot->frame);
	bypass(slot, id);
	return leave(reason, SK_PASS);
}

static __always_inline int edit_late(struct slot *slot, __u32 id)
{
	return begin_late(slot, id, REASON_RESPONSE_EDITED_LATE);
}

/* Does an interim head come before the final one? Of a head that was followed to its end. */
static __always_inline bool begins_interim(__u64 base)
{
	__u32 status = (__u32)eight_bytes(base + 9) & 0xffffff;

	return (__u8)status == '1' && status != ('1' | '0' << 8 | '1' << 16);
}

/* By how many bytes the head became longer; less than 0: shorter. */
#define NOT_EDITED (-0x10000)

/* The message begins with a final head of `head` bytes. NOT_EDITED: it is as it was. */
static __always_inline int edit_message(struct sk_msg_md *msg, const struct answer_edits *edits, __u32 head)
{
	struct edit_plan *plan;

	if (head > XLB_MAX_HEAD || bpf_msg_pull_data(msg, 0, head, 0))
		return NOT_EDITED;
	plan = bpf_sk_storage_get(&edit_plans, msg->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!plan)
		return NOT_EDITED;
	set_base(plan, msg->data);
	if (begins_interim(plan->base) || plan_answer_edits(plan, head, edits->rules, edits->program) ||
	    !write_edits(msg, plan))
		return NOT_EDITED;
	if (drop_old_head(msg, plan))
		return (int)plan->length - (int)head;
	take_back(msg, plan);
	return NOT_EDITED;
}

/* ---- same host: the server's own writes ---- */

/* The message lies open from the byte that is due. A function of its own to the verifier too. */
__noinline __u64 follow_message(struct sk_msg_md *msg, struct framing *f, __u32 length, bool head_request)
{
	if (!f)
		return 0;
	return follow_bytes(f, msg->data, msg->data_end, true, length, head_request);
}

/* Ten bytes, all at once: a loop here would be verified once more for each way that leads on from it. */
static __always_inline bool is_keep_alive(const __u8 *p)
{
	return (*(const __u64 *)p | EVERY_BYTE(0x20)) == TEXT_KEEP_ALI &&
	       (*(const __u16 *)(p + 8) | 0x2020) == ('v' | 'e' << 8);
}

/* The client wished to close, the server (which was not told) would keep the connection: `keep-alive` -> `close`. */
static __always_inline void say_close(struct sk_msg_md *msg, __u32 at)
{
	__u8 *p;

	if (bpf_msg_pull_data(msg, at, at + 10, 0))
		return;
	p = msg->data;
	if (p + 10 > (__u8 *)msg->data_end || !is_keep_alive(p))
		return;
	__builtin_memcpy(p, "close     ", 10);
}

SEC("sk_msg")
int xlb_response(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	__u32 *found, id, size = msg->size, at = from(0), keep_alive = from(0), head = from(0);
	struct answer_edits edits;
	struct slot *slot;
	bool head_request;
	__u64 owner, followed, life;

	if (!sk)
		return SK_PASS;
	found = bpf_sk_storage_get(&s_slots, sk, 0, 0);
	if (!found)
		return SK_PASS;
	id = *found;
	slot = slot_at(id);
	if (!slot)
		return SK_PASS;
	life = life_of(slot);
	if (!in_service(life)) {
		unasked(slot, id);
		return leave(REASON_RESPONSE_UNASKED, SK_PASS);
	}
	if (life & SLOT_FAULT)
		return leave(REASON_RESPONSE_FAULT, SK_PASS);
	if (life & SLOT_BYPASS)
		return leave(REASON_RESPONSE_BYPASS, SK_PASS);
	if (at_the_beginning(slot)) {
		struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

		if (tp && unread((struct sock *)tp) >= slot->sent)
			return stale(slot, id);
	}
	if (frame_in_body(&slot->frame) && client_is_full(slot)) {
		bypass(slot, id);
		return leave(REASON_RESPONSE_BYPASS, SK_PASS);
	}
	owner = slot->owner;
	edits = edits_of(slot, life);
	head_request = life & SLOT_HEAD;
	/* The owner may be another's already, if the daemon has ended this request meanwhile. */
	if (life_of(slot) >> 32 != life >> 32)
		return leave(REASON_RESPONSE_UNASKED, SK_PASS);
	repeat (1 << 20) {
		__u32 n, state = slot->frame.state;

		if (at >= size || state == FRAME_DONE || state == FRAME_FAULT)
			break;
		if (state == FRAME_UNTIL_CLOSE) {
			at = size;
			break;
		}
		if (frame_skips(&slot->frame)) {
			at += skip(&slot->frame, size - at);
			continue;
		}
		n = size - at;
		if (n > XLB_STASH_BYTES)
			n = XLB_STASH_BYTES;
		if (at || msg->data + n > msg->data_end) {
			if (bpf_msg_pull_data(msg, at, at + n, 0)) {
				slot->frame.state = FRAME_FAULT;
				break;
			}
		}
		followed = follow_message(msg, &slot->frame, n, head_request);
		if (FOLLOWED_KEEP_ALIVE(followed))
			keep_alive = at + FOLLOWED_KEEP_ALIVE(followed);
		if (FOLLOWED_HEAD(followed))
			head = at + FOLLOWED_HEAD(followed);
		at += FOLLOWED_BYTES(followed);
	}
	if (slot->frame.state == FRAME_FAULT || head_too_large(slot)) {
		fault(slot, id);
		return leave(REASON_RESPONSE_FAULT, SK_PASS);
	}
	if (edits.due && head_in_pieces(slot, head))
		return edit_late(slot, id);
	if (at < size) {
		/* More than the answer: the client gets its own part only. */
		__sync_fetch_and_or(&slot->flags, SLOT_RETIRE);
		if (bpf_msg_pop_data(msg, at, size - at, 0)) {
			fault(slot, id);
			return leave(REASON_RESPONSE_FAULT, SK_PASS);
		}
	}
	if (keep_alive && slot->flags & SLOT_CLOSE_CLIENT)
		say_close(msg, keep_alive - 1);
	if (edits.due && head) {
		int more = edit_message(msg, &edits, head);

		if (more == NOT_EDITED)
			return edit_late(slot, id);
		at += more;
	}
	if (bpf_msg_redirect_hash(msg, &p_socks, &owner, BPF_F_INGRESS) != SK_PASS) {
		/* The client has gone. Its end has been told to the daemon, which closes the i-sock. */
		__sync_fetch_and_or(&slot->flags, SLOT_RETIRE);
		if (slot->frame.state == FRAME_DONE)
			complete(slot, id, life >> 32);
		return leave(REASON_RESPONSE_ORPHAN, SK_PASS);
	}
	slot->response_bytes += at;
	if (slot->frame.state != FRAME_DONE)
		count_piece(slot, at);
	if (!(slot->flags & SLOT_STARTED))
		__sync_fetch_and_or(&slot->flags, SLOT_STARTED);
	if (slot->frame.state == FRAME_UNTIL_CLOSE && !(slot->flags & SLOT_UNTIL_CLOSE))
		__sync_fetch_and_or(&slot->flags, SLOT_UNTIL_CLOSE | SLOT_RETIRE);
	if (slot->frame.state == FRAME_DONE)
		complete(slot, id, life >> 32);
	return leave(REASON_RESPONSE, SK_PASS);
}

/* ---- what TCP brings ---- */

/* The most that one call takes off the beginning of an skb. */
#define MOST_AT_ONCE 4095

/*
 * A sender that repeats itself may repeat more than was lost: then an skb begins with bytes that have been here
 * already. TCP's own reader skips them by their sequence numbers; what hands skbs to verdicts (tcp_read_skb) does not
 * look. So each verdict does it first. False: there was no memory for it.
 */
static __always_inline bool skip_repeated(struct __sk_buff *skb, __u32 *next)
{
	__u64 packet = (__u64)bpf_cast_to_kern_ctx(skb);
	__u32 sequence = at_address(struct tcp_skb_cb, packet + bpf_core_field_offset(struct sk_buff, cb))->seq;
	__u32 repeated = *next - sequence, rest;

	*next = sequence + skb->len;
	if ((__s32)repeated <= 0)
		return true;
	rest = skb->len - repeated;
	repeat (32) {
		__u32 n = READ(skb->len) - rest;

		if (!n)
			return true;
		if (bpf_skb_adjust_room(skb, n < MOST_AT_ONCE ? -(__s32)n : -MOST_AT_ONCE, 0, 0))
			return false;
	}
	return false;
}

/* ---- across hosts: what TCP brings to the i-sock ---- */

/* Had the server's TCP got a byte of the request when it sent what comes now? An acknowledged SYN counts as a byte. */
static __always_inline bool request_arrived(const struct slot *slot)
{
	return at_address(struct tcp_sock, slot->target_sk)->bytes_acked > slot->relayed + 1;
}

/* Scratch, which has to be given back. NULL: all of it is in use. */
static __always_inline struct edit_room *take_room(void)
{
	__u32 first = bpf_get_smp_processor_id() * 4, turn;

	for (turn = 0; turn < 4; turn++) {
		__u32 key = (first + turn) % XLB_EDIT_ROOMS;
		struct edit_room *room = bpf_map_lookup_elem(&edit_rooms, &key);

		if (room && !__sync_val_compare_and_swap(&room->taken, 0, 1))
			return room;
	}
	return NULL;
}

static __always_inline void leave_room(struct edit_room *room)
{
	__sync_fetch_and_and(&room->taken, 0);
}

/*
 * Can the head of `head` bytes, with which the skb begins, be edited? Not here: what a verdict leaves of an skb is what
 * the kernel takes for read, and a connection of which more was read than has come wakes up nobody any more. It is
 * handed over as a message, which can be; so it has to lie in one piece.
 */
static __always_inline bool can_be_edited(struct __sk_buff *skb, const struct answer_edits *edits, __u32 head)
{
	struct edit_room *room;
	bool can;
	__u64 packet;

	if (head > XLB_MAX_HEAD || bpf_skb_pull_data(skb, head))
		return false;
	room = take_room();
	if (!room)
		return false;
	packet = (__u64)bpf_cast_to_kern_ctx(skb);
	room->plan.base = (__u64)at_address(struct sk_buff, packet)->data;
	can = !begins_interim(room->plan.base) && !plan_answer_edits(&room->plan, head, edits->rules, edits->program);
	leave_room(room);
	return can;
}

SEC("sk_skb")
int xlb_response_skb(struct __sk_buff *skb)
{
	__u64 cookie = bpf_get_socket_cookie(skb), owner, followed;
	__u32 *found = bpf_map_lookup_elem(&isock_slots, &cookie), id, size, at = from(0), keep_alive = from(0);
	__u32 head = from(0);
	struct answer_edits edits;
	struct stash *window;
	struct slot *slot;
	bool head_request, first;
	__u64 life;

	/* The end of the stream; the daemon sees it too. */
	if (!skb->len)
		return SK_DROP;
	if (!found)
		return SK_PASS;
	id = *found;
	slot = slot_at(id);
	window = bpf_map_lookup_elem(&stashes, &id);
	if (!slot || !window)
		return SK_PASS;
	if (!skip_repeated(skb, &slot->next_sequence)) {
		fault(slot, id);
		return leave(REASON_RESPONSE_FAULT, SK_PASS);
	}
	size = skb->len;
	life = life_of(slot);
	if (!in_service(life)) {
		unasked(slot, id);
		return leave(REASON_RESPONSE_UNASKED, SK_PASS);
	}
	if (life & SLOT_FAULT)
		return leave(REASON_RESPONSE_FAULT, SK_PASS);
	if (life & SLOT_BYPASS)
		return leave(REASON_RESPONSE_BYPASS, SK_PASS);
	first = at_the_beginning(slot);
	if (first && !request_arrived(slot))
		return stale(slot, id);
	if (frame_in_body(&slot->frame) && cross_client_is_full(slot, life)) {
		bypass(slot, id);
		return leave(REASON_RESPONSE_BYPASS, SK_PASS);
	}
	owner = slot->owner;
	edits = edits_of(slot, life);
	head_request = life & SLOT_HEAD;
	/* The owner may be another's already, if the daemon has ended this request meanwhile. */
	if (life_of(slot) >> 32 != life >> 32)
		return leave(REASON_RESPONSE_UNASKED, SK_PASS);
	repeat (1 << 20) {
		__u32 n, state = slot->frame.state;

		if (at >= size || state == FRAME_DONE || state == FRAME_FAULT)
			break;
		if (state == FRAME_UNTIL_CLOSE) {
			at = size;
			break;
		}
		if (frame_skips(&slot->frame)) {
			at += skip(&slot->frame, size - at);
			continue;
		}
		n = size - at;
		if (n > XLB_STASH_BYTES)
			n = XLB_STASH_BYTES;
		barrier_value(n);
		if (n == 0 || n > XLB_STASH_BYTES || bpf_skb_load_bytes(skb, at, window->bytes, n)) {
			slot->frame.state = FRAME_FAULT;
			break;
		}
		followed = follow(&slot->frame, window, n, head_request);
		if (FOLLOWED_KEEP_ALIVE(followed))
			keep_alive = at + FOLLOWED_KEEP_ALIVE(followed);
		if (FOLLOWED_HEAD(followed))
			head = at + FOLLOWED_HEAD(followed);
		at += FOLLOWED_BYTES(followed);
	}
	if (slot->frame.state == FRAME_FAULT || head_too_large(slot)) {
		fault(slot, id);
		return leave(REASON_RESPONSE_FAULT, SK_PASS);
	}
	if (edits.due && head_in_pieces(slot, head))
		return edit_late(slot, id);
	if (at < size) {
		__sync_fetch_and_or(&slot->flags, SLOT_RETIRE);
		if (bpf_skb_change_tail(skb, at, 0)) {
			fault(slot, id);
			return leave(REASON_RESPONSE_FAULT, SK_PASS);
		}
	}
	if (keep_alive && slot->flags & SLOT_CLOSE_CLIENT && keep_alive - 1 + 10 <= at) {
		__u8 word[10] __attribute__((aligned(8)));

		if (!bpf_skb_load_bytes(skb, keep_alive - 1, word, sizeof(word)) &&
		    is_keep_alive(word))
			bpf_skb_store_bytes(skb, keep_alive - 1, "close     ", 10, 0);
	}
	/*
	 * A server that closes before it has read a body resets, and what the i-sock's worker holds would be lost. Does it
	 * close? Without a final head nobody knows, and when it comes some of the answer may be with the worker.
	 */
	if (first && life & SLOT_HAND_OVER && life & SLOT_UPLOAD &&
	    (!head || server_closes(&slot->frame) || !(life & SLOT_REQUEST_DONE))) {
		if (life & SLOT_EDITS)
			return edit_late(slot, id);
		if (!head && life & SLOT_REQUEST_DONE)
			return begin_late(slot, id, REASON_RESPONSE_BYPASS);
		__sync_fetch_and_and(&slot->flags, ~SLOT_HAND_OVER);
		life &= ~(__u64)SLOT_HAND_OVER;
	}
	if (edits.due && head) {
		if (!can_be_edited(skb, &edits, head))
			return edit_late(slot, id);
		slot->edit_at = slot->response_bytes;
		slot->edit_head = head;
	}
	if (life & SLOT_HAND_OVER ? bpf_sk_redirect_map(skb, &i_socks, id, 0) != SK_PASS :
				   bpf_sk_redirect_hash(skb, &p_socks, &owner, BPF_F_INGRESS) != SK_PASS) {
		__sync_fetch_and_or(&slot->flags, SLOT_RETIRE);
		if (slot->frame.state == FRAME_DONE)
			complete(slot, id, life >> 32);
		return leave(REASON_RESPONSE_ORPHAN, SK_DROP);
	}
	slot->response_bytes += at;
	if (slot->frame.state != FRAME_DONE)
		count_piece(slot, at);
	if (!(slot->flags & SLOT_STARTED))
		__sync_fetch_and_or(&slot->flags, SLOT_STARTED);
	if (slot->frame.state == FRAME_UNTIL_CLOSE && !(slot->flags & SLOT_UNTIL_CLOSE))
		__sync_fetch_and_or(&slot->flags, SLOT_UNTIL_CLOSE | SLOT_RETIRE);
	if (slot->frame.state != FRAME_DONE)
		return leave(REASON_RESPONSE, SK_PASS);
	/* A full barrier: who sees the flag sees how many bytes there are. */
	if (life & SLOT_HAND_OVER)
		__sync_fetch_and_or(&slot->flags, SLOT_ANSWERED);
	else
		complete(slot, id, life >> 32);
	return leave(REASON_RESPONSE, SK_PASS);
}

/*
 * An answer for a client whose reads block, or one whose head is edited, goes by the i-sock's worker, as if it were to
 * be sent, so that this hook moves it to the client as a message: under the client's lock. A worker that fills a queue
 * (what is redirected there from an skb) first appends the bytes and then wakes the reader, without that lock. A reader
 * that was awake may have taken them and sleep again by then, and one that wakes up to nothing is told EAGAIN.
 *
 * The daemon writes nothing to an i-sock: whatever comes here is an answer.
 */
SEC("sk_msg")
int xlb_hand_over(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	__u32 *found, size = msg->size, head;
	struct answer_edits edits = {};
	struct slot *slot;
	__u64 owner, life;

	if (!sk)
		return SK_DROP;
	found = bpf_sk_storage_get(&s_slots, sk, 0, 0);
	slot = found ? slot_at(*found) : NULL;
	if (!slot)
		return SK_DROP;
	life = life_of(slot);
	owner = slot->owner;
	head = life & SLOT_EDITS ? slot->edit_head : 0;
	if (head)
		edits = edits_in(slot);
	if (!in_service(life) || !(life & SLOT_HAND_OVER) || life_of(slot) >> 32 != life >> 32)
		return leave(REASON_RESPONSE_UNASKED, SK_DROP);
	if (head && (__u32)slot->handed_over == slot->edit_at) {
		slot->edit_head = 0;
		if (size < head || edit_message(msg, &edits, head) == NOT_EDITED) {
			fault(slot, *found);
			return leave(REASON_RESPONSE_FAULT, SK_DROP);
		}
	}
	if (bpf_msg_redirect_hash(msg, &p_socks, &owner, BPF_F_INGRESS) != SK_PASS) {
		__sync_fetch_and_or(&slot->flags, SLOT_RETIRE);
		if (life & SLOT_ANSWERED)
			complete(slot, *found, life >> 32);
		return leave(REASON_RESPONSE_ORPHAN, SK_DROP);
	}
	slot->handed_over += size;
	if (life_of(slot) & SLOT_ANSWERED && slot->handed_over == slot->response_bytes)
		complete(slot, *found, life >> 32);
	return leave(REASON_RESPONSE_HANDED_OVER, SK_PASS);
}

/*
 * What TCP brings to a client: the slow path's answers. They go through the same queue as redirected bytes, so that
 * neither can overtake the other, and so that FIONREAD counts them. The end of the stream (no bytes) goes there too: a
 * read that sleeps would be woken by it and find the queue empty, which the kernel calls EAGAIN.
 */
SEC("sk_skb")
int xlb_client_skb(struct __sk_buff *skb)
{
	struct addr_key key;
	struct conn *conn;
	__u32 ip4 = READ(skb->local_ip4), a = READ(skb->local_ip6[0]), b = READ(skb->local_ip6[1]);
	__u32 c = READ(skb->local_ip6[2]), d = READ(skb->local_ip6[3]);

	if (!skb->len)
		return SK_PASS;
	to_key(&key, READ(skb->family), ip4, a, b, c, d, READ(skb->local_port));
	conn = bpf_map_lookup_elem(&conns, &key);
	/* A stream that ends too early is seen, one with bytes twice is not. */
	if (conn && conn->cookie == bpf_get_socket_cookie(skb) && !skip_repeated(skb, &conn->next_sequence))
		return leave(REASON_NO_MEMORY, SK_DROP);
	return SK_PASS;
}

/*
 * Does the worker of the i-sock that was used last still hold some of its answer? After a reset it hands over nothing,
 * nor does the daemon get what stands behind that.
 */
static __always_inline bool isock_has_bytes(const struct p_state *p)
{
	struct slot *slot = slot_at(p->slot);

	return slot && p->generation && *(volatile __u32 *)&slot->generation == p->generation &&
	       slot->flags & SLOT_HAND_OVER && slot->handed_over != slot->response_bytes &&
	       at_address(struct sock, slot->target_sk)->__sk_common.skc_state != BPF_TCP_CLOSE;
}

/*
 * Asked by the daemon through a test run, never attached: does the client whose cookie lies in the packet still have
 * bytes in a worker's queue? 0: it is gone, 1: drained, 2: not yet.
 */
SEC("tc")
int xlb_drained(struct __sk_buff *skb)
{
	struct p_state *p;
	struct tcp_sock *tp;
	struct bpf_sock *sk;
	int answer = 0;
	__u64 cookie;

	if (bpf_skb_load_bytes(skb, 14, &cookie, sizeof(cookie)))
		return 0;
	sk = bpf_map_lookup_elem(&p_socks, &cookie);
	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	p = bpf_sk_storage_get(&p_states, sk, 0, 0);
	if (tp && p)
		answer = worker_has_bytes(tp) || isock_has_bytes(p) ? 2 : 1;
	bpf_sk_release(sk);
	return answer;
}

/*
 * Told by the daemon in the same way, when it has written the rest of an answer but the kernel still has some of it:
 * how many bytes the client has to get by TCP before the next answer may go into its queue.
 */
SEC("tc")
int xlb_await(struct __sk_buff *skb)
{
	struct p_state *p;
	struct bpf_sock *sk;
	__u64 cookie, due;

	if (bpf_skb_load_bytes(skb, 14, &cookie, sizeof(cookie)) ||
	    bpf_skb_load_bytes(skb, 14 + sizeof(cookie), &due, sizeof(due)))
		return 0;
	sk = bpf_map_lookup_elem(&p_socks, &cookie);
	if (!sk)
		return 0;
	p = bpf_sk_storage_get(&p_states, sk, 0, 0);
	if (p)
		p->due_by_tcp = due;
	bpf_sk_release(sk);
	return p != NULL;
}

/*
 * Asked by the daemon in the same way, when a connection is over: forgets it, unless its client's port is another one's
 * by now. Here, because between a look and a deletion by the daemon the port could become that.
 */
SEC("tc")
int xlb_forget(struct __sk_buff *skb)
{
	struct addr_key key;
	struct conn *conn;
	__u64 cookie;

	if (bpf_skb_load_bytes(skb, 14, &cookie, sizeof(cookie)) ||
	    bpf_skb_load_bytes(skb, 14 + sizeof(cookie), &key, sizeof(key)))
		return 0;
	conn = bpf_map_lookup_elem(&conns, &key);
	if (conn && conn->cookie != cookie)
		return 0;
	bpf_map_delete_elem(&conns, &key);
	bpf_map_delete_elem(&slow_dones, &key);
	return 1;
}

/*
 * Asked by the daemon in the same way, when an i-sock has entered its map: writes its address into its slot, so that
 * hooks can look at the connection's state, and the slot to the socket.
 */
SEC("tc")
int xlb_learn(struct __sk_buff *skb)
{
	struct tcp_sock *tp;
	struct bpf_sock *sk;
	struct slot *slot;
	bool known;
	__u32 id;

	if (bpf_skb_load_bytes(skb, 14, &id, sizeof(id)))
		return 0;
	slot = slot_at(id);
	sk = bpf_map_lookup_elem(&i_socks, &id);
	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (slot && tp) {
		slot->target_sk = (__u64)tp;
		slot->next_sequence = tp->copied_seq;
	}
	known = bpf_sk_storage_get(&s_slots, sk, &id, BPF_SK_STORAGE_GET_F_CREATE) != NULL;
	bpf_sk_release(sk);
	return known;
}
