/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * connect(2): a virtual address becomes the anchor's, or an endpoint's where the connection is balanced as a whole, and
 * the socket is tagged with what it asked for. Any other destination is left alone. The address is rewritten only when
 * the tag was stored: a client that reached the anchor without one could not be served.
 */

static __always_inline __u32 find_tenant(__u64 *cgroup)
{
	__u64 id = bpf_get_current_cgroup_id();
	__u32 *tenant = bpf_map_lookup_elem(&tenants, &id);
	__u32 level = from(1);

	*cgroup = id;
	if (tenant)
		return *tenant;
	/* A container's own cgroups lie below the one that was enrolled. */
	repeat (12) {
		id = bpf_get_current_ancestor_cgroup_id(level++);
		if (!id)
			return 0;
		tenant = bpf_map_lookup_elem(&tenants, &id);
		if (tenant) {
			*cgroup = id;
			return *tenant;
		}
	}
	return 0;
}

static __always_inline bool is_mapped(const struct addr_key *key)
{
	return key->ip[0] == 0 && key->ip[1] == 0 && key->ip[2] == bpf_htonl(0xffff);
}

static __always_inline bool is_localhost(const struct addr_key *key)
{
	if (is_mapped(key))
		return key->ip[3] == bpf_htonl(0x7f000001);
	return key->ip[0] == 0 && key->ip[1] == 0 && key->ip[2] == 0 && key->ip[3] == bpf_htonl(1);
}

static __always_inline struct listener_entry *find_listener(struct addr_key *key, bool v6)
{
	struct listener_entry *found = bpf_map_lookup_elem(&listeners, key);

	if (found)
		return found;
	struct addr_key any = {.port = key->port};

	if (!v6)
		any.ip[2] = bpf_htonl(0xffff);
	found = bpf_map_lookup_elem(&listeners, &any);
	/* What a workload says to itself is not for a listener of all the rest, as in Istio. */
	if (found || is_localhost(key))
		return found;
	any.port = 0;
	return bpf_map_lookup_elem(&listeners, &any);
}

/*
 * An endpoint of one of the listener's clusters, of the family of the socket; NULL where there is none. `source` is the
 * IPv4 address that the socket is bound to, 0 for none.
 */
static __always_inline struct addr_key *pick_direct(const struct listener_entry *listener, bool mapped, __u32 source,
						    __u32 *endpoint)
{
	__u32 balance = listener->balance, cluster;
	struct addr_key *address;
	struct word *head, *entry;
	__u32 declined, by_source;
	void *blob;

	blob = bpf_map_lookup_elem(&rules, &balance);
	if (!blob)
		return NULL;
	head = word_at(blob, 0);
	if (!head)
		return NULL;
	by_source = head->c & DIRECT_BY_SOURCE;
	entry = pick_entry(blob, 0, head);
	if (!entry)
		return NULL;
	cluster = entry->a;
	blob = bpf_map_lookup_elem(&clusters, &cluster);
	if (!blob)
		return NULL;
	declined = pick_endpoint(blob, cluster, endpoint);
	/* What the slow path would see of it, as the anchor's peer. Of IPv6 the slow path makes the text. */
	if (declined == PICK_BY_HASH && by_source && !mapped)
		return NULL;
	if (declined == PICK_BY_HASH && by_source)
		declined = pick_by_hash(blob, hash_ipv4(source ? source : bpf_htonl(0x7f000001)), endpoint);
	else if (declined == PICK_BY_HASH)
		declined = pick_by_hash(blob, any_hash(), endpoint);
	if (declined)
		return NULL;
	address = bpf_map_lookup_elem(&endpoint_addresses, endpoint);
	return address && address->port && is_mapped(address) == mapped ? address : NULL;
}

/* Where the socket is to go instead, now that it is one of ours; NULL: where it wants. */
static __always_inline struct addr_key *tag(struct bpf_sock_addr *ctx, struct addr_key *destination, bool mapped,
					    struct addr_key *anchor)
{
	struct listener_entry *listener = find_listener(destination, !mapped);
	struct bpf_sock *sk = ctx->sk;
	struct addr_key *address;
	__u32 endpoint = 0;
	struct p_state *p;

