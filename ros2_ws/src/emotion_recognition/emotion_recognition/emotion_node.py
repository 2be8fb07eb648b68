"""Node `emotion` (lifecycle): camera frame in, what each face shows out.

Subscribes (relative names)
    camera/color/image_raw      any of `encodings.COLOR_ENCODINGS`, or CompressedImage where it is remapped to a topic
                                `.../compressed`. Every image is taken at once, and the newest one waits for the net:
                                those in between are skipped, nothing queues
Publishes
    /humans/faces/...           REP-155: ids, regions, expressions (see `faces` for types), stamp and frame of the image
    ~/annotated                 sensor_msgs/Image, rgb8, with `publish_annotated` and while somebody subscribes
    /diagnostics                1 Hz: rate, latency, faces, what was skipped, missed and refused, engine, bundle

Every image that came (`received`) is answered, skipped for a newer one, or refused with a reason; `missed` never came.

Privacy: images are neither stored nor sent on. REP-155's `cropped` and `aligned` are images of a person, so they are
not there at all; the annotated image is only there with `publish_annotated`, and its faces are coarse unless
`blur_faces` is off. What the detector does not find is not blurred.

Parameters: `EmotionParameters`; see `edgeflock_ros.managed`.
"""

from __future__ import annotations

import edgeflock_ros.before_rclpy  # noqa: F401

# isort: split
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from pydantic import Field
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from edgeflock.runtime.cameras.encodings import Encoding, decode_color, is_color
from edgeflock.runtime.errors import EdgeflockError, InputError
from edgeflock_ros import topics
from edgeflock_ros.managed import ImageNetParameters, ManagedNode
from edgeflock_ros.messages import ERROR, OK, WARN, ImageReader, qos, to_ns
from edgeflock_ros.process import run
from edgeflock_ros.senders import IMAGES, Senders
from emotion_recognition.faces import EXPRESSIONS, FaceTopics

if TYPE_CHECKING:
    from edgeflock.runtime.faces.pipeline import EmotionPipeline, FaceEmotion

ARRIVALS = 5  # images that may wait for Python to take them; the newest then waits for the net
RECENT = 300  # answers for the percentiles in the diagnostics
BLOCKS = 8  # of a blurred face, along each side


class EmotionParameters(ImageNetParameters):
    """Parameters of the emotion node."""

    detector: str = Field(
        default="auto",
        min_length=1,
        description="of faces: auto (YuNet where `edgeflock faces get` put it, else cascade), cascade, or YuNet's file",
    )
    min_face: float = Field(
        default=0.1,
        ge=0.01,
        le=1,
        description="smallest face, of the frame's shorter side; half costs four times",
    )
    smoothing: float = Field(
        default=0.5, ge=0, le=60, description="s, time constant of each face's distribution; 0 = each frame alone"
    )
    humans: str = Field(
        default=topics.HUMANS, pattern=r"^(/[A-Za-z_]\w*)+$", description="namespace of the faces; REP-155 says /humans"
    )
    publish_annotated: bool = Field(default=False, description="send an image with what was found: shows people")
    blur_faces: bool = Field(default=True, description="in the annotated image: only coarse blocks where a face is")


