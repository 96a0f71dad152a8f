/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Where a request goes: the walks of steps/match.h and steps/balance.h over the head that lies open in a send. */

/* How long the host is without what follows its last colon, unless `bound` comes behind that. */
static __always_inline __u32 before_last_colon(const struct request_head *r, const __u8 *data, const __u8 *end,
					       __u8 bound)
{
	__u32 at = r->host_length;

	repeat (XLB_MAX_HOST) {
		const __u64 *eight;
		const __u8 *p;

		if (!at)
			break;
		eight = at < 8 ? NULL : eight_at(data, end, r->host + at - 8);
		if (eight && !find_byte(*eight, ':') && !find_byte(*eight, bound)) {
			at -= 8;
			continue;
		}
		at--;
		p = byte_at(data, end, r->host + at);
		if (!p)
			break;
		if (*p == ':')
			return at;
		if (*p == bound)
			break;
	}
	return r->host_length;
}

/*
 * A host without its port, whatever that is, unless brackets hold the colon (Envoy's HeaderUtility::getPortStart):
 * `host:80` -> `host`, `[::1]:80` -> `[::1]`, `[::1]` as it is.
 */
static __always_inline __u32 without_port(const struct request_head *r, const __u8 *data, const __u8 *end)
{
	return before_last_colon(r, data, end, ']');
}

/*
 * A walk in a blob of rules. The blob is looked up once more so that this can be a function of its own to the verifier:
 * its loops are seen once.
 */
__noinline int walk(struct sk_msg_md *msg, struct walk *w)
{
	const __u8 *data = msg->data, *end = msg->data_end;
	void *blob;
	__u32 index;

	if (!w)
		return 0;
	index = w->rules;
	blob = bpf_map_lookup_elem(&rules, &index);
	if (blob)
		walk_text(blob, w, data, end);
	return 0;
}

/* The rules of the virtual host that Envoy would search: exact, suffix, prefix, `*`. */
static __always_inline __u32 match_host(struct sk_msg_md *msg, __u32 rules_index, void *blob, __u32 offset,
					__u32 length)
{
	struct walk w = {.rules = rules_index, .offset = offset, .length = length, .flags = WALK_FOLD};
	struct word *head = word_at(blob, 0);
	__u32 prefix = 0;

	if (!head)
		return RULES_NONE;
	if (head->b) {
		w.root = head->b;
		walk(msg, &w);
		if (w.ends)
			return w.ends;
		prefix = w.goes_on;
	}
	if (head->c) {
		w.root = head->c;
		w.flags |= WALK_BACKWARD;
		walk(msg, &w);
		if (w.goes_on)
			return w.goes_on;
	}
	return prefix ? prefix : head->d;
}

/* The run that a trie has for a text; 0: none. */
static __always_inline __u32 run_of(struct sk_msg_md *msg, __u32 vhost, __u32 root, __u32 offset, __u32 length,
				    __u32 flags)
{
	struct walk w = {.rules = vhost, .root = root, .offset = offset, .length = length, .flags = flags};

	walk(msg, &w);
	return w.ends ? w.ends : w.goes_on;
}

/*
 * Is a text (its place, and its length from bit 32 on) what a condition of the virtual host asks for? `value` is where
 * its value lies, from bit 32 on how long it is, or what of the text has been compared; `how` its kind and flags. The
 * blob is looked up once more so that this can be a function of its own to the verifier: its loops are seen once.
 */
__noinline int text_matches(struct sk_msg_md *msg, __u32 vhost, __u64 text, __u64 value, __u32 how)
{
	const __u8 *data = msg->data, *end = msg->data_end;
	__u32 kind = how >> 8 & 0xff, offset = text, have = text >> 32, length = value >> 32, places = 1;
	void *blob;

	blob = bpf_map_lookup_elem(&rules, &vhost);
	if (!blob)
		return 0;
	if (kind == CONDITION_REGEX) {
		/* The path's trie has compared what the expression begins with. */
		if (have < length)
			return 0;
		return walk_table(blob, value, data, end, offset + length, have - length);
	}
	if (length > have || (kind == CONDITION_EXACT && length != have))
		return 0;
	if (kind == CONDITION_SUFFIX)
		offset += have - length;
	else if (kind == CONDITION_CONTAINS)
		places = have - length + 1;
	return found(blob, value, length, data, end, offset, places, how >> 16 & CONDITION_IGNORE_CASE);
}

