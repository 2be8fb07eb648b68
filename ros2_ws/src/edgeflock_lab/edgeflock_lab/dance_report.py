"""What was heard of a dance of robots, and the page about it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from edgeflock_msgs.msg import MusicClock
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.node import Node
from std_msgs.msg import Empty, UInt32
from trajectory_msgs.msg import MultiDOFJointTrajectory

from choreography import messages
from choreography.tracking import Track
from edgeflock.runtime.audio.score import Score
from edgeflock.runtime.errors import ResultError
from edgeflock.runtime.figures import GREY, VERMILLION, new_figure
from edgeflock.runtime.files import write_atomically
from edgeflock_lab.figures import write_gif, write_page
from edgeflock_ros import topics
from edgeflock_ros.frames import LATCHED
from edgeflock_ros.messages import qos, to_ns
from fadnet_sim.floor import COLOURS, RADIUS, Floor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GIF_HZ, GIF_S = 5, 20


class DanceMonitor(Node):
    """Hears robots dance, and starts the floor once it hears all.

    Attributes
    ----------
    clock : list of MusicClock
    odometry : list of dict
        Of each robot: stamp in ns to (x, y, heading, m/s).
    tracks : list of list of Track
        Of each robot.
    touches : int or None
    """

    def __init__(self, robots: int, ahead: float, context: Context) -> None:
        super().__init__("monitor", context=context)
        self.ahead = ahead
        self.clock: list[MusicClock] = []
        self.odometry: list[dict[int, tuple[float, float, float, float]]] = [{} for _ in range(robots)]
        self.tracks: list[list[Track]] = [[] for _ in range(robots)]
        self.touches: int | None = None
        self._begin = self.create_publisher(Empty, topics.START, LATCHED)
        self._begun = False
        every = qos("reliable", 1000)
        self.create_subscription(MusicClock, topics.MUSIC_CLOCK, self.clock.append, every)
        self.create_subscription(UInt32, topics.COLLISIONS, self._on_touches, LATCHED)
        for n in range(robots):
            before = topics.dancer(n + 1)
            self.create_subscription(Odometry, before + topics.ODOMETRY, partial(self._on_odometry, n), every)
            kind, topic = MultiDOFJointTrajectory, before + topics.TRAJECTORY
            self.create_subscription(kind, topic, partial(self._on_trajectory, n), LATCHED)

    @property
    def heard(self) -> float:
        """Grows with all that comes."""
        return sum(map(len, (self.clock, *self.odometry, *self.tracks)))

    def over(self, seconds: float) -> bool:
        """Whether so much was danced, or all there is."""
        return bool(self.clock) and self.clock[-1].position >= min(seconds, self.clock[-1].duration)

    def _on_touches(self, message: UInt32) -> None:
        self.touches = message.data
        self._start()

    def _on_odometry(self, n: int, message: Odometry) -> None:
        pose = message.pose.pose
        state = pose.position.x, pose.position.y, messages.yaw(pose.orientation), message.twist.twist.linear.x
        self.odometry[n][to_ns(message.header.stamp)] = state
        self._start()

    def _on_trajectory(self, n: int, message: MultiDOFJointTrajectory) -> None:
        track = messages.track(message)
        if track is not None:
            self.tracks[n].append(track)
        self._start()

    def _start(self) -> None:
        if not self._begun and self.touches is not None and all(self.odometry) and all(self.tracks):
            self._begun = True
            self._begin.publish(Empty())


@dataclass(frozen=True, eq=False)
class DanceRecord:
    """A dance of robots from the first moment of the music on.

    Attributes
    ----------
    times : ndarray
        (K,): s into the music.
    poses : ndarray
        (N, K, 3): x, y in m and heading of every robot.
    speeds : ndarray
        (N, K), m/s.
    off : ndarray
        (N, K), m: from where the robot's point should be.
    wanted : ndarray
        (N, K, 2): where it should be.
    """

    times: np.ndarray
    poses: np.ndarray
    speeds: np.ndarray
    off: np.ndarray
    wanted: np.ndarray
    beats: np.ndarray
    touches: int
    spacing: float
    bound: float
    wall_s: float
    distances: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        pairs = list(combinations(range(len(self.poses)), 2))
        places = self.poses[..., :2]
        apart = [np.linalg.norm(places[one] - places[other], axis=1) for one, other in pairs]
        object.__setattr__(self, "distances", np.array(apart).reshape(len(pairs), len(self.times)))

    @classmethod
    def of(cls, monitor: DanceMonitor, score: Score, spacing: float, bound: float, wall_s: float) -> DanceRecord:
        """Of what a monitor heard.

        Raises
        ------
        ResultError
            Not one moment of the music was heard of all robots.
        """
        stamps = np.array([to_ns(clock.header.stamp) for clock in monitor.clock])
        positions = np.array([clock.position for clock in monitor.clock])
        common = sorted(set.intersection(*map(set, monitor.odometry)))
        times, states, wanted = [], [], []
        for stamp in common:
            if not len(stamps) or not stamps[0] <= stamp <= stamps[-1]:
                continue
            position = float(np.interp(stamp, stamps, positions))
            # The newest that began before holds, as for the tracker.
            found = [next((t for t in reversed(tracks) if t.times[0] <= stamp), None) for tracks in monitor.tracks]
            goals = [track and track.at(stamp) for track in found]
            if position >= 0 and all(goals):
                times.append(position)
                states.append([odometry[stamp] for odometry in monitor.odometry])
                wanted.append([one[0][:2] for one in goals if one])
        if len(times) < 2:
            raise ResultError("expected robots that dance, got no odometry of all of them while the music played.")
        state, goal = np.moveaxis(np.array(states), 0, 1), np.moveaxis(np.array(wanted), 0, 1)
        ahead = monitor.ahead * np.stack([np.cos(state[..., 2]), np.sin(state[..., 2])], -1)
        off = np.linalg.norm(state[..., :2] + ahead - goal, axis=-1)
        beats = score.beats[score.beats <= times[-1]]
        return cls(
            np.array(times),
            state[..., :3],
            state[..., 3],
            off,
            goal,
            beats,
            monitor.touches or 0,
            spacing,
            bound,
            wall_s,
        )

    @property
    def exit_code(self) -> int:
        """0 where no two robots touched and each kept to its way, else 3."""
        return 0 if not self.touches and self.off.max() <= self.bound else 3

    @property
    def verdict(self) -> str:
        """In words."""
        touched = "No two robots touched" if not self.touches else f"Robots touched {self.touches} times"
        kept = "each kept to its way" if self.off.max() <= self.bound else "not each kept to its way"
        return f"{touched}, {kept} (bound {self.bound:g} m)."

    def rows(self) -> list[tuple[str, str]]:
        """Figures with their names."""
        nearest = f"{self.distances.min():.3f} m" if self.distances.size else "one robot"
        return [
            ("robots", f"{len(self.poses)}, {2 * RADIUS:g} m wide"),
            ("danced", f"{self.times[-1] - self.times[0]:.1f} s in {self.wall_s:.1f} s, beats {len(self.beats)}"),
            ("touches", f"{self.touches}"),
            ("nearest centres", f"{nearest}; ways keep {self.spacing / np.sqrt(2):.3f} m"),
            ("off the way", f"{self.off.max():.3f} m at most, {np.sqrt((self.off**2).mean()):.3f} m RMS"),
            ("speed", f"{np.abs(self.speeds).max():.2f} m/s at most"),
        ]

    def to_json(self) -> str:
        """The figures."""
        return json.dumps(
            {
                "robots": len(self.poses),
                "seconds": round(float(self.times[-1] - self.times[0]), 3),
                "wall_s": round(self.wall_s, 3),
                "beats": len(self.beats),
                "touches": self.touches,
                "nearest_m": round(float(self.distances.min()), 4) if self.distances.size else None,
                "off_max_m": [round(float(one.max()), 4) for one in self.off],
                "off_rms_m": [round(float(np.sqrt((one**2).mean())), 4) for one in self.off],
                "bound_m": self.bound,
                "spacing_m": self.spacing,
            },
            indent=2,
        )


def write_report(record: DanceRecord, folder: Path) -> list[Path]:
    """Write dance.json, three figures, a GIF and report.html into a folder; return the pictures."""
    write_atomically(folder / "dance.json", record.to_json() + "\n")
    pictures = [
        ("dance.gif", "The robots on the floor"),
        ("ways.png", "Their ways from above: where each was, and dashed where it should be"),
        ("distances.png", "Distances between the robots' centres, and what makes them touch"),
        ("beats.png", "Speed of each robot beside the beats (dotted)"),
    ]
    frames = np.searchsorted(record.times, np.arange(record.times[0], min(record.times[-1], GIF_S), 1 / GIF_HZ))
    shown = np.moveaxis(record.poses[:, frames], 0, 1)
    write_gif(list(Floor(shown[0]).pictures(shown)), folder / "dance.gif", GIF_HZ)
    for (name, _), draw, size in zip(pictures[1:], (_ways, _distances, _beats), ((5, 5), (8, 3), (8, 3)), strict=True):
        figure = new_figure(*size, "The dance report")
        draw(record, figure.add_subplot())
        figure.savefig(folder / name)
    headline = f"{len(record.poses)} robots dance {record.times[-1] - record.times[0]:.0f} s"
    write_page(folder, headline, record.verdict, record.exit_code == 0, record.rows(), pictures, "dance.json")
    return [folder / name for name, _ in pictures]


def _ways(record: DanceRecord, axes: Axes) -> None:
    for n, (poses, wanted) in enumerate(zip(record.poses, record.wanted, strict=True)):
        colour = COLOURS[n % len(COLOURS)]
        axes.plot(*wanted.T, color=colour, lw=0.8, ls="--")
        axes.plot(*poses[:, :2].T, color=colour, lw=1.4)
        axes.plot(*poses[-1, :2], "o", color=colour)
    axes.set(xlabel="x (m)", ylabel="y (m)", aspect="equal")


def _distances(record: DanceRecord, axes: Axes) -> None:
    pairs = list(combinations(range(len(record.poses)), 2))
    for (one, other), apart in zip(pairs, record.distances, strict=True):
        axes.plot(record.times, apart, lw=1.2, label=f"{one + 1} and {other + 1}")
    axes.axhline(2 * RADIUS, color=VERMILLION, lw=1, ls="--", label="touch")
    axes.axhline(record.spacing / np.sqrt(2), color=GREY, lw=1, ls=":", label="the ways keep")
    axes.set(xlabel="time (s)", ylabel="distance (m)", ylim=(0, None))
    axes.legend(frameon=False, ncols=5, fontsize=7)


def _beats(record: DanceRecord, axes: Axes) -> None:
    for n, speed in enumerate(record.speeds):
        axes.plot(record.times, np.abs(speed), color=COLOURS[n % len(COLOURS)], lw=1.2)
    for number, beat in enumerate(record.beats):
        axes.axvline(beat, color=GREY, lw=0.5 if number % 4 else 1.2, ls=":")
    axes.set(xlabel="time (s)", ylabel="speed (m/s)", ylim=(0, None))
