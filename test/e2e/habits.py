"""Applications of many habits, for habits.test.ts: a line on stdin is a habit to play; see Trip.

Each habit speaks to a server of peer.py and checks every byte that it gets. What is wrong raises; the answer is
{"id", "requests"} or {"id", "error"}.
"""

import array
import ctypes
import errno
import fcntl
import http.client
import json
import mmap
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import traceback
import zlib

from peer import headers_of, pattern

PATIENCE_S = 8
BIG = 200_000
FIONREAD = termios.FIONREAD
SO_ZEROCOPY = 60
MSG_ZEROCOPY = 0x4000000
SO_EE_ORIGIN_ZEROCOPY = 5
ESTABLISHED = 1


class Wrong(Exception):
    pass


def check(true, what):
    if not true:
        raise Wrong(what)


def same(got, expected, what):
    if got == expected:
        return
    if isinstance(got, (bytes, bytearray)) and len(expected) > 200:
        at = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
        raise Wrong(f"{what}: {len(got)} bytes of {len(expected)}, the first difference at {at}")
    raise Wrong(f"{what}: {got!r}, not {expected!r}")


class Ask:
    """A request, and the one body that is a right answer to it."""

    def __init__(self, path, head, body, nonce, answer):
        self.path = path
        self.head = head
        self.raw = head + body
        self.nonce = nonce
        self.body = answer
        self.told = None if nonce.encode() in answer else nonce


def read_some(sock, size, answer):
    """A blocking read that says what it was for when it fails."""
    try:
        return sock.recv(size)
    except OSError as error:
        what = f"after {len(answer.data)} bytes of the answer to {answer.ask.nonce}, {answer.ask.path}"
        raise Wrong(f"a blocking recv says {errno.errorcode[error.errno]} {what}") from None


class Answer:
    """Bytes in any pieces; `missing` says how many are due, as far as is known."""

    def __init__(self, ask):
        self.ask = ask
        self.data = bytearray()
        self.head_length = 0
        self.whole = 0
        self.interim = 0

    def feed(self, data):
        check(len(data) > 0, f"the connection ended after {len(self.data)} bytes of {self.whole or 'a head'}")
        self.data += data
        while not self.head_length and self.data[9:10] == b"1" and b"\r\n\r\n" in self.data:
            del self.data[: self.data.index(b"\r\n\r\n") + 4]
            self.interim += 1
        if not self.head_length and b"\r\n\r\n" in self.data:
            self.head_length = self.data.index(b"\r\n\r\n") + 4
            fields = headers_of(bytes(self.data[: self.head_length]))
            self.whole = self.head_length + int(fields["content-length"])
        if self.done():
            self.verify()

    def done(self):
        return self.whole > 0 and len(self.data) >= self.whole

    def missing(self):
        return self.whole - len(self.data) if self.whole else 1

    def verify(self):
        same(bytes(self.data[9:12]), b"200", "status")
        fields = headers_of(bytes(self.data[: self.head_length]))
        same(fields.get("x-nonce"), self.ask.told, "nonce")
        same(bytes(self.data[self.head_length :]), self.ask.body, "body")


