"""`edgeflock register`: files in, files out, with the headers of a scan that lies obliquely."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edgeflock.runtime.commands import register as commands
from edgeflock.runtime.commands.register import register
from edgeflock.runtime.errors import EdgeflockError, FileError, InputError, ResultError
from edgeflock.runtime.prepare.volume import dice, warp

nib = pytest.importorskip("nibabel")

SHAPE = (20, 24, 18)
AFFINE = np.array([[0, -2.0, 0, 30], [1.5, 0, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


@pytest.fixture
def scans(tmp_path):
    """fixed, moving and a segmentation of moving."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices(SHAPE)
    ball = ((z - 10) ** 2 + (y - 12) ** 2 + (x - 9) ** 2 < 36).astype(np.int16)
    paths = {}
    for name, data in {"fixed": 800 * ball, "moving": 700 * ball, "labels": ball.astype(np.uint8)}.items():
        if name != "labels":
            data = data + rng.integers(-20, 20, SHAPE).astype(np.int16)
        image = nib.Nifti1Image(data, AFFINE)
        image.header["descrip"] = name
        paths[name] = tmp_path / f"{name}.nii.gz"
        nib.save(image, paths[name])
    return paths


def run(*arguments):
    app = typer.Typer()
    app.command()(register)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_writes_warped_scan_flow_labels_report_and_picture(scans, shift_bundle, tmp_path):
    out = tmp_path / "out"
    organs = ("--labels", scans["labels"], "--fixed-labels", scans["labels"])
    done = run(scans["fixed"], scans["moving"], "--bundle", shift_bundle, *organs, "--out", out)
    assert done.exit_code == 0, done.output
    assert "Dice 1.0000 before" in done.output and "correlation" in done.output and "folded voxels 0.00%" in done.output

    moving = nib.load(scans["moving"])
    warped, labels, flow = (nib.load(out / f"{n}.nii.gz") for n in ("warped", "warped_labels", "flow"))
    voxels = np.array([1, -2, 0.5], np.float32) * np.array(SHAPE) / 16
    field = np.broadcast_to(voxels[:, None, None, None], (3, *SHAPE)).astype(np.float32)

    assert warped.get_data_dtype() == np.int16 and bytes(warped.header["descrip"]).startswith(b"moving")
    np.testing.assert_array_equal(warped.affine, AFFINE)
    np.testing.assert_allclose(warped.get_fdata(), warp(moving.get_fdata(), field), atol=0.51)
    assert labels.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(labels.dataobj), warp(nib.load(scans["labels"]).get_fdata(), field, True))

    # the flow is in mm along the world's axes: where a voxel's tissue lies in the moving scan
    assert flow.shape == (*SHAPE, 1, 3) and flow.header.get_intent()[0] == "displacement vector"
    voxel = np.array([3, 4, 5])
    there = nib.affines.apply_affine(AFFINE, voxel) + flow.get_fdata()[3, 4, 5, 0]
    np.testing.assert_allclose(nib.affines.apply_affine(np.linalg.inv(AFFINE), there), voxel + voxels, atol=1e-4)

    report = json.loads((out / "report.json").read_text())
    ball = nib.load(scans["labels"]).get_fdata()
    assert report["dice"] == {"before": 1, "after": pytest.approx(dice(ball, warp(ball, field, True), (1,)))}
    before = np.corrcoef(nib.load(scans["fixed"]).get_fdata().ravel(), moving.get_fdata().ravel())[0, 1]
    assert report["correlation"]["before"] == pytest.approx(before) and report["jacobian"]["folded"] == 0
    assert report["displacement_voxels"]["largest"] == pytest.approx(np.linalg.norm(voxels), rel=1e-5)
    assert set(report["ms"]) == {"prepare", "net", "warp"} and report["precision"] == "fp32"
    assert (out / "register.png").read_bytes().startswith(b"\x89PNG")


def test_a_window_reaches_the_net(scans, shift_bundle, tmp_path):
    done = run(
        scans["fixed"], scans["moving"], "--bundle", shift_bundle, "--out", tmp_path / "out", "--window", -25, 265
    )
    assert done.exit_code == 0, done.output
    assert "within the window: 89.6% of fixed" in done.output and f"next: edgeflock tune {shift_bundle}" in done.output
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["window"]["low"] == -25 and 0.8 < report["window"]["within"]["fixed"] < 1


