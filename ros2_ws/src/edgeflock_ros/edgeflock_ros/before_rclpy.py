"""Imported by every node before rclpy, whose import ends the process where RMW_IMPLEMENTATION cannot be loaded."""

import sys

from edgeflock.runtime.errors import InputError, end_with
from edgeflock_ros.environment import check_middleware

try:
    check_middleware()
except InputError as error:
    line, code = end_with(error) or (str(error), error.exit_code)
    print(line, file=sys.stderr)
    sys.exit(code)
