"""Qualcomm boards: the RB5's Hexagon v66 through the user's QAIRT SDK, v68 and newer through ONNX Runtime's QNN.

Nothing of this family was run on a board, and the SDK was not run at all. What was done: the int8-qnn form of the 2-D
nets lowered by onnxruntime-qnn under emulation (tests/boards), and the SDK's command lines checked against programs
that record them (tests/export/targets/test_qairt.py).
"""

from __future__ import annotations

from edgeflock.export.targets.base import OWN_PYTHON, Limit, Route, Target
from edgeflock.export.targets.cpu import onnxruntime_cpu
from edgeflock.export.targets.qairt import V66, compile_rb5

_GRID_SAMPLE = Limit("GridSample", "QNN knows 4-D only", rank=5)


def _htp(arch: str) -> Route:
    return Route(
        engine="onnxruntime-qnn",
        package="onnxruntime-qnn",
        version="2.7.0",
        precisions=("int8-qnn",),
        opset=20,
        ir=9,
        source="contents of the 2.7.0 wheel; nets lowered by 2.3.0, see docs/board-checks.md",
        limits=(_GRID_SAMPLE,),
        note=f"Hexagon {arch} (HTP); compiled on the board at the first start, a node on the CPU is an error",
    )


_WHEEL = "onnxruntime-qnn needs Python >= 3.11 and glibc >= 2.34."

TARGETS = (
    Target(
        name="rb5",
        board="Qualcomm RB5",
        chip="QRB5165: Kryo 585, Adreno 650, Hexagon 698 (v66)",
        image="Ubuntu 20.04 (glibc 2.31, Python 3.8)",
        routes=(onnxruntime_cpu("CPU; the NPU is for QAIRT only, see docs/targets.md"),),
        vendor=V66,
        compiler=compile_rb5,
        notes=(
            OWN_PYTHON,
            "onnxruntime-qnn has no v66: it would ignore htp_arch 66 and go on without the NPU.",
            "The DSP takes quantised nets only; Qualcomm's own cloud dropped this board in January 2026.",
        ),
    ),
    Target(
        name="rb3gen2",
        board="Qualcomm RB3 Gen 2",
        chip="QCS6490: Kryo 670, Adreno 643, Hexagon v68",
        image="Qualcomm Linux or Ubuntu 24.04 (glibc 2.39, Python 3.12)",
        routes=(_htp("v68"), onnxruntime_cpu()),
        notes=(_WHEEL, "The v68 of this chip has no FP16 (immich discussion 25112): quantised nets only."),
    ),
    Target(
        name="qcs8550",
        board="Qualcomm QCS8550",
        chip="QCS8550: Kryo, Adreno 740, Hexagon v73",
        image="Qualcomm Linux (glibc >= 2.34)",
        routes=(_htp("v73"), onnxruntime_cpu()),
        notes=(_WHEEL,),
    ),
    Target(
        name="iq-9075",
        board="Qualcomm IQ-9075",
        chip="QCS9075: Kryo, Adreno 663, Hexagon v73",
        image="Qualcomm Linux or Ubuntu 24.04",
        routes=(_htp("v73"), onnxruntime_cpu()),
        notes=(_WHEEL,),
    ),
)
