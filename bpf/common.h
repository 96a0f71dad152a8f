/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
#ifndef XLB_COMMON_H
#define XLB_COMMON_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

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

/* A loop of at most n turns whose verification does not depend on n. `break` and `return` are fine in it. */
#define repeat(n)                                                                                                      \
	for (struct bpf_iter_num it_ __attribute__((cleanup(end_iteration))),                                         \
	     *once_ __attribute__((unused)) = begin_iteration(&it_, (n));                                             \
	     bpf_iter_num_next(&it_);)

/* Constants that BTF does not carry. */
#define SOL_SOCKET 1
#define SO_RCVBUF 8
#define SOCK_RCVBUF_LOCK 2
#define SOL_TCP 6
#define TCP_NODELAY 1

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

#ifndef AF_INET
#define AF_INET 2
#define AF_INET6 10
#endif

#endif
