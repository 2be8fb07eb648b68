"""Which processes a robot is made of: told once, for the launch file and for `edgeflock drive`."""

import subprocess
import sys
from pathlib import Path

import pytest

from fadnet_nav.nodes import WORLDS, robot
from fadnet_sim.scene import KINDS

SOURCES = Path(__file__).parents[3] / "ros2_ws/src"


@pytest.fixture
def video(tmp_path):
    (tmp_path / "run.mp4").touch()
    return str(tmp_path / "run.mp4")


def of(processes, node):
    """Parameters of a node."""
    return next(p.parameters[node] for p in processes if node in p.parameters)


def modules(processes):
    return [p.module for p in processes]


def test_without_arguments_it_is_the_simulated_robot():
    base, steering, guard, camera = robot("sim", world="outdoor", seed=4)
    assert modules([base, camera]) == ["fadnet_sim.base_node", "fadnet_sim.camera_node"]
    assert of([base], "base") == of([camera], "camera") == {"world": "outdoor", "seed": 4}
    assert modules([steering, guard]) == ["fadnet_nav.steering_node", "fadnet_nav.guard_node"]


def test_a_live_camera_is_started_again_when_it_dies_and_a_recording_is_not(video):
    for kind, path in (("realsense", ""), ("video", "/dev/video0"), ("video", "/dev/null")):
        assert all(p.again for p in robot(kind, path)), path
    again = {p.name: p.again for p in robot("video", video)}
    assert again == {"steering": True, "guard": True, "camera": False}
    assert {p.name: p.again for p in robot("video", video, composed=True)} == {"guard": True, "composed": False}


def test_a_recording_waits_for_all_who_read_it_and_a_live_camera_for_nobody(video):
    camera = of(robot("video", video), "camera")
    assert (camera["wait_for_readers"], camera["wait_for_depth_readers"]) == (1, 1)
    assert of(robot("video", video, more_readers=1), "camera")["wait_for_readers"] == 2
    assert of(robot("video", video, composed=True), "camera")["wait_for_readers"] == 0  # steering is called
    assert "wait_for_readers" not in of(robot("video", "/dev/video0"), "camera")


def test_composed_camera_and_steering_are_one_process_with_parameters_of_their_own(video):
    guard, both = robot("video", video, composed=True, net={"bundle": "b"})
    assert (guard.name, both.module) == ("guard", "fadnet_nav.composed")
    assert set(both.parameters) == {"camera", "steering"} and both.parameters["steering"] == {"bundle": "b"}


def test_a_recorder_is_there_where_a_folder_is_named_and_a_recording_waits_for_it_too(video):
    processes = robot("video", video, record="data/r1")
    assert of(processes, "recorder") == {"folder": "data/r1"}
    assert of(processes, "camera")["wait_for_readers"] == 2
    assert "recorder" not in [p.name for p in robot("video", video)]


def test_depth_is_not_required_of_a_video_and_otherwise_the_parameter_file_decides(video):
    assert of(robot("video", video), "guard") == {"require_depth": False}
    assert of(robot("video", video, require_depth=True), "guard") == {"require_depth": True}
    assert of(robot("realsense"), "guard") == {}
    assert of(robot("realsense", require_depth=False), "guard") == {"require_depth": False}


def test_a_video_may_be_given_its_lens(video):
    assert of(robot("video", video, camera_info_url="camera.yaml"), "camera")["camera_info_url"] == "camera.yaml"
    assert "camera_info_url" not in of(robot("video", video), "camera")


def test_the_images_may_come_from_another_driver():
    assert [p.name for p in robot("none")] == ["steering", "guard"]


def test_simulated_time_is_for_all_but_the_base():
    processes = robot("sim", use_sim_time=True)
    assert [p.name for p in processes if p.parameters[p.name].get("use_sim_time")] == ["steering", "guard", "camera"]


def test_the_frames_of_a_robot_have_one_prefix_in_all_nodes_that_name_some():
    processes = robot("sim", frames={"frame_prefix": "robot1/"}, record="data")
    assert [p.name for p in processes if "frame_prefix" in p.parameters[p.name]] == [
        "base",
        "steering",
        "guard",
        "camera",
    ]


@pytest.mark.parametrize(
    ("camera", "given", "message"),
    [
        ("bag", {}, "expected the path of a recording for the camera bag, got none: give camera_path:=PATH"),
        ("video", {}, "expected the path of a video, folder of pictures or /dev/videoN"),
        ("bag", {"camera_path": "nowhere.mcap"}, "got nowhere.mcap, which does not exist"),
        ("realsense", {"camera_path": "nowhere.db3"}, "got nowhere.db3, which does not exist"),
        ("sim", {"camera_path": "run.mp4"}, "the camera sim has none"),
        ("none", {"camera_path": "run.mp4"}, "the camera none has none"),
        ("none", {"camera_info_url": "camera.yaml"}, "it is for a camera of the robot, got camera:=none"),
        ("sim", {"composed": True}, "expected a camera of the robot, got camera:=sim"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_starts(camera, given, message):
    with pytest.raises(ValueError, match=message):
        robot(camera, **given)


def test_the_launch_file_offers_every_kind_of_world():
    assert WORLDS == KINDS


def test_ros2_launch_needs_nothing_but_the_standard_library_for_it():
    """It runs under the system's Python; edgeflock is in an environment of the nodes."""
    code = f"import sys; sys.path += {[str(SOURCES / p) for p in ('fadnet_nav', 'edgeflock_ros')]}\n"
    code += "import fadnet_nav.nodes\n"
    code += "print(sorted({m.partition('.')[0] for m in sys.modules} - sys.stdlib_module_names - {'__main__'}))"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "['edgeflock_ros', 'fadnet_nav']", ran.stderr
