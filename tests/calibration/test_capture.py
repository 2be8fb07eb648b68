"""From pictures, videos, recordings and bags to intrinsics, and from there into a file or a signed bundle."""

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from edgeflock.calibration.board import Board
from edgeflock.calibration.capture import calibrate_from, factory_intrinsics, store_camera
from edgeflock.calibration.cli import calibrate_app
from edgeflock.runtime.bundle.bundle import Bundle
from edgeflock.runtime.cameras import Intrinsics
from edgeflock.runtime.cameras.realsense import _intrinsics, librealsense
from edgeflock.runtime.errors import BundleTampered, CameraError, InputError, MissingExtra, ResultError

MATRIX = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]])
SIZE = (320, 240)
BOARD = Board(5, 4, 0.03)


def picture(rotation, centre, depth):
    """Grey picture of a checkerboard through a lens without distortion."""
    cell = 30
    squares = np.indices((5, 6)).sum(0) % 2 * 225 + 15
    paper = np.pad(np.kron(squares, np.ones((cell, cell))), cell, constant_values=240).astype(np.uint8)
    turn, _ = cv2.Rodrigues(np.array(rotation, float))
    middle = np.array([*(np.array(centre) - MATRIX[:2, 2]) / 300, 1]) * depth
    to_pixels = MATRIX @ np.column_stack([turn[:, 0], turn[:, 1], middle - turn @ [0.06, 0.045, 0]])
    to_metres = np.array([[0.001, 0, -0.06], [0, 0.001, -0.06], [0, 0, 1]])
    big = np.diag([4, 4, 1.0]) @ np.array([[1, 0, 0.375], [0, 1, 0.375], [0, 0, 1]])  # 4x4 samples a pixel
    fine = cv2.warpPerspective(paper, big @ to_pixels @ to_metres, (4 * SIZE[0], 4 * SIZE[1]), borderValue=120)
    return cv2.resize(fine, SIZE, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def pictures():
    """Twelve tilted views all over the image."""
    rng = np.random.default_rng(4)
    made = []
    for x, y in [(95, 75), (160, 75), (225, 75), (95, 120), (225, 120), (95, 165), (160, 165), (225, 165), (160, 120)]:
        made.append(
            picture([*rng.choice([-0.5, 0.5], 2) * rng.uniform(0.6, 1, 2), 0.1], (x, y), rng.uniform(0.26, 0.34))
        )
    return [*made, *(picture(r, (160, 120), 0.25) for r in ([0.5, 0, 0], [0, -0.5, 0], [0, 0.5, 0.2]))]


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    made = tmp_path_factory.mktemp("pictures")
    for i, image in enumerate(pictures):
        cv2.imwrite(str(made / f"{i:02}.png"), image)
    cv2.imwrite(str(made / "nothing.jpg"), np.full(SIZE[::-1], 90, np.uint8))
    (made / "notes.txt").write_text("not a picture")
    return made


def expect_lens(found):
    assert (found.width, found.height) == SIZE
    np.testing.assert_allclose([found.fx, found.fy], 300, rtol=0.01)
    np.testing.assert_allclose([found.cx, found.cy], [159.5, 119.5], rtol=0.02)


def test_a_folder_of_pictures(folder):
    steps = []
    result = calibrate_from(str(folder), BOARD, on_frame=lambda *step: steps.append(step))
    expect_lens(result.intrinsics)
    assert result.rms < 0.3
    assert result.dropped["nothing.jpg"] == "no board found"
    assert steps[0][:2] == (1, 1) and "bottom right" in steps[0][2]
    assert steps[-1][:2] == (13, 12)


def test_a_video_shows_a_pose_many_times(pictures, tmp_path):
    path = str(tmp_path / "board.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, SIZE)
    for image in pictures:
        for _ in range(7):
            writer.write(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    writer.release()
    result = calibrate_from(path, BOARD, views=9)
    expect_lens(result.intrinsics)
    assert len(result.views) == 9
    assert 1 <= sum("shows the board as" in reason for reason in result.dropped.values()) <= 10  # of 63 frames


def test_what_a_recording_carries_is_read(record_realsense, tmp_path):
    frames = [(np.full((48, 64, 3), 80, np.uint8), np.full((48, 64), 1000, np.uint16))] * 3
    lens = record_realsense(tmp_path / "cam.db3", frames)
    found = factory_intrinsics(str(tmp_path / "cam.db3"))
    assert (found.width, found.fx, found.cx) == (64, pytest.approx(lens["fx"]), lens["ppx"])


def test_the_coefficients_of_a_realsense_are_those_of_plumb_bob():
    """As a D455's colour stream has them, "inverse": librealsense and OpenCV must mean the same pixels."""
    try:
        rs = librealsense()
    except MissingExtra as error:
        pytest.skip(str(error))
    lens = rs.intrinsics()
    lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy = 640, 480, 385.0, 384.0, 318.0, 243.0
    lens.model, lens.coeffs = rs.distortion.inverse_brown_conrady, [-0.056, 0.068, 2e-4, 5e-4, -0.022]
    found = _intrinsics(lens)
    matrix = np.array([[found.fx, 0, found.cx], [0, found.fy, found.cy], [0, 0, 1]])
    pixels = [[u, v] for u in (5.0, 160.0, 320.0, 630.0) for v in (5.0, 240.0, 470.0)]
    points = np.array([rs.rs2_deproject_pixel_to_point(lens, pixel, 2.0) for pixel in pixels])
    ours = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(found.coeffs))[0][:, 0]
    assert found.model == "plumb_bob"
    np.testing.assert_allclose(ours, pixels, atol=0.01)


def test_a_video_carries_none(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, SIZE)
    writer.write(np.zeros((240, 320, 3), np.uint8))
    writer.release()
    with pytest.raises(CameraError, match="carries no calibration: film a checkerboard"):
        factory_intrinsics(str(tmp_path / "v.avi"))


def test_no_board_in_any_picture(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.random.default_rng(i).integers(0, 255, (240, 320), np.uint8))
    with pytest.raises(InputError, match=r"5x4 inner corners in .* none of 3 pictures: count the corners"):
        calibrate_from(str(tmp_path), BOARD)


def test_pictures_of_two_sizes(folder, tmp_path):
    image = cv2.imread(str(folder / "00.png"))
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "b.png"), cv2.resize(image, (640, 480)))
    with pytest.raises(InputError, match=r"one size, got 320x240 and, in b.png, 640x480"):
        calibrate_from(str(tmp_path), BOARD)


