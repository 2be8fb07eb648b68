"""The cost of a frame of several faces: what is timed, and what the table says of it."""

from __future__ import annotations

import json

import pytest
import typer

from edgeflock.export.bench.emotion import EmotionFigures, emotion_bars, markdown


def test_it_times_every_engine_and_stage_and_writes_the_table(tmp_path, capsys):
    out = tmp_path / "bars" / "emotion.json"
    with pytest.raises(typer.Exit) as ended:
        emotion_bars(None, out, faces=4, frames=10, threads=[1], precision="int8", detector="cascade")
    record = json.loads(out.read_text())
    rows = {row["engine"]: row for row in record["rows"]}
    assert "onnxruntime-cpu" in rows and record["machine"]
    for row in rows.values():
        assert (row["bundle"], row["precision"], row["threads"], row["batch"]) == ("emotion", "int8", 1, 1)
        assert row["faces"] == 4 and row["frames"] == 10
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
        stages = sum(row[f"{stage}_ms"] for stage in ("detect", "prepare", "net", "track"))
        assert 0 < stages < row["max_ms"] and 0 < row["face_ms"] < row["max_ms"] / 4
    assert ended.value.exit_code == (0 if min(row["p99_ms"] for row in rows.values()) < 100 else 3)
    assert out.with_suffix(".md").read_text().strip() == capsys.readouterr().out.strip()


def test_the_bar_is_judged_by_the_fastest_engine():
    fields = dict.fromkeys(
        ("p50_ms", "max_ms", "cpu_ms", "detect_ms", "prepare_ms", "net_ms", "track_ms", "face_ms"), 1.0
    )
    rows = [
        EmotionFigures("emotion", engine, "int8", 2, 1, 50, 4.0, p99_ms=p99, **fields)
        for engine, p99 in (("onnxruntime-cpu", 120.0), ("openvino", 90.0))
    ]
    assert markdown(rows).endswith("met (openvino, 90.0 ms, 50 frames).")
    assert markdown(rows[:1]).endswith("missed (onnxruntime-cpu, 120.0 ms, 50 frames).")
