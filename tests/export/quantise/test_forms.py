"""INT8 in the three forms of the boards, each QDQ, each checked down to its zero points."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from edgeflock.calibration.ranges import activation_ranges
from edgeflock.export.graph import finish, predict
from edgeflock.export.onnx import export_onnx
from edgeflock.export.quantise.forms import FORMS, check_form, prepare, quantisable, quantize
from edgeflock.export.quantise.planes import to_2d
from edgeflock.export.quantise.rewrites import sums_to_float
from edgeflock.export.quantise.sensitivity import sqnr_db
from edgeflock.runtime.errors import GateError

FADNET = {"image": (1, 1, 200, 200)}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("ranges")


@pytest.fixture(scope="module")
def fadnet(trained, crops, cache):
    """The trained net in fp32 and in every form, and frames that calibration did not see."""
    fp32 = export_onnx(trained, FADNET, ["steering"])
    calibration, frames = (crops(count, seed)[0][:, None] for count, seed in ((48, 3), (32, 2)))

    def ranges(margin):
        return activation_ranges(fp32, {"image": calibration}, output_margin=margin, cache=cache)

    given = {form: ranges(rules.output_margin) for form, rules in FORMS.items()}
    forms = {form: quantize(fp32, given[form], form) for form in FORMS}
    return SimpleNamespace(fp32=fp32, ranges=ranges(0), given=given, feeds={"image": frames}, **forms)


class Mixed(nn.Module):
    """What the nets hold beside plain convolutions: identity shortcut, norm after ReLU, attention, product, softmax."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.inner = nn.Conv2d(8, 8, 3, 1, 1)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 8, 3, 1, 1)
        self.score = nn.Conv2d(8, 1, 1)
        self.dense = nn.Linear(8, 4)

    def forward(self, image):
        x = F.relu(self.stem(image))
        x = F.max_pool2d(F.relu(x + self.inner(x)), 2)
        x = self.last(F.relu(self.norm(x)))
        attention = self.score(x).flatten(1).softmax(1)
        v = (x.flatten(2) @ attention[:, :, None]).squeeze(2)
        a, b = v.split(4, 1)
        return self.dense(torch.cat([a * torch.sigmoid(b), b], 1)).softmax(1), attention


class Volumes(nn.Module):
    """Three dimensions: convolutions down and up, a skip."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv3d(2, 8, 4, 2, 1)
        self.deep = nn.Conv3d(8, 16, 4, 2, 1)
        self.up = nn.ConvTranspose3d(16, 8, 4, 2, 1)
        self.flow = nn.ConvTranspose3d(16, 3, 4, 2, 1)

    def forward(self, fixed, moving):
        x = F.relu(self.down(torch.cat([fixed, moving], 1)))
        return self.flow(torch.cat([x, F.relu(self.up(F.relu(self.deep(x))))], 1))


def made(net, inputs, outputs, cache):
    """ONNX of a net with random weights and running statistics, samples and ranges."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    fp32 = export_onnx(net, inputs, outputs)
    rng = np.random.default_rng(0)
    feeds = {name: rng.random((8, *shape[1:]), np.float32) for name, shape in inputs.items()}
    ranges = activation_ranges(fp32, feeds, "minmax", cache=cache)
    return SimpleNamespace(fp32=fp32, ranges=ranges, feeds=feeds)


@pytest.fixture(scope="module")
def mixed(cache):
    return made(Mixed().eval(), {"image": (1, 3, 32, 32)}, ["expression", "attention"], cache)


@pytest.fixture(scope="module")
def volumes(cache):
    return made(Volumes().eval(), dict.fromkeys(("fixed", "moving"), (1, 1, 16, 16, 16)), ["flow"], cache)