def test_pictures_that_cannot_be_read_are_named_and_the_others_used(folder, tmp_path):
    for path in folder.glob("*.png"):
        (tmp_path / path.name).hardlink_to(path)
    jpeg = cv2.imencode(".jpg", cv2.imread(str(folder / "00.png")))[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "0.png").write_bytes(b"")
    result = calibrate_from(str(tmp_path), BOARD)
    assert {name for name, reason in result.dropped.items() if "cannot be read" in reason} == {"cut.jpg", "0.png"}
    assert len(result.views) == 12


def test_a_folder_where_nothing_can_be_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"none of 1 is one: it cannot be read \(.*a\.png: expected a whole"):
        calibrate_from(str(tmp_path), BOARD)


@pytest.mark.parametrize("suffix", [".pgm", ".tif", ".bmp", ".JPG"])
def test_pictures_of_other_kinds_are_read(folder, tmp_path, suffix):
    for path in folder.glob("*.png"):
        cv2.imwrite(str(tmp_path / f"{path.stem}{suffix}"), cv2.imread(str(path), 0))
    expect_lens(calibrate_from(str(tmp_path), BOARD).intrinsics)


def test_a_folder_without_pictures_says_what_lies_there(folder, tmp_path):
    def says(text):
        with pytest.raises(InputError, match=rf"expected pictures \(.*\.png.*\) or a recording in it, got {text}"):
            calibrate_from(str(tmp_path), BOARD)

    says("0 other files")
    (tmp_path / "a.DNG").write_bytes(b"x")
    says(r"1 \.dng: make JPEG or PNG of them")
    (tmp_path / "left").mkdir()
    (tmp_path / "left/a.png").write_bytes((folder / "00.png").read_bytes())
    says(f"pictures in {tmp_path / 'left'}: name one of these folders")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_charuco_printed_long_ago_needs_the_word_for_it(tmp_path, legacy):
    """With an even number of rows of squares OpenCV before 4.6 began with a white square."""
    board = cv2.aruco.CharucoBoard((8, 6), 0.04, 0.03, cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_100))
    board.setLegacyPattern(legacy)
    cv2.imwrite(str(tmp_path / "a.png"), cv2.copyMakeBorder(board.generateImage((640, 480)), *[30] * 4, 0, value=255))
    with pytest.raises(InputError, match="at least 8 views that differ, got 1"):  # found, and too few
        calibrate_from(str(tmp_path), Board(7, 5, 0.04, 0.03, legacy=legacy))
    with pytest.raises(InputError, match=("add --legacy" if legacy else "leave out --legacy")):
        calibrate_from(str(tmp_path), Board(7, 5, 0.04, 0.03, legacy=not legacy))


def test_a_topic_where_there_are_no_topics_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="holds pictures: leave it out"):
        calibrate_from(str(folder), BOARD, topic="/image")
    (tmp_path / "v.avi").write_bytes(b"x")
    with pytest.raises(InputError, match="is none: leave it out"):
        factory_intrinsics(str(tmp_path / "v.avi"), "/image")


