"""The nets of a demonstration: each robot's own, one of all data, and the fleet's, from processes that exchange."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save

from edgeflock.runtime.bundle.signing import generate_key, read_private_key, read_public_key
from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.files import write_atomically
from edgeflock_lab.demo.scene import ALL, HOMES, Folder, Scene, alone, fleet

if TYPE_CHECKING:
    from edgeflock.runtime.fleet.learner import LearningTask

SAVE_EVERY = 20
"""Rounds between two checkpoints."""
LOOK_S = 0.5
ROS = "ROS 2 topics, by the nodes of fleet_exchange"
TCP = "TCP with TLS 1.3, by `edgeflock fleet join`: edgeflock_msgs, the messages for ROS 2 topics, is not built here"
SAME = 1e-5
"""Nets whose weights differ by less than this drive alike: rounding of the last exchange."""

OnRound = Callable[[str, int], None]
"""Called with a net's name and the rounds that it has done."""


def tasks_apart(scene: Scene, folder: Folder) -> dict[str, LearningTask]:
    """What each net learns that learns without exchanges: a robot's own from its frames, one from those of all."""
    from edgeflock.export.fleet.learners.steering import SteeringTask

    def task(robots: Sequence[str]) -> LearningTask:
        train, val = (tuple(folder.data(robot, split) for robot in robots) for split in ("train", "val"))
        return SteeringTask(silos=1, data=train, val=val, batch=scene.batch * len(robots), lr=scene.lr, bf16=False)

    return {alone(robot): task([robot]) for robot in HOMES} | {ALL: task([*HOMES])}


def learn_apart(scene: Scene, folder: Folder, jobs: int, on_round: OnRound) -> None:
    """Each robot learns by itself, and one net from all frames, at most `jobs` at the same time."""

    async def run() -> None:
        turn = asyncio.Semaphore(jobs)

        async def one(net: str, task: LearningTask) -> None:
            async with turn:
                await learn(task, scene, folder.net(net), partial(on_round, net))

        stories = [asyncio.ensure_future(one(net, task)) for net, task in tasks_apart(scene, folder).items()]
        try:
            await asyncio.gather(*stories)
        finally:  # the first error, or Ctrl-C, ends the others and their processes
            for story in stories:
                story.cancel()
            await asyncio.gather(*stories, return_exceptions=True)

    asyncio.run(run())


async def learn(task: LearningTask, scene: Scene, out: Path, on_round: Callable[[int], None]) -> None:
    """Learn as a robot of a fleet does between two exchanges, without the exchanges; goes on where it was cut off."""
    from edgeflock.runtime.fleet.peer.config import Part
    from edgeflock.runtime.fleet.peer.store import Store
    from edgeflock.runtime.fleet.peer.trainer import Trainer

    weights = out / "model.safetensors"
    if weights.exists():
        on_round(scene.rounds)
        return
    store = Store(out / "checkpoints")
    saved = store.load()
    trainer = Trainer(task, Part(steps=scene.steps, idle=False))
    try:
        model, _ = await trainer.start(saved.learner if saved else None)
        if saved:
            model = saved.peer[0]["model"]
        for round_ in range(saved.round + 1 if saved else 1, scene.rounds + 1):
            lesson = await trainer.train(round_, model)
            model = lesson.model
            if round_ % SAVE_EVERY == 0:
                store.save(round_, ({"model": model}, {}), lesson.state)
            on_round(round_)
        write_atomically(weights, save(await trainer.weights(model), {"net": task.net, "round": str(scene.rounds)}))
    finally:
        trainer.close()


def found_fleet(folder: Folder) -> None:
    """Make keys, roster and plan, unless they are there."""
    from edgeflock.runtime.fleet.peer.roster import Roster, write_roster
    from edgeflock.runtime.fleet.plan.schedule import make_plan

    names = [*HOMES]
    for key in [folder.fleet / "fleet.pem", *map(folder.key, names)]:
        if not key.exists():
            generate_key(key, f"{key.stem} of edgeflock fleet demo")
    roster = Roster.begin("demo")
    for name in names:
        roster = roster.add(name, read_public_key(folder.key(name).with_suffix(".pub")).raw)
    write_roster(folder.fleet / "roster.json", roster, read_private_key(folder.fleet / "fleet.pem"))
    plan = make_plan(names, 1.0 - np.eye(len(names)), t=1, base="complete")
    write_atomically(folder.fleet / "plan.json", plan.to_json())


