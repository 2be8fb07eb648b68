"""The npz files of the FADNet authors: one per silo, in two layouts (folder loaders/ of aioz-ai/FADNet).

* "driving" (Udacity): `imgs` float32 (N, 1, 200, 200), grey 0..255, already cropped, and `ground_truths` (N,) rad.
* "complex" (Gazebo, Carla): `file_names` (N,) str, paths relative to a `data` folder, and `ground_truths`. The images
  are read as the authors do it, grey and 320x240, but with `grey_320x240`'s fixed-point steps: a pixel can differ by a
  grey level from theirs.

On disk: `data/<experiment>/<network>/{train,test}/<silo>.npz`; `train/train.npz` and `test/test.npz` hold all silos
once more, so they are read only where there are no numbered files.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from edgeflock.export.datasets.base import SteeringDataset, concatenate, parse_angle
from edgeflock.export.datasets.images import read_frames
from edgeflock.export.datasets.options import ReadOptions
from edgeflock.runtime.errors import DataError

_KEYS = "'imgs' and 'ground_truths' (driving) or 'file_names' and 'ground_truths' (complex)"


def read_npz(path: str | Path, options: ReadOptions | None = None) -> SteeringDataset:
    """Read one npz file, or all silos of a split folder; each file becomes a group.

    Raises
    ------
    DataError
        If a file is truncated, needs pickle, lacks an array, or holds something else than frames and angles in rad.
    """
    path = Path(path)
    if path.is_file():
        return _read_file(path, options)
    files = sorted(path.glob("*.npz"))
    silos = sorted((file for file in files if file.stem.isdecimal()), key=lambda file: int(file.stem))
    if not files:
        raise DataError(f"{path}: expected <silo>.npz files, found none")
    return concatenate([_read_file(file, options) for file in silos or files])


def _read_file(path: Path, options: ReadOptions | None) -> SteeringDataset:
    arrays = _load(path)
    angles = arrays["ground_truths"]
    if angles.dtype.kind not in "fiu" or angles.shape not in ((angles.size,), (angles.size, 1)):
        raise DataError(f"{path}, 'ground_truths': expected numbers (N,) in rad, got {_of(angles)}")
    given = angles.reshape(-1)
    where = f"{path}, 'ground_truths', row "
    angles = np.array([parse_angle(str(angle), f"{where}{row}", options) for row, angle in enumerate(given)])
    key = "imgs" if "imgs" in arrays else "file_names"
    if key == "imgs" and (arrays[key].shape[1:] != (1, 200, 200) or arrays[key].dtype.kind not in "fu"):
        raise DataError(f"{path}, 'imgs': expected float32 (N, 1, 200, 200), got {_of(arrays[key])}")
    if key == "file_names" and (arrays[key].ndim != 1 or arrays[key].dtype.kind != "U"):
        raise DataError(f"{path}, 'file_names': expected str (N,), got {_of(arrays[key])}")
    if len(arrays[key]) != len(angles):
        raise DataError(
            f"{path}: expected one angle per frame, got {len(arrays[key])} '{key}', {len(angles)} 'ground_truths'"
        )
    if not len(angles):
        raise DataError(f"{path}: expected at least one frame, '{key}' is empty")
    if key == "imgs":
        frames = _to_uint8(arrays[key], path)
        names = [f"{path.name}[{i}]" for i in range(len(angles))]
    else:
        names = arrays[key].tolist()
        root = _data_root(path, names[0])
        frames = read_frames(
            [root / name for name in names], [f"{path}, 'file_names', row {i}" for i in range(len(names))], path.name
        )
    return SteeringDataset(frames, angles.astype(np.float32), np.zeros(len(angles), np.int32), [path.stem], names)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            names = set(archive.files) if isinstance(archive, np.lib.npyio.NpzFile) else set()
            if "ground_truths" not in names or not names & {"imgs", "file_names"}:
                raise DataError(f"{path}: expected the arrays {_KEYS}, got {sorted(names) or 'none'}")
            return {name: archive[name] for name in ("imgs", "file_names", "ground_truths") if name in names}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise DataError(
                f"{path}: expected plain arrays, found Python objects, which need pickle and could run code. "
                "Where the file comes from, write it again with np.array(list(file_names), dtype=str)"
            ) from error
        raise DataError(f"{path}: expected a whole npz file with {_KEYS}, reading it failed: {error}") from error


def _to_uint8(images: np.ndarray, path: Path) -> np.ndarray:
    frames = np.empty((len(images), 200, 200), np.uint8)
    for i, image in enumerate(images[:, 0]):
        if not (image.min() >= 0 and image.max() <= 255):
            raise DataError(
                f"{path}, 'imgs', row {i}: expected grey values 0..255, got {image.min():g}..{image.max():g}"
            )
        np.rint(image, out=frames[i], casting="unsafe")
    if images.dtype.kind == "f" and images.max() <= 1:
        raise DataError(f"{path}, 'imgs': expected grey values 0..255, all are 0..1; multiply them by 255")
    return frames


def _of(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


def _data_root(path: Path, name: str) -> Path:
    """Folder above the npz file below which its image names are."""
    for root in path.absolute().parents:
        if (root / name).is_file():
            return root
    raise DataError(
        f"{path}, 'file_names', row 0: {name!r} is below none of the folders above the npz file; "
        "expected data/<experiment>/<network>/train/<silo>.npz and the images below data/, as the authors ship them"
    )