class EmotionNode(ManagedNode[EmotionParameters]):
    """Owns one EmotionPipeline and the thread that it thinks in; see the module."""

    def __init__(self) -> None:
        super().__init__("emotion", EmotionParameters, "faces")
        self._pipeline: EmotionPipeline | None = None
        self._reader: ImageReader | None = None
        self._thread: threading.Thread | None = None
        self._news = threading.Condition()
        self._newest: Image | None = None
        self._stop = False
        self.start()

    def load(self) -> None:
        """Load bundle and detector, and warm both up."""
        from edgeflock.runtime.bundle.bundle import default_bundle
        from edgeflock.runtime.faces import open_detector
        from edgeflock.runtime.faces.pipeline import EmotionPipeline
        from edgeflock.runtime.tasks.emotion import EmotionRecognizer

        p = self.settings.value
        recognizer = EmotionRecognizer(
            p.bundle or default_bundle("emotion"), p.precision or None, p.threads or None, p.engine or None, p.trusted
        )
        cv2.setNumThreads(p.threads or 1)  # or the detector takes every core from the nodes that drive
        detector = open_detector(p.detector, p.min_face, stream=True, say=self.get_logger().warning)
        recognizer(*recognizer.example())
        detector(np.zeros((480, 640, 3), np.uint8), "rgb8")
        self._pipeline = EmotionPipeline(recognizer, detector, smoothing_s=p.smoothing)
        self._topics = FaceTopics(self, recognizer.labels, p.humans)
        self._annotated = (
            self.create_publisher(Image, topics.ANNOTATED, qos("reliable")) if p.publish_annotated else None
        )
        digest = recognizer.bundle.digest
        self.hardware_id = digest[:12]
        self._constant: dict[str, Any] = {
            "detector": type(detector).__name__,
            "messages": self._topics.kinds,
            "annotated": p.publish_annotated,
            "engine": recognizer.engine.name,
            "precision": recognizer.precision,
            "bundle": digest,
        }
        self.get_logger().info(
            f"bundle {digest[:12]}, {recognizer.engine.name}, {recognizer.precision}; faces by "
            f"{type(detector).__name__}, as {self._topics.kinds} under {p.humans}/faces; images leave: "
            f"{('blurred' if p.blur_faces else 'with faces') if p.publish_annotated else 'none'}"
        )
        for label in recognizer.labels:
            if label.lower() not in EXPRESSIONS:
                self.get_logger().warning(f"REP-155 has no word for {label!r}: it is sent as {label.lower()!r}.")

    def begin(self) -> None:
        """Take images, and think about the newest in a thread: the executor is free to take the next."""
        self._received = self._answered = self._skipped = self._faces = self._reported = 0
        self._refused: Counter[str] = Counter()
        self._complaint = ""
        self._recent: deque[tuple[float, float, int]] = deque(maxlen=RECENT)  # latency ms, of it thinking ms, faces
        self._stop, self._newest = False, None
        self._thread = threading.Thread(target=self._think, name="think", daemon=True)
        self._thread.start()
        self._reader = ImageReader(self, self.settings.value.qos, self._on_image, ARRIVALS)

    def release(self) -> None:
        """Take no more images, and wait for the answer in hand."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._thread is not None:
            with self._news:
                self._stop = True
                self._news.notify()
            self._thread.join()
            self._thread = None

    def unload(self) -> None:
        """Drop bundle and topics."""
        self._topics.close()
        if self._annotated is not None:
            self.destroy_publisher(self._annotated)
        self._pipeline = None

    def _on_image(self, image: Image | CompressedImage) -> None:
        with self._news:
            self._received += 1
            self._skipped += self._newest is not None
            self._newest = image
            self._news.notify()

    def _think(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._stop or self._newest is not None)
                if self._stop:
                    return
                image, self._newest = cast("Image", self._newest), None
            try:
                self._answer(image)
            except Exception:  # the thread must not die in silence: the process ends, and is started again
                self.get_logger().fatal(traceback.format_exc())
                self.done = 1
                return

    def _answer(self, image: Image | CompressedImage) -> None:
        assert self._pipeline is not None
        begun = time.perf_counter_ns()
        reason = "data" if is_color(image) else "encoding"
        try:
            pixels, encoding = decode_color(image)
            reason = "image"
            found = self._pipeline(pixels, encoding, to_ns(image.header.stamp))
        except EdgeflockError as error:
            self._refused[reason if isinstance(error, InputError) else "net"] += 1
            self._complaint = str(error)
            self.get_logger().error(str(error), throttle_duration_sec=1.0)
            return
        think_ms = (time.perf_counter_ns() - begun) / 1e6
        self._topics.publish(image.header, pixels.shape[1], pixels.shape[0], found)
        age_ms = (self.get_clock().now().nanoseconds - to_ns(image.header.stamp)) / 1e6
        self._recent.append((age_ms, think_ms, len(found)))
        self._answered += 1
        if self._annotated is not None and self._annotated.get_subscription_count():
            self._annotated.publish(self._draw(image.header, pixels, encoding, found))

    def _draw(self, header: Header, pixels: np.ndarray, encoding: Encoding, found: Sequence[FaceEmotion]) -> Image:
        from edgeflock.runtime.faces.draw import annotate

        if self.settings.value.blur_faces:
            pixels = pixels.copy()
            for one in found:
                coarsen(pixels, one.face.box)
        drawn = annotate(pixels, found, encoding)
        height, width = pixels.shape[:2]
        out = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
        out.data = drawn.tobytes()
        return out

    def report(self) -> None:
        """Rate, latency and counts since it was activated."""
        p, recent = self.settings.value, list(self._recent)
        values: dict[str, Any] = {"rate_hz": self._answered - self._reported}
        refused, self._faces = sum(self._refused.values()), recent[-1][2] if recent else 0
        level, message = OK, "reading faces"
        if self._complaint:
            level, message = ERROR, self._complaint
        elif self._answered == self._reported:
            level, message = WARN, Senders(self, cast("ImageReader", self._reader).topic).absence("image", IMAGES)
        self._reported, self._complaint = self._answered, ""
        if recent:
            latency, thinking, faces = np.array(recent).T
            values |= {f"latency_p{q}_ms": float(np.percentile(latency, q)) for q in (50, 90, 99)}
            values |= {"think_p50_ms": float(np.median(thinking)), "faces": self._faces, "faces_mean": faces.mean()}
        spent = cast("EmotionPipeline", self._pipeline).spent_ns
        values |= {f"{part}_ms": ns / 1e6 for part, ns in spent.items()}
        values |= {
            "received": self._received,
            "answered": self._answered,
            "skipped": self._skipped,
            "missed": cast("ImageReader", self._reader).missed,
            "refused": refused,
            **{f"refused_{reason}": count for reason, count in self._refused.items()},
            "smoothing_s": p.smoothing,
            **self._constant,
        }
        self.say(level, message, **values)


def coarsen(pixels: np.ndarray, box: Sequence[float]) -> None:
    """Leave only `BLOCKS` x `BLOCKS` mean colours of what a box covers, in place."""
    x1, y1, x2, y2 = (max(0, round(edge)) for edge in box)
    part = pixels[y1:y2, x1:x2]
    if part.size:
        small = cv2.resize(part, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)
        part[:] = cv2.resize(small, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def main(args: list[str] | None = None) -> int:
    """Run the emotion node until a signal; a bundle that cannot be used ends it with the error's exit code."""
    return run(lambda: [EmotionNode()], args)


if __name__ == "__main__":
    sys.exit(main())
