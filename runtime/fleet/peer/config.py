"""Settings of a peer and of its robot. Times are of its own clock; no two robots need the same."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from edgeflock.runtime.fleet.peer.codecs import Codec


class Course(BaseModel):
    """How long a run lasts, and how models travel."""

    model_config = ConfigDict(frozen=True)

    rounds: int = Field(100, ge=1, description="Rounds of training, the same on all robots.")
    settle: int = Field(0, ge=0, description="Rounds of mixing without training in the end.")
    codec: Codec = Field("fp32", description="How models travel.")


class PeerConfig(Course):
    """How a peer exchanges models. All robots of a run take the same `rounds`, `settle` and `rule`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str | None = Field(None, description="Weights, one of edgeflock.runtime.fleet.mixing.rules.RULES.")
    robust: str | None = Field(None, description="Instead of the weighted mean, see robust_rule().")
    keep: float = Field(0.1, gt=0, le=1, description="Of topk: share of the weights in a message.")
    snapshot_every: int = Field(20, ge=1, description="Of topk: one model in so many goes whole.")
    floor_s: float = Field(2.0, gt=0, description="Shortest wait for a neighbour's model.")
    ceiling_s: float = Field(30.0, gt=0, description="Longest wait for a neighbour's model.")
    mads: float = Field(6.0, gt=0, description="Median absolute deviations above the median wait that are waited.")
    beat_s: float = Field(1.0, gt=0, description="Time between signs of life.")
    ping_s: float = Field(10.0, ge=0, description="Time between two measurements of the links; 0: none.")
    silent_s: float = Field(8.0, gt=0, description="Silence after which a robot counts as absent.")
    join_s: float = Field(10.0, gt=0, description="Longest wait, at the start, for the others' latest model.")
    retry_s: float = Field(0.25, gt=0, description="First wait before a message is repeated.")
    longest_retry_s: float = Field(4.0, gt=0, description="Longest wait before a message is repeated.")
    ttl_s: int = Field(600, ge=1, description="Time to live of an offer, from its arrival.")
    credit: int = Field(8, ge=2, le=1024, description="Chunks of one model that may be under way.")
    push: int = Field(8, ge=0, le=1024, description="Chunks that follow an offer unasked: a way to and fro less.")
    behind: int = Field(8, ge=1, description="Rounds behind the others after which a robot skips ahead to them.")
    norm_factor: float = Field(4.0, gt=1, description="A model so many times above or below the usual norm is refused.")
    distance_factor: float = Field(10.0, gt=1, description="Or so many times as far away as usual.")

    clip: float | None = Field(None, gt=0, description="largest L2 norm of what a round changes before it is sent")
    noise: float = Field(0.0, ge=0, description="standard deviation of Gaussian noise on it, in units of clip")
    delta: float = Field(1e-5, gt=0, lt=1, description="of the epsilon that status.json states for clip and noise")

    @property
    def last(self) -> int:
        """Last round."""
        return self.rounds + self.settle

    def ns(self, name: str) -> int:
        """A setting in seconds as nanoseconds."""
        return round(getattr(self, name) * 1e9)


class Part(BaseModel):
    """What a robot does in a run, and what that may cost it."""

    model_config = ConfigDict(frozen=True)

    steps: int = Field(1, ge=1, description="Local steps per round.")
    threads: int = Field(1, ge=1, le=64, description="Threads of the learner; driving has the others.")
    idle: bool = Field(True, description="Learn only in the time that nothing else wants.")
    duty: float = Field(1.0, ge=0.01, le=1, description="Share of the time in which the learner works.")
    rate: float = Field(0.0, ge=0, description="Bytes of models per second that go out at most; 0: no limit.")
    evaluate: int = Field(10, ge=1, description="Rounds between two looks of the validation gate.")
    worse: float = Field(0.05, ge=0, description="Share by which a model may be worse than the best so far.")


class Place(Part):
    """Where a robot stands in a run: its files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    own: str
    key: Path = Field(description="Private key of this robot.")
    roster: Path
    fleet_key: Path | None = Field(None, description="The .pub file that must have signed the roster.")
    plan: Path
    out: Path
    data: tuple[Path, ...] = Field((), description="This robot's training data.")
    val: tuple[Path, ...] = Field((), description="Its held-out data.")
    driving: Path | None = Field(None, description="Driving bundle to which every model that passes is promoted.")

    @property
    def promotion(self) -> list[str]:
        """What follows `edgeflock fleet promote DRIVING` for the newest model that passed."""
        words: list[str | Path] = ["--weights", self.out / "model.safetensors"]
        words += [word for path in self.val for word in ("--data", path)]
        words += [word for path in self.data for word in ("--calib", path)]
        return list(map(str, [*words, "--key", self.key]))
