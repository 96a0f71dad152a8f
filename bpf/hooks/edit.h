/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Heads as their receivers are to get them, where the rules of a route change them: of requests, and of answers
 * (response.h). A plan says of which pieces the new one is made: runs of the old one, which is read once more, and
 * texts of the rules (docs/tables.md). The old one is read by its address, wherever it lies: what is behind its end is
 * memory like any other. `write_edits` puts the new head before the old one; both lie in the message until
 * `drop_old_head`, so that until then it can still go another way as it came.
 *
 * Only those uses of the helpers that are right in each kernel: bytes are pushed before the first, and popped where a
 * piece of the message begins (bpf_msg_push_data in the middle of a later piece takes the wrong bytes, up to 7.x).
 */

/* False: it is one too many. A function of its own to the verifier too, as others here. */
__noinline int add_piece(struct edit_plan *plan, __u32 kind, __u32 from, __u32 length)
{
	__u32 at;

	if (!plan)
		return 0;
	at = plan->count;
	if (at >= XLB_MAX_EDIT_PIECES)
		return 0;
	plan->pieces[at].from = from;
	plan->pieces[at].length = length;
	plan->pieces[at].kind = kind;
	plan->count = at + 1;
	plan->length += length;
	return 1;
}

/* Of the old head, all that was neither kept nor left out so far goes on as it is, up to there. */
static __always_inline bool keep_until(struct edit_plan *plan, __u32 end)
{
	__u32 from = plan->kept;

	plan->kept = end;
	return end <= from || add_piece(plan, PIECE_OLD, from, end - from);
}

static __always_inline bool add_text(struct edit_plan *plan, __u32 word, __u32 length)
{
	return !length || add_piece(plan, PIECE_TEXT, word * sizeof(struct word), length);
}

/* What of the request stands behind a text; `r` is missing where there is none. False: it is one piece too many. */
static __always_inline bool add_part(struct edit_plan *plan, const struct request_head *r, __u32 part)
{
	if (!r)
		return true;
	switch (part) {
	case EDIT_TARGET:
		return add_piece(plan, PIECE_OLD, r->target, r->target_length);
	case EDIT_AUTHORITY:
		return add_piece(plan, PIECE_OLD, r->host, r->host_length);
	case EDIT_METHOD:
		return add_piece(plan, PIECE_OLD, 0, r->method_length);
	default:
		return true;
	}
}

/* A plan of nothing yet. */
static __always_inline void begin_plan(struct edit_plan *plan, __u32 vhost)
{
	plan->vhost = vhost;
	plan->count = 0;
	plan->length = 0;
	plan->kept = 0;
	plan->present = 0;
}

/* Where the plan's old head lies. By memory, so that the verifier lets an address be a number. */
#define set_base(plan, address) (*(volatile __u64 *)&(plan)->base = (__u64)(address))

#define eight_bytes(address) (at_address(struct timespec64, address)->tv_sec)

/* Are the `length` bytes at the address, in lower case, the text that the blob has from the word `first` on? */
static __always_inline bool same_name(void *blob, __u32 first, __u32 length, __u64 address)
{
	struct word *w = NULL;
	__u32 at = from(0);
	volatile bool same = false;

	length = from(length);
	repeat (XLB_MAX_HEADER_NAME / 8 + 1) {
		__u32 left;
		__u64 bytes;

		barrier_value(at);
		left = length - at;
		if (at >= length) {
			same = true;
			break;
		}
		if (!(at & 15))
			w = word_at(blob, first + at / 16);
		if (!w)
			break;
		bytes = lower_all(eight_bytes(address + at));
		/* Behind its end a text has zeros. */
		if (left < 8)
			bytes &= (1ULL << (left * 8 & 63)) - 1;
		if (bytes != ((const __u64 *)w)[at >> 3 & 1])
			break;
		at += 8;
	}
	return same;
}

/* Which of the names the header has whose name lies at the address, 1 for the first; 0: none. */
__noinline int edited_name(__u32 vhost, __u32 first, __u32 count, __u32 length, __u64 address)
{
	__u32 at = from(0);
	volatile __u32 found = 0;
	void *blob;

	blob = bpf_map_lookup_elem(&rules, &vhost);
	if (!blob)
		return 0;
	repeat_far(XLB_MAX_EDIT_NAMES) {
		struct word *name;

		if (at >= count)
			break;
		name = word_at(blob, first + at);
		if (!name)
			break;
		at++;
		if ((name->a & 0xff) == length && same_name(blob, name->b, length, address)) {
			found = at;
			break;
		}
	}
	return found;
}

