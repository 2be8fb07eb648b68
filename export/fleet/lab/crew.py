"""A fleet of the laboratory's robots: their processes, where each stands, and what they have written."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeflock.export.fleet.lab.links import Relay, address
from edgeflock.export.fleet.lab.robot import Spec
from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.plan.schedule import Plan

PORT = 7600


class Crew:
    """Processes of all robots of a plan.

    Parameters
    ----------
    folder : Path
        Gets a folder for each robot.
    plan : Plan
    config : PeerConfig
    relay : Relay, optional
        Puts each robot into a namespace of its own; without, all are on loopback.
    nice : int
        How far the robots stand back behind everything else.
    robot : str
        Module that each process runs.
    spec
        What else a `Spec` takes.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        config: PeerConfig,
        relay: Relay | None = None,
        nice: int = 0,
        robot: str = "edgeflock.export.fleet.lab.robot",
        **spec: Any,
    ) -> None:
        self.folder, self.names, self._relay, self._nice, self._robot = folder, plan.roster, relay, nice, robot
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.json").write_text(plan.to_json())
        ports = [PORT] * plan.n if relay else free_ports(plan.n)
        hosts = [address(i) if relay else "127.0.0.1" for i in range(plan.n)]
        places = dict(zip(self.names, zip(hosts, ports, strict=True), strict=True))
        self.processes: dict[str, subprocess.Popen] = {}
        for name in self.names:
            one = Spec(own=name, places=places, plan=folder / "plan.json", config=config, out=folder / name, **spec)
            (folder / f"{name}.json").write_text(one.model_dump_json())

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def start(self, *names: str) -> None:
        """Start robots, all by default; one that ran before goes on from its disk."""
        for name in names or self.names:
            spec, log = self.folder / f"{name}.json", self.folder / f"{name}.log"
            command = [
                "nice",
                "-n",
                str(self._nice),
                sys.executable,
                "-m",
                self._robot,
                str(spec),
            ]
            if self._relay is not None:
                self.processes[name] = self._relay.start(self.names.index(name), command, log)
            else:
                with log.open("ab") as out:
                    self.processes[name] = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
                    )

    def running(self) -> Iterator[dict[str, int]]:
        """Rounds that each robot has closed, a few times a second until all have ended.

        Raises
        ------
        EdgeflockError
            A robot ended with an error.
        """
        while any(process.poll() is None for process in self.processes.values()):
            yield {name: self._closed(name) for name in self.names}
            time.sleep(0.2)
            for name, process in self.processes.items():
                if process.poll() not in (None, 0, -signal.SIGKILL):
                    said = (self.folder / f"{name}.log").read_text().strip().splitlines()[-5:]
                    raise EdgeflockError(f"robot {name} ended with {process.returncode}: " + " ".join(said))

    def _closed(self, name: str) -> int:
        status = self.status(name)
        return status["round"] - (status["phase"] in ("training", "waiting")) if status else 0

    def status(self, name: str) -> dict[str, Any]:
        """What a robot said last of itself; empty before it said anything."""
        path = self.folder / name / "status.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def events(self, name: str, kind: str) -> list[dict[str, Any]]:
        """What happened to a robot."""
        return [event for event in self._lines(name, "events.jsonl") if event["event"] == kind]

    def transfers(self, name: str) -> list[dict[str, Any]]:
        """Models that a robot sent."""
        return self._lines(name, "transfers.jsonl")

    def end(self, name: str) -> dict[str, Any]:
        """What a robot wrote when all rounds were done."""
        return json.loads((self.folder / name / "end.json").read_text())

    def model(self, name: str) -> np.ndarray:
        """Its model then."""
        return np.load(self.folder / name / "model.npy", allow_pickle=False)

    def _lines(self, name: str, file: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name / file).read_text().splitlines()]


def free_ports(number: int) -> list[int]:
    """Ports on loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [one.getsockname()[1] for one in sockets]
