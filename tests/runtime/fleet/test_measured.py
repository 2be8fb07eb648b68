"""`edgeflock fleet delays`: from what robots measured to a network that plans are made of."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edgeflock.runtime.errors import DataError
from edgeflock.runtime.fleet.measured import Measured
from edgeflock.runtime.fleet.plan.network import open_network
from edgeflock.runtime.fleet.verbs import delays

DELAY = {"r1": {"r2": 3.0, "r3": 9.0}, "r2": {"r1": 2.9, "r3": 4.2}, "r3": {"r1": 9.1, "r2": 4.0}}
BANDWIDTH = {"r1": {"r2": 5e7}, "r2": {"r1": 4e7, "r3": 2e7}, "r3": {"r2": 3e7}}


def status(folder, name="status.json", time=1.0, delay=DELAY, bandwidth=BANDWIDTH):
    path = folder / name
    path.write_text(json.dumps({"time": time, "delays": {"delay_ms": delay, "bandwidth_bps": bandwidth}}))
    return path


def run(*words):
    app = typer.Typer()
    app.command()(delays)
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_one_robot_knows_the_whole_matrix_and_plan_reads_it(tmp_path):
    said = run(status(tmp_path), "--json", tmp_path / "delays.json")
    assert "9.00" in said and "50.0" in said and f"edgeflock fleet plan --network {tmp_path / 'delays.json'}" in said
    network = open_network(str(tmp_path / "delays.json"))
    assert network.silos == ("r1", "r2", "r3")
    np.testing.assert_allclose(network.latency_ms, [[0, 3, 9], [2.9, 0, 4.2], [9.1, 4.0, 0]])
    assert network.core_ms_per_bit[0, 1] == pytest.approx(1e3 / 5e7)


def test_a_pair_that_exchanges_no_models_is_as_fast_as_its_slower_end_and_that_is_said(tmp_path):
    found = Measured.of([status(tmp_path)])
    assert found.bandwidth_bps["r1", "r3"] == 2e7 and found.bandwidth_bps["r3", "r1"] == 3e7
    assert found.notes and "r1 to r3, r3 to r1: these exchange no models" in found.notes[0]
    none = Measured.of([status(tmp_path, bandwidth={})])
    assert none.bandwidth_bps == {} and "bandwidth_bps" not in json.loads(none.to_json())


def test_of_several_robots_the_later_counts(tmp_path):
    older = status(tmp_path, "a.json", 1.0)
    newer = status(tmp_path, "b.json", 2.0, {"r1": {"r2": 7.0}}, {})
    for files in ([older, newer], [newer, older]):
        assert Measured.of(files).delay_ms["r1", "r2"] == 7.0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no status of a robot"),
        ('{"time": 1}', "is no status of a robot"),
        ('{"time": 1, "delays": {"delay_ms": 3, "bandwidth_bps": {}}}', "its delays are broken"),
        ('{"time": 1, "delays": {"delay_ms": {"r1": {}}, "bandwidth_bps": {}}}', "not measured yet: any pair"),
        ('{"time": 1, "delays": {"delay_ms": {"r1": {"r2": 1.0}}, "bandwidth_bps": {}}}', "not measured yet: r2 to r1"),
    ],
)
def test_what_is_no_measurement_is_refused_with_the_way_out(tmp_path, content, said):
    (tmp_path / "status.json").write_text(content)
    with pytest.raises(DataError, match=said):
        Measured.of([tmp_path / "status.json"])
