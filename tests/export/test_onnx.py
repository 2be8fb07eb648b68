"""Torch to ONNX: the same net, in a form that old runtimes load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file
from torch import nn

from edgeflock.export.graph import PARITY, predict
from edgeflock.export.nets import NETS, STEERING_NETS
from edgeflock.export.onnx import check_parity
from edgeflock.export.onnx import export_onnx as export
from edgeflock.runtime.errors import InputError, ParityError

REFERENCE = Path(__file__).parents[2] / "../shared/reference/fadnet_released.safetensors"


def export_onnx(net: nn.Module) -> onnx.ModelProto:
    """As the steering recipe exports it."""
    return export(net, {"image": (1, 1, 200, 200)}, ["steering"])


def feeds(images: np.ndarray) -> dict[str, np.ndarray]:
    return {"image": images[:, None]}


def started(name: str) -> nn.Module:
    """A net whose BatchNorms have seen data, so that folding them wrongly shows."""
    torch.manual_seed(0)
    net = NETS[name]()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(0, 0.5)
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 2)
    return net


@pytest.fixture(scope="module")
def exported():
    """Each net and its graph, made once."""
    made: dict[str, tuple[nn.Module, onnx.ModelProto]] = {}

    def get(name: str) -> tuple[nn.Module, onnx.ModelProto]:
        if name not in made:
            net = started(name)
            made[name] = net, export_onnx(net)
        return made[name]

    return get


@pytest.mark.parametrize("name", STEERING_NETS)
def test_onnx_answers_like_torch(exported, crops, name):
    assert check_parity(*exported(name), feeds(crops(8, seed=0)[0])) <= PARITY


@pytest.mark.parametrize("name", STEERING_NETS)
def test_graph_loads_on_old_boards(exported, name):
    _, model = exported(name)
    assert model.ir_version == 8
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("name", STEERING_NETS)
def test_one_image_in_one_angle_out(exported, name):
    _, model = exported(name)
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"image": [1, 1, 200, 200], "steering": [1, 1]}
    assert model.producer_name == "edgeflock"


@pytest.mark.parametrize("name", [name for name in STEERING_NETS if name != "mobilenet-v2"])
def test_same_padding_is_part_of_the_convolutions(exported, name):
    _, model = exported(name)
    assert "Pad" not in {node.op_type for node in model.graph.node}
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    pads = next(list(a.ints) for a in first.attribute if a.name == "pads")
    assert pads == [1, 1, 2, 2]  # top, left, bottom, right of a 5x5 kernel with stride 2


def test_the_same_weights_give_the_same_bytes(exported):
    net, model = exported("fadnet")
    again = NETS["fadnet"]()
    again.load_state_dict(net.state_dict())
    assert export_onnx(again).SerializeToString() == model.SerializeToString()


def test_nothing_of_the_exporting_machine_is_in_the_file(exported):
    content = exported("fadnet")[1].SerializeToString()
    assert b".py" not in content
    assert str(Path.cwd()).encode() not in content


def test_export_leaves_the_mode_of_the_net(exported):
    net = started("dronet").train()
    model = export_onnx(net)
    assert net.training
    assert model.SerializeToString() == exported("dronet")[1].SerializeToString()


def test_released_weights_answer_as_published():
    if not REFERENCE.exists():
        pytest.skip("the reference vectors are not on this machine")
    published = load_file(REFERENCE)
    net = NETS["fadnet-released"]()
    net.load_state_dict(
        {k.removeprefix("param."): v for k, v in published.items() if k.startswith("param.")}, strict=False
    )
    answers, expected = predict(export_onnx(net), {"image": published["x"].numpy()})["steering"], published["y"].numpy()
    np.testing.assert_array_less(np.abs(answers - expected), 1e-5 * np.maximum(1, np.abs(expected)))


def test_norm_is_exact_where_one_sum_over_all_pixels_is_not():
    """A dark room with one bright strip: ONNX Runtime's own InstanceNormalization is off by 5e-5 there."""
    dark = np.full((1, 200, 200), 3, np.uint8)
    dark[:, 100:103] = 255
    brightest = nn.Sequential(nn.GroupNorm(1, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    assert check_parity(brightest, export_onnx(brightest), feeds(dark)) < 5e-6


def test_padding_on_the_wrong_side_is_caught(exported, crops):
    net, model = exported("dronet")
    shifted = onnx.ModelProto()
    shifted.CopyFrom(model)
    first = next(node for node in shifted.graph.node if node.op_type == "Conv")
    next(a for a in first.attribute if a.name == "pads").ints[:] = [2, 2, 1, 1]
    with pytest.raises(ParityError, match="not the same net"):
        check_parity(net, shifted, feeds(crops(4, seed=0)[0]))


def test_parity_error_names_the_worst_frame_and_both_answers(exported, crops):
    net, model = exported("fadnet")
    images, _ = crops(5, seed=0)
    other = onnx.ModelProto()
    other.CopyFrom(model)
    weight = next(i for i in other.graph.initializer if i.dims == [128, 128, 3, 3])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.05), weight.name))
    with torch.inference_mode():
        expected = net.eval()(torch.from_numpy(images[:, None]).float()).numpy()
    error = np.abs(expected - predict(other, feeds(images))["steering"])
    names = [f"val/{i}.png" for i in range(5)]
    with pytest.raises(ParityError, match=rf"sample val/{error.argmax()}\.png torch gives steering .*, ONNX .* 1e-05"):
        check_parity(net, other, feeds(images), names)


