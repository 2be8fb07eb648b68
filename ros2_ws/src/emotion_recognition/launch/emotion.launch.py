"""Camera and emotion node; with steering:=true also FADNet, by the same camera.

ros2 launch emotion_recognition emotion.launch.py                                        looks through /dev/video0
ros2 launch emotion_recognition emotion.launch.py camera_path:=people.mp4 publish_annotated:=true
ros2 launch emotion_recognition emotion.launch.py camera:=realsense steering:=true params_file:=f1tenth.yaml
ros2 launch emotion_recognition emotion.launch.py camera:=none                           takes the images of another
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, PushRosNamespace

from edgeflock_ros.launching import started_again

NODE = {
    "bundle": "bundle folder; empty = the one edgeflock brings",
    "keys": "its signer's .pub file; several separated by ':'",
    "precision": "fp32, int8 ...; empty = edgeflock tune's choice",
    "engine": "empty = edgeflock tune's choice",
    "detector": "ONNX file of YuNet; empty = OpenCV's Haar cascade",
}
ARGUMENTS = [
    DeclareLaunchArgument("camera", default_value="video", choices=["video", "realsense", "bag", "sim", "none"]),
    DeclareLaunchArgument("camera_path", default_value="", description="recording, video or /dev/videoN"),
    *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in NODE.items()),
    DeclareLaunchArgument("smoothing", default_value="0.5", description="s, of each face's distribution; 0 = none"),
    DeclareLaunchArgument("humans", default_value="/humans", description="namespace of the faces, as REP-155's"),
    DeclareLaunchArgument("publish_annotated", default_value="false", description="send an image: shows people"),
    DeclareLaunchArgument("blur_faces", default_value="true", description="in the annotated image"),
    DeclareLaunchArgument("namespace", default_value="", description="one per robot"),
    DeclareLaunchArgument("nice", default_value="5", description="lower priority of the emotion node, 0 to 19"),
    DeclareLaunchArgument("steering", default_value="false", description="fadnet_nav drives by the same camera"),
    DeclareLaunchArgument("params_file", default_value="sim.yaml", description="steering: as fadnet_nav's"),
    DeclareLaunchArgument("composed", default_value="false", description="steering: as fadnet_nav's"),
]


def _true(text):
    return text.lower() in ("true", "1")


def _nodes(context):
    given = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS}
    if given["camera"] == "video" and not given["camera_path"]:
        given["camera_path"] = "/dev/video0"
    parameters = {name: given[name] for name in (*NODE, "humans")} | {
        "smoothing": float(given["smoothing"]),
        "publish_annotated": _true(given["publish_annotated"]),
        "blur_faces": _true(given["blur_faces"]),
    }
    nodes = [
        PushRosNamespace(given["namespace"]),
        # A process of its own, after the nodes that drive: what it does must not slow them.
        Node(package="emotion_recognition", executable="emotion_node", name="emotion", parameters=[parameters],
             prefix=f"nice -n {given['nice']}", output="screen", **started_again()),
    ]  # fmt: skip
    camera = {} if given["camera"] == "sim" else {"source": given["camera"], "path": given["camera_path"]}
    recorded = given["camera_path"] and not given["camera_path"].startswith("/dev/")
    if _true(given["steering"]):
        file = Path(get_package_share_directory("fadnet_nav")) / "launch/fadnet_nav.launch.py"
        names = ("camera", "camera_path", "namespace", "params_file", "composed")
        drive = IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(file)), launch_arguments=[(name, given[name]) for name in names]
        )
        # Arguments of the same name, such as bundle, are not meant for the steering.
        return [GroupAction([drive], scoped=True, forwarding=False), GroupAction(nodes)]
    if given["camera"] != "none":
        package = "fadnet_sim" if given["camera"] == "sim" else "edgeflock_ros"
        nodes.append(
            Node(package=package, executable="camera_node", name="camera", parameters=[camera], output="screen",
                 **({} if recorded else started_again()))
        )  # fmt: skip
    return [GroupAction(nodes)]


def generate_launch_description():
    # Fast DDS's own shared-memory segment is smaller than a VGA frame and loses a third of them.
    profile = str(Path(get_package_share_directory("edgeflock_ros")) / "config" / "shm16.xml")
    own = [] if "FASTRTPS_DEFAULT_PROFILES_FILE" in os.environ else [
        SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", profile)
    ]  # fmt: skip
    return LaunchDescription([*ARGUMENTS, *own, OpaqueFunction(function=_nodes)])
