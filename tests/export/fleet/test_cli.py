"""`edgeflock fleet`."""

import json
import sys

import pytest
from quadratic import D, QuadraticTask
from typer.testing import CliRunner

from edgeflock.export.fleet.cli import fleet_app
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.fleet.plan.schedule import Plan

OVERLAYS = {"star", "mst", "delta_mbst", "ring", "multigraph", "matcha_underlay", "matcha_connectivity"}
TABLES = {"cycle_mean", "round_max", "event", "half_life_rounds", "bytes_per_round"}
ISSUE = [
    "--model-bits",
    4843243,
    "--compute-ms",
    4.6,
    "--t",
    5,
    "--access-bps",
    1e10,
    "--core-bps",
    1e9,
    "--local-steps",
    1,
]
SIMULATE = ["--network", "gaia", "--data", ".", "--val", ".", "--rounds", 6, "--evaluate", 3, "--workers", 1]


def run(*args):
    done = CliRunner().invoke(fleet_app, [str(a) for a in args])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def cycle_time(*args):
    return json.loads(run("cycle-time", *args, "--json", "-").stdout)


def test_the_json_has_every_measure_of_every_overlay():
    found = cycle_time("--network", "gaia", *ISSUE, "--tour", "christofides")
    assert set(found) >= TABLES and all(set(found[key]) == OVERLAYS for key in TABLES)
    published = {"star": 289.8, "mst": 77.2, "ring": 57.2, "multigraph": 15.7, "matcha_underlay": 166.4}
    for overlay, value in published.items():
        assert found["cycle_mean"][overlay] == pytest.approx(value, rel=0.01)
    assert found["bytes_per_round"]["ring"] == pytest.approx(11 * 4843243 / 8)


def test_matcha_can_be_left_out_and_the_table_printed():
    done = run("cycle-time", "--network", "gaia", "--no-matcha", "--paced-mesh")
    assert "multigraph" in done.stdout and "paced_mesh" in done.stdout and "matcha" not in done.stdout
    assert "…" not in done.stdout


def test_json_into_a_file_leaves_the_table(tmp_path):
    done = run("cycle-time", "--network", "gaia", "--no-matcha", "--json", tmp_path / "out.json")
    assert "star" in done.stdout
    assert set(json.loads((tmp_path / "out.json").read_text())["event"]) == OVERLAYS - {
        "matcha_underlay",
        "matcha_connectivity",
    }


def test_a_tour_file_holds_names_or_indices(tmp_path):
    order = [0, 10, 3, 4, 9, 7, 8, 6, 5, 2, 1]
    (tmp_path / "tour.json").write_text(json.dumps({"gaia": order}))
    by_index = cycle_time("--network", "gaia", "--no-matcha", "--tour", tmp_path / "tour.json")
    assert by_index["cycle_mean"]["ring"] == pytest.approx(57.2, rel=0.01)
    (tmp_path / "tour.json").write_text(json.dumps(["Virginia"]))
    with pytest.raises(DataError, match="each of its 11 silos once"):
        run("cycle-time", "--network", "gaia", "--no-matcha", "--tour", tmp_path / "tour.json")


def test_weather_changes_the_event_measure_only():
    calm = cycle_time("--network", "gaia", "--no-matcha")
    bad = cycle_time(
        "--network", "gaia", "--no-matcha", "--straggler", "Tokyo=9", "--jitter", "0.2", "--wifi-bps", "1e9"
    )
    assert bad["cycle_mean"] == calm["cycle_mean"]
    assert all(bad["event"][k] > calm["event"][k] for k in calm["event"])


def test_robots_bring_their_own_delays(tmp_path):
    path = tmp_path / "delays.json"
    path.write_text(json.dumps({"silos": ["r1", "r2", "r3"], "delay_ms": [[0, 3, 9], [3, 0, 30], [9, 30, 0]]}))
    found = cycle_time("--network", path, "--no-matcha", "--model-bits", 1e6, "--compute-ms", 100)
    assert found["cycle_mean"]["ring"] == pytest.approx(100 + (3 + 9 + 30) / 3 + 0.1)
    one = json.loads(run("plan", "--network", path, "--json", "-").stdout)
    path.write_text(json.dumps({"silos": ["r3", "r1", "r2"], "delay_ms": [[0, 9, 30], [9, 0, 3], [30, 3, 0]]}))
    assert json.loads(run("plan", "--network", path, "--json", "-").stdout)["hash"] == one["hash"]


