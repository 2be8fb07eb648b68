"""The package builds with colcon, and its launch file lets a robot dance."""

import os
import signal

import pytest

pytest.importorskip("rclpy")


def test_colcon_installs_nodes_and_launch_file(installed):
    nodes = {file.name for file in (installed / "choreography/lib/choreography").iterdir()}
    assert nodes == {"choreography_node", "tracker_node"}
    share = installed / "choreography/share"
    assert (share / "choreography/launch/choreography.launch.py").exists()
    assert (share / "ament_index/resource_index/packages/choreography").exists()


def test_the_launch_file_starts_the_dance_and_who_drives_along_it(graph, installed, tmp_path):
    """Needs launch and launch_ros, which are on a robot but on no package index."""
    pytest.importorskip("launch_ros")
    import numpy as np
    from geometry_msgs.msg import TwistStamped
    from nav_msgs.msg import Odometry, Path

    from edgeflock.runtime.motion.files import write_motion
    from edgeflock.runtime.motion.group import Group
    from edgeflock_ros.frames import LATCHED

    turns = np.zeros((1, 30, 24, 4))
    turns[..., 0] = 1
    write_motion(tmp_path / "motion.npz", Group(np.zeros((1, 30, 3)), turns))
    paths = graph.listen(Path, "/robot1/path", LATCHED)
    commands = graph.listen(TwistStamped, "/robot1/cmd_vel_nav")
    odometry = graph.node.create_publisher(Odometry, "/robot1/odom", 10)
    launched = graph.launch(
        installed, "choreography", motion=tmp_path / "motion.npz", namespace="robot1", dancer=1, tracker="true",
        cmd_vel_topic="cmd_vel_nav",
    )  # fmt: skip
    assert graph.until(lambda: odometry.publish(Odometry()) or (paths and commands)), launched.log.read_text()
    os.killpg(launched.pid, signal.SIGINT)
    assert launched.wait(60) == 0
