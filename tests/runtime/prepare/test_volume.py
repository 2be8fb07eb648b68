"""Volumes in numpy: resampling, warp, Jacobian and Dice against scipy and closed forms; NIfTI pairs that do not fit."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from edgeflock.runtime.errors import InputError, ResultError
from edgeflock.runtime.prepare.volume import (
    check_same_space,
    check_volume,
    dice,
    jacobian_determinant,
    nifti_data,
    normalise,
    placed,
    read_nifti,
    resample,
    to_grid,
    warp,
)

SHAPE = (11, 14, 17)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [SHAPE, (8, 20, 5)])
def test_warp_is_scipys(rng, shape):
    """The flow may have another grid than the volume."""
    volume, flow = rng.random(SHAPE, np.float32), rng.normal(0, 6, (3, *shape)).astype(np.float32)
    places = np.indices(shape) + flow
    assert np.abs(warp(volume, flow) - map_coordinates(volume, places, order=1, mode="nearest")).max() < 1e-5


def test_labels_keep_their_values_and_type(rng):
    labels, flow = rng.integers(0, 5, SHAPE, np.uint8), rng.normal(0, 6, (3, *SHAPE)).astype(np.float32)
    moved = warp(labels, flow, nearest=True)
    assert moved.dtype == np.uint8
    np.testing.assert_array_equal(moved, map_coordinates(labels, np.indices(SHAPE) + flow, order=0, mode="nearest"))


def test_warp_by_nothing_and_by_whole_voxels(rng):
    volume = rng.random(SHAPE, np.float32)
    flow = np.zeros((3, *SHAPE), np.float32)
    np.testing.assert_array_equal(warp(volume, flow), volume)
    flow += np.array([2, -1, 3], np.float32)[:, None, None, None]
    np.testing.assert_allclose(warp(volume, flow)[:-2, 1:, :-3], volume[2:, :-1, 3:], atol=1e-6)


def test_resampling_keeps_ramps_means_and_what_fits_already(rng):
    ramp = np.tile(np.arange(12, dtype=np.float32), (6, 6, 1))
    np.testing.assert_array_equal(resample(ramp, (6, 6, 12)), ramp)
    # voxel centres: 12 voxels as 24 lie at -0.25, 0.25, 0.75 ...
    np.testing.assert_allclose(resample(ramp, (6, 6, 24))[0, 0, 1:-1], np.arange(1, 23) / 2 - 0.25, atol=1e-5)
    noise = rng.random((24, 24, 24), np.float32)
    small = resample(noise, (8, 8, 8))
    assert small.shape == (8, 8, 8) and abs(small.mean() - noise.mean()) < 0.01
    assert small.std() < 0.5 * noise[::3, ::3, ::3].std(), "averaged, not picked"


def test_a_flow_resampled_and_scaled_moves_the_same_tissue(rng):
    """From a grid of 16 to volumes of 24 x 32 x 40 voxels, as the registration task does it."""
    shape = (24, 32, 40)
    scale = np.array(shape, np.float32)[:, None, None, None] / 16
    shift = np.array([1.0, -0.5, 2], np.float32)[:, None, None, None]
    flow = resample(np.zeros((3, 16, 16, 16), np.float32) + shift, shape) * scale
    places = np.indices(shape, np.float32)
    moved = np.stack([warp(axis, flow) for axis in places])[:, 3:-3, 3:-3, 6:-6]
    np.testing.assert_allclose(moved - places[:, 3:-3, 3:-3, 6:-6], (shift * scale) + np.zeros_like(moved), atol=1e-4)


def test_jacobian_of_scaling_mirror_and_shear(rng):
    z, y, x = np.indices((6, 7, 8), np.float32)
    zero = np.zeros_like(z)
    for flow, expected in (
        ((0.5 * z, 0.5 * y, 0.5 * x), 1.5**3),
        ((-2 * z, zero, zero), -1),
        ((y, zero, zero), 1),
        ((zero + 3, zero, zero), 1),
    ):
        determinant = jacobian_determinant(np.stack(flow))
        assert determinant.shape == (5, 6, 7)
        np.testing.assert_allclose(determinant, expected, atol=1e-5)


def test_intensities_become_0_to_1(rng):
    np.testing.assert_allclose(normalise(np.array([[[0, 51, 255]]], np.uint8), (0, 255)), [[[0, 0.2, 1]]], atol=1e-6)
    hounsfield = np.array([[[-1000, -25, 120, 265, 2000]]], np.int16)
    np.testing.assert_allclose(normalise(hounsfield, (-25, 265)), [[[0, 0, 0.5, 1, 1]]], atol=1e-6)
    grey = normalise(rng.normal(300, 50, (20, 20, 20)))
    assert (grey.min(), grey.max()) == (0, 1) and 0.003 < (grey == 1).mean() < 0.007


def test_dice_is_the_mean_over_the_labels_that_are_there():
    one, other = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    one[0], other[0, :2] = 1, 1
    one[1], other[1] = 2, 2
    assert dice(one, other, (1, 2, 3)) == pytest.approx((2 * 2 / 6 + 1) / 2)
    assert np.isnan(dice(one, other, (3,)))


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (np.zeros((3, 4)), r"expected a volume \(D, H, W\).*float64 \(3, 4\)"),
        (np.zeros((3, 4, 5, 2)), r"take one time step"),
        (np.zeros((3, 1, 5)), "at least 2 voxels"),
        (np.full((2, 2, 2), np.nan), "8 voxels are NaN or infinite"),
        (np.zeros((2, 2, 2), complex), "complex128"),
    ],
)
def test_other_arrays_are_refused(volume, message):
    with pytest.raises(InputError, match=message):
        check_volume(volume, "fixed")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_the_type_of_the_numbers_does_not_tell_their_range(rng, dtype):
    """Templates ship as uint8 with a largest value of 133; LDR's HDF5 files hold shades, whose reader says so."""
    dark = rng.integers(0, 134, (20, 20, 20))
    np.testing.assert_array_equal(normalise(dark.astype(dtype)), normalise(dark.astype(np.float64)))


