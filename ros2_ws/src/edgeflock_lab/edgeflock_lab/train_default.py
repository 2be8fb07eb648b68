"""`edgeflock train default`: the net that ships, from nothing to its signed bundle; what is done is not done again."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field

from edgeflock.export.training.config import SteeringConfig
from edgeflock.export.training.options import Fresh, Threads, use_torch
from edgeflock.runtime.bundle.bundle import SIGNATURE
from edgeflock.runtime.bundle.signing import generate_key
from edgeflock.runtime.files import check_outputs, sole_writer
from edgeflock.runtime.options import next_command, this_command
from edgeflock_lab.random_mounts import TRAINED
from edgeflock_lab.record import record_world
from edgeflock_lab.stages import Clock, bar, clear, in_processes, keep_settings
from fadnet_sim.scene import KINDS

if TYPE_CHECKING:
    from rich.console import Console

    from edgeflock.export.datasets import SteeringDataset
    from edgeflock.export.recipes.limits import SteeringLimits

FIRST_HELD_OUT = 500
"""Seed of the first validation world of each kind; even ones are not trained on."""


class Plan(BaseModel):
    """How much is recorded and learnt: worlds are of each kind, frames of each world."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    worlds: int = Field(description="that the expert drives through")
    frames: int
    held_out_worlds: int
    held_out_frames: int
    rounds: int = Field(description="of DAgger: the net drives, the expert labels, the net learns on")
    round_worlds: int = Field(description="other ones in every round")
    round_frames: int
    first: SteeringConfig = Field(description="on the expert's frames")
    again: SteeringConfig = Field(description="in every round, on all frames until then")
    judged: bool = Field(True, description="whether the gate refuses what drives badly")

    def seeds(self, round_: int) -> list[int]:
        """Training worlds of a round, 0 for the expert's; no world comes twice."""
        start = 0 if round_ == 0 else self.worlds + (round_ - 1) * self.round_worlds
        return [2 * n + 1 for n in range(start, start + (self.round_worlds if round_ else self.worlds))]

    @property
    def held_out(self) -> list[int]:
        """Validation worlds."""
        return [FIRST_HELD_OUT + 2 * n for n in range(self.held_out_worlds)]


WHOLE = Plan(
    worlds=40, frames=130, held_out_worlds=4, held_out_frames=100, rounds=2, round_worlds=12, round_frames=120,
    first=SteeringConfig(epochs=15, batch=32, lr=2e-3), again=SteeringConfig(epochs=10, batch=32, lr=1e-3),
)  # fmt: skip
BRIEF = Plan(
    worlds=2, frames=16, held_out_worlds=1, held_out_frames=12, rounds=1, round_worlds=1, round_frames=8,
    first=SteeringConfig(epochs=2, batch=16, lr=2e-3), again=SteeringConfig(epochs=1, batch=16, lr=1e-3), judged=False,
)  # fmt: skip


@dataclass(frozen=True)
class Folder:
    """The folder of the command."""

    path: Path

    def data(self, round_: int) -> Path:
        """Recordings of a round, in train/ and val/."""
        return self.path / "data" / f"round-{round_}"

    @property
    def held_out(self) -> Path:
        """Recordings that nothing is trained on."""
        return self.data(0) / "val"

    def run(self, round_: int) -> Path:
        """Training run of a round."""
        return self.path / "runs" / f"round-{round_}"

    def result(self, round_: int) -> Path:
        """What a finished run says of itself."""
        return self.run(round_) / "result.json"

    def driver(self, round_: int) -> Path:
        """Bundle, fp32, of the net of a round: what drives in the next one."""
        return self.path / "drivers" / f"round-{round_}"

    @property
    def bundle(self) -> Path:
        """The bundle that comes of it."""
        return self.path / "bundle"

    @property
    def key(self) -> Path:
        """Private key that signs where none is named, and the drivers always."""
        return self.path / "key.pem"


WRITTEN = ("data", "runs", "drivers", "bundle", "bundle-report", "key.pem", "key.pub", "plan.json", "seconds.json")


def default(
    out: Annotated[Path, typer.Option(help="Folder of data, runs and bundle; one that was cut off goes on.")] = Path(
        "default-net"
    ),
    key: Annotated[Path | None, typer.Option(help="Private key to sign with; by default one made in --out.")] = None,
    brief: Annotated[
        bool, typer.Option("--brief", help="A short one: shows how it goes, learns too little to drive.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Worlds recorded at the same time.")] = os.cpu_count() or 1,
    threads: Threads = None,
    fresh: Fresh = False,
) -> None:
    """Make the steering net that ships: record worlds of all kinds, train, let the net drive and learn on, export.

    Cameras are worn elsewhere in every episode and brought to the view of the trained one. The bundle passes the gate
    of `edgeflock export steering`; its manifest has the plan with the seeds, and the figures.

    Example: edgeflock train default --out default-net --key fleet.pem
    """
    use_torch(threads)
    from rich.console import Console

    from edgeflock.export.pipeline import check_places

    out = out.absolute()  # recordings name their driver
    folder, plan, console = Folder(out), BRIEF if brief else WHOLE, Console()
    check_outputs(folders=[out], whole=[key])
    with sole_writer(out):
        if fresh:
            clear(out, WRITTEN)
        keep_settings(out / "plan.json", plan)
        if not folder.key.exists():
            generate_key(folder.key, "edgeflock train default")
        key = key or folder.key
        check_places(folder.bundle, key, None)
        clock = run_stages(plan, folder, key, jobs, console)
    figures = json.loads(folder.result(plan.rounds).read_text())["figures"]
    for line in (
        f"validation rmse {figures['rmse']:.4f} rad, Constant {figures['constant']:.4f}",
        "seconds: " + ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in clock.seconds.items()),
        f"signed bundle: {folder.bundle}",
    ):
        console.print(line, highlight=False, soft_wrap=True)
    public = key.with_suffix(".pub")
    keys = [public] if public.exists() else []
    print(next_command("drive-bars", "--bundle", folder.bundle, keys=keys))


