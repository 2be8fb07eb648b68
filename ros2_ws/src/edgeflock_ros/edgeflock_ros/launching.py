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

TOPICS = [
    DeclareLaunchArgument("image_topic", default_value="", description="another camera driver's colour images"),
    DeclareLaunchArgument("depth_topic", default_value="", description="its depth images, registered to the colour"),
]

_numbers = itertools.count()


def given(context: LaunchContext, arguments: Iterable[DeclareLaunchArgument]) -> dict[str, str]:
    """What the user gave, or the defaults."""
    return {a.name: LaunchConfiguration(a.name).perform(context) for a in arguments}


def flag(name: str, text: str) -> bool:
    """Whether a text says true; ValueError for any other text."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"{name}: expected true or false, got {text!r}")
    return text.lower() in ("true", "1")


def fast_dds(profile: str) -> list[SetEnvironmentVariable]:
    """Settings of Fast DDS from a file of `config/`, unless the user has chosen one.

    shm16.xml has room for images: Fast DDS's own segment is smaller than a VGA frame and loses a third of them.
    lossy.xml is for large messages over networks that lose packets.
    """
    if "FASTRTPS_DEFAULT_PROFILES_FILE" in os.environ:
        return []
    file = Path(get_package_share_directory("edgeflock_ros")) / "config" / profile
    return [SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", str(file))]


def renamed(image_topic: str, depth_topic: str) -> list[SetRemap]:
    """All nodes read images, and the camera_info beside them, by these names."""
    pairs = []
    for stream, topic in ((topics.COLOR, image_topic), (topics.DEPTH, depth_topic)):
        if topic:
            beside = topics.info(topic.rpartition("/")[0])
            pairs += [(topics.image(stream), topic), (topics.info(stream), beside)]
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
