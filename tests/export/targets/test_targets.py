"""What each board takes, refuses, and is known to fail with."""

import re
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgeflock.export.targets import TARGETS, check, supported
from edgeflock.export.targets.table import markdown
from edgeflock.runtime.engines import PRECISIONS
from edgeflock.runtime.errors import InputError

ALL = ("fp32", "fp16", "int8", "int8-qnn", "int8-trt")


def net(*operators, rank=4, opset=17, ir=8, quantised=False):
    """A chain of operators on a (1, 2, 4, ...) tensor."""
    shape = [1, 2, *[4] * (rank - 2)]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 2, *[1] * (rank - 2)], [1.0] * 4)
    constants = [weights]
    nodes, last = [], "x"
    if quantised:
        constants += [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]),
            helper.make_tensor("zero", TensorProto.INT8, [], [0]),
        ]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        ]
        last = "dq"
    for i, operator in enumerate(operators):
        inputs = [last, "w"] if operator.startswith("Conv") else [last, "grid"] if operator == "GridSample" else [last]
        nodes.append(helper.make_node(operator, inputs, [f"y{i}"], name=f"{operator}_{i}"))
        last = f"y{i}"
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    if "GridSample" in operators:
        given.append(helper.make_tensor_value_info("grid", TensorProto.FLOAT, [1, *shape[2:], rank - 2]))
    graph = helper.make_graph(
        nodes, "g", given, [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)], constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_routes_are_engines_of_the_runtime_with_precisions_that_they_take(target):
    for route in target.routes:
        assert set(route.precisions) <= set(PRECISIONS[route.engine])


BEST = {
    "cpu-x86_64": ("int8", "onnxruntime-cpu"),
    "cpu-aarch64": ("int8", "onnxruntime-cpu"),
    "jetson-nano": ("int8", "onnxruntime-cpu"),
    "jetson-xavier-nx": ("int8-trt", "tensorrt"),
    "jetson-orin-nano": ("int8-trt", "tensorrt"),
    "jetson-agx-orin": ("int8-trt", "tensorrt"),
    "jetson-thor": ("int8-trt", "tensorrt"),
    "rb5": ("int8", "onnxruntime-cpu"),
    "rb3gen2": ("int8-qnn", "onnxruntime-qnn"),
    "qcs8550": ("int8-qnn", "onnxruntime-qnn"),
    "iq-9075": ("int8-qnn", "onnxruntime-qnn"),
}


def test_a_plain_net_runs_in_the_best_precision_of_each_board():
    answers = supported(dict.fromkeys(ALL, net("Conv", "Relu")), "steering")

    assert {name: (support.precision, support.engine) for name, support in answers.items()} == BEST


def test_what_a_board_would_take_but_the_bundle_lacks_is_passed_over():
    assert check(TARGETS["jetson-orin-nano"], {"int8": net("Conv")}).engine == "onnxruntime-cpu"


def test_an_int8_volume_goes_to_tensorrt_in_fp16():
    models = {"int8-trt": net("Conv", rank=5, quantised=True), "fp16": net("Conv", rank=5)}

    assert check(TARGETS["jetson-orin-nano"], models).precision == "fp16"


@pytest.mark.parametrize("target", ["jetson-orin-nano", "rb3gen2"])
def test_a_warp_of_volumes_goes_to_the_cpu(target):
    warp = net("GridSample", rank=5, opset=20, ir=9)

    assert check(TARGETS[target], dict.fromkeys(ALL, warp)).engine == "onnxruntime-cpu"
    assert check(TARGETS[target], dict.fromkeys(ALL, net("GridSample"))).engine != "onnxruntime-cpu"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (net("Relu", opset=21, ir=10), r"operator set 21, it takes up to 20.*IR version 10, it takes up to 9"),
        (net("Relu", ir=11), r"IR version 11"),
    ],
)
def test_a_net_that_is_too_new_is_refused_with_reason_and_way_out(model, reason):
    with pytest.raises(InputError, match=rf"rb5 .*{reason}.*Way out"):
        check(TARGETS["rb5"], {"fp32": model})
    assert re.search(reason, supported({"fp32": model}, "steering")["rb5"])


def test_foreign_operators_are_refused():
    model = net("Relu")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))

    with pytest.raises(InputError, match=r"domain com\.microsoft"):
        check(TARGETS["cpu-x86_64"], {"fp32": model})


def test_shipped_bundle_runs_on_every_target():
    folder = Path(__file__).resolve().parents[3] / "runtime" / "bundles" / "steering"
    models = {path.stem.split("_")[1]: onnx.load(path) for path in folder.glob("*.onnx")}

    answers = supported(models, "steering")

    assert not {name: why for name, why in answers.items() if isinstance(why, str)}


def test_nano_is_known_to_have_no_int8_and_orin_not_to_like_modelopt():
    assert any("int8-trt" in entry.stops for entry in TARGETS["jetson-nano"].known_bad)
    assert "nvidia-modelopt" in {entry.package for entry in TARGETS["jetson-agx-orin"].known_bad}
    assert not TARGETS["cpu-aarch64"].known_bad


def test_no_engine_of_the_runtime_claims_the_npu_of_the_rb5():
    rb5 = TARGETS["rb5"]

    assert {route.engine for route in rb5.routes} == {"onnxruntime-cpu"}
    assert rb5.vendor.engine == "qairt"


def test_the_page_is_what_the_command_prints():
    page = (Path(__file__).resolve().parents[3] / "docs" / "targets.md").read_text()

    assert markdown() in page, "run: edgeflock export targets --markdown, and put its output into docs/targets.md"
