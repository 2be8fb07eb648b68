"""The observer of a drive: hears every message of the chain, keeps a `DriveTrace`, and draws the live status.

It only listens. Arrival times are the middleware's own (`received_timestamp`), so a busy monitor does not
lengthen them.
"""

from __future__ import annotations

import math
import struct
from collections import deque

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Empty, UInt32

from edgeflock.runtime.cameras.encodings import decode_rgb
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.prepare.frame import squeezed
from edgeflock_lab.drive_record import DriveTrace, Path2D
from edgeflock_lab.figures import FULL_SCALE, shrink
from edgeflock_ros import topics
from edgeflock_ros.messages import qos, to_intrinsics, to_ns

GIF_FRAMES = 48
BAR = 33  # characters, odd: the middle one is straight on
RECENT = 60  # frames for the live latency and rate


class Monitor(Node):
    """Listens to the nodes of its own namespace.

    Parameters
    ----------
    duration_s : float
        Driving time to record.
    lockstep : bool
        Whether stamps are simulated time.
    path : Path2D, optional
        Of the simulated world; None: there is no base to hear of.
    options
        Of `rclpy.node.Node` (context, namespace, cli_args).
    """

    def __init__(self, duration_s: float, lockstep: bool, path: Path2D | None, **options) -> None:
        super().__init__("monitor", **options)
        self.trace = DriveTrace(lockstep)
        self.duration_ns = round(duration_s * 1e9)
        self.start_ns: int | None = None
        self.pictures: list[tuple[int, np.ndarray]] = []  # stamp, RGB
        self.path = path
        self.guard = "starting"
        self._collisions: int | None = None
        self._commanded = False
        self._newest_ns = 0
        self.lens: Intrinsics | None = None
        self._distance = 0.0
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT)  # arrival ns, latency ms
        deep = qos("reliable", 100)
        # rclpy hands the message info to a callback with two arguments, which its annotations do not say.
        self.create_subscription(CameraInfo, topics.info(topics.COLOR), self._on_frame, deep)  # type: ignore[arg-type]
        self.create_subscription(JointState, topics.STEERING, self._on_steering, deep)
        self.create_subscription(TwistStamped, topics.COMMAND, self._on_command, deep)  # type: ignore[arg-type]
        self.create_subscription(Odometry, topics.ODOMETRY, self._on_odom, deep)
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(UInt32, topics.COLLISIONS, self._on_collisions, latched)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, deep)
        self._start = self.create_publisher(Empty, topics.START, latched)
        # Serialised: of 30 images a second only one or two are decoded.
        self.create_subscription(Image, topics.image(topics.COLOR), self._on_image, qos("sensor_data"), raw=True)

    @property
    def over(self) -> bool:
        """Whether the driving time is over."""
        return self.start_ns is not None and self._newest_ns >= self.start_ns + self.duration_ns

    def end(self) -> int:
        """Stamp at which the driving ends: after the duration, or now if that is earlier."""
        return min((self.start_ns or 0) + self.duration_ns, self._newest_ns + 1)

    def answered(self, end_ns: int) -> bool:
        """Whether every frame before `end_ns` was steered by and led to a command."""
        start, trace = self.start_ns or 0, self.trace
        return all(s in trace.steering and s in trace.commands for s in trace.frames if start <= s < end_ns)

    def notes(self) -> list[str]:
        """What is odd about the frames."""
        return [note] if self.lens and (note := squeezed(self.lens.width, self.lens.height)) else []

    def missing(self) -> str | None:
        """The node that has not been heard of yet, first in the chain; None when all have."""
        heard = {
            "base": bool(self.trace.odometry) or self.path is None,
            "camera": bool(self.trace.frames),
            "steering": bool(self.trace.steering),
            "guard": self._commanded,
        }
        return next((name for name, yes in heard.items() if not yes), None)

    def _on_frame(self, message: CameraInfo, info: dict[str, int]) -> None:
        stamp = to_ns(message.header.stamp)
        if self.lens is None:
            self.lens = to_intrinsics(message)
        self._newest_ns = max(self._newest_ns, stamp)
        if stamp not in self.trace.commands:  # lock-step repeats its first tick: the frame that was answered counts
            self.trace.frames[stamp] = info["received_timestamp"]

    def _on_steering(self, message: JointState) -> None:
        self.trace.steering.setdefault(
            to_ns(message.header.stamp), message.position[0] if message.position else math.nan
        )
        self._begin()

    def _on_command(self, message: TwistStamped, info: dict[str, int]) -> None:
        stamp, arrival = to_ns(message.header.stamp), info["received_timestamp"]
        self._commanded = True
        self._begin()
        if stamp in self.trace.steering and self.trace.commands.setdefault(stamp, arrival) == arrival:
            sent = self.trace.frames.get(stamp, arrival) if self.trace.lockstep else stamp
            self._recent.append((arrival, (arrival - sent) / 1e6))

    def _begin(self) -> None:
        """Driving time begins when every node was heard of, with the newest frame that was steered by."""
        if self.start_ns is None and self.missing() is None:
            self.start_ns = max(self.trace.steering)
            self._start.publish(Empty())

    def _on_odom(self, message: Odometry) -> None:
        p, stamp = message.pose.pose.position, to_ns(message.header.stamp)
        odometry = self.trace.odometry
        if odometry and stamp <= odometry[-1][0]:
            return  # a repeated first tick
        if odometry and self.start_ns is not None:
            self._distance += math.dist(odometry[-1][1:3], (p.x, p.y))
        odometry.append((stamp, p.x, p.y, message.twist.twist.linear.x))
        self._newest_ns = max(self._newest_ns, stamp)

    def _on_collisions(self, message: UInt32) -> None:
        before, self._collisions = self._collisions or 0, message.data
        if self.trace.odometry:
            stamp, x, y, _ = self.trace.odometry[-1]
            self.trace.collisions += [(stamp, x, y)] * (message.data - before)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {v.key: v.value for v in status.values}
            if "steering" in status.name and "engine" in values:
                self.trace.engine, self.trace.precision = values["engine"], values["precision"]
                self.trace.bundle_sha256 = values["bundle"]
            elif "guard" in status.name:
                self.guard = f"stopped: {values['reason']}" if values.get("reason") else values.get("state", "")

    def _on_image(self, data: bytes) -> None:
        seconds, nanoseconds = struct.unpack_from("<iI", data, 4)  # CDR: 4 bytes of encapsulation, then the stamp
        stamp = seconds * 10**9 + nanoseconds
        if self.start_ns is None or self.over or len(self.pictures) >= GIF_FRAMES:
            return
        if stamp >= self.start_ns + len(self.pictures) * self.duration_ns / GIF_FRAMES:
            self.pictures.append((stamp, shrink(decode_rgb(deserialize_message(data, Image)))))

    def __rich__(self) -> Group:
        """The live status."""
        elapsed = max(0, self._newest_ns - self.start_ns) / 1e9 if self.start_ns is not None else 0.0
        angle = next(reversed(self.trace.steering.values()), 0.0)
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right")
        table.add_row("time", f"{elapsed:6.1f} s of {self.duration_ns / 1e9:.0f} s")
        if self.trace.odometry:
            _, x, y, speed = self.trace.odometry[-1]
            table.add_row("distance", f"{self._distance:6.1f} m at {speed:.2f} m/s")
            if self.path is not None:
                table.add_row("lateral error", f"{self.path.project(x, y)[1]:+6.2f} m")
            crashed = len(self.trace.collisions)
            table.add_row("collisions", Text(f"{crashed:6d}", style="bold red" if crashed else ""))
        table.add_row("steering", steering_bar(angle))
        if len(self._recent) > 1:
            latency = np.array([ms for _, ms in self._recent])
            rate = (len(self._recent) - 1) * 1e9 / max(1, self._recent[-1][0] - self._recent[0][0])
            table.add_row("latency", f"{np.median(latency):6.1f} ms, at most {latency.max():.1f} ms")
            table.add_row("frames", f"{rate:6.1f} per second, {len(self.trace.frames)} in all")
        table.add_row("guard", Text(self.guard, style="yellow" if self.guard.startswith("stopped") else "green"))
        total = self.duration_ns / 1e9
        return Group(ProgressBar(total=total, completed=min(elapsed, total), width=BAR + 30), table)


def steering_bar(angle: float) -> Text:
    """A bar from the middle to the side that the robot steers to."""
    if not math.isfinite(angle):
        return Text("not a number", style="bold red")
    half = BAR // 2
    cells = min(round(abs(angle) / FULL_SCALE * half), half)
    left, right = ("━" * cells, "") if angle > 0 else ("", "━" * cells)
    bar = Text.assemble((left.rjust(half), "cyan"), ("┃", "bold"), (right.ljust(half), "cyan"))
    return bar.append(f" {angle:+.2f} rad")
