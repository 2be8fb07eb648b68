"""TCP with TLS 1.3 in both directions' own connections: the sender calls, the called side only listens.

A message on the wire is its length plus one (4 bytes, big-endian) and its bytes; 0 is a sign of life. Both sides prove
the Ed25519 key that the roster names (see `tls`), so that the sender's name is authentic. The receiver bounds what a
caller can cost: a number of strangers at a time, a time for the handshake, a length that is checked before anything is
allocated, a time for each message, and an inbox whose back-pressure reaches the sender through TCP's own window.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeflock.runtime.errors import InputError, TransportError
from edgeflock.runtime.fleet.transports.base import QUEUE_BYTES, Buffer, Transport
from edgeflock.runtime.fleet.transports.tls import client_context, key_of, server_context

WELCOME = b"\x01"
"""The called side's answer once it knows the caller; with TLS 1.3 a caller's own handshake ends before that."""
LENGTH_BYTES = 4
BATCH_BYTES = 256 << 10
"""What is handed to the socket at once."""


@dataclass(frozen=True)
class TcpPeer:
    """Where a peer listens and the raw Ed25519 public key (32 bytes) that it has to prove."""

    host: str
    port: int
    key: bytes


@dataclass(frozen=True)
class Limits:
    """Bounds in seconds, and the number of callers that have not yet proved who they are.

    `message` is for one message from its first byte to its last: with the default `max_message` a link of 70 kbit/s
    still keeps it. `silence` is several times `sign_of_life`.
    """

    connect: float = 10.0
    handshake: float = 10.0
    message: float = 30.0
    sign_of_life: float = 4.0
    silence: float = 20.0
    first_wait: float = 0.2
    longest_wait: float = 10.0
    strangers: int = 32


class TcpTransport(Transport):
    """One peer's end.

    A changed roster takes a new transport: close this one first.

    Parameters
    ----------
    own : str
        Name of this peer.
    key : Ed25519PrivateKey
        The key of this peer in the others' rosters.
    listen : (str, int)
        Address and port to listen on; "0.0.0.0" is every address of this machine, port 0 a free port (see `port`).
    peers : mapping of str to TcpPeer
    max_message, queue_bytes
        As for every `Transport`; the queue to each peer has `queue_bytes` too.
    limits : Limits, optional

    Attributes
    ----------
    refused : Counter
        Callers that were turned away, by reason: crowded, handshake (no key of the roster among them), oversize,
        too_slow, silent, replaced.
    port : int
        The port that this peer listens on, once open.
    """

    name = "tcp"

    def __init__(
        self,
        own: str,
        key: Ed25519PrivateKey,
        listen: tuple[str, int],
        peers: Mapping[str, TcpPeer],
        max_message: int = 256 << 10,
        queue_bytes: int = QUEUE_BYTES,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(own, peers, max_message, queue_bytes)
        self._names = {peer.key: name for name, peer in peers.items()}
        if len(self._names) < len(peers):
            raise InputError(f"{own}: two peers have the same key. Give every robot a key of its own.")
        self._addresses = dict(peers)
        self._listen = listen
        self._limits = limits or Limits()
        self._server_tls = server_context(key, self._names)
        self._client_tls = {name: client_context(key, peer.key) for name, peer in peers.items()}
        self._outboxes = {name: Buffer(queue_bytes) for name in peers}
        self._connected: set[str] = set()
        self._callers: dict[str, asyncio.Task] = {}
        self._strangers: dict[asyncio.Task, None] = {}  # in the order of their coming
        self._tasks: set[asyncio.Task] = set()
        self._socket: socket.socket | None = None
        self.refused: Counter[str] = Counter()
        self.port = listen[1]

    def reachable(self) -> frozenset[str]:
        """Peers that took this peer's call; a link that dies in silence is noticed after `Limits.silence`."""
        return frozenset(self._connected)

    async def _begin(self) -> None:
        host, port = self._listen
        loop = asyncio.get_running_loop()
        try:
            (family, _, _, _, address), *_ = await loop.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            self._socket = socket.create_server(address[:2], family=family, backlog=self._limits.strangers)
        except OSError as error:
            raise TransportError(
                f"{self.own} cannot listen on {host}:{port}: {error}. Choose an address of this machine and a "
                "free port."
            ) from error
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]
        self._start(self._accept(self._socket))
        for name in self._addresses:
            self._start(self._keep_calling(name))

    async def _end(self) -> None:
        while self._tasks:  # more than once: up to Python 3.11, wait_for may swallow a cancellation (bpo-37658)
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=0.1)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._connected.clear()

    def _send(self, peer: str, message: bytes) -> str | None:
        if peer not in self._connected:
            return "unreachable"
        return None if self._outboxes[peer].put(message) else "outbox_full"

    def _start(self, story) -> asyncio.Task:
        task = asyncio.get_running_loop().create_task(story)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # The side that calls.

    async def _keep_calling(self, name: str) -> None:
        """Call a peer, send until the connection breaks, wait, call again."""
        wait = self._limits.first_wait
        while True:
            with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                reader, writer = await self._call(name)
                wait = self._limits.first_wait
                try:
                    await self._feed(name, reader, writer)
                finally:
                    self._hang_up(name)
                    writer.transport.abort()
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # robots that lost one peer do not all call at once
            wait = min(2 * wait, self._limits.longest_wait)

    async def _call(self, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        peer, limits = self._addresses[name], self._limits
        opening = asyncio.open_connection(
            peer.host, peer.port, ssl=self._client_tls[name], ssl_handshake_timeout=limits.handshake
        )
        reader, writer = await asyncio.wait_for(opening, limits.connect + limits.handshake)
        try:
            await asyncio.wait_for(reader.readexactly(len(WELCOME)), limits.handshake)
        except BaseException:
            writer.transport.abort()
            raise
        _give_up_after(writer.get_extra_info("socket"), limits.silence)
        return reader, writer

    async def _feed(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send what is queued, and signs of life, until the other side hangs up."""
        outbox = self._outboxes[name]
        self._connected.add(name)
        gone = asyncio.ensure_future(reader.read(1))  # the called side says nothing more, so this ends with the call
        tasks = [gone, *map(asyncio.ensure_future, (self._pump(outbox, writer), self._live(writer)))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(self, outbox: Buffer, writer: asyncio.StreamWriter) -> None:
        while True:
            await outbox.filled()
            parts, size = [], 0
            while outbox and size < BATCH_BYTES:
                message = outbox.pop()
                parts += [(len(message) + 1).to_bytes(LENGTH_BYTES, "big"), message]
                size += len(message)
            writer.write(b"".join(parts))
            await writer.drain()

    async def _live(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(self._limits.sign_of_life)
            writer.write(bytes(LENGTH_BYTES))

    def _hang_up(self, name: str) -> None:
        self._connected.discard(name)
        outbox = self._outboxes[name]
        self.counts[name].dropped["unreachable"] += len(outbox)
        while outbox:
            outbox.pop()

    # The side that is called.

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                caller, _ = await loop.sock_accept(listener)
            except OSError:  # such as too many open files: let some of them close
                await asyncio.sleep(0.1)
                continue
            if len(self._strangers) >= self._limits.strangers:
                # The oldest goes: a robot's handshake takes a moment, one that lingers may never end.
                self.refused["crowded"] += 1
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                oldest.cancel()
            self._strangers[self._start(self._serve(caller))] = None

    async def _serve(self, caller: socket.socket) -> None:
        """Find out who calls, then read messages until the call ends."""
        me = asyncio.current_task()
        assert me is not None
        try:
            reader, writer = await self._greet(caller)
        except (OSError, asyncio.TimeoutError):
            self.refused["handshake"] += 1
            return
        finally:
            self._strangers.pop(me, None)
        try:
            name = self._names[key_of(writer.get_extra_info("ssl_object"))]
            before = self._callers.get(name)
            if before is not None:  # a robot that restarted, or two robots with one key
                self.refused["replaced"] += 1
                before.cancel()
            self._callers[name] = me
            writer.write(WELCOME)
            await self._listen_to(name, reader, writer)
        finally:
            writer.transport.abort()
            if self._callers.get(name) is me:
                del self._callers[name]

    async def _greet(self, caller: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, caller, ssl=self._server_tls, ssl_handshake_timeout=self._limits.handshake
            )
        except BaseException:
            caller.close()
            raise
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _listen_to(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        share, limits = self.inbox.of(name), self._limits

        def too_late(reason: str) -> None:
            self.refused[reason] += 1
            writer.transport.abort()

        with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # the end of the call; a robot calls again
            while True:
                with _deadline(limits.silence, too_late, "silent"):
                    size = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big") - 1
                if size > self.max_message:
                    self.refused["oversize"] += 1
                    return
                if size < 0:
                    continue
                await share.room(size)
                with _deadline(limits.message, too_late, "too_slow"):
                    message = await reader.readexactly(size)
                self._arrived(name, message)


@contextlib.contextmanager
def _deadline(seconds: float, late: Callable[[str], None], reason: str) -> Iterator[None]:
    """Call `late(reason)` when the body takes longer; cheaper than a task per message, as `wait_for` makes."""
    timer = asyncio.get_running_loop().call_later(seconds, late, reason)
    try:
        yield
    finally:
        timer.cancel()


def _give_up_after(connection: socket.socket, seconds: float) -> None:
    """Let the kernel end a connection whose other side no longer answers; left alone it takes 15 minutes."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
