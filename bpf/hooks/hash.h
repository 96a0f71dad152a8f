/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* By what a request belongs with others: the hash policies of its route, asked of the head that lies open in a send. */

/* xxHash64 of `length` bytes of the head. */
__noinline __u64 hash_text(struct sk_msg_md *msg, __u32 offset, __u32 length)
{
	const __u8 *data = msg->data, *end = msg->data_end, *p;
	__u32 at = offset, left = length;
	__u64 hash = HASH_PRIME_5;

	if (length >= 32) {
		struct lanes l;

		begin_lanes(&l);
		repeat (XLB_MAX_HEAD / 32) {
			const __u64 *eights;

			if (left < 32)
				break;
			barrier_value(at);
			if (at >= XLB_MAX_HEAD)
				break;
			p = data + at;
			if (p + 32 > end)
				break;
			eights = (const __u64 *)p;
			l.a = stir(l.a, eights[0]);
			l.b = stir(l.b, eights[1]);
			l.c = stir(l.c, eights[2]);
			l.d = stir(l.d, eights[3]);
			at += 32;
			left -= 32;
		}
		hash = end_lanes(&l);
	}
	hash += length;
	repeat (4) {
		const __u64 *eight;

		if (left < 8)
			break;
		eight = eight_at(data, end, at);
		if (!eight)
			break;
		hash = add_eight(hash, *eight);
		at += 8;
		left -= 8;
	}
	repeat (8) {
		if (!left)
			break;
		barrier_value(at);
		if (at >= XLB_MAX_HEAD)
			break;
		p = data + at;
		if (left >= 4) {
			if (p + 4 > end)
				break;
			hash = add_four(hash, *(const __u32 *)p);
			at += 4;
			left -= 4;
			continue;
		}
		if (p + 1 > end)
			break;
		hash = add_one(hash, *p);
		at++;
		left--;
	}
	return end_hash(hash);
}

#define PIECE_FOUND (1ULL << 63)

/*
 * Where the value of the first piece of that name is, in a query or a Cookie: its offset << 32 and its length with
 * PIECE_FOUND, or 0. `place` is the policy's word in the virtual host's blob, which has the name. Only in a query a
 * name without '=' is one, with an empty value; only in a Cookie spaces before a name are none of it.
 */
__noinline __u64 find_piece(struct sk_msg_md *msg, __u32 vhost, __u32 place, __u32 offset, __u32 length)
{
	const __u8 *data = msg->data, *end = msg->data_end;
	__u32 at = from(0), same = from(0), value = from(0), name, name_length;
	__u32 other = from(0), begun = from(0);
	__u32 query, separator;
	struct word *policy;
	void *blob;

	blob = bpf_map_lookup_elem(&rules, &vhost);
	if (!blob)
		return 0;
	policy = word_at(blob, place);
	if (!policy)
		return 0;
	query = (policy->a & 0xff) == HASH_QUERY;
	separator = query ? '&' : ';';
	barrier_value(query);
	barrier_value(separator);
	name = policy->b;
	name_length = policy->c;
	begun = query;
	repeat (XLB_MAX_HEAD) {
		const __u8 *p = at < length ? byte_at(data, end, offset + at) : NULL;
		__u32 c;

		if (at > length || (!p && at < length))
			return 0;
		c = p ? *p : separator;
		barrier_value(c);
		if (c == separator) {
			if (value)
				return PIECE_FOUND | (__u64)(offset + value) << 32 | (at - value);
			if (query && !other && same == name_length)
				return PIECE_FOUND | (__u64)(offset + at) << 32;
			same = from(0);
			other = from(0);
			begun = query;
		} else if (!value && !other && (c != ' ' || begun)) {
			if (c == '=' && same == name_length) {
				value = at + 1;
			} else {
				struct word *w = word_at(blob, name + same / 16);

				begun = 1;
				other = !w || c == '=' || same >= name_length || byte_of(w, same) != c;
				barrier_value(other);
				same++;
			}
		}
		at++;
	}
	return 0;
}

