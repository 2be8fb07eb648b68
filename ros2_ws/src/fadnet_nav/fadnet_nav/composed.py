"""Camera and steering in one process: a frame reaches the net by a Python call, and is still published for the others.

Topics inside one process are serialised all the same (docs/decisions/0006); the call saves that and the wait for the
reader. The guard stays a process of its own: it must outlive what it watches.

Parameters and topics are those of `camera_node` and `steering_node`.
"""

from __future__ import annotations

import sys

from edgeflock_ros.camera_node import CameraNode, CameraParameters
from edgeflock_ros.process import run
from edgeflock_ros.spelling import beside
from fadnet_nav.steering_node import SteeringNode, SteeringParameters


def nodes() -> list:
    """Steering first: it is warm when the first frame comes."""
    beside(SteeringParameters, CameraParameters)
    steering = SteeringNode(subscribe=False)
    return [CameraNode(on_frame=steering.on_frame), steering]


def main(args: list[str] | None = None) -> int:
    """Run both until a signal, the end of the recording, or an error (its exit code)."""
    return run(nodes, args)


if __name__ == "__main__":
    sys.exit(main())
