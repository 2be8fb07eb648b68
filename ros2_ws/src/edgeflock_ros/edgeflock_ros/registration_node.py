"""Node `registration` (lifecycle): an action server that registers two scans (`edgeflock register`).

Action
    registration                edgeflock_msgs/Register: scans by path or by content, cancelled between two stages
Publishes
    ~/slices                    sensor_msgs/Image, mono8: squares of fixed and moving by turns in the middle slices
                                along the three axes, after reading, after aligning, and warped
    /diagnostics                at 1 Hz: what it does, goals by how they ended, net_ms and field_ms of the newest

One goal is worked on and one waits. Whatever cannot be done is accepted and aborted at once, with the reason in the
result's `message`: a rejected goal has no words in ROS 2. A cancelled goal ends before its next stage.

Parameters: `RegistrationParameters`; see `managed`.
"""

from __future__ import annotations

import edgeflock_ros.before_rclpy  # noqa: F401

# isort: split
import array
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import Field
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from sensor_msgs.msg import Image

from edgeflock.runtime.errors import EdgeflockError, InputError
from edgeflock_ros import topics
from edgeflock_ros.managed import ManagedNode, NetParameters
from edgeflock_ros.messages import ERROR, OK, qos
from edgeflock_ros.process import run

if TYPE_CHECKING:
    from edgeflock.runtime.tasks.registration import Registration
    from edgeflock.runtime.tasks.scans import Registered, Scans

try:
    from edgeflock_msgs.action import Register
except ImportError:  # has to be compiled
    Register = None

KEPT_S = 60
"""How long a result waits for its client; with contents it is large."""
GZIP = b"\x1f\x8b"


class RegistrationParameters(NetParameters):
    """Parameters of the registration node."""

    max_bytes: int = Field(
        default=64 << 20, ge=1 << 10, le=1 << 30, description="largest file whose content a goal or result may bring"
    )


class Cancelled(Exception):
    """The client wants no result any more."""


