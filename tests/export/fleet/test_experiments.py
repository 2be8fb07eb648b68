"""The posts' experiments: every arm with every seed, tables from the runs, pictures."""

import json

import numpy as np
import pytest
from quadratic import QuadraticTask

from edgeflock.export.fleet import experiments
from edgeflock.export.fleet.config import ExperimentSettings
from edgeflock.export.fleet.experiments import (
    LONGER,
    Arm,
    all_arms,
    clock_arms,
    clock_table,
    nets_arms,
    run_experiments,
    write_report,
)
from edgeflock.export.fleet.workers import Processes

SETTINGS = ExperimentSettings(rounds=10, seeds=2, evaluate=2, settle=3)


@pytest.fixture(scope="module")
def pool():
    with Processes(1) as opened:
        yield opened


@pytest.fixture(scope="module")
def results(pool, tmp_path_factory):
    return run_experiments(QuadraticTask, SETTINGS, tmp_path_factory.mktemp("runs"), pool)


def test_the_arms_are_those_of_the_posts():
    nets = {(arm.net, arm.network, arm.mode) for arm in nets_arms()}
    assert nets == {(n, w, m) for n in ("fadnet", "dronet") for w in ("gaia", "amazon") for m in ("cll", "sfl", "dfl")}
    names = [arm.name for arm in clock_arms()]
    assert names == ["STAR", "RING", "MULTIGRAPH t=3", "MULTIGRAPH t=5", "paced mesh t=5"]
    assert len({arm.folder for arm in all_arms()}) == len(all_arms())


def test_every_arm_runs_with_every_seed_on_its_network(results):
    for arm, runs in results.items():
        assert [run["identity"]["seed"] for run in runs] == [0, 1]
        assert {run["identity"]["silos"] for run in runs} == {{"gaia": 11, "amazon": 22}[arm.network]}
        assert {run["rounds"] for run in runs} == {10 * (LONGER if arm.t > 1 else 1)}


def test_schedules_are_compared_at_equal_rounds_and_at_equal_time(results):
    table = {row["schedule"]: row for row in clock_table(results, SETTINGS.rounds)}
    [budget] = {key for key in table["RING"] if key.startswith("within_")}
    seconds = float(budget.split("_")[1])
    for arm in clock_arms():
        row, run = table[arm.name], results[arm][0]
        at = row[budget]["rounds"]
        assert run["clock_ms"][at] / 1e3 <= seconds + 0.01
        assert at == run["rounds"] or run["clock_ms"][at + 2] / 1e3 > seconds - 0.01
        value = next(r["average"] for r in run["rows"] if r["round"] == 10)
        other = next(r["average"] for r in results[arm][1]["rows"] if r["round"] == 10)
        assert row["after_10_rounds"]["mean"] == pytest.approx(np.mean([value, other]), abs=1e-4)
    assert table["MULTIGRAPH t=5"]["ms_per_round"] < table["RING"]["ms_per_round"] < table["STAR"]["ms_per_round"]


def test_what_is_done_is_not_done_again(pool, tmp_path, monkeypatch):
    arm = Arm("fadnet", "gaia", "dfl", "ring")
    monkeypatch.setattr(experiments, "all_arms", lambda: [arm])
    first = run_experiments(QuadraticTask, SETTINGS, tmp_path, pool)
    names = []
    again = run_experiments(QuadraticTask, SETTINGS, tmp_path, None, on_run=lambda name, done, of: names.append(name))
    assert again[arm] == json.loads(json.dumps(first[arm]))
    assert names == ["fadnet-gaia-dfl-ring-t1, seed 0", "fadnet-gaia-dfl-ring-t1, seed 1"]
    assert not list(tmp_path.rglob("checkpoint.safetensors"))


def test_the_report_says_what_was_run_and_has_tables_and_pictures(results, tmp_path):
    for runs in results.values():
        for run in runs:
            run["data"] = {split: {"frames": 12, "sha256": ""} for split in ("train", "val")}
            run["figures"]["baselines"] = {"constant": 1.0, "random": 2.0}
    page = write_report(results, SETTINGS, tmp_path, "edgeflock fleet experiments").read_text()
    assert "Synthetic data: 12 rendered frames" in page and "2 seeds" in page and "Constant 1.0000" in page
    assert "| net | network | CLL | SFL | DFL (ring) |" in page and "| MULTIGRAPH t=5 |" in page
    assert {file.name for file in tmp_path.glob("*.png")} == {"clock.png", "nets.png", "robots.png"}
    content = json.loads((tmp_path / "experiments.json").read_text())
    assert content["settings"]["rounds"] == 10 and len(content["nets"]) == 12
    assert [row["way"] for row in content["robots"]][-1] == "local only"
