"""The proof on digits: fewer epochs than the docs' table, the same verdict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from edgeflock.export.training.cli import train_app
from edgeflock.export.training.proofs import ldlva_digits
from edgeflock.export.training.proofs.ldlva_digits import METHODS, compare, load_digits, run_table, train_digits
from edgeflock.runtime.errors import InputError

pytest.importorskip("sklearn", reason="needs scikit-learn")
torch.set_num_threads(1)


def test_ldlva_beats_cross_entropy_and_finds_the_flipped_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldlva_digits, "LR", 4e-3)  # the wrong labels are learnt by heart in few epochs
    figures = compare(0.4, seed=0, aux="pca-8", epochs=12)
    assert figures["ldlva_accuracy"] > figures["ce_accuracy"] + 0.02
    assert figures["uncertainty_auc"] > 0.9


def test_splits_are_apart_and_flips_are_known() -> None:
    clean, noisy, other = load_digits(0, 1, "pca-2"), load_digits(0.4, 1, "pca-2"), load_digits(0, 2, "pca-2")
    assert len(clean.images) == 1078 and len(clean.test_images) == 719 and not clean.wrong.any()
    assert noisy.wrong.sum() == round(0.4 * 1078)
    assert np.array_equal(noisy.wrong, (noisy.labels != clean.labels).numpy())
    assert torch.equal(noisy.test_labels, clean.test_labels)
    assert not torch.equal(other.test_labels, clean.test_labels)
    assert noisy.space.shape == (1078, 2) and noisy.space.std(correction=0).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_figures(method: str) -> None:
    data = load_digits(0.2, 0, "pca-8")
    first, second = (train_digits(data, method, 5, epochs=1) for _ in range(2))
    assert first.accuracies == second.accuracies and first.accuracies[0] > 0.5
    assert (first.uncertainty is None) == (method != "ldlva")


def test_an_interrupted_table_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    train = ldlva_digits.train_digits

    def crashing(data, method, seed, epochs):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(method)
        return train(data, method, seed, epochs)

    monkeypatch.setattr(ldlva_digits, "train_digits", crashing)
    with pytest.raises(KeyboardInterrupt):
        run_table(tmp_path, [0], "pca-2", epochs=1)
    monkeypatch.setattr(ldlva_digits, "train_digits", train)
    arguments = ["ldlva-digits", "--table", str(tmp_path), "--seeds", "0", "--aux", "pca-2", "--epochs", "1"]
    result = CliRunner().invoke(train_app, arguments)
    assert result.exit_code == 0, result.output
    cells = json.loads((tmp_path / "results.json").read_text())["cells"]
    assert [cell["method"] for cell in cells[:3]] == done and len(cells) == 3 * len(METHODS)
    assert "flipped" in result.output and (tmp_path / "ldlva-digits.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(InputError, match="was made with epochs=1, not 2: name another folder"):
        run_table(tmp_path, [0], "pca-2", epochs=2)


def test_the_command_writes_exactly_three_figures(tmp_path: Path) -> None:
    path = tmp_path / "digits.json"
    arguments = ["ldlva-digits", "--noise", "0", "--epochs", "1", "--aux", "pca-2", "--json", str(path)]
    result = CliRunner().invoke(train_app, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads(path.read_text())
    assert list(figures) == ["ce_accuracy", "ldlva_accuracy", "uncertainty_auc"]
    assert figures["uncertainty_auc"] is None and 0.5 < figures["ldlva_accuracy"] < 1
    assert "0% flipped, seed 0: cross-entropy 0." in result.output


def test_noise_is_a_share() -> None:
    with pytest.raises(InputError, match="0 or more and below 1, got 1"):
        load_digits(1, 0, "pca-2")
    assert CliRunner().invoke(train_app, ["ldlva-digits", "--aux", "umap"]).exit_code == 2
    assert isinstance(
        CliRunner().invoke(train_app, ["ldlva-digits", "--table", "x", "--seeds", "a"]).exception, InputError
    )
