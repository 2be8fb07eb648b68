"""What a net takes besides the picture: the speed from odometry, any other number from its own topic."""

import pytest

pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry
from std_msgs.msg import Float32MultiArray

from edgeflock.runtime.bundle.manifest import VectorInput
from edgeflock_ros import inputs
from edgeflock_ros.inputs import InputTopics

SPECS = [VectorInput(name="v", shape=(1, 1), unit="m/s"), VectorInput(name="command", shape=(1, 4), dtype="int64")]


def test_frames_wait_until_the_robots_speed_and_a_command_came(graph):
    complaints = []
    heard = InputTopics(graph.node, SPECS, complaints.append)
    name = graph.node.get_name()
    assert heard.absence == f"frames wait for a message on /{name}/inputs/command, /odom"
    odometry = Odometry()
    odometry.twist.twist.linear.x = 0.5
    odom = graph.node.create_publisher(Odometry, "/odom", 1)
    command = graph.node.create_publisher(Float32MultiArray, f"/{name}/inputs/command", 1)
    graph.node.create_timer(0.02, lambda: odom.publish(odometry))
    graph.node.create_timer(0.02, lambda: command.publish(Float32MultiArray(data=[0.0, 1.0, 0.0, 0.0])))
    assert graph.until(lambda: not heard.absence)
    assert heard.values["v"].tolist() == [[0.5]] and heard.values["command"].tolist() == [[0, 1, 0, 0]]
    assert complaints == []
    heard.close()


def test_a_speed_of_long_ago_is_none_and_a_command_holds(graph, monkeypatch):
    complaints = []
    heard = InputTopics(graph.node, SPECS, complaints.append, start_at_zero=True)
    assert heard.absence == "frames wait for a message on /odom"  # a robot that does not say how fast it is may be fast
    odom = graph.node.create_publisher(Odometry, "/odom", 1)
    timer = graph.node.create_timer(0.02, lambda: odom.publish(Odometry()))
    assert graph.until(lambda: not heard.absence)
    graph.node.destroy_timer(timer)
    monkeypatch.setattr(inputs, "OLD_S", -1.0)
    assert heard.absence == "frames wait for a message on /odom"
    command = graph.node.create_publisher(Float32MultiArray, f"/{graph.node.get_name()}/inputs/command", 1)
    graph.node.create_timer(0.02, lambda: command.publish(Float32MultiArray(data=[1.0])))
    assert graph.until(lambda: complaints) and "expected 4 numbers, got 1" in complaints[0]
    heard.close()
