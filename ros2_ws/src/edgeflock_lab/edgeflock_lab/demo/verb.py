"""`edgeflock fleet demo`: the stages in their order; what is done is not done again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeflock.runtime.files import check_outputs, sole_writer
from edgeflock.runtime.options import next_command
from edgeflock_lab.stages import Clock, bar, clear, in_processes, keep_settings, rounds_bar

if TYPE_CHECKING:
    from rich.console import Console

    from edgeflock_lab.demo.scene import Folder, Scene

FILES = ("data", "fleet", "keys", "nets", "bundles", "drives", "logs", "scene.json", "seconds.json", "demo.json")


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the results; one that was cut off goes on.")] = Path(
        "fleet-demo"
    ),
    brief: Annotated[
        bool, typer.Option("--brief", help="A short one: shows how it goes, learns too little to drive.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that work at the same time.")] = os.cpu_count() or 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew although the folder holds results.")] = False,
) -> None:
    """Three robots learn alone and together, and drive in each other's worlds; no hardware is needed.

    Two robots live in different buildings, one on a road. Each drives and records at home, then they learn together,
    then each drives in all three worlds with its own net, the fleet's, and one of all data. Ends with 3 where the
    fleet's net drives less far without collision than a robot's own.

    Example: edgeflock fleet demo --out fleet-demo
    """
    from rich.console import Console

    from edgeflock_lab.demo.report import Story, write_story
    from edgeflock_lab.demo.scene import BRIEF, WHOLE, Folder

    check_outputs(folders=[out])
    scene, folder, console = BRIEF if brief else WHOLE, Folder(out), Console()
    with sole_writer(out):
        if fresh:
            clear(out, FILES)
        keep_settings(out / "scene.json", scene)
        seconds = run_stages(scene, folder, jobs, console)
        story = Story.read(scene, folder, seconds)
        write_story(story, folder)
    console.print(story.verdict, highlight=False, soft_wrap=True)
    console.print(f"Report: {out / 'report.html'}", highlight=False, soft_wrap=True)
    if story.shortfalls:
        raise typer.Exit(3)
    print(next_command("drive", "--bundle", folder.bundle("r1-fleet"), keys=[folder.key("r1").with_suffix(".pub")]))


def run_stages(scene: Scene, folder: Folder, jobs: int, console: Console) -> dict[str, float]:
    """Do what is not done yet, and say how long each stage took in all."""
    from edgeflock_lab.demo.drives import drive, drivers, make_bundle
    from edgeflock_lab.demo.learn import learn_apart, learn_together
    from edgeflock_lab.demo.scene import ALL, HOMES, alone
    from edgeflock_lab.record import record_drive
    from edgeflock_lab.supervisor import stay_on_this_machine

    stay_on_this_machine()
    clock = Clock(folder.path / "seconds.json")

    with clock.stage("record"), bar("record at home", 2 * len(HOMES), console) as advance:
        drives = [
            (folder.data(robot, split) / f"{home.kind}_{home.seed}_{n}", home.kind, home.seed, count, "expert", None, n)
            for robot, home in HOMES.items()
            for n, (split, count) in enumerate((("train", scene.frames), ("val", scene.held_out)))
        ]
        in_processes(record_drive, drives, jobs, advance)
    learners = [*map(alone, HOMES), ALL]
    with clock.stage("learn apart"), rounds_bar("learn apart", len(learners) * scene.rounds, console) as on_round:
        learn_apart(scene, folder, jobs, on_round)
    total = len(HOMES) * (scene.rounds + scene.settle)
    with clock.stage("learn together"), rounds_bar("learn together", total, console) as on_round:
        learn_together(scene, folder, on_round)
    by = drivers(folder)
    nets = list(dict.fromkeys(by.values()))
    with clock.stage("make bundles"), bar("make bundles", len(nets), console) as advance:
        in_processes(make_bundle, [(folder, net) for net in nets], jobs, advance)
    with clock.stage("drive"), bar("drive in all worlds", len(nets) * len(HOMES), console) as advance:
        in_processes(drive, [(scene, folder, net, home) for net in nets for home in HOMES], jobs, advance)
    return clock.seconds
