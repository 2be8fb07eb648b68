"""How dances are learnt: kinematics, losses, negatives; and runs end to end on a few drawn dances."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("soundfile")

from typer.testing import CliRunner  # noqa: E402

from edgeflock.export.datasets.dances import open_dances  # noqa: E402
from edgeflock.export.datasets.synthetic.dances.verb import dances  # noqa: E402
from edgeflock.export.nets.gcd import GCD  # noqa: E402
from edgeflock.export.nets.gdancer import GDanceR  # noqa: E402
from edgeflock.export.training.config import GcdConfig, GdancerConfig  # noqa: E402
from edgeflock.export.training.methods import dance  # noqa: E402
from edgeflock.export.training.methods.kinematics import joints_of_rows  # noqa: E402
from edgeflock.runtime.commands.dance import dance_app  # noqa: E402
from edgeflock.runtime.errors import DataError, InputError  # noqa: E402
from edgeflock.runtime.motion.diffusion import alpha_bars  # noqa: E402
from edgeflock.runtime.motion.group import group_of_rows  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("dances") / "data"
    dances(out, train=4, val=2, seconds=5, dancers=2, seed=1)
    return out


@pytest.fixture(scope="module")
def data(folder):
    return open_dances(folder, "train"), open_dances(folder, "val")


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return GCD(width=16, layers=1, hidden=16, heads=2, music=52)


def test_drawn_dances_are_read_as_they_were_drawn_and_measured(folder, data):
    training, validation = data
    assert (len(training), len(validation), training.dancers, training.features) == (4, 2, 2, 52)
    assert training.describe()["synthetic"] and training.rows[0].shape == (2, 150, 151)
    result = CliRunner().invoke(
        dance_app, ["measure", str(folder), "--split", "val", "--json", str(folder.parent / "m.json")]
    )
    assert result.exit_code == 0 and "MMC above chance" in result.output and (folder.parent / "m.json").exists()
    with pytest.raises(InputError, match="is there already"):
        dances(folder, train=4, val=2, seconds=5, dancers=2, seed=1)


def test_dances_that_are_missing_are_told(folder, tmp_path):
    with pytest.raises(DataError, match="edgeflock dances"):
        open_dances(tmp_path, "train")
    with pytest.raises(DataError, match=r"test_split_sequence_names\.txt: no such file"):
        open_dances(folder, "test")


def test_joints_in_torch_are_those_in_numpy():
    rows = np.random.default_rng(0).normal(0, 1, (2, 5, 151))
    got = joints_of_rows(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(got, group_of_rows(rows).joints(), atol=1e-6)


def test_the_geometry_of_the_truth_costs_only_the_feet_that_slide_in_it(data):
    rows = torch.from_numpy(np.stack(data[0].rows[:2]))
    assert dance.geometry(rows, rows, GcdConfig(foot=0)) == 0
    assert 0 < dance.geometry(rows, rows, GcdConfig(foot=1)) < 1e-3


def test_equal_scores_cost_the_log_of_their_number():
    config = GcdConfig(negatives=5)
    cost = dance.nce_loss(
        lambda made, group, steps: made.new_zeros(len(made)), torch.zeros(3, 2, 4, 147), None, torch.zeros(3), config
    )
    assert cost == pytest.approx(math.log(6))


def test_a_negative_always_has_a_dancer_of_another_group():
    """Each dancer carries the number of its group; the released code may leave a group as it is."""
    seen = []
    made = torch.arange(4.0)[:, None, None, None].expand(4, 3, 2, 147)

    def scores(given, group, steps):
        seen.append(given[:, :, 0, 0])
        assert torch.equal(steps.float(), given[:, :, 0, 0])  # a swapped dancer keeps the step that it was denoised at
        return given.new_zeros(4)

    dance.nce_loss(scores, made, None, torch.arange(4), GcdConfig(negatives=20))
    own = torch.arange(4.0)[:, None]
    assert torch.equal(seen[0], own.expand(4, 3))
    swapped = [(one != own).sum(1) for one in seen[1:]]
    assert all((count >= 1).all() for count in swapped) and all((count == 3).all() for count in swapped[1::2])
    assert any((count < 3).any() for count in swapped[::2])


def test_the_loss_reaches_every_weight_of_denoiser_and_encoder(tiny, data):
    rows, music = (torch.from_numpy(np.stack(arrays[:2])) for arrays in (data[0].rows, data[0].music))
    encoder = dance.contrastive_for(tiny)
    left = torch.tensor(alpha_bars(), dtype=torch.float32)
    torch.manual_seed(0)
    config = GcdConfig(drop=0.5, negatives=1)
    sum(dance.gcd_loss(tiny, encoder, rows, music, left, config) for _ in range(3)).backward()
    idle = [name for net in (tiny, encoder) for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_gcd_and_gdancer_are_trained_to_the_end_and_kept(data, tmp_path, monkeypatch):
    monkeypatch.setattr(dance, "_JUDGED", 1)
    nets = {
        "gcd-small": lambda: GCD(width=16, layers=1, hidden=16, heads=2, music=52),
        "gdancer-small": lambda: GDanceR(music=52, pose=147, width=16, layers=1),
    }
    monkeypatch.setattr("edgeflock.export.training.loop.run.known_nets", lambda: nets)
    result = dance.train_gcd(GcdConfig(epochs=1, batch=2, negatives=1), *data, tmp_path / "gcd")
    assert result["synthetic"] and (tmp_path / "gcd" / "method.safetensors").exists()
    assert math.isfinite(result["figures"]["error"]) and result["figures"]["constant"] > 0
    result = dance.train_gdancer(GdancerConfig(epochs=1, batch=4), *data, tmp_path / "gdancer")
    assert math.isfinite(result["figures"]["distance"]) and result["figures"]["constant"] > 0
    with pytest.raises(InputError, match="trained otherwise: choose one of gdancer"):
        dance.train_gdancer(GdancerConfig(net="gcd-small", batch=4), *data, tmp_path / "other")


def test_a_net_for_other_music_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="takes 438 features of music"):
        dance.train_gdancer(GdancerConfig(net="gdancer", batch=4), *data, tmp_path)


def test_the_posts_settings_stand_below_what_is_given():
    config = GcdConfig(preset="post", batch=8)
    assert (config.net, config.lr, config.negatives, config.batch) == ("gcd", 1e-4, 10, 8)
