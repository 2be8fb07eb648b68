"""A robot's folder as `fleet join` leaves it."""

import json
import subprocess
import sys

import pytest

START = 1_700_000_000.0


class Log:
    """Writes the folder of one robot."""

    def __init__(self, folder, robot, run="hall-3", rounds=20):
        folder.mkdir(parents=True)
        self.folder, self.robot, self.run, self.rounds = folder, robot, run, rounds
        self.time, self.sent = START, 0
        self.joins()

    def writes(self, event, **facts):
        self.time += 1
        with (self.folder / "events.jsonl").open("a") as file:
            file.write(json.dumps({"time": self.time, "event": event} | facts) + "\n")

    def joins(self, after=0):
        self.writes("joined", robot=self.robot, run=self.run, round=after, rounds=self.rounds)

    def mixes(self, round_, heard=(), missing=(), to=("r2",)):
        self.sent += 1000
        links = {name: {"sent_bytes": self.sent, "received_bytes": 2 * self.sent, "dropped": {}} for name in to}
        self.writes("mixed", round=round_, heard=list(heard), missing=list(missing), loss=0.5, links=links)

    def validates(self, round_, figure, accepted=True):
        facts = {"metric": "rmse", "best": "lowest", "unit": "rad", "figures": {"rmse": figure}}
        self.writes("validated", round=round_, figure=figure, accepted=accepted, **facts)

    def refuses(self, peer, code, why="what came is not taken"):
        self.writes("rejected", peer=peer, code=code, why=why)

    def stands(self, time, **facts):
        """Write status.json."""
        status = {"robot": self.robot, "run": self.run, "round": 1, "phase": "training", "waits_for": [], "absent": []}
        status |= {"peers": {}, "links": {}, "alarms": [], "time": time} | facts
        (self.folder / "status.json").write_text(json.dumps(status))


@pytest.fixture
def log(tmp_path):
    """Makes the folder of a robot."""
    return lambda robot="r1", folder=None, **settings: Log(tmp_path / (folder or robot), robot, **settings)


@pytest.fixture
def serve(tmp_path):
    """Starts `edgeflock fleet watch` in a process of its own; gives its address once it listens."""
    started = []

    def serve(*arguments):
        command = [sys.executable, "-u", "-m", "edgeflock.runtime.cli", "fleet", "watch", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(
            [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        return process.stdout.readline().split()[0]

    yield serve
    for process in started:
        process.terminate()
        process.wait(60)
        said = process.stdout.read()
        process.stdout.close()
        assert "Traceback" not in said, said