class RegistrationNode(ManagedNode[RegistrationParameters]):
    """Owns one Registration; see the module."""

    def __init__(self) -> None:
        super().__init__("registration", RegistrationParameters, "goals")
        self._task: Registration | None = None
        self._server: ActionServer | None = None
        self._lock = threading.Lock()  # of the two goals; the work has a thread of its own
        self._working: ServerGoalHandle | None = None
        self._waiting: ServerGoalHandle | None = None
        self._busy = threading.Lock()
        # runs once the callback that triggers it is over: only then a goal is cancelled by its state
        self._cancelled = self.create_guard_condition(self._end_cancelled)
        self._leaving: list[ServerGoalHandle] = []
        self._arrived: dict[bytes, int] = {}
        self.start()

    def load(self) -> None:
        """Load, verify and warm up the bundle, and offer the action."""
        from edgeflock.runtime.tasks.registration import Registration

        if Register is None:
            raise InputError(
                "expected edgeflock_msgs, which has to be compiled, got none: `colcon build --packages-select "
                "edgeflock_msgs`, and source its install folder."
            )
        p = self.settings.value
        task = Registration(p.bundle or None, p.precision or None, p.threads or None, p.engine or None, keys=p.trusted)
        task(*task.example())
        self._task = task
        self._slices = self.create_publisher(Image, topics.SLICES, qos("reliable", 3))
        self._ended: Counter[str] = Counter()
        self._newest: dict[str, float] = {}
        self._server = ActionServer(
            self, Register, topics.REGISTRATION, self._work, handle_accepted_callback=self._take,
            cancel_callback=self._cancel, result_timeout=KEPT_S,
        )  # fmt: skip
        digest = task.bundle.digest
        self.hardware_id = digest[:12]
        self._constant = {"engine": task.engine.name, "precision": task.precision, "bundle": digest}
        self.get_logger().info(f"bundle {digest[:12]}, {task.engine.name}, {task.precision}")

    def begin(self) -> None:
        """Nothing: `active` is what goals wait for."""

    def release(self) -> None:
        """Abort what waits and, before its next stage, what is worked on; wait for the latter."""
        self.active = False
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._refuse(waiting, self._inactive())
        with self._busy:
            pass

    def unload(self) -> None:
        """Drop bundle and action."""
        cast("ActionServer", self._server).destroy()
        self.destroy_publisher(self._slices)
        self._task = self._server = None

    def _take(self, goal: ServerGoalHandle) -> None:
        """Work on a goal, let it wait, or say why not."""
        self._arrived[_id(goal)] = time.perf_counter_ns()
        reason = ""
        with self._lock:
            if not self.active:
                reason = self._inactive()
            elif self._working is None:
                self._working = goal
            elif self._waiting is None:
                self._waiting = goal
                goal.publish_feedback(Register.Feedback(stage="waiting"))
                return
            else:
                reason = "one goal is worked on and one waits: send this one again when the first has its result."
        if reason:
            self._refuse(goal, reason)
        else:
            goal.execute()

    def _inactive(self) -> str:
        return f"the node is not active: ros2 lifecycle set {self.get_fully_qualified_name()} activate"

    def _refuse(self, goal: ServerGoalHandle, reason: str) -> None:
        goal.execute(partial(self._abort, reason))

    def _abort(self, reason: str, goal: ServerGoalHandle) -> Any:
        self._arrived.pop(_id(goal), None)
        self.get_logger().error(reason)
        return self._finish(goal, "aborted", message=reason)

    def _cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        with self._lock:
            if goal is self._waiting:
                self._waiting = None
                self._leaving.append(goal)
                self._cancelled.trigger()
        return CancelResponse.ACCEPT

    def _end_cancelled(self) -> None:
        while self._leaving:
            self._leaving.pop().execute(self._leave)

    def _leave(self, goal: ServerGoalHandle) -> Any:
        self._arrived.pop(_id(goal), None)
        return self._finish(goal, "canceled", message="cancelled")

    def _work(self, goal: ServerGoalHandle) -> Any:
        """Answer one goal, then begin with the one that waits."""
        arrived, begun = self._arrived.pop(_id(goal)), time.perf_counter_ns()
        with self._busy:
            result = self._answer(goal, arrived, begun)
            with self._lock:
                self._working, self._waiting = following, _ = self._waiting, None
            if following is not None:
                following.execute()
        return result

    def _answer(self, goal: ServerGoalHandle, arrived: int, begun: int) -> Any:
        try:
            with TemporaryDirectory(prefix="edgeflock_") as folder:
                answer = self._register(goal, Path(folder), begun)
            return self._finish(goal, "succeeded", **answer, waiting_ms=(begun - arrived) / 1e6)
        except Cancelled:
            return self._leave(goal)
        except (EdgeflockError, OSError, MemoryError) as error:
            return self._abort(str(error) or "there is not enough memory for these scans", goal)
        except Exception as error:  # the client hears of it, and the process is started again
            self.get_logger().fatal(f"{type(error).__name__}: {error}")
            self.done = 1
            return self._finish(goal, "aborted", message=f"the node failed: {error}")

    def _finish(self, goal: ServerGoalHandle, how: str, **answer: Any) -> Any:
        {"succeeded": goal.succeed, "aborted": goal.abort, "canceled": goal.canceled}[how]()
        self._ended[how] += 1
        return Register.Result(**answer)

    def _register(self, goal: ServerGoalHandle, folder: Path, begun: int) -> dict[str, Any]:
        """The fields of the result; contents go through files in `folder`."""
        from edgeflock.runtime.prepare.volume import check_window
        from edgeflock.runtime.tasks.scans import check_out, read_pair, register_scans, write_registered

        request, task = goal.request, cast("Registration", self._task)
        grids, stages = request.resample or request.affine, ["reading", "registering", "writing"]
        if request.affine:
            stages.insert(1, "aligning")

        def stage(name: str) -> None:
            if goal.is_cancel_requested:
                raise Cancelled
            if not self.active:
                raise InputError(self._inactive())
            goal.publish_feedback(Register.Feedback(stage=name, fraction=stages.index(name) / len(stages)))

        stage("reading")
        window = None
        if request.window:
            if len(request.window) != 2:
                raise InputError(f"window: expected two intensities or none, got {len(request.window)}.")
            window = check_window((request.window[0], request.window[1]))
        if request.out and not Path(request.out).is_absolute():
            raise InputError(
                f"out: expected a path from the root, got {request.out}: the node has a folder of its own."
            )
        scans = self._files(request, folder)
        made = check_out(Path(request.out) if request.out else folder / "out", scans, task.bundle.path)
        pair = read_pair(scans, grids)
        largest = 12 * pair.fixed.size  # bytes of the flow, which hardly shrinks
        if not request.out and largest > self.settings.value.max_bytes:
            raise InputError(
                f"out: expected a folder for a field of {largest:,} bytes, got none, and a result may bring "
                f"{self.settings.value.max_bytes:,} (max_bytes)."
            )
        self._show(pair.fixed, pair.before(pair.moving))
        if request.affine:
            stage("aligning")
            pair = pair.align()
            self._show(pair.fixed, pair.before(pair.moving))
        stage("registering")
        done = register_scans(task, pair, window)
        field_ms = (time.perf_counter_ns() - begun) / 1e6
        self._show(pair.fixed, done.result.warped)
        stage("writing")
        write_registered(done, made)
        self._newest = {"net_ms": done.result.inference_ns / 1e6, "field_ms": field_ms}
        answer = {**figures(done), **self._newest}
        if not request.out:
            contents = {name.partition(".")[0]: path.read_bytes() for name, path in made.items()}
            answer["report"] = contents.pop("report").decode()
            answer |= {name: array.array("B", content) for name, content in contents.items()}
        return answer

    def _files(self, request: Any, folder: Path) -> Scans:
        """Paths of the goal's scans, of which contents are written into `folder`."""
        from edgeflock.runtime.tasks.scans import Scans

        paths: dict[str, Path] = {}
        for name in ("fixed", "moving", "labels", "fixed_labels"):
            path, content = getattr(request, name), getattr(request, f"{name}_content")
            if path and len(content):
                raise InputError(f"{name}: expected a path or a content, got both: leave one out.")
            if len(content):
                limit = self.settings.value.max_bytes
                if len(content) > limit:
                    raise InputError(
                        f"{name}_content: expected at most {limit:,} bytes (max_bytes), got {len(content):,}: "
                        f"bring the file to the node's machine and name its path."
                    )
                if content[:2].tobytes() != GZIP:
                    raise InputError(f"{name}_content: expected a .nii.gz file, whose checksum tells a damaged one.")
                paths[name] = folder / f"{name}.nii.gz"
                paths[name].write_bytes(content)
            elif path:
                if not Path(path).is_absolute():
                    raise InputError(f"{name}: expected a path from the root, got {path}.")
                paths[name] = Path(path)
        for name in ("fixed", "moving"):
            if name not in paths:
                raise InputError(f"{name}: expected a scan, its path or its content, got neither.")
        if "fixed_labels" in paths and "labels" not in paths:
            raise InputError("fixed_labels: they are compared with moving's: send labels, too.")
        return Scans(**paths)

    def _show(self, fixed: np.ndarray, other: np.ndarray) -> None:
        if self._slices.get_subscription_count():
            message = slices(fixed, other)
            message.header.stamp = self.get_clock().now().to_msg()
            self._slices.publish(message)

    def report(self) -> None:
        """What it does, and how the goals ended."""
        counts = {how: self._ended[how] for how in ("succeeded", "aborted", "canceled")}
        doing = "registering" if self._working is not None else "waiting for a goal"
        self.say(OK if self.done is None else ERROR, doing, **counts, **self._newest, **self._constant)


