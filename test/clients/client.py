"""Python's http.client: blocking sockets; heads in several sends, too. See protocol.ts."""

import hashlib
import http.client
import json
import sys
import time


def filler(length, seed):
    return bytes((seed + i * 7 + (i >> 8) * 13 + (i >> 16) * 31) & 255 for i in range(length))


class Connection(http.client.HTTPConnection):
    """The library writes a head with one send; every fourth goes out in two, cut where the request's number says."""

    cut = 0

    def send(self, data):
        if isinstance(data, bytes) and 0 < self.cut < len(data):
            first, self.cut = self.cut, 0
            super().send(data[:first])
            time.sleep(0.001)
            data = data[first:]
        super().send(data)


def pieces(body):
    data, at = filler(body["size"], body["seed"]), 0
    for size in body["splits"]:
        yield data[at : at + size]
        at += size
        time.sleep(body["pause"] / 1000)
    yield data[at:]


def send(connection, spec):
    body = spec["body"]
    connection.cut = spec["id"] % 97 + 1 if spec["id"] % 4 == 0 else 0
    connection.putrequest(spec["method"], spec["target"], skip_host=True, skip_accept_encoding=True)
    for name, value in spec["headers"]:
        connection.putheader(name, value)
    chunked = body is not None and body["framing"] == "chunked"
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    elif body is not None:
        connection.putheader("Content-Length", str(body["size"]))
    connection.endheaders()
    for piece in pieces(body) if body is not None else ():
        if piece:
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        connection.send(b"0\r\n\r\n")
    response = connection.getresponse()
    data = response.read()
    return {
        "id": spec["id"],
        "status": response.status,
        "reason": response.reason,
        "headers": response.getheaders(),
        "length": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


for line in sys.stdin:
    task = json.loads(line)
    connection = Connection(task["ip"], task["port"], timeout=20)
    for spec in task["requests"]:
        try:
            answer = send(connection, spec)
        except Exception as error:
            connection.close()
            answer = {"id": spec["id"], "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    connection.close()