class Graph:
    """Names to what makes them, and constants."""

    def __init__(self, model):
        self.nodes = list(model.graph.node)
        self.made_by = {name: node for node in self.nodes for name in node.output}
        self.constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}

    def of(self, kind):
        return [node for node in self.nodes if node.op_type == kind]

    def dequantised(self, name):
        return name in self.made_by and self.made_by[name].op_type == "DequantizeLinear"


# ---- all forms


@pytest.mark.parametrize("form", FORMS)
def test_every_form_loads_on_old_boards(fadnet, form):
    model = getattr(fadnet, form)
    assert model.ir_version == 8
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.metadata_props
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("which", ["fadnet", "mixed", "volumes"])
def test_every_net_answers_in_every_form_as_before(request, which, form):
    net = request.getfixturevalue(which)
    model = quantize(net.fp32, net.ranges, form)
    assert check_form(model, form) == []
    assert sqnr_db(predict(net.fp32, net.feeds), predict(model, net.feeds)) > 20


@pytest.mark.parametrize("form", FORMS)
def test_int8_is_a_third_of_the_size(fadnet, form):
    assert getattr(fadnet, form).ByteSize() < 0.36 * fadnet.fp32.ByteSize()


@pytest.mark.parametrize("form", FORMS)
def test_the_same_ranges_give_the_same_bytes_and_stay_as_they_are(fadnet, form):
    def ends():
        return {name: [float(end) for end in r.range_value] for name, r in fadnet.given[form].items()}

    before = ends()
    again = quantize(fadnet.fp32, fadnet.given[form], form)
    assert again.SerializeToString() == getattr(fadnet, form).SerializeToString()
    assert ends() == before


@pytest.mark.parametrize("form", ["int8-qnn", "int8-trt"])
def test_identity_shortcuts_add_integers(mixed, form):
    graph = Graph(quantize(mixed.fp32, mixed.ranges, form))
    [add] = graph.of("Add")
    assert all(graph.dequantised(name) for name in add.input)


# ---- int8, for CPUs


def test_every_convolution_has_uint8_activations_int8_weights_per_channel_and_int32_bias(fadnet):
    graph = Graph(fadnet.int8)
    assert len(graph.of("Conv")) == 10
    for conv in graph.of("Conv"):
        image, weight, bias = (graph.made_by[name] for name in conv.input)
        assert {node.op_type for node in (image, weight, bias)} == {"DequantizeLinear"}
        assert graph.constants[image.input[2]].dtype == np.uint8
        channels = len(graph.constants[weight.input[0]])
        assert graph.constants[weight.input[0]].dtype == np.int8
        assert graph.constants[weight.input[1]].shape == (channels,)
        assert not graph.constants[weight.input[2]].any()  # symmetric
        assert graph.constants[bias.input[0]].dtype == np.int32


def test_trunk_is_integer_and_the_head_float(fadnet):
    graph = Graph(fadnet.int8)
    kinds = ("Conv", "MaxPool", "Mul", "ReduceMean", "BatchNormalization", "MatMul", "Gemm")
    integer = {kind: {all(graph.dequantised(name) for name in node.input) for node in graph.of(kind)} for kind in kinds}
    assert [kind for kind, found in integer.items() if found == {True}] == ["Conv", "MaxPool"]
    assert all(integer.values())


def test_the_norm_of_the_image_is_not_rounded(fadnet):
    graph = Graph(fadnet.int8)
    [root] = graph.of("Sqrt")
    epsilon = graph.made_by[root.input[0]]
    assert epsilon.op_type == "Add"
    assert not any(graph.dequantised(name) for name in epsilon.input)


def test_softmaxes_attention_products_dense_layers_and_what_follows_a_sum_stay_float(mixed):
    nodes = {node.name: node.op_type for node in prepare(mixed.fp32, "int8").graph.node}
    quantised = {nodes[name] for name in quantisable(prepare(mixed.fp32, "int8"), "int8")}
    assert quantised == {"Conv", "Relu", "Reshape", "Flatten"} & set(nodes.values())


