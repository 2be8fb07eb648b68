"""Faces and scenes with an emotion each, prepared as the robot prepares them: rendered, or from a folder of images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from torch import nn

from edgeflock.export.datasets.faces import EMOTIONS, each_face, each_scene
from edgeflock.export.nets.glamor import FACE, Glamor
from edgeflock.export.nets.resnet import FerNet
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.manifest import InputSpec
from edgeflock.runtime.preprocess_face import (
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

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_ALIASES = {"angry": "anger", "happiness": "happy", "sadness": "sad", "fearful": "fear", "surprised": "surprise"}

Example = tuple[np.ndarray, Box | None, str, str]
"""RGB image, box of the face, emotion by name, and a name to find the example again."""


def emotion_inputs(net: nn.Module) -> list[InputSpec]:
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
    specs : list of InputSpec
        Of the net that they were prepared for.
    face : ndarray
        uint8 (N, size, size, 3), RGB; black where there is no face.
    context : ndarray or None
        uint8 (N, 128, 171, 3), RGB, the face black; None for nets that take no context.
    labels : ndarray
        int64 (N,), indices into `classes`.
    classes : tuple of str
        The net's own order.
    names : list of str
    source : str
        Where they come from, for reports.
    """

    specs: list[InputSpec]
    face: np.ndarray
    context: np.ndarray | None
    labels: np.ndarray
    classes: tuple[str, ...]
    names: list[str]
    source: str

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


def scaled(images: np.ndarray, spec: InputSpec) -> np.ndarray:
    """uint8 (n, h, w, 3) to float32 (n, 3, h, w) in the range of an input."""
    planes = images.transpose(0, 3, 1, 2)
    return to_range(planes, spec.range, np.empty(planes.shape, np.float32))


def prepare(examples: Iterable[Example], net: nn.Module, source: str) -> EmotionDataset:
    """Prepare examples for a net.

    Raises
    ------
    DataError
        There is none, an emotion is unknown, or an example has no face box where the net needs one.
    """
    specs, classes = emotion_inputs(net), tuple(net.labels)  # type: ignore[arg-type]
    size, both = specs[0].shape[-1], len(specs) == 2
    faces, contexts, labels, names = [], [], [], []
    for image, box, emotion, name in examples:
        if emotion not in classes:
            raise DataError(f"{name}: the net knows the emotions {', '.join(classes)}, got '{emotion}'.")
        face, context = np.zeros((size, size, 3), np.uint8), np.zeros((*CONTEXT_SIZE[::-1], 3), np.uint8)
        try:
            whole = face_box(box, image)
        except InputError as error:
            raise DataError(f"{name}: {error}") from None
        if whole is not None:
            crop_face(image, whole, face)
        elif not both:
            raise DataError(f"{name}: no face was found in it, and {type(net).__name__} sees nothing else.")
        faces.append(face)
        if both:
            contexts.append(masked_context(image, whole, context))
        labels.append(classes.index(emotion))
        names.append(name)
    if not names:
        raise DataError(f"{source}: expected at least one image, found none.")
    return EmotionDataset(
        specs=specs,
        face=np.stack(faces),
        context=np.stack(contexts) if both else None,
        labels=np.array(labels, np.int64),
        classes=classes,
        names=names,
        source=source,
    )


SEEDS = {"train": 1, "val": 2}
"""Rendered images of one split are never those of another."""
RENDERED = 700
"""How many images a rendered split has unless told otherwise."""


def open_emotion(
    net: nn.Module, folder: Path | None, split: str, n: int = RENDERED, console: Console | None = None
) -> EmotionDataset:
    """Examples of a folder (see `folder_examples`), or without one `n` rendered ones, prepared for a net.

    Parameters
    ----------
    net : nn.Module
        An emotion net; only its kind matters.
    folder : Path or None
    split : {"train", "val"}
        Which rendered images; a folder is one split.
    n : int
        How many rendered images.
    console : Console, optional
        Shows the progress.
    """
    if folder is None:
        examples, total, source = (
            rendered_examples(net, n, SEEDS[split]),
            n,
            f"{n} synthetic images, seed {SEEDS[split]}",
        )
    else:
        total = sum(1 for file in folder.glob("*/*") if file.suffix.lower() in IMAGES)
        examples, source = folder_examples(folder, net), f"{total} images of {folder.name}"
    shown = track(examples, f"{split} images", total, console=console) if console else examples
    return prepare(shown, net, source)


def rendered_examples(net: nn.Module, n: int, seed: int) -> Iterator[Example]:
    """Synthetic examples: scenes for nets with context, portraits for the others."""
    if isinstance(net, Glamor):
        for i, (image, box, label) in enumerate(each_scene(n, seed)):
            yield image, box, EMOTIONS[label], f"synthetic scene {seed}/{i}"
    else:
        size = emotion_inputs(net)[0].shape[-1]
        for i, (image, label) in enumerate(each_face(n, seed, size)):
            yield image, (0, 0, size, size), EMOTIONS[label], f"synthetic face {seed}/{i}"


def folder_examples(folder: Path, net: nn.Module) -> Iterator[Example]:
    """Examples of a folder <class>/<image>.

    The face box stands as "x1,y1,x2,y2" in a text file beside the image, or, as in NCAER-S, in the same place under
    `crop` instead of `images` (facts/nets.md 5.4); "0,0,0,0" says that there is no face. For nets that see only the
    face, an image without such a file is all face.

    Raises
    ------
    DataError
        No class folders, an unknown class, an unreadable image or box, or no box where the net takes context.
    """
    names = {name.lower(): name for name in net.labels}  # type: ignore[union-attr]
    classes = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not classes:
        raise DataError(f"{folder}: expected a folder per emotion with images in it, found none.")
    for path in classes:
        wanted = _ALIASES.get(path.name.lower(), path.name.lower())
        if wanted not in names:
            raise DataError(f"{path}: expected folders named {', '.join(names.values())}, got '{path.name}'.")
        for file in sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGES):
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if image is None:
                raise DataError(f"{file}: not a readable image.")
            box = _read_box(file)
            if box is None:
                if isinstance(net, Glamor):
                    raise DataError(f"{file}: a net with context needs the face box: expected {file.stem}.txt.")
                box = (0, 0, image.shape[1], image.shape[0])
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB), box, names[wanted], str(file)


def _read_box(image: Path) -> Box | None:
    parts = list(image.with_suffix(".txt").parts)
    candidates = [Path(*parts)]
    candidates += [Path(*parts[:i], "crop", *parts[i + 1 :]) for i, part in enumerate(parts) if part == "images"]
    file = next((path for path in candidates if path.is_file()), None)
    if file is None:
        return None
    text = file.read_text("utf-8", "replace").strip()
    try:
        x1, y1, x2, y2 = (int(float(value)) for value in text.split(","))
    except ValueError:
        raise DataError(f"{file}: expected one line x1,y1,x2,y2 in pixels, got {text[:60]!r}.") from None
    return x1, y1, x2, y2
