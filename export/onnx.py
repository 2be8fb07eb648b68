"""From torch to ONNX, and the proof that both are the same net.

The files must load on boards whose ONNX Runtime or converter is years old: opset 17, IR 8, nothing but standard
operators, static shapes (docs/decisions/0008-old-operator-set.md). That is why the TorchScript exporter is used: the
newer one starts at opset 18 and IR 10, and what converts its graphs down breaks Pad and ReduceMean.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxslim
import torch
from torch import Tensor, nn

from edgeflock.calibration.observe import input_dtype
from edgeflock.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgeflock.runtime.errors import InputError, ParityError

OPSET, IR = 17, 8
PARITY = 1e-5
"""Largest |ONNX - torch| / max(1, |torch|) that counts as the same net."""


def export_onnx(
    net: nn.Module,
    inputs: Mapping[str, Sequence[int]],
    outputs: Sequence[str],
    dtypes: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Graph of a net in evaluation mode, every shape fixed.

    onnxslim folds "SAME" padding into `Conv.pads`, which the exporter leaves as separate nodes; the input norm becomes
    an `ExactNorm`. The same weights give the same bytes.

    Parameters
    ----------
    net : nn.Module
        Takes tensors in the order of `inputs`, gives one for each of `outputs`; on the CPU. Left as it was.
    inputs : mapping
        Name to shape, the batch first.
    outputs : sequence of str
        Names.
    dtypes : mapping, optional
        Of the inputs that are not float32, such as "int64".
    """
    dtypes = dtypes or {}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # about tracing and the exporter's age; check_parity is what judges the graph
        path = Path(folder) / "net.onnx"
        torch.onnx.export(
            exact_norms(net),
            tuple(
                torch.zeros(tuple(shape), dtype=getattr(torch, dtypes.get(name, "float32")))
                for name, shape in inputs.items()
            ),
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnxslim.slim(onnx.load(path))
    model.graph.name = type(net).__name__
    return finish(model)


class ExactNorm(nn.Module):
    """Layer norm over (C, H, W) whose means are taken in two steps: along the rows, then of the rows.

    One sum over 40,000 pixels in float32 is off by 1e-5 and differs from board to board. ONNX Runtime's
    InstanceNormalization scales low-contrast frames wrongly by 3e-5, this by 4e-7, for 2 % of the net's time.

    Parameters
    ----------
    norm : nn.GroupNorm
        With one group.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, image: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        centred = image - image.mean(3, keepdim=True).mean((1, 2), keepdim=True)
        variance = (centred * centred).mean(3, keepdim=True).mean((1, 2), keepdim=True)
        normed = centred / torch.sqrt(variance + self.norm.eps)
        if not self.norm.affine:
            return normed
        return normed * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


def exact_norms(net: nn.Module) -> nn.Module:
    """Copy of the net, in evaluation mode, with every one-group norm replaced."""
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm) and child.num_groups == 1:
                setattr(module, name, ExactNorm(child))
    return net


def finish(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stamp and check a graph: producer, IR 8, and only the operator sets that it uses.

    ONNX Runtime's tools stamp up to eight unused operator sets, and one that a board does not know is refused there.
    """
    used = {node.domain for node in model.graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    model.ir_version = IR
    model.producer_name, model.producer_version = "edgeflock", version("edgeflock")
    onnx.checker.check_model(model, full_check=True)
    return model


def predict(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Answers (N, ...) by output name to inputs (N, ...) by input name, in its batches by ONNX Runtime's CPU."""
    precision = "int8" if any(node.op_type == "QuantizeLinear" for node in model.graph.node) else "fp32"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(model, path)
        engine = OnnxRuntimeEngine(path, precision)
    bound = {
        value.name: np.zeros([d.dim_value for d in value.type.tensor_type.shape.dim], input_dtype(value))
        for value in model.graph.input
    }
    answers = engine.bind(bound)
    count, batch = len(next(iter(feeds.values()))), len(next(iter(bound.values())))
    collected = {name: np.empty((count, *answer.shape[1:]), answer.dtype) for name, answer in answers.items()}
    for start in range(0, count, batch):
        part = slice(start, min(start + batch, count))
        for name, array in bound.items():
            array[: part.stop - start] = feeds[name][part]
        engine.run()
        for name, answer in answers.items():
            collected[name][part] = answer[: part.stop - start]
    return collected


def check_parity(
    net: nn.Module,
    model: onnx.ModelProto,
    feeds: Mapping[str, np.ndarray],
    names: Sequence[str] | None = None,
    tolerance: float = PARITY,
) -> float:
    """Compare what torch and ONNX Runtime answer to real samples.

    Torch answers in float64, so that what is measured is the exported graph: torch's own float32 kernels can be off by
    more than the tolerance (`group_norm` of raw pixels in channels-last layout: 1e-2).

    Parameters
    ----------
    net : nn.Module
        Compared in evaluation mode; left as it is.
    model : onnx.ModelProto
    feeds : mapping
        Input name to (N, ...), N >= 1, in the order that the net takes them.
    names : sequence of str, optional
        Names of the samples for the error, by default their index.
    tolerance : float

    Returns
    -------
    float
        Worst |ONNX - torch| / max(1, |torch|) over all outputs.

    Raises
    ------
    ParityError
        It is larger than the tolerance, or an answer is not a number; names the worst sample.
    """
    count = len(next(iter(feeds.values()), ()))
    if count == 0:
        raise InputError("nothing to compare torch and ONNX with: expected at least one sample.")
    exact = copy.deepcopy(net).double().eval()
    taken = {value.name: input_dtype(value) for value in model.graph.input}
    exact_of = {name: np.float64 if np.issubdtype(dtype, np.floating) else dtype for name, dtype in taken.items()}
    got, worst, where = predict(model, feeds), 0.0, ""
    for i in range(count):
        with torch.inference_mode():
            answer = exact(*(torch.from_numpy(feed[i : i + 1].astype(exact_of[name])) for name, feed in feeds.items()))
        for name, tensor in zip(got, [answer] if isinstance(answer, Tensor) else answer, strict=True):
            expected, given = tensor[0].numpy(), got[name][i]
            error = np.abs(given - expected) / np.maximum(1, np.abs(expected))
            error[~np.isfinite(error)] = np.inf
            at = np.unravel_index(np.argmax(error), error.shape)
            if error[at] > worst:
                worst = float(error[at])
                sample = names[i] if names is not None else i
                where = f"{sample} torch gives {name} {expected[at]:.7g}, ONNX {given[at]:.7g}"
    if worst > tolerance:
        raise ParityError(
            f"torch and ONNX are not the same net: for sample {where}, an error of {worst:.2g} where at most "
            f"{tolerance:g} is allowed. Check padding and memory order."
        )
    return worst
