"""Each method's range is what its definition says, and what ONNX Runtime's calibrators give where they are sound."""

import contextlib
import io

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, create_calibrator

from edgeflock.calibration.histogram import Histogram
from edgeflock.calibration.ranges import activation_ranges, doubts, range_of
from edgeflock.runtime.errors import InputError

METHODS = ("minmax", "moving-average", "percentile", "entropy", "mse")


def histogram(*samples):
    made = Histogram()
    for sample in samples:
        made.add(np.asarray(sample, np.float32))
    return made


def squared_error(values, low, high, symmetric):
    """Of quantising for real."""
    if symmetric:
        step, zero, first, last = high / 127, 0, -127, 127
    else:
        low, high = min(low, 0), max(high, 0)
        step, first, last = (high - low) / 255, 0, 255
        zero = round(-low / step)
    return np.square((np.clip(np.rint(values / step) + zero, first, last) - zero) * step - values).mean()


@pytest.fixture(scope="module")
def spiky():
    """A bell with three values far out, as bright pixels give."""
    return np.concatenate([np.random.default_rng(1).normal(0, 1, 400_000), [30, 31, 32]]).astype(np.float32)


def test_minmax_is_what_was_seen():
    assert range_of(histogram([1, 5], [-2, 3]), "minmax") == (-2, 5)
    assert range_of(histogram([1, 5], [-2, 3]), "minmax", symmetric=True) == (-5, 5)


def test_moving_average_is_the_mean_of_the_samples_extremes():
    assert range_of(histogram([1, 5], [-2, 3], [-8, 1]), "moving-average") == (-3, 3)


def test_percentile_lets_a_hundred_thousandth_go(spiky):
    low, high = range_of(histogram(spiky), "percentile")
    assert low == spiky.min()
    assert (np.abs(spiky) > high).mean() <= 1e-5
    assert high < 7  # 4 of 400,003 may go, the three are among them
    assert (np.abs(spiky) > high - 2 * histogram(spiky).width).mean() > 0.5e-5


def test_percentile_of_few_values_lets_none_go():
    low, high = range_of(histogram([0.5, 1, 2, 64]), "percentile")
    assert (low, high) == (0.5, 64)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("shape", ["spiky", "relu", "skewed", "negative"])
def test_mse_has_the_least_error_of_all_methods(spiky, shape, symmetric):
    values = {
        "spiky": spiky,
        "relu": np.maximum(spiky, 0),
        "skewed": np.exp(spiky[:-3]) - 0.3,
        "negative": -np.abs(spiky),
    }[shape]
    made = histogram(values)
    error = {m: squared_error(values, *range_of(made, m, symmetric), symmetric) for m in METHODS}
    assert error["mse"] <= 1.001 * min(error.values()), error
    if shape != "skewed":
        assert error["mse"] < 0.9 * error["minmax"]


@pytest.mark.parametrize("symmetric", [False, True])
def test_entropy_drops_what_hardly_ever_comes_and_keeps_what_fills_its_range(spiky, symmetric):
    low, high = range_of(histogram(spiky), "entropy", symmetric)
    assert 2.5 < high < 8 and -8 < low < -2.5
    even = np.random.default_rng(0).uniform(-2, 2, 100_000)
    low, high = range_of(histogram(even), "entropy", symmetric)
    assert high > 1.95 and low < -1.95


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    "values", [[0, 0], [3, 3], [-3, -3], [5, 6, 5.5], [-6, -5], [1e-40, 0], [0, 3e38], [1e-3, 1e3]]
)
def test_every_range_lies_within_what_was_seen(method, symmetric, values):
    low, high = range_of(histogram(values), method, symmetric)
    ends = np.float32([min(values), max(values)])
    if symmetric:
        assert low == -high and 0 <= high <= np.abs(ends).max()
    else:
        assert ends[0] <= low <= high <= ends[1]


# ---- against ONNX Runtime


class Reader:
    def __init__(self, samples):
        self._samples = iter(samples)

    def get_next(self):
        sample = next(self._samples, None)
        return None if sample is None else {"x": sample[None]}


@pytest.fixture(scope="module")
def net_and_samples(small_net):
    """So many values that the percentile cuts some."""
    return small_net((1, 2, 32, 32), 3), np.random.default_rng(2).normal(0, 1, (256, 2, 32, 32)).astype(np.float32)


@pytest.mark.parametrize(
    ("method", "kind", "options", "tolerance"),
    [
        ("minmax", CalibrationMethod.MinMax, {}, 0),
        ("moving-average", CalibrationMethod.MinMax, {"moving_average": True}, 1e-6),
        ("percentile", CalibrationMethod.Percentile, {"percentile": 99.999}, 2e-3),  # a bin of either
    ],
)
def test_ranges_are_those_of_onnx_runtime(net_and_samples, tmp_path, method, kind, options, tolerance):
    net, samples = net_and_samples
    ours = activation_ranges(net, {"x": samples}, method, cache=tmp_path)
    onnx.save(net, tmp_path / "net.onnx")
    with contextlib.redirect_stdout(io.StringIO()):
        calibrator = create_calibrator(
            str(tmp_path / "net.onnx"),
            augmented_model_path=str(tmp_path / "observed.onnx"),
            calibrate_method=kind,
            extra_options=options,
        )
        calibrator.collect_data(Reader(samples))
        theirs = calibrator.compute_data()
    assert set(ours) == set(theirs) == {"x", "y", "conv0", "conv1", "conv2", "relu0", "relu1"}
    for name in ours:
        low, high = (end.item() for end in theirs[name].range_value)
        assert ours[name].range_value == pytest.approx((low, high), abs=tolerance * max(-low, high))


@pytest.mark.parametrize("method", METHODS)
def test_the_quantiser_takes_the_ranges(net_and_samples, tmp_path, method):
    net, samples = net_and_samples
    ranges = activation_ranges(net, {"x": samples}, method, cache=tmp_path)
    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(net),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv", "Relu"],
        extra_options={},
    )
    quantizer.quantize_model()
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in quantizer.model.model.graph.initializer}
    low, high = ranges["x"].range_value
    assert scales["x_scale"] == pytest.approx((high - low) / 255, rel=1e-6)


def test_an_unknown_method_is_refused(net_and_samples):
    with pytest.raises(InputError, match="one of minmax, moving-average, percentile, entropy, mse, got 'kl'"):
        activation_ranges(net_and_samples[0], {"x": net_and_samples[1]}, "kl")


# ---- samples that a net hardly gets


def test_real_samples_raise_no_doubt():
    assert doubts({"x": np.random.default_rng(0).integers(0, 256, (16, 1, 20, 20))}) == []


def test_few_empty_and_broken_samples_are_doubted():
    images = np.random.default_rng(0).integers(0, 256, (16, 1, 20, 20)).astype(np.float32)
    (few,) = doubts({"x": images[:4]})
    assert "input 'x' has 4 samples" in few
    (equal,) = doubts({"x": np.ones_like(images) * np.arange(16)[:, None, None, None]})
    assert "in 16 of 16 samples of input 'x' all values are equal" in equal
    images[5, 0, 3, 3] = 1e9
    (broken,) = doubts({"x": images})
    assert "has the value 1e+09" in broken and "number 5" in broken


def test_the_ranges_come_with_the_doubts(net_and_samples, tmp_path):
    net, samples = net_and_samples
    with pytest.warns(UserWarning, match="calibration: input 'x' has 2 samples"):
        activation_ranges(net, {"x": samples[:2]}, cache=tmp_path)
