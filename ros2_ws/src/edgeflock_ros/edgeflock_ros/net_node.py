"""Node `net` (lifecycle): camera frame in, what a net of one's own answers out (`edgeflock export net`).

Subscribes (relative names)
    camera/color/image_raw      any of `encodings.COLOR_ENCODINGS`, or CompressedImage where it is remapped to a topic
                                `.../compressed`; keep-last 1: a slow net always gets the newest frame
    ~/inputs/NAME               std_msgs/Float32MultiArray, of every input that is no picture: a speed, a command, a
                                state. The newest one holds; frames wait for the first, unless `start_at_zero`
    odom                        nav_msgs/Odometry, of an input of one number in m/s
Publishes
    ~/outputs/NAME              std_msgs/Float32MultiArray of every output, its shape in the layout
    ~/classes                   of an output with labels (`--labels`): vision_msgs/Classification where that package is
                                installed, else sensor_msgs/JointState: names and probabilities, the most probable first
    ~/answered                  std_msgs/Header: stamp and frame id of the image that the messages before it answer
    /diagnostics                at every change and at 1 Hz: age_ms, inference_ms, frames, dropped, refused, bundle

A state that an output gives back is an input remapped to it: `-r ~/inputs/h:=/net/outputs/hn -p start_at_zero:=true`.

Parameters: `NetNodeParameters`; see `managed`.
"""

from __future__ import annotations

import edgeflock_ros.before_rclpy  # noqa: F401

# isort: split
import array
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import Field
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float32MultiArray, Header, MultiArrayDimension, MultiArrayLayout

from edgeflock.runtime.cameras.encodings import decode_color
from edgeflock.runtime.errors import EdgeflockError, InputError
from edgeflock_ros import topics
from edgeflock_ros.inputs import InputTopics
from edgeflock_ros.managed import ImageNetParameters, ManagedNode
from edgeflock_ros.messages import ERROR, OK, WARN, ImageReader, qos, to_ns
from edgeflock_ros.newest import NewestFrame
from edgeflock_ros.process import run
from edgeflock_ros.senders import IMAGES, Senders

if TYPE_CHECKING:
    from edgeflock.runtime.bundle.manifest import OutputSpec
    from edgeflock.runtime.tasks.generic import GenericTask

try:
    import vision_msgs.msg as vision_msgs
except ImportError:  # from apt on a robot; on no package index
    vision_msgs = None

DEPTH = 5  # answers that may wait for a reader


class NetNodeParameters(ImageNetParameters):
    """Parameters of the net node."""

    bundle: str = Field(default="", description="folder that edgeflock export net wrote")
    start_at_zero: bool = Field(default=False, description="inputs that are no picture are 0 until their topic sends")


