"""What lies between the robots, as they measure it: the time of a small message, and the bits a second of a model.

Every robot pings every other one now and then, and says in its pings what it has found. So each knows the whole matrix,
which `edgeflock fleet delays` turns into a network to plan by.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

import numpy as np

from edgeflock.runtime.fleet.peer.context import Context
from edgeflock.runtime.fleet.peer.transfer import Incoming
from edgeflock.runtime.fleet.peer.wire import CHUNK_BYTES, Ping, Pong

Matrix = dict[str, dict[str, float]]
"""From robot to robot."""

KEPT = 32
"""Measurements of a link that count: of latencies the smallest (others waited), of rates the median."""
UNDER_WAY = 4
"""Pings that may still be answered."""
LEAST_CHUNKS = 4
"""Of a model, for its rate to say something."""


class Links:
    """Latency and bandwidth of one peer's links, and what the others say of theirs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._every_ns = context.config.ns("ping_s")
        self._due_ns = 0
        self._sent: OrderedDict[int, int] = OrderedDict()
        self._trips_us: dict[str, deque[int]] = {}
        self._rates_bps: dict[str, deque[float]] = {}
        self._said: dict[str, Ping] = {}

    def wake_ns(self) -> list[int]:
        """When `tick` is needed next, if ever."""
        return [self._due_ns] if self._every_ns else []

    def tick(self, others: Iterable[str]) -> None:
        """Ping everybody, if it is time."""
        now = self._context.now
        if not self._every_ns or now < self._due_ns:
            return
        self._due_ns = now + self._every_ns
        number = next(reversed(self._sent), 0) + 1
        self._sent[number] = now
        while len(self._sent) > UNDER_WAY:
            self._sent.popitem(last=False)
        message = self._context.signed(
            Ping, None, number=number, latency_us=self._latencies_us(), received_bps=self._received_bps()
        )
        for name in others:
            self._context.put(name, message)

    def heard(self, header: Ping | Pong) -> None:
        """Answer a ping, or take the time of one's own."""
        if isinstance(header, Ping):
            self._said[header.sender] = header
            self._context.write(Pong, header.sender, ping=header.number)
        elif header.ping in self._sent:
            trip_us = (self._context.now - self._sent[header.ping]) // 1000
            self._trips_us.setdefault(header.sender, deque(maxlen=KEPT)).append(trip_us)

    def came(self, incoming: Incoming) -> None:
        """Take the rate of a model that is complete, from its first chunk on."""
        lasted_ns = self._context.now - incoming.began_ns
        if incoming.offer.chunks >= LEAST_CHUNKS and lasted_ns > 0:
            bits = 8 * (incoming.offer.body_bytes - CHUNK_BYTES)
            rates = self._rates_bps.setdefault(incoming.offer.sender, deque(maxlen=KEPT))
            rates.append(bits / (lasted_ns / 1e9))

    def matrix(self) -> dict[str, Matrix]:
        """What is known of all links: "delay_ms" and "bandwidth_bps", both from robot to robot."""
        delay: Matrix = {self._context.own: {to: us / 1e3 for to, us in self._latencies_us().items()}}
        bandwidth: Matrix = {}
        received = {self._context.own: self._received_bps()}
        for name, ping in self._said.items():
            delay[name] = {to: us / 1e3 for to, us in ping.latency_us.items()}
            received[name] = ping.received_bps
        for to, rates in received.items():
            for sender, bps in rates.items():
                bandwidth.setdefault(sender, {})[to] = float(bps)
        return {"delay_ms": delay, "bandwidth_bps": bandwidth}

    def _latencies_us(self) -> dict[str, int]:
        """Half of the shortest round trip, at least 1 us."""
        return {name: max(min(trips) // 2, 1) for name, trips in self._trips_us.items()}

    def _received_bps(self) -> dict[str, int]:
        return {name: max(round(float(np.median(rates))), 1) for name, rates in self._rates_bps.items()}