class Trip:
    """One habit on one way: {"id", "habit", "ip", "port", "host", "way", "declined", ...}."""

    def __init__(self, order):
        self.order = order
        self.host = order["host"]
        self.to = (order["ip"], order["port"])
        self.requests = 0
        self.open = []

    def ask(self, path="/echo", body=b"", more=""):
        """GET, or POST with a body. The kernel path declines what has a Keep-Alive field."""
        self.requests += 1
        nonce = f"{self.order['id']}.{self.requests}"
        fields = f"Host: {self.host}\r\nX-Nonce: {nonce}\r\n{more}"
        if self.order["declined"]:
            fields += "Keep-Alive: timeout=5\r\n"
        if body:
            fields += f"Content-Length: {len(body)}\r\n"
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\n{fields}\r\n".encode()
        if path == "/big":
            expected = pattern(0, BIG)
        elif path == "/pieces":
            expected = b"0123456789" * 64
        elif path == "/late":
            expected = b"0123456789abcdefghij"
        else:
            expected = f"{self.host} {path} {nonce} {len(body)} {zlib.crc32(body)}".encode()
        return Ask(path, head, body, nonce, expected)

    def socket(self, family=socket.AF_INET):
        """Truly blocking: a timeout would make Python poll. What hangs is ended by the alarm."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        self.open.append(sock)
        return sock

    def connect(self, to=None):
        sock = self.socket()
        sock.connect(to or self.to)
        return sock

    def close(self):
        for sock in self.open:
            sock.close()


def receive(sock, ask, size=65536):
    answer = Answer(ask)
    while not answer.done():
        answer.feed(read_some(sock, size, answer))
    return answer


def receive_by_poll(sock, ask):
    """As most programs do it: never asleep in a read."""
    answer = Answer(ask)
    while not answer.done():
        check(select.select([sock], [], [], 3)[0], "nothing to read for 3 s")
        answer.feed(read_some(sock, 65536, answer))
    return answer


def trade(sock, ask):
    sock.sendall(ask.raw)
    return receive(sock, ask)


def variety(trip, n=6):
    """Small and big ones in turn."""
    kinds = [("/echo", b""), ("/big", b""), ("/echo", pattern(7, 5_000))]
    for i in range(n):
        path, body = kinds[i % len(kinds)]
        yield trip.ask(path, body)


# ---- reading ----


def blocking(trip):
    sock = trip.connect()
    for ask in variety(trip):
        buffer = bytearray(ask.raw)
        sock.sendall(buffer)
        buffer[:] = b"!" * len(buffer)
        receive(sock, ask)


class Errand:
    """A non-blocking connection that trades one request after another."""

    def __init__(self, trip, n):
        self.sock = trip.connect()
        self.sock.setblocking(False)
        self.asks = list(variety(trip, n))
        self.out = memoryview(b"")
        self.next()

    def next(self):
        self.answer = Answer(self.asks.pop(0)) if self.asks else None
        if self.answer:
            self.out = memoryview(self.answer.ask.raw)

    def write(self):
        try:
            while self.out:
                self.out = self.out[self.sock.send(self.out) :]
        except BlockingIOError:
            pass

    def read(self, once=False):
        """Reads until there is no more; true when the answer is whole."""
        try:
            while True:
                got = self.sock.recv(10_000)
                check(self.answer, f"{len(got)} bytes that nobody asked for")
                self.answer.feed(got)
                if self.answer.done():
                    self.next()
                    return True
                if once:
                    return False
        except BlockingIOError:
            return False


def epoll_level(trip):
    poller = select.epoll()
    errands = {}
    for _ in range(3):
        errand = Errand(trip, 7)
        errands[errand.sock.fileno()] = errand
        poller.register(errand.sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP)
    busy = set(errands)
    while busy:
        ready = poller.poll(3)
        check(ready, "epoll says nothing for 3 s")
        for fd, events in ready:
            errand = errands[fd]
            check(not events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP), f"epoll says {events}")
            if events & select.EPOLLOUT:
                errand.write()
                if not errand.out:
                    poller.modify(fd, select.EPOLLIN | select.EPOLLRDHUP)
            if events & select.EPOLLIN and errand.read(once=True):
                if errand.answer:
                    poller.modify(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP)
                else:
                    busy.discard(fd)
    same(poller.poll(0.05), [], "events after everything was read")
    poller.close()


def epoll_edge(trip):
    poller = select.epoll()
    errands = {}
    for _ in range(3):
        errand = Errand(trip, 7)
        errands[errand.sock.fileno()] = errand
        poller.register(errand.sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)
    busy = set(errands)
    while busy:
        ready = poller.poll(3)
        check(ready, "epoll says nothing for 3 s")
        for fd, events in ready:
            errand = errands[fd]
            check(not events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP), f"epoll says {events}")
            errand.write()
            while errand.read():
                if not errand.answer:
                    busy.discard(fd)
                    break
                errand.write()
    poller.close()


def epoll_oneshot(trip):
    poller = select.epoll()
    errand = Errand(trip, 9)
    poller.register(errand.sock, 0)
    while errand.answer:
        errand.write()
        wanted = select.EPOLLIN | (select.EPOLLOUT if errand.out else 0)
        poller.modify(errand.sock, wanted | select.EPOLLONESHOT)
        check(poller.poll(3), "epoll says nothing for 3 s")
        errand.read(once=True)
    poller.close()


def select_and_poll(trip):
    sock = trip.connect()
    sock.setblocking(False)
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    for i, ask in enumerate(variety(trip, 8)):
        out = memoryview(ask.raw)
        while out:
            check(select.select([], [sock], [], 3)[1], "select never says writable")
            out = out[sock.send(out) :]
        answer = Answer(ask)
        while not answer.done():
            ready = poller.poll(3_000) if i % 2 else select.select([sock], [], [], 3)[0]
            check(ready, "no word that there is something to read for 3 s")
            answer.feed(sock.recv(4_096))
    same(poller.poll(30), [], "poll after everything was read")


def waiting(sock):
    count = array.array("i", [0])
    fcntl.ioctl(sock, FIONREAD, count)
    return count[0]


def fionread(trip):
    sock = trip.connect()
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    for ask in variety(trip, 9):
        sock.sendall(ask.raw)
        answer = Answer(ask)
        total = 0
        while not answer.done():
            check(poller.poll(3_000), "poll says nothing for 3 s")
            n = waiting(sock)
            check(n > 0, f"FIONREAD says {n}, poll says readable, {len(answer.data)} bytes were read")
            total += n
            got = sock.recv(n)
            same(len(got), n, "bytes read of those that FIONREAD told")
            answer.feed(got)
        same(total, len(answer.data), "the sum of FIONREAD")
        same(waiting(sock), 0, "FIONREAD after all was read")


def fionread_waits(trip):
    """An answer is left where it is until FIONREAD tells all of it."""
    sock = trip.connect()
    for size in (0, 3_000):
        ask = trip.ask(body=pattern(1, size))
        sock.sendall(ask.raw)
        first = Answer(ask)
        until = time.monotonic() + 3
        while not first.done() and time.monotonic() < until:
            if waiting(sock) > len(first.data):
                first = Answer(ask)
                first.feed(sock.recv(65536, socket.MSG_PEEK))
        check(first.done(), f"FIONREAD stays at {waiting(sock)}")
        same(waiting(sock), first.whole, "FIONREAD of a whole answer")
        same(sock.recv(65536), bytes(first.data), "what was peeked at and what was read")


def peek(trip):
    sock = trip.connect()
    for ask in variety(trip, 6):
        sock.sendall(ask.raw)
        answer = Answer(ask)
        while not answer.done():
            one = sock.recv(1, socket.MSG_PEEK)
            seen = sock.recv(5_000, socket.MSG_PEEK)
            again = sock.recv(3_000, socket.MSG_PEEK)
            got = sock.recv(min(len(seen), answer.missing()) if answer.whole else len(seen))
            same(seen[:1], one, "the first byte peeked at")
            same(again[: len(seen)], seen[: len(again)], "peeked at twice")
            same(got, seen[: len(got)], "what was peeked at and what was read")
            answer.feed(got)


def waitall(trip):
    sock = trip.connect()
    for ask in variety(trip, 6):
        sock.sendall(ask.raw)
        answer = Answer(ask)
        while not answer.whole:
            answer.feed(sock.recv(1))
        n = answer.missing()
        got = sock.recv(n, socket.MSG_WAITALL)
        check(len(got) == n, f"MSG_WAITALL gives {len(got)} bytes of {n}")
        answer.feed(got)


def waitall_late(trip):
    """The whole of an answer that comes in two parts, 60 ms apart, its length known beforehand."""
    sock = trip.connect()
    first = trade(sock, trip.ask("/late"))
    ask = trip.ask("/late")
    sock.sendall(ask.raw)
    got = sock.recv(first.whole, socket.MSG_WAITALL)
    check(len(got) == first.whole, f"MSG_WAITALL gives {len(got)} bytes of {first.whole}")
    answer = Answer(ask)
    answer.feed(got)
    check(answer.done(), "the answer is not whole")


def one_byte(trip):
    sock = trip.connect()
    for body in (b"", pattern(3, 900), b""):
        ask = trip.ask(body=body)
        sock.sendall(ask.raw)
        receive(sock, ask, 1)
    ask = trip.ask("/big")
    sock.sendall(ask.raw)
    answer = Answer(ask)
    while len(answer.data) < 3_000:
        answer.feed(sock.recv(1))
    while not answer.done():
        answer.feed(sock.recv(16_384))


def readv(trip):
    sock = trip.connect()
    for i, ask in enumerate(variety(trip, 8)):
        sock.sendall(ask.raw)
        answer = Answer(ask)
        while not answer.done():
            parts = [bytearray(n) for n in (1, 7, 100, 0, 5_000, 3)]
            n = os.readv(sock.fileno(), parts) if i % 2 else sock.recvmsg_into(parts)[0]
            answer.feed(b"".join(parts)[:n])


def read_in_time(trip):
    """A reader that is awake takes the bytes before whoever brought them has come to wake it, and sleeps again."""
    sock = trip.connect()
    for _ in range(200):
        ask = trip.ask("/pieces")
        sock.sendall(ask.raw)
        receive(sock, ask)


def hinted(trip):
    """An interim answer before the final one; the connection goes on behind it."""
    sock = trip.connect()
    for size in (0, 10, 20_000) * 5:
        same(trade(sock, trip.ask("/hinted", pattern(9, size))).interim, 1, "interim answers")


def refused(trip):
    """A server that refuses a body, of which it has read next to nothing, resets the connection behind its answer."""
    for path in ("/refused", "/refused-hinted", "/refused-hinted-at-once", "/refused-in-pieces") * 4:
        sock = trip.connect()
        trade(sock, trip.ask())
        # Until the daemon has accepted the connection, a body that comes behind its head takes the slow path.
        time.sleep(0.02)
        ask = trip.ask(path, pattern(3, 60_000))
        begun = len(ask.head) + 10
        sock.sendall(ask.raw[:begun])
        time.sleep(0.002)
        sock.sendall(ask.raw[begun:])
        answer = Answer(ask)
        while not answer.data.endswith(b"too large"):
            more = read_some(sock, 65536, answer)
            check(more, f"the end, {path}, after {bytes(answer.data)!r}")
            answer.data += more
            check(re.match(rb"HTTP/1.1 (103|413) ", answer.data), f"{path}: {bytes(answer.data)!r}")
        sock.close()


def cut_off(trip):
    """A server that goes in the middle of its answer, which is more than the client has room for."""
    for path in ("/cut", "/cut-late") * 8:
        sock = trip.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.connect(trip.to)
        trade(sock, trip.ask())
        time.sleep(0.02)
        sock.sendall(trip.ask(path).raw)
        got = b""
        try:
            while more := sock.recv(65536):
                got += more
        except (ConnectionResetError, BlockingIOError):
            pass
        else:
            raise Wrong(f"{path}: the end after {len(got)} bytes, and no reset")
        finally:
            sock.close()
        head, _, body = got.partition(b"\r\n\r\n")
        same(body, pattern(0, 60_000 if path == "/cut-late" else len(body)), f"{path}: the answer as far as it came")


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class Mmsghdr(ctypes.Structure):
    _fields_ = [("hdr", Msghdr), ("len", ctypes.c_uint)]


def mmsghdrs(buffers):
    out = (Mmsghdr * len(buffers))()
    for one, buffer in zip(out, buffers):
        one.hdr.iov = ctypes.pointer(Iovec(ctypes.addressof(buffer), len(buffer)))
        one.hdr.iovlen = 1
    return out


def mmsg(trip):
    """sendmmsg of a head and its body, recvmmsg of the answer."""
    libc = ctypes.CDLL(None, use_errno=True)
    sock = trip.connect()
    for size in (0, 10, 4_000):
        ask = trip.ask(body=pattern(5, size))
        parts = [part for part in (ask.head, ask.raw[len(ask.head) :]) if part]
        buffers = [(ctypes.c_char * len(part)).from_buffer(bytearray(part)) for part in parts]
        out = mmsghdrs(buffers)
        same(libc.sendmmsg(sock.fileno(), out, len(out), 0), len(out), "sendmmsg")
        same([m.len for m in out], [len(b) for b in buffers], "lengths sent")
        answer = Answer(ask)
        while not answer.done():
            check(select.select([sock], [], [], 3)[0], "nothing to read for 3 s")
            buffers = [(ctypes.c_char * 50)() for _ in range(4)]
            into = mmsghdrs(buffers)
            n = libc.recvmmsg(sock.fileno(), into, 4, socket.MSG_DONTWAIT, None)
            check(n > 0, f"recvmmsg gives {n}, errno {ctypes.get_errno()}")
            for i in range(n):
                answer.feed(buffers[i].raw[: into[i].len])


def rcvlowat(trip):
    """Above the mark there must be word of it."""
    sock = trip.connect()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 100_000)
    ask = trip.ask("/big")
    sock.sendall(ask.raw)
    check(select.select([sock], [], [], 3)[0], "not readable above the mark")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    receive(sock, ask)


def rcvtimeo(trip):
    sock = trip.connect()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 2, 0))
    for _ in range(2):
        ask = trip.ask("/slow")
        sock.sendall(ask.raw)
        answer = Answer(ask)
        timeouts = 0
        while not answer.done():
            began = time.monotonic()
            try:
                answer.feed(sock.recv(4_096))
            except BlockingIOError:
                timeouts += 1
                check(0.04 < time.monotonic() - began < 1, "SO_RCVTIMEO took another time than 50 ms")
        check(1 <= timeouts <= 20, f"{timeouts} timeouts")


# ---- who reads and writes ----


def fork(trip):
    sock = trip.connect()
    asks = [trip.ask() for _ in range(10)]
    asks[3] = trip.ask("/big")
    asks[8] = trip.ask("/big")
    trip.requests = 10
    trade(sock, asks[0])
    child = os.fork()
    if child == 0:
        try:
            for ask in asks[1:5]:
                trade(sock, ask)
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"child: {error!r}\n")
            os._exit(1)
    _, status = os.waitpid(child, 0)
    same(os.waitstatus_to_exitcode(status), 0, "exit status of the child")
    for ask in asks[5:]:
        trade(sock, ask)
    same(sock.getpeername(), trip.to, "getpeername in the parent")


def fork_at_once(trip):
    """A pre-forking client: the parent connects and closes, the child talks."""
    sock = trip.connect()
    asks = list(variety(trip, 4))
    child = os.fork()
    if child == 0:
        try:
            time.sleep(0.03)
            for ask in asks:
                trade(sock, ask)
            same(sock.getpeername(), trip.to, "getpeername in the child")
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"child: {error!r}\n")
            os._exit(1)
    sock.close()
    _, status = os.waitpid(child, 0)
    same(os.waitstatus_to_exitcode(status), 0, "exit status of the child")


def reader_and_writer(trip):
    sock = trip.connect()
    asks = [trip.ask("/big" if i % 10 == 7 else "/echo") for i in range(50)]
    read = threading.Semaphore(0)
    errors = []

    def reader():
        try:
            for ask in asks:
                receive(sock, ask)
                read.release()
        except Exception as error:
            errors.append(error)
            read.release()

    thread = threading.Thread(target=reader, daemon=True)
    thread.start()
    time.sleep(0.01)
    for i, ask in enumerate(asks):
        sock.sendall(ask.raw)
        check(read.acquire(timeout=3), f"no answer to request {i} for 3 s")
        if errors:
            raise errors[0]
    thread.join()


def reader_and_uploader(trip):
    """One thread sleeps in a read while another fills the socket's send buffer again and again."""
    sock = trip.connect()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
    trade(sock, trip.ask())
    for size in (100_000, 1_000_000):
        ask = trip.ask(body=pattern(31, size))
        errors = []

        def writer():
            try:
                time.sleep(0.02)
                sock.sendall(ask.raw)
            except OSError as error:
                errors.append(error)

        thread = threading.Thread(target=writer, daemon=True)
        thread.start()
        receive(sock, ask)
        thread.join()
        same(errors, [], "errors of the writer")