def over_ros() -> bool:
    """Whether models can go over ROS 2 topics: the messages have to be compiled."""
    return importlib.util.find_spec("edgeflock_msgs") is not None


def learn_together(scene: Scene, folder: Folder, on_round: OnRound) -> None:
    """Every robot in a process of its own: the fleet node, or `edgeflock fleet join` where the messages are not built.

    What was cut off goes on.
    """
    from edgeflock_lab.supervisor import Supervisor

    if not learnt(folder):
        found_fleet(folder)
        ros, ports = over_ros(), free_ports(HOMES)
        write_atomically(folder.transport, ROS if ros else TCP)
        with Supervisor(folder.path / "logs") as processes:
            for robot in HOMES:
                if ros:
                    parameters = node_parameters(scene, folder, robot)
                    processes.start_node(robot, "fleet_exchange.fleet_node", parameters, renamed=True)
                else:
                    words = join_arguments(scene, folder, robot, ports)
                    processes.start(robot, "edgeflock.runtime.cli", words, may_end=True)
            while not learnt(folder):
                _tell(folder, on_round)
                time.sleep(LOOK_S)
                processes.check()
                for robot in filter(processes.ended, HOMES):  # its net is written before it ends
                    if not folder.weights(fleet(robot)).exists():
                        said = processes.tail(robot)
                        raise EdgeflockError(
                            f"{robot} ended without a net. Run the same command again. It said:\n{said}"
                        )
    _tell(folder, on_round)


def learnt(folder: Folder) -> bool:
    """Whether every robot has the fleet's net of the last round."""
    return all(folder.weights(fleet(robot)).exists() for robot in HOMES)


def part(scene: Scene, folder: Folder, robot: str) -> dict[str, Any]:
    """What a robot is told of its part in the run, by the name of the option or parameter."""
    return {
        "key": str(folder.key(robot)),
        "roster": str(folder.fleet / "roster.json"),
        "plan": str(folder.fleet / "plan.json"),
        "out": str(folder.net(fleet(robot))),
        "data": str(folder.data(robot, "train")),
        "val": str(folder.data(robot, "val")),
        "rounds": scene.rounds,
        "settle": scene.settle,
        "steps": scene.steps,
        "evaluate": scene.rounds + scene.settle,  # the net of the last round drives, as those that learnt apart
    }


def settings(scene: Scene) -> list[str]:
    """KEY=VALUE of the task and the peer: patient, since all robots share one machine, which may be busy."""
    patience = {"floor_s": 120, "ceiling_s": 600, "silent_s": 120, "join_s": 120}
    return [f"{k}={v}" for k, v in {"batch": scene.batch, "lr": scene.lr, "bf16": False, **patience}.items()]


def node_parameters(scene: Scene, folder: Folder, robot: str) -> dict[str, Any]:
    """Parameters of a robot's fleet node."""
    topics = {"prefix": f"/demo_{os.getpid()}"}
    own = {"settings": " ".join(settings(scene)), "idle": False}  # nothing drives beside it
    return {"robot": robot, **part(scene, folder, robot), **own, **topics}


def join_arguments(scene: Scene, folder: Folder, robot: str, ports: dict[str, int]) -> list[str]:
    """Arguments of `edgeflock` with which a robot takes part over TCP."""
    options = part(scene, folder, robot) | {"listen": f"127.0.0.1:{ports[robot]}"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    others = [w for name, port in ports.items() if name != robot for w in ("--peer", f"{name}=127.0.0.1:{port}")]
    sets = [word for one in settings(scene) for word in ("--set", one)]
    return ["fleet", "join", robot, "--no-idle", *words, *others, *sets]


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """A free port of the loopback for each name."""
    held = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
    ports = {name: one.getsockname()[1] for name, one in held.items()}
    for one in held.values():
        one.close()
    return ports


def apart(folder: Folder) -> float:
    """Largest difference of a weight between two nets of the fleet."""
    first, *others = (load_file(folder.weights(fleet(robot))) for robot in HOMES)
    return max(float(np.abs(first[name] - other[name]).max()) for other in others for name in first)


def _tell(folder: Folder, on_round: OnRound) -> None:
    for robot in HOMES:
        status = folder.net(fleet(robot)) / "status.json"
        if status.exists():
            on_round(fleet(robot), json.loads(status.read_text())["round"])
