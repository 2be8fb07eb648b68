"""The ROS packages build with colcon, bring their files, and their parameter files hold what the nodes accept."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy")

from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import GetParameters

from edgeflock_ros.camera_node import CameraParameters
from fadnet_nav.guard_node import GuardParameters
from fadnet_nav.steering_node import SteeringParameters

WORKSPACE = Path(__file__).parents[3] / "ros2_ws"
PACKAGE = WORKSPACE / "src/fadnet_nav"
MODELS = {"/**/camera": CameraParameters, "/**/steering": SteeringParameters, "/**/guard": GuardParameters}


def test_colcon_installs_nodes_launch_file_parameters_and_profiles(installed):
    share = installed / "fadnet_nav/share"
    assert (share / "ament_index/resource_index/packages/fadnet_nav").exists()
    assert (share / "fadnet_nav/launch/fadnet_nav.launch.py").exists()
    assert {f.name for f in (share / "fadnet_nav/config").iterdir()} == {
        f.name for f in (PACKAGE / "fadnet_nav/config").iterdir()
    }
    executables = {f.name for f in (installed / "fadnet_nav/lib/fadnet_nav").iterdir()}
    assert executables == {"steering_node", "guard_node", "composed"}
    simulated = installed / "fadnet_sim/lib/fadnet_sim"
    assert {f.name for f in simulated.iterdir()} == {"base_node", "camera_node"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "fadnet_nav/config").glob("*.yaml")), ids=lambda p: p.name)
def test_a_parameter_file_holds_what_the_nodes_accept(path):
    for node, content in yaml.safe_load(path.read_text()).items():
        values = content["ros__parameters"]
        assert set(values) <= set(MODELS[node].model_fields), node
        MODELS[node](**values)


def test_a_parameter_file_reaches_a_node_in_any_namespace(graph):
    request = GetParameters.Request(names=["wheelbase", "stamped"])
    for namespace in ("", "/robot1"):
        graph.start("guard_node", namespace, ["--params-file", PACKAGE / "fadnet_nav/config/f1tenth.yaml"])
    for namespace in ("", "/robot1"):
        values = graph.call(GetParameters, f"{namespace}/guard/get_parameters", request).values
        assert values[0].double_value == 0.3302 and values[1].bool_value is False


@pytest.mark.parametrize("composed", ["false", "true"])
def test_the_launch_file_starts_a_robot_that_drives(graph, installed, road_bag, bundle, composed):
    """Needs launch and launch_ros, which are on a robot but on no package index."""
    pytest.importorskip("launch_ros")
    given = {"camera": "bag", "camera_path": road_bag(150), "bundle": bundle, "namespace": "robot1"}
    commands = graph.listen(TwistStamped, "/robot1/cmd_vel")
    launched = graph.launch(installed, "fadnet_nav", composed=composed, **given)
    assert graph.until(lambda: commands and commands[-1][1].twist.linear.x > 0.2), launched.log.read_text()
    os.killpg(launched.pid, signal.SIGINT)  # as Ctrl-C at a terminal does
    assert launched.wait(60) == 0
    assert graph.until(lambda: commands[-1][1].twist.linear.x == 0.0)


def started(launched, executable):
    """Process ids that launch gave an executable, oldest first."""
    return [
        int(pid)
        for pid in re.findall(rf"\[{executable}-\d+\]: process started with pid \[(\d+)\]", launched.log.read_text())
    ]


def test_the_launch_file_starts_what_failed_again_but_not_what_a_person_shut_down(graph, installed, road_bag, bundle):
    """Also with a recording as camera: only that is played once."""
    pytest.importorskip("launch_ros")
    commands = graph.listen(TwistStamped, "/robot1/cmd_vel")
    given = {"camera": "bag", "camera_path": road_bag(150), "bundle": bundle, "namespace": "robot1"}
    launched = graph.launch(installed, "fadnet_nav", **given)
    assert graph.until(lambda: commands and commands[-1][1].twist.linear.x > 0.2, 60), launched.log.read_text()
    [guard] = started(launched, "guard_node")
    os.kill(guard, signal.SIGKILL)
    assert graph.until(lambda: len(started(launched, "guard_node")) == 2), launched.log.read_text()
    shutdown = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVE_SHUTDOWN))
    assert graph.call(ChangeState, "/robot1/steering/change_state", shutdown).success
    assert graph.until(lambda: "steering_node-3]: process has finished cleanly" in launched.log.read_text())
    time.sleep(3.0)  # launch waits 1 s before it starts a process again
    assert len(started(launched, "steering_node")) == 1
    assert graph.until(lambda: commands[-1][1].twist.linear.x == 0.0)  # by the new guard, from its start
    os.killpg(launched.pid, signal.SIGINT)
    assert launched.wait(60) == 0