class NetNode(ManagedNode[NetNodeParameters]):
    """Owns one GenericTask; see the module."""

    def __init__(self) -> None:
        super().__init__("net", NetNodeParameters, "frames")
        self._task: GenericTask | None = None
        self._reader: ImageReader | None = None
        self._others: InputTopics | None = None
        self.start()

    def load(self) -> None:
        """Load, verify and warm up the bundle, and make a topic for each output."""
        from edgeflock.runtime.tasks.generic import GenericTask

        p = self.settings.value
        if not p.bundle:
            raise InputError("bundle: expected the folder that `edgeflock export net` wrote, got none: name it.")
        self._task = task = GenericTask(
            p.bundle, p.precision or None, p.threads or None, p.engine or None, keys=p.trusted
        )
        manifest = task.bundle.manifest
        pictures = [spec.name for spec in manifest.inputs if spec.kind == "image"]
        if len(pictures) != 1:
            raise InputError(
                f"bundle: expected a net with one picture among its inputs, got "
                f"{', '.join(map(str, manifest.inputs))}: `edgeflock.runtime.load` runs it in Python."
            )
        task(*task.example())
        self._picture = pictures[0]
        names = [topics.net_output(spec.name) for spec in manifest.outputs]
        if len(set(names)) < len(names):
            raise InputError(f"bundle: expected outputs of other names than {', '.join(names)}: two are one topic.")
        self._outputs = {
            spec.name: (self.create_publisher(Float32MultiArray, name, qos("reliable", DEPTH)), shaped(spec))
            for name, spec in zip(names, manifest.outputs, strict=True)
        }
        self._classified = next((spec for spec in manifest.outputs if spec.labels), None)
        kind = vision_msgs.Classification if vision_msgs else JointState
        self._classes = (
            self.create_publisher(kind, topics.CLASSES, qos("reliable", DEPTH)) if self._classified else None
        )
        self._answered = self.create_publisher(Header, topics.ANSWERED, qos("reliable", DEPTH))
        digest, engine = task.bundle.digest, task.engine.name
        self.hardware_id = digest[:12]
        self._constant = {"engine": engine, "precision": task.precision, "bundle": digest}
        self.get_logger().info(f"bundle {digest[:12]}, {engine}, {task.precision}; answers on {', '.join(names)}")

    def begin(self) -> None:
        """Begin to answer frames."""
        self._frames = self._refused = 0
        self._newest = NewestFrame(self._tell, self._absence)
        p, specs = self.settings.value, cast("GenericTask", self._task).bundle.manifest.inputs
        others = [spec for spec in specs if spec.name != self._picture]
        self._others = InputTopics(self, others, self._fail, p.start_at_zero)
        self._reader = ImageReader(self, p.qos, self._on_image)

    def release(self) -> None:
        """Stop answering."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._others is not None:
            self._others.close()
            self._others = None

    def unload(self) -> None:
        """Drop bundle and topics."""
        made = [publisher for publisher, _ in self._outputs.values()]
        for publisher in (*made, self._classes, self._answered):
            if publisher is not None:
                self.destroy_publisher(publisher)
        self._task = None

    def _on_image(self, image: Image | CompressedImage) -> None:
        others = cast("InputTopics", self._others)
        if absence := others.absence:
            self._newest.note(WARN, absence)
            return
        begun = time.perf_counter_ns()
        try:
            pixels, encoding = decode_color(image)
            answers = cast("GenericTask", self._task)({**others.values, self._picture: pixels}, encoding)
        except EdgeflockError as error:
            self._fail(str(error))
            return
        spent_ms = (time.perf_counter_ns() - begun) / 1e6
        for name, (publisher, message) in self._outputs.items():
            message.data = array.array("f", answers[name].astype(np.float32).tobytes())
            publisher.publish(message)
        if self._classified is not None and self._classes is not None:
            self._classes.publish(classes(image.header, self._classified, answers[self._classified.name]))
        self._answered.publish(image.header)
        self._frames += 1
        age_ms = (self.get_clock().now().nanoseconds - to_ns(image.header.stamp)) / 1e6
        odd = [name for name, answer in answers.items() if not np.isfinite(answer).all()]
        said = (ERROR, f"the net answers {', '.join(odd)} with NaN or infinity") if odd else (OK, "answering")
        self._newest.note(*said, age_ms=age_ms, inference_ms=spent_ms)

    def _fail(self, reason: str) -> None:
        self._refused += 1
        self.get_logger().error(reason, throttle_duration_sec=1.0)
        self._newest.note(ERROR, reason)

    def _tell(self, level: bytes, message: str, **values: float) -> None:
        dropped = self._reader.missed if self._reader else 0
        counts = {"frames": self._frames, "dropped": dropped, "refused": self._refused}
        self.say(level, message, **values, **counts, **self._constant)

    def _absence(self) -> str:
        return Senders(self, cast("ImageReader", self._reader).topic).absence("image", IMAGES)

    def report(self) -> None:
        """The newest frame, or that none comes any more."""
        self._newest.report()


def shaped(spec: OutputSpec) -> Float32MultiArray:
    """A message of an output's shape, without its data."""
    message = Float32MultiArray(layout=MultiArrayLayout())
    for axis, size in enumerate(spec.shape):
        label = "batch" if axis == 0 else "classes" if spec.labels and axis == len(spec.shape) - 1 else ""
        stride = int(np.prod(spec.shape[axis:]))
        message.layout.dim.append(MultiArrayDimension(label=label, size=size, stride=stride))
    return message


def classes(header: Header, spec: OutputSpec, answer: np.ndarray) -> Any:
    """Labels and probabilities of an output, the most probable first; scores go through a softmax."""
    from edgeflock.runtime.tasks.generic import distribution

    found = sorted(distribution(spec, answer).items(), key=lambda one: -one[1])
    if vision_msgs is None:
        return JointState(header=header, name=[label for label, _ in found], position=[value for _, value in found])
    results = [vision_msgs.ObjectHypothesis(class_id=label, score=value) for label, value in found]
    return vision_msgs.Classification(header=header, results=results)


def main(args: list[str] | None = None) -> int:
    """Run the net node until a signal; a bundle that cannot be used ends it with the error's exit code."""
    return run(lambda: [NetNode()], args)


if __name__ == "__main__":
    sys.exit(main())
