"""The node that registers two scans, by the bundle that edgeflock brings or another.

ros2 launch edgeflock_ros registration.launch.py
ros2 launch edgeflock_ros registration.launch.py bundle:=bundles/ldr keys:=fleet.pub namespace:=theatre
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction
from launch_ros.actions import PushRosNamespace

from edgeflock_ros.launching import NAMESPACE, NICE, as_node, fast_dds, given
from edgeflock_ros.nodes import NodeProcess

NODE = {
    "bundle": "bundle folder; empty = the one edgeflock brings",
    "keys": "its signer's .pub file; several separated by ':'",
    "precision": "fp32, int8 ...; empty = edgeflock tune's choice",
    "engine": "empty = edgeflock tune's choice",
}
ARGUMENTS = [
    *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in NODE.items()),
    NAMESPACE,
    NICE,
]


def _nodes(context):
    a = given(context, ARGUMENTS)
    node = NodeProcess("edgeflock_ros", "registration_node", {"registration": {name: a[name] for name in NODE}})
    return [GroupAction([PushRosNamespace(a["namespace"]), as_node(node, prefix=f"nice -n {a['nice']}")])]


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, *fast_dds("shm16.xml"), OpaqueFunction(function=_nodes)])
