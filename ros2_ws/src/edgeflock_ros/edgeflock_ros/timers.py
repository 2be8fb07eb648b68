"""Timers that a step of the system clock neither holds up nor hurries."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer


def steady_clock(node: Node) -> Clock:
    """A clock that only goes forward; with `use_sim_time` the node's own, which follows `/clock`."""
    simulated = node.get_parameter("use_sim_time").value
    return node.get_clock() if simulated else Clock(clock_type=ClockType.STEADY_TIME)


def steady_timer(node: Node, period_s: float, callback: Callable[[], None]) -> Timer:
    """Call back every `period_s` seconds of a clock that only goes forward.

    A timer on the node's own clock waits out every step back of the system clock (NTP, `date`), for as long as the step
    was. With `use_sim_time` the timer follows `/clock`: there a look at the clock between two ticks finds nothing new.
    """
    return node.create_timer(period_s, callback, clock=steady_clock(node))