/* Where a text that rules ask for lies. An absent one has no place and no length. */
struct text {
	__u32 offset;
	__u32 length;
	bool present;
};

static __always_inline void find_text(const struct p_state *p, __u32 index, struct text *out)
{
	const struct request_head *r = &p->request;

	out->present = true;
	if (index == HEADER_METHOD) {
		out->offset = 0;
		out->length = r->method_length;
	} else if (index == HEADER_AUTHORITY) {
		out->offset = r->host;
		out->length = r->host_length;
	} else if (index == HEADER_PATH) {
		out->offset = r->target;
		out->length = r->target_length;
	} else if (index == HEADER_PATH_ALONE) {
		out->offset = r->target;
		out->length = r->path_length;
	} else {
		out->offset = p->header[index & (XLB_MAX_HEADERS - 1)].offset;
		out->length = p->header[index & (XLB_MAX_HEADERS - 1)].length;
		out->present = out->offset != 0;
	}
}

/* One condition. An absent header matches no value, not even inverted: Envoy's header_utility.cc. */
static __always_inline bool holds(struct sk_msg_md *msg, __u32 vhost, const struct word *condition,
				  const struct p_state *p)
{
	__u32 kind = condition->a >> 8 & 0xff, flags = condition->a >> 16 & 0xff;
	struct text text;

	find_text(p, condition->a & 0xff, &text);
	if (flags & CONDITION_MISSING_AS_EMPTY)
		text.present = true;
	if (kind == CONDITION_PRESENT)
		return (text.present == (condition->c != 0)) != ((flags & CONDITION_INVERT) != 0);
	if (!text.present)
		return false;
	return text_matches(msg, vhost, text.offset | (__u64)text.length << 32,
			    condition->b | (__u64)condition->c << 32,
			    condition->a) != ((flags & CONDITION_INVERT) != 0);
}

/* Do that many conditions in a row hold? A function of its own as text_matches is. */
__noinline int all_hold(struct sk_msg_md *msg, struct p_state *p, __u32 vhost, __u32 first, __u32 count)
{
	void *blob = bpf_map_lookup_elem(&rules, &vhost);

	if (!p || !blob)
		return 0;
	repeat (192) {
		struct word *condition;

		if (!count)
			return 1;
		condition = word_at(blob, first);
		if (!condition || !holds(msg, vhost, condition, p))
			return 0;
		first++;
		count--;
	}
	return 0;
}

/* Where a union of expressions leads to: the place of a run, 0: none. A function of its own as text_matches is. */
__noinline int follow_union(struct sk_msg_md *msg, __u32 vhost, __u32 head, __u32 offset, __u32 length)
{
	const __u8 *data = msg->data, *end = msg->data_end;
	void *blob = bpf_map_lookup_elem(&rules, &vhost);

	return blob ? walk_union(blob, head, data, end, offset, length) : 0;
}

/* The run behind a switch that the text leads to; 0: none. */
static __always_inline __u32 switched(struct sk_msg_md *msg, __u32 vhost, const struct word *entry,
				      const struct p_state *p)
{
	__u32 kind = entry->c >> 5 & 7, flags = entry->c >> 8, skip = entry->c >> 16;
	struct text text;

	find_text(p, entry->c & 31, &text);
	if ((!text.present && !(flags & CONDITION_MISSING_AS_EMPTY)) || text.length < skip)
		return 0;
	text.offset += skip;
	text.length -= skip;
	if (kind == SWITCH_UNION)
		return follow_union(msg, vhost, entry->a, text.offset, text.length);
	return run_of(msg, vhost, entry->a, text.offset, text.length,
		      (flags & CONDITION_IGNORE_CASE ? WALK_FOLD : 0) | (kind == SWITCH_BACKWARD ? WALK_BACKWARD : 0));
}

/*
 * The action word of the first route that matches, 0 if none does. Runs ascend by route, and `b` of an entry is the
 * first route that it can bring; where one has matched, only an earlier one is of interest.
 */
