"""The registration task: a net with a known answer, on its own grid and on others, from arrays and from files."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from edgeflock.runtime.bundle.bundle import Bundle
from edgeflock.runtime.errors import BundleError, InputError
from edgeflock.runtime.prepare.phantom import draw_phantom
from edgeflock.runtime.tasks import open_task
from edgeflock.runtime.tasks.registration import Jacobian, Registration

SHIFT = np.array([1, -2, 0.5], np.float32)[:, None, None, None]


@pytest.fixture
def task(shift_bundle):
    return Registration(shift_bundle)


def volumes(shape, dtype=np.float32):
    rng = np.random.default_rng(3)
    return [(1000 * rng.random(shape)).astype(dtype) for _ in range(2)]


def test_opens_by_the_bundles_task_and_replays_its_vectors(shift_bundle):
    task = open_task(shift_bundle)
    assert isinstance(task, Registration) and task.deviation == 0
    fixed, moving = task.example()
    result = task(fixed, moving)
    assert fixed.shape == moving.shape == result.warped.shape == (16, 16, 16)
    assert min(result.prepare_ns, result.inference_ns, result.finish_ns) > 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_warps_on_the_nets_own_grid(task, dtype):
    fixed, moving = volumes((16, 16, 16), dtype)
    result = task(fixed, moving)
    np.testing.assert_allclose(result.flow, np.broadcast_to(SHIFT, (3, 16, 16, 16)), atol=1e-6)
    expected = map_coordinates(moving.astype(float), np.indices((16, 16, 16)) + SHIFT, order=1, mode="nearest")
    np.testing.assert_allclose(result.warped, expected, atol=1e-2)
    assert result.jacobian == Jacobian(folded=0, std=0, minimum=1, maximum=1)


def test_warps_on_the_grid_of_the_volumes(task):
    shape = (24, 32, 20)
    fixed, moving = volumes(shape)
    result = task(fixed, moving)
    flow = np.broadcast_to(SHIFT * np.array(shape)[:, None, None, None] / 16, (3, *shape))
    assert result.flow.dtype == result.warped.dtype == np.float32
    np.testing.assert_allclose(result.flow, flow, atol=1e-5)
    expected = map_coordinates(moving, np.indices(shape) + flow, order=1, mode="nearest")
    np.testing.assert_allclose(result.warped, expected, atol=0.1)


def test_the_net_sees_the_window_in_the_manifests_range(task):
    fixed = np.full((16, 16, 16), 100, np.int16)
    fixed[0, 0, :3] = -1000, 120, 2000
    task(fixed, fixed, window=(-25, 265))
    np.testing.assert_allclose(task.inputs["fixed"][0, 0, 0, 0, :3], [0, 127.5, 255], atol=1e-3)


def test_the_answer_is_the_callers(task):
    first = task(*volumes((16, 16, 16)))
    kept = first.flow.copy()
    task.outputs["flow"][:] = 7
    np.testing.assert_array_equal(first.flow, kept)


def test_a_fold_is_reported():
    flow = np.zeros((3, 9, 9, 9), np.float32)
    flow[0, 4] = -3  # the plane 4 comes from before the plane 3
    jacobian = Jacobian.of(flow)
    assert jacobian.folded == pytest.approx(1 / 8) and jacobian.minimum == -2 and jacobian.maximum == 4


def test_files_are_read_with_their_affine(task, tmp_path):
    nib = pytest.importorskip("nibabel")
    paths = [tmp_path / "fixed.nii.gz", tmp_path / "moving.nii"]
    fixed, moving = volumes((16, 18, 20), np.int16)
    for path, volume in zip(paths, (fixed, moving), strict=True):
        nib.save(nib.Nifti1Image(volume, np.diag([1, 1, 2, 1])), path)
    np.testing.assert_array_equal(task(*paths).warped, task(fixed, moving).warped)
    nib.save(nib.Nifti1Image(moving, np.diag([1, -1, 2, 1])), paths[1])
    with pytest.raises(InputError, match="orientation"):
        task(*paths)


@pytest.mark.parametrize(
    ("fixed", "moving", "message"),
    [
        (np.zeros((4, 4, 4)), np.zeros((4, 4, 5)), r"same shape, got \(4, 4, 4\) and \(4, 4, 5\)"),
        (np.zeros((4, 4)), np.zeros((4, 4)), r"fixed: expected a volume"),
        (np.zeros((4, 4, 4)), np.full((4, 4, 4), np.nan), "moving: expected finite values, 64 voxels"),
        (np.ones((4, 4, 4)), np.ones((4, 4, 4)), "fixed: expected a scan, got 1 in every voxel"),
        ("scan.nii", np.ones((4, 4, 4)), "two arrays or two paths, got str and ndarray"),
    ],
)
def test_volumes_that_do_not_fit_are_refused(task, fixed, moving, message):
    with pytest.raises(InputError, match=message):
        task(fixed, moving)


def test_bundles_of_other_tasks_are_refused(shift_bundle, bundle):
    with pytest.raises(BundleError, match="task 'steering', not for 'registration'"):
        Registration(bundle)
    manifest = Bundle.open(shift_bundle).manifest.model_copy(deep=True)
    manifest.inputs = manifest.inputs[:1]
    with pytest.raises(BundleError, match=r"fixed and moving \(1, 1, D, H, W\) in"):
        Registration.check(Registration.__new__(Registration), manifest)


def test_the_net_that_ships_registers_two_bodies_without_folds():
    task = Registration()
    fixed, moving = (draw_phantom(seed, 64)[0] for seed in (101, 102))
    result = task(fixed, moving)
    before, after = (np.corrcoef(fixed.ravel(), other.ravel())[0, 1] for other in (moving, result.warped))
    assert after > before + 0.1 and result.jacobian.folded == 0
    assert task.bundle.manifest.training.synthetic
