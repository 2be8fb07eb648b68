"""Volumes to register: HDF5 files and JSON spec of the LDR authors, folders of NIfTI files (docs/registration.md).

* Spec: `files` names HDF5 files, `subsets` lists cases as "file/case", `schemes` says which subsets are trained on
  ("1") and which validated ("2"). A case is a group with `volume` uint8 (S, S, S) and perhaps `segmentation`: one organ
  as 0 and 255, or class values, which `segmentation_class_value` then names.
* NIfTI: `NAME.nii.gz`, and `NAME_seg.nii.gz` with class values where there is one; below `train/` and `val/` if there
  are two splits. Every volume is resampled to S^3 and kept in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import parse_json
from edgeflock.runtime.prepare.volume import nifti_data, normalise, read_nifti, resample

SCHEMES = {"train": "1", "val": "2"}
_UNREAD = (".mgz", ".mgh", ".nrrd", ".nhdr", ".mha", ".mhd", ".img", ".dcm", ".mnc")  # scans of other kinds


@dataclass(frozen=True)
class Volume:
    """One scan.

    Attributes
    ----------
    image : ndarray
        uint8 (S, S, S), 0..255.
    labels : ndarray or None
        uint8 (S, S, S), class of each voxel, 0 = background.
    """

    image: np.ndarray
    labels: np.ndarray | None

    def at(self, size: int) -> Volume:
        """The scan at a smaller size that divides its own: averaged, and of the labels the middle voxel's."""
        step = len(self.image) // size
        if step == 1:
            return self
        blocks = self.image.reshape([n for _ in range(3) for n in (size, step)])
        middle = slice(step // 2, None, step)
        labels = None if self.labels is None else self.labels[middle, middle, middle]
        return Volume(np.rint(blocks.mean((1, 3, 5))).astype(np.uint8), labels)


@dataclass(eq=False)
class VolumeDataset:
    """Scans of one size, read when asked for.

    Attributes
    ----------
    names : list of str
    classes : tuple of int
        Class values in the segmentations.
    size : int
        Voxels along each side.
    read : callable
        Name -> Volume.
    synthetic : bool
        Whether all of them were drawn, or bent out of one scan.
    """

    names: list[str]
    classes: tuple[int, ...]
    size: int
    read: Callable[[str], Volume]
    synthetic: bool = False
    pairs: list[tuple[int, int]] = field(init=False)
    """(fixed, moving), every ordered pair of two scans of one place, as the authors evaluate."""

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise DataError(f"registration needs at least two volumes, got {self.names or 'none'}.")
        self.pairs = list(permutations(range(len(self.names)), 2))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Volume:
        name = self.names[index]
        volume = self.read(name)
        for what, array in (("volume", volume.image), ("segmentation", volume.labels)):
            if array is not None and (array.shape != (self.size,) * 3 or array.dtype != np.uint8):
                raise DataError(
                    f"{name}: expected a {what} uint8 ({self.size}, {self.size}, {self.size}), got {array.dtype} "
                    f"{array.shape}: resample it, or pass a folder of NIfTI files, which are resampled here."
                )
        return volume

    def only(self, names: list[str]) -> VolumeDataset:
        """Some of the scans."""
        return VolumeDataset(names, self.classes, self.size, self.read, self.synthetic)

    def some_pairs(self, count: int) -> list[tuple[int, int]]:
        """At most `count` pairs, spread evenly over all."""
        chosen = np.linspace(0, len(self.pairs) - 1, min(count, len(self.pairs))).round().astype(int)
        return [self.pairs[i] for i in chosen]

    def digest(self) -> str:
        """SHA-256 (hex) of names, images and labels."""
        sha = hashlib.sha256(repr((self.names, self.classes, self.size)).encode())
        for i in range(len(self)):
            volume = self[i]
            for array in (volume.image, volume.labels):
                sha.update(b"none" if array is None else np.ascontiguousarray(array).data)
        return sha.hexdigest()


def open_volumes(path: str | Path, split: str = "train", size: int = 128) -> VolumeDataset:
    """Read a spec (`.json`) or a folder of NIfTI files.

    Parameters
    ----------
    path : str or Path
    split : str
        "train" or "val"; of a spec also the name of a subset.
    size : int
        To which NIfTI volumes are resampled; a spec says its own.

    Raises
    ------
    InputError
        There is neither at `path`, or no such split.
    DataError
        The data is broken.
    MissingExtra
        h5py or nibabel is not installed.
    """
    path = Path(path)
    if path.is_file() and path.suffix == ".json":
        return _open_spec(path, split)
    if path.is_dir():
        return _open_folder(path, split, size)
    raise InputError(f"{path}: expected the authors' spec (.json) or a folder with NIfTI files (.nii, .nii.gz).")


def _open_spec(path: Path, split: str) -> VolumeDataset:
    try:
        spec = parse_json(path.read_bytes())
        files, subsets = {name: entry["path"] for name, entry in spec["files"].items()}, spec["subsets"]
        schemes, size = spec.get("schemes", {}), spec.get("image_size", [128])[0]
        chosen = [split] if split in subsets else list(schemes.get(SCHEMES.get(split, split), ()))
        entries = [entry for subset in chosen for entry in subsets[subset]]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(
            f'{path}: expected {{"files": {{name: {{"path"}}}}, "subsets": {{name: [cases]}}, "schemes": {{"1": ..., '
            f'"2": ...}}}}, reading it failed: {type(error).__name__} {error}'
        ) from None
    if not chosen:
        raise InputError(f"{path} has no split {split!r}: expected one of {', '.join([*subsets, *SCHEMES])}.")
    named = spec.get("segmentation_class_value")

    def read(entry: str) -> Volume:
        prefix, _, case = entry.partition("/")
        if prefix not in files:
            raise DataError(f"{path}: {entry!r} names the file {prefix!r}, `files` has {', '.join(files)}.")
        file = path.parent / files[prefix]
        try:
            with h5py().File(file if file.exists() else files[prefix], "r") as hdf5:
                group = hdf5[case]
                labels = group["segmentation"][:] if "segmentation" in group else None
                volume = group["volume"][:]
        except (OSError, KeyError) as error:
            raise DataError(f"{files[prefix]}: expected the case {case!r} with `volume`, got: {error}") from None
        return Volume(volume, (labels > 128).astype(np.uint8) if labels is not None and not named else labels)

    return VolumeDataset(entries, tuple(named.values()) if named else (1,), size, read, spec.get("synthetic") is True)


def open_places(paths: Sequence[Path], split: str = "train", size: int = 128) -> VolumeDataset:
    """Read several places as `open_volumes` does; a pair lies within one, since each may show another anatomy.

    Raises
    ------
    DataError
        Their scans have different sizes, or see `open_volumes`, also for other errors.
    """
    parts = [open_volumes(path, split, size) for path in paths]
    if len(parts) == 1:
        return parts[0]
    sizes = [part.size for part in parts]
    if len(set(sizes)) > 1:
        raise DataError(f"expected scans of one size, got {', '.join(map(str, sizes))} voxels along each side.")
    origins = {f"{place}/{name}": (part, name) for place, part in enumerate(parts) for name in part.names}

    def read(joined: str) -> Volume:
        part, name = origins[joined]
        return part.read(name)

    classes = tuple(sorted({value for part in parts for value in part.classes}))
    whole = VolumeDataset(list(origins), classes, sizes[0], read, all(part.synthetic for part in parts))
    owners = [id(part) for part, _ in origins.values()]
    whole.pairs = [(a, b) for a, b in whole.pairs if owners[a] == owners[b]]
    return whole


def check_apart(training: VolumeDataset, validation: VolumeDataset) -> None:
    """Refuse to judge a net on scans that it was trained on.

    Raises
    ------
    InputError
        A scan is in both sets, under whatever name.
    """
    known = {_hash(training[i].image): name for i, name in enumerate(training.names)}
    for i, name in enumerate(validation.names):
        if twin := known.get(_hash(validation[i].image)):
            raise InputError(
                f"the validation scan {name} is the training scan {twin}: put the scans into train/ and val/ below one "
                "folder, or name other ones with --val."
            )


def _hash(image: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()


def _open_folder(path: Path, split: str, size: int) -> VolumeDataset:
    folder = path / split if (path / split).is_dir() else path
    inside = sorted(folder.iterdir())
    scans = {_stem(file): file for file in inside if file.name.lower().endswith((".nii", ".nii.gz"))}
    names = [name for name in scans if not name.endswith("_seg")]
    lost = [file.name for file in inside if file.suffix.lower() in _UNREAD]
    lost += [scans[name].name for name in scans if name.endswith("_seg") and name.removesuffix("_seg") not in scans]
    if lost:
        raise DataError(
            f"{folder}: expected NIfTI files NAME.nii.gz and NAME_seg.nii.gz, got {len(lost)} that would be passed "
            f"over ({', '.join(lost[:5])}): convert them, name segmentations after their scans, or move them away."
        )
    read: dict[str, Volume] = {}
    for name in names:
        read[name] = read_scan(scans[name], scans.get(f"{name}_seg"), size)
    if len(names) < 2:
        raise DataError(
            f"{folder}: expected at least two NIfTI files NAME.nii or NAME.nii.gz, found {names or 'none'}."
        )
    classes = {int(c) for volume in read.values() if volume.labels is not None for c in np.unique(volume.labels)}
    return VolumeDataset(names, tuple(sorted(classes - {0})), size, read.__getitem__)


def read_scan(path: Path, labels: Path | None, size: int) -> Volume:
    """One NIfTI scan and its segmentation, resampled to size^3; errors as for `open_volumes`."""
    voxels = normalise(nifti_data(read_nifti(path), str(path)), name=str(path))
    grey = np.rint(resample(voxels, (size,) * 3) * 255).astype(np.uint8)
    return Volume(grey, None if labels is None else _labels(labels, voxels.shape, size))


def _stem(file: Path) -> str:
    name = file.name[:-3] if file.name.lower().endswith(".gz") else file.name
    return name[:-4]


def _labels(file: Path, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Class values uint8 (size, size, size), each the nearest voxel's."""
    labels = nifti_data(read_nifti(file), str(file))
    if labels.shape != shape:
        raise DataError(f"{file}: expected the shape of its volume, {shape}, got {labels.shape}.")
    if labels.min() < 0 or labels.max() > 255 or (labels != np.rint(labels)).any():
        raise DataError(f"{file}: expected whole class values 0..255, got {labels.min():g}..{labels.max():g}.")
    nearest = [((np.arange(size) + 0.5) * n / size).astype(int) for n in shape]
    return labels[np.ix_(*nearest)].astype(np.uint8)


def h5py() -> Any:
    """The module; MissingExtra where it is not installed."""
    with needs("The authors' data layout (HDF5)"):
        import h5py as module
    return module
