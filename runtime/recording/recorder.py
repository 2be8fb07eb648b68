"""Which frames of a drive are kept, and which steering angle belongs to each. No ROS, no thread, no clock."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, deque
from operator import itemgetter

import numpy as np

from edgeflock.runtime.errors import in_our_words
from edgeflock.runtime.recording.folder import DriveFolder
from edgeflock.runtime.recording.limits import RecordingLimits

APART_S = 2.0
"""Not recorded between a minute of train/ and one of val/: their frames would be almost the same."""

HISTORY_NS = 2 * 10**9
"""Steering that is kept for frames that come late."""

RELEASED = "dead-man released"
STANDING = "standing still"
SPEED_UNKNOWN = "speed unknown"
STALE = "no steering"
BETWEEN = "between train and val"
DISK = "disk"


class Recorder:
    """Takes steering, speed, the dead-man switch and frames, and fills a folder.

    A frame is kept while the switch is held and the robot moves, if steering came shortly before and shortly after it:
    its angle is interpolated between these. Stamps are ns of one clock; `now_ns` is that of any steady clock.

    Parameters
    ----------
    limits : RecordingLimits
    folder : DriveFolder
    deadman : bool
        Whether there is a switch; without one steering that comes is enough.

    Attributes
    ----------
    left_out : Counter
        Frames that were not kept, by reason.
    reason : str
        Why the newest frame was not kept; empty: it was.
    """

    def __init__(self, limits: RecordingLimits, folder: DriveFolder, deadman: bool = True) -> None:
        self._limits, self._folder, self._deadman = limits, folder, deadman
        self.left_out: Counter[str] = Counter()
        self.reason = "no frame came yet"
        self._held: tuple[int, bool] | None = None
        self._odometry: tuple[int, float] | None = None
        self._commanded: float | None = None
        self._again_ns = 0
        self.forget()

    def forget(self) -> None:
        """Begin anew in time: what waits for its steering is dropped."""
        self._steering: deque[tuple[int, float]] = deque()
        self._waiting: deque[tuple[int, np.ndarray, float]] = deque()
        self._newest_ns = self._due_ns = 0

    def hold(self, held: bool, now_ns: int) -> None:
        """The dead-man switch says whether a person drives."""
        self._held = now_ns, held

    def move(self, speed: float, now_ns: int) -> None:
        """The odometry says how fast the robot is, m/s."""
        self._odometry = now_ns, speed

    def steer(self, angle: float, stamp_ns: int, speed: float | None = None) -> None:
        """A person steers: rad, positive to the left; `speed` in m/s where the message has one."""
        self._commanded = speed
        if not abs(angle) <= math.pi:  # this way round NaN is none either
            self._steering.clear()
            return
        if self._steering and stamp_ns < self._steering[-1][0]:
            self.forget()  # the clock was set back
        self._steering.append((stamp_ns, angle))
        while stamp_ns - self._steering[0][0] > HISTORY_NS:
            self._steering.popleft()
        self._match()

    def wants(self, stamp_ns: int, now_ns: int) -> bool:
        """Whether a frame is worth the work of decoding it; if so, `take` is to follow."""
        if stamp_ns < self._newest_ns:
            self.forget()
        self._newest_ns = stamp_ns
        while self._waiting and stamp_ns - self._waiting[0][0] > self._gap_ns:
            self._waiting.popleft()
            self._leave_out(STALE)
        if stamp_ns < self._due_ns:
            return False
        self._due_ns = stamp_ns + round(0.98e9 / self._limits.rate_hz)  # cameras are not exact
        if why := self._why_not(stamp_ns, now_ns):
            self._leave_out(why)
        return not why

    def take(self, grey: np.ndarray, stamp_ns: int, now_ns: int) -> None:
        """A frame that was wanted, uint8 (240, 320); it waits for the steering after it."""
        self._waiting.append((stamp_ns, grey, self._speed(now_ns) or 0.0))
        self._match()

    def _match(self) -> None:
        """Write the frames after which steering came."""
        while self._waiting and self._steering and self._waiting[0][0] <= self._steering[-1][0]:
            at, grey, speed = self._waiting.popleft()
            after = bisect_left(self._steering, at, key=itemgetter(0))
            (t0, a0), (t1, a1) = self._steering[max(after - 1, 0)], self._steering[after]
            if t1 == at:
                self._write(grey, a1, speed, at)
            elif t0 < at and max(at - t0, t1 - at) <= self._gap_ns:
                self._write(grey, a0 + (a1 - a0) * (at - t0) / (t1 - t0), speed, at)
            else:
                self._leave_out(STALE)

    @property
    def _gap_ns(self) -> float:
        return self._limits.max_gap * 1e9

    def _why_not(self, stamp_ns: int, now_ns: int) -> str | None:
        if self._deadman and not (self._held and self._held[1] and self._holds(self._held[0], now_ns)):
            return RELEASED
        speed = self._speed(now_ns)
        if self._limits.min_speed:
            if speed is None:
                return SPEED_UNKNOWN
            if abs(speed) < self._limits.min_speed:
                return STANDING
        if not self._steering or stamp_ns - self._steering[-1][0] > self._gap_ns:
            return STALE
        return BETWEEN if stamp_ns < self._again_ns else None

    def _holds(self, since_ns: int, now_ns: int) -> bool:
        return now_ns - since_ns <= self._limits.deadman_timeout * 1e9

    def _speed(self, now_ns: int) -> float | None:
        """What the odometry measured, else what the steering message commands."""
        if self._odometry is not None and self._holds(self._odometry[0], now_ns):
            return self._odometry[1]
        return self._commanded

    def _write(self, grey: np.ndarray, angle: float, speed: float, stamp_ns: int) -> None:
        if problem := self._folder.full():
            self._leave_out(DISK, problem)
            return
        split = self._folder.split
        try:
            self._folder.add(grey, angle, speed)
        except OSError as error:
            self._leave_out(DISK, str(in_our_words(error) or error))
            return
        self.reason = ""
        if self._folder.split != split:
            self._again_ns = stamp_ns + round(APART_S * 1e9)

    def _leave_out(self, why: str, said: str = "") -> None:
        self.left_out[why] += 1
        self.reason = said or why