@pytest.mark.parametrize("base", ["ring", "mst", "paced_mesh"])
def test_a_plan_is_printed_drawn_and_written(base, tmp_path):
    files = [tmp_path / "overlay.png", tmp_path / "states.png"]
    done = run("plan", "--network", "gaia", "--base", base, "--t", 3, "--picture", files[0], "--states", files[1])
    assert "isolated" in done.stdout and all(f.stat().st_size > 10000 for f in files)
    text = run("plan", "--network", "gaia", "--base", base, "--t", 3, "--json", "-").stdout
    assert Plan.from_json(text).hash in done.stdout


def test_the_cost_of_size_is_measured(tmp_path):
    done = run("scale", "--silos", 20, "--silos", 60, "--picture", tmp_path / "scale.png")
    assert "60" in done.stdout and (tmp_path / "scale.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--network", "nowhere"], "expected one of gaia"),
        (["--network", "gaia", "--core-bps", "fast"], "--core-bps"),
        (["--network", "gaia", "--straggler", "Tokyo"], "SILO=FACTOR"),
        (["--network", "gaia", "--straggler", "Tokyo=slow"], "SILO=FACTOR"),
        (["--network", "gaia", "--straggler", "Tokyo=inf"], "'Tokyo=inf': expected a factor above 0 and at most 1e"),
        (["--network", "gaia", "--straggler", "Tokyo=3", "--straggler", "Tokyo=5"], "'Tokyo=5': .*once per silo"),
        (["--network", "gaia", "--hub", "Paris"], "no silo 'Paris'"),
        (["--network", "gaia", "--model-bits", "0"], "model_bits is 0"),
        (["--network", "gaia", "--local-steps", "9" * 20], "local_steps is 1e.20: expected .* at most"),
        (["--network", "gaia", "--model-bits", "1e300"], "model_bits is 1e.300: expected .* at most"),
        (["--network", "random:99999999"], "expected 3 to 5000 silos in a random network, got 99999999"),
        (["--network", "gaia", "--seed", "3"], "no effect without --jitter: --seed"),
    ],
)
def test_bad_options_say_what_was_expected(args, said):
    with pytest.raises(InputError, match=said):
        run("cycle-time", "--no-matcha", *args)


@pytest.mark.parametrize(("option", "value"), [("--wifi-bps", 0), ("--wifi-bps", 1e-300), ("--jitter", 1e9)])
def test_a_disturbance_has_bounds_within_which_times_are_numbers(option, value):
    ended = CliRunner().invoke(fleet_app, ["cycle-time", "--network", "gaia", "--no-matcha", option, str(value)])
    assert ended.exit_code == 2 and option in ended.output


def test_a_tour_without_a_ring_is_refused():
    with pytest.raises(InputError, match="leave one of them out"):
        run("plan", "--network", "gaia", "--base", "mst", "--tour", "christofides")


@pytest.mark.parametrize("silos", [2, 3])
def test_the_smallest_fleets_work(silos, tmp_path):
    path = tmp_path / "delays.json"
    rows = [[0 if i == j else 5 + i + j for j in range(silos)] for i in range(silos)]
    path.write_text(json.dumps({"silos": [f"r{i}" for i in range(silos)], "delay_ms": rows}))
    found = cycle_time("--network", path, "--paced-mesh", "--model-bits", 1e6)
    assert set(found["event"]) == OVERLAYS | {"paced_mesh"}
    run("plan", "--network", path, "--picture", tmp_path / "a.png", "--states", tmp_path / "b.png")


@pytest.mark.parametrize("verb", ["cycle-time", "plan", "scale"])
def test_help_has_an_example(verb):
    assert "Example: edgeflock fleet" in run(verb, "--help").stdout