/* Where the value ends that goes from `first` to `stop` with blanks behind it. */
static __always_inline __u32 value_end(__u64 base, __u32 first, __u32 stop)
{
	repeat (XLB_MAX_HEAD) {
		__u8 last;

		if (stop <= first)
			break;
		last = eight_bytes(base + stop - 1);
		if (last != ' ' && last != '\t')
			break;
		stop--;
	}
	return stop;
}

/*
 * What becomes of the line that was read last, of one of the names. A text that goes behind the value of a name's last
 * line is put behind each, and taken back when there is another. `host`: where the value of a request's Host lies, with
 * its length in the upper half.
 */
__noinline int edit_line(struct edit_plan *plan, __u32 names, __u32 index, __u32 host)
{
	__u32 last, value, stop;
	struct word *name;
	void *blob;

	if (!plan)
		return 0;
	stop = plan->at - 1;
	blob = bpf_map_lookup_elem(&rules, &plan->vhost);
	if (!blob)
		return 0;
	name = word_at(blob, names + index);
	if (!name)
		return 0;
	plan->present |= 1u << (index & 31);
	if (name->a & EDIT_DROP) {
		if (!keep_until(plan, plan->line))
			return 0;
		plan->kept = stop + 2;
		return 1;
	}
	if (name->a & EDIT_HOST) {
		if (!keep_until(plan, host & 0xffff) || !add_text(plan, name->c, name->d))
			return 0;
		plan->kept = (host & 0xffff) + (host >> 16);
		return 1;
	}
	if (!name->d)
		return 1;
	last = plan->last[index & (XLB_MAX_EDIT_NAMES - 1)];
	if (last) {
		last = (last - 1) & (XLB_MAX_EDIT_PIECES - 1);
		barrier_value(last);
		if (last < XLB_MAX_EDIT_PIECES) {
			plan->length -= plan->pieces[last].length;
			plan->pieces[last].length = 0;
		}
	}
	value = value_end(plan->base, plan->value, stop);
	if (!keep_until(plan, value))
		return 0;
	/* The text begins with a comma, which an empty value does without. */
	last = value <= plan->value;
	if (!add_piece(plan, PIECE_TEXT, name->c * sizeof(struct word) + last, name->d - last))
		return 0;
	plan->last[index & (XLB_MAX_EDIT_NAMES - 1)] = plan->count;
	return 1;
}

/* Whether a name is asked for at all: one bit for its length and first letter, of 64. */
static __always_inline bool may_be_edited(const struct word *mask, __u32 length, __u8 first)
{
	__u32 bit = (length ^ lower(first)) & 63;

	return (bit < 32 ? mask->a : mask->b) >> (bit & 31) & 1;
}

/* The lines of a head, from `line` on (where it says so, in the middle of one) to the empty one at `end`. */
static __always_inline void begin_lines(struct edit_plan *plan, __u32 line, __u32 at)
{
	__builtin_memset(plan->last, 0, sizeof(plan->last));
	plan->line = line;
	plan->at = at;
	plan->value = at - line;
}

/*
 * `connection`: the place of a client's wish to close, which is between it and us; 0: there is none. `host` as above.
 * False: the plan has too many pieces.
 */
static __always_inline bool plan_lines(struct edit_plan *plan, const struct word *head, const struct word *mask,
				       __u32 end, __u32 connection, __u32 host)
{
	__u32 index = 0;

	repeat (XLB_MAX_HEAD) {
		__u32 at = plan->at;
		__u64 eight, found;

		if (at >= end)
			return true;
		eight = eight_bytes(plan->base + at);
		/* A line without a colon is no line that anybody edits. */
		found = find_byte(eight, '\r');
		if (!plan->value)
			found |= find_byte(eight, ':');
		if (!found) {
			plan->at = at + 8;
			continue;
		}
		at += bytes_below(found);
		/* What lies behind the head was read, too. */
		if (at >= end)
			return true;
		plan->at = at + 1;
		if ((__u8)eight_bytes(plan->base + at) == ':') {
			__u32 length = at - plan->line;
			__u64 name = plan->base + plan->line;

			index = 0;
			if (length - 1 < XLB_MAX_HEADER_NAME && may_be_edited(mask, length, eight_bytes(name)))
				index = edited_name(plan->vhost, head->b, head->a, length, name);
			plan->value = at + 1;
			continue;
		}
		if (index && !edit_line(plan, head->b, index - 1, host))
			return false;
		index = 0;
		if (connection && connection >= plan->line && connection < at) {
			if (!keep_until(plan, connection))
				return false;
			plan->kept = connection + 5;
		}
		plan->line = at + 2;
		plan->at = at + 2;
		plan->value = 0;
	}
	return false;
}

