"""Node `choreography` (lifecycle): the motion of every dancer of a group, in time with the music.

Publishes; with `dancer` 0 those of each dancer begin with dancer1/, dancer2/, ...
    path                  nav_msgs/Path: the whole way of a mobile robot, latched
    trajectory            trajectory_msgs/MultiDOFJointTrajectory: its next `horizon` s, four times as often
    joint_trajectory      trajectory_msgs/JointTrajectory: the same of an arm or humanoid, where `joints` is given
    /music/clock          edgeflock_msgs/MusicClock at 20 Hz, with `clock` keep
    /diagnostics          at 1 Hz: position, tempo, dancers, song
Subscribes
    /music/clock          with `clock` follow: who comes late begins in the middle of the song
Services, with `clock` keep
    ~/play                std_srvs/SetBool: go on, or stand still
    ~/rewind              std_srvs/Trigger: back to before the beginning

A trajectory's stamp is this node's clock at its first point: a controller on the same machine needs no other clock. The
next one holds from its stamp on, so a step of the system clock is over with it. Where the music stands, robots stand.

Parameters: `ChoreographyParameters`; see `managed`.
"""

from __future__ import annotations

import edgeflock_ros.before_rclpy  # noqa: F401

# isort: split
import sys
from typing import Literal

import numpy as np
from edgeflock_msgs.msg import MusicClock
from nav_msgs.msg import Path
from pydantic import Field
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, MultiDOFJointTrajectory

from choreography import messages
from choreography.clock import Follower, Keeper
from edgeflock.runtime.audio.score import Score
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import sha256_of
from edgeflock.runtime.motion.files import read_motion
from edgeflock.runtime.motion.robots import at_times, joint_angles, read_joints, ways_of
from edgeflock_ros import topics
from edgeflock_ros.frames import LATCHED
from edgeflock_ros.managed import ManagedNode, ManagedParameters
from edgeflock_ros.messages import ERROR, OK, WARN, qos
from edgeflock_ros.process import run
from edgeflock_ros.timers import steady_clock, steady_timer

CLOCK_S = 0.05
SILENT_S = 1.0  # without the music clock: it is said, and the dance goes on
PIECES = 4  # trajectories within a horizon
WOUND_S = 0.1  # a song that is further than this from where it should be gets a new trajectory at once


class ChoreographyParameters(ManagedParameters):
    """Parameters of the choreography node. They hold from the next configure."""

    motion: str = Field(default="", description="motion of the group: .npz, .pkl, .bvh (docs/dance.md)")
    up: Literal["y", "z"] = Field(default="y", description="axis of the motion file that points away from the floor")
    music: str = Field(default="", description="sound file, or JSON with beats; empty = no beat is known")
    clock: Literal["keep", "follow"] = Field(default="keep", description="the music clock: one node keeps it")
    play: bool = Field(default=True, description="clock keep: begin when active; false: wait for ~/play")
    lead_in: float = Field(default=3.0, ge=0, le=600, description="s of standing before the music begins")
    dancer: int = Field(default=0, ge=0, le=100, description="whose motion, from 1; 0 = everyone's")
    spacing: float = Field(default=1.0, ge=0.01, le=100, description="m between the centres of robots that stand")
    speed: float = Field(default=0.5, ge=0.01, le=10, description="of mobile robots at most, m/s")
    acceleration: float = Field(default=1.0, ge=0.01, le=50, description="of mobile robots at most, m/s^2")
    joints: str = Field(default="", description="YAML of a robot's joints; empty = no joint_trajectory")
    rate: float = Field(default=20.0, ge=1, le=200, description="points a second of the trajectories")
    horizon: float = Field(default=2.0, ge=0.2, le=20, description="s that a trajectory reaches ahead")
    frame_id: str = Field(default="stage", min_length=1, description="frame of the floor")


