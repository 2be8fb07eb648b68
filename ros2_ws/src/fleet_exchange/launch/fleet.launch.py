"""This robot's part in a fleet's run.

ros2 launch fleet_exchange fleet.launch.py params_file:=fleet.yaml namespace:=r1
ros2 launch fleet_exchange fleet.launch.py robot:=r1 key:=r1.pem roster:=roster.json plan:=plan.json \
    data:=data/r1/train val:=data/r1/val out:=runs/r1 driving:=driving
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction
from launch_ros.actions import PushRosNamespace

from edgeflock_ros.launching import NICE, as_node, fast_dds, given
from edgeflock_ros.nodes import NodeProcess

NODE = {
    "robot": "name of this robot in roster and plan",
    "key": "its private key",
    "roster": "roster.json",
    "plan": "plan of edgeflock fleet plan",
    "data": "training data; several separated by ':'",
    "val": "held-out data; several separated by ':'",
    "out": "folder of this robot's part",
    "driving": "driving bundle to promote every model to that passes; empty = promote nothing",
}
ARGUMENTS = [
    *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in NODE.items()),
    DeclareLaunchArgument("params_file", default_value="", description="all parameters of the node fleet (ROS YAML)"),
    DeclareLaunchArgument("namespace", default_value="", description="one per robot; empty = its name"),
    NICE,
]


def _nodes(context):
    a = given(context, ARGUMENTS)
    parameters = {name: a[name] for name in NODE if a[name]}  # the others stand in the file
    process = NodeProcess("fleet_exchange", "fleet_node", {"fleet": parameters})
    node = as_node(process, [a["params_file"]], prefix=f"nice -n {a['nice']}")
    return [GroupAction([PushRosNamespace(a["namespace"] or a["robot"]), node])]


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, *fast_dds("lossy.xml"), OpaqueFunction(function=_nodes)])
