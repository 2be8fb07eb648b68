"""ROS 2 topics: one per directed link, `<prefix>/<sender>/to/<receiver>`, of `edgeflock_msgs/FleetPacket`.

A topic of its own lets DDS send to one robot alone, and gives each link a history of its own: a robot that floods fills
nobody else's. QoS is reliable, volatile, keep-last; the history is deeper than what may be under way, for a reliable
history that is shallower loses what was not read yet. A message fits into one datagram of DDS.

Who is there shows in the matched subscriptions. DDS lists a robot that died without a word for some 20 s more. The
topic's name is a claim unless SROS 2 enforces it; the peer's signatures and SHA-256 decide.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
from collections.abc import Iterable
from functools import partial
from typing import Any

from rclpy.node import Node

from edgeflock.runtime.fleet.transports.base import QUEUE_BYTES
from edgeflock.runtime.fleet.transports.threaded import Publish, ThreadedTransport
from edgeflock_ros import topics
from edgeflock_ros.messages import qos
from fleet_exchange.messages import FleetPacket

MAX_MESSAGE = 60_000
"""With what DDS adds it stays below the 64 kB of a datagram."""
DEPTH = 64
"""Messages that a link's history holds."""


class RosTransport(ThreadedTransport):
    """One peer's end.

    Parameters
    ----------
    node : rclpy.node.Node
        Has the topics; an executor in another thread spins it.
    own, peers, max_message, queue_bytes
        As for every `Transport`.
    prefix : str
        Start of all topics; robots of different prefixes do not hear each other.
    depth : int
        Of each link's history.
    """

    name = "ros2"

    def __init__(
        self,
        node: Node,
        own: str,
        peers: Iterable[str],
        prefix: str = topics.FLEET,
        depth: int = DEPTH,
        max_message: int = MAX_MESSAGE,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        super().__init__(own, peers, max_message, queue_bytes)
        self._node, self._prefix, self._profile = node, prefix, qos("reliable", depth)
        self._publishers: dict[str, Any] = {}
        self._subscriptions: list[Any] = []

    def _reaches(self, peer: str) -> bool:
        with contextlib.suppress(RuntimeError):  # the node ends
            return peer in self._publishers and self._publishers[peer].get_subscription_count() > 0
        return False

    def _join(self, loop: asyncio.AbstractEventLoop) -> dict[str, Publish]:
        for peer in self.peers:
            comes, goes = (topics.link(self._prefix, *ends) for ends in ((peer, self.own), (self.own, peer)))
            hear = partial(self._hear, loop, peer)
            self._subscriptions.append(self._node.create_subscription(FleetPacket, comes, hear, self._profile))
            self._publishers[peer] = self._node.create_publisher(FleetPacket, goes, self._profile)
        return {peer: partial(self._publish, publisher) for peer, publisher in self._publishers.items()}

    def _leave(self) -> None:
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())
        while self._publishers:
            self._node.destroy_publisher(self._publishers.popitem()[1])

    def _publish(self, publisher: Any, message: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the node ends
            publisher.publish(FleetPacket(data=array.array("B", message)))

    def _hear(self, loop: asyncio.AbstractEventLoop, peer: str, packet: FleetPacket) -> None:
        if len(packet.data) > self.max_message:
            self.counts[peer].dropped["oversize"] += 1
        else:
            self._arrived_in_thread(loop, peer, packet.data.tobytes())
