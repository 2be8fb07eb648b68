"""INT8 in QDQ form, and the gate that refuses a net which drives worse than its fp32 original."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeflock.calibration.ranges import activation_ranges
from edgeflock.export.onnx import export_onnx, finish, predict
from edgeflock.export.quantize import INTEGER, STEERED, GateLimits, check_qdq, quantize, run_gate, sensitivity
from edgeflock.runtime.errors import GateError, InputError


@pytest.fixture(scope="module")
def net(trained, crops):
    """The trained net in fp32 and INT8, its calibration frames and the frames that the gate judges."""
    calibration, validation = crops(64, seed=3), crops(160, seed=2)
    fp32 = export_onnx(trained)
    ranges = activation_ranges(fp32, calibration[0][:, None], "minmax")
    return SimpleNamespace(
        fp32=fp32,
        ranges=ranges,
        int8=quantize(fp32, ranges),
        calibration=calibration,
        images=validation[0],
        angles=validation[1],
    )


@pytest.fixture
def edited(net):
    """``edited(dims, change, model)``: copy of a model in which the first weight tensor of a shape is changed."""

    def make(dims, change, model=None):
        copy = onnx.ModelProto()
        copy.CopyFrom(model or net.fp32)
        weight = next(
            i for i in copy.graph.initializer if (i.data_type, list(i.dims)) in ((1, dims), (3, dims))
        )  # float, int8
        value = numpy_helper.to_array(weight)
        weight.CopyFrom(numpy_helper.from_array(change(value).astype(value.dtype), weight.name))
        return copy

    return make


# ---- the INT8 net


def test_int8_loads_on_old_boards(net):
    model = net.int8
    assert model.ir_version == 8
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}
    onnx.checker.check_model(model, full_check=True)


def test_every_convolution_has_uint8_activations_int8_weights_per_channel_and_int32_bias(net):
    graph = net.int8.graph
    made_by = {output: node for node in graph.node for output in node.output}
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 10
    for conv in convolutions:
        image, weight, bias = (made_by[name] for name in conv.input)
        assert {node.op_type for node in (image, weight, bias)} == {"DequantizeLinear"}
        assert constants[image.input[2]].dtype == np.uint8
        channels = len(constants[weight.input[0]])
        assert constants[weight.input[0]].dtype == np.int8
        assert constants[weight.input[1]].shape == (channels,)
        assert not constants[weight.input[2]].any()  # symmetric
        assert constants[bias.input[0]].dtype == np.int32


def test_int8_is_qdq_and_a_third_of_the_size(net):
    assert check_qdq(net.int8) == []
    assert net.int8.ByteSize() < 0.35 * net.fp32.ByteSize()


def test_steering_itself_is_not_rounded_to_256_steps(net):
    assert len(set(predict(net.int8, net.images))) == len(net.images)


def test_trunk_is_integer_and_the_head_float(net):
    graph = net.int8.graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    dequantised = {
        kind: {
            all(made_by.get(i) == "DequantizeLinear" for i in node.input) for node in graph.node if node.op_type == kind
        }
        for kind in ("Conv", "MaxPool", "Mul", "ReduceMean", "BatchNormalization", "MatMul", "Gemm")
    }
    assert [kind for kind, found in dequantised.items() if found == {True}] == ["Conv", "MaxPool"]
    assert all(dequantised.values())


def test_the_same_ranges_give_the_same_bytes(net):
    ranges = activation_ranges(net.fp32, net.calibration[0][:, None], "minmax")
    assert quantize(net.fp32, ranges).SerializeToString() == net.int8.SerializeToString()


def test_sensitivity_measures_each_convolution_the_shipped_form_and_what_more_would_cost(net):
    images, angles = (array[:24] for array in net.calibration)
    rows = {row.quantised: row for row in sensitivity(net.fp32, net.ranges, images, angles)}
    trunk = " ".join(INTEGER)
    convolutions = [what for what in rows if what.startswith("/")]
    assert len(convolutions) == 10
    assert convolutions[0].startswith("/conv1/")
    assert {f"{trunk} + {kind}" for kind in ("BatchNormalization", "MatMul", "Mul", "ReduceMean")} <= set(rows)
    fp32, int8 = (predict(model, images).astype(float) for model in (net.fp32, net.int8))
    assert rows[trunk].sqnr_db == pytest.approx(10 * np.log10(np.mean(fp32**2) / np.mean((int8 - fp32) ** 2)))
    assert rows[trunk].rmse == pytest.approx(np.sqrt(np.mean((int8 - angles) ** 2)))
    assert max(row.sqnr_db for row in rows.values()) > rows[trunk].sqnr_db  # one convolution alone costs less


def test_percentile_clips_what_minmax_keeps(net):
    images = net.calibration[0][:16, None]
    minmax, percentile = (activation_ranges(net.fp32, images, method) for method in ("minmax", "percentile"))
    widths = [[float(np.ptp(np.hstack(r[name].range_value))) for name in minmax.keys()] for r in (minmax, percentile)]  # noqa: SIM118
    assert np.all(np.array(widths[1]) <= np.array(widths[0]) * 1.01)
    assert min(np.array(widths[1]) / np.maximum(widths[0], 1e-9)) < 0.99
    np.testing.assert_allclose(np.hstack(minmax["image"].range_value), [images.min(), images.max()])


@pytest.mark.parametrize(
    ("method", "images", "message"), [("max", 1, "minmax, percentile, entropy, got 'max'"), ("minmax", 0, "no frames")]
)
def test_calibration_says_what_it_needs(net, method, images, message):
    with pytest.raises(InputError, match=message):
        activation_ranges(net.fp32, net.images[:images, None], method)


# ---- the gate


def test_gate_passes_the_trained_net_and_reports_what_it_measured(net):
    report = run_gate(net.fp32, net.int8, net.images, net.angles, data="synthetic lanes")
    fp32, int8 = (predict(m, net.images).astype(float) for m in (net.fp32, net.int8))
    rmse_fp32, rmse = (np.sqrt(np.mean((y - net.angles) ** 2)) for y in (fp32, int8))
    sides = np.abs(fp32) > STEERED
    assert report.passed
    assert (report.precision, report.frames, report.data) == ("int8", 160, "synthetic lanes")
    assert report.rmse_fp32 == pytest.approx(rmse_fp32)
    assert report.rmse == pytest.approx(rmse)
    assert report.rmse_drop == pytest.approx(rmse / rmse_fp32 - 1)
    assert report.rmse_constant == pytest.approx(np.sqrt(np.mean((net.angles - net.angles.mean()) ** 2)))
    assert report.constant_ratio == pytest.approx(rmse / report.rmse_constant)
    assert report.sign_flips == pytest.approx(np.mean(np.sign(fp32[sides]) != np.sign(int8[sides])))
    assert report.max_deviation == pytest.approx(np.abs(int8 - fp32).max())
    assert report.mean_deviation == pytest.approx(np.abs(int8 - fp32).mean())
    assert report.rmse_drop_limit == 0.02


def test_gate_refuses_ruined_weights_and_names_the_worst_frames(net, edited):
    ruined = edited([128, 128, 3, 3], lambda w: np.roll(w, 1, axis=0), net.int8)
    worst = np.abs(predict(ruined, net.images) - predict(net.fp32, net.images)).argmax()
    names = [f"val/{i}.png" for i in range(len(net.images))]
    with pytest.raises(GateError) as refused:
        run_gate(net.fp32, ruined, net.images, net.angles, names=names)
    assert "rise of the RMSE over fp32: expected at most 0.02, got" in str(refused.value)
    assert f"Worst frames: val/{worst}.png: label {net.angles[worst]:+.3f}" in str(refused.value)


def test_gate_refuses_the_constant_predictor_although_quantisation_costs_it_nothing(net):
    constant = _constant(float(net.angles.mean()))
    with pytest.raises(
        GateError, match=r"share of the constant predictor's: expected at most 0\.5, got 1\."
    ) as refused:
        run_gate(constant, constant, net.images, net.angles, precision="fp32")
    assert "rise of the RMSE" not in str(refused.value)


def test_gate_refuses_a_net_that_steers_to_the_other_side(net, edited):
    mirrored = edited([3], lambda w: -w)  # the accumulation weights: every angle changes its sign
    with pytest.raises(GateError, match=r"not steered to the same side as fp32: expected at most 0\.005, got 1"):
        run_gate(net.fp32, mirrored, net.images, net.angles, precision="fp32")


def test_changed_signs_near_zero_do_not_count(net):
    small = net.images[np.abs(predict(net.fp32, net.images)) < STEERED]
    report = run_gate(net.fp32, net.int8, small, np.linspace(-1, 1, len(small)), limits=GateLimits(9, 0, 9, 9))
    assert len(small) > 2
    assert report.sign_flips == 0


def test_gate_refuses_qoperator(net, tmp_path):
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    from edgeflock.calibration.ranges import _Reader

    onnx.save(net.fp32, tmp_path / "fp32.onnx")
    quantize_static(
        tmp_path / "fp32.onnx",
        tmp_path / "qoperator.onnx",
        _Reader("image", net.calibration[0][:16, None]),
        quant_format=QuantFormat.QOperator,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
    )
    with pytest.raises(GateError, match=r"expected QuantizeLinear and DequantizeLinear only, got .*QLinearConv"):
        run_gate(net.fp32, onnx.load(tmp_path / "qoperator.onnx"), net.images[:20], net.angles[:20])


def test_gate_refuses_a_net_that_is_called_int8_but_is_not(net):
    with pytest.raises(GateError, match=r"expected every Conv in INT8, got float: .*conv1"):
        run_gate(net.fp32, net.fp32, net.images[:20], net.angles[:20])


def test_gate_refuses_calibration_with_the_lens_cap_on(net):
    dark = np.zeros_like(net.calibration[0])
    ranges = activation_ranges(net.fp32, dark[:, None], "minmax")
    with pytest.raises(GateError, match="rise of the RMSE"):
        run_gate(net.fp32, quantize(net.fp32, ranges), net.images, net.angles)


def test_gate_refuses_answers_that_are_no_numbers(net, edited):
    broken = edited([3], lambda w: w * np.nan)
    with pytest.raises(GateError, match="int8 answers nan to frame 0 and to 20 of 20 frames"):
        run_gate(net.fp32, broken, net.images[:20], net.angles[:20])


def test_every_failed_criterion_is_listed(net):
    limits = GateLimits(rmse_drop=-1, sign_flips=-1, constant_ratio=0, max_deviation=0)
    seen = []
    with pytest.raises(GateError) as refused:
        run_gate(net.fp32, net.int8, net.images, net.angles, limits=limits, observe=lambda *all: seen.append(all))
    for criterion in ("RMSE over fp32", "same side as fp32", "constant predictor's", "largest distance from fp32"):
        assert criterion in str(refused.value)
    [(report, fp32, int8)] = seen
    assert not report.passed
    assert report.max_deviation == np.abs(int8 - fp32).max()


@pytest.mark.parametrize(
    ("frames", "angles"), [(4, np.zeros(4)), (4, np.arange(3.0)), (1, np.ones(1)), (0, np.ones(0))]
)
def test_gate_says_what_frames_it_needs(net, frames, angles):
    with pytest.raises(InputError, match="the gate needs frames"):
        run_gate(net.fp32, net.fp32, net.images[:frames], angles, precision="fp32")


def _constant(angle):
    """A net with a convolution that answers one angle to everything."""
    tensors = {
        "w": np.zeros((1, 1, 1, 1)),
        "b": np.array([angle]),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "w", "b"], ["c"], "conv"),
            helper.make_node("GlobalAveragePool", ["c"], ["p"], "pool"),
            helper.make_node("Flatten", ["p"], ["steering"], "flatten"),
        ],
        "constant",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 200, 200])],
        [helper.make_tensor_value_info("steering", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()],
    )
    return finish(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
