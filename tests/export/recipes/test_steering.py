"""The steering recipe: what a frame is to the net, and when a candidate still drives like its original."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.torch import save_file

from edgeflock.export.datasets import SteeringDataset
from edgeflock.export.recipe import Samples
from edgeflock.export.recipes.limits import SteeringLimits
from edgeflock.export.recipes.steering import STEERED, judge, steering_recipe
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.frame import crop_200


@pytest.fixture(scope="module")
def weights(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    save_file(trained.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def recordings(lanes):
    """Validation and training frames."""

    def data(count, seed):
        frames, angles = lanes(count, seed)
        return SteeringDataset(frames, angles, np.zeros(count, np.int32), ["lanes"], [f"{i}.png" for i in range(count)])

    return data(60, 21), data(50, 22)


def test_frames_reach_the_net_as_the_robot_prepares_them(weights, recordings):
    validation, calibration = recordings
    recipe = steering_recipe(weights, validation, calibration, calibration_frames=32)
    assert (recipe.net, recipe.task) == ("fadnet", "steering")
    images = recipe.validation.feeds["image"]
    assert images.shape == (60, 1, 200, 200) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[7, 0], crop_200(validation.frames[7]))
    assert len(recipe.calibration) == 32


def test_reference_frames_cover_left_straight_and_right(weights, recordings):
    validation, _ = recordings
    recipe = steering_recipe(weights, validation, None)
    angles = validation.angles[recipe.references]
    assert len(angles) == 16 and recipe.calibration is None
    assert min((angles > 0.1).sum(), (angles < -0.1).sum(), (np.abs(angles) < 0.1).sum()) >= 3


def test_weights_of_another_net_are_refused(weights, recordings):
    with pytest.raises(InputError, match="holds a fadnet, --net asks for dronet"):
        steering_recipe(weights, recordings[0], None, net="dronet")


def test_labels_that_never_change_cannot_be_judged(weights, recordings):
    straight = recordings[0].take(np.arange(5))
    straight.angles[:] = 0.1
    with pytest.raises(InputError, match="labels differ, at least 2; got 5 with one and the same label"):
        steering_recipe(weights, straight, None)


# ---- the judge


@pytest.fixture
def drive():
    """Labels, what fp32 answers to them, and a candidate a little off."""
    rng = np.random.default_rng(0)
    labels = rng.uniform(-0.4, 0.4, 200)
    fp32 = labels + rng.normal(0, 0.05, 200)
    return labels, fp32, fp32 + rng.normal(0, 0.004, 200)


def verdict(labels, fp32, candidate, limits=None):
    frames = Samples({}, {"angle": labels}, [f"val/{i}.png" for i in range(len(labels))], "")
    answers = [{"steering": np.asarray(angles)[:, None]} for angles in (fp32, candidate)]
    return judge(*answers, frames, limits or SteeringLimits())


def failed(judgement):
    return [criterion.name for criterion in judgement.criteria if not criterion.passed]


def test_it_reports_what_it_measured(drive):
    labels, fp32, candidate = drive
    rmse, rmse_fp32 = (np.sqrt(np.mean((y - labels) ** 2)) for y in (candidate, fp32))
    sides = np.abs(fp32) > STEERED
    judgement = verdict(*drive)
    assert judgement.passed
    assert (judgement.metric, judgement.unit) == ("RMSE", "rad")
    assert (judgement.value, judgement.fp32) == (pytest.approx(rmse), pytest.approx(rmse_fp32))
    assert judgement.constant == pytest.approx(np.sqrt(np.mean((labels - labels.mean()) ** 2)))
    rise, flips, ratio, deviation = (criterion.value for criterion in judgement.criteria)
    assert rise == pytest.approx(rmse / rmse_fp32 - 1)
    assert flips == pytest.approx(np.mean(np.sign(fp32[sides]) != np.sign(candidate[sides])))
    assert ratio == pytest.approx(rmse / judgement.constant)
    assert deviation == pytest.approx(np.abs(candidate - fp32).max())


def test_noise_beyond_the_limit_is_refused_and_the_worst_frames_are_named(drive):
    labels, fp32, _ = drive
    off = fp32.copy()
    off[17] += 0.3
    judgement = verdict(labels, fp32, off)
    assert "largest distance from fp32" in failed(judgement)
    assert judgement.worst[0] == f"val/17.png: label {labels[17]:+.3f}, fp32 {fp32[17]:+.3f}, got {off[17]:+.3f} rad"


def test_the_constant_predictor_is_refused_although_quantisation_costs_it_nothing(drive):
    labels, _, _ = drive
    constant = np.full_like(labels, labels.mean())
    assert failed(verdict(labels, constant, constant)) == ["RMSE as a share of the constant predictor's"]


def test_a_net_that_steers_to_the_other_side_is_refused(drive):
    labels, fp32, _ = drive
    assert any("same side" in name for name in failed(verdict(labels, fp32, -fp32)))


def test_changed_signs_near_zero_do_not_count():
    labels = np.linspace(-0.5, 0.5, 50)
    small = np.full(50, STEERED / 2)
    judgement = verdict(labels, small, -small, SteeringLimits(max_rise=9, max_flips=0, max_ratio=9, max_deviation=9))
    assert judgement.passed


def test_every_limit_can_be_set(drive):
    never = SteeringLimits.model_construct(max_rise=-1, max_flips=-1, max_ratio=0, max_deviation=0)
    assert len(failed(verdict(*drive, never))) == 4
