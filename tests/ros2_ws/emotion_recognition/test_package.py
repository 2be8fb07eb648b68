"""The package builds with colcon, its node runs from there, and its launch file starts camera and node."""

import os
import signal
import subprocess

import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import JointState

from edgeflock_lab.emotion_bars import write_video
from emotion_recognition.faces import ids_of, ids_type


def test_colcon_installs_node_and_launch_file(installed):
    share = installed / "emotion_recognition/share"
    assert (share / "ament_index/resource_index/packages/emotion_recognition").exists()
    assert (share / "emotion_recognition/launch/emotion.launch.py").exists()


def test_the_installed_node_starts_and_its_error_is_the_exit_code(installed):
    node = installed / "emotion_recognition/lib/emotion_recognition/emotion_node"
    command = f". {installed}/local_setup.bash && exec {node} --ros-args -p bundle:=nowhere"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 11 and "expected a bundle, a folder with manifest.json" in ran.stderr


@pytest.mark.parametrize("steering", ["false", "true"])
def test_the_launch_file_starts_who_reads_faces_and_who_drives_by_the_same_camera(
    graph, installed, bundle, four, tmp_path, steering
):
    """Needs launch and launch_ros, which are on a robot but on no package index."""
    pytest.importorskip("launch_ros")
    video = write_video(tmp_path / "four.avi", four, 10, 10)
    tracked = graph.listen(ids_type(), "/humans/faces/tracked")
    steered = graph.listen(JointState, "/robot1/steering")
    launched = graph.launch(
        installed, "emotion_recognition", "emotion", camera_path=video, bundle=bundle, namespace="robot1",
        steering=steering,
    )  # fmt: skip
    assert graph.until(lambda: tracked and len(ids_of(tracked[-1][1])) == 4), launched.log.read_text()
    if steering == "true":
        assert graph.until(lambda: steered), launched.log.read_text()
    assert "[emotion_node-" in launched.log.read_text()  # not by the name of the command that lowers its priority
    os.killpg(launched.pid, signal.SIGINT)
    assert launched.wait(60) == 0
    assert bool(steered) == (steering == "true")
