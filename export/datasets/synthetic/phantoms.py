"""`edgeflock phantoms`: bodies that are drawn, or made of one real scan, in the authors' HDF5 layout."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import check_outputs, replacing, write_atomically
from edgeflock.runtime.options import next_command
from edgeflock.runtime.prepare.phantom import CLASSES, bspline_field, draw_phantom, random_affine
from edgeflock.runtime.prepare.volume import warp


def phantoms(
    out: Annotated[Path, typer.Option(help="Folder for phantoms.json and phantoms.h5.")],
    train: Annotated[int, typer.Option(min=2, help="Bodies to train on.")] = 24,
    val: Annotated[int, typer.Option(min=2, help="Bodies to validate on.")] = 6,
    size: Annotated[int, typer.Option(min=16, help="Voxels along each side.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of the first body; the others count on from it.")] = 1,
    template: Annotated[
        Path | None, typer.Option(help="Real scan (NIfTI) that is bent into bodies; goes with --template-labels.")
    ] = None,
    template_labels: Annotated[Path | None, typer.Option(help="Its segmentation, class values 1..255.")] = None,
) -> None:
    """Draw volumes with organs to train and try registration on, or bend a real scan into bodies.

    Example:

      edgeflock phantoms --out data/phantoms
      edgeflock train registration --data data/phantoms/phantoms.json --out runs/ldr
    """
    from rich.progress import track

    from edgeflock.export.datasets.volumes import h5py, read_scan

    if (template is None) != (template_labels is None):
        raise InputError("--template and --template-labels go together: name both, or none for drawn bodies.")
    spec, file = out / "phantoms.json", out / "phantoms.h5"
    if spec.exists():
        raise InputError(f"{spec} is there already: choose another --out, or remove it.")
    check_outputs([file, spec], [out], [template, template_labels])
    kind, classes, body = "phantom", CLASSES, partial(draw_phantom, size=size)
    if template is not None:
        scan = read_scan(template, template_labels, size)
        assert scan.labels is not None
        kind, classes = "template", {str(value): int(value) for value in np.unique(scan.labels) if value}
        body = partial(bend_template, grey=scan.image / np.float32(255), labels=scan.labels)
    subsets: dict[str, list[str]] = {"train": [], "val": []}
    with replacing(file) as draft, h5py().File(draft, "w") as hdf5:
        for i in track(range(train + val), "phantoms"):
            image, labels = body(seed + i)
            group = hdf5.create_group(str(seed + i))
            group.create_dataset("volume", data=image)  # noise does not compress
            group.create_dataset("segmentation", data=labels, compression="gzip", compression_opts=1)
            subsets["train" if i < train else "val"].append(f"{kind}/{seed + i}")
    content = {
        "files": {kind: {"type": "any", "path": file.name}},
        "image_size": [size] * 3,
        "subsets": subsets,
        "schemes": {"1": {"train": 1}, "2": {"val": 1}},
        "segmentation_class_value": classes,
        "synthetic": True,
    }
    write_atomically(spec, json.dumps(content, indent=2) + "\n")  # last: a spec without its volumes would be a trap
    typer.echo(next_command("train", "registration", "--data", spec, "--out", "runs/ldr"))


def bend_template(seed: int, grey: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One body made of a real scan: bent, turned and stretched, with another gain, shading and noise.

    All bodies of one template are one individual: what a net shows on them says nothing about differences between
    people.

    Parameters
    ----------
    seed : int
    grey : ndarray
        float32 (size, size, size), 0..1.
    labels : ndarray
        uint8 (size, size, size).

    Returns
    -------
    image, labels : ndarray
        uint8 (size, size, size).
    """
    rng, size = np.random.default_rng([seed, 5]), len(grey)
    flow = bspline_field(rng.uniform(-0.04, 0.04, (3, 5, 5, 5)) * size, size)
    flow += bspline_field(rng.uniform(-0.012, 0.012, (3, 9, 9, 9)) * size, size)
    ramp = np.arange(size, dtype=np.float32) - (size - 1) / 2
    place = np.stack(np.meshgrid(ramp, ramp, ramp, indexing="ij"))
    flow += np.tensordot((random_affine(rng) - np.eye(3)).astype(np.float32), place, 1)
    shading = 1 + bspline_field(rng.normal(0, 0.08, (1, 4, 4, 4)), size)[0]
    seen = warp(grey, flow) ** np.exp(rng.normal(0, 0.15)) * shading + rng.normal(0, 0.02, grey.shape)
    return np.clip(seen * 255, 0, 255).astype(np.uint8), warp(labels, flow, nearest=True)
