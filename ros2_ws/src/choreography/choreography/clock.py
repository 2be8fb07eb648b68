"""Where a song is: at the one who keeps the music clock, and at those who follow it.

All times here are s of the own clock that only goes forward. Nobody compares clocks of two machines, so neither a step
of the system clock nor robots whose clocks differ move the dance.
"""

from __future__ import annotations

from collections import deque

WINDOW = 40
"""Messages of the clock that are looked back at."""
JUMP_S = 0.5
"""A song that is further than this from where it should be was wound."""


class Keeper:
    """The song's position at its keeper.

    Parameters
    ----------
    now, position : float
    playing : bool
    """

    def __init__(self, now: float, position: float, playing: bool) -> None:
        self._since, self._from, self.playing = now, position, playing

    def position(self, now: float) -> float:
        """S into the music; negative before it begins."""
        return self._from + (now - self._since if self.playing else 0.0)

    def play(self, now: float, playing: bool) -> None:
        """Go on, or stand still."""
        self._since, self._from, self.playing = now, self.position(now), playing

    def wind(self, now: float, position: float) -> None:
        """Be at another position."""
        self._since, self._from = now, position


class Follower:
    """The song's position by the messages of its keeper, which come late by nobody knows how much.

    A message can be late, never early. Of the last ones the one that puts the song furthest ahead was the quickest on
    its way, so it tells where the song is; delays of all others do not matter.
    """

    def __init__(self) -> None:
        self.playing = False
        self.heard: float | None = None
        self._ahead: deque[float] = deque(maxlen=WINDOW)
        self._stands = 0.0

    def hear(self, now: float, position: float, playing: bool) -> None:
        """A message that came now."""
        ahead = position - now
        if playing != self.playing or (self._ahead and abs(ahead - max(self._ahead)) > JUMP_S):
            self._ahead.clear()
        self._ahead.append(ahead)
        self.playing, self.heard, self._stands = playing, now, position

    def position(self, now: float) -> float | None:
        """S into the music, also where the keeper fell silent meanwhile; None before it was heard."""
        if self.heard is None:
            return None
        return now + max(self._ahead) if self.playing else self._stands
