// SPDX-License-Identifier: Apache-2.0
/* Sockets as file descriptors: what Node's own sockets do not let one do between socket(2) and connect(2). */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANY_PORT 9 /* a route is asked for by a connected UDP socket, which needs some port */
#define RECEIVE_BYTES 262144

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static bool parse_address(napi_env env, const char *ip, uint32_t port, union address *out, socklen_t *length)
{
	memset(out, 0, sizeof(*out));
	if (port > 65535)
		return throw_range(env, "a port has 16 bits"), false;
	if (inet_pton(AF_INET, ip, &out->v4.sin_addr) == 1) {
		out->v4.sin_family = AF_INET;
		out->v4.sin_port = htons(port);
		*length = sizeof(out->v4);
		return true;
	}
	if (inet_pton(AF_INET6, ip, &out->v6.sin6_addr) == 1) {
		out->v6.sin6_family = AF_INET6;
		out->v6.sin6_port = htons(port);
		*length = sizeof(out->v6);
		return true;
	}
	return throw_type(env, "not an IP address"), false;
}

static void set_address(napi_env env, napi_value object, const union address *address, const char *ip_name,
			const char *port_name)
{
	bool is_v6 = address->any.sa_family == AF_INET6;
	const void *ip = is_v6 ? (const void *)&address->v6.sin6_addr : &address->v4.sin_addr;
	char text[INET6_ADDRSTRLEN] = "";

	inet_ntop(address->any.sa_family, ip, text, sizeof(text));
	set(env, object, ip_name, make_text(env, text));
	set(env, object, port_name, make_number(env, ntohs(is_v6 ? address->v6.sin6_port : address->v4.sin_port)));
}

static napi_value give_up(napi_env env, int fd, const char *call)
{
	int error = errno;

	if (fd >= 0)
		close(fd);
	return throw_errno(env, call, error);
}

static int stream_socket(int family)
{
	return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* The privileged option goes beyond net.core.*mem_max; without the privilege the plain one does what it can. */
static int set_buffer(int fd, int forced, int plain, uint32_t size)
{
	if (!size || !setsockopt(fd, SOL_SOCKET, forced, &size, sizeof(size)))
		return 0;
	return errno == EPERM ? setsockopt(fd, SOL_SOCKET, plain, &size, sizeof(size)) : -1;
}

struct connect_options {
	uint32_t sndbuf, rcvbuf; /* 0: the kernel's default, which it tunes */
	bool no_delay;
	struct text source; /* "": the kernel's choice */
};

static bool read_options(napi_env env, napi_value object, struct connect_options *out)
{
	*out = (struct connect_options){.no_delay = true};
	if (!object)
		return true;
	return option_u32(env, object, "sndbuf", &out->sndbuf) && option_u32(env, object, "rcvbuf", &out->rcvbuf) &&
	       option_bool(env, object, "noDelay", &out->no_delay) &&
	       option_text(env, object, "source", &out->source);
}

/* The source address that the kernel would choose towards `peer`, with port 0. */
static int source_towards(const union address *peer, socklen_t peer_length, union address *source)
{
	union address probe = *peer;
	socklen_t length = sizeof(*source);
	int fd = socket(peer->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), failed, error;

	if (fd < 0)
		return -1;
	if (probe.any.sa_family == AF_INET6)
		probe.v6.sin6_port = htons(ANY_PORT);
	else
		probe.v4.sin_port = htons(ANY_PORT);
	failed = connect(fd, &probe.any, peer_length) || getsockname(fd, &source->any, &length);
	error = errno;
	close(fd);
	errno = error;
	if (failed)
		return -1;
	if (source->any.sa_family == AF_INET6)
		source->v6.sin6_port = 0;
	else
		source->v4.sin_port = 0;
	return 0;
}

#define ACCEPTED_BUFFER (512 << 10)

static napi_value sock_listen(napi_env env, napi_callback_info info)
{
	uint32_t port, backlog;
	union address address;
	napi_value result;
	socklen_t length;
	struct text ip;
	int fd, on = 1;

	if (!take(env, info, "suu", &ip, &port, &backlog) || !parse_address(env, ip.chars, port, &address, &length))
		return NULL;
	fd = stream_socket(address.any.sa_family);
	if (fd < 0)
		return give_up(env, fd, "socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
		return give_up(env, fd, "setsockopt SO_REUSEADDR");
	/* Those that are accepted inherit it: what waits for the slow path must not grow with TCP's autotuning. */
	if (set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, ACCEPTED_BUFFER))
		return give_up(env, fd, "setsockopt SO_RCVBUF");
	if (set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, ACCEPTED_BUFFER))
		return give_up(env, fd, "setsockopt SO_SNDBUF");
	if (address.any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)))
		return give_up(env, fd, "setsockopt IPV6_V6ONLY");
	if (bind(fd, &address.any, length))
		return give_up(env, fd, "bind");
	if (listen(fd, backlog))
		return give_up(env, fd, "listen");
	length = sizeof(address);
	if (getsockname(fd, &address.any, &length))
		return give_up(env, fd, "getsockname");
	result = make_object(env);
	set(env, result, "fd", make_number(env, fd));
	set_address(env, result, &address, "ip", "port");
	return result;
}