	barrier_value(sk);
	if (!sk)
		return NULL;

	if (!listener || listener->way == CONNECT_LEAVE) {
		/* The socket may have asked for a listener before, in vain. */
		bpf_sk_storage_delete(&p_states, sk);
		if (listener)
			leave(REASON_LEFT_ALONE, 0);
		return NULL;
	}
	p = bpf_sk_storage_get(&p_states, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!p) {
		leave(REASON_TAG_FAILED, 0);
		return NULL;
	}
	/* A socket may connect again: what it was before says nothing about now. */
	__builtin_memset(p, 0, sizeof(*p));
	p->cookie = bpf_get_socket_cookie(ctx);
	p->tenant = find_tenant(&p->cgroup);
	p->destination = *destination;
	p->listener = listener->id;
	p->way = listener->way;
	p->inspected = listener->inspected;
	if (listener->way != CONNECT_DIRECT)
		return anchor;
	address = pick_direct(listener, mapped, sk->src_ip4, &endpoint);
	if (!address) {
		leave(REASON_DIRECT_DECLINED, 0);
		return anchor;
	}
	p->endpoint = endpoint;
	leave(REASON_DIRECT, 0);
	return address;
}

static __always_inline struct settings *get_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings_map, &zero);
}

SEC("cgroup/connect4")
int xlb_connect4(struct bpf_sock_addr *ctx)
{
	struct addr_key key = {.ip = {0, 0, bpf_htonl(0xffff), 0}}, *to;
	struct settings *settings = get_settings();

	if (ctx->protocol != IPPROTO_TCP || !settings || !settings->anchor4.port)
		return 1;
	key.ip[3] = ctx->user_ip4;
	key.port = bpf_ntohs(ctx->user_port);
	to = tag(ctx, &key, true, &settings->anchor4);
	if (!to)
		return 1;
	/* clang would merge neighbouring stores to the context into one computed address, which is refused */
	*(volatile __u32 *)&ctx->user_ip4 = to->ip[3];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_port = bpf_htons(to->port);
	return 1;
}

SEC("cgroup/connect6")
int xlb_connect6(struct bpf_sock_addr *ctx)
{
	struct addr_key key = {}, *anchor, *to;
	struct settings *settings = get_settings();
	bool mapped;

	if (ctx->protocol != IPPROTO_TCP || !settings)
		return 1;
	key.ip[0] = ctx->user_ip6[0];
	key.ip[1] = ctx->user_ip6[1];
	key.ip[2] = ctx->user_ip6[2];
	key.ip[3] = ctx->user_ip6[3];
	key.port = bpf_ntohs(ctx->user_port);
	mapped = is_mapped(&key);
	anchor = mapped ? &settings->anchor4 : &settings->anchor6;
	if (!anchor->port)
		return 1;
	to = tag(ctx, &key, mapped, anchor);
	if (!to)
		return 1;
	*(volatile __u32 *)&ctx->user_ip6[0] = to->ip[0];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_ip6[1] = to->ip[1];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_ip6[2] = to->ip[2];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_ip6[3] = to->ip[3];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_port = bpf_htons(to->port);
	return 1;
}

/* The application sees the address it asked for. */
SEC("cgroup/getpeername4")
int xlb_getpeername4(struct bpf_sock_addr *ctx)
{
	struct p_state *p = bpf_sk_storage_get(&p_states, ctx->sk, 0, 0);

	if (!p)
		return 1;
	*(volatile __u32 *)&ctx->user_ip4 = p->destination.ip[3];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_port = bpf_htons(p->destination.port);
	return 1;
}

SEC("cgroup/getpeername6")
int xlb_getpeername6(struct bpf_sock_addr *ctx)
{
	struct p_state *p = bpf_sk_storage_get(&p_states, ctx->sk, 0, 0);

	if (!p)
		return 1;
	*(volatile __u32 *)&ctx->user_ip6[0] = p->destination.ip[0];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_ip6[1] = p->destination.ip[1];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_ip6[2] = p->destination.ip[2];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_ip6[3] = p->destination.ip[3];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_port = bpf_htons(p->destination.port);
	return 1;
}