def figures(done: Registered) -> dict[str, Any]:
    """Numbers of the result's message."""
    jacobian = done.result.jacobian
    both = {name: done.report.get(name, {}) for name in ("correlation", "dice")}
    found = {"folded": jacobian.folded, "jacobian_std": jacobian.std}
    found |= {"jacobian_min": jacobian.minimum, "jacobian_max": jacobian.maximum}
    return {**found, **{name: [_number(of.get(when)) for when in ("before", "after")] for name, of in both.items()}}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _id(goal: ServerGoalHandle) -> bytes:
    return bytes(goal.goal_id.uuid)


def slices(fixed: np.ndarray, other: np.ndarray) -> Image:
    """Squares of two volumes by turns in the middle slices along the three axes, beside each other, up as in space."""
    from edgeflock.runtime.tasks.scans import checkerboards

    boards = checkerboards(fixed, other)
    height = max(len(board) for board in boards)
    drawn = [np.pad(board[::-1], ((0, height - len(board)), (0, 0))) for board in boards]
    pixels = (np.concatenate(drawn, 1) * 255).astype(np.uint8)
    out = Image(height=height, width=pixels.shape[1], encoding="mono8", step=pixels.shape[1])
    out.data = array.array("B", pixels.tobytes())
    return out


def main(args: list[str] | None = None) -> int:
    """Run the registration node until a signal; a bundle that cannot be used ends it with the error's exit code."""
    return run(lambda: [RegistrationNode()], args, threads=2)


if __name__ == "__main__":
    sys.exit(main())