/* A socket with the options applied, not yet bound. -1: an exception was thrown. */
static int prepared_socket(napi_env env, const struct connect_options *options, int family)
{
	int fd = stream_socket(family), on = 1;

	if (fd < 0)
		return give_up(env, fd, "socket"), -1;
	if (set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, options->sndbuf))
		return give_up(env, fd, "setsockopt SO_SNDBUF"), -1;
	if (set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, options->rcvbuf))
		return give_up(env, fd, "setsockopt SO_RCVBUF"), -1;
	if (options->no_delay && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		return give_up(env, fd, "setsockopt TCP_NODELAY"), -1;
	return fd;
}

static napi_value sock_bind(napi_env env, napi_callback_info info)
{
	struct connect_options options;
	union address peer, source;
	napi_value object = NULL, result;
	socklen_t length;
	struct text ip;
	int fd;

	if (!take(env, info, "s|v", &ip, &object) || !read_options(env, object, &options) ||
	    !parse_address(env, ip.chars, 0, &peer, &length))
		return NULL;
	if (options.source.chars[0]) {
		if (!parse_address(env, options.source.chars, 0, &source, &length))
			return NULL;
	} else if (source_towards(&peer, length, &source))
		return throw_errno(env, "connect (looking for a source address)", errno);
	fd = prepared_socket(env, &options, peer.any.sa_family);
	if (fd < 0)
		return NULL;
	if (bind(fd, &source.any, length))
		return give_up(env, fd, "bind");
	length = sizeof(source);
	if (getsockname(fd, &source.any, &length))
		return give_up(env, fd, "getsockname");
	result = make_object(env);
	set(env, result, "fd", make_number(env, fd));
	set_address(env, result, &source, "localIp", "localPort");
	return result;
}

/* 1: in progress, 0: connected, -1: errno */
static int start_connect(int fd, const union address *peer, socklen_t length)
{
	if (!connect(fd, &peer->any, length))
		return 0;
	return errno == EINPROGRESS ? 1 : -1;
}

static napi_value sock_connect(napi_env env, napi_callback_info info)
{
	union address peer;
	socklen_t length;
	int in_progress;
	struct text ip;
	uint32_t port;
	int32_t fd;

	if (!take(env, info, "isu", &fd, &ip, &port) || !parse_address(env, ip.chars, port, &peer, &length))
		return NULL;
	in_progress = start_connect(fd, &peer, length);
	return in_progress < 0 ? throw_errno(env, "connect", errno) : make_bool(env, in_progress);
}

