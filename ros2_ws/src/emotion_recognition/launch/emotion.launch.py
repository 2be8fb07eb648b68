"""Camera and emotion node; with steering:=true also FADNet, by the same camera.

ros2 launch emotion_recognition emotion.launch.py                                        looks through /dev/video0
ros2 launch emotion_recognition emotion.launch.py camera_path:=people.mp4 publish_annotated:=true
ros2 launch emotion_recognition emotion.launch.py camera:=realsense steering:=true params_file:=f1tenth.yaml
ros2 launch emotion_recognition emotion.launch.py camera:=none image_topic:=/image_raw   takes the images of another
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
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
    "bundle": "bundle folder; empty = the one edgeflock brings",
    "keys": "its signer's .pub file; several separated by ':'",
    "precision": "fp32, int8 ...; empty = edgeflock tune's choice",
    "engine": "empty = edgeflock tune's choice",
}
DRIVING = {
    "params_file": ("sim.yaml", "steering: as fadnet_nav's"),
    "composed": ("false", "steering: as fadnet_nav's"),
    "require_depth": ("", "steering: as fadnet_nav's"),
}
ARGUMENTS = [
    DeclareLaunchArgument(
        "camera", default_value="video", choices=["video", "realsense", "bag", "sim", "none"],
        description="none: the images come from another driver; sim: with steering:=true",
    ),
    DeclareLaunchArgument("camera_path", default_value="", description="recording, video or /dev/videoN"),
    *TOPICS,
    *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in NODE.items()),
    DeclareLaunchArgument("detector", default_value="auto", description="of faces: auto, cascade or YuNet's file"),
    DeclareLaunchArgument("min_face", default_value="0.1", description="smallest face, of the frame's shorter side"),
    DeclareLaunchArgument("smoothing", default_value="0.5", description="s, of each face's distribution; 0 = none"),
    DeclareLaunchArgument("humans", default_value="/humans", description="namespace of the faces, as REP-155's"),
    DeclareLaunchArgument("publish_annotated", default_value="false", description="send an image: shows people"),
    DeclareLaunchArgument("blur_faces", default_value="true", description="in the annotated image"),
    NAMESPACE,
    PREFIX,
    NICE,
    SIM_TIME,
    DeclareLaunchArgument("steering", default_value="false", description="fadnet_nav drives by the same camera"),
    *(DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in DRIVING.items()),
]  # fmt: skip


def _nodes(context):
    a = given(context, ARGUMENTS)
    if a["camera"] == "video" and not a["camera_path"]:
        a["camera_path"] = "/dev/video0"
    clock = clock_of(a)
    parameters = {name: a[name] for name in (*NODE, "detector", "humans")} | {
        "min_face": float(a["min_face"]),
        "smoothing": float(a["smoothing"]),
        "publish_annotated": flag("publish_annotated", a["publish_annotated"]),
        "blur_faces": flag("blur_faces", a["blur_faces"]),
        **clock,
    }
    # A process of its own, after the nodes that drive: what it does must not slow them.
    emotion = NodeProcess("emotion_recognition", "emotion_node", {"emotion": parameters})
    nodes = [as_node(emotion, prefix=f"nice -n {a['nice']}")]
    first = []
    if flag("steering", a["steering"]):
        file = Path(get_package_share_directory("fadnet_nav")) / "launch/fadnet_nav.launch.py"
        names = (
            "camera",
            "camera_path",
            *(t.name for t in TOPICS),
            "namespace",
            "frame_prefix",
            "use_sim_time",
            *DRIVING,
        )
        arguments = [*((name, a[name]) for name in names), ("more_readers", "1")]
        drive = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(file)), launch_arguments=arguments)
        # Arguments of the same name, such as bundle, are not meant for the steering.
        first = [GroupAction([drive], scoped=True, forwarding=False)]
    elif a["camera"] == "sim":
        raise ValueError("camera: sim needs the simulated base, which comes with steering:=true")
    elif a["camera"] != "none":
        nodes.append(as_node(camera(a["camera"], a["camera_path"], readers=1, **clock, **frames(a))))
    return [*first, GroupAction([PushRosNamespace(a["namespace"]), *renamed(a), *nodes])]


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, *fast_dds("shm16.xml"), OpaqueFunction(function=_nodes)])
