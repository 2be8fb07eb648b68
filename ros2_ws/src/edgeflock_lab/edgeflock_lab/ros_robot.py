"""The laboratory's robot of `edgeflock.export.fleet.lab.robot`, over ROS 2 topics, in a namespace of `links.Relay`.

python -m edgeflock_lab.ros_robot SPEC.json
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from edgeflock.export.fleet.lab import robot
from fleet_exchange.transport import RosTransport


def main() -> None:
    """Run the robot of a specification."""
    # Fast DDS sees one machine here, and its shared memory would pass the relay by.
    os.environ |= {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    os.environ.pop("FASTRTPS_DEFAULT_PROFILES_FILE", None)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("fleet")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin, name="executor")
    spinning.start()

    def transport(spec: robot.Spec, keys: Mapping[str, bytes]) -> RosTransport:
        return RosTransport(node, spec.own, keys)

    try:
        robot.main(transport)
    finally:
        executor.shutdown()
        spinning.join()
        node.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    main()
