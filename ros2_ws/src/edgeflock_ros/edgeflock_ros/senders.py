"""Who sends on a topic, and whether two do at once."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from rclpy.node import Node

from edgeflock_ros.messages import NUMBERED

WINDOW_S = 2.0


class Senders:
    """The publishers of one topic.

    A writer numbers its messages, so numbers that go back twice within `WINDOW_S` come from two writers that both send
    (they go back once when a writer is started again). The graph alone cannot tell: it lists a process that was killed
    for some 20 s more. On Humble, whose rclpy hands over no numbers, the list decides all the same.

    Parameters
    ----------
    node : rclpy.node.Node
        Looks at the graph.
    topic : str
        Fully qualified and remapped, as `Publisher.topic_name` has it.
    """

    def __init__(self, node: Node, topic: str) -> None:
        self._node, self._topic = node, topic
        self._number = 0
        self._steps_back: deque[float] = deque(maxlen=2)

    def hear(self, info: dict[str, int]) -> None:
        """Take note of a message, by the info that came with it."""
        number = info["publication_sequence_number"]
        if number < self._number:
            self._steps_back.append(time.monotonic())
        self._number = number

    def names(self) -> list[str]:
        """Nodes that the graph lists as publishers, one entry per publisher."""
        found: list[Any] = self._node.get_publishers_info_by_topic(self._topic)
        return sorted(f"{p.node_namespace.rstrip('/')}/{p.node_name}" for p in found)

    def quarrel(self) -> str | None:
        """Why what comes must not be obeyed: two send; None while one does."""
        if NUMBERED:
            two = len(self._steps_back) == 2 and time.monotonic() - self._steps_back[0] < WINDOW_S
        else:
            two = self._node.count_publishers(self._topic) > 1
        return f"more than one node sends on {self._topic}: {', '.join(self.names())}" if two else None

    def crowd(self) -> str | None:
        """What to warn of: the graph lists more than one publisher."""
        names = self.names()
        return f"{len(names)} publishers of {self._topic}: {', '.join(names)}" if len(names) > 1 else None
