"""Camera, steering and guard of one robot.

ros2 launch fadnet_nav fadnet_nav.launch.py                                          drives the simulated robot
ros2 launch fadnet_nav fadnet_nav.launch.py camera:=realsense params_file:=f1tenth.yaml
ros2 launch fadnet_nav fadnet_nav.launch.py camera:=realsense camera_path:=run.bag namespace:=robot1 composed:=true
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, PushRosNamespace

from edgeflock_ros.launching import started_again

ARGUMENTS = [
    DeclareLaunchArgument("camera", default_value="sim", choices=["sim", "realsense", "bag", "video"]),
    DeclareLaunchArgument("camera_path", default_value="", description="recording, video or /dev/videoN"),
    DeclareLaunchArgument("bundle", default_value="", description="bundle folder; empty = the one edgeflock brings"),
    DeclareLaunchArgument("keys", default_value="", description="its signer's .pub file; several separated by ':'"),
    DeclareLaunchArgument("precision", default_value="", description="fp32, int8 ...; empty = edgeflock tune's choice"),
    DeclareLaunchArgument("engine", default_value="", description="empty = edgeflock tune's choice"),
    DeclareLaunchArgument("namespace", default_value="", description="one per robot"),
    DeclareLaunchArgument("params_file", default_value="sim.yaml", description="path, or a name in share/.../config"),
    DeclareLaunchArgument("composed", default_value="false", description="camera and steering in one process"),
    DeclareLaunchArgument("use_sim", default_value="", description="start the simulated base; empty = camera is sim"),
    DeclareLaunchArgument(
        "world", default_value="indoor", choices=["indoor", "outdoor"], description="of the simulation"
    ),
    DeclareLaunchArgument("seed", default_value="2", description="of the simulated world"),
]


def _nodes(context):
    given = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS}
    config = Path(get_package_share_directory("fadnet_nav")) / "config"
    params = Path(given["params_file"])
    if not params.is_file():
        params = config / given["params_file"]
    if not params.is_file():
        known = ", ".join(sorted(p.name for p in config.glob("*.yaml")))
        raise FileNotFoundError(f"params_file: expected a file or one of {known}, got {given['params_file']}")
    world = {"world": given["world"], "seed": int(given["seed"])}
    simulated = given["camera"] == "sim"
    camera = [str(params), world if simulated else {"source": given["camera"], "path": given["camera_path"]}]
    steering = [str(params), {name: given[name] for name in ("bundle", "keys", "precision", "engine")}]
    # A recording that cannot be read is not tried again for ever.
    recorded = given["camera_path"] and not given["camera_path"].startswith("/dev/")
    filmed = {"output": "screen", **({} if recorded else started_again())}
    nodes = [
        PushRosNamespace(given["namespace"]),
        Node(package="fadnet_nav", executable="guard_node", name="guard", parameters=[str(params)], output="screen",
             **started_again(0.2)),
    ]  # fmt: skip
    if given["composed"].lower() in ("true", "1"):
        if simulated:
            raise ValueError("composed: expected a camera of the robot, got camera:=sim: leave composed out.")
        # Two nodes in one process: the names are the nodes' own, their parameters do not collide.
        nodes.append(Node(package="fadnet_nav", executable="composed", parameters=[*camera, steering[-1]], **filmed))
    else:
        package = "fadnet_sim" if simulated else "edgeflock_ros"
        nodes.append(Node(package=package, executable="camera_node", name="camera", parameters=camera, **filmed))
        nodes.append(
            Node(package="fadnet_nav", executable="steering_node", name="steering", parameters=steering,
                 output="screen", **started_again())
        )  # fmt: skip
    if given["use_sim"].lower() in ("true", "1") or (not given["use_sim"] and simulated):
        nodes.append(
            Node(package="fadnet_sim", executable="base_node", name="base", parameters=[world], output="screen")
        )
    return [GroupAction(nodes)]


def generate_launch_description():
    # Fast DDS's own shared-memory segment is smaller than a VGA frame and loses a third of them.
    profile = str(Path(get_package_share_directory("edgeflock_ros")) / "config" / "shm16.xml")
    own = [] if "FASTRTPS_DEFAULT_PROFILES_FILE" in os.environ else [
        SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", profile)
    ]  # fmt: skip
    return LaunchDescription([*ARGUMENTS, *own, OpaqueFunction(function=_nodes)])
