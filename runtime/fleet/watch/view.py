"""What the page shows of a fleet at one moment, as plain values: the robots, the links between them, what was refused.

Of a robot whose folder is at hand its own log and status speak. Of the others speaks what they said in heartbeats to
those, and is marked so.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.peer.wire import Code
from edgeflock.runtime.fleet.watch.story import Note, RobotFolder, Story

Tone = Literal["good", "warn", "bad", "off"]
STILL_S = 10.0
"""A status that was not written for so long is of a robot whose process ended or hangs; it writes every second."""
SHOWN_NOTES = 8
REASONS = {
    Code.MALFORMED: "bytes that are no message",
    Code.OVERSIZE: "more bytes than the net has",
    Code.SIGNATURE: "another's signature",
    Code.UNKNOWN_PEER: "from a stranger",
    Code.KEY: "a key that is not, not yet or no longer in force",
    Code.RUN: "of another run",
    Code.ADDRESSEE: "for somebody else",
    Code.REPLAY: "a message that came before",
    Code.TWO_ROBOTS: "two machines under one name",
    Code.CHECKSUM: "a damaged chunk",
    Code.HASH: "not the body that was signed",
    Code.CODEC: "a body that is not the codec's",
    Code.SCHEMA: "another net",
    Code.PLAN: "for another plan",
    Code.STALE: "for a round that is over",
    Code.EXPIRED: "a body that did not come in time",
    Code.UNKNOWN_BASE: "a change of a model that this robot does not have",
    Code.NONFINITE: "NaN or infinity",
    Code.NORM: "a norm far from what is usual in this fleet",
    Code.DISTANCE: "far from the own model",
}


@dataclass(frozen=True)
class Model:
    """The newest model of a robot that passed its validation gate, and how its figure went on before."""

    round: int
    age_s: float
    figure: float
    metric: str
    unit: str
    history: tuple[tuple[int, float, bool], ...]
    """Round, figure, and whether it passed, of all that were looked at."""


@dataclass(frozen=True)
class Robot:
    """One robot. `told_by` is None where its own folder speaks, else the robot that heard it."""

    name: str
    told_by: str | None
    state: str
    tone: Tone
    round: int
    heard: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    model: Model | None = None
    driving: str | None = None
    driving_said: str = ""
    alarms: tuple[str, ...] = ()
    refused: int = 0


@dataclass(frozen=True)
class Link:
    """Two robots, `a` before `b`.

    `mixed`: whether their models met in the round that is shown, live in the last that planned it; None: none did.
    """

    a: str
    b: str
    mixed: bool | None
    last_mixed: int
    bytes_ab: int
    bytes_ba: int
    ms_ab: float | None
    ms_ba: float | None
    dropped: int


@dataclass(frozen=True)
class Refusal:
    """What one robot refused of another, and how often."""

    by: str
    of: str
    reason: str
    meaning: str
    count: int


@dataclass(frozen=True)
class View:
    """A fleet at one moment; `live` is False for a round of the past, whose time is `time`."""

    run: str
    round: int
    rounds: int
    newest: int
    live: bool
    time: float
    robots: tuple[Robot, ...]
    links: tuple[Link, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[tuple[str, Note], ...] = field(default=())
    """Robot and remark, the newest first."""
    unreadable: int = 0

    @property
    def there(self) -> int:
        """How many robots are there."""
        return sum(robot.tone in ("good", "warn") for robot in self.robots)

    @property
    def tone(self) -> Tone:
        """How the fleet stands: as its worst robot."""
        return next((tone for tone in ("bad", "off", "warn") if any(r.tone == tone for r in self.robots)), "good")


class Fleet:
    """Folders of one or several robots of a run; may be asked from several threads.

    Parameters
    ----------
    folders : sequence of Path

    Raises
    ------
    InputError
        One is no robot's folder, they are of several runs, or two are of one robot.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [RobotFolder(path) for path in folders]
        self._turn = threading.Lock()
        runs = sorted({folder.story.run for folder in self._folders})
        if len(runs) > 1:
            raise InputError(f"these folders are of the runs {', '.join(runs)}: watch one run at a time.")
        names = Counter(folder.story.robot for folder in self._folders)
        if twice := [name for name, count in names.items() if count > 1]:
            raise InputError(f"more than one folder is of {twice[0]}: name each robot's once.")

    def look(self, round_: int | None = None) -> View:
        """How it stands now, or how it stood at the end of a round."""
        with self._turn:
            for folder in self._folders:
                folder.read()
            return view_of([(f.story, f.status) for f in self._folders], round_, time.time())


