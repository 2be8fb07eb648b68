"""Options that several verbs of `edgeflock fleet` have, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.figures import check_picture
from edgeflock.runtime.files import check_outputs, write_atomically
from edgeflock.runtime.fleet.plan.delay import MOST
from edgeflock.runtime.options import typed_flags

if TYPE_CHECKING:
    from edgeflock.export.fleet.event import Conditions
    from edgeflock.runtime.fleet.plan.network import SiloNetwork

Network = Annotated[str, typer.Option(help="gaia, amazon, random:SILOS, or a .gml, .graphml or (delays) .json file.")]
ModelBits = Annotated[float, typer.Option(help="Size of a model in bits (FEMNIST's by default).")]
ComputeMs = Annotated[float, typer.Option(help="One local step, ms.")]
Periods = Annotated[int, typer.Option("--t", min=1, help="Largest period of an edge in the multigraph, rounds.")]
AccessBps = Annotated[float, typer.Option(help="Each silo's own line, bit/s each way.")]
CoreBps = Annotated[str, typer.Option(help="Every link, bit/s; 'file' takes the file's `capacity`.")]
LocalSteps = Annotated[int, typer.Option(min=1, help="Local steps per round.")]
Tour = Annotated[str, typer.Option(help="improved, christofides, or a JSON file with the order of the ring.")]
Straggler = Annotated[list[str] | None, typer.Option(help="SILO=FACTOR: its local steps take so much longer.")]
Jitter = Annotated[float, typer.Option(min=0.0, help="Coefficient of variation of every step and transfer.")]
WifiBps = Annotated[float | None, typer.Option(help="All transfers share one Wi-Fi channel, usable bit/s.")]
AsJson = Annotated[str | None, typer.Option("--json", help="Write JSON to this file; '-' prints it instead.")]

MOST_JITTER = 10.0
MOST_TIMES = 1e6
"""A straggler that is slower stands still."""


def open_silos(network: str, core_bps: str) -> SiloNetwork:
    """The network that `--network` and `--core-bps` name; what reading it assumed is said on stderr."""
    from edgeflock.runtime.fleet.plan.network import open_network

    value: float | None = None
    if core_bps != "file":
        try:
            value = float(core_bps)
        except ValueError:
            value = 0.0
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"--core-bps is '{core_bps}': expected bit/s above 0, or 'file'.")
    opened = open_network(network, value)
    for note in opened.notes:
        typer.echo(f"{network}: {note}.", err=True)
    return opened


def conditions_of(
    roster: Sequence[str], model_bits: float, slow: list[str] | None, jitter: float, wifi_bps: float | None, seed: int
) -> Conditions:
    """What disturbs the fleet; silos are named as in the roster."""
    from edgeflock.export.fleet.event import Conditions, wifi_airtime

    factors: dict[int, float] = {}
    for text in slow or []:
        silo, _, factor = text.rpartition("=")
        try:
            at, times = roster.index(silo), float(factor)
        except ValueError as e:
            raise InputError(
                f"--straggler '{text}': expected SILO=FACTOR, such as {roster[0]}=3; "
                f"silos are {', '.join(roster[:30])}."
            ) from e
        if not 0 < times <= MOST_TIMES or at in factors:
            raise InputError(
                f"--straggler '{text}': expected a factor above 0 and at most {MOST_TIMES:g}, once per silo."
            )
        factors[at] = times
    if wifi_bps is not None and not 1 <= wifi_bps <= MOST:
        raise InputError(f"--wifi-bps is {wifi_bps:g}: expected 1 to {MOST:g} bit/s.")
    if jitter > MOST_JITTER:
        raise InputError(f"--jitter is {jitter:g}: expected at most {MOST_JITTER:g}, beyond which most times are 0.")
    return Conditions(factors, jitter, wifi_airtime(model_bits, wifi_bps) if wifi_bps else 0.0, seed)


def check_reports(
    as_json: str | None, *pictures: Path | None, read: Sequence[str | Path | None], folders: Sequence[Path] = ()
) -> None:
    """Refuse reports and folders that cannot be written, or would destroy what is read, before long work begins."""
    for picture in filter(None, pictures):
        check_picture(picture)
    file = Path(as_json) if as_json and as_json != "-" else None
    check_outputs([file, *pictures], folders, inputs=[Path(source) for source in read if source])


def wrote_json(text: str, where: str | None) -> bool:
    """Write JSON where asked; True when it went to stdout, so that nothing else may."""
    if where == "-":
        typer.echo(text)
        return True
    if where:
        write_atomically(Path(where), text + "\n")
    return False


def refuse_unused(ctx: typer.Context, names: Sequence[str], why: str) -> None:
    """Refuse options of the command line that would not be used; `why` says what makes them useless."""
    typed = typed_flags(ctx)
    if flags := [typed[name] for name in names if name in typed]:
        raise InputError(f"{', '.join(flags)} would not be used: {why}. Leave it out.")
