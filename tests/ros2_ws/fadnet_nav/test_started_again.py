"""What a node that takes the place of one that failed knows of it, and what becomes of a node whose launch dies."""

import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import JointState

from edgeflock_ros.messages import to_stamp
from edgeflock_ros.nodes import KEPT

PARENT = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-m', *sys.argv[1:]]))"


@pytest.fixture
def launched(graph, tmp_path):
    """A graph whose nodes are a launch's, and steering at 30 Hz."""
    graph.env[KEPT] = str(tmp_path)
    joints = graph.node.create_publisher(JointState, "steering", 5)

    def steer():
        joint = JointState(name=["steering"], position=[0.0])
        joint.header.stamp = to_stamp(time.time_ns())
        joints.publish(joint)

    graph.node.create_timer(1 / 30, steer)
    graph.commands = graph.listen(TwistStamped, "cmd_vel")
    return graph


def drives(graph, at):
    assert graph.until(lambda: graph.commands and graph.commands[-1][1].twist.linear.x == at), [
        p.log.read_text() for p in graph.processes
    ]


def test_what_was_set_on_a_guard_holds_for_the_one_that_takes_its_place(launched):
    guard = launched.start("guard_node", require_depth=False)
    drives(launched, 1.0)
    assert launched.set_parameter("/guard", "speed", 0.3) == (True, "")
    drives(launched, 0.3)
    guard.kill()
    guard.wait(60)
    launched.commands.clear()
    again = launched.start("guard_node", require_depth=False)
    drives(launched, 0.3)
    assert max(m.twist.linear.x for _, m in launched.commands) == 0.3
    assert "with what was set on the node that ended: speed=0.3" in again.log.read_text()
    request = GetParameters.Request(names=["speed", "wheelbase"])
    speed, wheelbase = launched.call(GetParameters, "/guard/get_parameters", request).values
    assert (speed.double_value, wheelbase.double_value) == (0.3, 0.36)


def test_without_a_launch_nothing_is_kept(launched):
    del launched.env[KEPT]
    guard = launched.start("guard_node", require_depth=False)
    drives(launched, 1.0)
    assert launched.set_parameter("/guard", "speed", 0.3) == (True, "")
    guard.kill()
    guard.wait(60)
    launched.start("guard_node", require_depth=False)
    drives(launched, 1.0)


def test_a_deactivated_node_that_dies_comes_back_inactive_until_it_is_activated(launched, bundle):
    def change(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return launched.call(ChangeState, "/steering/change_state", request).success

    def state():
        return launched.call(GetState, "/steering/get_state", GetState.Request()).current_state.label

    steering = launched.start("steering_node", bundle=bundle)
    assert launched.until(lambda: state() == "active")
    assert change(Transition.TRANSITION_DEACTIVATE)
    steering.terminate()  # a killed one would still be listed, and asked in vain
    steering.wait(60)
    steering = launched.start("steering_node", bundle=bundle)
    assert launched.until(lambda: "autostart=False" in steering.log.read_text())
    assert state() == "unconfigured"
    assert change(Transition.TRANSITION_CONFIGURE) and change(Transition.TRANSITION_ACTIVATE)
    assert "autostart" not in (launched.folder / "steering.json").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_guard_whose_launch_dies_stops_the_robot_and_ends(launched, number):
    arguments = ["fadnet_nav.guard_node", "--ros-args", "-p", "require_depth:=false"]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *arguments], env=launched.env)
    try:
        drives(launched, 1.0)
        parent.send_signal(number)
        parent.wait(60)
        killed = time.time_ns()
        assert launched.until(lambda: launched.commands[-1][1].twist.linear.x == 0.0)
        assert launched.until(lambda: time.time_ns() - max(launched.commands[-1][0], killed) > 1e9)  # it is gone
        assert launched.commands[-1][1].twist.linear.x == 0.0
    finally:
        parent.kill()
