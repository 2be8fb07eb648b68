"""Dancing to music with weights: what noise and order of dancers decide, gamma's sign, and the verb."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from edgeflock.export.dance import perform  # noqa: E402
from edgeflock.export.dance.perform import Diffusion, Wish, dance_to, pull  # noqa: E402
from edgeflock.export.dance.verb import perform as verb  # noqa: E402
from edgeflock.export.nets.gcd import GCD  # noqa: E402
from edgeflock.export.nets.gdancer import GDanceR  # noqa: E402
from edgeflock.export.training.loop.checkpoint import save_state  # noqa: E402
from edgeflock.export.training.methods.dance import contrastive_for  # noqa: E402
from edgeflock.runtime.errors import DataError, InputError  # noqa: E402
from edgeflock.runtime.motion.files import read_motion  # noqa: E402

MUSIC = np.random.default_rng(0).normal(0, 0.3, (240, 52)).astype(np.float32)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return GCD(width=16, layers=1, hidden=16, heads=2, music=52).eval()


@pytest.fixture
def weights(net, tmp_path, monkeypatch):
    """A folder as a training leaves it, of nets that are small enough for a test."""
    torch.manual_seed(1)
    gdancer = GDanceR(music=52, pose=147, width=16, layers=1, encoder_layers=1, heads=2).eval()
    known = {"gcd-small": net, "gdancer-small": gdancer}
    for name, one in known.items():
        save_state(tmp_path / f"{name}.safetensors", one.state_dict())
    save_state(tmp_path / "method.safetensors", contrastive_for(net).state_dict())
    monkeypatch.setattr(perform, "load_checkpoint", lambda path: (path.stem, known[path.stem]))
    return tmp_path


def test_the_noise_alone_decides_a_dance_and_it_is_as_long_as_the_music(net):
    rows = [Diffusion(net, None, Wish(2, steps=3, seed=seed))(MUSIC) for seed in (0, 0, 1)]
    assert rows[0].shape == (2, 240, 151)
    np.testing.assert_array_equal(rows[0], rows[1])
    assert np.abs(rows[0] - rows[2]).max() > 1e-3


def test_many_chunks_are_danced_as_few_at_once(net, monkeypatch):
    whole = Diffusion(net, None, Wish(1, steps=2))(MUSIC)
    monkeypatch.setattr(perform, "_AT_ONCE", 1)
    np.testing.assert_allclose(Diffusion(net, None, Wish(1, steps=2))(MUSIC), whole, atol=1e-4)


def test_guidance_of_one_asks_once_and_of_zero_does_not_hear_the_music(net):
    deaf = [Diffusion(net, None, Wish(1, guidance=0.0, steps=2))(np.zeros_like(MUSIC) + level) for level in (0, 0)]
    np.testing.assert_array_equal(*deaf)
    asked = []
    hook = net.register_forward_hook(lambda *_: asked.append(1))
    Diffusion(net, None, Wish(1, steps=2))(MUSIC[:150])
    Diffusion(net, None, Wish(1, guidance=2.0, steps=2))(MUSIC[:150])
    hook.remove()
    assert len(asked) == 2 + 4


def test_gamma_moves_towards_what_scores_high_and_away_from_it_when_negative():
    """A score whose peak is known: minus the squared distance from 1."""

    class Peak(nn.Module):
        def forward(self, motion, group, steps):
            return -(motion - 1).square().mean((1, 2, 3))

    clean = torch.zeros(2, 3, 4, 151)
    shift = pull(Peak(), clean, torch.zeros(2, 8), 900)
    assert (shift[..., :147] > 0).all() and (shift[..., 147:] == 0).all()
    assert shift[..., :147].square().mean().sqrt() == pytest.approx(perform.STRENGTH, rel=0.05)
    assert pull(Peak(), clean, torch.zeros(2, 8), 10).abs().max() < 0.01 * shift.max()  # little noise, little say


def test_gamma_asks_the_contrastive_encoder(net, weights):
    base = Wish(2, steps=2)
    neutral = Diffusion(net, None, base)(MUSIC[:150])
    encoder = contrastive_for(net).eval()
    ways = [Diffusion(net, encoder, Wish(2, gamma=gamma, steps=2))(MUSIC[:150]) - neutral for gamma in (1, -1)]
    assert (ways[0] * ways[1]).sum() < 0 < np.abs(ways[0]).max()
    (weights / "method.safetensors").unlink()
    with pytest.raises(DataError, match="gamma needs the contrastive encoder"):
        dance_to(weights / "gcd-small.safetensors", MUSIC, Wish(gamma=1))


@pytest.mark.parametrize("name", ["gcd-small", "gdancer-small"])
@pytest.mark.parametrize("dancers", [1, 10])
def test_any_number_of_dancers_dances(name, dancers, weights):
    group = dance_to(weights / f"{name}.safetensors", MUSIC[:60], Wish(dancers, steps=2))
    assert group.root.shape == (dancers, 60, 3)


def test_wishes_that_cannot_be_fulfilled_are_refused(weights):
    with pytest.raises(InputError, match="at least one dancer, got 0"):
        dance_to(weights / "gcd-small.safetensors", MUSIC, Wish(0))
    with pytest.raises(InputError, match="neither gamma nor guidance"):
        dance_to(weights / "gdancer-small.safetensors", MUSIC, Wish(gamma=1))
    with pytest.raises(InputError, match="takes 52 features"):
        dance_to(weights / "gcd-small.safetensors", MUSIC[:, :4], Wish())


@pytest.fixture
def song(tmp_path):
    """6 s of noise."""
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("matplotlib")
    soundfile.write(tmp_path / "music.flac", np.random.default_rng(0).normal(0, 0.1, 6 * 15360), 15360)
    return tmp_path / "music.flac"


def test_the_verb_writes_motion_bvh_report_and_picture(weights, song, capsys):
    out = weights / "dance"
    verb(song, out, weights / "gcd-small.safetensors", None, 2, 0.5, 1.0, 2, 2, 0)
    assert {path.name for path in out.iterdir()} == {
        "motion.npz",
        "dancer1.bvh",
        "dancer2.bvh",
        "report.json",
        "dance.png",
    }
    report = json.loads((out / "report.json").read_text())
    assert report["gamma"] == 0.5 and "synchrony" in report["figures"]
    assert len(read_motion(out / "motion.npz")) == 180
    assert "next: edgeflock dance perform" in capsys.readouterr().out


def test_the_verb_dances_with_a_bundle_in_few_steps(dance_bundle, song, tmp_path, capsys):
    verb(song, tmp_path / "dance", bundle=dance_bundle.path, dancers=2, key=[dance_bundle.key])
    report = json.loads((tmp_path / "dance/report.json").read_text())
    assert (report["steps"], report["order"]) == (8, 2)
    assert len(read_motion(tmp_path / "dance/motion.npz")) == 180
    assert f"--bundle {dance_bundle.path}" in capsys.readouterr().out.replace("\n", "")


def test_the_verb_needs_weights_or_a_bundle_which_has_no_gamma(dance_bundle, song, tmp_path):
    with pytest.raises(InputError, match=r"one of --weights .* and --bundle"):
        verb(song, tmp_path / "dance")
    with pytest.raises(InputError, match="neither gamma nor guidance: take --weights"):
        verb(song, tmp_path / "dance", bundle=dance_bundle.path, gamma=1.0)
