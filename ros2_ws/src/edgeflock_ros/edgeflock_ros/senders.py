"""Who sends on a topic: by name, whether they are silent, and whether two do at once."""

from __future__ import annotations

import difflib
import time
from collections import deque
from collections.abc import Collection
from typing import Any

from rclpy.node import Node

from edgeflock_ros.messages import NUMBERED

WINDOW_S = 2.0
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFOS = ("sensor_msgs/msg/CameraInfo",)


def alike(node: Node, topic: str, kinds: Collection[str]) -> str:
    """Where such messages do come: up to three topics that somebody sends, the most similar name first; or nothing."""
    sent = [
        name
        for name, types in node.get_topic_names_and_types()
        if name != topic and set(types) & set(kinds) and node.count_publishers(name)
    ]
    nearest = difflib.get_close_matches(topic, sent, n=3, cutoff=0.0)
    return f"; such messages come on {', '.join(nearest)}" if nearest else ""


class Senders:
    """The publishers of one topic.

    Parameters
    ----------
    node : rclpy.node.Node
        Looks at the graph.
    topic : str
        Fully qualified and remapped, as `Publisher.topic_name` has it.
    """

    def __init__(self, node: Node, topic: str) -> None:
        self._node, self._topic = node, topic
        self._heard_s: float | None = None
        self._known: list[str] = []
        self._number = 0
        self._steps_back: deque[float] = deque(maxlen=2)

    def hear(self, info: dict[str, int] | None = None) -> None:
        """Take note of a message, and of the info that came with it."""
        self._heard_s = time.monotonic()
        if info is None:
            return
        number = info["publication_sequence_number"]
        if number < self._number:
            self._steps_back.append(self._heard_s)
        self._number = number

    @property
    def heard(self) -> bool:
        """Whether any message came."""
        return self._heard_s is not None

    def names(self) -> list[str]:
        """Nodes that the graph lists as publishers, one entry per publisher; none for those that are half gone."""
        found: list[Any] = self._node.get_publishers_info_by_topic(self._topic)
        known = [p for p in found if "UNKNOWN" not in p.node_name]
        names = sorted(f"{p.node_namespace.rstrip('/')}/{p.node_name}" for p in known)
        self._known = names or self._known
        return names

    def absence(self, what: str, kinds: Collection[str]) -> str:
        """Who should send what does not come any more; if there is nobody, where messages of these kinds do come."""
        if names := self.names():
            return f"no {what} on {self._topic} from {' and '.join(names)}"
        return f"no {what} on {self._topic}: nobody sends there{alike(self._node, self._topic, kinds)}"

    def silence(self, limit_s: float = 0.0) -> str | None:
        """Who is silent, by name, if no message was heard for longer than `limit_s` of a steady clock."""
        quiet_s = None if self._heard_s is None else time.monotonic() - self._heard_s
        if quiet_s is not None and quiet_s <= limit_s:
            return None
        names = sorted(set(self.names()))
        if quiet_s is None:
            return f"{' and '.join(names)} sends nothing on {self._topic}" if names else f"nobody sends {self._topic}"
        known = " and ".join(names or sorted(set(self._known))) or "its sender"
        return f"{self._topic} is silent for {quiet_s:.2f} s: {known} is {'silent or dead' if names else 'gone'}"

    def quarrel(self) -> str | None:
        """Why what comes must not be obeyed: two send; None while one does.

        A writer numbers its messages, so numbers that go back twice within `WINDOW_S` come from two writers that both
        send (they go back once when a writer is started again). The graph alone cannot tell: it lists a process that
        was killed for some 20 s more. On Humble, whose rclpy hands over no numbers, the list decides all the same.
        """
        if NUMBERED:
            two = len(self._steps_back) == 2 and time.monotonic() - self._steps_back[0] < WINDOW_S
        else:
            two = self._node.count_publishers(self._topic) > 1
        return f"more than one node sends on {self._topic}: {', '.join(self.names())}" if two else None

    def crowd(self) -> str | None:
        """What to warn of: the graph lists more than one publisher."""
        names = self.names()
        return f"{len(names)} publishers of {self._topic}: {', '.join(names)}" if len(names) > 1 else None
