"""What a node says of the newest frame: to /diagnostics at once where it is news, else at 1 Hz."""

from __future__ import annotations

from collections.abc import Callable

from edgeflock_ros.messages import WARN


class NewestFrame:
    """Keeps what was noted of the newest frame.

    Parameters
    ----------
    tell : callable
        Sends a status, as `ManagedNode.say` does.
    absence : callable
        Says why no frame comes.
    """

    def __init__(self, tell: Callable[..., None], absence: Callable[[], str]) -> None:
        self._tell, self._absence = tell, absence
        self._came = False
        self._noted: tuple[bytes, str, dict[str, float]] = WARN, "", {}

    def note(self, level: bytes, message: str, **values: float) -> None:
        """Keep what is to be said of a frame, and send it now if it is news."""
        news = (level, message) != self._noted[:2]
        self._noted = level, message, values
        self._came = True
        if news:
            self._tell(level, message, **values)

    def report(self) -> None:
        """Send what was noted last, or that none came since the report before."""
        if not self._came:
            self._noted = WARN, self._absence(), {}
        self._came = False
        level, message, values = self._noted
        self._tell(level, message, **values)