# ---- into a bundle


@pytest.fixture
def camera():
    return Intrinsics(640, 480, 600.0, 601.0, 319.5, 239.5, "plumb_bob", (-0.1, 0.02, 0.0, 0.0, 0.0))


def test_the_bundle_has_the_camera_and_verifies(bundle, key, camera):
    before = Bundle.open(bundle, [key.with_suffix(".pub")])
    store_camera(bundle, camera, key)
    after = Bundle.open(bundle, [key.with_suffix(".pub")])
    assert after.manifest.camera == camera
    assert after.manifest.files == before.manifest.files
    assert after.manifest.created == before.manifest.created


def test_a_bundle_that_was_changed_is_not_signed_anew(bundle, key, camera):
    name = next(iter(Bundle.open(bundle, [key.with_suffix(".pub")]).manifest.files))
    (bundle / name).write_bytes(b"changed")
    with pytest.raises(BundleTampered):
        store_camera(bundle, camera, key)


# ---- the command


def run(*arguments):
    return CliRunner().invoke(calibrate_app, ["camera", *map(str, arguments)])


def test_the_command_writes_file_and_picture(folder, tmp_path):
    pytest.importorskip("matplotlib")  # draws the picture
    done = run(folder, "--board", "5x4", "--square", 0.03, "--out", tmp_path / "camera.yaml", "--name", "front")
    assert done.exit_code == 0, done.output
    assert "left out nothing.jpg: no board found" in done.output
    assert 'camera_name: "front"' in (tmp_path / "camera.yaml").read_text()
    assert (tmp_path / "camera.png").stat().st_size > 1000


def test_the_command_stores_into_a_bundle(bundle, key, record_realsense, tmp_path):
    frames = [(np.full((48, 64, 3), 80, np.uint8), np.full((48, 64), 1000, np.uint16))] * 3
    record_realsense(tmp_path / "cam.db3", frames)
    out = tmp_path / "camera.json"
    done = run(tmp_path / "cam.db3", "--out", out, "--bundle", bundle, "--key", key)
    assert done.exit_code == 0, done.output
    stored = Bundle.open(bundle, [key.with_suffix(".pub")]).manifest.camera
    assert stored.fx == json.loads(out.read_text())["fx"] > 0


def test_the_command_refuses_what_should_not_be_used(folder, tmp_path):
    arguments = (folder, "--board", "5x4", "--square", 0.03, "--out", tmp_path / "camera.yaml")
    for option, limit, says in (
        ("--max-rms", 0.001, "RMS of at most 0.001 px"),
        ("--min-coverage", 1, "inner corners in at least 100% of the image (--min-coverage)"),
    ):
        done = run(*arguments, option, limit)
        assert isinstance(done.exception, ResultError) and says in str(done.exception)
    assert not (tmp_path / "camera.yaml").exists()


def test_the_command_refuses_before_the_work(tmp_path, key):
    for board in ("9", "9x", "x6", "9x6x3"):
        assert "COLUMNSxROWS" in str(run(tmp_path / "v.avi", "--board", board).exception)
    assert "give --key" in str(run(tmp_path, "--bundle", tmp_path).exception)
    assert "ending in .yaml" in str(run(tmp_path, "--out", tmp_path / "camera.txt").exception)
    (tmp_path / "bad.pem").write_text("no key")
    assert "bad.pem" in str(run(tmp_path / "v.avi", "--key", tmp_path / "bad.pem", "--bundle", tmp_path).exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--square", 0.03, "--views", 9], "no effect without --board: --square, --views"),
        (["--board", "5x4", "--dictionary", "DICT_4X4_50"], "no effect without --marker: --dictionary"),
        (["--board", "5x4", "--key", "k.pem"], "no effect without --bundle: --key"),
    ],
)
def test_options_that_would_be_dropped_are_refused(folder, arguments, says):
    assert says in str(run(folder, *arguments).exception)


def test_outputs_are_no_inputs_and_can_be_written(folder, bundle, key, tmp_path):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    pictures = (folder, "--board", "5x4", "--out")
    for out, says in (
        (folder / "camera.yaml", "all of which this command reads"),
        (folder / "00.yaml", "all of which this command reads"),
        ("/proc/new/camera.yaml", "cannot write"),
        (key.with_suffix(".json"), None),
    ):
        done = run(*pictures, out, *(["--max-rms", 0.0001] if says is None else []))
        assert (says or "RMS of at most") in str(done.exception)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    done = run(*pictures, bundle / "camera.json", "--bundle", bundle, "--key", key)
    assert "all of which this command reads" in str(done.exception)