def test_influence_prints_a_share_for_every_silo_and_rule():
    done = run("influence", "--network", "gaia", "--t", 5)
    assert "Sao Paulo" in done.stdout and "push_sum" in done.stdout and "metropolis" not in done.stdout
    assert "learning that lasts" in done.stdout and "state 0" not in done.stdout and "…" not in done.stdout


def test_influence_as_json_of_the_rules_asked_for():
    args = (
        "influence",
        "--network",
        "gaia",
        "--base",
        "mst",
        "--rule",
        "authors",
        "--rule",
        "metropolis",
        "--json",
        "-",
    )
    found = json.loads(run(*args).stdout)
    assert list(found) == ["authors", "metropolis"]
    assert found["metropolis"]["least"] == pytest.approx(1) and found["authors"]["most"] > 1.2
    assert found["authors"]["influence"].keys() >= {"Tokyo", "Virginia"}


def test_influence_refuses_a_rule_that_does_not_fit_and_a_tour_of_a_tree():
    with pytest.raises(InputError, match="directed"):
        run("influence", "--network", "gaia", "--rule", "fdla")
    with pytest.raises(InputError, match="order a ring"):
        run("influence", "--network", "gaia", "--base", "mst", "--reverse")


@pytest.fixture
def point(monkeypatch):
    """`--task point`: a task of numpy alone."""
    monkeypatch.setattr("edgeflock.runtime.fleet.learner.learning_task", lambda name: QuadraticTask)


@pytest.mark.parametrize(
    "more", [["--mode", "sfl"], ["--mode", "cll"], ["--mode", "local"], ["--base", "mst", "--t", 3], ["--settle", 5]]
)
def test_a_fleet_learns(point, tmp_path, more):
    done = run("simulate", *SIMULATE, "--out", tmp_path, *more)
    assert "of the mean model" in done.stdout and "constant 1.0000" in done.stdout
    assert {"rounds.csv", "result.json", "average.safetensors", "curve.png"} <= {f.name for f in tmp_path.iterdir()}


def test_the_clock_is_that_of_the_schedule(point, tmp_path):
    def last(*args):
        run("simulate", *SIMULATE, "--out", tmp_path / "-".join(map(str, args)), *args, "--json", tmp_path / "f.json")
        return json.loads((tmp_path / "-".join(map(str, args)) / "result.json").read_text())["clock_ms"][-1]

    ring, multigraph, late = last("--t", 1), last("--t", 5), last("--t", 5, "--straggler", "Tokyo=50")
    assert multigraph < ring and multigraph < late


def test_a_plan_made_once_is_what_the_fleet_follows(point, tmp_path):
    file = tmp_path / "plan.json"
    run("plan", "--network", "gaia", "--t", 3, "--json", file)
    run("simulate", *SIMULATE, "--plan", file, "--out", tmp_path / "run")
    assert (
        json.loads((tmp_path / "run" / "result.json").read_text())["plan"]["hash"]
        == json.loads(file.read_text())["hash"]
    )


def test_a_run_is_not_lost_for_a_picture(point, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run("simulate", *SIMULATE, "--out", tmp_path)
    assert done.exit_code == 0 and "curve.png is not drawn" in done.stderr
    assert (tmp_path / "result.json").exists() and not (tmp_path / "curve.png").exists()


def test_a_fleet_follows_the_plan_that_plan_prints(point, tmp_path):
    run("simulate", *SIMULATE, "--t", 3, "--out", tmp_path)
    printed = json.loads(
        run("plan", "--network", "gaia", "--t", 3, "--model-bits", 32 * D, "--compute-ms", 4.9, "--json", "-").stdout
    )
    assert json.loads((tmp_path / "result.json").read_text())["plan"]["hash"] == printed["hash"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--mode", "sfl", "--base", "mst"], "no effect with --mode sfl, which has no overlay of peers: --base"),
        (["--mode", "local", "--rule", "half", "--settle", 2], "no effect with --mode local, .*: --rule, --settle"),
        (["--mode", "cll", "--straggler", "Tokyo=5"], "no effect with --mode cll, which has no clock: --straggler"),
        (["--model-bits", 0], "model_bits is 0"),
        (["--seed", -1], None),
    ],
)
def test_no_setting_is_dropped_in_silence(point, tmp_path, args, said):
    if said is None:
        assert run("simulate", *SIMULATE, "--out", tmp_path / "run", *args).exit_code == 2
    else:
        with pytest.raises(InputError, match=said):
            run("simulate", *SIMULATE, "--out", tmp_path / "run", *args)
    assert not (tmp_path / "run").exists()


