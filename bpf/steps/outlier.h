/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What came of a request, as outlier detection sees it: errors in a row. The slow path counts in the same place. */
#ifndef XLB_STEPS_OUTLIER_H
#define XLB_STEPS_OUTLIER_H

static __always_inline struct endpoint_state *state_of(__u32 endpoint)
{
	return bpf_map_lookup_elem(&endpoint_states, &endpoint);
}

/* One more error. Whoever makes it as many as that is the one to tell. */
static __always_inline bool is_the_last(__u32 *errors, __u32 most)
{
	return __sync_fetch_and_add(errors, 1) + 1 == most;
}

/*
 * The endpoint has answered: which streaks are as long now as its cluster bears (enum streak). As
 * DetectorHostMonitorImpl::putHttpResponseCode of Envoy's source/common/upstream/outlier_detection_impl.cc.
 */
static __always_inline __u32 count_outcome(struct endpoint_state *state, __u16 status)
{
	__u32 reached = 0;

	if (!state->watched)
		return 0;
	if (status >= 502 && status <= 504) {
		if (is_the_last(&state->gateway_errors, state->most_gateway_errors))
			reached |= STREAK_GATEWAY_ERRORS;
	} else if (state->gateway_errors) {
		state->gateway_errors = 0;
	}
	if (status >= 500 && status < 600) {
		if (is_the_last(&state->errors, state->most_errors))
			reached |= STREAK_ERRORS;
	} else if (state->errors) {
		state->errors = 0;
	}
	return reached;
}

static __always_inline void endpoint_event(__u32 type, __u32 endpoint, __u32 reason)
{
	struct event *e = new_event(type);

	if (!e)
		return;
	e->endpoint = endpoint;
	e->reason = reason;
	bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
}

#endif
