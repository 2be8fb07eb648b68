"""A topic's name has one owner."""

import ast
from pathlib import Path

import pytest

from edgeflock_ros import topics

SOURCES = Path(__file__).parents[3] / "ros2_ws/src"
NAMED = {
    "create_publisher": 1, "create_lifecycle_publisher": 1, "create_subscription": 1, "ImagePublisher": 1,
    "count_publishers": 0, "count_subscribers": 0,
}  # fmt: skip
"""Where a call takes the name of a topic."""


@pytest.mark.parametrize(
    ("image", "info"),
    [
        ("/cam/color/image_raw", "/cam/color/camera_info"),
        ("/cam/image_raw/compressed", "/cam/camera_info"),
        ("cam/depth/image/compressedDepth", "cam/depth/camera_info"),
        ("/image_raw", "/camera_info"),
        ("image_raw", "camera_info"),
    ],
)
def test_the_calibration_lies_beside_the_images_whatever_their_transport(image, info):
    assert topics.info_beside(image) == info


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*/*/*.py")), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_no_node_spells_a_topic_itself(path):
    for call in ast.walk(ast.parse(path.read_text())):
        if not isinstance(call, ast.Call):
            continue
        place = NAMED.get(getattr(call.func, "attr", getattr(call.func, "id", "")))
        if place is None or len(call.args) <= place:
            continue
        texts = [node.value for node in ast.walk(call.args[place]) if isinstance(node, ast.Constant)]
        spelt = [text for text in texts if isinstance(text, str) and text.strip("/~")]
        assert not spelt, f"line {call.lineno}: {spelt}: name it in edgeflock_ros.topics"
