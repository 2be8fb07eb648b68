"""What ROS 2 dies of before a node is there, in the words and exit codes of edgeflock; without importing rclpy."""

from __future__ import annotations

import ctypes
import os
import re

from edgeflock.runtime.errors import EdgeflockError, FileError, InputError, LibraryError

MAX_DOMAIN = 232  # its ports end below 65536 (RTPS 2.2, 9.6.1.1)


def check_environment() -> None:
    """Refuse what the middleware answers with an exit of its own, before rclpy can say anything.

    Raises
    ------
    InputError
        ROS_DOMAIN_ID has no ports, or see `check_middleware`.
    """
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not (domain.isdigit() and int(domain) <= MAX_DOMAIN):
        raise InputError(
            f"expected ROS_DOMAIN_ID as a number from 0 to {MAX_DOMAIN}, got {domain!r}: unset or change it."
        )
    check_middleware()


def check_middleware() -> None:
    """Refuse a RMW_IMPLEMENTATION whose library cannot be loaded; rclpy ends the process when it is imported.

    Raises
    ------
    InputError
        There is no such library.
    """
    if asked := os.environ.get("RMW_IMPLEMENTATION"):
        try:
            ctypes.CDLL(f"lib{asked}.so")
        except OSError as error:
            raise InputError(
                f"expected the middleware RMW_IMPLEMENTATION={asked}, got no library of it ({error}): install "
                f"ros-<distro>-{asked.replace('_', '-')}, or `unset RMW_IMPLEMENTATION`."
            ) from error


def in_ros_words(error: Exception) -> Exception:
    """What the user is told of an exception of rclpy at a node's start; any other is returned as it is."""
    if not type(error).__module__.startswith("rclpy"):
        return error
    said = re.sub(r", at \S+:\d+|Error: error not set", "", str(error)).strip()
    told: EdgeflockError
    if "parse" in said:
        told = InputError(
            f"{said}. Correct what stands after --ros-args: -p NAME:=VALUE, -r NAME:=NEW_NAME, --params-file FILE; a "
            "name has letters, digits and _, and does not begin with a digit."
        )
    elif "log" in said:
        told = FileError(f"{said}. Set ROS_LOG_DIR to a folder that can be written, or HOME.")
    elif os.environ.get("ROS_SECURITY_ENABLE", "").lower() == "true":
        told = LibraryError(f"{said}. ROS_SECURITY_ENABLE is set: check ROS_SECURITY_KEYSTORE, or unset it.")
    else:
        told = LibraryError(f"ROS 2 refuses: {said}. `ros2 doctor` looks for the cause.")
    return told.with_traceback(error.__traceback__)
