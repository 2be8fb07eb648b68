"""`edgeflock dances`: music and group dances, made on the spot, in AIOZ-GDANCE's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import check_outputs, replacing, write_atomically
from edgeflock.runtime.options import next_command

LABELS = "dances.json"
_FIRST = {"train": 0, "val": 500_000}  # seeds of a split


def dances(
    out: Annotated[Path, typer.Option(help="Folder for motions_smpl/, musics/, features/ and the splits.")],
    train: Annotated[int, typer.Option(min=1, help="Dances to train on.")] = 240,
    val: Annotated[int, typer.Option(min=1, help="Dances to validate on, to other songs.")] = 60,
    seconds: Annotated[float, typer.Option(min=5, max=600, help="Length of each.")] = 10,
    dancers: Annotated[int, typer.Option(min=1, max=10, help="Dancers of each group.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the first dance; the others count on from it.")] = 1,
) -> None:
    """Draw dances of groups to synthesised music: unison, mirrored, in canon, and each dancer its own.

    All is synthetic. dances.json says of each which mode, style, formations, tempo and beats it has.

    Example:

      edgeflock dances --out data/dances
      edgeflock dance measure data/dances --split val
    """
    with needs("writing music", "dance"):
        import soundfile
    from rich.progress import track

    from edgeflock.export.datasets.synthetic.dances.moves import DANCED, STYLES, choreograph
    from edgeflock.export.datasets.synthetic.dances.music import compose
    from edgeflock.runtime.audio.features import features_of_blocks
    from edgeflock.runtime.audio.reading import SAMPLE_RATE
    from edgeflock.runtime.motion.files import write_motion
    from edgeflock.runtime.motion.folder import FEATURES, MOTIONS, MUSICS, split_file, write_features

    labels = out / LABELS
    if labels.exists():
        raise InputError(f"{labels} is there already: choose another --out, or remove it.")
    check_outputs([labels], [out])
    (out / MUSICS).mkdir(parents=True, exist_ok=True)
    frames, styles, told = round(seconds * 30), list(STYLES), {}
    for split, count in (("train", train), ("val", val)):
        names = []
        for number in track(range(count), split):
            own = seed + _FIRST[split] + number
            song = compose(own, seconds)
            mode, style = DANCED[number % len(DANCED)], styles[own % len(styles)]
            group, formations = choreograph(song.beats, frames, dancers, mode, style, own)
            name = f"dance{own}_0_{frames}"
            with replacing(out / MUSICS / f"{name}.flac", sync=False) as draft:
                soundfile.write(draft, song.samples, SAMPLE_RATE, format="FLAC")
            write_motion(out / MOTIONS / f"{name}.npz", group)
            write_features(out / FEATURES / f"{name}.npz", features_of_blocks([song.samples]))
            told[name] = {
                **{"split": split, "mode": mode, "style": style, "formations": formations, "seed": own},
                **{"bpm": round(song.bpm, 3), "beats": np.round(song.beats, 4).tolist()},
            }
            names.append(name)
        write_atomically(out / split_file(split), "\n".join(names) + "\n")
    write_atomically(labels, json.dumps(told) + "\n")  # last: labels without their dances would be a trap
    typer.echo(next_command("dance", "measure", out, "--split", "val"))
