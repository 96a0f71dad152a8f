/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Where a request goes: the walks of steps/match.h and steps/balance.h over the head that lies open in a send. */

/*
 * How long the host is without what follows its last colon, whatever that is, unless brackets hold the colon (Envoy's
 * HeaderUtility::getPortStart): `host:80` -> `host`, `[::1]:80` -> `[::1]`, `[::1]` as it is.
 */
static __always_inline __u32 without_port(const struct request_head *r, const __u8 *data, const __u8 *end)
{
	__u32 at = r->host_length;

	repeat (XLB_MAX_HOST) {
		const __u64 *eight;
		const __u8 *p;

		if (!at)
			break;
		eight = at < 8 ? NULL : eight_at(data, end, r->host + at - 8);
		if (eight && !find_byte(*eight, ':') && !find_byte(*eight, ']')) {
			at -= 8;
			continue;
		}
		at--;
		p = byte_at(data, end, r->host + at);
		if (!p || *p == ']')
			break;
		if (*p == ':')
			return at;
	}
	return r->host_length;
}

/*
 * Is the text of that place and length what a condition of the virtual host asks for? Places are words of its blob,
 * which is looked up once more so that this can be a function of its own to the verifier: its loops are seen once.
 */
__noinline int text_matches(struct sk_msg_md *msg, __u32 vhost, __u32 place, __u32 offset, __u32 have)
{
	const __u8 *data = msg->data, *end = msg->data_end;
	__u32 kind, value, length, places = 1;
	struct word *condition;
	bool fold;
	void *blob;

	blob = bpf_map_lookup_elem(&rules, &vhost);
	if (!blob)
		return 0;
	condition = word_at(blob, place);
	if (!condition)
		return 0;
	kind = condition->a >> 8 & 0xff;
	fold = condition->a >> 16 & CONDITION_IGNORE_CASE;
	value = condition->b;
	length = condition->c;
	if (kind == CONDITION_REGEX)
		return walk_table(blob, value, data, end, offset, have);
	if (length > have || (kind == CONDITION_EXACT && length != have))
		return 0;
	if (kind == CONDITION_SUFFIX)
		offset += have - length;
	else if (kind == CONDITION_CONTAINS)
		places = have - length + 1;
	return found(blob, value, length, data, end, offset, places, fold);
}

/* One header condition. An absent header matches no value, not even inverted: Envoy's header_utility.cc. */
static __always_inline bool holds(struct sk_msg_md *msg, __u32 vhost, __u32 place, const struct word *condition,
				  const struct p_state *p)
{
	const struct request_head *r = &p->request;
	__u32 index = condition->a & 0xff, kind = condition->a >> 8 & 0xff, flags = condition->a >> 16 & 0xff;
	__u32 offset, have;
	bool present = true;

	if (index == HEADER_METHOD) {
		offset = 0;
		have = r->method_length;
	} else if (index == HEADER_AUTHORITY) {
		offset = r->host;
		have = r->host_length;
	} else if (index == HEADER_PATH) {
		offset = r->target;
		have = r->target_length;
	} else if (index == HEADER_PATH_ALONE) {
		offset = r->target;
		have = r->path_length;
	} else {
		offset = p->header[index & (XLB_MAX_HEADERS - 1)].offset;
		have = p->header[index & (XLB_MAX_HEADERS - 1)].length;
		present = offset != 0;
	}
	/* An absent one has no place and no length: an empty text. */
	if (flags & CONDITION_MISSING_AS_EMPTY)
		present = true;
	if (kind == CONDITION_PRESENT)
		return (present == (condition->c != 0)) != ((flags & CONDITION_INVERT) != 0);
	if (!present)
		return false;
	return text_matches(msg, vhost, place, offset, have) != ((flags & CONDITION_INVERT) != 0);
}

static __always_inline bool all_hold(struct sk_msg_md *msg, __u32 vhost, void *blob, __u32 first, __u32 count,
				     const struct p_state *p)
{
	__u32 at = from(0);

	if (!count)
		return true;
	repeat_far(64) {
		struct word *condition;

		if (at >= count)
			return true;
		condition = word_at(blob, first + at);
		if (!condition || !holds(msg, vhost, first + at, condition, p))
			return false;
		at++;
	}
	return false;
}

