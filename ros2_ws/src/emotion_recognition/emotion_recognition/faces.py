"""Faces as messages: the topics of REP-155 (ROS4HRI), and edgeflock's own message for a whole frame.

| topic                       | hri_msgs installed                      | otherwise                                  |
|-----------------------------|-----------------------------------------|--------------------------------------------|
| .../faces/<id>/roi          | NormalizedRegionOfInterest2D            | sensor_msgs/RegionOfInterest, pixels       |
| .../faces/<id>/expression   | Expression                              | sensor_msgs/JointState: word, probability  |
| .../faces/tracked           | IdsList                                 | sensor_msgs/JointState: id, detector score |
| .../faces/emotions          | edgeflock_msgs/FaceEmotions where that package is built                              |

REP-155's text gives the roi as sensor_msgs/RegionOfInterest; its ROS 2 messages and the readers of libhri have the
normalised one with a header. Without hri_msgs the only common message with a stamp, names and numbers is JointState,
which every tool can plot and no reader has to parse. REP-155's cropped and aligned images are not sent: see the node.

A frame's messages go out in the order of the table's rows, `tracked` and `emotions` once per frame, also without a
face.
"""

from __future__ import annotations

import math
import secrets
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rclpy.node import Node
from sensor_msgs.msg import JointState, RegionOfInterest
from std_msgs.msg import Header

from edgeflock_ros import topics
from edgeflock_ros.messages import qos, to_ns

if TYPE_CHECKING:
    from edgeflock.runtime.faces.pipeline import FaceEmotion

try:
    import hri_msgs.msg as hri_msgs
except ImportError:  # from apt on a robot; on no package index
    hri_msgs = None
try:
    import edgeflock_msgs.msg as edgeflock_msgs
except ImportError:  # has to be compiled: colcon build
    edgeflock_msgs = None

# Words of hri_msgs/Expression for the names that the data sets use.
_WORDS = {
    "neutral": ("neutral",),
    "angry": ("anger", "angry"),
    "sad": ("sad", "sadness"),
    "happy": ("happy", "happiness", "joy"),
    "surprised": ("surprise", "surprised"),
    "disgusted": ("disgust", "disgusted"),
    "scared": ("fear", "fearful", "scared"),
}
EXPRESSIONS = {name: word for word, names in _WORDS.items() for name in names}
"""REP-155's word by label, lower case."""

FORGET_NS = 5 * 10**9
"""A face that was away for longer (or time jumped) loses its topics; making them anew costs discovery."""


def expression_of(label: str) -> str:
    """REP-155's word for a label, by name; the label itself, lower case, where it has none (contempt)."""
    return EXPRESSIONS.get(label.lower(), label.lower())


def ids_type() -> type:
    """Type of the topic `tracked`."""
    return _dialect().ids_type


def ids_of(message: Any) -> list[str]:
    """Ids in a message of `tracked`."""
    return message.ids if hri_msgs else message.name


class Seen(NamedTuple):
    """A face as it is sent: id in REP-155's syntax, and the box cut at the border of the frame."""

    id: str
    roi: tuple[int, int, int, int]
    """x1, y1, x2, y2 in pixels, x2 and y2 excluded."""
    found: FaceEmotion


