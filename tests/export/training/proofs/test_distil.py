"""The comparison of the modes: its figures' closed forms, its verdict, and a table that goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from edgeflock.export.training.config import DistilTable
from edgeflock.export.training.proofs import distil
from edgeflock.export.training.proofs.distil import hausdorff95, run_table, show_table, verdict
from edgeflock.runtime.errors import InputError

torch.set_num_threads(1)


def test_hausdorff_distance_of_a_moved_cube_is_its_shift() -> None:
    one = np.zeros((16, 16, 16), np.uint8)
    one[4:8, 4:8, 4:8] = 3
    assert hausdorff95(one, one, (3,)) == 0
    assert hausdorff95(one, np.roll(one, 2, 0), (3,)) == pytest.approx(2)
    assert np.isnan(hausdorff95(one, np.zeros_like(one), (3,)))


def rows(mode: str, *dice: float) -> list[dict]:
    return [{"mode": mode, "seed": seed, "dice": value} for seed, value in enumerate(dice)]


def test_a_mode_helps_only_if_it_does_with_every_seed_and_by_more_than_chance() -> None:
    base = rows("none", 0.5, 0.6, 0.7)
    assert verdict(base + rows("mse", 0.52, 0.62, 0.72), "mse") == "+0.0200, better 3 of 3: helps"
    assert verdict(base + rows("mse", 0.6, 0.7, 0.69), "mse") == "+0.0633, better 2 of 3"
    assert verdict(base + rows("mse", 0.501, 0.601, 0.9), "mse") == "+0.0673, better 3 of 3"
    assert verdict(base, "none") == ""


def test_table_of_a_small_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = DistilTable(
        net="ldr", teacher="ldr", mode=("none", "mse"), seed=(0,), smoothness=(1.0,), size=16, bodies=2,
        steps=4, teacher_steps=4, pairs=1,
    )  # fmt: skip
    show_table(tmp_path, None, settings, Console(quiet=True))
    held = json.loads((tmp_path / "results.json").read_text())
    assert [row["mode"] for row in held["rows"]] == ["not registered", "teacher", "none", "mse"]
    assert held["smoothness"]["chosen"] == 1 and held["data"] == "phantoms (synthetic)"
    assert all(0 < row["dice"] < 1 and row["hd95"] > 0 for row in held["rows"])
    monkeypatch.setattr(distil, "EPOCHS", 2)
    with pytest.raises(InputError, match="belongs to a run with"):
        run_table(tmp_path, None, settings, Console(quiet=True))
