"""A body through a plain TCP socket in both directions at once: what a transport is measured against.

    python -m edgeflock.export.fleet.lab.raw OWN OTHER BYTES TIMES OUT

Two processes run it, each with the other's address. A time is from the first byte to the answer of the other side,
which has then read all bytes and found their SHA-256 to be the one that was sent ahead. OUT names TCP's congestion
control too.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

PORT = 7601
PIECE = 1 << 20


def _read(connection: socket.socket, size: int) -> bytes:
    body = bytearray()
    while len(body) < size:
        piece = connection.recv(min(PIECE, size - len(body)))
        if not piece:
            raise ConnectionError("the other side hung up")
        body += piece
    return bytes(body)


def _serve(listener: socket.socket, size: int, times: int) -> None:
    connection, _ = listener.accept()
    with connection:
        for _ in range(times):
            expected, body = _read(connection, 32), _read(connection, size)
            connection.sendall(b"\1" if hashlib.sha256(body).digest() == expected else b"\0")


def main() -> None:
    """Do what the module says."""
    own, other, size, times, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])
    listener = socket.create_server((own, PORT))
    server = threading.Thread(target=_serve, args=(listener, size, times))
    server.start()
    while True:
        try:
            connection = socket.create_connection((other, PORT), 60)
            break
        except OSError:
            time.sleep(0.1)
    connection.settimeout(None)
    control = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
    body = os.urandom(size)
    digest = hashlib.sha256(body).digest()
    found = []
    for _ in range(times):
        began = time.monotonic()
        connection.sendall(digest + body)
        if connection.recv(1) != b"\1":
            raise SystemExit("the body did not arrive whole")
        found.append(1e3 * (time.monotonic() - began))
    server.join()
    out.write_text(json.dumps({"control": control, "ms": found}))


if __name__ == "__main__":
    main()
