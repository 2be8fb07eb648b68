"""A package.xml needs what the package imports, launches and starts: rosdep installs no more and no less."""

import ast
from pathlib import Path
from xml.etree import ElementTree

import pytest

SOURCES = Path(__file__).parents[2] / "ros2_ws/src"
PACKAGES = sorted(p.parent.name for p in SOURCES.glob("*/setup.py"))
OURS = {p.parent.name for p in SOURCES.glob("*/package.xml")}
ROS = {"rclpy", "launch", "launch_ros", "ament_index_python"}


OPTIONAL = {
    "fadnet_nav": {"ackermann_msgs"},
    "edgeflock_ros": {"tf2_msgs", "vision_msgs", "bond", "edgeflock_msgs"},
    "emotion_recognition": {"hri_msgs", "edgeflock_msgs"},
}
"""Used where they are installed."""

ROSDEP = {"yaml": "python3-yaml"}
"""Packages of Debian that nodes import, by their modules."""


def is_ros(name):
    """Whether a module's first name is that of a ROS package; the others come with `pip install edgeflock`."""
    return name in OURS | ROS | set(ROSDEP) or name.endswith(("_msgs", "_interfaces", "_srvs"))


def named(tree):
    """Names of modules in imports, and texts that name one of our packages or modules, as launch files do."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value if node.value.partition(".")[0] in OURS and " " not in node.value else ""


@pytest.mark.parametrize("package", PACKAGES)
def test_it_depends_on_what_it_imports_launches_and_starts(package):
    folder = SOURCES / package
    files = [*(folder / package).rglob("*.py"), *(folder / "launch").glob("*.py")]
    assert files
    first = {name.partition(".")[0] for file in files for name in named(ast.parse(file.read_text()))}
    others = {name for name in first - {package} - OPTIONAL.get(package, set()) if is_ros(name)}
    declared = [d.text for d in ElementTree.parse(folder / "package.xml").iter("exec_depend")]
    assert sorted(declared) == sorted(ROSDEP.get(name, name) for name in others)


def test_no_package_needs_itself_over_others():
    needs = {
        p: {d.text for d in ElementTree.parse(SOURCES / p / "package.xml").iter("exec_depend")} & OURS for p in PACKAGES
    }
    while needs:  # colcon's order: who needs nobody goes first
        ready = [p for p, others in needs.items() if not others & set(needs)]
        assert ready, needs
        for p in ready:
            del needs[p]
