"""NVIDIA Jetson: TensorRT, whose engines hold for one GPU and version only and are therefore built on the board.

Nothing of this family was run on a board. What was done: every net parsed and built by TensorRT-RTX, NVIDIA's parser
and builder that need no GPU (tests/boards); it is newer than every JetPack's, see docs/board-checks.md.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from edgeflock.export.graph import PARITY, predict
from edgeflock.export.targets.base import OWN_PYTHON, Compilation, Job, Limit, Route, Target
from edgeflock.export.targets.cpu import onnxruntime_cpu
from edgeflock.export.targets.opset import to_opset
from edgeflock.runtime.errors import EngineError, ParityError

_LIMITS = (
    Limit("GridSample", "TensorRT knows 4-D only (TensorRT issues 4618, 4619)", rank=5),
    Limit("Conv", "INT8 brings 3-D nothing or fails (TensorRT issues 1176, 2125)", rank=5, quantised=True),
    Limit("ConvTranspose", "INT8 of 3-D fails (TensorRT issues 1726, 1934)", rank=5, quantised=True),
)


def _tensorrt(version: str, opset: int, ir: int, source: str, note: str = "") -> Route:
    return Route(
        engine="tensorrt",
        package="tensorrt",
        version=version,
        precisions=("int8-trt", "fp16", "fp32"),
        opset=opset,
        ir=ir,
        source=source,
        limits=_LIMITS,
        note=note or "built on the board at the first start, then taken from the engine cache",
    )


def _onnxruntime(provider: str, precisions: tuple[str, ...]) -> Route:
    return Route(
        engine=f"onnxruntime-{provider}",
        package="onnxruntime-gpu",
        version="1.23",
        precisions=precisions,
        opset=20,
        ir=9,
        source="ONNX Runtime's table of versions",
        limits=_LIMITS[:1] if provider == "cuda" else _LIMITS,
        note="needs NVIDIA's onnxruntime-gpu wheel for this JetPack; PyPI has none (onnxruntime issue 20503)",
    )


def precheck(path: Path) -> str:
    """Let TensorRT-RTX parse and build a file, which needs no GPU; the last word is the board's TensorRT.

    Returns
    -------
    str
        What was done, in words, with version and layer count.

    Raises
    ------
    EngineError
        NVIDIA's parser or builder refuses the file; the message is its own.
    ModuleNotFoundError
        TensorRT-RTX is not installed.
    """
    import tensorrt_rtx as trt

    class Log(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: trt.ILogger.Severity, text: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(text)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        reasons = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise EngineError(f"TensorRT-RTX {trt.__version__} does not parse {path.name}: {'; '.join(reasons)}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)  # Ampere, as Orin; SM87 itself is not offered
    if builder.build_serialized_network(network, config) is None:
        raise EngineError(f"TensorRT-RTX {trt.__version__} does not build {path.name}: {'; '.join(log.errors)}")
    return f"parsed and built by TensorRT-RTX {trt.__version__}, {network.num_layers} layers"


def compile_jetson(job: Job) -> Compilation:
    """Nothing is compiled for a Jetson off the board; what the workstation can do is to ask NVIDIA's parser."""
    did = []
    support = job.bundle.manifest.targets.get(job.target.name)
    if support is not None and support.engine == "tensorrt":
        path = job.bundle.artefact(support.precision)
        try:
            with job.console.status(f"TensorRT-RTX builds {path.name}"):
                did.append(f"{path.name} {precheck(path)}; engines are not kept, the board builds its own")
        except ModuleNotFoundError:
            did.append(f'{path.name} not checked here: pip install "edgeflock[trt-rtx]"')
    return Compilation([], did, [f"edgeflock tune {job.bundle.manifest.name}"])


def compile_nano(job: Job) -> Compilation:
    """Write the float32 net in operator set 13 for trtexec of JetPack 4.6, compared on the bundle's own inputs.

    Raises
    ------
    InputError
        The net has operators that set 13 lacks.
    ParityError
        The older form answers differently.
    """
    source = onnx.load(job.bundle.artefact("fp32"))
    older = to_opset(source, NANO_TRTEXEC.opset)
    if problems := NANO_TRTEXEC.problems(older):
        raise EngineError(f"TensorRT {NANO_TRTEXEC.version} will not take this net: {'; '.join(problems)}.")
    expected, got = predict(source, job.feeds), predict(older, job.feeds)
    worst = max(float(abs(expected[name] - got[name]).max()) for name in expected)
    if not worst <= PARITY:
        raise ParityError(f"operator set 13 gives answers up to {worst:.2g} away, at most {PARITY:g} is allowed.")
    path = job.out / f"{job.bundle.artefact('fp32').stem}_opset13.onnx"
    onnx.save(older, path)
    count = len(next(iter(job.feeds.values())))
    return Compilation(
        [path],
        [f"operator set 17 to 13, largest difference {worst:.2g} on {count} inputs of the bundle"],
        [f"/usr/src/tensorrt/bin/trtexec --onnx={path.name} --fp16 --saveEngine={path.stem}_fp16.engine"],
    )