/* The lines that are added behind the others. */
static __always_inline bool plan_additions(const struct request_head *r, struct edit_plan *plan, void *blob,
					   __u32 first, __u32 count)
{
	__u32 at = from(0);

	repeat_far(XLB_MAX_EDIT_PIECES) {
		struct word *row;
		__u32 name;

		if (at >= count)
			return true;
		row = word_at(blob, first + at);
		if (!row)
			return false;
		at++;
		name = row->a & 0xff;
		if (name && (plan->present >> ((name - 1) & 31) & 1) != (row->a >> 8 & 1))
			continue;
		if (!add_text(plan, row->b, row->c) || !add_part(plan, r, row->d))
			return false;
	}
	return false;
}

/* Which edits are for the request, which for its answer. 0, or the reason to decline. */
static __always_inline int split_edits(struct choice *choice)
{
	struct word *mask;
	void *blob;

	choice->answer_edits = 0;
	if (!choice->edits)
		return 0;
	blob = bpf_map_lookup_elem(&rules, &choice->vhost);
	mask = blob ? word_at(blob, choice->edits + 1) : NULL;
	if (!mask)
		return REASON_EDITS;
	choice->answer_edits = mask->c;
	if (mask->d)
		choice->edits = 0;
	return 0;
}

/* A body up to this size moves into the new head's piece of the message: one packet, one wake-up. */
#define MOVED_BODY 1024

/*
 * What `program`, a place in the virtual host's blob, makes of the request. 0, or the reason to decline.
 */
__noinline int plan_edits(struct sk_msg_md *msg, struct p_state *p, struct edit_plan *plan, __u32 vhost, __u32 program)
{
	struct word *head, *mask, *path;
	struct request_head *r;
	__u32 size = msg->size;
	void *blob;

	if (!p || !plan)
		return REASON_EDITS;
	r = &p->request;
	blob = bpf_map_lookup_elem(&rules, &vhost);
	if (!blob)
		return REASON_EDITS;
	head = word_at(blob, program);
	mask = word_at(blob, program + 1);
	path = word_at(blob, program + 2);
	if (!head || !mask || !path)
		return REASON_EDITS;
	set_base(plan, msg->data);
	begin_plan(plan, vhost);
	if (path->c) {
		if (!keep_until(plan, r->target) || !add_text(plan, path->b, path->c))
			return REASON_EDITS;
		plan->kept = r->target + (path->a ? r->path_length : path->d);
	}
	if (head->a || r->flags & REQUEST_CLOSE) {
		/* " HTTP/1.1\r\n" */
		__u32 line = r->target + r->target_length + 11;

		begin_lines(plan, line, line);
		if (!plan_lines(plan, head, mask, r->position - 2, r->flags & REQUEST_CLOSE ? r->connection : 0,
				r->host_length << 16 | r->host))
			return REASON_EDITS;
	}
	if (!keep_until(plan, r->position - 2) || !plan_additions(r, plan, blob, head->d, head->c))
		return REASON_EDITS;
	plan->replaced = size - r->position <= MOVED_BODY && size < XLB_MAX_HEAD ? size : r->position;
	if (!keep_until(plan, plan->replaced) || plan->length > XLB_MAX_HEAD)
		return REASON_EDITS;
	return 0;
}

/* What `program` makes of the head of an answer, of `end` bytes, at the plan's base. 0: there is a plan. */
__noinline int plan_answer_edits(struct edit_plan *plan, __u32 end, __u32 vhost, __u32 program)
{
	struct word *head, *mask;
	void *blob;

	if (!plan || end < 16)
		return -1;
	blob = bpf_map_lookup_elem(&rules, &vhost);
	if (!blob)
		return -1;
	head = word_at(blob, program);
	mask = word_at(blob, program + 1);
	if (!head || !mask)
		return -1;
	begin_plan(plan, vhost);
	/* Behind "HTTP/1.1 200", in the middle of the first line. */
	begin_lines(plan, 0, 12);
	if (head->a && !plan_lines(plan, head, mask, end - 2, 0, 0))
		return -1;
	if (!keep_until(plan, end - 2) || !plan_additions(NULL, plan, blob, head->d, head->c) || !keep_until(plan, end))
		return -1;
	plan->replaced = end;
	return plan->length <= XLB_MAX_HEAD ? 0 : -1;
}

