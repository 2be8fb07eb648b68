"""Packages that only some parts need: one table says which extra brings each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgeflock.runtime.errors import MissingExtra

EXTRAS = {
    "torch": "export",
    "onnx": "export",
    "onnxscript": "export",
    "onnxslim": "export",
    "sklearn": "export",
    "rosbags": "export",
    "pyarrow": "lerobot",
    "nibabel": "registration",
    "h5py": "registration",
    "SimpleITK": "affine",
    "ants": "syn",
    "soundfile": "dance",
    "pi_heif": "heic",
    "networkx": "fleet",
    "scipy": "fleet",
    "zstandard": "fleet",
    "zenoh": "zenoh",
    "dp_accounting": "privacy",
    "starlette": "watch",
    "uvicorn": "watch",
    "prometheus_client": "watch",
    "ray": "ray",
    "openvino": "openvino",
    "mujoco": "sim",
    "pyrealsense2": "realsense",
    "matplotlib": "report",
    "PIL": "report",
    "jinja2": "report",
}
"""Extra by module, as it is imported."""


@contextmanager
def needs(what: str, extra: str | None = None) -> Iterator[None]:
    """Import inside of this what may not be installed.

        with needs("FDLA"):
            from scipy.optimize import minimize

    Parameters
    ----------
    what : str
        What needs the import, as the message begins.
    extra : str, optional
        Extra that brings all of it, where that is another than the table's.

    Raises
    ------
    MissingExtra
        It is not installed; names the `pip install` line.
    """
    try:
        yield
    except ImportError as error:
        extra = extra or EXTRAS.get((error.name or "").partition(".")[0])
        if extra:
            raise MissingExtra.pip(what, extra, error) from error
        raise MissingExtra(f"{what} needs a package that is not installed ({error}): install it.") from error
