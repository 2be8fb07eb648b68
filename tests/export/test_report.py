"""The report of one precision: JSON for programs, a table to read, a picture."""

from __future__ import annotations

import json

import onnx
import pytest

from edgeflock.export.quantise.search import SearchResult, Step
from edgeflock.export.quantise.sensitivity import Sensitivity
from edgeflock.export.recipe import Judgement
from edgeflock.export.report import write_report
from edgeflock.runtime.bundle.manifest import Criterion

CRITERIA = [
    Criterion(name="rise of the RMSE", value=0.013, limit=0.02),
    Criterion(name="Dice", value=0.5, limit=0.7, at="least"),
    Criterion(name="folded voxels", value=0, limit=0),
]


def judged(precision="int8", table=(), kept=(), steps=()):
    figures = {"metric": "RMSE", "unit": "rad", "value": 0.046, "fp32": 0.045, "constant": 0.108}
    judgement = Judgement(**figures, criteria=CRITERIA, worst=["val/7.png: label +0.100"])
    found = SearchResult(onnx.ModelProto(), list(kept), judgement, list(table), list(steps))
    filled = {"precision": precision, "data": "40 frames of a test", "samples": 40}
    return judgement.model_copy(update=filled), found


TABLE = [
    Sensitivity("/conv1/Conv", "Conv", 38.25, 0.047, -0.5),
    Sensitivity("/conv2/Conv", "Conv", 21.5, 0.051, 3.25),
]
STEPS = [Step([], False, 0.06), Step(["/conv2/Conv"], True, 0.046)]


def test_everything_is_in_the_json(tmp_path):
    verdict, found = judged(table=TABLE, kept=["/conv2/Conv"], steps=STEPS)
    write_report(tmp_path / "new" / "folder", verdict, found)
    content = json.loads((tmp_path / "new" / "folder" / "int8.json").read_text("utf-8"))
    assert content["gate"]["passed"] is False
    assert [criterion["value"] for criterion in content["gate"]["criteria"]] == [0.013, 0.5, 0]
    assert content["kept_in_float"] == ["/conv2/Conv"]
    assert content["layers"][1] == {
        "node": "/conv2/Conv",
        "op": "Conv",
        "sqnr_db": 21.5,
        "score": 0.051,
        "gain_db": 3.25,
    }
    assert [step["passed"] for step in content["steps"]] == [False, True]
    assert content["worst"] == ["val/7.png: label +0.100"]


def test_the_table_has_the_worst_layer_first_and_says_what_failed(tmp_path):
    verdict, found = judged(table=TABLE, kept=["/conv2/Conv"], steps=STEPS)
    write_report(tmp_path, verdict, found)
    lines = (tmp_path / "int8.md").read_text("utf-8").splitlines()
    assert lines[0] == "# int8: gate FAILED on 40 samples"
    assert [line.endswith("FAILED |") for line in lines if "| at " in line] == [False, True, False]
    rows = [line for line in lines if line.startswith("| /conv")]
    assert rows == [
        "| /conv2/Conv | Conv | 21.5 | 0.051 | 3.25 | yes |",
        "| /conv1/Conv | Conv | 38.2 | 0.047 | -0.5 |  |",
    ]
    assert "| 1 | passed | 0.046 |" in lines


def test_what_was_not_measured_has_no_column(tmp_path):
    verdict, found = judged(table=[Sensitivity("/conv1/Conv", "Conv", 38.25)])
    write_report(tmp_path, verdict, found)
    text = (tmp_path / "int8.md").read_text("utf-8")
    assert "| layer | operator | SQNR alone in INT8, dB | kept in float |" in text
    assert "tried" not in text


@pytest.mark.parametrize("table", [TABLE, []])
def test_the_picture_is_drawn_with_and_without_layers(tmp_path, table):
    pytest.importorskip("matplotlib")
    files = write_report(tmp_path, *judged("fp16", table))
    assert [file.name for file in files] == ["fp16.json", "fp16.md", "fp16.png"]
    assert files[2].read_bytes().startswith(b"\x89PNG")
    assert files[2].stat().st_size > 5000


def test_without_matplotlib_the_rest_is_written_and_an_old_picture_goes(tmp_path, monkeypatch):
    (tmp_path / "int8.png").write_bytes(b"old")
    monkeypatch.setattr("builtins.__import__", _without_matplotlib(__import__))
    files = write_report(tmp_path, *judged(table=TABLE))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["int8.json", "int8.md"]
    assert 'pip install "edgeflock[report]"' in files[1].read_text("utf-8")


def _without_matplotlib(real):
    def find(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real(name, *args, **kwargs)

    return find
