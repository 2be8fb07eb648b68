"""Messages from and to numpy, by the fast ways (docs/decisions/0006-ros-from-wheels.md)."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock_ros import topics

SENT = {"rgb8": (np.uint8, 3), "16UC1": (np.uint16, 1)}  # what the camera node publishes
NUMBERED = hasattr(Subscription, "CallbackType")  # Humble's rclpy hands over no message info: misses stay unknown there
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def to_ns(stamp: Time) -> int:
    """Time in ns."""
    return stamp.sec * 10**9 + stamp.nanosec


def to_stamp(ns: int) -> Time:
    """Message of a time in ns."""
    return Time(sec=ns // 10**9, nanosec=ns % 10**9)


def qos(kind: str, depth: int = 1) -> QoSProfile:
    """Keep-last profile: "reliable", or "sensor_data" (best effort)."""
    best_effort = kind == "sensor_data"
    reliability = QoSReliabilityPolicy.BEST_EFFORT if best_effort else QoSReliabilityPolicy.RELIABLE
    return QoSProfile(depth=depth, reliability=reliability)


def to_intrinsics(info: CameraInfo) -> Intrinsics:
    """Pinhole model of a camera_info."""
    k = info.k
    return Intrinsics(info.width, info.height, k[0], k[4], k[2], k[5], info.distortion_model, tuple(info.d))


def image_kind(node: Node, stream: str) -> tuple[type[Image] | type[CompressedImage], str]:
    """Type and remapped name of the images of a stream; compressed by its name, as image_transport has it."""
    topic = node.resolve_topic_name(topics.image(stream))
    return (CompressedImage if topics.is_compressed(topic) else Image), topic


class ImageReader:
    """Subscription to the camera's images, raw or compressed, that knows how many it did not get.

    Parameters
    ----------
    node : rclpy.node.Node
    kind : str
        QoS, see `qos`.
    on_image : callable
    depth : int
        Images that may wait for the executor; 1: the middleware overwrites one that was not taken yet.
    """

    def __init__(self, node: Node, kind: str, on_image: Callable[[Any], None], depth: int = 1) -> None:
        self._on_image = on_image
        self._missed = self._sequence = 0
        callback: Any = self._on_numbered_image if NUMBERED else on_image
        self._node = node
        self._subscription = node.create_subscription(*image_kind(node, topics.COLOR), callback, qos(kind, depth))

    @property
    def topic(self) -> str:
        """Name of the topic, fully qualified and remapped."""
        return self._subscription.topic_name

    @property
    def missed(self) -> int | str:
        """Images that were sent since the first one came, and did not reach `on_image`."""
        return self._missed if NUMBERED else "unknown"

    def _on_numbered_image(self, image: Image | CompressedImage, info: dict[str, int]) -> None:
        # The writer numbers its messages, so a gap is exactly what this reader did not get or overwrote.
        sequence = info["publication_sequence_number"]
        if 0 < self._sequence < sequence:
            self._missed += sequence - self._sequence - 1
        self._sequence = sequence
        self._on_image(image)

    def close(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)


class ImagePublisher:
    """Publishes one image stream and a camera_info of the same stamp per frame, from buffers made once."""

    def __init__(
        self, node: Node, stream: str, intrinsics: Intrinsics, encoding: str, frame_id: str, kind: str
    ) -> None:
        self._node = node
        self._images = node.create_publisher(Image, topics.image(stream), qos(kind))
        # Small and reliable, deep enough for a slow reader: what counts frames must not lose any.
        self._infos = node.create_publisher(CameraInfo, topics.info(stream), qos("reliable", 60))
        dtype, channels = SENT[encoding]
        i = intrinsics
        step = i.width * channels * np.dtype(dtype).itemsize
        self._image = Image(height=i.height, width=i.width, encoding=encoding, step=step)
        self._image.data = array.array("B", bytes(step * i.height))
        shape = (i.height, i.width, channels) if channels > 1 else (i.height, i.width)
        self._pixels = np.frombuffer(self._image.data, dtype).reshape(shape)
        self._info = CameraInfo(
            width=i.width, height=i.height, distortion_model=i.model, d=[float(c) for c in i.coeffs]
        )
        self._info.k = [i.fx, 0.0, i.cx, 0.0, i.fy, i.cy, 0.0, 0.0, 1.0] if i.fx else [0.0] * 9
        self._info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        self._info.p = [i.fx, 0.0, i.cx, 0.0, 0.0, i.fy, i.cy, 0.0, 0.0, 0.0, 1.0, 0.0] if i.fx else [0.0] * 12
        self._image.header.frame_id = self._info.header.frame_id = frame_id

    def close(self) -> None:
        """Take both topics back."""
        for publisher in (self._images, self._infos):
            self._node.destroy_publisher(publisher)

    @property
    def readers(self) -> int:
        """Subscriptions of the images that this publisher is connected to."""
        return self._images.get_subscription_count()

    def publish(self, pixels: np.ndarray, stamp: Time) -> None:
        """Send one frame; `pixels` are copied."""
        np.copyto(self._pixels, pixels)
        self._image.header.stamp = self._info.header.stamp = stamp
        self._infos.publish(self._info)
        self._images.publish(self._image)


def diagnostics(node: Node, what: str, level: bytes, message: str, hardware_id: str, **values: Any) -> DiagnosticArray:
    """One status about `what` of a node, now; floats are written with three decimals.

    Its name begins without a slash: the aggregator puts its own path before it.
    """
    written = [KeyValue(key=k, value=f"{v:.3f}" if isinstance(v, float) else str(v)) for k, v in values.items()]
    name = f"{node.get_fully_qualified_name()[1:]}: {what}"
    status = DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware_id, values=written)
    out = DiagnosticArray(status=[status])
    out.header.stamp = node.get_clock().now().to_msg()
    return out
