"""Raw peers for the end-to-end tests, driven by JSON lines on stdin; answers are JSON lines on stdout.

peer.py client            one line is one connection: {"id", "ip", "port", "steps": [...]}; see play()
peer.py server IP PORT    answers requests by scripts: {"id", "cmd": "script", "path", "steps"}; see Server
peer.py crowd IP PORT     one loop for thousands of connections; tells which of its addresses was asked; see crowd()

Text is latin-1 throughout, so that every byte can be said in JSON.
"""

import contextlib
import errno
import fcntl
import json
import os
import select
import socket
import struct
import sys
import tempfile
import termios
import threading
import time
import zlib

PERIOD = 65521
PATTERN = bytes((i * 131 + (i >> 8) * 17) & 255 for i in range(PERIOD))
# Pieces of up to 1 MiB are cut from here, so that gigabytes cost little more than their copies.
PIECES = PATTERN * 18
RESET = struct.pack("ii", 1, 0)
KEEP = 65536


def pattern(start, n):
    """n bytes of an endless stream that shows every byte that is lost, doubled or moved."""
    at = start % PERIOD
    if at + n <= len(PIECES):
        return PIECES[at : at + n]
    out = PATTERN[at : at + n]
    while len(out) < n:
        out += PATTERN[: n - len(out)]
    return out


def say(obj):
    line = json.dumps(obj) + "\n"
    with say.lock:
        sys.stdout.write(line)
        sys.stdout.flush()


say.lock = threading.Lock()


def name_of(error):
    if isinstance(error, TimeoutError):
        return "timeout"
    return errno.errorcode.get(error.errno, str(error)) if isinstance(error, OSError) else repr(error)


def send_split(sock, data, sizes, pause):
    """Sends in pieces; the last size is repeated."""
    at, i = 0, 0
    while at < len(data):
        n = max(1, sizes[min(i, len(sizes) - 1)])
        sock.sendall(data[at : at + n])
        at += n
        i += 1
        if pause and at < len(data):
            time.sleep(pause / 1000)


def unread(sock):
    return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]


class Ended(Exception):
    pass


class Reader:
    """Buffered reading that follows HTTP/1.1 framing to the byte."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""
        self.total = 0
        self.eof = False

    def fill(self):
        if self.eof:
            raise Ended("eof")
        got = self.sock.recv(262144)
        if not got:
            self.eof = True
            raise Ended("eof")
        self.total += len(got)
        self.buffer = self.buffer + got if self.buffer else got

    def line(self):
        while b"\n" not in self.buffer:
            self.fill()
        end = self.buffer.index(b"\n") + 1
        out, self.buffer = self.buffer[:end], self.buffer[end:]
        return out

    def head(self):
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        end = self.buffer.index(b"\r\n\r\n") + 4
        out, self.buffer = self.buffer[:end], self.buffer[end:]
        return out

    def take(self, n, sink):
        while n > 0:
            if not self.buffer:
                self.fill()
            if len(self.buffer) <= n:
                part, self.buffer = self.buffer, b""
                n -= len(part)
                sink(part)
                continue
            part, self.buffer = self.buffer[:n], self.buffer[n:]
            n -= len(part)
            sink(part)

    def chunked(self, sink, raw=None):
        """Data to sink; the trailers are returned."""
        while True:
            line = self.line()
            size = int(line.split(b";")[0].strip(), 16)
            if size == 0:
                break
            self.take(size, sink)
            if self.line() != b"\r\n":
                raise ValueError("chunk without an end")
        trailers = []
        while True:
            line = self.line()
            if line == b"\r\n":
                return trailers
            trailers.append(line.decode("latin-1").strip())


def where_wrong(part, start):
    """Says where bytes first are none of the pattern's, and where in it they belong."""
    meant = pattern(start, len(part))
    at = next(i for i, (one, other) in enumerate(zip(part, meant)) if one != other)
    belongs = (PATTERN * 2).find(part[at : at + 64])
    wrong = f"wrong at {start + at}, {at} of a read of {len(part)}"
    return f"{wrong}: what belongs at {belongs} came at {(start + at) % PERIOD}, of {PERIOD}"


class Sum:
    def __init__(self):
        self.n = 0
        self.crc = 0
        self.text = b""
        self.whole = True

    def __call__(self, part):
        if self.whole is True and part != pattern(self.n, len(part)):
            self.whole = where_wrong(part, self.n)
        self.n += len(part)
        self.crc = zlib.crc32(part, self.crc)
        if len(self.text) < KEEP:
            self.text += part[: KEEP - len(self.text)]


def headers_of(head):
    fields = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        if ":" in line:
            name, value = line.split(":", 1)
            fields[name.lower()] = (fields[name.lower()] + ", " if name.lower() in fields else "") + value.strip()
    return fields


