"""`edgeflock emotion`: image, video and camera in; picture, video, JSON or a line per frame out."""

from __future__ import annotations

import errno
import json
import os
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
        (["0"], CameraError, "the camera of that number is /dev/video0"),
        (["rtsp://robot/front"], CameraError, "nothing is read from the network, save it to a file first"),
        (["pipe.jpg"], CameraError, "got the pipe pipe.jpg: save what comes out of it"),
        (["people.png", "--smoothing", "1"], InputError, "no effect on pictures, .*: --smoothing"),
        (["album", "--out", "drawn"], InputError, "drawn/people.png is read by this command"),
        (["people.avi", "--out", "out.png"], InputError, "--out of a video must end with .avi, .mp4"),
        (["people.png", "--out", "out.avi"], InputError, "--out of an image must end with"),
        (["people.png", "--detector", "yunet.onnx"], InputError, "YuNet's ONNX file"),
        (["broken.png"], InputError, "broken.png: expected a whole JPEG or PNG image"),
        (["raw.dng"], InputError, "raw.dng: expected a picture of .jpg"),
        (["people.avi", "--out", "people.avi"], InputError, "people.avi is read by this command"),
        (["people.avi", "--out", "link.avi"], InputError, r"link.avi is read by this command \(as people.avi\)"),
        (["people.png", "--json", "people.png"], InputError, "people.png is read by this command"),
        ([".", "--json", "people.png"], InputError, "people.png is read by this command"),
        ([".", "--out", "."], InputError, "is read by this command"),
        ([".", "--out", "all.png"], InputError, "--out of a folder of pictures is a folder"),
        (["people.avi", "--out", "out.avi", "--json", "out.avi"], InputError, "written twice"),
        (["people.avi", "--json", "broken.png/faces.jsonl"], InputError, "broken.png is a file, expected a folder"),
    ],
)
def test_what_cannot_be_read_or_written_is_refused_before_work_starts(people, monkeypatch, arguments, error, message):
    monkeypatch.chdir(people)
    (people / "broken.png").write_bytes(b"no image")
    (people / "raw.dng").write_bytes(b"II*")
    (people / "link.avi").unlink(missing_ok=True)
    (people / "link.avi").symlink_to("people.avi")
    if not (people / "pipe.jpg").exists():
        os.mkfifo(people / "pipe.jpg")
        for folder in ("album", "drawn"):
            (people / folder).mkdir()
            (people / folder / "people.png").symlink_to("../people.png")
    before = {path: path.read_bytes() for path in people.iterdir() if path.is_file()}
    with pytest.raises(error, match=message):
        run(*arguments)
    assert {path: path.read_bytes() for path in people.iterdir() if path.is_file()} == before


def test_a_folder_of_photographs_is_read_one_by_one_whatever_their_kinds_and_sizes(people, tmp_path, capsys) -> None:
    image = cv2.imread(str(people / "people.png"))
    folder, out = tmp_path / "photos", tmp_path / "drawn"
    folder.mkdir()
    cv2.imwrite(str(folder / "a2.tif"), image)
    cv2.imwrite(str(folder / "a10.JPG"), cv2.resize(image, (800, 600)))
    cv2.imwrite(str(folder / "b.pgm"), cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    (folder / "cut.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes()[:5000])
    (folder / "c.dng").write_bytes(b"II*")
    (folder / "notes.txt").touch()
    (folder / "v.mov").touch()
    (folder / "deeper").mkdir()
    result = CliRunner().invoke(app, [str(folder), "--json", str(tmp_path / "new" / "faces.jsonl"), "--out", str(out)])
    assert result.exit_code == 0
    records = lines((tmp_path / "new" / "faces.jsonl").read_text())
    assert [record["file"] for record in records] == ["a2.tif", "a10.JPG", "b.pgm"]
    assert all(len(record["faces"]) == 4 for record in records)
    assert f"{folder}, not read:" in result.stderr and "1 .dng" in result.stderr
    assert f"1 video: to be read alone, as {folder / 'v.mov'}" in result.stderr
    assert f"1 folder: to be read alone, as {folder / 'deeper'}" in result.stderr
    assert f"{folder / 'cut.jpg'}: expected a whole JPEG" in result.stderr
    assert files(out) == {"a2.tif", "a10.JPG", "b.pgm.png"} and cv2.imread(str(out / "a10.JPG")).shape == (600, 800, 3)


def test_of_an_animated_gif_the_first_picture_is_read_and_that_is_said(people, tmp_path) -> None:
    Image = pytest.importorskip("PIL.Image")
    frames = [Image.open(people / "people.png"), Image.new("RGB", (640, 480))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    result = CliRunner().invoke(app, [str(tmp_path / "a.gif"), "--json", "-"])
    assert result.exit_code == 0 and len(lines(result.stdout)[0]["faces"]) >= 3
    assert "a.gif: all but the first of its 2 pictures" in " ".join(result.stderr.split())


def test_a_video_that_was_cut_off_is_kept_as_far_as_it_goes_and_said(tmp_path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "whole.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
    for n in range(40):
        writer.write(np.random.default_rng(n).integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    (tmp_path / "cut.avi").write_bytes((tmp_path / "whole.avi").read_bytes()[:60_000])
    with pytest.raises(CameraError, match=r"cut\.avi says that it has 40 frames, and ends after \d+: it was cut off"):
        run(tmp_path / "cut.avi", "--json", tmp_path / "faces.jsonl")
    kept = lines((tmp_path / "faces.jsonl").read_text())
    assert 0 < len(kept) < 36 and [record["frame"] for record in kept] == list(range(len(kept)))


def test_a_folder_none_of_whose_pictures_can_be_read_is_an_error(tmp_path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match="none of its pictures can be read"):
        run(tmp_path)
    (tmp_path / "a.jpg").rename(tmp_path / "a.arw")
    with pytest.raises(InputError, match=r"expected pictures .* or a recording in it, got 1 .arw"):
        run(tmp_path)


def test_reports_go_into_folders_that_are_made(people, tmp_path) -> None:
    run(people / "people.avi", "--json", tmp_path / "a" / "b" / "faces.jsonl", "--out", tmp_path / "c" / "out.mp4")
    assert len(lines((tmp_path / "a" / "b" / "faces.jsonl").read_text())) == FRAMES
    assert cv2.VideoCapture(str(tmp_path / "c" / "out.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES


def test_a_dark_grey_picture_of_12_bits_is_read_as_a_lit_one_of_8(people, tmp_path) -> None:
    grey = cv2.imread(str(people / "people.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(tmp_path / "deep.png"), (grey.astype(np.uint16) * 16) + 8)
    cv2.imwrite(str(tmp_path / "flat.png"), grey)
    deep, flat = (lines(run(tmp_path / name, "--json", "-"))[0]["faces"] for name in ("deep.png", "flat.png"))
    assert [face["label"] for face in deep] == [face["label"] for face in flat] and len(deep) == 4


def test_a_full_disk_is_an_error_that_leaves_no_half_a_file(people) -> None:
    with pytest.raises(OSError) as error:  # the command line makes its words of it, see edgeflock.runtime.cli.main
        run(people / "people.png", "--json", "/dev/full")
    assert error.value.errno == errno.ENOSPC


def test_help_has_an_example() -> None:
    assert "edgeflock emotion people.mp4 --out" in " ".join(run("--help").split())
