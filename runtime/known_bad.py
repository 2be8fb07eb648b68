"""Versions and boards known to fail, each with the reason and the way out; `edgeflock doctor` prints what applies here.

An entry needs a reason that can be looked up: an issue, a pull request, or a measurement of this project.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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


KNOWN_BAD = (
    KnownBad("opencv-python-headless", ">=5", "it dropped the Haar cascades", 'pip install "opencv-python-headless<5"'),
    KnownBad("opencv-python", ">=5", "it dropped the Haar cascades", 'pip install "opencv-python-headless<5"'),
    KnownBad("tensorrt", "==10.2.0", "blacklisted by ultralytics (PR 24367)", "use the 10.3 of JetPack 6.2 or later"),
    KnownBad(
        package="tensorrt",
        versions="==10.3.*",
        reason="its INT8 fails on opset 19 on JetPack 6 (TensorRT issue 4797)",
        way_out="export with opset 17",
    ),
    KnownBad("tensorrt", "", "this board has no INT8 hardware", "drive with --precision fp32", board="Jetson Nano"),
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


def known_bad_here(version_of: Callable[[str], str | None], board: str = "") -> list[tuple[KnownBad, str]]:
    """Entries that apply, each with the installed version.

    Parameters
    ----------
    version_of : callable
        Package name -> installed version, or None.
    board : str
        Model name of the board.
    """
    from packaging.specifiers import SpecifierSet

    def applies(package: str, versions: str) -> bool:
        installed = version_of(package)
        return installed is not None and SpecifierSet(versions, prereleases=True).contains(installed)

    return [
        (entry, str(version_of(entry.package)))
        for entry in KNOWN_BAD
        if applies(entry.package, entry.versions)
        and (entry.beside is None or applies(entry.beside, entry.beside_versions))
        and (entry.board is None or entry.board.lower() in board.lower())
    ]
