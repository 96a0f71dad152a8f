/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * connect(2): a virtual address becomes the anchor's, and the socket is tagged with what it asked for. Any other
 * destination is left alone. The address is rewritten only when the tag was stored: a client that reached the anchor
 * without one could not be served.
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

static __always_inline struct listener_entry *find_listener(struct addr_key *key, bool v6)
{
	struct listener_entry *found = bpf_map_lookup_elem(&listeners, key);

	if (found)
		return found;
	struct addr_key any = {.port = key->port};

	if (!v6)
		any.ip[2] = bpf_htonl(0xffff);
	return bpf_map_lookup_elem(&listeners, &any);
}

/* True when the socket is now a p-sock of ours, on its way to the anchor. */
static __always_inline bool tag(struct bpf_sock_addr *ctx, struct addr_key *destination, bool mapped)
{
	struct listener_entry *listener = find_listener(destination, !mapped);
	struct bpf_sock *sk = ctx->sk;
	struct p_state *p;

	barrier_value(sk);
	if (!sk)
		return false;

	if (!listener) {
		/* The socket may have asked for a listener before, in vain. */
		bpf_sk_storage_delete(&p_states, sk);
		return false;
	}
	p = bpf_sk_storage_get(&p_states, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!p) {
		leave(REASON_TAG_FAILED, 0);
		return false;
	}
	/* A socket may connect again: what it was before says nothing about now. */
	__builtin_memset(p, 0, sizeof(*p));
	p->cookie = bpf_get_socket_cookie(ctx);
	p->tenant = find_tenant(&p->cgroup);
	p->destination = *destination;
	p->listener = listener->id;
	return true;
}

static __always_inline struct settings *get_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings_map, &zero);
}

SEC("cgroup/connect4")
int xlb_connect4(struct bpf_sock_addr *ctx)
{
	struct addr_key key = {.ip = {0, 0, bpf_htonl(0xffff), 0}};
	struct settings *settings = get_settings();

	if (ctx->protocol != IPPROTO_TCP || !settings || !settings->anchor4.port)
		return 1;
	key.ip[3] = ctx->user_ip4;
	key.port = bpf_ntohs(ctx->user_port);
	if (!tag(ctx, &key, true))
		return 1;
	/* clang would merge neighbouring stores to the context into one computed address, which is refused */
	*(volatile __u32 *)&ctx->user_ip4 = settings->anchor4.ip[3];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_port = bpf_htons(settings->anchor4.port);
	return 1;
}

SEC("cgroup/connect6")
int xlb_connect6(struct bpf_sock_addr *ctx)
{
	struct addr_key key = {}, *anchor;
	struct settings *settings = get_settings();
	bool mapped;

	if (ctx->protocol != IPPROTO_TCP || !settings)
		return 1;
	key.ip[0] = ctx->user_ip6[0];
	key.ip[1] = ctx->user_ip6[1];
	key.ip[2] = ctx->user_ip6[2];
	key.ip[3] = ctx->user_ip6[3];
	key.port = bpf_ntohs(ctx->user_port);
	mapped = key.ip[0] == 0 && key.ip[1] == 0 && key.ip[2] == bpf_htonl(0xffff);
	anchor = mapped ? &settings->anchor4 : &settings->anchor6;
	if (!anchor->port || !tag(ctx, &key, mapped))
		return 1;
	*(volatile __u32 *)&ctx->user_ip6[0] = anchor->ip[0];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_ip6[1] = anchor->ip[1];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_ip6[2] = anchor->ip[2];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_ip6[3] = anchor->ip[3];
	barrier_value(ctx);
	*(volatile __u32 *)&ctx->user_port = bpf_htons(anchor->port);
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
