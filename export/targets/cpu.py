"""CPU boards: ONNX Runtime everywhere, OpenVINO beside it on x86."""

from __future__ import annotations

from edgeflock.export.targets.base import Limit, Route, Target


def onnxruntime_cpu(note: str = "") -> Route:
    """ONNX Runtime's CPU provider, oldest version that edgeflock installs with."""
    return Route(
        engine="onnxruntime-cpu",
        package="onnxruntime",
        version="1.17",
        precisions=("int8", "fp32"),
        opset=20,
        ir=9,
        source="ONNX Runtime's table of versions",
        note=note,
    )


OPENVINO = Route(
    engine="openvino",
    package="openvino",
    version="2026.4",
    precisions=("int8", "fp32"),
    opset=20,
    ir=9,
    source="its release notes",
    limits=(Limit("GridSample", "its ONNX front end knows 4-D only (openvino issue 37770)", rank=5),),
)

TARGETS = (
    Target(
        name="cpu-x86_64",
        board="x86-64 computer",
        chip="any x86-64; INT8 pays with AVX-VNNI or AVX512-VNNI",
        image="Linux with glibc >= 2.28, Python >= 3.10",
        routes=(onnxruntime_cpu("`edgeflock tune` tells whether OpenVINO is faster"), OPENVINO),
        notes=(
            "Without VNNI, INT8 saturates silently; the engine then turns on session.x64quantprecision.",
            "OpenVINO computes fp32 in bf16 where the CPU has it, unless told otherwise.",
        ),
    ),
    Target(
        name="cpu-aarch64",
        board="64-bit Arm computer",
        chip="ARMv8.0 and newer; INT8 pays with the dot product of ARMv8.2",
        image="Linux with glibc >= 2.28, Python >= 3.10",
        routes=(onnxruntime_cpu(),),
        notes=("INTER_LINEAR of OpenCV differs from x86, INTER_LINEAR_EXACT does not.",),
    ),
)
