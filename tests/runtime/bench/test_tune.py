"""`edgeflock tune`: what answers right is timed side by side, and the fastest, or as fast and simpler, is chosen."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edgeflock.runtime.bench import tune
from edgeflock.runtime.bench.tune import Candidate, choose
from edgeflock.runtime.board import profile
from edgeflock.runtime.bundle.bundle import Bundle
from edgeflock.runtime.engines import engine_problems
from edgeflock.runtime.errors import EngineError, InputError

OPENVINO = pytest.mark.skipif(bool(engine_problems()["openvino"]), reason=str(engine_problems()["openvino"]))


ORT, OV = "onnxruntime-cpu", "openvino"


def candidate(engine, precision, threads, *rounds):
    return Candidate(engine, precision, threads, times_ms=[np.full(5, ms) for ms in rounds])


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ([(OV, "int8", 1, 0.5, 0.5, 0.5, 0.5)], f"{OV} int8, 1 thread"),
        ([(OV, "int8", 1, 0.98, 0.97, 0.99, 0.98)], f"{ORT} int8, 1 thread"),
        ([(OV, "int8", 1, 0.2, 1.4, 0.3, 1.3)], f"{ORT} int8, 1 thread"),
        ([(ORT, "int8", 2, 0.99, 0.97, 0.96, 0.98)], f"{ORT} int8, 1 thread"),
        ([(ORT, "fp32", 1, 1.01, 1.02, 1.01, 1.0)], f"{ORT} fp32, 1 thread"),
        ([(OV, "int8", 2, *[0.4] * 4), (OV, "int8", 1, *[0.41] * 4)], f"{OV} int8, 1 thread"),
    ],
    ids=["clearly faster", "2 % only", "noise", "more threads", "quantised", "tie of two that are faster"],
)
def test_the_fastest_is_chosen_unless_a_simpler_one_cannot_be_told_from_it(others, chosen):
    every = [candidate(ORT, "int8", 1, 1.0, 1.0, 1.0, 1.0), *(candidate(*other) for other in others)]
    best, why = choose(every)
    assert str(best) == chosen
    assert ("within noise" in why) == (best.p50 > min(c.p50 for c in every))


def test_where_nothing_runs_the_reasons_are_given():
    refused = [Candidate("tensorrt", "fp16", 1, "no GPU"), Candidate("openvino", "int8", 1, "wrong answers")]
    with pytest.raises(EngineError, match="tensorrt fp16, 1 thread: no GPU; openvino int8, 1 thread: wrong answers"):
        choose(refused)


@pytest.fixture
def opened(bundle, key):
    return Bundle.open(bundle, [key.with_suffix(".pub")])


def test_everything_usable_here_is_measured_in_rounds_and_the_rest_has_a_reason(opened):
    shares = []
    found = tune.tune(opened, threads=[1], seconds=0.02, on_progress=shares.append)
    measured = [c for c in found if c.times_ms]
    usable = {name for name, problem in engine_problems().items() if problem is None}
    assert {c.engine for c in measured} == usable & {"onnxruntime-cpu", "openvino"}
    assert {c.precision for c in measured if c.engine == "onnxruntime-cpu"} == {"fp32", "int8"}
    assert all(len(c.times_ms) == tune.ROUNDS and c.p50 <= c.p99 and c.deviation is not None for c in measured)
    assert [c.p50 for c in measured] == sorted(c.p50 for c in measured)
    assert all(c.refused == engine_problems()[c.engine] for c in found if not c.times_ms)
    assert shares == sorted(shares) and shares[-1] == 1


def test_the_options_narrow_what_is_measured(opened):
    found = tune.tune(opened, ["onnxruntime-cpu"], ["fp32"], [1, 2], seconds=0.01)
    assert sorted(map(str, found)) == ["onnxruntime-cpu fp32, 1 thread", "onnxruntime-cpu fp32, 2 threads"]


def test_a_paced_measurement_takes_its_time(opened):
    import time

    start = time.perf_counter()
    (found,) = tune.tune(opened, ["onnxruntime-cpu"], ["fp32"], [1], seconds=0.12, hz=100)
    assert sum(map(len, found.times_ms)) == tune.ROUNDS and time.perf_counter() - start > tune.ROUNDS / 100


def test_a_cpu_without_vnni_is_never_given_int8(opened, monkeypatch):
    monkeypatch.setattr("edgeflock.runtime.engines.onnxruntime.lacks_vnni", lambda *_: True)
    found = tune.tune(opened, ["onnxruntime-cpu"], threads=[1], seconds=0.01)
    assert {c.precision: "no VNNI" in c.refused for c in found} == {"fp32": False, "int8": True}
    assert choose(found)[0].precision == "fp32"


@OPENVINO
def test_an_engine_that_answers_wrongly_is_refused_and_not_chosen(opened, monkeypatch):
    from edgeflock.runtime.engines.openvino import OpenVinoEngine

    def wrong(self):
        run(self)
        self._bound[1]["steering"] += 0.5

    run = OpenVinoEngine.run
    monkeypatch.setattr(OpenVinoEngine, "run", wrong)
    found = tune.tune(opened, threads=[1], seconds=0.01)
    refused = [c for c in found if c.engine == "openvino"]
    assert refused and all("answers reference input" in c.refused and not c.times_ms for c in refused)
    assert choose(found)[0].engine == "onnxruntime-cpu"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"engines": ["ncnn"]}, "no engine ncnn, only onnxruntime-cpu"),
        ({"precisions": ["int4"]}, "no int4, only fp32, int8"),
        ({"threads": [0]}, "at least 1"),
        ({"seconds": 0}, "more than 0"),
        ({"hz": -1}, "more than 0"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_the_known_ones(opened, options, says):
    with pytest.raises(InputError, match=says):
        tune.tune(opened, **options)


@pytest.fixture
def run(bundle, key, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEFLOCK_BOARD_PROFILE", str(tmp_path / "board.json"))
    app = typer.Typer()
    app.command()(tune.tune_command)

    def run(*options):
        trust = ["--key", str(key.with_suffix(".pub"))]
        return CliRunner().invoke(app, [str(bundle), *trust, "--threads", "1", "--seconds", "0.02", *options])

    return run


def test_the_choice_goes_into_the_board_profile(run, opened):
    result = run()
    assert result.exit_code == 0, result.output
    chosen = profile.choice(opened.digest)
    assert "<- chosen" in result.output and f"{chosen.engine} {chosen.precision}, threads 1" in result.output
    assert "Not measured" in result.output and chosen.bundle == "test" and chosen.p50_ms > 0


def test_a_dry_run_writes_nothing(run, opened):
    result = run("--dry-run")
    assert result.exit_code == 0 and "nothing was written" in result.output
    assert profile.choice(opened.digest) is None


def test_json_holds_every_candidate_and_the_choice(run, tmp_path):
    result = run("--json")
    document = json.loads(result.stdout)
    assert document["profile"] == str(tmp_path / "board.json")
    best = min((c for c in document["candidates"] if c["p50_ms"]), key=lambda c: c["p50_ms"])
    assert document["choice"]["p50_ms"] >= round(best["p50_ms"], 4)
    assert all((c["p50_ms"] is None) == bool(c["refused"]) for c in document["candidates"])
