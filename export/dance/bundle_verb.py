"""`edgeflock export choreography`: GCD to a signed bundle that a robot dances with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeflock.export.options import ExportOptions
from edgeflock.export.recipes.limits import ChoreographyLimits
from edgeflock.runtime.extras import needs
from edgeflock.runtime.model_options import Fields, model_options


@model_options
def choreography(
    weights: Annotated[Path, typer.Option(help="best.safetensors of `edgeflock train gcd`.")],
    data: Annotated[Path, typer.Option(help="Dances with splits train and val, whose songs INT8 and the gate hear.")],
    bundle: Annotated[ExportOptions, Fields()],
    limits: Annotated[ChoreographyLimits, Fields()],
    dancers: Annotated[int, typer.Option(min=1, max=10, help="Dancers of the group; fewer may dance.")] = 3,
    songs: Annotated[int, typer.Option(min=2, help="Songs that the gate judges, and that INT8 is calibrated on.")] = 16,
) -> None:
    """Export GCD; the gate judges whole dances out of the same noise, to songs of the split val.

    Example:

      edgeflock export choreography --weights runs/gcd/best.safetensors --data data/dances
      --training runs/gcd/result.json --key fleet.pem --out gcd
    """
    with needs("edgeflock export", "export"):
        from edgeflock.export.recipes.choreography import choreography_recipe
    from rich.console import Console

    from edgeflock.export.datasets.dances import open_dances
    from edgeflock.export.pipeline import check_places

    check_places(bundle.out, bundle.key, bundle.report, [weights, bundle.training, data])
    console = Console()
    recipe = choreography_recipe(
        weights,
        open_dances(data, "val", console),
        open_dances(data, "train", console),
        net=bundle.net,
        dancers=dancers,
        songs=songs,
        limits=limits,
        precision=bundle.default,
        training=bundle.result,
    )
    bundle.export(recipe)
