// SPDX-License-Identifier: Apache-2.0
/*
 * The reactor: one thread that does what would cost too much in JavaScript, and reports the rest to it.
 *
 *   listeners   accepts lazily, and ends connections whose client has already gone
 *   sockets     tells when a watched one needs a look
 *   ring        takes the records that BPF programs write
 *
 * Two locks, never held together. `table_lock` guards fds and listeners: the thread holds it while it touches a
 * socket, so once reactorForget has returned, the thread does not touch it any more. `queue_lock` guards the events on
 * their way to JavaScript.
 *
 * A record about a connection is written before the bytes it is about can be seen. JavaScript shall learn of them in
 * this order: so in each round events about sockets are kept back (`held`) until the ring has been emptied once more.
 */
#include "common.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS 1000000        /* how long a record may wait to be taken while connections keep coming */
#define ACCEPT_TICKS 12        /* how long a connection waits to be accepted then: most have gone by themselves */
#define QUIET_NS 50000000      /* so long without one, and the ticking stops; longer than hooks rely on it */
#define ACCEPTS_PER_ROUND 4096 /* so that sockets get their turn */
#define EVENTS_PER_WAIT 256
#define MAX_LISTENERS 64
#define MAX_FDS 1048576        /* also the kernel's own default limit */
#define MAX_RECORD 65536
#define LATER_BYTES 96         /* of a record that is kept for later */
#define HELD_BYTES 1048576     /* events of one round */
#define QUEUE_BYTES 8388608    /* events that JavaScript has not taken yet; beyond, the thread waits for it */
#define QUEUE_RESERVE (HELD_BYTES + MAX_RECORD + 64)

/* ---- the events, as src/kernel/native.ts reads them ---- */

enum event_kind {
	EVENT_ANCHOR = 1,
	EVENT_READABLE = 2,
	EVENT_GONE = 3,
	EVENT_SOCKET = 4,
	EVENT_RECORD = 5,
};

enum look {
	LOOK_QUIET = 1,
	LOOK_DATA = 2,
	LOOK_EOF = 4,
	LOOK_RESET = 8, /* with LOOK_EOF */
	LOOK_WRITABLE = 16,
};

struct event {
	uint32_t size; /* of the whole, a multiple of 8 */
	uint16_t kind;
	uint16_t flags;
	int32_t fd;
	uint32_t generation;
};

struct address_key {
	uint8_t ip[16]; /* network order; IPv4 as ::ffff:a.b.c.d */
	uint16_t port;  /* host order */
	uint16_t pad;
};

struct anchor_event {
	struct event head;
	struct address_key peer;
	uint32_t pad;
};

struct socket_event {
	struct event head;
	uint32_t tag;
	uint32_t events;
};

struct record_event {
	struct event head;
	uint32_t length; /* of the bytes that follow */
	uint32_t pad;
};

_Static_assert(sizeof(struct address_key) == 20, "the key of conns, struct addr_key of bpf/contract.h");
_Static_assert(ACCEPTS_PER_ROUND * sizeof(struct anchor_event) + EVENTS_PER_WAIT * sizeof(struct socket_event) <=
		       HELD_BYTES,
	       "the events of a round have room");

/* ---- state ---- */

enum watch_kind {
	WATCH_NONE = 0,
	WATCH_LISTENER,
	WATCH_ANCHOR,
	WATCH_SOCKET,
	WATCH_GONE, /* an anchor that the thread has ended: /dev/null holds its number until JavaScript has heard */
};

/* One for each fd number. An epoll event or an event for JavaScript is stale when its generation is not this one. */
struct watch {
	uint32_t generation;
	uint32_t kind;
	uint32_t tag;
	struct address_key peer;
};

struct stats {
	uint64_t accepted, fast_closed, handed, accept_errors, ticks, rounds, records, records_dropped, pauses, calls,
		needless;
};

/* What an epoll event is about, where it is not a watched fd: these have generation 0, which no watch has. */
enum { SOURCE_WAKE = 0, SOURCE_RING = 1 };

struct queue {
	uint8_t *bytes;
	size_t length;
};

/* A record that matters only if its connection still exists in a while. */
struct later {
	uint64_t due;
	uint32_t length;
	uint8_t bytes[LATER_BYTES];
};

static struct reactor {
	bool running;
	pthread_t thread;
	int epoll, wake, tombstone;
	struct ring_buffer *ring;
	uint64_t wake_types;
	int conns;
	uint32_t closed_offset;
	uint8_t *conn_value;
	uint32_t conn_value_size;
	int64_t later_type;
	uint64_t later_ns;
	uint32_t later_key_offset, later_cookie_offset, cookie_offset;

