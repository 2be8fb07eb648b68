"""Matplotlib figures without pyplot (no global state, no display), and the palette of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any colour vision.
BLUE, ORANGE, VERMILLION, GREEN, GREY = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#8c8c8c"
PURPLE, SKY, YELLOW = "#CC79A7", "#56B4E9", "#F0E442"

FIGURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".eps")
"""Endings of files that figures are written to."""


def new_figure(width: float, height: float, what: str) -> Figure:
    """Empty figure.

    Parameters
    ----------
    width, height : float
        Inches.
    what : str
        What is drawn, for the message when matplotlib is missing.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    with needs(what):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def check_picture(file: Path) -> None:
    """Refuse a file whose ending is none of `FIGURES`."""
    if file.suffix.lower() not in FIGURES:
        raise InputError(f"expected a picture that ends with {', '.join(FIGURES)}, got {file}.")


def save_figure(figure: Figure, file: Path) -> None:
    """Write a figure as its file's ending says, completely or not at all; missing folders are made."""
    check_picture(file)
    with replacing(file, sync=False) as draft:
        figure.savefig(draft, format=file.suffix[1:].lower())