def test_a_scan_that_is_nearly_all_background_is_none_the_less_a_scan():
    sparse = np.zeros((40, 40, 40), np.int16)
    sparse[18:21, 20:23, 16:18] = 500
    np.testing.assert_array_equal(normalise(sparse), sparse / np.float32(500))


def test_a_constant_volume_is_named():
    with pytest.raises(InputError, match=r"scan\.nii: expected a scan, got 3 in every voxel"):
        normalise(np.full((4, 4, 4), 3.0), name="scan.nii")


@pytest.mark.parametrize("window", [(5000, 6000), (-25, -5), (100, 500)])
def test_a_window_that_no_voxel_lies_within_is_no_window(window):
    """All black, all white, or both: 100 and 500 themselves become black and white."""
    with pytest.raises(ResultError, match=r"scan\.nii: no voxel lies within.*values are 100\.\.500"):
        normalise(np.array([[[100, 500], [100, 500]]] * 2), window, "scan.nii")


@pytest.mark.parametrize("window", [(265, -25), (1, 1), (float("nan"), 1), (0, float("inf"))])
def test_a_window_that_does_not_rise_is_refused(window):
    with pytest.raises(InputError, match="expected a window of two intensities that rise"):
        normalise(np.arange(8.0).reshape(2, 2, 2), window)


# ---- NIfTI


@pytest.fixture
def nifti():
    nib = pytest.importorskip("nibabel")

    def make(shape=(6, 7, 8), affine=None, dtype=np.float32):
        data = np.random.default_rng(1).integers(0, 200, shape).astype(dtype)
        return nib.Nifti1Image(data, np.diag([2.0, 2, 3, 1]) if affine is None else affine)

    return make


def test_voxels_come_with_the_headers_slope(nifti, tmp_path):
    nib = pytest.importorskip("nibabel")
    image = nifti(dtype=np.int16)
    image.header.set_slope_inter(2, -5)
    nib.save(image, tmp_path / "a.nii.gz")
    loaded = nifti_data(read_nifti(tmp_path / "a.nii.gz"), "a")
    np.testing.assert_allclose(loaded, 2 * image.get_fdata() - 5)
    for dtype in (np.uint8, np.int16, np.int32):  # labels of a FreeSurfer atlas do not fit into float32
        nib.save(nifti(dtype=dtype), tmp_path / "b.nii")
        assert nifti_data(read_nifti(tmp_path / "b.nii"), "b").dtype == dtype


def test_colours_and_complex_numbers_are_refused_by_name(tmp_path):
    nib = pytest.importorskip("nibabel")
    rgb = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for data, says in ((rgb, "got colours: save one channel"), (np.ones((4, 4, 4), np.complex64), "got complex64")):
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "scan.nii.gz")
        with pytest.raises(InputError, match=rf"scan\.nii\.gz: expected one real number in each voxel, {says}"):
            nifti_data(read_nifti(tmp_path / "scan.nii.gz"), str(tmp_path / "scan.nii.gz"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "checksum", "header", "plain", "surface"])
