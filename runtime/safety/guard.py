"""The guard between the net and the wheels: it limits every command and stops the robot when something is wrong.

Pure logic with explicit time, so that it runs on simulated clocks and in property tests. It stops at once (command 0)
when the steering is missing, NaN, implausible, late or from the future, when frames are stale, and when depth shows an
obstacle within the reaction distance

    D(v) = v * frame_timeout + v^2 / (2 * deceleration) + margin,

because no depth image older than frame_timeout is ever used. It releases by itself once the cause is gone; after an
obstacle only when the way is free for D(speed) + margin, so that it does not creep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.safety.limits import GuardLimits
from edgeflock.runtime.safety.obstacles import Obstacles

FUTURE_S = 0.05  # stamps further ahead of the clock than this come from another clock
IMPLAUSIBLE = 2.0  # times max_steering: a net that says this has seen something it does not know
POOR_DEPTH = 0.2  # fraction of measured pixels below which the depth image is reported
BLIND_DEPTH = 0.01  # and below which it counts as none


@dataclass(frozen=True)
class Command:
    """What to send to the base.

    Attributes
    ----------
    speed, steering, yaw_rate : float
        m/s, rad (left positive), rad/s. In a stop speed and yaw rate are 0; steering says where the wheels would go.
    stamp_ns : int
        Stamp of the frame that the command came from; in a stop the time of the stop.
    reason : str or None
        Why the robot stops; None while it drives.
    warning : str or None
        What is poor but no reason to stop.
    """

    speed: float
    steering: float
    yaw_rate: float
    stamp_ns: int
    reason: str | None = None
    warning: str | None = None


class Guard:
    """Keeps the newest steering and depth, and answers with the command for a moment.

    Parameters
    ----------
    limits : GuardLimits
        May be replaced while driving (`guard.limits = ...`).

    Attributes
    ----------
    halt : str or None
        Why the robot has to stand, whatever comes, until this is None again: an emergency stop does not release itself.
    """

    def __init__(self, limits: GuardLimits | None = None) -> None:
        self._obstacles = Obstacles(limits or GuardLimits())
        self.halt: str | None = None
        self._now_ns: int | None = None
        self._forget()

    def _forget(self) -> None:
        self._angle = math.nan
        self._stamp_ns: int | None = None
        self._steering_fault: str | None = None
        self._depth_ns: int | None = None
        self._depth_fault: str | None = None
        self._asked = math.inf
        self._speed = self._wheels = 0.0
        self._blocked = False

    @property
    def limits(self) -> GuardLimits:
        """Current limits."""
        return self._obstacles.limits

    @limits.setter
    def limits(self, limits: GuardLimits) -> None:
        self._obstacles.limits = limits

    def steer(self, angle: float, stamp_ns: int, fault: str | None = None, speed: float = math.inf) -> None:
        """Take the front wheel angle (rad) for the frame of `stamp_ns`; anything is accepted, bad values stop.

        `fault` says why it must not be obeyed, whatever the angle. `speed` (m/s) may ask for less than the limit; less
        than 0 stops.
        """
        self._angle, self._stamp_ns, self._steering_fault, self._asked = float(angle), stamp_ns, fault, float(speed)

    def look(self, depth: np.ndarray, intrinsics: Intrinsics, stamp_ns: int) -> None:
        """Take a depth image (uint16 mm, see `Obstacles.update`); a broken one counts as none."""
        try:
            self._obstacles.update(depth, intrinsics)
            self._depth_fault = None
        except InputError as error:
            self._depth_fault = str(error)
        self._depth_ns = stamp_ns

    def look_in_vain(self, fault: str, stamp_ns: int) -> None:
        """A depth image came that cannot be read, and why: it counts as none."""
        self._depth_fault, self._depth_ns = fault, stamp_ns

    def command(self, now_ns: int) -> Command:
        """Command for this moment. When `now_ns` goes back (a simulation starts over), the guard starts over too."""
        if self._now_ns is not None and now_ns < self._now_ns:
            self._forget()
            self._now_ns = now_ns
        # After a pause the base has stopped by itself: never make up for more than one time-out.
        passed_s = 0.0 if self._now_ns is None else min((now_ns - self._now_ns) / 1e9, self.limits.frame_timeout)
        self._now_ns = now_ns
        reason = self._fault(now_ns)
        if reason is None:
            self._turn_wheels(passed_s)
            speed = min(self.limits.speed, self._asked, self._speed + self.limits.acceleration * passed_s)
            reason = self._obstacle(speed, now_ns)
        if reason is not None:
            self._speed = 0.0
            return Command(0.0, self._wheels, 0.0, now_ns, reason)
        self._speed = speed
        yaw_rate = speed * math.tan(self._wheels) / self.limits.wheelbase
        assert self._stamp_ns is not None  # else _fault had stopped
        return Command(speed, self._wheels, yaw_rate, self._stamp_ns, None, self._warning(now_ns))

    def _fault(self, now_ns: int) -> str | None:
        """Why not to drive at all."""
        limits = self.limits
        if self.halt:
            return self.halt
        if now_ns == 0:
            return "there is no time yet: use_sim_time is on, and nothing comes on /clock"
        if self._stamp_ns is None:
            return "no steering yet"
        age_s = (now_ns - self._stamp_ns) / 1e9
        if age_s > limits.frame_timeout:
            late = "steering is late: frames arrive, but" if self._fresh_depth(now_ns) else "no fresh frame:"
            return f"{late} the newest steering is {min(age_s, 9999.0):.3f} s old (limit {limits.frame_timeout:g} s)"
        if age_s < -FUTURE_S:
            return f"steering is {min(-age_s, 9999.0):.3f} s ahead of the clock: synchronise the clocks"
        if self._steering_fault:
            return self._steering_fault
        if not self._asked >= 0.0:  # NaN, too
            return f"asked for {self._asked:.3g} m/s: the camera looks ahead, nothing guards the way back"
        if not math.isfinite(self._angle):
            return f"steering is {self._angle}"
        if abs(self._angle) > IMPLAUSIBLE * limits.max_steering:
            return f"steering {self._angle:.3g} rad is implausible (limit {limits.max_steering:g} rad)"
        if not limits.require_depth:
            return None
        way_out = "" if self._depth_ns else " (a camera without depth needs require_depth:=false)"
        blindness = self._blindness(now_ns)
        return blindness + way_out if blindness else None

    def _blindness(self, now_ns: int) -> str | None:
        """Why there is no depth to check for obstacles."""
        if self._depth_ns is None:
            return "no depth image yet"
        age_s, limit_s = (now_ns - self._depth_ns) / 1e9, self.limits.frame_timeout
        if age_s > limit_s:
            return f"depth is stale: the newest image is {min(age_s, 9999.0):.3f} s old (limit {limit_s:g} s)"
        if age_s < -FUTURE_S:
            return f"depth is {min(-age_s, 9999.0):.3f} s ahead of the clock: synchronise the clocks"
        if self._depth_fault:
            return f"depth is not usable: {self._depth_fault}"
        if self._obstacles.valid < BLIND_DEPTH:
            return "the depth image is empty: is the camera covered?"
        return None

    def _fresh_depth(self, now_ns: int) -> bool:
        if self._depth_ns is None:
            return False
        return -FUTURE_S <= (now_ns - self._depth_ns) / 1e9 <= self.limits.frame_timeout

    def _turn_wheels(self, passed_s: float) -> None:
        """Follow the net as fast as the steering may turn, also in front of an obstacle: that finds the free way."""
        limits = self.limits
        wanted = min(max(self._angle, -limits.max_steering), limits.max_steering)
        most = limits.steering_rate * passed_s
        wheels = self._wheels + min(max(wanted - self._wheels, -most), most)
        self._wheels = min(max(wheels, -limits.max_steering), limits.max_steering)  # the limit may have shrunk

    def _obstacle(self, speed: float, now_ns: int) -> str | None:
        if self._blindness(now_ns):
            self._blocked = False
            return None
        limits = self.limits
        need = (
            limits.reaction_distance(limits.speed) + limits.margin if self._blocked else limits.reaction_distance(speed)
        )
        free = self._obstacles.distance(self._wheels)
        self._blocked = free < need
        return f"obstacle {max(free, 0.0):.2f} m ahead on the path (needs {need:.2f} m)" if self._blocked else None

    def _warning(self, now_ns: int) -> str | None:
        if blindness := self._blindness(now_ns):
            return f"driving without obstacle check: {blindness}"
        if self._obstacles.valid < POOR_DEPTH:
            return f"only {self._obstacles.valid:.0%} of the depth image is measured"
        return None