def signals(trip):
    """Signals arrive while a read sleeps: it must go on (SA_RESTART) or say EINTR, which Python hides."""
    signal.signal(signal.SIGUSR1, lambda *_: None)
    sock = trip.connect()
    me = threading.main_thread().ident
    for restart in (False, True):
        signal.siginterrupt(signal.SIGUSR1, not restart)
        over = threading.Event()

        def disturb():
            while not over.wait(0.03):
                signal.pthread_kill(me, signal.SIGUSR1)

        thread = threading.Thread(target=disturb, daemon=True)
        thread.start()
        try:
            trade(sock, trip.ask("/slow"))
            trade(sock, trip.ask("/slow"))
        finally:
            over.set()
            thread.join()


def dup(trip):
    sock = trip.connect()
    other = sock.dup()
    trip.open.append(other)
    trade(sock, trip.ask())
    trade(other, trip.ask("/big"))
    third = other.dup()
    trip.open.append(third)
    sock.close()
    for ask in variety(trip, 4):
        other.sendall(ask.raw)
        receive(third, ask)
    other.close()
    same(third.getpeername(), trip.to, "getpeername of the last one")
    trade(third, trip.ask())


def dup_in_flight(trip):
    """One descriptor is closed while an answer is under way."""
    sock = trip.connect()
    other = sock.dup()
    trip.open.append(other)
    ask = trip.ask("/slow")
    sock.sendall(ask.raw)
    sock.close()
    receive(other, ask)
    trade(other, trip.ask())


