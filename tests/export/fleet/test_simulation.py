"""A fleet that learns: the algorithm by hand, runs that survive a crash, errors that say what to do."""

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from quadratic import QuadraticTask, points
from safetensors.numpy import load_file

from edgeflock.export.fleet.config import SimulationConfig
from edgeflock.export.fleet.simulation import clock_of, simulate_learning
from edgeflock.export.fleet.workers import Processes, Silos, open_pool
from edgeflock.runtime.errors import DataError, EngineError, InputError
from edgeflock.runtime.fleet.mixing.rules import Mixing
from edgeflock.runtime.fleet.plan.overlays import both_ways, ring, star
from edgeflock.runtime.fleet.plan.schedule import Plan

SILOS = 5
ROSTER = tuple("ABCDE")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def pool():
    with Processes(2) as opened:
        yield opened


def plan_on(edges, periods=1, base="ring"):
    edges = np.asarray(edges)
    return Plan(ROSTER, base, 5, edges, np.broadcast_to(periods, len(edges)).astype(int), np.full(len(edges), 20.0))


RING = plan_on(ring([0, 1, 2, 3, 4]))
MULTIGRAPH = plan_on(ring([0, 1, 2, 3, 4]), [1, 3, 2, 1, 3])
MUTUAL = plan_on(both_ways(np.array([(0, 1), (1, 2), (2, 3), (3, 4)])), [1, 2, 1, 3] * 2, base="mst")
STAR = plan_on(star(SILOS), base="star")


def simulate(pool, out, plan=MULTIGRAPH, rounds=12, task=None, fresh=False, clock=None, **settings):
    config = SimulationConfig(mode="dfl" if plan is not None else "local", evaluate=4).model_copy(update=settings)
    task = task or QuadraticTask(silos=SILOS)
    return simulate_learning(task, config, plan, rounds, out, pool, fresh=fresh, clock_ms=clock)


def by_hand(plan, rounds, rule=None, steps=1):
    """DPASGD on the quadratic task, silo by silo: local steps, then mixing as `Mixing` has it for one silo."""
    task = QuadraticTask(silos=SILOS)
    learners, mixing = [task.learner(i) for i in range(SILOS)], Mixing(plan, rule)
    models, past = [task.start()] * SILOS, {}
    for k in range(1, rounds + 1):
        trained = []
        for learner, model in zip(learners, models, strict=True):
            learner.load(model)
            learner.train(k, steps)
            trained.append(learner.model())
        past[k] = trained
        models = []
        for i in range(SILOS):
            senders = mixing.senders(k, i)
            own = {r: past[r][i] for r in {k, *senders.values()}}
            models.append(mixing.mix(k, i, own, {j: past[r][j] for j, r in senders.items()}))
    return np.stack(models)


@pytest.mark.parametrize("plan", [RING, MULTIGRAPH, MUTUAL], ids=["ring", "multigraph", "mutual tree"])
def test_a_fleet_computes_dpasgd(pool, tmp_path, plan):
    result = simulate(pool, tmp_path, plan, local_steps=2)
    expected = by_hand(plan, 12, steps=2)
    assert load_file(tmp_path / "average.safetensors")["w"] == pytest.approx(expected.mean(axis=0), abs=1e-5)
    distances = np.linalg.norm(expected - points(SILOS).mean(axis=0), axis=1)
    assert result["rows"][-1]["robots"] == pytest.approx(distances, abs=1e-5)


def test_push_sum_adds_the_step_to_the_sums(pool, tmp_path):
    simulate(pool, tmp_path / "push_sum", RING, rule="push_sum")
    simulate(pool, tmp_path / "half", RING)  # on a plain ring both are (I + P) / 2
    ours, other = (load_file(tmp_path / name / "average.safetensors")["w"] for name in ("push_sum", "half"))
    assert ours == pytest.approx(other, abs=1e-5)


def test_a_server_gives_all_the_mean(pool, tmp_path):
    result = simulate(pool, tmp_path, STAR, mode="sfl")
    assert result["rows"][-1]["disagreement"] < 1e-6
    assert result["figures"]["trained"]["worst"] == result["figures"]["trained"]["average"]


def test_alone_every_silo_goes_to_its_own_point_and_together_to_the_middle(pool, tmp_path):
    quiet = QuadraticTask(silos=SILOS, lr=0.05)
    alone = simulate(pool, tmp_path / "alone", None, 300, quiet, evaluate=100)["figures"]["trained"]
    together = simulate(pool, tmp_path / "together", RING, 300, quiet, evaluate=100)["figures"]["trained"]
    own = np.linalg.norm(points(SILOS) - points(SILOS).mean(axis=0), axis=1)
    assert alone["robots_mean"] == pytest.approx(own.mean(), rel=0.1)
    assert together["robots_mean"] < alone["robots_mean"] / 3