	pthread_mutex_t table_lock;
	struct watch *table;
	int fd_end; /* no fd from here on was ever watched */
	int listeners[MAX_LISTENERS];
	uint32_t listener_count, first_listener;

	/* the thread's own */
	bool active; /* ticking: the listeners are not in the epoll. Changed under table_lock. */
	uint64_t last_taken; /* when there last was a connection to accept */
	uint64_t next_tick;
	bool accept_now;
	struct queue held;
	struct later *later; /* a ring; its size is a power of two */
	uint32_t later_room, later_first, later_count;

	pthread_mutex_t queue_lock;
	struct queue queue, taken; /* filled by the thread, being read by JavaScript */
	bool called;               /* JavaScript is about to take what is there */
	bool waiting;              /* the thread waits for JavaScript to do so */

	/* atomics */
	bool stopping;
	struct stats stats;

	napi_threadsafe_function call;
	napi_ref callback;
	napi_env env;
} r = {.table_lock = PTHREAD_MUTEX_INITIALIZER, .queue_lock = PTHREAD_MUTEX_INITIALIZER};

#define count(name, n) __atomic_fetch_add(&r.stats.name, n, __ATOMIC_RELAXED)
#define is_set(flag) __atomic_load_n(&(flag), __ATOMIC_ACQUIRE)
#define raise_flag(flag) __atomic_store_n(&(flag), true, __ATOMIC_RELEASE)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void wake_thread(void)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then the thread is awake. */
	while (write(r.wake, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void clear_wake(void)
{
	uint64_t times;

	while (read(r.wake, &times, sizeof(times)) < 0 && errno == EINTR)
		;
}

/* ---- epoll ---- */

static uint64_t epoll_data(uint32_t generation, uint32_t index)
{
	return (uint64_t)generation << 32 | index;
}

static int epoll_add(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = {.events = events, .data.u64 = data};

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/* Once: each event disarms the fd until it is armed again. */
static int epoll_arm(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = {.events = events | EPOLLONESHOT, .data.u64 = data};

	if (!epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event))
		return 0;
	return errno == ENOENT ? epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) : -1;
}

/* It may not be there; then there is nothing to do. */
static void epoll_remove(int epoll, int fd)
{
	epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- events on their way to JavaScript ---- */

static void append(struct queue *queue, const void *event, size_t size)
{
	memcpy(queue->bytes + queue->length, event, size);
	queue->length += size;
}

#define hold(event) append(&r.held, &(event), sizeof(event))

static bool has_room(void)
{
	bool room;

	pthread_mutex_lock(&r.queue_lock);
	room = QUEUE_BYTES - r.queue.length >= QUEUE_RESERVE;
	pthread_mutex_unlock(&r.queue_lock);
	return room;
}

/* To JavaScript. False when there is no room for another one behind it. */
static bool pass_record(const void *data, size_t length)
{
	size_t padded = (length + 7) & ~7ul;
	struct record_event event = {
		.head = {.size = sizeof(event) + padded, .kind = EVENT_RECORD},
		.length = length,
	};
	static const uint8_t padding[8];
	bool room;

	pthread_mutex_lock(&r.queue_lock);
	append(&r.queue, &event, sizeof(event));
	append(&r.queue, data, length);
	append(&r.queue, padding, padded - length);
	room = QUEUE_BYTES - r.queue.length >= QUEUE_RESERVE;
	pthread_mutex_unlock(&r.queue_lock);
	return room;
}

static struct later *later_at(uint32_t n)
{
	return &r.later[(r.later_first + n) & (r.later_room - 1)];
}

/* False when there is no memory: then it has to be passed at once. */
static bool keep_for_later(const void *data, size_t length)
{
	if (r.later_count == r.later_room) {
		uint32_t room = r.later_room ? r.later_room * 2 : 256;
		struct later *more = malloc(room * sizeof(*more));

		if (!more)
			return false;
		for (uint32_t i = 0; i < r.later_count; i++)
			more[i] = *later_at(i);
		free(r.later);
		r.later = more;
		r.later_room = room;
		r.later_first = 0;
	}
	struct later *last = later_at(r.later_count++);

	last->due = now_ns() + r.later_ns;
	last->length = length;
	memcpy(last->bytes, data, length);
	return true;
}

/* Those that are due, unless their client has closed meanwhile or its port is another's by now. */
static void pass_later(void)
{
	uint64_t now = r.later_count ? now_ns() : 0;

	while (r.later_count && later_at(0)->due <= now && has_room()) {
		const struct later *first = later_at(0);
		const void *cookie = first->bytes + r.later_cookie_offset;

		if (!bpf_map_lookup_elem(r.conns, first->bytes + r.later_key_offset, r.conn_value) &&
		    !r.conn_value[r.closed_offset] && !memcmp(r.conn_value + r.cookie_offset, cookie, sizeof(uint64_t))) {
			pass_record(first->bytes, first->length);
			r.accept_now = true;
		} else {
			count(needless, 1);
		}
		r.later_first = (r.later_first + 1) & (r.later_room - 1);
		r.later_count--;
	}
}

/* libbpf's callback: one record. A negative answer ends the round; the record counts as taken all the same. */
static int take_record(void *context, void *data, size_t length)
{
	uint32_t type;

	(void)context;
	if (length > MAX_RECORD) {
		count(records_dropped, 1);
		return 0;
	}
	count(records, 1);
	if (length >= sizeof(type)) {
		memcpy(&type, data, sizeof(type));
		if (type < 64 && r.wake_types >> type & 1)
			r.accept_now = true;
		if (type == r.later_type && length <= LATER_BYTES && keep_for_later(data, length))
			return 0;
	}
	return pass_record(data, length) ? 0 : -ENOBUFS;
}

/* Takes all records there are. False: JavaScript has to take some events first. */
static bool take_records(void)
{
	if (!has_room())
		return false;
	return !r.ring || ring_buffer__consume(r.ring) >= 0;
}

static void wait_for_javascript(void)
{
	struct pollfd wake = {.fd = r.wake, .events = POLLIN};

	bool wait;

	pthread_mutex_lock(&r.queue_lock);
	wait = r.waiting = QUEUE_BYTES - r.queue.length < QUEUE_RESERVE;
	pthread_mutex_unlock(&r.queue_lock);
	if (!wait || is_set(r.stopping))
		return;
	count(pauses, 1);
	poll(&wake, 1, -1);
	clear_wake();
}

/* Once for all that has gathered until it comes. */
static void call_javascript(void)
{
	bool call;

	pthread_mutex_lock(&r.queue_lock);
	call = r.queue.length && !r.called;
	r.called = r.called || call;
	pthread_mutex_unlock(&r.queue_lock);
	if (call)
		napi_call_threadsafe_function(r.call, NULL, napi_tsfn_nonblocking);
}

/* The end of a round. Records first: see the head of this file. */
static void publish(void)
{
	while (!take_records()) {
		if (is_set(r.stopping))
			return;
		/* Records alone may fill the queue: JavaScript has to know of them before the thread waits for it. */
		call_javascript();
		wait_for_javascript();
	}
	pthread_mutex_lock(&r.queue_lock);
	append(&r.queue, r.held.bytes, r.held.length);
	pthread_mutex_unlock(&r.queue_lock);
	r.held.length = 0;
	call_javascript();
}

/* On JavaScript's thread. */
static void deliver(napi_env env, napi_value unused, void *context, void *data)
{
	napi_value receiver, callback, exception, bytes = NULL;
	napi_handle_scope scope;
	struct queue taken;
	bool waiting;

	(void)unused;
	(void)context;
	(void)data;
	if (!env || !r.running) /* being torn down */
		return;
	pthread_mutex_lock(&r.queue_lock);
	taken = r.queue;
	r.queue = r.taken;
	r.queue.length = 0;
	r.taken = taken;
	r.called = false;
	waiting = r.waiting;
	r.waiting = false;
	pthread_mutex_unlock(&r.queue_lock);
	if (waiting)
		wake_thread();
	count(calls, 1);
	napi_open_handle_scope(env, &scope);
	bytes = make_buffer(env, taken.bytes, taken.length);
	if (bytes && napi_get_reference_value(env, r.callback, &callback) == napi_ok &&
	    napi_get_global(env, &receiver) == napi_ok &&
	    napi_call_function(env, receiver, callback, 1, &bytes, NULL) == napi_pending_exception &&
	    napi_get_and_clear_last_exception(env, &exception) == napi_ok)
		napi_fatal_exception(env, exception);
	napi_close_handle_scope(env, scope);
}

/* ---- anchors ---- */

/* What there is to see at a connection, without taking it. */
static uint16_t look_at(int fd)
{
	uint8_t byte;
	ssize_t got;

	do
		got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got > 0)
		return LOOK_DATA;
	if (got == 0)
		return LOOK_EOF;
	return errno == EAGAIN ? LOOK_QUIET : LOOK_EOF | LOOK_RESET;
}

/* Did the client close both ways? Then nobody is left to whom our end of the connection could matter. */
static bool client_closed(const struct address_key *client)
{
	return r.conns >= 0 && !bpf_map_lookup_elem(r.conns, client, r.conn_value) && r.conn_value[r.closed_offset];
}

/* The entry goes first: when the connection has gone, the next one of the same port may make a new one. */
static void forget_client(int fd, const struct address_key *client)
{
	struct linger at_once = {.l_onoff = 1};

	bpf_map_delete_elem(r.conns, client);
	/* A reset frees the client's port at once; a FIN would leave it in TIME_WAIT. */
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

static struct address_key key_of(const struct sockaddr_storage *address)
{
	struct address_key key = {0};

	if (address->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const void *)address;

		memcpy(key.ip, &v6->sin6_addr, sizeof(key.ip));
		key.port = ntohs(v6->sin6_port);
	} else {
		const struct sockaddr_in *v4 = (const void *)address;

		key.ip[10] = key.ip[11] = 0xff;
		memcpy(key.ip + 12, &v4->sin_addr, sizeof(v4->sin_addr));
		key.port = ntohs(v4->sin_port);
	}
	return key;
}

/* A new life for the fd's number. Needs table_lock. */
static struct watch *watch_fd(int fd, enum watch_kind kind)
{
	struct watch *watch = &r.table[fd];

	if (!++watch->generation)
		watch->generation = 1;
	watch->kind = kind;
	watch->tag = 0;
	if (fd >= r.fd_end)
		r.fd_end = fd + 1;
	return watch;
}

static void forget_fd(int fd)
{
	watch_fd(fd, WATCH_NONE);
}

/* A connection just accepted. Needs table_lock. */
static void meet(int fd, const struct sockaddr_storage *address)
{
	struct address_key peer = key_of(address);
	uint16_t look = look_at(fd);
	struct anchor_event event;
	struct watch *watch;

	if (look & LOOK_EOF && client_closed(&peer)) {
		forget_client(fd, &peer);
		close(fd);
		count(fast_closed, 1);
		return;
	}
	watch = watch_fd(fd, WATCH_ANCHOR);
	watch->peer = peer;
	if (look & LOOK_QUIET &&
	    epoll_arm(r.epoll, fd, EPOLLIN | EPOLLRDHUP, epoll_data(watch->generation, fd)))
		count(accept_errors, 1); /* out of epoll watches; JavaScript gets the same error when it arms the fd */
	event = (struct anchor_event){
		.head = {.size = sizeof(event), .kind = EVENT_ANCHOR, .flags = look, .fd = fd, .generation = watch->generation},
		.peer = peer,
	};
	hold(event);
	count(handed, 1);
}

/* A watched fd has something to say. Needs table_lock. */
static void socket_event(uint32_t fd, uint32_t generation, uint32_t events)
{
	struct watch *watch = &r.table[fd];
	struct socket_event about = {
		.head = {.size = sizeof(about), .kind = EVENT_SOCKET, .fd = fd, .generation = generation},
		.tag = watch->tag,
		.events = events & ~EPOLLONESHOT,
	};
	struct event event = {.size = sizeof(event), .kind = EVENT_READABLE, .fd = fd, .generation = generation};
	uint16_t look;

	if (watch->generation != generation)
		return;
	if (watch->kind == WATCH_SOCKET) {
		hold(about);
		return;
	}
	if (watch->kind != WATCH_ANCHOR)
		return;
	look = look_at(fd);
	if (look & LOOK_EOF && client_closed(&watch->peer)) {
		forget_client(fd, &watch->peer);
		/*
		 * JavaScript knows this number and may be about to use it. Replacing what it stands for ends the connection
		 * but keeps the number from being given to another one.
		 */
		epoll_remove(r.epoll, fd); /* by itself it would stay for as long as there is a dup */
		dup3(r.tombstone, fd, O_CLOEXEC);
		count(fast_closed, 1);
		watch->kind = WATCH_GONE;
		event.kind = EVENT_GONE;
		hold(event);
		return;
	}
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		look |= LOOK_EOF;
	if (events & EPOLLOUT)
		look |= LOOK_WRITABLE;
	event.flags = look;
	hold(event);
}

/* ---- accepting ---- */

enum accepted { ACCEPTED, ACCEPTED_ALL, ACCEPT_FAILED };

static enum accepted accept_one(uint32_t listener)
{
	enum accepted result = ACCEPTED_ALL;
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	int fd;

	pthread_mutex_lock(&r.table_lock);
	if (listener < r.listener_count) {
		fd = accept4(r.listeners[listener], (struct sockaddr *)&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= MAX_FDS) {
			close(fd);
			count(accept_errors, 1);
			result = ACCEPTED;
		} else if (fd >= 0) {
			count(accepted, 1);
			meet(fd, &address);
			result = ACCEPTED;
		} else if (errno == EINTR || errno == ECONNABORTED) {
			result = ACCEPTED;
		} else if (errno != EAGAIN) {
			count(accept_errors, 1); /* mostly no fds left */
			result = ACCEPT_FAILED;
		}
	}
	pthread_mutex_unlock(&r.table_lock);
	return result;
}

static uint32_t count_listeners(void)
{
	uint32_t n;

	pthread_mutex_lock(&r.table_lock);
	n = r.listener_count;
	pthread_mutex_unlock(&r.table_lock);
	return n;
}

/* In the epoll when idle, out of it when ticking. */
static void set_active(bool active)
{
	pthread_mutex_lock(&r.table_lock);
	for (uint32_t i = 0; i < r.listener_count; i++) {
		int fd = r.listeners[i];

		if (active)
			epoll_remove(r.epoll, fd);
		else
			epoll_add(r.epoll, fd, EPOLLIN, epoll_data(r.table[fd].generation, fd));
	}
	r.active = active;
	r.last_taken = now_ns();
	pthread_mutex_unlock(&r.table_lock);
}

/*
 * How many of a listener's waiting connections are to be accepted in this tick: so many that each waits for some
 * ACCEPT_TICKS. All, when the queue is a quarter full: beyond its end new ones would have to try again.
 */
static uint32_t due_at(uint32_t listener)
{
	struct tcp_info info = {0};
	socklen_t length = sizeof(info);
	uint32_t waiting;
	bool known;

	pthread_mutex_lock(&r.table_lock);
	known = listener < r.listener_count &&
		!getsockopt(r.listeners[listener], IPPROTO_TCP, TCP_INFO, &info, &length);
	pthread_mutex_unlock(&r.table_lock);
	/* Of a listener these two are how many wait, and how many may. */
	waiting = info.tcpi_unacked;
	if (!known || waiting * 4 > info.tcpi_sacked)
		return ACCEPTS_PER_ROUND;
	return waiting ? waiting / ACCEPT_TICKS + 1 : 0;
}

static void accept_round(void)
{
	uint32_t n = count_listeners(), taken = 0;
	enum accepted last = ACCEPTED_ALL;
	bool all = r.accept_now, failed = false;

	r.accept_now = false;
	/* The first is another one each time, so that a flood at one does not starve the rest. */
	r.first_listener++;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t listener = (r.first_listener + i) % n, end = taken + (all ? ACCEPTS_PER_ROUND : due_at(listener));

		while (taken < min(end, ACCEPTS_PER_ROUND) && (last = accept_one(listener)) == ACCEPTED)
			taken++;
		failed = failed || last == ACCEPT_FAILED;
	}
	/* Ticks also pace the retries: a listener that cannot be served would otherwise keep the thread spinning. */
	if ((taken || failed) && !r.active)
		set_active(true);
	if (!r.active)
		return;
	count(ticks, 1);
	r.next_tick = now_ns() + (taken < ACCEPTS_PER_ROUND ? TICK_NS : 0);
	if (taken)
		r.last_taken = now_ns();
	else if (now_ns() - r.last_taken >= QUIET_NS)
		set_active(false);
}

