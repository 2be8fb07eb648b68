"""Records: written, read, refused; the schema in the repository is current and every record in it loads."""

import json
from pathlib import Path

import pytest

from edgeflock.runtime.bench.record import BenchFile, Measured, read_all, schema
from edgeflock.runtime.errors import DataError

PERF = Path(__file__).parents[3] / "docs/perf"


def test_a_record_is_read_as_it_was_written(tmp_path, record, cell, missing):
    written = record(cell(1.0), missing("no GPU"))
    written.write(tmp_path / "a/desk.json")
    assert BenchFile.read(tmp_path / "a/desk.json") == written


def test_a_histogram_is_one_line(tmp_path, record, cell):
    record(cell(1.0)).write(tmp_path / "desk.json")
    text = (tmp_path / "desk.json").read_text()
    counts = next(line for line in text.splitlines() if '"counts"' in line)
    assert counts.count(",") > 10 and len(text.splitlines()) < 200


def test_cells_are_told_apart_by_kind(tmp_path, record, cell, missing):
    record(cell(1.0), missing("no GPU")).write(tmp_path / "desk.json")
    kinds = [type(c).__name__ for c in BenchFile.read(tmp_path / "desk.json").cells]
    assert kinds == ["Measured", "Missing"]


def test_a_missing_cell_needs_a_reason(missing):
    with pytest.raises(ValueError, match="reason"):
        missing("")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(schema_version=2), "schema_version 1, got 2.*newer edgeflock"),
        (lambda d: d.pop("schema_version"), "got None"),
        (lambda d: d["cells"][0].update(fps="many"), r"cells.0.*fps.*Measure again"),
        (lambda d: d["cells"][0].update(guess=1), "guess.*Extra inputs"),
        (lambda d: d["cells"][0]["latency"].update(min_ms=float("nan")), "min_ms"),
    ],
)
def test_what_is_no_record_is_refused_and_the_message_says_where(tmp_path, record, cell, change, says):
    content = json.loads(record(cell(1.0)).model_dump_json())
    change(content)
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=says):
        BenchFile.read(tmp_path / "x.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '"drive"'])
def test_files_that_are_something_else_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        read_all([tmp_path])


def test_a_folder_without_records_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="edgeflock bench run"):
        read_all([tmp_path])


def test_the_schema_in_the_repository_is_current():
    # python -m edgeflock.runtime.bench.record docs/perf/schema/benchmark.json
    assert (PERF / "schema/benchmark.json").read_text() == schema()


@pytest.mark.parametrize("file", sorted((PERF / "records").glob("*.json")), ids=lambda file: file.name)
def test_every_record_in_the_repository_loads_and_names_its_machine(file):
    found = BenchFile.read(file)
    assert found.board.processor and found.board.versions["edgeflock"]
    assert any(isinstance(cell, Measured) for cell in found.cells)
