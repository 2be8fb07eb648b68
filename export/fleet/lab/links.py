"""Network namespaces of this machine, joined by a relay in user space whose links lose, delay and limit packets.

Every process gets a namespace with one TUN device; the relay holds the devices' other ends and hands IP packets on. So
whatever a transport sends, TCP, Zenoh's or DDS's, meets real loss, and the kernel's own TCP answers to it.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import random
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from edgeflock.runtime.errors import TransportError

LARGEST = 200
"""Namespaces at most: the last byte of an address."""
READ_AT_ONCE = 64
NEEDS = (
    "no network namespace can be made here: expected Linux with user namespaces (`unshare --user --net`), the command "
    "`ip` and a readable /dev/net/tun; in a container, add --device /dev/net/tun --privileged."
)


class Link(BaseModel):
    """What happens to packets from one namespace to another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: float = Field(0.0, ge=0, lt=1, description="share of packets that are lost")
    latency_ms: float = Field(0.0, ge=0)
    bits_per_s: float | None = Field(None, gt=0, description="None: as fast as this machine")
    buffer_s: float = Field(0.1, gt=0, description="packets that would wait longer for their turn are dropped")


def address(index: int) -> str:
    """IPv4 address of a namespace."""
    return f"10.77.0.{index + 1}"


class Relay:
    """Joins namespaces. A thread of its own hands packets on.

    Parameters
    ----------
    link : callable
        Takes the indices of sender and receiver.
    seed : int
        Of what is lost.
    control : str
        TCP's congestion control, such as "reno"; the machine's own by default.
    """

    def __init__(self, link: Callable[[int, int], Link], seed: int = 0, control: str = "") -> None:
        self._control = control
        self._link, self._chance = link, random.Random(seed)
        self._ends: dict[int, int] = {}  # by index: file descriptor of its device
        self._links: dict[tuple[int, int], Link] = {}
        self._free_s: dict[tuple[int, int], float] = {}
        self._flying: list[tuple[float, int, int, bytes]] = []
        self._poll = select.epoll()
        self._count = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._lock = threading.Lock()
        self.lost = self.passed = self.crowded = 0

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._thread.join()
        for end in self._ends.values():
            os.close(end)
        self._poll.close()

    def start(self, index: int, command: Sequence[str | Path], log: Path | None = None) -> subprocess.Popen:
        """Start a command in a namespace of its own; it begins when its link is up.

        Raises
        ------
        TransportError
            This machine lets nobody make namespaces or TUN devices.
        """
        assert 0 <= index < LARGEST
        if shutil.which("unshare") is None:
            raise TransportError(NEEDS)
        ours, theirs = socket.socketpair()
        module = [sys.executable, "-m", "edgeflock.export.fleet.lab.namespace"]
        inside = [*module, str(theirs.fileno()), address(index), self._control]
        with ours, contextlib.ExitStack() as stack:
            out = stack.enter_context(log.open("ab")) if log else subprocess.DEVNULL
            process = subprocess.Popen(
                ["unshare", "--user", "--map-root-user", "--net", *inside, *map(str, command)],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
            theirs.close()
            _, ends, _, _ = socket.recv_fds(ours, 1, 1)
        if not ends:
            process.wait()
            raise TransportError(NEEDS)
        os.set_blocking(ends[0], False)
        with self._lock:
            if index in self._ends:  # of the process before
                self._poll.unregister(self._ends[index])
                os.close(self._ends[index])
            self._ends[index] = ends[0]
            self._poll.register(ends[0], select.EPOLLIN)
        return process

    def _run(self) -> None:
        while not self._closed:
            wait = max(0.0, self._flying[0][0] - time.monotonic()) if self._flying else 0.05
            ready = self._poll.poll(min(wait, 0.05))
            with self._lock:
                sources = {end: index for index, end in self._ends.items()}
                for end, _ in ready:
                    if end in sources:
                        self._read(sources[end], end)
                now = time.monotonic()
                while self._flying and self._flying[0][0] <= now:
                    _, _, target, packet = heapq.heappop(self._flying)
                    self._write(target, packet)

    def _read(self, source: int, end: int) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                packet = os.read(end, 1 << 16)
            except BlockingIOError:
                return
            except OSError:  # the namespace has gone
                self._poll.unregister(end)
                os.close(self._ends.pop(source))
                return
            if packet[0] >> 4 != 4:
                continue
            target = packet[19] - 1
            others = [target] if packet[16:19] == b"\x0a\x4d\x00" else [i for i in self._ends if i != source]
            for index in others:  # multicast goes to all
                if index in self._ends:
                    self._send(source, index, packet)

    def _send(self, source: int, target: int, packet: bytes) -> None:
        at = source, target
        link = self._links.get(at) or self._links.setdefault(at, self._link(source, target))
        if link.loss and self._chance.random() < link.loss:
            self.lost += 1
            return
        if not link.latency_ms and link.bits_per_s is None:
            self._write(target, packet)
            return
        now = time.monotonic()
        begins = max(now, self._free_s.get(at, now))
        if begins - now > link.buffer_s:
            self.crowded += 1
            return
        ends = begins + (8 * len(packet) / link.bits_per_s if link.bits_per_s else 0.0)
        self._free_s[at] = ends
        self._count += 1
        heapq.heappush(self._flying, (ends + link.latency_ms / 1e3, self._count, target, packet))

    def _write(self, target: int, packet: bytes) -> None:
        self.passed += 1
        with contextlib.suppress(OSError, KeyError):  # its queue is full, or the namespace has gone: it is lost
            os.write(self._ends[target], packet)
