"""Matplotlib figures without pyplot (no global state, no display), and the palette of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeflock.runtime.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any colour vision.
BLUE, ORANGE, VERMILLION, GREEN, GREY = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#8c8c8c"
PURPLE, SKY, YELLOW = "#CC79A7", "#56B4E9", "#F0E442"


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
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra.pip(what, "report", error) from error
    return Figure(figsize=(width, height), dpi=130, layout="constrained")
