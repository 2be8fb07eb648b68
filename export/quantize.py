"""INT8 for CPU boards (QDQ: uint8 activations, int8 weights per channel, int32 bias), and the accuracy gate.

QOperator is never made: it gives wrong answers for these nets (facts/checks.md 5). TensorRT, and a DSP that must not
see float, need forms of their own (facts/checks.md 6.1).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgeflock.export.onnx import finish, predict
from edgeflock.runtime.bundle import GateReport
from edgeflock.runtime.errors import GateError, InputError

if TYPE_CHECKING:
    from onnxruntime.quantization.calibrate import TensorsData

INTEGER = ("Conv", "MaxPool", "Add", "Relu")
"""What is quantised: the trunk, whose convolutions then hand integers to each other. Norms, support pooling,
accumulation and head stay float: with everything in INT8 the four steering nets lose 0.7 to 8 dB of SQNR and up to a
tenth of their speed, because CPUs have no integer kernel for most of the rest. `sensitivity` measures it for a net."""

SHIPPED = " ".join(INTEGER)

STEERED = 0.02
"""rad (1.1 degrees): below it left and right mean nothing, so a changed sign is not counted."""


def quantize(fp32: onnx.ModelProto, ranges: TensorsData) -> onnx.ModelProto:
    """Post-training quantisation to INT8 in QDQ form.

    The node that gives the steering angle stays float: in 8 bits it would end at the sharpest turn of the calibration
    frames.

    Parameters
    ----------
    fp32 : onnx.ModelProto
        From `edgeflock.export.onnx.export_onnx`.
    ranges : TensorsData
        From `edgeflock.calibration.ranges.activation_ranges`, with frames as the net takes them.

    Raises
    ------
    GateError
        The result is not pure QDQ with every convolution in INT8.
    """
    model = _qdq(fp32, ranges, INTEGER)
    problems = check_qdq(model)
    if problems:
        raise GateError(f"quantisation gave a net that no board should get: {'; '.join(problems)}.")
    return model


@dataclass(frozen=True)
class Sensitivity:
    """What one choice of operators in INT8 does to the steering angle."""

    quantised: str
    """One convolution alone, `INTEGER` as shipped, or `INTEGER` and one more kind of operator."""
    sqnr_db: float
    """10 log10 of mean(fp32^2) / mean((int8 - fp32)^2)."""
    rmse: float
    """Against the labels, rad."""


def sensitivity(
    fp32: onnx.ModelProto, ranges: TensorsData, images: np.ndarray, angles: np.ndarray
) -> list[Sensitivity]:
    """Measure which layer costs how much, and what it would cost to quantise more.

    SQNR is the figure to compare: rounding can lower the RMSE of a hundred frames by luck.

    Parameters
    ----------
    fp32, ranges
        As for `quantize`.
    images, angles : ndarray
        Calibration frames (N, 200, 200) and their labels in rad, (N,); the frames of the gate stay out of decisions.

    Returns
    -------
    list of Sensitivity
        Each convolution alone, in the order of the graph; the shipped form; the shipped form and one kind more.
    """
    reference = predict(fp32, images)

    def measure(what: str, kinds: Iterable[str], nodes: Iterable[str] = ()) -> Sensitivity:
        got = predict(_qdq(fp32, ranges, kinds, nodes), images)
        return Sensitivity(what, _sqnr(reference, got), _rmse(got, angles))

    nodes = [node for node in fp32.graph.node if node.name != _steering(fp32).name]
    more = dict.fromkeys(node.op_type for node in nodes if node.op_type not in INTEGER)
    return [
        *(measure(node.name, ["Conv"], [node.name]) for node in nodes if node.op_type == "Conv"),
        measure(SHIPPED, INTEGER),
        *(measure(f"{SHIPPED} + {kind}", [*INTEGER, kind]) for kind in more),
    ]


def check_qdq(model: onnx.ModelProto) -> list[str]:
    """What keeps a net from being pure QDQ with every convolution in INT8; empty where it is."""
    problems = []
    foreign = {
        n.op_type for n in model.graph.node if n.domain or n.op_type.startswith("QLinear") or "Integer" in n.op_type
    }
    if foreign:
        problems.append(f"expected QuantizeLinear and DequantizeLinear only, got {', '.join(sorted(foreign))}")
    dequantised = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    floats = [n.name for n in convolutions if not dequantised.issuperset(n.input)]
    if floats or not convolutions:
        problems.append(f"expected every Conv in INT8, got float: {', '.join(floats) or 'no Conv at all'}")
    return problems


@dataclass(frozen=True)
class GateLimits:
    """What the gate allows; the fields of `GateReport` say what is measured."""

    rmse_drop: float = 0.02
    sign_flips: float = 0.005
    constant_ratio: float = 0.5
    max_deviation: float = 0.1
    """rad."""


def run_gate(
    fp32: onnx.ModelProto,
    candidate: onnx.ModelProto,
    images: np.ndarray,
    angles: np.ndarray,
    *,
    precision: str = "int8",
    names: Sequence[str] | None = None,
    data: str = "",
    limits: GateLimits | None = None,
    observe: Callable[[GateReport, np.ndarray, np.ndarray], None] | None = None,
) -> GateReport:
    """Let a net pass only if it drives like its fp32 original, measured on ONNX Runtime, which is what robots run.

    The constant predictor is the best there is: the mean label of these very frames. A net near it has learnt nothing,
    and no quantisation can make it worse, so the other criteria alone would let it pass.

    Parameters
    ----------
    fp32, candidate : onnx.ModelProto
        The original and what shall be shipped; where fp32 itself is shipped, both are the same.
    images, angles : ndarray
        Frames that neither training nor calibration saw, (N, 200, 200), and their labels in rad, (N,).
    precision : str
        Of the candidate. "int8" must be pure QDQ with every convolution quantised.
    names : sequence of str, optional
        Names of the frames for the error, by default their index.
    data : str
        Says in the report which frames these were.
    limits : GateLimits, optional
    observe : callable, optional
        Gets the report and the answers of both nets before a failed gate raises.

    Raises
    ------
    GateError
        Lists every criterion that failed, with what was expected and got, and the frames that deviate most.
    InputError
        Fewer than two frames, shapes that do not agree, or labels that are all the same.
    """
    limits = limits or GateLimits()
    angles = np.asarray(angles, np.float64)
    if angles.shape != images.shape[:1] or len(angles) < 2 or not np.ptp(angles) > 0:
        raise InputError(
            f"the gate needs frames (N, 200, 200) and labels (N,) that differ, N >= 2; got {images.shape} and "
            f"{angles.shape}{' with one and the same label' if angles.size and not np.ptp(angles) else ''}."
        )
    name = (lambda i: names[i]) if names is not None else (lambda i: f"frame {i}")
    reference = predict(fp32, images).astype(np.float64)
    got = reference if candidate is fp32 else predict(candidate, images).astype(np.float64)
    for net, answers in (("fp32", reference), (precision, got)):
        if not np.isfinite(answers).all():
            bad = np.flatnonzero(~np.isfinite(answers))
            raise GateError(
                f"the gate refuses the net: {net} answers {answers[bad[0]]} to {name(bad[0])} and to {len(bad)} of "
                f"{len(answers)} frames; expected a finite angle for each."
            )

    deviation = np.abs(got - reference)
    steered = np.abs(reference) > STEERED
    flips = steered & (np.sign(got) != np.sign(reference))
    rmse, rmse_fp32, rmse_constant = _rmse(got, angles), _rmse(reference, angles), float(np.std(angles))
    measured = {
        "rmse_drop": rmse / rmse_fp32 - 1 if rmse_fp32 else float(rmse > 0),
        "sign_flips": float(flips.sum() / max(steered.sum(), 1)),
        "constant_ratio": rmse / rmse_constant,
        "max_deviation": float(deviation.max()),
    }
    failures = check_qdq(candidate) if precision == "int8" else []
    failures += [
        f"{_CRITERIA[field]}: expected at most {getattr(limits, field):.4g}, got {value:.4g}"
        for field, value in measured.items()
        if not value <= getattr(limits, field)
    ]
    report = GateReport(
        passed=not failures,
        precision=precision,
        data=data,
        frames=len(angles),
        rmse=rmse,
        rmse_fp32=rmse_fp32,
        rmse_constant=rmse_constant,
        mean_deviation=float(deviation.mean()),
        **measured,
        **{f"{field}_limit": getattr(limits, field) for field in measured},
    )
    if observe:
        observe(report, reference, got)
    if failures:
        worst = "; ".join(
            f"{name(i)}: label {angles[i]:+.3f}, fp32 {reference[i]:+.3f}, {precision} {got[i]:+.3f} rad"
            for i in np.argsort(-(deviation if deviation.any() else np.abs(got - angles)))[:3]
        )
        raise GateError(
            f"the gate refuses the {precision} net. {'. '.join(failures)}. Worst frames: {worst}. "
            f"RMSE {rmse:.4f} rad, fp32 {rmse_fp32:.4f}, constant predictor {rmse_constant:.4f}, {len(angles)} frames. "
            f"Way out: train longer, calibrate with other frames or another method, or ship fp32 alone."
        )
    return report


_CRITERIA = {
    "rmse_drop": "relative rise of the RMSE over fp32",
    "sign_flips": f"share of frames beyond {STEERED} rad not steered to the same side as fp32",
    "constant_ratio": "RMSE as a share of the constant predictor's",
    "max_deviation": "largest distance from fp32 in rad",
}


def _steering(model: onnx.ModelProto) -> onnx.NodeProto:
    """Node that gives the steering angle."""
    return next(node for node in model.graph.node if model.graph.output[0].name in node.output)


def _qdq(
    fp32: onnx.ModelProto, ranges: TensorsData, kinds: Iterable[str], nodes: Iterable[str] = ()
) -> onnx.ModelProto:
    """QDQ form of the operators of these kinds, or only of the nodes named."""
    from onnxruntime.quantization import QDQQuantizer, QuantType

    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(fp32, strict_mode=True),
        per_channel=True,
        reduce_range=False,  # the engine's exact path serves CPUs without VNNI at no cost in accuracy
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=list(nodes),
        nodes_to_exclude=[_steering(fp32).name],
        op_types_to_quantize=list(kinds),
        extra_options={"WeightSymmetric": True},
    )
    with _quiet():
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    return finish(quantizer.model.model)


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime logs a warning per BatchNorm parameter that it leaves per tensor, which is what is wanted."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def _rmse(got: np.ndarray, expected: np.ndarray | float) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(got, np.float64) - expected))))


def _sqnr(reference: np.ndarray, got: np.ndarray) -> float:
    return 20 * float(np.log10(_rmse(reference, 0) / max(_rmse(got, reference), 1e-12)))
