"""Where a group stands, and how it gets from one formation to the next without anybody touching anybody.

Who goes to which place is decided by the smallest sum of squared distances. All walk straight, and at every moment all
have done the same part of their way. Then any two keep at least 1/sqrt(2) of the smallest spacing that both formations
have: the best assignment gives (x_i - x_j) . (g_i - g_j) >= 0 for each pair, or the two would swap their goals, and
|(1 - s) a + s b|^2 >= (1 - s)^2 |a|^2 + s^2 |b|^2 >= min(|a|, |b|)^2 / 2 (Turpin, Michael, Kumar, "CAPT", IJRR 33,
2014, theorem 4.1).
"""

from __future__ import annotations

import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs

FORMATIONS = ("line", "two rows", "circle", "v", "grid")


def formation(name: str, dancers: int, spacing: float = 2.0) -> np.ndarray:
    """Places (N, 2) in m around the origin, of which any two are at least `spacing` apart."""
    n = np.arange(float(dancers))
    if name == "line":
        places = np.stack([n, 0 * n], 1)
    elif name == "two rows":
        places = np.stack([n // 2 + 0.5 * (n % 2), n % 2], 1)
    elif name == "circle":
        angle = 2 * np.pi * n / dancers
        radius = 0.5 / np.sin(np.pi / dancers) if dancers > 1 else 0.0
        places = radius * np.stack([np.sin(angle), np.cos(angle)], 1)
    elif name == "v":
        side = np.where(n % 2, 1, -1)
        places = np.stack([side * (n + 1) // 2, -((n + 1) // 2)], 1)
    elif name == "grid":
        columns = np.ceil(np.sqrt(dancers))
        places = np.stack([n % columns, n // columns], 1)
    else:
        raise InputError(f"unknown formation {name!r}: choose one of {', '.join(FORMATIONS)}.")
    return (places - places.mean(0)) * spacing


def assigned(starts: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Goals (N, D) in the order of the dancers that go to them, for starts (N, D).

    Raises
    ------
    InputError
        Not as many goals as starts.
    MissingExtra
        scipy is not installed.
    """
    if starts.shape != goals.shape:
        raise InputError(f"expected a goal for each of {len(starts)} dancers, got {len(goals)}.")
    with needs("formations", "dance"):
        from scipy.optimize import linear_sum_assignment
    cost = ((starts[:, None] - goals[None]) ** 2).sum(-1)
    return goals[linear_sum_assignment(cost)[1]]


def eased(part: np.ndarray | float) -> np.ndarray:
    """From 0 to 1 with no speed and no acceleration at the ends: minimum jerk."""
    part = np.clip(part, 0, 1)
    return part**3 * (10 - 15 * part + 6 * part**2)
