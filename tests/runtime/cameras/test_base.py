"""What all sources share."""

import subprocess
import sys

import numpy as np
import pytest

from edgeflock.runtime.cameras.base import rows
from edgeflock.runtime.errors import InputError


def test_importing_the_cameras_loads_no_driver():
    code = "import sys, edgeflock.runtime.cameras; print({'pyrealsense2', 'rosbags', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


def test_rows_is_a_view_without_the_padding():
    data = np.arange(3 * 8, dtype=np.uint8)
    image = rows(data, 3, 3, 8, np.dtype("<u2"))
    assert image.shape == (3, 3) and image.base is not None and np.shares_memory(image, data)
    assert image[1].tolist() == [8 + 9 * 256, 10 + 11 * 256, 12 + 13 * 256]


@pytest.mark.parametrize(("length", "step"), [(23, 8), (24, 5), (0, 8)])
def test_too_few_bytes_are_refused(length, step):
    with pytest.raises(InputError, match="3 rows of at least 6 bytes"):
        rows(np.zeros(length, np.uint8), 3, 3, step, np.dtype("<u2"))
