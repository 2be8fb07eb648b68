"""The ROS packages build with colcon, bring their files, and their parameter files hold what the nodes accept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy")

from rcl_interfaces.srv import GetParameters

from edgeflock_ros import topics
from edgeflock_ros.camera_node import CameraParameters
from fadnet_nav.guard_node import GuardParameters
from fadnet_nav.recorder_node import RecorderParameters
from fadnet_nav.steering_node import SteeringParameters

WORKSPACE = Path(__file__).parents[3] / "ros2_ws"
PACKAGE = WORKSPACE / "src/fadnet_nav"
MODELS = {
    "/**/camera": CameraParameters,
    "/**/steering": SteeringParameters,
    "/**/guard": GuardParameters,
    "/**/recorder": RecorderParameters,
}


def test_colcon_installs_nodes_launch_file_parameters_and_profiles(installed):
    share = installed / "fadnet_nav/share"
    assert (share / "ament_index/resource_index/packages/fadnet_nav").exists()
    assert (share / "fadnet_nav/launch/fadnet_nav.launch.py").exists()
    for folder in ("config", "viewers"):
        brought = {f.name for f in (share / "fadnet_nav" / folder).iterdir()}
        assert brought == {f.name for f in (PACKAGE / "fadnet_nav" / folder).iterdir()}
    executables = {f.name for f in (installed / "fadnet_nav/lib/fadnet_nav").iterdir()}
    assert executables == {"steering_node", "guard_node", "recorder_node", "composed"}
    simulated = installed / "fadnet_sim/lib/fadnet_sim"
    assert {f.name for f in simulated.iterdir()} == {"base_node", "camera_node"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "fadnet_nav/viewers").iterdir()), ids=lambda p: p.name)
def test_a_viewers_layout_shows_topics_that_a_robot_has(path):
    """RViz and Foxglove themselves are on no package index."""
    said = [word for word in words(yaml.safe_load(path.read_text())) if word.startswith("/")]  # JSON is YAML
    names = {topics.ODOMETRY, topics.STEERING, topics.COMMAND, topics.DESCRIPTION, topics.DIAGNOSTICS[1:]}
    names |= {of(stream) for of in (topics.image, topics.info) for stream in (topics.COLOR, topics.DEPTH)}
    shown = {word[1:].split(".")[0] for word in said}
    assert shown <= names and shown >= {topics.ODOMETRY, topics.DESCRIPTION, topics.image(topics.COLOR)}


def words(content):
    """All texts of a layout, keys too."""
    if isinstance(content, dict):
        return [w for key, value in content.items() for w in (key, *words(value))]
    if isinstance(content, list):
        return [w for value in content for w in words(value)]
    return [content] if isinstance(content, str) else []


@pytest.mark.parametrize("path", sorted((PACKAGE / "fadnet_nav/config").glob("*.yaml")), ids=lambda p: p.name)
def test_a_parameter_file_holds_what_the_nodes_accept(path):
    for node, content in yaml.safe_load(path.read_text()).items():
        values = content["ros__parameters"]
        for model in [GuardParameters, SteeringParameters] if node == "/**" else [MODELS[node]]:  # the mount is both's
            assert set(values) <= set(model.model_fields), node
            model(**values)


def test_colcon_test_runs_a_guard(installed, tmp_path):
    command = [sys.executable, "-m", "colcon", "--log-base", tmp_path, "test", "--base-paths", WORKSPACE / "src"]
    command += ["--build-base", installed.parent / "build", "--install-base", installed]
    command += [
        "--packages-select",
        "fadnet_nav",
        "--return-code-on-test-failure",
        "--event-handlers",
        "console_direct+",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "AMENT_PREFIX_PATH": sys.prefix})
    assert ran.returncode == 0 and "2 passed" in ran.stdout, ran.stdout + ran.stderr


def test_a_parameter_file_reaches_a_node_in_any_namespace(graph):
    request = GetParameters.Request(names=["wheelbase", "stamped"])
    for namespace in ("", "/robot1"):
        graph.start("guard_node", namespace, ["--params-file", PACKAGE / "fadnet_nav/config/f1tenth.yaml"])
    for namespace in ("", "/robot1"):
        values = graph.call(GetParameters, f"{namespace}/guard/get_parameters", request).values
        assert values[0].double_value == 0.3302 and values[1].bool_value is False
