"""The report: a table per board, what to know about it, pictures, a page that needs no other file."""

import math
from pathlib import Path

import pytest

from edgeflock.runtime.bench.latency import Latency
from edgeflock.runtime.bench.pictures import accuracy_figure, bars_figure, latency_figure
from edgeflock.runtime.bench.record import BoardState, GateFigure, Rail, WarmUpRecord, read_all
from edgeflock.runtime.bench.report import markdown, notes, rows, summary, write_report, write_summary
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


def test_boards_stand_against_each_other_by_what_is_fastest_on_each(record, cell):
    files = [
        record(cell(4.0, precision="fp32"), cell(2.0), cell(9.0, scope="task"), board="desk"),
        record(cell(1.0, engine="tensorrt", precision="fp16"), board="orin"),
    ]
    lines = summary(files)[2:]
    assert lines[0].startswith("| fadnet | desk | 3.9") and "| 2.0 | onnxruntime-cpu int8, 1 thread |" in lines[0]
    assert lines[1].startswith("| fadnet | orin |  | ") and "tensorrt fp16" in lines[1]
    assert lines[0] in markdown(files)


def test_the_summary_goes_between_the_marks_of_a_page(record, cell, tmp_path):
    page = tmp_path / "README.md"
    page.write_text("# A\n\n<!-- edgeflock bench report -->\nold\n<!-- /edgeflock bench report -->\n\nend\n")
    for _ in range(2):
        write_summary([record(cell(1.0))], page)
        assert page.read_text().count("fadnet") == 1 and "old" not in page.read_text()
    assert page.read_text().startswith("# A\n") and page.read_text().endswith("-->\n\nend\n")
    page.write_text("# A\n")
    with pytest.raises(InputError, match="between which the table goes"):
        write_summary([record(cell(1.0))], page)


def test_the_readme_has_the_summary_of_the_records_in_docs():
    root = Path(__file__).parents[3]
    assert "\n".join(summary(read_all([root / "docs/perf/records"]))) in (root / "README.md").read_text()


def test_bars_have_p50_before_p99_and_the_fastest_on_top(record, cell):
    pytest.importorskip("matplotlib")
    cells = [cell(2.0), cell(1.0, engine="openvino"), cell(3.0, mode="max-throughput")]
    axes = bars_figure({one.key("desk"): one for one in cells}).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "onnxruntime-cpu int8, 1 thread",
        "openvino int8, 1 thread",
    ]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths[0] > widths[1] > widths[3] and widths[2] > widths[3]


def test_accuracy_stands_against_latency_where_the_gate_judged(record, cell):
    pytest.importorskip("matplotlib")
    assert accuracy_figure({(one := cell(1.0)).key("desk"): one}) is None
    gate = GateFigure(metric="RMSE", unit="rad", value=0.04, fp32=0.05)
    figure = accuracy_figure({(one := cell(1.0, gate=gate)).key("desk"): one})
    assert figure.axes[0].get_ylabel() == "RMSE rad" and figure.axes[0].lines[0].get_ydata()[0] == 0.04
