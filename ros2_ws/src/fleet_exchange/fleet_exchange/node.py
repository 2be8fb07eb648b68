"""Node `fleet` (lifecycle): a robot learns with others; see docs/fleet-robots.md.

    configure   reads roster, key and plan, starts the learner in a process of its own
    activate    joins the run; deactivate leaves it in good order; cleanup ends the learner

Publishes (`prefix` begins with a slash: all robots of a fleet have these topics in common)
    <prefix>/<own>/to/<robot>   edgeflock_msgs/FleetPacket: messages to the others; with `bulk` models go another way
    ~/status                    edgeflock_msgs/FleetStatus at 1 Hz
    /diagnostics                at 1 Hz: round, phase, links; WARN while it is held, alarmed, or misses a robot
Subscribes
    <prefix>/<robot>/to/<own>   edgeflock_msgs/FleetPacket
    battery_state               sensor_msgs/BatteryState, for `battery_low`
Services
    ~/start, ~/resume           std_srvs/Trigger: take part, after `begin:=false` or a pause
    ~/pause                     std_srvs/Trigger: leave in good order until it is resumed
    ~/show                      edgeflock_msgs/ShowRound: the status now

Parameters: `FleetParameters`; see `managed`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field
from sensor_msgs.msg import BatteryState
from std_srvs.srv import Trigger

from edgeflock.runtime.errors import EdgeflockError, InputError
from edgeflock.runtime.fleet.peer.config import Course, Part, Place
from edgeflock.runtime.fleet.peer.join import Participant, by_tcp
from edgeflock.runtime.fleet.peer.settings import Settings, address, addresses, configured
from edgeflock.runtime.fleet.peer.wire import is_chunk
from edgeflock.runtime.fleet.transports.base import Transport
from edgeflock.runtime.fleet.transports.split import SplitTransport
from edgeflock.runtime.fleet.transports.zenoh import ZenohTransport
from edgeflock_ros import topics
from edgeflock_ros.managed import ManagedNode, ManagedParameters
from edgeflock_ros.messages import OK, WARN, qos
from fleet_exchange.loop import LoopThread
from fleet_exchange.messages import FleetStatus, ShowRound
from fleet_exchange.status import status_message, summary
from fleet_exchange.transport import DEPTH, RosTransport

LEAVE_S = 5.0
"""Longest wait for a part that ends."""
LIVE = {"battery_low", "battery_margin"}
"""Parameters that may change while the run is open."""
REQUIRED = ("robot", "key", "roster", "plan", "out", "data", "val")


class FleetParameters(ManagedParameters, Course, Part):
    """Parameters of the fleet node. Several paths are separated by ':', several settings and peers by spaces."""

    robot: str = Field(default="", description="name of this robot in roster and plan")
    key: str = Field(default="", description="its private key")
    roster: str = Field(default="", description="roster.json; a newer one is taken while it runs")
    fleet_key: str = Field(default="", description=".pub file that must have signed the roster; empty = any")
    plan: str = Field(default="", description="plan of edgeflock fleet plan, the same on all robots")
    out: str = Field(default="", description="folder of this robot's part; one that was interrupted goes on")
    data: str = Field(default="", description="training data")
    val: str = Field(default="", description="held-out data, for the validation gate")
    driving: str = Field(default="", description="driving bundle to promote to; empty = promote nothing")
    task: str = Field(default="steering", description="what is learnt: steering or emotion")
    net: str = Field(default="", description="empty = the task's own")
    init: str = Field(default="", description="start weights, the same on all robots; empty = from the seed")
    settings: str = Field(default="", description="KEY=VALUE of the task or the peer")
    begin: bool = Field(default=True, description="take part when active; false: wait for ~/start")
    prefix: str = Field(default=topics.FLEET, description="start of the topics that the robots of a fleet share")
    bulk: Literal["ros2", "tcp", "zenoh"] = Field(default="ros2", description="what carries the models")
    listen: str = Field(default="0.0.0.0:7600", description="bulk tcp, zenoh: HOST:PORT of this robot")
    peers: str = Field(default="", description="bulk tcp, zenoh: NAME=HOST:PORT of the others")
    battery_low: float = Field(default=0.0, ge=0, le=0.9, description="charge below which it pauses, 0..1; 0 = never")
    battery_margin: float = Field(default=0.1, ge=0, le=0.5, description="charge above that at which it resumes")


class FleetNode(ManagedNode[FleetParameters]):
    """Owns one Participant, whose loop runs in a thread of its own; see the module."""

    held = "the run is open"

    def __init__(self) -> None:
        super().__init__("fleet", FleetParameters, "learning")
        self._participant: Participant | None = None
        self.start()

    def accept(self, new: FleetParameters) -> str | None:
        """The battery's limits may change at any time."""
        same = new.model_dump(exclude=LIVE) == self.settings.value.model_dump(exclude=LIVE)
        return None if same else super().accept(new)

    def load(self) -> None:
        """Read all files, start the learner, offer topics and services."""
        p = self.settings.value
        held = {"inactive"} if p.begin else {"inactive", "start"}
        found = _configured(p)
        connect = partial(self._connect, max(DEPTH, 2 * found.config.credit))
        self._participant = Participant(found, connect, self.get_logger().info, held)
        self._loop, self._stop = LoopThread(), asyncio.Event()
        try:
            self._loop.begin(self._participant.open()).result()
        except BaseException:
            self._drop()
            raise
        self._run = self._loop.begin(self._participant.run(self._stop))
        self._run.add_done_callback(self._ended)
        self.hardware_id = p.robot
        self._status = self.create_lifecycle_publisher(FleetStatus, topics.STATUS, qos("reliable", 1))
        self._battery = self.create_subscription(BatteryState, topics.BATTERY, self._on_battery, qos("sensor_data"))
        self._offered = [
            self.create_service(Trigger, "~/start", self._on_resume),
            self.create_service(Trigger, "~/resume", self._on_resume),
            self.create_service(Trigger, "~/pause", self._on_pause),
            self.create_service(ShowRound, "~/show", self._on_show),
        ]

    @property
    def _open(self) -> Participant:
        assert self._participant is not None, "topics and services are there from load to unload"
        return self._participant

    def begin(self) -> None:
        """Join."""
        self._loop.soon(partial(self._open.release, "inactive"))

    def release(self) -> None:
        """Leave in good order."""
        if self._participant is not None:
            self._loop.soon(partial(self._participant.hold, "inactive"))
            concurrent.futures.wait([self._loop.begin(self._participant.rests())], LEAVE_S)

    def unload(self) -> None:
        """End the learner, take topics and services back."""
        self._loop.soon(self._stop.set)
        concurrent.futures.wait([self._run], LEAVE_S)
        self._drop()
        self.destroy_lifecycle_publisher(self._status)
        self.destroy_subscription(self._battery)
        for service in self._offered:
            self.destroy_service(service)

    def close(self) -> None:
        """Leave, and let nothing outlive the node."""
        super().close()
        if self._participant is not None:
            self.unload()

    def _drop(self) -> None:
        self._loop.begin(self._open.close()).result()
        self._loop.close()
        self._participant = None

    def _connect(self, depth: int, key: Ed25519PrivateKey, keys: Mapping[str, bytes]) -> Transport:
        p = self.settings.value
        if p.bulk == "ros2":
            return RosTransport(self, p.robot, keys, p.prefix, depth)
        known = addresses(p.peers.split())
        bulk: Transport
        if p.bulk == "tcp":
            bulk = by_tcp(p.robot, address(p.listen), known)(key, keys)
        else:
            others = {name: f"tcp/{host}:{port}" for name, (host, port) in known.items() if name in keys}
            bulk = ZenohTransport(p.robot, others, [f"tcp/{p.listen}"], list(others.values()))
        return SplitTransport(RosTransport(self, p.robot, bulk.peers, p.prefix, depth), bulk, is_chunk)

    def _ended(self, run: concurrent.futures.Future[None]) -> None:
        """In the loop's thread: all rounds are done, or the run cannot go on."""
        error = None if run.cancelled() else run.exception()
        if isinstance(error, EdgeflockError):
            self.get_logger().error(str(error))
            self.done = error.exit_code
        elif error is not None:
            self.get_logger().error(repr(error))
            self.done = EdgeflockError.exit_code

    # ---- topics and services

    def report(self) -> None:
        """Status and diagnostics, by the loop's thread, which knows."""
        self._loop.soon(self._tell)

    def _tell(self) -> None:
        if self._participant is None:
            return
        status = self._participant.status()
        self._status.publish(status_message(status, self.get_clock().now().to_msg()))
        good, message, values = summary(status)
        self.say(OK if good else WARN, message, **values)

    def _on_show(self, _: ShowRound.Request, response: ShowRound.Response) -> ShowRound.Response:
        status = self._loop.ask(self._open.status)
        response.status = status_message(status, self.get_clock().now().to_msg())
        return response

    def _on_pause(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._loop.ask(partial(self._open.hold, "pause"))
        self.settings.keep(begin=False)
        response.success, response.message = True, "leaves; ~/resume lets it join again"
        return response

    def _on_resume(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        for reason in ("start", "pause"):
            self._loop.ask(partial(self._open.release, reason))
        self.settings.keep(begin=True)
        left = self._loop.ask(lambda: sorted(self._open.held))
        response.success = not left
        response.message = f"still held by {', '.join(left)}" if left else "joins"
        return response

    def _on_battery(self, state: BatteryState) -> None:
        p, charge = self.settings.value, state.percentage  # NaN where it is not known
        if charge < p.battery_low:
            self._loop.soon(partial(self._open.hold, "battery"))
        elif charge >= p.battery_low + p.battery_margin:
            self._loop.soon(partial(self._open.release, "battery"))


def _configured(p: FleetParameters) -> Settings:
    """Settings of the run; InputError names what is missing."""
    if missing := [name for name in REQUIRED if not getattr(p, name)]:
        raise InputError(f"fleet: expected the parameters {', '.join(REQUIRED)}, got no {', '.join(missing)}.")
    place = Place(
        own=p.robot, key=_path(p.key), roster=_path(p.roster), plan=_path(p.plan), out=_path(p.out),
        fleet_key=_path(p.fleet_key) if p.fleet_key else None, driving=_path(p.driving) if p.driving else None,
        data=tuple(map(_path, p.data.split(os.pathsep))), val=tuple(map(_path, p.val.split(os.pathsep))),
        **p.model_dump(include=set(Part.model_fields)),
    )  # fmt: skip
    learning = {name: value for name, value in (("net", p.net), ("init", p.init)) if value}
    exchange = p.model_dump(include=set(Course.model_fields))
    return configured(place, p.task, exchange, learning, shlex.split(p.settings))


def _path(text: str) -> Path:
    return Path(text).expanduser()
