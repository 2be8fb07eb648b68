"""For `colcon test` on the robot itself: the guard that was just built drives on fresh steering, and stops without."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState

from edgeflock_ros import topics


@pytest.fixture
def graph(monkeypatch):
    """A guard without depth, and an observer; in a domain that no robot uses, on this machine only."""
    domain = random.randint(215, 232)  # a drive takes one up to 100, and Linux gives programs the ports between
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    given = ["require_depth:=false", "frame_timeout:=0.5"]
    arguments = ["--ros-args", *(word for value in given for word in ("-p", value))]
    guard = subprocess.Popen([sys.executable, "-m", "fadnet_nav.guard_node", *arguments], env=dict(os.environ))
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node, executor = rclpy.create_node("observer", context=context), SingleThreadedExecutor(context=context)
    executor.add_node(node)
    node.guard, node.speeds = guard, []
    node.create_subscription(TwistStamped, topics.COMMAND, lambda m: node.speeds.append(m.twist.linear.x), 10)
    node.steering = node.create_publisher(JointState, topics.STEERING, 5)

    def until(condition, each=lambda: None):
        end = time.monotonic() + 60  # a busy board
        while not condition() and time.monotonic() < end:
            each()
            executor.spin_once(timeout_sec=0.03)
        return condition()

    node.until = until
    yield node
    guard.kill()
    guard.wait()
    executor.shutdown()
    rclpy.shutdown(context=context)


def steer(node):
    joints = JointState(name=["steering"], position=[0.1])
    joints.header.stamp = node.get_clock().now().to_msg()
    node.steering.publish(joints)


def test_it_drives_on_fresh_steering_and_stops_when_none_comes(graph):
    assert graph.until(lambda: graph.speeds and graph.speeds[-1] > 0.5, each=lambda: steer(graph))
    assert graph.until(lambda: graph.speeds[-1] == 0.0)


def test_its_last_word_is_a_zero_command(graph):
    assert graph.until(lambda: graph.speeds and graph.speeds[-1] > 0.5, each=lambda: steer(graph))
    graph.guard.send_signal(signal.SIGINT)
    assert graph.until(lambda: graph.speeds[-1] == 0.0 and graph.guard.poll() == 0)
