"""Volumes on disk: the authors' spec and HDF5 files, NIfTI folders, phantoms, and B-spline fields."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.interpolate import BSpline

from edgeflock.export.datasets.synthetic.phantoms import phantoms
from edgeflock.export.datasets.volumes import check_apart, open_places, open_volumes
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.prepare.phantom import CLASSES, bspline_field, draw_phantom
from edgeflock.runtime.prepare.volume import dice

SIZE = 16


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """Two files in the authors' layout: livers with masks of 0 and 255, one case without a mask."""
    rng = np.random.default_rng(0)
    for file, cases in {"lits": ("1", "2", "3"), "sliver": ("a", "b")}.items():
        with h5py.File(tmp_path / f"{file}.h5", "w") as hdf5:
            for case in cases:
                group = hdf5.create_group(case)
                group["volume"] = rng.integers(0, 256, (SIZE,) * 3, np.uint8)
                if case != "3":
                    group["segmentation"] = 255 * rng.integers(0, 2, (SIZE,) * 3, np.uint8)
    content = {
        "files": {name: {"type": "any", "path": f"{name}.h5"} for name in ("lits", "sliver")},
        "image_size": [SIZE] * 3,
        "subsets": {"lits-all": ["lits/1", "lits/2", "lits/3"], "sliver-val": ["sliver/a", "sliver/b"]},
        "schemes": {"1": {"lits-all": 1}, "2": {"sliver-val": 1}},
    }
    (tmp_path / "liver.json").write_text(json.dumps(content))
    return tmp_path / "liver.json"


def test_the_authors_spec_gives_splits_and_subsets(spec: Path) -> None:
    training, validation = open_volumes(spec, "train"), open_volumes(spec, "val")
    assert training.names == ["lits/1", "lits/2", "lits/3"] and validation.names == ["sliver/a", "sliver/b"]
    assert open_volumes(spec, "sliver-val").names == validation.names
    assert training.size == SIZE and training.classes == (1,)
    with h5py.File(spec.with_name("lits.h5")) as hdf5:
        np.testing.assert_array_equal(training[1].image, hdf5["2/volume"][:])
        np.testing.assert_array_equal(training[1].labels, hdf5["2/segmentation"][:] == 255)
    assert training[2].labels is None


def test_classes_keep_their_values(spec: Path) -> None:
    content = json.loads(spec.read_text()) | {"segmentation_class_value": {"hippocampus": 165, "putamen": 255}}
    spec.write_text(json.dumps(content))
    volumes = open_volumes(spec)
    assert volumes.classes == (165, 255) and set(np.unique(volumes[0].labels)) == {0, 255}


def test_pairs_are_all_ordered_ones_and_some_are_spread_over_them(spec: Path) -> None:
    volumes = open_volumes(spec)
    assert volumes.pairs == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert volumes.some_pairs(3) == [(0, 1), (1, 0), (2, 1)] and len(volumes.some_pairs(99)) == 6


def test_digest_sees_images_labels_and_names(spec: Path) -> None:
    before = open_volumes(spec).digest()
    assert open_volumes(spec).digest() == before != open_volumes(spec, "val").digest()
    with h5py.File(spec.with_name("lits.h5"), "r+") as hdf5:
        hdf5["1/segmentation"][0, 0, 0] ^= 255
    assert open_volumes(spec).digest() != before


@pytest.mark.parametrize(
    ("change", "split", "error", "message"),
    [
        ({}, "test", InputError, "no split 'test': expected one of lits-all, sliver-val, train, val"),
        ({"files": {}}, "train", DataError, "names the file 'lits'"),
        ({"files": [1]}, "train", DataError, r"liver\.json: expected"),
        ({"subsets": {"lits-all": ["lits/1", "lits/9"]}}, "train", DataError, r"lits\.h5: expected the case '9'"),
        ({"subsets": {"lits-all": ["lits/1"]}}, "train", DataError, "at least two volumes"),
        ({"image_size": [32] * 3}, "train", DataError, r"volume uint8 \(32, 32, 32\), got uint8 \(16, 16, 16\)"),
    ],
)
def test_broken_specs_are_named(spec: Path, change: dict, split: str, error: type[Exception], message: str) -> None:
    spec.write_text(json.dumps(json.loads(spec.read_text()) | change))
    with pytest.raises(error, match=message):
        volumes = open_volumes(spec, split)
        for i in range(len(volumes)):
            volumes[i]


def test_other_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(DataError, match="JSONDecodeError"):
        open_volumes(tmp_path / "spec.json")
    with pytest.raises(InputError, match="authors' spec"):
        open_volumes(tmp_path / "nowhere")


# ---- NIfTI folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nib = pytest.importorskip("nibabel")
    for i, name in enumerate("ab"):
        ball = np.linalg.norm(np.indices((20, 30, 24)) - np.reshape([10, 15, 12 + i], (3, 1, 1, 1)), axis=0) < 8
        nib.save(nib.Nifti1Image(1000.0 * ball - 500, np.eye(4)), tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(3 * ball.astype(np.uint8), np.eye(4)), tmp_path / f"{name}_seg.nii")
    return tmp_path