def test_cpus_add_shortcuts_in_float_because_their_integer_sums_differ(mixed, tmp_path):
    path = tmp_path / "optimised.onnx"
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    model = quantize(mixed.fp32, mixed.ranges, "int8").SerializeToString()
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "QLinearConv" in kinds
    assert "QLinearAdd" not in kinds


def test_the_rewritten_first_layer_answers_bit_for_bit_as_the_one_that_it_was(fadnet, monkeypatch):
    assert [node.op_type for node in fadnet.int8.graph.node].count("SpaceToDepth") == 1
    monkeypatch.setitem(FORMS, "int8", replace(FORMS["int8"], rewrites=(sums_to_float,)))
    strided = quantize(fadnet.fp32, fadnet.given["int8"], "int8")
    assert "SpaceToDepth" not in {node.op_type for node in strided.graph.node}
    answers = (predict(model, fadnet.feeds)["steering"] for model in (strided, fadnet.int8))
    np.testing.assert_array_equal(*answers)


def test_what_only_moves_values_between_layers_moves_integers(cache):
    """A 3-D net as images moves its voxels about between the convolutions; in float that takes half of its time."""
    torch.manual_seed(0)
    net = made(Volumes().eval(), dict.fromkeys(("fixed", "moving"), (1, 1, 16, 16, 16)), ["flow"], cache)
    flat = to_2d(net.fp32)
    ranges = activation_ranges(flat, net.feeds, "minmax", cache=cache)
    model = quantize(flat, ranges, "int8")
    graph = Graph(model)
    layers = [node for node in graph.of("Conv") if graph.dequantised(node.input[0])]
    assert len(layers) == 4
    start = graph.nodes.index(layers[0])
    moves = [n for n in graph.nodes[start:] if n.op_type in ("Slice", "Transpose", "Concat")]
    assert sum(all(graph.dequantised(name) for name in n.input[:1]) for n in moves) > len(moves) / 2
    assert sqnr_db(predict(net.fp32, net.feeds), predict(model, net.feeds)) > 20


@pytest.mark.parametrize("form", ["int8", "int8-trt"])
def test_the_answer_itself_is_not_rounded_to_256_steps(fadnet, form):
    answers = predict(getattr(fadnet, form), fadnet.feeds)["steering"]
    assert len(np.unique(answers)) == len(answers)


def test_volumes_stay_integer_through_skips_and_transposed_convolutions(volumes):
    graph = Graph(quantize(volumes.fp32, volumes.ranges, "int8"))
    up, flow = graph.of("ConvTranspose")
    weight = graph.made_by[up.input[1]]
    assert graph.constants[weight.input[1]].shape == (8,)
    assert next(a.i for a in weight.attribute if a.name == "axis") == 1
    assert graph.made_by[graph.made_by[flow.input[0]].input[0]].op_type == "QuantizeLinear"
    inputs, skip = graph.of("Concat")
    assert [graph.dequantised(name) for name in (*inputs.input, *skip.input)] == [True] * 4


# ---- int8-qnn, for DSPs


@pytest.mark.parametrize("which", ["fadnet", "mixed", "volumes"])
def test_a_dsp_sees_no_float(request, which):
    net = request.getfixturevalue(which)
    graph = Graph(quantize(net.fp32, net.ranges, "int8-qnn"))
    inputs, outputs = ({v.name for v in values} for values in (net.fp32.graph.input, net.fp32.graph.output))
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            assert graph.constants[node.input[2]].dtype == np.uint8
        elif node.op_type == "DequantizeLinear":
            continue
        else:
            floats = [n for n in node.input if graph.constants.get(n, np.zeros(0, int)).dtype == np.float32]
            assert not floats
            assert not inputs.intersection(node.input)
            assert not outputs.intersection(node.output)