def cut(box: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """Whole pixels of a box inside the frame."""
    x1, y1, x2, y2 = box
    return (
        max(0, math.floor(x1)),
        max(0, math.floor(y1)),
        min(width, math.ceil(x2)),
        min(height, math.ceil(y2)),
    )


class FaceTopics:
    """Publishes the faces of each frame; topics of a face come and go with it.

    Parameters
    ----------
    node : rclpy.node.Node
    labels : sequence of str
        Of the net, in its order.
    humans : str
        Namespace; REP-155 says /humans.
    """

    def __init__(self, node: Node, labels: Sequence[str], humans: str = topics.HUMANS) -> None:
        self._node = node
        self._labels = list(labels)
        self._words = [expression_of(label) for label in labels]
        self._humans = humans
        # Ids are unique among runs and nodes too, and a topic's name may not begin with a digit.
        self._run = "".join(secrets.choice(string.ascii_lowercase) for _ in range(4))
        self._profile = qos("reliable", 5)
        self._dialect = _dialect()
        self._tracked = node.create_publisher(self._dialect.ids_type, f"{humans}/{topics.TRACKED}", self._profile)
        self._emotions = None
        if edgeflock_msgs:
            self._emotions = node.create_publisher(
                edgeflock_msgs.FaceEmotions, f"{humans}/{topics.EMOTIONS}", self._profile
            )
        self._publishers: dict[str, tuple[Any, Any]] = {}
        self._last_seen: dict[str, int] = {}

    @property
    def kinds(self) -> str:
        """Which message packages are in use."""
        return self._dialect.name + (" + edgeflock_msgs" if self._emotions else "")

    def publish(self, header: Header, width: int, height: int, found: Sequence[FaceEmotion]) -> None:
        """Send all faces of one frame of width x height pixels; `header` is the image's."""
        seen = [Seen(f"{self._run}{one.face.id}", cut(one.face.box, width, height), one) for one in found]
        for one in seen:
            roi, expression = self._publishers.get(one.id) or self._appear(one.id)
            roi.publish(self._dialect.roi(header, one, width, height))
            expression.publish(self._dialect.expression(header, one, self._words))
        self._tracked.publish(self._dialect.ids(header, seen))
        if self._emotions:
            self._emotions.publish(_frame(header, self._labels, seen))
        self._forget(to_ns(header.stamp), seen)

    def _appear(self, name: str) -> tuple[Any, Any]:
        kinds = {
            topics.region(name): self._dialect.roi_type,
            topics.expression(name): self._dialect.expression_type,
        }
        roi, expression = (
            self._node.create_publisher(kind, f"{self._humans}/{topic}", self._profile) for topic, kind in kinds.items()
        )
        self._publishers[name] = roi, expression
        return roi, expression

    def _forget(self, now_ns: int, seen: Sequence[Seen]) -> None:
        self._last_seen.update((one.id, now_ns) for one in seen)
        for name in [name for name, last in self._last_seen.items() if abs(now_ns - last) > FORGET_NS]:
            del self._last_seen[name]
            for publisher in self._publishers.pop(name):
                self._node.destroy_publisher(publisher)

    def close(self) -> None:
        """Take all topics back."""
        own = [self._tracked, *(p for pair in self._publishers.values() for p in pair)]
        for publisher in [*own, self._emotions] if self._emotions else own:
            self._node.destroy_publisher(publisher)
        self._publishers.clear()
        self._last_seen.clear()


def _dialect() -> Any:
    return _Hri if hri_msgs else _Standard


class _Standard:
    """Messages that every ROS 2 has."""

    name = "standard messages"
    ids_type = expression_type = JointState
    roi_type = RegionOfInterest

    @staticmethod
    def ids(header: Header, seen: Sequence[Seen]) -> JointState:
        return JointState(header=header, name=[s.id for s in seen], position=[float(s.found.face.score) for s in seen])

    @staticmethod
    def roi(header: Header, seen: Seen, width: int, height: int) -> RegionOfInterest:
        x1, y1, x2, y2 = seen.roi
        return RegionOfInterest(x_offset=x1, y_offset=y1, width=x2 - x1, height=y2 - y1)

    @staticmethod
    def expression(header: Header, seen: Seen, words: Sequence[str]) -> JointState:
        numbers = dict(zip(words, seen.found.distribution.values(), strict=True))
        for axis, value in (("valence", seen.found.valence), ("arousal", seen.found.arousal)):
            if value is not None:
                numbers[axis] = value
        return JointState(header=header, name=list(numbers), position=list(numbers.values()))


class _Hri:
    """hri_msgs."""

    name = "hri_msgs"
    if hri_msgs:
        ids_type, roi_type = hri_msgs.IdsList, hri_msgs.NormalizedRegionOfInterest2D
        expression_type = hri_msgs.Expression

    @staticmethod
    def ids(header: Header, seen: Sequence[Seen]) -> Any:
        return hri_msgs.IdsList(header=header, ids=[s.id for s in seen])

    @staticmethod
    def roi(header: Header, seen: Seen, width: int, height: int) -> Any:
        x1, y1, x2, y2 = seen.roi
        return hri_msgs.NormalizedRegionOfInterest2D(
            header=header,
            xmin=x1 / width,
            ymin=y1 / height,
            xmax=x2 / width,
            ymax=y2 / height,
            c=float(seen.found.face.score),
        )

    @staticmethod
    def expression(header: Header, seen: Seen, words: Sequence[str]) -> Any:
        return hri_msgs.Expression(header=header, **_said(seen.found))


def _frame(header: Header, labels: list[str], seen: Sequence[Seen]) -> Any:
    faces = [
        edgeflock_msgs.FaceEmotion(
            id=one.id,
            roi=_Standard.roi(header, one, 0, 0),
            score=float(one.found.face.score),
            probabilities=list(one.found.distribution.values()),
            **_said(one.found),
        )
        for one in seen
    ]
    return edgeflock_msgs.FaceEmotions(header=header, labels=labels, faces=faces)


def _said(found: FaceEmotion) -> dict[str, Any]:
    """What hri_msgs/Expression and edgeflock_msgs/FaceEmotion say alike; NaN: the net gives no valence and arousal."""
    return {
        "expression": expression_of(found.label),
        "confidence": found.confidence,
        "valence": math.nan if found.valence is None else found.valence,
        "arousal": math.nan if found.arousal is None else found.arousal,
    }
