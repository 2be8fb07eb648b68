"""What a net takes besides the camera's picture: the newest value of each input, from its topic."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.subscription import Subscription
from std_msgs.msg import Float32MultiArray

from edgeflock_ros import topics
from edgeflock_ros.messages import qos

if TYPE_CHECKING:
    from edgeflock.runtime.bundle.manifest import InputSpec

OLD_S = 0.5
"""A speed that came longer ago is none."""


class InputTopics:
    """Subscriptions of a net's inputs that are no picture.

    A single number in m/s is the robot's speed, from `odom`; any other is what `~/inputs/NAME` said last, a
    std_msgs/Float32MultiArray.

    Parameters
    ----------
    node : rclpy.node.Node
    specs : sequence of InputSpec
        Of these inputs.
    complain : callable
        Gets what is wrong with a message.
    start_at_zero : bool
        Inputs but the speed are 0 until their topic sends.

    Attributes
    ----------
    specs : list of InputSpec
    values : dict of ndarray
        By input.
    """

    def __init__(
        self, node: Node, specs: Sequence[InputSpec], complain: Callable[[str], None], start_at_zero: bool = False
    ) -> None:
        self._node, self._complain, self.specs = node, complain, list(specs)
        self.values = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in specs}
        self._heard_s: dict[str, float | None] = dict.fromkeys(self.values)
        self._speeds = {spec.name for spec in specs if is_speed(spec)}
        self._awaited = {spec.name for spec in specs if not start_at_zero or spec.name in self._speeds}
        self._subscriptions: list[Subscription] = [self._subscribed(spec) for spec in specs]

    def close(self) -> None:
        """End the subscriptions."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    @property
    def absence(self) -> str:
        """What frames wait for; empty where every input is there."""
        now = time.monotonic()
        heard = {name: self._heard_s[name] for name in self._awaited}
        missing = [
            self._topic(name)
            for name, at in sorted(heard.items())
            if at is None or (name in self._speeds and now - at > OLD_S)
        ]
        return f"frames wait for a message on {', '.join(missing)}" if missing else ""

    def _topic(self, name: str) -> str:
        return self._node.resolve_topic_name(topics.ODOMETRY if name in self._speeds else topics.net_input(name))

    def _subscribed(self, spec: InputSpec) -> Subscription:
        held = self.values[spec.name]

        def hear(numbers: Sequence[float]) -> None:
            if len(numbers) != held.size:
                self._complain(f"{self._topic(spec.name)}: expected {held.size} numbers, got {len(numbers)}")
                return
            held[...] = np.asarray(numbers, np.float32).reshape(held.shape)
            self._heard_s[spec.name] = time.monotonic()

        def hear_speed(message: Odometry) -> None:
            hear([message.twist.twist.linear.x])

        def hear_numbers(message: Float32MultiArray) -> None:
            hear(message.data)

        node = self._node
        if spec.name in self._speeds:
            return node.create_subscription(Odometry, topics.ODOMETRY, hear_speed, qos("sensor_data"))
        return node.create_subscription(Float32MultiArray, topics.net_input(spec.name), hear_numbers, qos("reliable"))


def is_speed(spec: InputSpec) -> bool:
    """Whether an input is the robot's speed."""
    return getattr(spec, "unit", "") == "m/s" and int(np.prod(spec.shape)) == 1
