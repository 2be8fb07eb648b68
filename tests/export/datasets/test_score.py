"""Whether a net fits a recording: its angles beside a constant, and beside a ridge regression fitted to it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeflock.export.datasets.base import SteeringDataset
from edgeflock.export.datasets.cli import data_app
from edgeflock.export.datasets.score import fit, score
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.mount import Mount, write_mount
from edgeflock.runtime.recording.dronet import DronetWriter

ANGLES = 0.2 * np.sin(np.arange(120) / 9)


def ramp(angle):
    """A frame whose brightness leans to the side that is steered to."""
    return np.tile(np.clip(120 - 300 * angle * np.linspace(-1, 1, 320), 0, 255).astype(np.uint8), (240, 1))


def recording(angles=ANGLES):
    frames = np.stack([ramp(angle) for angle in angles])
    names = [f"frame {n}" for n in range(len(angles))]
    return SteeringDataset(frames, np.float32(angles), np.zeros(len(angles), np.int32), ["drive"], names)


def policy(answer):
    """A net that answers frame after frame what `answer` makes of the wanted angle."""
    wanted = iter(ANGLES)
    return lambda frame, encoding: SimpleNamespace(angle=float(answer(next(wanted))))


def test_a_net_that_steers_half_as_hard_fits_and_the_gain_says_so():
    result = score(recording(), policy(lambda angle: angle / 2 + 0.01))
    assert (result.net.r, result.net.side) == (pytest.approx(1), pytest.approx(1, abs=0.05))
    assert (result.gain, result.bias) == (pytest.approx(2, abs=0.01), pytest.approx(-0.02, abs=0.002))
    assert result.fitted < 0.01 < result.net.rmse < result.constant
    assert result.fits and "steers 2.00 times as much" in result.verdict()


def test_a_net_that_steers_the_other_way_does_not_fit():
    result = score(recording(), policy(lambda angle: -angle))
    assert result.net.r == pytest.approx(-1) and result.net.side < 0.1 and result.net.rmse > result.constant
    assert not result.fits and "check the mount" in result.verdict()


def test_a_net_that_always_says_the_same_has_no_correlation():
    result = score(recording(), policy(lambda angle: 0.0))
    assert np.isnan(result.net.r) and result.net.rmse == pytest.approx(np.sqrt(np.mean(ANGLES**2)), abs=1e-6)
    assert "does not fit" in result.verdict()


def test_the_ridge_regression_finds_what_the_frames_hold_and_is_judged_on_frames_that_it_did_not_see():
    result = score(recording(), policy(lambda angle: 0.0))
    assert result.last_ridge.r > 0.99 and result.last_ridge.rmse < 0.2 * result.last_constant
    shuffled = recording()
    shuffled.frames = shuffled.frames[np.random.default_rng(0).permutation(len(shuffled))]
    assert score(shuffled, policy(lambda angle: 0.0)).last_ridge.r < 0.5


def test_the_side_is_judged_where_it_is_steered_and_the_worst_frames_are_apart():
    wanted = np.array([0.3, -0.3, 0.01, -0.01])
    assert fit(np.array([0.1, -0.1, -0.1, 0.1]), wanted).side == 1
    assert fit(np.array([0.1, 0.1, -0.1, 0.1]), np.array([0.3, 0.0, 0.0, -0.3])).side == 0.5, "0 is no side"
    result = score(recording(), policy(lambda angle: angle))
    object.__setattr__(result, "angles", ANGLES + np.where(np.arange(120) == 50, 0.3, 0))
    assert result.worst(ANGLES, 3)[0] == 50


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (recording(ANGLES[:20]), "at least 40 whole frames of 240x320, got 20"),
        (recording(np.full(60, 0.1)), "labels that differ, got 0.100 rad"),
    ],
)
def test_what_proves_nothing_is_refused(data, says):
    with pytest.raises(InputError, match=says):
        score(data, policy(lambda angle: angle))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drive") / "lane_1"
    with DronetWriter(folder, {"world": "ramp"}) as writer:
        for angle in ANGLES:
            writer.add(ramp(angle), float(angle), 1.0, 0.0, 0.0, 0.0)
    return folder


def run(*arguments):
    return CliRunner().invoke(data_app, [str(a) for a in arguments])


def test_the_command_scores_the_net_that_ships_through_a_mount(folder, tmp_path):
    pytest.importorskip("matplotlib")
    write_mount(tmp_path / "mount.yaml", Mount(height=0.3, pitch=0.2))
    worn = ("--mount", tmp_path / "mount.yaml", "--camera-fov", 60)
    done = run("score", folder, *worn, "--out", tmp_path / "score")
    assert done.exit_code == 0, (done.output, done.exception)
    written = json.loads((tmp_path / "score" / "score.json").read_text())
    assert written["frames"] == 120 and written["last_ridge"]["r"] > 0.9 and written["verdict"] in done.output
    assert "of it" in done.output and (tmp_path / "score" / "score.png").stat().st_size > 1000


def test_the_command_draws_a_recording(folder, tmp_path):
    pytest.importorskip("matplotlib")
    done = run("show", folder, "--out", tmp_path / "show.png")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "120 frames in 1 sequences" in done.output and (tmp_path / "show.png").stat().st_size > 1000


def test_a_mount_without_a_lens_is_refused(folder, tmp_path):
    assert "together with one of" in str(run("score", folder, "--mount", tmp_path / "mount.yaml").exception)
