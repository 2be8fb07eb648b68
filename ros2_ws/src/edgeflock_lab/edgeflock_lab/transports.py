"""`edgeflock bench transports`: what a round sends and takes by codec, and a large model over each transport.

The robots' own machine runs in two processes, each in a network namespace of its own. The link between them is the
relay of `export/fleet/lab/links`: of a given rate, and losing the given share of its IP packets. A plain TCP socket
moves as many bytes over the same link, in turns with the transports. The verb stands here and not in `export`, because
one of them is ROS 2.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console

from edgeflock.runtime.errors import EdgeflockError, InputError
from edgeflock.runtime.files import check_record
from edgeflock.runtime.options import this_command

if TYPE_CHECKING:
    from edgeflock.export.fleet.lab.links import Link

FADNET_WEIGHTS = 341_980
CODEC_ROUNDS = 8
TRANSPORTS: dict[str, dict[str, Any]] = {
    "tcp": {"transport": "tcp"},
    "zenoh": {"transport": "zenoh"},
    "ros2": {"robot": "edgeflock_lab.ros_robot"},
}
"""What a `Crew` takes for each."""


@dataclass(frozen=True)
class CodecRow:
    """A round of two robots that exchange a model of FADNet's size, over TCP; medians."""

    codec: str
    kilobytes: float
    """Of a model on its way, compressed."""
    transfer_ms: float
    """From the offer to the receiver's word, which has then checked the model's SHA-256."""


@dataclass(frozen=True)
class LargeRow:
    """A large model in both directions at once; median of all models."""

    transport: str
    loss: float
    models: int
    """That arrived whole, of so many as were sent."""
    sent: int
    seconds: float
    ratio: float
    """Of `seconds` to that of a plain TCP socket on the same link."""
    control: str
    """TCP's congestion control on that link; DDS has none."""


def measure_codecs(mbit: float, latency_ms: float, on_step: Callable[[str], None]) -> list[CodecRow]:
    """Exchange a model of FADNet's size by each codec."""
    from edgeflock.export.fleet.lab.links import Link
    from edgeflock.runtime.fleet.peer.codecs import CODECS

    rows = []
    for codec in CODECS:
        on_step(f"a round by {codec}")
        found = _exchange(
            "tcp", FADNET_WEIGHTS, Link(latency_ms=latency_ms, bits_per_s=mbit * 1e6), CODEC_ROUNDS, codec
        )
        later = found[2:]  # topk sends its first model whole
        rows.append(
            CodecRow(
                codec,
                statistics.median(one["body_bytes"] for one in later) / 1e3,
                statistics.median(one["ms"] for one in later),
            )
        )
    return rows


def measure_large(
    megabytes: float,
    mbit: float,
    latency_ms: float,
    loss: list[float],
    times: int,
    transports: list[str],
    control: str,
    on_step: Callable[[str], None],
) -> list[LargeRow]:
    """Move a large model over a plain TCP socket and over each transport, at each share of lost packets."""
    from edgeflock.export.fleet.lab.links import Link

    rows = []
    weights = int(megabytes * 1e6 / 4)
    for share in loss:
        link = Link(latency_ms=latency_ms, bits_per_s=mbit * 1e6, loss=share)
        on_step(f"plain TCP, {100 * share:g} % lost")
        plain, used = _plain(4 * weights, link, times, control)
        seconds = statistics.median(plain) / 1e3
        rows.append(LargeRow("plain TCP", share, len(plain), len(plain), seconds, 1.0, used))
        for transport in transports:
            on_step(f"{transport}, {100 * share:g} % lost")
            found = _exchange(transport, weights, link, times, "fp32", control)
            took = statistics.median([one["ms"] for one in found] or [math.nan]) / 1e3
            rows.append(LargeRow(transport, share, len(found), 2 * times, took, took / seconds, used))
    return rows


def _exchange(transport: str, weights: int, link: Link, rounds: int, codec: str, control: str = "") -> list[dict]:
    """Models that two robots sent each other and that were taken, in the order of rounds."""
    from edgeflock.export.fleet.lab.crew import Crew
    from edgeflock.export.fleet.lab.links import Relay
    from edgeflock.runtime.fleet.peer.config import PeerConfig
    from edgeflock.runtime.fleet.plan.schedule import make_plan

    plan = make_plan(["a", "b"], np.array([[0, 5], [5, 0.0]]), 1, "ring")
    config = PeerConfig(
        rounds=rounds if codec == "topk" else 1, settle=0 if codec == "topk" else rounds - 1, codec=codec,
        floor_s=600, ceiling_s=600, silent_s=600, join_s=600, ttl_s=600,
    )  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as folder,
        Relay(lambda *_: link, control=control) as relay,
        Crew(
            Path(folder), plan, config, relay, weights=weights, checkpoints=False, patience_s=60,
            **TRANSPORTS[transport],
        ) as crew,
    ):  # fmt: skip
        crew.start()
        for _ in crew.running():
            pass
        both = [crew.transfers(name) for name in crew.names]
    return [one for pair in zip_longest(*both) for one in pair if one is not None]


