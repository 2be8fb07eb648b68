"""Faces and scenes with an emotion each, prepared as the robot prepares them: rendered, or from data sets on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from torch import nn

from edgeflock.export.datasets.formats.emotion_files import SPLITS, UNKNOWN, ListedImage, by_name, read_folder
from edgeflock.export.datasets.formats.raf_db import LISTS
from edgeflock.export.datasets.pixels import filled
from edgeflock.export.datasets.synthetic.faces import EMOTIONS, each_face, each_scene
from edgeflock.export.nets.glamor import FACE, Glamor
from edgeflock.export.nets.resnet import FerNet
from edgeflock.runtime.bundle.manifest import ImageInput
from edgeflock.runtime.cameras.pictures import PICTURES, decode_picture
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.prepare.face import (
    CONTEXT_CROP,
    CONTEXT_INPUT,
    CONTEXT_SIZE,
    Box,
    crop_face,
    face_box,
    face_input,
    masked_context,
    to_range,
)


class Example(NamedTuple):
    """An image in memory."""

    image: np.ndarray
    """uint8 (H, W, 3), RGB."""
    box: Box | None
    """Of the face."""
    emotion: str
    name: str
    """To find it again."""
    affect: tuple[float, float] = UNKNOWN


def emotion_inputs(net: nn.Module) -> list[ImageInput]:
    """What an emotion net takes, in the order of its arguments."""
    if isinstance(net, Glamor):
        return [face_input(FACE, (0, 1)), CONTEXT_INPUT]
    if isinstance(net, FerNet):
        return [face_input(net.size, (-1, 1))]
    raise InputError(f"{type(net).__name__} is not an emotion net.")


@dataclass(eq=False)
class EmotionDataset:
    """Examples after everything that `EmotionPreprocess` does to pixels, but before they are scaled.

    Attributes
    ----------
    specs : list of ImageInput
        Of the net that they were prepared for.
    face : ndarray
        uint8 (N, size, size, 3), RGB; black where there is no face. Read-only from a file where it is large (`pixels`).
    context : ndarray or None
        uint8 (N, 128, 171, 3), RGB, the face black; None for nets that take no context.
    labels : ndarray
        int64 (N,), indices into `classes`.
    classes : tuple of str
        The net's own order.
    names : list of str
        Of the images, relative to their data set.
    source : str
        Where they come from and what was left out, for reports.
    affect : ndarray or None
        float32 (N, 2), valence and arousal in [-1, 1], NaN where not known; None where nothing is.
    synthetic : bool or None
        Whether all images were rendered; None where nobody said.
    """

    specs: list[ImageInput]
    face: np.ndarray
    context: np.ndarray | None
    labels: np.ndarray
    classes: tuple[str, ...]
    names: list[str]
    source: str
    affect: np.ndarray | None = None
    synthetic: bool | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """SHA-256 (hex) of pixels and labels."""
        sha = hashlib.sha256(repr((self.face.shape, self.classes)).encode())
        for array in (self.face, self.context, self.labels):
            if array is not None:
                sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()

    def feeds(self, index: np.ndarray | slice = slice(None)) -> dict[str, np.ndarray]:
        """Inputs of the net by name, float32 (n, 3, h, w), exactly as the robot feeds them."""
        pixels = [self.face[index]]
        if self.context is not None:
            pixels.append(self.context[index][(slice(None), *CONTEXT_CROP)])
        return {spec.name: scaled(images, spec) for spec, images in zip(self.specs, pixels, strict=True)}


def scaled(images: np.ndarray, spec: ImageInput) -> np.ndarray:
    """uint8 (n, h, w, 3) to float32 (n, 3, h, w) in the range of an input."""
    planes = images.transpose(0, 3, 1, 2)
    return to_range(planes, spec.range, np.empty(planes.shape, np.float32))


SEEDS = {"train": 1, "val": 2, "test": 3}
"""Rendered images of one split are never those of another."""
RENDERED = {"train": 7000, "val": 700, "test": 700}
"""How many images a rendered split has unless told otherwise."""


def _any_case(names: Iterable[str]) -> tuple[str, ...]:
    """Patterns that find these names in capitals too."""
    return tuple("".join(f"[{c}{c.upper()}]" for c in name) for name in names)


# Format -> what lies in its folder, and module and function of its reader. The first that fits is taken.
FORMATS = {
    "RAF-DB": (
        tuple(f"{folder}EmoLabel/{name}" for folder in ("", "basic/") for name in LISTS),
        "raf_db",
        "read_raf_db",
    ),
    "AffectNet 2017": (
        ("training.csv", "validation.csv", "*/training.csv", "*/validation.csv"),
        "affectnet",
        "read_2017",
    ),
    "AffectNet 2021": (("annotations", "*_set/annotations"), "affectnet", "read_2021"),
    "SFEW 2.0": (("Val", "*/Train_Aligned_Faces", "Train_Aligned_Faces", "Val_Aligned_Faces"), "sfew", "read_sfew"),
    "NCAER-S": (("images/train", "images/val", "images/test"), "caer", "read_ncaer_s"),
    "like CAER-S": (_any_case(name for names in SPLITS.values() for name in names), "caer", "read_caer_s"),
}


def open_emotion(
    net: nn.Module, path: Path | None, split: str, n: int | None = None, console: Console | None = None
) -> EmotionDataset:
    """Examples of a data set in whatever format lies at `path` (docs/emotion-data.md), prepared for a net.

    Parameters
    ----------
    net : nn.Module
        An emotion net; only its kind matters.
    path : Path or None
        Folder of a data set, folder with a folder of images per emotion (see `read_folder`), CSV of the LDLVA authors'
        code; None for `n` rendered images.
    split : {"train", "val", "test"}
        A CSV, and a folder with a folder per emotion, are one split.
    n : int, optional
        How many: rendered ones exactly (`RENDERED` by default), of a data set at most, evenly from all.
    console : Console, optional
        Shows the progress and what was left out.

    Raises
    ------
    InputError
        There is no such split, or no room for the pixels.
    DataError
        There is nothing at `path`, or the data set is broken, lacks the split, has an unknown emotion or no image for
        this net.
    """
    if path is None:
        n = n or RENDERED[split]
        source = f"{n} synthetic images, seed {SEEDS[split]}"
        examples = rendered_examples(net, n, SEEDS[split])
        shown = track(examples, f"{split} images", n, console=console) if console else examples
        return replace(prepare(shown, net, source), synthetic=True)
    title, rows = find_rows(path, split, whole=len(emotion_inputs(net)) == 2)
    return read_rows(rows, net, path, title, console, n)


def find_rows(path: Path, split: str, whole: bool) -> tuple[str, Iterator[ListedImage]]:
    """Name of the format at `path` with the split, and the rows of it.

    `whole` asks for whole images with face boxes, where a data set has these and cut faces.
    """
    if path.is_file():
        from edgeflock.export.datasets.formats.affectnet import read_csv

        return "CSV", read_csv(path)
    for title, (patterns, module, function) in FORMATS.items():
        if any(next(path.glob(pattern), None) for pattern in patterns):
            reader = getattr(import_module(f"edgeflock.export.datasets.formats.{module}"), function)
            return f"{title}, {split}", reader(path, split, whole)
    return "", read_folder(path)


def read_rows(
    rows: Iterable[ListedImage],
    net: nn.Module,
    path: Path,
    title: str = "",
    console: Console | None = None,
    most: int | None = None,
) -> EmotionDataset:
    """Read the images of rows, at most so many, on all cores, and prepare them for a net; see `open_emotion`."""
    specs, classes = emotion_inputs(net), tuple(net.labels)  # type: ignore[arg-type]
    with console.status(f"Listing the images of {path}") if console else nullcontext():
        kept, labels, left_out = by_name(rows, classes)
    counted = ", ".join(f"{count} {emotion}" for emotion, count in left_out.items())
    told = [title] if title else []
    parts = sorted({row.part for row in kept})
    if title and parts not in ([""], [title.rpartition(", ")[2]]):
        told.append(f"taken from {', '.join(parts)}")
    if most is not None and most < len(kept):
        told.append(f"of {len(kept)}")
        chosen = [i * len(kept) // most for i in range(most)]
        kept, labels = [kept[i] for i in chosen], [labels[i] for i in chosen]
    source = f"{len(kept)} images of {path.name}" + (f" ({', '.join(told)})" if told else "")
    if counted:
        source += f"; left out: {counted}"
    if console is not None and (counted or len(told) > 1):
        console.print(f"{path}: {source}", highlight=False, markup=False, soft_wrap=True)
    if not kept:
        raise DataError(
            f"{path}: expected at least one image ({', '.join(PICTURES)}), found none."
            f"{f' Left out: {counted}.' if counted else ''} Layouts that are read: docs/emotion-data.md."
        )

    def fill(i: int, pixels: list[np.ndarray]) -> None:
        row = kept[i]
        image = cv2.cvtColor(_decoded(row), cv2.COLOR_BGR2RGB)
        box = row.box
        if box is None:
            if len(specs) == 2:
                raise DataError(
                    f"{row.name}: a net with context needs the face box, there is none for this image. Where boxes are "
                    f"looked for: docs/emotion-data.md."
                )
            box = (0, 0, image.shape[1], image.shape[0])
        _put(image, box, row.name, net, pixels)

    def key() -> str:
        sha = hashlib.sha256(repr([spec.model_dump() for spec in specs]).encode())
        for row in kept:
            state = _stat(row)
            sha.update(repr((str(row.image.absolute()), state.st_size, state.st_mtime_ns, row.box)).encode())
        return sha.hexdigest()[:32]

    face, *context = filled(len(kept), _shapes(specs), fill, key, source.partition(";")[0], console)
    affect = np.array([row.affect for row in kept], np.float32)
    root = path if path.is_dir() else path.parent
    return EmotionDataset(
        specs=specs,
        face=face,
        context=context[0] if context else None,
        labels=np.array(labels, np.int64),
        classes=classes,
        names=[Path(os.path.relpath(row.image, root)).as_posix() for row in kept],
        source=source,
        affect=None if np.isnan(affect).all() else affect,
    )


def prepare(examples: Iterable[Example], net: nn.Module, source: str) -> EmotionDataset:
    """Prepare examples for a net.

    Raises
    ------
    DataError
        There is none, an emotion is unknown, or an example has no face box where the net needs one.
    """
    specs, classes = emotion_inputs(net), tuple(net.labels)  # type: ignore[arg-type]
    pixels, labels, names, affect = [], [], [], []
    for image, box, emotion, name, felt in examples:
        if emotion not in classes:
            raise DataError(f"{name}: the net knows the emotions {', '.join(classes)}, got '{emotion}'.")
        pixels.append([np.empty(shape, np.uint8) for shape in _shapes(specs)])
        _put(image, box, name, net, pixels[-1])
        labels.append(classes.index(emotion))
        names.append(name)
        affect.append(felt)
    if not names:
        raise DataError(f"{source}: expected at least one image, found none.")
    face, *context = (np.stack(arrays) for arrays in zip(*pixels, strict=True))
    return EmotionDataset(
        specs=specs,
        face=face,
        context=context[0] if context else None,
        labels=np.array(labels, np.int64),
        classes=classes,
        names=names,
        source=source,
        affect=None if np.isnan(affect).all() else np.array(affect, np.float32),
    )


def _shapes(specs: list[ImageInput]) -> Sequence[tuple[int, ...]]:
    size = specs[0].shape[-1]
    return [(size, size, 3), (*CONTEXT_SIZE[::-1], 3)][: len(specs)]


def _put(image: np.ndarray, box: Sequence[float] | None, name: str, net: nn.Module, pixels: list[np.ndarray]) -> None:
    """Write the pixels that a net sees of an RGB image: the face, and the context where it takes one."""
    try:
        whole = face_box(box, image)
    except InputError as error:
        raise DataError(f"{name}: {error}") from None
    if whole is not None:
        crop_face(image, whole, pixels[0])
    elif len(pixels) == 2:
        pixels[0][:] = 0
    else:
        raise DataError(f"{name}: no face was found in it, and {type(net).__name__} sees nothing else.")
    if len(pixels) == 2:
        masked_context(image, whole, pixels[1])


def _decoded(row: ListedImage) -> np.ndarray:
    """Pixels of its image, BGR."""
    try:
        return decode_picture(row.image.read_bytes(), row.image.suffix)
    except OSError as error:
        raise DataError(f"{row.name}: cannot read the image: {error.strerror}.") from error
    except InputError as error:
        raise DataError(f"{row.name}: {error}") from error


def _stat(row: ListedImage) -> os.stat_result:
    try:
        return row.image.stat()
    except OSError as error:
        raise DataError(f"{row.name}: cannot read the image: {error.strerror}.") from error


def rendered_examples(net: nn.Module, n: int, seed: int) -> Iterator[Example]:
    """Synthetic examples: scenes for nets with context, portraits for the others."""
    if isinstance(net, Glamor):
        for i, (image, box, label, affect) in enumerate(each_scene(n, seed)):
            yield Example(image, box, EMOTIONS[label], f"synthetic scene {seed}/{i}", affect)
    else:
        size = emotion_inputs(net)[0].shape[-1]
        for i, (image, label, affect) in enumerate(each_face(n, seed, size)):
            yield Example(image, (0, 0, size, size), EMOTIONS[label], f"synthetic face {seed}/{i}", affect)
