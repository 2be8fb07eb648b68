"""Dancing robots: the motion of every dancer in time with the music, and on a mobile robot what drives along it.

ros2 launch choreography choreography.launch.py motion:=dance/motion.npz music:=dance/report.json
ros2 launch choreography choreography.launch.py motion:=dance/motion.npz dancer:=1 namespace:=robot1 tracker:=true
ros2 launch choreography choreography.launch.py motion:=dance/motion.npz dancer:=2 namespace:=robot2 tracker:=true \\
    clock:=follow
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction
from launch_ros.actions import PushRosNamespace, SetRemap

from edgeflock_ros import topics
from edgeflock_ros.launching import NAMESPACE, SIM_TIME, as_node, clock_of, fast_dds, flag, given
from edgeflock_ros.nodes import NodeProcess

NODE = {
    "music": "sound file or JSON with beats; empty = no beat is known",
    "joints": "YAML of a robot's joints; empty = no joint_trajectory",
}
ARGUMENTS = [
    DeclareLaunchArgument("motion", description="motion of the group: .npz, .pkl, .bvh"),
    *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in NODE.items()),
    DeclareLaunchArgument("dancer", default_value="0", description="whose motion, from 1; 0 = everyone's"),
    DeclareLaunchArgument(
        "clock", default_value="keep", choices=["keep", "follow"], description="one robot keeps the music clock"
    ),
    DeclareLaunchArgument("play", default_value="true", description="begin at once; false: wait for ~/play"),
    DeclareLaunchArgument("spacing", default_value="1.0", description="m between the centres of robots that stand"),
    DeclareLaunchArgument("speed", default_value="0.5", description="of the dance at most, m/s"),
    DeclareLaunchArgument("tracker", default_value="false", description="drive along the trajectory of `dancer`"),
    DeclareLaunchArgument("cmd_vel_topic", default_value="", description="another name of the tracker's commands"),
    DeclareLaunchArgument("params_file", default_value="", description="all parameters of both nodes (ROS YAML)"),
    NAMESPACE,
    SIM_TIME,
]


def _nodes(context):
    a = given(context, ARGUMENTS)
    clock = clock_of(a)
    parameters = {name: a[name] for name in ("motion", *NODE, "clock") if a[name]} | {
        "dancer": int(a["dancer"]),
        "play": flag("play", a["play"]),
        "spacing": float(a["spacing"]),
        "speed": float(a["speed"]),
    }
    files = [a["params_file"]]
    nodes = [as_node(NodeProcess("choreography", "choreography_node", {"choreography": parameters | clock}), files)]
    if flag("tracker", a["tracker"]):
        if a["dancer"] == "0":
            raise ValueError("tracker:=true drives one robot: expected its dancer, from 1; give dancer:=1.")
        nodes.append(as_node(NodeProcess("choreography", "tracker_node", {"tracker": clock}), files))
    renamed = [SetRemap(topics.COMMAND, a["cmd_vel_topic"])] if a["cmd_vel_topic"] else []
    return [GroupAction([PushRosNamespace(a["namespace"]), *renamed, *nodes])]


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, *fast_dds("shm16.xml"), OpaqueFunction(function=_nodes)])