def _plain(size: int, link: Link, times: int, control: str) -> tuple[list[float], str]:
    """Milliseconds of every body, and the congestion control that moved it."""
    from edgeflock.export.fleet.lab.links import Relay, address

    with tempfile.TemporaryDirectory() as folder, Relay(lambda *_: link, control=control) as relay:
        outs = [Path(folder) / f"{i}.json" for i in range(2)]
        log = Path(folder) / "log"
        module = [sys.executable, "-m", "edgeflock.export.fleet.lab.raw"]
        started: list[subprocess.Popen] = []
        try:
            for i in range(2):
                words = [address(i), address(1 - i), str(size), str(times), str(outs[i])]
                started.append(relay.start(i, [*module, *words], log))
            for process in started:
                if process.wait():
                    raise EdgeflockError(f"plain TCP broke on the link: {log.read_text()[-300:]}")
            found = [json.loads(out.read_text()) for out in outs]
            return [ms for one in found for ms in one["ms"]], found[0]["control"]
        finally:
            for process in started:
                process.kill()
                process.wait()


def table(codecs: list[CodecRow], large: list[LargeRow], megabytes: float, mbit: float, latency_ms: float) -> str:
    """Both comparisons as Markdown."""
    lines = [
        f"{FADNET_WEIGHTS:,} weights (FADNet) between two robots, TCP with TLS, {mbit:g} Mbit/s, {latency_ms:g} ms:",
        "",
        "| codec | kB per model | ms per model |",
        "|---|---:|---:|",
        *(f"| `{row.codec}` | {row.kilobytes:,.0f} | {row.transfer_ms:,.0f} |" for row in codecs),
        "",
        f"{megabytes:g} MB in both directions at once, fp32, {mbit:g} Mbit/s, {latency_ms:g} ms, "
        f"TCP's congestion control {large[0].control}:",
        "",
        "| transport | packets lost | models whole | s per model | to plain TCP |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {row.transport} | {100 * row.loss:g} % | {row.models} of {row.sent} | {row.seconds:.2f} "
            f"| {row.ratio:.2f} |"
            for row in large
        ),
    ]
    return "\n".join(lines)


def transports(
    megabytes: Annotated[float, typer.Option(min=0.1, help="Size of the large model, MB of float32.")] = 45,
    mbit: Annotated[float, typer.Option(min=0.1, help="Rate of the link in each direction, Mbit/s.")] = 50,
    latency_ms: Annotated[float, typer.Option(min=0, help="Of the link, one way.")] = 2,
    loss: Annotated[list[float], typer.Option(min=0, max=50, help="Share of lost packets in %; repeat.")] = [0, 1, 5],  # noqa: B006
    times: Annotated[int, typer.Option(min=1, help="Large models in each direction, per transport and loss.")] = 3,
    transport: Annotated[
        list[str] | None, typer.Option(help="tcp, zenoh or ros2; repeat (default: all that are installed).")
    ] = None,
    control: Annotated[
        str, typer.Option(help="TCP's congestion control, such as cubic (default: this machine's).")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Write the record as JSON, and the table beside it as .md.")] = None,
) -> None:
    """Measure models on their way between two robots: bytes and time by codec, a large one over every transport.

    The link is a relay in user space between two network namespaces; it loses IP packets. Needs Linux, `ip` and
    /dev/net/tun.
    """
    check_record(out)
    if unknown := set(transport or ()) - TRANSPORTS.keys():
        raise InputError(f"--transport {', '.join(sorted(unknown))}: expected some of {', '.join(TRANSPORTS)}.")
    if not (ros := find_spec("edgeflock_msgs") is not None) and transport is None:
        typer.echo("ros2 is left out: edgeflock_msgs is not built here (`.ci/messages`).", err=True)
    chosen = transport or [name for name in TRANSPORTS if ros or name != "ros2"]
    console = Console(stderr=True)
    with console.status("") as status:
        began = time.monotonic()

        def step(what: str) -> None:
            status.update(f"{what} ({time.monotonic() - began:.0f} s)")

        codecs = measure_codecs(mbit, latency_ms, step)
        shares = [share / 100 for share in loss]
        large = measure_large(megabytes, mbit, latency_ms, shares, times, chosen, control, step)
    found = table(codecs, large, megabytes, mbit, latency_ms)
    typer.echo(found)
    if out is not None:
        from edgeflock.export.bench.figures import write_figures

        write_figures(
            out, found, [*codecs, *large], "edgeflock", "eclipse-zenoh", "ros-fastrtps", "zstandard", "cryptography",
            command=this_command(), megabytes=megabytes, mbit=mbit, latency_ms=latency_ms,
        )  # fmt: skip
        typer.echo(f"record: {out}")
    whole = all(row.models == row.sent for row in large)
    if not whole:
        raise typer.Exit(1)