/* ---- the thread ---- */

/* Forever when there is nothing to do. */
static int wait_for_events(struct epoll_event *events)
{
	struct timespec wait = {0}, *timeout = NULL;

	if (r.accept_now) {
		timeout = &wait;
	} else if (r.active || r.later_count) {
		uint64_t now = now_ns(), next = r.active ? r.next_tick : UINT64_MAX;

		if (r.later_count)
			next = min(next, later_at(0)->due);
		wait.tv_nsec = next > now ? min(next - now, r.active ? TICK_NS : r.later_ns) : 0;
		timeout = &wait;
	}
	return epoll_pwait2(r.epoll, events, EVENTS_PER_WAIT, timeout, NULL);
}

static void handle(const struct epoll_event *event)
{
	uint32_t generation = event->data.u64 >> 32, fd = (uint32_t)event->data.u64;

	if (generation) {
		pthread_mutex_lock(&r.table_lock);
		if (r.table[fd].kind == WATCH_LISTENER)
			r.accept_now = true;
		else
			socket_event(fd, generation, event->events);
		pthread_mutex_unlock(&r.table_lock);
		return;
	}
	switch (fd) {
	case SOURCE_WAKE:
		clear_wake();
		break;
	case SOURCE_RING: /* emptied in every round */
		break;
	}
}

