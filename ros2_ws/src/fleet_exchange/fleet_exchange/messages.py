"""The messages of a fleet, which have to be compiled; whoever has not gets an error that says how."""

from edgeflock.runtime.errors import LibraryError

try:
    from edgeflock_msgs.msg import FleetLink, FleetPacket, FleetStatus
    from edgeflock_msgs.srv import ShowRound
except ImportError as error:
    raise LibraryError(
        f"expected the messages of edgeflock_msgs, got none ({error}): build the workspace with `colcon build` and "
        "source it; with ROS from PyPI run `.ci/messages`."
    ) from error

__all__ = ["FleetLink", "FleetPacket", "FleetStatus", "ShowRound"]
