/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Compiled for its BTF alone: keeps every type of the contract alive for tools/layoutgen.ts. Never loaded. */
#include "vmlinux.h"

#include "contract.h"


struct layout {
	struct addr_key addr_key;
	struct listener_entry listener_entry;
	struct settings settings;
	struct clock clock;
	struct word word;
	struct header_name header_name;
	struct pool_key pool_key;
	struct pool pool;
	struct peer_key peer_key;
	struct framing framing;
	struct slot slot;
	struct stash stash;
	struct conn conn;
	struct slow_done slow_done;
	struct event event;
	struct endpoint_stats endpoint_stats;
	struct route_stats route_stats;
	struct listener_stats listener_stats;
	struct reason_stats reason_stats;
	struct endpoint_state endpoint_state;
	struct cluster_limit cluster_limit;
	struct breaker_state breaker_state;
	struct cluster_state cluster_state;
	enum entry_flag entry_flag;
	enum switch_kind switch_kind;
	enum condition_kind condition_kind;
	enum connect_way connect_way;
	enum policy policy;
	enum hash_kind hash_kind;
	enum slot_kind slot_kind;
	enum slot_flag slot_flag;
	enum framing_state framing_state;
	enum framing_flag framing_flag;
	enum event_type event_type;
	enum streak streak;
	enum reason reason;
} layout;
