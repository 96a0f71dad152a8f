/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/*
 * A client on io_uring, for habits.py, by raw system calls: liburing is not needed.
 *
 *   uring probe           exit status 0 where the kernel grants a ring
 *   uring IP PORT MODE    frames on stdin, a length of four bytes and a request each; answers on stdout in the same way
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRIES 64
#define BUFFERS 16
#define BUFFER_SIZE 4096
#define MAX_ANSWER (1 << 20)
#define GROUP 7

enum { TAG_CONNECT = 1, TAG_SEND, TAG_RECV, TAG_POLL, TAG_PROVIDE };

static int ring;
static unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static unsigned queued;
static char pool[BUFFERS][BUFFER_SIZE];

static void fail(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(error));
	exit(1);
}

static void setup(void)
{
	struct io_uring_params p = {0};
	char *sq, *cq;

	ring = syscall(__NR_io_uring_setup, ENTRIES, &p);
	if (ring < 0)
		fail("io_uring_setup", errno);
	sq = mmap(0, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
		  IORING_OFF_SQ_RING);
	cq = mmap(0, p.cq_off.cqes + p.cq_entries * sizeof(*cqes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		  ring, IORING_OFF_CQ_RING);
	sqes = mmap(0, p.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
		    IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqes == MAP_FAILED)
		fail("mmap", errno);
	sq_tail = (unsigned *)(sq + p.sq_off.tail);
	sq_mask = (unsigned *)(sq + p.sq_off.ring_mask);
	sq_array = (unsigned *)(sq + p.sq_off.array);
	cq_head = (unsigned *)(cq + p.cq_off.head);
	cq_tail = (unsigned *)(cq + p.cq_off.tail);
	cq_mask = (unsigned *)(cq + p.cq_off.ring_mask);
	cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
}

static struct io_uring_sqe *queue(int op, int fd, const void *at, unsigned length, int tag)
{
	unsigned tail = *sq_tail, i = tail & *sq_mask;
	struct io_uring_sqe *e = &sqes[i];

	memset(e, 0, sizeof(*e));
	e->opcode = op;
	e->fd = fd;
	e->addr = (unsigned long)at;
	e->len = length;
	e->user_data = tag;
	sq_array[i] = i;
	__atomic_store_n(sq_tail, tail + 1, __ATOMIC_RELEASE);
	queued++;
	return e;
}

static struct io_uring_cqe next(void)
{
	for (;;) {
		unsigned head = *cq_head;
		int n;

		if (!queued && head != __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE)) {
			struct io_uring_cqe c = cqes[head & *cq_mask];

			__atomic_store_n(cq_head, head + 1, __ATOMIC_RELEASE);
			return c;
		}
		n = syscall(__NR_io_uring_enter, ring, queued, 1, IORING_ENTER_GETEVENTS, NULL, 0);
		if (n < 0)
			fail("io_uring_enter", errno);
		queued -= n;
	}
}

/* How much is still due of an answer of which n bytes came; 1 when that is not yet known. */
static long due(const char *answer, long n)
{
	const char *end = memmem(answer, n, "\r\n\r\n", 4), *field;

	if (!end)
		return 1;
	for (field = answer; field < end; field++)
		if (!strncasecmp(field, "\r\ncontent-length:", 17))
			return end + 4 - answer + atol(field + 17) - n;
	fail("no Content-Length", EPROTO);
	return 0;
}

static void provide(int first, int n)
{
	struct io_uring_sqe *e = queue(IORING_OP_PROVIDE_BUFFERS, n, pool[first], BUFFER_SIZE, TAG_PROVIDE);

	e->off = first;
	e->buf_group = GROUP;
}

static void receive_many(int sock)
{
	struct io_uring_sqe *e = queue(IORING_OP_RECV, sock, NULL, 0, TAG_RECV);

	e->ioprio = IORING_RECV_MULTISHOT;
	e->flags = IOSQE_BUFFER_SELECT;
	e->buf_group = GROUP;
}

/* One answer; a send of `sending` bytes is under way. */
static long trade(int sock, const char *mode, const char *request, long length, char *answer)
{
	int many = !strcmp(mode, "multishot"), polled = !strcmp(mode, "polled");
	int copied = strcmp(mode, "zero-copy"), linked = !strcmp(mode, "linked");
	long n = 0, sent = 0, notices = 0, reading = 0;

	struct io_uring_sqe *e = queue(copied ? IORING_OP_SEND : IORING_OP_SEND_ZC, sock, request, length, TAG_SEND);
	e->msg_flags = MSG_WAITALL;
	if (linked) {
		e->flags = IOSQE_IO_LINK;
		queue(IORING_OP_RECV, sock, answer, MAX_ANSWER, TAG_RECV);
		reading = 1;
	}
	while (sent < length || notices > 0 || !n || due(answer, n) > 0) {
		struct io_uring_cqe c;

		if (sent == length && !reading && !many && (!n || due(answer, n) > 0)) {
			if (polled)
				queue(IORING_OP_POLL_ADD, sock, NULL, 0, TAG_POLL)->poll32_events = POLLIN;
			else
				queue(IORING_OP_RECV, sock, answer + n, MAX_ANSWER - n, TAG_RECV);
			reading = 1;
		}
		c = next();
		if (c.flags & IORING_CQE_F_NOTIF) {
			notices--;
			continue;
		}
		if (many && c.res == -ENOBUFS) {
			receive_many(sock);
			continue;
		}
		if (c.res < 0)
			fail(c.user_data == TAG_SEND ? "send" : c.user_data == TAG_RECV ? "recv" : "poll", -c.res);
		if (c.user_data == TAG_SEND) {
			if (c.flags & IORING_CQE_F_MORE)
				notices++;
			sent += c.res;
			if (sent < length)
				fail("a short send", EIO);
		} else if (c.user_data == TAG_POLL) {
			long got = recv(sock, answer + n, MAX_ANSWER - n, MSG_DONTWAIT);

			if (got <= 0)
				fail("poll says readable, recv", got ? errno : EPIPE);
			n += got;
			reading = 0;
		} else if (c.user_data == TAG_RECV) {
			if (c.res == 0)
				fail("the connection ended", EPIPE);
			if (many) {
				int buffer = c.flags >> IORING_CQE_BUFFER_SHIFT;

				memcpy(answer + n, pool[buffer], c.res);
				provide(buffer, 1);
				if (!(c.flags & IORING_CQE_F_MORE))
					receive_many(sock);
			}
			n += c.res;
			reading = 0;
		}
	}
	return n;
}

int main(int argc, char **argv)
{
	static char request[MAX_ANSWER], answer[MAX_ANSWER];
	struct sockaddr_in to = {.sin_family = AF_INET};
	unsigned length;
	int sock;

	setup();
	if (argc < 4)
		return 0;
	to.sin_port = htons(atoi(argv[2]));
	inet_pton(AF_INET, argv[1], &to.sin_addr);
	sock = socket(AF_INET, SOCK_STREAM, 0);
	queue(IORING_OP_CONNECT, sock, &to, 0, TAG_CONNECT)->off = sizeof(to);
	struct io_uring_cqe c = next();
	if (c.res < 0)
		fail("connect", -c.res);
	if (!strcmp(argv[3], "multishot")) {
		provide(0, BUFFERS);
		receive_many(sock);
	}
	while (fread(&length, 4, 1, stdin) == 1 && fread(request, length, 1, stdin) == 1) {
		unsigned n = trade(sock, argv[3], request, length, answer);

		fwrite(&n, 4, 1, stdout);
		fwrite(answer, n, 1, stdout);
	}
	return 0;
}
