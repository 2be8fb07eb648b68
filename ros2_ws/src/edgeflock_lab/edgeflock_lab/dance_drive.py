"""`edgeflock dance drive`: simulated mobile robots dance by the real nodes, and a report says how well.

The nodes are `choreography`, a `tracker` for each robot, and `floor`, the robots in MuJoCo. They run on loopback in a
domain and a namespace of their own, so that nothing here moves a real robot: `choreography.launch.py` does that.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from edgeflock.runtime.errors import EdgeflockError, InputError
from edgeflock.runtime.files import check_outputs, left_over
from edgeflock.runtime.motion.files import read_motion, write_motion
from edgeflock_ros.environment import check_environment

if TYPE_CHECKING:
    from rich.console import Console

    from edgeflock.runtime.audio.score import Score
    from edgeflock_lab.dance_report import DanceRecord

MOTIONS = (".npz", ".pkl", ".pickle", ".bvh")
AHEAD = 0.15  # m from a robot's axle to the point that keeps to the way
LEAD_IN = 2.0  # s in which the robots bring this point to the way
PATIENCE_S = 240.0  # of a machine that does much else; a node that died is noticed at once


def drive(
    motion: Annotated[Path, typer.Argument(help="Motion of a group (.npz, .pkl), or music, and a dance is drawn.")],
    music: Annotated[
        Path | None, typer.Option(help="Music of a motion file: sound, or JSON with beats such as report.json.")
    ] = None,
    dancers: Annotated[int, typer.Option(min=1, max=10, help="Of a dance that is drawn.")] = 3,
    seconds: Annotated[float, typer.Option(min=2, max=600, help="At most so many are danced.")] = 30.0,
    spacing: Annotated[float, typer.Option(min=0.1, help="Between the centres of robots that stand, m.")] = 1.3,
    speed: Annotated[float, typer.Option(min=0.05, max=2, help="Of the dance at most, m/s.")] = 0.6,
    bound: Annotated[float, typer.Option(min=0.01, max=1, help="From its way a robot may be, m.")] = 0.1,
    out: Annotated[Path | None, typer.Option(help="Report folder (default: dance-drive-<time>)")] = None,
) -> None:
    """Let simulated robots dance, and report how it went. Ends with 3 after a touch or a robot off its way.

    Example:

      edgeflock dance drive dance/motion.npz --music dance/report.json
    """
    from rich.console import Console

    from edgeflock.runtime.audio.score import Score
    from edgeflock_lab.supervisor import check_installed
    from fadnet_sim.floor import RADIUS

    out = out or Path(time.strftime("dance-drive-%Y%m%d-%H%M%S"))
    drawn = motion.suffix not in MOTIONS
    if drawn and music:
        raise InputError(f"{motion} is taken for music, for which a dance is drawn: leave --music out.")
    least = np.sqrt(2) * 2 * (RADIUS + AHEAD + bound)
    if spacing < least:
        raise InputError(
            f"expected a --spacing of at least {least:.2f} m for robots of {2 * RADIUS:g} m, got {spacing:g}."
        )
    check_outputs(folders=[out], inputs=[motion, music])
    check_environment()
    check_installed("edgeflock dance drive", "matplotlib", "jinja2", "mujoco", "PIL", "scipy", "trajectory_msgs")
    from edgeflock_lab.dance_report import write_report

    console = Console(highlight=False, soft_wrap=True)
    beats = motion if drawn else music
    score = Score.read(beats) if beats else Score(np.zeros(0))
    if not drawn:
        dancers = read_motion(motion).dancers
    out.mkdir(parents=True, exist_ok=True)
    if drawn:
        console.print(f"No net: a dance is drawn to the {len(score.beats)} beats of {motion}.")
        motion = draw_dance(score, dancers, seconds, out / "motion.npz")
    record = run_dance(motion, dancers, score, out, seconds, spacing, speed, bound, console)
    made = write_report(record, out)
    for name, value in record.rows():
        console.print(f"[dim]{name}[/]  {value}")
    console.print(f"Report: {out / 'report.html'}")
    for line in left_over(out, made, "*.png", "*.gif"):
        console.print(line, markup=False)
    if record.exit_code == 0:
        console.print(f"next: ros2 launch choreography choreography.launch.py motion:={motion} spacing:={spacing:g}")
    raise typer.Exit(record.exit_code)


def draw_dance(score: Score, dancers: int, seconds: float, file: Path) -> Path:
    """Write a drawn dance to beats.

    Raises
    ------
    InputError
        The music has fewer than two beats.
    """
    from edgeflock.export.datasets.synthetic.dances.moves import choreograph

    if len(score.beats) < 2:
        raise InputError("expected music with at least two beats, found fewer: choose another piece, or a motion file.")
    frames = round(min(seconds, float(score.beats[-1]) + 1) * 30)
    write_motion(file, choreograph(score.beats, frames, dancers, "unison", "groove", seed=0)[0])
    return file


def run_dance(
    motion: Path,
    dancers: int,
    score: Score,
    out: Path,
    seconds: float,
    spacing: float,
    speed: float,
    bound: float,
    console: Console,
) -> DanceRecord:
    """Start the nodes, let them dance, stop them.

    Raises
    ------
    EdgeflockError
        A node died, or nothing was heard for long.
    """
    from rich.progress import Progress

    from edgeflock_lab.dance_report import DanceMonitor, DanceRecord
    from edgeflock_lab.supervisor import Supervisor, interruptible, listening, stay_on_this_machine
    from edgeflock_ros import topics

    stay_on_this_machine()
    beats = out / "beats.json"
    beats.write_text(json.dumps({"beats": score.beats.tolist()}))
    dance = {"motion": str(motion.absolute()), "music": str(beats.absolute()), "lead_in": LEAD_IN}
    dance |= {"spacing": spacing, "speed": speed, "use_sim_time": True}
    with (
        listening(lambda context: DanceMonitor(dancers, AHEAD, context)) as (monitor, spin),
        Supervisor(out / "logs") as nodes,
        interruptible(spin) as turn,
        Progress(console=console, transient=True) as progress,
    ):
        nodes.start_node("choreography", "choreography.choreography_node", dance)
        nodes.start_node("floor", "fadnet_sim.floor_node", {"dancers": dancers})
        for n in range(dancers):
            own = {name: topics.dancer(n + 1) + name for name in (topics.TRAJECTORY, topics.ODOMETRY, topics.COMMAND)}
            tracker = {"ahead": AHEAD, "speed": 1.5 * speed, "use_sim_time": True}
            nodes.start_node(f"tracker{n + 1}", "choreography.tracker_node", tracker, renamed=True, remaps=own)
        bar, began, before, news = None, time.monotonic(), -1.0, time.monotonic()
        try:
            while not monitor.over(seconds):
                turn()
                nodes.check()
                if monitor.heard != before:
                    before, news = monitor.heard, time.monotonic()
                if time.monotonic() - news > PATIENCE_S:
                    raise EdgeflockError(f"Nothing new was heard for {PATIENCE_S:.0f} s: see the logs in {nodes.logs}.")
                if bar is None and monitor.clock:
                    bar = progress.add_task("dancing", total=min(seconds, monitor.clock[-1].duration))
                if bar is not None:
                    progress.update(bar, completed=max(0.0, monitor.clock[-1].position))
        except KeyboardInterrupt:
            console.print("interrupted: the report covers what was danced")
        notes = nodes.warnings("choreography")
    for note in notes:
        console.print(f"note: {note}", markup=False)
    return DanceRecord.of(monitor, score, spacing, bound, time.monotonic() - began)