static napi_value connect_start(napi_env env, napi_callback_info info)
{
	struct connect_options options;
	union address peer, local;
	napi_value object = NULL, result;
	int fd, in_progress;
	socklen_t length;
	struct text ip;
	uint32_t port;

	if (!take(env, info, "su|v", &ip, &port, &object) || !read_options(env, object, &options) ||
	    !parse_address(env, ip.chars, port, &peer, &length))
		return NULL;
	fd = prepared_socket(env, &options, peer.any.sa_family);
	if (fd < 0)
		return NULL;
	in_progress = start_connect(fd, &peer, length);
	if (in_progress < 0)
		return give_up(env, fd, "connect");
	length = sizeof(local);
	if (getsockname(fd, &local.any, &length))
		return give_up(env, fd, "getsockname");
	result = make_object(env);
	set(env, result, "fd", make_number(env, fd));
	set_address(env, result, &local, "localIp", "localPort");
	set(env, result, "inProgress", make_bool(env, in_progress));
	return result;
}

static napi_value sock_error(napi_env env, napi_callback_info info)
{
	socklen_t length = sizeof(int);
	int error = 0;
	int32_t fd;

	if (!take(env, info, "i", &fd))
		return NULL;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length))
		return throw_errno(env, "getsockopt SO_ERROR", errno);
	return make_number(env, error);
}

static napi_value sock_cookie(napi_env env, napi_callback_info info)
{
	socklen_t length = sizeof(uint64_t);
	uint64_t cookie = 0;
	int32_t fd;

	if (!take(env, info, "i", &fd))
		return NULL;
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length))
		return throw_errno(env, "getsockopt SO_COOKIE", errno);
	return make_u64(env, cookie);
}

static napi_value sock_names(napi_env env, napi_callback_info info)
{
	socklen_t local_length, peer_length;
	union address local, peer;
	napi_value result;
	int32_t fd;

	if (!take(env, info, "i", &fd))
		return NULL;
	local_length = peer_length = sizeof(local);
	if (getsockname(fd, &local.any, &local_length))
		return throw_errno(env, "getsockname", errno);
	if (getpeername(fd, &peer.any, &peer_length))
		return throw_errno(env, "getpeername", errno);
	result = make_object(env);
	set_address(env, result, &local, "localIp", "localPort");
	set_address(env, result, &peer, "peerIp", "peerPort");
	return result;
}

static napi_value sock_tcp_info(napi_env env, napi_callback_info info)
{
	struct tcp_info tcp = {0};
	socklen_t length = sizeof(tcp);
	napi_value result;
	int32_t fd;

	if (!take(env, info, "i", &fd))
		return NULL;
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &tcp, &length))
		return throw_errno(env, "getsockopt TCP_INFO", errno);
	result = make_object(env);
	set(env, result, "state", make_number(env, tcp.tcpi_state));
	set(env, result, "unacked", make_number(env, tcp.tcpi_unacked));
	set(env, result, "notsent", make_number(env, tcp.tcpi_notsent_bytes));
	set(env, result, "rcvSpace", make_number(env, tcp.tcpi_rcv_space));
	set(env, result, "rttUs", make_number(env, tcp.tcpi_rtt));
	return result;
}

#define SYSTEMS_OWN UINT32_MAX /* of no option: each has 15 bits at most */

static bool set_if_given(int fd, int option, uint32_t value)
{
	return value == SYSTEMS_OWN || !setsockopt(fd, IPPROTO_TCP, option, &value, sizeof(value));
}

static napi_value set_keepalive(napi_env env, napi_callback_info info)
{
	uint32_t time = SYSTEMS_OWN, interval = SYSTEMS_OWN, probes = SYSTEMS_OWN;
	napi_value options;
	int on = 1;
	int32_t fd;

	if (!take(env, info, "iv", &fd, &options) || !option_u32(env, options, "time", &time) ||
	    !option_u32(env, options, "interval", &interval) || !option_u32(env, options, "probes", &probes))
		return NULL;
	if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)))
		return throw_errno(env, "setsockopt SO_KEEPALIVE", errno);
	if (!set_if_given(fd, TCP_KEEPIDLE, time))
		return throw_errno(env, "setsockopt TCP_KEEPIDLE", errno);
	if (!set_if_given(fd, TCP_KEEPINTVL, interval))
		return throw_errno(env, "setsockopt TCP_KEEPINTVL", errno);
	if (!set_if_given(fd, TCP_KEEPCNT, probes))
		return throw_errno(env, "setsockopt TCP_KEEPCNT", errno);
	return make_undefined(env);
}

