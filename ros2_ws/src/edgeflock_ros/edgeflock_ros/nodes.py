"""What a launch file and the test bench start, described once.

`ros2 launch` runs under the system's Python, which need not know what is installed beside the nodes: here is only the
standard library, and errors are those of the language.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = ("realsense", "bag", "video")
KEPT = "EDGEFLOCK_KEPT"
"""Environment: the folder in which nodes keep what was set on them, see `kept`."""


@dataclass(frozen=True)
class NodeProcess:
    """A process with one node, or with several.

    Attributes
    ----------
    package, executable : str
        The executable is a module of the package, too.
    parameters : dict of str to dict
        By the name of the node.
    again : bool
        Whether it is to be started again when it ends.
    delay_s : float
        Until then.
    """

    package: str
    executable: str
    parameters: dict[str, dict[str, Any]]
    again: bool = True
    delay_s: float = 1.0

    @property
    def module(self) -> str:
        """For `python -m`."""
        return f"{self.package}.{self.executable}"

    @property
    def name(self) -> str:
        """The node's, or where there are several the executable's."""
        return next(iter(self.parameters)) if len(self.parameters) == 1 else self.executable


def is_recorded(path: str) -> bool:
    """Whether a camera's path is a recording, which ends, and not a device, which may be plugged in later."""
    return bool(path) and not (path.startswith("/dev/") or Path(path).expanduser().is_char_device())


def camera(kind: str, path: str = "", readers: int = 0, depth_readers: int = 0, **parameters: Any) -> NodeProcess:
    """The camera node.

    Parameters
    ----------
    kind : str
        Of `KINDS`.
    path : str
        Recording or device; empty: a live RealSense.
    readers, depth_readers : int
        Nodes that read the images, and the depth: the first frame of a recording waits for them.

    Raises
    ------
    ValueError
        The kind needs a path, or there is nothing at it.
    """
    if not path and kind != "realsense":
        what = "recording" if kind == "bag" else "video, folder of pictures or /dev/videoN"
        raise ValueError(f"expected the path of a {what} for the camera {kind}, got none: give camera_path:=PATH.")
    if is_recorded(path) and not Path(path).expanduser().exists():
        raise ValueError(f"expected a recording or a device at camera_path, got {path}, which does not exist.")
    given = {"source": kind, "path": path, **parameters}
    if is_recorded(path):
        given |= {"wait_for_readers": readers, "wait_for_depth_readers": depth_readers}
    return NodeProcess("edgeflock_ros", "camera_node", {"camera": given}, again=not is_recorded(path))
