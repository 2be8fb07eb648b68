"""What a robot's folder tells of its part in a run: `events.jsonl` by round, and `status.json` as of now."""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeflock.runtime.errors import InputError

NOTES = 200
"""Remarks that are kept of a log: the newest."""


@dataclass
class Note:
    """Something that a person should see, and the round in which it came."""

    round: int
    time: float
    kind: str
    text: str


@dataclass
class Story:
    """An event log, by round.

    Attributes
    ----------
    robot, run : str
    rounds : int
        How many the run has.
    mixed, validated : dict of int to event
        By the round that the event names.
    rejected : dict of int to Counter
        Refusals by round, and (robot, reason).
    driving : dict of int to event
        What drives since that round.
    delay_ms : dict of int to matrix
        Time of a small message from robot to robot, as it was known in a round.
    finished : bool
    unreadable : int
        Lines that are no event.
    """

    robot: str = ""
    run: str = ""
    rounds: int = 0
    mixed: dict[int, dict[str, Any]] = field(default_factory=dict)
    validated: dict[int, dict[str, Any]] = field(default_factory=dict)
    rejected: dict[int, Counter[tuple[str, str]]] = field(default_factory=dict)
    driving: dict[int, dict[str, Any]] = field(default_factory=dict)
    delay_ms: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    notes: deque[Note] = field(default_factory=lambda: deque(maxlen=NOTES))
    finished: bool = False
    unreadable: int = 0

    @property
    def last(self) -> int:
        """Last round that was mixed."""
        return max(self.mixed, default=0)

    def take(self, line: bytes) -> None:
        """Take one line of the log; one that is no event is counted and passed over."""
        try:
            event = json.loads(line)
            self._take(event, event["event"])
        except (ValueError, KeyError, TypeError, AttributeError):
            self.unreadable += 1

    def _take(self, event: dict[str, Any], kind: str) -> None:
        if kind == "joined":
            self._join(event)
        elif kind == "mixed":
            self.mixed[int(event["round"])] = event
        elif kind == "validated":
            self.validated[int(event["round"])] = event
            if not event["accepted"]:
                self._note(event, f"the model of round {event['round']} does not pass: {event['figure']:.4g}")
        elif kind == "rejected":
            counts = self.rejected.setdefault(self.last + 1, Counter())
            counts[str(event["peer"]), str(event["code"])] += 1
            self._note(event, f"{event['peer']}: {event['why']}")
        elif kind == "driving":
            self.driving[int(event["round"])] = event
            self._note(event, event["why"])
        elif kind == "delays":
            self.delay_ms[self.last + 1] = {name: dict(to) for name, to in event["delay_ms"].items()}
        elif kind in ("alarm", "trainer"):
            self._note(event, event["why"])
        elif kind == "finished":
            self.finished = True

    def _join(self, event: dict[str, Any]) -> None:
        """A start: rounds after the one that it goes on from are done again."""
        self.robot, self.run, self.rounds = event["robot"], event["run"], int(event["rounds"])
        self.finished, start = False, int(event["round"])
        for by_round in (self.mixed, self.validated, self.driving):
            for later in [k for k in by_round if k > start]:
                del by_round[later]
        if not start:
            self.rejected.clear()
            self.notes.clear()
        self._note(event, f"{self.robot} joins after round {start}" if start else f"{self.robot} joins")

    def _note(self, event: dict[str, Any], text: str) -> None:
        self.notes.append(Note(self.last + 1, float(event["time"]), event["event"], text))


class RobotFolder:
    """The `--out` folder of `edgeflock fleet join`, read again and again while it grows.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        It holds no event log of a robot that joined.
    """

    def __init__(self, path: Path) -> None:
        self._events, self._status = path / "events.jsonl", path / "status.json"
        self._read, self._rest, self._file = 0, b"", 0
        self.story = Story()
        self.status: dict[str, Any] = {}
        if self._events.exists():
            self.read()
        if not self.story.robot:
            raise InputError(
                f"{path} holds no robot's events.jsonl with a start in it: expected the --out folder of "
                "`edgeflock fleet join` of this version."
            )

    def read(self) -> None:
        """Take what was written since; a log that was replaced or cut is read from its beginning."""
        try:
            with self._events.open("rb") as file:
                found = self._events.stat()
                if found.st_ino != self._file or found.st_size < self._read:
                    self._read, self._rest, self._file, self.story = 0, b"", found.st_ino, Story()
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            *lines, self._rest = (self._rest + new).split(b"\n")  # the last one may be half written
            for line in lines:
                self.story.take(line)
            status = json.loads(self._status.read_bytes())
            self.status = status if isinstance(status, dict) else {}
        except (OSError, ValueError):  # between two moments of a copy: what was read holds
            return
