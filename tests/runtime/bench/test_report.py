"""The report: a table per board, what to know about it, pictures, a page that needs no other file."""

import math

import pytest

from edgeflock.runtime.bench.latency import Latency
from edgeflock.runtime.bench.record import BoardState, Rail, WarmUpRecord
from edgeflock.runtime.bench.report import latency_figure, markdown, notes, rows, write_report
from edgeflock.runtime.errors import InputError

from .conftest import STATE


def test_the_fastest_engine_stands_first_in_its_scope_and_mode(record, cell):
    found = rows([record(cell(2.0), cell(1.0, engine="openvino"), cell(0.5, scope="task"))])
    assert [line.key.engine for line in found] == ["openvino", "onnxruntime-cpu", "onnxruntime-cpu"]


def test_a_percentile_with_too_few_samples_shows_what_it_needs(record, cell):
    (line,) = rows([record(cell(1.0, samples=100))])
    assert "n < 662" in line.texts and "n < 6636" in line.texts


def test_each_board_has_its_table_and_its_versions(record, cell):
    page = markdown([record(cell(1.0), board="desk"), record(cell(3.0), board="orin")])
    assert page.count("## fadnet on ") == 2
    assert "onnxruntime 1.31.1" in page


def test_of_a_cell_that_was_measured_twice_the_later_counts(record, cell):
    assert len(rows([record(cell(1.0)), record(cell(9.0))])) == 1


def test_the_reader_is_told_what_makes_a_figure_worth_less(record, cell, missing):
    idle = BoardState(**(STATE.model_dump() | {"governors": ["schedutil"], "busy_percent": 80.0}))
    said = "\n".join(
        notes(
            [
                record(
                    cell(1.0, throttling={"over-current oc3": 179}, before=idle),
                    cell(2.0, scope="task", warm_up=WarmUpRecord(runs=9, seconds=30, steady=False)),
                    missing("the package tensorrt is not installed"),
                )
            ]
        )
    )
    for words in (
        "throttled: over-current oc3 179",
        "governor schedutil",
        "80 % busy",
        "still settling",
        "tensorrt is",
    ):
        assert words in said


def test_the_input_rail_is_the_power_of_the_table(record, cell):
    rails = {"VDD_SOC": 1.5, "VDD_IN": 5.5}
    power = {name: Rail(mean_w=w, max_w=w, samples=3) for name, w in rails.items()}
    (line,) = rows([record(cell(1.0, power=power))])
    assert "5.5" in line.texts


def test_throughput_is_stated_with_the_latency_at_that_rate(record, cell):
    import numpy as np

    waiting = Latency.of(np.full(1000, 7_000_000))
    (line,) = rows([record(cell(1.0, mode="max-throughput", response=waiting, fps=800.0))])
    assert "7.000" in line.texts and "800.0" in line.texts


def test_the_page_contains_its_pictures(tmp_path, record, cell):
    pytest.importorskip("matplotlib")
    made = write_report([record(cell(1.0), cell(2.0, precision="fp32"))], tmp_path)
    assert {path.suffix for path in made} == {".md", ".png", ".html"} and all(path.stat().st_size for path in made)
    page = (tmp_path / "benchmark.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "src=" not in page.replace('src="data:', "")  # nothing else to load


def test_text_from_records_is_escaped(tmp_path, record, cell):
    pytest.importorskip("matplotlib")
    write_report([record(cell(1.0), board="<script>alert(1)</script>")], tmp_path)
    assert "<script>" not in (tmp_path / "benchmark.html").read_text()


def test_a_latency_curve_ends_where_its_samples_do_not_carry_it(record, cell):
    pytest.importorskip("matplotlib")
    few, many = cell(1.0, samples=100), cell(1.0, samples=7000, precision="fp32")
    ends = {}
    for measured in (few, many):
        (line,) = latency_figure({measured.key("desk"): measured}).axes[0].lines
        ends[measured.frames] = 1 - 10 ** -line.get_xdata()[-1]
    assert ends[100] <= 0.9 and math.isclose(ends[7000], 0.999, abs_tol=1e-3)


def test_records_with_missing_cells_only_make_no_report(tmp_path, record, missing):
    with pytest.raises(InputError, match="no GPU"):
        write_report([record(missing("no GPU"))], tmp_path)


def test_a_reason_is_said_once_for_all_that_it_is_the_reason_of(record, missing):
    lost = [
        missing("no GPU", precision=precision, mode=mode, scope=scope)
        for precision in ("fp32", "fp16")
        for mode in ("back-to-back", "max-throughput")
        for scope in ("net", "task")
    ]
    assert notes([record(*lost, missing("no driver", engine="onnxruntime-qnn"))]) == [
        "fadnet on desk, onnxruntime-qnn (int8-trt net): not measured: no driver",
        "fadnet on desk, tensorrt (fp16 net, fp16 task, fp32 net, fp32 task): not measured: no GPU",
    ]
