"""Small nets that every engine must take: the steering net in each form, and a net of volumes with two inputs."""

from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(scope="session")
def save_net(tmp_path_factory):
    """``save_net(name, nodes, inputs, outputs, weights)`` writes an ONNX file as the exporters do: opset 17, IR 8."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder = tmp_path_factory.mktemp("engine_nets")

    def save(name, nodes, inputs, outputs, weights):
        def infos(shapes):
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()]

        graph = helper.make_graph(
            [helper.make_node(op, given, [to], to, **options) for op, given, to, options in nodes],
            name,
            infos(inputs),
            infos(outputs),
            [numpy_helper.from_array(array, n) for n, array in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, folder / f"{name}.onnx")
        return folder / f"{name}.onnx"

    return save


@pytest.fixture(scope="session")
def volumes(save_net):
    """A net of LDR's operators: two volumes (1, 1, 8, 12, 8) in, 3-D convolution down, up, a flow and a score out."""
    rng = np.random.default_rng(1)
    weights = {
        "w1": rng.normal(0, 0.1, (16, 2, 4, 4, 4)).astype(np.float32),
        "w2": rng.normal(0, 0.1, (16, 3, 4, 4, 4)).astype(np.float32),
    }
    nodes = [
        ("Concat", ["fixed", "moving"], "pair", {"axis": 1}),
        ("Conv", ["pair", "w1"], "conv", {"strides": [2] * 3, "pads": [1] * 6}),
        ("Relu", ["conv"], "relu", {}),
        ("ConvTranspose", ["relu", "w2"], "flow", {"strides": [2] * 3, "pads": [1] * 6}),
        ("ReduceMean", ["flow"], "score", {"axes": [1, 2, 3, 4], "keepdims": 0}),
    ]
    size = [8, 12, 8]
    inputs = {"fixed": [1, 1, *size], "moving": [1, 1, *size]}
    path = save_net("volumes", nodes, inputs, {"flow": [1, 3, *size], "score": [1]}, weights)
    feeds = {name: rng.normal(size=shape).astype(np.float32) for name, shape in inputs.items()}
    return SimpleNamespace(path=path, feeds=feeds, answers=_numpy_volumes(feeds, weights))


def _numpy_volumes(feeds, weights):
    """What the net above means, in plain NumPy."""
    pair = np.pad(np.concatenate([feeds["fixed"], feeds["moving"]], axis=1)[0], [(0, 0)] + [(1, 1)] * 3)
    windows = np.lib.stride_tricks.sliding_window_view(pair, (4, 4, 4), axis=(1, 2, 3))[:, ::2, ::2, ::2]
    hidden = np.maximum(np.einsum("cxyzijk,ocijk->oxyz", windows, weights["w1"]), 0)
    wide = np.zeros((3, *(2 * n + 2 for n in hidden.shape[1:])), np.float32)
    for at in np.ndindex(hidden.shape[1:]):
        where = tuple(slice(2 * n, 2 * n + 4) for n in at)
        wide[(slice(None), *where)] += np.einsum("c,coijk->oijk", hidden[(slice(None), *at)], weights["w2"])
    flow = wide[None, :, 1:-1, 1:-1, 1:-1]
    return {"flow": flow, "score": flow.mean(axis=(1, 2, 3, 4))}


@pytest.fixture(scope="session")
def form(nets, tmp_path_factory):
    """``form(precision)``: the steering net as a file, and what plain ONNX Runtime answers to `nets.images`."""
    from functools import lru_cache

    import onnx
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.transformers.float16 import convert_float_to_float16

    folder = tmp_path_factory.mktemp("forms")

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.feeds = iter([{"image": image[None]} for image in nets.images])

        def get_next(self):
            return next(self.feeds, None)

    @lru_cache
    def make(precision):
        path = folder / f"{precision}.onnx"
        if precision in ("fp32", "int8"):
            path = getattr(nets, precision)
        elif precision == "fp16":
            onnx.save(convert_float_to_float16(onnx.load(nets.fp32), keep_io_types=True), path)
        else:  # symmetric with float bias for NVIDIA, all of it for Qualcomm (docs/decisions/0002)
            trt = precision == "int8-trt"
            quantize_static(
                nets.fp32,
                path,
                Reader(),
                per_channel=True,
                activation_type=QuantType.QInt8 if trt else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["Conv", "Gemm"] if trt else None,
                extra_options={"ActivationSymmetric": trt, "WeightSymmetric": True, "QuantizeBias": not trt},
            )
            model = onnx.load(path)
            del model.opset_import[:]
            model.opset_import.append(onnx.helper.make_opsetid("", 17))
            onnx.save(model, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return path, np.concatenate([session.run(None, {"image": image[None]})[0] for image in nets.images])

    return make
