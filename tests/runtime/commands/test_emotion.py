"""`edgeflock emotion`: image, video and camera in; picture, video, JSON or a line per frame out."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edgeflock.export.datasets.synthetic.crowd import each_crowd_frame
from edgeflock.runtime import cameras
from edgeflock.runtime.cameras.video import VideoSource
from edgeflock.runtime.commands import emotion as emotion_verb
from edgeflock.runtime.commands.emotion import emotion
from edgeflock.runtime.errors import CameraError, InputError

FRAMES = 4
app = typer.Typer()
app.command()(emotion)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Folder with people.png and people.avi."""
    folder = tmp_path_factory.mktemp("people")
    video = cv2.VideoWriter(str(folder / "people.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, (640, 480))
    for image, _, _ in each_crowd_frame(FRAMES, 4, seed=0):
        video.write(image[:, :, ::-1].copy())
        cv2.imwrite(str(folder / "people.png"), image[:, :, ::-1])
    video.release()
    return folder


def run(*arguments) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, Exception):
        raise result.exception
    assert result.exit_code == 0
    return result.stdout


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_image_is_read_and_drawn(people, tmp_path) -> None:
    [record] = lines(run(people / "people.png", "--out", tmp_path / "new" / "out.png", "--json", "-"))
    assert record["frame"] == 0 and len(record["faces"]) == 4
    for face in record["faces"]:
        assert sum(face["distribution"].values()) == pytest.approx(1, abs=1e-3)
        assert face["confidence"] == max(face["distribution"].values()) == face["distribution"][face["label"]]
        assert len(face["box"]) == 4 and face["valence"] is None and 0 < face["score"] < 1
    drawn, image = cv2.imread(str(tmp_path / "new" / "out.png")), cv2.imread(str(people / "people.png"))
    x1, y1, _, y2 = (round(v) for v in record["faces"][0]["box"])
    assert drawn.shape == image.shape and (drawn[y1 + 5 : y2 - 5, x1] != image[y1 + 5 : y2 - 5, x1]).any(1).all()


def test_a_video_gives_a_video_and_a_line_per_frame(people, tmp_path) -> None:
    assert run(people / "people.avi", "--out", tmp_path / "out.avi", "--json", tmp_path / "faces.jsonl") == ""
    records = lines((tmp_path / "faces.jsonl").read_text())
    assert [record["frame"] for record in records] == list(range(FRAMES))
    assert [record["stamp_ns"] for record in records] == [round(n / 30 * 1e9) for n in range(FRAMES)]
    assert all({face["id"] for face in record["faces"]} == {0, 1, 2, 3} for record in records)
    video = cv2.VideoCapture(str(tmp_path / "out.avi"))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (FRAMES, 30)


def test_nothing_is_stored_unless_asked_for(people, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = run(people / "people.avi", "--frames", 2)
    assert files(tmp_path) == set()
    rows = shown.splitlines()
    assert len(rows) == 2 and all("#0" in row and "#3" in row for row in rows)


def test_smoothing_is_by_the_stamps_of_the_video(people) -> None:
    raw, smooth = (lines(run(people / "people.avi", "--json", "-", "--smoothing", s)) for s in (0, 1000))

    def answers(records):
        return np.array(
            [[f["distribution"]["Happy"] for f in sorted(r["faces"], key=lambda f: f["id"])] for r in records]
        )

    assert np.array_equal(answers(raw)[0], answers(smooth)[0])
    assert np.ptp(answers(raw), 0).max() > 1e-3 and np.ptp(answers(smooth), 0).max() < 1e-3


def test_camera_is_the_first_realsense_or_webcam(people, monkeypatch) -> None:
    """Neither is here: the webcam is a video behind the function that opens it."""
    opened = []

    def open_source(kind, path=None, **options):
        opened.append((kind, path and str(path)))
        if kind == "realsense":
            raise CameraError("expected a RealSense camera on USB, got none.")
        return VideoSource(people / "people.avi", real_time=False)

    monkeypatch.setattr(cameras, "open_source", open_source)
    monkeypatch.setattr(emotion_verb, "_webcams", lambda: [])
    with pytest.raises(CameraError, match="found no camera"):
        run("camera")
    monkeypatch.setattr(emotion_verb, "_webcams", lambda: [Path("/dev/video0")])
    assert len(run("camera", "--frames", 2).splitlines()) == 2
    assert opened[-2:] == [("realsense", None), ("video", "/dev/video0")]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["nothing.avi"], CameraError, "does not exist"),
        (["people.avi", "--out", "out.png"], InputError, "--out of a video must end with .avi, .mp4"),
        (["people.png", "--out", "out.avi"], InputError, "--out of an image must end with"),
        (["people.png", "--detector", "yunet.onnx"], InputError, "YuNet's ONNX file"),
        (["broken.png"], InputError, "not an image"),
    ],
)
def test_what_cannot_be_read_or_written_is_refused_before_work_starts(people, monkeypatch, arguments, error, message):
    monkeypatch.chdir(people)
    (people / "broken.png").write_bytes(b"no image")
    before = files(people)
    with pytest.raises(error, match=message):
        run(*arguments)
    assert files(people) == before


def test_help_has_an_example() -> None:
    assert "edgeflock emotion people.mp4 --out" in " ".join(run("--help").split())
