"""`edgeflock dance perform`: music in, the motion of a group out, with its figures and a picture."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from edgeflock.export.training.options import Threads, use_torch
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import check_outputs, left_over, write_atomically
from edgeflock.runtime.options import Keys, next_command

if TYPE_CHECKING:
    from edgeflock.runtime.motion.group import Group

MOTION, REPORT, PICTURE = "motion.npz", "report.json", "dance.png"
LONGEST = 600.0
"""s of music that are danced at once."""


def perform(
    music: Annotated[Path, typer.Argument(help="Music: wav, flac, ogg, mp3.")],
    out: Annotated[Path, typer.Option(help="Folder for motion.npz, dancer1.bvh ..., report.json and dance.png.")],
    weights: Annotated[
        Path | None, typer.Option(help="best.safetensors of `edgeflock train gcd` or `gdancer`; needs torch.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle of `edgeflock export choreography`, in its place.")
    ] = None,
    dancers: Annotated[int, typer.Option(min=1, max=10)] = 3,
    gamma: Annotated[
        float, typer.Option(min=-1, max=1, help="From -1, each dancer its own, to 1, all alike; GCD alone.")
    ] = 0.0,
    guidance: Annotated[float, typer.Option(min=0, help="Weight of the music; GCD alone. 1 is the fastest.")] = 1.0,
    steps: Annotated[
        int | None, typer.Option(min=2, max=1000, help="How often GCD is asked: 50, of a bundle 8 times.")
    ] = None,
    order: Annotated[
        int | None, typer.Option(min=1, max=2, help="1: DDIM. 2: DPM-Solver++, for few steps, as of a bundle.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Threads = None,
    key: Keys = None,
) -> None:
    """Dance to a piece of music, with weights or, without torch, with a bundle.

    Example:

      edgeflock dance perform music.ogg --weights runs/gcd/best.safetensors --dancers 3 --gamma 0.5 --out dance
    """
    from rich.console import Console
    from rich.progress import track

    from edgeflock.runtime.audio.features import features_of
    from edgeflock.runtime.motion.bvh import write_bvh
    from edgeflock.runtime.motion.diffusion import HALF
    from edgeflock.runtime.motion.files import write_motion
    from edgeflock.runtime.motion.group import in_a_row
    from edgeflock.runtime.motion.judging import WINDOW, judge, seams
    from edgeflock.runtime.tasks.choreography import ORDER, STEPS, Choreographer

    bvh = [out / f"dancer{number + 1}.bvh" for number in range(dancers)]
    made = [out / MOTION, *bvh, out / REPORT, out / PICTURE]
    if (weights is None) == (bundle is None):
        raise InputError("expected one of --weights (of a training, with torch) and --bundle (of an export).")
    if bundle is not None and (gamma or guidance != 1):
        raise InputError("a bundle has neither gamma nor guidance: take --weights for them.")
    check_outputs(made, [out], [music, weights], whole=[bundle])
    console = Console(highlight=False, soft_wrap=True)
    with console.status("listening"):
        heard = features_of(music)
    seconds = len(heard.features) / 30
    if seconds > LONGEST:
        raise InputError(f"{music}: expected at most {LONGEST:g} s of music, got {seconds:.0f} s: cut it into pieces.")
    if bundle is not None:
        steps, order = steps or STEPS, order or ORDER
        source, net = bundle, Choreographer(bundle, threads=threads, keys=key)
        started = time.perf_counter()
        pieces = net.stream([heard.features], dancers=dancers, steps=steps, order=order, seed=seed)
        group = in_a_row(track(pieces, "dancing", -(-len(heard.features) // HALF), console=console, transient=True))
    elif weights is not None:
        use_torch(threads)
        from edgeflock.export.dance.perform import Wish, dance_to

        steps, order, source = steps or 50, order or 1, weights
        started = time.perf_counter()
        with console.status("dancing"):
            group = dance_to(weights, heard.features, Wish(dancers, gamma, guidance, steps, order, seed))
    took = time.perf_counter() - started
    figures = judge([(group, heard.beats)]) if len(group) >= WINDOW else {}
    border, within = seams(group)
    report = {
        **{"music": str(music), "net": str(source), "dancers": dancers, "gamma": gamma, "guidance": guidance},
        **{"steps": steps, "order": order, "seed": seed, "seconds": seconds, "wall_s": round(took, 3)},
        **{"beats": np.round(heard.beats, 3).tolist(), "seam_m": border, "within_m": within},
        "figures": {name: value if math.isfinite(value) else None for name, value in figures.items()},
    }
    write_motion(out / MOTION, group)
    for number, path in enumerate(bvh):
        write_bvh(path, group, number)
    write_atomically(out / REPORT, json.dumps(report, indent=2) + "\n")
    draw(out / PICTURE, group, heard.beats)
    for line in left_over(out, made, "dancer*.bvh"):
        console.print(line, markup=False)
    told = ", ".join(f"{name} {figures[name]:.3f}" for name in ("MMC above chance", "synchrony", "TIF") if figures)
    pace = f"{took:.1f} s, {seconds / took:.1f} s of motion a second"
    console.print(f"{out}: {seconds:.1f} s of {dancers} dancers in {pace}{': ' if told else ''}{told}")
    option = "--weights" if bundle is None else "--bundle"
    words = (music, option, source, "--seed", seed + 1, "--out", "DIR")
    console.print(next_command("dance", "perform", *words, keys=key))


def draw(path: Path, group: Group, beats: np.ndarray) -> None:
    """Speed of every dancer beside the beats, and their ways from above.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    from edgeflock.runtime.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, YELLOW, new_figure
    from edgeflock.runtime.files import replacing

    figure = new_figure(10, 4, "The picture of a dance")
    moved, floor = figure.subplots(1, 2, width_ratios=(2, 1))
    places = group.joints()
    speed = np.linalg.norm(np.diff(places, axis=1), axis=-1).mean(-1) * group.rate
    colours = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, YELLOW, GREY)
    shown = min(speed.shape[1], round(10 * group.rate))
    for number, one in enumerate(speed):
        colour = colours[number % len(colours)]
        moved.plot(np.arange(shown) / group.rate, one[:shown], color=colour, lw=1)
        floor.plot(group.root[number, :, 0], group.root[number, :, 2], color=colour, lw=1)
        floor.plot(*group.root[number, -1, [0, 2]], "o", color=colour, ms=4)
    for beat in beats[beats * group.rate < shown]:
        moved.axvline(beat, color=GREY, lw=0.6, ls=":")
    moved.set(xlabel="s, beats dotted", ylabel="mean speed of the joints, m/s", title="The first 10 s")
    floor.set(xlabel="x, m", ylabel="z, m", title="From above", aspect="equal")
    with replacing(path) as draft:
        figure.savefig(draft, format="png")
