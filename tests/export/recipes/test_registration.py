"""The registration recipe: what a pair is to the net, and when a candidate still registers like its original."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgeflock.export.datasets.volumes import Volume, VolumeDataset
from edgeflock.export.nets import NETS
from edgeflock.export.recipe import Samples
from edgeflock.export.recipes.limits import RegistrationLimits
from edgeflock.export.recipes.registration import judge, registration_recipe
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.volume import resample

SIZE = 24


def dataset(size=128, labels=True, names="abc"):
    rng = np.random.default_rng(len(names))
    image = rng.integers(0, 256, (size,) * 3, np.uint8)
    volumes = {
        name: Volume(np.roll(image, i, 0), np.roll(image // 200, i, 0) if labels else None)
        for i, name in enumerate(names)
    }
    return VolumeDataset(list(names), (1,), size, volumes.__getitem__)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    save_file(NETS["ldr"]().state_dict(), path)
    return path


def test_pairs_reach_the_net_as_bytes_and_it_scales_them_itself(weights):
    validation = dataset(names="ab")
    recipe = registration_recipe(weights, validation, None)
    assert (recipe.task, recipe.net, recipe.calibration) == ("registration", "ldr", None)
    assert recipe.validation.names == ["a <- b", "b <- a"]
    fixed, moving = (recipe.validation.feeds[name] for name in ("fixed", "moving"))
    assert fixed.shape == (2, 1, 128, 128, 128) and fixed.dtype == np.uint8
    np.testing.assert_array_equal(fixed[0, 0], validation[0].image)
    np.testing.assert_array_equal(moving[0, 0], validation[1].image)
    np.testing.assert_array_equal(recipe.validation.labels["moving"][0], validation[1].labels)

    net = NETS["ldr"]()
    net.load_state_dict(recipe.module.state_dict())
    cut = [torch.from_numpy(array[:1, :, :32, :32, :32]).float() for array in (fixed, moving)]
    with torch.no_grad():
        assert torch.allclose(recipe.module(*cut), net(*(volume / 255 for volume in cut)), atol=1e-6)


def test_as_many_pairs_as_asked_for(weights):
    assert len(registration_recipe(weights, dataset(), dataset(names="de"), pairs=4).validation) == 4


def test_other_weights_and_sizes_are_refused(weights, tmp_path):
    save_file(NETS["dronet"]().state_dict(), tmp_path / "dronet.safetensors")
    with pytest.raises(InputError, match="holds a dronet, expected one of ldr"):
        registration_recipe(tmp_path / "dronet.safetensors", dataset(32), None)
    with pytest.raises(InputError, match="holds a ldr, expected vtn-affine"):
        registration_recipe(weights, dataset(32), None, net="vtn-affine")
    with pytest.raises(InputError, match="sides of 32 voxels, which --size 128 does not divide"):
        registration_recipe(weights, dataset(32), None)


def test_a_head_that_interpolates_leaves_that_to_the_task(tmp_path):
    torch.manual_seed(0)
    net = NETS["ldr-diffeomorphic"]()
    torch.nn.init.normal_(net.flow.velocity.weight, std=0.01)
    save_file(net.state_dict(), tmp_path / "best.safetensors")
    recipe = registration_recipe(tmp_path / "best.safetensors", dataset(64, names="ab"), None, size=32)
    assert recipe.inputs[0].shape == (1, 1, 32, 32, 32) and recipe.outputs[0].shape == (1, 3, 16, 16, 16)
    assert recipe.validation.feeds["fixed"].shape == (2, 1, 32, 32, 32)
    pair = [torch.from_numpy(recipe.validation.feeds[name][:1]).float() for name in ("fixed", "moving")]
    with torch.no_grad():
        coarse, flow = recipe.module(*pair)[0].numpy(), net(*(image / 255 for image in pair))[0].numpy()
    np.testing.assert_allclose(resample(2 * coarse, (32, 32, 32)), flow, atol=1e-4)


# ---- the judge


@pytest.fixture(params=[True, False], ids=["Dice", "correlation"])
def pairs(request):
    """Balls that lie 4 voxels apart along the first axis, in a little noise."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices((SIZE,) * 3)
    feeds, labels = {}, {}
    for name, centre in (("fixed", 10), ("moving", 14)):
        ball = ((z - centre) ** 2 + (y - 12) ** 2 + (x - 12) ** 2 < 36).astype(np.uint8)
        image = (200 * ball + rng.integers(0, 20, ball.shape)).astype(np.uint8)
        feeds[name], labels[name] = np.stack([image[None]] * 3), np.stack([ball] * 3)
    return Samples(feeds, labels if request.param else {}, ["a", "b", "c"], "0" * 64)


def flows(*shifts):
    """A flow per pair: so many voxels along the first axis."""
    flow = np.zeros((3, 3, SIZE, SIZE, SIZE), np.float32)
    for i, shift in enumerate(shifts):
        flow[i, 0] = shift
    return {"flow": flow}


def verdict(pairs, fp32, candidate):
    return judge(fp32, candidate, pairs, RegistrationLimits(), (1,))


def test_the_same_answers_pass(pairs):
    judgement = verdict(pairs, flows(4, 4, 4), flows(4, 4, 4))
    assert judgement.passed and judgement.value == judgement.fp32 > 0.9
    assert judgement.metric == ("Dice" if pairs.labels else "correlation")
    assert 0 < judgement.constant < 0.7


def failed(judgement):
    return [criterion.name for criterion in judgement.criteria if not criterion.passed]


def test_worse_answers_fail_and_the_worst_pair_is_named(pairs):
    judgement = verdict(pairs, flows(4, 4, 4), flows(4, 3, 4))
    assert [name.rpartition(" ")[2] for name in failed(judgement)][:1] == ["fp32"]
    assert judgement.worst[0].startswith("b: ")


def test_folds_fail_although_the_labels_fit(pairs):
    folded = flows(4, 4, 4)
    folded["flow"][:, 1, :, ::2, :3] += 1.5  # rows change places where there is nothing but noise
    judgement = verdict(pairs, flows(4, 4, 4), folded)
    assert "share of folded voxels above fp32" in failed(judgement)
    folds = {criterion.name: criterion.value for criterion in judgement.criteria}["share of folded voxels above fp32"]
    assert 0.01 < folds < 0.2


def test_a_net_that_does_nothing_fails_although_it_loses_nothing(pairs):
    names = failed(verdict(pairs, flows(0, 0, 0), flows(0, 0, 0)))
    assert len(names) == 2 and names[0].startswith("part of fp32's gain") and names[1].endswith("over no registration")


def test_a_lost_gain_fails(pairs):
    names = failed(verdict(pairs, flows(4, 4, 4), flows(0, 0, 0)))
    assert len(names) == 3 and not any("folded" in name for name in names)