def view_of(robots: Sequence[tuple[Story, dict[str, Any]]], round_: int | None, now: float) -> View:
    """View of robots' stories and statuses, as of now (`round_` None) or of the end of a round."""
    stories = {story.robot: story for story, _ in robots}
    live = round_ is None
    statuses = {story.robot: status for story, status in robots} if live else {name: {} for name in stories}
    newest = max(story.last for story in stories.values())
    shown = newest if round_ is None else min(max(round_, 0), newest)
    if not live:
        now = max((s.mixed[shown]["time"] for s in stories.values() if shown in s.mixed), default=now)
    found = [_robot(story, statuses[name], shown, now, live) for name, story in stories.items()]
    found += _hearsay(stories, statuses, shown)
    notes = [
        (story.robot, note)
        for story in stories.values()
        for note in story.notes
        if live or (note.round <= shown and note.time <= now)
    ]
    return View(
        run=next(iter(stories.values())).run,
        round=shown,
        rounds=max(story.rounds for story in stories.values()),
        newest=newest,
        live=live,
        time=now,
        robots=tuple(sorted(found, key=lambda robot: robot.name)),
        links=tuple(_links(stories, statuses, sorted(robot.name for robot in found), shown, live)),
        refusals=tuple(_refusals(stories, shown, live)),
        notes=tuple(sorted(notes, key=lambda found: -found[1].time)[:SHOWN_NOTES]),
        unreadable=sum(story.unreadable for story in stories.values()),
    )


def _robot(story: Story, status: dict[str, Any], shown: int, now: float, live: bool) -> Robot:
    """A robot by its own folder."""
    mixed = story.mixed.get(min(shown, story.last) if live else shown, {})
    state, tone = _own_state(status, now) if live else _state_then(story, shown)
    if live and story.finished and tone in ("good", "off"):
        state, tone = "done", "good"
    upto = shown + 1 if live else shown
    drives = [event for k, event in sorted(story.driving.items()) if k <= upto]
    return Robot(
        name=story.robot,
        told_by=None,
        state=state,
        tone=tone,
        round=int(status.get("round", min(shown, story.last))),
        heard=tuple(mixed.get("heard", ())),
        missing=tuple(mixed.get("missing", ())),
        model=_model(story, upto, now),
        driving=drives[-1].get("bundle") if drives else None,
        driving_said=drives[-1]["why"] if drives else "",
        alarms=tuple(status.get("alarms", ())),
        refused=sum(sum(counts.values()) for k, counts in story.rejected.items() if k <= upto),
    )


def _own_state(status: dict[str, Any], now: float) -> tuple[str, Tone]:
    if not status:
        return "no status yet", "off"
    still = now - float(status.get("time", 0.0))
    phase = str(status.get("phase", "?"))
    if phase == "left":
        return "left", "off"
    if still > STILL_S:
        return f"no sign for {duration(still)}", "off" if phase == "done" else "bad"
    if phase == "done":
        return "done", "good"
    waits = ", ".join(status.get("waits_for", ()))
    return (f"waits for {waits}" if phase == "waiting" and waits else phase), "warn" if phase == "joining" else "good"


def _state_then(story: Story, shown: int) -> tuple[str, Tone]:
    if shown in story.mixed:
        heard, missing = story.mixed[shown]["heard"], story.mixed[shown]["missing"]
        return "mixed" if heard else "alone", "warn" if missing else "good"
    return ("not there", "off") if shown > story.last else ("skipped this round", "warn")


def _model(story: Story, upto: int, now: float) -> Model | None:
    history = [event for k, event in sorted(story.validated.items()) if k <= upto]
    passed = [event for event in history if event["accepted"]]
    if not passed:
        return None
    latest = passed[-1]
    return Model(
        round=latest["round"],
        age_s=max(now - latest["time"], 0.0),
        figure=latest["figure"],
        metric=latest["metric"],
        unit=latest["unit"],
        history=tuple((event["round"], event["figure"], event["accepted"]) for event in history),
    )