static void *run(void *unused)
{
	struct epoll_event events[EVENTS_PER_WAIT];

	(void)unused;
	pthread_setname_np(pthread_self(), "xlb-reactor");
	while (!is_set(r.stopping)) {
		int n = wait_for_events(events);

		count(rounds, 1);
		take_records();
		for (int i = 0; i < n; i++)
			handle(&events[i]);
		if (r.accept_now || (r.active && now_ns() >= r.next_tick))
			accept_round();
		pass_later();
		publish();
	}
	return NULL;
}

/* ---- start and stop ---- */

static void release_all(void)
{
	if (r.ring)
		ring_buffer__free(r.ring);
	for (int fd = 0; r.table && fd < r.fd_end; fd++) {
		if (r.table[fd].kind == WATCH_GONE)
			close(fd);
	}
	int *const fds[] = {&r.epoll, &r.wake, &r.tombstone};

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	if (r.table)
		munmap(r.table, MAX_FDS * sizeof(*r.table));
	free(r.conn_value);
	free(r.held.bytes);
	free(r.queue.bytes);
	free(r.taken.bytes);
	free(r.later);
	r.later = NULL;
	r.later_room = r.later_first = r.later_count = 0;
	r.ring = NULL;
	r.table = NULL;
	r.conn_value = NULL;
	r.held = r.queue = r.taken = (struct queue){0};
	r.fd_end = 0;
	r.listener_count = r.first_listener = 0;
	r.active = r.accept_now = r.called = r.waiting = r.stopping = false;
}

