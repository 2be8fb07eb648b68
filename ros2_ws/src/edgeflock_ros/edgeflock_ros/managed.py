"""A lifecycle node: what `camera`, `steering`, `guard` and `emotion` have in common.

    configure   a bundle: loads and verifies it, replays its reference vectors, warms up; a camera: opens it
    activate    answers what comes, or sends frames; deactivate ends that; cleanup drops what configure made

With `autostart` (default) the node configures and activates itself, for a start without a lifecycle manager. A node
that a person deactivated and that dies comes back inactive (see `kept`); one that was shut down stays down. Without
`autostart` it comes back unconfigured, and while it is active it keeps a bond with its manager (see `bond`).

Each reports to /diagnostics once a second: how it goes while it is active, and otherwise that it is not.
"""

from __future__ import annotations

import os
import platform
from abc import abstractmethod
from typing import Any, Generic, Literal, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from pydantic import BaseModel, ConfigDict, Field
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn

from edgeflock.runtime.errors import EdgeflockError, InputError
from edgeflock_ros import topics
from edgeflock_ros.bond import Bond
from edgeflock_ros.messages import WARN, diagnostics
from edgeflock_ros.params import Parameters
from edgeflock_ros.timers import steady_timer


class ManagedParameters(BaseModel):
    """Parameters of every lifecycle node."""

    model_config = ConfigDict(frozen=True)

    autostart: bool = Field(default=True, description="configure and activate at start, without a lifecycle manager")


class NetParameters(ManagedParameters):
    """Parameters of every node that runs a net. They hold from the next configure."""

    bundle: str = Field(default="", description="folder of the bundle; empty = the one that edgeflock brings")
    keys: str = Field(default="", description=".pub files to trust besides the installed ones, separated by ':'")
    engine: str = Field(default="", description="onnxruntime-cpu, openvino ...; empty = what edgeflock tune chose")
    precision: str = Field(default="", description="fp32, int8 ...; empty = what edgeflock tune or the bundle chose")
    threads: int = Field(default=0, ge=0, le=64, description="of the engine; 0 = what edgeflock tune chose, else 1")

    @property
    def trusted(self) -> list[str]:
        """`keys` as a list."""
        return [path for path in self.keys.split(os.pathsep) if path]


class ImageNetParameters(NetParameters):
    """Parameters of every node that runs a net on images."""

    qos: Literal["sensor_data", "reliable"] = Field(default="sensor_data", description="of the image subscription")


Model = TypeVar("Model", bound=ManagedParameters)


class ManagedNode(LifecycleNode, Generic[Model]):
    """Runs `load`, `begin`, `release` and `unload` at the transitions; errors of `load` refuse the configure.

    Parameters
    ----------
    name : str
    model : type of ManagedParameters
    what : str
        Of this node its diagnostics tell: "frames", "state" ...

    Attributes
    ----------
    done : int or None
        For `edgeflock_ros.process.run`: the exit code once the process is to end.
    active : bool
        Between `begin` and `release`.
    hardware_id : str
        For the diagnostics: this machine, or what `load` says.
    """

    held = "the bundle is loaded"  # what parameters cannot reach any more

    def __init__(self, name: str, model: type[Model], what: str) -> None:
        super().__init__(name)
        self.done: int | None = None
        self._error: EdgeflockError | None = None
        self._loaded = False
        self.active = False
        self._bond: Bond | None = None
        self.hardware_id = platform.node()
        self._what = what
        self.settings = Parameters(self, model, self.accept)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, 10)
        steady_timer(self, 1.0, self._report)

    @abstractmethod
    def load(self) -> None:
        """Open bundle or camera, make publishers; an EdgeflockError refuses the transition."""

    @abstractmethod
    def begin(self) -> None:
        """Answer what comes, or send frames, from now on."""

    @abstractmethod
    def release(self) -> None:
        """End what `begin` began; nothing of it goes on afterwards. Called more often than `begin`."""

    @abstractmethod
    def unload(self) -> None:
        """Drop what `load` made."""

    @abstractmethod
    def report(self) -> None:
        """Say how it goes; called once a second while the node is active."""

    def say(self, level: bytes, message: str, **values: Any) -> None:
        """Send a status to /diagnostics."""
        self._diagnostics.publish(diagnostics(self, self._what, level, message, self.hardware_id, **values))

    def _report(self) -> None:
        if self.active:
            self.report()
        else:
            self.say(WARN, "inactive")

    def start(self) -> None:
        """With `autostart`: both transitions in a row; an error ends the process with its exit code."""
        if not self.settings.value.autostart:
            return
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                raise self._error or InputError(f"{self.get_name()}: the start failed, see the log.")

    def accept(self, _: Model) -> str | None:
        """Why these parameters cannot hold now; None where they can."""
        if not self._loaded:
            return None
        name = self.get_fully_qualified_name()
        return f"{self.held}: deactivate and clean up first (ros2 lifecycle set {name} cleanup)"

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Load the bundle, or open the camera."""
        try:
            self.load()
        except EdgeflockError as error:
            self._error = error
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self._loaded = True
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Begin."""
        result = super().on_activate(state)  # the publishers
        self.begin()
        self.active = True
        by_itself = self.settings.declared.autostart
        self.settings.keep(autostart=by_itself)
        self._bond = None if by_itself else Bond.of(self)
        return result

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Stop; a process that takes this one's place does not begin either."""
        self._end()
        self.settings.keep(autostart=False)
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Drop what was loaded."""
        self._end()
        self.unload()
        self._loaded = False
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """End the process in order; with code 0, so the launch file does not start it again."""
        self._end()
        self.done = 0
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Nothing outlives the node."""
        self._end()

    def _end(self) -> None:
        self.release()
        self.active = False
        if self._bond is not None:
            self._bond.close()
            self._bond = None
