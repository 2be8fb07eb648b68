"""What a demonstration plays, and where its results lie: robots, their homes, how long they learn and drive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from fadnet_sim.scene import Kind


@dataclass(frozen=True)
class Home:
    """A world in which a robot lives."""

    kind: Kind
    seed: int
    name: str


HOMES = {"r1": Home("indoor", 1, "building A"), "r2": Home("indoor", 7, "building B"), "r3": Home("outdoor", 3, "road")}
"""Home of each robot."""
ALL = "all"
"""Net that learnt from the frames of all robots, which no robot has."""


def alone(robot: str) -> str:
    """Name of the net that a robot has without the others."""
    return f"{robot}-alone"


def fleet(robot: str) -> str:
    """Name of the net that a robot has from the fleet."""
    return f"{robot}-fleet"


class Scene(BaseModel):
    """How much is recorded, learnt and driven. Every net starts from the same weights and does the same steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int = Field(description="that a robot records at home to learn from")
    held_out: int = Field(description="of another drive through its home, for its validation gate")
    rounds: int = Field(description="of local steps and an exchange")
    settle: int = Field(3, description="exchanges without steps in the end")
    steps: int = Field(5, description="local steps per round")
    batch: int = Field(8, description="frames per step; the net of all data takes those of three robots")
    lr: float = 2e-3
    course_m: float = Field(20.0, description="way that a net has to drive in each world")
    speed: float = Field(1.0, description="m/s")
    fps: int = Field(15, description="frames per second of simulated time")

    @property
    def drive_s(self) -> float:
        """Simulated time for a course, starting from rest and not always straight."""
        return 1.25 * self.course_m / self.speed + 1


WHOLE = Scene(frames=400, held_out=80, rounds=120)
BRIEF = Scene(frames=60, held_out=20, rounds=8, course_m=6.0, fps=10)


@dataclass(frozen=True)
class Folder:
    """The folder of a demonstration."""

    path: Path

    def data(self, robot: str, split: str) -> Path:
        """Frames that a robot recorded: "train" or "val"."""
        return self.path / "data" / robot / split

    def key(self, robot: str) -> Path:
        """A robot's private key."""
        return self.path / "keys" / f"{robot}.pem"

    @property
    def fleet(self) -> Path:
        """Keys, roster and plan of the fleet."""
        return self.path / "fleet"

    @property
    def transport(self) -> Path:
        """What carried the models."""
        return self.fleet / "transport.txt"

    def net(self, net: str) -> Path:
        """Checkpoints and weights of a net; a fleet's robot has its events there too."""
        return self.path / "nets" / net

    def weights(self, net: str) -> Path:
        """Weights of a net."""
        return self.net(net) / "model.safetensors"

    def bundle(self, net: str) -> Path:
        """Signed bundle of a net."""
        return self.path / "bundles" / net

    def drive(self, net: str, home: str) -> Path:
        """Report of a drive by a net through the home of a robot."""
        return self.path / "drives" / net / home
