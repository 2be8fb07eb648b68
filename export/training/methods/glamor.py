"""GLAMOR-Net's own training: presets, the paper's comparisons as nets, and a look at what the trained net attends to.

The face is masked in the context and both are prepared as on the robot (`EmotionDataset`); the net learns as a whole by
cross-entropy (`train_emotion`), with the augmentation of the authors' code. The post says nothing of optimiser and
schedule: by default they are the house's, `released` has those of the authors' code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from edgeflock.export.datasets.emotion import EmotionDataset
from edgeflock.export.nets import GLAMOR_NETS
from edgeflock.export.nets.glamor import CONTEXT, Glamor
from edgeflock.export.nets.resnet import global_pool
from edgeflock.export.training.config import GlamorConfig
from edgeflock.export.training.loop.checkpoint import load_checkpoint
from edgeflock.export.training.methods.emotion import EVAL_BATCH, train_emotion
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.prepare.face import CONTEXT_CROP

SHOWN = 6  # scenes in a picture of the attention


class Look(NamedTuple):
    """What a net makes of each of N scenes."""

    probabilities: np.ndarray
    """(N, 7)."""
    attention: np.ndarray
    """(N, h, w), weights of the context's cells, which sum to 1."""
    face_share: np.ndarray
    """(N,), weight of the face in the adaptive fusion, 0..1; NaN for nets without it."""


def train_glamor(
    config: GlamorConfig, training: EmotionDataset, validation: EmotionDataset, out: str | Path, **options: Any
) -> dict[str, Any]:
    """Train a GLAMOR-Net and draw what its best weights attend to; parameters, result and errors as `train_emotion`.

    The result's figures also have `face_share`, the mean weight of the face in the fusion on the validation set.
    """
    if config.net not in GLAMOR_NETS:
        raise InputError(f"{config.net!r} is no GLAMOR-Net: choose one of {', '.join(GLAMOR_NETS)}.")
    result = train_emotion(config, training, validation, out, **options)
    net = load_checkpoint(Path(out) / "best.safetensors")[1]
    assert isinstance(net, Glamor)
    seen = look(net, validation, config.size)
    shown = np.linspace(0, len(validation) - 1, min(SHOWN, len(validation))).astype(int)
    draw_attention(validation, [seen], shown, Path(out) / "attention.jpg")
    result["figures"]["face_share"] = float(seen.face_share.mean()) if net.adaptive else None
    write_atomically(Path(out) / "result.json", (json.dumps(result, indent=2) + "\n").encode())
    return result


def look(net: Glamor, data: EmotionDataset, size: int | None = None) -> Look:
    """Answers, attention and fusion weights of a net in evaluation mode, with faces of `size` instead of 96."""
    parts = []
    device = next(net.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(data), EVAL_BATCH):
            feeds = data.feeds(slice(start, start + EVAL_BATCH))
            face, context = (torch.from_numpy(array).to(device) for array in feeds.values())
            if size is not None:
                face = F.interpolate(face, (size, size), mode="bilinear", antialias=True)
            v_f = global_pool(net.face(face))
            v_c, attention = net.attention(v_f, net.context(context))
            share = net.weights(v_f, v_c)[:, 0] if net.adaptive else torch.full((len(face),), torch.nan)
            probabilities = net.classify(v_f, v_c).softmax(1)
            parts.append([value.cpu().numpy() for value in (probabilities, attention[:, 0], share)])
    return Look(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def draw_attention(data: EmotionDataset, looks: Sequence[Look], index: np.ndarray, path: Path) -> None:
    """Write a picture: a column per scene with its face, its context, and the attention on it in a row per net."""
    assert data.context is not None
    columns = []
    for i in index:
        context = np.ascontiguousarray(data.context[i][CONTEXT_CROP])
        face = cv2.resize(data.face[i], (CONTEXT, CONTEXT), interpolation=cv2.INTER_AREA)
        columns.append(np.vstack([face, context, *(lit(context, seen.attention[i]) for seen in looks)]))
    picture = cv2.imencode(".jpg", np.hstack(columns)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    write_atomically(path, picture.tobytes())


def lit(context: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Context uint8 (h, w, 3) with a light on it, yellow where the attention (rows, columns) is."""
    share = cv2.resize(attention / attention.max(), context.shape[1::-1], interpolation=cv2.INTER_NEAREST)[:, :, None]
    glow = np.array((255, 210, 40)) * share
    return np.clip(context * (0.35 + 0.65 * share) + 0.35 * glow, 0, 255).astype(np.uint8)
