"""Intrinsics as files: ROS's camera_info YAML, or JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import yaml

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.intrinsics import Intrinsics


def camera_info_yaml(camera: Intrinsics, name: str = "camera") -> str:
    """YAML as ROS's camera_calibration_parsers and camera_info_manager read it; JSON lists are YAML."""
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    size = camera.width, camera.height
    rectified, _ = cv2.getOptimalNewCameraMatrix(matrix, np.array(camera.coeffs), size, 0)  # as cameracalibrator.py
    projection = np.column_stack([rectified, np.zeros(3)])
    text = f"image_width: {camera.width}\nimage_height: {camera.height}\ncamera_name: {json.dumps(name)}\n"
    for field, array in (
        ("camera_matrix", matrix),
        ("distortion_coefficients", np.array([camera.coeffs])),
        ("rectification_matrix", np.eye(3)),
        ("projection_matrix", projection),
    ):
        if field.startswith("distortion"):
            text += f"distortion_model: {camera.model}\n"
        rows, columns = array.shape
        text += f"{field}:\n  rows: {rows}\n  cols: {columns}\n  data: {json.dumps(array.ravel().tolist())}\n"
    return text


def read_camera(path: Path) -> Intrinsics:
    """Intrinsics from ROS's camera_info YAML, or from JSON, as `write_camera` writes them.

    Raises
    ------
    InputError
        It cannot be read, or is neither.
    """
    wanted = f"expected the intrinsics of a camera in {path}, as `edgeflock calibrate camera` writes them"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
        if "camera_matrix" not in content:
            return Intrinsics(**{**content, "coeffs": tuple(content["coeffs"])})
        k = [float(value) for value in content["camera_matrix"]["data"]]
        lens = tuple(float(value) for value in content["distortion_coefficients"]["data"])
        size = int(content["image_width"]), int(content["image_height"])
        return Intrinsics(*size, k[0], k[4], k[2], k[5], content["distortion_model"], lens)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError, IndexError) as error:
        raise InputError(f"{wanted}, got another file ({type(error).__name__}: {error}).") from None


def check_file_name(path: Path) -> None:
    """InputError for a name that `write_camera` would refuse, before the work."""
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise InputError(f"expected a file name ending in .yaml or .json, got {path}.")


def write_camera(path: Path, camera: Intrinsics, name: str = "camera") -> None:
    """Write intrinsics as ROS's camera_info YAML, or as JSON where the name ends in .json."""
    check_file_name(path)
    as_json = path.suffix == ".json"
    write_atomically(path, json.dumps(asdict(camera), indent=2) + "\n" if as_json else camera_info_yaml(camera, name))