def test_a_plan_of_other_silos_or_beside_an_overlay_is_refused(point, tmp_path):
    file = tmp_path / "plan.json"
    run("plan", "--network", "random:11", "--json", file)
    with pytest.raises(InputError, match=r"plan\.json is for other silos than gaia"):
        run("simulate", *SIMULATE, "--plan", file, "--out", tmp_path / "run")
    with pytest.raises(InputError, match=r"no effect with --plan, .*: --t"):
        run("simulate", *SIMULATE, "--plan", file, "--t", 3, "--out", tmp_path / "run")


@pytest.mark.parametrize("verb", ["cycle-time", "plan", "influence"])
def test_a_report_destroys_no_network_and_goes_into_folders_that_are_made(verb, tmp_path):
    net = tmp_path / "net.gml"
    net.write_text(
        "graph [ node [ id 0 ] node [ id 1 ] node [ id 2 ] edge [ source 0 target 1 latency 3 ] "
        "edge [ source 1 target 2 latency 3 ] ]"
    )
    before = net.read_bytes()
    with pytest.raises(InputError, match=r"net\.gml is read by this command"):
        run(verb, "--network", net, "--json", net)
    assert net.read_bytes() == before
    run(verb, "--network", net, "--json", tmp_path / "new" / "report.json")
    assert json.loads((tmp_path / "new" / "report.json").read_text())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file, expected a folder"):
        run(verb, "--network", net, "--json", tmp_path / "file" / "report.json")


def test_pictures_are_of_kinds_that_can_be_drawn_which_is_known_before(tmp_path):
    with pytest.raises(InputError, match=r"expected a picture that ends with \.png, .*plan\.xyz"):
        run("plan", "--network", "gaia", "--picture", tmp_path / "plan.xyz")
    run("plan", "--network", "gaia", "--picture", tmp_path / "new" / "plan.svg")
    assert "<svg" in (tmp_path / "new" / "plan.svg").read_text()


def test_what_reading_a_network_assumed_is_said_beside_the_report(tmp_path):
    net = tmp_path / "net.gml"
    net.write_text("graph [ node [ id 0 ] node [ id 1 ] edge [ source 0 target 1 ] edge [ source 1 target 0 ] ]")
    done = run("plan", "--network", net, "--json", "-")
    assert "every link is taken to be 100 km long" in done.stderr and "parallel links are one" in done.stderr
    assert json.loads(done.stdout)


def test_a_run_does_not_go_into_its_data_or_a_file(point, tmp_path):
    data = ["--data", tmp_path / "data", "--val", tmp_path / "val"]
    for name in ("data", "val"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="data is read by this command"):
        run("simulate", "--network", "gaia", *data, "--out", tmp_path / "data")
    with pytest.raises(InputError, match="expected a folder to write into, got the file"):
        run("simulate", "--network", "gaia", *data, "--out", tmp_path / "file")
    with pytest.raises(InputError, match="val is read by this command"):
        run("experiments", *data, "--out", tmp_path / "out", "--runs", tmp_path / "val")
    assert not list((tmp_path / "data").iterdir())


def test_simulate_says_what_is_there(tmp_path):
    refused = run("simulate", *SIMULATE, "--out", tmp_path, "--mode", "gossip")
    assert refused.exit_code == 2 and all(mode in refused.stderr for mode in ("cll", "sfl", "dfl", "local"))
    with pytest.raises(InputError, match="no learning task 'grasping': expected one of"):
        run("simulate", *SIMULATE, "--out", tmp_path, "--task", "grasping")
