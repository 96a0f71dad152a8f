/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Not part of the data path: the least programs with which src/daemon/probe.ts moves bytes as the data path does, on
 * sockets of its own, to see how this kernel shows them to an application. The maps bear programs of the same types.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define SOCKETS(name)                                                                                                  \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_SOCKMAP);                                                                    \
		__uint(max_entries, 1);                                                                                \
		__type(key, __u32);                                                                                    \
		__type(value, __u64);                                                                                  \
	} name SEC(".maps")

SOCKETS(clients);  /* as p_socks: sk_msg and sk_skb */
SOCKETS(servers);  /* as s_socks: sk_msg alone */
SOCKETS(upstream); /* as i_socks: sk_skb alone */

#define TO_SERVER 0x73737373 /* "ssss" */

/* How a client's bytes begin says where they go. */
SEC("sk_msg")
int probe_request(struct sk_msg_md *msg)
{
	const char *data = msg->data, *end = msg->data_end;

	if (data + 4 <= end && *(const __u32 *)data == TO_SERVER)
		return bpf_msg_redirect_map(msg, &servers, 0, BPF_F_INGRESS);
	return bpf_msg_redirect_map(msg, &upstream, 0, 0);
}

SEC("sk_msg")
int probe_response(struct sk_msg_md *msg)
{
	return bpf_msg_redirect_map(msg, &clients, 0, BPF_F_INGRESS);
}

SEC("sk_skb")
int probe_response_skb(struct __sk_buff *skb)
{
	return skb->len ? bpf_sk_redirect_map(skb, &clients, 0, BPF_F_INGRESS) : SK_DROP;
}

SEC("sk_skb")
int probe_client_skb(struct __sk_buff *skb)
{
	return skb->len ? SK_PASS : SK_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
