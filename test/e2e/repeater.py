"""A server whose TCP is its own: on a TUN device in this process's network namespace, it sends what the path tells.

GET /0-90,60-200: the bytes 0 to 90 of the answer, then 60 to 200, each as one segment; the last end is the answer's
length, head included. The body is peer.py's pattern. A segment may repeat what another has brought (RFC 9293, 3.10.7.4:
only what is new of it counts).
"""

import fcntl
import os
import struct
import subprocess
import sys
import time

from peer import pattern

TUNSETIFF, TUN_WITHOUT_INFO = 0x400454CA, 0x1001
FIN, SYN, RST, PUSH_ACK, ACK = 1, 2, 4, 0x18, 0x10


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Connection:
    """Of the client's key: its address, ours, its port, ours."""

    def __init__(self, tun, key, sequence):
        self.tun, self.key = tun, key
        # Near the end of the numbers, so that they begin anew within the first answers.
        self.sent, self.heard = 0xFFFFFFFF - 700, sequence + 1
        self.buffer = b""

    def segment(self, offset, data, flags):
        client, here, client_port, port = self.key
        numbers = ((self.sent + offset) & 0xFFFFFFFF, self.heard & 0xFFFFFFFF)
        tcp = struct.pack("!HHIIBBHHH", port, client_port, *numbers, 5 << 4, flags, 65_000, 0, 0) + data
        pseudo = here + client + struct.pack("!BBH", 0, 6, len(tcp))
        tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, here, client)
        os.write(self.tun, ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + tcp)

    def heard_bytes(self, data):
        self.heard += len(data)
        self.segment(0, b"", ACK)
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            self.answer([tuple(map(int, part.split("-"))) for part in head.split()[1][1:].decode().split(",")])

    def answer(self, parts):
        length = parts[-1][1]
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {length - 100}\r\nX-Fill: ".encode()
        head += b"x" * (96 - len(head)) + b"\r\n\r\n"
        whole = head + pattern(0, length - 100)
        for start, end in parts:
            self.segment(start, whole[start:end], PUSH_ACK)
            time.sleep(0.002)
        self.sent += length


def main(address, port):
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", TUN_WITHOUT_INFO))
    gateway = address.rsplit(".", 1)[0] + ".254/24"
    for words in (f"addr add {gateway} dev tun0", "link set tun0 up", "link set lo up"):
        subprocess.run(["ip", *words.split()], check=True)
    print("ready", flush=True)
    connections = {}
    while True:
        packet = os.read(tun, 70_000)
        if packet[0] >> 4 != 4 or packet[9] != 6:
            continue
        at = (packet[0] & 15) * 4
        client_port, port_asked, sequence, _, offset, flags = struct.unpack("!HHIIBB", packet[at : at + 14])
        key = (packet[12:16], packet[16:20], client_port, port_asked)
        data = packet[at + (offset >> 4) * 4 :]
        if flags & SYN and port_asked == port:
            made = connections[key] = Connection(tun, key, sequence)
            made.segment(0, b"", SYN | ACK)
            made.sent += 1
            continue
        known = connections.get(key)
        if known is None:
            continue
        if flags & RST:
            del connections[key]
            continue
        if data and sequence == known.heard & 0xFFFFFFFF:
            known.heard_bytes(data)
        if flags & FIN:
            known.heard += 1
            known.segment(0, b"", FIN | ACK)
            del connections[key]


main(sys.argv[1], int(sys.argv[2]))
