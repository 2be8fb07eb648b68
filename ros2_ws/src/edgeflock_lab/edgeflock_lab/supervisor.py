"""Processes of one run: started in groups of their own, watched, and ended in order."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgeflock.runtime.errors import EdgeflockError, MissingExtra
from edgeflock_ros import topics
from edgeflock_ros.parent import die_with_parent

if TYPE_CHECKING:
    from rclpy.context import Context
    from rclpy.node import Node

Listener = TypeVar("Listener", bound="Node")

GRACE_S = 5.0
TAIL_LINES = 12


def free_domain() -> int:
    """A ROS domain (1 to 100) that nobody on this machine uses: its first discovery port can be bound."""
    for n in range(100):
        domain = 1 + (7 * os.getpid() + n) % 100  # processes of neighbouring numbers begin far apart
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", 7410 + 250 * domain))  # RTPS 2.2, 9.6.1.1: port of the first participant
            except OSError:
                continue
            return domain
    raise EdgeflockError("All ROS domains from 1 to 100 are in use on this machine. Set ROS_DOMAIN_ID to one of them.")


def stay_on_this_machine() -> None:
    """Set this process, and those it starts, to loopback only, in a domain of their own unless the user chose one.

    Where there is no home to write to, as in many a container, ROS 2 keeps its logs in the temporary folder.
    """
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(files("edgeflock_ros") / "config" / "loopback.xml")
    os.environ.setdefault("ROS_DOMAIN_ID", str(free_domain()))
    if not os.access(os.environ.get("HOME", ""), os.W_OK):
        os.environ.setdefault("ROS_LOG_DIR", tempfile.gettempdir())


def ros_arguments() -> list[str]:
    """A namespace for this run; what all robots have in common in it too, so that runs in one domain keep apart."""
    common = ("/clock", "/diagnostics", topics.MUSIC_CLOCK)
    rules = (f"__ns:=/run_{os.getpid()}", *(f"{name}:={name[1:]}" for name in common))
    return ["--ros-args", *(word for rule in rules for word in ("-r", rule))]


def check_installed(command: str, *modules: str) -> None:
    """Say what a command lacks before it starts anything.

    Raises
    ------
    MissingExtra
        There is no ROS 2, or no such module.
    """
    if importlib.util.find_spec("rclpy") is None:
        raise MissingExtra(
            f"{command} needs ROS 2. On a robot: source /opt/ros/<distro>/setup.bash. "
            'Elsewhere, with Python 3.11: pip install "edgeflock[drive]"'
        )
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra.pip(command, "drive", ModuleNotFoundError(f"no module {module}"))


@contextlib.contextmanager
def listening(make: Callable[[Context], Listener]) -> Iterator[tuple[Listener, Callable[[], None]]]:
    """A node in the run's namespace, and what lets it hear: one message, or nothing for 50 ms.

    `make` gets the context to build the node in.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    context = rclpy.Context()
    rclpy.init(args=ros_arguments(), context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = make(context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield node, lambda: executor.spin_once(timeout_sec=0.05)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


@contextlib.contextmanager
def interruptible(spin: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """`spin` that raises KeyboardInterrupt after SIGINT or SIGTERM, both of which end a run with its report.

    An interrupt that is raised inside rclpy comes out of it as some error of its own.
    """
    came: list[int] = []
    before = {s: signal.signal(s, lambda number, _: came.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}

    def turn() -> None:
        spin()
        if came:
            raise KeyboardInterrupt

    try:
        yield turn
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Supervisor:
    """Context manager around the processes of one run.

    Parameters
    ----------
    logs : Path
        Folder for `<name>.log`, stdout and stderr of each process.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.processes: dict[str, subprocess.Popen] = {}
        self._may_end: set[str] = set()

    def __enter__(self) -> Supervisor:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def start(self, name: str, module: str, arguments: list[str], may_end: bool = False) -> None:
        """Run `python -m module` in a process group of its own: a Ctrl-C at the terminal is ours to pass on.

        With `may_end` it is no fault when it ends with code 0.
        """
        if may_end:
            self._may_end.add(name)
        with (self.logs / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-u", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
                env={**os.environ, "RCUTILS_COLORIZED_OUTPUT": "0"},
            )

    def start_node(
        self,
        name: str,
        module: str,
        parameters: dict[str, Any],
        may_end: bool = False,
        renamed: bool = False,
        remaps: Mapping[str, str] | None = None,
    ) -> None:
        """Run a node in the run's namespace, `renamed` to its process's name where there are others of its kind."""
        settings = [word for k, v in parameters.items() for word in ("-p", f"{k}:={json.dumps(v)}")]
        naming = ["-r", f"__node:={name}"] if renamed else []
        naming += [word for topic, other in (remaps or {}).items() for word in ("-r", f"{topic}:={other}")]
        self.start(name, module, [*ros_arguments(), *naming, *settings], may_end)

    def cpu_s(self) -> dict[str, float]:
        """CPU time of each process so far."""
        import psutil

        times = {name: psutil.Process(process.pid).cpu_times() for name, process in self.processes.items()}
        return {name: t.user + t.system for name, t in times.items()}

    def ended(self, name: str) -> bool:
        """Whether a process ended with code 0."""
        return name in self.processes and self.processes[name].poll() == 0

    def check(self) -> None:
        """Raise when a process is gone that should not be.

        Raises
        ------
        EdgeflockError
            With the end of the process's log, and its exit code where that is one of edgeflock's.
        """
        for name, process in self.processes.items():
            code = process.poll()
            if code is None or (code == 0 and name in self._may_end):
                continue
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            words = self._logged(name, "ERROR")
            if words and code > 1:  # one of edgeflock's own, which says all
                error = EdgeflockError(f"{words[-1]} (node {name}, {self.logs / name}.log)")
            else:
                error = EdgeflockError(f"The node {name} {how}. The end of {self.logs / name}.log:\n{self.tail(name)}")
            error.exit_code = max(code, 1)
            raise error

    def tail(self, name: str) -> str:
        """The last lines that a process printed."""
        text = (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(f"  {line}" for line in text.splitlines()[-TAIL_LINES:])

    def warnings(self, name: str) -> list[str]:
        """What a node warned of, each once."""
        return self._logged(name, "WARN")

    def _logged(self, name: str, level: str) -> list[str]:
        """Lines that a node logged at a level, each once."""
        text = (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return list(dict.fromkeys(re.findall(rf"^\[{level}\] \[[\d.]+\] \[\S*\]: (.*)$", text, re.MULTILINE)))

    def __exit__(self, *_: object) -> None:
        """SIGINT to all, SIGKILL to what is left after GRACE_S."""
        for how in (signal.SIGINT, signal.SIGKILL):
            end = time.monotonic() + GRACE_S
            for process in self.processes.values():
                if process.poll() is None:
                    os.killpg(process.pid, how)
            while time.monotonic() < end and any(p.poll() is None for p in self.processes.values()):
                time.sleep(0.02)