/* Also the hook that runs when the environment goes: a thread must not outlive the code it runs. */
static void stop(void *unused)
{
	(void)unused;
	if (!r.running)
		return;
	raise_flag(r.stopping);
	wake_thread();
	pthread_join(r.thread, NULL);
	r.running = false;
	napi_release_threadsafe_function(r.call, napi_tsfn_abort);
	napi_delete_reference(r.env, r.callback);
	napi_remove_env_cleanup_hook(r.env, stop, NULL);
	release_all();
}

/* A map of another shape would have its rows read into too little room. */
static bool conns_fits(void)
{
	struct bpf_map_info map = {0};
	uint32_t length = sizeof(map);

	if (bpf_obj_get_info_by_fd(r.conns, &map, &length))
		return false;
	errno = EINVAL;
	return map.key_size == sizeof(struct address_key) && map.value_size == r.conn_value_size &&
	       r.closed_offset < r.conn_value_size;
}

static bool later_fits(uint32_t ms)
{
	return r.conns >= 0 && ms > 0 && ms < 1000 && r.cookie_offset + sizeof(uint64_t) <= r.conn_value_size &&
	       r.later_key_offset <= LATER_BYTES - sizeof(struct address_key) &&
	       r.later_cookie_offset <= LATER_BYTES - sizeof(uint64_t);
}