static bool read_option(napi_env env, int fd, int level, int option, int *value)
{
	socklen_t length = sizeof(*value);

	if (!getsockopt(fd, level, option, value, &length))
		return true;
	throw_errno(env, "getsockopt", errno);
	return false;
}

static napi_value keepalive_of(napi_env env, napi_callback_info info)
{
	int on, time, interval, probes;
	napi_value result;
	int32_t fd;

	if (!take(env, info, "i", &fd) || !read_option(env, fd, SOL_SOCKET, SO_KEEPALIVE, &on) ||
	    !read_option(env, fd, IPPROTO_TCP, TCP_KEEPIDLE, &time) ||
	    !read_option(env, fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval) ||
	    !read_option(env, fd, IPPROTO_TCP, TCP_KEEPCNT, &probes))
		return NULL;
	if (!on)
		return make_null(env);
	result = make_object(env);
	set(env, result, "time", make_number(env, time));
	set(env, result, "interval", make_number(env, interval));
	set(env, result, "probes", make_number(env, probes));
	return result;
}

static napi_value sock_outq(napi_env env, napi_callback_info info)
{
	int queued = 0;
	int32_t fd;

	if (!take(env, info, "i", &fd))
		return NULL;
	return ioctl(fd, SIOCOUTQ, &queued) ? throw_errno(env, "ioctl SIOCOUTQ", errno) : make_number(env, queued);
}

static napi_value shutdown_write(napi_env env, napi_callback_info info)
{
	int32_t fd;

	if (!take(env, info, "i", &fd))
		return NULL;
	return shutdown(fd, SHUT_WR) ? throw_errno(env, "shutdown", errno) : make_undefined(env);
}

static napi_value close_reset(napi_env env, napi_callback_info info)
{
	struct linger at_once = {.l_onoff = 1};
	int32_t fd;

	if (!take(env, info, "i", &fd))
		return NULL;
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)))
		return give_up(env, errno == EBADF ? -1 : fd, "setsockopt SO_LINGER");
	return close(fd) ? throw_errno(env, "close", errno) : make_undefined(env);
}

static napi_value dup_fd(napi_env env, napi_callback_info info)
{
	int32_t fd;
	int copy;

	if (!take(env, info, "i", &fd))
		return NULL;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return copy < 0 ? throw_errno(env, "fcntl F_DUPFD_CLOEXEC", errno) : make_number(env, copy);
}

static napi_value receive(napi_env env, napi_callback_info info, int flags)
{
	static uint8_t room[RECEIVE_BYTES]; /* JavaScript's thread alone comes here */
	uint32_t length;
	ssize_t got;
	int32_t fd;

	if (!take(env, info, "iu", &fd, &length))
		return NULL;
	if (length > sizeof(room))
		length = sizeof(room);
	do
		got = recv(fd, room, length, flags | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0 && errno == EAGAIN)
		return make_null(env);
	return got < 0 ? throw_errno(env, "recv", errno) : make_buffer(env, room, got);
}

static napi_value recv_nonblock(napi_env env, napi_callback_info info)
{
	return receive(env, info, 0);
}

static napi_value peek_nonblock(napi_env env, napi_callback_info info)
{
	return receive(env, info, MSG_PEEK);
}

static napi_value send_nonblock(napi_env env, napi_callback_info info)
{
	struct bytes bytes;
	uint64_t offset = 0;
	ssize_t sent;
	int32_t fd;

	if (!take(env, info, "ib|q", &fd, &bytes, &offset))
		return NULL;
	if (offset > bytes.length)
		return throw_range(env, "offset beyond the buffer");
	do
		sent = send(fd, bytes.data + offset, bytes.length - offset, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno == EAGAIN)
		return make_number(env, -1);
	return sent < 0 ? throw_errno(env, "send", errno) : make_number(env, sent);
}