/* A piece from its first byte on. False: there is none more. */
static __always_inline bool next_piece(struct edit_plan *plan, void *blob)
{
	const struct piece *piece;
	__u32 next = plan->next, zero = 0;
	struct clock *clock;
	struct word *text;

	if (next >= plan->count || next >= XLB_MAX_EDIT_PIECES)
		return false;
	piece = &plan->pieces[next];
	plan->next = next + 1;
	plan->left = piece->length;
	plan->whole = piece->length;
	plan->source = plan->base + piece->from;
	if (piece->kind == PIECE_OLD)
		return true;
	if (piece->kind == PIECE_DATE) {
		clock = bpf_map_lookup_elem(&clocks, &zero);
		if (!clock)
			return false;
		*(volatile __u64 *)&plan->source = (__u64)clock->dates;
		plan->source += piece->from;
		return true;
	}
	text = word_at(blob, piece->from / sizeof(struct word));
	if (!text)
		return false;
	/* The words of a blob lie one behind the other. */
	*(volatile __u64 *)&plan->source = (__u64)text;
	plan->source += piece->from % sizeof(struct word);
	return true;
}

/*
 * The pieces, one after the other, into the room that was made for them. 0: all of them. What changes from turn to turn
 * is kept in memory, of which the verifier knows nothing: so all turns are alike to it.
 */
__noinline int write_pieces(struct sk_msg_md *msg, struct edit_plan *plan)
{
	void *blob;

	if (!plan)
		return -1;
	blob = bpf_map_lookup_elem(&rules, &plan->vhost);
	if (!blob)
		return -1;
	plan->at = 0;
	plan->next = 0;
	plan->left = 0;
	repeat (XLB_MAX_HEAD) {
		__u8 *data = msg->data, *end = msg->data_end, *p;
		__u32 at = plan->at, left = plan->left, n;
		__u64 source = plan->source;

		if (!left) {
			if (!next_piece(plan, blob))
				break;
			continue;
		}
		if (at > 2 * XLB_MAX_HEAD)
			return -1;
		p = data + at;
		if (left >= 32 && p + 32 <= end) {
			((__u64 *)p)[0] = eight_bytes(source);
			((__u64 *)p)[1] = eight_bytes(source + 8);
			((__u64 *)p)[2] = eight_bytes(source + 16);
			((__u64 *)p)[3] = eight_bytes(source + 24);
			n = 32;
		} else if (left >= 8) {
			if (p + 8 > end)
				return -1;
			*(__u64 *)p = eight_bytes(source);
			n = 8;
		} else if (plan->whole >= 8) {
			/* Its last eight bytes, some of them once more. */
			n = left - 8;
		} else {
			if (p + 1 > end)
				return -1;
			*p = eight_bytes(source);
			n = 1;
		}
		plan->at = at + n;
		plan->source = source + (int)n;
		plan->left = left - n;
	}
	return plan->at == plan->length ? 0 : -1;
}

/* Takes the new head out again. What begins with the message's first byte can always be taken out. */
static __always_inline void take_back(struct sk_msg_md *msg, const struct edit_plan *plan)
{
	bpf_msg_pop_data(msg, 0, plan->length, 0);
}

/* Puts the new head before the old one. False: there is no memory, and the message is as it was. */
static __always_inline bool write_edits(struct sk_msg_md *msg, struct edit_plan *plan)
{
	if (bpf_msg_push_data(msg, 0, plan->length, 0))
		return false;
	/* In a message of very many pieces the new bytes share theirs with the old ones, which have moved. */
	if ((long)msg->data_end - (long)msg->data == plan->length && !write_pieces(msg, plan))
		return true;
	take_back(msg, plan);
	return false;
}

/* The new head stands for the old one from here on. The kernel has no reason to refuse it. */
static __always_inline bool drop_old_head(struct sk_msg_md *msg, const struct edit_plan *plan)
{
	return !bpf_msg_pop_data(msg, plan->length, plan->replaced, 0);
}
