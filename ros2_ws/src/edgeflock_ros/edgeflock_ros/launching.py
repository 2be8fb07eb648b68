"""What the launch files have in common. Needs launch and launch_ros, which come with ROS.

`ros2 launch` runs under the system's Python: nothing here may import edgeflock.runtime.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, EmitEvent, SetEnvironmentVariable
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetRemap
from launch_ros.parameter_descriptions import ParameterValue

from edgeflock_ros import topics
from edgeflock_ros.nodes import KEPT, NodeProcess

_FOREIGN = {
    "image_topic": "another camera driver's colour images; .../compressed too",
    "camera_info_topic": "their camera_info; empty = beside the images",
    "depth_topic": "its depth images, registered to the colour; .../compressedDepth too",
    "depth_info_topic": "their camera_info; empty = beside the images",
}
TOPICS = [DeclareLaunchArgument(name, default_value="", description=text) for name, text in _FOREIGN.items()]

PREFIX = DeclareLaunchArgument(
    "frame_prefix",
    default_value="namespace",
    description="before the names of TF's frames, as robot1/; namespace: that one; empty = none",
)

NAMESPACE = DeclareLaunchArgument("namespace", default_value="", description="one per robot")
NICE = DeclareLaunchArgument("nice", default_value="5", description="lower priority of what does not drive, 0 to 19")
SIM_TIME = DeclareLaunchArgument(
    "use_sim_time", default_value="false", description="time from /clock: ros2 bag play --clock"
)

_numbers = itertools.count()


def given(context: LaunchContext, arguments: Iterable[DeclareLaunchArgument]) -> dict[str, str]:
    """What the user gave, or the defaults."""
    return {a.name: LaunchConfiguration(a.name).perform(context) for a in arguments}


def frames(arguments: dict[str, str]) -> dict[str, str]:
    """Parameters of the nodes that name frames: two robots have one TF tree, so each has its own names there."""
    prefix, namespace = arguments["frame_prefix"], arguments["namespace"].strip("/")
    if prefix == "namespace":
        prefix = f"{namespace}/" if namespace else ""
    return {"frame_prefix": prefix} if prefix else {}


def flag(name: str, text: str) -> bool:
    """Whether a text says true; ValueError for any other text."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"{name}: expected true or false, got {text!r}")
    return text.lower() in ("true", "1")


def clock_of(arguments: dict[str, str]) -> dict[str, bool]:
    """Parameters of every node by `SIM_TIME`."""
    return {"use_sim_time": True} if flag("use_sim_time", arguments["use_sim_time"]) else {}


def fast_dds(profile: str) -> list[SetEnvironmentVariable]:
    """Settings of Fast DDS from a file of `config/`, unless the user has chosen one.

    shm16.xml has room for images: Fast DDS's own segment is smaller than a VGA frame and loses a third of them.
    lossy.xml is for large messages over networks that lose packets.
    """
    if "FASTRTPS_DEFAULT_PROFILES_FILE" in os.environ:
        return []
    file = Path(get_package_share_directory("edgeflock_ros")) / "config" / profile
    return [SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", str(file))]


def renamed(arguments: dict[str, str]) -> list[SetRemap]:
    """All nodes read images, and the camera_info that is told or lies beside them, by the names in `TOPICS`.

    Raises
    ------
    ValueError
        Compressed images of a camera of ours, which sends raw ones.
    """
    pairs = []
    for stream, image, info in (
        (topics.COLOR, arguments["image_topic"], arguments["camera_info_topic"]),
        (topics.DEPTH, arguments["depth_topic"], arguments["depth_info_topic"]),
    ):
        if topics.is_compressed(image) and arguments["camera"] != "none":
            raise ValueError(f"expected compressed images from another driver, got {image}: give camera:=none.")
        if image:
            pairs.append((topics.image(stream), image))
            info = info or topics.info_beside(image)
        if info:
            pairs.append((topics.info(stream), info))
    return [SetRemap(src, dst) for src, dst in pairs]


def as_node(process: NodeProcess, params_files: Sequence[str] = (), **options: Any) -> Node:
    """The action that starts a process; its parameters win over those of the files."""
    parameters: list[Any] = list(params_files)
    one = len(process.parameters) == 1
    if one:
        # Typed: launch would read the text 2024, a folder's name, as a number.
        parameters += [
            {k: ParameterValue(v, value_type=type(v)) for k, v in own.items()} for own in process.parameters.values()
        ]
    else:  # each node its own: none gets, and wonders about, those of the others
        nodes = {f"/**/{node}": {"ros__parameters": own} for node, own in process.parameters.items()}
        file = Path(_folder().name) / f"{process.executable}_{next(_numbers)}.yaml"
        file.write_text(json.dumps(nodes), encoding="utf-8")  # JSON is YAML
        parameters.append(str(file))
    return Node(
        package=process.package,
        executable=process.executable,
        exec_name=process.executable,
        name=process.name if one else None,
        parameters=[p for p in parameters if p],
        output="screen",
        **(started_again(process.delay_s) if process.again else {}),
        **options,
    )


def started_again(delay_s: float) -> dict[str, Any]:
    """Arguments of a launch_ros `Node` that is started again after a failure, with what was set on it (`kept`).

    launch's `respawn` alone would also bring back what ended with code 0: a node that a person shut down, which would
    drive off again.
    """
    return {
        "respawn": True,
        "respawn_delay": delay_s,
        "on_exit": _stay_down,
        "additional_env": {KEPT: _folder().name},
    }


def _stay_down(event: ProcessExited, _: LaunchContext) -> EmitEvent | None:
    if event.returncode:
        return None
    return EmitEvent(event=ShutdownProcess(process_matcher=matches_action(event.action)))


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    """Ends with the launch."""
    return tempfile.TemporaryDirectory(prefix="edgeflock_")