#define LAST_CANDIDATE (1u << 31)

/* The action word of the first route that matches, 0 if none does. */
static __always_inline __u32 match_route(struct sk_msg_md *msg, __u32 vhost, void *blob, const struct p_state *p)
{
	const __u8 *data = msg->data, *end = msg->data_end;
	const struct request_head *r = &p->request;
	struct word *head = word_at(blob, 0);
	__u32 first, second = 0;

	if (!head)
		return 0;
	first = walk_path(blob, head->a, data, end, r->target, r->path_length, false);
	if (head->b)
		second = walk_path(blob, head->b, data, end, r->target, r->path_length, true);
	/* Both lists ascend: take the earlier route of the two each time. */
	repeat_far(4096) {
		struct word *candidate, *other;

		if (!first) {
			first = second;
			second = 0;
		}
		if (!first)
			return 0;
		candidate = word_at(blob, first);
		if (!candidate)
			return 0;
		if (second) {
			other = word_at(blob, second);
			if (other && other->b < candidate->b) {
				__u32 swap = first;

				first = second;
				second = swap;
				candidate = other;
			}
		}
		if (all_hold(msg, vhost, blob, candidate->c, candidate->d & ~LAST_CANDIDATE, p))
			return candidate->a;
		first = candidate->d & LAST_CANDIDATE ? 0 : first + 1;
	}
	return 0;
}

struct choice {
	__u32 cluster;
	__u32 endpoint;
	__u32 route;
	__u32 timeout_ms;
	__u32 vhost; /* whose rules they were */
	__u32 edits; /* the place of the edits in them, 0: none */
};

/*
 * Where this request goes, by one configuration from beginning to end. 0, or the reason to decline.
 * A function of its own to the verifier too: its loops need not be followed again for each way that leads here.
 */
__noinline int choose(struct sk_msg_md *msg, struct p_state *p, struct choice *out)
{
	struct request_head *r;
	const __u8 *data, *end;
	__u32 vhost, action, listener, *index;
	struct word *route, *head, *entry;
	void *hosts, *blob;

	if (!p || !out)
		return REASON_RULES;
	r = &p->request;
	listener = p->listener;
	data = msg->data;
	end = msg->data_end;
	index = bpf_map_lookup_elem(&listener_rules, &listener);
	if (!index)
		return REASON_RULES;
	hosts = bpf_map_lookup_elem(&rules, index);
	if (!hosts)
		return REASON_RULES;
	head = word_at(hosts, 0);
	if (!head)
		return REASON_RULES;
	vhost = match_host(hosts, data, end, r->host,
			   head->a & HOSTS_STRIP_PORT ? without_port(r, data, end) : r->host_length);
	if (vhost == RULES_NONE)
		return REASON_NO_VIRTUAL_HOST;
	if (vhost == RULES_SLOW)
		return REASON_RULES;
	blob = bpf_map_lookup_elem(&rules, &vhost);
	if (!blob)
		return REASON_RULES;
	if (r->path_length > XLB_MAX_PATH)
		return REASON_HEAD_TOO_LARGE;
	action = match_route(msg, vhost, blob, p);
	if (!action)
		return REASON_NO_ROUTE;
	route = word_at(blob, action);
	if (!route)
		return REASON_NO_ROUTE;
	out->route = route->d;
	out->timeout_ms = route->c;
	entry = pick_entry(blob, action, route);
	/* A route without a weight is one that only the slow path can serve. */
	if (!entry)
		return REASON_ROUTE;
	out->cluster = entry->a;
	out->vhost = vhost;
	out->edits = entry->c;
	blob = bpf_map_lookup_elem(&clusters, &out->cluster);
	if (!blob)
		return REASON_NO_CLUSTER;
	return pick_endpoint(blob, out->cluster, &out->endpoint);
}