def test_centralised_training_has_one_learner(pool, tmp_path):
    result = simulate(pool, tmp_path, None, mode="cll")
    assert result["clock_ms"] is None and len(result["rows"][-1]["robots"]) == 1


def test_settling_brings_the_silos_together_and_leaves_their_mean(pool, tmp_path):
    result = simulate(pool, tmp_path, MUTUAL, settle=40)
    trained, settled = (next(row for row in result["rows"] if row["round"] == k) for k in (12, 52))
    assert settled["disagreement"] < trained["disagreement"] / 10
    assert settled["average"] == pytest.approx(trained["average"], abs=1e-5)
    assert settled["loss"] is None


def test_workers_change_nothing(pool, tmp_path):
    two = simulate(pool, tmp_path / "two")
    with Processes(1) as alone:
        one = simulate(alone, tmp_path / "one")
    assert one["rows"] == two["rows"]


def test_ray_computes_the_same(pool, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(HERE))  # where Ray's workers find `quadratic`
    here = simulate(pool, tmp_path / "processes")
    with open_pool("ray", 2) as ray:
        there = simulate(ray, tmp_path / "ray")
        with pytest.raises(DataError, match="frame 7 is broken"):
            simulate(ray, tmp_path / "broken", task=QuadraticTask(silos=SILOS, fails="raises"))
        with pytest.raises(EngineError, match=r"worker on Ray ended.*goes on from the last checkpoint"):
            simulate(ray, tmp_path / "killed", task=QuadraticTask(silos=SILOS, fails="killed"))
    assert there["rows"] == here["rows"]


def test_the_log_has_a_line_per_round_and_the_clock(pool, tmp_path):
    clock = clock_of("dfl", MULTIGRAPH, 4.0, 12)
    simulate(pool, tmp_path, clock=clock)
    lines = list(csv.DictReader((tmp_path / "rounds.csv").open()))
    assert [int(line["round"]) for line in lines] == list(range(13))
    assert [float(line["clock_ms"]) for line in lines] == pytest.approx(clock, abs=1e-3)
    assert [bool(line["average_distance"]) for line in lines] == [k % 4 == 0 for k in range(13)]


def test_nothing_is_judged_by_statistics_that_nobody_has_trained(pool, tmp_path):
    result = simulate(pool, tmp_path, task=QuadraticTask(silos=SILOS, batch_norm="local"))
    assert "average" not in result["rows"][0] and "average" in result["rows"][4]


def test_clocks():
    assert clock_of("cll", None, 4.0, 10) is None
    assert clock_of("local", None, 4.0, 3).tolist() == [0, 4, 8, 12]
    assert clock_of("dfl", RING, 4.0, 100)[-1] / 100 == pytest.approx(20, rel=0.02)


KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
from quadratic import QuadraticTask
from edgeflock.export.fleet import simulation
from test_simulation import MULTIGRAPH, SimulationConfig, simulate
from edgeflock.export.fleet.workers import Processes
if __name__ == "__main__":
    simulation.CHECKPOINT_S = 0
    round_ = simulation._Simulation._round
    def dies(self, state, silos):
        if state.round == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
        round_(self, state, silos)
    simulation._Simulation._round = dies
    from pathlib import Path
    with Processes(2) as pool:
        print(*[process.pid for process, _ in pool._started], flush=True)
        simulate(pool, Path({out!r}))
