"""How many faces of rendered scenes are found, dark, turned or small, at what cost, and what the net reads in them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cv2
import numpy as np
import typer

from edgeflock.export.bench.figures import write_figures
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import check_record
from edgeflock.runtime.options import Detector, Keys, next_command

if TYPE_CHECKING:
    from edgeflock.runtime.faces import FaceDetector
    from edgeflock.runtime.prepare.frame import Encoding
    from edgeflock.runtime.tasks.emotion import EmotionRecognizer

SEED = 3
"""Of the scenes; training uses 1 and 2."""
SIZE = (480, 640)
Box = tuple[float, float, float, float]
Change = Callable[[np.ndarray, Box], tuple[np.ndarray, Box]]


def _lit(gain: float | Sequence[float]) -> Change:
    return lambda image, box: (np.clip(image * np.array(gain), 0, 255).astype(np.uint8), box)


def _grey(image: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), box


def _backlit(image: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """Dark, between two bright windows."""
    windows = np.zeros(image.shape)
    windows[:, :40] = windows[:, -40:] = 120
    return (image * 0.15 + windows).astype(np.uint8), box


def _turned(degrees: float) -> Change:
    """The frame turned about the face, which stays where it is; what comes in at the border is mirrored."""

    def change(image: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        turn = cv2.getRotationMatrix2D(middle, degrees, 1.0)
        return cv2.warpAffine(image, turn, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT), box

    return change


def _far(times: int) -> Change:
    """The scene so many times smaller, in the middle of a grey frame."""

    def change(image: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
        height, width = (side // times for side in SIZE)
        top, left = ((side - small) // 2 for side, small in zip(SIZE, (height, width), strict=True))
        frame = np.full_like(image, 120)
        frame[top : top + height, left : left + width] = cv2.resize(
            image, (width, height), interpolation=cv2.INTER_AREA
        )
        x1, y1, x2, y2 = (edge / times for edge in box)
        return frame, (x1 + left, y1 + top, x2 + left, y2 + top)

    return change


FRAMES: dict[str, Change] = {
    "as it is": _lit(1),
    "grey (mono8)": _grey,
    "half as bright": _lit(0.5),
    "a twelfth as bright": _lit(1 / 12),
    "1.5 times as bright": _lit(1.5),
    "warm (red x1.15, blue x0.75)": _lit((1.15, 1, 0.75)),
    "cold (red x0.8, blue x1.2)": _lit((0.8, 1, 1.2)),
    "against the light": _backlit,
    "head turned by 30 degrees": _turned(30),
    "head turned by -30 degrees": _turned(-30),
    "4 times as far": _far(4),
    "8 times as far": _far(8),
}


@dataclass(frozen=True)
class FaceFigures:
    """One kind of frame; shares of its scenes.

    Attributes
    ----------
    found : float
        Faces found.
    extra : float
        Found per frame where there is none.
    cpu_ms : float
        CPU time of the detector per frame, one thread.
    named : float
        Named right, of the faces found.
    named_exact : float
        Named right by the renderer's own box, of all.
    """

    frame: str
    detector: str
    scenes: int
    found: float
    extra: float
    cpu_ms: float
    named: float
    named_exact: float


def face_bars(
    detector: Detector = "auto",
    scenes: Annotated[int, typer.Option(min=7, help="Rendered scenes, each in every kind of frame.")] = 350,
    only: Annotated[
        list[str] | None, typer.Option(help="Only kinds of frames with this in their name; repeat for more.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Look as in a video, which costs less.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="Emotion bundle; by default edgeflock's.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file; the table is written beside it as .md.")] = None,
    key: Keys = None,
) -> None:
    """Count the faces that are found in rendered scenes, bright, dark, turned and small, and what is read in them.

    The scenes are synthetic. --stream gets every scene as a still video of its own, five frames long.

    Example:

      edgeflock bench faces --detector cascade
    """
    from rich.progress import Progress

    from edgeflock.runtime.faces import open_detector
    from edgeflock.runtime.tasks.emotion import EmotionRecognizer

    check_record(out)
    kinds = {name: change for name, change in FRAMES.items() if not only or any(part in name for part in only)}
    if not kinds:
        raise InputError(f"expected --only to be in one of {', '.join(FRAMES)}, got {', '.join(only or ())}.")
    finder = open_detector(detector, stream=stream, say=lambda text: typer.echo(text, err=True))
    recognizer = EmotionRecognizer(bundle, keys=key)
    cv2.setNumThreads(1)
    with Progress(transient=True) as progress:
        bar = progress.add_task("frames", total=scenes * len(kinds))
        rows = measure(finder, recognizer, scenes, kinds, 5 if stream else 1, lambda: progress.advance(bar))
    table = markdown(rows)
    print(table)
    if out:
        write_figures(out, table, rows, "edgeflock", "onnxruntime", "opencv-python-headless")
    typer.echo(next_command("bench", "emotion", keys=key), err=True)


def measure(
    finder: FaceDetector,
    recognizer: EmotionRecognizer,
    scenes: int,
    frames: Mapping[str, Change],
    repeat: int = 1,
    on_frame: Callable[[], object] = lambda: None,
) -> list[FaceFigures]:
    """Figures of each kind of frame, which the detector gets `repeat` times; its last answer counts."""
    from edgeflock.export.datasets.synthetic.faces import EMOTIONS, each_scene

    counted: dict[str, list[tuple[float, ...]]] = {name: [] for name in frames}
    for image, place, label, _ in each_scene(scenes, SEED, SIZE):
        for name, change in frames.items():
            frame, box = change(image, place)
            encoding: Encoding = "mono8" if frame.ndim == 2 else "rgb8"
            begun = time.process_time_ns()
            for _ in range(repeat):
                faces = finder(frame, encoding)
            cpu_ms = (time.process_time_ns() - begun) / 1e6 / repeat
            hits = [face for face in faces if _same(face.box, box)][:1]
            boxes, rolls = [box, *(face.box for face in hits)], [0.0, *(face.roll for face in hits)]
            answers = recognizer(frame, boxes, encoding, rolls)
            right = [float(answer.label == EMOTIONS[label]) for answer in answers]
            counted[name].append((len(hits), len(faces) - len(hits), cpu_ms, right[0], *(right[1:] or [math.nan])))
            on_frame()
    rows = []
    for name, each in counted.items():
        found, extra, cpu_ms, exact, named = np.array(each).T
        named_right = float(np.nanmean(named)) if found.any() else math.nan
        rows.append(
            FaceFigures(
                frame=name,
                detector=type(finder).__name__.removesuffix("Detector"),
                scenes=len(each),
                found=float(found.mean()),
                extra=float(extra.mean()),
                cpu_ms=float(cpu_ms.mean()),
                named=named_right,
                named_exact=float(exact.mean()),
            )
        )
    return rows


def _same(found: Box, box: Box) -> bool:
    """Whether the middle of one is within half a side of the other's."""
    return all(abs(found[at] + found[at + 2] - box[at] - box[at + 2]) < box[at + 2] - box[at] for at in (0, 1))


def markdown(rows: Sequence[FaceFigures]) -> str:
    """The table."""
    lines = [
        "| frame | detector | found | extra per frame | CPU ms | named right, of the found | by the renderer's box |",
        "|---|---|" + "---:|" * 5,
    ]
    lines += [
        f"| {r.frame} | {r.detector} | {r.found:.3f} | {r.extra:.3f} | {r.cpu_ms:.1f} | {r.named:.3f} | "
        f"{r.named_exact:.3f} |"
        for r in rows
    ]
    return "\n".join([*lines, "", f"{rows[0].scenes} rendered (synthetic) scenes of 640x480; chance is 0.143."])
