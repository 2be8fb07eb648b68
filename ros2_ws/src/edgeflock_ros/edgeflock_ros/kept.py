"""What a person set on a running node, for the process that takes its place after a failure.

The launch file starts a node again that died. With the parameter file alone the new one would forget what was set
while it ran: a robot slowed down by `ros2 param set /guard speed 0.3` would go back to full speed, and one that was
deactivated would drive. So each launch has a folder, named by the environment, that ends with it; in it a file per
node.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rclpy.node import Node

from edgeflock.runtime.files import write_atomically
from edgeflock_ros.nodes import KEPT


class Kept:
    """Values by name that outlive the process of one node.

    Attributes
    ----------
    values : dict of str to bool, int, float or str
        What was kept before this process began, and what was added since.
    """

    def __init__(self, node: Node) -> None:
        folder = os.environ.get(KEPT)  # of this launch; without one nothing is kept
        self._node = node
        self._file = Path(folder) / f"{node.get_fully_qualified_name()[1:].replace('/', '.')}.json" if folder else None
        self.values: dict[str, Any] = {}
        if self._file is not None and self._file.exists():
            self.values = json.loads(self._file.read_text())

    def replace(self, values: dict[str, Any]) -> None:
        """Keep these, and no others; a file that cannot be written is warned of."""
        if values == self.values:
            return
        self.values = values
        if self._file is None:
            return
        try:
            write_atomically(self._file, json.dumps(values), sync=False)
        except OSError as error:
            self._node.get_logger().warning(f"what was set holds, but not for a node started again: {error}")
