# usage: python3 server.py IP PORT
"""What node.mjs does, on Python's http.server: one thread a connection, blocking reads, a send for each write."""

import hashlib
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


def filler(length, seed):
    return bytes((seed + i * 7 + (i >> 8) * 13 + (i >> 16) * 31) & 255 for i in range(length))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def read_chunked(self):
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            if size == 0:
                break
            yield self.rfile.read(size)
            self.rfile.readline()
        while (line := self.rfile.readline().strip()) != b"":
            self.request_trailers.append(line.decode("latin-1"))

    def read_body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            yield from self.read_chunked()
        else:
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self):
        query = parse_qs(urlsplit(self.path).query)

        def word(name, usual):
            return query.get(name, [usual])[0]

        digest, length, self.request_trailers = hashlib.sha256(), 0, []
        for chunk in self.read_body():
            digest.update(chunk)
            length += len(chunk)
        lines = [self.requestline] + [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"trailer {line}" for line in self.request_trailers]
        size = int(word("size", "0"))
        body = ("\n".join(lines) + f"\n\n{length} {digest.hexdigest()}\n").encode("latin-1") + filler(size, size & 255)
        time.sleep(int(word("delay", "0")) / 1000)

        status, framing = int(word("status", "200")), word("framing", "length")
        trailers = framing == "chunked" and word("trailers", "") == "1"
        self.send_response(status, word("reason", None))
        self.send_header("X-Server", "python")
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        bodiless = status in (204, 304)
        if framing == "length" and status != 204:
            self.send_header("Content-Length", str(len(body)))
        elif framing == "chunked" and not bodiless:
            self.send_header("Transfer-Encoding", "chunked")
            if trailers:
                self.send_header("Trailer", "X-Sum")
        elif framing == "close":
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD" or bodiless:
            return
        pieces = int(word("pieces", "1"))
        step = -(-len(body) // pieces)
        for at in range(0, len(body), step):
            piece = body[at : at + step]
            if framing == "chunked":
                self.wfile.write(b"%x;of=%d\r\n" % (len(piece), len(body)))
                self.wfile.write(piece)
                self.wfile.write(b"\r\n")
            else:
                self.wfile.write(piece)
            if pieces > 1:
                time.sleep(0.001)
        if framing == "chunked":
            self.wfile.write(b"0\r\n" + (b"X-Sum: %d\r\n" % len(body) if trailers else b"") + b"\r\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = answer


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