def _hearsay(stories: dict[str, Story], statuses: dict[str, dict[str, Any]], shown: int) -> list[Robot]:
    """Robots whose folders are not at hand: as they were heard last, or in a round of the past who mixed with them."""
    found: dict[str, tuple[float, Robot]] = {}
    for by, status in statuses.items():
        for name, said in status.get("peers", {}).items():
            if name in stories:
                continue
            silent = float(said.get("silent_s", "inf"))
            if silent < found.get(name, (float("inf"),))[0] or name not in found:
                found[name] = silent, _heard_robot(name, by, said, name in status.get("absent", ()))
    for by, story in stories.items():
        event = story.mixed.get(shown, {})
        for name in (*event.get("heard", ()), *event.get("missing", ())):
            if name not in stories and name not in found:
                here = name in event["heard"]
                robot = Robot(name, by, "mixed" if here else "missing", "good" if here else "bad", shown if here else 0)
                found[name] = 0.0, robot
    return [robot for _, robot in found.values()]


def _heard_robot(name: str, by: str, said: dict[str, Any], absent: bool) -> Robot:
    if said.get("round") is None:
        state, tone = "not heard yet", "off"
    elif said.get("left"):
        state, tone = "left", "off"
    elif absent:
        state, tone = f"silent for {duration(said['silent_s'])}", "bad"
    else:
        misses = ", ".join(said.get("absent", ()))
        state, tone = (f"there, misses {misses}", "warn") if misses else ("there", "good")
    return Robot(name, by, state, tone, said.get("round") or 0)  # type: ignore[arg-type]  # mypy widens tone


def _links(
    stories: dict[str, Story], statuses: dict[str, dict[str, Any]], names: list[str], shown: int, live: bool
) -> list[Link]:
    found = []
    for a, b in combinations(names, 2):
        ab, ba = _sent(stories, statuses, a, b, shown), _sent(stories, statuses, b, a, shown)
        meetings = [
            (k, other in event["heard"])
            for own, other in ((a, b), (b, a))
            if own in stories
            for k, event in stories[own].mixed.items()
            if k <= shown and other in (*event["heard"], *event["missing"])
        ]
        latest = max((k for k, _ in meetings), default=0) if live else shown  # no two robots are in the same round
        now = [met for k, met in meetings if k == latest]
        there, back = (_delay_ms(stories, shown + 1, *pair) for pair in ((a, b), (b, a)))
        if ab[0] or ba[0] or meetings or there is not None or back is not None:
            last = max((k for k, met in meetings if met), default=0)
            met = all(now) if now else None
            found.append(Link(a, b, met, last, ab[0], ba[0], there, back, ab[1] + ba[1]))
    return sorted(found, key=lambda link: (not link.last_mixed and link.mixed is None, link.a, link.b))


def _sent(
    stories: dict[str, Story], statuses: dict[str, dict[str, Any]], a: str, b: str, shown: int
) -> tuple[int, int]:
    """Bytes from a to b, by the sender's count where it is at hand; and messages that the sender dropped."""
    for own, other, key in ((a, b, "sent_bytes"), (b, a, "received_bytes")):
        if own in stories:
            links = statuses[own].get("links")
            if links is None:
                rounds = [k for k in stories[own].mixed if k <= shown]
                links = stories[own].mixed[max(rounds)].get("links", {}) if rounds else {}
            counts = links.get(other, {})
            return int(counts.get(key, 0)), sum(counts.get("dropped", {}).values()) if own == a else 0
    return 0, 0


def _delay_ms(stories: dict[str, Story], upto: int, a: str, b: str) -> float | None:
    """Time of a small message from a to b as a measured it, or as it told others."""
    for own in (a, *stories):
        rounds = [k for k in stories[own].delay_ms if k <= upto] if own in stories else []
        known = stories[own].delay_ms[max(rounds)].get(a, {}).get(b) if rounds else None
        if known is not None:
            return float(known)
    return None


def _refusals(stories: dict[str, Story], shown: int, live: bool) -> list[Refusal]:
    counts: Counter[tuple[str, str, str]] = Counter()
    for by, story in stories.items():
        for k, refused in story.rejected.items():
            if live or k <= shown:
                for (of, reason), count in refused.items():
                    counts[by, of, reason] += count
    meanings = {code.value: meaning for code, meaning in REASONS.items()}
    return [Refusal(*key, meanings.get(key[2], ""), count) for key, count in counts.most_common()]


def duration(seconds: float) -> str:
    """A time for a person: 12 s, 3 min, 2 h, 4 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def amount(count: float) -> str:
    """Bytes for a person: 812 B, 1.2 kB, 45 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