/* What the policies of a route have found so far. */
struct request_hash {
	__u64 hash;
	__u32 found; /* 0: none of what they ask for is there */
	__u32 first; /* the first policy's word in the virtual host's blob; 0: there is none */
};

static __always_inline void add_hash(struct request_hash *out, __u64 hash)
{
	out->hash = out->found ? rotate(out->hash, 1) ^ hash : hash;
	out->found = 1;
}

/* A value in quotes is what stands between them; an empty one counts as none. False: the client has no such cookie. */
static __always_inline bool hash_cookie(struct sk_msg_md *msg, __u64 piece, struct request_hash *out)
{
	__u32 offset = (piece & ~PIECE_FOUND) >> 32, length = piece;
	const __u8 *data = msg->data, *end = msg->data_end, *first, *last;

	if (length >= 2) {
		first = byte_at(data, end, offset);
		last = byte_at(data, end, offset + length - 1);
		if (first && last && *first == '"' && *last == '"') {
			offset++;
			length -= 2;
		}
	}
	if (!(piece & PIECE_FOUND) || !length)
		return false;
	add_hash(out, hash_text(msg, offset, length));
	return true;
}

/*
 * One policy. 0, or the reason to decline: a cookie is to be given to the client, or its address is one of IPv6, or
 * whoever handed its request on may have said another (x-forwarded-for).
 */
static __always_inline int ask_policy(struct sk_msg_md *msg, const struct p_state *p, __u32 vhost, __u32 place,
				      const struct word *policy, struct request_hash *out, bool gives)
{
	const struct request_head *r = &p->request;
	__u32 index = policy->a >> 8 & (XLB_MAX_HEADERS - 1), flags = policy->a >> 16 & 0xff;
	__u32 offset = p->header[index].offset, length = p->header[index].length;
	__u64 piece;

	switch (policy->a & 0xff) {
	case HASH_SOURCE_IP:
		if (offset || p->key.ip[0] || p->key.ip[1] || p->key.ip[2] != bpf_htonl(0xffff))
			return REASON_HASH_POLICY;
		add_hash(out, hash_ipv4(p->key.ip[3]));
		return 0;
	case HASH_QUERY:
		if (r->target_length <= r->path_length)
			return 0;
		piece = find_piece(msg, vhost, place, r->target + r->path_length + 1,
				   r->target_length - r->path_length - 1);
		if (piece)
			add_hash(out, hash_text(msg, (piece & ~PIECE_FOUND) >> 32, (__u32)piece));
		return 0;
	case HASH_COOKIE:
		piece = offset ? find_piece(msg, vhost, place, offset, length) : 0;
		if (!hash_cookie(msg, piece, out) && gives && flags & HASH_GIVES)
			return REASON_HASH_POLICY;
		return 0;
	default:
		if (index == HEADER_METHOD) {
			offset = 0;
			length = r->method_length;
		} else if (index == HEADER_AUTHORITY) {
			offset = r->host;
			length = r->host_length;
		} else if (index == HEADER_PATH) {
			offset = r->target;
			length = r->target_length;
		} else if (!offset) {
			return 0;
		}
		add_hash(out, hash_text(msg, offset, length));
		return 0;
	}
}

/* Asks all of them. 0, or the reason to decline; `gives`: a client may get a cookie that it does not have. */
__noinline int hash_request(struct sk_msg_md *msg, struct p_state *p, struct request_hash *out, __u32 vhost,
			    __u32 gives)
{
	__u32 at = from(0);
	void *blob;

	if (!p || !out)
		return REASON_RULES;
	out->found = 0;
	if (!out->first)
		return 0;
	blob = bpf_map_lookup_elem(&rules, &vhost);
	if (!blob)
		return REASON_RULES;
	repeat (XLB_MAX_HASH_POLICIES) {
		struct word *policy;
		int declined;

		policy = word_at(blob, out->first + at);
		if (!policy)
			return REASON_RULES;
		declined = ask_policy(msg, p, vhost, out->first + at, policy, out, gives);
		if (declined)
			return declined;
		if (policy->a >> 16 & HASH_LAST || (out->found && policy->a >> 16 & HASH_TERMINAL))
			return 0;
		at++;
	}
	return 0;
}
