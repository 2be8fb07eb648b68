"""From torch to ONNX, and the proof that both are the same net.

The TorchScript exporter is used for the sake of old boards (`graph`): the newer one starts at opset 18 and IR 10, and
what converts its graphs down breaks Pad and ReduceMean.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxslim
import torch
from torch import Tensor, nn

from edgeflock.calibration.observe import input_dtype
from edgeflock.export.graph import OPSET, PARITY, ExportedNet, finish, predict
from edgeflock.export.recipe import Samples
from edgeflock.runtime.bundle.manifest import InputSpec, OutputSpec
from edgeflock.runtime.errors import InputError, ParityError

PARITY_SAMPLES = 256


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


def export_specs(
    net: nn.Module, inputs: Sequence[InputSpec], outputs: Sequence[OutputSpec], batch: int | None = None
) -> onnx.ModelProto:
    """Graph of a net as a manifest describes it; `batch`: another than that of the inputs."""
    shapes = {spec.name: (batch or spec.shape[0], *spec.shape[1:]) for spec in inputs}
    return export_onnx(net, shapes, [spec.name for spec in outputs], {spec.name: spec.dtype for spec in inputs})


def export_net(
    name: str, net: nn.Module, inputs: Sequence[InputSpec], outputs: Sequence[OutputSpec], samples: Samples
) -> ExportedNet:
    """Graph and weights of a net, proven to be the same net on some samples; `ParityError` if they are not."""
    model = export_specs(net, inputs, outputs)
    some = samples.spread(PARITY_SAMPLES)
    worst = check_parity(net, model, some.feeds, some.names)
    state = {tensor: np.asarray(value.detach().numpy(), order="C") for tensor, value in net.state_dict().items()}
    return ExportedNet(name, model, state, worst, len(some))


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