static __always_inline __u32 match_route(struct sk_msg_md *msg, __u32 vhost, void *blob, struct p_state *p)
{
	const struct request_head *r = &p->request;
	struct word *head = word_at(blob, 0);
	__u32 at, action = 0, best = ~0u, fold_low;

	if (!head)
		return 0;
	/* Without such routes there is none that could come before. */
	fold_low = head->c;
	at = run_of(msg, vhost, head->a, r->target, r->path_length, 0);
	repeat (4096) {
		struct word *entry;
		__u32 d, skip, to;

		if (!at) {
			if (best <= fold_low)
				return action;
			fold_low = ~0u;
			head = word_at(blob, 0);
			if (!head)
				return 0;
			at = run_of(msg, vhost, head->b, r->target, r->path_length, WALK_FOLD);
			if (!at)
				return action;
		}
		entry = word_at(blob, at);
		if (!entry)
			return 0;
		d = entry->d;
		skip = d >> XLB_SKIP_SHIFT & XLB_SKIP_MASK;
		to = d & ENTRY_LAST ? 0 : at + 1;
		if (entry->b >= best) {
			to = skip && !(d & ENTRY_LINK) ? at + skip : 0;
		} else if (d & ENTRY_LINK) {
			to = entry->a;
		} else if (d & ENTRY_SWITCH) {
			__u32 run = switched(msg, vhost, entry, p);

			to = run ? run : to;
		} else {
			__u32 then = skip && !(d & ENTRY_FINAL) ? at + skip : 0;

			if (!(d & 0xff) || all_hold(msg, p, vhost, entry->c, d & 0xff)) {
				best = entry->b;
				action = entry->a;
				to = then;
			}
		}
		at = to;
	}
	return 0;
}

struct choice {
	__u32 cluster;
	__u32 endpoint;
	__u32 route;
	__u32 timeout_ms;
	__u32 vhost; /* whose rules they were */
	__u32 edits; /* the place of the edits in them, 0: none; or of the answer */
	/* What the stack has room for: this is wanted until there is an endpoint, ... */
	union {
		__u32 action; /* the place of what their route does */
		__u32 answer_edits; /* ... and this then: the place of the edits of a server's answer, 0: none */
	};
	union {
		struct request_hash hash; /* looked for where the route or its cluster asks for it */
		int breaker; /* where the request is counted among its cluster's, 0: nowhere */
	};
};

/* To the cluster of an action's entry. 0, PICK_BY_HASH, or the reason to decline. */
static __always_inline int choose_entry(struct choice *out, const struct word *entry)
{
	void *blob;

	/* A route without a weight is one that only the slow path can serve. */
	if (!entry)
		return REASON_ROUTE;
	out->cluster = entry->a;
	out->edits = entry->c;
	out->hash.first = entry->d;
	blob = bpf_map_lookup_elem(&clusters, &out->cluster);
	if (!blob)
		return REASON_NO_CLUSTER;
	return pick_endpoint(blob, out->cluster, &out->endpoint);
}

/*
 * Where `choose` says PICK_CLUSTER_BY_HASH: one of several clusters by the request's hash, or by chance. 0,
 * PICK_BY_HASH, or the reason to decline. Not in `choose`, because the stack has no room for it and `hash_request`.
 */
__noinline int choose_cluster_by_hash(struct sk_msg_md *msg, struct p_state *p, struct choice *out)
{
	struct word *route, *entry;
	__u32 vhost;
	int declined;
	void *blob;

	if (!p || !out)
		return REASON_RULES;
	vhost = out->vhost;
	blob = bpf_map_lookup_elem(&rules, &vhost);
	if (!blob)
		return REASON_RULES;
	route = word_at(blob, out->action);
	entry = word_at(blob, out->action + 1);
	if (!route || !entry)
		return REASON_RULES;
	out->hash.first = entry->d;
	declined = hash_request(msg, p, &out->hash, vhost, 0);
	if (declined)
		return declined;
	if (!out->hash.found)
		out->hash.hash = any_hash();
	return choose_entry(out, pick_weighted(blob, out->action, route, out->hash.hash));
}