/* The name of the call that failed, or NULL. */
static const char *open_all(int ring_fd)
{
	r.epoll = epoll_create1(EPOLL_CLOEXEC);
	r.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r.tombstone = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (r.epoll < 0 || r.wake < 0 || r.tombstone < 0)
		return "open";
	if (epoll_add(r.epoll, r.wake, EPOLLIN, SOURCE_WAKE))
		return "epoll_ctl";
	r.table = mmap(NULL, MAX_FDS * sizeof(*r.table), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r.table == MAP_FAILED) {
		r.table = NULL;
		return "mmap";
	}
	/* All at once, so that nothing needs memory while it runs; untouched pages cost nothing. */
	r.held.bytes = malloc(HELD_BYTES);
	r.queue.bytes = malloc(QUEUE_BYTES);
	r.taken.bytes = malloc(QUEUE_BYTES);
	r.conn_value = calloc(1, r.conn_value_size ? r.conn_value_size : 1);
	if (!r.held.bytes || !r.queue.bytes || !r.taken.bytes || !r.conn_value)
		return "malloc";
	if (ring_fd < 0)
		return NULL;
	r.ring = ring_buffer__new(ring_fd, take_record, NULL, NULL);
	if (!r.ring)
		return "ring_buffer__new";
	return epoll_add(r.epoll, ring_buffer__epoll_fd(r.ring), EPOLLIN, SOURCE_RING) ? "epoll_ctl" : NULL;
}

