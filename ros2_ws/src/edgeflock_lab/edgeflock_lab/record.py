"""`edgeflock record`: drive through worlds and write what the camera saw with the expert's steering angle."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from edgeflock.runtime.errors import EdgeflockError, InputError
from edgeflock.runtime.files import check_outputs, sole_writer
from edgeflock.runtime.options import Keys, next_command
from fadnet_sim.clutter import strew
from fadnet_sim.expert import PurePursuit
from fadnet_sim.photographs import photographs
from fadnet_sim.scene import Kind, drawn
from fadnet_sim.sim import Simulation
from fadnet_sim.world import make_world

SPEED_RANGE = (0.6, 1.2)  # m/s
EPISODE_S = 5.0  # after that the robot is set down elsewhere, off the path, to show how to come back
NET_EPISODE_S = 15.0  # a net needs time to get into its own mistakes
FRAME_S = 1 / 6  # s between recorded frames: at 30 Hz neighbours hardly differ


def record(
    out: Annotated[Path, typer.Option(help="Folder that gets train/ (odd seeds) and val/ (even seeds).")],
    seeds: Annotated[str, typer.Option(help="Worlds, as 1,3,5 or start:stop:step (stop excluded).")] = "1:41:2",
    world: Annotated[Literal[Kind, "both"], typer.Option(help="Kind of worlds; both: indoor and outdoor.")] = "both",
    frames: Annotated[int, typer.Option(min=1, help="Frames per world.")] = 400,
    driver: Annotated[
        str, typer.Option(help="expert, or a bundle folder: the net drives and the expert labels (DAgger).")
    ] = "expert",
    mounts: Annotated[
        bool,
        typer.Option(
            "--mounts", help="Wear the camera elsewhere in every episode; frames are brought to the trained one's view."
        ),
    ] = False,
    textures: Annotated[
        Path | None, typer.Option(help="Folder of photographs that most walls, floors and grounds show.")
    ] = None,
    clutter: Annotated[bool, typer.Option("--clutter", help="Boxes, chairs and cones stand beside the way.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Worlds recorded at the same time.")] = os.cpu_count() or 1,
    key: Keys = None,
) -> None:
    """Record driving data with the expert's labels, as DroNet folders.

    The robot is pushed, steered wrongly for moments and set down off the path, and the expert's label is always the way
    back. A recording that was cut off is resumed by the same command.

    Example: edgeflock record --out data/drive --seeds 1:41:2 --frames 400
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    check_outputs(folders=[out], whole=[None if driver == "expert" else Path(driver)])
    if key and driver == "expert":
        raise InputError("--key trusts the bundle of --driver, and the expert needs none: leave it out.")
    if textures:
        photographs(textures, 0)  # refused before any world is made
    kinds: list[Kind] = ["indoor", "outdoor"] if world == "both" else [world]
    todo = [(kind, seed) for seed in parse_seeds(seeds) for kind in kinds]
    columns = (TextColumn("recording worlds"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # A fresh interpreter per worker: an OpenGL context does not survive a fork.
    with (
        sole_writer(out),
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=start_worker) as pool,
        Progress(*columns) as progress,
    ):
        bar = progress.add_task("", total=len(todo))
        try:
            jobs_left = [
                pool.submit(record_world, out, kind, seed, frames, driver, key, mounts, textures, clutter)
                for kind, seed in todo
            ]
            for job in as_completed(jobs_left):
                progress.console.print(f"{job.result()}: {frames} frames")
                progress.advance(bar)
        except OSError as error:
            pool.shutdown(wait=False, cancel_futures=True)
            raise EdgeflockError(
                f"cannot write into {out}: {error.strerror or error}. What was recorded is whole; make room, or choose "
                "another --out, and run the same command again: it goes on where it stopped."
            ) from error
    sets = [(option, out / name) for option, name in (("--data", "train"), ("--val", "val")) if (out / name).is_dir()]
    if len(sets) == 2:
        print(next_command("train", "steering", *(word for pair in sets for word in pair), "--out", "runs/fadnet"))
    else:
        same = [*(["--world", world] if world != "both" else []), *(["--mounts"] if mounts else [])]
        same += [*(["--textures", str(textures)] if textures else []), *(["--clutter"] if clutter else [])]
        print(next_command("record", "--out", out, "--seeds", "2:12:2" if sets[0][0] == "--data" else "1:41:2", *same))


def parse_seeds(text: str) -> list[int]:
    """Seeds from "1,3,5" or "start:stop:step" (stop excluded)."""
    try:
        seeds = list(range(*map(int, text.split(":")))) if ":" in text else [int(part) for part in text.split(",")]
    except (ValueError, TypeError):
        seeds = []
    if not seeds or min(seeds) < 0:
        raise InputError(f"Expected seeds as 1,3,5 or start:stop:step with at least one seed >= 0, got {text!r}.")
    return list(dict.fromkeys(seeds))  # two processes must not write one world


def start_worker() -> None:
    """Set up a process of a pool: one thread, and an end with its parent."""
    os.environ["LP_NUM_THREADS"] = "1"  # the software renderer would start one per core in every worker
    # A worker whose parent was killed would wait for its next world for ever.
    parent = parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def record_world(
    out: Path,
    kind: Kind,
    seed: int,
    frames: int,
    driver: str = "expert",
    keys: list[Path] | None = None,
    mounts: bool = False,
    textures: Path | None = None,
    clutter: bool = False,
) -> Path:
    """Record one world; returns the folder, which is left alone if it is complete already."""
    folder = out / ("train" if seed % 2 else "val") / f"{kind}_{seed}"
    return record_drive(folder, kind, seed, frames, driver, keys, mounts=mounts, textures=textures, clutter=clutter)


def record_drive(
    folder: Path,
    kind: Kind,
    seed: int,
    frames: int,
    driver: str = "expert",
    keys: list[Path] | None = None,
    drive_number: int = 0,
    mounts: bool = False,
    textures: Path | None = None,
    clutter: bool = False,
) -> Path:
    """Record a drive through a world into `folder`, unless it is there; another number is another way through.

    With `mounts` the camera is worn elsewhere in every episode, and frames are brought to the view of the trained one.
    With `textures` surfaces show photographs of that folder, with `clutter` things stand beside the way.
    """
    from edgeflock.runtime.prepare.frame import grey_320x240
    from edgeflock.runtime.recording.dronet import DronetWriter, is_complete
    from edgeflock.runtime.tasks.steering import SteeringPolicy
    from edgeflock_lab.random_mounts import as_measured, in_view, random_look, view_of
    from fadnet_sim.camera import SimCamera

    episode_s = EPISODE_S if driver == "expert" else NET_EPISODE_S
    about = {
        "world": kind,
        "seed": seed,
        "frames": frames,
        "driver": driver,
        "frame_s": FRAME_S,
        "episode_s": episode_s,
        "mounts": "random" if mounts else "of the world",
        "textures": str(textures or "drawn"),
        "clutter": clutter,
    }
    if is_complete(folder, about):
        return folder
    place = make_world(kind, seed, photographs(textures, seed) if textures else drawn)
    if clutter:
        place = strew(place)
    sim, camera, expert = Simulation(place), SimCamera(place), place.expert
    policy = None if driver == "expert" else SteeringPolicy(driver, keys=keys)
    view = None
    with DronetWriter(folder, about) as writer:
        rng = np.random.default_rng([seed, kind == "indoor", writer.frames, *([drive_number] * (drive_number > 0))])
        left = 0.0
        while writer.frames < frames:
            if left <= 0 or abs(sim.lateral_error) > 1.1 or sim.collisions:
                left, speed = episode_s, float(rng.uniform(*SPEED_RANGE))
                _set_down(sim, rng)
                if mounts:
                    camera.wear(random_look(place.look, rng))
                    measured = as_measured(camera.look.mount, rng)
                    view = view_of(measured, camera.intrinsics)
                    if policy is not None:
                        policy.look_through(camera.intrinsics, measured)
            left -= FRAME_S
            x, y, yaw = sim.pose
            color = camera.color(x, y, yaw, index=writer.frames)
            label = expert(x, y, yaw)
            frame = in_view(color, view) if view else grey_320x240(color)
            writer.add(frame, label, sim.speed, x, y, place.path.project(x, y)[0])
            if policy is None:
                _drive_expert(sim, expert, speed, rng)
            else:
                # The camera rate of training by the net is halved again: every control step costs a rendered frame.
                sim.step(FRAME_S / 2, policy(color).angle, speed)
                x, y, yaw = sim.pose
                sim.step(FRAME_S / 2, policy(camera.color(x, y, yaw, index=writer.frames)).angle, speed)
    camera.close()
    return folder


def _set_down(sim: Simulation, rng: np.random.Generator) -> None:
    """Put the robot anywhere on the path, off it and askew; never so far that it would touch something."""
    sideways = sim.world.sideways
    for _ in range(20):
        lateral = float(np.clip(rng.normal(0, sideways / 2), -sideways, sideways))
        # Askew towards the path more than away from it: that is where a robot that errs ends up and comes back from.
        heading = float(np.clip(rng.normal(-0.35 * lateral, 0.2), -0.5, 0.5))
        sim.reset(rng.uniform(0, sim.world.path.length), lateral, heading)
        sim.step(0.02, 0.0, 0.0)
        if not sim.collisions:
            return


def _drive_expert(sim: Simulation, expert: PurePursuit, speed: float, rng: np.random.Generator) -> None:
    """Drive to the next frame at 30 Hz, now and then pushed or steered wrongly."""
    if rng.random() < 0.03:
        sim.push(float(rng.normal(0, 0.5)))
    wrong = float(rng.normal(0, 0.35)) if rng.random() < 0.12 else 0.0
    for _ in range(5):
        sim.step(FRAME_S / 5, expert(*sim.pose) + wrong, speed)