def test_nifti_volumes_are_resampled_with_their_labels(folder: Path) -> None:
    volumes = open_volumes(folder, size=SIZE)
    assert volumes.names == ["a", "b"] and volumes.classes == (3,)
    for volume in (volumes[0], volumes[1]):
        assert volume.image.shape == volume.labels.shape == (SIZE,) * 3
        assert dice((volume.image > 127).astype(np.uint8) * 3, volume.labels, (3,)) > 0.95
    assert volumes[0].image.max() == 255 and volumes[0].image.min() == 0


def test_nifti_splits_are_folders_and_labels_must_fit(folder: Path) -> None:
    nib = pytest.importorskip("nibabel")
    (folder / "val").mkdir()
    with pytest.raises(DataError, match=r"val: expected at least two NIfTI files"):
        open_volumes(folder, "val")
    nib.save(nib.Nifti1Image(np.zeros((20, 30, 23), np.uint8), np.eye(4)), folder / "a_seg.nii")
    with pytest.raises(DataError, match=r"a_seg\.nii: expected the shape of its volume, \(20, 30, 24\)"):
        open_volumes(folder)
    nib.save(nib.Nifti1Image(np.full((20, 30, 24), 0.5), np.eye(4)), folder / "a_seg.nii")
    with pytest.raises(DataError, match=r"whole class values 0\.\.255, got 0\.5"):
        open_volumes(folder)


# ---- phantoms


def test_phantoms_are_one_anatomy_in_many_bodies() -> None:
    (image, labels), (_, other) = draw_phantom(1, 48), draw_phantom(2, 48)
    assert image.dtype == labels.dtype == np.uint8 and set(np.unique(labels)) == {0, *CLASSES.values()}
    again, _ = draw_phantom(1, 48)
    np.testing.assert_array_equal(image, again)
    assert 0.2 < dice(labels, other, tuple(CLASSES.values())) < 0.9
    levels = [image[labels == value].mean() for value in CLASSES.values()]
    assert min(np.abs(np.subtract.outer(levels, levels))[~np.eye(4, dtype=bool)]) > 5, "organs differ in grey"


def test_phantoms_are_written_in_the_authors_layout(tmp_path: Path) -> None:
    phantoms(tmp_path, train=2, val=2, size=SIZE, seed=7)
    training, validation = (open_volumes(tmp_path / "phantoms.json", split) for split in ("train", "val"))
    assert training.names == ["phantom/7", "phantom/8"] and validation.names == ["phantom/9", "phantom/10"]
    assert training.classes == (1, 2, 3, 4)
    np.testing.assert_array_equal(validation[0].image, draw_phantom(9, SIZE)[0])
    with pytest.raises(InputError, match="there already"):
        phantoms(tmp_path, train=2, val=2, size=SIZE, seed=7)


def test_places_are_joined_and_pairs_lie_within_one(tmp_path: Path, spec: Path) -> None:
    phantoms(tmp_path / "drawn", train=2, val=2, size=SIZE, seed=7)
    places = [spec, tmp_path / "drawn/phantoms.json"]
    joined, apart = open_places(places), [open_volumes(place) for place in places]
    assert len(joined) == 5 and joined.classes == (1, 2, 3, 4)
    assert len(joined.pairs) == sum(len(part.pairs) for part in apart)
    for fixed, moving in joined.pairs:
        assert joined.names[fixed].partition("/")[0] == joined.names[moving].partition("/")[0]
    np.testing.assert_array_equal(joined[3].image, apart[1][0].image)
    assert apart[1].synthetic and not joined.synthetic
    phantoms(tmp_path / "other", train=2, val=2, size=SIZE // 2, seed=7)
    with pytest.raises(DataError, match="scans of one size"):
        open_places([places[1], tmp_path / "other/phantoms.json"])


def test_bspline_fields_are_scipys_splines() -> None:
    control = np.random.default_rng(0).normal(size=(2, 5, 5, 5))
    field = bspline_field(control, 21)
    # uniform cubic splines centred on the control points, nothing beyond them
    basis = [BSpline.basis_element(np.arange(i - 2, i + 3), extrapolate=False) for i in range(5)]
    weights = np.nan_to_num([element(np.linspace(0, 4, 21)) for element in basis])
    assert field.shape == (2, 21, 21, 21)
    expected = np.einsum("cijk,ix,jy,kz->cxyz", control, weights, weights, weights)
    np.testing.assert_allclose(field, expected, atol=1e-5)


def test_scans_without_splits_cannot_judge_what_they_taught(folder: Path) -> None:
    with pytest.raises(InputError, match="the validation scan a is the training scan a: put the scans into train/"):
        check_apart(open_volumes(folder, "train", SIZE), open_volumes(folder, "val", SIZE))


@pytest.mark.parametrize("name", ["c.mgz", "c.NRRD", "c_seg.nii.gz"])
def test_scans_that_would_be_passed_over_are_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.raises(DataError, match=f"1 that would be passed over \\({name}\\)"):
        open_volumes(folder, size=SIZE)