# ---- writing ----


def sendfile(trip):
    sock = trip.connect()
    trade(sock, trip.ask())
    for size in (10, 60_000, 300_000):
        ask = trip.ask(body=pattern(11, size))
        sock.sendall(ask.head, socket.MSG_MORE)
        with tempfile.TemporaryFile() as f:
            f.write(pattern(11, size))
            f.flush()
            at = 0
            while at < size:
                at += os.sendfile(sock.fileno(), f.fileno(), at, size - at)
        receive(sock, ask)
    trade(sock, trip.ask())


def sendfile_whole(trip):
    """Head and body lie in one file."""
    sock = trip.connect()
    for size in (0, 100, 20_000, 300_000):
        ask = trip.ask(body=pattern(13, size))
        with tempfile.TemporaryFile() as f:
            f.write(ask.raw)
            f.flush()
            at = 0
            while at < len(ask.raw):
                at += os.sendfile(sock.fileno(), f.fileno(), at, len(ask.raw) - at)
        receive(sock, ask)


def writev_all(sock, parts):
    while parts:
        n = os.writev(sock.fileno(), parts[:1_000])
        while parts and n >= len(parts[0]):
            n -= len(parts.pop(0))
        if n:
            parts[0] = parts[0][n:]


def writev(trip):
    sock = trip.connect()
    for size, pieces in ((0, 10), (20_000, 1_000), (200_000, 1_000), (500, 600)):
        ask = trip.ask(body=pattern(17, size))
        cuts = [len(ask.raw) * i // pieces for i in range(pieces + 1)]
        writev_all(sock, [ask.raw[a:b] for a, b in zip(cuts, cuts[1:])])
        receive(sock, ask)


def splice_into(trip):
    """From a pipe to the socket."""
    sock = trip.connect()
    r, w = os.pipe()
    try:
        for size in (0, 3_000, 50_000):
            ask = trip.ask(body=pattern(19, size))
            os.write(w, ask.raw)
            left = len(ask.raw)
            while left:
                left -= os.splice(r, sock.fileno(), left)
            receive(sock, ask)
    finally:
        os.close(r)
        os.close(w)


def splice_from(trip):
    """From the socket to a pipe, as HAProxy and Go's io.Copy do it."""
    sock = trip.connect()
    sock.setblocking(False)
    r, w = os.pipe()
    try:
        for ask in variety(trip, 4):
            sock.sendall(ask.raw)
            answer = Answer(ask)
            while not answer.done():
                check(select.select([sock], [], [], 3)[0], "nothing to read for 3 s")
                try:
                    n = os.splice(sock.fileno(), w, 32_768, flags=os.SPLICE_F_NONBLOCK)
                except BlockingIOError:
                    raise Wrong(f"splice says EAGAIN, select says readable, {len(answer.data)} bytes came") from None
                check(n > 0, f"splice takes it for the end, {waiting(sock)} bytes wait, {len(answer.data)} came")
                answer.feed(os.read(r, n))
    finally:
        os.close(r)
        os.close(w)


def completions(sock, wait_s):
    """Calls of sendmsg whose pages the kernel has given back."""
    done = 0
    poller = select.poll()
    poller.register(sock, 0)
    if poller.poll(wait_s * 1000):
        try:
            while True:
                _, control, _, _ = sock.recvmsg(0, 128, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
                for _, _, data in control:
                    _, origin, _, _, _, first, last = struct.unpack("IBBBBII", data[:16])
                    check(origin == SO_EE_ORIGIN_ZEROCOPY, f"an error of origin {origin}")
                    done += last - first + 1
        except BlockingIOError:
            pass
    return done


def zerocopy_send(sock, data):
    sent = calls = 0
    with mmap.mmap(-1, len(data)) as pages:
        pages[:] = data
        with memoryview(pages) as view:
            while sent < len(data):
                sent += sock.send(view[sent:], MSG_ZEROCOPY)
                calls += 1
    return calls


def receive_and_count(sock, ask):
    """Reads an answer; the completions that came meanwhile are returned."""
    answer = Answer(ask)
    done = 0
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    while not answer.done():
        ready = poller.poll(3_000)
        check(ready, "nothing to read for 3 s")
        if ready[0][1] & select.POLLERR:
            done += completions(sock, 0)
        if ready[0][1] & select.POLLIN:
            answer.feed(read_some(sock, 65536, answer))
    return done


def zerocopy(trip):
    sock = trip.connect()
    sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    trade(sock, trip.ask())
    for size in (0, 10_000, 100_000, 300_000):
        ask = trip.ask(body=pattern(23, size))
        zerocopy_send(sock, ask.raw)
        receive_and_count(sock, ask)
        completions(sock, 0)


def zerocopy_completion(trip):
    """A sender must learn that its pages are its own again."""
    sock = trip.connect()
    sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    for size in (0, 10_000, 100_000):
        ask = trip.ask(body=pattern(29, size))
        calls = zerocopy_send(sock, ask.raw)
        done = receive_and_count(sock, ask)
        until = time.monotonic() + 0.5
        while done < calls and time.monotonic() < until:
            done += completions(sock, 0.2)
        same(done, calls, f"completions of a request of {len(ask.raw)} bytes")


# ---- addresses and options ----


def connect_nonblocking(trip):
    for _ in range(3):
        sock = trip.socket()
        sock.setblocking(False)
        code = sock.connect_ex(trip.to)
        check(code in (0, errno.EINPROGRESS), f"connect says {errno.errorcode.get(code)}")
        check(select.select([], [sock], [], 3)[1], "not writable for 3 s")
        same(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0, "SO_ERROR")
        same(sock.getpeername(), trip.to, "getpeername")
        same(sock.connect_ex(trip.to) in (0, errno.EISCONN), True, "a second connect is done or EISCONN")
        sock.setblocking(True)
        trade(sock, trip.ask())
        same(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0, "SO_ERROR at the end")


def getpeername(trip):
    sock = trip.connect()
    same(sock.getpeername(), trip.to, "getpeername after connect")
    for ask in variety(trip, 3):
        trade(sock, ask)
        same(sock.getpeername(), trip.to, "getpeername after a request")
    child = os.fork()
    if child == 0:
        os._exit(0 if sock.getpeername() == trip.to else 1)
    same(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0, "getpeername in a child")
    fd = sock.fileno()
    got = subprocess.run(["python3", "-c", PEERNAME, str(fd)], pass_fds=[fd], capture_output=True)
    same(got.stdout.decode().strip(), "%s %d" % trip.to, "getpeername after exec")


PEERNAME = "import socket, sys; print(*socket.socket(fileno=int(sys.argv[1])).getpeername())"


def mapped(trip):
    """An IPv6 socket to ::ffff:a.b.c.d."""
    sock = trip.socket(socket.AF_INET6)
    to = ("::ffff:" + trip.to[0], trip.to[1], 0, 0)
    sock.connect(to)
    same(sock.getpeername(), to, "getpeername")
    for ask in variety(trip, 4):
        trade(sock, ask)
    same(sock.getpeername(), to, "getpeername after requests")
    wild = trip.socket(socket.AF_INET6)
    to = ("::ffff:" + trip.to[0], trip.order["wildcard"], 0, 0)
    if trip.order["way"] != "direct":
        wild.connect(to)
        same(wild.getpeername(), to, "getpeername at the wildcard")
        trade(wild, trip.ask())


def v6(trip):
    """Listeners on ::1 and on ::."""
    for port in (trip.order["v6"], trip.order["v6any"]):
        if trip.order["way"] == "direct":
            return
        sock = trip.socket(socket.AF_INET6)
        sock.connect(("::1", port))
        for ask in variety(trip, 4):
            trade(sock, ask)
        same(sock.getpeername(), ("::1", port, 0, 0), "getpeername")
        same(sock.getsockname()[0], "::1", "getsockname")


def wildcard(trip):
    """A listener of 0.0.0.0 takes its port on any address."""
    if trip.order["way"] == "direct":
        return
    for ip in ("127.0.0.1", "127.9.8.7", "127.200.1.254"):
        sock = trip.connect((ip, trip.order["wildcard"]))
        same(sock.getpeername(), (ip, trip.order["wildcard"]), "getpeername")
        for ask in variety(trip, 3):
            trade(sock, ask)
        same(sock.getpeername(), (ip, trip.order["wildcard"]), "getpeername after requests")


def tcp_info(sock):
    """State, bytes acknowledged by the peer, bytes received."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 248)
    return info[0], struct.unpack_from("Q", info, 120)[0], struct.unpack_from("Q", info, 128)[0]


def untouched(trip):
    """What is no listener is not ours: an own server, in v4 and v6, and the backend itself."""
    for family, ip in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        listener = trip.socket(family)
        listener.bind((ip, 0))
        listener.listen()
        sock = trip.socket(family)
        sock.connect(listener.getsockname())
        far, peer = listener.accept()
        trip.open.append(far)
        same(sock.getpeername(), listener.getsockname(), "getpeername of the client")
        same(peer, sock.getsockname(), "the client's address at the server")
        data = trip.ask().raw + pattern(0, 20_000)
        trip.requests -= 1
        for a, b in ((sock, far), (far, sock)):
            a.sendall(data)
            got = b""
            while len(got) < len(data):
                got += b.recv(65536)
            same(got, data, "bytes")
        for one in (sock, far):
            time.sleep(0.05)
            state, acked, received = tcp_info(one)
            same(state, ESTABLISHED, "state in TCP_INFO")
            check(acked - len(data) in (0, 1), f"{acked} bytes acknowledged of {len(data)}")
            same(received, len(data), "bytes received by TCP_INFO")
        sock.shutdown(socket.SHUT_WR)
        same(far.recv(10), b"", "the end")
    sock = trip.connect(tuple(trip.order["backend"]))
    same(sock.getpeername(), tuple(trip.order["backend"]), "getpeername at the backend")
    sock.sendall(f"GET /peer HTTP/1.1\r\nHost: {trip.host}\r\n\r\n".encode())
    got = sock.recv(65536).split(b"\r\n\r\n")[1].decode()
    same(got, "%s %d" % sock.getsockname(), "the client's address at the backend")
    state, acked, received = tcp_info(sock)
    check(state == ESTABLISHED and received > len(got), f"TCP_INFO: state {state}, {received} bytes received")


def retarget(trip):
    """A socket that was refused elsewhere, or that was cut off, connects again."""
    sock = trip.socket()
    check(sock.connect_ex(("127.0.0.1", 1)) == errno.ECONNREFUSED, "port 1 is not refused")
    sock.connect(trip.to)
    same(sock.getpeername(), trip.to, "getpeername")
    trade(sock, trip.ask())
    libc = ctypes.CDLL(None, use_errno=True)
    same(libc.connect(sock.fileno(), struct.pack("H14x", socket.AF_UNSPEC), 16), 0, "connect to AF_UNSPEC")
    sock.connect(trip.to)
    trade(sock, trip.ask())
    same(libc.connect(sock.fileno(), struct.pack("H14x", socket.AF_UNSPEC), 16), 0, "connect to AF_UNSPEC")
    sock.connect(tuple(trip.order["backend"]))
    same(sock.getpeername(), tuple(trip.order["backend"]), "getpeername at the backend")
    sock.sendall(f"GET /peer HTTP/1.1\r\nHost: {trip.host}\r\n\r\n".encode())
    got = sock.recv(65536).split(b"\r\n\r\n")[1].decode()
    same(got, "%s %d" % sock.getsockname(), "the client's address at the backend")


def bound(trip):
    """A client that binds before it connects."""
    sock = trip.socket()
    sock.bind(("127.0.0.55", 0))
    name = sock.getsockname()
    sock.connect(trip.to)
    same(sock.getsockname(), name, "getsockname")
    for ask in variety(trip, 3):
        trade(sock, ask)


def udp(trip):
    """A datagram to the listener's address is not ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as sock:
        server.bind(trip.to)
        sock.connect(trip.to)
        same(sock.getpeername(), trip.to, "getpeername")
        sock.send(b"datagram")
        check(select.select([server], [], [], 2)[0], "no datagram")
        same(server.recvfrom(100), (b"datagram", sock.getsockname()), "datagram")


def options(trip):
    sock = trip.connect()
    tcp = socket.IPPROTO_TCP
    for level, name, value in (
        (tcp, socket.TCP_NODELAY, 1),
        (tcp, socket.TCP_QUICKACK, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (tcp, socket.TCP_KEEPIDLE, 5),
        (tcp, socket.TCP_KEEPINTVL, 2),
        (tcp, socket.TCP_KEEPCNT, 3),
        (tcp, socket.TCP_USER_TIMEOUT, 20_000),
        (socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536),
        (socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536),
        (socket.SOL_SOCKET, socket.SO_PRIORITY, 3),
    ):
        sock.setsockopt(level, name, value)
        got = sock.getsockopt(level, name)
        check(got in (value, value * 2), f"option {level}, {name} is {got} after it was set to {value}")
        trade(sock, trip.ask())
    trade(sock, trip.ask("/big"))
    same(tcp_info(sock)[0], ESTABLISHED, "state in TCP_INFO")


def cork(trip):
    sock = trip.connect()
    trade(sock, trip.ask())
    for body in (b"", pattern(0, 4_000)):
        for cut in (3, 30, 10_000):
            ask = trip.ask(body=body)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            sock.sendall(ask.raw[:cut])
            if ask.raw[cut:]:
                sock.sendall(ask.raw[cut:])
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
            receive(sock, ask)
            ask = trip.ask(body=body)
            sock.sendall(ask.raw[:cut], socket.MSG_MORE if ask.raw[cut:] else 0)
            if ask.raw[cut:]:
                sock.sendall(ask.raw[cut:])
            receive(sock, ask)


# ---- the end ----


def half_close(trip):
    for path, body in (("/echo", b""), ("/big", b""), ("/echo", pattern(0, 30_000)), ("/slow", b"")):
        sock = trip.connect()
        ask = trip.ask(path, body)
        sock.sendall(ask.raw)
        sock.shutdown(socket.SHUT_WR)
        receive_by_poll(sock, ask)
        check(select.select([sock], [], [], 3)[0], "no end of the connection for 3 s")
        same(sock.recv(10), b"", "what comes after the answer")


def blocked_at_end(trip):
    """A read sleeps when the end of the connection comes."""
    for _ in range(3):
        sock = trip.connect()
        ask = trip.ask(more="Connection: close\r\n")
        sock.sendall(ask.raw)
        answer = receive(sock, ask)
        if trip.order["way"] != "direct":
            same(read_some(sock, 100, answer), b"", "what comes after the answer")


def blocked_half_closed(trip):
    """A read sleeps when the other side acknowledges that this one has ended."""
    for _ in range(3):
        sock = trip.connect()
        ask = trip.ask("/slow")
        sock.sendall(ask.raw)
        sock.shutdown(socket.SHUT_WR)
        receive(sock, ask)


def linger(trip):
    for seconds in (0, 1, 0, 1, 0, 1):
        sock = trip.connect()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
        trade(sock, trip.ask())
        trade(sock, trip.ask("/big"))
        began = time.monotonic()
        sock.close()
        took = time.monotonic() - began
        check(took < 0.5, f"close took {took:.2f} s")
    for seconds in (0, 1, 0, 1):
        sock = trip.connect()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
        sock.sendall(trip.ask("/slow").raw)
        time.sleep(0.01)
        sock.close()
        trade(trip.connect(), trip.ask())


def close_asked(trip):
    """Connection: close, read to the end, forty times."""
    for i in range(40):
        sock = trip.connect()
        ask = trip.ask("/big" if i % 10 == 5 else "/echo", more="Connection: close\r\n")
        sock.sendall(ask.raw)
        answer = receive_by_poll(sock, ask)
        if trip.order["way"] != "direct":
            check(select.select([sock], [], [], 3)[0], f"no end of the connection for 3 s after answer {i}")
            same(sock.recv(100), b"", f"what comes after answer {i} of {len(answer.data)} bytes")
        sock.close()


# ---- programs ----


def declined(trip):
    return ["-H", "Keep-Alive: timeout=5"] if trip.order["declined"] else []


def curl(trip):
    url = f"http://{trip.to[0]}:{trip.to[1]}"
    common = ["curl", "-sS", "--max-time", "5", "-H", f"Host: {trip.host}", *declined(trip)]
    for flags in ([], ["--http1.1", "--keepalive-time", "5"], ["--no-keepalive"], ["--tcp-nodelay"], ["-N"]):
        nonce = f"curl{trip.requests}"
        trip.requests += 2
        command = [*common, *flags, "-H", f"X-Nonce: {nonce}", f"{url}/echo", f"{url}/big", "-w", "|%{num_connects}|"]
        got = subprocess.run(command, capture_output=True)
        same(got.stderr, b"", "curl complains")
        expected = f"{trip.host} /echo {nonce} 0 0|1|".encode() + pattern(0, BIG) + b"|0|"
        same(got.stdout, expected, f"curl {' '.join(flags)}")
    for size in (10, 900, 100_000):
        trip.requests += 1
        command = [*common, "--data-binary", "@-", "-H", "X-Nonce: up", f"{url}/echo"]
        got = subprocess.run(command, input=pattern(0, size), capture_output=True)
        expected = f"{trip.host} /echo up {size} {zlib.crc32(pattern(0, size))}".encode()
        same((got.stdout, got.stderr), (expected, b""), f"curl uploads {size} bytes")
    trip.requests += 1
    got = subprocess.run([*common, "-I", f"{url}/echo"], capture_output=True)
    check(got.stdout.startswith(b"HTTP/1.1 200"), f"curl -I says {got.stdout!r}, {got.stderr!r}")


def http_client(trip):
    connection = http.client.HTTPConnection(*trip.to, timeout=5)
    sock = None
    for ask in variety(trip, 8):
        headers = {"Host": trip.host, "X-Nonce": ask.nonce, **({"Keep-Alive": "5"} if trip.order["declined"] else {})}
        body = ask.raw[len(ask.head) :]
        connection.request("POST" if body else "GET", ask.path, body or None, headers)
        if sock:
            check(connection.sock is sock, "the connection was not kept")
        sock = connection.sock
        response = connection.getresponse()
        same(response.status, 200, "status")
        same(response.read(), ask.body, "body")
    connection.close()


NODE = """
const http = require("node:http");
const { ip, port, asks } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const one = ({ path, headers, body, nonce }) => new Promise((resolve, reject) => {
  const req = http.request({ host: ip, port, path, headers, agent, method: body ? "POST" : "GET" }, (res) => {
    const parts = [];
    res.on("data", (d) => parts.push(d)).on("error", reject);
    res.on("end", () => resolve([nonce, res.headers["x-nonce"] ?? null, Buffer.concat(parts).toString("latin1")]));
  });
  req.on("error", reject);
  req.end(body ? Buffer.from(body, "latin1") : undefined);
});
Promise.all(asks.map(one)).then((all) => {
  process.stdout.write(JSON.stringify(all));
  agent.destroy();
}, (error) => { console.error(error); process.exit(1); });
"""


def node(trip):
    asks = list(variety(trip, 24))
    orders = []
    for ask in asks:
        headers = {"Host": trip.host, "X-Nonce": ask.nonce, **({"Keep-Alive": "5"} if trip.order["declined"] else {})}
        body = ask.raw[len(ask.head) :].decode("latin-1")
        orders.append({"path": ask.path, "headers": headers, "body": body, "nonce": ask.nonce})
    plan = json.dumps({"ip": trip.to[0], "port": trip.to[1], "asks": orders})
    got = subprocess.run(["node", "-e", NODE], input=plan.encode(), capture_output=True)
    same((got.returncode, got.stderr), (0, b""), "node")
    for ask, (nonce, seen, body) in zip(asks, json.loads(got.stdout)):
        same((nonce, seen), (ask.nonce, ask.told), "nonce")
        same(body.encode("latin-1"), ask.body, "body")


def uring_zerocopy(trip):
    uring(trip, ("zero-copy",))


def uring(trip, modes=("plain", "linked", "polled", "multishot")):
    """See uring.c: frames of a length and bytes, in and out."""
    for mode in modes:
        asks = list(variety(trip, 6))
        frames = b"".join(struct.pack("I", len(ask.raw)) + ask.raw for ask in asks)
        command = [trip.order["uring"], *map(str, trip.to), mode]
        got = subprocess.run(command, input=frames, capture_output=True)
        same((got.returncode, got.stderr), (0, b""), f"{mode}: exit status and complaints")
        at = 0
        for ask in asks:
            (n,) = struct.unpack_from("I", got.stdout, at)
            answer = Answer(ask)
            answer.feed(got.stdout[at + 4 : at + 4 + n])
            check(answer.done(), f"{mode}: {n} bytes of {answer.whole}")
            at += 4 + n
        same(at, len(got.stdout), f"{mode}: length of all answers")


def too_long(*_):
    raise Wrong(f"it hangs: {PATIENCE_S} s")


def main():
    signal.signal(signal.SIGALRM, too_long)
    for line in sys.stdin:
        order = json.loads(line)
        trip = Trip(order)
        out = {"id": order["id"]}
        signal.alarm(PATIENCE_S)
        try:
            globals()[order["habit"]](trip)
        except Exception as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == __file__]
            where = frames[min(1, len(frames) - 1)].lineno
            out["error"] = f"{error if isinstance(error, Wrong) else repr(error)} (habits.py:{where})"
        finally:
            signal.alarm(0)
            trip.close()
        out["requests"] = trip.requests
        sys.stdout.write(json.dumps(out) + "\n")
        sys.stdout.flush()


main()
