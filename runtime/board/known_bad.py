"""Versions and boards known to fail, each with the reason and the way out; `edgeflock doctor` prints what applies here.

An entry needs a reason that can be looked up: an issue, a pull request, or a measurement of this project.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeflock.runtime.board.facts import board_model, installed_version


@dataclass(frozen=True)
class KnownBad:
    """`package` in `versions` is bad, if `beside` (where given, another package) is installed in `beside_versions`."""

    package: str
    versions: str  # PEP 440, "" = any
    reason: str
    way_out: str
    beside: str | None = None
    beside_versions: str = ""
    board: str | None = None  # a part of the board's model name; None = every board
    stops: tuple[str, ...] = ()  # precisions that the engines refuse because of it; none: it is a warning


KNOWN_BAD = (
    KnownBad("opencv-python-headless", ">=5", "it dropped the Haar cascades", 'pip install "opencv-python-headless<5"'),
    KnownBad("opencv-python", ">=5", "it dropped the Haar cascades", 'pip install "opencv-python-headless<5"'),
    KnownBad(
        package="tensorrt",
        versions="==10.2.*",
        reason="blacklisted by ultralytics (PR 24367)",
        way_out="use the 10.3 of JetPack 6.2 or later",
        stops=("fp32", "fp16", "int8-trt"),
    ),
    KnownBad(
        package="tensorrt",
        versions="==10.3.*",
        reason="its INT8 fails on opset 19 on JetPack 6 (TensorRT issue 4797)",
        way_out="export with opset 17",
    ),
    KnownBad(
        package="tensorrt",
        versions="",
        reason="the GPU of this board has no INT8 hardware ",
        way_out="use the precision fp16",
        board="Jetson Nano",
        stops=("int8-trt",),
    ),
    KnownBad(
        package="tensorrt",
        versions=">=11.3,<11.5",
        reason="it does not support JetPack (NVIDIA's migration guides of 11.3.0 and 11.4.0)",
        way_out="use the TensorRT that JetPack brings",
        board="Jetson",
    ),
    KnownBad(
        package="tensorrt",
        versions=">=11",
        reason="ONNX Runtime supports it from 1.27 on (NVIDIA's migration guide of 11)",
        way_out="use the engine tensorrt, or a newer onnxruntime-gpu",
        beside="onnxruntime-gpu",
        beside_versions="<1.27",
    ),
    KnownBad(
        package="nvidia-modelopt",
        versions="",
        reason="its INT8 models fail in Myelin on SM 8.7 (TensorRT issue 4832)",
        way_out="quantise with edgeflock export (explicit Q/DQ)",
        board="Orin",
    ),
    KnownBad(
        package="onnxruntime-qnn",
        versions=">=2.4",
        reason="lists no device on a machine without a Qualcomm NPU (measured)",
        way_out='to check a model off the board: pip install "onnxruntime-qnn==2.3.0" "onnxruntime==1.24.2"',
    ),
    KnownBad(
        package="onnxruntime-qnn",
        versions="<2.4",
        reason="ONNX Runtime 1.31 refuses it and then runs silently on the CPU (measured)",
        way_out='pip install "onnxruntime==1.24.2"',
        beside="onnxruntime",
        beside_versions=">=1.31",
    ),
    KnownBad(
        package="setuptools",
        versions=">=80",
        reason="ends `setup.py develop`, which colcon build --symlink-install needs",
        way_out='pip install "setuptools<80"',
        beside="colcon-core",
    ),
    KnownBad(
        package="pytest",
        versions=">=8.4",
        reason="launch_testing of Jazzy crashes with it (measured)",
        way_out='pip install "pytest==7.4.4"',
        beside="launch-testing",
    ),
)


def known_bad_here(
    version_of: Callable[[str], str | None] = installed_version,
    board: str | None = None,
    package: str | None = None,
) -> list[tuple[KnownBad, str]]:
    """Entries that apply, each with the installed version.

    Parameters
    ----------
    version_of : callable
        Package name -> installed version, or None.
    board : str, optional
        Model name of the board, by default of this one.
    package : str, optional
        Only the entries of this one.
    """
    from packaging.specifiers import SpecifierSet

    model = (board_model() if board is None else board).lower()

    def applies(package: str, versions: str) -> bool:
        installed = version_of(package)
        return installed is not None and SpecifierSet(versions, prereleases=True).contains(installed)

    return [
        (entry, str(version_of(entry.package)))
        for entry in KNOWN_BAD
        if package in (None, entry.package)
        and applies(entry.package, entry.versions)
        and (entry.beside is None or applies(entry.beside, entry.beside_versions))
        and (entry.board is None or entry.board.lower() in model)
    ]