/* An address is ours when a socket can be bound to it. */
static napi_value is_local_address(napi_env env, napi_callback_info info)
{
	union address address;
	socklen_t length;
	struct text ip;
	int fd, error;

	if (!take(env, info, "s", &ip) || !parse_address(env, ip.chars, 0, &address, &length))
		return NULL;
	fd = socket(address.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return throw_errno(env, "socket", errno);
	error = bind(fd, &address.any, length) ? errno : 0;
	close(fd);
	if (error && error != EADDRNOTAVAIL)
		return throw_errno(env, "bind", error);
	return make_bool(env, !error);
}

/* ---- how a socket shows itself to an application: asked by the probe ---- */

static napi_value sock_accept(napi_env env, napi_callback_info info)
{
	int32_t listener;
	int fd;

	if (!take(env, info, "i", &listener))
		return NULL;
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0 && errno == EAGAIN)
		return make_null(env);
	return fd < 0 ? throw_errno(env, "accept4", errno) : make_number(env, fd);
}

static napi_value sock_inq(napi_env env, napi_callback_info info)
{
	int queued = 0;
	int32_t fd;

	if (!take(env, info, "i", &fd))
		return NULL;
	return ioctl(fd, FIONREAD, &queued) ? throw_errno(env, "ioctl FIONREAD", errno) : make_number(env, queued);
}

static napi_value sock_splice(napi_env env, napi_callback_info info)
{
	uint32_t length;
	int pipes[2], error;
	ssize_t moved;
	int32_t fd;

	if (!take(env, info, "iu", &fd, &length))
		return NULL;
	if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK))
		return throw_errno(env, "pipe2", errno);
	moved = splice(fd, NULL, pipes[1], NULL, length, SPLICE_F_NONBLOCK);
	error = errno;
	close(pipes[0]);
	close(pipes[1]);
	if (moved < 0 && error == EAGAIN)
		return make_number(env, -1);
	return moved < 0 ? throw_errno(env, "splice", error) : make_number(env, moved);
}

static napi_value epoll_open(napi_env env, napi_callback_info info)
{
	struct epoll_event event = {0};
	int32_t fd;
	int epoll;

	if (!take(env, info, "iu", &fd, &event.events))
		return NULL;
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0)
		return throw_errno(env, "epoll_create1", errno);
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		return give_up(env, epoll, "epoll_ctl");
	return make_number(env, epoll);
}

static napi_value epoll_ready(napi_env env, napi_callback_info info)
{
	struct epoll_event event = {0};
	uint32_t timeout;
	int32_t epoll;
	int count;

	if (!take(env, info, "iu", &epoll, &timeout))
		return NULL;
	do
		count = epoll_wait(epoll, &event, 1, timeout);
	while (count < 0 && errno == EINTR);
	return count < 0 ? throw_errno(env, "epoll_wait", errno) : make_number(env, count ? event.events : 0);
}

const struct entry sock_functions[] = {
	{"listen", sock_listen},
	{"sockBind", sock_bind},
	{"sockConnect", sock_connect},
	{"connectStart", connect_start},
	{"sockError", sock_error},
	{"sockCookie", sock_cookie},
	{"sockNames", sock_names},
	{"sockTcpInfo", sock_tcp_info},
	{"setKeepalive", set_keepalive},
	{"keepaliveOf", keepalive_of},
	{"sockOutq", sock_outq},
	{"shutdownWrite", shutdown_write},
	{"closeReset", close_reset},
	{"dupFd", dup_fd},
	{"recvNonblock", recv_nonblock},
	{"peekNonblock", peek_nonblock},
	{"sendNonblock", send_nonblock},
	{"isLocalAddress", is_local_address},
	{"sockAccept", sock_accept},
	{"sockInq", sock_inq},
	{"sockSplice", sock_splice},
	{"epollOpen", epoll_open},
	{"epollReady", epoll_ready},
	{NULL, NULL},
};
