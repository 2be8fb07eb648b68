"""Small nets to calibrate."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def small_net():
    """``small_net(shape, layers=2, seed=0)``: `x` -> Conv, Relu, Conv, Relu ... -> `y`, two channels, static shapes."""
    from onnx import TensorProto, helper, numpy_helper

    def build(shape=(1, 2, 8, 8), layers=2, seed=0):
        rng = np.random.default_rng(seed)
        nodes, weights, last = [], [], "x"
        for layer in range(layers):
            weight = rng.normal(0, 0.4, (2, 2, *(3,) * (len(shape) - 2))).astype(np.float32)
            weights.append(numpy_helper.from_array(weight, f"w{layer}"))
            pads = [1] * 2 * (len(shape) - 2)
            nodes.append(helper.make_node("Conv", [last, f"w{layer}"], [f"conv{layer}"], pads=pads))
            last = "y" if layer == layers - 1 else f"relu{layer}"
            nodes.append(helper.make_node("Relu", [f"conv{layer}"], [last]))
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
        graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    return build
