"""The package builds with colcon, its node runs from there, and its launch file starts it in the robot's namespace."""

import os
import signal
import subprocess

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("edgeflock_msgs", reason="edgeflock_msgs has to be compiled (.ci/messages)")

from edgeflock_msgs.msg import FleetStatus


def test_colcon_installs_node_and_launch_file(installed):
    share = installed / "fleet_exchange/share"
    assert (share / "ament_index/resource_index/packages/fleet_exchange").exists()
    assert (share / "fleet_exchange/launch/fleet.launch.py").exists()


def test_the_installed_node_starts_and_its_error_is_the_exit_code(installed):
    node = installed / "fleet_exchange/lib/fleet_exchange/fleet_node"
    ran = subprocess.run(
        ["bash", "-c", f". {installed}/local_setup.bash && exec {node}"], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 5 and "expected the parameters robot, key, roster" in ran.stderr


def test_the_launch_file_starts_the_node_by_a_parameter_file(graph, installed, fleet, tmp_path):
    """Needs launch and launch_ros, which are on a robot but on no package index."""
    pytest.importorskip("launch_ros")
    own = {key: str(value) for key, value in fleet.parameters("r1", "launched", rounds="4").items()}
    lines = [f"    {key}: {value}" for key, value in own.items() if key not in ("robot", "out")]
    file = tmp_path / "fleet.yaml"
    file.write_text("\n".join(["/**/fleet:", "  ros__parameters:", *lines]))
    heard = graph.listen(FleetStatus, "/r1/fleet/status")
    launched = graph.launch(
        installed, "fleet_exchange", "fleet", robot="r1", out=own["out"], params_file=file, nice="1"
    )
    assert graph.until(lambda: heard and heard[-1][1].round > 0, 240), launched.log.read_text()
    assert heard[-1][1].rounds == 4
    os.killpg(launched.pid, signal.SIGINT)
    assert launched.wait(60) == 0