class ChoreographyNode(ManagedNode[ChoreographyParameters]):
    """Owns the ways of a dance and its music clock; see the module."""

    held = "the dance is loaded"

    def __init__(self) -> None:
        super().__init__("choreography", ChoreographyParameters, "dance")
        self._keeper: Keeper | None = None
        self._timer: Timer | None = None
        self._listening: Subscription | None = None
        self.start()

    def load(self) -> None:
        """Read motion and music, lay the ways, and make a topic for each."""
        p = self.settings.value
        if not p.motion:
            raise InputError("motion: expected the motion of a group (.npz, .pkl, .bvh), got none: name it.")
        group = read_motion(p.motion, up=p.up)
        if p.dancer > group.dancers:
            raise InputError(f"dancer: expected at most the {group.dancers} of {p.motion}, got {p.dancer}.")
        self._song = sha256_of(p.motion)[:16]
        self._score = Score.read(p.music) if p.music else Score(np.zeros(0))
        self._ways = ways_of(group, self._score, p.spacing, p.speed, p.acceleration)
        joints = read_joints(p.joints) if p.joints else []
        self._angles, self._joints = joint_angles(group, joints), [joint.name for joint in joints]
        self._dancers = [p.dancer - 1] if p.dancer else list(range(group.dancers))
        self._published: list[Publisher] = []
        self._senders: list[tuple[int, Publisher, Publisher | None]] = []
        stamp = self.get_clock().now().to_msg()
        for dancer in self._dancers:
            before = "" if p.dancer else topics.dancer(dancer + 1)
            way = self.create_publisher(Path, before + topics.PATH, LATCHED)
            way.publish(messages.path(self._ways.places[dancer], self._ways.headings[dancer], p.frame_id, stamp))
            # Latched: who comes in between two trajectories has the newest at once.
            body = self.create_publisher(MultiDOFJointTrajectory, before + topics.TRAJECTORY, LATCHED)
            arms = self.create_publisher(JointTrajectory, before + topics.JOINT_TRAJECTORY, LATCHED) if joints else None
            self._senders.append((dancer, body, arms))
            self._published += [way, body, *([arms] if arms else [])]
        self._answering: list[Service] = []
        if p.clock == "keep":
            self._music = self.create_publisher(MusicClock, topics.MUSIC_CLOCK, qos("reliable", 5))
            self._published.append(self._music)
            self._answering = [
                self.create_service(SetBool, topics.PLAY, self._on_play),
                self.create_service(Trigger, topics.REWIND, self._on_rewind),
            ]
        self.hardware_id = self._song
        self.get_logger().info(
            f"{p.motion}: {self._ways.duration:.1f} s of {group.dancers} dancers, {len(self._score.beats)} beats; "
            f"no two come nearer than {self._ways.clearance:.2f} m"
        )
        if self._ways.left_out:
            self.get_logger().warning(
                f"{self._ways.left_out} of {self._ways.taken + self._ways.left_out} formations are too fast and left "
                "out: raise speed and acceleration, or lower the spacing"
            )

    def begin(self) -> None:
        """Keep the clock, or follow it, and send what comes next."""
        self._keeper, self._follower, self._complaint = None, Follower(), ""
        self._sent: tuple[float, float, bool] | None = None  # when, where in the song, and whether it played
        if self.settings.value.clock == "follow":
            self._listening = self.create_subscription(
                MusicClock, topics.MUSIC_CLOCK, self._on_clock, qos("sensor_data", 5)
            )
        self._forward = steady_clock(self)
        self._timer = steady_timer(self, CLOCK_S, self._turn)

    def release(self) -> None:
        """Send nothing more; the trajectory that was sent ends within its horizon."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        if self._listening is not None:
            self.destroy_subscription(self._listening)
            self._listening = None

    def unload(self) -> None:
        """Drop dance, topics and services."""
        for publisher in self._published:
            self.destroy_publisher(publisher)
        for service in self._answering:
            self.destroy_service(service)

    def _now(self) -> float:
        """Seconds of the clock that only goes forward; 0 while a simulated one was not heard yet."""
        return self._forward.now().nanoseconds / 1e9

    def _on_clock(self, message: MusicClock) -> None:
        if message.song != self._song:
            self._complaint = f"the music clock is of the song {message.song}, expected {self._song}: give all one file"
            return
        self._complaint = ""
        self._follower.hear(self._now(), message.position, message.playing)

    def _on_play(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if reason := self._refused():
            response.message = reason
            return response
        assert self._keeper is not None
        self._keeper.play(self._now(), request.data)
        response.success = True
        return response

    def _on_rewind(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if reason := self._refused():
            response.message = reason
            return response
        assert self._keeper is not None
        self._keeper.wind(self._now(), -self.settings.value.lead_in)
        response.success = True
        return response

    def _refused(self) -> str:
        return "" if self.active and self._keeper is not None else "expected an active node: activate it first"

    def _turn(self) -> None:
        """Tell the clock, and send trajectories where it is time for them."""
        p, now = self.settings.value, self._now()
        if now <= 0:
            return
        if p.clock == "keep":
            if self._keeper is None:
                self._keeper = Keeper(now, -p.lead_in, p.play)
            self._tell(now, self._keeper)
        song: Keeper | Follower = self._keeper or self._follower
        position = song.position(now)
        if position is not None and self._due(now, position, song.playing):
            self._sent = now, position, song.playing
            self._send(position, song.playing)

    def _tell(self, now: float, song: Keeper) -> None:
        position = song.position(now)
        message = MusicClock(song=self._song, position=position, duration=self._ways.duration, playing=song.playing)
        message.header.stamp = self.get_clock().now().to_msg()
        message.tempo, message.beat_phase, message.bar_phase = self._score.at(position)
        self._music.publish(message)

    def _due(self, now: float, position: float, playing: bool) -> bool:
        if self._sent is None or self._sent[2] != playing:
            return True
        sent, was, _ = self._sent
        wound = abs(position - was - (now - sent if playing else 0)) > WOUND_S
        return wound or now - sent >= self.settings.value.horizon / PIECES - CLOCK_S / 2

    def _send(self, position: float, playing: bool) -> None:
        """The next piece of everyone's motion, from now on."""
        p, stamp = self.settings.value, self.get_clock().now().to_msg()
        times = np.arange(int(p.horizon * p.rate) + 1) / p.rate
        # One point more at each end: the rates of the first and the last are of both sides, too.
        around = position + (np.arange(-1, len(times) + 1) / p.rate if playing else np.zeros(len(times) + 2))
        places, headings = self._ways.at(around)
        poses = np.concatenate([places, headings[..., None]], -1)
        angles = at_times(self._angles, self._ways.rate, around)
        rates, turning = (np.gradient(one, 1 / p.rate, axis=1)[:, 1:-1] for one in (poses, angles))
        for dancer, body, arms in self._senders:
            body.publish(messages.trajectory(times, poses[dancer, 1:-1], rates[dancer], p.frame_id, stamp))
            if arms is not None:
                arms.publish(
                    messages.joint_trajectory(times, angles[dancer, 1:-1], turning[dancer], self._joints, stamp)
                )

    def report(self) -> None:
        """Where the song is, and whether its clock is heard and is one."""
        p, now = self.settings.value, self._now()
        song: Keeper | Follower = self._keeper or self._follower
        position = song.position(now)
        level, said = OK, "dancing" if song.playing else "the music stands still"
        keepers = self.count_publishers(topics.MUSIC_CLOCK)
        heard = self._follower.heard
        if self._complaint:
            level, said = ERROR, self._complaint
        elif keepers > 1:
            level, said = ERROR, f"{keepers} nodes keep {topics.MUSIC_CLOCK}: let all but one follow it (clock:=follow)"
        elif position is None:
            level, said = WARN, f"no music clock on {topics.MUSIC_CLOCK} yet: start the node that keeps it"
        elif p.clock == "follow" and heard is not None and now - heard > SILENT_S:
            level, said = WARN, f"no music clock for {now - heard:.1f} s: the dance goes on without it"
        elif position > self._ways.duration:
            said = "the dance is over"
        self.say(
            level, said, position_s=position, duration_s=self._ways.duration, tempo=self._score.at(position or 0.0)[0],
            dancers=len(self._dancers), clearance_m=self._ways.clearance, clock=p.clock, song=self._song,
        )  # fmt: skip


def main(args: list[str] | None = None) -> int:
    """Run the choreography node until a signal; a motion that cannot be read ends it with the error's exit code."""
    return run(lambda: [ChoreographyNode()], args)


if __name__ == "__main__":
    sys.exit(main())
