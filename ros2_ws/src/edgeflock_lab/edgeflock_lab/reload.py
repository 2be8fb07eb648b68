"""`edgeflock bench reload`: what a new bundle costs the robot that drives, measured with and without taking one."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from edgeflock.runtime.bundle.bundle import default_bundle
from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.options import Keys
from edgeflock_lab.supervisor import Supervisor, listening, stay_on_this_machine
from edgeflock_ros import topics
from edgeflock_ros.messages import qos, to_ns, to_stamp

PATIENCE_S = 60.0
PAUSE_S = 1.0  # between an answer of the service and the next request


def reload(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder (default: the one of edgeflock).")] = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="Of each of the two measurements.")] = 20.0,
    rate: Annotated[float, typer.Option(min=1.0, max=120.0, help="Frames per second.")] = 30.0,
    key: Keys = None,
) -> None:
    """Measure the longest time between two answers of the steering node, without and with a bundle being taken.

    The node runs in a process of its own and gets VGA frames. In the second half it is told again and again to open,
    verify, replay and take its bundle.
    """
    stay_on_this_machine()
    parameters = {"bundle": str(bundle or default_bundle()), "keys": ":".join(map(str, key or [])), "qos": "reliable"}
    with (
        tempfile.TemporaryDirectory() as folder,
        listening(lambda context: Eye(context, rate)) as (eye, spin),
        Supervisor(Path(folder)) as nodes,
    ):
        nodes.start_node("steering", "fadnet_nav.steering_node", parameters)
        patience = time.monotonic() + PATIENCE_S
        while not eye.answers:
            spin()
            nodes.check()
            if time.monotonic() > patience:
                raise EdgeflockError(f"the steering node answers no frame. Its log ends:\n{nodes.tail('steering')}")
        for reloading in (False, True):
            eye.begin(reloading)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                spin()
                nodes.check()
            typer.echo(eye.said())


class Eye(Node):
    """Sends frames, hears the answers, and asks for reloads."""

    def __init__(self, context: Context, rate: float) -> None:
        super().__init__("eye", context=context)
        pixels = np.random.default_rng(0).integers(0, 256, 480 * 640 * 3, np.uint8).tobytes()
        self._image = Image(height=480, width=640, encoding="rgb8", step=1920, data=pixels)
        self._images = self.create_publisher(Image, topics.image(topics.COLOR), qos("reliable", 5))
        self.create_subscription(JointState, topics.STEERING, self._heard, qos("reliable", 50))
        self._reload = self.create_client(Trigger, "steering/reload")
        self._asked: Any = None
        self.begin(False)
        self.create_timer(1 / rate, self._send)
        self.create_timer(0.05, self._ask)

    def begin(self, reloading: bool) -> None:
        """Count anew."""
        self._reloading, self._next_s, self._reloads = reloading, 0.0, 0
        self._sent: list[int] = []
        self.answers: dict[int, int] = {}

    def _send(self) -> None:
        now = time.time_ns()
        self._image.header.stamp = to_stamp(now)
        self._sent.append(now)
        self._images.publish(self._image)

    def _heard(self, joint: JointState) -> None:
        self.answers[to_ns(joint.header.stamp)] = time.monotonic_ns()

    def _ask(self) -> None:
        if self._asked is not None and self._asked.done():
            if not self._asked.result().success:
                raise EdgeflockError(f"reload: {self._asked.result().message}")
            self._asked, self._reloads, self._next_s = None, self._reloads + 1, time.monotonic() + PAUSE_S
        if self._reloading and self._asked is None and time.monotonic() >= self._next_s:
            self._asked = self._reload.call_async(Trigger.Request())

    def said(self) -> str:
        """What was measured since `begin`."""
        gaps = np.diff(sorted(self.answers.values())) / 1e6
        lost = sum(stamp not in self.answers for stamp in self._sent if stamp <= max(self.answers))
        return (
            f"{f'with {self._reloads} reloads' if self._reloading else 'without reload'}: longest time between two "
            f"answers {gaps.max():.1f} ms, p99 {np.percentile(gaps, 99):.1f} ms, median {np.median(gaps):.1f} ms; "
            f"{lost} of {len(self._sent)} frames lost"
        )
