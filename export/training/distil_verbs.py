"""`edgeflock train distil` and `edgeflock train distil-table`: thin, each calls one function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from edgeflock.export.training.config import DistilConfig, DistilTable, Mode
from edgeflock.export.training.folder import check_run_folder, registration_summary
from edgeflock.export.training.options import Fresh, Out, Threads, seeds_of, use_torch
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import check_outputs
from edgeflock.runtime.model_options import Fields, model_options
from edgeflock.runtime.options import next_command, this_command


@model_options
def distil(
    data: Annotated[Path, typer.Option(help="Training volumes: the authors' spec (.json) or a folder of NIfTI files.")],
    out: Out,
    config: Annotated[
        DistilConfig,
        Fields(
            "net",
            "mode",
            "epochs",
            "steps",
            "batch",
            "size",
            "lr",
            "smoothness",
            "folds",
            "weight",
            "critic",
            "teacher_pairs",
            "seed",
        ),
    ],
    teacher: Annotated[
        Path | None, typer.Option(help="Weights of a trained registration net, such as vtn-affine-2.")
    ] = None,
    fields: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps the teacher's flows (OUT/fields), or the authors' .pkl in its place."),
    ] = None,
    val: Annotated[
        Path | None, typer.Option(help="Validation volumes; by default the validation split of --data.")
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Start weights of the same net.")] = None,
    threads: Threads = None,
    fresh: Fresh = False,
) -> None:
    """Learn to register volumes with the help of a heavier net (ALDK and what works better).

    First the teacher answers pairs of training volumes, once, into --fields; then the student is trained. Both go on
    where they were stopped. Writes what `edgeflock train registration` writes.

    Example:

      edgeflock train registration --data data/phantoms/phantoms.json --net vtn-affine-2 --out runs/teacher
      edgeflock train distil --data data/phantoms/phantoms.json --teacher runs/teacher/best.safetensors --out runs/ldr
    """
    use_torch(threads)
    from rich.console import Console
    from rich.progress import track

    from edgeflock.export.datasets.fields import read_authors_fields
    from edgeflock.export.datasets.volumes import check_apart, open_volumes
    from edgeflock.export.nets import REGISTRATION_NETS
    from edgeflock.export.training.loop.checkpoint import load_checkpoint
    from edgeflock.export.training.methods.distil import teacher_fields, train_distilled

    foreign = fields is not None and fields.is_file()
    if teacher is None and not foreign:
        raise InputError("expected a teacher: pass --teacher with its weights, or --fields with the authors' .pkl.")
    check_run_folder(out, [data, val], init)
    check_outputs([], [out], [teacher, fields if foreign else None])
    training, validation = open_volumes(data, "train"), open_volumes(val or data, "val")
    check_apart(training, validation)
    net = None
    if teacher is not None:
        name, net = load_checkpoint(teacher)
        if name not in REGISTRATION_NETS:
            raise InputError(f"{teacher} holds a {name}, expected one of {', '.join(REGISTRATION_NETS)}.")
    if foreign:
        assert fields is not None
        known = read_authors_fields(fields, training, config.size, out / "fields")
    else:
        assert net is not None and teacher is not None
        pairs = training.some_pairs(config.teacher_pairs)
        known = teacher_fields(
            net,
            teacher,
            training,
            pairs,
            config.size,
            fields or out / "fields",
            lambda left: track(left, "teacher's flows"),
        )
    result = train_distilled(
        config, training, validation, known, out, teacher=net, init=init, fresh=fresh, command=this_command()
    )
    Console().print(registration_summary(out, result, [data], [val] if val else None), highlight=False, soft_wrap=True)


@model_options
def distil_table(
    settings: Annotated[
        DistilTable,
        Fields("net", "teacher", "size", "bodies", "steps", "teacher_steps", "teacher_lr", "batch", "lr", "pairs"),
    ],
    out: Annotated[Path, typer.Option(help="Folder of runs and results; goes on where it stopped.")] = Path(
        "runs/distil-table"
    ),
    data: Annotated[
        Path | None,
        typer.Option(help="Volumes with segmentations, as for `train distil`; by default phantoms are drawn."),
    ] = None,
    modes: Annotated[str, typer.Option(help="Of --mode of `train distil`, with commas between.")] = ",".join(
        get_args(Mode)
    ),
    seeds: Annotated[str, typer.Option(help="Each has other start weights and other batches.")] = "0,1,2",
    smoothness: Annotated[str, typer.Option(help="Weights of the smoothness to choose from.")] = "0.5,1,2,4",
    threads: Threads = None,
) -> None:
    """Compare what a student learns of its teacher by every mode, over several seeds.

    The teacher sees all training volumes, the students --bodies of them. The smoothness is chosen first, for the
    student without a teacher, with a seed that is not reported. Weights are chosen on the first half of the validation
    volumes, and the table is of the second.

    Example:

      edgeflock train distil-table --size 64 --steps 240 --out runs/distil-table
    """
    use_torch(threads)
    from rich.console import Console

    from edgeflock.export.training.proofs.distil import show_table

    chosen = tuple(modes.split(","))
    if unknown := set(chosen) - set(get_args(Mode)):
        raise InputError(f"--modes expects some of {','.join(get_args(Mode))}, got {', '.join(sorted(unknown))}.")
    try:
        weights = tuple(float(one) for one in smoothness.split(","))
    except ValueError:
        raise InputError(f"--smoothness expects numbers with commas between, as 0.5,1, got {smoothness!r}.") from None
    settings = settings.model_copy(update={"mode": chosen, "seed": tuple(seeds_of(seeds)), "smoothness": weights})
    check_outputs([], [out], whole=[data])
    show_table(out, data, settings, Console())
    typer.echo(
        next_command(
            "train",
            "distil",
            "--data",
            data or "data/phantoms/phantoms.json",
            "--teacher",
            out / "teacher" / "best.safetensors",
            "--size",
            settings.size,
            "--out",
            "runs/ldr-distilled",
        )
    )
