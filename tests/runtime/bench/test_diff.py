"""Changes fall into buckets; what is new, gone or missing is named."""

import pytest

from edgeflock.runtime.bench.diff import compare
from edgeflock.runtime.errors import InputError


@pytest.mark.parametrize(
    ("old", "new", "bucket", "worse"),
    [
        (1.0, 1.05, None, True),
        (1.0, 1.15, 1.2, True),
        (1.0, 1.4, 1.5, True),
        (1.0, 1.9, 2.0, True),
        (1.0, 4.9, 5.0, True),
        (1.0, 9.0, 10.0, True),
        (1.0, 30.0, float("inf"), True),
        (30.0, 1.0, float("inf"), False),
        (1.4, 1.0, 1.5, False),
    ],
)
def test_a_change_falls_into_the_bucket_of_its_factor(record, cell, old, new, bucket, worse):
    (change,) = compare([record(cell(old))], [record(cell(new))]).changes
    assert (change.bucket, change.worse) == (bucket, worse)


def test_frames_per_second_are_better_when_they_rise(record, cell):
    (change,) = compare([record(cell(1.0))], [record(cell(2.0))], "fps").changes
    assert change.worse and (change.old, change.new) == (1000, 500)


def test_the_worst_comes_first(record, cell):
    engines = ("a", "b", "c")
    old = record(*(cell(1.0, engine=e) for e in engines))
    new = record(*(cell(ms, engine=e) for e, ms in zip(engines, (0.1, 3.0, 1.3), strict=True)))
    assert [c.key.engine for c in compare([old], [new]).changes] == ["b", "c", "a"]


def test_other_boards_threads_and_rates_are_other_cells(record, cell):
    old = record(cell(1.0), cell(1.0, mode="paced", rate_hz=30.0), cell(1.0, threads=2))
    new = record(cell(2.0), cell(2.0, mode="paced", rate_hz=60.0), cell(2.0, threads=4))
    found = compare([old], [new])
    assert len(found.changes) == 1 and len(found.new) == 2 and len(found.gone) == 2


def test_a_cell_that_went_carries_its_reason_or_fails(record, cell, missing):
    old = record(cell(1.0), cell(1.0, engine="tensorrt", precision="int8-trt"))
    gone = compare([old], [record(cell(1.0), missing("TensorRT 10.2.0 is known to fail"))])
    assert list(gone.gone.values()) == ["TensorRT 10.2.0 is known to fail"]
    assert gone.failures(above=1.2) == []
    silent = compare([old], [record(cell(1.0))])
    assert silent.failures(above=1.2) == [f"{next(iter(silent.gone))}: gone, and no record says why"]


def test_only_what_got_worse_by_more_than_the_limit_fails(record, cell):
    found = compare([record(cell(1.0))], [record(cell(1.4))])
    assert found.failures(above=1.5) == []
    assert "1.40 times worse" in found.failures(above=1.3)[0]
    assert compare([record(cell(9.0))], [record(cell(1.0))]).failures(above=1.1) == []


def test_a_percentile_that_was_not_stated_is_not_compared(record, cell):
    few = cell(1.0, samples=100)
    assert compare([record(few)], [record(cell(9.0))], "p99").changes == []
    assert len(compare([record(few)], [record(cell(9.0))], "p90").changes) == 1


def test_records_without_a_cell_in_common_are_refused(record, cell):
    with pytest.raises(InputError, match=r"no cell in common.*--board"):
        compare([record(cell(1.0), board="a")], [record(cell(1.0), board="b")])