def test_scans_on_two_grids_are_refused_before_anything_is_written(scans, shift_bundle, tmp_path):
    other = tmp_path / "other.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((20, 24, 19), np.int16), AFFINE), other)
    for arguments in (
        (scans["fixed"], other),
        (scans["fixed"], scans["moving"], "--labels", other),
    ):
        done = run(*arguments, "--bundle", shift_bundle, "--out", tmp_path / "out")
        assert isinstance(done.exception, InputError) and "(20, 24, 19)" in str(done.exception)
    assert not (tmp_path / "out").exists()


def refused(*arguments) -> EdgeflockError:
    done = run(*arguments)
    assert isinstance(done.exception, EdgeflockError), done.output
    return done.exception


def test_a_window_that_shows_nothing_has_no_result(scans, shift_bundle, tmp_path):
    error = refused(
        scans["fixed"], scans["moving"], "--window", 5000, 6000, "--bundle", shift_bundle, "--out", tmp_path / "out"
    )
    assert isinstance(error, ResultError) and "fixed.nii.gz: no voxel lies within the window" in str(error)
    assert error.exit_code == 19 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["warped.nii.gz", "flow.nii.gz", "warped_labels.nii.gz"])
@pytest.mark.parametrize("link", [None, "hard", "symbolic"])
def test_an_input_that_has_the_name_of_an_output_stays(scans, shift_bundle, tmp_path, name, link):
    out = tmp_path / "out"
    out.mkdir()
    if link == "hard":
        (out / name).hardlink_to(scans["moving"])
    elif link == "symbolic":
        (out / name).symlink_to(scans["moving"])
    else:
        scans["moving"] = scans["moving"].rename(out / name)
    before = (out / name).read_bytes()
    arguments = (scans["fixed"], scans["moving"], "--labels", scans["labels"], "--bundle", shift_bundle, "--out", out)
    assert "is read by this command" in str(refused(*arguments))
    assert (out / name).read_bytes() == before and [path.name for path in out.iterdir()] == [name]


def test_places_that_cannot_be_written_are_refused_before_the_net_runs(scans, shift_bundle, tmp_path):
    (tmp_path / "file").write_text("x")
    pair = (scans["fixed"], scans["moving"], "--bundle", shift_bundle, "--out")
    assert "expected a folder to write into, got the file" in str(refused(*pair, tmp_path / "file"))
    assert "lies in" in str(refused(*pair, shift_bundle / "new"))
    assert isinstance(refused(*pair, "/proc/new"), FileError)


def test_a_constant_scan_is_named_and_its_constant_answer_is_no_correlation(scans, shift_bundle, tmp_path):
    nib.save(nib.Nifti1Image(np.full(SHAPE, 7, np.int16), AFFINE), tmp_path / "flat.nii.gz")
    pair = (scans["fixed"], tmp_path / "flat.nii.gz", "--bundle", shift_bundle, "--out", tmp_path / "out")
    assert "flat.nii.gz: expected a scan, got 7 in every voxel" in str(refused(*pair))
    done = run(*pair, "--window", 0, 100)
    assert done.exit_code == 0 and json.loads((tmp_path / "out/report.json").read_text())["correlation"] == {
        "before": None,
        "after": None,
    }


def test_what_an_earlier_run_left_is_named(scans, shift_bundle, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "warped_labels.nii.gz").write_bytes(b"old")
    done = run(scans["fixed"], scans["moving"], "--bundle", shift_bundle, "--out", out)
    assert "warped_labels.nii.gz is not of this run" in done.output.replace("\n", "")
    assert (out / "warped_labels.nii.gz").read_bytes() == b"old"