def read_response(reader, method):
    """One response with the interim ones before it."""
    interim = []
    while True:
        head = reader.head()
        status = int(head.split(b" ", 2)[1])
        if 200 <= status or status == 101:
            break
        interim.append(status)
    fields = headers_of(head)
    body = Sum()
    out = {"status": status, "interim": interim, "headers": fields, "trailers": []}
    out["head"] = head.decode("latin-1")
    try:
        if method == "HEAD" or status in (204, 304, 101):
            pass
        elif "chunked" in fields.get("transfer-encoding", ""):
            out["trailers"] = reader.chunked(body)
        elif "content-length" in fields:
            reader.take(int(fields["content-length"]), body)
        else:
            try:
                while True:
                    reader.take(1 << 20, body)
            except Ended:
                pass
    except (Ended, OSError) as error:
        out["broken"] = "eof" if isinstance(error, Ended) else name_of(error)
    out.update(length=body.n, crc=body.crc, text=body.text.decode("latin-1"), pattern=body.whole)
    return out


def connect(script):
    host = script["ip"]
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if "from" in script:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", script["from"]))
    if "rcvbuf" in script:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, script["rcvbuf"])
    if script.get("nonblocking"):
        sock.setblocking(False)
        code = sock.connect_ex((host, script["port"]))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, "connect")
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        poll.poll(5000)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "connect")
        sock.setblocking(True)
    else:
        sock.settimeout(5)
        sock.connect((host, script["port"]))
    return sock


def buffers(sock):
    return {name: sock.getsockopt(socket.SOL_SOCKET, getattr(socket, "SO_" + name.upper())) for name in BUFFERS}


BUFFERS = ("rcvbuf", "sndbuf")


def flood(sock, n, ms, edge):
    """Sends n bytes of the pattern without blocking; tells how often it was woken in the first ms, and for what."""
    sock.setblocking(False)
    out = {"turns": 0, "again": 0, "sent": 0}
    until = time.monotonic() + ms / 1000
    at = 0
    with select.epoll() as epoll:
        epoll.register(sock, select.EPOLLOUT | (select.EPOLLET if edge else 0))
        while at < n:
            if not epoll.poll(60):
                raise TimeoutError("never writable")
            while at < n:
                early = time.monotonic() < until
                out["turns"] += early
                try:
                    at += sock.send(pattern(at, min(1 << 18, n - at)))
                    if early:
                        out["sent"] = at
                except BlockingIOError:
                    out["again"] += early
                    break
                if not edge:
                    break
    return out


def step(sock, reader, out, verb, *args):
    if verb == "send":
        sock.sendall(args[0].encode("latin-1"))
    elif verb == "split":
        send_split(sock, args[0].encode("latin-1"), args[1], args[2])
    elif verb == "fill":
        start, n = args[0], args[1]
        piece = args[2] if len(args) > 2 else 1 << 20
        for at in range(start, start + n, piece):
            sock.sendall(pattern(at, min(piece, start + n - at)))
    elif verb == "writev":
        parts = [p.encode("latin-1") for p in args[0]]
        while parts:
            n = sock.sendmsg(parts[:1024])
            while parts and n >= len(parts[0]):
                n -= len(parts.pop(0))
            if n:
                parts[0] = parts[0][n:]
    elif verb == "sendfile":
        with tempfile.TemporaryFile() as f:
            f.write(args[0].encode("latin-1") + pattern(0, args[1]))
            f.flush()
            size, at = f.tell(), 0
            while at < size:
                at += os.sendfile(sock.fileno(), f.fileno(), at, size - at)
    elif verb == "pause":
        time.sleep(args[0] / 1000)
    elif verb == "response":
        sock.settimeout((args[1] if len(args) > 1 else 20000) / 1000)
        out["responses"].append(read_response(reader, args[0] if args else "GET"))
    elif verb == "responses":
        sock.settimeout(20)
        for _ in range(args[0]):
            out["responses"].append(read_response(reader, "GET"))
    elif verb == "read":
        sock.settimeout(args[1] / 1000)
        while len(reader.buffer) < args[0]:
            reader.fill()
    elif verb == "eof":
        sock.settimeout(args[0] / 1000)
        try:
            while True:
                reader.fill()
                if len(reader.buffer) > KEEP:
                    reader.buffer = reader.buffer[:KEEP]
        except Ended:
            out["end"] = "eof"
    elif verb == "quiet":
        sock.settimeout(args[0] / 1000)
        try:
            while True:
                reader.fill()
        except TimeoutError:
            pass
        except Ended:
            out["end"] = "eof"
    elif verb == "buffers":
        out["buffers"] = buffers(sock)
    elif verb == "flood":
        out["flood"] = flood(sock, *args)
    elif verb == "peername":
        out["peer"] = "%s %d" % sock.getpeername()[:2]
    elif verb == "shut":
        sock.shutdown(socket.SHUT_WR)
    elif verb == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
    elif verb == "close":
        sock.close()
    else:
        raise ValueError("no such step: " + verb)