/* Where `choose` says PICK_BY_HASH: the endpoint by the request's hash, or by chance. 0, or the reason to decline. */
__noinline int choose_by_hash(struct sk_msg_md *msg, struct p_state *p, struct choice *out)
{
	void *blob;
	int declined;

	if (!p || !out)
		return REASON_RULES;
	declined = hash_request(msg, p, &out->hash, out->vhost, 1);
	if (declined)
		return declined;
	blob = bpf_map_lookup_elem(&clusters, &out->cluster);
	if (!blob)
		return REASON_NO_CLUSTER;
	if (!out->hash.found)
		out->hash.hash = any_hash();
	return pick_by_hash(blob, out->hash.hash, &out->endpoint);
}

/*
 * Finds the parameters of the query that rules ask for: as they are written; of several of one name the first. What it
 * remembers lies where the reading of headers had it: `mark` is where the value begins, `name_length` where the name.
 */
__noinline int read_query(struct sk_msg_md *msg, struct p_state *p)
{
	const __u8 *data = msg->data, *end = msg->data_end;
	struct request_head *r;
	__u32 at, stop;

	if (!p)
		return 0;
	r = &p->request;
	at = from(0) + r->target + r->path_length + 1;
	stop = r->target + r->target_length;
	r->name_length = at;
	r->mark = 0;
	r->hash = QUERY_BASIS;
	repeat (XLB_MAX_HEAD) {
		const __u8 *c = at < stop ? byte_at(data, end, at) : NULL;
		struct header_name *asked;
		__u32 name_end;

		if (c && *c != '&') {
			if (!r->mark) {
				if (*c == '=')
					r->mark = at + 1;
				else
					r->hash = (r->hash ^ *c) * FNV_PRIME;
			}
			at++;
			continue;
		}
		asked = bpf_map_lookup_elem(&header_names, &r->hash);
		name_end = r->mark ? r->mark - 1 : at;
		if (asked && asked->length == name_end - r->name_length + 1) {
			__u32 index = asked->index & (XLB_MAX_HEADERS - 1);

			if (!p->header[index].offset) {
				p->header[index].offset = r->mark ? r->mark : at;
				p->header[index].length = r->mark ? at - r->mark : 0;
			}
		}
		if (!c)
			return 0;
		at++;
		r->name_length = at;
		r->mark = 0;
		r->hash = QUERY_BASIS;
	}
	return 0;
}

/*
 * Where this request goes, by one configuration from beginning to end. 0, or the reason to decline; or PICK_BY_HASH or
 * PICK_CLUSTER_BY_HASH, where there is more to ask, or PICK_NOTHING, where the route answers by itself.
 * A function of its own to the verifier too: its loops need not be followed again for each way that leads here.
 */
__noinline int choose(struct sk_msg_md *msg, struct p_state *p, struct choice *out)
{
	struct request_head *r;
	const __u8 *data, *end;
	__u32 vhost, action, listener, flags, *index;
	struct word *route, *head;
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
	flags = head->a;
	vhost = match_host(msg, *index, hosts, r->host,
			   flags & HOSTS_STRIP_PORT ? without_port(r, data, end) : r->host_length);
	if (vhost == RULES_NONE)
		return REASON_NO_VIRTUAL_HOST;
	if (vhost == RULES_SLOW)
		return REASON_RULES;
	blob = bpf_map_lookup_elem(&rules, &vhost);
	if (!blob)
		return REASON_RULES;
	if (r->path_length > XLB_MAX_PATH)
		return REASON_HEAD_TOO_LARGE;
	if (flags & HOSTS_QUERY && r->flags & REQUEST_HAS_QUERY)
		read_query(msg, p);
	action = match_route(msg, vhost, blob, p);
	if (!action)
		return REASON_NO_ROUTE;
	route = word_at(blob, action);
	if (!route)
		return REASON_NO_ROUTE;
	out->route = route->d;
	out->timeout_ms = route->c;
	out->vhost = vhost;
	out->action = action;
	if (route->a & ACTION_ANSWER) {
		out->edits = route->b;
		return PICK_NOTHING;
	}
	if (route->a & ACTION_BY_HASH)
		return PICK_CLUSTER_BY_HASH;
	return choose_entry(out, pick_entry(blob, action, route));
}
