"""A server of bytes, and a client that measures it: `tcp.py serve IP`, `tcp.py ask IP PORT ROUNDS CONNECTIONS MEGABYTES`."""

import json
import socket
import sys
import threading
import time


def serve_one(connection):
    """Answers one byte to each message of a byte; to an end of stream, how much came."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    total = 0
    while data := connection.recv(1 << 18):
        total += len(data)
        if len(data) == 1:
            connection.sendall(b"x")
    connection.sendall(str(total).encode())
    connection.close()


def serve(ip):
    listener = socket.create_server((ip, 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve_one, args=(connection,), daemon=True).start()


def connect(to):
    connection = socket.create_connection(to)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(to, rounds, connections, megabytes):
    kept = connect(to)
    began = time.perf_counter()
    for _ in range(rounds):
        kept.sendall(b"x")
        kept.recv(1)
    round_trip = (time.perf_counter() - began) / rounds
    kept.close()
    began = time.perf_counter()
    for _ in range(connections):
        short = connect(to)
        short.sendall(b"x")
        short.recv(1)
        short.close()
    connection = (time.perf_counter() - began) / connections
    upload = connect(to)
    piece = bytes(1 << 18)
    began = time.perf_counter()
    for _ in range(megabytes * 4):
        upload.sendall(piece)
    upload.shutdown(socket.SHUT_WR)
    while upload.recv(64):
        pass
    seconds = time.perf_counter() - began
    print(json.dumps({"round_us": round_trip * 1e6, "connection_us": connection * 1e6, "mb_s": megabytes / seconds}))


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    ask((sys.argv[2], int(sys.argv[3])), *map(int, sys.argv[4:]))