def test_norms_that_cannot_be_folded_become_depthwise_convolutions_that_do_the_same(fadnet):
    prepared = prepare(fadnet.fp32, "int8-qnn")
    kinds = [node.op_type for node in prepared.graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Conv") == 10 + 3
    depthwise = [n for n in prepared.graph.node if any(a.name == "group" and a.i > 1 for a in n.attribute)]
    assert [next(a.i for a in n.attribute if a.name == "group") for n in depthwise] == [32, 32, 64]
    del prepared.metadata_props[:]
    before, after = (predict(model, fadnet.feeds)["steering"] for model in (fadnet.fp32, finish(prepared)))
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_dense_weights_have_one_scale_where_qnn_has_no_more(mixed):
    graph = Graph(quantize(mixed.fp32, mixed.ranges, "int8-qnn"))
    [dense] = graph.of("Gemm")
    weight = graph.made_by[dense.input[1]]
    assert graph.constants[weight.input[0]].dtype == np.int8
    assert graph.constants[weight.input[1]].shape == ()


def test_answers_may_go_further_than_the_calibration_samples(fadnet):
    graph = Graph(getattr(fadnet, "int8-qnn"))
    last = graph.made_by["steering"]
    scale, zero = (graph.constants[name].astype(float) for name in last.input[1:])
    low, high = (float(end) for end in fadnet.ranges["steering"].range_value)
    assert (255 - zero) * scale > high + 0.2 * (high - low)
    assert (0 - zero) * scale < low - 0.2 * (high - low)


def test_a_net_that_no_dsp_takes_is_refused_by_name(cache):
    class Rounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)

        def forward(self, x):
            return self.conv(x).long().float()

    net = made(Rounded().eval(), {"x": (1, 1, 8, 8)}, ["y"], cache)
    with pytest.raises(GateError, match=r"no int8-qnn form .*/Cast: expected Cast in INT8, got .* in float"):
        quantize(net.fp32, net.ranges, "int8-qnn")


# ---- int8-trt, for NVIDIA