def play(script):
    """One connection. What could not be done ends it and is told by its errno and step."""
    out = {"end": "open", "at": None, "responses": []}
    began = time.monotonic()
    sock = reader = None
    verb = "connect"
    try:
        sock = connect(script)
        reader = Reader(sock)
        for verb, *args in script["steps"]:
            if verb != "pause" and sock.fileno() >= 0 and verb not in ("response", "responses", "read", "eof", "quiet"):
                sock.settimeout(120)
            step(sock, reader, out, verb, *args)
    except Ended:
        out["end"], out["at"] = "eof", verb
    except Exception as error:
        out["end"], out["at"] = name_of(error), verb
    finally:
        if sock and sock.fileno() >= 0:
            sock.close()
    if reader:
        out["rest"] = reader.buffer[:KEEP].decode("latin-1")
        out["total"] = reader.total
    out["ms"] = (time.monotonic() - began) * 1000
    return out


def again(script):
    """The same connection again and again, pauses between them in turn; {round} in what is sent is its number."""
    outcomes = []
    for i in range(script["rounds"]):
        steps = [[a.replace("{round}", str(i)) if isinstance(a, str) else a for a in s] for s in script["steps"]]
        outcomes.append(play({**script, "steps": steps}))
        gap = script["gaps"][i % len(script["gaps"])]
        if gap:
            time.sleep(gap / 1000)
    return outcomes


def client():
    def work(script):
        say({"id": script["id"], "result": again(script) if "rounds" in script else play(script)})

    for line in sys.stdin:
        threading.Thread(target=work, args=(json.loads(line),), daemon=True).start()
    os._exit(0)


