"""A node's end of the bond by which Nav2's lifecycle manager sees that it lives (bond_core, docs/robot-ros.md).

Both ends say on `bond` that they are alive, under an id of their own; a last word says that an end closes, and the
other end answers it with its own. The manager brings all of its nodes down when it hears nothing for its
`bond_timeout`. A node does nothing when the manager falls silent, as Nav2's nodes do: the guard watches who drives.
"""

from __future__ import annotations

import uuid

from rclpy.duration import Duration
from rclpy.node import Node

from edgeflock_ros import topics
from edgeflock_ros.messages import qos
from edgeflock_ros.timers import steady_timer

try:
    from bond.msg import Status
except ImportError:  # it comes with Nav2; ROS of PyPI has it only after .ci/messages
    Status = None

PERIOD_S = 0.1  # as Nav2's nodes
TIMEOUT_S = 4.0  # what the manager may wait; it goes by its own `bond_timeout`
LAST_WORD_S = 1.0  # a busy machine takes its time; the word is there at once on others


class Bond:
    """Says that a node is alive, from now until `close`.

    Parameters
    ----------
    node : rclpy.node.Node
        Its name is the bond's.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._instance = str(uuid.uuid4())
        self._manager = ""
        self._publisher = node.create_publisher(Status, topics.BOND, qos("reliable", 5))
        self._subscription = node.create_subscription(Status, topics.BOND, self._on_status, qos("reliable", 100))
        self._timer = steady_timer(node, PERIOD_S, lambda: self._say(True))

    @classmethod
    def of(cls, node: Node) -> Bond | None:
        """The bond of a node; None, with a word in the log, where its message is not installed."""
        if Status is None:
            node.get_logger().info("no bond: its messages are not installed (apt install ros-<distro>-bond)")
            return None
        return cls(node)

    def _on_status(self, status: Status) -> None:
        if status.id != self._node.get_name() or status.instance_id == self._instance:
            return
        if status.active:
            self._manager = status.instance_id
        elif status.instance_id == self._manager:  # the last word of an earlier manager is not for this bond
            self._timer.cancel()
            self._say(False)

    def _say(self, active: bool) -> None:
        status = Status(id=self._node.get_name(), instance_id=self._instance, active=active)
        status.header.stamp = self._node.get_clock().now().to_msg()
        status.heartbeat_timeout, status.heartbeat_period = TIMEOUT_S, PERIOD_S
        self._publisher.publish(status)

    def close(self) -> None:
        """Say the last word, and wait until it has arrived."""
        self._say(False)
        self._publisher.wait_for_all_acked(Duration(seconds=LAST_WORD_S))
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_publisher(self._publisher)
