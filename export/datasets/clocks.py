"""Which clock of a recording can be trusted: the stamps of its messages, or the recorder's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgeflock.runtime.errors import DataError

HEADER, RECORDER = 0, 1
STEP_S = 0.25  # larger jumps against the other clock are no delay on the way to the recorder
AROUND = 10  # messages before and after a jump that have to agree that it lasts


GAP_S = 1.0
"""From here on, and from five usual steps on, a step between two frames is a gap."""


class Course(NamedTuple):
    """How the times of frames go on."""

    step: float  # s, the usual one; NaN where no time is known
    back: np.ndarray  # int: frames whose time is before that of the frame before them
    gaps: np.ndarray  # int: frames that come long after the frame before them


def course(stamps: np.ndarray, groups: np.ndarray) -> Course:
    """How the times (N,) in s go on within sequences (N,)."""
    steps = np.where(np.diff(groups) == 0, np.diff(stamps), np.nan)
    forward = steps[steps > 0]
    usual = float(np.median(forward)) if len(forward) else float("nan")
    return Course(usual, np.flatnonzero(steps < 0) + 1, np.flatnonzero(steps > max(GAP_S, 5 * usual)) + 1)


def choose_clock(topics: dict[str, np.ndarray], where: str) -> tuple[int, str | None]:
    """The column of times to match topics by, and why it is not the stamps.

    Stamps say when something was seen, the recorder's clock only when it arrived; so the stamps go first. They have to
    be there on all topics, to go only forward, and to stay at nearly one distance from the recorder's clock.

    Parameters
    ----------
    topics : dict of str to ndarray
        Per topic, (N, 2) header stamp and recorder's time in s, in the order of the latter; a stamp of 0 is none.
    where : str
        The recording, for errors.

    Returns
    -------
    int
        0 (stamps) or 1 (recorder).
    str or None
        A note, where stamps are there but were not taken.

    Raises
    ------
    DataError
        The recorder's own clock was set back: messages of two moments then have one time.
    """
    for topic, times in topics.items():
        back = _interleaved(times)
        if back:
            raise DataError(
                f"{where}, topic {topic}: expected times that go forward, got stamps that jump back and forth {back} "
                "times: the recorder's clock was set back while it recorded. Cut the recording there, or record again "
                "with the clock set before the start"
            )
    if not all((times[:, HEADER] > 0).all() for times in topics.values()):
        return RECORDER, None
    for topic, times in topics.items():
        problem = _steps(times)
        if problem:
            return RECORDER, f"{topic}: {problem}; the recorder's clock is used instead of the stamps"
    return HEADER, None


def _interleaved(times: np.ndarray) -> int:
    """How often stamps jump back among messages in the recorder's order; a clock that was set once does so once.

    A recorder whose clock was set back sorts what came after in between what came before, so that stamps that did not
    follow it alternate.
    """
    stamps = times[:, HEADER]
    back = int(np.sum(np.diff(stamps) < -STEP_S))
    return back if back > max(2, len(stamps) // 20) else 0


def _steps(times: np.ndarray) -> str | None:
    """What is wrong with the stamps as a clock, or None."""
    if len(times) < 2:
        return None
    delay = times[:, RECORDER] - times[:, HEADER]
    stamped, logged = np.diff(times[:, HEADER]), np.diff(times[:, RECORDER])
    for i in np.flatnonzero((stamped < 0) | (stamped > logged + STEP_S)):
        before, after = delay[max(0, i + 1 - AROUND) : i + 1], delay[i + 1 : i + 1 + AROUND]
        jump = float(np.median(before) - np.median(after))
        if abs(jump) > 0.5 * abs(stamped[i] - logged[i]):  # it lasts: no single message that came out of turn
            return f"its stamps jump by {jump:+.2f} s against the recorder's clock at message {i + 1}"
    drift = float(np.median(delay[-AROUND:]) - np.median(delay[:AROUND]))
    if abs(drift) > STEP_S:
        return f"its stamps drift by {-drift:+.2f} s against the recorder's clock"
    return None
