"""The package builds with colcon, the camera runs from there, and its profiles are large enough."""

import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy")

PACKAGE = Path(__file__).parents[3] / "ros2_ws/src/edgeflock_ros"


def test_colcon_installs_nodes_launch_file_and_profiles(installed):
    share = installed / "edgeflock_ros/share"
    nodes = {"camera_node", "net_node", "registration_node"}
    assert {f.name for f in (installed / "edgeflock_ros/lib/edgeflock_ros").iterdir()} == nodes
    launch = {f.name for f in (share / "edgeflock_ros/launch").iterdir()}
    assert launch == {"net.launch.py", "registration.launch.py"}
    assert (share / "ament_index/resource_index/packages/edgeflock_ros").exists()
    assert {f.name for f in (share / "edgeflock_ros/config").iterdir()} == {"shm16.xml", "loopback.xml", "lossy.xml"}


def test_an_installed_node_starts_and_its_error_is_the_exit_code(installed):
    """Run as ros2 launch does: with the environment of setup.bash."""
    node = installed / "edgeflock_ros/lib/edgeflock_ros/camera_node"
    command = f". {installed}/local_setup.bash && exec {node} --ros-args -p source:=video -p path:=nowhere.mp4"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 16 and "does not exist" in ran.stderr


@pytest.mark.parametrize("name", ["shm16.xml", "loopback.xml"])
def test_a_profile_gives_shared_memory_that_vga_frames_fit_into(name):
    root = ElementTree.parse(PACKAGE / "edgeflock_ros/config" / name).getroot()
    space = root.tag.partition("}")[0] + "}"
    assert int(root.find(f".//{space}segment_size").text) == 16 * 2**20
