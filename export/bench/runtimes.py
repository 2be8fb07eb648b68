"""Runtimes that `edgeflock bench peers` compares with: how each converts a torch net and runs it on one thread."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgeflock.runtime.errors import EdgeflockError

Run = Callable[[list[np.ndarray]], list[np.ndarray]]
"""Inputs of one sample, in order, to outputs."""


@dataclass(frozen=True)
class Peer:
    """One runtime in one precision.

    `open` gets the converted file and gives a call for one sample that returns the net's outputs.
    """

    package: str
    precision: Literal["fp32", "int8"]
    needs: tuple[str, ...]
    """Modules: of the runtime, then of the converter."""
    install: str
    convert: Callable[[Any, tuple[Any, ...], list[tuple[Any, ...]], Path], None]
    """(torch net in evaluation mode, one sample, all reference samples, folder)."""
    open: Callable[[Path], Run]


def _ncnn_convert(net: Any, sample: tuple, samples: list, folder: Path) -> None:
    import pnnx

    pnnx.export(net, str(folder / "net.pt"), sample, fp16=False)
    if not (folder / "net.ncnn.param").is_file():
        raise EdgeflockError("pnnx wrote no net.ncnn.param")


def _ncnn_open(folder: Path) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads, net.opt.use_vulkan_compute = 1, False
    net.load_param(str(folder / "net.ncnn.param"))
    net.load_model(str(folder / "net.ncnn.bin"))
    inputs, outputs = list(net.input_names()), list(net.output_names())

    def run(feeds: list[np.ndarray]) -> list[np.ndarray]:
        extractor = net.create_extractor()
        for name, feed in zip(inputs, feeds, strict=True):
            extractor.input(name, ncnn.Mat(feed[0]))
        return [np.array(extractor.extract(name)[1]) for name in outputs]

    run.keep = net  # type: ignore[attr-defined]  # the extractor holds a bare pointer
    return run


def _pt2e(net: Any, sample: tuple, samples: list, quantizer: Any, fold: bool) -> Any:
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    prepared = prepare_pt2e(torch.export.export(net, sample).module(), quantizer)
    for one in samples:
        prepared(*one)
    return convert_pt2e(prepared, fold_quantize=fold)


def _executorch_convert(net: Any, sample: tuple, samples: list, folder: Path, int8: bool = False) -> None:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    if int8:
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )

        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        net = _pt2e(net, sample, samples, quantizer, fold=True)
    program = to_edge_transform_and_lower(torch.export.export(net, sample), partitioner=[XnnpackPartitioner()])
    (folder / "net.pte").write_bytes(program.to_executorch().buffer)


def _executorch_open(folder: Path) -> Run:
    import torch
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    _unsafe_reset_threadpool(1)
    method = Runtime.get().load_program(str(folder / "net.pte")).load_method("forward")

    def run(feeds: list[np.ndarray]) -> list[np.ndarray]:
        return [tensor.numpy() for tensor in method.execute([torch.from_numpy(feed) for feed in feeds])]

    return run


def _litert_convert(net: Any, sample: tuple, samples: list, folder: Path, int8: bool = False) -> None:
    import litert_torch

    if int8:
        from litert_torch.quantize import pt2e_quantizer, quant_config

        symmetric = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True)
        quantizer = pt2e_quantizer.PT2EQuantizer().set_global(symmetric)
        net = _pt2e(net, sample, samples, quantizer, fold=False)
        config = quant_config.QuantConfig(pt2e_quantizer=quantizer)
        litert_torch.convert(net, sample, quant_config=config).export(str(folder / "net.tflite"))
    else:
        litert_torch.convert(net, sample).export(str(folder / "net.tflite"))


def _litert_open(folder: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "net.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    inputs = [detail["index"] for detail in interpreter.get_input_details()]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def run(feeds: list[np.ndarray]) -> list[np.ndarray]:
        for index, feed in zip(inputs, feeds, strict=True):
            interpreter.set_tensor(index, feed)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run


def onnxruntime_open(path: Path) -> Run:
    """ONNX Runtime as its own documentation opens a file, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return lambda feeds: session.run(None, dict(zip(names, feeds, strict=True)))


def openvino_open(path: Path) -> Run:
    """OpenVINO as its own documentation opens a file, on one thread."""
    import openvino

    # Without the hint OpenVINO computes "fp32" in bf16 on this kind of CPU (docs/engines.md).
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(path), "CPU", options).create_infer_request()
    return lambda feeds: list(request.infer(feeds, share_inputs=True, share_outputs=True).values())


_LITERT = 'pip install ai-edge-litert litert-torch "torch<2.14"'
_EXECUTORCH = 'pip install executorch "torch<2.14"'
PEERS = {
    "ncnn fp32": Peer("ncnn", "fp32", ("ncnn", "pnnx"), "pip install ncnn pnnx", _ncnn_convert, _ncnn_open),
    "ExecuTorch XNNPACK fp32": Peer(
        "executorch", "fp32", ("executorch",), _EXECUTORCH, _executorch_convert, _executorch_open
    ),
    "ExecuTorch XNNPACK int8": Peer(
        *("executorch", "int8", ("executorch", "torchao"), _EXECUTORCH),
        *(functools.partial(_executorch_convert, int8=True), _executorch_open),
    ),
    "LiteRT XNNPACK fp32": Peer(
        *("ai-edge-litert", "fp32", ("ai_edge_litert", "litert_torch"), _LITERT, _litert_convert, _litert_open)
    ),
    "LiteRT XNNPACK int8": Peer(
        *("ai-edge-litert", "int8", ("ai_edge_litert", "litert_torch", "torchao"), _LITERT),
        *(functools.partial(_litert_convert, int8=True), _litert_open),
    ),
}
