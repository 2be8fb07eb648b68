"""`edgeflock calibrate mount`: from recordings and pictures to the file that nodes and tools read."""

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from edgeflock.calibration.cli import calibrate_app
from edgeflock.runtime.cameras.camera_info import read_camera, write_camera
from edgeflock.runtime.errors import InputError, ResultError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount, read_mount

MOUNT = Mount(height=0.30, pitch=0.5)
DEPTH = Intrinsics.of_lens(160, 120, 1.0)


def run(*arguments):
    return CliRunner().invoke(calibrate_app, ["mount", *map(str, arguments)])


def floor_depth(mount):
    v, u = np.mgrid[0:120, 0:160]
    rays = mount.axes @ np.stack([(u - DEPTH.cx) / DEPTH.fx, (v - DEPTH.cy) / DEPTH.fy, np.ones_like(u)]).reshape(3, -1)
    z = np.where(rays[2] < -0.05, mount.height / np.maximum(-rays[2], 0.05), 0)
    return (1000 * z).astype(np.uint16).reshape(120, 160)


@pytest.fixture
def bag(write_bag, tmp_path):
    def write(name, mounts):
        color, depth = "camera/color", "camera/aligned_depth_to_color"
        messages = [(f"{topic}/camera_info", 10**18, DEPTH) for topic in (color, depth)]
        for n, mount in enumerate(mounts):
            stamp = 10**18 + n * 33_333_333
            grey = np.full((120, 160, 3), 90, np.uint8)
            messages += [(f"{depth}/image_raw", stamp, ("16UC1", floor_depth(mount)))]
            messages += [(f"{color}/image_raw", stamp, ("rgb8", grey))]
        return write_bag(tmp_path / name, messages)

    return write


def test_a_bag_with_depth_gives_the_mount_file(bag, tmp_path):
    done = run(bag("floor", [MOUNT] * 5), "--out", tmp_path / "mount.yaml")
    assert done.exit_code == 0, done.output
    found = read_mount(tmp_path / "mount.yaml")
    assert (found.height, found.pitch) == (pytest.approx(0.30, abs=0.004), pytest.approx(0.5, abs=0.01))
    assert "from 5 images" in done.output and "mount:=" in done.output


def test_a_robot_that_moved_is_refused_and_nothing_is_written(bag, tmp_path):
    moved = [Mount(height=0.25 + 0.03 * n, pitch=0.5) for n in range(4)]
    done = run(bag("moved", moved), "--out", tmp_path / "mount.yaml")
    assert isinstance(done.exception, ResultError) and "let the robot stand still" in str(done.exception)
    assert not (tmp_path / "mount.yaml").exists()


def test_pictures_of_a_board_on_the_floor_give_the_mount_file(studio, tmp_path):
    seen = studio
    (tmp_path / "pictures").mkdir()
    for n, (ahead, left) in enumerate(((0.42, 0.12), (0.47, 0.09))):
        # The board's x runs to the right, its y towards the robot, its normal into the floor.
        turn = MOUNT.axes.T @ np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]]).T
        origin = MOUNT.axes.T @ (ahead, left, -MOUNT.height)
        picture = seen.picture((cv2.Rodrigues(turn)[0].ravel(), origin), seed=n)
        cv2.imwrite(str(tmp_path / "pictures" / f"{n}.png"), picture)
    focal, middle = np.diag(seen.matrix)[:2], seen.matrix[:2, 2]
    write_camera(tmp_path / "camera.yaml", Intrinsics(*seen.size, *focal, *middle, "plumb_bob", tuple(seen.coeffs)))
    done = run(
        tmp_path / "pictures", "--board", "9x6", "--camera", tmp_path / "camera.yaml", "--out", tmp_path / "mount.yaml"
    )
    assert done.exit_code == 0, (done.output, done.exception)
    found = read_mount(tmp_path / "mount.yaml")
    assert (found.height, found.pitch) == (pytest.approx(0.30, abs=0.005), pytest.approx(0.5, abs=0.01))


@pytest.mark.parametrize("name", ["camera.yaml", "camera.json"])
def test_the_camera_that_calibrate_camera_wrote_is_read_again(tmp_path, name):
    camera = Intrinsics(640, 480, 600.0, 601.0, 319.5, 239.5, "plumb_bob", (-0.1, 0.02, 0.0, 0.0, 0.0))
    write_camera(tmp_path / name, camera)
    assert read_camera(tmp_path / name) == camera


@pytest.mark.parametrize("text", ["", "[1]", "fx: 1", "camera_matrix: 3", "{"])
def test_a_file_that_is_no_camera_is_refused(tmp_path, text):
    (tmp_path / "camera.yaml").write_text(text)
    with pytest.raises(InputError, match=r"camera\.yaml, as `edgeflock calibrate camera` writes them, got another"):
        read_camera(tmp_path / "camera.yaml")


def test_what_cannot_be_found_is_refused_with_the_way_out(bag, tmp_path):
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), np.full((120, 160), 90, np.uint8))
    assert "give --board" in str(run(tmp_path / "pictures").exception)
    assert "give --camera" in str(run(tmp_path / "pictures", "--board", "9x6").exception)
    assert "no effect without --board: --square" in str(run(tmp_path / "x.mcap", "--square", "0.03").exception)
    assert "ending in .yaml" in str(run(tmp_path / "x.mcap", "--out", tmp_path / "mount.json").exception)