static napi_value reactor_start(napi_env env, napi_callback_info info)
{
	int32_t ring = -1, conns = -1;
	napi_value options, callback;
	uint64_t later_type = UINT64_MAX;
	uint32_t later_ms = 0;
	sigset_t all, before;
	const char *failed;
	int error;

	if (r.running)
		return throw_errno(env, "reactorStart", EALREADY);
	r.conn_value_size = r.closed_offset = 0;
	r.later_key_offset = r.later_cookie_offset = r.cookie_offset = 0;
	r.wake_types = 0;
	if (!take(env, info, "vv", &options, &callback) || !option_i32(env, options, "ringbufFd", &ring) ||
	    !option_i32(env, options, "connsMapFd", &conns) ||
	    !option_u32(env, options, "connValueSize", &r.conn_value_size) ||
	    !option_u32(env, options, "closedOffset", &r.closed_offset) ||
	    !option_u64(env, options, "wakeTypes", &r.wake_types) ||
	    !option_u64(env, options, "laterType", &later_type) ||
	    !option_u32(env, options, "laterMs", &later_ms) ||
	    !option_u32(env, options, "laterKeyOffset", &r.later_key_offset) ||
	    !option_u32(env, options, "laterCookieOffset", &r.later_cookie_offset) ||
	    !option_u32(env, options, "cookieOffset", &r.cookie_offset))
		return NULL;
	r.conns = conns;
	if (conns >= 0 && !conns_fits())
		return throw_errno(env, "reactorStart: connsMapFd", errno);
	if (later_type <= UINT32_MAX && !later_fits(later_ms))
		return throw_errno(env, "reactorStart: laterType", EINVAL);
	r.later_type = later_type <= UINT32_MAX ? (int64_t)later_type : -1;
	r.later_ns = later_ms * 1000000ull;
	r.stats = (struct stats){0};
	r.env = env;
	failed = open_all(ring);
	if (failed) {
		error = errno;
		release_all();
		return throw_errno(env, failed, error);
	}
	if (napi_create_reference(env, callback, 1, &r.callback) != napi_ok) {
		release_all();
		return throw_type(env, "the callback is no function");
	}
	if (napi_create_threadsafe_function(env, NULL, NULL, make_text(env, "xlb-reactor"), 0, 1, NULL, NULL, NULL,
					    deliver, &r.call) != napi_ok) {
		napi_delete_reference(env, r.callback);
		release_all();
		return throw_errno(env, "napi_create_threadsafe_function", ENOMEM);
	}
	/* Signals are for the main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&r.thread, NULL, run, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error) {
		napi_release_threadsafe_function(r.call, napi_tsfn_abort);
		napi_delete_reference(env, r.callback);
		release_all();
		return throw_errno(env, "pthread_create", error);
	}
	r.running = true;
	/* After the function's own hook, so that it runs before that one. */
	napi_add_env_cleanup_hook(env, stop, NULL);
	return make_undefined(env);
}

static napi_value reactor_stop(napi_env env, napi_callback_info info)
{
	(void)info;
	stop(NULL);
	return make_undefined(env);
}

static bool check_running(napi_env env, const char *call)
{
	if (!r.running)
		throw_errno(env, call, ESRCH);
	return r.running;
}

static bool check_fd(napi_env env, int32_t fd)
{
	if (fd < 0 || fd >= MAX_FDS)
		throw_errno(env, "reactor", EBADF);
	return fd >= 0 && fd < MAX_FDS;
}

static napi_value reactor_ref(napi_env env, napi_callback_info info)
{
	(void)info;
	if (r.running)
		napi_ref_threadsafe_function(env, r.call);
	return make_undefined(env);
}

static napi_value reactor_unref(napi_env env, napi_callback_info info)
{
	(void)info;
	if (r.running)
		napi_unref_threadsafe_function(env, r.call);
	return make_undefined(env);
}

static napi_value reactor_listen(napi_env env, napi_callback_info info)
{
	struct watch *watch;
	int error = 0;
	int32_t fd;

	if (!take(env, info, "i", &fd) || !check_running(env, "reactorListen") || !check_fd(env, fd))
		return NULL;
	pthread_mutex_lock(&r.table_lock);
	if (r.table[fd].kind == WATCH_LISTENER) {
		error = EEXIST;
	} else if (r.listener_count == MAX_LISTENERS) {
		error = ENOSPC;
	} else {
		watch = watch_fd(fd, WATCH_LISTENER);
		if (!r.active && epoll_add(r.epoll, fd, EPOLLIN, epoll_data(watch->generation, fd))) {
			error = errno;
			forget_fd(fd);
		} else {
			r.listeners[r.listener_count++] = fd;
		}
	}
	pthread_mutex_unlock(&r.table_lock);
	return error ? throw_errno(env, "reactorListen", error) : make_undefined(env);
}

static napi_value reactor_watch(napi_env env, napi_callback_info info)
{
	uint32_t events, tag;
	struct watch *watch;
	int error = 0;
	int32_t fd;

	if (!take(env, info, "iuu", &fd, &events, &tag) || !check_running(env, "reactorWatch") || !check_fd(env, fd))
		return NULL;
	pthread_mutex_lock(&r.table_lock);
	if (r.table[fd].kind == WATCH_LISTENER) {
		pthread_mutex_unlock(&r.table_lock);
		return throw_errno(env, "reactorWatch", EEXIST);
	}
	watch = watch_fd(fd, WATCH_SOCKET);
	watch->tag = tag;
	if (epoll_arm(r.epoll, fd, events, epoll_data(watch->generation, fd))) {
		error = errno;
		forget_fd(fd);
	}
	pthread_mutex_unlock(&r.table_lock);
	return error ? throw_errno(env, "epoll_ctl", error) : make_undefined(env);
}

