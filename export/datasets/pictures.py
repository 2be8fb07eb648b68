"""Pictures of a recording: frames with their angles drawn in, and how the angles are spread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeflock.runtime.figures import BLUE, GREEN, ORANGE, new_figure, save_figure

COLUMNS = 4
_FULL = 0.6  # rad, at which a needle lies flat on its side


def draw_recording(
    file: Path, frames: np.ndarray, angles: np.ndarray, names: Sequence[str], chosen: np.ndarray
) -> None:
    """Chosen frames with their labels, the histogram of all labels, and their course.

    Parameters
    ----------
    file : Path
    frames, angles : ndarray
        uint8 (N, H, W), and (N,) rad.
    names : sequence of str
        Of the frames.
    chosen : ndarray
        int (n,): which to show.
    """
    rows = -(-len(chosen) // COLUMNS)
    figure = new_figure(11, 2.1 * rows + 3.2, "The picture of a recording")
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.1 * rows, 3.2])
    upper, lower = parts
    _frames(upper, rows, frames, [(angles, GREEN)], names, chosen)
    spread, course = lower.subplots(1, 2, width_ratios=[1, 2])
    spread.hist(angles, bins=61, color=BLUE)
    spread.set(xlabel="steering angle, rad (left positive)", ylabel="frames", title=f"{len(angles)} frames")
    course.plot(angles, color=BLUE, lw=0.7)
    course.set(xlabel="frame", ylabel="rad", title="in the order of the recording")
    save_figure(figure, file)


def draw_answers(
    file: Path, frames: np.ndarray, wanted: np.ndarray, angles: np.ndarray, names: Sequence[str], chosen: np.ndarray
) -> None:
    """Chosen frames with the wanted angle (green) and the net's (orange), and all angles against the wanted ones.

    Parameters are those of `draw_recording`, `angles` those of the net.
    """
    rows = -(-len(chosen) // COLUMNS)
    figure = new_figure(11, 2.1 * rows + 4, "The picture of a score")
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.1 * rows, 4])
    upper, lower = parts
    _frames(upper, rows, frames, [(wanted, GREEN), (angles, ORANGE)], names, chosen)
    bend, course = lower.subplots(1, 2, width_ratios=[1, 2])
    bend.plot(angles, wanted, ".", markersize=2, color=BLUE)
    reach = max(float(np.abs(np.concatenate([angles, wanted])).max()), 0.05)
    bend.plot([-reach, reach], [-reach, reach], color="0.7", lw=1)
    bend.set(xlabel="the net's angle, rad", ylabel="wanted, rad", aspect="equal")
    course.plot(wanted, color=GREEN, lw=0.8, label="wanted")
    course.plot(angles, color=ORANGE, lw=0.8, label="the net")
    course.set(xlabel="frame", ylabel="rad")
    course.legend(frameon=False)
    save_figure(figure, file)


def _frames(
    figure: Any,
    rows: int,
    frames: np.ndarray,
    needles: Sequence[tuple[np.ndarray, str]],
    names: Sequence[str],
    chosen: np.ndarray,
) -> None:
    """Chosen frames, `COLUMNS` to a row, with a needle for each array of angles (N,) in its colour."""
    axes = np.atleast_1d(figure.subplots(rows, COLUMNS)).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, index in zip(axes, chosen, strict=False):
        image = cv2.cvtColor(frames[index], cv2.COLOR_GRAY2RGB)
        axis.imshow(image)
        height, width = image.shape[:2]
        for angles, colour in needles:
            turn = np.clip(angles[index] / _FULL, -1, 1) * np.pi / 2
            x, y = width / 2 - 0.45 * width * np.sin(turn), height - 0.45 * width * np.cos(turn)
            axis.plot([width / 2, x], [height, y], color=colour, lw=3, solid_capstyle="round", clip_on=True)
        said = ", ".join(f"{angles[index]:+.2f}" for angles, _ in needles)
        axis.set_title(f"{Path(names[index]).name}  {said}", fontsize=7)