def test_a_full_disk_leaves_the_folder_as_it_was(scans, shift_bundle, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("old")

    save, calls = nib.save, []

    def full(image, path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save(image, path)

    monkeypatch.setattr(nib, "save", full)
    done = run(scans["fixed"], scans["moving"], "--bundle", shift_bundle, "--out", out)
    assert isinstance(done.exception, OSError) and [path.name for path in out.iterdir()] == ["report.json"]
    assert (out / "report.json").read_text() == "old"


def test_scans_on_two_grids_meet_by_their_headers(scans, shift_bundle, tmp_path):
    """Moving on a finer, turned grid and shifted in the world by its origin: the same as on fixed's own."""
    fixed, out = nib.load(scans["fixed"]), {}
    ramp = np.indices(SHAPE).sum(0).astype(np.float32)  # linear, so that sampling it elsewhere loses nothing
    turned = np.diag([0.5, -1, 1, 1.0])
    turned[1, 3] = SHAPE[1] - 1
    affine = AFFINE @ turned
    grid = np.indices((2 * SHAPE[0] - 1, SHAPE[1], SHAPE[2])).astype(np.float32)
    other = 0.5 * grid[0] + (SHAPE[1] - 1 - grid[1]) + grid[2]
    for name, image, flags in (
        ("same", nib.Nifti1Image(ramp, AFFINE), ()),
        ("other", nib.Nifti1Image(other, affine), ("--resample",)),
    ):
        nib.save(image, tmp_path / f"{name}.nii.gz")
        nib.save(
            nib.Nifti1Image((image.get_fdata() > 30).astype(np.uint8), image.affine), tmp_path / f"{name}_l.nii.gz"
        )
        out[name] = tmp_path / name
        labels = ("--labels", tmp_path / f"{name}_l.nii.gz")
        done = run(
            scans["fixed"], tmp_path / f"{name}.nii.gz", "--bundle", shift_bundle, "--out", out[name], *labels, *flags
        )
        assert done.exit_code == 0, done.output
    inside = (slice(2, -2), slice(4, -4), slice(2, -2))
    same, got = (nib.load(out[name] / "warped.nii.gz") for name in ("same", "other"))
    np.testing.assert_array_equal(got.affine, fixed.affine)
    np.testing.assert_allclose(got.get_fdata()[inside], same.get_fdata()[inside], atol=1e-3)
    flows = [nib.load(out[name] / "flow.nii.gz").get_fdata() for name in ("same", "other")]
    np.testing.assert_allclose(flows[1], flows[0], atol=1e-3)
    organs = [np.asarray(nib.load(out[name] / "warped_labels.nii.gz").dataobj)[inside] for name in ("same", "other")]
    assert (organs[0] != organs[1]).mean() < 0.05
    reports = [json.loads((out[name] / "report.json").read_text()) for name in ("same", "other")]
    assert reports[1]["displacement_voxels"]["mean"] == pytest.approx(
        reports[0]["displacement_voxels"]["mean"], abs=1e-3
    )


def test_two_grids_without_resample_name_the_way_out(scans, shift_bundle, tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), AFFINE), tmp_path / "other.nii.gz")
    error = refused(scans["fixed"], tmp_path / "other.nii.gz", "--bundle", shift_bundle, "--out", tmp_path / "out")
    assert "--resample` brings moving onto fixed's grid" in str(error)


def test_an_affine_map_is_found_before_the_net_sees_the_scans(scans, shift_bundle, tmp_path):
    pytest.importorskip("SimpleITK")
    z, y, x = np.indices((32, 32, 32))
    balls = ((z - 14) ** 2 + 2 * (y - 18) ** 2 + (x - 12) ** 2 < 60) * 500 + (
        (z - 22) ** 2 + (y - 8) ** 2 + (x - 20) ** 2 < 20
    ) * 900
    for name, array in (("fixed", balls), ("moving", np.roll(balls, (3, -2, 1), (0, 1, 2)))):
        nib.save(nib.Nifti1Image(array.astype(np.int16), AFFINE), tmp_path / f"{name}.nii.gz")
    pair = (tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz", "--bundle", shift_bundle, "--out", tmp_path / "out")
    done = run(*pair, "--affine")
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["correlation"]["before"] > 0.95, "as they lie after the map; 0.5 without it"
    np.testing.assert_allclose(np.array(report["affine"])[:3, 3], AFFINE[:3, :3] @ [3, -2, 1], atol=3)


def test_demo_draws_its_scans(tmp_path, shift_bundle, monkeypatch):
    monkeypatch.setattr(commands, "DEMO_SIDE", 24)
    done = run("--demo", "--bundle", shift_bundle, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert nib.load(tmp_path / "warped_labels.nii.gz").shape == nib.load(tmp_path / "fixed.nii.gz").shape == (24,) * 3
    assert "no effect with --demo" in str(refused("--demo", "--resample", "--out", tmp_path))
    assert "FIXED and MOVING" in str(refused("--out", tmp_path))
    assert "give --labels, too" in str(refused("a.nii", "b.nii", "--fixed-labels", "c.nii", "--out", tmp_path))
