"""One way to run a node as a process: it ends in order on SIGINT, SIGTERM and SIGHUP, and errors become exit codes.

rclpy's own signal handlers shut the context down before a node can say its last word; so the process owns the signals
(docs/decisions/0009), leaves the loop, lets the node close (the guard still sends a zero command) and exits with 0.
SIGHUP comes when a terminal is closed or an ssh session breaks; what `nohup` starts goes on. A node ends with the
launch that started it.

SIGKILL leaves the process's shared-memory segment behind (/dev/shm/fastrtps_*, 16 MB with shm16.xml). A node started
again does not mind; `fastdds shm clean` removes what no process holds. Never delete the *_el lock files by hand while
ROS runs: readers then go silently deaf.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import Executor, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from edgeflock.runtime.errors import end_with
from edgeflock_ros.environment import check_environment, in_ros_words
from edgeflock_ros.nodes import KEPT
from edgeflock_ros.parent import die_with_parent

LAST_WORDS_S = 0.2  # a node that ends by itself: its last frames and replies are still on their way
TURN_S = 0.1  # the longest wait of the executor


def run(make: Callable[[], list[Any]], args: list[str] | None = None, threads: int = 1) -> int:
    """Spin nodes until a signal, or until one is done.

    Parameters
    ----------
    make : callable
        Builds the nodes. Each has `done` (None, or the exit code with which the process is to end) and `close()` (last
        words, then it lets threads and devices go).
    args : list of str, optional
        Command line with ROS arguments; by default the process's.
    threads : int
        Callbacks at a time. Several make rclpy slower and less smooth (docs/decisions/0006): for actions, whose
        callbacks last.

    Returns
    -------
    int
        Exit code: 0, or that of the error that ended the node, in the words of `edgeflock.runtime.errors`.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())
    if KEPT in os.environ:
        die_with_parent()  # which would start this node again, and now cannot
    nodes: list[Any] = []
    code = 0
    try:
        check_environment()
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        nodes = make()
        executor = SingleThreadedExecutor() if threads == 1 else MultiThreadedExecutor(threads)
        for node in nodes:
            executor.add_node(node)
        awake = _Awake(executor)
        while not stop.is_set() and all(node.done is None for node in nodes):
            awake.turn()
            executor.spin_once(timeout_sec=TURN_S)
        code = max((node.done or 0 for node in nodes), default=0)
        end = time.monotonic() + LAST_WORDS_S
        while not stop.is_set() and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.02)
    except Exception as error:
        ended = end_with(in_ros_words(error))
        if ended is None:
            raise
        line, code = ended
        print(line, file=sys.stderr)
    finally:
        for node in nodes:
            node.close()
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
    return code


class _Awake:
    """Wakes an executor that waits longer than it was told to.

    A middleware whose C library has no pthread_cond_clockwait (before glibc 2.30; the wheels) waits by system time:
    a step back of an hour lets it wait an hour, and no timer runs. time.sleep does not care about such steps.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.turn()
        threading.Thread(target=self._watch, name="awake", daemon=True).start()

    def turn(self) -> None:
        """The executor waits anew."""
        self._began = time.monotonic()

    def _watch(self) -> None:
        while self._executor.context.ok():
            time.sleep(TURN_S / 2)
            if time.monotonic() - self._began > 1.5 * TURN_S:
                self._executor.wake()