def test_damaged_files_are_refused_by_name(nifti, tmp_path, damage):
    nib = pytest.importorskip("nibabel")
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(9, 9, 9)), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    elif damage == "checksum":
        content[-6] ^= 255
    elif damage == "header":
        plain = bytearray(gzip.decompress(content))
        plain[40:42], plain[70:72] = b"\xff\x7f", b"\x63\x63"  # dimensions and type of the voxels
        content = gzip.compress(plain)
    elif damage == "plain":
        content = gzip.decompress(content)
    if damage == "surface":
        path = tmp_path / "scan.gii"
        nib.save(nib.GiftiImage(), path)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"scan\.(nii\.gz|gii): expected a"):
        nifti_data(read_nifti(path), str(path))


@pytest.mark.parametrize("value", [0, np.nan])
def test_an_affine_that_places_nothing_is_refused_by_name(nifti, value):
    other = nifti()
    other.affine[2, 2] = value
    with pytest.raises(InputError, match="b: expected an affine"):
        check_same_space(nifti(), other, ("a", "b"))


def test_pairs_on_one_grid_are_taken_also_with_a_rounded_affine(nifti):
    moved = np.diag([2.0, 2, 3, 1])
    moved[:3, 3] = 1e-3
    check_same_space(nifti(), nifti(affine=moved), ("a", "b"))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"shape": (6, 7, 9)}, r"a has the shape \(6, 7, 8\), b has \(6, 7, 9\)"),
        ({"affine": np.diag([-2.0, 2, 3, 1])}, "a has the orientation RAS, b has LAS"),
        ({"affine": np.diag([2.0, 2, 2.5, 1])}, r"place the voxel \(6, 7, 8\) 4\.00 mm apart"),
    ],
)
def test_pairs_on_two_grids_are_refused_with_the_way_out(nifti, other, message):
    with pytest.raises(InputError, match=message + r"(.|\n)*register --resample"):
        check_same_space(nifti(), nifti(**other), ("a", "b"))


@pytest.mark.parametrize("content", [b"", b"no scan", bytes(400)])
def test_files_that_are_no_nifti_are_refused_by_name(tmp_path, content):
    pytest.importorskip("nibabel")
    (tmp_path / "scan.nii.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"scan\.nii\.gz: expected a NIfTI file"):
        read_nifti(tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match=r"nowhere\.nii"):
        read_nifti(tmp_path / "nowhere.nii")


def test_a_truncated_file_is_refused_by_name(nifti, tmp_path):
    nib = pytest.importorskip("nibabel")
    path = tmp_path / "scan.nii"
    nib.save(nifti(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"scan\.nii: expected a whole NIfTI file"):
        nifti_data(read_nifti(path), str(path))


def test_a_coarse_flow_comes_to_a_finer_grid_as_scipys_splines(rng):
    flow = rng.normal(0, 2, (3, 8, 6, 10)).astype(np.float32)
    shape = (16, 13, 21)
    scale = np.array(shape, np.float32) / np.array(flow.shape[1:], np.float32)
    places = [(np.arange(new) + 0.5) / s - 0.5 for new, s in zip(shape, scale, strict=True)]
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    for channel, factor in enumerate(scale):
        padded = np.pad(flow[channel], 3, mode="edge")
        expected = factor * map_coordinates(padded, grid + 3, order=3, prefilter=False, mode="nearest")
        np.testing.assert_allclose(to_grid(flow, shape)[channel], expected, atol=1e-3)
    linear = np.indices((8, 8, 8)).astype(np.float32)
    steps = np.diff(to_grid(linear, (16, 16, 16))[0, 6:-6, 0, 0])
    np.testing.assert_allclose(steps, 1, atol=1e-5)  # a linear flow stays linear
    same = to_grid(flow, flow.shape[1:])
    assert same is not flow and np.array_equal(same, flow)


def test_a_flow_into_another_grid(rng):
    flow = rng.normal(0, 2, (3, 5, 6, 7)).astype(np.float32)
    onto = np.eye(4)
    onto[:3, :3], onto[:3, 3] = [[0, 2, 0], [1, 0, 0.5], [0, 0, -1]], [3, -1, 6]
    grid = np.indices(flow.shape[1:]).astype(np.float32)
    expected = np.tensordot(onto[:3, :3], grid + flow, 1) + onto[:3, 3, None, None, None] - grid
    np.testing.assert_allclose(placed(onto, flow), expected, atol=1e-4)


@pytest.mark.parametrize("nearest", [False, True])
def test_what_lies_outside_has_its_value(rng, nearest):
    volume, flow = rng.random((6, 6, 6), np.float32), np.zeros((3, 6, 6, 6), np.float32)
    flow[1] = 2.4
    warped = warp(volume, flow, nearest=nearest, outside=-7)
    assert (warped[:, 4:] == -7).all() and (warped[:, :4] >= 0).all()
