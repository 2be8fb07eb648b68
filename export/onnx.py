"""From torch to ONNX, and the proof that both are the same net.

The files must load on boards whose ONNX Runtime or converter is years old: opset 17, IR 8, nothing but standard
operators, static batch 1 (facts/checks.md 1.5, facts/boards.md 5.5). That is why the TorchScript exporter is used: the
newer one starts at opset 18 and IR 10, and what converts its graphs down breaks Pad and ReduceMean.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxslim
import torch
from torch import Tensor, nn

from edgeflock.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgeflock.runtime.errors import InputError, ParityError

OPSET, IR = 17, 8
IMAGE, STEERING = "image", "steering"
IMAGE_SHAPE = (1, 1, 200, 200)
PARITY = 1e-5
"""Largest |ONNX - torch| / max(1, |torch|) that counts as the same net."""

_CHUNK = 64


def export_onnx(net: nn.Module) -> onnx.ModelProto:
    """Graph of a steering net in evaluation mode: `image` float32 (1, 1, 200, 200) -> `steering` float32 (1, 1).

    onnxslim folds "SAME" padding into `Conv.pads`, which the exporter leaves as separate nodes; the input norm becomes
    an `ExactNorm`. The same weights give the same bytes.

    Parameters
    ----------
    net : nn.Module
        Takes raw grey pixels 0..255 (N, 1, 200, 200), gives rad (N, 1); on the CPU. It is left as it was.

    Raises
    ------
    InputError
        The net does not answer one (1, 1) angle to one image.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # about tracing and the exporter's age; check_parity is what judges the graph
        path = Path(folder) / "net.onnx"
        torch.onnx.export(
            _exact_norms(net),
            (torch.zeros(IMAGE_SHAPE),),
            path,
            input_names=[IMAGE],
            output_names=[STEERING],
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnxslim.slim(onnx.load(path))
    shape = tuple(d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim)
    if shape != (1, 1):
        raise InputError(f"a steering net answers (1, 1) to one image, {type(net).__name__} answers {shape}.")
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


def _exact_norms(net: nn.Module) -> nn.Module:
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


def predict(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """Steering angles float32 (N,) for images (N, 200, 200), by the engine that robots run."""
    precision = "int8" if any(node.op_type == "QuantizeLinear" for node in model.graph.node) else "fp32"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(model, path)
        engine = OnnxRuntimeEngine(path, precision)
    frame = np.empty(IMAGE_SHAPE, np.float32)
    steering = engine.bind({IMAGE: frame})[STEERING]
    angles = np.empty(len(images), np.float32)
    for i, image in enumerate(images):
        frame[0, 0] = image
        engine.run()
        angles[i] = steering[0, 0]
    return angles


def check_parity(
    net: nn.Module,
    model: onnx.ModelProto,
    images: np.ndarray,
    names: Sequence[str] | None = None,
    tolerance: float = PARITY,
) -> float:
    """Compare what torch and ONNX Runtime answer to real frames.

    Torch answers in float64, so that what is measured is the exported graph: torch's own float32 kernels can be off by
    more than the tolerance (`group_norm` of raw pixels in channels-last layout: 1e-2).

    Parameters
    ----------
    net : nn.Module
        Compared in evaluation mode; left as it is.
    model : onnx.ModelProto
    images : ndarray
        (N, 200, 200), raw grey, N >= 1.
    names : sequence of str, optional
        Names of the frames for the error, by default their index.
    tolerance : float

    Returns
    -------
    float
        Worst |ONNX - torch| / max(1, |torch|).

    Raises
    ------
    ParityError
        It is larger than the tolerance, or an answer is not a number; names the worst frame.
    """
    if len(images) == 0:
        raise InputError("no frames to compare torch and ONNX with: expected at least one.")
    exact = copy.deepcopy(net).double().eval()
    with torch.inference_mode():
        chunks = (images[i : i + _CHUNK, None].astype(np.float64) for i in range(0, len(images), _CHUNK))
        expected = np.concatenate([exact(torch.from_numpy(chunk))[:, 0].numpy() for chunk in chunks])
    got = predict(model, images)
    error = np.abs(got - expected) / np.maximum(1, np.abs(expected))
    worst = int(np.argmax(np.where(np.isfinite(error), error, np.inf)))
    if not error[worst] <= tolerance:
        raise ParityError(
            f"torch and ONNX are not the same net: on frame {names[worst] if names is not None else worst} torch gives "
            f"{expected[worst]:.7g} rad and ONNX {got[worst]:.7g} rad, an error of {error[worst]:.2g} where at most "
            f"{tolerance:g} is allowed. Check padding and memory order."
        )
    return float(error[worst])