class Server:
    """Requests are read whole (with "early" in a script only their head) before the script of their path is played.

    "eof" reads until the client ends, into {rest}; "once" closes the connection, but only the first time.

    In what is sent, {nonce} is the request's X-Nonce, {length}, {crc} and {pattern} are its body's, {name} is the
    server's, {peer} the client's address, {target} and {host} the request's.
    """

    def __init__(self, ip, port, name):
        self.name = name
        self.scripts = {}
        self.failed = set()
        self.lock = threading.Lock()
        self.connections = {}
        self.seen = []
        self.bytes = 0
        self.accepted = 0
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((ip, port))
        self.listener.listen(4096)

    def run(self):
        threading.Thread(target=self.accept, daemon=True).start()
        say({"ready": True, "pid": os.getpid()})
        for line in sys.stdin:
            ask = json.loads(line)
            say({"id": ask["id"], "result": self.command(ask)})
        os._exit(0)

    def accept(self):
        while True:
            sock, peer = self.listener.accept()
            self.accepted += 1
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(sock, peer), daemon=True).start()

    def command(self, ask):
        cmd = ask["cmd"]
        if cmd == "script":
            self.scripts[ask["path"]] = ask
            self.failed.discard(ask["path"])
            return True
        if cmd == "seen":
            with self.lock:
                out = {"requests": self.seen, "bytes": self.bytes, "accepted": self.accepted}
                out["open"] = len(self.connections)
                if ask.get("clear"):
                    self.seen, self.bytes = [], 0
                return out
        if cmd == "buffers":
            """Of the connections that are in the middle of something."""
            with self.lock:
                return [buffers(s) for s, state in self.connections.items() if not state["idle"]]
        if cmd == "idle":
            """What happens to every idle connection: "close", "reset", or text to be sent."""
            with self.lock:
                idle = [s for s, state in self.connections.items() if state["idle"]]
                for sock in idle:
                    if ask["how"] == "text":
                        sock.sendall(ask["text"].encode("latin-1"))
                        if not ask.get("close"):
                            continue
                    if ask["how"] == "reset":
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    self.connections[sock]["over"] = True
                    try:
                        sock.shutdown(socket.SHUT_RD)
                    except OSError:
                        pass
                return len(idle)
        raise ValueError(cmd)

    def serve(self, sock, peer):
        state = {"idle": True, "over": False}
        with self.lock:
            self.connections[sock] = state
        reader = Reader(sock)
        try:
            while self.one(sock, reader, peer, state):
                pass
        except (Ended, OSError, ValueError) as error:
            if reader.buffer:
                self.note({"broken": name_of(error), "text": reader.buffer[:KEEP].decode("latin-1")}, 0)
        finally:
            with self.lock:
                self.connections.pop(sock, None)
            sock.close()

    def note(self, what, n):
        with self.lock:
            self.seen.append(what)
            self.bytes += n

    def one(self, sock, reader, peer, state):
        before = reader.total - len(reader.buffer)
        head = reader.head()
        state["idle"] = False
        method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ", 2)
        fields = headers_of(head)
        path = target.split("?")[0]
        script = self.scripts.get(path, {"steps": DEFAULT})
        body = Sum()
        seen = {"method": method, "target": target, "headers": fields, "peer": "%s %d" % peer[:2]}
        seen["head"] = head.decode("latin-1")
        self.note(seen, 0)
        words = {
            "nonce": fields.get("x-nonce", "-"),
            "target": target,
            "host": fields.get("host", ""),
            "name": self.name,
            "peer": "%s %d" % peer[:2],
        }

        def read_body():
            try:
                if "chunked" in fields.get("transfer-encoding", ""):
                    seen["trailers"] = reader.chunked(body)
                else:
                    reader.take(int(fields.get("content-length", "0")), body)
            finally:
                seen.update(length=body.n, crc=body.crc, pattern=body.whole)
                self.bytes += reader.total - len(reader.buffer) - before

        if not script.get("early"):
            if fields.get("expect") and not script.get("silent"):
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            read_body()
        state["read"] = read_body
        for verb, *args in script["steps"]:
            words.update(length=body.n, crc=body.crc, pattern=str(body.whole is True).lower())
            if verb == "reply":
                text = fill_in(args[0], words)
                extra = args[1] if len(args) > 1 else ""
                length = len(text.encode("latin-1"))
                out = "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (length, extra)
                sock.sendall((out + ("" if method == "HEAD" else text)).encode("latin-1"))
            elif verb == "send":
                sock.sendall(fill_in(args[0], words).encode("latin-1"))
            elif verb == "split":
                send_split(sock, fill_in(args[0], words).encode("latin-1"), args[1], args[2])
            elif verb == "fill":
                piece = args[1] if len(args) > 1 else 1 << 18
                for at in range(0, args[0], piece):
                    sock.sendall(pattern(at, min(piece, args[0] - at)))
            elif verb == "pause":
                time.sleep(args[0] / 1000)
            elif verb == "body":
                read_body()
            elif verb == "arrived":
                # All of the body, unread or read with the head.
                while len(reader.buffer) + unread(sock) < int(fields["content-length"]):
                    time.sleep(0.001)
            elif verb == "hurry":
                # The kernel's workers wait until this thread sleeps. Without the right to it, they may.
                with contextlib.suppress(PermissionError):
                    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            elif verb == "echo":
                while True:
                    if reader.buffer:
                        sock.sendall(reader.buffer)
                        reader.buffer = b""
                    reader.fill()
            elif verb == "eof":
                try:
                    while True:
                        reader.fill()
                except Ended:
                    words["rest"] = reader.buffer.decode("latin-1")
                    self.note({"text": words["rest"]}, len(reader.buffer))
                    reader.buffer = b""
            elif verb == "once":
                if path not in self.failed:
                    self.failed.add(path)
                    return False
            elif verb == "hold":
                sock.recv(1, socket.MSG_PEEK)
            elif verb == "shut":
                sock.shutdown(socket.SHUT_WR)
            elif verb == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return False
            elif verb == "close":
                return False
            elif verb == "die":
                os._exit(0)
            else:
                raise ValueError("no such step: " + verb)
        state["idle"] = True
        return not state["over"]


DEFAULT = [["reply", "{name} {target} {nonce} {length} {crc}"]]


def crowd(port):
    """Answers "address target nonce" on every address of the loopback device (and on no other device)."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    listener.bind(("0.0.0.0", port))
    listener.listen(8192)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    open_now = {}
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    say({"ready": True, "pid": os.getpid()})
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_now[sock.fileno()] = [sock, b""]
                epoll.register(sock, select.EPOLLIN)
                continue
            sock, buffer = open_now[fd]
            try:
                got = sock.recv(65536)
                buffer += got
                while b"\r\n\r\n" in buffer:
                    head, buffer = buffer.split(b"\r\n\r\n", 1)
                    target = head.split(b" ", 2)[1].decode("latin-1")
                    text = "%s %s %s" % (sock.getsockname()[0], target, headers_of(head).get("x-nonce", "-"))
                    sock.sendall(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)).encode())
                open_now[fd][1] = buffer
            except OSError:
                got = b""
            if not got:
                del open_now[fd]
                sock.close()


def fill_in(text, words):
    for key, value in words.items():
        text = text.replace("{" + key + "}", str(value))
    return text


if __name__ == "__main__":
    if sys.argv[1] == "client":
        client()
    elif sys.argv[1] == "crowd":
        crowd(int(sys.argv[3]))
    else:
        Server(sys.argv[2], int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else "server").run()