def run_stages(plan: Plan, folder: Folder, key: Path, jobs: int, console: Console) -> Clock:
    """Do what is not done yet; returns how long each stage took in all."""
    clock = Clock(folder.path / "seconds.json")
    for round_ in range(plan.rounds + 1):
        with clock.stage("record"):
            record_round(plan, folder, round_, jobs, console)
        with clock.stage("train"):
            train_round(plan, folder, round_, console)
        if round_ < plan.rounds:
            with clock.stage("make drivers"):
                make_driver(folder, round_)
    with clock.stage("export"):
        make_bundle(plan, folder, key, console)
    return clock


def record_round(plan: Plan, folder: Folder, round_: int, jobs: int, console: Console) -> None:
    """Record the worlds of a round, with the expert or the last net at the wheel."""
    driver = str(folder.driver(round_ - 1)) if round_ else "expert"
    keys = [folder.key.with_suffix(".pub")] if round_ else None
    frames = plan.round_frames if round_ else plan.frames
    worlds = [(seed, frames) for seed in plan.seeds(round_)]
    if not round_:
        worlds += [(seed, plan.held_out_frames) for seed in plan.held_out]
    drives = [(folder.data(round_), kind, seed, count, driver, keys, True) for seed, count in worlds for kind in KINDS]
    title = f"record, round {round_}" if round_ else "record the expert"
    with bar(title, len(drives), console) as advance:
        in_processes(record_world, drives, jobs, advance)


def train_round(plan: Plan, folder: Folder, round_: int, console: Console) -> None:
    """Learn from all that was recorded so far, from the weights of the round before."""
    from edgeflock.export.datasets import open_dataset
    from edgeflock.export.training.methods.steering import train_steering

    if folder.result(round_).exists():
        return
    console.print(f"train, round {round_}" if round_ else "train", highlight=False)
    train_steering(
        plan.again if round_ else plan.first,
        _recorded(folder, round_),
        open_dataset(folder.held_out),
        folder.run(round_),
        init=folder.run(round_ - 1) / "best.safetensors" if round_ else None,
        command=this_command(),
    )


def make_driver(folder: Folder, round_: int) -> None:
    """Bundle of the net of a round, fp32, for recording alone: the gate lets every net pass, however it drives."""
    from edgeflock.export.datasets import open_dataset
    from edgeflock.export.pipeline import export_bundle
    from edgeflock.export.recipes.steering import steering_recipe

    out = folder.driver(round_)
    if (out / SIGNATURE).exists():
        return
    recipe = steering_recipe(
        folder.run(round_) / "best.safetensors",
        open_dataset(folder.held_out),
        None,
        limits=_any_net(),
        precision="fp32",
        trained_camera=TRAINED,
    )
    export_bundle(recipe, out, folder.key, precisions=("fp32",))


def make_bundle(plan: Plan, folder: Folder, key: Path, console: Console) -> None:
    """Export, judge and sign the net of the last round."""
    from edgeflock.export.datasets import open_dataset
    from edgeflock.export.pipeline import PRECISIONS, export_bundle
    from edgeflock.export.recipes.steering import steering_recipe
    from edgeflock.export.training.loop.result import TrainingResult

    if (folder.bundle / SIGNATURE).exists():
        return
    rounds = range(plan.rounds + 1)
    results = [TrainingResult.read(folder.result(round_)).model_dump() for round_ in rounds]
    about = {
        "plan": plan.model_dump(mode="json"),
        "worlds": {f"round {round_}": plan.seeds(round_) for round_ in rounds},
        "rounds": [result["figures"] for result in results],
    }
    recipe = steering_recipe(
        folder.run(plan.rounds) / "best.safetensors",
        open_dataset(folder.held_out),
        _recorded(folder, plan.rounds),
        limits=None if plan.judged else _any_net(),
        training=TrainingResult.model_validate(results[-1] | about).for_manifest(),
        trained_camera=TRAINED,
    )
    export_bundle(recipe, folder.bundle, key, precisions=PRECISIONS if plan.judged else ("int8",), console=console)


def _recorded(folder: Folder, round_: int) -> SteeringDataset:
    """Training frames of all rounds up to this one."""
    from edgeflock.export.datasets import concatenate, open_dataset

    return concatenate([open_dataset(folder.data(past) / "train") for past in range(round_ + 1)])


def _any_net() -> SteeringLimits:
    """Limits that every net keeps."""
    from edgeflock.export.recipes.limits import SteeringLimits

    return SteeringLimits(max_rise=1e6, max_flips=1.0, max_ratio=1e6, max_deviation=10.0)
