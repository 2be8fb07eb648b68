"""Listens to camera, emotion and steering node, for `edgeflock emotion-bars`."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, JointState

from edgeflock_ros import topics
from edgeflock_ros.messages import qos, to_ns
from emotion_recognition.faces import ids_of, ids_type


class Watch(Node):
    """Keeps which frames were sent, and when each was answered.

    Parameters
    ----------
    humans : str
        As the emotion node's.
    options
        Of `rclpy.node.Node` (context).

    Attributes
    ----------
    sent : list of int
        Stamps of the frames in ns.
    answers : dict of int to (int, int)
        By stamp: arrival in ns and number of faces.
    steered : set of int
        Stamps.
    reports : list of dict
        Values of the emotion node's diagnostics, one a second.
    """

    def __init__(self, humans: str, **options: Any) -> None:
        super().__init__("watch", **options)
        self.sent: list[int] = []
        self.answers: dict[int, tuple[int, int]] = {}
        self.steered: set[int] = set()
        self.reports: list[dict[str, str]] = []
        deep = qos("reliable", 100)
        self.create_subscription(CameraInfo, topics.info(topics.COLOR), self._on_frame, deep)
        # rclpy hands the message info to a callback with two arguments, which its annotations do not say.
        self.create_subscription(ids_type(), f"{humans}/{topics.TRACKED}", self._on_tracked, deep)  # type: ignore[arg-type]
        self.create_subscription(JointState, topics.STEERING, self._on_steering, deep)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, deep)

    def _on_frame(self, message: CameraInfo) -> None:
        self.sent.append(to_ns(message.header.stamp))

    def _on_tracked(self, message: Any, info: dict[str, int]) -> None:
        self.answers[to_ns(message.header.stamp)] = info["received_timestamp"], len(ids_of(message))

    def _on_steering(self, message: JointState) -> None:
        self.steered.add(to_ns(message.header.stamp))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {v.key: v.value for v in status.values}
            if "detector" in values and "latency_p50_ms" in values:
                self.reports.append(values)
