"""Camera, steering and guard of one robot, and the recorder of what a person drives.

ros2 launch fadnet_nav fadnet_nav.launch.py                                          drives the simulated robot
ros2 launch fadnet_nav fadnet_nav.launch.py camera:=realsense params_file:=f1tenth.yaml
ros2 launch fadnet_nav fadnet_nav.launch.py camera:=realsense camera_path:=run.bag namespace:=robot1 composed:=true
ros2 launch fadnet_nav fadnet_nav.launch.py camera:=realsense params_file:=f1tenth.yaml record:=data/r1
ros2 launch fadnet_nav fadnet_nav.launch.py camera:=none image_topic:=/camera/camera/color/image_raw \
    depth_topic:=/camera/camera/aligned_depth_to_color/image_raw params_file:=f1tenth.yaml
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction
from launch_ros.actions import PushRosNamespace, SetRemap

from edgeflock_ros import topics
from edgeflock_ros.launching import NAMESPACE, PREFIX, SIM_TIME, TOPICS, as_node, fast_dds, flag, frames, given, renamed
from fadnet_nav.nodes import CAMERAS, WORLDS, robot

ARGUMENTS = [
    DeclareLaunchArgument(
        "camera", default_value="sim", choices=CAMERAS, description="none: the images come from another driver"
    ),
    DeclareLaunchArgument("camera_path", default_value="", description="recording, video or /dev/videoN"),
    DeclareLaunchArgument(
        "camera_info_url", default_value="", description="lens: what edgeflock calibrate camera wrote"
    ),
    *TOPICS,
    DeclareLaunchArgument("cmd_vel_topic", default_value="", description="another name of the guard's commands"),
    DeclareLaunchArgument(
        "require_depth",
        default_value="",
        description="without depth it stops; empty = not for a video, else params_file's",
    ),
    DeclareLaunchArgument("bundle", default_value="", description="bundle folder; empty = the one edgeflock brings"),
    DeclareLaunchArgument("keys", default_value="", description="its signer's .pub file; several separated by ':'"),
    DeclareLaunchArgument("follow", default_value="false", description="take another bundle when its link changes"),
    DeclareLaunchArgument("precision", default_value="", description="fp32, int8 ...; empty = edgeflock tune's choice"),
    DeclareLaunchArgument("engine", default_value="", description="empty = edgeflock tune's choice"),
    NAMESPACE,
    PREFIX,
    DeclareLaunchArgument("params_file", default_value="sim.yaml", description="path, or a name in share/.../config"),
    DeclareLaunchArgument("mount", default_value="", description="of the camera: what edgeflock calibrate mount wrote"),
    DeclareLaunchArgument("composed", default_value="false", description="camera and steering in one process"),
    DeclareLaunchArgument("use_sim", default_value="", description="start the simulated base; empty = camera is sim"),
    SIM_TIME,
    DeclareLaunchArgument("world", default_value="indoor", choices=WORLDS, description="of the simulation"),
    DeclareLaunchArgument("seed", default_value="2", description="of the simulated world"),
    DeclareLaunchArgument(
        "more_readers", default_value="0", description="other nodes that a recording waits for before its first image"
    ),
    DeclareLaunchArgument("record", default_value="", description="data folder for what a person drives"),
]


def _nodes(context):
    a = given(context, ARGUMENTS)
    config = Path(get_package_share_directory("fadnet_nav")) / "config"
    params = Path(a["params_file"])
    if not params.is_file():
        params = config / a["params_file"]
    if not params.is_file():
        known = ", ".join(sorted(p.name for p in config.glob("*.yaml")))
        raise FileNotFoundError(f"params_file: expected a file or one of {known}, got {a['params_file']}")
    if a["mount"] and not Path(a["mount"]).is_file():
        raise FileNotFoundError(f"mount: expected what edgeflock calibrate mount wrote, got {a['mount']}")
    processes = robot(
        a["camera"],
        a["camera_path"],
        net={name: a[name] for name in ("bundle", "keys", "precision", "engine")}
        | ({"follow": True} if flag("follow", a["follow"]) else {}),
        composed=flag("composed", a["composed"]),
        use_sim=flag("use_sim", a["use_sim"]) if a["use_sim"] else None,
        world=a["world"],
        seed=int(a["seed"]),
        require_depth=flag("require_depth", a["require_depth"]) if a["require_depth"] else None,
        use_sim_time=flag("use_sim_time", a["use_sim_time"]),
        more_readers=int(a["more_readers"]),
        record=a["record"],
        camera_info_url=a["camera_info_url"],
        frames=frames(a),
    )
    files = [str(params), *([a["mount"]] if a["mount"] else [])]  # the later one holds
    nodes = [as_node(p, [] if p.executable == "base_node" else files) for p in processes]
    renaming = renamed(a) + ([SetRemap(topics.COMMAND, a["cmd_vel_topic"])] if a["cmd_vel_topic"] else [])
    return [GroupAction([PushRosNamespace(a["namespace"]), *renaming, *nodes])]


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, *fast_dds("shm16.xml"), OpaqueFunction(function=_nodes)])
