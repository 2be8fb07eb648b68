"""What several verbs of `edgeflock fleet` take, as models, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from pydantic import BaseModel, Field

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.figures import check_picture
from edgeflock.runtime.files import check_outputs, write_atomically

if TYPE_CHECKING:
    from edgeflock.export.fleet.event import Conditions
    from edgeflock.runtime.fleet.plan.delay import Delays, Workload
    from edgeflock.runtime.fleet.plan.network import SiloNetwork
    from edgeflock.runtime.fleet.plan.schedule import Plan

AsJson = Annotated[str | None, typer.Option("--json", help="Write JSON to this file; '-' prints it instead.")]

MOST_TIMES = 1e6
"""A straggler that is slower stands still."""


class NetworkOptions(BaseModel):
    """Silos and the lines between them."""

    network: str = Field(description="gaia, amazon, random:SILOS, or a .gml, .graphml or (delays) .json file.")
    access_bps: float = Field(1e10, description="Each silo's own line, bit/s each way.")
    core_bps: str = Field("1e9", description="Every link, bit/s; 'file' takes the file's `capacity`.")
    local_steps: int = Field(1, ge=1, description="Local steps per round.")

    def silos(self) -> SiloNetwork:
        """The network; what reading it assumed is said on stderr."""
        from edgeflock.runtime.fleet.plan.network import open_network

        value: float | None = None
        if self.core_bps != "file":
            try:
                value = float(self.core_bps)
            except ValueError:
                value = 0.0
            if not (np.isfinite(value) and value > 0):
                raise InputError(f"--core-bps is '{self.core_bps}': expected bit/s above 0, or 'file'.")
        opened = open_network(self.network, value)
        for note in opened.notes:
            typer.echo(f"{self.network}: {note}.", err=True)
        return opened

    def work(self, model_bits: float, compute_ms: float) -> Workload:
        """What a round costs a silo."""
        from edgeflock.runtime.fleet.plan.delay import Workload

        return Workload(model_bits, compute_ms, self.local_steps, self.access_bps)


class LoadOptions(NetworkOptions):
    """And what a model costs, by default FEMNIST's."""

    model_bits: float = Field(4843243, description="Size of a model in bits (FEMNIST's by default).")
    compute_ms: float = Field(4.6, description="One local step, ms.")

    def workload(self) -> Workload:
        """What a round costs a silo."""
        return self.work(self.model_bits, self.compute_ms)


class OverlayOptions(BaseModel):
    """Who is whose neighbour, and how often they talk."""

    base: str = Field("ring", description="Overlay: ring, mst, delta_mbst, star, complete or paced_mesh.")
    t: int = Field(5, ge=1, description="Largest period of an edge in the multigraph, rounds.")
    tour: str = Field("improved", description="improved, christofides, or a JSON file with the order of the ring.")

    def plan(self, silos: SiloNetwork, delays: Delays) -> Plan:
        """The plan of all rounds."""
        from edgeflock.runtime.fleet.choose.by_name import plan_by_name

        return plan_by_name(silos, delays, self.t, self.base, self.tour)


class Disturbance(BaseModel):
    """What disturbs a fleet."""

    straggler: tuple[str, ...] = Field((), description="SILO=FACTOR: its local steps take so much longer.")
    jitter: float = Field(0.0, ge=0, le=10, description="Coefficient of variation of every step and transfer.")
    wifi_bps: float | None = Field(
        None, ge=1, le=1e15, description="All transfers share one Wi-Fi channel, usable bit/s."
    )

    def conditions(self, roster: Sequence[str], model_bits: float, seed: int) -> Conditions:
        """The same by the indices of the silos, which are named as in the roster."""
        from edgeflock.export.fleet.event import Conditions, wifi_airtime

        factors: dict[int, float] = {}
        for text in self.straggler:
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
        airtime = wifi_airtime(model_bits, self.wifi_bps) if self.wifi_bps else 0.0
        return Conditions(factors, self.jitter, airtime, seed)


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
