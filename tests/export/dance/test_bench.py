"""The table of a trained GCD on songs held out."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fixtures.dances import tiny_gcd  # noqa: E402

from edgeflock.export.dance.bench import bench  # noqa: E402
from edgeflock.export.training.loop import checkpoint  # noqa: E402
from edgeflock.export.training.loop.checkpoint import save_state  # noqa: E402
from edgeflock.export.training.methods.dance import contrastive_for  # noqa: E402
from edgeflock.runtime.audio.features import Music  # noqa: E402
from edgeflock.runtime.errors import DataError  # noqa: E402
from edgeflock.runtime.motion.files import write_motion  # noqa: E402
from edgeflock.runtime.motion.folder import FEATURES, MOTIONS, split_file, write_features  # noqa: E402
from edgeflock.runtime.motion.group import group_of_rows  # noqa: E402


def test_every_row_has_its_figures_and_the_drawn_dances_stand_first(tmp_path, monkeypatch, capsys):
    net, rng = tiny_gcd(), np.random.default_rng(0)
    save_state(tmp_path / "method.safetensors", contrastive_for(net).state_dict())
    for name in "ab":
        write_motion(tmp_path / "data" / MOTIONS / f"{name}.npz", group_of_rows(rng.normal(0, 1, (2, 150, 151))))
        music = Music(rng.normal(0, 0.3, (150, 52)).astype(np.float32), np.arange(0.2, 5, 0.5))
        write_features(tmp_path / "data" / FEATURES / f"{name}.npz", music)
    (tmp_path / "data" / split_file("val")).write_text("a b")
    monkeypatch.setattr(checkpoint, "load_checkpoint", lambda path: ("gcd-small", net))
    bench(tmp_path / "best.safetensors", tmp_path / "data", songs=1, seeds=2, json=tmp_path / "figures.json")
    found = json.loads((tmp_path / "figures.json").read_text())
    assert list(found)[:2] == ["drawn dances", "8 steps, music not told"] and "8 steps, gamma -1" in found
    assert all(np.isfinite(row["synchrony"]) for row in found.values())
    assert found["4 steps of DPM-Solver++"]["s of motion a CPU second"] > 0
    assert "50 steps of DDIM" in capsys.readouterr().out
    monkeypatch.setattr(checkpoint, "load_checkpoint", lambda path: ("gdancer-small", torch.nn.Linear(1, 1)))
    with pytest.raises(DataError, match="holds a gdancer-small, expected weights of `edgeflock train gcd`"):
        bench(tmp_path / "best.safetensors", tmp_path / "data")
