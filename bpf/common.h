/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
#ifndef XLB_COMMON_H
#define XLB_COMMON_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Constants that BTF does not carry. */
#define SOL_SOCKET 1
#define SO_RCVBUF 8
#define SOCK_RCVBUF_LOCK 2
#define SOL_TCP 6
#define TCP_NODELAY 1
#define O_NONBLOCK 04000

extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __weak __ksym;
extern void *bpf_cast_to_kern_ctx(void *context) __weak __ksym;

/*
 * A kernel structure at an address that may be stale: then what is read is wrong, or 0, and no more. A plain load,
 * where BPF_CORE_READ is a call.
 */
#define at_address(type, address) ((type *)bpf_rdonly_cast((void *)(address), bpf_core_type_id_kernel(type)))

#define barrier_value(x) asm volatile("" : "+r"(x))

/*
 * Where a loop's counter starts. The verifier would follow a counter that it knows through every turn; one that it
 * does not know has to be within bounds in one turn only.
 */
__u32 zero_to_us;

static __always_inline __u32 from(__u32 n)
{
	return n + *(volatile __u32 *)&zero_to_us;
}

/*
 * The instruction may_goto (Linux 6.9), which this libbpf has no name for: false when the kernel's own bound on all
 * loops of a run is reached. The verifier takes a loop that asks it as it takes an iterator, but nothing is called.
 */
#define may_go_on()                                                                                                   \
	({                                                                                                             \
		__label__ over_, go_on_;                                                                               \
		bool may_ = true;                                                                                      \
		asm volatile goto("1: .byte 0xe5, 0; .long ((%l[over_] - 1b - 8) / 8) & 0xffff; .short 0" ::::over_); \
		goto go_on_;                                                                                           \
	over_:                                                                                                         \
		may_ = false;                                                                                          \
	go_on_:;                                                                                                       \
		may_;                                                                                                  \
	})

/*
 * Before Linux 6.17 the verifier takes two turns of a loop for different ones when registers differ that nobody will
 * read. So they are set alike: it costs nothing to run, and 6.12 verifies in a seventh of the steps, or at all.
 */
#define forget_registers()                                                                                            \
	asm volatile("r0 = 0; r1 = 0; r2 = 0; r3 = 0; r4 = 0; r5 = 0" ::: "r0", "r1", "r2", "r3", "r4", "r5")

/* A loop of at most n turns whose verification does not depend on n. `break` and `return` are fine in it. */
#define repeat(n) for (__u32 turn_ = from(0); turn_ < (n) && ({ forget_registers(); may_go_on(); }); turn_++)

/* libbpf 1.1 does not declare the kernel's numeric iterator yet. */
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __weak __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __weak __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __weak __ksym;

static __always_inline struct bpf_iter_num *begin_iteration(struct bpf_iter_num *it, int turns)
{
	bpf_iter_num_new(it, 0, turns);
	return it;
}

static __always_inline void end_iteration(struct bpf_iter_num *it)
{
	bpf_iter_num_destroy(it);
}

/* The same by an iterator: a call for each turn, but around loops that hold others the verifier sees an end sooner. */
#define repeat_far(n)                                                                                                  \
	for (struct bpf_iter_num it_ __attribute__((cleanup(end_iteration))),                                         \
	     *once_ __attribute__((unused)) = begin_iteration(&it_, (n));                                             \
	     ({ forget_registers(); bpf_iter_num_next(&it_); });)

#ifndef AF_INET
#define AF_INET 2
#define AF_INET6 10
#endif

#endif
