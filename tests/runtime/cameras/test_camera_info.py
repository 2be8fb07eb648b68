"""Intrinsics are written as ROS and as we read them."""

import json

import numpy as np
import pytest

from edgeflock.runtime.cameras.camera_info import camera_info_yaml, write_camera
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics


@pytest.mark.parametrize("coeffs", [(-0.28, 0.1, 1e-3, -7e-4, -0.02), (6.0, 3.0, 0.0, 0.0, 0.2, 6.3, 4.5, 0.9)])
def test_the_yaml_is_what_ros_reads(tmp_path, coeffs):
    yaml = pytest.importorskip("yaml")
    model = "plumb_bob" if len(coeffs) == 5 else "rational_polynomial"
    camera = Intrinsics(480, 360, 431.7, 428.9, 245.3, 176.2, model, coeffs)
    write_camera(tmp_path / "deep" / "camera.yaml", camera, "front: left")
    read = yaml.safe_load((tmp_path / "deep" / "camera.yaml").read_text())
    assert list(read) == [
        *("image_width", "image_height", "camera_name", "camera_matrix", "distortion_model"),
        *("distortion_coefficients", "rectification_matrix", "projection_matrix"),
    ]
    assert (read["image_width"], read["image_height"], read["camera_name"]) == (480, 360, "front: left")
    assert read["camera_matrix"] == {"rows": 3, "cols": 3, "data": [431.7, 0, 245.3, 0, 428.9, 176.2, 0, 0, 1]}
    assert read["distortion_model"] == model
    assert read["distortion_coefficients"] == {"rows": 1, "cols": len(coeffs), "data": list(coeffs)}
    assert (read["projection_matrix"]["rows"], read["projection_matrix"]["cols"]) == (3, 4)
    assert len(read["projection_matrix"]["data"]) == 12


def test_json_holds_the_intrinsics(tmp_path):
    camera = Intrinsics(480, 360, 431.7, 428.9, 245.3, 176.2)
    write_camera(tmp_path / "camera.json", camera)
    read = json.loads((tmp_path / "camera.json").read_text())
    assert Intrinsics(**read | {"coeffs": tuple(read["coeffs"])}) == camera
    with pytest.raises(InputError, match=r"ending in \.yaml or \.json"):
        write_camera(tmp_path / "camera.txt", camera)


def test_a_camera_without_distortion_projects_with_its_own_matrix():
    text = camera_info_yaml(Intrinsics(640, 480, 600.0, 600.0, 319.5, 239.5))
    data = json.loads(text.split("data:")[-1])
    np.testing.assert_allclose(np.reshape(data, (3, 4)), [[600, 0, 319.5, 0], [0, 600, 239.5, 0], [0, 0, 1, 0]])
