"""A net as ONNX, without torch: its form, its answers, and one that was exported before.

The files must load on boards whose ONNX Runtime or converter is years old: opset 17, IR 8, nothing but standard
operators, static shapes (docs/decisions/0008-old-operator-set.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from edgeflock.calibration.observe import input_dtype
from edgeflock.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgeflock.runtime.errors import DataError

OPSET, IR = 17, 8
PARITY = 1e-5
"""Largest |ONNX - torch| / max(1, |torch|) that counts as the same net."""


@dataclass(frozen=True)
class ExportedNet:
    """A net whose graph was exported and compared with torch before, as a fleet's learner does it: no torch is needed.

    Attributes
    ----------
    net : str
        Key of `edgeflock.export.nets.known_nets`.
    model : onnx.ModelProto
        In fp32, of the batch that the bundle gets.
    state : dict of str to ndarray
        Its weights by tensor names.
    parity : float
        Largest |ONNX - torch| / max(1, |torch|).
    samples : int
        On so many.
    """

    net: str
    model: onnx.ModelProto
    state: dict[str, np.ndarray]
    parity: float
    samples: int

    def graph(self) -> bytes:
        """The ONNX file; it says which weights it was made of."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        said = {"net": self.net, "weights": digest(self.state), "parity": self.parity, "samples": self.samples}
        onnx.helper.set_model_props(model, {name: str(value) for name, value in said.items()})
        return model.SerializeToString(deterministic=True)

    @classmethod
    def beside(cls, weights: Path) -> ExportedNet | None:
        """The graph that lies beside `model.safetensors` as `model.onnx`; None where there is none.

        Raises
        ------
        DataError
            One of the files is broken, or the graph was made of other weights.
        """
        path = weights.with_suffix(".onnx")
        if weights.suffix != ".safetensors" or not path.exists():
            return None
        try:
            state, model = load_file(weights), onnx.load(path)
        except (SafetensorError, DecodeError) as error:
            raise DataError(f"{weights} or {path} is not whole ({error}): make both again.") from error
        said = {entry.key: entry.value for entry in model.metadata_props}
        if said.get("weights") != digest(state):
            raise DataError(f"{path} was not made of {weights}: `edgeflock fleet join` writes both; or remove {path}.")
        del model.metadata_props[:]
        return cls(said["net"], model, state, float(said["parity"]), int(said["samples"]))


def digest(state: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of tensors by name."""
    found = hashlib.sha256()
    for name in sorted(state):
        value = np.asarray(state[name], order="C")
        found.update(f"{name} {value.dtype.str} {value.shape} ".encode())
        found.update(value.tobytes())
    return found.hexdigest()


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


def predictor(model: onnx.ModelProto) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """The net on ONNX Runtime's CPU: inputs (N, ...) by name in, more of them than the net has among them, answers out.

    Inputs go through in batches of the graph's.
    """
    precision = "int8" if any(node.op_type == "QuantizeLinear" for node in model.graph.node) else "fp32"
    engine = OnnxRuntimeEngine("the net", precision, compiled=model.SerializeToString())
    bound = {
        value.name: np.zeros([d.dim_value for d in value.type.tensor_type.shape.dim], input_dtype(value))
        for value in model.graph.input
    }
    answers = engine.bind(bound)

    def answer(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
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

    return answer


def predict(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Answers (N, ...) by output name to inputs (N, ...) by input name (`predictor`)."""
    return predictor(model)(feeds)
