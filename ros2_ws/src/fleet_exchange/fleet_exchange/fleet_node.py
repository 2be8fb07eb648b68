"""Runs the node `fleet`; see `node`. Nothing else is imported here: the learner's process imports this file, too."""

from __future__ import annotations

import edgeflock_ros.before_rclpy  # noqa: F401

# isort: split
import sys
from typing import Any

from edgeflock_ros.process import run


def _nodes() -> list[Any]:
    from fleet_exchange.node import FleetNode

    return [FleetNode()]


def main(args: list[str] | None = None) -> int:
    """Run the fleet node until a signal; what cannot be used ends it with the error's exit code."""
    return run(_nodes, args)


if __name__ == "__main__":
    sys.exit(main())