"""


def test_a_killed_run_goes_on_as_if_nothing_had_happened(pool, tmp_path):
    whole = simulate(pool, tmp_path / "whole")
    script = tmp_path / "run.py"
    script.write_text(KILLED.format(here=str(HERE), at=7, out=str(tmp_path / "killed")))
    killed = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "result.json").exists()
    resumed = simulate(pool, tmp_path / "killed")
    assert resumed["rows"] == whole["rows"]
    ends = [(tmp_path / name / "average.safetensors").read_bytes() for name in ("killed", "whole")]
    assert ends[0] == ends[1]  # also for sha256sum
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(int(pid)) for pid in killed.stdout.split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(psutil.pid_exists(int(pid)) for pid in killed.stdout.split()), "workers outlived the run"


def test_more_rounds_go_on_from_the_end(pool, tmp_path):
    simulate(pool, tmp_path / "run", rounds=8)
    longer, whole = simulate(pool, tmp_path / "run", rounds=12), simulate(pool, tmp_path / "whole", rounds=12)
    assert longer["rows"][9:] == whole["rows"][9:]
    with pytest.raises(InputError, match=r"at round 12 of a run of 12, this one is of 8.*--fresh"):
        simulate(pool, tmp_path / "run", rounds=8)


def test_a_finished_run_is_not_run_again(pool, tmp_path):
    first = simulate(pool, tmp_path)
    (tmp_path / "checkpoint.safetensors").unlink()
    assert simulate(None, tmp_path) == json.loads(json.dumps(first))  # without an engine, so nothing can run


def test_a_finished_run_tells_the_time_by_the_clock_that_is_asked_for_now(pool, tmp_path):
    first = simulate(pool, tmp_path, clock=np.arange(13) * 10.0)
    again = simulate(None, tmp_path, clock=np.arange(13) * 1000.0)  # without an engine, so nothing can run
    assert first["clock_ms"][-1] == 120 and again["clock_ms"][-1] == 12000
    assert json.loads((tmp_path / "result.json").read_text()) == json.loads(json.dumps(again))
    assert again["figures"] == json.loads(json.dumps(first["figures"]))
    assert (tmp_path / "rounds.csv").read_text().splitlines()[-1].split(",")[1] == "12000.000"


def test_delays_change_the_clock_and_not_what_is_learnt(pool, tmp_path):
    slower = replace(MULTIGRAPH, delay_ms=MULTIGRAPH.delay_ms * 2)
    simulate(pool, tmp_path)
    assert slower.hash != MULTIGRAPH.hash
    assert simulate(None, tmp_path, slower, clock=np.arange(13.0))["plan"]["hash"] == slower.hash


def test_training_data_are_not_validation_data(pool, tmp_path, monkeypatch):
    described = QuadraticTask(silos=SILOS).describe()
    described["data"]["val"] = described["data"]["train"]
    monkeypatch.setattr(QuadraticTask, "describe", lambda self: described)
    with pytest.raises(InputError, match="training and validation data are the same"):
        simulate(pool, tmp_path)


def test_another_run_in_the_folder_is_refused_and_fresh_replaces_it(pool, tmp_path):
    simulate(pool, tmp_path)
    with pytest.raises(InputError, match=r"belongs to a run with lr=0\.2, this one has 0\.1.*--fresh"):
        simulate(pool, tmp_path, task=QuadraticTask(silos=SILOS, lr=0.1))
    with pytest.raises(InputError, match=r"belongs to a run with other content of plan\.edges"):
        simulate(pool, tmp_path, RING)
    with pytest.raises(InputError, match=r"with plan\.base='ring', this one has 'mst'"):
        simulate(pool, tmp_path, MUTUAL)
    simulate(pool, tmp_path, task=QuadraticTask(silos=SILOS, lr=0.1), fresh=True)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", None])
def test_a_broken_checkpoint_is_named(pool, tmp_path, content):
    simulate(pool, tmp_path)
    (tmp_path / "result.json").unlink()
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-100] if content is None else content)
    with pytest.raises(DataError, match=r"checkpoint\.safetensors.*--fresh"):
        simulate(pool, tmp_path)


def test_a_loss_that_is_nan_names_silo_and_round(pool, tmp_path):
    with pytest.raises(InputError, match=r"training broke at B in round 4: its loss is nan\. Start anew .* below 0\.2"):
        simulate(pool, tmp_path, task=QuadraticTask(silos=SILOS, fails="nan"))


def test_a_worker_that_dies_says_how_to_go_on(tmp_path):
    with Processes(2) as pool, pytest.raises(EngineError, match=r"exit code -9.*goes on from the last checkpoint"):
        simulate(pool, tmp_path, task=QuadraticTask(silos=SILOS, fails="killed"))


def test_what_a_silo_raises_comes_through(pool, tmp_path):
    with pytest.raises(DataError, match="frame 7 is broken"):
        simulate(pool, tmp_path, task=QuadraticTask(silos=SILOS, fails="raises"))
    assert Silos(QuadraticTask(silos=SILOS), pool).n == SILOS  # the workers are there for the next run


@pytest.mark.parametrize(
    ("plan", "settings", "message"),
    [
        (None, {"mode": "dfl"}, "needs a plan"),
        (RING, {"mode": "local"}, "has no plan"),
        (RING, {"mode": "sfl"}, "pass the plan of a star"),
        (RING, {"rule": "metropolis"}, "needs every edge both ways"),
        (RING, {"robust": "median:1"}, "needs 2 neighbours"),
        (RING, {"robust": "mode"}, "no robust rule 'mode'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_starts(tmp_path, plan, settings, message):
    with pytest.raises(InputError, match=message):
        simulate(None, tmp_path, plan, **settings)


def test_a_plan_of_another_fleet_is_refused(tmp_path):
    with pytest.raises(InputError, match="the plan is for 5 silos, the task deals its data to 4"):
        simulate(None, tmp_path, RING, task=QuadraticTask(silos=4))


def test_no_such_engine():
    with pytest.raises(InputError, match="expected one of processes, ray"):
        open_pool("slurm")
