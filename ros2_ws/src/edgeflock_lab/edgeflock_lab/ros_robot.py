"""The laboratory's robot of `edgeflock.export.fleet.lab.robot`, over ROS 2 topics, in a namespace of `links.Relay`.

python -m edgeflock_lab.ros_robot SPEC.json
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from importlib.resources import files

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from edgeflock.export.fleet.lab import robot
from fleet_exchange.transport import RosTransport


def main() -> None:
    """Run the robot of a specification."""
    # As fleet.launch.py. It has no shared memory, which would pass the relay by: Fast DDS sees one machine here.
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(files("edgeflock_ros") / "config" / "lossy.xml")
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"
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
