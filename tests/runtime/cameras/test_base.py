"""What all sources share."""

import subprocess
import sys


def test_importing_the_cameras_loads_no_driver():
    code = "import sys, edgeflock.runtime.cameras; print({'pyrealsense2', 'rosbags', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"
