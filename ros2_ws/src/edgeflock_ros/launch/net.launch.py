"""Camera and a node that runs any net from a bundle of `edgeflock export net`.

ros2 launch edgeflock_ros net.launch.py bundle:=bundles/signs keys:=fleet.pub             looks through /dev/video0
ros2 launch edgeflock_ros net.launch.py bundle:=bundles/signs camera_path:=street.mp4
ros2 launch edgeflock_ros net.launch.py bundle:=bundles/signs camera:=none image_topic:=/image_raw   another's images
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction
from launch_ros.actions import PushRosNamespace

from edgeflock_ros.launching import (
    NAMESPACE,
    NICE,
    PREFIX,
    SIM_TIME,
    TOPICS,
    as_node,
    clock_of,
    fast_dds,
    flag,
    frames,
    given,
    renamed,
)
from edgeflock_ros.nodes import NodeProcess, camera

NODE = {
    "keys": "its signer's .pub file; several separated by ':'",
    "precision": "fp32, int8 ...; empty = edgeflock tune's choice",
    "engine": "empty = edgeflock tune's choice",
}
ARGUMENTS = [
    DeclareLaunchArgument("bundle", description="folder that edgeflock export net wrote"),
    *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in NODE.items()),
    DeclareLaunchArgument(
        "camera", default_value="video", choices=["video", "realsense", "bag", "none"],
        description="none: the images come from another driver",
    ),
    DeclareLaunchArgument("camera_path", default_value="", description="recording, video or /dev/videoN"),
    *TOPICS,
    DeclareLaunchArgument("start_at_zero", default_value="false", description="other inputs are 0 until they come"),
    NAMESPACE,
    PREFIX,
    NICE,
    SIM_TIME,
]  # fmt: skip


def _nodes(context):
    a = given(context, ARGUMENTS)
    if a["camera"] == "video" and not a["camera_path"]:
        a["camera_path"] = "/dev/video0"
    clock = clock_of(a)
    parameters = {name: a[name] for name in ("bundle", *NODE)}
    parameters |= {"start_at_zero": flag("start_at_zero", a["start_at_zero"]), **clock}
    net = NodeProcess("edgeflock_ros", "net_node", {"net": parameters})
    # After the nodes that drive: what it does must not slow them.
    nodes = [as_node(net, prefix=f"nice -n {a['nice']}")]
    if a["camera"] != "none":
        nodes.append(as_node(camera(a["camera"], a["camera_path"], readers=1, **clock, **frames(a))))
    return [GroupAction([PushRosNamespace(a["namespace"]), *renamed(a), *nodes])]


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, *fast_dds("shm16.xml"), OpaqueFunction(function=_nodes)])