static napi_value reactor_arm(napi_env env, napi_callback_info info)
{
	struct watch *watch;
	bool known = false;
	uint32_t events;
	int error = 0;
	int32_t fd;

	if (!take(env, info, "iu", &fd, &events) || !check_running(env, "reactorArm") || !check_fd(env, fd))
		return NULL;
	pthread_mutex_lock(&r.table_lock);
	watch = &r.table[fd];
	known = watch->kind == WATCH_ANCHOR || watch->kind == WATCH_SOCKET;
	if (known && epoll_arm(r.epoll, fd, events, epoll_data(watch->generation, fd)))
		error = errno;
	pthread_mutex_unlock(&r.table_lock);
	return error ? throw_errno(env, "epoll_ctl", error) : make_bool(env, known);
}

static napi_value reactor_forget(napi_env env, napi_callback_info info)
{
	enum watch_kind kind;
	int32_t fd;

	if (!take(env, info, "i", &fd))
		return NULL;
	if (!r.running || fd < 0 || fd >= MAX_FDS)
		return make_bool(env, false);
	pthread_mutex_lock(&r.table_lock);
	kind = r.table[fd].kind;
	if (kind == WATCH_LISTENER) {
		uint32_t i = 0;

		while (r.listeners[i] != fd)
			i++;
		r.listeners[i] = r.listeners[--r.listener_count];
	}
	if (kind != WATCH_NONE) {
		epoll_remove(r.epoll, fd);
		forget_fd(fd);
	}
	pthread_mutex_unlock(&r.table_lock);
	return make_bool(env, kind != WATCH_NONE && kind != WATCH_GONE);
}

/* Is an event of that generation still about this fd? */
static napi_value reactor_is_current(napi_env env, napi_callback_info info)
{
	uint32_t generation;
	bool current;
	int32_t fd;

	if (!take(env, info, "iu", &fd, &generation))
		return NULL;
	if (!r.running || fd < 0 || fd >= MAX_FDS)
		return make_bool(env, false);
	pthread_mutex_lock(&r.table_lock);
	current = r.table[fd].kind != WATCH_NONE && r.table[fd].generation == generation;
	pthread_mutex_unlock(&r.table_lock);
	return make_bool(env, current);
}

/* JavaScript has come to the news that an anchor is gone: its number may be given away again. */
static napi_value reactor_bury(napi_env env, napi_callback_info info)
{
	uint32_t generation;
	bool gone;
	int32_t fd;

	if (!take(env, info, "iu", &fd, &generation))
		return NULL;
	if (!r.running || fd < 0 || fd >= MAX_FDS)
		return make_bool(env, false);
	pthread_mutex_lock(&r.table_lock);
	gone = r.table[fd].kind == WATCH_GONE && r.table[fd].generation == generation;
	if (gone) {
		forget_fd(fd);
		close(fd);
	}
	pthread_mutex_unlock(&r.table_lock);
	return make_bool(env, gone);
}

static napi_value reactor_stats(napi_env env, napi_callback_info info)
{
	napi_value result = make_object(env);
	const struct {
		const char *name;
		uint64_t *value;
	} rows[] = {
		{"accepted", &r.stats.accepted},
		{"fastClosed", &r.stats.fast_closed},
		{"handed", &r.stats.handed},
		{"acceptErrors", &r.stats.accept_errors},
		{"ticks", &r.stats.ticks},
		{"rounds", &r.stats.rounds},
		{"records", &r.stats.records},
		{"recordsDropped", &r.stats.records_dropped},
		{"pauses", &r.stats.pauses},
		{"calls", &r.stats.calls},
		{"needless", &r.stats.needless},
	};

	(void)info;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		set(env, result, rows[i].name, make_number(env, __atomic_load_n(rows[i].value, __ATOMIC_RELAXED)));
	return result;
}

const struct entry reactor_functions[] = {
	{"reactorStart", reactor_start},
	{"reactorStop", reactor_stop},
	{"reactorRef", reactor_ref},
	{"reactorUnref", reactor_unref},
	{"reactorListen", reactor_listen},
	{"reactorWatch", reactor_watch},
	{"reactorArm", reactor_arm},
	{"reactorForget", reactor_forget},
	{"reactorIsCurrent", reactor_is_current},
	{"reactorBury", reactor_bury},
	{"reactorStats", reactor_stats},
	{NULL, NULL},
};