NANO_TRTEXEC = Route(
    engine="trtexec",
    package="tensorrt",
    version="8.2.1",
    precisions=("fp32",),
    opset=13,
    ir=7,
    source="operators.md of onnx-tensorrt 7.2, the nearest at hand",
    limits=(Limit("GridSample", "TensorRT 8.2 has none", None),),
    note="trtexec --fp16; the GPU has no INT8",
)

TARGETS = (
    Target(
        name="jetson-nano",
        board="NVIDIA Jetson Nano",
        chip="Tegra X1: 4x Cortex-A57, Maxwell GPU (SM 5.3) without INT8",
        image="JetPack 4.6 (Ubuntu 18.04, glibc 2.27, Python 3.6, CUDA 10.2, TensorRT 8.2.1)",
        routes=(onnxruntime_cpu("the GPU is for trtexec only, see docs/targets.md"),),
        vendor=NANO_TRTEXEC,
        compiler=compile_nano,
        notes=(
            OWN_PYTHON + " Every wheel resolves for Python 3.10 and glibc 2.27 (pip, checked).",
            "edgeflock's TensorRT engine starts at 8.5, JetPack 4.6 ends at 8.2 with bindings for Python 3.6: the GPU "
            "runs what `edgeflock export compile` writes, through trtexec or C++, outside edgeflock.",
        ),
    ),
    Target(
        name="jetson-xavier-nx",
        board="NVIDIA Jetson Xavier NX",
        chip="Tegra194: 6x Carmel, Volta GPU (SM 7.2)",
        image="JetPack 5.1 (Ubuntu 20.04, glibc 2.31, Python 3.8, CUDA 11.4, TensorRT 8.5.2)",
        routes=(_tensorrt("8.5.2", 17, 8, "from memory, NVIDIA's page was not at hand"), onnxruntime_cpu()),
        compiler=compile_jetson,
        notes=(
            OWN_PYTHON + " JetPack's TensorRT bindings are for 3.8: build those of NVIDIA/TensorRT release/8.5 "
            "(folder python) for yours, otherwise the CPU is used.",
        ),
    ),
    *(
        Target(
            name=name,
            board=board,
            chip=chip,
            image="JetPack 6.2 (Ubuntu 22.04, glibc 2.35, Python 3.10, CUDA 12.6, TensorRT 10.3)",
            routes=(
                _tensorrt("10.3.0", 18, 9, "TensorRT issue 4797"),
                _onnxruntime("tensorrt", ("int8-trt", "fp16", "fp32")),
                _onnxruntime("cuda", ("fp16", "fp32")),
                onnxruntime_cpu(),
            ),
            compiler=compile_jetson,
            notes=("Python sees JetPack's TensorRT in a venv made with --system-site-packages only.",),
        )
        for name, board, chip in (
            ("jetson-orin-nano", "NVIDIA Jetson Orin Nano", "Tegra234: 6x Cortex-A78AE, Ampere GPU (SM 8.7)"),
            ("jetson-agx-orin", "NVIDIA Jetson AGX Orin", "Tegra234: 12x Cortex-A78AE, Ampere GPU (SM 8.7)"),
        )
    ),
    Target(
        name="jetson-thor",
        board="NVIDIA Jetson Thor",
        chip="Tegra264: 14x Neoverse-V3AE, Blackwell GPU",
        image="JetPack 7 (Ubuntu 24.04, glibc 2.39, Python 3.12, CUDA 13.0, TensorRT 10.13 and newer)",
        routes=(_tensorrt("10.15", 18, 9, "ultralytics' set-up for JetPack 7"), onnxruntime_cpu()),
        compiler=compile_jetson,
        notes=("ultralytics installs TensorRT 10.15 on JetPack 7: do the same.",),
    ),
)