@pytest.mark.parametrize("which", ["fadnet", "mixed", "volumes"])
def test_zero_points_are_zero_and_biases_float(request, which):
    net = request.getfixturevalue(which)
    graph = Graph(quantize(net.fp32, net.ranges, "int8-trt"))
    for node in [*graph.of("QuantizeLinear"), *graph.of("DequantizeLinear")]:
        zero = graph.constants[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    for kind in ("Conv", "ConvTranspose", "Gemm"):
        for node in graph.of(kind):
            assert len(node.input) < 3 or graph.constants[node.input[2]].dtype == np.float32


def test_a_layer_its_relu_and_the_quantisation_can_become_one_kernel(mixed):
    graph = Graph(quantize(mixed.fp32, mixed.ranges, "int8-trt"))
    for relu in graph.of("Relu"):
        source = graph.made_by[relu.input[0]].op_type
        assert source in ("Conv", "Add", "BatchNormalization")  # and no QuantizeLinear in between


def test_a_product_of_two_activations_is_no_layer(mixed):
    graph = Graph(quantize(mixed.fp32, mixed.ranges, "int8-trt"))
    [attention] = graph.of("MatMul")
    assert not any(graph.dequantised(name) for name in attention.input)


def test_constants_on_the_left_are_no_weights(fadnet):
    """The rows of FADNet's pooling matrices stand on the left of the product."""
    graph = Graph(getattr(fadnet, "int8-trt"))
    left = [node for node in graph.of("MatMul") if node.input[0] in graph.constants]
    assert len(left) == 4  # three poolings by rows and the accumulation


@pytest.mark.parametrize("which", ["fadnet", "mixed", "volumes"])
def test_nvidias_parser_and_builder_take_the_form(request, which):
    net = request.getfixturevalue(which)
    assert _tensorrt(net.fp32) == ""
    assert _tensorrt(quantize(net.fp32, net.ranges, "int8-trt")) == ""


def test_nvidias_parser_refuses_the_form_of_cpus(fadnet):
    assert "Int32" in _tensorrt(fadnet.int8)


# ---- what stays float


def test_layers_to_keep_are_named_by_operator_node_or_prefix(fadnet):
    def floats(keep):
        model = quantize(fadnet.fp32, fadnet.ranges, "int8", keep)
        assert check_form(model, "int8", keep) == []
        graph = Graph(model)
        return [node.name for node in graph.of("Conv") if not graph.dequantised(node.input[1])]

    assert floats([]) == []
    assert floats(["/res_block1/conv2d/Conv"]) == ["/res_block1/conv2d/Conv"]  # not /res_block1/conv2d_2
    block = {f"/res_block1/{layer}/Conv" for layer in ("shortcut", "conv2d", "conv2d_2")}
    assert set(floats(["/res_block1"])) == block
    source = prepare(fadnet.fp32, "int8")
    assert set(quantisable(source, "int8")) - set(quantisable(source, "int8", ["MaxPool"])) == {"/MaxPool"}


def test_nothing_to_quantise_is_refused(fadnet):
    with pytest.raises(GateError, match="expected layers in INT8, got none"):
        quantize(fadnet.fp32, fadnet.ranges, "int8", ["Conv"])


# ---- the check of a form


@pytest.mark.parametrize(
    ("given", "asked", "message"),
    [
        ("fp32", "int8", "/conv1/.*: expected Conv in INT8, got float"),
        ("int8", "int8-trt", "expected activations in S8, got uint8"),
        ("int8", "int8-trt", "expected a float bias, got a quantised one"),
        ("int8", "int8-qnn", "expected ReduceMean in INT8, got image"),
        ("int8-trt", "int8", "expected activations in U8, got int8"),
        ("int8-trt", "int8", "expected an int32 bias"),
    ],
)
def test_one_form_is_not_another(fadnet, given, asked, message):
    import re

    assert any(re.search(message, problem) for problem in check_form(getattr(fadnet, given), asked))


@pytest.mark.parametrize(
    ("suffix", "change", "message"),
    [
        ("_zero_point", lambda zero: zero + 3, "expected zero point 0, got 3"),
        ("_scale", lambda scale: scale[:1], r"expected S8 weights with one scale per channel, got \(1,\) scales"),
    ],
)
def test_weights_are_checked(fadnet, suffix, change, message):
    broken = onnx.ModelProto()
    broken.CopyFrom(getattr(fadnet, "int8-trt"))
    constant = next(i for i in broken.graph.initializer if i.name == f"res_block1.shortcut.weight{suffix}")
    value = numpy_helper.to_array(constant)
    constant.CopyFrom(numpy_helper.from_array(change(value).astype(value.dtype), constant.name))
    with pytest.raises(AssertionError, match=message):
        assert not check_form(broken, "int8-trt")


def test_a_bias_in_other_units_is_found(fadnet):
    broken = onnx.ModelProto()
    broken.CopyFrom(fadnet.int8)
    constant = next(i for i in broken.graph.initializer if i.name == "conv1.bias_quantized_scale")
    constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant) * np.float32(2), constant.name))
    assert check_form(broken, "int8") == [
        "/conv1/Conv_output_0: expected an int32 bias with the scale of input times weights"
    ]


def test_qoperator_is_refused():
    graph = helper.make_graph(
        [helper.make_node("QLinearMatMul", ["a", "s", "z", "a", "s", "z", "s", "z"], ["y"])],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 1])],
        [numpy_helper.from_array(np.float32(1), "s"), numpy_helper.from_array(np.uint8(0), "z")],
    )
    model = finish(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert check_form(model, "int8") == ["expected QuantizeLinear and DequantizeLinear only, got QLinearMatMul"]


def _tensorrt(model):
    """What keeps TensorRT-RTX from parsing and building a net, "" for nothing. It needs no GPU for that."""
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.Severity.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        return "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    return "" if builder.build_serialized_network(network, config) is not None else "not built"