def test_weights_that_are_no_numbers_are_caught(crops):
    net = started("dronet")
    net.fc.bias.data.fill_(torch.nan)
    with pytest.raises(ParityError, match="nan"):
        check_parity(net, export_onnx(net), feeds(crops(2, seed=0)[0]))


class TwoByTwo(nn.Module):
    """Two inputs, two outputs, one of them the difference: an exchanged pair shows."""

    def forward(self, face: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return face.mean((2, 3)), face.amax((2, 3)) - context.amax((2, 3))


def test_several_inputs_and_outputs_keep_their_order():
    net, rng = TwoByTwo(), np.random.default_rng(0)
    model = export(net, {"face": (1, 3, 8, 8), "context": (1, 3, 4, 4)}, ["mean", "contrast"])
    given = {"face": rng.random((5, 3, 8, 8), np.float32), "context": rng.random((5, 3, 4, 4), np.float32)}
    assert check_parity(net, model, given) <= PARITY
    answers = predict(model, given)
    np.testing.assert_allclose(answers["contrast"], given["face"].max((2, 3)) - given["context"].max((2, 3)), atol=1e-6)
    assert list(answers) == ["mean", "contrast"]


def test_parity_needs_frames(exported):
    with pytest.raises(InputError, match="at least one"):
        check_parity(*exported("dronet"), feeds(np.empty((0, 200, 200), np.uint8)))


class Stepped(nn.Module):
    """Adds a learned row for the step to a vector: a float and an integer input, as a diffusion net has them."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Embedding(10, 4)

    def forward(self, x, step):
        return torch.relu(x + self.rows(step))


def test_a_net_with_an_integer_input_becomes_onnx_is_proved_observed_and_halved():
    from edgeflock.calibration.observe import observe
    from edgeflock.export.quantise.fp16 import to_fp16

    net = Stepped()
    model = export(net, {"x": (1, 4), "step": (1,)}, ["y"], {"step": "int64"})
    feeds = {"x": np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4), "step": np.array([0, 1, 2, 7, 8, 9])}
    assert check_parity(net, model, feeds) < 1e-6
    exact = predict(model, feeds)["y"]
    assert np.abs(predict(to_fp16(model), feeds)["y"] - exact).max() < 1e-2
    seen = observe(model, feeds)
    assert "step" not in seen and seen["y"].samples == 6
