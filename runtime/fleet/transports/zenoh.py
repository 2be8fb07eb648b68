"""Zenoh: robots behind routers, on changing networks, or beside ROS 2 with `rmw_zenoh`.

A robot subscribes to `<prefix>/to/<own>/*` and publishes to `<prefix>/to/<peer>/<own>`, with congestion control BLOCK:
Zenoh's default drops the fragments of large messages even on loopback (ros2/rmw_zenoh, issue 543). Who is there shows
in liveliness tokens. Zenoh itself proves nobody's name unless its configuration says so (TLS with client certificates,
access control), so that names are claims and the peer's signatures decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edgeflock.runtime.errors import InputError, TransportError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.fleet.transports.base import QUEUE_BYTES
from edgeflock.runtime.fleet.transports.threaded import Publish, ThreadedTransport

ENVELOPE_BYTES = 4 << 10
"""What Zenoh may add to a message: key, encoding, header."""


class ZenohTransport(ThreadedTransport):
    """One peer's end, with a Zenoh session of its own in mode "peer".

    Parameters
    ----------
    own, peers, max_message, queue_bytes
        As for every `Transport`.
    listen, connect : sequence of str
        Zenoh endpoints, such as "tcp/0.0.0.0:7447"; `connect` names peers or routers and is tried again and again.
    prefix : str
        Start of all keys; robots of different prefixes do not hear each other.
    multicast : bool
        Look for peers by multicast, too.
    config : Path, optional
        Zenoh's own configuration file (JSON5), for TLS, access control and the like; the parameters above override it.
    """

    name = "zenoh"

    def __init__(
        self,
        own: str,
        peers: Iterable[str],
        listen: Sequence[str],
        connect: Sequence[str],
        prefix: str = "edgeflock",
        multicast: bool = False,
        config: Path | None = None,
        max_message: int = 256 << 10,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        super().__init__(own, peers, max_message, queue_bytes)
        self._zenoh = _zenoh()
        self._prefix = prefix
        self._config = self._configure(list(listen), list(connect), multicast, config)
        self._alive: set[str] = set()
        self._session: Any = None
        self._declared: list[Any] = []  # Zenoh withdraws what nobody holds

    def _reaches(self, peer: str) -> bool:
        return peer in self._alive  # its liveliness token is seen; Zenoh's lease is 10 s by default

    def _configure(self, listen: list[str], connect: list[str], multicast: bool, file: Path | None) -> Any:
        try:
            config = self._zenoh.Config.from_file(str(file)) if file else self._zenoh.Config()
            for key, value in {
                "mode": "peer",
                "listen/endpoints": listen,
                "connect/endpoints": connect,
                "connect/retry": {"period_init_ms": 200, "period_max_ms": 10_000, "period_increase_factor": 2},
                "scouting/multicast/enabled": multicast,
                "transport/link/rx/max_message_size": self.max_message + ENVELOPE_BYTES,
                "transport/shared_memory/enabled": False,  # what a killed process leaves in /dev/shm stays there
            }.items():
                config.insert_json5(key, json.dumps(value))
        except self._zenoh.ZError as error:
            raise InputError(
                f"Zenoh does not take the configuration of {self.own}: {error}. Expected endpoints like "
                f"tcp/192.168.1.7:7447, got listen={listen}, connect={connect}{f' and {file}' if file else ''}."
            ) from error
        return config

    def _join(self, loop: asyncio.AbstractEventLoop) -> dict[str, Publish]:
        try:
            return self._open_session(loop)
        except self._zenoh.ZError as error:
            raise TransportError(
                f"{self.own} cannot open its Zenoh session: {error}. Choose endpoints to listen on that are free."
            ) from error

    def _open_session(self, loop: asyncio.AbstractEventLoop) -> dict[str, Publish]:
        self._session = session = self._zenoh.open(self._config)
        for key, heard in (("to/" + self.own, self._heard), ("alive", self._seen)):
            declare = session.liveliness().declare_subscriber if key == "alive" else session.declare_subscriber
            history = {"history": True} if key == "alive" else {}
            hear = partial(heard, loop)
            self._declared.append(declare(f"{self._prefix}/{key}/*", hear, **history))
        # Last: who sees the token can send.
        self._declared.append(session.liveliness().declare_token(f"{self._prefix}/alive/{self.own}"))
        block, reliable = self._zenoh.CongestionControl.BLOCK, self._zenoh.Reliability.RELIABLE
        publishers = {
            peer: session.declare_publisher(
                f"{self._prefix}/to/{peer}/{self.own}", congestion_control=block, reliability=reliable
            )
            for peer in self.peers
        }
        return {peer: partial(self._publish, publisher) for peer, publisher in publishers.items()}

    def _leave(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
            self._declared.clear()
        self._alive.clear()

    def _publish(self, publisher: Any, message: bytes) -> None:
        with contextlib.suppress(self._zenoh.ZError):  # the session is closing
            publisher.put(message)

    def _heard(self, loop: asyncio.AbstractEventLoop, sample: Any) -> None:
        peer = _last(sample)
        if peer in self.counts:
            if len(sample.payload) > self.max_message:
                self.counts[peer].dropped["oversize"] += 1
            else:
                self._arrived_in_thread(loop, peer, sample.payload.to_bytes())

    def _seen(self, loop: asyncio.AbstractEventLoop, sample: Any) -> None:
        peer, there = _last(sample), sample.kind == self._zenoh.SampleKind.PUT
        if peer in self.counts:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._alive.add if there else self._alive.discard, peer)


def _last(sample: Any) -> str:
    return str(sample.key_expr).rpartition("/")[2]


def _zenoh() -> Any:
    with needs("The Zenoh transport"):
        import zenoh
    return zenoh
