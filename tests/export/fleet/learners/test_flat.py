"""Averaged nets need averaged statistics: without, they answer like a constant."""

import numpy as np
import pytest
import torch
from torch import nn

from edgeflock.export.fleet.learners.flat import flat_layout, flat_model, load_flat, re_estimate
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.mixing.rules import Mixing
from edgeflock.runtime.fleet.plan.overlays import ring
from edgeflock.runtime.fleet.plan.schedule import Plan

SILOS = 4


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 16, 1),
    )


def frames(n, seed, silo):
    """Grey frames 16 x 16 of 0 to 1 with a bright lane; the answer is where it is. Every silo has its own light."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-0.5, 0.5, n)
    lane = np.exp(-((np.arange(16) - 7.5 - 14 * place[:, None]) ** 2) / 4)
    image = 60 + 8 * silo + (120 - 10 * silo) * lane[:, None, None, :] + rng.normal(0, 15, (n, 1, 16, 16))
    return torch.tensor(image.clip(0, 255) / 255, dtype=torch.float32), torch.tensor(place, dtype=torch.float32)[
        :, None
    ]


def rmse(model, held_out):
    model.eval()
    with torch.no_grad():
        return float(((model(held_out[0]) - held_out[1]) ** 2).mean().sqrt())


@pytest.fixture(scope="module")
def trained():
    """Nets of four silos after 60 rounds on a directed ring, statistics mixed too."""
    torch.set_num_threads(1)
    plan = Plan(tuple("abcd"), "ring", 1, ring(list(range(SILOS))), np.ones(SILOS, int), np.full(SILOS, 9.0))
    mixing, nets = Mixing(plan), [net() for _ in range(SILOS)]
    layout = flat_layout(nets[0])
    steps = [torch.optim.Adam(each.parameters(), 3e-3) for each in nets]
    for k in range(1, 61):
        for silo, (each, step) in enumerate(zip(nets, steps, strict=True)):
            each.train()
            images, places = frames(32, 100 * k + silo, silo)
            step.zero_grad()
            ((each(images) - places) ** 2).mean().backward()
            step.step()
        mixed = mixing.mix_all(k, {k: np.array([flat_model(each, layout) for each in nets])})
        for each, flat in zip(nets, mixed, strict=True):
            load_flat(each, layout, flat)
    return nets


@pytest.fixture(scope="module")
def held_out():
    images, places = zip(*(frames(100, 9000 + silo, silo) for silo in range(SILOS)), strict=True)
    return torch.cat(images), torch.cat(places)


def mean_of(nets, layout):
    return np.mean([flat_model(each, layout) for each in nets], axis=0, dtype=np.float32)


def test_averaging_parameters_without_buffers_evaluates_like_a_constant_and_ours_does_not(trained, held_out):
    constant = float(held_out[1].std(unbiased=False))

    authors = net(1)  # parameters only, into a new net: statistics (0, 1)
    with torch.no_grad():
        for own, *all_of_them in zip(authors.parameters(), *(each.parameters() for each in trained), strict=True):
            own.copy_(torch.stack(all_of_them).mean(dim=0))
    assert rmse(authors, held_out) == pytest.approx(constant, rel=0.1)

    ours = net(1)
    layout = flat_layout(ours)
    load_flat(ours, layout, mean_of(trained, layout))
    assert rmse(ours, held_out) < 0.4 * constant


def test_statistics_re_estimated_from_data_evaluate_as_well(trained, held_out):
    constant = float(held_out[1].std(unbiased=False))
    again = net(1)
    layout = flat_layout(again, "re-estimate")
    batches = [frames(100, 500 + silo, silo)[0] for silo in range(SILOS)]
    load_flat(again, layout, mean_of(trained, layout), batches)
    assert rmse(again, held_out) < 0.4 * constant
    assert not again.training and again[1].momentum == 0.1


def test_local_statistics_stay_and_a_new_net_without_them_is_refused(trained):
    layout = flat_layout(trained[0], "local")
    mean = mean_of(trained, layout)
    own = net(1)
    own.load_state_dict(trained[2].state_dict())
    load_flat(own, layout, mean)
    assert torch.equal(own[1].running_mean, trained[2][1].running_mean)
    assert np.array_equal(flat_model(own, layout), mean)
    with pytest.raises(InputError, match="no batch"):
        load_flat(net(1), layout, mean)


def test_re_estimated_statistics_are_those_of_the_data():
    plain = nn.Sequential(nn.BatchNorm2d(1))
    images = frames(64, 0, 2)[0]
    re_estimate(plain, [images[:32], images[32:]])
    assert float(plain[0].running_mean) == pytest.approx(float(images.mean()), rel=1e-5)
    assert float(plain[0].running_var) == pytest.approx(float(images.var()), rel=1e-2)


@pytest.mark.parametrize(("batches", "says"), [([], "no batch"), ([torch.full((4, 1, 16, 16), torch.nan)], "NaN")])
def test_statistics_of_nothing_are_refused(batches, says):
    with pytest.raises(InputError, match=says):
        re_estimate(net(), batches)
